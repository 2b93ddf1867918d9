//! How results look: for people ([`human`], [`progress`]) and for machines ([`json`]).

pub(crate) mod amount;
pub(crate) mod failures;
pub(crate) mod human;
pub(crate) mod journal;
pub(crate) mod json;
pub(crate) mod progress;
pub(crate) mod rollback;
pub(crate) mod status;
pub(crate) mod style;
pub(crate) mod table;
