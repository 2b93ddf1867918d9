//! What may be taken back, and what has to stay: found out by reading only. The findings about
//! accounts are written to the journal at hand, which in a dry run is a copy.

use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;

use rehome_clerk::USER;
use rehome_clerk::undo::{Standing, judge};
use rehome_core::journal::{Change, Journal, Reader, Selection};
use rehome_core::progress::{Progress, Watcher};
use rehome_core::{Condition, Event, Failure, Knowledge as _, Stage, Unit, UnitId};
use rehome_records::in_place::{self, LOT, Places};
use rehome_records::undo::{PlanOptions, RowPlan};

use super::{RollbackOptions, row_scratch};
use crate::bookmark::Mark;
use crate::config::Config;
use crate::connect::{Databases, Remotes};
use crate::document::{RefusalDoc, RestoreDoc, RollbackDoc, RowsBack};
use crate::error::Error;

/// Users that are judged at once.
const BATCH: usize = 500;
/// So many refusals are named; the others are counted.
const NAMED: usize = 1000;

/// What weighing needs.
pub(super) struct Weighing<'a> {
    pub(super) config: &'a Config,
    pub(super) remotes: &'a Remotes,
    pub(super) journal: &'a Journal,
    pub(super) watcher: &'a Watcher,
    pub(super) options: &'a RollbackOptions,
    /// The bookmark that the whole target goes back to, when that is asked for.
    pub(super) mark: Option<Mark>,
    pub(super) selection: Selection,
}

/// What was found.
pub(super) struct Weighed {
    pub(super) document: RollbackDoc,
    /// What becomes of each row; `None` when no row is concerned.
    pub(super) rows: Option<Arc<RowPlan>>,
    /// Users whose account goes although it was used or changed.
    pub(super) forced: Vec<UnitId>,
}

impl Weighing<'_> {
    /// Weighs everything; `folder` takes a working file.
    pub(super) async fn weigh(&self, folder: &Path) -> Result<Weighed, Error> {
        let mut weighed = Weighed {
            document: RollbackDoc {
                migration: self.config.migration.name.clone(),
                to: self.options.to.to_string(),
                in_doubt: self.in_doubt()?,
                ..RollbackDoc::default()
            },
            rows: None,
            forced: Vec::new(),
        };
        self.try_again().await?;
        match self.options.to {
            Stage::Exported => self.accounts(&mut weighed).await?,
            Stage::Created | Stage::Mapped | Stage::Imported | Stage::Verified => {
                self.each_user(|units| weighed.document.users.keep += units.len() as u64)?;
            }
        }
        let Some(databases) = &self.remotes.databases else {
            return Ok(weighed);
        };
        if let Some(mark) = &self.mark {
            weighed.document.restore = Some(RestoreDoc {
                database: databases.target.identity().name.clone(),
                bookmark: mark.bookmark.clone(),
                taken_at: mark.taken.clone(),
            });
        } else if self.options.to < Stage::Imported {
            let document = &mut weighed.document;
            match &databases.places {
                Some(places) => self.lots(databases, places, document).await?,
                None => weighed.rows = Some(self.rows(databases, folder, document).await?),
            }
        }
        Ok(weighed)
    }

    fn reader(&self) -> Result<Reader, Error> {
        Ok(self.journal.reader()?.select(self.selection.clone()))
    }

    fn in_doubt(&self) -> Result<u64, Error> {
        let counts = self.journal.reader()?.counts()?;
        Ok(counts.values().map(|standing| standing.in_doubt).sum())
    }

    /// What was stuck is tried again: that is what giving the command once more asks for.
    async fn try_again(&self) -> Result<(), Error> {
        let reader = self.reader()?;
        let mut after = UnitId(0);
        loop {
            let ids = reader.in_condition(&[Condition::Stuck], after, BATCH)?;
            let Some(last) = ids.last() else { return Ok(()) };
            after = *last;
            let units = reader.load(&ids)?;
            let users: Vec<_> = units.iter().filter(|unit| unit.kind == USER).collect();
            let keys: Vec<_> = users.iter().map(|unit| unit.source_key.clone()).collect();
            let known = reader.by_source(&USER, &keys)?;
            let meant = |unit: &&Unit| {
                unit.kind != USER || known.get(&unit.source_key).is_some_and(|user| user.selected)
            };
            let again = |unit: &Unit| Change::step(unit.id, Event::Retried);
            let changes: Vec<_> = units.iter().filter(meant).map(again).collect();
            self.journal.submit(changes).await?;
        }
    }

    fn each_user(&self, mut each: impl FnMut(&[Unit])) -> Result<(), Error> {
        let reader = self.reader()?;
        let mut after = UnitId(0);
        loop {
            let ids = reader.undoable_ids(&USER, self.options.to, None, after, BATCH)?;
            let Some(last) = ids.last() else { return Ok(()) };
            after = *last;
            each(&reader.load(&ids)?);
        }
    }

    /// Judges every account that would go.
    async fn accounts(&self, weighed: &mut Weighed) -> Result<(), Error> {
        let reader = self.reader()?;
        let policy = self.config.users.policy();
        let mut after = UnitId(0);
        let mut done = 0;
        let mut stuck: Vec<(UnitId, Failure)> = Vec::new();
        loop {
            let ids = reader.undoable_ids(&USER, self.options.to, None, after, BATCH)?;
            let Some(last) = ids.last() else { break };
            after = *last;
            let units = reader.load(&ids)?;
            let found = judge(&self.remotes.target.reader, &units, &policy).await?;
            done += units.len() as u64;
            self.watcher.note(&Progress::Verifying { what: "accounts".into(), done, total: None });
            for (unit, judgement) in units.iter().zip(found) {
                let users = &mut weighed.document.users;
                match &judgement.standing {
                    Standing::NotOurs => users.keep += 1,
                    Standing::Gone => users.gone += 1,
                    Standing::AsLeft => users.delete += 1,
                    Standing::Used(_) | Standing::Changed(_) if self.options.force.is_some() => {
                        users.delete += 1;
                        users.forced += 1;
                        weighed.forced.push(unit.id);
                    }
                    Standing::Used(failure)
                    | Standing::Changed(failure)
                    | Standing::Unreadable(failure) => {
                        users.refused += 1;
                        refuse(&mut weighed.document, || RefusalDoc {
                            what: USER.to_string(),
                            key: unit.source_key.clone(),
                            code: failure.code.clone(),
                            message: failure.message.clone(),
                        });
                        stuck.push((unit.id, failure.clone()));
                    }
                }
            }
            if self.options.force.is_none() {
                self.stick(std::mem::take(&mut stuck)).await?;
            }
        }
        let found = weighed.document.users.forced;
        if let Some(given) = self.options.force
            && given != found
        {
            return Err(Error::ForceCount { given, found });
        }
        self.stick(stuck).await
    }

    async fn stick(&self, stuck: Vec<(UnitId, Failure)>) -> Result<(), Error> {
        for (unit, failure) in &stuck {
            self.watcher.note(&Progress::Failed {
                kind: USER,
                source_key: self.journal.reader()?.unit(*unit)?.source_key,
                failure: failure.clone(),
            });
        }
        let changes: Vec<_> = stuck
            .into_iter()
            .map(|(unit, failure)| Change::failure(unit, Event::Stuck, failure, Vec::new()))
            .collect();
        if !changes.is_empty() {
            self.journal.submit(changes).await?;
        }
        Ok(())
    }

    /// Counts the rows whose ids would go back. Accounts that stay are known by now.
    async fn lots(
        &self,
        databases: &Databases,
        places: &Places,
        document: &mut RollbackDoc,
    ) -> Result<(), Error> {
        let reader = self.reader()?;
        let (mut after, mut done) = (UnitId(0), 0);
        loop {
            let lots = reader.with_effect(&LOT, None, after, 10)?;
            let Some(last) = lots.last() else { return Ok(()) };
            after = last.id;
            for lot in &lots {
                let back = in_place::weigh(databases.target.as_ref(), &reader, places, lot).await?;
                for (table, rows) in back.rows {
                    document.tables.entry(table).or_default().rewrite += rows;
                }
                for (table, rows) in back.restored {
                    document.tables.entry(table).or_default().restore += rows;
                }
                if back.kept > 0 {
                    refuse(document, || RefusalDoc {
                        what: LOT.to_string(),
                        key: lot.source_key.clone(),
                        code: "rows_kept".to_owned(),
                        message: format!(
                            "the rows of {} users stay, because their accounts do",
                            back.kept
                        ),
                    });
                }
                done += 1;
                let what = "lots of users".to_owned();
                self.watcher.note(&Progress::Verifying { what, done, total: None });
            }
        }
    }

    /// Weighs every row that this migration wrote.
    async fn rows(
        &self,
        databases: &Databases,
        folder: &Path,
        document: &mut RollbackDoc,
    ) -> Result<Arc<RowPlan>, Error> {
        let reader = self.reader()?;
        let options = PlanOptions {
            only_selected: !self.options.only.is_empty(),
            force: self.options.force.is_some(),
        };
        let watcher = Arc::clone(self.watcher);
        let mut progress = move |table: &str, done: u64| {
            let what = format!("rows of {table}");
            watcher.note(&Progress::Verifying { what, done, total: None });
        };
        let plan = RowPlan::make(
            databases.target.as_ref(),
            &reader,
            &reader,
            Arc::clone(&databases.layout),
            options,
            &row_scratch(folder),
            &mut progress,
        )
        .await?;
        for counts in plan.counts()? {
            let back = RowsBack {
                remove: counts.remove,
                restore: counts.restore,
                rewrite: 0,
                gone: counts.gone,
                left: counts.left,
                kept: counts.kept,
            };
            document.tables.insert(counts.table, back);
        }
        plan.refused(&mut |refused| {
            refuse(document, || RefusalDoc {
                what: refused.table,
                key: refused.key,
                code: refused.code,
                message: refused.message,
            });
            ControlFlow::Continue(())
        })?;
        Ok(Arc::new(plan))
    }
}

fn refuse(document: &mut RollbackDoc, refusal: impl FnOnce() -> RefusalDoc) {
    if document.refusals.len() < NAMED {
        document.refusals.push(refusal());
    } else {
        document.more_refusals += 1;
    }
}
