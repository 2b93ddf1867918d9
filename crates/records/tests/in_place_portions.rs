//! Lots that are too much for one request of D1: their users' ids are exchanged in several, there and
//! back, and no user is left with some rows under each id.
#![allow(clippy::unwrap_used, clippy::panic, clippy::disallowed_methods, reason = "a test may")]

mod support;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use axum::http::StatusCode;
use rehome_core::{
    Effect, Knowledge, Origin, Outcome, Pass, Prepared, Probed, Rest, Source as _, Transition, Unit,
};
use rehome_emulator::d1::verifieddit;
use rehome_records::WriteDatabase;
use rehome_records::ids::IdColumns;
use rehome_records::in_place::{Accounts, LOT, LotSource, Places, RestoreLots, RewriteLots};
use rehome_records::layout::Layout;
use rehome_records::policy::Unmapped;
use rehome_records::schema::{self, Selection};
use support::cloud::{Cloud, Fault, TARGET};
use support::{Memory, USER, fresh};

const PLACES: [&str; 4] =
    ["users.clerk_id", "badges.owner_id", "counters.user_id", "events.payload:$.actor.id"];

/// A D1 of so many users and rows, who are all mapped, and one lot of them all.
struct World {
    cloud: Cloud,
    target: Arc<dyn WriteDatabase>,
    knowledge: Arc<dyn Knowledge>,
    places: Arc<Places>,
    lot: Unit,
    /// The requests that were lost.
    lost: Vec<String>,
    /// How many attempts have come to nothing before, and what happens to the first requests of the
    /// next one.
    begun: (u32, Vec<Fault>),
}

impl World {
    async fn new(users: usize, rows: usize) -> Self {
        let cloud = Cloud::new().await;
        let people: Vec<_> = (0..users)
            .map(|n| (format!("user_{n:027}"), Some(format!("u{n}@b.example"))))
            .collect();
        cloud
            .d1
            .setup(TARGET, |connection| verifieddit::fill(connection, &people, rows, 5))
            .unwrap();
        let target = cloud.writer("badges").await as Arc<dyn WriteDatabase>;
        let schema = schema::read(target.as_ref(), &Selection::default()).await.unwrap();
        let declared = PLACES.map(|place| (place.to_owned(), "user".to_owned()));
        let ids = IdColumns::resolve(&BTreeMap::from(declared), &schema).unwrap();
        let layout = Layout::new(&schema, &schema, &ids);
        let places = Arc::new(Places::read(target.as_ref(), &layout, &USER).await.unwrap());
        let memory = Arc::new(Memory::default());
        for (user, _) in &people {
            memory.mapped(user, &user.replace("user_0", "user_9"), Origin::Created);
        }
        let knowledge = memory as Arc<dyn Knowledge>;
        let lots = LotSource::new(
            Arc::clone(&target) as _,
            Arc::clone(&places),
            Arc::clone(&knowledge),
            Some(users),
        );
        let found = lots.next_page(None).await.unwrap().units.into_iter().next().unwrap();
        let lot = fresh(100_000, LOT, found);
        Self { cloud, target, knowledge, places, lot, lost: Vec::new(), begun: (0, Vec::new()) }
    }

    async fn forth(&mut self) -> u32 {
        let (target, knowledge) = (Arc::clone(&self.target), Arc::clone(&self.knowledge));
        let places = Arc::clone(&self.places);
        self.drive(&RewriteLots::new(target, knowledge, places, Unmapped::Hold)).await
    }

    async fn back(&mut self) -> u32 {
        let (target, knowledge) = (Arc::clone(&self.target), Arc::clone(&self.knowledge));
        let places = Arc::clone(&self.places);
        self.drive(&RestoreLots::new(target, knowledge, places, Accounts::Go)).await
    }

    /// Drives the lot as the engine would; how many attempts came to nothing.
    async fn drive(&mut self, worker: &dyn Transition) -> u32 {
        let (attempts, mut faults) = self.begun.clone();
        self.lot.attempts = attempts;
        for _ in 0..30 {
            let unit = std::slice::from_ref(&self.lot);
            let prepared = worker.prepare(unit, Pass::Final).await.unwrap();
            let (intent, payload) = match prepared.into_iter().next().unwrap() {
                Prepared::Effect { intent, payload } => (intent, payload),
                Prepared::Advance(done) => return self.end(done),
                Prepared::Fail { failure, .. } => panic!("{failure:?}"),
                _ => panic!("there is something to write"),
            };
            self.lot.intent = Some(intent);
            self.lot.intent_void = false;
            self.cloud.next(&std::mem::take(&mut faults));
            let outcome = worker.apply(&self.lot, payload).await;
            self.cloud.next(&[]);
            match outcome {
                Outcome::Done(done) => return self.end(done),
                Outcome::Unknown { reason } => self.lost.push(reason),
                Outcome::NotSent { reason, .. } => panic!("{reason}"),
                Outcome::Rejected(failure) => panic!("{failure:?}"),
            }
            self.lot.attempts += 1;
            let found = worker.probe(std::slice::from_ref(&self.lot)).await.unwrap();
            match found.into_iter().next().unwrap() {
                Probed::Done(done) => return self.end(done),
                Probed::Part(part) => {
                    let intent = self.lot.intent.take();
                    self.lot.effect = Some(Effect { intent, data: part.data });
                }
                Probed::Absent => self.lot.intent_void = true,
                Probed::Conflict(failure) => panic!("{failure:?}"),
            }
        }
        panic!("it does not arrive: {:?}", self.lost)
    }

    fn end(&mut self, done: rehome_core::Done) -> u32 {
        assert!(done.rest.is_none(), "{:?}", done.rest);
        let intent = self.lot.intent.take();
        self.lot.effect = done.data.map(|data| Effect { intent, data: Some(data) });
        self.lot.attempts
    }

    /// Every row of every table.
    fn picture(&self) -> Vec<String> {
        let read = |connection: &rusqlite::Connection| {
            let mut rows = Vec::new();
            for table in ["users", "badges", "badge_images", "counters", "events"] {
                let sql = format!("SELECT rowid, * FROM {table} ORDER BY rowid");
                let mut statement = connection.prepare(&sql)?;
                let columns = statement.column_count();
                let mut found = statement.query([])?;
                while let Some(row) = found.next()? {
                    let cells =
                        (0..columns).map(|at| row.get_ref(at).map(|cell| format!("{cell:?}")));
                    let cells: Vec<_> = cells.collect::<Result<_, _>>()?;
                    rows.push(format!("{table} {}", cells.join(" ")));
                }
            }
            Ok::<_, rusqlite::Error>(rows)
        };
        self.cloud.d1.setup(TARGET, read).unwrap()
    }

    fn requests(&self) -> (u64, u64) {
        let counters = self.cloud.d1.counters()["databases"][TARGET].take();
        let number = |name: &str| counters[name].as_u64().unwrap();
        (number("write_requests"), number("failed_requests"))
    }
}

/// What the rows have to be with the new ids. Documents are blobs of their text here.
fn exchanged(rows: &[String]) -> Vec<String> {
    let spelled = |id: &str| format!("{:?}", id.as_bytes()).trim_matches(['[', ']']).to_owned();
    let (old, new) = (spelled("user_0"), spelled("user_9"));
    rows.iter().map(|row| row.replace(&old, &new)).collect()
}

#[tokio::test]
async fn a_lot_that_takes_too_long_goes_out_in_parts_there_and_back() {
    let mut world = World::new(200, 3_000).await;
    let before = world.picture();
    // A thousand rows, or the entries of as many indexes, take 30 s.
    world.cloud.d1.set_write_cost(TARGET, Duration::from_millis(30)).unwrap();
    let attempts = world.forth().await;
    assert!((1..6).contains(&attempts), "{attempts}: {:?}", world.lost);
    assert!(world.lost[0].contains("(one request for the rows of 200 users)"), "{:?}", world.lost);
    assert_eq!(world.picture(), exchanged(&before));
    let (written, failed) = world.requests();
    assert!(written > 3 && failed <= u64::from(attempts), "{written} {failed}");
    // Another process has to learn it anew.
    world.target = world.cloud.writer("badges").await;
    let attempts = world.back().await;
    assert!((1..6).contains(&attempts), "{attempts}: {:?}", world.lost);
    assert_eq!(world.picture(), before);
}

/// Each request of a lot that goes out in four is lost in turn, done or not, after those before it
/// were answered.
#[tokio::test]
async fn one_of_several_requests_is_lost() {
    let mut world = World::new(8, 60).await;
    let before = world.picture();
    let after = exchanged(&before);
    let not_done = Fault::Instead(StatusCode::GATEWAY_TIMEOUT, "");
    let mut parts = 0;
    for fault in [Fault::Lost, Fault::Truncated, not_done] {
        for answered in 0..10 {
            let mut faults = vec![Fault::None; answered];
            faults.push(fault.clone());
            world.begun = (1, faults);
            for forth in [true, false] {
                let what = format!("{fault:?} after {answered} answers, forth: {forth}");
                world.lost.clear();
                if forth {
                    world.forth().await;
                } else {
                    world.back().await;
                }
                assert!(
                    world.picture() == if forth { after.clone() } else { before.clone() },
                    "{what}"
                );
                parts += usize::from(!world.lost.is_empty());
            }
        }
    }
    assert!(parts >= 16, "only {parts} of those that write were lost");
}

/// A webhook makes a row between look and request, and only the last of four requests meets it: it is
/// known of everybody what happened, so the row makes room.
#[tokio::test]
async fn a_race_after_others_came_through_leaves_nobody_in_doubt() {
    let mut world = World::new(8, 60).await;
    let after = exchanged(&world.picture());
    let worker = RewriteLots::new(
        Arc::clone(&world.target),
        Arc::clone(&world.knowledge),
        Arc::clone(&world.places),
        Unmapped::Hold,
    );
    let bare = format!("INSERT INTO users (clerk_id) VALUES ('user_9{:026}')", 7);
    world.lot.attempts = 1;
    let mut ended = None;
    for round in 0..3 {
        let unit = std::slice::from_ref(&world.lot);
        let prepared = worker.prepare(unit, Pass::Final).await.unwrap();
        let (intent, payload) = match prepared.into_iter().next().unwrap() {
            Prepared::Effect { intent, payload } => (intent, payload),
            Prepared::Fail { failure, .. } => panic!("{failure:?}"),
            _ => panic!("there is something to write"),
        };
        if round == 0 {
            world.cloud.d1.execute_sql(TARGET, &bare).unwrap();
        }
        world.lot.intent = Some(intent);
        let Outcome::Done(done) = worker.apply(&world.lot, payload).await else {
            panic!("it is known what happened")
        };
        world.lot.effect = Some(Effect { intent: world.lot.intent.clone(), data: done.data });
        world.lot.attempts += 1;
        if done.rest.is_none() {
            ended = Some(round);
            break;
        }
        assert_eq!(done.rest, Some(Rest::More));
    }
    assert_eq!(ended, Some(1));
    assert_eq!(world.picture(), after);
}

#[tokio::test]
async fn a_user_whose_rows_alone_take_too_long_is_named() {
    let mut world = World::new(3, 600).await;
    world.cloud.d1.set_write_cost(TARGET, Duration::from_secs(20)).unwrap();
    let before = world.picture();
    let unit = world.lot.clone();
    let worker = RewriteLots::new(
        Arc::clone(&world.target),
        Arc::clone(&world.knowledge),
        Arc::clone(&world.places),
        Unmapped::Hold,
    );
    let mut said = Vec::new();
    for attempts in 0..3 {
        let unit = Unit { attempts, ..unit.clone() };
        let prepared = worker.prepare(std::slice::from_ref(&unit), Pass::Final).await.unwrap();
        let Some(Prepared::Effect { payload, .. }) = prepared.into_iter().next() else {
            panic!("there is something to write")
        };
        match worker.apply(&unit, payload).await {
            Outcome::Unknown { reason } => said.push(reason),
            _ => panic!("it takes too long"),
        }
    }
    assert!(said[0].contains("one request for the rows of 3 users"), "{said:?}");
    let alone = format!("one request for the rows of user_{:027} alone", 0);
    assert!(said[1].contains(&alone) && said[1].contains("rehome check"), "{said:?}");
    world.lost = said;
    assert_eq!(world.picture(), before, "nothing was written");
}
