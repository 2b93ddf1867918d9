//! The way back: the journal is replayed backwards, rows before accounts.
//!
//! 1. What any earlier run or rollback left in doubt is settled by probes.
//! 2. Every created account is judged: one that somebody has used or changed since is *stuck*,
//!    and its rows stay with it, unless the caller forces it and names how many there are.
//! 3. Every row is weighed ([`rehome_records::undo::RowPlan`]): only what is still as this
//!    migration left it goes, unless that is forced, too. An account that is named by a row which
//!    stays is stuck as well.
//! 4. Rows go, children before parents; earlier rows come back.
//! 5. Accounts go; adopted ones live on.
//!
//! As a last resort steps 3 and 4 give way to a restore of the whole target database
//! ([`Restore`], [`crate::bookmark`]).
//!
//! Each step is a lane of the engine like any other: it can be killed and resumed. Steps 2 and 3
//! only read, so a dry run is the same two steps on a copy of the journal.

mod agreement;
mod source;
mod weigh;

use std::path::Path;
use std::sync::Arc;

use rehome_core::clock::Clock;
use rehome_core::engine::{Engine, Finish, Interrupt};
use rehome_core::journal::{self, Change, Journal, Reader, Selection};
use rehome_core::progress::Watcher;
use rehome_core::{Condition, Event, Stage, Transition, UnitId};
use rehome_records::undo::{RowPlan, RowStep, stages};
use serde_json::json;

use crate::bookmark::{self, Mark};
use crate::config::Config;
use crate::connect::Keys;
use crate::document::{RollbackDoc, Status};
use crate::error::Error;
use crate::requests::{Counter, Ticking};
use crate::workers::Workers;
use crate::{downtime, ledger, run};

use agreement::Agreement;
pub(crate) use agreement::NOTE as FORCED;
use weigh::{Weighed, Weighing};

/// The word of the note that a rollback has begun.
pub(crate) const NOTE: &str = "rollback";

/// The last resort: the whole target database goes back to the bookmark that was journaled before
/// the first write, with everything that anybody has written since.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Restore {
    /// To be told which bookmark that is; [`rollback`] does nothing then.
    Look,
    /// To this one, as it was shown.
    To(String),
}

/// How far back, and what of it.
#[derive(Clone, Debug)]
pub struct RollbackOptions {
    /// Where units are taken back to; never `verified`.
    pub to: Stage,
    /// Only these users, by source id or address, and their rows.
    pub only: Vec<String>,
    /// Also accounts that were used or changed since, of which there are so many.
    pub force: Option<u64>,
    /// Also rows that were changed since, and earlier rows whose place somebody has emptied, of
    /// which there are so many.
    pub force_rows: Option<u64>,
    /// Restore the whole target database instead of taking its rows back one by one.
    pub restore: Option<Restore>,
}

impl Default for RollbackOptions {
    fn default() -> Self {
        Self { to: Stage::Exported, only: Vec::new(), force: None, force_rows: None, restore: None }
    }
}

impl RollbackOptions {
    fn selection(&self) -> Selection {
        if self.only.is_empty() {
            return Selection::All;
        }
        let names = self.only.iter().flat_map(|key| ledger::names(key)).collect();
        Selection::Only { kind: rehome_clerk::USER, names }
    }

    /// The bookmark to restore. `None` when none was asked for, or when the restore has happened
    /// already and only the rest is to be done.
    fn mark(&self, reader: &Reader) -> Result<Option<Mark>, Error> {
        let Some(restore) = &self.restore else {
            return Ok(None);
        };
        if !self.only.is_empty() || self.to >= Stage::Imported {
            return Err(Error::RestoreIsWhole);
        }
        let latest = bookmark::latest(reader)?.ok_or(Error::NoBookmark)?;
        match restore {
            Restore::To(given) if *given != latest.bookmark => {
                let journaled = latest.bookmark;
                Err(Error::OtherBookmark { given: given.clone(), journaled })
            }
            Restore::To(_) | Restore::Look => bookmark::restorable(reader),
        }
    }
}

/// How a rollback ended.
#[derive(Clone, Debug)]
pub struct RollbackEnd {
    /// Whether it came to its end or was interrupted.
    pub finish: Finish,
    /// What it set out to do; `None` when it was interrupted before that was known.
    pub plan: Option<RollbackDoc>,
    /// Where everything stands now.
    pub status: Status,
    /// Units that could not be taken back safely.
    pub stuck: u64,
}

/// Says what a rollback would do, and writes nothing but a copy of the journal in the system's
/// folder for temporary files (removed at the end).
///
/// # Errors
/// When there is no journal, when it belongs to another migration, when a remote cannot be read,
/// [`Error::ForceCount`], or [`Error::ForcedSince`].
pub async fn rollback_plan(
    config: &Config,
    keys: &Keys,
    options: &RollbackOptions,
    watcher: &Watcher,
    clock: Arc<dyn Clock>,
) -> Result<RollbackDoc, Error> {
    let reader = Reader::open(&config.journal_path())?;
    let bound = reader.setup()?.unwrap_or_default();
    let remotes = source::connect(config, keys, &bound, watcher, &clock).await?;
    let setup = remotes.setup(config);
    bound.accepts(&setup)?;
    let scratch = scratch()?;
    let copy = scratch.path().join("journal");
    reader.copy_to(&copy)?;
    let journal = Journal::open_with(&copy, &setup, Arc::clone(&clock), config.wiring().journal())?;
    known(&reader, options)?;
    let weighing = Weighing {
        config,
        remotes: &remotes,
        journal: &journal,
        watcher,
        options,
        mark: options.mark(&reader)?,
        selection: options.selection(),
    };
    let Weighed { mut document, .. } = Box::pin(weighing.weigh(scratch.path())).await?;
    document.dry_run = true;
    Ok(document)
}

/// Takes the migration back, or goes on with that.
///
/// # Errors
/// Journal errors, [`Error::ForceCount`] before anything is written, [`Error::Halt`] when it
/// cannot go on. After every error the same call resumes.
pub async fn rollback(
    config: &Config,
    keys: &Keys,
    options: &RollbackOptions,
    watcher: &Watcher,
    interrupt: &Interrupt,
    clock: Arc<dyn Clock>,
) -> Result<RollbackEnd, Error> {
    let path = config.journal_path();
    if !ledger::has_begun(config)? {
        return Err(journal::Error::Missing(path).into());
    }
    let bound = Reader::open(&path)?.setup()?.unwrap_or_default();
    let remotes = source::connect(config, keys, &bound, watcher, &clock).await?;
    run::refuse(&remotes)?;
    let (setup, mode) = (remotes.setup(config), config.wiring().journal());
    let journal = Arc::new(Journal::open_with(&path, &setup, Arc::clone(&clock), mode)?);
    let reader = Arc::new(journal.reader()?);
    known(&reader, options)?;
    if let (Some(Restore::Look), Some(mark)) = (&options.restore, options.mark(&reader)?) {
        return Err(Error::OtherBookmark { given: "none".to_owned(), journaled: mark.bookmark });
    }
    let writing = remotes.writing(config, keys).await?;
    let counter = Arc::new(Counter::new(&remotes, &writing, &reader)?);
    let ticking = Ticking::start(&counter, &journal);
    let workers = Workers {
        config,
        remotes: &remotes,
        writing: &writing,
        journal: &journal,
        watcher,
        clock: &clock,
        selection: options.selection(),
        import_from: None,
    };
    let mut plan = None;
    let result = Way { workers, options, interrupt }.go(&mut plan).await;
    drop(ticking);
    counter.note(&journal).await?;
    let finish = result?;
    let status = ledger::status_of(config, &reader, None, clock.now())?;
    let stuck = status.units.values().map(|counts| counts.stuck).sum();
    Ok(RollbackEnd { finish, plan, status, stuck })
}

/// That every name is one of the journal's.
fn known(reader: &Reader, options: &RollbackOptions) -> Result<(), Error> {
    for key in &options.only {
        if reader.find(&ledger::names(key))?.is_empty() {
            return Err(Error::UnknownKey(key.clone()));
        }
    }
    Ok(())
}

fn scratch() -> Result<tempfile::TempDir, Error> {
    tempfile::Builder::new().prefix("rehome-rollback-").tempdir().map_err(|source| {
        journal::Error::File {
            doing: "create a scratch folder in",
            path: std::env::temp_dir(),
            source,
        }
        .into()
    })
}

/// One rollback on its way.
struct Way<'a> {
    workers: Workers<'a>,
    options: &'a RollbackOptions,
    interrupt: &'a Interrupt,
}

impl Way<'_> {
    async fn go(&self, plan: &mut Option<RollbackDoc>) -> Result<Finish, Error> {
        let Workers { config, remotes, journal, watcher, .. } = self.workers;
        let detail = json!({
            "to": self.options.to.as_str(),
            "only": self.options.only.len(),
            "force": self.options.force,
            "force_rows": self.options.force_rows,
            "restore": self.options.restore.is_some(),
        });
        journal.submit(vec![Change::Note { event: NOTE, detail }]).await?;
        downtime::end(journal).await?;
        let mark = self.options.mark(&self.workers.journal.reader()?)?;
        if mark.is_none()
            && bookmark::pick_up(&self.workers, self.interrupt).await? == Finish::Interrupted
        {
            return Ok(Finish::Interrupted);
        }
        if self.settle().await? == Finish::Interrupted {
            return Ok(Finish::Interrupted);
        }
        let scratch = scratch()?;
        let weighing = Weighing {
            config,
            remotes,
            journal: journal.as_ref(),
            watcher,
            options: self.options,
            mark: mark.clone(),
            selection: self.workers.selection.clone(),
        };
        let weighed = tokio::select! {
            weighed = Box::pin(weighing.weigh(scratch.path())) => weighed,
            () = self.interrupt.thrown() => return Ok(Finish::Interrupted),
        };
        if matches!(weighed, Err(Error::ForcedSince { .. })) {
            // Whoever has seen that counts anew.
            Agreement::end(journal).await?;
        }
        let weighed = weighed?;
        weighed.forced.keep(journal).await?;
        *plan = Some(weighed.document);
        if let (Some(mark), Some(target)) = (mark, &self.workers.writing.database)
            && bookmark::restore(&self.workers, target.as_ref(), mark, self.interrupt).await?
                == Finish::Interrupted
        {
            return Ok(Finish::Interrupted);
        }
        if let Some(rows) = &weighed.rows
            && self.rows(rows).await? == Finish::Interrupted
        {
            return Ok(Finish::Interrupted);
        }
        if let (Some(worker), true) =
            (self.workers.restoring(self.options.to)?, self.options.to < Stage::Imported)
            && self.run_with(worker).await? == Finish::Interrupted
        {
            return Ok(Finish::Interrupted);
        }
        if self.options.to == Stage::Imported {
            let engine = self.workers.with_rows_unverified(self.workers.engine(false));
            if self.run(engine).await? == Finish::Interrupted {
                return Ok(Finish::Interrupted);
            }
        }
        let engine = self.workers.engine(false);
        let (to, rows) = (self.options.to, weighed.rows.as_ref());
        let engine = self.workers.with_users_back(engine, to, rows, weighed.forced.users)?;
        let finish = self.run(engine).await?;
        if finish == Finish::Quiescent {
            Agreement::end(journal).await?;
        }
        Ok(finish)
    }

    /// Finds out what became of every request whose answer nobody has, or of which only a run has
    /// believed that it left nothing: a run sends again under the same key, and whatever arrives
    /// late is one of the two; after a rollback it would be there for nobody.
    async fn settle(&self) -> Result<Finish, Error> {
        self.doubt().await?;
        let forth = [Condition::Intended, Condition::InDoubt];
        let reader = self.workers.journal.reader()?;
        if !reader.in_condition(&forth, UnitId(0), 1)?.is_empty() {
            let engine = self.workers.with_forth(self.workers.engine(true), Stage::Imported)?;
            if self.run(engine).await? == Finish::Interrupted {
                return Ok(Finish::Interrupted);
            }
        }
        if run::undo_in_doubt(self.workers.journal)? {
            return self.run(self.workers.with_undo_doubts(self.workers.engine(true))?).await;
        }
        Ok(Finish::Quiescent)
    }

    /// Takes back every absence that a run has believed.
    async fn doubt(&self) -> Result<(), Error> {
        const AT_ONCE: usize = 500;
        let journal = self.workers.journal;
        let reader = journal.reader()?;
        loop {
            let units = reader.believed_absent(UnitId(0), AT_ONCE)?;
            if units.is_empty() {
                return Ok(());
            }
            let doubted = |unit| Change::step(unit, Event::Doubted);
            journal.submit(units.into_iter().map(doubted).collect()).await?;
        }
    }

    /// Takes the rows back, table by table.
    async fn rows(&self, plan: &Arc<RowPlan>) -> Result<Finish, Error> {
        let Some(databases) = &self.workers.remotes.databases else {
            return Ok(Finish::Quiescent);
        };
        for step in stages(&databases.layout) {
            let finish = match step {
                RowStep::Detach { table } => match self.workers.detaching(plan, &table) {
                    Some(worker) => self.run_with(worker).await?,
                    None => Finish::Quiescent,
                },
                RowStep::Remove { table } => self.remove(plan, &table).await?,
            };
            if finish == Finish::Interrupted {
                return Ok(Finish::Interrupted);
            }
        }
        Ok(Finish::Quiescent)
    }

    async fn remove(&self, plan: &Arc<RowPlan>, table: &str) -> Result<Finish, Error> {
        let Some(worker) = self.workers.removing(plan, table) else {
            return Ok(Finish::Quiescent);
        };
        loop {
            let finish = self.run_with(Arc::clone(&worker) as Arc<dyn Transition>).await?;
            if finish == Finish::Interrupted || !worker.again() {
                return Ok(finish);
            }
        }
    }

    async fn run_with(&self, worker: Arc<dyn Transition>) -> Result<Finish, Error> {
        self.run(self.workers.with(self.workers.engine(false), vec![worker])).await
    }

    async fn run(&self, engine: Engine) -> Result<Finish, Error> {
        Ok(engine.run(self.interrupt).await?)
    }
}

/// Where the working file of the rows' plan stands.
fn row_scratch(folder: &Path) -> std::path::PathBuf {
    folder.join("rows")
}
