//! One table of a search, or some columns of one that has very many.
//!
//! It is gone through in windows of rows, so that no question takes longer than a database gives
//! it, also where nothing is found; within one in pages, by key.

use std::collections::{BTreeMap, HashSet};
use std::ops::ControlFlow;

use rehome_core::Halt;

use super::paths::Paths;
use super::questions::{Pass, Place, bounds};
use super::tokens::tokens;
use super::{IsId, Prefix, Sighting};
use crate::database::{ReadDatabase, quote_name};
use crate::schema::{Column, Table};
use crate::survey::show_key;
use crate::value::Value;

/// Columns asked about at once, so that the question stays well below D1's 100,000 bytes of SQL.
const COLUMNS: usize = 40;
/// Rows that a database goes through for one question: a second or so of the 30 that D1 gives.
const WINDOW: usize = 250_000;

/// How a cell is looked at.
#[derive(Clone, Copy)]
enum Look {
    /// For ids.
    For,
    /// Also where in its document each stands, which takes reading it as one.
    Into,
}

/// Some columns of a table.
pub(super) struct Part<'a> {
    table: &'a Table,
    key: Vec<String>,
    columns: Vec<&'a Column>,
    prefixes: &'a [Prefix],
}

/// Rows from beyond a key up to another; without one, from the first or to the last.
pub(super) struct Window {
    beyond: Option<Vec<Value>>,
    to: Option<Vec<Value>>,
}

impl<'a> Part<'a> {
    /// All of a table; `None` when its rows cannot be told apart.
    pub(super) fn of(table: &'a Table, prefixes: &'a [Prefix]) -> Option<Vec<Self>> {
        let key = if table.key_never_null {
            table.primary_key.iter().map(|name| quote_name(name)).collect()
        } else {
            vec![table.rowid.clone()?]
        };
        let columns: Vec<&Column> = table.carried().collect();
        let parts = columns.chunks(COLUMNS).map(|columns| {
            let columns = columns.to_vec();
            Self { table, key: Vec::clone(&key), columns, prefixes }
        });
        Some(parts.collect())
    }

    /// The windows of the table, as it is now. Rows that come later are in one of them.
    pub(super) async fn windows(&self, database: &dyn ReadDatabase) -> Result<Vec<Window>, Halt> {
        let question = bounds(&self.table.quoted(), &self.key, WINDOW);
        let bounds = database.select(vec![question]).await?.pop().unwrap_or_default();
        let mut windows = Vec::new();
        let mut beyond = None;
        for to in bounds {
            windows.push(Window { beyond: beyond.replace(to.clone()), to: Some(to) });
        }
        windows.push(Window { beyond, to: None });
        Ok(windows)
    }

    /// Goes through one window, all passes in one request as long as they find little.
    pub(super) async fn search(
        &self,
        database: &dyn ReadDatabase,
        passes: &[Pass],
        window: &Window,
        is_id: IsId<'_>,
        found: &mut (dyn FnMut(Sighting) -> ControlFlow<()> + Send),
    ) -> Result<ControlFlow<()>, Halt> {
        let place = self.place();
        let ask = |pass: &Pass, beyond: Option<&[Value]>| {
            pass.question(&place, beyond, window.to.as_deref(), pass.page())
        };
        let first = passes.iter().map(|pass| ask(pass, window.beyond.as_deref())).collect();
        let answers = database.select(first).await?;
        for (pass, mut answer) in passes.iter().zip(answers) {
            loop {
                let full = answer.len() == pass.page();
                for sighting in self.sightings(is_id, pass, &answer, Look::For)? {
                    if found(sighting).is_break() {
                        return Ok(ControlFlow::Break(()));
                    }
                }
                let Some(last) = answer.pop().filter(|_| full) else { break };
                let beyond = last.get(..self.key.len()).unwrap_or_default();
                let next = vec![ask(pass, Some(beyond))];
                answer = database.select(next).await?.pop().unwrap_or_default();
            }
        }
        Ok(ControlFlow::Continue(()))
    }

    /// Looks at no more than `left` rows that hold words like ids.
    pub(super) async fn sample(
        &self,
        database: &dyn ReadDatabase,
        is_id: IsId<'_>,
        mut left: usize,
        found: &mut (dyn FnMut(Sighting) + Send),
    ) -> Result<(), Halt> {
        let place = self.place();
        for pass in [Pass::Short, Pass::Long] {
            let mut last: Option<Vec<Value>> = None;
            while left > 0 {
                let page = pass.page().min(left);
                let question = pass.question(&place, last.as_deref(), None, page);
                let mut answer = database.select(vec![question]).await?.pop().unwrap_or_default();
                let full = answer.len() == page;
                left -= answer.len().min(left);
                let seen = self.sightings(is_id, &pass, &answer, Look::Into)?;
                seen.into_iter().for_each(&mut *found);
                last = answer.pop().map(|mut row| {
                    row.truncate(self.key.len());
                    row
                });
                if !full {
                    break;
                }
            }
        }
        Ok(())
    }

    fn place(&self) -> Place<'_> {
        Place {
            table: self.table.quoted(),
            key: &self.key,
            columns: &self.columns,
            prefixes: self.prefixes,
        }
    }

    fn sightings(
        &self,
        is_id: IsId<'_>,
        pass: &Pass,
        rows: &[Vec<Value>],
        look: Look,
    ) -> Result<Vec<Sighting>, Halt> {
        let mut candidates = Vec::new();
        for row in rows {
            let (key, cells) = row.split_at(self.key.len().min(row.len()));
            let key = if self.table.key_never_null {
                show_key(key)
            } else {
                format!("rowid {}", show_key(key))
            };
            for (column, cell) in self.columns.iter().zip(cells) {
                let (Value::Text(bytes) | Value::Blob(bytes)) = cell else {
                    continue;
                };
                let mut paths = match look {
                    Look::For => Paths::default(),
                    Look::Into => Paths::of(bytes),
                };
                for prefix in self.prefixes.iter().filter(|prefix| pass.seeks(&prefix.kind)) {
                    for id in tokens(bytes, &prefix.prefix) {
                        candidates.push(Sighting {
                            table: self.table.name.clone(),
                            column: column.name.clone(),
                            key: key.clone(),
                            beside: bytes.len().saturating_sub(id.len()),
                            path: paths.next(&id),
                            kind: prefix.kind.clone(),
                            id,
                        });
                    }
                }
            }
        }
        let mut real: BTreeMap<&str, HashSet<String>> = BTreeMap::new();
        for prefix in self.prefixes {
            let mut ids: Vec<_> = candidates
                .iter()
                .filter(|candidate| candidate.kind == prefix.kind)
                .map(|candidate| candidate.id.clone())
                .collect();
            ids.sort();
            ids.dedup();
            if !ids.is_empty() {
                real.insert(prefix.kind.as_str(), is_id(&prefix.kind, &ids)?);
            }
        }
        candidates.retain(|candidate| {
            real.get(candidate.kind.as_str()).is_some_and(|ids| ids.contains(&candidate.id))
        });
        Ok(candidates)
    }
}
