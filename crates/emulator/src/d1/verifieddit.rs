//! The database of `examples/verifieddit`, filled for tests, demo and rehearsal at any size.
//!
//! The rows are a pure function of the users, the wished number of rows and a seed, so that a failing
//! case can be made again. They carry what a copy of rows tends to damage or overlook: 64-bit
//! integers that JavaScript cannot hold, whole numbers stored as REAL, blobs, text with NUL or without
//! valid UTF-8, NULL beside `""`, ids inside JSON, JSON without ids, payloads that are no object.
//!
//! Works on any SQLite connection; for an emulated D1 pass it to [`super::D1::setup`].

use fastrand::Rng;
use rusqlite::types::Value;
use rusqlite::{Connection, params};
use serde::Serialize;
use serde_json::json;

use super::Error;

/// A moment in early 2026, where the rows' times begin; in seconds since 1970.
const BEGINNING: i64 = 1_767_600_000;

/// Integers that a double cannot hold, the ends of the range, and tame neighbours.
const HITS: &[Value] = &[
    Value::Integer(4_959_520_537_444_830_692),
    Value::Integer(i64::MAX),
    Value::Integer(i64::MIN),
    Value::Integer(9_007_199_254_740_993),
    Value::Integer(-9_007_199_254_740_993),
    Value::Integer(0),
    Value::Integer(7),
    Value::Null,
];

const RATIOS: &[f64] = &[0.1, 1.0, -0.5, 749.308_511_759_9, 1e300, 5e-324, 1e15, 0.0];

/// Text by its bytes; two are no UTF-8, one has a NUL, one mixes a line feed with a written `\n`.
const NOTES: &[Option<&[u8]>] = &[
    Some(b"a plain note"),
    Some(b""),
    Some(b"before\0after"),
    Some(b"bad \xc3\x28 bytes"),
    Some(b"\xff\xfe"),
    Some(b"line\nand a written \\n"),
    Some("naïve – 日本 🏅 'quoted' \"twice\"".as_bytes()),
    None,
];

/// How many rows were made per table.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct RowCounts {
    /// Rows of `users`: one for each user given.
    pub users: usize,
    /// Rows of `badges`.
    pub badges: usize,
    /// Rows of `badge_images`.
    pub badge_images: usize,
    /// Rows of `events`.
    pub events: usize,
    /// Rows of `counters`.
    pub counters: usize,
}

impl RowCounts {
    /// All rows.
    #[must_use]
    pub fn total(&self) -> usize {
        let Self { users, badges, badge_images, events, counters } = self;
        users + badges + badge_images + events + counters
    }

    /// Shares `rows` out: what is left after the users goes to badges, images, events and counters
    /// as 3 : 2 : 3 : 2. Without users nothing can own a row.
    fn share(users: usize, rows: usize) -> Self {
        if users == 0 {
            return Self::default();
        }
        let rest = rows.saturating_sub(users);
        let part = |tenths: usize| rest * tenths / 10;
        let (badges, events, counters) = (part(3), part(3), part(2));
        let badge_images = if badges == 0 { 0 } else { rest - badges - events - counters };
        Self { users, badges, badge_images, events, counters }
    }
}

/// The schema of `examples/verifieddit`.
#[must_use]
pub fn schema() -> &'static str {
    include_str!("../../../../examples/verifieddit/schema.sql")
}

/// The small, hand-sized data of `examples/verifieddit`, for a database that has the schema.
#[must_use]
pub fn seed() -> &'static str {
    include_str!("../../../../examples/verifieddit/seed.sql")
}

/// Makes the schema in an empty database and fills it with about `rows` rows in all.
///
/// `users` are Clerk ids of the source with their email addresses: each gets one row of `users`,
/// even when that makes more than `rows`. The same arguments give the same rows. All in one
/// transaction.
///
/// Returns how many rows each table got.
///
/// # Errors
/// When SQLite refuses: the tables are already there, or a user appears twice.
#[allow(
    clippy::disallowed_methods,
    reason = "the emulated D1 is one of the rooms where SQL is run"
)]
pub fn fill(
    connection: &Connection,
    users: &[(String, Option<String>)],
    rows: usize,
    seed: u64,
) -> Result<RowCounts, Error> {
    let transaction = connection.unchecked_transaction()?;
    transaction.execute_batch(schema())?;
    let counts = RowCounts::share(users.len(), rows);
    let mut maker = Maker { connection: &transaction, rng: Rng::with_seed(seed), users, counts };
    maker.users()?;
    maker.badges()?;
    maker.badge_images()?;
    maker.events()?;
    maker.counters()?;
    transaction.commit()?;
    Ok(counts)
}

struct Maker<'a> {
    connection: &'a Connection,
    rng: Rng,
    users: &'a [(String, Option<String>)],
    counts: RowCounts,
}

impl Maker<'_> {
    fn users(&mut self) -> rusqlite::Result<()> {
        let mut insert = self.connection.prepare(
            "INSERT INTO users (clerk_id, email, plan, created_at) \
             VALUES (?1, ?2, ?3, datetime(?4, 'unixepoch'))",
        )?;
        for (number, (id, email)) in (0..).zip(self.users) {
            let plan = pick(&mut self.rng, &["free", "free", "pro", "team"]);
            insert.execute(params![id, email, plan, BEGINNING + number * 61])?;
        }
        Ok(())
    }

    fn badges(&mut self) -> rusqlite::Result<()> {
        let mut insert = self.connection.prepare(
            "INSERT INTO badges (id, owner_id, url, domain, badge_type, status, created_at, \
             verified_at, c2pa_manifest, original_thumbnail_url) \
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, datetime(?7, 'unixepoch'), \
             datetime(?8, 'unixepoch'), ?9, ?10)",
        )?;
        for (number, moment) in (0..self.counts.badges).zip((BEGINNING..).step_by(17)) {
            let owner = pick_user(&mut self.rng, self.users);
            let domain = format!("site-{}.example.com", self.rng.u32(..5_000));
            let status = pick(&mut self.rng, &["pending", "verified", "rejected"]);
            let verified = (status == Some("verified")).then_some(moment + 3_600);
            let manifest = self
                .rng
                .bool()
                .then(|| json!({ "claim": "c2pa", "sequence": self.rng.u32(..) }).to_string());
            let thumbnail = match self.rng.u8(..3) {
                0 => None,
                1 => Some(String::new()),
                _ => Some(format!("https://img.example.com/{number}.jpg?w=320&h=240")),
            };
            insert.execute(params![
                badge_id(number),
                owner,
                format!("https://{domain}/it's/{number}"),
                domain,
                pick(&mut self.rng, &["original", "human-written", "ai-assisted"]),
                status,
                moment,
                verified,
                manifest,
                thumbnail,
            ])?;
        }
        Ok(())
    }

    fn badge_images(&mut self) -> rusqlite::Result<()> {
        let mut insert = self.connection.prepare(
            "INSERT INTO badge_images (id, badge_id, image_url, ai_score, created_at) \
             VALUES (?1, ?2, ?3, ?4, datetime(?5, 'unixepoch'))",
        )?;
        for (number, moment) in (0..self.counts.badge_images).zip((BEGINNING..).step_by(13)) {
            let badge = badge_id(self.rng.usize(..self.counts.badges.max(1)));
            let score = match self.rng.u8(..8) {
                0 => None,
                1 => Some(1.0),
                _ => Some(self.rng.f64()),
            };
            insert.execute(params![
                format!("image_{number:08}"),
                badge,
                format!("https://img.example.com/{badge}/{number}.webp"),
                score,
                moment,
            ])?;
        }
        Ok(())
    }

    fn events(&mut self) -> rusqlite::Result<()> {
        let mut insert = self
            .connection
            .prepare("INSERT INTO events (id, kind, payload) VALUES (?1, ?2, ?3)")?;
        for id in (1_i64..).take(self.counts.events) {
            let actor = pick_user(&mut self.rng, self.users);
            let (kind, payload) = match id % 10 {
                1 => ("sweep", Some(json!({ "removed": self.rng.u32(..9) }).to_string())),
                2 => ("sweep", Some(json!({ "actor": { "id": null } }).to_string())),
                3 => ("import", Some(json!([badge_id(0), id]).to_string())),
                4 => ("ping", None),
                5 => ("note", Some("not JSON at all {".to_owned())),
                // Spelled by hand: the spaces, the order and the digits must survive a rewrite.
                6 => {
                    let id = actor.unwrap_or_default();
                    let text = format!(
                        "{{ \"snowflake\": 4959520537444830692, \"actor\": {{\"id\": \"{id}\"}}, \
                         \"ratio\": 1.0 }}"
                    );
                    ("plan.changed", Some(text))
                }
                _ => {
                    let badge = badge_id(self.rng.usize(..self.counts.badges.max(1)));
                    let actor = json!({ "id": actor, "role": "owner" });
                    ("badge.viewed", Some(json!({ "actor": actor, "badge": badge }).to_string()))
                }
            };
            insert.execute(params![id, kind, payload])?;
        }
        Ok(())
    }

    fn counters(&mut self) -> rusqlite::Result<()> {
        let mut insert = self.connection.prepare(
            "INSERT INTO counters (id, user_id, hits, ratio, raw, note, extra) \
             VALUES (?1, ?2, ?3, ?4, ?5, CAST(?6 AS TEXT), ?7)",
        )?;
        for (number, id) in (0..self.counts.counters).zip(1_i64..) {
            // Every trap comes up within the first few rows; different periods mix them.
            let user = if number % 11 == 10 { None } else { pick_user(&mut self.rng, self.users) };
            let raw = match number % 5 {
                0 => None,
                1 => Some(Vec::new()),
                length => {
                    let mut bytes = vec![0; length * 7];
                    self.rng.fill(&mut bytes);
                    Some(bytes)
                }
            };
            insert.execute(params![
                id,
                user,
                at(HITS, number),
                at(RATIOS, number / 3),
                raw,
                at(NOTES, number / 2).copied().flatten(),
                extra(number),
            ])?;
        }
        Ok(())
    }
}

/// Each storage class in the column without a type; `1.0` and `1` differ only there.
fn extra(number: usize) -> Value {
    match number % 7 {
        0 => Value::Real(1.0),
        1 => Value::Integer(1),
        2 => Value::Text("1".to_owned()),
        3 => Value::Blob(b"1".to_vec()),
        4 => Value::Null,
        5 => Value::Real(1e15),
        _ => Value::Integer(i64::MAX - 1),
    }
}

fn badge_id(number: usize) -> String {
    format!("badge_{number:08}")
}

fn at<T>(items: &[T], number: usize) -> Option<&T> {
    items.get(number.checked_rem(items.len())?)
}

fn pick<'a>(rng: &mut Rng, items: &[&'a str]) -> Option<&'a str> {
    rng.choice(items).copied()
}

fn pick_user<'a>(rng: &mut Rng, users: &'a [(String, Option<String>)]) -> Option<&'a str> {
    rng.choice(users).map(|(id, _)| id.as_str())
}
