//! Where ids stand in the one database, and how SQL asks for them there.
//!
//! Tables come with those that refer before those that are referred to; in which order their
//! columns are exchanged is worked out in `order`.

use std::collections::BTreeMap;

use rehome_core::{Halt, Kind};

use super::order::{At, Circle, Reference, order, references};
use crate::database::{ReadDatabase, Select};
use crate::json_path::{JsonPath, Segment};
use crate::layout::{Form, Keying, Layout, TableLayout};
use crate::value::Value;

/// The ids that a question is about, bound to `?1` as a JSON array of strings.
const SOUGHT: &str = "(SELECT j.value FROM json_each(?1) AS j)";

/// A column that holds ids.
#[derive(Clone, Debug)]
pub(super) struct Place {
    /// Which column of the form.
    pub(super) column: usize,
    /// The column as SQL needs it.
    pub(super) name: String,
    /// `table.column`, as a person knows it.
    pub(super) label: String,
    /// Where inside the column's JSON; none when the column is the id.
    pub(super) paths: Vec<JsonPath>,
    /// Whether rows are found by it without reading the table through.
    pub(super) indexed: bool,
}

impl Place {
    /// Whether ids stand inside JSON.
    pub(super) fn is_document(&self) -> bool {
        !self.paths.is_empty()
    }

    /// The condition that the row called `alias` holds one of the sought ids here.
    pub(super) fn holds(&self, alias: &str) -> String {
        self.holds_one_of(alias, SOUGHT)
    }

    fn holds_one_of(&self, alias: &str, sought: &str) -> String {
        let name = format!("{alias}.{}", self.name);
        if !self.is_document() {
            // The first finds rows through an index; the second is exact, whatever the collation.
            return format!("({name} IN {sought} AND ({name} COLLATE BINARY) IN {sought})");
        }
        // A question about a text that is not JSON would be an error.
        let text =
            format!("CASE WHEN typeof({name}) = 'text' AND json_valid({name}) THEN {name} END");
        let at: Vec<_> =
            self.paths.iter().map(|path| found_at(&text, path.segments(), 0, sought)).collect();
        format!("({})", at.join(" OR "))
    }
}

/// The condition that the JSON `text` has one of the sought ids as a string at these steps. The
/// same strings are meant as by `json_edit`, but for a member that stands twice in an object: here
/// the first counts.
fn found_at(text: &str, steps: &[Segment], depth: usize, sought: &str) -> String {
    let plain = steps.iter().take_while(|step| **step != Segment::Every).count();
    let (here, beyond) = steps.split_at(plain);
    let here = Value::text(path_of(here)).to_sql();
    let Some((_, rest)) = beyond.split_first() else {
        return format!("json_extract({text}, {here}) IN {sought}");
    };
    let each = format!("e{depth}");
    let inner = if rest.is_empty() {
        format!("{each}.type = 'text' AND {each}.atom IN {sought}")
    } else {
        let deeper = format!("CASE WHEN {each}.type IN ('array', 'object') THEN {each}.value END");
        found_at(&deeper, rest, depth + 1, sought)
    };
    format!(
        "(json_type({text}, {here}) IN ('array', 'object') AND EXISTS \
         (SELECT 1 FROM json_each({text}, {here}) AS {each} WHERE {inner}))"
    )
}

/// Steps as SQLite writes them.
fn path_of(steps: &[Segment]) -> String {
    let mut path = "$".to_owned();
    for step in steps {
        path += &match step {
            Segment::Key(key) if key.contains('"') => format!(".{key}"),
            Segment::Key(key) => format!(".\"{key}\""),
            Segment::Index(index) => format!("[{index}]"),
            Segment::Every => continue,
        };
    }
    path
}

/// The places of one table.
#[derive(Clone, Debug)]
pub(super) struct TablePlaces {
    /// The table's name.
    pub(super) table: String,
    /// Its rows, by the key that outlives other people's work on the file.
    pub(super) form: Form,
    /// Which key that is.
    pub(super) keying: Keying,
    /// The places, documents first.
    pub(super) places: Vec<Place>,
    /// Columns that are unique under a collation by which different texts may be the same.
    pub(super) folded: Vec<String>,
}

impl TablePlaces {
    /// The condition that the row called `alias` holds one of the sought ids anywhere.
    pub(super) fn holds(&self, alias: &str) -> String {
        let all: Vec<_> = self.places.iter().map(|place| place.holds(alias)).collect();
        all.join(" OR ")
    }
}

/// Every place of a database in which ids of one kind stand.
#[derive(Clone, Debug)]
pub struct Places {
    /// What the ids name.
    pub(super) kind: Kind,
    /// Tables that refer before tables that are referred to.
    pub(super) tables: Vec<TablePlaces>,
    /// Which of their plain columns refer to which.
    pub(super) references: Vec<Reference>,
    /// References that would not survive the exchange.
    pub(super) circles: Vec<Circle>,
    /// The plain places in the order in which they are exchanged.
    order: Vec<At>,
}

impl Places {
    /// The places of `kind` in a database whose `layout` was made of its schema on both sides.
    ///
    /// # Errors
    /// When the database cannot be read; [`Halt::Refused`] when a table's rows cannot be told
    /// apart.
    pub async fn read(
        database: &dyn ReadDatabase,
        layout: &Layout,
        kind: &Kind,
    ) -> Result<Self, Halt> {
        let Indexed { mut leading, mut folded } = Indexed::read(database, layout).await?;
        let mut tables = Vec::new();
        for table in layout.tables.iter().rev() {
            let Some((form, keying)) = form_of(table) else {
                return Err(Halt::Refused {
                    message: format!("{} has no key by which its rows are told apart", table.name),
                    hint: "give it a primary key, or exclude it".to_owned(),
                });
            };
            let leading = leading.remove(&table.name).unwrap_or_default();
            let places = places(form, kind, &leading);
            if !places.is_empty() {
                let folded = folded.remove(&table.name).unwrap_or_default();
                let (table, form) = (table.name.clone(), form.clone());
                tables.push(TablePlaces { table, form, keying, places, folded });
            }
        }
        let references = references(&tables);
        let (order, circles) = order(&tables, &references);
        Ok(Self { kind: kind.clone(), tables, references, circles, order })
    }

    /// Whether every place is found by an index; otherwise each question reads a table through.
    pub fn all_indexed(&self) -> bool {
        self.each().all(|(_, place)| place.indexed)
    }

    /// Every place with its table.
    pub(super) fn each(&self) -> impl Iterator<Item = (&TablePlaces, &Place)> {
        self.tables.iter().flat_map(|table| table.places.iter().map(move |place| (table, place)))
    }

    /// The places inside documents, with their tables.
    pub(super) fn documents(&self) -> impl Iterator<Item = (&TablePlaces, &Place)> {
        self.each().filter(|(_, place)| place.is_document())
    }

    /// The plain places with their tables, in the order in which they are exchanged.
    pub(super) fn plain(&self) -> impl Iterator<Item = (&TablePlaces, &Place)> {
        self.order.iter().filter_map(|at| self.at(*at))
    }

    /// A place and its table.
    pub(super) fn at(&self, (table, place): At) -> Option<(&TablePlaces, &Place)> {
        let table = self.tables.get(table)?;
        Some((table, table.places.get(place)?))
    }

    /// How many rows of each table hold one of these ids, in one request.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn count(
        &self,
        database: &dyn ReadDatabase,
        ids: &[&str],
    ) -> Result<BTreeMap<String, u64>, Halt> {
        let sought = serde_json::json!(ids).to_string();
        let questions = self
            .tables
            .iter()
            .map(|table| {
                let from =
                    format!("FROM {} AS t WHERE {}", table.form.target_table(), table.holds("t"));
                Select::new(["count(*)"], from).with(sought.clone())
            })
            .collect::<Vec<_>>();
        if questions.is_empty() || ids.is_empty() {
            return Ok(BTreeMap::new());
        }
        let answers = database.select(questions).await?;
        let number = |rows: &crate::database::Rows| {
            let value = rows.first().and_then(|row| row.first()).and_then(Value::as_integer);
            value.and_then(|number| u64::try_from(number).ok()).unwrap_or(0)
        };
        Ok(self
            .tables
            .iter()
            .map(|one| one.table.clone())
            .zip(answers.iter().map(number))
            .collect())
    }
}

/// By what rows are told apart that are to be found again in another run: the primary key, when
/// it is whole, because a file may be compacted meanwhile and then numbers its rows anew.
fn form_of(table: &TableLayout) -> Option<(&Form, Keying)> {
    let primary = table.primary.as_ref().map(|form| (form, Keying::Primary));
    let rowid = table.rowid.as_ref().map(|form| (form, Keying::Rowid));
    if table.primary_may_be_null { rowid.or(primary) } else { primary.or(rowid) }
}

fn places(form: &Form, kind: &Kind, leading: &[String]) -> Vec<Place> {
    let mut places: Vec<Place> = Vec::new();
    for id in form.ids.iter().filter(|id| id.kind == *kind) {
        let same = places
            .iter_mut()
            .find(|place| place.column == id.column && place.is_document() == id.path.is_some());
        if let Some(place) = same {
            place.paths.extend(id.path.clone());
            continue;
        }
        let (Some(name), Some(plain)) = (form.target.get(id.column), form.names.get(id.column))
        else {
            continue;
        };
        let leads = leading.iter().any(|column| column.eq_ignore_ascii_case(plain));
        places.push(Place {
            column: id.column,
            name: name.clone(),
            label: format!("{}.{plain}", form.target_table),
            paths: id.path.clone().into_iter().collect(),
            indexed: leads && id.path.is_none(),
        });
    }
    places.sort_by_key(|place| !place.is_document());
    places
}

/// What the indexes of each table say of its columns.
struct Indexed {
    /// Those that some whole index begins with.
    leading: BTreeMap<String, Vec<String>>,
    /// Those that are unique under another collation than the bytes' own.
    folded: BTreeMap<String, Vec<String>>,
}

impl Indexed {
    async fn read(database: &dyn ReadDatabase, layout: &Layout) -> Result<Self, Halt> {
        let names: Vec<_> = layout.tables.iter().map(|table| table.name.as_str()).collect();
        let names = serde_json::json!(names).to_string();
        let columns = |which: &str| {
            let from = format!(
                "FROM json_each(?1) AS l, pragma_index_list(l.value) AS i, \
                 pragma_index_xinfo(i.name) AS x WHERE i.partial = 0 AND x.key = 1 AND {which}"
            );
            Select::new(["l.value", "x.name"], from).with(names.clone())
        };
        let questions = vec![
            columns("x.seqno = 0"),
            columns("i.\"unique\" = 1 AND x.coll <> 'BINARY' COLLATE NOCASE"),
        ];
        let mut answers = database.select(questions).await?.into_iter();
        let mut next = || {
            let mut found: BTreeMap<String, Vec<String>> = BTreeMap::new();
            for row in answers.next().unwrap_or_default() {
                let text = |index: usize| row.get(index).and_then(Value::as_str).map(str::to_owned);
                if let (Some(table), Some(column)) = (text(0), text(1)) {
                    found.entry(table).or_default().push(column);
                }
            }
            found
        };
        Ok(Self { leading: next(), folded: next() })
    }
}
