//! emulator
pub mod d1;
