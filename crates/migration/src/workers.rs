//! Every worker of a migration, in one place: what `run` moves forth with, and what `rollback`
//! moves back with.
//!
//! Whatever is to hold for each worker of each kind is made to hold here: all of them pass through
//! [`crate::wiring::Wiring::worker`], and the suite that repeats, refuses and loses every effect
//! takes them from here, so that it covers a new one without being told.

use std::num::NonZeroUsize;
use std::sync::Arc;

use rehome_clerk::undo::{Attached, DeleteUsers, Unattached};
use rehome_clerk::{AmendUsers, CreateUsers, MapUsers, USER, UserSource};
use rehome_core::clock::Clock;
use rehome_core::engine::{Engine, Settings};
use rehome_core::journal::{Journal, Selection};
use rehome_core::progress::Watcher;
use rehome_core::{Kind, Knowledge, Stage, Transition, UnitId};
use rehome_records::WriteDatabase;
use rehome_records::import::{ImportSpans, LoadSpans, SettleMentions};
use rehome_records::in_place::{Accounts, LOT, LotSource, RestoreLots, RewriteLots};
use rehome_records::span::{SPAN, SpanSize, SpanSource};
use rehome_records::undo::{DetachSpans, RowPlan, SettleUndos, UndoSpans};

use crate::attached::TargetRows;
use crate::config::{Config, RecordsConfig, RecordsMode};
use crate::connect::{Databases, Remotes, Writing};
use crate::error::Error;
use crate::passage::Passage;

/// How many spans are written at once. The target has one writer; the next span is read and
/// judged beside it anyway.
const SPANS_AT_ONCE: usize = 1;

/// The kind of unit in which rows are moved.
pub(crate) fn carriers(config: &Config) -> Kind {
    match config.records.as_ref().map(|records| records.mode) {
        Some(RecordsMode::InPlace) => LOT,
        Some(RecordsMode::Copy) | None => SPAN,
    }
}

/// What a run or a rollback works with, once the journal is locked.
pub(crate) struct Workers<'a> {
    pub(crate) config: &'a Config,
    pub(crate) remotes: &'a Remotes,
    pub(crate) writing: &'a Writing,
    pub(crate) journal: &'a Arc<Journal>,
    pub(crate) watcher: &'a Watcher,
    pub(crate) clock: &'a Arc<dyn Clock>,
    pub(crate) selection: Selection,
    /// From how many rows on a batch of them goes as a file; `None` when nobody has agreed.
    pub(crate) import_from: Option<u64>,
}

/// Both databases and how their rows are treated.
struct Records<'a> {
    databases: &'a Databases,
    target: &'a Arc<dyn WriteDatabase>,
    config: &'a RecordsConfig,
}

impl<'a> Workers<'a> {
    /// An engine without any work yet.
    pub(crate) fn engine(&self, only_doubts: bool) -> Engine {
        self.engine_over(self.selection.clone(), only_doubts)
    }

    /// The same, over a selection of its own.
    pub(crate) fn engine_over(&self, selection: Selection, only_doubts: bool) -> Engine {
        let seed = self.clock.now().as_millisecond().unsigned_abs();
        let settings = Settings { selection, seed, only_doubts, ..Settings::default() };
        Engine::new(Arc::clone(self.journal), Arc::clone(self.watcher), settings)
    }

    /// The sources that `run` reads.
    pub(crate) fn with_sources(&self, engine: Engine, until: Stage) -> Result<Engine, Error> {
        let portions = self.config.wiring().portions();
        let users = UserSource::new(self.remotes.source.reader.clone()).with_page(portions.users);
        let engine = engine.source(Arc::new(users));
        match self.records() {
            Some(Records { databases, config, .. }) if until >= Stage::Imported => {
                if let Some(places) = &databases.places {
                    let users = config.lot_users.map(NonZeroUsize::get);
                    // Whoever is selected: a lot is cut once, and moved as users are.
                    let all: Arc<dyn Knowledge> = Arc::new(self.journal.reader()?);
                    let (database, places) = (Arc::clone(&databases.target), Arc::clone(places));
                    let lots = LotSource::new(database, places, all, users);
                    return Ok(engine.source(Arc::new(lots)));
                }
                let source = Arc::clone(&databases.source);
                let kinds = (source.identity().kind, databases.target.identity().kind);
                let spans = SpanSource::new(source, Arc::clone(&databases.layout))
                    .sized(SpanSize::between(kinds.0, kinds.1))
                    .moving_beyond(Arc::clone(&databases.target));
                Ok(engine.source(Arc::new(spans.with_rows(portions.rows))))
            }
            Some(_) | None => Ok(engine),
        }
    }

    /// The workers of the way forth, as far as `until`.
    pub(crate) fn with_forth(&self, engine: Engine, until: Stage) -> Result<Engine, Error> {
        let mut workers: Vec<Arc<dyn Transition>> = Vec::new();
        let policy = self.config.users.policy();
        if until >= Stage::Created {
            workers.push(Arc::new(CreateUsers::new(
                self.writing.users(),
                self.knowledge()?,
                policy.clone(),
            )));
        }
        if until >= Stage::Mapped {
            let reader = self.remotes.target.reader.clone();
            workers.push(Arc::new(MapUsers::new(reader, self.knowledge()?, policy)));
        }
        if until >= Stage::Imported {
            match self.records() {
                None => workers.push(self.amending(Arc::new(Passage::forth(USER)))),
                Some(Records { databases, target, config }) => {
                    let settling = SettleMentions::new(USER, self.knowledge()?);
                    if let Some(places) = &databases.places {
                        workers.push(Arc::new(RewriteLots::new(
                            Arc::clone(target),
                            self.knowledge()?,
                            Arc::clone(places),
                            config.on_unmapped,
                        )));
                        workers.push(self.amending(Arc::new(settling.carried_by(LOT))));
                    } else {
                        let spans = ImportSpans::new(
                            Arc::clone(&databases.source),
                            Arc::clone(target),
                            self.knowledge()?,
                            Arc::clone(&databases.layout),
                            config.policy(),
                            SPANS_AT_ONCE,
                        )
                        .knowing(Arc::new(self.journal.reader()?));
                        workers.push(match self.import_from {
                            Some(rows) => {
                                Arc::new(LoadSpans::new(spans, rows, Arc::clone(self.watcher)))
                            }
                            None => Arc::new(spans),
                        });
                        workers.push(self.amending(Arc::new(settling)));
                    }
                }
            }
        }
        Ok(self.with(engine, workers))
    }

    /// What takes users on from `mapped`, once their accounts are up to date.
    fn amending(&self, inner: Arc<dyn Transition>) -> Arc<dyn Transition> {
        let policy = self.config.users.policy();
        Arc::new(AmendUsers::new(self.writing.users(), policy, inner))
    }

    /// The worker that removes the spans of one table as `plan` has it; `None` without databases.
    pub(crate) fn removing(&self, plan: &Arc<RowPlan>, table: &str) -> Option<Arc<UndoSpans>> {
        let target = Arc::clone(self.records()?.target);
        Some(Arc::new(UndoSpans::new(target, Arc::clone(plan), table, SPANS_AT_ONCE)))
    }

    /// The worker that empties the references of one table within a circle.
    pub(crate) fn detaching(&self, plan: &Arc<RowPlan>, table: &str) -> Option<Arc<DetachSpans>> {
        let target = Arc::clone(self.records()?.target);
        Some(Arc::new(DetachSpans::new(target, Arc::clone(plan), table, SPANS_AT_ONCE)))
    }

    /// The worker that gives lots their old ids back before users go back to `to`; `None` when
    /// rows are copied.
    pub(crate) fn restoring(&self, to: Stage) -> Result<Option<Arc<dyn Transition>>, Error> {
        let Some(Records { databases, target, .. }) = self.records() else { return Ok(None) };
        let Some(places) = &databases.places else { return Ok(None) };
        let (target, places) = (Arc::clone(target), Arc::clone(places));
        let worker = RestoreLots::new(target, self.knowledge()?, places, accounts_back(to));
        Ok(Some(Arc::new(worker)))
    }

    /// What settles undos of both kinds that an earlier rollback left in doubt.
    pub(crate) fn with_undo_doubts(&self, engine: Engine) -> Result<Engine, Error> {
        let mut workers = vec![self.deleting(self.attached(None)?, [])];
        if let Some(restoring) = self.restoring(Stage::Exported)? {
            workers.push(restoring);
        } else if let Some(Records { databases, .. }) = self.records() {
            let (target, layout) = (Arc::clone(&databases.target), Arc::clone(&databases.layout));
            workers.push(Arc::new(SettleUndos::new(target, layout)));
        }
        Ok(self.with(engine, workers))
    }

    /// What takes users back to `to`, after their rows: to `exported` by deleting the accounts
    /// that this migration created, those of `forced` also when they were used.
    pub(crate) fn with_users_back(
        &self,
        engine: Engine,
        to: Stage,
        plan: Option<&Arc<RowPlan>>,
        forced: impl IntoIterator<Item = UnitId>,
    ) -> Result<Engine, Error> {
        let worker = match to {
            Stage::Exported => self.deleting(self.attached(plan)?, forced),
            Stage::Created | Stage::Mapped | Stage::Imported | Stage::Verified => {
                Arc::new(Passage::back(USER, to))
            }
        };
        Ok(self.with(engine, vec![worker]))
    }

    /// What deletes accounts that this migration created, and that `attached` lets go.
    pub(crate) fn deleting(
        &self,
        attached: Arc<dyn Attached>,
        forced: impl IntoIterator<Item = UnitId>,
    ) -> Arc<dyn Transition> {
        let policy = self.config.users.policy();
        Arc::new(DeleteUsers::new(self.writing.users(), policy, attached).forcing(forced))
    }

    /// The rows that mention accounts which go back; `plan` knows which of them are ours.
    fn attached(&self, plan: Option<&Arc<RowPlan>>) -> Result<Arc<dyn Attached>, Error> {
        let Some(Records { databases, target, .. }) = self.records() else {
            return Ok(Arc::new(Unattached));
        };
        let (target, layout) = (Arc::clone(target), Arc::clone(&databases.layout));
        Ok(if databases.places.is_some() {
            Arc::new(TargetRows::in_place(target, &layout, self.journal.reader()?)?)
        } else {
            Arc::new(TargetRows::new(target, layout, plan.cloned()))
        })
    }

    /// The rows that mention accounts whose users have left the source: each keeps its account.
    pub(crate) fn attached_to_the_departed(&self) -> Arc<dyn Attached> {
        match self.records() {
            None => Arc::new(Unattached),
            Some(Records { databases, target, .. }) => {
                let (target, layout) = (Arc::clone(target), Arc::clone(&databases.layout));
                Arc::new(TargetRows::keeping_all(target, layout))
            }
        }
    }

    /// What takes spans or lots from `verified` to `imported`: nothing but the claim goes.
    pub(crate) fn with_rows_unverified(&self, engine: Engine) -> Engine {
        let kind = carriers(self.config);
        self.with(engine, vec![Arc::new(Passage::back(kind, Stage::Imported))])
    }

    /// What takes the units of these kinds back to where they stood before they were written, when
    /// their rows went with the whole database.
    pub(crate) fn with_rows_forgotten(&self, engine: Engine, kinds: Vec<Kind>) -> Engine {
        let back = |kind| Arc::new(Passage::back(kind, Stage::Exported)) as Arc<dyn Transition>;
        self.with(engine, kinds.into_iter().map(back).collect())
    }

    /// Adds workers, each by way of the wiring.
    pub(crate) fn with(&self, engine: Engine, workers: Vec<Arc<dyn Transition>>) -> Engine {
        let wiring = self.config.wiring();
        workers.into_iter().fold(engine, |engine, worker| engine.transition(wiring.worker(worker)))
    }

    fn knowledge(&self) -> Result<Arc<dyn Knowledge>, Error> {
        Ok(Arc::new(self.journal.reader()?.select(self.selection.clone())))
    }

    fn records(&self) -> Option<Records<'a>> {
        match (&self.remotes.databases, &self.writing.database, &self.config.records) {
            (Some(databases), Some(target), Some(config)) => {
                Some(Records { databases, target, config })
            }
            _ => None,
        }
    }
}

/// What becomes of the accounts that this migration made when users go back to `to`.
pub(crate) fn accounts_back(to: Stage) -> Accounts {
    match to {
        Stage::Exported => Accounts::Go,
        Stage::Created | Stage::Mapped | Stage::Imported | Stage::Verified => Accounts::Stay,
    }
}
