//! A run: the same call starts a migration and resumes it.

use std::sync::Arc;
use std::time::Duration;

use rehome_clerk::{CreateUsers, MapUsers, USER, UserSource};
use rehome_core::clock::Clock;
use rehome_core::engine::{Engine, Finish, Interrupt, Settings};
use rehome_core::journal::{Change, Journal, Reader, Selection};
use rehome_core::progress::Watcher;
use rehome_core::{Knowledge, Stage};
use rehome_records::import::{ImportSpans, SettleMentions};
use rehome_records::span::SpanSource;
use rehome_records::{ReadDatabase, WriteDatabase};

use crate::config::Config;
use crate::connect::{Databases, Keys, Remotes, Writing};
use crate::document::{PlanDoc, RequestCounts, Severity, Status, Verdict};
use crate::error::Error;
use crate::ledger::{self, REQUESTS};
use crate::passage::Passage;
use crate::{finding, plan, settle, undeclared};

/// How many spans are written at once. The target has one writer; the next span is read and
/// judged beside it anyway.
const SPANS_AT_ONCE: usize = 1;
/// How often the number of requests is journaled during a run.
const TICK: Duration = Duration::from_secs(15);

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
    let begun = ledger::has_begun(config);
    if let Some(agreed) = &options.plan {
        // What our own work has changed since does not make the plan stale.
        plan::still_holds(agreed, config, &remotes, !begun).await?;
    }
    if !begun {
        refuse_undeclared(config, &remotes).await?;
    }
    let (setup, writing) = (remotes.setup(config), config.wiring().journal());
    let journal = Journal::open_with(&path, &setup, Arc::clone(&clock), writing)?;
    let journal = Arc::new(journal);
    let writing = remotes.writing(config, keys).await?;
    let reader = Arc::new(journal.reader()?);
    let counter = Arc::new(Counter::new(&remotes, &writing, &reader)?);
    let ticking = Ticking(tokio::spawn(tick(Arc::clone(&counter), Arc::clone(&journal))));
    let result =
        go(config, &remotes, writing, &options, &journal, &watcher, interrupt, &clock).await;
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
fn refuse(remotes: &Remotes) -> Result<(), Error> {
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
    writing: Writing,
    options: &RunOptions,
    journal: &Arc<Journal>,
    watcher: &Watcher,
    interrupt: &Interrupt,
    clock: &Arc<dyn Clock>,
) -> Result<(Finish, Option<Verdict>), Error> {
    let Writing { users, database } = writing;
    let selection = options.selection();
    let knowledge: Arc<dyn Knowledge> = Arc::new(journal.reader()?.select(selection.clone()));
    let seed = clock.now().as_millisecond().unsigned_abs();
    let settings = Settings { selection, seed, ..Settings::default() };
    let mut engine = Engine::new(Arc::clone(journal), Arc::clone(watcher), settings)
        .source(Arc::new(UserSource::new(remotes.source.reader.clone())));
    if options.until >= Stage::Created {
        engine = engine.transition(Arc::new(CreateUsers::new(
            users,
            Arc::clone(&knowledge),
            config.users.policy(),
            Arc::clone(clock),
        )));
    }
    if options.until >= Stage::Mapped {
        engine = engine.transition(Arc::new(MapUsers::new(
            remotes.target.reader.clone(),
            Arc::clone(&knowledge),
            config.users.policy(),
        )));
    }
    if options.until >= Stage::Imported {
        engine = importing(engine, config, remotes, database, &knowledge);
    }
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

/// Adds what moves rows, or the passage of users when there are none.
fn importing(
    engine: Engine,
    config: &Config,
    remotes: &Remotes,
    database: Option<Arc<dyn WriteDatabase>>,
    knowledge: &Arc<dyn Knowledge>,
) -> Engine {
    let (Some(databases), Some(target), Some(records)) =
        (&remotes.databases, database, &config.records)
    else {
        return engine.transition(Arc::new(Passage::new(USER)));
    };
    let Databases { source, layout, .. } = databases;
    engine
        .source(Arc::new(SpanSource::new(Arc::clone(source), Arc::clone(layout))))
        .transition(Arc::new(ImportSpans::new(
            Arc::clone(source),
            target,
            Arc::clone(knowledge),
            Arc::clone(layout),
            records.on_unmapped,
            SPANS_AT_ONCE,
        )))
        .transition(Arc::new(SettleMentions::new(USER, Arc::clone(knowledge))))
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
