//! What a lane never does: hold back more than it may, move what is not its own any more, follow
//! a decision that its direction does not know.

use std::future::ready;

use super::scripted::{Scripted, alone, exported};
use super::*;
use crate::journal::Change;
use crate::progress::Progress;

/// How many of two hundred things a worker is asked about, twenty at a time, who waits for
/// something with all of them or is put off with all of them.
async fn asked(waits: bool) -> usize {
    let dir = tempfile::tempdir().unwrap();
    let journal = open_inline(&dir);
    let asked: Arc<Mutex<usize>> = Arc::default();
    let count = Arc::clone(&asked);
    let hour = Duration::from_secs(3600);
    let worker = Scripted::new(20)
        .deciding(move |_, _| {
            *count.lock().unwrap() += 1;
            match waits {
                true => Prepared::Wait(WaitFor::Export(PART)),
                false => Prepared::Effect { intent: json!({}), payload: Box::new(()) },
            }
        })
        .applying(move |_| {
            let reason = "busy".to_owned();
            ready(Outcome::NotSent { reason, retry_after: Some(hour), halt: None })
        });
    let engine = alone(&journal, worker)
        .source(Arc::new(Things { kind: THING, count: 200 }))
        .source(Arc::new(Silent));
    let interrupt = Interrupt::default();
    let stop = async {
        tokio::time::sleep(Duration::from_secs(10)).await;
        interrupt.throw();
    };
    let (end, ()) = tokio::join!(engine.run(&interrupt), stop);
    assert_eq!(end.unwrap(), Finish::Interrupted);
    let asked = asked.lock().unwrap();
    *asked
}

/// Parts whose source does not answer.
struct Silent;

impl Source for Silent {
    fn kind(&self) -> Kind {
        PART
    }

    fn next_page<'a>(&'a self, _: Option<Value>) -> BoxFuture<'a, Result<Page, Halt>> {
        Box::pin(std::future::pending())
    }
}

#[tokio::test(start_paused = true)]
async fn no_more_than_four_batches_are_held_back_in_memory() {
    assert_eq!(asked(true).await, 80);
    // Those in the hands of a performer come on top.
    let put_off = asked(false).await;
    assert!((80..=100).contains(&put_off), "{put_off}");
}

#[tokio::test(start_paused = true)]
async fn what_a_person_takes_out_while_it_is_put_off_is_not_tried_again() {
    let dir = tempfile::tempdir().unwrap();
    let journal = exported(&dir, 1).await;
    let attempts: Arc<Mutex<u32>> = Arc::default();
    let counted = Arc::clone(&attempts);
    let busy = Scripted::new(1).applying(move |_| {
        *counted.lock().unwrap() += 1;
        let (reason, retry_after) = ("busy".to_owned(), Some(Duration::from_secs(1)));
        ready(Outcome::NotSent { reason, retry_after, halt: None })
    });
    let engine = alone(&journal, busy);
    let taken_out = async {
        tokio::time::sleep(Duration::from_millis(500)).await;
        journal.submit(vec![Change::step(UnitId(1), Event::Skipped)]).await.unwrap();
    };
    let interrupt = Interrupt::default();
    let (end, ()) = tokio::join!(engine.run(&interrupt), taken_out);
    assert_eq!(end.unwrap(), Finish::Quiescent);
    assert_eq!(*attempts.lock().unwrap(), 1);
    assert_eq!(standing(&journal, &THING).skipped[&Stage::Exported], 1);
}

#[tokio::test(start_paused = true)]
async fn a_decision_of_the_other_direction_is_a_bug() {
    let forth = || Way::Forth { from: Stage::Created, to: Stage::Mapped };
    let back = || Way::Back { to: Stage::Exported, scope: None };
    type Decide = fn() -> Prepared;
    let decisions: [(Way, Decide); 4] = [
        (forth(), || Prepared::Leave),
        (back(), || Prepared::Wait(WaitFor::Export(PART))),
        (back(), || Prepared::Hold { waits: vec![], blocks: vec![] }),
        (back(), || Prepared::Skip(Failure::new("left out", "no"))),
    ];
    for (way, decide) in decisions {
        let dir = tempfile::tempdir().unwrap();
        let journal = exported(&dir, 1).await;
        let there = Change::step(UnitId(1), Event::Advanced(Stage::Created));
        journal.submit(vec![there]).await.unwrap();
        let confused = Scripted::new(1).going(way.clone()).deciding(move |_, _| decide());
        let end = alone(&journal, confused).run(&Interrupt::default()).await;
        let Err(Halt::Bug(what)) = end else { panic!("{way:?}: {end:?}") };
        assert!(what.contains("other direction"), "{what}");
    }
}

/// What is told of three things that go back without an effect, of which so many leave something.
async fn told(leaving: i64) -> Vec<String> {
    let dir = tempfile::tempdir().unwrap();
    let journal = exported(&dir, 3).await;
    let there = [1, 2, 3].map(|id| Change::step(UnitId(id), Event::Advanced(Stage::Created)));
    journal.submit(there.into()).await.unwrap();
    let told = Arc::new(Mutex::new(Vec::new()));
    let ear = Arc::clone(&told);
    let watcher = move |progress: &Progress| match progress {
        Progress::Advanced { units, .. } => ear.lock().unwrap().push(format!("{units} are back")),
        Progress::Failed { source_key, .. } => {
            ear.lock().unwrap().push(format!("{source_key} is stuck"));
        }
        _ => {}
    };
    let back = Way::Back { to: Stage::Exported, scope: None };
    let worker = Scripted::new(3).going(back).deciding(move |unit, _| {
        let rest = Rest::Failed { failure: Failure::new("used", "a part of it"), blocks: vec![] };
        let rest = (unit.id.0 <= leaving).then_some(rest);
        Prepared::Advance(Done { rest, ..Done::default() })
    });
    let engine = Engine::new(Arc::clone(&journal), Arc::new(watcher), Settings::default())
        .transition(Arc::new(worker));
    assert_eq!(engine.run(&Interrupt::default()).await.unwrap(), Finish::Quiescent);
    let told = told.lock().unwrap();
    told.clone()
}

#[tokio::test(start_paused = true)]
async fn units_advance_together_and_one_that_leaves_something_is_named() {
    assert_eq!(told(0).await, ["3 are back"]);
    assert_eq!(told(1).await, ["thing0 is stuck", "1 are back", "1 are back"]);
}
