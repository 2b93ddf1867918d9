//! Workers of which each test says only what matters to it, and journals in which things are
//! exported already.

use std::future::ready;

use super::*;
use crate::journal::Change;

type Decided = BoxFuture<'static, Result<Vec<Prepared>, Halt>>;
type Prepare = dyn Fn(&[Unit], Pass) -> Decided + Send + Sync;
type Apply = dyn Fn(&str) -> BoxFuture<'static, Outcome> + Send + Sync;
type Together = dyn Fn(&[String]) -> Vec<Outcome> + Send + Sync;
type Probe = dyn Fn() -> Probed + Send + Sync;

/// Takes things from `exported` to `created`, one effect at a time, and every effect goes well;
/// unless something else is said.
pub(super) struct Scripted {
    step: Step,
    linger: Duration,
    flight: Duration,
    prepare: Box<Prepare>,
    apply: Box<Apply>,
    together: Option<Box<Together>>,
    probe: Box<Probe>,
}

impl Scripted {
    /// Takes so many units at once.
    pub(super) fn new(batch: usize) -> Self {
        let way = Way::Forth { from: Stage::Exported, to: Stage::Created };
        let script = Self {
            step: Step { kind: THING, way, batch, concurrency: 1 },
            linger: Duration::ZERO,
            flight: Duration::ZERO,
            prepare: Box::new(|_, _| Box::pin(ready(Ok(Vec::new())))),
            apply: Box::new(|key| Box::pin(ready(Outcome::Done(done(key))))),
            together: None,
            probe: Box::new(|| Probed::Absent),
        };
        script.deciding(|_, _| Prepared::Effect { intent: json!({}), payload: Box::new(()) })
    }

    pub(super) fn going(mut self, way: Way) -> Self {
        self.step.way = way;
        self
    }

    pub(super) fn lingering(mut self, linger: Duration) -> Self {
        self.linger = linger;
        self
    }

    pub(super) fn flying(mut self, flight: Duration) -> Self {
        self.flight = flight;
        self
    }

    /// What it says of a whole batch.
    pub(super) fn preparing(
        mut self,
        prepare: impl Fn(&[Unit], Pass) -> Decided + Send + Sync + 'static,
    ) -> Self {
        self.prepare = Box::new(prepare);
        self
    }

    /// What it says of each unit.
    pub(super) fn deciding(
        self,
        decide: impl Fn(&Unit, Pass) -> Prepared + Send + Sync + 'static,
    ) -> Self {
        self.preparing(move |units, pass| {
            let decided = units.iter().map(|unit| decide(unit, pass)).collect();
            Box::pin(ready(Ok(decided)))
        })
    }

    /// What becomes of the effect on the unit of a key, and after how long.
    pub(super) fn applying<F: Future<Output = Outcome> + Send + 'static>(
        mut self,
        apply: impl Fn(&str) -> F + Send + Sync + 'static,
    ) -> Self {
        self.apply = Box::new(move |key| Box::pin(apply(key)));
        self
    }

    /// What becomes of the effects on the units of a batch, in one request.
    pub(super) fn applying_together(
        mut self,
        apply: impl Fn(&[String]) -> Vec<Outcome> + Send + Sync + 'static,
    ) -> Self {
        self.together = Some(Box::new(apply));
        self
    }

    /// What a probe finds.
    pub(super) fn probing(mut self, probe: impl Fn() -> Probed + Send + Sync + 'static) -> Self {
        self.probe = Box::new(probe);
        self
    }
}

impl Transition for Scripted {
    fn step(&self) -> Step {
        self.step.clone()
    }

    fn linger(&self) -> Duration {
        self.linger
    }

    fn flight_time(&self) -> Duration {
        self.flight
    }

    fn prepare<'a>(
        &'a self,
        units: &'a [Unit],
        pass: Pass,
    ) -> BoxFuture<'a, Result<Vec<Prepared>, Halt>> {
        (self.prepare)(units, pass)
    }

    fn apply<'a>(&'a self, unit: &'a Unit, _: Payload) -> BoxFuture<'a, Outcome> {
        (self.apply)(&unit.source_key)
    }

    fn joint(&self) -> bool {
        self.together.is_some()
    }

    fn apply_joint<'a>(
        &'a self,
        units: &'a [Unit],
        payloads: Vec<Payload>,
    ) -> BoxFuture<'a, Vec<Outcome>> {
        assert_eq!(units.len(), payloads.len());
        assert!(units.iter().all(|unit| unit.intent.is_some()));
        let keys: Vec<_> = units.iter().map(|unit| unit.source_key.clone()).collect();
        match &self.together {
            Some(together) => Box::pin(ready(together(&keys))),
            None => Box::pin(async move {
                let mut outcomes = Vec::new();
                for key in &keys {
                    outcomes.push((self.apply)(key).await);
                }
                outcomes
            }),
        }
    }

    fn probe<'a>(&'a self, units: &'a [Unit]) -> BoxFuture<'a, Result<Vec<Probed>, Halt>> {
        Box::pin(ready(Ok(units.iter().map(|_| (self.probe)()).collect())))
    }
}

/// A journal in which so many things (at most fifty) are exported. It commits inline, so that
/// virtual time is exact.
pub(super) async fn exported(dir: &tempfile::TempDir, count: usize) -> Arc<Journal> {
    let journal = open_inline(dir);
    let page = Things { kind: THING, count }.next_page(None).await.unwrap();
    let Page { units, cursor, done, total } = page;
    let page = Change::Page { kind: THING, units, cursor, done, total };
    journal.submit(vec![page]).await.unwrap();
    journal
}

/// An engine with this worker alone.
pub(super) fn alone(journal: &Arc<Journal>, worker: Scripted) -> Engine {
    Engine::new(Arc::clone(journal), Arc::new(Unwatched), Settings::default())
        .transition(Arc::new(worker))
}
