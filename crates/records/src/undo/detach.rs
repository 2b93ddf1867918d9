//! The worker that empties references within a circle, so that its rows can go one after the
//! other.
//!
//! Two tables that refer to each other, or a tree whose branches lie in different spans, have no
//! order in which whole spans could go. As on the way forth, a reference that may be NULL is
//! emptied first. The journal then knows the rows as they are now, with the reference open; a
//! forward run would complete them again.

use std::any::Any;
use std::collections::{BTreeSet, HashMap};
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex};

use futures::future::BoxFuture;
use rehome_core::{
    Done, Halt, Outcome, Pass, Prepared, Probed, Stage, Step, Transition, Unit, UnitId, Way,
};

use super::effect::SpanEffect;
use super::intent::UndoIntent;
use super::look::look;
use super::plan::RowPlan;
use super::probe::probe;
use super::remove::settle_write;
use super::statements::{Undoing, deferred, statements};
use crate::database::{Statement, WriteDatabase};
use crate::import::KeySet;
use crate::import::digests::RowDigest;
use crate::layout::Form;
use crate::misdirected::misdirected;
use crate::quiet;
use crate::span::SPAN;
use crate::value::Value;

/// Empties the references of one table that would keep rows of ours from going.
pub struct DetachSpans {
    target: Arc<dyn WriteDatabase>,
    plan: Arc<RowPlan>,
    table: String,
    concurrency: usize,
    races: Mutex<HashMap<UnitId, u32>>,
    moved: AtomicU64,
}

/// What `apply` needs.
struct Payload {
    form: Form,
    request: Vec<Statement>,
    done: Done,
}

/// The columns of the references that can be emptied.
pub(super) fn columns(form: &Form) -> BTreeSet<usize> {
    form.parents
        .iter()
        .filter(|parent| parent.circle && parent.nullable)
        .flat_map(|parent| parent.columns.iter().copied())
        .collect()
}

impl DetachSpans {
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
        }
    }

    async fn prepare_one(&self, unit: &Unit) -> Result<Prepared, Halt> {
        let Some(effect) = SpanEffect::of(unit)? else {
            return Ok(Prepared::Leave);
        };
        let form = effect.span.form(self.plan.layout())?;
        let columns = columns(form);
        let tied: BTreeSet<i64> = self
            .plan
            .scratch()
            .outer_links(unit.id)?
            .into_iter()
            .filter(|(_, fk)| {
                form.parents.get(*fk).is_some_and(|parent| parent.circle && parent.nullable)
            })
            .map(|(id, _)| id)
            .collect();
        if tied.is_empty() {
            return Ok(Prepared::Leave);
        }
        let keys: Vec<Vec<Value>> = self
            .plan
            .scratch()
            .of_unit(unit.id)?
            .into_iter()
            .filter(|item| tied.contains(&item.id))
            .map(|item| item.key)
            .collect();
        let looked = look(self.target.as_ref(), form, &keys, &[]).await?;
        let mut done = effect.done.clone();
        let mut digests: HashMap<Vec<Value>, Option<RowDigest>> =
            done.rows()?.into_iter().collect();
        let mut undoing = Undoing::default();
        let mut detached = Vec::new();
        for (key, row) in keys.into_iter().zip(looked.rows) {
            let (Some(row), Some(digest)) = (row, digests.get_mut(&key)) else {
                continue;
            };
            // One that was changed stays, and what it refers to with it.
            if !self.plan.options().force && *digest != Some(RowDigest::of(&row)) {
                continue;
            }
            let mut becomes = row.clone();
            for column in &columns {
                if let Some(cell) = becomes.get_mut(*column) {
                    *cell = Value::Null;
                }
            }
            if becomes == row {
                continue;
            }
            *digest = Some(RowDigest::of(&becomes));
            undoing.update.push((row, becomes));
            detached.push(key);
        }
        if undoing.is_empty() {
            return Ok(Prepared::Leave);
        }
        done.set_rows(&digests.into_iter().collect::<Vec<_>>());
        let mut open = done.open.keys()?;
        open.extend(detached.iter().cloned());
        done.open = KeySet::new(&open);
        let intent = UndoIntent::Detach { detached: KeySet::new(&detached), after: done };
        let mut request = vec![deferred()];
        request.extend(statements(form, &undoing, self.target.limits()));
        let payload = Payload { form: form.clone(), request, done: intent.done()? };
        Ok(Prepared::Effect { intent: intent.json()?, payload: Box::new(payload) })
    }
}

impl Transition for DetachSpans {
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
            settle_write(&self.races, unit, written, done, &self.moved)
        })
    }

    fn probe<'a>(&'a self, units: &'a [Unit]) -> BoxFuture<'a, Result<Vec<Probed>, Halt>> {
        Box::pin(async move {
            let mut probed = Vec::with_capacity(units.len());
            for unit in units {
                probed.push(probe(self.target.as_ref(), self.plan.layout(), unit).await?);
            }
            Ok(probed)
        })
    }
}
