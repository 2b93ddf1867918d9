//! The journal as its callers see it.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use serde_json::json;

mod damage;
mod knowledge;
mod listing;
mod owner;
mod reading;
mod scrub;
mod selection;
mod trouble;
mod vacancy;

use super::*;
use crate::clock::SystemClock;
use crate::knowledge::Knowledge as _;
use crate::state::{Condition, Event, Stage};
use crate::transition::Exported;
use crate::unit::{Failure, Kind, Origin, UnitId};

const USER: Kind = Kind::new("user");

struct Place {
    _dir: tempfile::TempDir,
    path: PathBuf,
}

fn place() -> Place {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("test.journal");
    Place { _dir: dir, path }
}

fn setup(instance: &str) -> Setup {
    let pins = BTreeMap::from([("source instance".to_owned(), instance.to_owned())]);
    Setup { name: "test".into(), pins }
}

fn open(place: &Place) -> Journal {
    Journal::open(&place.path, &setup("ins_a"), Arc::new(SystemClock)).unwrap()
}

fn page(names: &[&str]) -> Change {
    let units = names
        .iter()
        .map(|name| Exported {
            source_key: (*name).to_owned(),
            scope: String::new(),
            label: Some(format!("{name}@example.com")),
            aliases: vec![format!("email:{name}@example.com")],
            data: json!({ "name": name }),
        })
        .collect();
    Change::Page { kind: USER, units, cursor: json!(names.len()), done: true, total: None }
}

fn advance(unit: i64, to: Stage, target: &str) -> Change {
    let detail = Detail {
        target: Some(target.to_owned()),
        origin: Some(Origin::Adopted),
        ..Detail::default()
    };
    Change::Step { unit: UnitId(unit), event: Event::Advanced(to), detail }
}

#[tokio::test]
async fn a_page_is_recorded_once_however_often_it_comes() {
    let place = place();
    let journal = open(&place);
    assert_eq!(journal.submit(vec![page(&["a", "b"])]).await.unwrap().new_units, 2);
    assert_eq!(journal.submit(vec![page(&["b", "c"])]).await.unwrap().new_units, 1);
    let reader = journal.reader().unwrap();
    let units = reader.ready(&USER, Stage::Exported, UnitId(0), 10).unwrap();
    let keys: Vec<_> = units.iter().map(|unit| unit.source_key.as_str()).collect();
    assert_eq!(keys, ["a", "b", "c"]);
    assert_eq!(units[2].data, json!({ "name": "c" }));
    assert!(reader.export_done(&USER).unwrap());
}

#[tokio::test]
async fn a_change_that_cannot_happen_leaves_no_trace_and_the_journal_usable() {
    let place = place();
    let journal = open(&place);
    journal.submit(vec![page(&["a", "b"])]).await.unwrap();
    let error = journal
        .submit(vec![
            advance(1, Stage::Created, "t1"),
            Change::step(UnitId(2), Event::Done(Stage::Created)),
        ])
        .await
        .unwrap_err();
    assert!(matches!(error, Error::Illegal { unit: 2, .. }), "{error}");
    journal.submit(vec![advance(1, Stage::Created, "t1")]).await.unwrap();
    let error = journal.submit(vec![advance(2, Stage::Created, "t1")]).await.unwrap_err();
    assert!(matches!(error, Error::TargetTaken { .. }), "{error}");
    let reader = journal.reader().unwrap();
    assert_eq!(reader.unit(UnitId(2)).unwrap().target_key, None);
    assert_eq!(reader.history(UnitId(1)).unwrap().len(), 2);
}

#[tokio::test]
async fn the_log_cannot_be_rewritten_and_leads_to_the_cache() {
    let place = place();
    let journal = open(&place);
    journal.submit(vec![page(&["a", "b"])]).await.unwrap();
    journal.submit(vec![advance(1, Stage::Mapped, "t1")]).await.unwrap();
    let failure = Failure::new("refused", "no").with_hint("ask");
    journal
        .submit(vec![Change::failure(UnitId(2), Event::Failed, failure, Vec::new())])
        .await
        .unwrap();
    let scratch = place.path.with_extension("scratch");
    let replay = check_replay(&place.path, &scratch).unwrap();
    assert_eq!(replay, Replay { entries: 5, units: 2 });
    journal.close();

    let conn = rusqlite::Connection::open(&place.path).unwrap();
    assert!(conn.execute("DELETE FROM entry", []).is_err());
    assert!(conn.execute("UPDATE entry SET at = 0", []).is_err());
    conn.execute("UPDATE unit SET stage = 5 WHERE id = 2", []).unwrap();
    std::fs::remove_file(&scratch).unwrap();
    let error = check_replay(&place.path, &scratch).unwrap_err();
    assert!(matches!(&error, Error::ReplayDiffers(what) if what.contains("unit.stage")), "{error}");
}

/// What `compare_replay` finds after `sql` was run on a journal of two units.
async fn divergence(sql: &str) -> Result<Option<String>, Error> {
    let place = place();
    let journal = open(&place);
    journal.submit(vec![page(&["a", "b"])]).await.unwrap();
    journal.submit(vec![advance(1, Stage::Mapped, "t1")]).await.unwrap();
    journal.close();
    let conn = rusqlite::Connection::open(&place.path).unwrap();
    conn.execute_batch(sql).unwrap();
    let replayed = compare_replay(&place.path, std::path::Path::new(""))?;
    Ok(replayed.difference.map(|found| found.to_string()))
}

#[tokio::test]
async fn the_first_difference_is_told_by_table_row_and_column() {
    for (sql, told) in [
        ("", None),
        (
            "UPDATE unit SET target_key = 't9' WHERE id = 1",
            Some(r#"unit.target_key of id 1: the cache says "t9", the log says "t1""#),
        ),
        ("DELETE FROM unit WHERE id = 1", Some("unit: the cache lacks id 1")),
        (
            "INSERT INTO alias VALUES ('user', 'email:aaron@example.com', 2)",
            Some(
                r#"alias: the cache has kind "user", alias "email:aaron@example.com", unit 2, which the log knows nothing of"#,
            ),
        ),
        (
            "INSERT INTO alias VALUES ('user', 'email:eve@example.com', 1)",
            Some(
                r#"alias: the cache has kind "user", alias "email:eve@example.com", unit 1, which the log knows nothing of"#,
            ),
        ),
        ("DELETE FROM checkpoint", Some(r#"checkpoint: the cache lacks kind "user""#)),
    ] {
        assert_eq!(divergence(sql).await.unwrap().as_deref(), told, "{sql}");
    }
}

#[tokio::test]
async fn a_cache_is_derived_anew_from_a_sound_log_only() {
    let place = place();
    let journal = open(&place);
    journal.submit(vec![page(&["a", "b"])]).await.unwrap();
    let refused = repair_cache(&place.path).unwrap_err();
    assert!(matches!(refused, Error::Locked { .. }), "{refused}");
    journal.close();
    let scratch = std::path::Path::new("");
    let tamper = |sql: &str| {
        let conn = rusqlite::Connection::open(&place.path).unwrap();
        conn.execute_batch(sql).unwrap();
    };
    tamper("DELETE FROM alias; UPDATE unit SET stage = 3; DELETE FROM checkpoint");
    assert!(check_replay(&place.path, scratch).is_err());
    assert_eq!(repair_cache(&place.path).unwrap(), Replay { entries: 3, units: 2 });
    check_replay(&place.path, scratch).unwrap();

    tamper(
        "DROP TRIGGER entry_is_append_only_update; UPDATE entry SET unit = 9, event = 'held' WHERE seq = 2",
    );
    let before = std::fs::read(&place.path).unwrap();
    let refused = repair_cache(&place.path).unwrap_err();
    assert!(matches!(refused, Error::Damaged(_)), "{refused}");
    assert_eq!(std::fs::read(&place.path).unwrap(), before);
}

#[tokio::test]
async fn a_log_that_cannot_have_happened_is_damage_and_names_the_entry() {
    let forge = |sql: &str| format!("DROP TRIGGER entry_is_append_only_update; {sql}");
    for (sql, told) in [
        ("UPDATE entry SET event = 'done' WHERE seq = 4", "entry 4"),
        ("UPDATE entry SET to_stage = 9 WHERE seq = 4", "entry 4"),
        ("UPDATE entry SET from_stage = 2 WHERE seq = 4", "entry 4"),
        ("UPDATE entry SET event = 'failed' WHERE seq = 4", "entry 4"),
        ("UPDATE entry SET detail = '{\"target' WHERE seq = 4", "entry 4"),
        ("UPDATE entry SET unit = 7 WHERE seq = 4", "entry 4"),
        ("UPDATE entry SET unit = 1 WHERE seq = 2", "entry 2"),
        ("UPDATE entry SET event = 'nonsense' WHERE seq = 4", "entry 4"),
        ("UPDATE entry SET event = x'ff' || 'a' WHERE seq = 1", "entry 1"),
    ] {
        let error = divergence(&forge(sql)).await.unwrap_err();
        let Error::Damaged(what) = &error else { panic!("{sql}: {error:?}") };
        assert!(what.contains(told), "{sql}: {what}");
    }
}

#[tokio::test]
async fn the_log_is_read_by_pages_in_either_order_and_narrowed() {
    let place = place();
    let journal = open(&place);
    let names: Vec<_> = (0..20).map(|number| format!("u{number}")).collect();
    journal
        .submit(vec![page(&names.iter().map(String::as_str).collect::<Vec<_>>())])
        .await
        .unwrap();
    for unit in 1..=10 {
        let failure = Failure::new(if unit % 2 == 0 { "even" } else { "odd" }, "even is odd");
        let change = Change::failure(UnitId(unit), Event::Failed, failure, Vec::new());
        journal.submit(vec![change]).await.unwrap();
    }
    let reader = journal.reader().unwrap();
    let all = |filter: &LogFilter| {
        let (mut found, mut from) = (Vec::new(), None);
        loop {
            let page = reader.log(filter, from, 3).unwrap();
            assert!(page.entries.len() <= 3);
            found.extend(page.entries);
            from = page.next;
            if from.is_none() {
                return found;
            }
        }
    };
    let seqs = |filter: &LogFilter| all(filter).iter().map(|one| one.seq).collect::<Vec<_>>();
    let everything = LogFilter::default();
    assert_eq!(seqs(&everything), (1..=31).collect::<Vec<_>>());
    let newest_first = LogFilter { newest_first: true, ..LogFilter::default() };
    assert_eq!(seqs(&newest_first), (1..=31).rev().collect::<Vec<_>>());
    let odd = LogFilter { code: Some("odd".into()), ..LogFilter::default() };
    let odd = all(&odd);
    assert_eq!(odd.len(), 5, "the word in a message is no code");
    assert!(odd.iter().all(|one| one.detail["failure"]["code"] == "odd"));
    let one = LogFilter { units: Some(vec![UnitId(2)]), ..LogFilter::default() };
    let story = all(&one);
    assert_eq!(story.len(), 2);
    assert_eq!(story[0].unit, Some((USER, "u1".to_owned())));
    assert_eq!((&story[0].detail, story[1].event.as_str()), (&json!(null), "failed"));
    let none = LogFilter { units: Some(Vec::new()), ..LogFilter::default() };
    assert!(seqs(&none).is_empty());
    let pages = LogFilter { event: Some("page".into()), ..LogFilter::default() };
    assert_eq!(seqs(&pages), [21]);
    let users = LogFilter { kind: Some(USER), ..LogFilter::default() };
    assert_eq!(seqs(&users).len(), 30);
    let at = story[0].at;
    let before = LogFilter { until: Some(at), ..LogFilter::default() };
    let since = LogFilter { since: Some(at), ..LogFilter::default() };
    assert_eq!((seqs(&before).len(), seqs(&since).len()), (0, 31));
}

#[tokio::test]
async fn a_journal_is_bound_to_its_migration_and_to_one_run() {
    let place = place();
    let journal = open(&place);
    let other = Journal::open(&place.path, &setup("ins_a"), Arc::new(SystemClock));
    let Err(Error::Locked { owner }) = other else { panic!("two runs at once") };
    assert!(owner.contains(&format!("process {}", std::process::id())), "{owner}");
    assert!(is_running(&place.path));
    journal.close();
    assert!(!is_running(&place.path));

    let other = Journal::open(&place.path, &setup("ins_b"), Arc::new(SystemClock));
    let Err(Error::OtherMigration { differences }) = other else { panic!("another migration") };
    assert_eq!(
        differences,
        [Difference {
            what: "source instance".into(),
            journal: Some("ins_a".into()),
            found: Some("ins_b".into())
        }]
    );
    assert!(open(&place).resumed());
}

#[tokio::test]
async fn foreign_and_damaged_files_are_named() {
    let place = place();
    std::fs::write(&place.path, "hello, this is certainly not a database").unwrap();
    let error = Journal::open(&place.path, &setup("a"), Arc::new(SystemClock)).unwrap_err();
    assert!(matches!(error, Error::NotAJournal { .. }), "{error}");

    std::fs::remove_file(&place.path).unwrap();
    let conn = rusqlite::Connection::open(&place.path).unwrap();
    conn.execute_batch("CREATE TABLE users (id)").unwrap();
    drop(conn);
    let error = Journal::open(&place.path, &setup("a"), Arc::new(SystemClock)).unwrap_err();
    assert!(matches!(error, Error::NotAJournal { .. }), "{error}");

    let missing = Reader::open(&place.path.with_extension("missing")).unwrap_err();
    assert!(matches!(missing, Error::Missing(_)), "{missing}");
}

#[tokio::test]
async fn a_held_unit_is_released_by_what_it_waits_for_and_blocks_others_meanwhile() {
    let place = place();
    let journal = open(&place);
    journal.submit(vec![page(&["a", "b", "c"])]).await.unwrap();
    let wait = crate::unit::Wait {
        code: "user_failed".into(),
        kind: USER,
        key: Some("b".into()),
        scope: None,
        stage: Stage::Mapped,
        parts: 3,
        example: None,
    };
    let block = crate::unit::Block { kind: USER, key: "c".into() };
    journal.submit(vec![Change::hold(UnitId(1), vec![wait], vec![block])]).await.unwrap();
    let reader = journal.reader().unwrap();
    assert_eq!(reader.releasable(UnitId(0), 10).unwrap(), []);
    assert_eq!(reader.blocked(&USER, &["a".into(), "c".into()]).unwrap().len(), 1);
    assert_eq!(reader.unit(UnitId(1)).unwrap().state.condition, Condition::Held);

    journal.submit(vec![advance(2, Stage::Mapped, "tb")]).await.unwrap();
    assert_eq!(reader.releasable(UnitId(0), 10).unwrap(), [UnitId(1)]);
    journal.submit(vec![Change::step(UnitId(1), Event::Released)]).await.unwrap();
    assert!(reader.blocked(&USER, &["c".into()]).unwrap().is_empty());
    assert!(reader.waits(UnitId(1)).unwrap().is_empty());
}

#[tokio::test]
async fn that_nothing_of_an_intent_is_there_outlives_the_process() {
    use Event::{Absent, Intended, NotSent, Partly, Unknown};
    let past = [
        // A probe's word counts until the next intent, whatever came before.
        (vec![Intended], false),
        (vec![Intended, Absent], true),
        (vec![Intended, Unknown, Absent], true),
        (vec![Intended, Absent, Intended], false),
        // So does that a request never took effect, if nothing can be there of those before it.
        (vec![Intended, NotSent], true),
        (vec![Intended, Absent, Intended, NotSent], true),
        (vec![Intended, Partly, Intended, NotSent], false),
        // Going on to another stage, or back, begins anew.
        (vec![Intended, Absent, Event::Advanced(Stage::Created)], false),
        (vec![Intended, Absent, Event::Reverted(Stage::Exported)], false),
        // What becomes of an undo says nothing of the way forth.
        (vec![Event::Advanced(Stage::Created), Event::UndoIntended, Absent], false),
        (vec![Intended, Absent, Event::UndoIntended, Event::NotSent], true),
    ];
    for (events, void) in past {
        let place = place();
        let journal = open(&place);
        journal.submit(vec![page(&["a"])]).await.unwrap();
        for event in &events {
            let detail = Detail { data: Some(json!({})), ..Detail::default() };
            journal
                .submit(vec![Change::Step { unit: UnitId(1), event: *event, detail }])
                .await
                .unwrap_or_else(|error| panic!("{events:?}: {error}"));
        }
        journal.close();
        let unit = Reader::open(&place.path).unwrap().unit(UnitId(1)).unwrap();
        assert_eq!(unit.intent_void, void, "{events:?}");
        check_replay(&place.path, &place.path.with_extension("scratch")).unwrap();
    }
}

#[tokio::test]
async fn a_journal_of_format_1_is_brought_up_to_date_by_whoever_opens_it() {
    let place = place();
    let old = std::path::Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../tests/formats/format-1.journal");
    std::fs::copy(old, &place.path).unwrap();
    let reader = Reader::open(&place.path).unwrap();
    let counts = reader.counts().unwrap();
    assert_eq!(counts[&USER].moving[&Stage::Verified], 12);
    // What format 2 knows of an effect is derived from the old log.
    let users = reader.standing_at_least(&USER, Stage::Verified, UnitId(0), 20).unwrap();
    assert_eq!(users.len(), 12);
    for user in users {
        assert!(user.effect.unwrap().intent.unwrap()["external_id"].is_string());
    }
    let checked = check_replay(&place.path, &place.path.with_extension("scratch")).unwrap();
    assert_eq!((checked.entries, checked.units), (83, 14));
}

#[tokio::test]
async fn a_page_of_units_with_much_to_say_is_short_and_none_is_left_out() {
    let place = place();
    let journal = open(&place);
    let names: Vec<String> = (0..40).map(|number| format!("unit {number}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    journal.submit(vec![page(&names)]).await.unwrap();
    for unit in 1..=40 {
        let detail = Detail { data: Some(json!("x".repeat(60_000))), ..Detail::default() };
        let event = Event::Advanced(Stage::Created);
        journal.submit(vec![Change::Step { unit: UnitId(unit), event, detail }]).await.unwrap();
    }
    let reader = Reader::open(&place.path).unwrap();
    type Ask = fn(&Reader, UnitId) -> Result<Vec<crate::Unit>, Error>;
    let asks: [Ask; 2] = [
        |reader, after| reader.standing_at_least(&USER, Stage::Exported, after, 1000),
        |reader, after| reader.ready(&USER, Stage::Created, after, 1000),
    ];
    for ask in asks {
        let (mut all, mut longest) = (Vec::new(), 0);
        loop {
            let after = all.last().copied().unwrap_or(UnitId(0));
            let page = ask(&reader, after).unwrap();
            if page.is_empty() {
                break;
            }
            longest = longest.max(page.len());
            all.extend(page.into_iter().map(|unit| unit.id));
        }
        assert_eq!(all, (1..=40).map(UnitId).collect::<Vec<_>>());
        // 256 kB of what was said, at 60 kB each.
        assert_eq!(longest, 5);
    }
}
