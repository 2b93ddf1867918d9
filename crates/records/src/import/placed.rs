//! Where the rows of a span go whose table gets new keys.
//!
//! With their table, as a rule. When somebody of the target's has taken a key since that was
//! decided, the span goes elsewhere on its own, as long as nothing of it can be there: then its
//! rows are where its latest intent put them, whatever has happened around them.

use rehome_core::{Condition, Done, Halt, Stage, Unit, WaitFor};

use super::ImportSpans;
use super::summary::SpanDone;
use crate::layout::Form;
use crate::rekey::{self, Moves, Relocated};
use crate::span::{SPAN, SpanData, last_of};
use crate::survey::{Draft, Fate, KEY_TAKEN, Past, Planned, Purpose};
use crate::value::Value;

/// How often a span looks for another place before a person is told.
const PLACES: u32 = 3;

/// A span that was judged at its place.
pub(super) struct Placed {
    /// The form, with the counter that its rows need.
    pub(super) form: Form,
    pub(super) planned: Vec<Planned>,
    /// Where it goes, when not with its table.
    pub(super) moved: Option<Relocated>,
}

/// Notes in an outcome where a span went, so that whoever refers to its rows finds them.
pub(super) fn note(done: &mut Done, moved: Option<&Relocated>) -> Result<(), Halt> {
    if let (Some(moved), Some(json)) = (moved, &done.data) {
        let mut data = SpanDone::of(json)?;
        data.moved = Some(moved.by);
        done.data = Some(data.json()?);
        done.target = Some(moved.words());
    }
    Ok(())
}

impl ImportSpans {
    /// Judges the rows of a span where they are to go.
    pub(super) async fn placed(
        &self,
        span: &SpanData,
        draft: Draft,
        past: &Past,
    ) -> Result<Placed, Halt> {
        let range = if draft.form.rekeyed() { Relocated::span(span, 0)? } else { None };
        let Some(range) = range else {
            let form = draft.form.clone();
            let planned = self.surveyor.judge(draft, past, Purpose::Import).await?;
            return Ok(Placed { form, planned, moved: None });
        };
        let settled = past.moved();
        let mut by = settled.flatten();
        let mut places = 0;
        loop {
            let mut draft = draft.clone();
            let moves = &mut draft.resolved.moves;
            let moved = by.map(|by| range.by(by));
            match &moved {
                Some(moved) => moves.put(moved.clone()),
                None => moves.take_back(&range),
            }
            draft.form.counter = counter(&draft.form, moves);
            let (form, moves) = (draft.form.clone(), moves.clone());
            let first = first(&range, &draft);
            let planned = self.surveyor.judge(draft, past, Purpose::Import).await?;
            let taken = |plan: &Planned| matches!(&plan.fate, Fate::Failed { code, .. } if *code == KEY_TAKEN);
            places += 1;
            let stays = settled.is_some() || places > PLACES || !planned.iter().any(taken);
            let target = self.surveyor.target.as_ref();
            let elsewhere = if stays {
                None
            } else {
                let ends = (first, range.hi);
                rekey::beyond(target, &form, ends, moves.end(&span.table)).await?
            };
            match elsewhere {
                Some(there) => by = Some(there),
                None => return Ok(Placed { form, planned, moved }),
            }
        }
    }

    /// Where nothing but the largest key says where the target's own next row goes, the last rows
    /// of a table go first, so that the others come to stand below it: what a span has to wait for
    /// on that account.
    pub(super) fn last_rows_first(
        &self,
        unit: &Unit,
        span: &SpanData,
    ) -> Result<Option<WaitFor>, Halt> {
        let form = span.form(&self.surveyor.layout)?;
        if !form.rekeyed() || form.counter.is_some() {
            return Ok(None);
        }
        let knowledge = &self.surveyor.knowledge;
        let alias = last_of(&span.table);
        let claims = knowledge.claimants(&SPAN, std::slice::from_ref(&alias))?;
        let Some(last) = claims.get(&alias).and_then(|claimants| claimants.first()) else {
            let waits = !knowledge.export_done(&SPAN)?;
            return Ok(waits.then_some(WaitFor::Export(SPAN)));
        };
        let moving = match last.state.condition {
            Condition::Ready
            | Condition::Intended
            | Condition::InDoubt
            | Condition::Undoing
            | Condition::UndoInDoubt => last.state.stage < Stage::Imported,
            Condition::Failed
            | Condition::Held
            | Condition::Skipped
            | Condition::Stuck
            | Condition::RolledBack => false,
        };
        let waits = moving && last.id != unit.id;
        Ok(waits.then_some(WaitFor::Unit(last.id, Stage::Imported)))
    }
}

/// The old key with which the rows of a span begin.
fn first(range: &Relocated, draft: &Draft) -> i64 {
    let own = draft.form.key.first().copied();
    let keys = draft.rows.iter().filter_map(|(row, _)| row.get(own?).and_then(Value::as_integer));
    match range.lo {
        Some(lo) => lo.saturating_add(1),
        None => keys.min().unwrap_or(range.hi),
    }
}

/// Where AUTOINCREMENT has to stand for the rows of a table: beyond all of ours, in the first
/// request already, so that no row of the application's comes between them.
fn counter(form: &Form, moves: &Moves) -> Option<i64> {
    let counted = form.counter?;
    let shift = moves.shifts.get(&form.table)?;
    let end = moves.end(&form.table).unwrap_or(0);
    Some(counted.saturating_add(shift.by).max(end))
}
