//! Accounts that are in the target before the migration.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::disallowed_methods,
    missing_docs,
    reason = "a test"
)]

use rehome_emulator::seed::{SeedIdentifier, SeedUser, Status};
use rehome_tests::{Judge, Options, Stage};
use rusqlite::Connection;
use serde_json::json;

/// The addresses of the first so many people of a population whose first one is verified.
fn addresses(users: usize, seed: u64, count: usize) -> Vec<String> {
    rehome_emulator::seed::users(users, seed)
        .into_iter()
        .filter_map(|person| person.email_addresses.into_iter().next())
        .filter(|address| address.status == Status::Verified)
        .map(|address| address.value)
        .take(count)
        .collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn twenty_are_there_already_in_other_letters() {
    let swap = |address: &String| -> String {
        let swapped = |c: char| {
            if c.is_lowercase() { c.to_ascii_uppercase() } else { c.to_ascii_lowercase() }
        };
        address.chars().map(swapped).collect()
    };
    let there: Vec<_> =
        addresses(120, 31, 20).iter().map(|one| SeedUser::with_email(swap(one))).collect();
    assert_eq!(there.len(), 20);
    let options =
        Options { users: 120, rows: 500, seed: 31, target_people: there, ..Options::default() };
    let stage = Stage::set(options).await;
    let _complete = stage.run().await.expect(0);
    Judge::default().accepts(&stage).await;
    assert_eq!(stage.target().count(), 120);
    assert_eq!(stage.creates(), 100);
    let map = stage.rehome(&["map", "--format", "csv"]).await.expect(0).stdout;
    assert_eq!(map.lines().filter(|line| line.contains(",adopted,")).count(), 20);
    stage.replay();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_who_meet_one_account_both_fail() {
    let both = ["one@meeting.example", "two@meeting.example"];
    let account = SeedUser {
        email_addresses: both.map(SeedIdentifier::verified).to_vec(),
        ..SeedUser::default()
    };
    let options = Options {
        users: 40,
        rows: 200,
        seed: 32,
        source_people: both.map(SeedUser::with_email).to_vec(),
        target_people: vec![account],
        ..Options::default()
    };
    let stage = Stage::set(options).await;
    let _unfinished = stage.run().await.expect(3);
    let unmoved: Vec<_> = stage.people[40..].iter().map(|(id, _)| id.clone()).collect();
    let failures = stage.rehome(&["failures", "--json"]).await.expect(0).json();
    for id in &unmoved {
        let rows = failures.as_array().unwrap();
        let row = rows
            .iter()
            .find(|row| row["source_id"] == **id)
            .unwrap_or_else(|| panic!("{failures}"));
        assert!(row["hint"].is_string() && row["message"].is_string(), "{row}");
    }
    Judge { unmoved, ..Judge::default() }.accepts(&stage).await;
    stage.replay();
}

/// Somebody has an account in both, and a row of a table in which there may be one for each: the
/// plan names both rows, in the words in which the run then fails.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_plan_foresees_what_rows_of_an_adopted_account_collide_with() {
    let there: Vec<_> = addresses(40, 33, 3).iter().map(SeedUser::with_email).collect();
    let options =
        Options { users: 40, rows: 200, seed: 33, target_people: there, ..Options::default() };
    let stage = Stage::set(options).await;
    stage.configure(|text| text + "\"profiles.owner\" = \"user\"\n");
    let (source, target) = stage.databases().unwrap();
    let table = "CREATE TABLE profiles (id INTEGER PRIMARY KEY, owner TEXT UNIQUE, about TEXT);";
    let (source, target) = (Connection::open(source).unwrap(), Connection::open(target).unwrap());
    source.execute_batch(table).unwrap();
    target.execute_batch(table).unwrap();
    source.execute("INSERT INTO profiles SELECT rowid, clerk_id, 'there' FROM users", []).unwrap();
    let accounts = stage.target().users();
    for (number, account) in accounts.iter().enumerate() {
        target
            .execute(
                "INSERT INTO profiles VALUES (?1, ?2, 'here')",
                (501 + i64::try_from(number).unwrap(), &account.id),
            )
            .unwrap();
    }

    let plan = stage.rehome(&["plan", "--json"]).await.expect(0).json();
    assert_eq!(plan["users"]["adopt"], 3, "{plan}");
    let table = &plan["tables"]["profiles"];
    assert_eq!((&table["conflict"], &table["insert"]), (&json!(3), &json!(37)), "{plan}");
    let conflicts = table["conflicts"].as_array().unwrap();
    assert_eq!(conflicts.len(), 3, "{plan}");
    for conflict in conflicts {
        let words = conflict.as_str().unwrap();
        assert!(words.ends_with("of the target has the same owner"), "{words}");
        assert!(words.contains("cannot be added: profiles 50"), "{words}");
    }
    let _fails = stage.run().await.expect(3);
    let failures = stage.rehome(&["failures", "--json"]).await.expect(0).stdout;
    for conflict in conflicts {
        assert!(failures.contains(conflict.as_str().unwrap()), "{conflict} of {failures}");
    }
    stage.replay();
}
