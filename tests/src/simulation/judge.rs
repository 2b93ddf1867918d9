//! What must hold at the end of a seed, found out from the emulator and the databases alone; the
//! journal is only asked what it claims.

use std::collections::{BTreeMap, BTreeSet};

use rehome_core::journal::check_replay;
use rehome_core::{Condition, Origin};
use rehome_emulator::{Identifier, User};
use rusqlite::Connection;
use rusqlite::types::Value;

use super::world::World;

/// What was found wrong, by kind.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Verdict {
    /// Accounts or rows too many.
    pub duplicates: Vec<String>,
    /// Accounts or rows that are not there.
    pub losses: Vec<String>,
    /// Values that are not as they should be, and wrong claims.
    pub differences: Vec<String>,
}

impl Verdict {
    /// Whether nothing is wrong.
    pub fn is_clean(&self) -> bool {
        *self == Self::default()
    }

    /// Adds what another judge has found.
    pub fn add(&mut self, other: Self) {
        self.duplicates.extend(other.duplicates);
        self.losses.extend(other.losses);
        self.differences.extend(other.differences);
    }

    pub(super) fn same<T: PartialEq + std::fmt::Debug>(
        &mut self,
        what: &str,
        expected: &T,
        found: &T,
    ) {
        if expected != found {
            self.differences.push(format!("{what}: expected {expected:?}, found {found:?}"));
        }
    }
}

/// Judges a world whose migration says that it is over, for the `time`th time: after each but the
/// last it was taken back.
///
/// # Panics
/// When the world cannot be read.
pub fn judge(world: &World, time: u64) -> Verdict {
    let mut verdict = Verdict::default();
    let pairs = accounts(world, time, &mut verdict);
    claims(world, &pairs, &mut verdict);
    rows(world, &pairs, &mut verdict);
    journal(world, &mut verdict);
    verdict
}

/// The journal's log equals its cache. When anything is wrong, whoever looks into it wants to know
/// what the journal has to say.
pub(super) fn journal(world: &World, verdict: &mut Verdict) {
    let scratch = world.file("replayed");
    if let Err(error) = check_replay(&world.config.journal_path(), &scratch) {
        verdict.differences.push(format!("the replay: {error}"));
    }
    std::fs::remove_file(scratch).ok();
    if !verdict.is_clean() {
        let mut hear = |doc: rehome_migration::document::FailureDoc| {
            let told =
                format!("journaled: {} {} {}: {}", doc.kind, doc.source_id, doc.code, doc.message);
            verdict.differences.push(told);
        };
        rehome_migration::ledger::failures(&world.config, None, &mut hear).expect("it can be read");
        let path = world.config.journal_path();
        let reader = rehome_core::journal::Reader::open(&path).expect("it can be read");
        let wrong = format!("{verdict:?}");
        for (key, unit) in world.units() {
            let names = [unit.target_key.as_ref().unwrap_or(&key), &key];
            if names.iter().any(|name| wrong.contains(name.as_str())) {
                let story = reader.history(unit.id).expect("it can be read");
                verdict.differences.extend(story.iter().map(|line| format!("{key}: {line:?}")));
            }
        }
    }
}

/// The key under which a user's account is to be found.
fn key(user: &User) -> &str {
    user.external_id.as_deref().filter(|own| !own.is_empty()).unwrap_or(&user.id)
}

/// Exactly one account for every source user. Gives the pairs.
fn accounts(world: &World, time: u64, verdict: &mut Verdict) -> BTreeMap<String, String> {
    let (source, target) = (world.source(), world.target());
    let counters = target.counters();
    let mut pairs = BTreeMap::new();
    let mut ours = BTreeSet::new();
    for user in source.users() {
        if world.hopeless.contains(&user.id) {
            if target.user_by_external_id(key(&user)).is_some() {
                verdict.duplicates.push(format!("{} has an account", user.id));
            }
            continue;
        }
        if let Some(account) = world.adopted.get(&user.id) {
            pairs.insert(user.id.clone(), account.clone());
            continue;
        }
        let Some(account) = target.user_by_external_id(key(&user)) else {
            verdict.losses.push(format!("{} has no account", user.id));
            continue;
        };
        ours.insert(account.id.clone());
        fields(&user, &account, verdict);
        pairs.insert(user.id.clone(), account.id.clone());
    }
    for (key, times) in &counters.creates_by_external_id {
        if *times > time {
            verdict.duplicates.push(format!("{key} was created {times} times"));
        }
    }
    for account in target.users() {
        match world.own.get(&account.id) {
            Some(before) => verdict.same("an account of the target's own", &**before, &*account),
            None if ours.contains(&account.id) => {}
            // A user who was read and then left the source has an account, as the journal says.
            None => match world
                .units()
                .values()
                .find(|unit| unit.target_key.as_deref() == Some(&account.id))
            {
                Some(unit) if source.user(&unit.source_key).is_none() => {
                    pairs.insert(unit.source_key.clone(), account.id.clone());
                }
                _ => verdict.duplicates.push(format!("the account {} is nobody's", account.id)),
            },
        }
    }
    for (user, account) in &world.adopted {
        // Who left the source after being read keeps the account, and the rows go there.
        if source.user(user).is_none()
            && world.units().get(user).is_some_and(|unit| unit.target_key.as_ref() == Some(account))
        {
            pairs.insert(user.clone(), account.clone());
        }
    }
    for id in world.own.keys() {
        if target.user(id).is_none() {
            verdict.losses.push(format!("the target's own account {id}"));
        }
    }
    for (account, times) in &counters.deletes_by_id {
        if *times != 1 || world.own.contains_key(account) {
            verdict.losses.push(format!("{account} was deleted {times} times"));
        }
    }
    if time == 1 {
        verdict.same("deletes", &0, &counters.deletes);
    }
    pairs
}

fn identifiers(list: &[Identifier], may_be_reserved: bool) -> BTreeMap<String, bool> {
    list.iter()
        .filter(|one| one.verified() || may_be_reserved)
        .map(|one| (one.value.to_lowercase(), one.verified()))
        .collect()
}

/// Everything that the API can carry.
fn fields(user: &User, account: &User, verdict: &mut Verdict) {
    let mut same = |what: &str, expected: String, found: String| {
        verdict.same(&format!("{} {what}", user.id), &expected, &found);
    };
    macro_rules! plain {
        ($($field:ident),*) => {
            $(same(stringify!($field), format!("{:?}", user.$field), format!("{:?}", account.$field));)*
        };
    }
    plain!(
        first_name,
        last_name,
        locale,
        public_metadata,
        private_metadata,
        unsafe_metadata,
        created_at,
        legal_accepted_at,
        banned,
        delete_self_enabled,
        create_organization_enabled,
        bypass_client_trust
    );
    let lower = |name: &Option<String>| name.as_deref().unwrap_or_default().to_lowercase();
    same("username", lower(&user.username), lower(&account.username));
    for (what, may, expected, found) in [
        ("addresses", true, &user.email_addresses, &account.email_addresses),
        ("numbers", true, &user.phone_numbers, &account.phone_numbers),
        ("wallets", false, &user.web3_wallets, &account.web3_wallets),
    ] {
        let (expected, found) = (identifiers(expected, may), identifiers(found, true));
        same(what, format!("{expected:?}"), format!("{found:?}"));
    }
}

/// What the journal says of each user is so.
fn claims(world: &World, pairs: &BTreeMap<String, String>, verdict: &mut Verdict) {
    let units = world.units();
    for user in world.source().users() {
        let Some(unit) = units.get(&user.id) else {
            verdict.losses.push(format!("the journal does not know {}", user.id));
            continue;
        };
        if world.hopeless.contains(&user.id) {
            verdict.same("who cannot be moved", &Condition::Failed, &unit.state.condition);
            continue;
        }
        verdict.same(&user.id, &pairs.get(&user.id), &unit.target_key.as_ref());
        let origin =
            if world.adopted.contains_key(&user.id) { Origin::Adopted } else { Origin::Created };
        verdict.same(&format!("{} origin", user.id), &Some(origin), &unit.origin);
        let rests = matches!(unit.state.condition, Condition::Failed | Condition::Held);
        if rests {
            let why = unit.failure.as_ref().map(|failure| (&failure.code, &failure.message));
            verdict.differences.push(format!("{} is {}: {why:?}", user.id, unit.state));
        }
    }
}

/// A table as its rows by their first column, each value with its type and bytes.
pub(super) fn table(database: &Connection, name: &str) -> BTreeMap<String, Vec<Value>> {
    let mut statement = database.prepare(&format!("SELECT * FROM {name}")).expect("a table");
    let columns = statement.column_count();
    let rows = statement.query_map([], |row| {
        let cell = |index| {
            row.get_ref(index).map(|value| match value {
                // Text need not be UTF-8; compared as bytes that are marked as text.
                rusqlite::types::ValueRef::Text(bytes) => {
                    Value::Blob([b"text:".as_slice(), bytes].concat())
                }
                rusqlite::types::ValueRef::Null => Value::Null,
                rusqlite::types::ValueRef::Integer(number) => Value::Integer(number),
                // By its bits, so that every real is equal to itself.
                rusqlite::types::ValueRef::Real(number) => {
                    Value::Blob([b"real:".as_slice(), &number.to_be_bytes()].concat())
                }
                rusqlite::types::ValueRef::Blob(bytes) => {
                    Value::Blob([b"blob:".as_slice(), bytes].concat())
                }
            })
        };
        (0..columns).map(cell).collect::<Result<Vec<Value>, _>>()
    });
    let rows: Vec<_> = rows.and_then(Iterator::collect).expect("rows");
    rows.into_iter().map(|row| (format!("{:?}", row[0]), row)).collect()
}

/// The same value under the new ids, and which ids of the source it names.
fn renamed(
    value: &Value,
    pairs: &BTreeMap<String, String>,
    named: &mut BTreeSet<String>,
    known: &BTreeSet<String>,
) -> Value {
    let Value::Blob(bytes) = value else { return value.clone() };
    let Some(text) = bytes.strip_prefix(b"text:").and_then(|text| std::str::from_utf8(text).ok())
    else {
        return value.clone();
    };
    let mut text = text.to_owned();
    for id in known {
        if text.contains(id.as_str()) {
            named.insert(id.clone());
            if let Some(new) = pairs.get(id) {
                text = text.replace(id.as_str(), new);
            }
        }
    }
    Value::Blob([b"text:".as_slice(), text.as_bytes()].concat())
}

/// Every row is there under the new ids, and nothing else but what was.
fn rows(world: &World, pairs: &BTreeMap<String, String>, verdict: &mut Verdict) {
    let open = |name: &str| Connection::open(world.file(name)).expect("it opens");
    let (source, target) = (open("source.sqlite"), open("target.sqlite"));
    let known: BTreeSet<String> = table(&source, "users")
        .into_values()
        .filter_map(|row| match &row[0] {
            Value::Blob(bytes) => String::from_utf8(bytes[5..].to_vec()).ok(),
            _ => None,
        })
        .collect();
    let mut unmoved_badges = BTreeSet::new();
    for name in ["users", "badges", "badge_images", "events", "counters"] {
        let mut there = table(&target, name);
        for row in table(&source, name).into_values() {
            let mut named = BTreeSet::new();
            let expected: Vec<_> =
                row.iter().map(|value| renamed(value, pairs, &mut named, &known)).collect();
            let key = format!("{:?}", expected[0]);
            let parent = format!("{:?}", expected.get(1));
            let left = named.iter().any(|id| !pairs.contains_key(id))
                || (name == "badge_images" && unmoved_badges.contains(&parent));
            if left && name == "badges" {
                unmoved_badges.insert(format!("{:?}", expected.first()));
            }
            match there.remove(&key) {
                None if left => {}
                None => verdict.losses.push(format!("{name} {key}")),
                Some(_) if left => verdict.duplicates.push(format!("{name} {key} hangs on nobody")),
                Some(found) => verdict.same(&format!("{name} {key}"), &expected, &found),
            }
        }
        for (key, row) in there {
            let own = row.iter().any(|value| match value {
                Value::Blob(bytes) => world
                    .own
                    .keys()
                    .any(|id| bytes.windows(id.len()).any(|window| window == id.as_bytes())),
                _ => false,
            });
            // The handler's row for somebody who came, or left, without rows in the source.
            let handlers = name == "users"
                && pairs.values().any(|id| {
                    key == format!(
                        "{:?}",
                        Value::Blob([b"text:".as_slice(), id.as_bytes()].concat())
                    )
                });
            if !own && !handlers {
                verdict.duplicates.push(format!("{name} {key} is nobody's"));
            }
        }
    }
}
