//! Who judges the judge: `compare.py` accepts a migration made by hand, and sees every corruption
//! that is put into it.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::disallowed_methods,
    missing_docs,
    reason = "a test"
)]

use rehome_emulator::seed::SeedUser;
use rehome_tests::{Judge, Options, Stage};
use rusqlite::Connection;
use serde_json::{Map, Value, json};

/// Moves everybody and every row of a stage, by hand and in the simplest way.
async fn migrate(stage: &Stage) {
    let _installed = rustls::crypto::ring::default_provider().install_default().is_ok();
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let (_, target) = stage.databases().unwrap();
    let connection = Connection::open(target).unwrap();
    connection.execute_batch("CREATE TEMP TABLE ids (old PRIMARY KEY, new)").unwrap();
    for user in stage.source().users() {
        let answer = client
            .post(format!("{}/v1/users", stage.emulator.clerk_url()))
            .bearer_auth(stage.target().secret_key())
            .json(&form(&serde_json::to_value(&*user).unwrap()))
            .send()
            .await
            .unwrap();
        let account: Value = answer.json().await.unwrap();
        let id = account["id"].as_str().unwrap_or_else(|| panic!("{account}"));
        connection.execute("INSERT INTO ids VALUES (?1, ?2)", [&user.id, id]).unwrap();
    }
    copy(&connection, &stage.databases().unwrap().0.display().to_string());
}

/// The body that creates a user as the source has it.
fn form(user: &Value) -> Value {
    let mut form = Map::new();
    for name in ["username", "first_name", "last_name", "locale"] {
        form.insert(name.into(), user[name].clone());
    }
    for name in ["public_metadata", "private_metadata", "unsafe_metadata", "banned", "locked"] {
        form.insert(name.into(), user[name].clone());
    }
    for name in ["delete_self_enabled", "create_organization_enabled", "bypass_client_trust"] {
        form.insert(name.into(), user[name].clone());
    }
    form.insert("create_organizations_limit".into(), user["create_organizations_limit"].clone());
    for name in ["created_at", "legal_accepted_at"] {
        form.insert(name.into(), user[name].as_i64().map(date).into());
    }
    for (list, field) in [
        ("email_addresses", "email_address"),
        ("phone_numbers", "phone_number"),
        ("web3_wallets", "web3_wallet"),
    ] {
        let mut own = user[list].as_array().unwrap().clone();
        let primary = &user[format!("primary_{field}_id")];
        own.sort_by_key(|one| one["id"] != *primary);
        let status = |one: &Value| match one["verification"]["status"] == "verified" {
            true => "verified",
            false => "reserved",
        };
        if list != "web3_wallets" {
            let statuses: Vec<_> = own.iter().map(status).collect();
            form.insert(format!("{field}_identification_status"), json!(statuses));
        }
        form.insert(field.into(), own.iter().map(|one| one[field].clone()).collect());
    }
    let kept = user["external_id"].as_str().or(user["id"].as_str());
    form.insert("external_id".into(), kept.into());
    for name in ["skip_password_requirement", "skip_legal_checks", "skip_user_requirement"] {
        form.insert(name.into(), true.into());
    }
    form.retain(|_, value| !value.is_null() && *value != json!([]));
    form.into()
}

/// RFC 3339 of Unix milliseconds, by SQLite's own calendar.
fn date(milliseconds: i64) -> String {
    let sql = "SELECT strftime('%Y-%m-%dT%H:%M:%S', ?1, 'unixepoch')";
    let seconds = milliseconds.div_euclid(1000);
    let connection = Connection::open_in_memory().unwrap();
    let whole: String = connection.query_row(sql, [seconds], |row| row.get(0)).unwrap();
    format!("{whole}.{:03}Z", milliseconds.rem_euclid(1000))
}

fn copy(connection: &Connection, source: &str) {
    connection.execute("ATTACH ?1 AS source", [source]).unwrap();
    connection
        .execute_batch(
            "INSERT INTO users SELECT new, email, plan, created_at
                 FROM source.users JOIN ids ON old = clerk_id;
             INSERT INTO badges SELECT b.id, new, url, domain, badge_type, status, created_at,
                 verified_at, c2pa_manifest, original_thumbnail_url
                 FROM source.badges b JOIN ids ON old = owner_id;
             INSERT INTO badge_images SELECT * FROM source.badge_images;
             INSERT INTO counters SELECT id, new, hits, ratio, raw, note, extra
                 FROM source.counters LEFT JOIN ids ON old = user_id;
             INSERT INTO events SELECT id, kind, iif(old IS NULL, payload, replace(payload, old, new))
                 FROM source.events
                 LEFT JOIN ids ON old =
                     CASE WHEN json_valid(payload) THEN payload ->> '$.actor.id' END;",
        )
        .unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_migration_by_hand_is_accepted_and_each_corruption_is_seen() {
    let stage = Stage::set(Options { users: 120, rows: 700, ..Options::default() }).await;
    migrate(&stage).await;
    Judge::default().accepts(&stage).await;
    rows(&stage).await;
    people(&stage).await;
    Judge::default().accepts(&stage).await;
}

/// Corrupts the target database in one way after another; each must be seen, and be gone again.
async fn rows(stage: &Stage) {
    let (_, target) = stage.databases().unwrap();
    for corruption in [
        "DELETE FROM events WHERE id = 7",
        "INSERT INTO events (id) VALUES (100000)",
        "UPDATE counters SET hits = hits + 1 WHERE id = 7",
        // The rounding of a double.
        "UPDATE counters SET hits = 9223372036854775800 WHERE hits = 9223372036854775807",
        "UPDATE counters SET extra = 1 WHERE typeof(extra) = 'real' AND extra = 1.0",
        "UPDATE counters SET extra = CAST('1' AS BLOB) WHERE typeof(extra) = 'text'",
        // What C makes of a text with NUL.
        "UPDATE counters SET note = 'before' WHERE CAST(note AS BLOB) = x'6265666f7265006166746572'",
        "UPDATE counters SET note = NULL WHERE note = ''",
        "UPDATE counters SET user_id = NULL WHERE id = 3",
        "UPDATE badges SET owner_id = (SELECT max(clerk_id) FROM users) WHERE id = 'badge_00000001'",
        "UPDATE events SET payload = replace(payload, ': ', ':') WHERE id = 6",
        "UPDATE badges SET owner_id = 'user_nobody' WHERE id = 'badge_00000001'",
        "UPDATE users SET email = (SELECT old FROM ids LIMIT 1) WHERE rowid = 3",
        "ALTER TABLE users ADD COLUMN more",
    ] {
        let saved = stage.folder().join("saved.sqlite");
        let connection = Connection::open(&target).unwrap();
        connection.pragma_update(None, "foreign_keys", false).unwrap();
        connection.execute("VACUUM INTO ?1", [saved.display().to_string()]).unwrap();
        connection.execute_batch("CREATE TEMP TABLE ids (old)").unwrap();
        connection.execute("INSERT INTO ids VALUES (?1)", [&stage.people[0].0]).unwrap();
        let before = connection.total_changes();
        connection.execute_batch(corruption).unwrap();
        assert!(connection.total_changes() > before || corruption.starts_with("ALTER"));
        drop(connection);
        let said = Judge::default().compare(stage).await;
        assert!(said.is_err(), "not seen: {corruption}\n{said:?}");
        std::fs::rename(saved, &target).unwrap();
    }
}

/// The same for accounts.
async fn people(stage: &Stage) {
    let (source, target) = (stage.source(), stage.target());
    let account = |wanted: &dyn Fn(&rehome_emulator::User) -> bool| {
        target.users().into_iter().find(|user| wanted(user)).unwrap()
    };
    type Change = Box<dyn FnOnce(&mut rehome_emulator::User)>;
    let anyone = account(&|user| user.email_addresses.len() > 1);
    let reserved = account(&|user| user.email_addresses.iter().any(|address| address.reserved));
    let numbers = account(&|user| user.public_metadata.contains_key("big"));
    let changes: Vec<(&str, &str, Change)> = vec![
        ("name", &anyone.id, Box::new(|user| user.first_name = Some("Somebody".into()))),
        ("sign-up", &anyone.id, Box::new(|user| user.created_at += 1)),
        ("ban", &anyone.id, Box::new(|user| user.banned = !user.banned)),
        ("key", &anyone.id, Box::new(|user| user.external_id = None)),
        (
            "primary",
            &anyone.id,
            Box::new(|user| {
                user.primary_email_address_id =
                    user.email_addresses.last().map(|one| one.id.clone());
            }),
        ),
        ("lost address", &anyone.id, Box::new(|user| drop(user.email_addresses.pop()))),
        (
            "proof from nowhere",
            &reserved.id,
            Box::new(|user| {
                for address in &mut user.email_addresses {
                    address.reserved = false;
                    address.verification = Some(rehome_emulator::Verification::admin());
                }
            }),
        ),
        (
            "rounded number",
            &numbers.id,
            Box::new(|user| {
                user.public_metadata["big"] = 9_007_199_254_740_992_i64.into();
            }),
        ),
    ];
    for (what, id, change) in changes {
        let kept = target.user(id).unwrap();
        assert!(target.change_user(id, change));
        let said = Judge::default().compare(stage).await;
        assert!(said.is_err(), "not seen: {what}\n{said:?}");
        assert!(target.change_user(id, |user| *user = (*kept).clone()));
    }
    let stranger = target.insert_seed(SeedUser::with_email("nobody@nowhere.example")).unwrap();
    assert!(Judge::default().compare(stage).await.is_err(), "not seen: an account of nobody");
    assert!(target.remove_user(&stranger));
    let late = source.insert_seed(SeedUser::with_email("late@nowhere.example")).unwrap();
    assert!(Judge::default().compare(stage).await.is_err(), "not seen: a missing account");
    let without = Judge { unmoved: vec![late.clone()], ..Judge::default() };
    without.accepts(stage).await;
    assert!(source.remove_user(&late));
}
