//! What a seed has in store: at which point the process is killed or interrupted, which commit
//! finds the disk full, and the one source of chance for everything that is not the emulator.
//!
//! A *point* is a place where a process can die with different things on either side of it:
//! before and after each request, each statement to a database, each commit of the journal. Once
//! it is dead, nothing passes any point any more.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures::future::BoxFuture;
use rehome_core::engine::Interrupt;
use rehome_core::journal::Gate;
use tokio::sync::Notify;
use tokio::time::Instant;

/// What happens in one life of the process, counted in its points and its commits.
#[derive(Clone, Debug, Default)]
pub struct Lot {
    /// The point at which it is killed.
    pub crash_at: Option<u64>,
    /// The point at which it is asked to stop.
    pub interrupt_at: Option<u64>,
    /// The commit from which on the disk is full.
    pub full_from: Option<u64>,
    /// How likely each kind of trouble with a call is.
    pub trouble: f64,
}

struct State {
    rng: fastrand::Rng,
    lot: Lot,
    interrupt: Interrupt,
    points: u64,
    commits: u64,
    dead: bool,
    trace: u64,
    counts: BTreeMap<String, u64>,
}

/// The fate of one seed.
pub struct Fate {
    state: Mutex<State>,
    died: Notify,
    started: Instant,
    told: bool,
}

impl Fate {
    /// The fate that `seed` has. With `told`, every point is printed as it is passed.
    pub fn new(seed: u64, told: bool) -> Self {
        Self {
            state: Mutex::new(State {
                rng: fastrand::Rng::with_seed(seed ^ 0x00fa_7e00),
                lot: Lot::default(),
                interrupt: Interrupt::default(),
                points: 0,
                commits: 0,
                dead: false,
                trace: 0xcbf2_9ce4_8422_2325,
                counts: BTreeMap::new(),
            }),
            died: Notify::new(),
            started: Instant::now(),
            told,
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A new life begins.
    pub fn begin(&self, lot: Lot, interrupt: Interrupt) {
        let mut state = self.lock();
        state.lot = lot;
        state.interrupt = interrupt;
        state.points = 0;
        state.commits = 0;
        state.dead = false;
    }

    /// A number below `end`.
    pub fn below(&self, end: u64) -> u64 {
        self.lock().rng.u64(..end.max(1))
    }

    /// Whether trouble of one kind comes now; counted when it does.
    pub fn trouble(&self, kind: &str, share: f64) -> bool {
        let mut state = self.lock();
        let chance = state.lot.trouble * share;
        let comes = state.rng.f64() < chance;
        if comes {
            *state.counts.entry(kind.to_owned()).or_default() += 1;
        }
        comes
    }

    /// Counts something.
    pub fn count(&self, kind: &str, many: u64) {
        if many > 0 {
            *self.lock().counts.entry(kind.to_owned()).or_default() += many;
        }
    }

    /// Everything counted so far.
    pub fn counts(&self) -> BTreeMap<String, u64> {
        self.lock().counts.clone()
    }

    /// A number that differs when anything happened in another order or at another time.
    pub fn trace(&self) -> u64 {
        self.lock().trace
    }

    /// Passes a point, unless the process dies there, or is dead already.
    #[allow(clippy::print_stdout, reason = "a seed that is replayed tells its story")]
    pub async fn point(&self, what: &str) {
        let dies = {
            let mut state = self.lock();
            if !state.dead {
                let at = self.started.elapsed().as_millis();
                for byte in what.bytes().chain(at.to_le_bytes()) {
                    state.trace = (state.trace ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
                }
                if self.told {
                    println!("{at:>8} ms  {:>4}  {what}", state.points);
                }
                if state.lot.interrupt_at == Some(state.points) {
                    *state.counts.entry("interrupt".to_owned()).or_default() += 1;
                    state.interrupt.throw();
                }
                if state.lot.crash_at == Some(state.points) {
                    state.dead = true;
                    self.died.notify_one();
                }
                state.points += 1;
            }
            state.dead
        };
        if dies {
            std::future::pending::<()>().await;
        }
    }

    /// Returns when the process has died.
    pub async fn died(&self) {
        self.died.notified().await;
    }
}

impl std::fmt::Debug for Fate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Fate").finish_non_exhaustive()
    }
}

/// The journal's disk.
#[derive(Clone, Debug)]
pub struct Disk(pub Arc<Fate>);

impl Gate for Disk {
    fn before(&self) -> BoxFuture<'_, Result<(), rusqlite::Error>> {
        Box::pin(async {
            self.0.point("before a commit").await;
            let full = {
                let mut state = self.0.lock();
                state.commits += 1;
                state.lot.full_from.is_some_and(|from| state.commits > from)
            };
            if !full {
                return Ok(());
            }
            self.0.count("disk full", 1);
            let code = rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_FULL);
            Err(rusqlite::Error::SqliteFailure(code, None))
        })
    }

    fn after(&self) -> BoxFuture<'_, ()> {
        Box::pin(async {
            self.0.point("after a commit").await;
            // Others may run before the caller learns of it, as beside a thread.
            tokio::task::yield_now().await;
        })
    }
}
