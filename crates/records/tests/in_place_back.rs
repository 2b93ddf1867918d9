//! What stands in the way back when ids were exchanged in place, and that a look beforehand says of
//! it what then happens. Over a file and over the emulated D1.
#![allow(clippy::unwrap_used, clippy::panic, clippy::disallowed_methods, reason = "a test may")]

mod support;

use std::collections::BTreeMap;

use rehome_core::Failure;
use rehome_records::in_place::{Accounts, LotBack, weigh};
use support::one::{End, World};

const PEOPLE: &str =
    "CREATE TABLE users (id INTEGER PRIMARY KEY, cid TEXT UNIQUE NOT NULL, name TEXT);
    INSERT INTO users VALUES (1, 'old1', 'Ann'), (2, 'old2', 'Bob'), (3, 'old3', 'Cid');";

async fn both(sql: &str, ids: &[&str]) -> [World; 2] {
    let world = || World::new(sql, ids).created(3);
    [world(), world().in_the_cloud().await]
}

/// What a look says of the way back.
async fn foreseen(world: &World) -> LotBack {
    let (places, writer) = (world.places().await, world.writer().await);
    let unit = world.unit.as_ref().unwrap();
    weigh(writer.as_ref(), world.memory.as_ref(), &places, unit, world.accounts).await.unwrap()
}

/// Who stays, and why.
fn troubled(back: &LotBack) -> Vec<String> {
    let told = |one: &rehome_records::in_place::UserKept| {
        format!("{} {}: {}", one.source_key, one.failure.code, one.failure.message)
    };
    back.troubled.iter().map(told).collect()
}

fn failed(end: End) -> Failure {
    match end {
        End::Failed(failure) => failure,
        End::Done | End::Held => panic!("{end:?}"),
    }
}

const USERS: &str = "SELECT id || cid || coalesce(name, '') FROM users ORDER BY id";

/// A webhook's row made room, and the application has given its number to somebody else since.
#[tokio::test]
async fn a_webhooks_row_whose_place_is_taken_goes_with_its_account() {
    for mut world in both(PEOPLE, &["users.cid"]).await {
        world.sql("INSERT INTO users VALUES (6, 'new1', NULL), (7, 'new2', NULL);");
        assert_eq!(world.forth().await, End::Done);
        assert_eq!(world.ask(USERS), ["1new1Ann", "2new2Bob", "3new3Cid"]);
        world.sql("INSERT INTO users VALUES (6, 'somebody', 'Zoe');");
        let back = foreseen(&world).await;
        assert_eq!(back.restored, BTreeMap::from([("users".to_owned(), 1)]));
        assert_eq!((back.rows["users"], troubled(&back)), (3, vec![]));
        assert_eq!(world.back().await, End::Done);
        assert_eq!(world.ask(USERS), ["1old1Ann", "2old2Bob", "3old3Cid", "6somebodyZoe", "7new2"]);
        assert_eq!(world.unit.as_ref().unwrap().effect, None);
    }
}

/// The same with a lost answer: what cannot come back is not waited for.
#[tokio::test]
async fn a_row_whose_place_is_taken_is_not_missed_by_a_probe() {
    for mut world in both(PEOPLE, &["users.cid"]).await {
        world.sql("INSERT INTO users VALUES (6, 'new1', NULL);");
        assert_eq!(world.forth().await, End::Done);
        world.sql("INSERT INTO users VALUES (6, 'somebody', 'Zoe');");
        let worker = world.restoring().await;
        assert_eq!(world.drive(&worker, true).await, End::Done);
        assert_eq!(world.ask(USERS), ["1old1Ann", "2old2Bob", "3old3Cid", "6somebodyZoe"]);
    }
}

/// What the row referred to is gone.
#[tokio::test]
async fn a_webhooks_row_below_a_row_that_is_gone_goes_with_its_account() {
    let sql = "CREATE TABLE plans (id INTEGER PRIMARY KEY);
        CREATE TABLE users (id INTEGER PRIMARY KEY, cid TEXT UNIQUE, name TEXT,
            plan INT REFERENCES plans (id));
        INSERT INTO plans VALUES (1);
        INSERT INTO users VALUES (1, 'old1', 'Ann', NULL), (6, 'new1', NULL, 1);";
    for mut world in both(sql, &["users.cid"]).await {
        assert_eq!(world.forth().await, End::Done);
        world.sql("DELETE FROM plans;");
        assert_eq!(foreseen(&world).await.restored, BTreeMap::new());
        assert_eq!(world.back().await, End::Done);
        assert_eq!(world.ask(USERS), ["1old1Ann"]);
    }
}

/// Where the account stays, its row has to come back with it.
#[tokio::test]
async fn a_row_whose_place_is_taken_keeps_the_user_whose_account_stays() {
    for mut world in both(PEOPLE, &["users.cid"]).await {
        world.accounts = Accounts::Stay;
        world.sql("INSERT INTO users VALUES (6, 'new1', NULL), (7, 'new2', NULL);");
        assert_eq!(world.forth().await, End::Done);
        world.sql("INSERT INTO users VALUES (6, 'somebody', 'Zoe');");
        let back = foreseen(&world).await;
        assert_eq!((back.restored["users"], back.rows["users"]), (1, 2));
        let told = troubled(&back);
        assert_eq!(
            told,
            ["old1 place_taken: users 6 made room for theirs, and its place is taken"]
        );
        let failure = failed(world.back().await);
        assert_eq!(failure.code, "place_taken");
        assert_eq!(world.ask(USERS), ["1new1Ann", "2old2Bob", "3old3Cid", "6somebodyZoe", "7new2"]);
        // The number is free again.
        world.sql("UPDATE users SET id = 60 WHERE id = 6;");
        assert_eq!(world.back().await, End::Done);
        assert_eq!(world.ask(USERS)[3], "6new1");
    }
}

/// A row has come back under the old id, alone in its key or in a part of one.
#[tokio::test]
async fn a_row_under_the_old_id_is_foreseen() {
    let friends =
        "CREATE TABLE friends (a TEXT, b TEXT COLLATE NOCASE, n INT, PRIMARY KEY (a, b, n))
            WITHOUT ROWID;
        INSERT INTO friends VALUES ('old1', 'old2', 1), ('old2', 'old1', 1), ('old3', 'old3', 1);";
    for mut world in both(PEOPLE, &["users.cid"]).await {
        assert_eq!(world.forth().await, End::Done);
        world.sql("INSERT INTO users VALUES (8, 'old2', 'late');");
        let back = foreseen(&world).await;
        let told = troubled(&back);
        assert_eq!(
            told,
            ["old2 row_conflict: users 2 goes back to old2, where another row has come to stand"]
        );
        assert_eq!(back.rows["users"], 2);
        let failure = failed(world.back().await);
        assert_eq!(
            format!("old2 {}: {}", failure.code, failure.message.replace("user old2: ", "")),
            told[0]
        );
        assert_eq!(world.ask(USERS), ["1old1Ann", "2new2Bob", "3old3Cid", "8old2late"]);
    }
    for mut world in both(friends, &["friends.a", "friends.b"]).await {
        assert_eq!(world.forth().await, End::Done);
        world.sql("INSERT INTO friends VALUES ('old1', 'old2', 1), ('old1', 'old2', 2), ('old3', 'new1', 1);");
        let who = |back: &LotBack| -> Vec<String> {
            back.troubled.iter().map(|one| one.source_key.clone()).collect()
        };
        let back = foreseen(&world).await;
        // In either of its columns the row would double the other: neither user's may change.
        assert_eq!(who(&back), ["old1", "old2"], "{:?}", troubled(&back));
        let failure = failed(world.back().await);
        assert_eq!(failure.code, "row_conflict");
        let rows = "SELECT a || b || n FROM friends ORDER BY 1";
        assert_eq!(
            world.ask(rows),
            ["new1new21", "new2new11", "old1old21", "old1old22", "old3new11", "old3old31"]
        );
    }
}
