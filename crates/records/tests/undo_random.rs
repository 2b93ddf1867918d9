//! There and back over random schemas, foreign keys, rows and faults; each seed is one run.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test may")]
#![allow(clippy::disallowed_methods, reason = "a test sets up its own databases")]

mod support;

use std::fmt::Write as _;

use support::back::Back;
use support::yard::{Trouble, Yard};

/// Numbers from a seed (Knuth's 64-bit congruential generator, upper half).
struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % bound
    }

    fn one_in(&mut self, of: u64) -> bool {
        self.below(of) == 0
    }
}

/// A foreign key: the parent table, and whether it must be set.
struct Refers {
    parent: usize,
    must: bool,
}

struct Plan {
    yard: Yard,
    tables: Vec<Vec<Refers>>,
    rows: Vec<u64>,
}

fn random(dice: &mut Dice) -> Plan {
    let count = 2 + dice.below(4) as usize;
    let mut schema = String::new();
    let mut tables = Vec::new();
    let mut ids = Vec::new();
    for table in 0..count {
        let mut keys = Vec::new();
        let mut columns = String::new();
        for fk in 0..dice.below(3) {
            let parent = dice.below(count as u64) as usize;
            let must = parent < table && dice.one_in(2);
            let action = ["", "ON DELETE CASCADE", "ON DELETE SET NULL", "ON DELETE RESTRICT"]
                [dice.below(if must { 2 } else { 4 }) as usize];
            let null = if must { "NOT NULL" } else { "" };
            write!(columns, ", f{fk} INTEGER {null} REFERENCES t{parent}(id) {action}").unwrap();
            keys.push(Refers { parent, must });
        }
        let unique = if table == 0 { "UNIQUE" } else { "" };
        writeln!(
            schema,
            "CREATE TABLE t{table} (id INTEGER PRIMARY KEY, who TEXT {unique}, body{columns});"
        )
        .unwrap();
        if dice.one_in(3) {
            for fk in 0..keys.len() {
                writeln!(schema, "CREATE INDEX i{table}_{fk} ON t{table} (f{fk});").unwrap();
            }
        }
        ids.push(format!("t{table}.who"));
        tables.push(keys);
    }
    let ids: Vec<&str> = ids.iter().map(String::as_str).collect();
    let mut yard = Yard::new(&schema, &ids);
    let users = 3 + dice.below(10);
    yard.users = (1..=users).map(|n| format!("user_{n}")).collect();
    let rows: Vec<u64> =
        (0..count).map(|table| if table == 0 { users } else { dice.below(30) }).collect();
    // A table of large rows has several spans.
    let large = dice.below(count as u64) as usize;
    let (mut source, mut target) = (String::from("BEGIN;"), String::from("BEGIN;"));
    for (table, keys) in tables.iter().enumerate() {
        for id in 1..=rows[table] {
            let who = if table == 0 {
                format!("'user_{id}'")
            } else if dice.one_in(4) {
                "NULL".to_owned()
            } else {
                format!("'user_{}'", 1 + dice.below(users))
            };
            let size = if table == large { 60_000 } else { dice.below(9) };
            let refs = references(dice, keys, |parent| rows[parent], 0);
            if let Some(refs) = refs {
                writeln!(
                    source,
                    "INSERT INTO t{table} VALUES ({id}, {who}, zeroblob({size}){refs});"
                )
                .unwrap();
            }
        }
        for id in 1001..=1003 {
            if let Some(refs) = references(dice, keys, |_| 3, 1000) {
                writeln!(target, "INSERT INTO t{table} VALUES ({id}, 'own_{id}', {id}.5{refs});")
                    .unwrap();
            }
        }
    }
    // What the application's webhook made, under numbers that may be ours.
    let nulls = ", NULL".repeat(tables[0].len());
    for user in 1..=users {
        if dice.one_in(2) {
            writeln!(
                target,
                "INSERT OR IGNORE INTO t0 VALUES ({}, 'new_{user}', 'hook'{nulls});",
                1 + dice.below(users + 3)
            )
            .unwrap();
        }
    }
    yard.execute("source.sqlite", &format!("{source} COMMIT;"));
    yard.execute("target.sqlite", &format!("{target} COMMIT;"));
    // References to rows that were left out would be nobody's.
    for (table, keys) in tables.iter().enumerate() {
        for (fk, key) in keys.iter().enumerate() {
            let parent = key.parent;
            for name in ["source.sqlite", "target.sqlite"] {
                let dangling = format!("f{fk} NOT IN (SELECT id FROM t{parent})");
                yard.execute(
                    name,
                    &if key.must {
                        format!("DELETE FROM t{table} WHERE {dangling};")
                    } else {
                        format!("UPDATE t{table} SET f{fk} = NULL WHERE {dangling};")
                    },
                );
            }
        }
    }
    Plan { yard, tables, rows }
}

/// The values of the foreign keys; `None` when one that must be set cannot be.
fn references(
    dice: &mut Dice,
    keys: &[Refers],
    rows: impl Fn(usize) -> u64,
    base: u64,
) -> Option<String> {
    let mut text = String::new();
    for key in keys {
        let rows = rows(key.parent);
        if rows == 0 || (!key.must && dice.one_in(3)) {
            if key.must {
                return None;
            }
            text.push_str(", NULL");
        } else {
            write!(text, ", {}", base + 1 + dice.below(rows)).unwrap();
        }
    }
    Some(text)
}

/// Dangling references may have been left by the deletions above.
fn sound(yard: &Yard) -> bool {
    ["source.sqlite", "target.sqlite"].iter().all(|name| {
        let connection = rusqlite::Connection::open(yard.path(name)).unwrap();
        !connection.prepare("PRAGMA foreign_key_check").unwrap().exists([]).unwrap()
    })
}

#[test]
fn whatever_the_schema_everything_goes_back() {
    let mut tried = 0;
    for seed in 0..16 {
        let mut dice = Dice(seed);
        let Plan { mut yard, .. } = random(&mut dice);
        if !sound(&yard) {
            continue;
        }
        tried += 1;
        let before = yard.dump();
        let die = Trouble::Dies { at: dice.below(8), after: dice.one_in(2) };
        yard.trouble = [Trouble::None, Trouble::Lost, die][dice.below(3) as usize];
        yard.forth();
        if dice.one_in(2) {
            yard.trouble = Trouble::None;
            yard.forth().unwrap();
        }
        let die = Trouble::Dies { at: dice.below(8), after: dice.one_in(2) };
        yard.trouble = [Trouble::None, Trouble::Lost, die][dice.below(3) as usize];
        yard.back(&Back::default());
        yard.trouble = Trouble::None;
        if dice.one_in(2) {
            yard.forth().unwrap();
        }
        let said = yard.back(&Back::default()).unwrap();
        assert!(said.refused.is_empty(), "seed {seed}: {:?}", said.refused);
        assert!(before == yard.dump(), "seed {seed}: {before:#?} {:#?}", yard.dump());
        assert!(yard.spans().iter().all(|unit| unit.effect.is_none()), "seed {seed}");
    }
    assert!(tried > 9, "{tried}");
}

#[test]
fn whatever_the_application_does_meanwhile_its_rows_stay() {
    let mut refused = 0;
    for seed in 1000..1016 {
        let mut dice = Dice(seed);
        let Plan { mut yard, tables, rows } = random(&mut dice);
        if !sound(&yard) {
            continue;
        }
        let before = yard.dump();
        yard.forth().unwrap();
        // Statements that the schema refuses are not made.
        for _ in 0..6 {
            let table = dice.below(tables.len() as u64) as usize;
            let ours = 1 + dice.below(rows[table].max(1));
            let sql = match dice.below(3) {
                0 => format!("UPDATE t{table} SET body = 'changed' WHERE id = {ours}"),
                1 => {
                    let keys = &tables[table];
                    let Some(refs) = references(&mut dice, keys, |parent| rows[parent], 0) else {
                        continue;
                    };
                    let id = 2000 + dice.below(1000);
                    format!("INSERT INTO t{table} VALUES ({id}, NULL, 'late'{refs})")
                }
                _ => {
                    let Some(fk) = tables[table].first() else {
                        continue;
                    };
                    let to = 1 + dice.below(rows[fk.parent].max(1));
                    format!("UPDATE t{table} SET f0 = {to} WHERE id = 1001")
                }
            };
            let connection = rusqlite::Connection::open(yard.path("target.sqlite")).unwrap();
            connection.pragma_update(None, "foreign_keys", true).unwrap();
            let _made = connection.execute_batch(&sql);
        }
        let own = |yard: &Yard| -> Vec<String> {
            let all = yard.dump();
            all.into_iter()
                .filter(|row| {
                    let id = row.split(['|', ' ']).nth(2).unwrap();
                    id.parse::<u64>().unwrap() > 1000
                })
                .collect()
        };
        let theirs = own(&yard);
        let force = dice.one_in(2);
        let said = yard.back(&Back { force, ..Back::default() }).unwrap();
        refused += said.refused.len();
        assert!(theirs == own(&yard), "seed {seed}: {theirs:#?} {:#?}", own(&yard));
        assert!(sound(&yard), "seed {seed}");

        // Whatever the application did is undone: then everything of ours goes after all.
        let connection = rusqlite::Connection::open(yard.path("target.sqlite")).unwrap();
        connection.pragma_update(None, "foreign_keys", false).unwrap();
        for (table, keys) in tables.iter().enumerate() {
            connection.execute(&format!("DELETE FROM t{table} WHERE id >= 2000"), []).unwrap();
            if !keys.is_empty() {
                let old = before
                    .iter()
                    .find(|row| row.starts_with(&format!("t{table}: integer 1001|")))
                    .map(|row| {
                        row.split('|').nth(3).unwrap().split(' ').nth(1).unwrap().to_owned()
                    });
                if let Some(old) = old {
                    let sql = format!("UPDATE t{table} SET f0 = {old} WHERE id = 1001");
                    connection.execute(&sql, []).unwrap();
                }
            }
        }
        drop(connection);
        let said = yard.back(&Back { force: true, ..Back::default() }).unwrap();
        assert!(said.refused.is_empty(), "seed {seed}: {:?}", said.refused);
        assert!(before == yard.dump(), "seed {seed}: {before:#?} {:#?}", yard.dump());
    }
    assert!(refused > 5, "{refused}");
}
