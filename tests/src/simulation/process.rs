//! The program, which is started and dies.

use std::future::Future;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use rehome_core::clock::Clock;
use rehome_core::engine::{Finish, Interrupt};
use rehome_core::journal::is_running;
use rehome_core::progress::Unwatched;
use rehome_migration::ledger::{self, Which};
use rehome_migration::{Error, RollbackEnd, RollbackOptions, RunEnd, RunOptions, rollback, run};

use super::Jumping;
use super::fate::{Fate, Lot};
use super::world::World;

/// Longer than any life may last: a run that neither ends nor gives up is a fault of its own.
const LONGEST: Duration = Duration::from_secs(12 * 3600);
/// How often the last life may be asked to go on, with failed units put back each time.
const LAST_RUNS: usize = 4;

/// What is started again and again in one world.
pub struct Process<'a> {
    /// Where it works.
    pub world: &'a World,
    /// What happens to it.
    pub fate: &'a Arc<Fate>,
    /// Its clock.
    pub clock: &'a Arc<Jumping>,
}

impl std::fmt::Debug for Process<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Process").finish_non_exhaustive()
    }
}

impl Process<'_> {
    /// One life of `run`: `None` when it was killed.
    pub async fn forth(&self, lot: Lot) -> Option<Result<RunEnd, Error>> {
        let interrupt = self.begin(lot);
        let (config, keys) = (self.world.config.clone(), self.world.keys.clone());
        let clock = self.clock();
        self.live(async move {
            let watcher = Arc::new(Unwatched);
            run(&config, &keys, RunOptions::default(), watcher, &interrupt, clock).await
        })
        .await
    }

    /// One life of `rollback`: `None` when it was killed.
    pub async fn back(&self, lot: Lot) -> Option<Result<RollbackEnd, Error>> {
        let interrupt = self.begin(lot);
        let (config, keys) = (self.world.config.clone(), self.world.keys.clone());
        let clock = self.clock();
        self.live(async move {
            let (watcher, options) = (Arc::new(Unwatched), RollbackOptions::default());
            let watcher: Arc<dyn rehome_core::progress::Watch> = watcher;
            rollback(&config, &keys, &options, &watcher, &interrupt, clock).await
        })
        .await
    }

    fn clock(&self) -> Arc<dyn Clock> {
        Arc::clone(self.clock) as Arc<dyn Clock>
    }

    fn begin(&self, lot: Lot) -> Interrupt {
        let interrupt = Interrupt::default();
        self.fate.begin(lot, interrupt.clone());
        interrupt
    }

    async fn live<T: Send + 'static>(
        &self,
        work: impl Future<Output = Result<T, Error>> + Send + 'static,
    ) -> Option<Result<T, Error>> {
        let mut task = tokio::spawn(work);
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

    /// The way forth, to its end.
    ///
    /// # Panics
    /// When it does not come to one in good weather.
    pub async fn arrive(&self, seed: u64) -> RunEnd {
        let mut last = None;
        for left in (0..LAST_RUNS).rev() {
            let end = match self.forth(Lot::default()).await {
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
            let _nobody = self.begin(Lot::default());
            let put_back = ledger::retry(&self.world.config, &Which::All, self.clock()).await;
            put_back.unwrap_or_else(|error| panic!("seed {seed}: {error:?}"));
        }
        last.expect("there was a last run")
    }

    /// The way back, to its end.
    ///
    /// # Panics
    /// When it does not come to one in good weather.
    pub async fn return_home(&self, seed: u64) -> RollbackEnd {
        let mut end = None;
        for _ in 0..LAST_RUNS {
            let now = match self.back(Lot::default()).await {
                Some(Ok(now)) => now,
                other => panic!("seed {seed}: on the way back in good weather: {other:?}"),
            };
            assert_eq!(now.finish, Finish::Quiescent, "seed {seed}");
            let stuck = now.stuck;
            end = Some(now);
            if stuck == 0 {
                break;
            }
            self.fate.count("back: again", 1);
        }
        end.expect("there was a last rollback")
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
