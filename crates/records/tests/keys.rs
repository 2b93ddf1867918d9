//! Which tables can have new keys, which columns follow them, and what is said of the others.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test may")]
#![allow(clippy::disallowed_methods, reason = "a test sets up its own databases")]

use std::collections::BTreeMap;

use rehome_records::ids::IdColumns;
use rehome_records::policy::{Conflicts, OnConflict};
use rehome_records::rekey::KeyColumns;
use rehome_records::schema::{self, Finding, Schema, Selection, Severity};
use rehome_records::sqlite::SqliteReader;

async fn read(sql: &str) -> Schema {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.sqlite");
    rusqlite::Connection::open(&path).unwrap().execute_batch(sql).unwrap();
    let database = SqliteReader::open(&path).unwrap();
    schema::read(&database, &Selection::default()).await.unwrap()
}

const SCHEMA: &str = "
    CREATE TABLE users (clerk_id TEXT PRIMARY KEY);
    CREATE TABLE posts (id INTEGER PRIMARY KEY, owner TEXT REFERENCES users, up INTEGER
        REFERENCES posts);
    CREATE TABLE images (post INTEGER PRIMARY KEY REFERENCES posts);
    CREATE TABLE versions (post INTEGER REFERENCES posts, n INTEGER, PRIMARY KEY (post, n));
    CREATE TABLE views (post INTEGER, n INTEGER, FOREIGN KEY (post, n) REFERENCES versions);
    CREATE TABLE loose (post INTEGER, postId INTEGER, post_id INT, post_no TEXT);
    CREATE TABLE computed (json TEXT, post INTEGER GENERATED ALWAYS AS (json->>'$.post') STORED
        REFERENCES posts);
    CREATE TABLE slugs (slug TEXT PRIMARY KEY);
    CREATE TABLE both (x INTEGER PRIMARY KEY, y INTEGER, FOREIGN KEY (y) REFERENCES posts(id),
        FOREIGN KEY (y) REFERENCES tags(id));
    CREATE TABLE tags (id INTEGER PRIMARY KEY);";

async fn resolve(tables: &[&str], references: &[(&str, &str)]) -> (Vec<String>, Vec<Finding>) {
    let mut source = read(SCHEMA).await;
    let mut target = source.clone();
    let strings = |pairs: &[(&str, &str)]| -> BTreeMap<String, String> {
        pairs.iter().map(|(a, b)| ((*a).to_owned(), (*b).to_owned())).collect()
    };
    let mut findings = schema::declare(&strings(references), &mut source, &mut target);
    let ids = IdColumns::resolve(&strings(&[("users.clerk_id", "user")]), &source).unwrap();
    let mut conflicts = Conflicts::default();
    for table in tables {
        if *table == "*" {
            conflicts.default = OnConflict::Rekey;
        } else {
            conflicts.tables.insert((*table).to_owned(), OnConflict::Rekey);
        }
    }
    let (keys, more) = KeyColumns::resolve(&conflicts, &source, &target, &ids);
    findings.extend(more);
    let mut columns = Vec::new();
    for table in &source.tables {
        for key in keys.of(&table.name) {
            let column = key.column.as_deref().unwrap_or("rowid");
            let own = if key.own { " own" } else { "" };
            let loose = if key.enforced { "" } else { " declared" };
            columns.push(format!("{}.{column} of {}{own}{loose}", key.table, key.of));
        }
    }
    (columns, findings)
}

fn said(findings: &[Finding], severity: Severity) -> Vec<&str> {
    let of = findings.iter().filter(|finding| finding.severity == severity);
    of.map(|finding| finding.message.as_str()).collect()
}

#[tokio::test]
async fn whatever_refers_to_a_key_follows_it() {
    let (columns, findings) = resolve(&["Posts"], &[("loose.post", "posts")]).await;
    assert_eq!(
        columns,
        [
            "both.y of posts",
            "images.post of posts",
            "loose.post of posts declared",
            "posts.id of posts own",
            "posts.up of posts",
            "versions.post of posts",
            "views.post of posts",
        ]
    );
    assert_eq!(
        said(&findings, Severity::Refused),
        ["[records]: computed.post is computed and refers to posts, whose keys move"]
    );
    let looks = said(&findings, Severity::Warning);
    assert_eq!(looks.len(), 2, "{looks:?}");
    assert!(looks[0].starts_with("loose.postId looks like a reference to posts"), "{looks:?}");
    assert!(looks[1].starts_with("loose.post_id looks like a reference to posts"), "{looks:?}");
}

#[tokio::test]
async fn a_table_that_cannot_have_new_keys_is_refused_by_name_with_the_reason() {
    let named = ["users", "images", "versions", "slugs"];
    let (columns, findings) = resolve(&named, &[]).await;
    assert_eq!(columns, [""; 0]);
    assert_eq!(
        said(&findings, Severity::Refused),
        [
            "[records]: images cannot have new keys: its key post refers to posts, and follows it",
            "[records]: slugs cannot have new keys: its key slug is not an INTEGER PRIMARY KEY",
            "[records]: users cannot have new keys: its key clerk_id holds ids, which are \
             exchanged anyway",
            "[records]: versions cannot have new keys: its key is made of post, n",
        ]
    );
}

#[tokio::test]
async fn by_default_every_table_that_can_gets_new_keys_and_the_others_are_noted() {
    let (columns, findings) = resolve(&["*"], &[]).await;
    let own: Vec<_> = columns.iter().filter(|one| one.ends_with(" own")).collect();
    assert_eq!(
        own,
        [
            "both.x of both own",
            "computed.rowid of computed own",
            "loose.rowid of loose own",
            "posts.id of posts own",
            "tags.id of tags own",
            "views.rowid of views own",
        ]
    );
    assert_eq!(said(&findings, Severity::Note).len(), 4, "{findings:?}");
    let refused = said(&findings, Severity::Refused);
    assert!(refused.iter().any(|one| one.contains("both.y refers to keys of")), "{refused:?}");
}

#[tokio::test]
async fn a_declaration_that_means_nothing_is_named() {
    let wrong = [
        ("loose.nothing", "posts"),
        ("posts", "posts"),
        ("loose.post", "nowhere"),
        ("loose.post_id", "versions"),
        ("posts.up", "posts"),
    ];
    for one in wrong {
        let (_, findings) = resolve(&[], &[one]).await;
        let refused = said(&findings, Severity::Refused);
        assert!(refused.iter().any(|text| text.contains(one.0)), "{one:?}: {refused:?}");
    }
}
