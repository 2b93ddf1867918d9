//! Nothing about anybody is left in a scrubbed journal, and nothing else is gone.

use super::*;

/// Words that stand for people, each in another part of the journal.
const PEOPLE: [&str; 9] = [
    "@example.com",
    "Profile of",
    "told by the target",
    "typed by a person",
    "row of somebody",
    "cursor of somebody",
    "noted about somebody",
    "renamed since",
    "waits in the row of",
];

async fn lived(place: &Place) {
    let journal = open(place);
    let units = ["a", "b", "c"].map(|name| Exported {
        source_key: name.to_owned(),
        scope: String::new(),
        label: Some(format!("{name}@example.com")),
        aliases: vec![format!("email:{name}@example.com")],
        data: json!({ "profile": format!("Profile of {name}, {}", "x".repeat(5000)) }),
    });
    let page = Change::Page {
        kind: USER,
        units: units.to_vec(),
        cursor: json!({ "after": "cursor of somebody" }),
        done: true,
        total: Some(3),
    };
    journal.submit(vec![page]).await.unwrap();
    let intent = json!({ "rows": ["row of somebody"] });
    journal.submit(vec![Change::intent(UnitId(1), Event::Intended, intent)]).await.unwrap();
    let detail = Detail {
        target: Some("target_a".into()),
        origin: Some(Origin::Created),
        data: Some(json!({ "left": "row of somebody" })),
        ..Detail::default()
    };
    let done = Change::Step { unit: UnitId(1), event: Event::Done(Stage::Mapped), detail };
    journal.submit(vec![done]).await.unwrap();
    journal.submit(vec![advance(2, Stage::Mapped, "target_b")]).await.unwrap();
    let renewed = Exported {
        label: Some("b-now@example.com".to_owned()),
        aliases: vec!["email:b-now@example.com".to_owned()],
        data: json!({ "profile": "Profile of b as renamed since" }),
        ..units[1].clone()
    };
    let gone = units[1].aliases.clone();
    let why = "typed by a person".to_owned();
    let again = Change::reopened(UnitId(2), Stage::Created, why, Some((renewed, gone)));
    journal.submit(vec![again]).await.unwrap();
    let wait = crate::unit::Wait {
        code: "user_failed".into(),
        kind: USER,
        key: Some("a".into()),
        scope: None,
        stage: Stage::Mapped,
        parts: 1,
        example: Some("c waits in the row of a".into()),
    };
    journal.submit(vec![Change::hold(UnitId(3), vec![wait], Vec::new())]).await.unwrap();
    let failure = Failure::new("refused", "told by the target").with_hint("typed by a person");
    let out = Change::failure(UnitId(3), Event::Skipped, failure, Vec::new());
    journal.submit(vec![out]).await.unwrap();
    let note = json!({ "source": 7, "about": "noted about somebody", "deep": { "n": 1, "s": "@example.com" } });
    journal.submit(vec![Change::Note { event: "requests", detail: note }]).await.unwrap();
    journal.close();
}

fn keep(_: &Kind, _: &serde_json::Value) -> Kept {
    Kept::default()
}

/// Every byte of every file in the journal's folder, deleted ones that are still open left out.
fn everything(place: &Place) -> Vec<u8> {
    let files = std::fs::read_dir(place.path.parent().unwrap()).unwrap();
    files.flat_map(|file| std::fs::read(file.unwrap().path()).unwrap()).collect()
}

fn holds(bytes: &[u8], word: &str) -> bool {
    bytes.windows(word.len()).any(|part| part == word.as_bytes())
}

#[tokio::test]
async fn people_are_gone_from_every_byte_and_the_history_is_whole() {
    let place = place();
    lived(&place).await;
    let before = everything(&place);
    for word in PEOPLE {
        assert!(holds(&before, word), "{word} is there to be found");
    }
    let reader = Reader::open(&place.path).unwrap();
    let log = |reader: &Reader| reader.log(&LogFilter::default(), None, 100).unwrap().entries;
    let (told, pairs) = (log(&reader), reader.mappings(&USER, UnitId(0), 9).unwrap());
    let counts = reader.counts().unwrap();
    drop(reader);
    // What the old file's pages become can be seen through another name of theirs.
    let old = place.path.with_extension("old");
    std::fs::hard_link(&place.path, &old).unwrap();

    let done = scrub(&place.path, &SystemClock, &keep).unwrap();
    assert_eq!((done.entries, done.units), (told.len() as u64, 3));
    assert!(done.after < done.before, "{done:?}");
    assert_eq!(done.after, std::fs::metadata(&place.path).unwrap().len());
    assert!(std::fs::read(&old).unwrap().iter().all(|byte| *byte == 0), "old pages are zeros");
    std::fs::remove_file(&old).unwrap();
    let after = everything(&place);
    for word in PEOPLE {
        assert!(!holds(&after, word), "{word} is left");
    }

    check_replay(&place.path, std::path::Path::new("")).unwrap();
    let reader = Reader::open(&place.path).unwrap();
    let scrubbed = log(&reader);
    assert_eq!(scrubbed.len(), told.len() + 1);
    for (before, after) in told.iter().zip(&scrubbed) {
        assert_eq!((before.seq, before.at, &before.unit), (after.seq, after.at, &after.unit));
        assert_eq!((&before.event, before.from, before.to), (&after.event, after.from, after.to));
        assert_eq!(before.detail["target"], after.detail["target"]);
        assert_eq!(before.detail["failure"]["code"], after.detail["failure"]["code"]);
    }
    let last = scrubbed.last().unwrap();
    assert_eq!((last.event.as_str(), &last.detail), ("scrubbed", &json!({ "entries": 11 })));
    let (_, requests) = reader.note("requests").unwrap().unwrap();
    assert_eq!(requests, json!({ "source": 7, "deep": { "n": 1 } }));
    assert_eq!(reader.counts().unwrap(), counts);
    let same = |pair: &Mapping| (pair.source_key.clone(), pair.target_key.clone(), pair.origin);
    let kept = reader.mappings(&USER, UnitId(0), 9).unwrap();
    assert_eq!(
        kept.iter().map(same).collect::<Vec<_>>(),
        pairs.iter().map(same).collect::<Vec<_>>()
    );
    assert!(kept.iter().all(|pair| pair.label.is_none()));
    assert!(reader.setup().unwrap().unwrap().scrubbed().is_some());
}

#[tokio::test]
async fn what_is_kept_of_a_unit_is_all_that_is_known_of_it_from_then_on() {
    let place = place();
    lived(&place).await;
    let keep = |kind: &Kind, data: &serde_json::Value| {
        let renewed = data["profile"].as_str().is_some_and(|text| text.contains("renamed since"));
        Kept { label: Some(format!("a {kind}")), data: json!({ "renewed": renewed }) }
    };
    scrub(&place.path, &SystemClock, &keep).unwrap();
    let reader = Reader::open(&place.path).unwrap();
    for (unit, renewed) in [(1, false), (2, true)] {
        let unit = reader.unit(UnitId(unit)).unwrap();
        assert_eq!(
            (unit.label.as_deref(), unit.data),
            (Some("a user"), json!({ "renewed": renewed }))
        );
    }
}

#[tokio::test]
async fn a_scrubbed_journal_leads_nothing_any_more() {
    let place = place();
    lived(&place).await;
    scrub(&place.path, &SystemClock, &keep).unwrap();
    let clock = || Arc::new(SystemClock);
    for refused in [
        Journal::open(&place.path, &setup("ins_a"), clock()).unwrap_err(),
        Journal::open_existing(&place.path, clock()).unwrap_err(),
        scrub(&place.path, &SystemClock, &keep).unwrap_err(),
    ] {
        assert!(matches!(refused, Error::Scrubbed { .. }), "{refused:?}");
    }
}

#[tokio::test]
async fn a_journal_that_is_in_use_or_unsound_is_left_as_it_is() {
    let place = place();
    lived(&place).await;
    let journal = open(&place);
    let refused = scrub(&place.path, &SystemClock, &keep).unwrap_err();
    assert!(matches!(refused, Error::Locked { .. }), "{refused:?}");
    journal.close();

    let reader = Reader::open(&place.path).unwrap();
    reader.counts().unwrap();
    let refused = scrub(&place.path, &SystemClock, &keep).unwrap_err();
    assert!(matches!(refused, Error::Read(_)), "{refused:?}");
    assert_eq!(reader.history(UnitId(1)).unwrap().len(), 3);
    drop(reader);

    let conn = rusqlite::Connection::open(&place.path).unwrap();
    conn.execute("UPDATE unit SET origin = 'adopted' WHERE id = 1", []).unwrap();
    drop(conn);
    let refused = scrub(&place.path, &SystemClock, &keep).unwrap_err();
    assert!(matches!(refused, Error::ReplayDiffers(_)), "{refused:?}");
    assert!(holds(&everything(&place), "Profile of"));
    assert!(!schema::beside(&place.path, ".scrubbed").exists());
}

#[tokio::test]
async fn what_a_killed_run_left_in_the_write_ahead_log_is_gone_as_well() {
    let alive = place();
    lived(&alive).await;
    let journal = open(&alive);
    journal.submit(vec![page(&["d"])]).await.unwrap();
    let killed = place();
    for suffix in ["", "-wal"] {
        let [from, to] = [&alive, &killed].map(|place| schema::beside(&place.path, suffix));
        std::fs::copy(&from, &to).unwrap();
        std::fs::hard_link(&to, schema::beside(&to, ".old")).unwrap();
    }
    let old =
        ["", "-wal"].map(|suffix| schema::beside(&schema::beside(&killed.path, suffix), ".old"));
    assert!(holds(&std::fs::read(&old[1]).unwrap(), "d@example.com"));
    let done = scrub(&killed.path, &SystemClock, &keep).unwrap();
    let old = old.map(|path| std::fs::read(path).unwrap());
    assert_eq!(done.before, (old[0].len() + old[1].len()) as u64);
    assert!(old[1].len() > 4096 && old.iter().flatten().all(|byte| *byte == 0));
    assert_eq!(done.units, 4);
}
