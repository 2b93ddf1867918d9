//! The file under the journal: its format, its pragmas, and how a connection is opened.
//!
//! Every pragma that durability rests on is read back, because SQLite takes an unknown word for
//! some default without a murmur. A journal that is not exactly as safe as asked for is refused.

use std::fs::OpenOptions;
use std::path::Path;
use std::time::Duration;

use rusqlite::{Connection, OpenFlags};

use super::{Error, lock, replay};
use crate::boundary::{self, Boundary};

/// `PRAGMA application_id` of every journal: "rhme".
const APPLICATION_ID: i64 = 0x7268_6d65;

/// The schema, one step per format version. A released step is never edited.
const STEPS: [&str; 2] = [
    include_str!("../../../../migrations/0001_journal.sql"),
    include_str!("../../../../migrations/0002_undo.sql"),
];

/// How long a reader waits for a writer's lock, and the reverse. In WAL mode both are short.
const BUSY: Duration = Duration::from_secs(10);

/// Opens the journal for writing, creating it (readable by its owner alone) when asked to.
pub(super) fn open_writer(path: &Path, create: bool) -> Result<Connection, Error> {
    if create {
        create_private(path)?;
        boundary::reach(Boundary::FileMade);
    } else if !path.exists() {
        return Err(Error::Missing(path.to_owned()));
    }
    make_private(path)?;
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let mut conn = Connection::open_with_flags(path, flags).map_err(Error::sqlite("open it"))?;
    conn.busy_timeout(BUSY).map_err(Error::sqlite("set its patience"))?;
    recognise(&conn, path)?;
    settle_pragmas(&conn)?;
    check(&conn)?;
    upgrade(&mut conn)?;
    Ok(conn)
}

/// Opens the journal for reading only; works while a run writes.
pub(super) fn open_reader(path: &Path) -> Result<Connection, Error> {
    if !path.exists() {
        return Err(Error::Missing(path.to_owned()));
    }
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let conn = Connection::open_with_flags(path, flags).map_err(Error::sqlite("open it"))?;
    conn.busy_timeout(BUSY).map_err(Error::sqlite("set its patience"))?;
    conn.set_prepared_statement_cache_capacity(64);
    recognise(&conn, path)?;
    match known(format(&conn)?)? {
        0 => Err(Error::NotAJournal { path: path.to_owned(), found: "an empty file".into() }),
        format if format < STEPS.len() => {
            // A reader may be all that is ever opened again: a look must not depend on a run.
            drop(conn);
            upgrade_file(path)?;
            open_reader(path)
        }
        _ => Ok(conn),
    }
}

/// Brings a file of an older format to the present one. Waits for nobody: when a run holds the
/// journal, that run has upgraded it already.
fn upgrade_file(path: &Path) -> Result<(), Error> {
    let _lock = lock::Lock::take(path)?;
    drop(open_writer(path, false)?);
    Ok(())
}

/// A scratch copy of the schema, for replay.
pub(super) fn open_scratch(path: &Path) -> Result<Connection, Error> {
    let mut conn = Connection::open(path).map_err(Error::sqlite("open a scratch file"))?;
    // Thrown away afterwards: speed over safety, here only.
    conn.pragma_update(None, "synchronous", "OFF").map_err(Error::sqlite("set up scratch"))?;
    upgrade(&mut conn)?;
    Ok(conn)
}

fn create_private(path: &Path) -> Result<(), Error> {
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(false);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path).map(drop).map_err(|source| Error::File {
        doing: "create the journal",
        path: path.to_owned(),
        source,
    })
}

#[cfg(unix)]
fn make_private(path: &Path) -> Result<(), Error> {
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).map_err(|source| {
        Error::File { doing: "make private the journal", path: path.to_owned(), source }
    })
}

#[cfg(not(unix))]
fn make_private(_: &Path) -> Result<(), Error> {
    Ok(())
}

/// Refuses a file that is something else. An empty file may become a journal.
fn recognise(conn: &Connection, path: &Path) -> Result<(), Error> {
    let not = |found: String| Error::NotAJournal { path: path.to_owned(), found };
    let id: i64 =
        conn.pragma_query_value(None, "application_id", |row| row.get(0)).map_err(|source| {
            match source.sqlite_error_code() {
                Some(rusqlite::ErrorCode::NotADatabase) => not("not a SQLite file".into()),
                Some(rusqlite::ErrorCode::DatabaseCorrupt) => Error::Damaged(source.to_string()),
                _ => Error::Sqlite { doing: "read its header", source },
            }
        })?;
    let tables: i64 = conn
        .query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))
        .map_err(|source| Error::Damaged(source.to_string()))?;
    match (id, tables) {
        (APPLICATION_ID, _) | (0, 0) => Ok(()),
        (_, tables) => Err(not(format!("a SQLite file of something else, with {tables} tables"))),
    }
}

fn settle_pragmas(conn: &Connection) -> Result<(), Error> {
    for (pragma, value, read_back) in [
        ("journal_mode", "WAL", "wal"),
        ("synchronous", "FULL", "2"),
        ("foreign_keys", "ON", "1"),
        ("journal_size_limit", "67108864", "67108864"),
    ] {
        conn.pragma_update_and_check(None, pragma, value, |_| Ok(())).or_else(
            |error| match error {
                // Most pragmas answer nothing when they are set.
                rusqlite::Error::QueryReturnedNoRows => Ok(()),
                other => Err(Error::Sqlite { doing: "make it safe", source: other }),
            },
        )?;
        let found: String = conn
            .pragma_query_value(None, pragma, |row| {
                row.get_ref(0).map(|value| match value {
                    rusqlite::types::ValueRef::Integer(number) => number.to_string(),
                    other => {
                        String::from_utf8_lossy(other.as_bytes().unwrap_or_default()).into_owned()
                    }
                })
            })
            .map_err(Error::sqlite("read its settings back"))?;
        if found != read_back {
            return Err(Error::Pragma { pragma, wanted: value, found });
        }
    }
    Ok(())
}

fn check(conn: &Connection) -> Result<(), Error> {
    let verdict: String = conn
        .query_row("PRAGMA quick_check(1)", [], |row| row.get(0))
        .map_err(|source| Error::Damaged(source.to_string()))?;
    if verdict == "ok" { Ok(()) } else { Err(Error::Damaged(verdict)) }
}

fn format(conn: &Connection) -> Result<i64, Error> {
    conn.pragma_query_value(None, "user_version", |row| row.get(0))
        .map_err(Error::sqlite("read its format"))
}

fn known(found: i64) -> Result<usize, Error> {
    match usize::try_from(found) {
        Ok(format) if format <= STEPS.len() => Ok(format),
        _ => Err(Error::TooNew { found, known: STEPS.len() as i64 }),
    }
}

/// Brings an older (or empty) journal to the present format, in one transaction.
#[allow(clippy::disallowed_methods, reason = "the journal is one of the rooms where SQL is run")]
fn upgrade(conn: &mut Connection) -> Result<(), Error> {
    let doing = "bring it to the present format";
    let have = known(format(conn)?)?;
    if have == STEPS.len() {
        return Ok(());
    }
    let tx = conn.transaction().map_err(Error::sqlite(doing))?;
    for step in &STEPS[have..] {
        tx.execute_batch(step).map_err(Error::sqlite(doing))?;
    }
    if have > 0 {
        // Only the log is carried from format to format; what is derived from it is derived anew.
        replay::rebuild_cache(&tx)?;
    }
    tx.pragma_update(None, "application_id", APPLICATION_ID).map_err(Error::sqlite(doing))?;
    tx.pragma_update(None, "user_version", STEPS.len() as i64).map_err(Error::sqlite(doing))?;
    boundary::reach(Boundary::SchemaWritten);
    tx.commit().map_err(Error::sqlite(doing))?;
    boundary::reach(Boundary::SchemaDurable);
    Ok(())
}
