//! Rows by D1's `/import`: whether this migration does that, and that somebody has agreed to it.
//!
//! A file of many rows takes a handful of requests instead of dozens, and the database answers
//! nobody while it is taken. So it is for a target that is not in use yet: it is configured
//! (`target.database.import_from`), it is done only when every table of the target is empty as the
//! migration begins and the source holds so many rows, and a person has to agree by name. That is
//! journaled, so that the same command goes on after a kill, and it ends as soon as a run has gone
//! through everything once, or with a rollback: whatever follows later (a catch-up, say) meets a
//! target that may be in use by then, and goes by requests.

use rehome_core::journal::{self, Change, Journal, Reader};
use rehome_records::Select;
use rehome_records::database::quote_name;
use serde_json::json;

use crate::config::{Config, DatabaseConfig};
use crate::connect::{Databases, Remotes};
use crate::error::Error;

/// The word of the note.
pub(crate) const NOTE: &str = "downtime";

/// Rows that would go by `/import`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Downtime {
    /// Which database answers nobody meanwhile.
    pub database: String,
    /// How many rows the source holds.
    pub rows: u64,
    /// From how many rows on a batch goes as a file.
    pub(crate) from: u64,
}

fn configured(config: &Config) -> Option<u64> {
    match &config.target.database {
        Some(DatabaseConfig::D1(d1)) => d1.import_from.map(std::num::NonZeroU64::get),
        Some(DatabaseConfig::D1Local { .. } | DatabaseConfig::Sqlite { .. }) | None => None,
    }
}

/// What a run would import if somebody agreed; `None` when its rows go by requests, and when
/// somebody has agreed already.
pub(crate) async fn due(config: &Config, remotes: &Remotes) -> Result<Option<Downtime>, Error> {
    let (Some(from), Some(databases)) = (configured(config), &remotes.databases) else {
        return Ok(None);
    };
    let agreed = match Reader::open(&config.journal_path()) {
        Ok(reader) => agreed(config, &reader)?.is_some(),
        Err(journal::Error::Missing(_)) => false,
        Err(error) => return Err(error.into()),
    };
    if agreed {
        return Ok(None);
    }
    let rows = sum(databases, false).await?;
    if rows < from || sum(databases, true).await? > 0 {
        return Ok(None);
    }
    let database = databases.target.identity().to_string();
    Ok(Some(Downtime { database, rows, from }))
}

/// From how many rows on this run, which goes on with what has begun, sends files.
pub(crate) fn agreed(config: &Config, reader: &Reader) -> Result<Option<u64>, Error> {
    let holds = reader.note(NOTE)?.is_some_and(|(_, note)| note["agreed"] == true);
    Ok(configured(config).filter(|_| holds))
}

/// Journals that somebody has agreed.
pub(crate) async fn agree(journal: &Journal, downtime: &Downtime) -> Result<(), Error> {
    let detail = json!({ "agreed": true, "database": downtime.database, "rows": downtime.rows });
    journal.submit(vec![Change::Note { event: NOTE, detail }]).await?;
    Ok(())
}

/// What was agreed to is over: whoever finds the target empty again is asked again.
pub(crate) async fn end(journal: &Journal) -> Result<(), Error> {
    if journal.reader()?.note(NOTE)?.is_some() {
        let detail = json!({ "agreed": false });
        journal.submit(vec![Change::Note { event: NOTE, detail }]).await?;
    }
    Ok(())
}

/// How many rows the carried tables hold; of the target, whether they hold any.
async fn sum(databases: &Databases, target: bool) -> Result<u64, Error> {
    let tables = databases.layout.tables.iter().map(|table| quote_name(&table.name));
    let column = |table: &str| match target {
        // The first row is enough.
        true => format!("EXISTS (SELECT 1 FROM {table})"),
        false => format!("(SELECT count(*) FROM {table})"),
    };
    let queries: Vec<_> = tables.map(|table| Select::new([column(&table)], "")).collect();
    let database = if target { &databases.target } else { &databases.source };
    let answers = database.select(queries).await?;
    let numbers = answers.iter().flatten().flatten();
    Ok(numbers.filter_map(rehome_records::Value::as_integer).map(i64::unsigned_abs).sum())
}
