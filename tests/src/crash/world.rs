//! The small world in which processes die.

use std::path::{Path, PathBuf};

use rehome_core::journal::check_replay;
use rehome_emulator::d1::verifieddit;
use rehome_emulator::seed::SeedUser;
use rusqlite::Connection;
use serde_json::Value;

use super::{Application, Snapshot};
use crate::binary::{self, Finished, Running};
use crate::merged::{NAMES, Own, rekeyed};
use crate::{Databases, Judge, Options, Stage};

/// Whose account is in the target before the migration.
const ADOPTED: &str = "adopted@crash.example";
/// For whom the application makes a row of its own.
const ANSWERED: &str = "answered@crash.example";
/// By how much waits are shortened: five seconds of doubt become a fifth of one.
const HASTE: u32 = 25;

/// What the target's own user has, whatever happens around it. The numbers are far from those of
/// the source's rows, and each date is given: these rows are written twice, and a default of the
/// schema's would be another second in the copy that the judge reads.
const OWN_ROWS: &str = "
    INSERT INTO users (rowid, clerk_id, email, plan, created_at)
        VALUES (900, 'user_TheTargetsOwnUserOfOldTimes', 'own@crash.example', 'team', '2025-01-01');
    INSERT INTO badges (rowid, id, owner_id, url, status, created_at)
        VALUES (900, 'badge_own', 'user_TheTargetsOwnUserOfOldTimes', 'https://own.example', NULL,
                '2025-01-02');
    INSERT INTO badge_images (rowid, id, badge_id, ai_score, created_at)
        VALUES (900, 'image_own', 'badge_own', 1.0, '2025-01-03');
    INSERT INTO events (id, kind, payload)
        VALUES (9001, 'own', '{\"actor\": {\"id\": \"user_TheTargetsOwnUserOfOldTimes\"}}');
    INSERT INTO counters (id, user_id, hits, ratio, raw, note, extra)
        VALUES (9001, 'user_TheTargetsOwnUserOfOldTimes', 4959520537444830692, 1.0, x'00ff',
                CAST(x'610062' AS TEXT), 1e15);
";

/// What changes in the source's rows; `?` is somebody who leaves.
const CHANGES: &str = "
    DELETE FROM badge_images WHERE badge_id IN (SELECT id FROM badges WHERE owner_id = '?');
    DELETE FROM badges WHERE owner_id = '?';
    DELETE FROM counters WHERE user_id = '?';
    DELETE FROM events WHERE payload LIKE '%?%';
    DELETE FROM users WHERE clerk_id = '?';
    UPDATE users SET plan = 'since' WHERE rowid = 2;
    UPDATE badges SET owner_id = (SELECT max(clerk_id) FROM users) WHERE rowid = 1;
    UPDATE counters SET hits = 17;
    INSERT INTO counters (user_id, note) SELECT min(clerk_id), 'since' FROM users;
";

/// What the configuration says from then on: what leaves there leaves here.
const GOING: &str = "users.on_removed = \"delete\"\nrecords.on_removed = \"delete\"\n";

/// Which world it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Setting {
    /// Where the rows are.
    pub databases: Databases,
    /// Whether there are tables besides in which both sides number their rows alike, and which are
    /// merged under new keys.
    pub merged: bool,
}

impl From<Databases> for Setting {
    fn from(databases: Databases) -> Self {
        Self { databases, merged: false }
    }
}

/// A migration's surroundings, with what the target held before.
#[derive(Debug)]
pub struct World {
    /// The surroundings.
    pub stage: Stage,
    application: Application,
    before: Snapshot,
    judge: Judge,
    /// What the target has in tables that are merged.
    own: Option<Own>,
}

impl World {
    /// A new one.
    ///
    /// # Panics
    /// When it cannot be made.
    pub async fn new(setting: Setting) -> Self {
        let Setting { databases, merged } = setting;
        let options = Options {
            users: 5,
            rows: 18,
            seed: 77,
            databases,
            source_people: vec![SeedUser::with_email(ADOPTED), SeedUser::with_email(ANSWERED)],
            target_people: vec![
                SeedUser::with_email(ADOPTED),
                SeedUser {
                    id: Some("user_TheTargetsOwnUserOfOldTimes".into()),
                    ..SeedUser::with_email("own@crash.example")
                },
            ],
            lot_users: 3,
            place: memory(),
            ..Options::default()
        };
        let stage = Stage::set(options).await;
        let (_, target) = stage.databases().expect("there are databases");
        let copy = stage.folder().join("before.sqlite");
        // Files are for a target without rows; what the application makes comes in between.
        let own = if databases == Databases::D1Files { "" } else { OWN_ROWS };
        own_rows(&target, &copy, own);
        if databases.in_place() {
            // The judge is to know the rows that are not in the source.
            std::fs::remove_file(&copy).expect("the copy can be made anew");
            let alone = Connection::open(&copy).expect("the database opens");
            alone.execute_batch(verifieddit::schema()).expect("the schema can be made");
            alone.execute_batch(OWN_ROWS).expect("the target has rows of its own");
        }
        let own = merged.then(|| {
            stage.configure(|text| rekeyed(&text));
            Own::fill(&stage, 6, 4)
        });
        let application = Application::start(stage.target(), &target, ANSWERED);
        let before = Snapshot::take(&stage.target(), &target);
        let elsewhere = if merged { NAMES.map(str::to_owned).to_vec() } else { Vec::new() };
        let judge = Judge { target_before: Some(copy), elsewhere, ..Judge::default() };
        Self { stage, application, before, judge, own }
    }

    /// Runs the mortal binary; dies at the given boundary, counted from 1, if there is one. Gives
    /// how it ended and the boundaries that it reached.
    pub async fn rehome(&self, arguments: &[&str], at: Option<u64>) -> (Finished, Vec<String>) {
        let count = self.stage.folder().join("boundaries");
        let mut command = self.stage.command_of(binary::mortal(), arguments);
        if self.stage.options().databases == Databases::D1Files && arguments.contains(&"run") {
            command.arg("--allow-downtime");
        }
        command.env("REHOME_CRASH_COUNT", &count);
        // A process that dies leaves its scratch files; they go with the world.
        command.env("TMPDIR", self.stage.folder());
        command.env("REHOME_CRASH_HASTE", HASTE.to_string());
        if let Some(at) = at {
            command.env("REHOME_CRASH_AT", at.to_string());
        }
        let finished = Running::start(command).finish().await;
        let reached = std::fs::read_to_string(&count).unwrap_or_default();
        std::fs::remove_file(&count).ok();
        self.application.settled().await;
        (finished, reached.lines().map(str::to_owned).collect())
    }

    /// The source moves on: of what was carried, somebody and something changes, somebody leaves with
    /// all that is theirs, and more comes.
    ///
    /// # Panics
    /// When the source cannot be changed.
    pub fn change(&self) {
        let (instance, (source, _)) =
            (self.stage.source(), self.stage.databases().expect("there are databases"));
        let changed = instance.change_user(&self.stage.people[0].0, |user| {
            user.first_name = Some("Renamed".to_owned());
            user.public_metadata.insert("since".to_owned(), true.into());
            user.updated_at += 1;
        });
        assert!(changed, "the first of them is there");
        let leaver = &self.stage.people[1].0;
        assert!(instance.remove_user(leaver), "the second of them is there");
        self.stage.configure(|text| format!("{GOING}\n{text}"));
        instance.insert_seed(SeedUser::with_email("late@crash.example")).expect("somebody new");
        let connection = Connection::open(source).expect("the database opens");
        connection.execute_batch(&CHANGES.replace('?', leaver)).expect("the source can be changed");
    }

    /// What is in the target now.
    pub fn snapshot(&self) -> Snapshot {
        let (_, target) = self.stage.databases().expect("there are databases");
        Snapshot::take(&self.stage.target(), &target)
    }

    /// Judges a finished migration. `counted` unless there was a way back before: then each account
    /// was created and each row written once only.
    ///
    /// # Errors
    /// What is wrong.
    pub async fn judge_whole(&self, counted: bool) -> Result<(), String> {
        let judge = Judge { uncounted: !counted, ..self.judge.clone() };
        judge.compare(&self.stage).await?;
        if let Some(own) = &self.own {
            own.judge(&self.stage)?;
        }
        if counted { self.written_once() } else { Ok(()) }
    }

    /// Judges a target from which everything was taken back.
    ///
    /// # Errors
    /// What is not as it was.
    pub fn judge_restored(&self) -> Result<(), String> {
        self.snapshot().differs(&self.before).map_or(Ok(()), Err)
    }

    /// Each row was written by one request only, as the emulated D1 counts them; the one that the
    /// application had made first may have been removed and put in again within it.
    fn written_once(&self) -> Result<(), String> {
        let Some(d1) = self.stage.emulator.d1() else { return Ok(()) };
        let counters = d1.counters();
        let databases = counters["databases"].as_object().into_iter().flatten();
        for (_, database) in databases {
            let tables = database["tables"].as_object().into_iter().flatten();
            // What rehome counts in within a request, and drops at its end, is no row of anybody's.
            for (table, effects) in tables.filter(|(name, _)| !name.starts_with("rehome_tally")) {
                for (row, times) in effects["rows"].as_object().into_iter().flatten() {
                    let allowed = if self.is_answered(row) { 2 } else { 1 };
                    if times.as_u64().is_none_or(|times| times > allowed) {
                        return Err(format!("{table} {row} was written {times} times"));
                    }
                }
            }
        }
        Ok(())
    }

    fn is_answered(&self, key: &str) -> bool {
        let user = self.stage.target().user(key);
        user.is_some_and(|user| user.email_addresses.iter().any(|e| e.value == ANSWERED))
    }

    /// The journal's log leads to the journal's cache. A process that died before its first commit
    /// has left nothing to replay.
    ///
    /// # Errors
    /// The first difference.
    pub fn replay(&self) -> Result<(), String> {
        let journal = self.stage.journal();
        if self.is_blank() {
            return Ok(());
        }
        let scratch = self.stage.folder().join("replayed");
        let replayed = check_replay(&journal, &scratch);
        std::fs::remove_file(&scratch).ok();
        replayed.map(drop).map_err(|error| format!("the log is not the cache: {error}"))
    }

    /// Whether there is no journal yet, or none that is bound to a migration.
    pub fn is_blank(&self) -> bool {
        let journal = self.stage.journal();
        if !journal.exists() {
            return true;
        }
        let connection = Connection::open(journal).expect("the journal opens");
        // Without its schema there is no such table.
        let count = connection.query_row("SELECT count(*) FROM setup", [], |row| row.get(0));
        count.map_or(true, |count: i64| count == 0)
    }

    /// What the last line of `run --json` says, for a message.
    pub fn last_word(finished: &Finished) -> String {
        let last = finished.stdout.lines().last().unwrap_or_default();
        let said: Value = serde_json::from_str(last).unwrap_or_default();
        format!("exit {:?}, {}\n{}", finished.code(), said["error"], finished.stderr)
    }
}

fn own_rows(target: &Path, copy: &Path, rows: &str) {
    let connection = Connection::open(target).expect("the database opens");
    connection.execute_batch(rows).expect("the target has rows of its own");
    connection
        .query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))
        .expect("the file is whole");
    std::fs::copy(target, copy).expect("the database can be copied");
}

/// A folder in memory, where the system has one: thousands of syncs are not what is tried here, and
/// an aborted process loses nothing that it gave to the system.
fn memory() -> Option<PathBuf> {
    let place = PathBuf::from("/dev/shm");
    place.is_dir().then_some(place)
}
