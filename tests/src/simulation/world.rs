//! The small world of one seed: two instances, two databases, an application that lives on, and
//! the weather in which the migration has to go through it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use fastrand::Rng;
use rehome_clerk::USER;
use rehome_emulator::d1::verifieddit;
use rehome_emulator::fault::{BodyKind, Fault, RetryAfter, Rule, When};
use rehome_emulator::seed::{self, SeedUser, Status};
use rehome_emulator::{
    Cursor, Effect, Emulator, EmulatorConfig, FaultPlan, Instance, InstanceConfig, User,
};
use rehome_migration::wiring::Portions;
use rehome_migration::{Config, Keys};
use rusqlite::types::Value;
use rusqlite::{Connection, params};
use tempfile::TempDir;

use super::fate::Fate;
use super::judge::table;
use super::restored::{Tables, tables};
use super::wiring::Inside;

/// Where every world's time begins, in Unix milliseconds.
pub const EPOCH: i64 = 1_790_000_000_000;

/// Everything that stands around one migration.
#[derive(Debug)]
pub struct World {
    /// Both instances.
    pub emulator: Arc<Emulator>,
    /// Configuration, journal and databases.
    pub folder: TempDir,
    /// The configuration, wired into this thread.
    pub config: Config,
    /// The keys.
    pub keys: Keys,
    /// Source users who have an account already, and that account.
    pub adopted: BTreeMap<String, String>,
    /// Source users who cannot be moved, whatever is done.
    pub hopeless: BTreeSet<String>,
    /// The target's own accounts before anything ran, as they were.
    pub own: BTreeMap<String, Arc<User>>,
    /// The target's own rows before anything ran.
    pub rows: Tables,
    /// The rows that the handler of webhooks has put there.
    pub handled: Arc<Mutex<Vec<Vec<Value>>>>,
}

impl World {
    /// Makes the world of a seed.
    ///
    /// # Panics
    /// When it cannot be made.
    pub fn make(rng: &mut Rng, seed: u64, fate: &Arc<Fate>) -> Self {
        let folder = place();
        let emulator = Emulator::embedded(EmulatorConfig {
            instances: vec![
                InstanceConfig::development("source"),
                InstanceConfig::production("target"),
            ],
            epoch_ms: Some(EPOCH),
            ..EmulatorConfig::default()
        });
        let emulator = Arc::new(emulator.expect("it can be made"));
        let instance = |name: &str| emulator.instance(name).expect("there is one");
        let (source, target) = (instance("source"), instance("target"));

        let mut people = seed::users(40, seed);
        rng.shuffle(&mut people);
        people.truncate(rng.usize(3..=20));
        let mut adopted = BTreeMap::new();
        let mut hopeless = BTreeSet::new();
        let mut rows = Vec::new();
        for person in people {
            let first = person.email_addresses.first().cloned();
            let there = first
                .clone()
                .filter(|address| address.status == Status::Verified && rng.u8(..6) == 0)
                .map(|address| in_other_letters(&address.value));
            let id = source.insert_seed(person).expect("a new person");
            if let Some(address) = there {
                let account = target.insert_seed(SeedUser {
                    created_at: Some(EPOCH - 86_400_000),
                    ..SeedUser::with_email(address)
                });
                adopted.insert(id.clone(), account.expect("a new account"));
            }
            rows.push((id, first.map(|address| address.value)));
        }
        if rng.u8(..6) == 0 {
            let nobody = SeedUser { created_at: Some(EPOCH - 5_000_000), ..SeedUser::default() };
            let id = source.insert_seed(nobody).expect("a new person");
            hopeless.insert(id.clone());
            rows.push((id, None));
        }
        let strangers: Vec<String> = (0..rng.usize(..4))
            .map(|number| {
                let mut own = SeedUser::with_email(format!("own.{number}@target.example"));
                own.created_at = Some(EPOCH - 50_000_000);
                target.insert_seed(own).expect("a new account")
            })
            .collect();
        let open = |name: &str| Connection::open(folder.path().join(name)).expect("it opens");
        verifieddit::fill(&open("source.sqlite"), &rows, rng.usize(..60), seed).expect("rows");
        let there = open("target.sqlite");
        there.execute_batch(verifieddit::schema()).expect("the schema");
        for account in &strangers {
            let own = "INSERT INTO users (clerk_id, email, plan) VALUES (?1, 'own', 'team')";
            there.execute(own, [account]).expect("a row");
            let badge = "INSERT INTO badges (id, owner_id) VALUES ('own-' || ?1, ?1)";
            there.execute(badge, [account]).expect("a row");
        }
        let own_rows = tables(&there);
        settings(rng, &source, &target);
        emulator.set_faults(weather(rng, seed));
        let own = target.users().into_iter().map(|user| (user.id.clone(), user)).collect();
        let portions = Portions { users: rng.usize(2..9), rows: rng.usize(1..15) };
        let inside = Inside { emulator: Arc::clone(&emulator), fate: Arc::clone(fate), portions };
        let path = folder.path().join("rehome.toml");
        let config = Config::parse(&path, CONFIG).expect("it can be understood");
        let key = |instance: &Instance| instance.secret_key().to_owned().into();
        let keys = Keys {
            source_clerk: Some(key(&source)),
            target_clerk: key(&target),
            source_database: None,
            target_database: None,
        };
        let config = config.with_wiring(Arc::new(inside));
        Self {
            emulator,
            folder,
            config,
            keys,
            adopted,
            hopeless,
            own,
            rows: own_rows,
            handled: Arc::default(),
        }
    }

    /// The source instance.
    ///
    /// # Panics
    /// Never: every world has one.
    pub fn source(&self) -> Arc<Instance> {
        self.emulator.instance("source").expect("there is one")
    }

    /// The target instance.
    ///
    /// # Panics
    /// Never: every world has one.
    pub fn target(&self) -> Arc<Instance> {
        self.emulator.instance("target").expect("there is one")
    }

    /// A file of this world.
    pub fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The weather clears up: no faults, room for everybody.
    pub fn clear(&self) {
        self.emulator.clear_faults();
        for instance in self.emulator.instances() {
            instance.configure(|settings| settings.user_cap = None);
        }
    }

    /// New weather comes up.
    pub fn darken(&self, rng: &mut Rng, seed: u64) {
        self.emulator.set_faults(weather(rng, seed));
    }

    /// Everything that was written so far: requests to Clerk that ask for a change, and the rows.
    ///
    /// # Panics
    /// When the target's database cannot be read.
    pub fn written(&self) -> (u64, Vec<u8>) {
        let asked = |one: &Arc<Instance>| one.counters().writes_requested();
        let rows = std::fs::read(self.file("target.sqlite")).expect("it can be read");
        (self.emulator.instances().iter().map(asked).sum(), rows)
    }

    /// Whether any life lasted long enough to make a journal.
    pub fn journal_exists(&self) -> bool {
        self.config.journal_path().exists()
    }

    /// The application's handler of webhooks: each new account gets a bare row, some time after.
    pub fn handle_webhooks(&self, most: u64, fate: &Arc<Fate>) {
        let mut effects = self.emulator.subscribe();
        let (target, path) = (self.target().id().to_owned(), self.file("target.sqlite"));
        let (fate, handled) = (Arc::clone(fate), Arc::clone(&self.handled));
        drop(tokio::spawn(async move {
            while let Ok(effect) = effects.recv().await {
                let Effect::Created { instance, user } = effect else { continue };
                if instance != target {
                    continue;
                }
                let (path, delay, fate) = (path.clone(), fate.below(most), Arc::clone(&fate));
                let handled = Arc::clone(&handled);
                drop(tokio::spawn(async move {
                    tokio::time::sleep(Duration::from_millis(delay)).await;
                    let connection = Connection::open(path).expect("it opens");
                    let address = user.email_addresses.first().map(|address| &address.value);
                    let sql = "INSERT OR IGNORE INTO users (clerk_id, email) VALUES (?1, ?2)";
                    let rows = connection.execute(sql, params![user.id, address]);
                    if rows == Ok(1) {
                        fate.count("webhook rows", 1);
                        let id = Value::Blob([b"text:", user.id.as_bytes()].concat());
                        let mut rows = table(&connection, "users").into_values();
                        let row = rows.find(|row| row.first() == Some(&id));
                        let mut handled = handled.lock().unwrap_or_else(PoisonError::into_inner);
                        handled.extend(row);
                    }
                }));
            }
        }));
    }

    /// The source lives on: somebody leaves, changes a name, or signs up, some time from now.
    pub fn live_on(&self, rng: &mut Rng, fate: &Arc<Fate>) {
        for number in 0..rng.usize(..4) {
            let (source, fate) = (self.source(), Arc::clone(fate));
            let what = rng.u8(..3);
            let (when, who) = (rng.u64(..4_000), rng.usize(..));
            drop(tokio::spawn(async move {
                tokio::time::sleep(Duration::from_millis(when)).await;
                let users = source.users();
                let Some(user) = users.get(who % users.len().max(1)) else { return };
                let now = EPOCH + i64::try_from(when).unwrap_or(0);
                match what {
                    0 => {
                        fate.count("user deleted at the source", 1);
                        source.remove_user(&user.id);
                    }
                    1 => {
                        fate.count("user changed at the source", 1);
                        source.change_user(&user.id, |user| {
                            user.first_name = Some("Changed".to_owned());
                            user.updated_at = now;
                        });
                    }
                    _ => {
                        fate.count("user came to the source", 1);
                        let mut new = SeedUser::with_email(format!("new.{number}@source.example"));
                        new.created_at = Some(now);
                        source.insert_seed(new).expect("a new person");
                    }
                }
            }));
        }
    }

    /// So do its rows: some are added, some changed, now or when everything has long been carried.
    /// Drawn apart from everything else, so that a seed stays the world that it was before.
    pub fn rows_live_on(&self, seed: u64, fate: &Arc<Fate>) {
        const CHANGES: [(&str, &str); 4] = [
            (
                "row added at the source",
                "INSERT INTO counters (user_id, hits) SELECT clerk_id, ?1 FROM users LIMIT 1 OFFSET ?1 % 3",
            ),
            (
                "row added at the source",
                "INSERT INTO badges (id, owner_id) SELECT 'late-' || ?1, clerk_id FROM users LIMIT 1 OFFSET ?1 % 3",
            ),
            (
                "row changed at the source",
                "UPDATE counters SET note = 'late ' || ?1 WHERE rowid % 4 = ?1 % 4",
            ),
            (
                "row changed at the source",
                "UPDATE badges SET url = 'late ' || ?1 WHERE rowid % 4 = ?1 % 4",
            ),
        ];
        let mut rng = Rng::with_seed(seed ^ 0x726f_7773);
        for _ in 0..rng.usize(..4) {
            let (path, fate) = (self.file("source.sqlite"), Arc::clone(fate));
            let (when, which) = (rng.u64(..180_000), rng.usize(..CHANGES.len()));
            drop(tokio::spawn(async move {
                tokio::time::sleep(Duration::from_millis(when)).await;
                let connection = Connection::open(path).expect("it opens");
                let (what, sql) = CHANGES[which];
                let rows = connection.execute(sql, [i64::try_from(when).unwrap_or(0)]);
                fate.count(what, rows.expect("the source is there") as u64);
            }));
        }
    }

    /// Every unit of kind user by its source key: where it stands, and its account.
    ///
    /// # Panics
    /// When the journal cannot be read.
    pub fn units(&self) -> BTreeMap<String, rehome_core::Unit> {
        let journal = self.config.journal_path();
        let reader = rehome_core::journal::Reader::open(&journal).expect("it can be read");
        let units = reader.standing_at_least(
            &USER,
            rehome_core::Stage::Exported,
            rehome_core::UnitId(0),
            10_000,
        );
        let units = units.expect("it can be read");
        units.into_iter().map(|unit| (unit.source_key.clone(), unit)).collect()
    }
}

const CONFIG: &str = r#"
[migration]
name = "simulated"
[source.clerk]
secret_key = "env:A"
rate_limit = "1000/10s"
[target.clerk]
secret_key = "env:B"
rate_limit = "1000/10s"
[source.database]
kind = "sqlite"
path = "source.sqlite"
[target.database]
kind = "sqlite"
path = "target.sqlite"
[records.ids]
"users.clerk_id" = "user"
"events.payload:$.actor.id" = "user"
"#;

/// A folder in memory where there is one: ten thousand worlds are made and forgotten.
fn place() -> TempDir {
    let memory = std::path::Path::new("/dev/shm");
    let made = if memory.is_dir() { TempDir::new_in(memory) } else { TempDir::new() };
    made.expect("a folder can be made")
}

fn in_other_letters(address: &str) -> String {
    let flip = |letter: char| {
        if letter.is_ascii_lowercase() {
            letter.to_ascii_uppercase()
        } else {
            letter.to_ascii_lowercase()
        }
    };
    address.chars().map(flip).collect()
}

fn settings(rng: &mut Rng, source: &Instance, target: &Instance) {
    let cursor = [Cursor::Supported, Cursor::Supported, Cursor::DeletedRefused, Cursor::Refused];
    source.configure(|settings| {
        settings.rate_limit = None;
        settings.latency_ms = rng.u64(1..200);
        settings.cursor = cursor[rng.usize(..4)];
    });
    let there = target.count() as u64;
    target.configure(|settings| {
        settings.rate_limit = None;
        settings.latency_ms = rng.u64(1..200);
        settings.cursor = cursor[rng.usize(..4)];
        settings.visibility_delay_ms = if rng.bool() { 0 } else { rng.u64(..4_000) };
        settings.lower_case_emails = rng.bool();
        settings.user_cap = (rng.u8(..8) == 0).then(|| there + rng.u64(..6));
    });
}

/// Some kinds of trouble, each more or less often: no seed has all of them, so that none hides
/// behind another.
fn weather(rng: &mut Rng, seed: u64) -> FaultPlan {
    let status =
        |status, body, retry_after, when| Fault::Status { status, body, retry_after, when };
    let (json, html, empty) = (BodyKind::Json, BodyKind::Html, BodyKind::Empty);
    let (before, after) = (When::Before, When::After);
    let late = |rng: &mut Rng| rng.u64(31_000..34_000);
    let all = [
        Fault::Reset { when: before },
        Fault::Reset { when: after },
        Fault::Truncate,
        Fault::WrongShape,
        Fault::RepeatPage,
        Fault::Hang { when: before },
        Fault::Hang { when: after },
        Fault::Delay { before_ms: late(rng), after_ms: 0 },
        Fault::Delay { before_ms: 0, after_ms: late(rng) },
        Fault::Delay { before_ms: rng.u64(..3_000), after_ms: rng.u64(..3_000) },
        status(500, json, None, before),
        status(500, json, None, after),
        status(502, html, None, before),
        status(502, html, None, after),
        status(503, empty, None, after),
        status(409, json, None, before),
        status(429, json, Some(RetryAfter::Seconds(rng.u64(..20))), before),
        status(429, empty, Some(RetryAfter::DateIn(rng.u64(..20))), before),
        status(429, json, None, before),
    ];
    let mut rules: Vec<Rule> = Vec::new();
    for fault in all {
        if rng.u8(..3) == 0 {
            rules.push(Rule::always(fault).with_probability(rng.f64() * 0.12));
        }
    }
    if rng.u8(..6) == 0 {
        // The key is rotated, and somebody notices some requests later.
        let refused = Rule::always(status(401, json, None, before));
        rules.push(refused.skip(rng.u64(..60)).times(rng.u64(1..4)));
    }
    rng.shuffle(&mut rules);
    FaultPlan { seed, rules }
}
