//! A lane: one transition, its queue, and the effects that it has under way.
//!
//! The lane itself only reads, decides and hands out; performers (see `super::perform`) carry
//! the effects out beside it, so that preparing the next batch never leaves the pacer idle.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Mutex, mpsc};
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::board::Report;
use super::doubt::Doubts;
use super::perform::{self, Feedback, Task};
use super::waiting::{self, Waiting};
use super::{Orders, Shared, course};
use crate::halt::Halt;
use crate::journal::{Change, Detail};
use crate::outcome::Done;
use crate::progress::Progress;
use crate::state::{Condition, Event, State};
use crate::transition::{Pass, Prepared, Probed, Step, Transition, Way};
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

/// Whether a decision can be taken on this way.
fn belongs(way: &Way, prepared: &Prepared) -> bool {
    match (way, prepared) {
        (
            Way::Forth { .. },
            Prepared::Advance(_)
            | Prepared::Effect { .. }
            | Prepared::Wait(_)
            | Prepared::Hold { .. }
            | Prepared::Fail { .. }
            | Prepared::Skip(_),
        )
        | (
            Way::Back { .. },
            Prepared::Advance(_)
            | Prepared::Effect { .. }
            | Prepared::Fail { .. }
            | Prepared::Leave,
        ) => true,
        (Way::Forth { .. }, Prepared::Leave)
        | (Way::Back { .. }, Prepared::Wait(_) | Prepared::Hold { .. } | Prepared::Skip(_)) => {
            false
        }
    }
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
    let doubts = Doubts::new(transition.settle_time());
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
                return Ok(());
            };
            after = last.id;
            for unit in &found {
                self.doubts.add(unit.id);
            }
        }
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

    /// Takes a batch of ready units and decides about each. Returns whether there was any.
    async fn take(&mut self) -> Result<bool, Halt> {
        if self.shared.settings.only_doubts {
            self.again.clear();
            return Ok(false);
        }
        for unit in self.waiting.take_ready(&self.shared.reader)? {
            self.again.insert(unit, Instant::now());
        }
        let mut units = self.take_again()?;
        let batch = self.step.batch.max(1);
        // What waits takes memory: with enough of it, no more is taken until some of it goes on.
        let room = (batch * 4).max(64).saturating_sub(self.waiting.len() + self.again.len());
        let wanted = batch.saturating_sub(units.len()).min(room);
        if wanted > 0 {
            self.scan(wanted, &mut units)?;
        }
        if units.is_empty() {
            return Ok(false);
        }
        self.shared.board.report(self.index, Report::Busy);
        self.decide(units).await?;
        Ok(true)
    }

    /// Adds units that are not in hand, going on where the last scan ended. Units reach a stage
    /// in any order, so on the way forth the scan starts over once before it says that there are
    /// none. On the way back nothing becomes ready meanwhile, and each unit is offered once.
    fn scan(&mut self, wanted: usize, units: &mut Vec<Unit>) -> Result<(), Halt> {
        let taken: BTreeSet<UnitId> = units.iter().map(|unit| unit.id).collect();
        // In the order of the scan: behind the cursor first, then from the beginning.
        let mut found = Vec::new();
        let mut seen = BTreeSet::new();
        let mut start = self.cursor;
        let mut cursor = self.cursor;
        while found.len() < wanted {
            let ids = self.next_ids(cursor, wanted)?;
            let Some(last) = ids.last() else {
                if start == UnitId(0) || course::from(&self.step.way).is_none() {
                    break;
                }
                // Once more, from the beginning to where this scan began.
                start = UnitId(0);
                cursor = UnitId(0);
                continue;
            };
            cursor = *last;
            let free = ids.into_iter().filter(|id| {
                !taken.contains(id)
                    && seen.insert(*id)
                    && !self.handed.contains(id)
                    && !self.waiting.contains(*id)
                    && !self.again.contains_key(id)
                    && !self.doubts.contains(*id)
            });
            let free: Vec<_> = free.take(wanted - found.len()).collect();
            found.extend(free);
        }
        if !found.is_empty() && found.len() < wanted && self.lingers() {
            return Ok(());
        }
        self.lingering = None;
        match (found.last(), &self.step.way) {
            (Some(last), _) => self.cursor = *last,
            (None, Way::Forth { .. }) => self.cursor = UnitId(0),
            (None, Way::Back { .. }) => {}
        }
        units.extend(self.shared.reader.load(&found)?);
        Ok(())
    }

    fn next_ids(&self, after: UnitId, wanted: usize) -> Result<Vec<UnitId>, Halt> {
        let reader = &self.shared.reader;
        let kind = &self.step.kind;
        Ok(match &self.step.way {
            Way::Forth { from, .. } => reader.ready_ids(kind, *from, after, wanted)?,
            Way::Back { to, scope } => {
                reader.undoable_ids(kind, *to, scope.as_deref(), after, wanted)?
            }
        })
    }

    /// Whether a unit that was put off is still one of this lane's.
    fn is_ours(&self, unit: &Unit) -> bool {
        match &self.step.way {
            Way::Forth { from, .. } => unit.state == State::new(*from, Condition::Ready),
            // Put off by an undo that did not go through, which leaves it ready.
            Way::Back { .. } => unit.state.condition == Condition::Ready,
        }
    }

    /// Whether a batch that is not full should still wait for more: until nothing was committed
    /// for a moment, and never longer than the worker allows.
    fn lingers(&mut self) -> bool {
        let allowed = self.transition.linger();
        if allowed.is_zero() {
            return false;
        }
        let now = Instant::now();
        let version = *self.shared.journal.version().borrow();
        let lingering =
            self.lingering.get_or_insert(Lingering { until: now + allowed, version, quiet: now });
        if lingering.version != version {
            lingering.version = version;
            lingering.quiet = now;
        }
        now < lingering.until && now < lingering.quiet + QUIET
    }

    fn take_again(&mut self) -> Result<Vec<Unit>, Halt> {
        let now = Instant::now();
        let due: Vec<UnitId> = self
            .again
            .iter()
            .filter(|(_, due)| **due <= now)
            .map(|(unit, _)| *unit)
            .take(self.step.batch.max(1))
            .collect();
        let mut units = Vec::with_capacity(due.len());
        for id in due {
            self.again.remove(&id);
            let unit = self.shared.reader.unit(id)?;
            if self.is_ours(&unit) {
                units.push(unit);
            }
        }
        Ok(units)
    }

    async fn decide(&mut self, units: Vec<Unit>) -> Result<(), Halt> {
        let pass = self.pass();
        let prepared = tokio::select! {
            prepared = self.transition.prepare(&units, pass) => prepared?,
            // Nothing was decided yet, so there is nothing to record.
            () = self.shared.stopping() => return Ok(()),
        };
        if prepared.len() != units.len() {
            return Err(Halt::Bug(format!(
                "{} decisions for {} units",
                prepared.len(),
                units.len()
            )));
        }
        let mut advanced: Vec<(Unit, Done)> = Vec::new();
        for (unit, prepared) in units.into_iter().zip(prepared) {
            if !belongs(&self.step.way, &prepared) {
                let id = unit.id.0;
                return Err(Halt::Bug(format!("unit {id}: a decision of the other direction")));
            }
            match prepared {
                Prepared::Advance(done) => advanced.push((unit, done)),
                Prepared::Effect { intent, payload } => {
                    let task = Task { unit, intent, payload };
                    self.hand_out(task).await?;
                }
                Prepared::Wait(wait) => {
                    if waiting::is_over(&self.shared.reader, &wait)? {
                        self.again.insert(unit.id, Instant::now());
                    } else {
                        self.waiting.add(unit.id, wait);
                    }
                }
                Prepared::Hold { waits, blocks } => {
                    let code =
                        waits.first().map_or_else(|| "held".to_owned(), |wait| wait.code.clone());
                    self.shared.journal.submit(vec![Change::hold(unit.id, waits, blocks)]).await?;
                    self.shared.watcher.note(&Progress::Held {
                        kind: unit.kind.clone(),
                        source_key: unit.source_key.clone(),
                        code,
                    });
                }
                Prepared::Fail { failure, blocks } => {
                    let event = course::failed(&self.step.way);
                    let change = Change::failure(unit.id, event, failure.clone(), blocks);
                    self.shared.journal.submit(vec![change]).await?;
                    perform::note_failure(&self.shared, &unit, failure);
                }
                Prepared::Skip(failure) => {
                    let change = Change::failure(unit.id, Event::Skipped, failure, Vec::new());
                    self.shared.journal.submit(vec![change]).await?;
                }
                Prepared::Leave => {}
            }
        }
        self.advance(advanced).await
    }

    /// Units that need no effect advance together, in one commit; one by one when two of them
    /// (or an earlier one) claim the same counterpart.
    async fn advance(&mut self, advanced: Vec<(Unit, Done)>) -> Result<(), Halt> {
        let event = course::advanced(&self.step.way);
        let to = self.step.way.to();
        let plain = advanced.iter().all(|(_, done)| done.rest.is_none());
        if plain && !advanced.is_empty() {
            let changes = advanced
                .iter()
                .flat_map(|(unit, done)| perform::changes(unit, event, done.clone()))
                .collect();
            match self.shared.journal.submit(changes).await {
                Ok(_) => {
                    self.shared.watcher.note(&Progress::Advanced {
                        kind: self.step.kind.clone(),
                        stage: to,
                        units: advanced.len() as u64,
                    });
                    return Ok(());
                }
                Err(crate::journal::Error::TargetTaken { .. }) => {}
                Err(other) => return Err(other.into()),
            }
        }
        for (unit, done) in advanced {
            perform::record_done(&self.shared, &unit, event, to, done).await?;
        }
        Ok(())
    }

    /// Gives a task to the performers, hearing them meanwhile: a full channel must not stop the
    /// feedback that empties it.
    async fn hand_out(&mut self, task: Task) -> Result<(), Halt> {
        let permit = self.tasks.clone().reserve_owned();
        tokio::pin!(permit);
        loop {
            tokio::select! {
                biased;
                () = self.shared.stopping() => return Ok(()),
                permit = &mut permit => {
                    if let Ok(permit) = permit {
                        self.handed.insert(task.unit.id);
                        permit.send(task);
                    }
                    return Ok(());
                }
                Some(feedback) = self.feedback.recv() => self.hear(feedback)?,
            }
        }
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
        let lingering = self.lingering.map(|l| l.until.min(l.quiet + QUIET));
        let next = [self.doubts.next(), self.again.values().min().copied(), lingering];
        let next = next.into_iter().flatten().min();
        let timer = async move {
            match next {
                Some(at) => tokio::time::sleep_until(at).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
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
