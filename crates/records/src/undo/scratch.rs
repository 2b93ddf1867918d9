//! The working file of a plan: every row of ours with what is to become of it.
//!
//! A rollback may have to weigh millions of rows against each other (who refers to whom, who is
//! kept and keeps others with it), and memory must not grow with them. So they are weighed in a
//! SQLite file that holds keys and nothing else of a row, is written without any care for
//! crashes, and is thrown away afterwards: what counts is in the journal and in the target.
#![allow(clippy::disallowed_methods, reason = "a file of its own, which no other room reads")]

use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

use rehome_core::{Halt, UnitId};
use rusqlite::{Connection, params};

use super::reason::Reason;
use crate::span::{key_from_json, key_to_json};
use crate::value::Value;

/// What is to become of a row of ours that is there.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Act {
    /// It goes.
    Remove,
    /// It becomes the earlier row of the same key again.
    Restore,
    /// It stays, for a reason.
    Keep,
    /// It stays, because nobody asked for it.
    Leave,
}

impl Act {
    /// As the file holds it.
    pub(crate) const fn number(self) -> i64 {
        match self {
            Self::Remove => 0,
            Self::Restore => 1,
            Self::Keep => 2,
            Self::Leave => 3,
        }
    }

    /// The reverse of [`Act::number`].
    pub(crate) fn from_number(number: i64) -> Self {
        match number {
            0 => Self::Remove,
            1 => Self::Restore,
            3 => Self::Leave,
            _ => Self::Keep,
        }
    }
}

const TABLES: &str = "
PRAGMA journal_mode = OFF;
PRAGMA synchronous = OFF;
PRAGMA temp_store = FILE;
-- Rows of ours that are there. `tbl` is the table's place in the layout.
CREATE TABLE item (
    id INTEGER PRIMARY KEY, tbl INTEGER NOT NULL, unit INTEGER NOT NULL, key TEXT NOT NULL,
    act INTEGER NOT NULL, code TEXT, message TEXT,
    named INTEGER NOT NULL,   -- names some unit of the journal
    chosen INTEGER NOT NULL,  -- names a selected one
    went INTEGER NOT NULL DEFAULT 0, -- a worker has taken it away
    forced INTEGER NOT NULL,  -- goes although it was changed
    cause INTEGER             -- the item on account of which it stays
);
CREATE UNIQUE INDEX item_key ON item (tbl, key);
CREATE INDEX item_unit ON item (unit, id);
-- References from rows of ours, as read: to the row of this key, which may be anybody's.
CREATE TABLE edge (child INTEGER NOT NULL, fk INTEGER NOT NULL, ptbl INTEGER NOT NULL,
    pkey TEXT NOT NULL);
-- Those that lead to rows of ours.
CREATE TABLE link (parent INTEGER NOT NULL, child INTEGER NOT NULL, fk INTEGER NOT NULL,
    PRIMARY KEY (parent, child, fk)) WITHOUT ROWID;
-- Earlier rows that are to be put back under a key of their own.
CREATE TABLE earlier (
    id INTEGER PRIMARY KEY, tbl INTEGER NOT NULL, unit INTEGER NOT NULL, key TEXT NOT NULL,
    act INTEGER NOT NULL, code TEXT, message TEXT, waiting INTEGER NOT NULL,
    vacant INTEGER NOT NULL, -- see `Vacant`
    forced INTEGER NOT NULL
);
CREATE INDEX earlier_unit ON earlier (unit, id);
-- Who stands in their way.
CREATE TABLE rival (earlier INTEGER NOT NULL, tbl INTEGER NOT NULL, key TEXT NOT NULL);
-- Accounts that are to go.
CREATE TABLE leaving (unit INTEGER PRIMARY KEY, account TEXT NOT NULL UNIQUE,
    stays INTEGER NOT NULL DEFAULT 0);
-- Accounts of this migration's making that are not there any more.
CREATE TABLE departed (account TEXT PRIMARY KEY) WITHOUT ROWID;
-- Rows that name one that is to go, and would keep it if they stay. `whose` is a `Whose`; `row` is the
-- item's or the earlier row's number.
CREATE TABLE naming (unit INTEGER NOT NULL, whose INTEGER NOT NULL, row INTEGER,
    tbl INTEGER NOT NULL, key TEXT NOT NULL);
CREATE INDEX naming_unit ON naming (unit, whose);
";

/// A row as it is put into the file.
pub(crate) struct NewItem {
    pub(crate) key: Vec<Value>,
    pub(crate) act: Act,
    pub(crate) why: Option<(Reason, String)>,
    pub(crate) named: bool,
    pub(crate) chosen: bool,
    /// Whether it goes although it was changed, because that was asked for.
    pub(crate) forced: bool,
    /// Accounts that the row which it becomes again would keep.
    pub(crate) keeps: Vec<String>,
    /// For each reference that leads to a carried table: the number of the foreign key, the
    /// table's place, the parent's key.
    pub(crate) refers: Vec<(usize, usize, Vec<Value>)>,
}

impl NewItem {
    /// Whether somebody has changed it since it was written.
    pub(crate) fn was_changed(&self) -> bool {
        self.forced || matches!(self.why, Some((Reason::RowChanged, _)))
    }
}

/// An earlier row as it is put into the file.
pub(crate) struct NewEarlier {
    pub(crate) key: Vec<Value>,
    pub(crate) waiting: bool,
    pub(crate) vacant: Vacant,
    pub(crate) rivals: Vec<Vec<Value>>,
    /// Accounts that it would keep, once it is back.
    pub(crate) keeps: Vec<String>,
}

/// Whether the place of an earlier row is empty, and who has emptied it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Vacant {
    /// Something stands there, or nothing proves that it was ever taken.
    Not,
    /// Somebody else has removed or changed what this migration had put there.
    ByOthers,
    /// The same, and the earlier row is to come back all the same.
    Forced,
}

impl Vacant {
    /// As the file holds it.
    const fn number(self) -> i64 {
        match self {
            Self::Not => 0,
            Self::ByOthers => 1,
            Self::Forced => 2,
        }
    }
}

/// Whose row it is that names an account.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Whose {
    /// One of ours: it keeps the account if it stays.
    Ours,
    /// An earlier row that one of ours becomes again.
    Exchanged,
    /// An earlier row that comes back under a key of its own.
    Earlier,
    /// Anybody else's.
    Others,
}

impl Whose {
    /// As the file holds it.
    pub(crate) const fn number(self) -> i64 {
        match self {
            Self::Ours => 0,
            Self::Exchanged => 1,
            Self::Earlier => 2,
            Self::Others => 3,
        }
    }
}

/// A row as the file gives it back.
#[derive(Clone, Debug)]
pub(crate) struct Item {
    pub(crate) id: i64,
    pub(crate) key: Vec<Value>,
    pub(crate) act: Act,
    pub(crate) why: Option<(Reason, String)>,
    /// Whether it was changed, and goes because that was asked for.
    pub(crate) forced: bool,
}

/// The file.
pub(crate) struct Scratch(Mutex<Connection>);

/// A key as the file holds it.
pub(crate) fn key_text(key: &[Value]) -> String {
    serde_json::Value::Array(key_to_json(key)).to_string()
}

/// The reverse of [`key_text`].
pub(crate) fn key_of(text: &str) -> Result<Vec<Value>, Halt> {
    let parts: Vec<serde_json::Value> =
        serde_json::from_str(text).map_err(|error| Halt::Bug(error.to_string()))?;
    key_from_json(&parts)
}

/// What SQLite said about the working file.
fn trouble(error: &rusqlite::Error) -> Halt {
    Halt::Refused {
        message: format!("the working file of the plan cannot be used: {error}"),
        hint: "see that its folder is writable and has room, then run again".to_owned(),
    }
}

impl Scratch {
    /// A new file at `path`; what was there is overwritten.
    pub(crate) fn create(path: &Path) -> Result<Self, Halt> {
        if let Err(error) = std::fs::remove_file(path)
            && error.kind() != std::io::ErrorKind::NotFound
        {
            return Err(Halt::Refused {
                message: format!("{} cannot be replaced: {error}", path.display()),
                hint: "remove it, or name another folder".to_owned(),
            });
        }
        let connection = Connection::open(path).map_err(|error| trouble(&error))?;
        connection.execute_batch(TABLES).map_err(|error| trouble(&error))?;
        Ok(Self(Mutex::new(connection)))
    }

    fn lock(&self) -> MutexGuard<'_, Connection> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Runs one piece of work on the file, in one transaction.
    pub(crate) fn work<T>(
        &self,
        work: impl FnOnce(&Connection) -> rusqlite::Result<T>,
    ) -> Result<T, Halt> {
        let mut connection = self.lock();
        let transaction = connection.transaction().map_err(|error| trouble(&error))?;
        let result = work(&transaction).map_err(|error| trouble(&error))?;
        transaction.commit().map_err(|error| trouble(&error))?;
        Ok(result)
    }

    /// Puts the rows of one span in.
    pub(crate) fn add(
        &self,
        table: usize,
        unit: UnitId,
        items: &[NewItem],
        earlier: &[NewEarlier],
    ) -> Result<(), Halt> {
        self.work(|file| {
            let mut put = file.prepare_cached(
                "INSERT OR IGNORE INTO item
                     (tbl, unit, key, act, code, message, named, chosen, forced)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
            )?;
            let mut keeps = file.prepare_cached(
                "INSERT INTO naming SELECT unit, ?1, ?2, ?3, ?4 FROM leaving WHERE account = ?5",
            )?;
            let mut refer = file.prepare_cached("INSERT INTO edge VALUES (?1, ?2, ?3, ?4)")?;
            for item in items {
                let (code, message) = match &item.why {
                    Some((reason, message)) => (Some(reason.code()), Some(message.as_str())),
                    None => (None, None),
                };
                let key = key_text(&item.key);
                let new = put.execute(params![
                    table as i64,
                    unit.0,
                    key,
                    item.act.number(),
                    code,
                    message,
                    item.named,
                    item.chosen,
                    item.forced
                ])?;
                if new == 0 {
                    continue;
                }
                let id = file.last_insert_rowid();
                for account in &item.keeps {
                    let whose = Whose::Exchanged.number();
                    keeps.execute(params![whose, id, table as i64, key, account])?;
                }
                for (fk, parent, key) in &item.refers {
                    refer.execute(params![id, *fk as i64, *parent as i64, key_text(key)])?;
                }
            }
            let mut put = file.prepare_cached(
                "INSERT INTO earlier (tbl, unit, key, act, waiting, vacant, forced)
                 VALUES (?1, ?2, ?3, 3, ?4, ?5, ?6)",
            )?;
            let mut rival = file.prepare_cached("INSERT INTO rival VALUES (?1, ?2, ?3)")?;
            for row in earlier {
                let key = key_text(&row.key);
                let forced = row.vacant == Vacant::Forced;
                let vacant = row.vacant.number();
                put.execute(params![table as i64, unit.0, key, row.waiting, vacant, forced])?;
                let id = file.last_insert_rowid();
                for account in &row.keeps {
                    let whose = Whose::Earlier.number();
                    keeps.execute(params![whose, id, table as i64, key, account])?;
                }
                for key in &row.rivals {
                    rival.execute(params![id, table as i64, key_text(key)])?;
                }
            }
            Ok(())
        })
    }

    /// Rows of one table with numbers above `after` that are to go, or to become an earlier row.
    pub(crate) fn going(&self, table: usize, after: i64, limit: usize) -> Result<Vec<Item>, Halt> {
        self.items(
            "SELECT id, key, act, code, message, forced FROM item
             WHERE tbl = ?1 AND id > ?2 AND act IN (0, 1) ORDER BY id LIMIT ?3",
            params![table as i64, after, limit as i64],
        )
    }

    /// All rows of one span.
    pub(crate) fn of_unit(&self, unit: UnitId) -> Result<Vec<Item>, Halt> {
        self.items(
            "SELECT id, key, act, code, message, forced FROM item WHERE unit = ?1 ORDER BY id",
            params![unit.0],
        )
    }

    fn items(&self, sql: &str, values: &[&dyn rusqlite::ToSql]) -> Result<Vec<Item>, Halt> {
        type Raw = (i64, String, i64, Option<String>, Option<String>, bool);
        let rows: Vec<Raw> = self.work(|file| {
            file.prepare_cached(sql)?
                .query_map(values, |row| {
                    Ok((
                        row.get(0)?,
                        row.get(1)?,
                        row.get(2)?,
                        row.get(3)?,
                        row.get(4)?,
                        row.get(5)?,
                    ))
                })?
                .collect()
        })?;
        rows.into_iter()
            .map(|(id, key, act, code, message, forced)| {
                let why = code
                    .as_deref()
                    .and_then(Reason::from_code)
                    .map(|reason| (reason, message.unwrap_or_default()));
                Ok(Item { id, key: key_of(&key)?, act: Act::from_number(act), why, forced })
            })
            .collect()
    }

    /// The earlier rows of one span: key, what is to become of each, and why not.
    pub(crate) fn earlier_of(&self, unit: UnitId) -> Result<Vec<Item>, Halt> {
        self.items(
            "SELECT id, key, act, code, message, forced FROM earlier WHERE unit = ?1 ORDER BY id",
            params![unit.0],
        )
    }

    /// Whether some earlier row of a span comes back, or is told of.
    pub(crate) fn any_earlier(&self, unit: UnitId) -> Result<bool, Halt> {
        self.work(|file| {
            file.prepare_cached("SELECT 1 FROM earlier WHERE unit = ?1 AND act IN (1, 2)")?
                .exists([unit.0])
        })
    }

    /// Pairs of rows of one span (child, parent) of which the one refers to the other.
    pub(crate) fn inner_links(&self, unit: UnitId) -> Result<Vec<(i64, i64)>, Halt> {
        self.work(|file| {
            file.prepare_cached(
                "SELECT l.child, l.parent FROM item p JOIN link l ON l.parent = p.id
                 JOIN item c ON c.id = l.child WHERE p.unit = ?1 AND c.unit = ?1",
            )?
            .query_map([unit.0], |row| Ok((row.get(0)?, row.get(1)?)))?
            .collect()
        })
    }

    /// Rows of one span, going, that refer to a going row of another span: with the number of
    /// the foreign key.
    pub(crate) fn outer_links(&self, unit: UnitId) -> Result<Vec<(i64, usize)>, Halt> {
        self.work(|file| {
            file.prepare_cached(
                "SELECT DISTINCT c.id, l.fk FROM item c JOIN link l ON l.child = c.id
                 JOIN item p ON p.id = l.parent
                 WHERE c.unit = ?1 AND p.unit <> ?1 AND c.act IN (0, 1) AND p.act IN (0, 1)
                 ORDER BY c.id",
            )?
            .query_map([unit.0], |row| Ok((row.get(0)?, row.get::<_, i64>(1)? as usize)))?
            .collect()
        })
    }
}
