//! The worker that takes spans back.

use std::any::Any;
use std::collections::{BTreeSet, HashMap};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use futures::future::BoxFuture;
use rehome_core::{
    Done, Failure, Halt, Outcome, Pass, Prepared, Probed, Stage, Step, Transition, Unit, UnitId,
    Way,
};

use super::course::after;
use super::effect::SpanEffect;
use super::intent::UndoIntent;
use super::plan::RowPlan;
use super::probe::probe;
use super::reason::Reason;
use super::statements::{Undoing, deferred, statements};
use super::verdicts;
use crate::database::{Refusal, Statement, WriteDatabase, Written};
use crate::import::KeySet;
use crate::layout::Form;
use crate::misdirected::misdirected;
use crate::quiet;
use crate::span::SPAN;

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
    pub(super) target: Arc<dyn WriteDatabase>,
    pub(super) plan: Arc<RowPlan>,
    pub(super) table: String,
    concurrency: usize,
    races: Mutex<HashMap<UnitId, u32>>,
    /// Requests that happened in this run of the lane.
    moved: AtomicU64,
    /// Spans of which something waits.
    waiting: AtomicU64,
    /// Nothing moves any more: what waits has to stay.
    pub(super) last: AtomicBool,
}

/// What `apply` needs.
struct Payload {
    form: Form,
    request: Vec<Statement>,
    done: Done,
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
        let done = &effect.done;
        if done.inserted.is_empty()
            && done.waiting.is_empty()
            && !self.plan.scratch().any_earlier(unit.id)?
        {
            return Ok(nothing());
        }
        let form = effect.span.form(self.plan.layout())?.clone();
        let course = self.course(&effect, &form).await?;
        if course.waits {
            self.waiting.fetch_add(1, Ordering::SeqCst);
        }
        let after = after(&effect, &course)?;
        // What waits will be told of when it does not wait any more.
        let failure = if course.waits { None } else { failure(&course.kept) };
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
        let payload = Payload { form, request, done: intent.done()? };
        Ok(Prepared::Effect { intent: intent.json()?, payload: Box::new(payload) })
    }

    pub(super) fn request(&self, form: &Form, undoing: &Undoing) -> Vec<Statement> {
        let mut request = vec![deferred()];
        request.extend(statements(form, undoing, self.target.limits()));
        request
    }

    /// Notes in the plan what went.
    fn note(&self, unit: &Unit) -> Result<(), Halt> {
        verdicts::went(self.plan.scratch(), unit.id, &UndoIntent::of(unit)?.removed()?)
    }

    fn settle(&self, unit: &Unit, written: Written, done: Done) -> Outcome {
        settle_write(&self.races, unit, written, done, &self.moved)
    }
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

/// All that stays as one failure.
fn failure(kept: &[(Reason, String)]) -> Option<Failure> {
    let reason = kept.first()?.0;
    // One code for the span, and what to do about each of its rows.
    let hints: BTreeSet<Reason> = kept.iter().map(|(reason, _)| *reason).collect();
    let hints: Vec<_> = hints.into_iter().map(Reason::hint).collect();
    let mut named: Vec<_> = kept.iter().take(NAMED).map(|(_, message)| message.clone()).collect();
    if kept.len() > NAMED {
        named.push(format!(
            "and {} more rows (`rehome rollback --dry-run --json` names them)",
            kept.len() - NAMED
        ));
    }
    Some(Failure::new(reason.code(), named.join("; ")).with_hint(hints.join("; ")))
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
                return misdirected();
            };
            let Payload { form, request, done } = *payload;
            let written = quiet::write(self.target.as_ref(), &[&form], request).await;
            if matches!(written, Written::Done { .. })
                && let Err(halt) = self.note(unit)
            {
                // It happened; the probe will say so once the working file can be used again.
                return Outcome::Unknown { reason: halt.to_string() };
            }
            self.settle(unit, written, done)
        })
    }

    fn probe<'a>(&'a self, units: &'a [Unit]) -> BoxFuture<'a, Result<Vec<Probed>, Halt>> {
        Box::pin(async move {
            let mut probed = Vec::with_capacity(units.len());
            for unit in units {
                let found = probe(self.target.as_ref(), self.plan.layout(), unit).await?;
                if matches!(found, Probed::Done(_)) {
                    self.note(unit)?;
                    self.moved.fetch_add(1, Ordering::SeqCst);
                }
                probed.push(found);
            }
            Ok(probed)
        })
    }
}
