//! A lane: one transition, its queue, and the effects that it has under way.
//!
//! What it takes stands in `take`, what it makes of it in `decide`. The lane itself only reads,
//! decides and hands out; performers (see `super::perform`) carry
//! the effects out beside it, so that preparing the next batch never leaves the pacer idle.

mod decide;
mod take;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Mutex, mpsc};
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::board::Report;
use super::doubt::Doubts;
use super::perform::{self, Feedback, Task};
use super::waiting::Waiting;
use super::{Orders, Shared, course};
use crate::boundary;
use crate::halt::Halt;
use crate::journal::{Change, Detail};
use crate::outcome::Done;
use crate::progress::Progress;
use crate::state::Event;
use crate::transition::{Pass, Probed, Step, Transition};
use crate::unit::{Failure, Unit, UnitId};

/// How long an idle lane rests before it looks at the journal again, at least.
const REST: Duration = Duration::from_millis(20);
/// How often an effect may be lost without a trace, in one run, before the unit fails. Intents
/// that a killed run left behind do not count: that is not the unit's fault.
const LOSSES: u32 = 12;
/// How long effects under way may take to end once the run stops. What has not ended then is in
/// doubt, which the next run settles.
const GRACE: Duration = Duration::from_secs(20);

/// Without any commit for so long, a batch is not filled up any more.
const QUIET: Duration = Duration::from_millis(300);

/// A batch that waits for more units.
#[derive(Clone, Copy, Debug)]
struct Lingering {
    until: Instant,
    version: u64,
    quiet: Instant,
}

/// Runs one transition until the engine says that the run is over.
pub(super) async fn run(
    shared: Arc<Shared>,
    index: usize,
    transition: Arc<dyn Transition>,
) -> Result<(), Halt> {
    let step = transition.step();
    let (task_sender, tasks) = mpsc::channel(step.batch.max(1));
    let (feedback_sender, feedback) = mpsc::unbounded_channel();
    let tasks = Arc::new(Mutex::new(tasks));
    let mut performers = JoinSet::new();
    for _ in 0..step.concurrency.max(1) {
        performers.spawn(perform::run(
            Arc::clone(&shared),
            Arc::clone(&transition),
            Arc::clone(&tasks),
            feedback_sender.clone(),
        ));
    }
    drop(feedback_sender);
    // A run that only settles doubts finds all of them at its start: left by dead processes.
    let flight =
        if shared.settings.only_doubts { transition.flight_time() } else { Duration::ZERO };
    let doubts = Doubts::new(transition.settle_time() + flight);
    let orders = shared.orders();
    let mut lane = Lane {
        shared: Arc::clone(&shared),
        index,
        transition,
        step,
        tasks: task_sender,
        feedback,
        orders,
        round: 0,
        cursor: UnitId(0),
        handed: BTreeSet::new(),
        waiting: Waiting::default(),
        doubts,
        again: BTreeMap::new(),
        backoff: 0,
        losses: BTreeMap::new(),
        lingering: None,
    };
    let result = lane.run().await;
    if result.is_err() {
        shared.stop();
    }
    drop(lane);
    let ended = async { while performers.join_next().await.is_some() {} };
    if tokio::time::timeout(GRACE, ended).await.is_err() {
        performers.abort_all();
    }
    shared.board.report(index, Report::Over);
    result
}

struct Lane {
    shared: Arc<Shared>,
    index: usize,
    transition: Arc<dyn Transition>,
    step: Step,
    tasks: mpsc::Sender<Task>,
    feedback: mpsc::UnboundedReceiver<Result<Feedback, Halt>>,
    orders: tokio::sync::watch::Receiver<Orders>,
    /// The round of orders that was followed last.
    round: u64,
    /// Ready units up to here were looked at.
    cursor: UnitId,
    /// Units handed out whose feedback has not come. In the journal they may still be ready.
    handed: BTreeSet<UnitId>,
    waiting: Waiting,
    doubts: Doubts,
    /// Ready units behind the cursor, to be prepared again from then on.
    again: BTreeMap<UnitId, Instant>,
    backoff: u64,
    lingering: Option<Lingering>,
    /// How often this run lost sight of an effect of a unit that is not settled since.
    losses: BTreeMap<UnitId, u32>,
}

impl Lane {
    async fn run(&mut self) -> Result<(), Halt> {
        self.find_doubts()?;
        let mut version = self.shared.journal.version();
        loop {
            if self.shared.is_stopping() {
                return self.drain().await;
            }
            let looked_at = *version.borrow_and_update();
            self.take_feedback()?;
            let round = self.follow_orders();
            let mut moved = self.probe().await?;
            moved |= self.take().await?;
            if moved {
                self.shared.board.report(self.index, Report::Busy);
                continue;
            }
            self.rest((looked_at, round), &mut version).await?;
        }
    }

    /// Intents that the run before this one left without an outcome.
    fn find_doubts(&mut self) -> Result<(), Halt> {
        let mut after = UnitId(0);
        loop {
            let Step { kind, way, batch, .. } = &self.step;
            let found = self.shared.reader.in_doubt(kind, way, after, (*batch).max(1))?;
            let Some(last) = found.last() else {
                break;
            };
            after = last.id;
            for unit in &found {
                self.doubts.add(unit.id);
            }
        }
        if !self.doubts.is_empty() && self.shared.settings.only_doubts {
            self.shared.watcher.note(&Progress::Waiting {
                reason: format!(
                    "{} requests of an earlier run have no known outcome, and may still arrive",
                    self.step.kind
                ),
                delay: Some(self.doubts.settle()),
            });
        }
        Ok(())
    }

    fn take_feedback(&mut self) -> Result<(), Halt> {
        while let Ok(feedback) = self.feedback.try_recv() {
            self.hear(feedback)?;
        }
        Ok(())
    }

    fn hear(&mut self, feedback: Result<Feedback, Halt>) -> Result<(), Halt> {
        match feedback? {
            Feedback::Settled(unit) => {
                self.handed.remove(&unit);
                self.losses.remove(&unit);
                self.backoff = 0;
            }
            Feedback::Again(unit, delay) => {
                self.handed.remove(&unit);
                let delay = delay.unwrap_or_else(|| self.next_delay());
                self.again.insert(unit, Instant::now() + delay);
            }
            Feedback::Doubt(unit) => {
                self.handed.remove(&unit);
                self.doubts.add(unit);
                *self.losses.entry(unit).or_default() += 1;
            }
        }
        Ok(())
    }

    /// The next delay of the lane's backoff; it starts over after any success.
    fn next_delay(&mut self) -> Duration {
        let backoff = self.shared.settings.backoff;
        let index = usize::try_from(self.backoff).unwrap_or(usize::MAX);
        self.backoff += 1;
        let mut delays = backoff.delays(self.shared.settings.seed ^ self.backoff);
        let last = backoff.attempts.saturating_sub(1);
        delays.nth(index.min(last)).unwrap_or(backoff.cap)
    }

    /// Looks from the beginning again when units were released, and asks everybody again when
    /// the last pass begins. Returns the round that was followed.
    fn follow_orders(&mut self) -> u64 {
        let orders = *self.orders.borrow_and_update();
        if orders.round != self.round {
            self.round = orders.round;
            self.cursor = UnitId(0);
            if orders.pass == Pass::Final {
                let now = Instant::now();
                self.again.extend(self.waiting.take_all().into_iter().map(|unit| (unit, now)));
            }
        }
        self.round
    }

    fn pass(&self) -> Pass {
        self.orders.borrow().pass
    }

    /// Probes units in doubt that are due. Returns whether anything was settled.
    async fn probe(&mut self) -> Result<bool, Halt> {
        let due = self.doubts.due(self.step.batch.max(1));
        if due.is_empty() {
            return Ok(false);
        }
        let units: Vec<Unit> =
            due.into_iter().map(|id| self.shared.reader.unit(id)).collect::<Result<_, _>>()?;
        let found = self.transition.probe(&units).await?;
        if found.len() != units.len() {
            return Err(Halt::Bug(format!("{} probes for {} units", found.len(), units.len())));
        }
        for (unit, probed) in units.iter().zip(found) {
            match probed {
                Probed::Done(done) => {
                    let way = &self.step.way;
                    let event = course::done(way);
                    perform::record_done(&self.shared, unit, event, way.to(), done).await?;
                    self.settle_doubt(unit.id);
                }
                Probed::Part(part) => {
                    self.record_part(unit, part).await?;
                    self.settle_doubt(unit.id);
                }
                Probed::Conflict(failure) => {
                    let change =
                        Change::failure(unit.id, Event::Rejected, failure.clone(), Vec::new());
                    self.shared.journal.submit(vec![change]).await?;
                    perform::note_failure(&self.shared, unit, failure);
                    self.settle_doubt(unit.id);
                }
                Probed::Absent => {
                    if self.doubts.absent(unit.id) {
                        self.believe_absence(unit).await?;
                    }
                }
            }
        }
        Ok(true)
    }

    /// A part of the effect is there. It is recorded, and the unit goes on with the rest.
    async fn record_part(&mut self, unit: &Unit, part: Done) -> Result<(), Halt> {
        let Done { target, origin, data, rest: _ } = part;
        let detail = Detail { target, origin, data, ..Detail::default() };
        let change = Change::Step { unit: unit.id, event: Event::Partly, detail };
        self.shared.journal.submit(vec![change]).await?;
        self.again.insert(unit.id, Instant::now());
        Ok(())
    }

    fn settle_doubt(&mut self, unit: UnitId) {
        self.doubts.settled(unit);
        self.losses.remove(&unit);
    }

    async fn believe_absence(&mut self, unit: &Unit) -> Result<(), Halt> {
        let detail = Detail::because("the target shows no trace of it after the settle time");
        let mut changes = vec![Change::Step { unit: unit.id, event: Event::Absent, detail }];
        // While nothing at all goes well, the unit is not to blame: patience ends the run then.
        let losses = self.losses.get(&unit.id).copied().unwrap_or(0);
        if losses >= LOSSES && !self.shared.trouble.is_on() {
            self.losses.remove(&unit.id);
            let failure = Failure::new(
                "no_answer",
                format!("{losses} attempts, each without an answer and without a trace"),
            )
            .with_hint("see `rehome show` for what was seen each time, then `rehome retry`");
            let event = course::failed(&self.step.way);
            changes.push(Change::failure(unit.id, event, failure.clone(), Vec::new()));
            self.shared.journal.submit(changes).await?;
            perform::note_failure(&self.shared, unit, failure);
        } else {
            self.shared.journal.submit(changes).await?;
            self.again.insert(unit.id, Instant::now());
        }
        Ok(())
    }

    /// Nothing to do: says so, and waits for a reason to look again.
    async fn rest(
        &mut self,
        (looked_at, round): (u64, u64),
        version: &mut tokio::sync::watch::Receiver<u64>,
    ) -> Result<(), Halt> {
        let quiet = self.handed.is_empty()
            && self.lingering.is_none()
            && self.doubts.is_empty()
            && self.again.is_empty();
        let report = if quiet {
            Report::Idle { version: looked_at, round, waiting: self.waiting.len() }
        } else {
            Report::Busy
        };
        self.shared.board.report(self.index, report);
        let lingering = self.lingering.map(|l| l.until.min(l.quiet + boundary::hasten(QUIET)));
        let next = [self.doubts.next(), self.again.values().min().copied(), lingering];
        let next = next.into_iter().flatten().min();
        let timer = async move {
            match next {
                Some(at) => tokio::time::sleep_until(at).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            () = self.shared.stopping() => {}
            () = timer => {}
            Some(feedback) = self.feedback.recv() => self.hear(feedback)?,
            _ = self.orders.changed() => {}
            _ = version.changed() => {
                version.mark_changed();
                // Others commit often: look again, but not after each of their commits.
                tokio::time::sleep(REST).await;
            }
        }
        Ok(())
    }

    /// The run stops: hears what is still under way, so that a reason to stop is not lost.
    async fn drain(&mut self) -> Result<(), Halt> {
        let deadline = Instant::now() + GRACE;
        // Performers end by themselves; their channel closes when the last one has.
        while let Ok(Some(feedback)) = tokio::time::timeout_at(deadline, self.feedback.recv()).await
        {
            self.hear(feedback)?;
        }
        Ok(())
    }
}
