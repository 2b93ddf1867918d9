//! Steps without any effect: forth from `mapped` to `imported` when there is nothing to import,
//! and back from a stage whose claim does not hold any more.

use std::any::Any;

use futures::future::{BoxFuture, ready};
use rehome_core::{
    Done, Halt, Kind, Outcome, Pass, Prepared, Probed, Stage, Step, Transition, Unit, Way,
};

/// Units that are taken from one stage to another at once.
const BATCH: usize = 500;

/// Moves units of a kind without any effect.
#[derive(Debug)]
pub(crate) struct Passage {
    step: Step,
}

impl Passage {
    /// From `mapped` to `imported`: without databases only Clerk is migrated, and users pass.
    pub(crate) fn forth(kind: Kind) -> Self {
        let way = Way::Forth { from: Stage::Mapped, to: Stage::Imported };
        Self { step: Step { kind, way, batch: BATCH, concurrency: 1 } }
    }

    /// From wherever they stand back to `to`, when nothing but the claim has to go.
    pub(crate) fn back(kind: Kind, to: Stage) -> Self {
        Self {
            step: Step { kind, way: Way::Back { to, scope: None }, batch: BATCH, concurrency: 1 },
        }
    }
}

impl Transition for Passage {
    fn step(&self) -> Step {
        self.step.clone()
    }

    fn prepare<'a>(
        &'a self,
        units: &'a [Unit],
        _: Pass,
    ) -> BoxFuture<'a, Result<Vec<Prepared>, Halt>> {
        let all = units.iter().map(|_| Prepared::Advance(Done::default())).collect();
        Box::pin(ready(Ok(all)))
    }

    fn apply<'a>(&'a self, _: &'a Unit, _: Box<dyn Any + Send + Sync>) -> BoxFuture<'a, Outcome> {
        // `prepare` never asks for an effect; should it ever, nothing happens and nothing is lost.
        let reason = "there is nothing to do".to_owned();
        Box::pin(ready(Outcome::NotSent { reason, retry_after: None, halt: None }))
    }

    fn probe<'a>(&'a self, units: &'a [Unit]) -> BoxFuture<'a, Result<Vec<Probed>, Halt>> {
        Box::pin(ready(Ok(units.iter().map(|_| Probed::Absent).collect())))
    }
}
