//! Weighing the rows of spans: what the row itself tells, and who refers to it.

use std::collections::{BTreeMap, HashMap, HashSet};

use rehome_core::{Condition, Halt, Kind, Knowledge, Known, Unit};

use super::draft::Draft;
use super::effect::SpanEffect;
use super::look::{Above, look, referrers};
use super::mentions::identifies;
use super::plan::PlanOptions;
use super::reason::Reason;
use super::scratch::{Act, Item, NewEarlier, NewItem, Scratch, Vacant};
use super::verdicts;
use crate::database::ReadDatabase;
use crate::import::digests::RowDigest;
use crate::layout::{Form, Keying, Layout, pick};
use crate::rewrite::{Mention, mentions};
use crate::span::key_from_json;
use crate::target_rows::existing;
use crate::value::Value;

/// Rows whose referrers are asked for at once.
const ROWS: usize = 1_000;

/// Why a row stays whatever it holds: its span cannot be touched, or whom it names stays.
fn stands(effect: &SpanEffect, named: &[&Known]) -> Option<(Reason, String)> {
    if let Some(stands) = &effect.stands {
        return Some((Reason::SpanStuck, format!("stays with its span: {stands}")));
    }
    let stuck = named.iter().find(|known| known.state.condition == Condition::Stuck)?;
    let whom = stuck.target_key.as_deref().unwrap_or(&stuck.source_key);
    Some((Reason::AccountStuck, format!("belongs to {whom}, which stays")))
}

/// Whether, and as far as one can tell, a row is not as it was written.
fn changed(digest: Option<RowDigest>, row: &[Value]) -> Option<(Reason, String)> {
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

/// Everything that making a plan reads from.
pub(super) struct Maker<'a> {
    pub(super) target: &'a dyn ReadDatabase,
    pub(super) knowledge: &'a dyn Knowledge,
    pub(super) layout: &'a Layout,
    pub(super) options: PlanOptions,
    pub(super) draft: &'a Draft,
    pub(super) scratch: &'a Scratch,
    /// For each table of the layout by what its rows are told apart, when some are ours.
    pub(super) keyings: Vec<Option<Keying>>,
}

impl Maker<'_> {
    /// Looks at the rows of one span. How many it had, and how many of them are gone.
    pub(super) async fn span(&self, place: usize, unit: &Unit) -> Result<(u64, u64), Halt> {
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
            let changed = changed(*digest, row);
            let forced = self.options.force && changed.is_some();
            let why = stands(&effect, &named).or_else(|| changed.filter(|_| !forced));
            items.push(NewItem {
                key: pick(row, &form.key),
                act: if why.is_some() { Act::Keep } else { Act::Remove },
                forced: forced && why.is_none(),
                why,
                named: !named.is_empty(),
                chosen: named.iter().any(|known| known.selected),
                keeps: Vec::new(),
                refers: refers.remove(&number).unwrap_or_default(),
            });
        }
        let earlier = self.earlier(form, &effect, &ours, &mut items).await?;
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

    /// What is to become of the rows that made room for those of this span. One that has the key
    /// of a row of ours, and nothing else in its way, simply becomes itself again; the others
    /// are put back once everything in their way is gone.
    async fn earlier(
        &self,
        form: &Form,
        effect: &SpanEffect,
        ours: &[(Vec<Value>, Option<RowDigest>)],
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
        let written: HashSet<&Vec<Value>> = ours.iter().map(|(key, _)| key).collect();
        let emptied = effect.done.emptied.to_set()?;
        let touched = items.len() < ours.len() || items.iter().any(NewItem::was_changed);
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
            let named = self.accounts_of(form, row);
            // What waits has had its place cleared by an undo.
            let empty = same.is_none() && rivals.is_empty() && !waiting;
            if empty && self.draft.any_leaves(named.iter().map(|(account, _)| account))? {
                // It spoke of an account that goes or is gone, and would go with it.
                continue;
            }
            // An intent alone proves nothing: the row may never have made room, and have gone with
            // an account since.
            let by_others = written.contains(&key)
                || emptied.contains(&key)
                || (touched && effect.done.replaced > 0);
            // Asked for some users only, a row that is not there is nobody's.
            let told = by_others && !self.options.only_selected;
            let vacant = match (empty, told, self.options.force) {
                (false, _, _) | (true, false, _) => Vacant::Not,
                (true, true, false) => Vacant::ByOthers,
                (true, true, true) => Vacant::Forced,
            };
            let keeps: Vec<String> = named
                .into_iter()
                .filter(|(_, identifying)| !identifying)
                .map(|(account, _)| account)
                .collect();
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
                        item.keeps = keeps;
                    }
                    continue;
                }
            }
            let rivals = same.into_iter().chain(rivals).map(|row| pick(row, &form.key)).collect();
            later.push(NewEarlier { key, waiting, vacant, rivals, keeps });
        }
        Ok(later)
    }

    /// The accounts that an earlier row names, and whether it stands for each.
    fn accounts_of(&self, form: &Form, row: &[Value]) -> Vec<(String, bool)> {
        let kind = self.draft.kind();
        mentions(form, row)
            .into_iter()
            .filter(|(of, _)| of == kind)
            .map(|(_, id)| {
                let identifying = identifies(form, kind, row, &id);
                (id, identifying)
            })
            .collect()
    }

    /// Keeps the rows of one table to which rows refer that are not ours.
    pub(super) async fn strangers(&self, place: usize) -> Result<(), Halt> {
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
