//! Accounts of users whom the source has deleted after the export.
//!
//! The comparison at the end of a run finds them, asks for each by address before it believes it,
//! and takes them out of the migration ([`CODE`]). By `users.on_removed = "delete"` the next pass
//! then deletes their accounts, after rows have followed: by the worker of the way back, with intent,
//! outcome and probe, and a user who was taken out stays out.
//!
//! Nobody is asked here, so only an account goes that this migration created, that is as it was left,
//! and that no row of the target names, whoever wrote it. Any other stays, and the journal says why.
//! Each run looks again: what speaks against it may be gone by then.

use std::collections::BTreeMap;

use rehome_clerk::USER;
use rehome_clerk::undo::{Attached, Attachment, NAMED_ROWS, judge, rows_remain};
use rehome_core::engine::{Finish, Interrupt};
use rehome_core::journal::{Change, Reader, Selection};
use rehome_core::progress::Progress;
use rehome_core::{Condition, Event, Failure, Knowledge as _, Origin, Unit, UnitId};
use rehome_records::policy::Removed;

use crate::error::Error;
use crate::workers::Workers;

/// The code of a user whom the source has deleted.
pub(crate) const CODE: &str = "deleted_in_source";
/// Users that are looked at together.
const BATCH: usize = 500;

/// What becomes of an account that is to go.
pub(crate) const GOES: &str =
    "the account goes too, unless somebody has used or changed it, or a row of the target names it";

/// Why a user was taken out whom the source has deleted.
pub(crate) fn failure(source_key: &str) -> Failure {
    Failure::new(CODE, format!("{source_key} was deleted in the source after the export"))
        .with_hint(
            "the account and its rows stay in the target; delete them there if they are to go",
        )
}

/// Whether a unit is a user whom the source has deleted.
pub(crate) fn has_left(unit: &Unit) -> bool {
    unit.state.condition == Condition::Skipped
        && unit.failure.as_ref().is_some_and(|failure| failure.code == CODE)
}

/// Deletes the accounts of selected users whom the source has deleted, as far as that is asked for
/// and nothing speaks against it.
pub(crate) async fn follow(workers: &Workers<'_>, interrupt: &Interrupt) -> Result<Finish, Error> {
    match workers.config.users.on_removed {
        Removed::Keep => return Ok(Finish::Quiescent),
        Removed::Delete => {}
    }
    let reader = workers.journal.reader()?.select(workers.selection.clone());
    let attached = workers.attached_to_the_departed();
    let (mut going, mut kept) = (Vec::new(), 0);
    let mut after = UnitId(0);
    loop {
        let ids = reader.in_condition(&[Condition::Skipped], after, BATCH)?;
        let Some(last) = ids.last() else { break };
        after = *last;
        let units = theirs(&reader, &ids)?;
        let objections = objections(workers, attached.as_ref(), &units).await?;
        let mut changes = Vec::new();
        for unit in units {
            match objections.get(&unit.id) {
                None => going.push(unit.source_key),
                Some(objection) => {
                    kept += 1;
                    changes.extend(stays(&unit, objection));
                }
            }
        }
        if !changes.is_empty() {
            workers.journal.submit(changes).await?;
        }
    }
    if kept > 0 {
        let message = format!(
            "accounts that stay although the source has deleted their users: {kept} \
             (`rehome failures --code {CODE}` says why)"
        );
        workers.watcher.note(&Progress::Warned { message });
    }
    if going.is_empty() {
        return Ok(Finish::Quiescent);
    }
    let message =
        format!("accounts to delete, as the source has deleted their users: {}", going.len());
    workers.watcher.note(&Progress::Warned { message });
    let selection = Selection::Only { kind: USER, names: going };
    let worker = workers.deleting(attached, []);
    let engine = workers.with(workers.engine_over(selection, false), vec![worker]);
    Ok(engine.run(interrupt).await?)
}

/// The selected ones of these units that are users who have left, with an account of ours.
fn theirs(reader: &Reader, ids: &[UnitId]) -> Result<Vec<Unit>, Error> {
    let mut units = reader.load(ids)?;
    units
        .retain(|unit| unit.kind == USER && unit.origin == Some(Origin::Created) && has_left(unit));
    let keys: Vec<_> = units.iter().map(|unit| unit.source_key.clone()).collect();
    let known = reader.by_source(&USER, &keys)?;
    units.retain(|unit| known.get(&unit.source_key).is_some_and(|user| user.selected));
    Ok(units)
}

/// What speaks against deleting the accounts of these users, for those where something does.
async fn objections(
    workers: &Workers<'_>,
    attached: &dyn Attached,
    units: &[Unit],
) -> Result<BTreeMap<UnitId, Failure>, Error> {
    let policy = workers.config.users.policy();
    let judged = judge(&workers.remotes.target.reader, units, &policy).await?;
    let accounts: Vec<_> = units.iter().filter_map(|unit| unit.target_key.clone()).collect();
    let mut rows: BTreeMap<String, Vec<Attachment>> = BTreeMap::new();
    if !accounts.is_empty() {
        for row in attached.look(&accounts).await? {
            rows.entry(row.account.clone()).or_default().push(row);
        }
    }
    let mut objections = BTreeMap::new();
    for (unit, judgement) in units.iter().zip(judged) {
        let named =
            unit.target_key.as_ref().and_then(|account| Some((account, rows.remove(account)?)));
        let objection = match (judgement.standing.objection(), named) {
            (Some(failure), _) => Some(failure.clone()),
            (None, Some((account, rows))) => {
                let more = rows.len().saturating_sub(NAMED_ROWS) as u64;
                Some(rows_remain(account, &unit.source_key, &rows, more))
            }
            (None, None) => None,
        };
        objections.extend(objection.map(|failure| (unit.id, failure)));
    }
    Ok(objections)
}

/// What there is to journal of a user whose account stays; nothing when that is known.
fn stays(unit: &Unit, objection: &Failure) -> Vec<Change> {
    let plain = failure(&unit.source_key);
    let message = format!("{}; {}", plain.message, objection.message);
    if unit.failure.as_ref().is_some_and(|failure| failure.message == message) {
        return Vec::new();
    }
    let failure = Failure::new(CODE, message).with_hint(
        "the account stays as long as that is so, and each run looks again; delete it in the target \
         if it is to go, or set users.on_removed = \"keep\"",
    );
    vec![
        Change::step(unit.id, Event::Retried),
        Change::failure(unit.id, Event::Skipped, failure, Vec::new()),
    ]
}
