//! Stands between the engine and every worker, and meddles: forgets outcomes, refuses, asks twice.
//!
//! Workers come through [`Wiring::worker`], all of them and of both directions, so whatever is
//! tried here is tried on each worker that there is, also on one that is added later.

use std::any::Any;
use std::collections::{BTreeMap, HashSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::future::BoxFuture;
use rehome_core::{
    Failure, Halt, Outcome, Pass, Prepared, Probed, Step, Transition, Unit, UnitId, Way,
};
use rehome_migration::wiring::Wiring;

/// What is done to the workers.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Meddling {
    /// Nothing; effects are counted.
    Watch,
    /// Every effect happens, and its outcome is forgotten once: as if the process had been killed
    /// between the two. What was asked is asked twice.
    Forget,
    /// No effect of the worker of this name happens: the target refuses each.
    Refuse(String),
}

/// A wiring that hands out meddled workers.
#[derive(Debug)]
pub struct Meddler {
    meddling: Meddling,
    effects: Arc<Mutex<BTreeMap<String, u64>>>,
}

impl Meddler {
    /// A wiring that does this to every worker.
    pub fn new(meddling: Meddling) -> Arc<Self> {
        Arc::new(Self { meddling, effects: Arc::default() })
    }

    /// How many effects each worker was asked for, by its name; zero for one without any.
    ///
    /// # Panics
    /// When a worker panicked.
    pub fn effects(&self) -> BTreeMap<String, u64> {
        self.effects.lock().expect("no worker panicked").clone()
    }
}

/// What a worker is called: its kind, its way, and the table for one that has its own.
pub fn name(step: &Step) -> String {
    match &step.way {
        Way::Forth { from, to } => format!("{} {from} to {to}", step.kind),
        Way::Back { to, scope: None } => format!("{} back to {to}", step.kind),
        Way::Back { to, scope: Some(scope) } => format!("{} of {scope} back to {to}", step.kind),
    }
}

impl Wiring for Meddler {
    fn worker(&self, worker: Arc<dyn Transition>) -> Arc<dyn Transition> {
        let name = name(&worker.step());
        self.effects.lock().expect("no worker panicked").entry(name.clone()).or_default();
        Arc::new(Meddled {
            refused: self.meddling == Meddling::Refuse(name.clone()),
            forgets: self.meddling == Meddling::Forget,
            name,
            worker,
            forgotten: Mutex::default(),
            effects: Arc::clone(&self.effects),
        })
    }
}

struct Meddled {
    worker: Arc<dyn Transition>,
    name: String,
    refused: bool,
    forgets: bool,
    forgotten: Mutex<HashSet<UnitId>>,
    effects: Arc<Mutex<BTreeMap<String, u64>>>,
}

impl Transition for Meddled {
    fn step(&self) -> Step {
        self.worker.step()
    }

    fn settle_time(&self) -> Duration {
        // The emulator shows what it has at once.
        Duration::from_millis(50)
    }

    fn linger(&self) -> Duration {
        Duration::ZERO
    }

    fn prepare<'a>(
        &'a self,
        units: &'a [Unit],
        pass: Pass,
    ) -> BoxFuture<'a, Result<Vec<Prepared>, Halt>> {
        Box::pin(async move {
            if self.forgets {
                drop(self.worker.prepare(units, pass).await?);
            }
            self.worker.prepare(units, pass).await
        })
    }

    fn apply<'a>(
        &'a self,
        unit: &'a Unit,
        payload: Box<dyn Any + Send + Sync>,
    ) -> BoxFuture<'a, Outcome> {
        Box::pin(async move {
            if self.refused {
                return Outcome::Rejected(Failure::new("meddled", "refused for the test"));
            }
            *self
                .effects
                .lock()
                .expect("no worker panicked")
                .entry(self.name.clone())
                .or_default() += 1;
            let outcome = self.worker.apply(unit, payload).await;
            let first = self.forgotten.lock().expect("no worker panicked").insert(unit.id);
            match outcome {
                Outcome::Done(_) if self.forgets && first => {
                    Outcome::Unknown { reason: "forgotten for the test".to_owned() }
                }
                Outcome::Done(_)
                | Outcome::Rejected(_)
                | Outcome::NotSent { .. }
                | Outcome::Unknown { .. } => outcome,
            }
        })
    }

    fn joint(&self) -> bool {
        assert!(!self.worker.joint(), "effects that go together are not meddled with yet");
        false
    }

    fn probe<'a>(&'a self, units: &'a [Unit]) -> BoxFuture<'a, Result<Vec<Probed>, Halt>> {
        Box::pin(async move {
            if self.forgets {
                drop(self.worker.probe(units).await?);
            }
            self.worker.probe(units).await
        })
    }
}
