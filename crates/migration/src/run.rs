//! A run: the same call starts a migration and resumes it.

use std::sync::Arc;

use rehome_clerk::USER;
use rehome_core::clock::Clock;
use rehome_core::engine::{Finish, Interrupt};
use rehome_core::journal::{Journal, Selection};
use rehome_core::progress::Watcher;
use rehome_core::{Condition, Stage, UnitId};

use crate::config::Config;
use crate::connect::{Keys, Remotes, Writing};
use crate::document::{PlanDoc, Severity, Status, Verdict};
use crate::error::Error;
use crate::requests::{Counter, Ticking};
use crate::workers::Workers;
use crate::{finding, ledger, plan, settle, undeclared};

/// What a run is asked to do.
#[derive(Clone, Debug)]
pub struct RunOptions {
    /// How far units are moved.
    pub until: Stage,
    /// Only the first so many users, and their rows.
    pub limit: Option<u64>,
    /// Only these users, by source id or address, and their rows.
    pub only: Vec<String>,
    /// The plan that was agreed to; a run refuses when it is stale.
    pub plan: Option<PlanDoc>,
}

impl Default for RunOptions {
    fn default() -> Self {
        Self { until: Stage::Verified, limit: None, only: Vec::new(), plan: None }
    }
}

impl RunOptions {
    /// Whether only some of the users are to move.
    fn is_pilot(&self) -> bool {
        self.limit.is_some() || !self.only.is_empty()
    }

    fn selection(&self) -> Selection {
        if !self.only.is_empty() {
            let names = self.only.iter().flat_map(|key| ledger::names(key)).collect();
            return Selection::Only { kind: USER, names };
        }
        match self.limit {
            Some(count) => Selection::First { kind: USER, count },
            None => Selection::All,
        }
    }
}

/// How a run ended.
#[derive(Clone, Debug)]
pub struct RunEnd {
    /// Whether it came to its end or was interrupted.
    pub finish: Finish,
    /// Where everything stands now.
    pub status: Status,
    /// What the comparison found, when the run came that far.
    pub verdict: Option<Verdict>,
    /// Units that this run was to move and that failed, or wait for one that did. A pilot's rows
    /// that wait for users outside the pilot are not among them.
    pub aside: u64,
}

/// Starts or resumes the migration, and returns when nothing moves any more.
///
/// # Errors
/// [`Error::Refused`] and [`Error::StalePlan`] before anything is written; journal errors;
/// [`Error::Halt`] when it cannot go on. After every error the same call resumes.
pub async fn run(
    config: &Config,
    keys: &Keys,
    options: RunOptions,
    watcher: Watcher,
    interrupt: &Interrupt,
    clock: Arc<dyn Clock>,
) -> Result<RunEnd, Error> {
    let remotes = Remotes::connect(config, keys, &clock).await?;
    refuse(&remotes)?;
    let path = config.journal_path();
    let begun = ledger::has_begun(config)?;
    if let Some(agreed) = &options.plan {
        // What our own work has changed since does not make the plan stale.
        plan::still_holds(agreed, config, &remotes, !begun).await?;
    }
    if !begun {
        refuse_undeclared(config, &remotes).await?;
    }
    let (setup, mode) = (remotes.setup(config), config.wiring().journal());
    let journal = Journal::open_with(&path, &setup, Arc::clone(&clock), mode)?;
    let journal = Arc::new(journal);
    let writing = remotes.writing(config, keys).await?;
    let reader = Arc::new(journal.reader()?);
    let counter = Arc::new(Counter::new(&remotes, &writing, &reader)?);
    let ticking = Ticking::start(&counter, &journal);
    let result =
        go(config, &remotes, &writing, &options, &journal, &watcher, interrupt, &clock).await;
    drop(ticking);
    // Also after an error, so that the next status tells what was sent.
    counter.note(&journal).await?;
    let (finish, verdict) = result?;
    let status = ledger::status_of(config, &reader, None, clock.now())?;
    for key in &options.only {
        if reader.find(&ledger::names(key))?.is_empty() {
            return Err(Error::UnknownKey(key.clone()));
        }
    }
    let aside = ledger::aside(&reader, options.is_pilot(), options.until)?;
    Ok(RunEnd { finish, status, verdict, aside })
}

/// Everything that speaks against writing at all.
pub(crate) fn refuse(remotes: &Remotes) -> Result<(), Error> {
    let mut findings: Vec<_> = remotes
        .databases
        .iter()
        .flat_map(|databases| &databases.findings)
        .filter(|finding| finding.severity == Severity::Refused)
        .cloned()
        .collect();
    if remotes.source.id == remotes.target.id {
        findings.push(finding::same_instance(&remotes.source.id));
    }
    if findings.is_empty() { Ok(()) } else { Err(Error::Refused(findings)) }
}

#[allow(clippy::too_many_arguments, reason = "the parts of one run, used together here only")]
async fn go(
    config: &Config,
    remotes: &Remotes,
    writing: &Writing,
    options: &RunOptions,
    journal: &Arc<Journal>,
    watcher: &Watcher,
    interrupt: &Interrupt,
    clock: &Arc<dyn Clock>,
) -> Result<(Finish, Option<Verdict>), Error> {
    let workers = Workers {
        config,
        remotes,
        writing,
        journal,
        watcher,
        clock,
        selection: options.selection(),
    };
    // A rollback that was killed may have left undos of which nobody knows whether they happened.
    if undo_in_doubt(journal)? {
        let engine = workers.with_undo_doubts(workers.engine(true));
        if engine.run(interrupt).await? == Finish::Interrupted {
            return Ok((Finish::Interrupted, None));
        }
    }
    let engine = workers.with_sources(workers.engine(false), options.until);
    let engine = workers.with_forth(engine, options.until)?;
    let finish = engine.run(interrupt).await?;
    if finish == Finish::Interrupted || options.until < Stage::Verified {
        return Ok((finish, None));
    }
    let reader = Arc::new(journal.reader()?.select(options.selection()));
    let verdict = tokio::select! {
        biased;
        () = interrupt.thrown() => return Ok((Finish::Interrupted, None)),
        verdict = settle::verify(config, remotes, journal, &reader, watcher) => verdict?,
    };
    Ok((finish, verdict))
}

/// Whether an earlier rollback left undos without a known outcome.
pub(crate) fn undo_in_doubt(journal: &Journal) -> Result<bool, Error> {
    let doubt = [Condition::Undoing, Condition::UndoInDoubt];
    Ok(!journal.reader()?.in_condition(&doubt, UnitId(0), 1)?.is_empty())
}

/// Looks for undeclared ids before a first run writes anything.
async fn refuse_undeclared(config: &Config, remotes: &Remotes) -> Result<(), Error> {
    let (Some(databases), Some(records)) = (&remotes.databases, &config.records) else {
        return Ok(());
    };
    let found = undeclared::before_any_user_is_known(databases, records).await?;
    if found.is_empty() {
        return Ok(());
    }
    Err(Error::Refused(found.into_iter().map(finding::undeclared).collect()))
}
