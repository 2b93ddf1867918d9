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

pub mod fate;
pub mod judge;
pub mod process;
pub mod restored;
pub mod wiring;
pub mod world;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use fastrand::Rng;
use jiff::{SignedDuration, Timestamp};
use rehome_core::Halt;
use rehome_core::clock::{Clock, TimerClock};
use rehome_core::journal;
use rehome_migration::Error;
use tokio::time::Instant;

pub use fate::{Fate, Lot};
pub use judge::Verdict;
use process::Process;
use world::{EPOCH, World};

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
pub struct Jumping {
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
pub fn simulate(seed: u64, told: bool) -> Report {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    let runtime = builder.enable_time().start_paused(true).build();
    runtime.expect("a runtime").block_on(one(seed, told))
}

async fn one(seed: u64, told: bool) -> Report {
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
    world.rows_live_on(seed, &fate);
    if rng.u8(..3) == 0 {
        jumps(&mut rng, &clock, &fate);
    }

    for _ in 0..rng.usize(1..5) {
        match process.forth(lot(&mut rng)).await {
            None => fate.count("crash", 1),
            Some(Ok(_)) => {}
            Some(Err(error)) => bearable(seed, &error),
        }
        // Nobody is there for a while; what was sent may still arrive.
        tokio::time::sleep(Duration::from_millis(rng.u64(..60_000))).await;
    }
    // Whatever comes after the last run is the next run's affair.
    tokio::time::sleep(Duration::from_secs(180)).await;

    let mut verdict = Verdict::default();
    // What was begun can be taken back as well as what has arrived.
    let way = rng.u8(..4);
    if way > 0 {
        world.clear();
        arrive(&process, 1, seed, &mut verdict).await;
    }
    if way < 3 && verdict.is_clean() && world.journal_exists() {
        return_home(&process, &mut rng, seed, &mut verdict).await;
        if way < 2 && verdict.is_clean() {
            fate.count("there and back and there again", 1);
            arrive(&process, 2, seed, &mut verdict).await;
        }
    }
    for instance in world.emulator.instances() {
        for (kind, many) in instance.counters().faults {
            fate.count(&format!("emulator: {kind}"), many);
        }
    }
    Report { verdict, counts: fate.counts(), lasted: started.elapsed(), trace: fate.trace() }
}

/// What one life has in store.
fn lot(rng: &mut Rng) -> Lot {
    Lot {
        crash_at: (rng.u8(..4) > 0).then(|| rng.u64(..200)),
        interrupt_at: (rng.u8(..5) == 0).then(|| rng.u64(..200)),
        full_from: (rng.u8(..5) == 0).then(|| rng.u64(..40)),
        trouble: rng.f64() * 0.3,
    }
}

/// The way forth to its end, for the `time`th time; a run after the end sends no write.
async fn arrive(process: &Process<'_>, time: u64, seed: u64, verdict: &mut Verdict) {
    let world = process.world;
    let end = process.arrive(seed).await;
    // Handlers of webhooks are late at times; a run that is over has nothing to fear from them.
    tokio::time::sleep(Duration::from_secs(10)).await;
    verdict.add(judge::judge(world, time));
    let before = world.written();
    match process.forth(Lot::default()).await {
        Some(Ok(_)) => {}
        other => verdict.differences.push(format!("after {end:?} a run ended as {other:?}")),
    }
    if world.written() != before {
        verdict.duplicates.push("a run after the end wrote something".to_owned());
    }
}

/// The way back to its end, through deaths and weather of its own; a rollback after the end sends
/// no write.
async fn return_home(process: &Process<'_>, rng: &mut Rng, seed: u64, verdict: &mut Verdict) {
    let (world, fate) = (process.world, process.fate);
    fate.count("taken back", 1);
    world.darken(rng, seed);
    for _ in 0..rng.usize(1..4) {
        match process.back(lot(rng)).await {
            None => fate.count("back: crash", 1),
            Some(Ok(_)) => {}
            Some(Err(error)) => bearable(seed, &error),
        }
        tokio::time::sleep(Duration::from_millis(rng.u64(..60_000))).await;
    }
    world.clear();
    tokio::time::sleep(Duration::from_secs(5)).await;
    let end = process.return_home(seed).await;
    verdict.add(restored::judge(world));
    let before = world.written();
    match process.back(Lot::default()).await {
        Some(Ok(_)) => {}
        other => verdict.differences.push(format!("after {end:?} a rollback ended as {other:?}")),
    }
    if world.written() != before {
        verdict.duplicates.push("a rollback after the end wrote something".to_owned());
    }
}

/// Somebody sets the process's clock, forth and back by hours.
fn jumps(rng: &mut Rng, clock: &Arc<Jumping>, fate: &Arc<Fate>) {
    /// Seconds: a machine that was set to another time zone's hour.
    const MOST: i64 = 5 * 3600;
    let plan: Vec<(u64, i64)> =
        (0..rng.usize(1..4)).map(|_| (rng.u64(..60_000), rng.i64(-MOST..MOST))).collect();
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
