//! What rehome asks of a database, whatever it is: exact reads, and one atomic write at a time.
//!
//! A read is a list of [`Select`]s answered together. Each column is an SQL expression, so that
//! an implementation can wrap it in whatever makes its value survive the way (D1's JSON loses
//! 64-bit integers, infinities, broken text). A write is a list of [`Statement`]s that happen all
//! or not at all; it is sent once, and its answer says which of the few things happened. Retrying
//! reads is the implementation's business, retrying writes never is.

use std::fmt;
use std::time::Duration;

use futures::future::BoxFuture;
use rehome_core::Halt;
use serde::{Deserialize, Serialize};

use crate::script::Script;
use crate::value::Value;

/// What sort of database it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DatabaseKind {
    /// A SQLite file.
    Sqlite,
    /// A Cloudflare D1 database behind its REST API.
    D1,
}

impl DatabaseKind {
    /// The word used in configurations and journals.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Sqlite => "sqlite",
            Self::D1 => "d1",
        }
    }
}

/// Which database it is. A journal remembers this, so that a run against another is refused.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct DatabaseIdentity {
    /// What sort of database.
    pub kind: DatabaseKind,
    /// What names it for good: the canonical path of a file; account and uuid of a D1 database.
    pub id: String,
    /// What a person calls it.
    pub name: String,
}

impl fmt::Display for DatabaseIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} database {}", self.kind.as_str(), self.name)
    }
}

/// What a database can take, in bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Limits {
    /// The largest row (and the largest single value).
    pub row: usize,
    /// The largest string parameter that is sent.
    pub parameter: usize,
    /// The largest request, all parameters together.
    pub request: usize,
}

/// One question: `SELECT <columns> <rest>`.
///
/// A table of the application's may have any name, and so may its columns. So it always stands under
/// an alias, and its columns are always qualified by that: a bare name may be taken for a column of
/// `json_each`, and in ORDER BY for what a select list calls something.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Select {
    /// SQL expressions, each of which yields one exact value. They may be evaluated more than
    /// once a row, so they have no side effects and are cheap.
    pub columns: Vec<String>,
    /// Everything after the columns: `FROM … WHERE … ORDER BY … LIMIT …`. Without `;`.
    pub rest: String,
    /// The string bound to `?1`.
    pub param: Option<String>,
}

impl Select {
    /// A question without a parameter.
    pub fn new<S: Into<String>>(
        columns: impl IntoIterator<Item = S>,
        rest: impl Into<String>,
    ) -> Self {
        Self {
            columns: columns.into_iter().map(Into::into).collect(),
            rest: rest.into(),
            param: None,
        }
    }

    /// The same question with a string bound to `?1`.
    #[must_use]
    pub fn with(mut self, param: impl Into<String>) -> Self {
        self.param = Some(param.into());
        self
    }
}

/// The rows that answer one [`Select`]: a value per column.
pub type Rows = Vec<Vec<Value>>;

/// One statement of a write. Serialised, it is an entry of a batch in D1's API.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Statement {
    /// The SQL, without `;`.
    pub sql: String,
    /// The strings bound to `?1`, `?2`, … Only strings, because D1 binds numbers as doubles.
    pub params: Vec<String>,
}

impl Statement {
    /// A statement without parameters.
    pub fn new(sql: impl Into<String>) -> Self {
        Self { sql: sql.into(), params: Vec::new() }
    }

    /// A statement with one string bound to `?1`.
    pub fn with(sql: impl Into<String>, param: impl Into<String>) -> Self {
        Self { sql: sql.into(), params: vec![param.into()] }
    }
}

/// How many bytes these statements take.
pub(crate) fn size(request: &[Statement]) -> usize {
    request
        .iter()
        .map(|statement| {
            statement.sql.len() + statement.params.iter().map(String::len).sum::<usize>()
        })
        .sum()
}

/// Why a database refused a write, as far as its message tells.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Refusal {
    /// One of our own assertions did not hold: what was read before has changed since.
    Guard,
    /// A primary key or unique index already has the value.
    Unique,
    /// A foreign key would point nowhere.
    ForeignKey,
    /// Another constraint: NOT NULL, CHECK, a STRICT type, a trigger's RAISE.
    Constraint,
    /// A value, row or statement is larger than the database takes.
    TooBig,
    /// Anything else that SQLite refuses.
    Other,
}

/// What became of a write.
#[derive(Debug)]
pub enum Written {
    /// It happened, all of it.
    Done {
        /// How many rows changed, as far as the database says.
        changes: u64,
    },
    /// The database refused; nothing happened.
    Refused {
        /// What sort of refusal.
        refusal: Refusal,
        /// The database's own words.
        message: String,
    },
    /// It was not sent, or turned away before it was looked at; nothing happened.
    NotSent {
        /// What stood in the way.
        reason: String,
        /// How long the database asked to be left alone.
        retry_after: Option<Duration>,
        /// Set when no later attempt of this run can succeed either.
        halt: Option<Halt>,
    },
    /// It may have happened.
    Unknown {
        /// What was seen instead of an answer.
        reason: String,
    },
}

/// What became of a restore.
#[derive(Debug)]
pub enum Restored {
    /// The whole database is as it was.
    Done {
        /// The mark of the moment before, by which it can be undone; where the database told it.
        previous: Option<String>,
    },
    /// The database refused, or nothing was sent; nothing happened.
    Refused {
        /// What stood in the way.
        message: String,
    },
    /// It may have happened. A restore to the same mark may be repeated.
    Unknown {
        /// What was seen instead of an answer.
        reason: String,
    },
}

/// A database that can be read.
pub trait ReadDatabase: Send + Sync {
    /// Which database it is.
    fn identity(&self) -> &DatabaseIdentity;

    /// What it can take.
    fn limits(&self) -> Limits;

    /// How many requests were sent over a network so far; none for a file.
    fn requests(&self) -> u64 {
        0
    }

    /// Answers all questions in one request, from one state of the database where it can; the
    /// answers come in the order of the questions. Retried by itself.
    ///
    /// # Errors
    /// [`Halt::Remote`] when the database cannot be reached, past all retries;
    /// [`Halt::Refused`] when it does not understand a question (a table that is gone).
    fn select(&self, queries: Vec<Select>) -> BoxFuture<'_, Result<Vec<Rows>, Halt>>;

    /// The mark of the present moment to which the database could be restored, when it has
    /// such marks (D1's Time Travel).
    ///
    /// # Errors
    /// [`Halt::Remote`] when the database cannot be reached, past all retries.
    fn bookmark(&self) -> BoxFuture<'_, Result<Option<String>, Halt>>;
}

/// A database that can also be written to.
pub trait WriteDatabase: ReadDatabase {
    /// Performs all statements in one transaction, once.
    fn write(&self, statements: Vec<Statement>) -> BoxFuture<'_, Written>;

    /// Whether it takes files of statements, see [`WriteDatabase::load`].
    fn takes_files(&self) -> bool {
        false
    }

    /// Performs a file of statements, all or nothing, once. The database answers nobody meanwhile.
    fn load(&self, script: Script) -> BoxFuture<'_, Written> {
        drop(script);
        let message = format!("{} takes no files", self.identity());
        Box::pin(std::future::ready(Written::Refused { refusal: Refusal::Other, message }))
    }

    /// How many bytes a write should hold at most at the moment, so that it does not take too
    /// long: at most [`Limits::request`]. What is larger should be written in parts, where it can
    /// be taken apart. Changes from write to write.
    fn comfortable(&self) -> usize {
        self.limits().request
    }

    /// Takes the *whole* database back to a mark that [`ReadDatabase::bookmark`] gave, once, also
    /// what others have written since.
    fn restore<'a>(&'a self, bookmark: &'a str) -> BoxFuture<'a, Restored> {
        let message = format!("{} cannot be taken back to {bookmark}", self.identity());
        Box::pin(std::future::ready(Restored::Refused { message }))
    }

    /// How long a write may still be under way when the process that sent it is dead: as long as
    /// a request may take; nothing in a file.
    fn flight_time(&self) -> Duration {
        Duration::ZERO
    }
}

impl Refusal {
    /// Sorts SQLite's words. The texts are those of SQLite itself (`sqlite3_errmsg`), which D1
    /// passes on with `: SQLITE_…` behind them.
    pub fn from_message(message: &str) -> Self {
        const SORTS: &[(&str, Refusal)] = &[
            ("integer overflow", Refusal::Guard),
            ("UNIQUE constraint", Refusal::Unique),
            ("PRIMARY KEY constraint", Refusal::Unique),
            ("FOREIGN KEY constraint", Refusal::ForeignKey),
            ("too big", Refusal::TooBig),
            ("TOOBIG", Refusal::TooBig),
            ("too long", Refusal::TooBig),
            ("constraint failed", Refusal::Constraint),
            ("SQLITE_CONSTRAINT", Refusal::Constraint),
            ("cannot store", Refusal::Constraint),
            ("datatype mismatch", Refusal::Constraint),
        ];
        SORTS
            .iter()
            .find(|(words, _)| message.contains(words))
            .map_or(Self::Other, |(_, refusal)| *refusal)
    }
}

/// An SQL expression that stops the statement, and with it the whole write, when `condition`
/// holds: SQLite raises `integer overflow` for the absolute value of the smallest integer, on D1
/// too (measured).
pub fn guard(condition: &str) -> String {
    format!("SELECT CASE WHEN {condition} THEN abs(-9223372036854775807-1) END")
}

/// Columns of the table that a statement calls `alias`.
pub(crate) fn qualified<'a>(
    alias: &str,
    columns: impl IntoIterator<Item = &'a String>,
) -> Vec<String> {
    columns.into_iter().map(|column| format!("{alias}.{column}")).collect()
}

/// A name as SQL needs it.
pub fn quote_name(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}
