//! The step from `mapped` to `imported` when there is nothing to import: without databases only
//! Clerk is migrated, and users pass at once.

use std::any::Any;

use futures::future::BoxFuture;
use rehome_core::{
    Done, Halt, Kind, Outcome, Pass, Prepared, Probed, Stage, Step, Transition, Unit, Way,
};

/// Moves units of a kind from `mapped` to `imported` without any effect.
#[derive(Debug)]
pub(crate) struct Passage {
    kind: Kind,
}

impl Passage {
    pub(crate) fn new(kind: Kind) -> Self {
        Self { kind }
    }
}

impl Transition for Passage {
    fn step(&self) -> Step {
        let way = Way::Forth { from: Stage::Mapped, to: Stage::Imported };
        Step { kind: self.kind.clone(), way, batch: 500, concurrency: 1 }
    }

    fn prepare<'a>(
        &'a self,
        units: &'a [Unit],
        _: Pass,
    ) -> BoxFuture<'a, Result<Vec<Prepared>, Halt>> {
        Box::pin(
            async move { Ok(units.iter().map(|_| Prepared::Advance(Done::default())).collect()) },
        )
    }

    fn apply<'a>(&'a self, _: &'a Unit, _: Box<dyn Any + Send + Sync>) -> BoxFuture<'a, Outcome> {
        // `prepare` never asks for an effect; should it ever, nothing happens and nothing is lost.
        Box::pin(async {
            let reason = "there is nothing to import".to_owned();
            Outcome::NotSent { reason, retry_after: None, halt: None }
        })
    }

    fn probe<'a>(&'a self, units: &'a [Unit]) -> BoxFuture<'a, Result<Vec<Probed>, Halt>> {
        Box::pin(async move { Ok(units.iter().map(|_| Probed::Absent).collect()) })
    }
}
