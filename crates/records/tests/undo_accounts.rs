//! Rows and the accounts that they name. What a plan says before anything has gone: which accounts
//! rows will keep, and which rows go or come back only because somebody insists. And what is found
//! when an account is about to go.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may")]
#![allow(clippy::disallowed_methods, reason = "a test sets up its own databases")]

mod support;

use rehome_records::policy::OnConflict;
use rehome_records::undo::{MentionedRow, mentions_of, remove_rows};
use rehome_records::{Refusal, Written};
use support::back::Back;
use support::yard::Yard;

const SCHEMA: &str = "
    CREATE TABLE users (id INTEGER PRIMARY KEY, clerk_id TEXT NOT NULL UNIQUE, name TEXT);
    CREATE TABLE posts (id INTEGER PRIMARY KEY, author TEXT REFERENCES users(clerk_id),
        above INTEGER REFERENCES posts(id));
    CREATE TABLE audit (id INTEGER PRIMARY KEY, clerk_id TEXT, data TEXT);";
const IDS: &[&str] = &["users.clerk_id", "posts.author", "audit.clerk_id", "audit.data:$.by"];

/// Four users with a post each; users 1 to 3 had a row in the target, made by a webhook.
fn yard() -> Yard {
    let mut yard = Yard::new(SCHEMA, IDS);
    yard.execute(
        "source.sqlite",
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 4)
         INSERT INTO users SELECT i, 'user_' || i, 'name ' || i FROM n;
         INSERT INTO posts SELECT id, clerk_id, NULL FROM users;
         UPDATE posts SET above = 1 WHERE id = 2;
         INSERT INTO audit SELECT id, clerk_id, json_object('by', clerk_id) FROM users;",
    );
    yard.execute(
        "target.sqlite",
        "INSERT INTO users VALUES (1, 'new_1', 'hook'), (12, 'new_2', 'hook'), (3, 'new_3', 'hook');
         INSERT INTO audit VALUES (900, 'own', '{\"by\":\"own\"}'), (901, NULL, 'no document');",
    );
    yard.users = (1..=4).map(|n| format!("user_{n}")).collect();
    yard
}

fn all() -> Back {
    Back { accounts: true, ..Back::default() }
}

#[test]
fn nobody_is_kept_when_only_ours_and_echoes_name_them() {
    let mut yard = yard();
    let before = yard.dump();
    yard.forth().unwrap();
    let said = yard.back(&all()).unwrap();
    assert!(said.refused.is_empty() && said.accounts.is_empty(), "{said:?}");
    assert_eq!(before, yard.dump());
}

#[test]
fn a_row_of_the_applications_own_keeps_the_account_and_all_rows_of_it() {
    for (sql, held) in [
        ("INSERT INTO audit VALUES (50, 'new_2', NULL)", "audit 50 (theirs)"),
        ("INSERT INTO audit VALUES (50, NULL, '{\"by\":\"new_2\"}')", "audit 50 (theirs)"),
        ("INSERT INTO posts VALUES (50, 'new_2', NULL)", "posts 50 (theirs)"),
    ] {
        let mut yard = yard();
        yard.forth().unwrap();
        let whole = yard.dump();
        yard.live(sql);
        // Elsewhere in a document, or under another's name, it says nothing.
        yard.live("INSERT INTO audit VALUES (51, 'own', '{\"to\":\"new_3\",\"by\":\"new_33\"}')");
        yard.live("INSERT INTO audit VALUES (52, NULL, '{\"by\":\"new_3\"')");
        let said = yard.back(&all()).unwrap();
        assert_eq!(
            said.accounts,
            [
                // The post of user 2 stands under that of user 1.
                "new_1: users 1 (ours), posts 1 (ours) +0".to_owned(),
                format!("new_2: {held} +0")
            ],
            "{sql}"
        );
        let codes = said.codes();
        let stuck = ["audit 2 account_stuck", "posts 1 row_referred", "posts 2 account_stuck"];
        for code in stuck.iter().chain(&["users 2 account_stuck", "users 1 row_referred"]) {
            assert!(codes.contains(&(*code).to_owned()), "{sql}: {code} of {codes:?}");
        }
        let now = yard.dump();
        let of_two = |rows: &[String]| -> Vec<String> {
            rows.iter().filter(|row| row.contains("'new_2'")).cloned().collect()
        };
        assert!(of_two(&whole).iter().all(|row| now.contains(row)), "{sql}: {now:#?}");
    }
}

#[test]
fn a_row_of_ours_that_stays_keeps_the_account_but_nothing_else_of_it() {
    let mut yard = yard();
    yard.forth().unwrap();
    yard.live("UPDATE audit SET data = '{\"by\":\"new_4\",\"x\":1}' WHERE id = 4");
    let said = yard.back(&all()).unwrap();
    assert_eq!(said.accounts, ["new_4: audit 4 (ours) +0"]);
    assert_eq!(said.codes(), ["audit 4 row_changed"]);
    // It says the same when it is said again, and goes when somebody insists.
    let said = yard.back(&all()).unwrap();
    assert_eq!(said.accounts, ["new_4: audit 4 (ours) +0"]);
    let said = yard.back(&Back { force: true, ..all() }).unwrap();
    assert!(said.refused.is_empty() && said.accounts.is_empty(), "{said:?}");
    assert_eq!((said.counts["audit"].remove, said.counts["audit"].forced), (1, 1));
}

#[test]
fn many_rows_of_others_are_counted_and_a_few_are_named() {
    let mut yard = yard();
    yard.forth().unwrap();
    yard.live(
        "WITH RECURSIVE n(i) AS (SELECT 1000 UNION ALL SELECT i + 1 FROM n WHERE i < 6000)
         INSERT INTO audit SELECT i, 'new_' || (3 + i % 2), json_object('by', 'new_1', 'pad',
             CASE i % 1000 WHEN 0 THEN hex(zeroblob(5000)) END) FROM n",
    );
    let said = yard.back(&all()).unwrap();
    assert_eq!(
        said.accounts,
        [
            "new_1: audit 1000 (theirs), audit 1001 (theirs) +4999",
            "new_3: audit 1000 (theirs), audit 1002 (theirs) +2499",
            "new_4: audit 1001 (theirs), audit 1003 (theirs) +2498",
        ]
    );
}

/// A row of the target's own that made room for one of ours.
fn replaced() -> (Yard, Vec<String>) {
    let mut yard = Yard::new("CREATE TABLE notes (id INTEGER PRIMARY KEY, text TEXT)", &[]);
    yard.execute("source.sqlite", "INSERT INTO notes VALUES (1, 'ours'), (2, 'ours, too')");
    yard.execute("target.sqlite", "INSERT INTO notes VALUES (1, 'was here'), (9, 'own')");
    yard.conflicts.default = OnConflict::Replace;
    let before = yard.dump();
    yard.forth().unwrap();
    assert_eq!(yard.dump().len(), 3);
    (yard, before)
}

#[test]
fn a_place_that_somebody_has_emptied_is_told_of_and_filled_only_on_request() {
    let (mut yard, before) = replaced();
    yard.live("DELETE FROM notes WHERE id = 1");
    for round in 0..3 {
        // Whoever asks for some users hears nothing of rows that name none of them.
        let only = Back { only: Some(vec!["user_1".to_owned()]), force: round > 0, ..all() };
        assert!(yard.back(&only).unwrap().refused.is_empty());
        let said = yard.back(&all()).unwrap();
        assert_eq!(said.codes(), ["notes 1 place_empty"]);
        assert_eq!(yard.dump(), ["notes: integer 9|text 'own'"]);
    }
    let said = yard.back(&Back { force: true, ..all() }).unwrap();
    assert!(said.refused.is_empty(), "{:?}", said.refused);
    assert_eq!((said.counts["notes"].restore, said.counts["notes"].forced), (1, 1));
    assert_eq!(yard.dump(), before);
    yard.assert_all_back();
}

#[test]
fn a_changed_row_in_the_place_of_another_gives_way_only_on_request() {
    let (mut yard, before) = replaced();
    yard.live("UPDATE notes SET text = 'changed' WHERE id = 1");
    let said = yard.back(&all()).unwrap();
    assert_eq!(said.codes(), ["notes 1 row_changed"]);
    let said = yard.back(&Back { force: true, ..all() }).unwrap();
    assert_eq!((said.counts["notes"].restore, said.counts["notes"].forced), (1, 1));
    assert_eq!(yard.dump(), before);
    yard.assert_all_back();
}

#[test]
fn nobody_misses_the_webhooks_row_of_an_account_that_is_gone() {
    // Somebody deleted the account, and the webhook our row, which stood in for its own.
    let mut yard = yard();
    yard.users.retain(|user| user != "user_1");
    yard.execute(
        "source.sqlite",
        "DELETE FROM posts; DELETE FROM audit; DELETE FROM users WHERE id = 1",
    );
    yard.execute("target.sqlite", "DELETE FROM users WHERE id = 1");
    yard.forth().unwrap();
    yard.live("DELETE FROM users WHERE clerk_id = 'new_3'");
    let said = yard.back(&Back { gone: vec!["new_3".to_owned()], ..all() }).unwrap();
    assert!(said.refused.is_empty(), "{:?}", said.refused);
    assert!(!yard.dump().iter().any(|row| row.contains("new_3")), "{:#?}", yard.dump());
}

#[tokio::test]
async fn rows_that_name_an_account_are_found_and_its_own_go_with_it() {
    let yard = Yard::new(
        "CREATE TABLE users (clerk_id TEXT PRIMARY KEY, name TEXT);
         CREATE TABLE settings (id INTEGER PRIMARY KEY, who TEXT UNIQUE REFERENCES users(clerk_id),
             dark INTEGER);
         CREATE TABLE posts (id INTEGER PRIMARY KEY, author TEXT REFERENCES users(clerk_id)
             ON DELETE CASCADE, meta TEXT);",
        &["users.clerk_id", "posts.meta:$.likes[*]"],
    );
    yard.execute(
        "target.sqlite",
        r#"INSERT INTO users VALUES ('new_a', NULL), ('new_b', 'Bob'), ('new_c', NULL), (NULL, 'x');
           INSERT INTO settings VALUES (1, 'new_a', 1), (2, 'new_b', 0);
           INSERT INTO posts VALUES (1, 'new_b', '{"likes":["new_c"]}'), (2, NULL, 'new_c');"#,
    );
    let (target, layout) = yard.databases().await;
    let names: Vec<String> = ["a", "b", "c", "d"].map(|name| format!("new_{name}")).to_vec();
    let found = mentions_of(target.as_ref(), &layout, &support::USER, &names).await.unwrap();
    let told = |who: &str| -> Vec<String> {
        let mut all: Vec<_> = found[who]
            .iter()
            .map(|row| format!("{} {} {}", row.table, row.key_in_words(), row.identifying))
            .collect();
        all.sort();
        all
    };
    assert_eq!(told("new_a"), ["settings 1 true", "users 'new_a' true"]);
    assert_eq!(told("new_b"), ["posts 1 false", "settings 2 true", "users 'new_b' true"]);
    assert_eq!(told("new_c"), ["posts 1 false", "users 'new_c' true"]);
    assert!(!found.contains_key("new_d"));

    // Bob has a post, which would be torn along.
    let identifying = |who: &str| -> Vec<MentionedRow> {
        let own = found[who].iter().filter(|row| row.identifying);
        // By way of the journal.
        own.map(|row| MentionedRow::from_json(&row.to_json()).unwrap()).collect()
    };
    let before = yard.dump();
    let written = remove_rows(target.as_ref(), &layout, &identifying("new_b")).await.unwrap();
    assert!(matches!(written, Written::Refused { refusal: Refusal::Guard, .. }), "{written:?}");
    assert_eq!(before, yard.dump());
    let written = remove_rows(target.as_ref(), &layout, &identifying("new_a")).await.unwrap();
    assert!(matches!(written, Written::Done { .. }), "{written:?}");
    assert_eq!(yard.dump().len(), before.len() - 2);
    // Changed meanwhile.
    yard.live("UPDATE users SET name = 'Cid' WHERE clerk_id = 'new_c'");
    let written = remove_rows(target.as_ref(), &layout, &identifying("new_c")).await.unwrap();
    assert!(matches!(written, Written::Refused { refusal: Refusal::Guard, .. }), "{written:?}");
}
