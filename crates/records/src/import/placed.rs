//! Where the rows of a span go whose table gets new keys.
//!
//! With their table, as a rule. When somebody of the target's has taken a key since that was
//! decided, the span goes elsewhere on its own, as long as nothing of it can be there: then its
//! rows are where its latest intent put them, whatever has happened around them.
//!
//! A row for which one of the target's stands goes nowhere: its key leads to that one. And one that
//! comes late, when rows around it have been written, and finds its key taken, goes elsewhere alone.

use rehome_core::{Condition, Done, Halt, Stage, Unit, WaitFor};

use super::ImportSpans;
use super::summary::SpanDone;
use crate::layout::Form;
use crate::rekey::{self, Apart, Moves, Relocated, Told};
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
    /// What there is to tell of where its keys lead, for a table that gets new ones.
    pub(super) told: Option<Told>,
}

impl Placed {
    /// By how much it moves, when not with its table.
    pub(super) fn moved(&self) -> Option<i64> {
        self.told.as_ref().filter(|told| told.alone).map(|told| told.range.by)
    }
}

/// Notes in an outcome where the keys of a span lead, so that whoever refers to its rows finds
/// them.
pub(super) fn note(done: &mut Done, told: Option<&Told>) -> Result<(), Halt> {
    let Some(told) = told else { return Ok(()) };
    if let (true, Some(json)) = (told.alone, &done.data) {
        let mut data = SpanDone::of(json)?;
        data.moved = Some(told.range.by);
        done.data = Some(data.json()?);
    }
    done.target = told.words();
    Ok(())
}

/// The rows of a table with new keys for which rows of the target stand: old keys, and theirs.
pub(crate) fn standing_for(form: &Form, planned: &[Planned]) -> Apart {
    let Some(key) = form.key.first().filter(|_| form.rekeyed()) else { return Apart::new() };
    let number = |row: &[Value]| row.get(*key).and_then(Value::as_integer);
    let pair = |plan: &Planned| match &plan.fate {
        Fate::Yields { there } => Some((number(&plan.source)?, number(there)?)),
        Fate::Insert
        | Fate::Update { .. }
        | Fate::Complete { .. }
        | Fate::Remove { .. }
        | Fate::Gone
        | Fate::Overtaken
        | Fate::Overwrite { .. }
        | Fate::Displace { .. }
        | Fate::Equal { .. }
        | Fate::Held { .. }
        | Fate::Skipped
        | Fate::Failed { .. } => None,
    };
    planned.iter().filter_map(pair).collect()
}

/// The old keys of rows whose new ones are taken, in ascending order.
fn taken(form: &Form, planned: &[Planned]) -> Vec<i64> {
    let is_taken =
        |plan: &&Planned| matches!(&plan.fate, Fate::Failed { code, .. } if *code == KEY_TAKEN);
    let key = |plan: &Planned| plan.source.get(*form.key.first()?).and_then(Value::as_integer);
    let mut keys: Vec<i64> = planned.iter().filter(is_taken).filter_map(key).collect();
    keys.sort_unstable();
    keys
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
            return Ok(Placed { form, planned, told: None });
        };
        let settled = past.moved();
        let mut by = settled.flatten();
        let mut apart = draft.resolved.moves.apart(&range);
        apart.extend(past.apart());
        let mut places = 0;
        loop {
            let mut draft = draft.clone();
            let moves = &mut draft.resolved.moves;
            let moved = by.map(|by| range.by(by));
            match &moved {
                Some(moved) => moves.put(moved.clone()),
                None => moves.take_back(&range),
            }
            moves.set_apart(&range.table, &apart);
            draft.form.counter = counter(&draft.form, moves);
            let (form, moves) = (draft.form.clone(), moves.clone());
            let first = first(&range, &draft);
            let planned = self.surveyor.judge(draft, past, Purpose::Import).await?;
            let taken = taken(&form, &planned);
            places += 1;
            // Under the key of the row that stands for it, it is judged once more: what an intent
            // says of a row, it says by its final key.
            let standing = standing_for(&form, &planned);
            if places <= PLACES && standing.iter().any(|(old, new)| apart.get(old) != Some(new)) {
                apart.extend(standing);
                continue;
            }
            if let (Some(least), Some(most)) = (taken.first(), taken.last())
                && places <= PLACES
            {
                // Rows around those that have been written are where they are.
                let ends = if settled.is_some() { (*least, *most) } else { (first, range.hi) };
                let target = self.surveyor.target.as_ref();
                let there = rekey::beyond(target, &form, ends, moves.end(&span.table)).await?;
                if let Some(there) = there {
                    if settled.is_some() {
                        apart.extend(taken.iter().map(|key| (*key, key.saturating_add(there))));
                    } else {
                        by = Some(there);
                    }
                    continue;
                }
            }
            let alone = moved.is_some();
            let told = Told { range: moved.unwrap_or(range), alone, apart };
            return Ok(Placed { form, planned, told: Some(told) });
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
