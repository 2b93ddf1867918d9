//! What a rollback of rows would do: counted, named, and kept for the workers that do it.

use std::collections::{BTreeMap, HashMap};
use std::ops::ControlFlow;
use std::sync::Arc;

use rehome_core::{Halt, Knowledge, Unit, UnitId};
use serde::{Deserialize, Serialize};

use super::accounts::{self, KeptAccount, Search};
use super::draft::Draft;
use super::effect::Undoable;
use super::reason::Reason;
use super::scratch::{Act, Item, Scratch};
use super::verdicts::{self, Count};
use super::weigh::Maker;
use crate::database::ReadDatabase;
use crate::layout::{Keying, Layout};
use crate::span::SpanData;
use crate::survey::show_key;
use crate::value::Value;
use crate::verify::{RowAudit, RowFinding};

/// Spans that are read from the journal at once.
const SPANS: usize = 16;
/// So many spans with changed rows are compared with the source, to say what was changed.
const EXPLAINED: usize = 20;
/// Rows that are read from the working file at once.
const ROWS: usize = 1_000;

/// How a plan is meant.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct PlanOptions {
    /// Only rows that name a selected unit ([`rehome_core::Known::selected`]), and rows of ours below them.
    pub only_selected: bool,
    /// Rows go even if they were changed since, or nothing tells whether they were; earlier rows
    /// come back even if somebody has emptied their place. Never against a row that refers to them.
    pub force: bool,
}

/// What would become of the rows of one table.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TableCounts {
    /// The table as the source spells it.
    pub table: String,
    /// Rows that this migration put there and that are gone already.
    pub gone: u64,
    /// Rows that go.
    pub remove: u64,
    /// Earlier rows that get their place or their values back.
    pub restore: u64,
    /// Of both, how many only because [`PlanOptions::force`] says so.
    pub forced: u64,
    /// Rows of ours that nobody asked for.
    pub left: u64,
    /// Rows that stay though they were asked for, by the code of the reason.
    pub kept: BTreeMap<String, u64>,
}

/// One row that stays though its undoing was asked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refused {
    /// The table as the source spells it.
    pub table: String,
    /// The row's key in the target, as a person reads it.
    pub key: String,
    /// A stable word: [`Reason::code`].
    pub code: String,
    /// What keeps it.
    pub message: String,
}

/// What a rollback of rows would do, kept in a working file.
pub struct RowPlan {
    draft: Draft,
    layout: Arc<Layout>,
    options: PlanOptions,
    gone: BTreeMap<usize, u64>,
    keyings: Vec<Option<Keying>>,
}

impl RowPlan {
    /// Weighs everything that `spans` says to be in `target`, and whether the accounts of `draft`
    /// can go. Only reads, but for the draft's working file; its size grows with the number of
    /// rows (about 200 bytes each), memory does not. `progress` is told the table and how many rows of it
    /// have been read so far.
    ///
    /// # Errors
    /// When the target, the journal or the working file cannot be used.
    pub async fn make(
        target: &dyn ReadDatabase,
        spans: &dyn Undoable,
        knowledge: &dyn Knowledge,
        layout: Arc<Layout>,
        options: PlanOptions,
        draft: Draft,
        progress: &mut (dyn FnMut(&str, u64) + Send),
    ) -> Result<Self, Halt> {
        let scratch = draft.scratch();
        let mut keyings = Vec::new();
        for table in &layout.tables {
            let first = spans.undoable(&table.name, UnitId(0), 1)?;
            keyings.push(first.first().map(SpanData::of).transpose()?.map(|span| span.keying));
        }
        let maker =
            Maker { target, knowledge, layout: &layout, options, draft: &draft, scratch, keyings };
        let mut gone = BTreeMap::new();
        for (place, table) in layout.tables.iter().enumerate().rev() {
            let mut read = 0;
            let mut after = UnitId(0);
            loop {
                let units = spans.undoable(&table.name, after, SPANS)?;
                let Some(last) = units.last() else {
                    break;
                };
                after = last.id;
                for unit in &units {
                    let (rows, missing) = maker.span(place, unit).await?;
                    read += rows;
                    *gone.entry(place).or_insert(0) += missing;
                    progress(&table.name, read);
                }
            }
        }
        verdicts::link(scratch)?;
        let search = Search { target, layout: &layout, draft: &draft, keyings: &maker.keyings };
        search.run().await?;
        accounts::kept_by_others(scratch)?;
        verdicts::stay_with_account(scratch)?;
        if options.only_selected {
            verdicts::select(scratch)?;
        }
        for place in (0..layout.tables.len()).rev() {
            maker.strangers(place).await?;
        }
        verdicts::keep_parents(scratch)?;
        verdicts::earlier(scratch)?;
        accounts::kept_by_ours(scratch)?;
        let keyings = maker.keyings;
        Ok(Self { draft, layout, options, gone, keyings })
    }

    /// How many rows of each table go, come back and stay, in copy order; tables without a row
    /// of ours are left out.
    ///
    /// # Errors
    /// When the working file cannot be read.
    pub fn counts(&self) -> Result<Vec<TableCounts>, Halt> {
        let mut all: BTreeMap<usize, TableCounts> = BTreeMap::new();
        for Count { table, act, code, rows, forced } in verdicts::counts(self.scratch())? {
            let counts = all.entry(table).or_default();
            match act {
                Act::Remove => {
                    counts.remove += rows;
                    counts.forced += forced;
                }
                Act::Restore => {
                    counts.restore += rows;
                    counts.forced += forced;
                }
                Act::Leave => counts.left += rows,
                Act::Keep => *counts.kept.entry(code.unwrap_or_default()).or_insert(0) += rows,
            }
        }
        for (place, rows) in &self.gone {
            if *rows > 0 {
                all.entry(*place).or_default().gone += rows;
            }
        }
        Ok(all
            .into_iter()
            .map(|(place, counts)| TableCounts { table: self.table(place), ..counts })
            .collect())
    }

    /// Tells of every row that stays though its undoing was asked for, until `tell` breaks.
    ///
    /// # Errors
    /// When the working file cannot be read.
    pub fn refused(&self, tell: &mut dyn FnMut(Refused) -> ControlFlow<()>) -> Result<(), Halt> {
        for kind in [verdicts::Kept::Rows, verdicts::Kept::Earlier] {
            let mut after = 0;
            loop {
                let page = verdicts::kept(self.scratch(), kind, after, ROWS)?;
                let Some(last) = page.last() else {
                    break;
                };
                after = last.id;
                for kept in page {
                    let table = self.table(kept.table);
                    let key = show_key(&kept.key);
                    let message = self.words(&table, &key, &kept.message, kept.cause.as_ref());
                    let refused =
                        Refused { table, key, code: kept.reason.code().to_owned(), message };
                    if tell(refused).is_break() {
                        return Ok(());
                    }
                }
            }
        }
        Ok(())
    }

    /// The first few spans with rows that stay because they were changed: those that
    /// [`RowPlan::explain`] can say more about at a bearable cost.
    ///
    /// # Errors
    /// When the working file cannot be read.
    pub fn spans_changed(&self) -> Result<Vec<UnitId>, Halt> {
        verdicts::spans_changed(self.scratch(), UnitId(0), EXPLAINED)
    }

    /// Adds to what is said about the changed rows of `span` in which columns they differ from
    /// the source as `audit` finds it now. A source that cannot be read costs the words, and
    /// nothing else.
    ///
    /// # Errors
    /// When the working file or the journal's entry cannot be used.
    pub async fn explain(&self, span: &Unit, audit: &RowAudit) -> Result<(), Halt> {
        let mut columns: HashMap<String, String> = HashMap::new();
        let mut found = |_: &str, key: &str, finding: RowFinding| match finding {
            RowFinding::Different(names) | RowFinding::Overtaken(Some(names)) => {
                columns.insert(key.to_owned(), names.join(", "));
            }
            RowFinding::Missing | RowFinding::Overtaken(None) | RowFinding::Held { .. } => {}
        };
        if audit.span(&SpanData::of(span)?, &mut found).await.is_err() {
            return Ok(());
        }
        let mut words = Vec::new();
        for item in self.scratch().of_unit(span.id)? {
            if let (Some((Reason::RowChanged, _)), Some(names)) =
                (&item.why, columns.get(&show_key(&item.key)))
            {
                words.push((item.id, format!("; it differs from the source in {names}")));
            }
        }
        verdicts::explain(self.scratch(), &words)
    }

    /// Tells of every row that goes, or comes back, only because [`PlanOptions::force`] says so:
    /// table and key in words. Until `tell` breaks.
    ///
    /// # Errors
    /// When the working file cannot be read.
    pub fn forced(
        &self,
        tell: &mut dyn FnMut(String, String) -> ControlFlow<()>,
    ) -> Result<(), Halt> {
        for kind in [verdicts::Kept::Rows, verdicts::Kept::Earlier] {
            let mut after = 0;
            loop {
                let page = verdicts::forced(self.scratch(), kind, after, ROWS)?;
                let Some((last, _, _)) = page.last() else {
                    break;
                };
                after = *last;
                for (_, place, key) in page {
                    if tell(self.table(place), show_key(&key)).is_break() {
                        return Ok(());
                    }
                }
            }
        }
        Ok(())
    }

    /// Tells of every account of the draft that stays because rows do, with at most `named` of
    /// them, until `tell` breaks.
    ///
    /// # Errors
    /// When the working file cannot be read.
    pub fn accounts_kept(
        &self,
        named: usize,
        tell: &mut dyn FnMut(KeptAccount) -> ControlFlow<()>,
    ) -> Result<(), Halt> {
        let mut after = UnitId(0);
        loop {
            let page = accounts::kept(self.scratch(), &self.layout, after, ROWS, named)?;
            let Some(last) = page.last() else {
                return Ok(());
            };
            after = last.unit;
            for account in page {
                if tell(account).is_break() {
                    return Ok(());
                }
            }
        }
    }

    /// Whether the row of this key (as [`super::MentionedRow`] has it) is one that this migration
    /// wrote, and that the plan's workers have neither removed nor turned into an earlier one.
    ///
    /// # Errors
    /// When the working file cannot be read.
    pub fn wrote(&self, table: &str, key: &[Value]) -> Result<bool, Halt> {
        let Some(place) = self.layout.tables.iter().position(|one| one.name == table) else {
            return Ok(false);
        };
        let keyed_otherwise = self.keyings.get(place) == Some(&Some(Keying::Rowid))
            && self.layout.form(table, Keying::Primary).is_some();
        if keyed_otherwise {
            // Some row has no whole key, so that ours are known by their rowids, and this one by
            // its key: to keep it is the safe side.
            return Ok(true);
        }
        verdicts::wrote(self.scratch(), place, key)
    }

    /// Why the row of this number in the working file stays, for a failure's message.
    pub(super) fn why(&self, item: &Item) -> Result<Option<(Reason, String)>, Halt> {
        let Some((reason, message)) = &item.why else {
            return Ok(None);
        };
        let (table, cause) = verdicts::cause(self.scratch(), item.id)?;
        let words = self.words(&self.table(table), &show_key(&item.key), message, cause.as_ref());
        Ok(Some((*reason, words)))
    }

    fn words(
        &self,
        table: &str,
        key: &str,
        message: &str,
        cause: Option<&(usize, Vec<Value>)>,
    ) -> String {
        match cause {
            Some((of, by)) => format!(
                "{table} {key} stays, because {} {} refers to it and stays",
                self.table(*of),
                show_key(by)
            ),
            None => format!("{table} {key} {message}"),
        }
    }

    fn table(&self, place: usize) -> String {
        self.layout.tables.get(place).map(|table| table.name.clone()).unwrap_or_default()
    }

    pub(super) fn scratch(&self) -> &Scratch {
        self.draft.scratch()
    }

    pub(super) fn layout(&self) -> &Arc<Layout> {
        &self.layout
    }

    pub(super) const fn options(&self) -> PlanOptions {
        self.options
    }
}
