//! The engine: lanes side by side over one journal, until nothing moves any more.
//!
//! Each source has a lane that reads it, each transition a lane that moves units (see `lane`).
//! Lanes know nothing of each other: they react to what the journal holds. So creation starts
//! while the export still pages, and rows follow as soon as the users that they mention are
//! mapped. The engine itself only watches for the moment when nothing moves, and then decides
//! whether that is the end:
//!
//! 1. If a hold's reason is gone, the held units are released, and the lanes go on.
//! 2. If units still wait for others within this run, those others will not come any more: the
//!    *final pass* asks their workers once more, who turn the wait into a journaled hold.
//! 3. Otherwise the run is over.
//!
//! Every choice between several things that are ready is made in a written order (`biased`), so
//! that under a paused clock the same seed gives the same run.
//!
//! Nothing here grows with the number of units: queues, waits and doubts are bounded by batch and
//! concurrency, and everything else is read from the journal when it is needed.

mod board;
mod course;
mod doubt;
mod export;
mod interrupt;
mod lane;
mod perform;
mod waiting;

#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinSet;

pub use interrupt::Interrupt;

use crate::backoff::Backoff;
use crate::halt::Halt;
use crate::journal::{Change, Journal, Reader, Selection};
use crate::progress::{Progress, Watcher};
use crate::state::Event;
use crate::transition::{Pass, Source, Transition, Way};
use crate::unit::{Kind, UnitId};

/// How a run behaves.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Which units it moves.
    pub selection: Selection,
    /// Delays between attempts that did not go through.
    pub backoff: Backoff,
    /// How long nothing but trouble may come back before the run gives up (resumable).
    pub patience: Duration,
    /// Where jitter comes from.
    pub seed: u64,
    /// Settle what earlier runs left in doubt, and take nothing else: what a run in the other
    /// direction asks for first.
    pub only_doubts: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            selection: Selection::All,
            backoff: Backoff::default(),
            patience: Duration::from_secs(120),
            seed: 0,
            only_doubts: false,
        }
    }
}

/// How a run ended when nothing went wrong.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Finish {
    /// Nothing can move any more: done, or what is left is failed, held or skipped.
    Quiescent,
    /// It was asked to stop.
    Interrupted,
}

/// What the lanes are told besides what they see in the journal.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Orders {
    pass: Pass,
    /// Raised when units behind a lane's cursor may be ready again.
    round: u64,
}

/// What all lanes share.
struct Shared {
    journal: Arc<Journal>,
    reader: Reader,
    watcher: Watcher,
    settings: Settings,
    board: board::Board,
    trouble: perform::Trouble,
    orders: watch::Sender<Orders>,
    /// Kinds whose source has not come to its end in this run.
    unread: watch::Sender<BTreeSet<Kind>>,
    stop: Interrupt,
}

impl Shared {
    fn is_stopping(&self) -> bool {
        self.stop.is_thrown()
    }

    async fn stopping(&self) {
        self.stop.thrown().await;
    }

    fn stop(&self) {
        self.stop.throw();
    }

    fn orders(&self) -> watch::Receiver<Orders> {
        self.orders.subscribe()
    }
}

/// Sources and transitions over one journal.
pub struct Engine {
    journal: Arc<Journal>,
    sources: Vec<Arc<dyn Source>>,
    transitions: Vec<Arc<dyn Transition>>,
    watcher: Watcher,
    settings: Settings,
}

impl std::fmt::Debug for Engine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Engine")
            .field("journal", &self.journal)
            .field("sources", &self.sources.len())
            .field("transitions", &self.transitions.len())
            .finish_non_exhaustive()
    }
}

impl Engine {
    /// An engine without any work yet.
    pub fn new(journal: Arc<Journal>, watcher: Watcher, settings: Settings) -> Self {
        Self { journal, sources: Vec::new(), transitions: Vec::new(), watcher, settings }
    }

    /// Adds a source.
    #[must_use]
    pub fn source(mut self, source: Arc<dyn Source>) -> Self {
        self.sources.push(source);
        self
    }

    /// Adds a transition.
    #[must_use]
    pub fn transition(mut self, transition: Arc<dyn Transition>) -> Self {
        self.transitions.push(transition);
        self
    }

    /// Runs until nothing moves any more, or until `interrupt` is thrown.
    ///
    /// # Errors
    /// The first [`Halt`] of any lane. The journal is consistent then, and the same call goes on.
    pub async fn run(&self, interrupt: &Interrupt) -> Result<Finish, Halt> {
        self.watcher.note(&Progress::Started { resumed: self.journal.resumed() });
        let lanes = self.sources.len() + self.transitions.len();
        let shared = Arc::new(Shared {
            journal: Arc::clone(&self.journal),
            reader: self.journal.reader()?.select(self.settings.selection.clone()),
            watcher: Arc::clone(&self.watcher),
            board: board::Board::new(lanes),
            trouble: perform::Trouble::new(self.settings.patience),
            orders: watch::Sender::new(Orders { pass: Pass::Patient, round: 0 }),
            unread: watch::Sender::new(self.sources.iter().map(|source| source.kind()).collect()),
            settings: self.settings.clone(),
            stop: Interrupt::default(),
        });
        if self.goes_forth() {
            self.release(&shared, Reader::held_for_a_scope).await?;
            self.release(&shared, Reader::rolled_back).await?;
        }
        let mut tasks = JoinSet::new();
        for (index, source) in self.sources.iter().enumerate() {
            tasks.spawn(export::run(Arc::clone(&shared), index, Arc::clone(source)));
        }
        for (index, transition) in self.transitions.iter().enumerate() {
            let index = self.sources.len() + index;
            tasks.spawn(lane::run(Arc::clone(&shared), index, Arc::clone(transition)));
        }
        let finish = self.watch_over(&shared, &mut tasks, interrupt).await;
        shared.stop();
        // Every lane is heard out; the first trouble is the one that is told.
        let mut result = finish;
        while let Some(ended) = tasks.join_next().await {
            result = match (result, flatten(ended)) {
                (Ok(_), Err(halt)) => Err(halt),
                (result, _) => result,
            };
        }
        // A barrier: what an abandoned performer had queued is in the journal before the caller
        // can look at it, or start the next run.
        self.journal.submit(Vec::new()).await?;
        result
    }

    async fn watch_over(
        &self,
        shared: &Shared,
        tasks: &mut JoinSet<Result<(), Halt>>,
        interrupt: &Interrupt,
    ) -> Result<Finish, Halt> {
        let mut changes = shared.board.changes();
        let mut version = self.journal.version();
        let mut last_final = None;
        loop {
            let now = *version.borrow_and_update();
            let round = shared.orders.borrow().round;
            if let Some(waiting) = shared.board.quiescent(now, round)
                && !self.push_on(shared, waiting, now, &mut last_final).await?
            {
                return Ok(Finish::Quiescent);
            }
            tokio::select! {
                biased;
                () = interrupt.thrown() => {
                    self.watcher.note(&Progress::Interrupted);
                    return Ok(Finish::Interrupted);
                }
                Some(ended) = tasks.join_next() => flatten(ended)?,
                _ = changes.changed() => {}
                _ = version.changed() => version.mark_changed(),
            }
        }
    }

    /// Whether anything is to move forth in this run: what waits for that is then released.
    fn goes_forth(&self) -> bool {
        let forth = |transition: &Arc<dyn Transition>| match transition.step().way {
            Way::Forth { .. } => true,
            Way::Back { .. } => false,
        };
        !self.settings.only_doubts && self.transitions.iter().any(forth)
    }

    /// Nothing moves. Finds a reason for something to move again; `false` when there is none.
    async fn push_on(
        &self,
        shared: &Shared,
        waiting: usize,
        now: u64,
        last_final: &mut Option<u64>,
    ) -> Result<bool, Halt> {
        if self.goes_forth() && self.release(shared, Reader::releasable).await? {
            shared.orders.send_modify(|orders| orders.round += 1);
            return Ok(true);
        }
        if waiting == 0 {
            return Ok(false);
        }
        if *last_final == Some(now) {
            return Err(Halt::Bug(format!("{waiting} units wait for something that never comes")));
        }
        *last_final = Some(now);
        shared.orders.send_modify(|orders| {
            orders.pass = Pass::Final;
            orders.round += 1;
        });
        Ok(true)
    }

    /// Releases the held units that `which` names. Returns whether there were any.
    async fn release(&self, shared: &Shared, which: Which) -> Result<bool, Halt> {
        const BATCH: usize = 500;
        let mut after = UnitId(0);
        let mut released = 0;
        loop {
            let units = which(&shared.reader, after, BATCH)?;
            let Some(last) = units.last() else { break };
            after = *last;
            released += units.len() as u64;
            let changes = units.iter().map(|unit| Change::step(*unit, Event::Released)).collect();
            self.journal.submit(changes).await?;
        }
        if released > 0 {
            self.watcher.note(&Progress::Released { units: released });
        }
        Ok(released > 0)
    }
}

/// A question for held units: those with numbers above the given one, so many at most.
type Which = fn(&Reader, UnitId, usize) -> Result<Vec<UnitId>, crate::journal::Error>;

fn flatten(ended: Result<Result<(), Halt>, tokio::task::JoinError>) -> Result<(), Halt> {
    ended.unwrap_or_else(|error| Err(Halt::Bug(format!("a lane ended early: {error}"))))
}
