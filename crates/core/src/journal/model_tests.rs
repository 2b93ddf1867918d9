//! The journal against a model of it.
//!
//! [`model`] says a second time, with plain maps and a small table, what a journal must answer.
//! [`moves`] makes up what is done to it: pages, steps that may happen and steps that may not,
//! several at once, deaths. After each move [`likeness`] asks the journal everything that a
//! caller can ask, and compares. A sequence that tells the two apart is shrunk to a short one.
//!
//! The seed is fixed: what runs here is the same everywhere. Another seed, or more cases, are for
//! a hunt by hand.

mod likeness;
mod model;
mod moves;

use std::path::PathBuf;
use std::sync::Arc;

use futures::FutureExt as _;
use futures::executor::block_on;
use futures::future::join_all;
use jiff::Timestamp;
use proptest::prelude::*;
use proptest::test_runner::{Config, RngSeed};
use proptest_state_machine::{ReferenceStateMachine, StateMachineTest, prop_state_machine};

use super::{Ack, Change, Error, Journal, Reader, Setup, check_replay};
use crate::clock::Clock;
use crate::state::Event;
use crate::unit::UnitId;
use model::{Model, Refusal};
use moves::Move;

prop_state_machine! {
    #![proptest_config(Config {
        cases: 48,
        rng_seed: RngSeed::Fixed(20_240_229),
        failure_persistence: None,
        max_shrink_iters: 300,
        ..Config::default()
    })]

    #[test]
    fn the_journal_says_what_a_plain_model_of_it_says(sequential 1..45 => System);
}

/// No entry's date matters here.
struct Stopped;

impl Clock for Stopped {
    fn now(&self) -> Timestamp {
        Timestamp::UNIX_EPOCH
    }
}

/// A journal in a folder of its own, with one reader that stays open as a run's does.
struct System {
    dir: tempfile::TempDir,
    path: PathBuf,
    lives: u32,
    journal: Journal,
    reader: Reader,
}

impl System {
    fn open(dir: tempfile::TempDir, lives: u32, path: PathBuf) -> Self {
        let setup = Setup { name: "model".into(), ..Setup::default() };
        let journal = Journal::open(&path, &setup, Arc::new(Stopped)).unwrap();
        assert_eq!(journal.resumed(), lives > 0);
        let reader = journal.reader().unwrap();
        Self { dir, path, lives, journal, reader }
    }

    /// The next process, which finds the file as the last one closed it.
    fn reopened(self) -> Self {
        let Self { dir, path, lives, journal, reader } = self;
        drop(reader);
        journal.close();
        Self::open(dir, lives + 1, path)
    }

    /// The next process, which finds the file as it was in the hands of one that was killed: not
    /// closed, with its write-ahead log beside it.
    fn killed(self) -> Self {
        let lives = self.lives + 1;
        let path = self.dir.path().join(format!("life-{lives}.journal"));
        for suffix in ["", "-wal"] {
            let of = |path: &PathBuf| format!("{}{suffix}", path.display());
            std::fs::copy(of(&self.path), of(&path)).unwrap();
        }
        let Self { dir, journal, reader, .. } = self;
        drop(reader);
        journal.close();
        Self::open(dir, lives, path)
    }

    fn submit(&self, groups: Vec<Vec<Change>>) -> Vec<Result<Ack, Refusal>> {
        let answers = block_on(join_all(groups.into_iter().map(|it| self.journal.submit(it))));
        answers.into_iter().map(|answer| answer.map_err(understood)).collect()
    }
}

/// A refusal in the model's words. Nothing else may go wrong here.
fn understood(error: Error) -> Refusal {
    match error {
        Error::Illegal { unit, source: _ } => Refusal::Illegal(unit),
        Error::UnknownUnit(unit) => Refusal::Unknown(unit),
        Error::TargetTaken { kind, target_key } => Refusal::Taken(kind, target_key),
        other => panic!("{other:?}"),
    }
}

impl ReferenceStateMachine for Model {
    type State = Self;
    type Transition = Move;

    fn init_state() -> BoxedStrategy<Self> {
        Just(Self::default()).boxed()
    }

    fn transitions(model: &Self) -> BoxedStrategy<Move> {
        moves::next(model)
    }

    fn apply(mut model: Self, its: &Move) -> Self {
        model.answers = match its {
            Move::Submit(groups) => groups.iter().map(|changes| model.submit(changes)).collect(),
            Move::Abandon(changes) => {
                model.submit(changes).ok();
                Vec::new()
            }
            Move::Release => {
                let free = [model.releasable(), model.rolled_back()].concat();
                vec![model.submit(&released(free))]
            }
            Move::Reopen | Move::Kill => Vec::new(),
        };
        model
    }
}

/// What a run does first with those that may move again.
fn released(units: Vec<UnitId>) -> Vec<Change> {
    units.into_iter().map(|unit| Change::step(unit, Event::Released)).collect()
}

impl StateMachineTest for System {
    type SystemUnderTest = Self;
    type Reference = Model;

    fn init_test(_: &Model) -> Self {
        // In memory, where there is such a place: what a power cut leaves is not asked here, and
        // commits are thousands.
        let dir = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap();
        let path = dir.path().join("life-0.journal");
        Self::open(dir, 0, path)
    }

    fn apply(system: Self, model: &Model, its: Move) -> Self {
        match its {
            Move::Submit(groups) => {
                assert_eq!(system.submit(groups), model.answers);
                system
            }
            Move::Abandon(changes) => {
                // Handed over, and its caller gone: it must still be recorded, whole or not at all.
                system.journal.submit(changes).now_or_never();
                system.reopened()
            }
            Move::Release => {
                let mut free = system.reader.releasable(UnitId(0), usize::MAX >> 1).unwrap();
                free.extend(system.reader.rolled_back(UnitId(0), usize::MAX >> 1).unwrap());
                assert_eq!(system.submit(vec![released(free)]), model.answers);
                system
            }
            Move::Reopen => system.reopened(),
            Move::Kill => system.killed(),
        }
    }

    fn check_invariants(system: &Self, model: &Model) {
        likeness::compare(&system.reader, model);
    }

    fn teardown(system: Self, model: Model) {
        let replay = check_replay(&system.path, &system.dir.path().join("scratch")).unwrap();
        let counted = (i64::try_from(replay.entries).unwrap(), replay.units);
        assert_eq!(counted, (model.entries, model.rows.len() as u64));
    }
}
