//! The workers that bring rows into the target.
//!
//! [`ImportSpans`] takes a span from `exported` to `imported`: it surveys the span, journals
//! which keys were there before, and writes the rest in one atomic request. What cannot come yet
//! is held with what it waits for; what cannot come at all fails; both hold back the users whom
//! those rows name, so that "imported" of a user means that every row of theirs is there.
//! [`LoadSpans`] does the same for many spans in one file, where the target takes files.
//! [`SettleMentions`] then moves the users themselves, when nothing holds them back.

mod apply;
pub(crate) mod digests;
mod intent;
mod load;
pub(crate) mod placed;
mod settle;
pub(crate) mod statements;
pub(crate) mod summary;

pub use intent::{Intent, KeySet, Replaced};
pub use load::LoadSpans;
pub use settle::SettleMentions;
pub use summary::arrived;

pub(crate) use intent::Prior;

/// Reads the JSON of a unit as an intent and as an outcome of an import; whether it was either.
#[cfg(feature = "fuzzing")]
pub(crate) fn hostile(unit: &rehome_core::Unit) -> bool {
    let done = summary::SpanDone::of(&unit.data).and_then(|done| done.rows());
    Prior::of(unit).is_ok() || done.is_ok()
}

use std::any::Any;
use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};

use futures::future::BoxFuture;
use rehome_core::{
    Done, Halt, Knowledge, Outcome, Pass, Prepared, Probed, Rest, Stage, Step, Transition, Unit,
    UnitId, WaitFor,
};
use serde_json::json;

use crate::database::{ReadDatabase, WriteDatabase};
use crate::layout::{Form, Layout};
use crate::misdirected::misdirected;
use crate::policy::RowPolicy;
use crate::rekey::Apart;
use crate::span::{SPAN, SpanData, key_to_json};
use crate::survey::{Fate, Handover, Past, Planned, Surveyor};
use crate::undo::Undoable;
use crate::value::{Row, Value};
use digests::{RowDigest, pack};
use placed::Placed;
use statements::{Ours, Way, WriteRow};

/// Writes spans of rows: `exported` to `imported`.
pub struct ImportSpans {
    surveyor: Surveyor,
    target: Arc<dyn WriteDatabase>,
    concurrency: usize,
    /// Of spans that were attempted by this worker and are not finished: whether it is certain
    /// that nothing of them was written.
    attempts: Mutex<HashMap<UnitId, Attempt>>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Attempt {
    /// Nothing of any attempt was written.
    void: bool,
    /// How often in a row the database refused because of what others had written meanwhile.
    races: u32,
}

/// What `apply` needs.
struct Payload {
    form: Form,
    rows: Vec<WriteRow>,
    done: Done,
    races: u32,
    /// Whether nothing of an earlier intent of this span can be there.
    first: bool,
}

impl ImportSpans {
    /// A worker that reads spans from `source` and writes them to `target`, `concurrency` at a
    /// time.
    pub fn new(
        source: Arc<dyn ReadDatabase>,
        target: Arc<dyn WriteDatabase>,
        knowledge: Arc<dyn Knowledge>,
        layout: Arc<Layout>,
        policy: impl Into<RowPolicy>,
        concurrency: usize,
    ) -> Self {
        let reader: Arc<dyn ReadDatabase> = Arc::clone(&target) as Arc<dyn ReadDatabase>;
        Self {
            surveyor: Surveyor {
                source,
                target: reader,
                knowledge,
                layout,
                policy: policy.into(),
                guess: None,
                spans: None,
            },
            target,
            concurrency: concurrency.max(1),
            attempts: Mutex::new(HashMap::new()),
        }
    }

    /// The same, asking a journal which rows this migration wrote: a row of ours that has changed
    /// since is no stranger to the rows below it.
    #[must_use]
    pub fn knowing(self, spans: Arc<dyn Undoable>) -> Self {
        Self { surveyor: Surveyor { spans: Some(spans), ..self.surveyor }, ..self }
    }

    fn attempt(&self, unit: &Unit) -> Attempt {
        let attempts = self.attempts.lock().unwrap_or_else(PoisonError::into_inner);
        attempts.get(&unit.id).copied().unwrap_or_default()
    }

    fn remember(&self, unit: &Unit, attempt: Option<Attempt>) {
        let mut attempts = self.attempts.lock().unwrap_or_else(PoisonError::into_inner);
        match attempt {
            Some(attempt) => attempts.insert(unit.id, attempt),
            None => attempts.remove(&unit.id),
        };
    }

    /// What a span has to wait for before it is worth looking at.
    fn parents_missing(&self, form: &Form) -> Result<Option<WaitFor>, Halt> {
        let parents = form.parents.iter().filter(|p| p.carried && !p.circle).map(|p| &p.table);
        for parent in parents.chain(&form.follows) {
            // Spans are scoped by the source's spelling of their table.
            let Some(table) = self.surveyor.layout.table(parent) else {
                continue;
            };
            let knowledge = &self.surveyor.knowledge;
            if !knowledge.settled(&SPAN, Some(&table.name), Stage::Imported)? {
                return Ok(Some(WaitFor::Settled {
                    kind: SPAN,
                    scope: Some(table.name.clone()),
                    stage: Stage::Imported,
                }));
            }
        }
        Ok(None)
    }

    async fn prepare_one(&self, unit: &Unit, pass: Pass) -> Result<Prepared, Halt> {
        let span = SpanData::of(unit)?;
        if pass == Pass::Patient
            && let Some(wait) = self.parents_missing(span.form(&self.surveyor.layout)?)?
        {
            return Ok(Prepared::Wait(wait));
        }
        if pass == Pass::Patient
            && let Some(wait) = self.last_rows_first(unit, &span)?
        {
            return Ok(Prepared::Wait(wait));
        }
        let draft = self.surveyor.draft(&span).await?;
        if pass == Pass::Patient {
            for kind in draft.resolved.unknown_kinds() {
                if !self.surveyor.knowledge.export_done(kind)? {
                    return Ok(Prepared::Wait(WaitFor::Export(kind.clone())));
                }
            }
            if let Some(last) = draft.resolved.last_moving() {
                return Ok(Prepared::Wait(WaitFor::Unit(last, Stage::Mapped)));
            }
        }
        let attempt = self.attempt(unit);
        let past = Past::of(unit, unit.intent_void || attempt.void)?;
        let placed = self.placed(&span, draft, &past).await?;
        let moved = placed.moved();
        let Placed { form, planned, told } = placed;
        let mut rows = writes(&planned, &past);
        if form.rekeyed() && form.counter.is_none() {
            // Where a span takes several requests, the largest keys come first, as they do among
            // spans: the target's own next row stands above them.
            rows.reverse();
        }
        let repeated = past.meant_or(!rows.is_empty());
        let mut done = summary::done(&form, &planned, &past, repeated)?;
        placed::note(&mut done, told.as_ref())?;
        if rows.is_empty() {
            return Ok(match done.rest {
                None => {
                    self.remember(unit, None);
                    Prepared::Advance(done)
                }
                Some(Rest::Held { waits, blocks }) => Prepared::Hold { waits, blocks },
                Some(Rest::Failed { failure, blocks }) => Prepared::Fail { failure, blocks },
                Some(Rest::More) => {
                    return Err(Halt::Bug("a survey of rows that ends in `more`".to_owned()));
                }
            });
        }
        let apart = told.map(|told| told.apart).unwrap_or_default();
        let intent = Self::intent(&form, &planned, &past, (moved, apart));
        Ok(Prepared::Effect {
            intent,
            payload: Box::new(Payload {
                form,
                rows,
                done,
                races: attempt.races,
                first: past.prior.is_none() || past.void,
            }),
        })
    }

    fn intent(
        form: &Form,
        planned: &[Planned],
        past: &Past,
        (moved, apart): (Option<i64>, Apart),
    ) -> serde_json::Value {
        let keys = |wanted: &dyn Fn(&Planned) -> bool| {
            KeySet::new(planned.iter().filter(|plan| wanted(plan)).map(|plan| &plan.key))
        };
        let existed = keys(&|plan| plan.fate == Fate::Equal { ours: false });
        let left = keys(&|plan| {
            matches!(
                plan.fate,
                Fate::Held { .. } | Fate::Skipped | Fate::Yields { .. } | Fate::Failed { .. }
            )
        });
        let open = keys(&|plan| plan.open.is_some());
        let mut replaced = past.replaced();
        let mut seen: HashSet<String> =
            replaced.iter().map(|one| json!(one.earlier).to_string()).collect();
        let mut insert = 0;
        let mut overwritten = Vec::new();
        for plan in planned {
            let earlier: Vec<&Vec<Value>> = match &plan.fate {
                Fate::Insert => {
                    insert += 1;
                    continue;
                }
                Fate::Update { earlier } => vec![earlier],
                Fate::Overwrite { earlier } => {
                    overwritten.push(Replaced {
                        key: key_to_json(&plan.key),
                        earlier: key_to_json(earlier),
                    });
                    continue;
                }
                Fate::Displace { earlier } => {
                    insert += 1;
                    earlier.iter().collect()
                }
                // A row of ours was never anybody else's.
                Fate::Complete { .. }
                | Fate::Remove { .. }
                | Fate::Gone
                | Fate::Overtaken
                | Fate::Equal { .. }
                | Fate::Held { .. }
                | Fate::Skipped
                | Fate::Yields { .. }
                | Fate::Failed { .. } => continue,
            };
            for row in earlier {
                let one = Replaced {
                    key: key_to_json(&crate::layout::pick(row, &form.key)),
                    earlier: key_to_json(row),
                };
                if seen.insert(json!(one.earlier).to_string()) {
                    replaced.push(one);
                }
            }
        }
        let written: Vec<_> = planned
            .iter()
            .filter(|plan| plan.fate.writes() && !matches!(plan.fate, Fate::Remove { .. }))
            .map(|plan| (plan.key.clone(), Some(RowDigest::of(&plan.now))))
            .collect();
        let (writes, digests) = pack(&written);
        let table = form.target_table.clone();
        json!(Intent {
            table,
            insert,
            existed,
            left,
            open,
            replaced,
            overwritten,
            moved,
            apart,
            writes,
            digests
        })
    }

    async fn probe_one(&self, unit: &Unit) -> Result<Probed, Halt> {
        let span = SpanData::of(unit)?;
        let draft = self.surveyor.draft(&span).await?;
        let past = Past::of(unit, false)?;
        let Placed { form, mut planned, told } = self.placed(&span, draft, &past).await?;
        planned.extend(self.surveyor.left_behind(&form, &planned, &past).await?);
        let ours = |plan: &Planned| plan.fate == Fate::Equal { ours: true } && !past.knows(plan);
        // A write is atomic: when no row stands as it would have left it, it left no trace, and
        // what is in its place was put there by somebody else (a webhook, most likely).
        let lost = !planned.iter().any(ours)
            && planned.iter().any(|plan| matches!(plan.fate, Fate::Failed { .. }));
        if lost || planned.iter().any(|plan| plan.fate.writes()) {
            // A part may be there: of a request that was isolated by halves, or all of it with
            // references open that could be filled now. A rollback has to know of it even if
            // nothing more is ever written.
            let there: Vec<Planned> = planned.into_iter().filter_map(Planned::there).collect();
            let some = there.iter().any(ours);
            // Of a span that is written in parts one may have met a race while others came through.
            let races = if some { self.attempt(unit).races } else { 0 };
            self.remember(unit, Some(Attempt { void: !some, races }));
            if some {
                let mut done = summary::done(&form, &there, &past, true)?;
                placed::note(&mut done, told.as_ref())?;
                done.rest = None;
                return Ok(Probed::Part(done));
            }
            return Ok(Probed::Absent);
        }
        self.remember(unit, None);
        let mut done = summary::done(&form, &planned, &past, true)?;
        placed::note(&mut done, told.as_ref())?;
        Ok(Probed::Done(done))
    }
}

fn writes(planned: &[Planned], past: &Past) -> Vec<WriteRow> {
    planned
        .iter()
        .filter_map(|plan| {
            let way = match &plan.fate {
                Fate::Insert => Way::Insert,
                Fate::Update { earlier }
                | Fate::Complete { earlier }
                | Fate::Overwrite { earlier } => Way::Update(earlier.clone()),
                Fate::Displace { earlier } => Way::Displace(earlier.clone()),
                Fate::Remove { earlier } => Way::Remove(earlier.clone()),
                Fate::Equal { .. }
                | Fate::Gone
                | Fate::Overtaken
                | Fate::Held { .. }
                | Fate::Skipped
                | Fate::Yields { .. }
                | Fate::Failed { .. } => return None,
            };
            let ours = match &plan.fate {
                Fate::Complete { earlier } | Fate::Remove { earlier } => {
                    Some(Ours { digest: RowDigest::of(earlier), open: plan.was_open })
                }
                // What was written of it, whatever it is by now.
                Fate::Overwrite { .. } => {
                    past.digest(&plan.key).map(|digest| Ours { digest, open: plan.was_open })
                }
                Fate::Insert
                | Fate::Update { .. }
                | Fate::Displace { .. }
                | Fate::Equal { .. }
                | Fate::Gone
                | Fate::Overtaken
                | Fate::Held { .. }
                | Fate::Skipped
                | Fate::Yields { .. }
                | Fate::Failed { .. } => None,
            };
            Some(WriteRow {
                key: plan.key.clone(),
                row: Row::clone(&plan.now),
                way,
                mentions: Arc::clone(&plan.mentions),
                ours,
                slot: plan.handover.as_deref().map(Handover::slot),
            })
        })
        .collect()
}

impl Transition for ImportSpans {
    fn step(&self) -> Step {
        Step {
            kind: SPAN,
            way: rehome_core::Way::Forth { from: Stage::Exported, to: Stage::Imported },
            batch: 1,
            concurrency: self.concurrency,
        }
    }

    fn flight_time(&self) -> std::time::Duration {
        self.target.flight_time()
    }

    fn prepare<'a>(
        &'a self,
        units: &'a [Unit],
        pass: Pass,
    ) -> BoxFuture<'a, Result<Vec<Prepared>, Halt>> {
        Box::pin(async move {
            let mut prepared = Vec::with_capacity(units.len());
            for unit in units {
                prepared.push(self.prepare_one(unit, pass).await?);
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
            let before = self.attempt(unit);
            let first = payload.first;
            let (outcome, raced) = apply::apply(self.target.as_ref(), *payload).await;
            self.remember(
                unit,
                match &outcome {
                    Outcome::Done(done) if done.rest.is_none() => None,
                    Outcome::NotSent { .. } | Outcome::Rejected(_) => Some(Attempt {
                        void: first,
                        races: if raced { before.races + 1 } else { before.races },
                    }),
                    Outcome::Unknown { .. } if raced => {
                        Some(Attempt { void: false, races: before.races + 1 })
                    }
                    Outcome::Done(_) | Outcome::Unknown { .. } => Some(Attempt::default()),
                },
            );
            outcome
        })
    }

    fn probe<'a>(&'a self, units: &'a [Unit]) -> BoxFuture<'a, Result<Vec<Probed>, Halt>> {
        Box::pin(async move {
            let mut probed = Vec::with_capacity(units.len());
            for unit in units {
                probed.push(self.probe_one(unit).await?);
            }
            Ok(probed)
        })
    }
}
