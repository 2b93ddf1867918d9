//! Whole migrations in one thread and in virtual time, each from a seed.
//!
//! The engine, the journal and the emulator run in one single-threaded runtime whose clock is
//! paused: time passes only when nobody has anything to do, and then it jumps to the next timer.
//! A seed decides everything else: the [`world`], the weather on the way to it, the moments at
//! which the process dies ([`fate`]), and how often. A process that dies leaves behind exactly
//! the bytes that its journal had on the disk. After some lives the weather clears up, the last
//! life comes to its end, and [`judge`] looks at what was really done.
//!
//! A seed fixes the world, the weather, and the points of death. It does not fix everything:
//! tokio's watch channels wake their receivers in an order that is drawn anew in each process,
//! and some questions list ids in the order of a hash map. Two runs of one seed can therefore
//! part ([`Report::trace`] then differs), and a seed that fails may have to be replayed a few
//! times.
//!
//! The clock jumps by less than the five minutes by which the clocks of rehome and of the target
//! may differ. What more does is a known fault, which [`Jumps::Hours`] shows.

pub mod fate;
pub mod judge;
pub mod wiring;
pub mod world;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use fastrand::Rng;
use jiff::{SignedDuration, Timestamp};
use rehome_core::Halt;
use rehome_core::clock::{Clock, TimerClock};
use rehome_core::engine::{Finish, Interrupt};
use rehome_core::journal::{self, is_running};
use rehome_core::progress::Unwatched;
use rehome_migration::ledger::{self, Which};
use rehome_migration::{Error, RunEnd, RunOptions, run};
use tokio::time::Instant;

pub use fate::{Fate, Lot};
pub use judge::Verdict;
use world::{EPOCH, World};

/// Longer than any life may last: a run that neither ends nor gives up is a fault of its own.
const LONGEST: Duration = Duration::from_secs(12 * 3600);
/// How often the last life may be asked to go on, with failed units put back each time.
const LAST_RUNS: usize = 4;

/// By how much the process's clock jumps, in those seeds in which it does.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Jumps {
    /// By up to four minutes, forth and back.
    Minutes,
    /// By up to five hours, forth and back.
    Hours,
}

/// What came of one seed.
#[derive(Clone, Debug)]
pub struct Report {
    /// What was found wrong.
    pub verdict: Verdict,
    /// Faults, crashes and so on, by kind.
    pub counts: BTreeMap<String, u64>,
    /// Virtual time.
    pub lasted: Duration,
    /// Differs when anything happened otherwise.
    pub trace: u64,
}

/// The process's clock, which somebody sets now and then.
#[derive(Debug)]
struct Jumping {
    steady: TimerClock,
    ahead: AtomicI64,
}

impl Clock for Jumping {
    fn now(&self) -> Timestamp {
        let ahead = SignedDuration::from_secs(self.ahead.load(Ordering::Relaxed));
        self.steady.now().checked_add(ahead).unwrap_or_else(|_| self.steady.now())
    }
}

/// Runs one seed from its beginning to its end. With `told`, every point is printed.
///
/// # Panics
/// When a run ends in a way in which none may end.
#[must_use]
pub fn simulate(seed: u64, jumps: Jumps, told: bool) -> Report {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    let runtime = builder.enable_time().start_paused(true).build();
    runtime.expect("a runtime").block_on(one(seed, jumps, told))
}

async fn one(seed: u64, by: Jumps, told: bool) -> Report {
    let started = Instant::now();
    let mut rng = Rng::with_seed(seed);
    let fate = Arc::new(Fate::new(seed, told));
    let world = World::make(&mut rng, seed, &fate);
    let origin = Timestamp::from_millisecond(EPOCH).expect("a date");
    let clock =
        Arc::new(Jumping { steady: TimerClock::starting_at(origin), ahead: AtomicI64::new(0) });
    let process = Process { world: &world, fate: &fate, clock: &clock };
    if rng.bool() {
        world.handle_webhooks(rng.u64(1..5_000), &fate);
    }
    world.live_on(&mut rng, &fate);
    if rng.u8(..3) == 0 {
        jumps(&mut rng, by, &clock, &fate);
    }

    for _ in 0..rng.usize(1..5) {
        let lot = Lot {
            crash_at: (rng.u8(..4) > 0).then(|| rng.u64(..200)),
            interrupt_at: (rng.u8(..5) == 0).then(|| rng.u64(..200)),
            full_from: (rng.u8(..5) == 0).then(|| rng.u64(..40)),
            trouble: rng.f64() * 0.3,
        };
        match process.live(lot).await {
            None => fate.count("crash", 1),
            Some(Ok(_)) => {}
            Some(Err(error)) => bearable(seed, &error),
        }
        // Nobody is there for a while; what was sent may still arrive.
        tokio::time::sleep(Duration::from_millis(rng.u64(..60_000))).await;
    }

    // Whoever comes after the last export is the next run's affair.
    tokio::time::sleep(Duration::from_secs(5)).await;
    world.clear();
    let end = process.last_life(seed).await;
    // Handlers of webhooks are late at times; a run that is over has nothing to fear from them.
    tokio::time::sleep(Duration::from_secs(10)).await;
    let mut verdict = judge::judge(&world);
    again(&process, &world, &end, &mut verdict).await;
    for instance in world.emulator.instances() {
        for (kind, many) in instance.counters().faults {
            fate.count(&format!("emulator: {kind}"), many);
        }
    }
    Report { verdict, counts: fate.counts(), lasted: started.elapsed(), trace: fate.trace() }
}

/// A run after the end sends no write.
async fn again(process: &Process<'_>, world: &World, end: &RunEnd, verdict: &mut Verdict) {
    let written = |world: &World| -> u64 {
        world.emulator.instances().iter().map(|one| one.counters().writes_requested()).sum()
    };
    let rows = || std::fs::read(world.file("target.sqlite")).expect("it can be read");
    let (before, rows_before) = (written(world), rows());
    match process.live(Lot::default()).await {
        Some(Ok(_)) => {}
        other => verdict.differences.push(format!("after {end:?} a run ended as {other:?}")),
    }
    if written(world) != before || rows() != rows_before {
        verdict.duplicates.push("a run after the end wrote something".to_owned());
    }
}

/// Somebody sets the clock, forth and back.
fn jumps(rng: &mut Rng, by: Jumps, clock: &Arc<Jumping>, fate: &Arc<Fate>) {
    let most = match by {
        Jumps::Minutes => 240,
        Jumps::Hours => 5 * 3600,
    };
    let plan: Vec<(u64, i64)> =
        (0..rng.usize(1..4)).map(|_| (rng.u64(..60_000), rng.i64(-most..most))).collect();
    let (clock, fate) = (Arc::clone(clock), Arc::clone(fate));
    drop(tokio::spawn(async move {
        for (after, by) in plan {
            tokio::time::sleep(Duration::from_millis(after)).await;
            clock.ahead.store(by, Ordering::Relaxed);
            fate.count("clock jump", 1);
        }
    }));
}

/// A run may end early for what is outside of it, and for nothing else.
fn bearable(seed: u64, error: &Error) {
    let disk = matches!(
        error,
        Error::Journal(journal::Error::Sqlite { source, .. })
            if source.sqlite_error_code() == Some(rusqlite::ErrorCode::DiskFull)
    );
    assert!(disk || matches!(error, Error::Halt(Halt::Remote { .. })), "seed {seed}: {error:?}");
}

/// The program, which is started and dies.
struct Process<'a> {
    world: &'a World,
    fate: &'a Arc<Fate>,
    clock: &'a Arc<Jumping>,
}

impl Process<'_> {
    /// One life: `None` when it was killed.
    async fn live(&self, lot: Lot) -> Option<Result<RunEnd, Error>> {
        let interrupt = Interrupt::default();
        self.fate.begin(lot, interrupt.clone());
        let (config, keys) = (self.world.config.clone(), self.world.keys.clone());
        let clock: Arc<dyn Clock> = Arc::clone(self.clock) as Arc<dyn Clock>;
        let mut task = tokio::spawn(async move {
            let watcher = Arc::new(Unwatched);
            run(&config, &keys, RunOptions::default(), watcher, &interrupt, clock).await
        });
        tokio::select! {
            biased;
            () = self.fate.died() => {
                let left = Left::behind(&self.world.config.journal_path());
                task.abort();
                drop(task.await);
                self.bury().await;
                left.restore();
                None
            }
            ended = tokio::time::timeout(LONGEST, &mut task) => {
                let ended = ended.expect("a run ends some time").expect("a run does not panic");
                self.bury().await;
                Some(ended)
            }
        }
    }

    /// Waits until nothing of the process is there any more.
    async fn bury(&self) {
        let journal = self.world.config.journal_path();
        for _ in 0..10_000 {
            if !is_running(&journal) {
                return;
            }
            tokio::task::yield_now().await;
        }
        panic!("a run that is over still holds its journal");
    }

    /// The life that comes to its end.
    async fn last_life(&self, seed: u64) -> RunEnd {
        let mut last = None;
        for left in (0..LAST_RUNS).rev() {
            let end = match self.live(Lot::default()).await {
                Some(Ok(end)) => end,
                other => panic!("seed {seed}: in good weather: {other:?}"),
            };
            assert_eq!(end.finish, Finish::Quiescent, "seed {seed}");
            let failed: u64 = end.status.units.values().map(|units| units.failed).sum();
            last = Some(end);
            if left == 0 || failed == self.world.hopeless.len() as u64 {
                break;
            }
            self.fate.count("retry", 1);
            self.fate.begin(Lot::default(), Interrupt::default());
            let clock = Arc::clone(self.clock) as Arc<dyn Clock>;
            let put_back = ledger::retry(&self.world.config, &Which::All, clock).await;
            put_back.unwrap_or_else(|error| panic!("seed {seed}: {error:?}"));
        }
        last.expect("there was a last run")
    }
}

/// The journal's files as a process that dies leaves them.
struct Left(Vec<(PathBuf, Option<Vec<u8>>)>);

impl Left {
    fn behind(journal: &std::path::Path) -> Self {
        let beside = |suffix: &str| {
            let mut name = journal.as_os_str().to_owned();
            name.push(suffix);
            PathBuf::from(name)
        };
        // The shared memory file is only an index, which the next process makes anew.
        let file = |path: PathBuf| {
            let bytes = std::fs::read(&path).ok();
            (path, bytes)
        };
        Self(vec![file(beside("")), file(beside("-wal")), (beside("-shm"), None)])
    }

    fn restore(self) {
        for (path, bytes) in self.0 {
            match bytes {
                Some(bytes) => std::fs::write(path, bytes).expect("it can be written"),
                None => drop(std::fs::remove_file(path)),
            }
        }
    }
}
