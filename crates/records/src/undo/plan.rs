//! What a rollback of rows would do: counted, named, and kept for the workers that do it.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;

use rehome_core::{Condition, Halt, Kind, Knowledge, Known, Unit, UnitId};
use serde::{Deserialize, Serialize};

use super::effect::{SpanEffect, Undoable};
use super::look::{Above, look, referrers};
use super::reason::Reason;
use super::scratch::{Act, Item, NewEarlier, NewItem, Scratch};
use super::verdicts;
use crate::database::ReadDatabase;
use crate::import::digests::RowDigest;
use crate::layout::{Form, Keying, Layout, pick};
use crate::rewrite::{Mention, mentions};
use crate::span::{SpanData, key_from_json};
use crate::survey::show_key;
use crate::target_rows::existing;
use crate::value::Value;

/// Spans that are read from the journal at once.
const SPANS: usize = 16;
/// Rows whose referrers are asked for at once.
const ROWS: usize = 1_000;

/// How a plan is meant.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct PlanOptions {
    /// Only rows that name a selected unit ([`Known::selected`]), and rows of ours below them.
    pub only_selected: bool,
    /// Rows go even if they were changed since, or nothing tells whether they were. Never against
    /// a row that refers to them.
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
    scratch: Scratch,
    layout: Arc<Layout>,
    options: PlanOptions,
    gone: BTreeMap<usize, u64>,
}

/// Everything that making a plan reads from.
struct Maker<'a> {
    target: &'a dyn ReadDatabase,
    knowledge: &'a dyn Knowledge,
    layout: &'a Layout,
    options: PlanOptions,
    scratch: &'a Scratch,
    /// For each table of the layout by what its rows are told apart, when some are ours.
    keyings: Vec<Option<Keying>>,
}

impl RowPlan {
    /// Weighs everything that `spans` says to be in `target`. Only reads, but for the working
    /// file at `scratch`, which is overwritten; its size grows with the number of rows (about
    /// 200 bytes each), memory does not. `progress` is told the table and how many rows of it
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
        scratch: &Path,
        progress: &mut (dyn FnMut(&str, u64) + Send),
    ) -> Result<Self, Halt> {
        let scratch = Scratch::create(scratch)?;
        let mut keyings = Vec::new();
        for table in &layout.tables {
            let first = spans.undoable(&table.name, UnitId(0), 1)?;
            keyings.push(first.first().map(SpanData::of).transpose()?.map(|span| span.keying));
        }
        let maker =
            Maker { target, knowledge, layout: &layout, options, scratch: &scratch, keyings };
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
        verdicts::link(&scratch)?;
        verdicts::stay_with_account(&scratch)?;
        if options.only_selected {
            verdicts::select(&scratch)?;
        }
        for place in (0..layout.tables.len()).rev() {
            maker.strangers(place).await?;
        }
        verdicts::keep_parents(&scratch)?;
        verdicts::earlier(&scratch)?;
        Ok(Self { scratch, layout, options, gone })
    }

    /// How many rows of each table go, come back and stay, in copy order; tables without a row
    /// of ours are left out.
    ///
    /// # Errors
    /// When the working file cannot be read.
    pub fn counts(&self) -> Result<Vec<TableCounts>, Halt> {
        let mut all: BTreeMap<usize, TableCounts> = BTreeMap::new();
        for (place, act, code, rows) in verdicts::counts(&self.scratch)? {
            let counts = all.entry(place).or_default();
            match act {
                Act::Remove => counts.remove += rows,
                Act::Restore => counts.restore += rows,
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
                let page = verdicts::kept(&self.scratch, kind, after, ROWS)?;
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

    /// Whether the row of this key is one that this migration wrote and that the plan does not
    /// turn into an earlier one: where such a row is still there, it was kept.
    ///
    /// # Errors
    /// When the working file cannot be read.
    pub fn wrote(&self, table: &str, key: &[Value]) -> Result<bool, Halt> {
        let place = self.layout.tables.iter().position(|one| one.name == table);
        match place {
            Some(place) => verdicts::wrote(&self.scratch, place, key),
            None => Ok(false),
        }
    }

    /// Why the row of this number in the working file stays, for a failure's message.
    pub(super) fn why(&self, item: &Item) -> Result<Option<(Reason, String)>, Halt> {
        let Some((reason, message)) = &item.why else {
            return Ok(None);
        };
        let (table, cause) = verdicts::cause(&self.scratch, item.id)?;
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
        &self.scratch
    }

    pub(super) fn layout(&self) -> &Arc<Layout> {
        &self.layout
    }

    pub(super) const fn options(&self) -> PlanOptions {
        self.options
    }
}

impl Maker<'_> {
    /// Looks at the rows of one span. How many it had, and how many of them are gone.
    async fn span(&self, place: usize, unit: &Unit) -> Result<(u64, u64), Halt> {
        let Some(effect) = SpanEffect::of(unit)? else {
            return Ok((0, 0));
        };
        let form = effect.span.form(self.layout)?;
        let ours = effect.done.rows()?;
        let keys: Vec<_> = ours.iter().map(|(key, _)| key.clone()).collect();
        let above: Vec<Above<'_>> = form
            .parents
            .iter()
            .enumerate()
            .filter_map(|(fk, parent)| self.above(fk, &parent.table))
            .collect();
        let looked = look(self.target, form, &keys, &above).await?;
        let mut refers: HashMap<usize, Vec<(usize, usize, Vec<Value>)>> = HashMap::new();
        for (number, fk, table, key) in looked.refers {
            refers.entry(number).or_default().push((fk, table, key));
        }
        let known = self.known(form, looked.rows.iter().flatten())?;
        let mut items = Vec::new();
        for (number, ((_, digest), row)) in ours.iter().zip(&looked.rows).enumerate() {
            let Some(row) = row else {
                continue;
            };
            let named: Vec<&Known> =
                mentions(form, row).iter().filter_map(|mention| known.get(mention)).collect();
            let why = self.judge(&effect, *digest, row, &named);
            items.push(NewItem {
                key: pick(row, &form.key),
                act: if why.is_some() { Act::Keep } else { Act::Remove },
                why,
                named: !named.is_empty(),
                chosen: named.iter().any(|known| known.selected),
                refers: refers.remove(&number).unwrap_or_default(),
            });
        }
        let earlier = self.earlier(form, &effect, &mut items).await?;
        self.scratch.add(place, unit.id, &items, &earlier)?;
        let (all, there) = (keys.len() as u64, items.len() as u64);
        Ok((all, all.saturating_sub(there)))
    }

    /// The parent table of a foreign key, when rows of ours may be in it.
    fn above(&self, fk: usize, table: &str) -> Option<Above<'_>> {
        let place =
            self.layout.tables.iter().position(|one| one.name.eq_ignore_ascii_case(table))?;
        let keying = self.keyings.get(place).copied().flatten()?;
        Some(Above { fk, table: place, form: self.layout.form(table, keying)? })
    }

    /// What the journal knows of those whom these rows of the target name.
    fn known<'b>(
        &self,
        form: &Form,
        rows: impl Iterator<Item = &'b Vec<Value>>,
    ) -> Result<HashMap<Mention, Known>, Halt> {
        let mut by_kind: BTreeMap<String, HashSet<String>> = BTreeMap::new();
        for (kind, key) in rows.flat_map(|row| mentions(form, row)) {
            by_kind.entry(kind.to_string()).or_default().insert(key);
        }
        let mut known = HashMap::new();
        for (kind, keys) in by_kind {
            let kind = Kind::from_name(kind);
            let keys: Vec<_> = keys.into_iter().collect();
            for (key, one) in self.knowledge.by_target(&kind, &keys)? {
                known.insert((kind.clone(), key), one);
            }
        }
        Ok(known)
    }

    /// Why a row stays, as far as the row itself tells.
    fn judge(
        &self,
        effect: &SpanEffect,
        digest: Option<RowDigest>,
        row: &[Value],
        named: &[&Known],
    ) -> Option<(Reason, String)> {
        if let Some(stands) = &effect.stands {
            return Some((Reason::SpanStuck, format!("stays with its span: {stands}")));
        }
        let stuck = named.iter().find(|known| known.state.condition == Condition::Stuck);
        if let Some(known) = stuck {
            let whom = known.target_key.as_deref().unwrap_or(&known.source_key);
            return Some((Reason::AccountStuck, format!("belongs to {whom}, which stays")));
        }
        if self.options.force {
            return None;
        }
        match digest {
            None => Some((
                Reason::NoDigest,
                "may have been changed: the journal does not say what was written".to_owned(),
            )),
            Some(digest) if digest != RowDigest::of(row) => {
                Some((Reason::RowChanged, "was changed after this migration wrote it".to_owned()))
            }
            Some(_) => None,
        }
    }

    /// What is to become of the rows that made room for those of this span. One that has the key
    /// of a row of ours, and nothing else in its way, simply becomes itself again; the others
    /// are put back once everything in their way is gone.
    async fn earlier(
        &self,
        form: &Form,
        effect: &SpanEffect,
        items: &mut [NewItem],
    ) -> Result<Vec<NewEarlier>, Halt> {
        if effect.replaced.is_empty() {
            return Ok(Vec::new());
        }
        let waiting = effect.done.waiting.to_set()?;
        let earlier: Vec<Vec<Value>> = effect
            .replaced
            .iter()
            .map(|one| key_from_json(&one.earlier))
            .collect::<Result<_, _>>()?;
        let found = existing(self.target, form, &earlier).await?;
        let place: HashMap<Vec<Value>, usize> =
            items.iter().enumerate().map(|(n, item)| (item.key.clone(), n)).collect();
        let mut later = Vec::new();
        for (number, row) in earlier.iter().enumerate() {
            let key = pick(row, &form.key);
            let same = found.same_key.get(&number);
            if same == Some(row) {
                // It never made room.
                continue;
            }
            let rivals = found.same_unique.get(&number).map(Vec::as_slice).unwrap_or_default();
            let waiting = waiting.contains(&key);
            if let (Some(there), []) = (same, rivals)
                && !waiting
            {
                let Some(at) = place.get(&pick(there, &form.key)).copied() else {
                    // Not ours: whoever put it there has the place for good.
                    continue;
                };
                let referred_alike = form
                    .children
                    .iter()
                    .all(|child| pick(there, &child.columns) == pick(row, &child.columns));
                if let (true, Some(item)) = (referred_alike, items.get_mut(at)) {
                    if item.act == Act::Remove {
                        item.act = Act::Restore;
                    }
                    continue;
                }
            }
            let rivals = same.into_iter().chain(rivals).map(|row| pick(row, &form.key)).collect();
            later.push(NewEarlier { key, waiting, rivals });
        }
        Ok(later)
    }

    /// Keeps the rows of one table to which rows refer that are not ours.
    async fn strangers(&self, place: usize) -> Result<(), Halt> {
        let Some(keying) = self.keyings.get(place).copied().flatten() else {
            return Ok(());
        };
        let form = self.layout.tables.get(place).and_then(|table| match keying {
            Keying::Primary => table.primary.as_ref(),
            Keying::Rowid => table.rowid.as_ref(),
        });
        let Some(form) = form.filter(|form| !form.children.is_empty()) else {
            return Ok(());
        };
        let mut after = 0;
        loop {
            let page = self.scratch.going(place, after, ROWS)?;
            let Some(last) = page.last() else {
                return Ok(());
            };
            let first = after + 1;
            after = last.id;
            // A row that becomes itself again keeps whoever refers to it.
            let going: Vec<&Item> = page.iter().filter(|item| item.act == Act::Remove).collect();
            let keys: Vec<_> = going.iter().map(|item| item.key.clone()).collect();
            let all = referrers(self.target, form, &keys, false).await?;
            let ours = verdicts::our_referrers(self.scratch, first, after)?;
            let mut kept = Vec::new();
            for (number, item) in going.iter().enumerate() {
                let mut by_table: BTreeMap<&str, u64> = BTreeMap::new();
                for (at, child) in form.children.iter().enumerate() {
                    let rows = all.get(&(number, at)).copied().unwrap_or(0);
                    *by_table.entry(&child.table).or_insert(0) += rows;
                }
                let strange: Vec<String> = by_table
                    .into_iter()
                    .filter_map(|(table, rows)| {
                        let of = self
                            .layout
                            .tables
                            .iter()
                            .position(|one| one.name.eq_ignore_ascii_case(table));
                        let known =
                            of.and_then(|of| ours.get(&(item.id, of))).copied().unwrap_or(0);
                        let strange = rows.saturating_sub(known);
                        (strange > 0).then(|| format!("{strange} of {table}"))
                    })
                    .collect();
                if !strange.is_empty() {
                    let message = format!(
                        "is referred to by rows that this migration did not put there: {}",
                        strange.join(", ")
                    );
                    kept.push((item.id, message));
                }
            }
            verdicts::keep(self.scratch, &kept, Reason::RowReferred)?;
        }
    }
}
