//! journal
pub use error::Error;
mod error;
