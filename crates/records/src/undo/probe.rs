//! What became of an undo whose answer was lost. Needs no plan: the intent says it all.

use std::any::Any;
use std::collections::HashMap;
use std::sync::Arc;

use futures::future::BoxFuture;
use rehome_core::{Halt, Outcome, Pass, Prepared, Probed, Stage, Step, Transition, Unit, Way};

use super::effect::SpanEffect;
use super::intent::UndoIntent;
use super::look::look;
use crate::database::ReadDatabase;
use crate::import::digests::RowDigest;
use crate::layout::{Form, Layout};
use crate::misdirected::misdirected;
use crate::span::SPAN;
use crate::value::Value;

/// Settles undos of spans that an earlier run left in doubt, and does nothing else: for an engine
/// run over doubts only, before a plan is made.
pub struct SettleUndos {
    target: Arc<dyn ReadDatabase>,
    layout: Arc<Layout>,
}

impl SettleUndos {
    /// A worker for the spans of every table.
    pub fn new(target: Arc<dyn ReadDatabase>, layout: Arc<Layout>) -> Self {
        Self { target, layout }
    }
}

/// What the target says about the undo of one span.
pub(super) async fn probe(
    target: &dyn ReadDatabase,
    layout: &Layout,
    unit: &Unit,
) -> Result<Probed, Halt> {
    let intent = UndoIntent::of(unit)?;
    let Some(effect) = SpanEffect::of(unit)? else {
        return Err(Halt::Bug(format!("{} has no effect to take back", unit.source_key)));
    };
    let form = effect.span.form(layout)?;
    let happened = match &intent {
        UndoIntent::Remove { .. } => removed(target, form, &effect, &intent).await?,
        UndoIntent::Detach { detached, .. } => {
            let rows = look(target, form, &detached.keys()?, &[]).await?.rows;
            let columns = super::detach::columns(form);
            let empty =
                |row: &Vec<Value>| columns.iter().all(|at| row.get(*at).is_none_or(Value::is_null));
            rows.iter().any(Option::is_some) && rows.iter().flatten().all(empty)
        }
    };
    Ok(if happened { Probed::Done(intent.done()?) } else { Probed::Absent })
}

/// Whether rows went, and others came: none of those that were to go is there, none that was to
/// become an earlier row is still as this migration wrote it.
async fn removed(
    target: &dyn ReadDatabase,
    form: &Form,
    effect: &SpanEffect,
    intent: &UndoIntent,
) -> Result<bool, Halt> {
    let UndoIntent::Remove { removed, restored, put_back, .. } = intent else {
        return Ok(false);
    };
    let back = put_back.to_set()?;
    let (mut changed, away): (Vec<_>, Vec<_>) =
        removed.keys()?.into_iter().partition(|key| back.contains(key));
    changed.extend(restored.keys()?);
    if look(target, form, &away, &[]).await?.rows.iter().any(Option::is_some) {
        return Ok(false);
    }
    let digests: HashMap<_, _> = effect.done.rows()?.into_iter().collect();
    let there = look(target, form, &changed, &[]).await?.rows;
    let as_written = changed.iter().zip(&there).any(|(key, row)| {
        row.as_ref()
            .is_some_and(|row| digests.get(key).copied().flatten() == Some(RowDigest::of(row)))
    });
    if as_written {
        return Ok(false);
    }
    // With nothing but rows to put back, only their being there tells.
    if removed.is_empty() && restored.is_empty() {
        let there = look(target, form, &put_back.keys()?, &[]).await?.rows;
        return Ok(there.iter().all(Option::is_some));
    }
    Ok(true)
}

impl Transition for SettleUndos {
    fn step(&self) -> Step {
        let way = Way::Back { to: Stage::Exported, scope: None };
        Step { kind: SPAN, way, batch: 1, concurrency: 1 }
    }

    fn prepare<'a>(
        &'a self,
        units: &'a [Unit],
        _pass: Pass,
    ) -> BoxFuture<'a, Result<Vec<Prepared>, Halt>> {
        Box::pin(async move { Ok(units.iter().map(|_| Prepared::Leave).collect()) })
    }

    fn apply<'a>(
        &'a self,
        _unit: &'a Unit,
        _payload: Box<dyn Any + Send + Sync>,
    ) -> BoxFuture<'a, Outcome> {
        Box::pin(async { misdirected() })
    }

    fn probe<'a>(&'a self, units: &'a [Unit]) -> BoxFuture<'a, Result<Vec<Probed>, Halt>> {
        Box::pin(async move {
            let mut probed = Vec::with_capacity(units.len());
            for unit in units {
                probed.push(probe(self.target.as_ref(), &self.layout, unit).await?);
            }
            Ok(probed)
        })
    }
}
