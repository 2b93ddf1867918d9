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
use crate::settle::{Again, Settled};
use crate::workers::Workers;
use crate::{bookmark, departed, downtime, finding, ledger, plan, room, settle, undeclared};

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
    /// How often the whole is gone through, as long as the source moves on meanwhile.
    pub passes: Passes,
    /// Whether somebody has agreed that the target database is unavailable while rows are imported
    /// as files.
    pub downtime: bool,
}

/// How often a run goes through the whole.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Passes {
    /// Once, and once more if the source has moved on.
    CatchUp,
    /// Until a pass finds nothing new, but at most so often.
    UntilQuiet(u32),
}

impl Passes {
    /// Whether there may be another pass after so many.
    const fn more(self, done: u32) -> bool {
        match self {
            Self::CatchUp => done < 2,
            Self::UntilQuiet(most) => done < most,
        }
    }
}

impl Default for RunOptions {
    fn default() -> Self {
        let (until, passes) = (Stage::Verified, Passes::CatchUp);
        Self { until, limit: None, only: Vec::new(), plan: None, passes, downtime: false }
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

/// A run goes through the whole at most so often for spans that stood still and can go on: what one
/// pass has written may be what another span waited for.
const STANDING: u32 = 20;

/// How a run ended.
#[derive(Clone, Debug)]
pub struct RunEnd {
    /// Whether it came to its end or was interrupted.
    pub finish: Finish,
    /// Where everything stands now.
    pub status: Status,
    /// What the comparison found, when the run came that far.
    pub verdict: Option<Verdict>,
    /// How often the whole was gone through.
    pub passes: u32,
    /// Units of which the source had moved on again at the end of the last pass: they are not up
    /// to date.
    pub moved: u64,
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
    room::refuse(config, &remotes).await?;
    let path = config.journal_path();
    let begun = ledger::has_begun(config)?;
    if let Some(agreed) = &options.plan {
        // What our own work has changed since does not make the plan stale.
        plan::still_holds(agreed, config, &remotes, !begun).await?;
    }
    if !begun {
        refuse_undeclared(config, &remotes).await?;
    }
    let downtime = if options.until < Stage::Imported {
        None
    } else {
        downtime::due(config, &remotes).await?
    };
    if let Some(downtime) = &downtime
        && !options.downtime
    {
        return Err(Error::Downtime(downtime.clone()));
    }
    let (setup, mode) = (remotes.setup(config), config.wiring().journal());
    let journal = Journal::open_with(&path, &setup, Arc::clone(&clock), mode)?;
    let journal = Arc::new(journal);
    let writing = remotes.writing(config, keys).await?;
    if let Some(downtime) = &downtime {
        downtime::agree(&journal, downtime).await?;
    }
    let reader = Arc::new(journal.reader()?);
    let counter = Arc::new(Counter::new(&remotes, &writing, &reader)?);
    let ticking = Ticking::start(&counter, &journal);
    let result =
        go(config, &remotes, &writing, &options, &journal, &watcher, interrupt, &clock).await;
    drop(ticking);
    // Also after an error, so that the next status tells what was sent.
    counter.note(&journal).await?;
    let Went { finish, verdict, passes, moved } = result?;
    let status = ledger::status_of(config, &reader, None, clock.now())?;
    for key in &options.only {
        if reader.find(&ledger::names(key))?.is_empty() {
            return Err(Error::UnknownKey(key.clone()));
        }
    }
    let aside = ledger::aside(&reader, options.is_pilot(), options.until)?;
    Ok(RunEnd { finish, status, verdict, passes, moved, aside })
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

/// What a run has done.
struct Went {
    finish: Finish,
    verdict: Option<Verdict>,
    passes: u32,
    moved: u64,
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
) -> Result<Went, Error> {
    let mut workers = Workers {
        config,
        remotes,
        writing,
        journal,
        watcher,
        clock,
        selection: options.selection(),
        import_from: downtime::agreed(config, &journal.reader()?)?,
    };
    if bookmark::pick_up(&workers, interrupt).await? == Finish::Interrupted {
        return Ok(Went { finish: Finish::Interrupted, verdict: None, passes: 0, moved: 0 });
    }
    // A rollback that was killed may have left undos of which nobody knows whether they happened.
    if undo_in_doubt(journal)? {
        let engine = workers.with_undo_doubts(workers.engine(true))?;
        if engine.run(interrupt).await? == Finish::Interrupted {
            return Ok(Went { finish: Finish::Interrupted, verdict: None, passes: 0, moved: 0 });
        }
    }
    if options.until >= Stage::Imported {
        bookmark::take(&workers).await?;
    }
    let mut passes = 0;
    loop {
        passes += 1;
        let before = known(journal)?;
        let engine = workers.with_sources(workers.engine(false), options.until)?;
        let engine = workers.with_forth(engine, options.until)?;
        let finish = engine.run(interrupt).await?;
        if finish == Finish::Quiescent && workers.import_from.take().is_some() {
            downtime::end(journal).await?;
        }
        if finish == Finish::Interrupted || options.until < Stage::Verified {
            return Ok(Went { finish, verdict: None, passes, moved: 0 });
        }
        // What the source has removed of their rows is gone by now.
        if departed::follow(&workers, interrupt).await? == Finish::Interrupted {
            return Ok(Went { finish: Finish::Interrupted, verdict: None, passes, moved: 0 });
        }
        let more = options.passes.more(passes);
        let again = Again { moved: more, standing: passes < STANDING };
        let reader = Arc::new(journal.reader()?.select(options.selection()));
        let settled = tokio::select! {
            biased;
            () = interrupt.thrown() => {
                return Ok(Went { finish: Finish::Interrupted, verdict: None, passes, moved: 0 });
            }
            settled = settle::verify(config, remotes, journal, &reader, watcher, again) => settled?,
        };
        let Settled { verdict, moved, released } = settled;
        let new = match options.passes {
            Passes::CatchUp => 0,
            Passes::UntilQuiet(_) => known(journal)?.saturating_sub(before),
        };
        if released == 0 && (!more || moved + new == 0) {
            return Ok(Went { finish, verdict, passes, moved });
        }
    }
}

/// How many units the journal knows.
fn known(journal: &Journal) -> Result<u64, Error> {
    Ok(journal.reader()?.counts()?.values().map(rehome_core::journal::Standing::total).sum())
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
    let refused = |found| finding::undeclared(found, Severity::Refused);
    Err(Error::Refused(found.into_iter().map(refused).collect()))
}
