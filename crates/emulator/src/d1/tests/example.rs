//! The database of `examples/verifieddit` in the emulator and in a plain file.

use std::fmt::Write as _;

use rusqlite::Connection;

use super::super::verifieddit::{fill, schema, seed};
use super::*;

fn users(count: usize) -> Vec<(String, Option<String>)> {
    (0..count)
        .map(|n| {
            let email = (n % 7 != 3).then(|| format!("user{n}@example.com"));
            (format!("user_2{n:026}"), email)
        })
        .collect()
}

/// Every value of every table, exactly.
fn contents(connection: &Connection) -> String {
    let mut out = String::new();
    for (table, columns) in [
        ("users", "clerk_id, email, plan, created_at"),
        (
            "badges",
            "id, owner_id, url, domain, badge_type, status, created_at, verified_at, \
                    c2pa_manifest, original_thumbnail_url",
        ),
        ("badge_images", "id, badge_id, image_url, ai_score, created_at"),
        ("events", "id, kind, payload"),
        ("counters", "id, user_id, hits, ratio, raw, hex(cast(note as blob)), extra"),
    ] {
        let mut statement =
            connection.prepare(&format!("SELECT {columns} FROM {table} ORDER BY rowid")).unwrap();
        let count = statement.column_count();
        let mut rows = statement.query([]).unwrap();
        while let Some(row) = rows.next().unwrap() {
            for column in 0..count {
                write!(out, "{:?} ", row.get_ref(column).unwrap()).unwrap();
            }
            out.push('\n');
        }
    }
    out
}

fn count(connection: &Connection, sql: &str) -> i64 {
    connection.query_row(sql, [], |row| row.get(0)).unwrap()
}

#[test]
fn the_same_arguments_give_the_same_rows() {
    let (first, second, third) = (
        Connection::open_in_memory().unwrap(),
        Connection::open_in_memory().unwrap(),
        Connection::open_in_memory().unwrap(),
    );
    let users = users(40);
    let counts = fill(&first, &users, 1_000, 5).unwrap();
    assert_eq!(counts.total(), 1_000);
    assert_eq!(counts.users, 40);
    assert_eq!(fill(&second, &users, 1_000, 5).unwrap(), counts);
    fill(&third, &users, 1_000, 6).unwrap();
    assert_eq!(contents(&first), contents(&second));
    assert_ne!(contents(&first), contents(&third));
    for (table, rows) in [
        ("users", counts.users),
        ("badges", counts.badges),
        ("badge_images", counts.badge_images),
        ("events", counts.events),
        ("counters", counts.counters),
    ] {
        assert_eq!(
            usize::try_from(count(&first, &format!("select count(*) from {table}"))),
            Ok(rows)
        );
    }
    assert_eq!(count(&first, "select count(*) from pragma_foreign_key_check"), 0);
}

#[test]
fn every_trap_is_among_the_rows() {
    let connection = Connection::open_in_memory().unwrap();
    fill(&connection, &users(20), 600, 1).unwrap();
    for condition in [
        "counters where hits > 9007199254740993",
        "counters where hits = -9223372036854775807 - 1",
        "counters where hits is null",
        "counters where typeof(extra) = 'real' and extra = 1.0",
        "counters where typeof(extra) = 'integer'",
        "counters where typeof(extra) = 'text'",
        "counters where typeof(extra) = 'blob'",
        "counters where extra is null",
        "counters where note = ''",
        "counters where note is null",
        "counters where octet_length(note) > length(note) and hex(note) like '%00%'",
        "counters where hex(cast(note as blob)) like '%C328%'",
        "counters where raw = x''",
        "counters where user_id is null",
        "counters where ratio = 1e300",
        "events where payload is null",
        "events where not json_valid(payload)",
        "events where json_valid(payload) and json_type(payload) = 'array'",
        "events where json_valid(payload) and payload ->> '$.actor.id' like 'user\\_2%' escape '\\'",
        "events where json_valid(payload) and json_type(payload, '$.actor.id') = 'null'",
        "events where json_valid(payload) and json_type(payload, '$.actor') is null",
        "badge_images where ai_score is null",
        "badges where original_thumbnail_url = ''",
        "users where email is null",
    ] {
        assert!(
            count(&connection, &format!("select count(*) from {condition}")) > 0,
            "{condition}"
        );
    }
}

#[test]
fn odd_sizes_do_not_fail() {
    for (people, rows) in [(0, 0), (0, 50), (3, 0), (3, 4), (1, 9), (5, 5)] {
        let connection = Connection::open_in_memory().unwrap();
        let counts = fill(&connection, &users(people), rows, 1).unwrap();
        assert_eq!(counts.users, people);
        assert!(counts.total() <= rows.max(people));
    }
    let connection = Connection::open_in_memory().unwrap();
    fill(&connection, &users(1), 1, 1).unwrap();
    assert!(fill(&connection, &users(1), 1, 1).is_err());
}

#[tokio::test]
async fn fills_an_emulated_database() {
    let served = serve(two_databases()).await;
    let counts = served.d1.setup(MAIN, |connection| fill(connection, &users(10), 300, 1)).unwrap();
    assert_eq!(served.rows("select count(*) from events").await, json!([[counts.events]]));
    assert_eq!(served.d1.counters()["databases"][MAIN]["tables"], json!({}));
}

#[tokio::test]
async fn the_example_runs_through_the_api() {
    let served = serve(two_databases()).await;
    served.raw(json!({ "sql": schema() })).await;
    served.raw(json!({ "sql": seed() })).await;
    assert_eq!(served.rows("select count(*) from users").await, json!([[12]]));
    assert_eq!(served.rows("PRAGMA foreign_key_check").await, json!([]));
    let ids = "select count(*) from users where clerk_id like 'user\\_2%' escape '\\' and length(clerk_id) = 32";
    assert_eq!(served.rows(ids).await, json!([[12]]));
}
