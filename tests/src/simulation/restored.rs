//! What must hold once a migration was taken back: the target is as it was before.

use std::collections::BTreeMap;
use std::sync::PoisonError;

use rehome_core::Condition;
use rusqlite::Connection;
use rusqlite::types::Value;

use super::judge::{self, Verdict, table};
use super::world::World;

/// Every table that the example carries.
pub const TABLES: [&str; 5] = ["users", "badges", "badge_images", "events", "counters"];

/// The rows of all tables, each by its key.
pub type Tables = BTreeMap<&'static str, BTreeMap<String, Vec<Value>>>;

/// Everything that stands in a database.
pub fn tables(database: &Connection) -> Tables {
    TABLES.into_iter().map(|name| (name, table(database, name))).collect()
}

/// Judges a world whose rollback says that it is over.
///
/// # Panics
/// When the world cannot be read.
pub fn judge(world: &World) -> Verdict {
    let mut verdict = Verdict::default();
    let target = world.target();
    for account in target.users() {
        match world.own.get(&account.id) {
            Some(before) => verdict.same("an account of the target's own", &**before, &*account),
            None => verdict.duplicates.push(format!("the account {} is still there", account.id)),
        }
    }
    for id in world.own.keys() {
        if target.user(id).is_none() {
            verdict.losses.push(format!("the target's own account {id}"));
        }
    }
    let counters = target.counters();
    verdict.same("deletes", &counters.creates, &counters.deletes);
    for (account, times) in &counters.deletes_by_id {
        if *times != 1 || world.own.contains_key(account) {
            verdict.losses.push(format!("{account} was deleted {times} times"));
        }
    }
    rows(world, &mut verdict);
    for (key, unit) in world.units() {
        let hopeless = world.hopeless.contains(&key) || unit.target_key.is_none();
        match unit.state.condition {
            Condition::RolledBack => {}
            Condition::Ready | Condition::Failed | Condition::Held | Condition::Skipped
                if hopeless => {}
            Condition::Ready
            | Condition::Failed
            | Condition::Held
            | Condition::Skipped
            | Condition::Intended
            | Condition::InDoubt
            | Condition::Undoing
            | Condition::UndoInDoubt
            | Condition::Stuck => {
                let why = unit.failure.as_ref().map(|failure| (&failure.code, &failure.message));
                verdict.differences.push(format!("{key} is {}: {why:?}", unit.state));
            }
        }
    }
    judge::journal(world, &mut verdict);
    verdict
}

fn rows(world: &World, verdict: &mut Verdict) {
    let database = Connection::open(world.file("target.sqlite")).expect("it opens");
    let mut there = tables(&database);
    let handled = world.handled.lock().unwrap_or_else(PoisonError::into_inner);
    for (name, before) in &world.rows {
        let mut there = there.remove(name).unwrap_or_default();
        for (key, row) in before {
            match there.remove(key) {
                None => verdict.losses.push(format!("{name} {key}")),
                Some(found) => verdict.same(&format!("{name} {key}"), row, &found),
            }
        }
        for (key, row) in there {
            // What the handler of webhooks had put there for an account of ours is put back.
            if *name != "users" || !handled.contains(&row) {
                verdict.duplicates.push(format!("{name} {key} is still there: {row:?}"));
            }
        }
    }
}
