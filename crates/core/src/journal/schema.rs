//! The file under the journal: its format, its pragmas, and how a connection is opened.
//!
//! Every pragma that durability rests on is read back, because SQLite takes an unknown word for
//! some default without a murmur. A journal that is not exactly as safe as asked for is refused.

use std::fs::OpenOptions;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::{Connection, OpenFlags};

use super::{Error, lock, replay, vacancy};
use crate::boundary::{self, Boundary};

/// `PRAGMA application_id` of every journal: "rhme".
const APPLICATION_ID: i64 = 0x7268_6d65;

/// The schema, one step per format version. A released step is never edited.
const STEPS: [&str; 3] = [
    include_str!("../../../../migrations/0001_journal.sql"),
    include_str!("../../../../migrations/0002_undo.sql"),
    include_str!("../../../../migrations/0003_reopened.sql"),
];

/// How long a reader waits for a writer's lock, and the reverse. In WAL mode both are short.
const BUSY: Duration = Duration::from_secs(10);

/// Makes a new journal at `path`, readable by its owner alone; `bind` writes what it is bound to.
///
/// It is made beside its place and takes its name when it is whole. So a file that has a
/// journal's name and is empty, or holds half of one, was cut off, and is never taken for the
/// beginning of a migration that has in truth come far.
pub(super) fn create(
    path: &Path,
    bind: impl FnOnce(&Connection) -> Result<(), Error>,
) -> Result<(), Error> {
    let made = beside(path, ".new");
    write_new(&made, bind)?;
    take_place(&made, path)
}

/// Writes a new file of the present format at `made`, durably, in place of a leftover; `fill`
/// writes what it holds.
pub(super) fn write_new<T>(
    made: &Path,
    fill: impl FnOnce(&Connection) -> Result<T, Error>,
) -> Result<T, Error> {
    for suffix in ["", "-journal", "-wal", "-shm"] {
        remove(&beside(made, suffix))?;
    }
    create_private(made)?;
    boundary::reach(Boundary::FileMade);
    let mut conn = open(made)?;
    conn.pragma_update(None, "synchronous", "FULL").map_err(Error::sqlite("make it safe"))?;
    upgrade(&mut conn)?;
    let filled = fill(&conn)?;
    conn.close().map_err(|(_, source)| Error::Sqlite { doing: "finish the new file", source })?;
    Ok(filled)
}

/// Gives a finished file its name, durably, in place of what was there.
pub(super) fn take_place(made: &Path, path: &Path) -> Result<(), Error> {
    let failed = |doing| {
        let path = path.to_owned();
        move |source| Error::File { doing, path, source }
    };
    std::fs::rename(made, path).map_err(failed("give its name to the journal"))?;
    #[cfg(unix)]
    std::fs::File::open(folder_of(path))
        .and_then(|folder| folder.sync_all())
        .map_err(failed("make durable the name of"))?;
    Ok(())
}

/// The folder that a name stands in.
#[cfg(unix)]
fn folder_of(path: &Path) -> &Path {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        Some(_) | None => Path::new("."),
    }
}

/// The name of a file that belongs to the journal.
pub(super) fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

/// The file that a name leads to: beside it stand the files of SQLite, and the lock.
pub(super) fn itself(path: &Path) -> PathBuf {
    let found = if path.is_symlink() { std::fs::canonicalize(path).ok() } else { None };
    found.unwrap_or_else(|| path.to_owned())
}

/// Removes a file that may be there.
pub(super) fn remove(path: &Path) -> Result<(), Error> {
    match std::fs::remove_file(path) {
        Err(source) if source.kind() != std::io::ErrorKind::NotFound => {
            Err(Error::File { doing: "remove", path: path.to_owned(), source })
        }
        Ok(()) | Err(_) => Ok(()),
    }
}

fn open(path: &Path) -> Result<Connection, Error> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let conn = Connection::open_with_flags(path, flags).map_err(Error::sqlite("open it"))?;
    conn.busy_timeout(BUSY).map_err(Error::sqlite("set its patience"))?;
    Ok(conn)
}

/// Opens an existing journal for writing.
pub(super) fn open_writer(path: &Path) -> Result<Connection, Error> {
    refuse_strange(path)?;
    if std::fs::metadata(path).is_ok_and(|file| file.permissions().readonly()) {
        return Err(Error::ReadOnly(path.to_owned()));
    }
    make_private(path)?;
    make_sides_private(path)?;
    let mut conn = open(path)?;
    recognise(&conn, path)?;
    settle_pragmas(&conn)?;
    check(&conn)?;
    upgrade(&mut conn)?;
    lock::refuse_shortened(&conn, path)?;
    Ok(conn)
}

/// What is refused before SQLite looks at it.
fn refuse_strange(path: &Path) -> Result<(), Error> {
    let Ok(file) = std::fs::metadata(path) else {
        return Err(vacancy::absent(path));
    };
    let not = |found: &str| Err(Error::NotAJournal { path: path.to_owned(), found: found.into() });
    match (file.is_file(), file.len()) {
        (false, _) if file.is_dir() => not("a folder"),
        (false, _) => not("no ordinary file"),
        (true, 0) => not("an empty file"),
        (true, _) => refuse_cut_off(path),
    }
}

/// Refuses a file that is not as long as its header says. SQLite takes what is missing of the
/// last page for zeros, and a reader may never come to see it. While there is a write-ahead log
/// the file may be behind its header for good reasons.
fn refuse_cut_off(path: &Path) -> Result<(), Error> {
    let wal = beside(path, "-wal");
    let has_wal = || std::fs::metadata(&wal).is_ok_and(|wal| wal.len() > 0);
    let read = || -> std::io::Result<(u64, [u8; 100])> {
        let mut file = std::fs::File::open(path)?;
        let mut header = [0; 100];
        std::io::Read::read_exact(&mut file, &mut header)?;
        Ok((file.metadata()?.len(), header))
    };
    // Asked before and after: a run may end or begin meanwhile.
    if has_wal() {
        return Ok(());
    }
    // A header that cannot be read is for SQLite to judge.
    let Ok((length, header)) = read() else { return Ok(()) };
    let expected = length_by(&header);
    if has_wal() || expected.is_none_or(|expected| expected == length) {
        return Ok(());
    }
    Err(Error::Damaged(format!(
        "it is {length} bytes long and should be {}: it was cut off",
        expected.unwrap_or_default()
    )))
}

/// How long a database is by its header (<https://sqlite.org/fileformat2.html#the_database_header>:
/// the page size at 16, where 1 stands for 65,536, and the number of pages at 28); `None` when it
/// is no database.
fn length_by(header: &[u8; 100]) -> Option<u64> {
    let at = |from: usize, bytes: usize| {
        let bytes = header.get(from..from + bytes)?;
        Some(bytes.iter().fold(0u64, |number, byte| number << 8 | u64::from(*byte)))
    };
    let page = match at(16, 2)? {
        1 => 65_536,
        page => page,
    };
    header.starts_with(b"SQLite format 3\0").then_some(page * at(28, 4)?)
}

/// Opens the journal for reading only; works while a run writes.
pub(super) fn open_reader(path: &Path) -> Result<Connection, Error> {
    refuse_strange(path)?;
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let conn = Connection::open_with_flags(path, flags).map_err(Error::sqlite("open it"))?;
    conn.busy_timeout(BUSY).map_err(Error::sqlite("set its patience"))?;
    conn.set_prepared_statement_cache_capacity(64);
    recognise(&conn, path)?;
    if known(format(&conn)?)? < STEPS.len() {
        // A reader may be all that is ever opened again: a look must not depend on a run.
        drop(conn);
        upgrade_file(path)?;
        return open_reader(path);
    }
    lock::refuse_shortened(&conn, path)?;
    Ok(conn)
}

/// Brings a file of an older format to the present one. Waits for nobody: when a run holds the
/// journal, that run has upgraded it already.
fn upgrade_file(path: &Path) -> Result<(), Error> {
    let _lock = lock::Lock::take(path)?;
    drop(open_writer(path)?);
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

/// The same for the files beside it, where they are not so already. SQLite gives them the mode that
/// the journal has when they are made, and a reader leaves them behind: one who looked at a journal
/// that was read-only meanwhile would stand in the way of every writer after him.
#[cfg(unix)]
fn make_sides_private(path: &Path) -> Result<(), Error> {
    use std::os::unix::fs::PermissionsExt as _;
    let itself = itself(path);
    for suffix in ["-wal", "-shm"] {
        let side = beside(&itself, suffix);
        let Ok(found) = std::fs::symlink_metadata(&side) else { continue };
        if found.is_file() && found.permissions().mode() & 0o777 != 0o600 {
            make_private(&side)?;
        }
    }
    Ok(())
}

#[cfg(not(unix))]
fn make_sides_private(_: &Path) -> Result<(), Error> {
    Ok(())
}

/// Refuses a file that is something else.
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
        // It has its format before it has its name (see [`create`]), so this was not written here.
        (APPLICATION_ID, _) if format(conn)? == 0 => Err(not("a journal without a format".into())),
        (APPLICATION_ID, _) => Ok(()),
        (_, 0) => Err(not("an empty database".into())),
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
        settle_one(conn, pragma, value, read_back)?;
    }
    Ok(())
}

/// Sets one pragma and believes only what it says afterwards.
fn settle_one(
    conn: &Connection,
    pragma: &'static str,
    value: &'static str,
    read_back: &str,
) -> Result<(), Error> {
    conn.pragma_update_and_check(None, pragma, value, |_| Ok(())).or_else(|error| match error {
        // Most pragmas answer nothing when they are set.
        rusqlite::Error::QueryReturnedNoRows => Ok(()),
        other => Err(Error::Sqlite { doing: "make it safe", source: other }),
    })?;
    let found: String = conn
        .pragma_query_value(None, pragma, |row| {
            row.get_ref(0).map(|value| match value {
                rusqlite::types::ValueRef::Integer(number) => number.to_string(),
                other => String::from_utf8_lossy(other.as_bytes().unwrap_or_default()).into_owned(),
            })
        })
        .map_err(Error::sqlite("read its settings back"))?;
    if found == read_back { Ok(()) } else { Err(Error::Pragma { pragma, wanted: value, found }) }
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

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(conn: &Connection) -> (&'static str, String) {
        match settle_pragmas(conn) {
            Err(Error::Pragma { pragma, found, .. }) => (pragma, found),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_setting_that_does_not_read_back_is_refused() {
        // A database without a file has no write-ahead log; SQLite keeps `memory` and says so.
        let memory = Connection::open_in_memory().unwrap();
        assert_eq!(refused(&memory), ("journal_mode", "memory".to_owned()));

        // Within a transaction SQLite passes over `foreign_keys` without a word.
        let folder = tempfile::tempdir().unwrap();
        let conn = Connection::open(folder.path().join("a.journal")).unwrap();
        conn.pragma_update(None, "journal_mode", "WAL").unwrap();
        conn.pragma_update(None, "synchronous", "FULL").unwrap();
        conn.pragma_update(None, "foreign_keys", "OFF").unwrap();
        conn.execute_batch("BEGIN").unwrap();
        let settled = settle_one(&conn, "foreign_keys", "ON", "1");
        assert!(
            matches!(&settled, Err(Error::Pragma { pragma: "foreign_keys", found, .. }) if found == "0"),
            "{settled:?}"
        );
        conn.execute_batch("ROLLBACK").unwrap();
        settle_pragmas(&conn).unwrap();
    }

    #[cfg(unix)]
    #[test]
    fn a_name_is_made_durable_in_its_own_folder() {
        for (path, folder) in [("a.journal", "."), ("in/a.journal", "in"), ("/a.journal", "/")] {
            assert_eq!(folder_of(Path::new(path)), Path::new(folder));
        }
    }

    #[test]
    fn a_word_that_sqlite_takes_for_another_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let conn = Connection::open(folder.path().join("a.journal")).unwrap();
        // What an unknown word for `synchronous` is taken for, without a murmur.
        let settled = settle_one(&conn, "synchronous", "FULLY", "2");
        assert!(matches!(settled, Err(Error::Pragma { pragma: "synchronous", .. })), "{settled:?}");
    }
}
