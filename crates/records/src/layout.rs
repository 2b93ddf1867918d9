//! How the rows of each table travel: which columns, by which key, with which ids in them, under
//! which parents. Worked out once from both schemas, so that the workers only look things up.
//!
//! A table is keyed by its primary key, or, when it has none or some row has NULL in it, by its
//! rowid; then the rowid is carried as the first column. The [`Form`] for either way holds all
//! positions counted in the columns that really travel.

use std::collections::BTreeMap;

use rehome_core::Kind;
use serde::{Deserialize, Serialize};

use crate::database::quote_name;
use crate::graph::{CopyOrder, copy_order};
use crate::ids::IdColumns;
use crate::json_path::JsonPath;
use crate::policy::{Conflicts, OnConflict};
use crate::rekey::KeyColumns;
use crate::schema::{OnUpdate, Schema, Table, Trigger};

/// By what the rows of a table are told apart.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Keying {
    /// The declared primary key.
    Primary,
    /// The rowid.
    Rowid,
}

/// An id among the columns that travel.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct IdAt {
    /// Which column.
    pub column: usize,
    /// Where inside its JSON.
    pub path: Option<JsonPath>,
    /// What it names.
    pub kind: Kind,
}

/// A key of a table that gets new keys, among the columns that travel.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct KeyAt {
    /// Which column.
    pub column: usize,
    /// Where inside its JSON.
    pub path: Option<JsonPath>,
    /// Whose key it is, as the source spells it.
    pub table: String,
    /// Whether it is the row's own.
    pub own: bool,
    /// Whether a foreign key leads there (or it is the row's own); otherwise somebody said so.
    pub enforced: bool,
}

/// A foreign key of the target, or a declared reference, among the columns that travel.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ParentAt {
    /// The child's columns.
    pub columns: Vec<usize>,
    /// The parent table, as the target spells it.
    pub table: String,
    /// The parent's columns, as SQL needs them.
    pub parent_columns: Vec<String>,
    /// Whether the parent's rows are carried too.
    pub carried: bool,
    /// Whether parent and child are in one circle of references (a table and itself, too).
    pub circle: bool,
    /// Whether the reference can be left NULL for a while.
    pub nullable: bool,
    /// Whether the database holds to it; otherwise it may lead nowhere.
    pub enforced: bool,
    /// What becomes of the child's columns when the parent's change.
    pub on_update: OnUpdate,
}

/// A foreign key of another table of the target that refers to this one.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ChildOf {
    /// The referring table.
    pub table: String,
    /// Its columns, as SQL needs them.
    pub child_columns: Vec<String>,
    /// The columns of this table that are referred to.
    pub columns: Vec<usize>,
}

/// How the rows of one table travel under one keying.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Form {
    /// The table as the source spells it.
    pub table: String,
    /// The table as the target spells it.
    pub target_table: String,
    /// Names of the columns for people.
    pub names: Vec<String>,
    /// The columns of the source, as SQL needs them.
    pub source: Vec<String>,
    /// The columns of the target, as SQL needs them, in the same order.
    pub target: Vec<String>,
    /// Positions of the key's columns, in the key's order.
    pub key: Vec<usize>,
    /// Ids of units.
    pub ids: Vec<IdAt>,
    /// References to other rows.
    pub parents: Vec<ParentAt>,
    /// Sets of columns that are unique in the target besides the key.
    pub unique: Vec<Vec<usize>>,
    /// Columns that can be NULL in the target for a moment: nothing forbids it, and no row refers
    /// to them.
    pub emptiable: Vec<usize>,
    /// Who refers to this table in the target.
    pub children: Vec<ChildOf>,
    /// The triggers on the target table, in the order of their creation.
    pub triggers: Vec<Trigger>,
    /// Where the AUTOINCREMENT counter of the source stands, when the target has one too.
    pub counter: Option<i64>,
    /// What becomes of a row whose place is taken.
    pub on_conflict: OnConflict,
    /// Keys of tables that get new ones.
    pub keys: Vec<KeyAt>,
    /// Tables, as the target spells them, that are carried and go first because documents refer to
    /// their rows.
    pub follows: Vec<String>,
}

impl Form {
    /// One of no columns yet.
    pub(crate) fn empty(table: &str, target_table: &str) -> Self {
        Self {
            table: table.to_owned(),
            target_table: target_table.to_owned(),
            names: Vec::new(),
            source: Vec::new(),
            target: Vec::new(),
            key: Vec::new(),
            ids: Vec::new(),
            parents: Vec::new(),
            unique: Vec::new(),
            emptiable: Vec::new(),
            children: Vec::new(),
            triggers: Vec::new(),
            counter: None,
            on_conflict: OnConflict::default(),
            keys: Vec::new(),
            follows: Vec::new(),
        }
    }

    /// The key's columns of the source, as SQL needs them.
    pub fn source_key(&self) -> Vec<String> {
        pick(&self.source, &self.key)
    }

    /// The key's columns of the target, as SQL needs them.
    pub fn target_key(&self) -> Vec<String> {
        pick(&self.target, &self.key)
    }

    /// Whether its rows get new keys of their own.
    pub fn rekeyed(&self) -> bool {
        self.keys.iter().any(|key| key.own)
    }

    /// Whether a row of it may be left out in favour of one of the target that is the same thing.
    pub(crate) fn yields(&self) -> bool {
        match self.on_conflict {
            OnConflict::Skip => true,
            OnConflict::Rekey => self.rekeyed(),
            OnConflict::Fail | OnConflict::Replace => false,
        }
    }

    /// The source table as SQL needs it.
    pub fn source_table(&self) -> String {
        quote_name(&self.table)
    }

    /// The target table as SQL needs it.
    pub fn target_table(&self) -> String {
        quote_name(&self.target_table)
    }
}

/// The items at these positions.
pub(crate) fn pick<T: Clone>(items: &[T], positions: &[usize]) -> Vec<T> {
    positions.iter().filter_map(|position| items.get(*position).cloned()).collect()
}

/// Both ways of one table.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TableLayout {
    /// The table as the source spells it.
    pub name: String,
    /// Keyed by the primary key, when there is one.
    pub primary: Option<Form>,
    /// Whether that key may hold NULL in some row, which only the rows can tell.
    pub primary_may_be_null: bool,
    /// Keyed by the rowid, when it can be named in both databases.
    pub rowid: Option<Form>,
}

impl TableLayout {
    /// How its rows travel, when they get new keys of their own.
    pub fn rekeyed(&self) -> Option<&Form> {
        self.primary.iter().chain(&self.rowid).find(|form| form.rekeyed())
    }

    /// What becomes of a row whose place is taken.
    pub fn on_conflict(&self) -> OnConflict {
        self.primary
            .as_ref()
            .or(self.rowid.as_ref())
            .map(|form| form.on_conflict)
            .unwrap_or_default()
    }
}

/// Every table that is carried, in copy order.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Layout {
    /// In copy order.
    pub tables: Vec<TableLayout>,
}

impl Layout {
    /// Works out how the rows of `source` travel to `target`. Tables that the target lacks are
    /// left out; [`crate::schema::compare`] names them. `target` should be read without a
    /// selection, so that foreign keys to tables that are not carried are seen.
    pub fn new(source: &Schema, target: &Schema, ids: &IdColumns) -> Self {
        let order = copy_order(target);
        let mut tables = Vec::new();
        for name in order.tables() {
            let (Some(from), Some(to)) = (source.table(name), target.table(name)) else {
                continue;
            };
            let context = Context { source, target, order: &order, ids };
            tables.push(TableLayout {
                name: from.name.clone(),
                primary: (!from.primary_key.is_empty())
                    .then(|| context.form(from, to, Keying::Primary))
                    .flatten(),
                primary_may_be_null: !from.key_never_null,
                rowid: context.form(from, to, Keying::Rowid),
            });
        }
        Self { tables }
    }

    /// The same with these answers to conflicts.
    #[must_use]
    pub fn with_conflicts(mut self, conflicts: &Conflicts) -> Self {
        for table in &mut self.tables {
            let policy = conflicts.of(&table.name);
            for form in table.primary.iter_mut().chain(&mut table.rowid) {
                form.on_conflict = policy;
            }
        }
        self
    }

    /// The same with new keys for the tables that `keys` names.
    #[must_use]
    pub fn with_keys(mut self, keys: &KeyColumns) -> Self {
        for table in &mut self.tables {
            let rowid = table.rowid.iter_mut().map(|form| (form, Keying::Rowid));
            let primary = table.primary.iter_mut().map(|form| (form, Keying::Primary));
            for (form, keying) in rowid.chain(primary) {
                for key in keys.of(&table.name) {
                    // Found from the end, because a column may be called `rowid` without being it.
                    let column = match (&key.column, keying) {
                        (Some(name), _) => form.names.iter().rposition(|one| one == name),
                        (None, Keying::Rowid) => Some(0),
                        (None, Keying::Primary) => None,
                    };
                    form.keys.extend(column.map(|column| KeyAt {
                        column,
                        path: key.path.clone(),
                        table: key.of.clone(),
                        own: key.own,
                        enforced: key.enforced,
                    }));
                    if key.counted {
                        form.counter = Some(form.counter.unwrap_or(0));
                    }
                }
            }
        }
        self
    }

    /// The layout of the table of this name.
    pub fn table(&self, name: &str) -> Option<&TableLayout> {
        self.tables.iter().find(|table| table.name.eq_ignore_ascii_case(name))
    }

    /// The same without the ids inside JSON.
    #[must_use]
    pub fn without_documents(&self) -> Self {
        let mut layout = self.clone();
        for form in layout
            .tables
            .iter_mut()
            .flat_map(|table| table.primary.iter_mut().chain(&mut table.rowid))
        {
            form.ids.retain(|id| id.path.is_none());
        }
        layout
    }

    /// How rows of this table travel when they are keyed so.
    pub fn form(&self, name: &str, keying: Keying) -> Option<&Form> {
        let table = self.table(name)?;
        match keying {
            Keying::Primary => table.primary.as_ref(),
            Keying::Rowid => table.rowid.as_ref(),
        }
    }
}

struct Context<'a> {
    source: &'a Schema,
    target: &'a Schema,
    order: &'a CopyOrder,
    ids: &'a IdColumns,
}

impl Context<'_> {
    fn form(&self, from: &Table, to: &Table, keying: Keying) -> Option<Form> {
        let mut form = Form {
            triggers: to.triggers.clone(),
            counter: from.counter.filter(|_| to.counter.is_some()),
            ..Form::empty(&from.name, &to.name)
        };
        if keying == Keying::Rowid {
            form.names.push("rowid".to_owned());
            form.source.push(from.rowid.clone()?);
            form.target.push(to.rowid.clone()?);
        }
        for column in from.carried() {
            let counterpart = to.column(&column.name)?;
            form.names.push(column.name.clone());
            form.source.push(quote_name(&column.name));
            form.target.push(quote_name(&counterpart.name));
        }
        // Found from the end, because a column may be called `rowid` without being it.
        let at =
            |name: &str| form.names.iter().rposition(|column| column.eq_ignore_ascii_case(name));
        let all = |names: &[String]| -> Option<Vec<usize>> {
            names.iter().map(|name| at(name)).collect()
        };
        let mut unique: Vec<_> = to.unique.iter().filter_map(|set| all(set)).collect();
        let key = match keying {
            Keying::Primary => all(&from.primary_key)?,
            Keying::Rowid => {
                unique.extend(all(&to.primary_key).filter(|set| !set.is_empty()));
                vec![0]
            }
        };
        let ids = self
            .ids
            .of(&from.name)
            .filter_map(|id| {
                Some(IdAt { column: at(&id.column)?, path: id.path.clone(), kind: id.kind.clone() })
            })
            .collect();
        let parents = to
            .foreign_keys
            .iter()
            .filter_map(|reference| {
                Some(ParentAt {
                    columns: all(&reference.columns)?,
                    table: reference.parent.clone(),
                    parent_columns: reference
                        .parent_columns
                        .iter()
                        .map(|c| quote_name(c))
                        .collect(),
                    enforced: reference.enforced,
                    on_update: reference.on_update,
                    carried: self.source.table(&reference.parent).is_some()
                        && self.target.table(&reference.parent).is_some(),
                    circle: self.order.together(&to.name, &reference.parent),
                    nullable: reference.columns.iter().all(|name| {
                        to.column(name).is_some_and(|column| !column.not_null)
                            && !to.primary_key.iter().any(|key| key.eq_ignore_ascii_case(name))
                    }),
                })
            })
            .collect();
        let mut children = Vec::new();
        for other in &self.target.tables {
            for reference in &other.foreign_keys {
                if reference.parent.eq_ignore_ascii_case(&to.name)
                    && let Some(columns) = all(&reference.parent_columns)
                {
                    children.push(ChildOf {
                        table: other.name.clone(),
                        child_columns: reference.columns.iter().map(|c| quote_name(c)).collect(),
                        columns,
                    });
                }
            }
        }
        form.emptiable = (0..form.names.len())
            .filter(|place| !key.contains(place))
            .filter(|place| !children.iter().any(|child| child.columns.contains(place)))
            .filter(|place| {
                form.names.get(*place).and_then(|name| to.column(name)).is_some_and(|column| {
                    let in_key = |key: &String| key.eq_ignore_ascii_case(&column.name);
                    !column.not_null && !to.primary_key.iter().any(in_key)
                })
            })
            .collect();
        form.follows = from
            .documents
            .iter()
            .filter(|one| self.source.table(&one.parent).is_some())
            .filter_map(|one| Some(self.target.table(&one.parent)?.name.clone()))
            .collect();
        form.key = key;
        form.ids = ids;
        form.parents = parents;
        form.unique = unique;
        form.children = children;
        Some(form)
    }
}

/// The kinds that some carried column names, each once, in order.
pub fn kinds(layout: &Layout) -> Vec<Kind> {
    let mut kinds: BTreeMap<String, Kind> = BTreeMap::new();
    for table in &layout.tables {
        for form in table.primary.iter().chain(&table.rowid) {
            for id in &form.ids {
                kinds.insert(id.kind.to_string(), id.kind.clone());
            }
        }
    }
    kinds.into_values().collect()
}
