//! Sources that go on after their end, effects of which there is more, absences that are doubted.

use std::future::ready;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::scripted::{Scripted, alone, exported};
use super::*;
use crate::journal::Change;
use crate::progress::Progress;

/// One unit a page. Behind the second page a newcomer stands that was not there when the first page
/// was read.
struct Growing {
    asked: AtomicUsize,
}

impl Source for Growing {
    fn kind(&self) -> Kind {
        THING
    }

    fn goes_on(&self) -> bool {
        true
    }

    fn next_page<'a>(&'a self, cursor: Option<Value>) -> BoxFuture<'a, Result<Page, Halt>> {
        self.asked.fetch_add(1, Ordering::Relaxed);
        let at = cursor.and_then(|cursor| cursor.as_u64()).unwrap_or(0);
        let unit = Exported {
            source_key: format!("k{at}"),
            scope: String::new(),
            label: None,
            aliases: Vec::new(),
            data: json!({}),
        };
        // The end was at 2 when a reading came there for the first time, and is at 3 afterwards.
        let (units, next) = if at < 3 { (vec![unit], at + 1) } else { (Vec::new(), at) };
        Box::pin(ready(Ok(Page { units, cursor: json!(next), done: next >= 2, total: None })))
    }
}

fn keys(journal: &Journal) -> Vec<String> {
    let units = journal.reader().unwrap().standing_at_least(&THING, Stage::Exported, UnitId(0), 9);
    units.unwrap().into_iter().map(|unit| unit.source_key).collect()
}

async fn read(journal: &Arc<Journal>) {
    let source = Arc::new(Growing { asked: AtomicUsize::new(0) });
    let engine = Engine::new(Arc::clone(journal), Arc::new(Unwatched), Settings::default());
    engine.source(source).run(&Interrupt::default()).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_reading_that_was_interrupted_looks_once_more_behind_its_end() {
    let dir = tempfile::tempdir().unwrap();
    let journal = open_inline(&dir);
    read(&journal).await;
    assert_eq!(keys(&journal), ["k0", "k1"], "whoever comes later is the next run's affair");

    let dir = tempfile::tempdir().unwrap();
    let journal = open_inline(&dir);
    let Page { units, cursor, done, total } =
        Growing { asked: AtomicUsize::new(0) }.next_page(None).await.unwrap();
    assert!(!done);
    let page = Change::Page { kind: THING, units, cursor, done, total };
    journal.submit(vec![page]).await.unwrap();
    read(&journal).await;
    assert_eq!(keys(&journal), ["k0", "k1", "k2"]);
}

/// Gives the same page whenever it is asked, as a source does that is at its end.
struct Same {
    keys: &'static [&'static str],
    cursor: u64,
}

impl Source for Same {
    fn kind(&self) -> Kind {
        THING
    }

    fn goes_on(&self) -> bool {
        true
    }

    fn next_page<'a>(&'a self, _: Option<Value>) -> BoxFuture<'a, Result<Page, Halt>> {
        let units = self.keys.iter().map(|key| Exported {
            source_key: (*key).to_owned(),
            scope: String::new(),
            label: None,
            aliases: Vec::new(),
            data: json!({}),
        });
        let (units, cursor) = (units.collect(), json!(self.cursor));
        Box::pin(ready(Ok(Page { units, cursor, done: true, total: None })))
    }
}

#[tokio::test(start_paused = true)]
async fn a_source_without_news_leaves_no_entry_and_every_other_page_does() {
    let dir = tempfile::tempdir().unwrap();
    let journal = open_inline(&dir);
    let mut told = Vec::new();
    for (keys, cursor) in [
        (["a", "b"].as_slice(), 1),
        (&[], 1),
        (&[], 1),
        // The place to go on from has moved, though nothing was there.
        (&[], 2),
        // Newcomers at the same place, one of them known already.
        (&["b", "c"], 2),
    ] {
        let pages = Arc::new(Mutex::new(Vec::new()));
        let ear = Arc::clone(&pages);
        let watcher = move |progress: &Progress| {
            if let Progress::Exported { new, known, done, .. } = progress {
                assert!(done);
                ear.lock().unwrap().push((*new, *known));
            }
        };
        let engine = Engine::new(Arc::clone(&journal), Arc::new(watcher), Settings::default());
        let engine = engine.source(Arc::new(Same { keys, cursor }));
        engine.run(&Interrupt::default()).await.unwrap();
        let checkpoint = journal.reader().unwrap().checkpoint(&THING).unwrap().unwrap();
        assert_eq!(checkpoint.cursor, json!(cursor));
        told.push(pages.lock().unwrap().clone());
    }
    // How many were new, and how many of the kind are known by then.
    assert_eq!(told, [vec![(2, 2)], vec![], vec![], vec![(0, 2)], vec![(1, 3)]]);
    assert_eq!(keys(&journal), ["a", "b", "c"]);
}

#[tokio::test(start_paused = true)]
async fn an_effect_of_which_there_is_more_is_prepared_anew_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let journal = exported(&dir, 1).await;
    let left = AtomicUsize::new(3);
    let worker = Scripted::new(1).applying(move |key| {
        let more = left.fetch_sub(1, Ordering::Relaxed) > 1;
        ready(Outcome::Done(Done { rest: more.then_some(Rest::More), ..done(key) }))
    });
    let began = tokio::time::Instant::now();
    let engine = alone(&journal, worker);
    assert_eq!(engine.run(&Interrupt::default()).await.unwrap(), Finish::Quiescent);
    assert_eq!(began.elapsed(), Duration::ZERO);
    let story = journal.reader().unwrap().history(UnitId(1)).unwrap();
    let words: Vec<_> = story.iter().map(|entry| entry.event.as_str()).collect();
    assert_eq!(words, ["exported", "intended", "partly", "intended", "partly", "intended", "done"]);
}

#[tokio::test(start_paused = true)]
async fn an_absence_is_doubted_once_for_each_intent() {
    let dir = tempfile::tempdir().unwrap();
    let journal = exported(&dir, 2).await;
    let reader = journal.reader().unwrap();
    let step = async |event| {
        journal.submit(vec![Change::step(UnitId(1), event)]).await.unwrap();
        reader.believed_absent(UnitId(0), 9).unwrap()
    };
    assert_eq!(step(Event::Intended).await, []);
    assert_eq!(step(Event::NotSent).await, [], "nothing left this machine");
    for _ in 0..2 {
        assert_eq!(step(Event::Intended).await, []);
        assert_eq!(step(Event::Unknown).await, []);
        assert_eq!(step(Event::Absent).await, [UnitId(1)]);
        assert_eq!(step(Event::Doubted).await, []);
        assert_eq!(step(Event::Absent).await, [], "what was asked twice is believed");
    }
}
