//! Units by the names that a person has for them.

use jiff::Timestamp;
use rehome_clerk::alias;
use rehome_core::Unit;
use rehome_core::journal::{FailureRow, Reader};

use super::aside::{failure_doc, wait_in_words};
use crate::config::Config;
use crate::document::{HistoryDoc, UnitDoc};
use crate::error::Error;

/// Every name under which the journal may know what a person calls `key`: an id as it is, an
/// address, number, username or wallet in the form in which users are indexed.
pub fn names(key: &str) -> Vec<String> {
    let aliases = [alias::email, alias::phone, alias::username, alias::wallet, alias::external_id];
    std::iter::once(key.to_owned()).chain(aliases.iter().map(|alias| alias(key))).collect()
}

/// Every unit that goes by a name, with its history.
///
/// # Errors
/// [`Error::UnknownKey`], or when the journal cannot be read.
pub fn show(config: &Config, key: &str) -> Result<Vec<UnitDoc>, Error> {
    let reader = Reader::open(&config.journal_path())?;
    let units = find(&reader, key)?;
    units.into_iter().map(|unit| unit_doc(&reader, unit)).collect()
}

pub(super) fn find(reader: &Reader, key: &str) -> Result<Vec<Unit>, Error> {
    let units = reader.find(&names(key))?;
    if units.is_empty() { Err(Error::UnknownKey(key.to_owned())) } else { Ok(units) }
}

fn unit_doc(reader: &Reader, unit: Unit) -> Result<UnitDoc, Error> {
    let waits = reader.waits(unit.id)?;
    let history = reader.history(unit.id)?.into_iter().map(|entry| HistoryDoc {
        seq: entry.seq,
        at: Timestamp::from_millisecond(entry.at)
            .map_or_else(|_| String::new(), |at| at.to_string()),
        event: entry.event,
        from: entry.from.map(|stage| stage.to_string()),
        to: entry.to.map(|stage| stage.to_string()),
        attempt: entry.attempt,
        detail: serde_json::to_value(entry.detail).unwrap_or_default(),
    });
    let failure = unit.failure.is_some().then(|| {
        failure_doc(&FailureRow {
            id: unit.id,
            kind: unit.kind.clone(),
            source_key: unit.source_key.clone(),
            label: unit.label.clone(),
            state: unit.state,
            failure: unit.failure.clone(),
            waits: waits.clone(),
            attempts: unit.attempts,
        })
    });
    Ok(UnitDoc {
        kind: unit.kind.to_string(),
        source_id: unit.source_key,
        target_id: unit.target_key,
        origin: unit.origin.map(|origin| origin.as_str().to_owned()),
        label: unit.label,
        stage: unit.state.stage.to_string(),
        condition: unit.state.condition.as_str().to_owned(),
        failure,
        waits: waits.iter().map(wait_in_words).collect(),
        data: unit.data,
        history: history.collect(),
    })
}
