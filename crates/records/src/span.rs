//! Spans: ranges of a table's key, each small enough to be written in one atomic request.
//!
//! The source of the kind `span`. Only keys are read here, with how many bytes their rows hold: a
//! span ends after so many bytes of content or so many rows, whichever comes first ([`SpanSize`]:
//! larger where each one costs requests over a network). Its range is
//! in the journal with exact values, so the rows can be read afresh by every worker, and a new
//! row that falls into a range is carried with it. Pages go by key, never by OFFSET.

use std::sync::Arc;

use futures::future::BoxFuture;
use rehome_core::{Exported, Halt, Kind, Page, Source, Unit};
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::database::{DatabaseKind, ReadDatabase, Rows, Select, qualified};
use crate::layout::{Form, Keying, Layout, TableLayout};
use crate::rekey::{self, Relocated, Shift, Shifts};
use crate::value::Value;

/// The kind of unit that a range of rows is.
pub const SPAN: Kind = Kind::new("span");

/// How much a span holds at most.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SpanSize {
    /// Rows.
    pub rows: usize,
    /// Content, in bytes; a single larger row is a span of its own.
    pub bytes: usize,
}

impl SpanSize {
    /// Between files: small transactions, and little of it in memory.
    pub const SMALL: Self = Self { rows: 2_500, bytes: 500_000 };
    /// Over a network. A span costs a handful of requests however many rows it has, and
    /// Cloudflare counts requests; its rows fit into one request of 4 MB.
    pub const LARGE: Self = Self { rows: 27_000, bytes: 3_200_000 };

    /// What suits these two databases.
    pub const fn between(source: DatabaseKind, target: DatabaseKind) -> Self {
        match (source, target) {
            (DatabaseKind::Sqlite, DatabaseKind::Sqlite) => Self::SMALL,
            (DatabaseKind::D1, DatabaseKind::Sqlite | DatabaseKind::D1)
            | (DatabaseKind::Sqlite, DatabaseKind::D1) => Self::LARGE,
        }
    }
}

/// Spans of one page: one transaction of the journal each.
const SPANS: usize = 8;

/// What the journal knows of a span: [`Unit::data`].
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct SpanData {
    /// The table as the source spells it.
    pub table: String,
    /// By what its rows are told apart.
    pub keying: Keying,
    /// The key after which it begins; `None` from the first row on.
    pub lo: Option<Vec<serde_json::Value>>,
    /// The key of its last row.
    pub hi: Vec<serde_json::Value>,
    /// How many rows it held when it was found.
    pub rows: u64,
}

/// Where to go on.
#[derive(Serialize, Deserialize)]
struct Cursor {
    table: usize,
    #[serde(flatten)]
    place: Place,
    /// Where each table before ended. Absent in journals of earlier versions, which cannot say
    /// where to look for newcomers.
    #[serde(default)]
    ends: Option<Vec<Place>>,
    /// How far the keys of tables move, decided before the first of their rows is written.
    #[serde(default, skip_serializing_if = "Shifts::is_empty")]
    shifts: Shifts,
}

/// A place in one table.
#[derive(Clone, Default, Serialize, Deserialize)]
struct Place {
    keying: Option<Keying>,
    /// How many spans it has so far.
    number: u64,
    /// The key of the last row so far.
    last: Option<Vec<serde_json::Value>>,
}

impl Cursor {
    /// Where a later reading begins that looks for rows behind the last ones.
    fn again(self) -> Self {
        let place = self.end(0);
        Self { table: 0, place, ..self }
    }

    /// Where a table ended when it was read last.
    fn end(&self, table: usize) -> Place {
        self.ends.as_ref().and_then(|ends| ends.get(table)).cloned().unwrap_or_default()
    }

    /// Goes on to the next table.
    fn turn(&mut self) {
        if let Some(ends) = &mut self.ends {
            let place = std::mem::take(&mut self.place);
            // A table that was empty is keyed anew when it has rows.
            let place = if place.last.is_some() { place } else { Place::default() };
            match ends.get_mut(self.table) {
                Some(end) => *end = place,
                None => ends.push(place),
            }
        }
        self.table += 1;
        self.place = self.end(self.table);
    }
}

/// A key as the journal writes it.
pub(crate) fn key_to_json<'a>(key: impl IntoIterator<Item = &'a Value>) -> Vec<serde_json::Value> {
    key.into_iter().map(Value::to_json).collect()
}

/// The reverse of [`key_to_json`].
pub(crate) fn key_from_json(key: &[serde_json::Value]) -> Result<Vec<Value>, Halt> {
    key.iter()
        .map(|part| {
            Value::from_json(part)
                .map_err(|error| Halt::Bug(format!("a key of the journal is {error}")))
        })
        .collect()
}

/// `(a, b) <operator> (x, y)`
fn compare(columns: &[String], operator: &str, key: &[Value]) -> String {
    let literals: Vec<_> = key.iter().map(Value::to_sql).collect();
    match (columns, literals.as_slice()) {
        ([column], [literal]) => format!("{column} {operator} {literal}"),
        _ => format!("({}) {operator} ({})", columns.join(", "), literals.join(", ")),
    }
}

impl SpanData {
    /// The span that a unit stands for.
    ///
    /// # Errors
    /// [`Halt::Bug`] when the journal holds something else.
    pub fn of(unit: &Unit) -> Result<Self, Halt> {
        Self::deserialize(&unit.data)
            .map_err(|error| Halt::Bug(format!("span {} of the journal: {error}", unit.source_key)))
    }

    /// The form of its rows.
    ///
    /// # Errors
    /// [`Halt::Refused`] when the table is not carried any more.
    pub fn form<'a>(&self, layout: &'a Layout) -> Result<&'a Form, Halt> {
        layout.form(&self.table, self.keying).ok_or_else(|| Halt::Refused {
            message: format!("{} is in the journal and not carried any more", self.table),
            hint: "the schema or [records] changed since the migration began; put it back"
                .to_owned(),
        })
    }

    /// Its rows, in the order of the key, as a question to the source.
    ///
    /// # Errors
    /// [`Halt::Bug`] when the journal's keys cannot be read.
    pub fn rows(&self, form: &Form) -> Result<Select, Halt> {
        let key = qualified("t", &form.source_key());
        let condition = self.condition(&key)?;
        Ok(Select::new(
            qualified("t", &form.source),
            format!(
                "FROM {} AS t WHERE {condition} ORDER BY {}",
                form.source_table(),
                key.join(", ")
            ),
        ))
    }

    fn condition(&self, key: &[String]) -> Result<String, Halt> {
        let upper = compare(key, "<=", &key_from_json(&self.hi)?);
        Ok(match &self.lo {
            Some(lo) => format!("{} AND {upper}", compare(key, ">", &key_from_json(lo)?)),
            None => upper,
        })
    }
}

/// Finds the spans of a database.
pub struct SpanSource {
    database: Arc<dyn ReadDatabase>,
    layout: Arc<Layout>,
    size: SpanSize,
    target: Option<Arc<dyn ReadDatabase>>,
}

impl SpanSource {
    /// The spans of every table of `layout`, in copy order.
    pub fn new(database: Arc<dyn ReadDatabase>, layout: Arc<Layout>) -> Self {
        Self { database, layout, size: SpanSize::SMALL, target: None }
    }

    /// The same with spans of this size.
    #[must_use]
    pub fn sized(self, size: SpanSize) -> Self {
        Self { size, ..self }
    }

    /// The same with at most `rows` rows in a span (at least one), if that is less.
    #[must_use]
    pub fn with_rows(self, rows: usize) -> Self {
        let rows = rows.clamp(1, self.size.rows.max(1));
        Self { size: SpanSize { rows, ..self.size }, ..self }
    }

    /// The same, deciding first by how much the keys of tables move that get new ones in `target`.
    #[must_use]
    pub fn moving_beyond(self, target: Arc<dyn ReadDatabase>) -> Self {
        Self { target: Some(target), ..self }
    }

    /// Decides what the cursor does not say yet. What it says was promised to rows that may be
    /// written, and stays.
    async fn decide(&self, shifts: &mut Shifts) -> Result<(), Halt> {
        let undecided =
            |table: &TableLayout| table.rekeyed().is_some() && !shifts.contains_key(&table.name);
        if let Some(target) = &self.target
            && self.layout.tables.iter().any(undecided)
        {
            let new = rekey::shifts(&self.layout, self.database.as_ref(), target.as_ref()).await?;
            for (table, shift) in new {
                shifts.entry(table).or_insert(shift);
            }
        }
        Ok(())
    }

    async fn ask(&self, query: Select) -> Result<Rows, Halt> {
        let mut answers = self.database.select(vec![query]).await?;
        Ok(answers.pop().unwrap_or_default())
    }

    /// By what the rows of this table can be told apart.
    async fn keying(&self, table: &TableLayout) -> Result<Keying, Halt> {
        let refused = || Halt::Refused {
            message: format!("{} has no key by which its rows could be told apart", table.name),
            hint: "give it a primary key, or exclude it".to_owned(),
        };
        let Some(form) = &table.primary else {
            return table.rowid.as_ref().map(|_| Keying::Rowid).ok_or_else(refused);
        };
        if table.primary_may_be_null {
            let some_null: Vec<_> =
                form.source_key().iter().map(|column| format!("t.{column} IS NULL")).collect();
            let rows = self
                .ask(Select::new(
                    ["1"],
                    format!(
                        "FROM {} AS t WHERE {} LIMIT 1",
                        form.source_table(),
                        some_null.join(" OR ")
                    ),
                ))
                .await?;
            if !rows.is_empty() {
                return table.rowid.as_ref().map(|_| Keying::Rowid).ok_or_else(refused);
            }
        }
        Ok(Keying::Primary)
    }

    /// The next span of a table: its last key and the number of its rows.
    async fn next(
        &self,
        form: &Form,
        last: Option<&[Value]>,
    ) -> Result<Option<(Vec<Value>, u64)>, Halt> {
        let key = qualified("t", &form.source_key());
        let order = key.join(", ");
        let beyond =
            last.map_or_else(String::new, |last| format!("WHERE {}", compare(&key, ">", last)));
        let inner: Vec<_> =
            key.iter().enumerate().map(|(index, column)| format!("{column} AS k{index}")).collect();
        let names: Vec<_> = (0..key.len()).map(|index| format!("k{index}")).collect();
        let sizes: Vec<_> = form
            .source
            .iter()
            .map(|column| format!("ifnull(octet_length(t.{column}),0)+2"))
            .collect();
        let size = balanced(&sizes);
        // The collation of the key must decide the order outside as it does inside, so the order
        // is made once, by a row number, and only that is used further out.
        let query = Select::new(
            names.iter().cloned().chain(["n".to_owned()]),
            format!(
                "FROM (SELECT {names}, n, sum(size) OVER (ORDER BY n ROWS UNBOUNDED PRECEDING) AS total \
                 FROM (SELECT {inner}, row_number() OVER (ORDER BY {order}) AS n, {size} AS size \
                 FROM {table} AS t {beyond} ORDER BY {order} LIMIT {rows})) \
                 WHERE total <= {bytes} OR n = 1 ORDER BY n DESC LIMIT 1",
                names = names.join(", "),
                rows = self.size.rows,
                bytes = self.size.bytes,
                inner = inner.join(", "),
                table = form.source_table(),
            ),
        );
        let Some(mut row) = self.ask(query).await?.pop() else {
            return Ok(None);
        };
        let count = row.pop().and_then(|count| count.as_integer()).unwrap_or(0);
        Ok(Some((row, u64::try_from(count).unwrap_or(0))))
    }

    async fn page(&self, cursor: Option<serde_json::Value>) -> Result<Page, Halt> {
        let mut cursor = match cursor {
            Some(json) => serde_json::from_value(json)
                .map_err(|error| Halt::Bug(format!("the cursor of spans: {error}")))?,
            None => Cursor {
                table: 0,
                place: Place::default(),
                ends: Some(Vec::new()),
                shifts: Shifts::new(),
            },
        };
        if cursor.table >= self.layout.tables.len() && cursor.ends.is_some() {
            cursor = cursor.again();
        }
        self.decide(&mut cursor.shifts).await?;
        let mut units = Vec::new();
        let mut done = false;
        while units.len() < SPANS {
            let Some(table) = self.layout.tables.get(cursor.table) else {
                done = true;
                break;
            };
            let keying = match cursor.place.keying {
                Some(keying) => keying,
                None => self.keying(table).await?,
            };
            cursor.place.keying = Some(keying);
            let form = self
                .layout
                .form(&table.name, keying)
                .ok_or_else(|| Halt::Bug(format!("{} has no form", table.name)))?;
            let last = cursor.place.last.as_deref().map(key_from_json).transpose()?;
            match self.next(form, last.as_deref()).await? {
                Some((hi, rows)) => {
                    cursor.place.number += 1;
                    let lo = cursor.place.last.take();
                    let hi = key_to_json(&hi);
                    let number = cursor.place.number;
                    let mut unit = exported(table, keying, number, lo, hi.clone(), rows)?;
                    if let Some(shift) = cursor.shifts.get(&table.name)
                        && holds_last(&unit, shift)?
                    {
                        unit.aliases.push(last_of(&table.name));
                    }
                    units.push(unit);
                    cursor.place.last = Some(hi);
                }
                None => cursor.turn(),
            }
        }
        Ok(Page { units, cursor: json!(cursor), done, total: None })
    }
}

/// The alias of the span that holds the last row of a rekeyed table.
pub(crate) fn last_of(table: &str) -> String {
    format!("last of {table}")
}

fn holds_last(unit: &Exported, shift: &Shift) -> Result<bool, Halt> {
    let span = SpanData::deserialize(&unit.data).map_err(|error| Halt::Bug(error.to_string()))?;
    Ok(Relocated::span(&span, 0)?.is_some_and(|range| range.holds(shift.last)))
}

fn exported(
    table: &TableLayout,
    keying: Keying,
    number: u64,
    lo: Option<Vec<serde_json::Value>>,
    hi: Vec<serde_json::Value>,
    rows: u64,
) -> Result<Exported, Halt> {
    let data = SpanData { table: table.name.clone(), keying, lo, hi, rows };
    Ok(Exported {
        source_key: format!("{}#{number}", table.name),
        scope: table.name.clone(),
        label: Some(format!("{} ({rows} rows)", table.name)),
        aliases: Vec::new(),
        data: serde_json::to_value(data).map_err(|error| Halt::Bug(error.to_string()))?,
    })
}

/// A sum as a balanced tree: a chain of a hundred terms is deeper than D1 allows.
fn balanced(terms: &[String]) -> String {
    match terms {
        [] => "0".to_owned(),
        [one] => one.clone(),
        many => {
            let (left, right) = many.split_at(many.len() / 2);
            format!("({}+{})", balanced(left), balanced(right))
        }
    }
}

impl Source for SpanSource {
    fn kind(&self) -> Kind {
        SPAN
    }

    /// Rows are added behind the last ones; those that come in between belong to a span already.
    fn goes_on(&self) -> bool {
        true
    }

    fn next_page<'a>(
        &'a self,
        cursor: Option<serde_json::Value>,
    ) -> BoxFuture<'a, Result<Page, Halt>> {
        Box::pin(self.page(cursor))
    }
}
