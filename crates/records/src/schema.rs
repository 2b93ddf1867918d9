//! The schema of a database: what can be carried, by which key, in which order.
//!
//! Read from the database itself by [`read`], through the pragmas that SQLite files and D1 both
//! answer. Tables that belong to SQLite (`sqlite_…`), to D1 (`_cf_…`) or to a migration tool
//! (`d1_migrations`) are left out; views and the shadows of virtual tables are named as not
//! carried, because their content lives elsewhere or is made anew. Which virtual tables are
//! carried, and which follow by themselves, is told in `virtuals`.

mod compare;
mod declared;
mod read;
mod sql;
mod triggers;
mod virtuals;

pub use compare::{Finding, Severity, compare};
pub use declared::declare;
pub use read::read;
pub use triggers::Trigger;
pub use virtuals::TextIndex;

use serde::{Deserialize, Serialize};

use crate::database::quote_name;

/// Which tables are meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Selection {
    /// Only these; `None` for all the application's own.
    pub tables: Option<Vec<String>>,
    /// Not these.
    pub exclude: Vec<String>,
}

impl Default for Selection {
    /// All tables but the one in which Cloudflare's tools remember schema migrations.
    fn default() -> Self {
        Self { tables: None, exclude: vec!["d1_migrations".to_owned()] }
    }
}

impl Selection {
    /// Whether a table of this name is meant. SQLite's names ignore the case of ASCII letters.
    pub fn includes(&self, name: &str) -> bool {
        let listed = |list: &[String]| list.iter().any(|item| item.eq_ignore_ascii_case(name));
        self.tables.as_deref().is_none_or(listed) && !listed(&self.exclude)
    }
}

/// A column of a table.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Column {
    /// Its name as declared.
    pub name: String,
    /// The declared type, perhaps empty.
    pub declared: String,
    /// Whether NULL is refused.
    pub not_null: bool,
    /// Whether SQLite computes it, so that it cannot be written.
    pub generated: bool,
    /// Whether there is a default.
    pub has_default: bool,
}

/// What a foreign key does when its parent goes or changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Action {
    /// Nothing, or a refusal.
    Refuse,
    /// The child goes or changes with it.
    Change,
}

/// What a foreign key does when the key that it refers to changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum OnUpdate {
    /// Nothing; at the end of a request whose foreign keys are deferred it has to lead somewhere.
    NoAction,
    /// It refuses the change at once, deferred or not.
    Restrict,
    /// It follows.
    Cascade,
    /// It becomes NULL.
    SetNull,
    /// It becomes its default.
    SetDefault,
}

impl OnUpdate {
    /// The word of SQL.
    pub const fn as_sql(self) -> &'static str {
        match self {
            Self::NoAction => "NO ACTION",
            Self::Restrict => "RESTRICT",
            Self::Cascade => "CASCADE",
            Self::SetNull => "SET NULL",
            Self::SetDefault => "SET DEFAULT",
        }
    }
}

/// A foreign key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ForeignKey {
    /// The child's columns.
    pub columns: Vec<String>,
    /// The parent table, as the parent itself is spelt where it exists.
    pub parent: String,
    /// The parent's columns, in the order of `columns`.
    pub parent_columns: Vec<String>,
    /// What happens to the child when the parent row is deleted.
    pub on_delete: Action,
    /// What happens to the child when the columns that it refers to change.
    pub on_update: OnUpdate,
    /// Whether the database holds to it; otherwise a person has declared it (see [`declare`]).
    pub enforced: bool,
}

/// A reference to another table that stands inside a JSON column. Nothing holds it in the database.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DocumentReference {
    /// The column.
    pub column: String,
    /// Where inside its JSON, see [`crate::json_path`].
    pub path: String,
    /// The table to whose key it leads.
    pub parent: String,
}

/// A table whose rows can be carried.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Table {
    /// Its name as declared.
    pub name: String,
    /// Its columns in the order of declaration.
    pub columns: Vec<Column>,
    /// The names of the primary key's columns in the key's order; empty without one.
    pub primary_key: Vec<String>,
    /// Whether the primary key cannot hold NULL (an alias of the rowid, WITHOUT ROWID, or all
    /// columns NOT NULL). SQLite allows NULL in other primary keys.
    pub key_never_null: bool,
    /// The name under which the rowid can be read and written, when the table has one and no
    /// column hides it.
    pub rowid: Option<String>,
    /// Foreign keys to other tables and to itself.
    pub foreign_keys: Vec<ForeignKey>,
    /// References inside its JSON columns, as a person has declared them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub documents: Vec<DocumentReference>,
    /// Sets of columns that are unique besides the primary key: whole-table indexes of plain
    /// columns.
    pub unique: Vec<Vec<String>>,
    /// The triggers on it, in the order of their creation.
    pub triggers: Vec<Trigger>,
    /// Whether the table is STRICT.
    pub strict: bool,
    /// Where the counter of its AUTOINCREMENT stands (`sqlite_sequence`); `None` without one.
    pub counter: Option<i64>,
}

impl Table {
    /// The column of this name.
    pub fn column(&self, name: &str) -> Option<&Column> {
        self.columns.iter().find(|column| column.name.eq_ignore_ascii_case(name))
    }

    /// The columns that are read and written, without the generated ones.
    pub fn carried(&self) -> impl Iterator<Item = &Column> {
        self.columns.iter().filter(|column| !column.generated)
    }

    /// The name as SQL needs it.
    pub fn quoted(&self) -> String {
        quote_name(&self.name)
    }
}

/// Something that is in the database and not carried.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PassedOver {
    /// Its name.
    pub name: String,
    /// `view`, `virtual`, `index` (an FTS5 table that is not a table of its own), `shadow` or
    /// `excluded`.
    pub what: String,
}

/// All of a database's tables that are meant.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Schema {
    /// In alphabetical order.
    pub tables: Vec<Table>,
    /// What is there besides.
    pub passed_over: Vec<PassedOver>,
    /// The full-text indexes among that.
    pub indexes: Vec<TextIndex>,
}

impl Schema {
    /// The table of this name, whatever the case of its letters.
    pub fn table(&self, name: &str) -> Option<&Table> {
        self.tables.iter().find(|table| table.name.eq_ignore_ascii_case(name))
    }

    /// The full-text index of this name.
    pub fn index(&self, name: &str) -> Option<&TextIndex> {
        self.indexes.iter().find(|index| index.name.eq_ignore_ascii_case(name))
    }

    /// What is passed over under this name, as [`PassedOver::what`] says it.
    pub fn passed(&self, name: &str) -> Option<&str> {
        let found = self.passed_over.iter().find(|one| one.name.eq_ignore_ascii_case(name));
        found.map(|one| one.what.as_str())
    }
}
