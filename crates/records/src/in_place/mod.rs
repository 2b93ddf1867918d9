//! One database whose ids are exchanged where they stand, when only the Clerk instance changes.
//!
//! The unit is a [lot](LOT): so many users, one after another in the journal. As soon as each of
//! them has a counterpart, or will not get one in this run, [`RewriteLots`] exchanges all their ids
//! in one atomic request: in every declared column of every table and inside every declared JSON
//! path, keys that other rows refer to included. Either all rows of the lot's users carry new ids
//! or none does; no row is read, moved or written anew, so whatever else it holds cannot change.
//!
//! What makes that safe is that a statement finds its rows by the id itself. Sent twice it finds
//! nothing the second time; a row that the application puts in under an old id meanwhile is found
//! as well; and the way back ([`RestoreLots`]) is the same statement with the ids the other way
//! round. Only two things have to be remembered: which rows carried a new id before (see
//! `standing`), because the way back must leave them alone, and which rows made room.
//!
//! Users who cannot come yet keep their old ids, and the lot waits for them ([`LotData`]).

mod audit;
mod count;
mod exchange;
mod inspect;
mod lot;
mod memory;
mod obstacles;
mod order;
mod pairs;
mod places;
mod restore_lots;
mod rewrite_lots;
mod spelling;
mod standing;
mod statements;
mod tally;
mod trouble;

pub use audit::{Left, left};
pub use inspect::inspect;
pub use lot::{LOT, LotData, LotSource};
pub use obstacles::Accounts;
pub use places::Places;
pub use restore_lots::{LotBack, RestoreLots, UserKept, held, weigh};
pub use rewrite_lots::RewriteLots;
