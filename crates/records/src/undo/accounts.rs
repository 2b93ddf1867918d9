//! Which accounts are kept by rows, and by which.
//!
//! The deletion of an account looks for rows that name it once ours are gone. A plan has to know
//! the same before anything has gone, and for all accounts at once: so every table is read through
//! for rows that name any account that is to go, and the working file says of each row found
//! whether it will be there then. An account that the application's own rows name is in use: it
//! stays, and its rows stay with it. One that is named by a row of ours which stays for a reason
//! of its own stays, too, but for that nothing else of it does.

use std::collections::BTreeMap;

use rehome_core::{Halt, UnitId};
use rusqlite::{OptionalExtension as _, params};

use super::draft::Draft;
use super::mentions::{form_of, identifies, seems_to_name};
use super::scratch::{Scratch, Whose, key_of, key_text};
use crate::database::{ReadDatabase, Select};
use crate::json_rows::{Chunk, chunks};
use crate::layout::{Form, Keying, Layout, TableLayout, pick};
use crate::rewrite::mentions;
use crate::survey::show_key;
use crate::value::Value;

/// Accounts that are asked about at once.
const ACCOUNTS: usize = 10_000;
/// Rows that are read at once, and those of them with a long document.
const ROWS: (usize, usize) = (8_000, 50);
/// A document of more bytes is long.
const SHORT: usize = 4_096;

/// A row that keeps an account.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeepingRow {
    /// The table as the source spells it.
    pub table: String,
    /// Its key, as a person would look for it.
    pub key: String,
    /// Whether this migration wrote it, and it stays for a reason of its own.
    pub ours: bool,
}

/// An account that stays because of rows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeptAccount {
    /// Whose account it is.
    pub unit: UnitId,
    /// Its id in the target.
    pub account: String,
    /// The first few of the rows.
    pub rows: Vec<KeepingRow>,
    /// How many more there are.
    pub more: u64,
}

/// A search for the rows that name accounts which are to go.
pub(super) struct Search<'a> {
    pub(super) target: &'a dyn ReadDatabase,
    pub(super) layout: &'a Layout,
    pub(super) draft: &'a Draft,
    /// For each table of the layout by what its rows are told apart, when some are ours.
    pub(super) keyings: &'a [Option<Keying>],
}

impl Search<'_> {
    /// Notes all of them in the working file, in which rows of ours are already.
    pub(super) async fn run(&self) -> Result<(), Halt> {
        let mut after = UnitId(0);
        loop {
            let page = self.draft.page(after, ACCOUNTS)?;
            let Some((last, _)) = page.last() else {
                return Ok(());
            };
            after = *last;
            let names: Vec<Vec<Value>> =
                page.iter().map(|(_, account)| vec![Value::text(account)]).collect();
            for chunk in chunks(names.iter(), self.target.limits().parameter) {
                for (place, table) in self.layout.tables.iter().enumerate() {
                    if let Some(part) = Part::of(self, place, table) {
                        part.search(&chunk).await?;
                    }
                }
            }
        }
    }
}

/// One table of the search.
struct Part<'a> {
    search: &'a Search<'a>,
    place: usize,
    form: &'a Form,
    /// The columns that hold ids of the accounts' kind, and whether inside documents.
    columns: BTreeMap<usize, bool>,
    /// Whether a row that stands for its account keeps it as well, because it cannot be told
    /// from one of ours when the account is deleted.
    strict: bool,
}

impl<'a> Part<'a> {
    fn of(search: &'a Search<'a>, place: usize, table: &'a TableLayout) -> Option<Self> {
        let keying = search.keyings.get(place).copied().flatten();
        let form = match keying {
            Some(Keying::Primary) => table.primary.as_ref()?,
            Some(Keying::Rowid) => table.rowid.as_ref()?,
            None => form_of(table)?.0,
        };
        let mut columns: BTreeMap<usize, bool> = BTreeMap::new();
        for id in form.ids.iter().filter(|id| id.kind == *search.draft.kind()) {
            *columns.entry(id.column).or_insert(false) |= id.path.is_some();
        }
        let strict = keying == Some(Keying::Rowid) && table.primary.is_some();
        (!columns.is_empty()).then_some(Self { search, place, form, columns, strict })
    }

    async fn search(&self, chunk: &Chunk) -> Result<(), Halt> {
        let documents = self.columns.values().any(|inside| *inside);
        let passes: &[Option<bool>] = if documents { &[Some(false), Some(true)] } else { &[None] };
        for long in passes {
            let page = if *long == Some(true) { ROWS.1 } else { ROWS.0 };
            let mut last: Option<Vec<Value>> = None;
            loop {
                let query = self.question(chunk, *long, last.as_deref(), page);
                let answer =
                    self.search.target.select(vec![query]).await?.pop().unwrap_or_default();
                self.note(&answer)?;
                if answer.len() < page {
                    break;
                }
                last = answer.into_iter().next_back().map(|mut row| {
                    row.truncate(self.form.key.len());
                    row
                });
            }
        }
        Ok(())
    }

    /// Asks for the keys and the id columns of rows beyond `last` that seem to name one.
    fn question(
        &self,
        chunk: &Chunk,
        long: Option<bool>,
        last: Option<&[Value]>,
        page: usize,
    ) -> Select {
        let key: Vec<String> =
            self.form.target_key().iter().map(|column| format!("t.{column}")).collect();
        let mut inner: Vec<String> =
            key.iter().enumerate().map(|(at, column)| format!("{column} AS k{at}")).collect();
        let mut outer: Vec<String> = (0..key.len()).map(|at| format!("k{at}")).collect();
        let order = outer.join(", ");
        let (mut names, mut sizes) = (Vec::new(), Vec::new());
        for (column, inside) in &self.columns {
            let Some(name) = self.form.target.get(*column) else {
                continue;
            };
            inner.push(format!("t.{name} AS c{column}"));
            outer.push(format!("c{column}"));
            names.push(seems_to_name(name, *inside));
            if *inside {
                sizes.push(format!("coalesce(octet_length(t.{name}), 0) <= {SHORT}"));
            }
        }
        let mut conditions = vec![format!("({})", names.join(" OR "))];
        if let Some(long) = long {
            let short = sizes.join(" AND ");
            conditions.push(if long { format!("NOT ({short})") } else { format!("({short})") });
        }
        if let Some(last) = last {
            let values: Vec<_> = last.iter().map(Value::to_sql).collect();
            conditions.push(format!("({}) > ({})", key.join(", "), values.join(", ")));
        }
        // Short names outside: a database may have to repeat each expression to read it exactly.
        Select::new(
            outer,
            format!(
                "FROM (SELECT {} FROM {} AS t WHERE {} ORDER BY {} LIMIT {page}) ORDER BY {order}",
                inner.join(", "),
                self.form.target_table(),
                conditions.join(" AND "),
                key.join(", "),
            ),
        )
        .with(chunk.json.clone())
    }

    /// Puts the rows found into the working file: whose they are, and whom they name.
    fn note(&self, rows: &[Vec<Value>]) -> Result<(), Halt> {
        let kind = self.search.draft.kind();
        let mut found = Vec::new();
        for part in rows {
            let row = self.widen(part);
            let key = key_text(&pick(&row, &self.form.key));
            // What SQL found is only likely: an id may stand elsewhere in a document.
            for (of, account) in mentions(self.form, &row) {
                if of == *kind {
                    let echo = !self.strict && identifies(self.form, kind, &row, &account);
                    found.push((key.clone(), account, echo));
                }
            }
        }
        self.search.draft.scratch().work(|file| {
            let mut ours =
                file.prepare_cached("SELECT id FROM item WHERE tbl = ?1 AND key = ?2")?;
            let mut note = file.prepare_cached(
                "INSERT INTO naming SELECT unit, ?1, ?2, ?3, ?4 FROM leaving WHERE account = ?5",
            )?;
            for (key, account, echo) in found {
                let place = self.place as i64;
                let item: Option<i64> =
                    ours.query_row(params![place, key], |row| row.get(0)).optional()?;
                let whose = match item {
                    Some(_) => Whose::Ours,
                    // It goes with the account.
                    None if echo => continue,
                    None => Whose::Others,
                };
                note.execute(params![whose.number(), item, place, key, account])?;
            }
            Ok(())
        })
    }

    /// A row as the form counts its columns, of which some were read.
    fn widen(&self, part: &[Value]) -> Vec<Value> {
        let mut row = vec![Value::Null; self.form.target.len()];
        for (at, value) in self.form.key.iter().chain(self.columns.keys()).zip(part) {
            if let Some(cell) = row.get_mut(*at) {
                *cell = value.clone();
            }
        }
        row
    }
}

/// Keeps the accounts that rows of others name, and rows of ours with them.
pub(super) fn kept_by_others(scratch: &Scratch) -> Result<(), Halt> {
    scratch.work(|file| {
        file.prepare(
            "UPDATE leaving SET stays = 1 WHERE unit IN (SELECT unit FROM naming WHERE whose = ?1)",
        )?
        .execute([Whose::Others.number()])?;
        file.prepare(
            "UPDATE item SET act = 2, code = 'account_stuck',
                 message = 'belongs to ' || l.account || ', which stays'
             FROM naming n JOIN leaving l ON l.unit = n.unit
             WHERE l.stays = 1 AND n.whose = ?1 AND n.row = item.id AND item.act IN (0, 1)",
        )?
        .execute([Whose::Ours.number()])?;
        Ok(())
    })
}

/// Of the rows that name an account, those that are going to be there.
const REMAINS: &str = "CASE n.whose
     WHEN 0 THEN (SELECT i.act IN (2, 3) FROM item i WHERE i.id = n.row)
     WHEN 1 THEN (SELECT i.act = 1 FROM item i WHERE i.id = n.row)
     WHEN 2 THEN (SELECT e.act = 1 FROM earlier e WHERE e.id = n.row) ELSE 1 END";

/// Keeps the accounts that are named by rows of ours which stay, or by earlier rows that come
/// back. After everything about rows is decided.
pub(super) fn kept_by_ours(scratch: &Scratch) -> Result<(), Halt> {
    scratch.work(|file| {
        file.prepare(&format!(
            "UPDATE leaving SET stays = 2 WHERE stays = 0
             AND unit IN (SELECT n.unit FROM naming n WHERE {REMAINS})"
        ))?
        .execute([])?;
        Ok(())
    })
}

/// Accounts that rows keep, of units with numbers above `after`; of each at most `named` rows.
pub(super) fn kept(
    scratch: &Scratch,
    layout: &Layout,
    after: UnitId,
    limit: usize,
    named: usize,
) -> Result<Vec<KeptAccount>, Halt> {
    type Row = (i64, i64, String);
    type Raw = (UnitId, String, Vec<Row>, u64);
    let raw: Vec<Raw> = scratch.work(|file| {
        let mut accounts = file.prepare_cached(
            "SELECT unit, account, stays FROM leaving WHERE stays > 0 AND unit > ?1
             ORDER BY unit LIMIT ?2",
        )?;
        // With an account that others hold, its own rows stay as well, but they do not hold it.
        let condition = format!("n.unit = ?1 AND (n.whose = 3) = (?2 = 1) AND {REMAINS}");
        let mut rows = file.prepare_cached(&format!(
            "SELECT DISTINCT n.whose, n.tbl, n.key FROM naming n WHERE {condition}
             ORDER BY n.whose DESC, n.tbl, n.key LIMIT ?3"
        ))?;
        let mut count = file.prepare_cached(&format!(
            "SELECT count(*) FROM (SELECT DISTINCT n.tbl, n.key FROM naming n WHERE {condition})"
        ))?;
        let page: Vec<(i64, String, i64)> = accounts
            .query_map(params![after.0, limit as i64], |row| {
                Ok((row.get(0)?, row.get(1)?, row.get(2)?))
            })?
            .collect::<Result<_, _>>()?;
        page.into_iter()
            .map(|(unit, account, stays)| {
                let named: Vec<Row> = rows
                    .query_map(params![unit, stays, named as i64], |row| {
                        Ok((row.get(0)?, row.get(1)?, row.get(2)?))
                    })?
                    .collect::<Result<_, _>>()?;
                let all: u64 = count.query_row(params![unit, stays], |row| row.get(0))?;
                let more = all.saturating_sub(named.len() as u64);
                Ok((UnitId(unit), account, named, more))
            })
            .collect()
    })?;
    raw.into_iter()
        .map(|(unit, account, rows, more)| {
            let rows = rows
                .into_iter()
                .map(|(whose, place, key)| {
                    let table = layout.tables.get(place as usize);
                    Ok(KeepingRow {
                        table: table.map(|table| table.name.clone()).unwrap_or_default(),
                        key: show_key(&key_of(&key)?),
                        ours: whose == Whose::Ours.number(),
                    })
                })
                .collect::<Result<_, Halt>>()?;
            Ok(KeptAccount { unit, account, rows, more })
        })
        .collect()
}
