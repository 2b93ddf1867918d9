//! Files that are broken in every way that is easily thought of: each is refused with a reason
//! that a person can act on, by readers and writers, and nothing panics.

use std::path::Path;

use super::*;

/// A journal with some history, closed as it should be. Returns its bytes.
async fn history(place: &Place) -> Vec<u8> {
    let journal = open(place);
    let names: Vec<_> = (0..200).map(|number| format!("user{number}")).collect();
    let names: Vec<_> = names.iter().map(String::as_str).collect();
    journal.submit(vec![page(&names)]).await.unwrap();
    for unit in 1..=200 {
        let to = advance(unit, Stage::Mapped, &format!("target{unit}"));
        journal.submit(vec![to]).await.unwrap();
    }
    journal.close();
    assert!(!schema::beside(&place.path, "-wal").exists(), "a clean end leaves one file");
    std::fs::read(&place.path).unwrap()
}

/// Everything that a reading command may ask.
fn read_all(path: &Path) -> Result<(), Error> {
    let reader = Reader::open(path)?;
    reader.setup()?;
    reader.owner()?;
    reader.counts()?;
    reader.codes()?;
    reader.failures(None, UnitId(0), 1000)?;
    reader.mappings(&USER, UnitId(0), 1000)?;
    for unit in reader.standing_at_least(&USER, Stage::Exported, UnitId(0), 1000)? {
        reader.history(unit.id)?;
        reader.find(&[unit.source_key])?;
    }
    let mut from = None;
    loop {
        let page = reader.log(&LogFilter::default(), from, 100)?;
        from = page.next;
        if from.is_none() {
            break;
        }
    }
    check_replay(path, Path::new("")).map(drop)
}

fn write(path: &Path) -> Result<(), Error> {
    Journal::open(path, &setup("ins_a"), Arc::new(SystemClock)).map(Journal::close)
}

/// Whether an error is one of those that say: this file is not to be used.
fn names_the_file(error: &Error) -> bool {
    match error {
        Error::NotAJournal { .. }
        | Error::Damaged(_)
        | Error::Shortened { .. }
        | Error::ReplayDiffers(_)
        | Error::OtherMigration { .. }
        | Error::ReadOnly(_)
        | Error::TooNew { .. } => true,
        Error::Missing(_)
        | Error::File { .. }
        | Error::Sqlite { .. }
        | Error::Pragma { .. }
        | Error::Locked { .. }
        | Error::Illegal { .. }
        | Error::TargetTaken { .. }
        | Error::UnknownUnit(_)
        | Error::Orphan { .. }
        | Error::Gone { .. }
        | Error::Nowhere { .. }
        | Error::Exists(_)
        | Error::Read(_)
        | Error::Scrubbed { .. }
        | Error::Closed => false,
    }
}

fn put(place: &Place, bytes: &[u8]) {
    for suffix in ["-wal", "-shm"] {
        schema::remove(&schema::beside(&place.path, suffix)).unwrap();
    }
    std::fs::write(&place.path, bytes).unwrap();
}

#[tokio::test]
async fn a_journal_cut_off_anywhere_is_refused_by_all() {
    let place = place();
    let whole = history(&place).await;
    let length = whole.len();
    let page = 4096;
    let sizes = [0, 1, 15, 16, 50, 99, 100, 101, 511, 512, 1023, page - 1, page, page + 1];
    let late = [length / 3, length / 2, length - page, length - page + 1, length - 1];
    for size in sizes.into_iter().chain(late) {
        put(&place, &whole[..size]);
        let written = write(&place.path);
        assert!(
            written.as_ref().is_err_and(names_the_file),
            "{size} of {length}, writing: {written:?}"
        );
        put(&place, &whole[..size]);
        let read = read_all(&place.path);
        assert!(read.as_ref().is_err_and(names_the_file), "{size} of {length}, reading: {read:?}");
        assert_eq!(std::fs::read(&place.path).unwrap(), &whole[..size], "{size}: left as it is");
    }
    put(&place, &whole);
    read_all(&place.path).unwrap();
    write(&place.path).unwrap();
}

#[tokio::test]
async fn a_flipped_bit_is_found_or_harmless_and_never_a_panic() {
    let place = place();
    let whole = history(&place).await;
    let mut random = fastrand::Rng::with_seed(5);
    let (mut found_by_writers, mut found_by_replay) = (0, 0);
    for trial in 0..400 {
        let mut bytes = whole.clone();
        // The first hundred go into the header and the schema, where most hangs on one bit.
        let place_of_it =
            if trial < 100 { random.usize(..4096) } else { random.usize(..bytes.len()) };
        bytes[place_of_it] ^= 1 << random.u8(..8);
        put(&place, &bytes);
        if let Err(error) = read_all(&place.path) {
            assert!(names_the_file(&error), "byte {place_of_it}, reading: {error:?}");
            found_by_replay += 1;
        }
        put(&place, &bytes);
        if let Err(error) = write(&place.path) {
            assert!(names_the_file(&error), "byte {place_of_it}, writing: {error:?}");
            found_by_writers += 1;
        }
    }
    // Most of a journal is text that may as well be another text; the structure is what is seen.
    assert!(found_by_writers > 40, "{found_by_writers}");
    assert!(found_by_replay > found_by_writers, "{found_by_replay} {found_by_writers}");
}

#[tokio::test]
async fn a_header_of_zeros_a_folder_and_a_read_only_file_are_named() {
    let place = place();
    let whole = history(&place).await;
    let mut bytes = whole.clone();
    bytes[..100].fill(0);
    put(&place, &bytes);
    for error in [write(&place.path).unwrap_err(), read_all(&place.path).unwrap_err()] {
        assert!(matches!(error, Error::NotAJournal { .. }), "{error:?}");
    }

    put(&place, &whole);
    let mut permissions = std::fs::metadata(&place.path).unwrap().permissions();
    permissions.set_readonly(true);
    std::fs::set_permissions(&place.path, permissions).unwrap();
    let error = write(&place.path).unwrap_err();
    assert!(matches!(error, Error::ReadOnly(_)), "{error:?}");
    read_all(&place.path).unwrap();

    std::fs::remove_file(&place.path).unwrap();
    std::fs::create_dir(&place.path).unwrap();
    for error in [write(&place.path).unwrap_err(), read_all(&place.path).unwrap_err()] {
        assert!(matches!(&error, Error::NotAJournal { found, .. } if found == "a folder"));
    }
}

#[tokio::test]
async fn a_wal_file_that_was_left_behind_is_missed() {
    let place = place();
    let journal = open(&place);
    journal.submit(vec![page(&["a", "b"])]).await.unwrap();
    journal.submit(vec![advance(1, Stage::Mapped, "t1")]).await.unwrap();
    // What a person has who moves the file alone to another machine after a crash.
    let bytes = std::fs::read(&place.path).unwrap();
    let note = std::fs::read(schema::beside(&place.path, ".lock")).unwrap();
    let wal = std::fs::read(schema::beside(&place.path, "-wal")).unwrap();
    drop(journal);

    put(&place, &bytes);
    let lock = schema::beside(&place.path, ".lock");
    std::fs::write(&lock, &note).unwrap();
    for error in [write(&place.path).unwrap_err(), read_all(&place.path).unwrap_err()] {
        let Error::Shortened { found, acknowledged, .. } = error else { panic!("{error:?}") };
        assert_eq!((found, acknowledged), (0, 4));
    }
    // With it, everything is there; and so it is for who says that the older state will do.
    put(&place, &bytes);
    std::fs::write(schema::beside(&place.path, "-wal"), &wal).unwrap();
    read_all(&place.path).unwrap();
    write(&place.path).unwrap();
    put(&place, &bytes);
    std::fs::remove_file(&lock).unwrap();
    write(&place.path).unwrap();
}

#[tokio::test]
async fn a_reader_after_a_crash_takes_nothing_away() {
    let place = place();
    let journal = open(&place);
    journal.submit(vec![page(&["a", "b"])]).await.unwrap();
    let copy = place.path.with_extension("copy");
    for suffix in ["", "-wal"] {
        let (from, to) = (schema::beside(&place.path, suffix), schema::beside(&copy, suffix));
        std::fs::copy(from, to).unwrap();
    }
    read_all(&copy).unwrap();
    assert!(schema::beside(&copy, "-wal").exists(), "the last reader leaves the log there");
    read_all(&copy).unwrap();
}

#[tokio::test]
async fn an_empty_write_ahead_log_says_nothing() {
    let place = place();
    let wal = schema::beside(&place.path, "-wal");
    std::fs::write(&wal, b"").unwrap();
    write(&place.path).unwrap();

    let whole = history(&place).await;
    put(&place, &whole[..whole.len() - 4096]);
    std::fs::write(&wal, b"").unwrap();
    let read = read_all(&place.path);
    assert!(matches!(&read, Err(Error::Damaged(what)) if what.contains("cut off")), "{read:?}");
}

#[tokio::test]
async fn a_file_behind_its_header_is_whole_together_with_its_write_ahead_log() {
    let place = place();
    let journal = open(&place);
    let names: Vec<_> = (0..200).map(|number| format!("user{number}")).collect();
    let names: Vec<_> = names.iter().map(String::as_str).collect();
    journal.submit(vec![page(&names)]).await.unwrap();
    let mut bytes = std::fs::read(&place.path).unwrap();
    let wal = std::fs::read(schema::beside(&place.path, "-wal")).unwrap();
    journal.close();
    let whole = std::fs::read(&place.path).unwrap();
    assert!(whole.len() > bytes.len());
    // Killed while the log was folded into the file, after the first page of it.
    bytes[..4096].copy_from_slice(&whole[..4096]);
    put(&place, &bytes);
    std::fs::write(schema::beside(&place.path, "-wal"), wal).unwrap();
    read_all(&place.path).unwrap();
    write(&place.path).unwrap();
    assert_eq!(Reader::open(&place.path).unwrap().counts().unwrap()[&USER].total(), 200);
}

#[cfg(unix)]
#[test]
fn a_socket_is_no_ordinary_file() {
    let place = place();
    let _socket = std::os::unix::net::UnixListener::bind(&place.path).unwrap();
    for error in [write(&place.path).unwrap_err(), read_all(&place.path).unwrap_err()] {
        assert!(
            matches!(&error, Error::NotAJournal { found, .. } if found == "no ordinary file"),
            "{error:?}"
        );
    }
}

#[tokio::test]
async fn a_page_that_is_lost_is_found_before_a_run_begins() {
    let place = place();
    let mut bytes = history(&place).await;
    let middle = bytes.len() / 4096 / 2 * 4096;
    bytes[middle..middle + 4096].fill(0);
    put(&place, &bytes);
    let refused = write(&place.path).unwrap_err();
    assert!(matches!(refused, Error::Damaged(_)), "{refused:?}");
}

#[tokio::test]
async fn a_journal_of_a_later_format_is_left_to_the_version_that_made_it() {
    let place = place();
    history(&place).await;
    let conn = rusqlite::Connection::open(&place.path).unwrap();
    conn.pragma_update(None, "user_version", 99).unwrap();
    drop(conn);
    for refused in [write(&place.path).unwrap_err(), read_all(&place.path).unwrap_err()] {
        assert!(matches!(refused, Error::TooNew { found: 99, .. }), "{refused:?}");
    }
}

#[tokio::test]
async fn a_file_that_has_nothing_of_a_journal_but_the_mark_is_none() {
    let place = place();
    history(&place).await;
    let conn = rusqlite::Connection::open(&place.path).unwrap();
    let mark: i64 = conn.pragma_query_value(None, "application_id", |row| row.get(0)).unwrap();
    conn.pragma_update(None, "user_version", 0).unwrap();
    drop(conn);
    let refuse = || {
        for error in [write(&place.path).unwrap_err(), read_all(&place.path).unwrap_err()] {
            assert!(matches!(error, Error::NotAJournal { .. }), "{error:?}");
        }
    };
    refuse();
    std::fs::remove_file(&place.path).unwrap();
    let conn = rusqlite::Connection::open(&place.path).unwrap();
    conn.pragma_update(None, "application_id", mark).unwrap();
    drop(conn);
    refuse();
}
