//! The worker that takes spans back.

use std::any::Any;
use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use futures::future::BoxFuture;
use rehome_core::{
    Done, Failure, Halt, Outcome, Pass, Prepared, Probed, Stage, Step, Transition, Unit, UnitId,
    Way,
};

use super::effect::SpanEffect;
use super::intent::UndoIntent;
use super::look::{look, referrers};
use super::plan::RowPlan;
use super::probe::probe;
use super::reason::Reason;
use super::scratch::{Act, Item};
use super::statements::{Undoing, bytes, deferred, statements};
use crate::database::{Refusal, Statement, WriteDatabase, Written};
use crate::import::KeySet;
use crate::import::digests::RowDigest;
use crate::import::summary::SpanDone;
use crate::layout::{Form, pick};
use crate::span::{SPAN, key_from_json};
use crate::survey::show_key;
use crate::target_rows::existing;
use crate::value::Value;

/// After so many races in a row a refusal counts as lasting.
const RACES: u32 = 3;
/// How many rows a failure's message names; the others are counted.
const NAMED: usize = 5;

/// Takes the spans of one table back to `exported`, as a [`RowPlan`] says.
///
/// A row may have to wait for others of the same table, in another span (children of a tree,
/// a unique value that an earlier row needs). Then its span is left, or only a part of it goes,
/// and the lane is to be run again: ask [`UndoSpans::again`] after each run.
pub struct UndoSpans {
    target: Arc<dyn WriteDatabase>,
    plan: Arc<RowPlan>,
    table: String,
    concurrency: usize,
    races: Mutex<HashMap<UnitId, u32>>,
    /// Requests that happened in this run of the lane.
    moved: AtomicU64,
    /// Spans of which something waits.
    waiting: AtomicU64,
    /// Nothing moves any more: what waits has to stay.
    last: AtomicBool,
}

/// What `apply` needs.
struct Payload {
    request: Vec<Statement>,
    done: Done,
}

/// What is to happen to one span, after a fresh look.
#[derive(Default)]
struct Course {
    undoing: Undoing,
    removed: Vec<Vec<Value>>,
    restored: Vec<Vec<Value>>,
    put_back: Vec<Vec<Value>>,
    /// Keys of rows of ours that remain.
    remain: HashSet<Vec<Value>>,
    /// Earlier rows that are not back yet.
    pending: Vec<Vec<Value>>,
    kept: Vec<(Reason, String)>,
    waits: bool,
}

/// A row that is to go, as it stands now.
struct Going {
    id: i64,
    key: Vec<Value>,
    row: Vec<Value>,
    becomes: Option<Vec<Value>>,
}

impl UndoSpans {
    /// A worker for the spans of `table` (as the source spells it), `concurrency` at a time.
    pub fn new(
        target: Arc<dyn WriteDatabase>,
        plan: Arc<RowPlan>,
        table: impl Into<String>,
        concurrency: usize,
    ) -> Self {
        Self {
            target,
            plan,
            table: table.into(),
            concurrency: concurrency.max(1),
            races: Mutex::new(HashMap::new()),
            moved: AtomicU64::new(0),
            waiting: AtomicU64::new(0),
            last: AtomicBool::new(false),
        }
    }

    /// Whether the lane has to be run once more with this worker. Ends: each further run takes
    /// something away, but for one last run that says what has to stay.
    pub fn again(&self) -> bool {
        let moved = self.moved.swap(0, Ordering::SeqCst) > 0;
        let waiting = self.waiting.swap(0, Ordering::SeqCst) > 0;
        waiting && (moved || !self.last.swap(true, Ordering::SeqCst))
    }

    async fn prepare_one(&self, unit: &Unit) -> Result<Prepared, Halt> {
        let nothing = || {
            if self.plan.options().only_selected {
                Prepared::Leave
            } else {
                Prepared::Advance(Done::default())
            }
        };
        let Some(effect) = SpanEffect::of(unit)? else {
            return Ok(nothing());
        };
        if effect.done.inserted.is_empty() && effect.done.waiting.is_empty() {
            return Ok(nothing());
        }
        let form = effect.span.form(self.plan.layout())?.clone();
        let mut course = self.course(&effect, &form).await?;
        if course.waits {
            self.waiting.fetch_add(1, Ordering::SeqCst);
        }
        let after = after(&effect, &course)?;
        // What waits will be told of when it does not wait any more.
        let failure = if course.waits { None } else { failure(std::mem::take(&mut course.kept)) };
        if course.undoing.is_empty() {
            return Ok(match (after, failure) {
                (_, Some(failure)) => Prepared::Fail { failure, blocks: Vec::new() },
                (None, None) => Prepared::Advance(Done::default()),
                (Some(_), None) => Prepared::Leave,
            });
        }
        let intent = UndoIntent::Remove {
            removed: KeySet::new(&course.removed),
            restored: KeySet::new(&course.restored),
            put_back: KeySet::new(&course.put_back),
            after,
            failure,
        };
        let request = self.request(&form, &course.undoing);
        let payload = Payload { request, done: intent.done()? };
        Ok(Prepared::Effect { intent: intent.json()?, payload: Box::new(payload) })
    }

    fn request(&self, form: &Form, undoing: &Undoing) -> Vec<Statement> {
        let mut request = vec![deferred()];
        request.extend(statements(form, undoing, self.target.limits()));
        request
    }

    /// Looks at the span again and says what happens to it now.
    async fn course(&self, effect: &SpanEffect, form: &Form) -> Result<Course, Halt> {
        let items = self.plan.scratch().of_unit(effect.unit)?;
        let mut course = Course::default();
        let (going, staying): (Vec<Item>, Vec<Item>) =
            items.into_iter().partition(|item| matches!(item.act, Act::Remove | Act::Restore));
        for item in &staying {
            course.remain.insert(item.key.clone());
            course.kept.extend(self.plan.why(item)?);
        }
        let mut going = self.fresh(effect, form, going, &mut course).await?;
        self.put_off(form, effect.unit, &mut going, &mut course).await?;
        let mut inserts = self.coming_back(effect, form, &going, &mut course).await?;
        loop {
            let undoing = Undoing {
                remove: rows(&going, |one| one.becomes.is_none().then(|| one.row.clone())),
                update: rows(&going, |one| {
                    one.becomes.as_ref().map(|becomes| (one.row.clone(), becomes.clone()))
                }),
                insert: inserts.iter().map(|(_, row)| row.clone()).collect(),
            };
            let many = going.len() + inserts.len() > 1;
            let fits = bytes(&self.request(form, &undoing)) <= self.target.limits().request;
            if !many || fits || !self.halve(effect.unit, &mut going, &mut inserts, &mut course)? {
                course.undoing = undoing;
                break;
            }
        }
        for one in going {
            match one.becomes {
                None => course.removed.push(one.key),
                Some(_) => course.restored.push(one.key),
            }
        }
        course.put_back = inserts.into_iter().map(|(key, _)| key).collect();
        Ok(course)
    }

    /// The rows as they stand now; those that are gone or were changed since the plan are not
    /// among them any more.
    async fn fresh(
        &self,
        effect: &SpanEffect,
        form: &Form,
        items: Vec<Item>,
        course: &mut Course,
    ) -> Result<Vec<Going>, Halt> {
        let digests: HashMap<Vec<Value>, Option<RowDigest>> =
            effect.done.rows()?.into_iter().collect();
        let mut earlier: HashMap<Vec<Value>, Vec<Value>> = HashMap::new();
        for one in &effect.replaced {
            earlier.insert(key_from_json(&one.key)?, key_from_json(&one.earlier)?);
        }
        let keys: Vec<_> = items.iter().map(|item| item.key.clone()).collect();
        let looked = look(self.target.as_ref(), form, &keys, &[]).await?;
        let mut going = Vec::new();
        for (item, row) in items.into_iter().zip(looked.rows) {
            let Some(row) = row else {
                continue;
            };
            let Some(digest) = digests.get(&item.key).copied() else {
                // An earlier request took it back; what stands there now is not ours.
                continue;
            };
            if !self.plan.options().force && digest != Some(RowDigest::of(&row)) {
                let reason = if digest.is_some() { Reason::RowChanged } else { Reason::NoDigest };
                let words = "was changed while the rollback was under way";
                let message = format!("{} {} {words}", self.table, show_key(&item.key));
                course.kept.push((reason, message));
                course.remain.insert(item.key);
                continue;
            }
            let becomes = match item.act {
                Act::Restore => earlier.get(&item.key).cloned(),
                Act::Remove | Act::Keep | Act::Leave => None,
            };
            going.push(Going { id: item.id, key: item.key, row, becomes });
        }
        Ok(going)
    }

    /// Takes out the rows to which others still refer, and with them their parents in the span.
    async fn put_off(
        &self,
        form: &Form,
        unit: UnitId,
        going: &mut Vec<Going>,
        course: &mut Course,
    ) -> Result<(), Halt> {
        let removing: Vec<&Going> = going.iter().filter(|one| one.becomes.is_none()).collect();
        let keys: Vec<_> = removing.iter().map(|one| one.key.clone()).collect();
        let found = referrers(self.target.as_ref(), form, &keys, true).await?;
        let mut out: HashMap<i64, String> = HashMap::new();
        for ((number, child), rows) in found {
            if let (Some(one), Some(child)) = (removing.get(number), form.children.get(child)) {
                let words = format!("is referred to by {rows} rows of {}", child.table);
                out.entry(one.id).or_insert(words);
            }
        }
        if out.is_empty() {
            return Ok(());
        }
        self.with_parents(unit, &mut out)?;
        let last = self.last.load(Ordering::SeqCst);
        let all = std::mem::take(going);
        for one in all {
            let words = out.get(&one.id).filter(|_| one.becomes.is_none());
            let Some(words) = words else {
                going.push(one);
                continue;
            };
            if last {
                let message = format!("{} {} {words}", self.table, show_key(&one.key));
                course.kept.push((Reason::RowReferred, message));
            } else {
                course.waits = true;
            }
            course.remain.insert(one.key);
        }
        Ok(())
    }

    /// Adds the parents, within the span, of what is out.
    fn with_parents(&self, unit: UnitId, out: &mut HashMap<i64, String>) -> Result<(), Halt> {
        let links = self.plan.scratch().inner_links(unit)?;
        let mut parents: HashMap<i64, Vec<i64>> = HashMap::new();
        for (child, parent) in links {
            parents.entry(child).or_default().push(parent);
        }
        let mut open: Vec<i64> = out.keys().copied().collect();
        while let Some(child) = open.pop() {
            for parent in parents.get(&child).into_iter().flatten() {
                if !out.contains_key(parent) {
                    let words = "is referred to by a row of its span that stays".to_owned();
                    out.insert(*parent, words);
                    open.push(*parent);
                }
            }
        }
        Ok(())
    }

    /// The earlier rows whose place is free now, or becomes free with this request.
    async fn coming_back(
        &self,
        effect: &SpanEffect,
        form: &Form,
        going: &[Going],
        course: &mut Course,
    ) -> Result<Vec<(Vec<Value>, Vec<Value>)>, Halt> {
        let mut wanted = HashSet::new();
        for item in self.plan.scratch().earlier_of(effect.unit)? {
            match item.act {
                Act::Restore | Act::Remove => {
                    wanted.insert(item.key);
                }
                Act::Keep => {
                    course.pending.push(item.key.clone());
                    course.kept.extend(item.why.map(|(reason, message)| {
                        (reason, format!("{} {} {message}", self.table, show_key(&item.key)))
                    }));
                }
                Act::Leave => {}
            }
        }
        let mut rows = Vec::new();
        for one in &effect.replaced {
            let key = key_from_json(&one.key)?;
            if wanted.contains(&key) {
                rows.push((key, key_from_json(&one.earlier)?));
            }
        }
        if rows.is_empty() {
            return Ok(rows);
        }
        let whole: Vec<_> = rows.iter().map(|(_, row)| row.clone()).collect();
        let found = existing(self.target.as_ref(), form, &whole).await?;
        let leaving: HashSet<&Vec<Value>> =
            going.iter().filter(|one| one.becomes.is_none()).map(|one| &one.key).collect();
        let mut coming = Vec::new();
        for (number, (key, row)) in rows.into_iter().enumerate() {
            let same = found.same_key.get(&number);
            if same == Some(&row) {
                // It is back already.
                continue;
            }
            let rivals = found.same_unique.get(&number).map(Vec::as_slice).unwrap_or_default();
            let free =
                same.into_iter().chain(rivals).all(|row| leaving.contains(&pick(row, &form.key)));
            if free {
                coming.push((key, row));
                continue;
            }
            if self.last.load(Ordering::SeqCst) {
                let words = "cannot be put back: another row has its key or a unique value";
                let message = format!("{} {} {words}", self.table, show_key(&key));
                course.kept.push((Reason::PlaceTaken, message));
            } else {
                course.waits = true;
            }
            course.pending.push(key);
        }
        Ok(coming)
    }

    /// Takes half of the rows out of a request that is too large; they go with the next one.
    /// Says whether it could.
    fn halve(
        &self,
        unit: UnitId,
        going: &mut Vec<Going>,
        inserts: &mut Vec<(Vec<Value>, Vec<Value>)>,
        course: &mut Course,
    ) -> Result<bool, Halt> {
        course.waits = true;
        if !inserts.is_empty() {
            // They need the room that the others leave, so they come after them.
            course.pending.extend(inserts.drain(..).map(|(key, _)| key));
            return Ok(true);
        }
        let half = going.len() / 2;
        let mut out: HashMap<i64, String> =
            going.iter().skip(half).map(|one| (one.id, String::new())).collect();
        self.with_parents(unit, &mut out)?;
        if going.iter().all(|one| out.contains_key(&one.id)) {
            // The first half are parents of the second: only what nothing refers to goes first.
            let links = self.plan.scratch().inner_links(unit)?;
            let here: HashSet<i64> = going.iter().map(|one| one.id).collect();
            out = links
                .into_iter()
                .filter(|(child, parent)| child != parent && here.contains(child))
                .map(|(_, parent)| (parent, String::new()))
                .collect();
        }
        if going.iter().all(|one| out.contains_key(&one.id)) {
            // A circle that cannot be cut.
            return Ok(false);
        }
        let all = std::mem::take(going);
        for one in all {
            if out.contains_key(&one.id) {
                course.remain.insert(one.key);
            } else {
                going.push(one);
            }
        }
        Ok(true)
    }

    fn settle(&self, unit: &Unit, written: Written, done: Done) -> Outcome {
        settle_write(&self.races, unit, written, done, &self.moved)
    }
}

fn rows<T>(going: &[Going], of: impl Fn(&Going) -> Option<T>) -> Vec<T> {
    going.iter().filter_map(of).collect()
}

/// What a write means for a unit on its way back.
pub(super) fn settle_write(
    races: &Mutex<HashMap<UnitId, u32>>,
    unit: &Unit,
    written: Written,
    done: Done,
    moved: &AtomicU64,
) -> Outcome {
    let mut races = races.lock().unwrap_or_else(PoisonError::into_inner);
    match written {
        Written::Done { .. } => {
            races.remove(&unit.id);
            moved.fetch_add(1, Ordering::SeqCst);
            Outcome::Done(done)
        }
        Written::NotSent { reason, retry_after, halt } => {
            Outcome::NotSent { reason, retry_after, halt }
        }
        Written::Unknown { reason } => Outcome::Unknown { reason },
        Written::Refused { refusal, message } => {
            let may_be_a_race = match refusal {
                Refusal::Guard | Refusal::Unique | Refusal::ForeignKey => true,
                Refusal::Constraint | Refusal::TooBig | Refusal::Other => false,
            };
            let before = races.entry(unit.id).or_insert(0);
            *before += 1;
            if may_be_a_race && *before <= RACES {
                return Outcome::NotSent {
                    reason: format!("the target changed while the undo was prepared: {message}"),
                    retry_after: None,
                    halt: None,
                };
            }
            races.remove(&unit.id);
            let words = match refusal {
                Refusal::Guard => "the rows or those that refer to them keep changing".to_owned(),
                Refusal::Unique
                | Refusal::ForeignKey
                | Refusal::Constraint
                | Refusal::TooBig
                | Refusal::Other => message,
            };
            let message = format!("{} could not be taken back: {words}", unit.source_key);
            let reason = Reason::RowRejected;
            Outcome::Rejected(Failure::new(reason.code(), message).with_hint(reason.hint()))
        }
    }
}

/// What remains of a span once its course has been taken; `None` for nothing.
fn after(effect: &SpanEffect, course: &Course) -> Result<Option<SpanDone>, Halt> {
    let mut done = effect.done.clone();
    let mut rows = done.rows()?;
    rows.retain(|(key, _)| course.remain.contains(key));
    if rows.is_empty() && course.pending.is_empty() {
        return Ok(None);
    }
    done.set_rows(rows);
    let open = done.open.keys()?;
    done.open = KeySet::new(open.iter().filter(|key| course.remain.contains(*key)));
    let mut settled = done.settled.keys()?;
    settled.extend(course.restored.iter().chain(&course.put_back).cloned());
    done.settled = KeySet::new(&settled);
    done.waiting = KeySet::new(&course.pending);
    Ok(Some(done))
}

/// All that stays as one failure.
fn failure(kept: Vec<(Reason, String)>) -> Option<Failure> {
    let reason = kept.first()?.0;
    let mut named: Vec<_> = kept.iter().take(NAMED).map(|(_, message)| message.clone()).collect();
    if kept.len() > NAMED {
        named.push(format!("and {} more rows", kept.len() - NAMED));
    }
    Some(Failure::new(reason.code(), named.join("; ")).with_hint(reason.hint()))
}

impl Transition for UndoSpans {
    fn step(&self) -> Step {
        Step {
            kind: SPAN,
            way: Way::Back { to: Stage::Exported, scope: Some(self.table.clone()) },
            batch: 1,
            concurrency: self.concurrency,
        }
    }

    fn prepare<'a>(
        &'a self,
        units: &'a [Unit],
        _pass: Pass,
    ) -> BoxFuture<'a, Result<Vec<Prepared>, Halt>> {
        Box::pin(async move {
            let mut prepared = Vec::with_capacity(units.len());
            for unit in units {
                prepared.push(self.prepare_one(unit).await?);
            }
            Ok(prepared)
        })
    }

    fn apply<'a>(
        &'a self,
        unit: &'a Unit,
        payload: Box<dyn Any + Send + Sync>,
    ) -> BoxFuture<'a, Outcome> {
        Box::pin(async move {
            let Ok(payload) = payload.downcast::<Payload>() else {
                return super::misdirected();
            };
            let Payload { request, done } = *payload;
            let written = self.target.write(request).await;
            self.settle(unit, written, done)
        })
    }

    fn probe<'a>(&'a self, units: &'a [Unit]) -> BoxFuture<'a, Result<Vec<Probed>, Halt>> {
        Box::pin(async move {
            let mut probed = Vec::with_capacity(units.len());
            for unit in units {
                let found = probe(self.target.as_ref(), self.plan.layout(), unit).await?;
                if matches!(found, Probed::Done(_)) {
                    self.moved.fetch_add(1, Ordering::SeqCst);
                }
                probed.push(found);
            }
            Ok(probed)
        })
    }
}
