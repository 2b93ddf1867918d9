//! One file per command, or per group of commands that are a few lines each. A command calls the
//! facade, shows what comes back, and says with which code the program ends.

pub(crate) mod check;
pub(crate) mod demo;
pub(crate) mod emulate;
pub(crate) mod init;
pub(crate) mod journal;
pub(crate) mod map;
pub(crate) mod plan;
pub(crate) mod rollback;
pub(crate) mod run;
pub(crate) mod shell;
pub(crate) mod status;
pub(crate) mod units;
pub(crate) mod verify;
mod wrangler;
