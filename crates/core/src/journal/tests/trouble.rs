//! SQLite and the disk under it in trouble: what concerns the whole file is told to all who wait
//! for a commit, what concerns one change to its caller alone, and neither is taken for a
//! counterpart that belongs to somebody else.

use rusqlite::Connection;
use rusqlite::limits::Limit;

use super::*;
use crate::journal::cache::{self, Entry};
use crate::journal::writer;

/// A closed journal of two units, opened by hand.
async fn by_hand(place: &Place) -> Connection {
    let journal = open(place);
    journal.submit(vec![page(&["a", "b"])]).await.unwrap();
    journal.close();
    Connection::open(&place.path).unwrap()
}

fn entries(conn: &Connection) -> i64 {
    conn.query_row("SELECT count(*) FROM entry", [], |row| row.get(0)).unwrap()
}

fn note(length: usize) -> Vec<Change> {
    vec![Change::Note { event: "remark", detail: json!("x".repeat(length)) }]
}

#[tokio::test]
async fn a_full_disk_ends_the_commit_for_everybody() {
    let place = place();
    let mut conn = by_hand(&place).await;
    let pages: i64 = conn.pragma_query_value(None, "page_count", |row| row.get(0)).unwrap();
    conn.pragma_update(None, "max_page_count", pages + 2).unwrap();
    let refused = writer::commit(&mut conn, vec![note(1), note(100_000), note(1)], 0).unwrap_err();
    let Error::Sqlite { source, .. } = &refused else { panic!("{refused:?}") };
    assert_eq!(source.sqlite_error_code(), Some(rusqlite::ErrorCode::DiskFull));
    assert_eq!(entries(&conn), 3, "nothing of the group is there");
}

#[tokio::test]
async fn a_change_that_is_too_much_for_sqlite_is_refused_alone() {
    let place = place();
    let mut conn = by_hand(&place).await;
    conn.set_limit(Limit::SQLITE_LIMIT_LENGTH, 50_000).unwrap();
    let results = writer::commit(&mut conn, vec![note(1), note(100_000), note(1)], 0).unwrap();
    assert!(matches!(
        &results[..],
        [Ok(Ack { seq: 4, .. }), Err(Error::Sqlite { .. }), Ok(Ack { seq: 5, .. })]
    ));
    assert_eq!(entries(&conn), 5);
}

#[tokio::test]
async fn a_file_that_takes_no_writes_is_not_a_counterpart_that_is_taken() {
    let place = place();
    let conn = by_hand(&place).await;
    conn.pragma_update(None, "query_only", true).unwrap();
    let entry = Entry {
        seq: 4,
        unit: Some(1),
        event: "advanced",
        from: Some(Stage::Exported),
        to: Some(Stage::Created),
        attempt: 0,
        detail: Some(r#"{"target":"t1"}"#),
    };
    let refused = cache::apply(&conn, &entry).unwrap_err();
    assert!(matches!(refused, Error::Sqlite { .. }), "{refused:?}");
}
