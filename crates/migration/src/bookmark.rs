//! The target's Time Travel bookmark: journaled before the first write, restored as the last
//! resort.
//!
//! A restore takes the *whole* target database back, with everything that anybody wrote since. It
//! cannot be judged row by row, only asked for; so it is one effect of its own, beside the units,
//! and the journal tells it as notes of one word, of which the latest counts:
//!
//! 1. `taken`: before the first row of this migration is written. A later run takes a new one only
//!    when nothing of ours is in the target.
//! 2. `restoring`: the intent. Whatever was in doubt was settled before, so nothing of ours can
//!    arrive after the restore.
//! 3. `restored`: the answer. What the journal says of the rows is not true from here on.
//! 4. `settled`: every unit but the users (spans and lots, that is) stands where it stood before it was
//!    written, and a run may go forth.
//!
//! Between 2 and 3 nobody knows what the target holds: a run and an ordinary rollback are refused,
//! and only the same restore may be asked for again, which leads to the same database. Between 3
//! and 4 whoever comes next settles first; that needs the journal alone.

use rehome_clerk::USER;
use rehome_core::engine::{Finish, Interrupt};
use rehome_core::journal::{self, Change, Journal, Reader};
use rehome_core::{Condition, Event, Kind, Stage, UnitId};
use rehome_records::{Restored, WriteDatabase};
use serde::{Deserialize, Serialize};

use crate::error::Error;
use crate::workers::Workers;

/// The word of the notes.
pub(crate) const NOTE: &str = "bookmark";
/// Spans that are looked at at once.
const BATCH: usize = 500;

/// What the journal knows of a bookmark.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) struct Mark {
    /// How far its story has come.
    pub(crate) state: State,
    /// The bookmark itself.
    pub(crate) bookmark: String,
    /// When it was taken.
    pub(crate) taken: String,
    /// The moment before the restore, by which that can be undone at Cloudflare.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) previous: Option<String>,
}

/// How far the story of a bookmark has come; see the module.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum State {
    Taken,
    Restoring,
    Restored,
    Settled,
}

/// The latest word on the bookmark; `None` when there never was one.
pub(crate) fn latest(reader: &Reader) -> Result<Option<Mark>, Error> {
    let Some((_, note)) = reader.note(NOTE)? else {
        return Ok(None);
    };
    let mark = Mark::deserialize(note)
        .map_err(|error| journal::Error::Damaged(format!("a note of a bookmark: {error}")))?;
    Ok(Some(mark))
}

/// The bookmark that can be restored now; `None` when there is none, or when it was restored.
pub(crate) fn restorable(reader: &Reader) -> Result<Option<Mark>, Error> {
    Ok(latest(reader)?.filter(|mark| match mark.state {
        State::Taken | State::Restoring => true,
        State::Restored | State::Settled => false,
    }))
}

async fn note(journal: &Journal, mark: &Mark) -> Result<(), Error> {
    let detail = serde_json::to_value(mark).unwrap_or_default();
    journal.submit(vec![Change::Note { event: NOTE, detail }]).await?;
    Ok(())
}

/// Whether something of ours is in the target, or may be.
fn touched(reader: &Reader) -> Result<bool, Error> {
    let first = UnitId(0);
    let doubts =
        [Condition::Intended, Condition::InDoubt, Condition::Undoing, Condition::UndoInDoubt];
    for kind in kinds(reader)? {
        if !reader.undoable_ids(&kind, Stage::Exported, None, first, 1)?.is_empty()
            || !reader.with_effect(&kind, None, first, 1)?.is_empty()
        {
            return Ok(true);
        }
    }
    Ok(!reader.in_condition(&doubts, first, 1)?.is_empty())
}

/// The kinds of units whose effects are in the database.
fn kinds(reader: &Reader) -> Result<Vec<Kind>, Error> {
    Ok(reader.counts()?.into_keys().filter(|kind| *kind != USER).collect())
}

/// Journals the target's bookmark, before rows are written, where it has one and none counts yet.
pub(crate) async fn take(workers: &Workers<'_>) -> Result<(), Error> {
    let Some(target) = &workers.writing.database else {
        return Ok(());
    };
    let reader = workers.journal.reader()?;
    if restorable(&reader)?.is_some() && touched(&reader)? {
        return Ok(());
    }
    if let Some(bookmark) = target.bookmark().await? {
        let taken = workers.clock.now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
        let mark = Mark { state: State::Taken, bookmark, taken, previous: None };
        note(workers.journal, &mark).await?;
    }
    Ok(())
}

/// Goes on with a restore that was cut off, before anything else is done.
///
/// # Errors
/// [`Error::RestoreInDoubt`] when it is not known whether it happened.
pub(crate) async fn pick_up(workers: &Workers<'_>, interrupt: &Interrupt) -> Result<Finish, Error> {
    match latest(&workers.journal.reader()?)? {
        Some(Mark { state: State::Restoring, bookmark, .. }) => {
            Err(Error::RestoreInDoubt { bookmark, reason: "the last command ended".to_owned() })
        }
        Some(mark @ Mark { state: State::Restored, .. }) => settle(workers, mark, interrupt).await,
        Some(Mark { state: State::Taken | State::Settled, .. }) | None => Ok(Finish::Quiescent),
    }
}

/// Restores the whole target to `mark`, and takes every span back in the journal. Nothing may be
/// in doubt.
///
/// # Errors
/// [`Error::NotRestored`] when nothing happened, [`Error::RestoreInDoubt`] when that is not known.
pub(crate) async fn restore(
    workers: &Workers<'_>,
    target: &dyn WriteDatabase,
    mark: Mark,
    interrupt: &Interrupt,
) -> Result<Finish, Error> {
    note(workers.journal, &Mark { state: State::Restoring, ..mark.clone() }).await?;
    match target.restore(&mark.bookmark).await {
        Restored::Done { previous } => {
            let mark = Mark { state: State::Restored, previous, ..mark };
            note(workers.journal, &mark).await?;
            settle(workers, mark, interrupt).await
        }
        Restored::Refused { message } => {
            // Of an earlier request whose answer was lost this one says nothing.
            note(workers.journal, &mark).await?;
            Err(Error::NotRestored { bookmark: mark.bookmark, message })
        }
        Restored::Unknown { reason } => {
            Err(Error::RestoreInDoubt { bookmark: mark.bookmark, reason })
        }
    }
}

/// The rows are gone with everything else: the journal says so of every unit that wrote some.
async fn settle(workers: &Workers<'_>, mark: Mark, interrupt: &Interrupt) -> Result<Finish, Error> {
    unstick(workers.journal).await?;
    let kinds = kinds(&workers.journal.reader()?)?;
    let engine = workers.with_rows_forgotten(workers.engine(false), kinds);
    let finish = engine.run(interrupt).await?;
    if finish == Finish::Quiescent {
        note(workers.journal, &Mark { state: State::Settled, ..mark }).await?;
    }
    Ok(finish)
}

/// What was stuck in the target is there no more.
async fn unstick(journal: &Journal) -> Result<(), Error> {
    let reader = journal.reader()?;
    let mut after = UnitId(0);
    loop {
        let ids = reader.in_condition(&[Condition::Stuck], after, BATCH)?;
        let Some(last) = ids.last() else { return Ok(()) };
        after = *last;
        let units = reader.load(&ids)?;
        let rows = units.iter().filter(|unit| unit.kind != USER);
        let changes = rows.map(|unit| Change::step(unit.id, Event::Retried)).collect();
        journal.submit(changes).await?;
    }
}
