//! What the journal alone can tell, and the two things a person may do to units. No remote is
//! asked, so all of this works without keys, and reading works while a run is on.

mod aside;
mod counts;
mod names;

use rehome_clerk::USER;
use rehome_core::UnitId;
use rehome_core::journal::{self, Reader};

pub(crate) use aside::aside;
pub use aside::{Which, failures, retry, skip};
pub use counts::status;
pub(crate) use counts::{REQUESTS, requests, status_of, unit_counts};
pub use names::{names, show};

use crate::config::Config;
use crate::document::MapDoc;
use crate::error::Error;

/// How many units are read at once.
const BATCH: usize = 1000;

/// Whether a run has begun already: there is a journal that is bound to a migration.
///
/// # Errors
/// When there is a file by the journal's name that cannot be used: nobody is to mistake that for
/// a beginning.
pub fn has_begun(config: &Config) -> Result<bool, Error> {
    match Reader::open(&config.journal_path()) {
        Ok(reader) => Ok(reader.setup()?.is_some()),
        Err(journal::Error::Missing(_)) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// Every proven pair of ids, in the order of the journal.
///
/// # Errors
/// When there is no journal, or it cannot be read.
pub fn map(config: &Config, each: &mut dyn FnMut(MapDoc)) -> Result<(), Error> {
    let reader = Reader::open(&config.journal_path())?;
    let mut after = UnitId(0);
    loop {
        let pairs = reader.mappings(&USER, after, BATCH)?;
        let Some(last) = pairs.last() else { return Ok(()) };
        after = last.id;
        for pair in pairs {
            each(MapDoc {
                kind: pair.kind.to_string(),
                source_id: pair.source_key,
                target_id: pair.target_key,
                origin: pair.origin.map_or("", rehome_core::Origin::as_str).to_owned(),
                email: pair.label.filter(|label| label.contains('@')),
            });
        }
    }
}
