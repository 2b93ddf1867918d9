//! Tables and columns that are called as rehome's own SQL calls things: its aliases, and the columns
//! of `json_each`. No name of the application's may be taken for one of them.
#![allow(clippy::unwrap_used, clippy::panic, clippy::disallowed_methods, reason = "a test may")]

mod support;

use rehome_core::Origin;
use rehome_records::policy::OnConflict;
use support::back::Back;
use support::one::{End, World};
use support::yard::Yard;

/// What some statement of rehome's calls a table, a row or a list; and `new` and `old`, as triggers
/// do.
const TABLES: &[&str] = &[
    "j", "t", "m", "p", "k", "u", "x", "i", "l", "s", "v", "n", "o", "e0", "e1", "k0", "c0", "key",
    "value", "new", "old", "rows", "json",
];

/// The columns of `json_each`, and what is said AS something.
const COLUMNS: &str = "\"key\" TEXT, value, type, atom, fullkey, path, json, root, n, o, v, size, \
    total, k0, k1, c0, c1, j, m, t, p, u";

fn values(what: &str) -> String {
    let all: Vec<_> = (0..COLUMNS.split(',').count()).map(|n| format!("'{what}{n}'")).collect();
    all.join(", ")
}

/// A table of that name with those columns, a key, a reference to itself, and a unique text.
fn schema(name: &str) -> String {
    format!(
        "CREATE TABLE \"{name}\" (id INTEGER PRIMARY KEY, who TEXT, parent INT REFERENCES \"{name}\" (id),
             slug TEXT UNIQUE, {COLUMNS});"
    )
}

fn yard(name: &str, d1: bool) -> Yard {
    let ids = format!("{name}.who");
    let mut yard =
        if d1 { Yard::over_d1(&schema(name), &[&ids]) } else { Yard::new(&schema(name), &[&ids]) };
    yard.execute(
        "source.sqlite",
        &format!(
            "INSERT INTO \"{name}\" VALUES (1, 'user_a', NULL, 's1', {0}), (2, 'user_b', 1, 's2', {0}),
                 (3, 'user_a', 3, 's3', {0});",
            values("of the source")
        ),
    );
    yard.execute(
        "target.sqlite",
        &format!(
            "INSERT INTO \"{name}\" VALUES (2, 'own', NULL, 's2', {0}), (3, 'own', NULL, 's9', {0}),
                 (7, 'own', 7, 's7', {0});",
            values("of the target")
        ),
    );
    yard.users = ["user_a", "user_b"].map(str::to_owned).to_vec();
    yard
}

/// One row comes in, one becomes ours where it stands, one makes room; then the source moves on;
/// then all of it goes back.
fn copied(name: &str, d1: bool) {
    let mut yard = yard(name, d1);
    yard.on_conflict(&[(name, OnConflict::Replace)]);
    let before = yard.dump();
    yard.forth().unwrap();
    yard.assert_all_there();
    assert_eq!(yard.verify(), (3, vec![]), "{name}");
    yard.execute(
        "source.sqlite",
        &format!("UPDATE \"{name}\" SET value = 'later', \"key\" = NULL WHERE id < 3;"),
    );
    yard.reopen();
    yard.forth().unwrap();
    yard.assert_all_there();
    assert_eq!(yard.verify(), (3, vec![]), "{name}");
    let said = yard.back(&Back::default()).unwrap();
    assert!(said.refused.is_empty(), "{name}: {:?}", said.refused);
    assert_eq!(yard.dump(), before, "{name}");
}

/// The same under new keys.
fn rekeyed(name: &str, d1: bool) {
    let mut yard = yard(name, d1);
    yard.on_conflict(&[(name, OnConflict::Rekey)]);
    yard.execute("target.sqlite", &format!("UPDATE \"{name}\" SET slug = 'x' || slug;"));
    let before = yard.dump();
    yard.forth().unwrap();
    yard.assert_all_there();
    assert_eq!(yard.verify(), (3, vec![]), "{name}");
    let said = yard.back(&Back::default()).unwrap();
    assert!(said.refused.is_empty(), "{name}: {:?}", said.refused);
    assert_eq!(yard.dump(), before, "{name}");
}

#[test]
fn they_are_copied_and_taken_back_between_files() {
    for name in TABLES {
        copied(name, false);
        rekeyed(name, false);
    }
}

#[test]
fn they_are_copied_and_taken_back_through_d1() {
    for name in TABLES {
        copied(name, true);
        rekeyed(name, true);
    }
}

/// A plain column with an index and one without, a document, a row of a webhook's in the way, and
/// rows that carried a new id before, with the id in their key and without.
async fn in_place(name: &str, d1: bool) {
    let sql = format!(
        "CREATE TABLE \"{name}\" (who TEXT NOT NULL, sort INT, other TEXT, doc TEXT, {COLUMNS},
             PRIMARY KEY (who, sort)) WITHOUT ROWID;
         CREATE TABLE \"{name} more\" ({COLUMNS});
         CREATE INDEX by_n ON \"{name} more\" (n);
         INSERT INTO \"{name}\" VALUES ('old1', 1, 'old2', '{{\"a\":[\"old1\",\"x\"]}}', {0}),
             ('old2', 1, 'old3', '{{\"a\":[\"old3\"]}}', {0}), ('stranger', 1, NULL, NULL, {0}),
             ('old3', 1, 'new3', NULL, {0}), ('new3', 2, 'old3', '{{\"a\":[\"old3\"]}}', {0});
         INSERT INTO \"{name} more\" VALUES ({0}), ({0}), ({0});
         UPDATE \"{name} more\" SET n = 'old' || rowid, o = 'old1', value = 'old2', \"key\" = 'old3';
         INSERT INTO \"{name} more\" (n, o) VALUES ('new3', 'new3');",
        values("v")
    );
    let ids = [
        format!("{name}.who"),
        format!("{name}.other"),
        format!("{name}.doc:$.a[*]"),
        format!("{name} more.n"),
        format!("{name} more.o"),
        format!("{name} more.value"),
        format!("{name} more.key"),
    ];
    let ids: Vec<_> = ids.iter().map(String::as_str).collect();
    let world = World::new(&sql, &ids).created(2);
    world.memory.mapped("old3", "new3", Origin::Adopted);
    let mut world = if d1 { world.in_the_cloud().await } else { world };
    world.sql(&format!("INSERT INTO \"{name}\" (who, sort) VALUES ('new1', 1);"));
    let before = world.picture();
    assert_eq!(world.forth().await, End::Done, "{name}");
    let rows =
        format!("SELECT who || sort || coalesce(other || doc, '') FROM \"{name}\" ORDER BY 1");
    assert_eq!(
        world.ask(&rows),
        [
            "new11new2{\"a\":[\"new1\",\"x\"]}",
            "new21new3{\"a\":[\"new3\"]}",
            "new31",
            "new32new3{\"a\":[\"new3\"]}",
            "stranger1"
        ],
        "{name}"
    );
    let more =
        format!("SELECT n || o || coalesce(value || \"key\", '') FROM \"{name} more\" ORDER BY 1");
    assert_eq!(
        world.ask(&more),
        ["new1new1new2new3", "new2new1new2new3", "new3new1new2new3", "new3new3"],
        "{name}"
    );
    assert_eq!(world.back().await, End::Done, "{name}");
    assert_eq!(world.picture(), before, "{name}");
}

#[tokio::test]
async fn they_are_rewritten_in_place_and_given_back() {
    for name in TABLES {
        in_place(name, false).await;
        in_place(name, true).await;
    }
}

/// Columns whose names are those of an order's own parts, in tables of several spans.
#[test]
fn an_order_by_such_a_column_is_the_columns_order() {
    let schema = "CREATE TABLE swapped (k1 TEXT, k0 TEXT, who TEXT, PRIMARY KEY (k1, k0)) WITHOUT ROWID;
         CREATE TABLE sized (\"size\" INTEGER PRIMARY KEY, who TEXT, body TEXT);
         CREATE TABLE numbered (n TEXT, total TEXT, who TEXT, PRIMARY KEY (total, n)) WITHOUT ROWID;";
    let ids = ["swapped.who", "sized.who", "numbered.who"];
    for d1 in [false, true] {
        let mut yard = if d1 { Yard::over_d1(schema, &ids) } else { Yard::new(schema, &ids) };
        yard.execute(
            "source.sqlite",
            "WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c WHERE x < 6000)
             INSERT INTO sized SELECT x, 'user_a', substr('body', 1, (x * 7919) % 4) FROM c;
             INSERT INTO swapped SELECT printf('%05d', size), printf('%05d', 99999 - size), who FROM sized;
             INSERT INTO numbered SELECT k0, k1, who FROM swapped;",
        );
        yard.users = vec!["user_a".to_owned()];
        yard.forth().unwrap();
        yard.assert_all_there();
        assert_eq!(yard.verify(), (18_000, vec![]));
        assert_eq!(yard.spans().len(), 9, "2,500 rows a span");
    }
}

/// D1 hands out a large value in pieces, by the number of its row.
#[test]
fn the_pieces_of_a_large_value_are_those_of_its_row() {
    let mut yard =
        Yard::over_d1("CREATE TABLE t (v INTEGER PRIMARY KEY, who TEXT, x TEXT);", &["t.who"]);
    yard.execute(
        "source.sqlite",
        "INSERT INTO t VALUES (1, 'user_a', printf('%.*c', 950000, 'z')),
             (2, 'user_a', printf('%.*c', 950000, 'b'));",
    );
    yard.users = vec!["user_a".to_owned()];
    yard.forth().unwrap();
    yard.assert_all_there();
    assert_eq!(yard.verify(), (2, vec![]));
    let target = rusqlite::Connection::open(yard.path("target.sqlite")).unwrap();
    let sql = "SELECT group_concat(substr(x, 1, 1), '') FROM (SELECT x FROM t ORDER BY v)";
    assert_eq!(target.query_row(sql, [], |row| row.get::<_, String>(0)).unwrap(), "zb");
}
