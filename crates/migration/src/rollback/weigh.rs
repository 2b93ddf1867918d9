//! What may be taken back, and what has to stay: found out by reading only. The findings about
//! accounts are written to the journal at hand, which in a dry run is a copy.

use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;

use rehome_clerk::USER;
use rehome_clerk::undo::{Attachment, NAMED_ROWS, Standing, Tie, judge, rows_remain};
use rehome_core::journal::{Change, Journal, Reader, Selection};
use rehome_core::progress::{Progress, Watcher};
use rehome_core::{Condition, Event, Failure, Knowledge as _, Stage, Unit, UnitId};
use rehome_records::in_place::{self, LOT, LotBack, Places};
use rehome_records::undo::{Draft, KeptAccount, PlanOptions, RowPlan};

use super::agreement::Agreement;
use super::{RollbackOptions, row_scratch};
use crate::bookmark::Mark;
use crate::config::Config;
use crate::connect::{Databases, Remotes};
use crate::document::{RefusalDoc, RestoreDoc, RollbackDoc, RowsBack};
use crate::error::Error;
use crate::verify;
use crate::workers::accounts_back;

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
    /// What goes although it was used or changed.
    pub(super) forced: Agreement,
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
            forced: Agreement::default(),
        };
        self.try_again().await?;
        let draft = Draft::create(&row_scratch(folder), USER)?;
        let agreed = Agreement::standing(&self.journal.reader()?)?;
        match self.options.to {
            Stage::Exported => self.accounts(&mut weighed, &agreed, &draft).await?,
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
            match &databases.places {
                Some(places) => self.lots((databases, places), &draft, &mut weighed).await?,
                None => {
                    let plan = self.rows(databases, draft, &mut weighed.document).await?;
                    plan.forced(&mut |table, key| {
                        weighed.forced.rows.insert((table, key));
                        ControlFlow::Continue(())
                    })?;
                    agreed.allows_rows(self.options.force_rows, &weighed.forced.rows)?;
                    self.kept_by_rows(&plan, &mut weighed).await?;
                    weighed.rows = Some(Arc::new(plan));
                }
            }
        }
        agreed.allows_rows(self.options.force_rows, &weighed.forced.rows)?;
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
    async fn accounts(
        &self,
        weighed: &mut Weighed,
        agreed: &Agreement,
        draft: &Draft,
    ) -> Result<(), Error> {
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
            let (mut leaving, mut departed) = (Vec::new(), Vec::new());
            for (unit, judgement) in units.iter().zip(found) {
                let users = &mut weighed.document.users;
                let goes = unit.target_key.as_deref().map(|account| (unit.id, account));
                match &judgement.standing {
                    Standing::NotOurs => users.keep += 1,
                    Standing::Gone => {
                        users.gone += 1;
                        departed.extend(unit.target_key.as_deref());
                    }
                    Standing::AsLeft => {
                        users.delete += 1;
                        leaving.extend(goes);
                    }
                    Standing::Used(_) | Standing::Changed(_) if self.options.force.is_some() => {
                        users.delete += 1;
                        users.forced += 1;
                        leaving.extend(goes);
                        weighed.forced.users.insert(unit.id);
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
            draft.leaving(leaving)?;
            draft.departed(departed)?;
            if self.options.force.is_none() {
                self.stick(std::mem::take(&mut stuck)).await?;
            }
        }
        agreed.allows_users(self.options.force, &weighed.forced.users)?;
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

    /// Sticks the accounts that are as they were left, but for rows that name them and stay.
    async fn kept_by_rows(&self, plan: &RowPlan, weighed: &mut Weighed) -> Result<(), Error> {
        let reader = self.journal.reader()?;
        let mut kept = Vec::new();
        plan.accounts_kept(NAMED_ROWS, &mut |account| {
            kept.push(account);
            ControlFlow::Continue(())
        })?;
        for page in kept.chunks(BATCH) {
            let ids: Vec<_> = page.iter().map(|one| one.unit).collect();
            let mut stuck = Vec::new();
            for (one, unit) in page.iter().zip(reader.load(&ids)?) {
                let failure = by_rows(one, &unit.source_key);
                let users = &mut weighed.document.users;
                users.delete = users.delete.saturating_sub(1);
                users.refused += 1;
                if weighed.forced.users.contains(&one.unit) {
                    users.forced = users.forced.saturating_sub(1);
                }
                refuse(&mut weighed.document, || RefusalDoc {
                    what: USER.to_string(),
                    key: unit.source_key.clone(),
                    code: failure.code.clone(),
                    message: failure.message.clone(),
                });
                stuck.push((one.unit, failure));
            }
            self.stick(stuck).await?;
        }
        Ok(())
    }

    /// Counts the rows whose ids would go back. Accounts that stay are known by now.
    async fn lots(
        &self,
        (databases, places): (&Databases, &Places),
        draft: &Draft,
        weighed: &mut Weighed,
    ) -> Result<(), Error> {
        let reader = self.reader()?;
        let accounts = accounts_back(self.options.to);
        let (mut after, mut done) = (UnitId(0), 0);
        loop {
            let lots = reader.with_effect(&LOT, None, after, 10)?;
            let Some(last) = lots.last() else { return Ok(()) };
            after = last.id;
            for lot in &lots {
                let target = databases.target.as_ref();
                let mut back = in_place::weigh(target, &reader, places, lot, accounts).await?;
                self.kept_by_lot(&mut back, draft, weighed).await?;
                let document = &mut weighed.document;
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

    /// Sticks the accounts whose users' rows cannot go back, as they would be found to be stuck
    /// after that: then their rows are kept because they are.
    async fn kept_by_lot(
        &self,
        back: &mut LotBack,
        draft: &Draft,
        weighed: &mut Weighed,
    ) -> Result<(), Error> {
        let mut stuck = Vec::new();
        for one in std::mem::take(&mut back.troubled) {
            refuse(&mut weighed.document, || RefusalDoc {
                what: USER.to_string(),
                key: one.source_key.clone(),
                code: one.failure.code.clone(),
                message: one.failure.message.clone(),
            });
            // An account that lives on, whatever becomes of its rows, is not stuck.
            if draft.leaves(one.unit)? {
                let users = &mut weighed.document.users;
                users.delete = users.delete.saturating_sub(1);
                users.refused += 1;
                if weighed.forced.users.contains(&one.unit) {
                    users.forced = users.forced.saturating_sub(1);
                }
                back.kept += 1;
                stuck.push((one.unit, one.failure));
            }
        }
        self.stick(stuck).await
    }

    /// Weighs every row that this migration wrote.
    async fn rows(
        &self,
        databases: &Databases,
        draft: Draft,
        document: &mut RollbackDoc,
    ) -> Result<RowPlan, Error> {
        let reader = self.reader()?;
        let options = PlanOptions {
            only_selected: !self.options.only.is_empty(),
            force: self.options.force_rows.is_some(),
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
            draft,
            &mut progress,
        )
        .await?;
        if let Some(records) = &self.config.records {
            let audit = verify::row_audit(databases, records, &Arc::new(self.journal.reader()?));
            for unit in reader.load(&plan.spans_changed()?)? {
                plan.explain(&unit, &audit).await?;
            }
        }
        for counts in plan.counts()? {
            let back = RowsBack {
                remove: counts.remove,
                restore: counts.restore,
                forced: counts.forced,
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
        Ok(plan)
    }
}

/// Why rows keep an account, as its deletion would say it.
fn by_rows(kept: &KeptAccount, source_key: &str) -> Failure {
    let rows: Vec<_> = kept
        .rows
        .iter()
        .map(|row| Attachment {
            account: kept.account.clone(),
            table: row.table.clone(),
            key: row.key.clone(),
            tie: if row.ours { Tie::Ours } else { Tie::Own },
            content: serde_json::Value::Null,
        })
        .collect();
    rows_remain(&kept.account, source_key, &rows, kept.more)
}

fn refuse(document: &mut RollbackDoc, refusal: impl FnOnce() -> RefusalDoc) {
    if document.refusals.len() < NAMED {
        document.refusals.push(refusal());
    } else {
        document.more_refusals += 1;
    }
}
