//! What happens to one span now: the plan, held against the target once more.
//!
//! Between the plan and the request the world has gone on. So the rows are read again; what was
//! changed since stays; what others still refer to waits for them, or stays when nothing moves any
//! more; and a request that would be too large goes in parts, children first.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::Ordering;

use rehome_core::{Halt, UnitId};

use super::effect::SpanEffect;
use super::look::{look, referrers};
use super::reason::Reason;
use super::remove::UndoSpans;
use super::scratch::{Act, Item};
use super::statements::Undoing;
use crate::database::size;
use crate::import::KeySet;
use crate::import::digests::RowDigest;
use crate::import::summary::SpanDone;
use crate::layout::{Form, pick};
use crate::span::key_from_json;
use crate::survey::show_key;
use crate::target_rows::existing;
use crate::value::Value;

/// What is to happen to one span, after a fresh look.
#[derive(Default)]
pub(super) struct Course {
    pub(super) undoing: Undoing,
    pub(super) removed: Vec<Vec<Value>>,
    pub(super) restored: Vec<Vec<Value>>,
    pub(super) put_back: Vec<Vec<Value>>,
    /// Keys of rows of ours that remain.
    pub(super) remain: HashSet<Vec<Value>>,
    /// Earlier rows that are not back yet.
    pub(super) pending: Vec<Vec<Value>>,
    /// Earlier rows whose place somebody else has emptied, and which therefore are not put back.
    pub(super) emptied: Vec<Vec<Value>>,
    pub(super) kept: Vec<(Reason, String)>,
    pub(super) waits: bool,
}

/// A row that is to go, as it stands now.
struct Going {
    id: i64,
    key: Vec<Value>,
    row: Vec<Value>,
    becomes: Option<Vec<Value>>,
}

impl UndoSpans {
    /// Looks at the span again and says what happens to it now.
    pub(super) async fn course(&self, effect: &SpanEffect, form: &Form) -> Result<Course, Halt> {
        let items = self.plan.scratch().of_unit(effect.unit)?;
        let mut course = Course::default();
        let (going, staying): (Vec<Item>, Vec<Item>) =
            items.into_iter().partition(|item| matches!(item.act, Act::Remove | Act::Restore));
        for item in &staying {
            course.remain.insert(item.key.clone());
            course.kept.extend(self.plan.why(item)?);
        }
        let mut going = self.fresh(effect, form, going, &mut course).await?;
        self.put_off(form, effect.unit, &mut going, &mut course).await?;
        let mut inserts = self.coming_back(effect, form, &going, &mut course).await?;
        loop {
            let undoing = Undoing {
                remove: rows(&going, |one| one.becomes.is_none().then(|| one.row.clone())),
                update: rows(&going, |one| {
                    one.becomes.as_ref().map(|becomes| (one.row.clone(), becomes.clone()))
                }),
                insert: inserts.iter().map(|(_, row)| row.clone()).collect(),
            };
            let many = going.len() + inserts.len() > 1;
            let fits = size(&self.request(form, &undoing)) <= self.target.comfortable();
            if !many || fits || !self.halve(effect.unit, &mut going, &mut inserts, &mut course)? {
                course.undoing = undoing;
                break;
            }
        }
        for one in going {
            match one.becomes {
                None => course.removed.push(one.key),
                Some(_) => course.restored.push(one.key),
            }
        }
        course.put_back = inserts.into_iter().map(|(key, _)| key).collect();
        Ok(course)
    }

    /// The rows as they stand now; those that are gone or were changed since the plan are not
    /// among them any more.
    async fn fresh(
        &self,
        effect: &SpanEffect,
        form: &Form,
        items: Vec<Item>,
        course: &mut Course,
    ) -> Result<Vec<Going>, Halt> {
        let digests: HashMap<Vec<Value>, Option<RowDigest>> =
            effect.done.rows()?.into_iter().collect();
        let mut earlier: HashMap<Vec<Value>, Vec<Value>> = HashMap::new();
        for one in &effect.replaced {
            earlier.insert(key_from_json(&one.key)?, key_from_json(&one.earlier)?);
        }
        let keys: Vec<_> = items.iter().map(|item| item.key.clone()).collect();
        let looked = look(self.target.as_ref(), form, &keys, &[]).await?;
        let mut going = Vec::new();
        for (item, row) in items.into_iter().zip(looked.rows) {
            let Some(row) = row else {
                continue;
            };
            let Some(digest) = digests.get(&item.key).copied() else {
                // An earlier request took it back; what stands there now is not ours.
                continue;
            };
            if !item.forced && digest != Some(RowDigest::of(&row)) {
                let reason = if digest.is_some() { Reason::RowChanged } else { Reason::NoDigest };
                let words = "was changed while the rollback was under way";
                let message = format!("{} {} {words}", self.table, show_key(&item.key));
                course.kept.push((reason, message));
                course.remain.insert(item.key);
                continue;
            }
            let becomes = match item.act {
                Act::Restore => earlier.get(&item.key).cloned(),
                Act::Remove | Act::Keep | Act::Leave => None,
            };
            going.push(Going { id: item.id, key: item.key, row, becomes });
        }
        Ok(going)
    }

    /// Takes out the rows to which others still refer, and with them their parents in the span.
    async fn put_off(
        &self,
        form: &Form,
        unit: UnitId,
        going: &mut Vec<Going>,
        course: &mut Course,
    ) -> Result<(), Halt> {
        let removing: Vec<&Going> = going.iter().filter(|one| one.becomes.is_none()).collect();
        let keys: Vec<_> = removing.iter().map(|one| one.key.clone()).collect();
        let found = referrers(self.target.as_ref(), form, &keys, true).await?;
        let mut out: HashMap<i64, String> = HashMap::new();
        for ((number, child), rows) in found {
            if let (Some(one), Some(child)) = (removing.get(number), form.children.get(child)) {
                let words = format!("is referred to by {rows} rows of {}", child.table);
                out.entry(one.id).or_insert(words);
            }
        }
        if out.is_empty() {
            return Ok(());
        }
        self.with_parents(unit, &mut out)?;
        let last = self.last.load(Ordering::SeqCst);
        let all = std::mem::take(going);
        for one in all {
            let words = out.get(&one.id).filter(|_| one.becomes.is_none());
            let Some(words) = words else {
                going.push(one);
                continue;
            };
            if last {
                let message = format!("{} {} {words}", self.table, show_key(&one.key));
                course.kept.push((Reason::RowReferred, message));
            } else {
                course.waits = true;
            }
            course.remain.insert(one.key);
        }
        Ok(())
    }

    /// Adds the parents, within the span, of what is out.
    fn with_parents(&self, unit: UnitId, out: &mut HashMap<i64, String>) -> Result<(), Halt> {
        let links = self.plan.scratch().inner_links(unit)?;
        let mut parents: HashMap<i64, Vec<i64>> = HashMap::new();
        for (child, parent) in links {
            parents.entry(child).or_default().push(parent);
        }
        let mut open: Vec<i64> = out.keys().copied().collect();
        while let Some(child) = open.pop() {
            for parent in parents.get(&child).into_iter().flatten() {
                if !out.contains_key(parent) {
                    let words = "is referred to by a row of its span that stays".to_owned();
                    out.insert(*parent, words);
                    open.push(*parent);
                }
            }
        }
        Ok(())
    }

    /// The earlier rows whose place is free now, or becomes free with this request.
    async fn coming_back(
        &self,
        effect: &SpanEffect,
        form: &Form,
        going: &[Going],
        course: &mut Course,
    ) -> Result<Vec<(Vec<Value>, Vec<Value>)>, Halt> {
        let mut wanted = HashSet::new();
        for item in self.plan.scratch().earlier_of(effect.unit)? {
            match item.act {
                Act::Restore | Act::Remove => {
                    wanted.insert(item.key);
                }
                Act::Keep => {
                    match item.why {
                        Some((Reason::PlaceEmpty, _)) => course.emptied.push(item.key.clone()),
                        Some(_) | None => course.pending.push(item.key.clone()),
                    }
                    course.kept.extend(item.why.map(|(reason, message)| {
                        (reason, format!("{} {} {message}", self.table, show_key(&item.key)))
                    }));
                }
                Act::Leave => {}
            }
        }
        let mut rows = Vec::new();
        for one in &effect.replaced {
            let key = key_from_json(&one.key)?;
            if wanted.contains(&key) {
                rows.push((key, key_from_json(&one.earlier)?));
            }
        }
        if rows.is_empty() {
            return Ok(rows);
        }
        let whole: Vec<_> = rows.iter().map(|(_, row)| row.clone()).collect();
        let found = existing(self.target.as_ref(), form, &whole).await?;
        let leaving: HashSet<&Vec<Value>> =
            going.iter().filter(|one| one.becomes.is_none()).map(|one| &one.key).collect();
        let mut coming = Vec::new();
        for (number, (key, row)) in rows.into_iter().enumerate() {
            let same = found.same_key.get(&number);
            if same == Some(&row) {
                // It is back already.
                continue;
            }
            let rivals = found.same_unique.get(&number).map(Vec::as_slice).unwrap_or_default();
            let free =
                same.into_iter().chain(rivals).all(|row| leaving.contains(&pick(row, &form.key)));
            if free {
                coming.push((key, row));
                continue;
            }
            if self.last.load(Ordering::SeqCst) {
                let words = "cannot be put back: another row has its key or a unique value";
                let message = format!("{} {} {words}", self.table, show_key(&key));
                course.kept.push((Reason::PlaceTaken, message));
            } else {
                course.waits = true;
            }
            course.pending.push(key);
        }
        Ok(coming)
    }

    /// Takes half of the rows out of a request that is too large; they go with the next one.
    /// Says whether it could.
    fn halve(
        &self,
        unit: UnitId,
        going: &mut Vec<Going>,
        inserts: &mut Vec<(Vec<Value>, Vec<Value>)>,
        course: &mut Course,
    ) -> Result<bool, Halt> {
        course.waits = true;
        if !inserts.is_empty() {
            // They need the room that the others leave, so they come after them.
            course.pending.extend(inserts.drain(..).map(|(key, _)| key));
            return Ok(true);
        }
        let half = going.len() / 2;
        let mut out: HashMap<i64, String> =
            going.iter().skip(half).map(|one| (one.id, String::new())).collect();
        self.with_parents(unit, &mut out)?;
        if going.iter().all(|one| out.contains_key(&one.id)) {
            // The first half are parents of the second: only what nothing refers to goes first.
            let links = self.plan.scratch().inner_links(unit)?;
            let here: HashSet<i64> = going.iter().map(|one| one.id).collect();
            out = links
                .into_iter()
                .filter(|(child, parent)| child != parent && here.contains(child))
                .map(|(_, parent)| (parent, String::new()))
                .collect();
        }
        if going.iter().all(|one| out.contains_key(&one.id)) {
            // A circle that cannot be cut.
            return Ok(false);
        }
        let all = std::mem::take(going);
        for one in all {
            if out.contains_key(&one.id) {
                course.remain.insert(one.key);
            } else {
                going.push(one);
            }
        }
        Ok(true)
    }
}

fn rows<T>(going: &[Going], of: impl Fn(&Going) -> Option<T>) -> Vec<T> {
    going.iter().filter_map(of).collect()
}

/// What remains of a span once its course has been taken; `None` for nothing.
pub(super) fn after(effect: &SpanEffect, course: &Course) -> Result<Option<SpanDone>, Halt> {
    let mut done = effect.done.clone();
    let mut rows = done.rows()?;
    rows.retain(|(key, _)| course.remain.contains(key));
    if rows.is_empty() && course.pending.is_empty() && course.emptied.is_empty() {
        return Ok(None);
    }
    done.set_rows(&rows);
    let open = done.open.keys()?;
    done.open = KeySet::new(open.iter().filter(|key| course.remain.contains(*key)));
    let mut settled = done.settled.keys()?;
    settled.extend(course.restored.iter().chain(&course.put_back).cloned());
    done.settled = KeySet::new(&settled);
    done.waiting = KeySet::new(&course.pending);
    done.emptied = KeySet::new(&course.emptied);
    Ok(Some(done))
}
