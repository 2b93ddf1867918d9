//! The order in which a lane takes units, and that none is left behind.

use super::scripted::{Scripted, alone, exported};
use super::*;
use crate::journal::{Change, Detail};

fn created(unit: i64) -> Change {
    let detail = Detail { target: Some(format!("t{unit}")), ..Detail::default() };
    Change::Step { unit: UnitId(unit), event: Event::Advanced(Stage::Created), detail }
}

/// A journal of two things, of which some have a counterpart.
async fn two(dir: &tempfile::TempDir, with: &[i64]) -> Arc<Journal> {
    let journal = exported(dir, 2).await;
    journal.submit(with.iter().map(|unit| created(*unit)).collect()).await.unwrap();
    journal
}

#[tokio::test(start_paused = true)]
async fn a_unit_that_is_left_alone_does_not_keep_the_next_from_its_turn() {
    let dir = tempfile::tempdir().unwrap();
    let journal = two(&dir, &[1, 2]).await;
    let back = Way::Back { to: Stage::Exported, scope: None };
    let all_but_the_first = Scripted::new(1).going(back).deciding(|unit, _| match unit.id {
        UnitId(1) => Prepared::Leave,
        _ => Prepared::Advance(Done::default()),
    });
    let engine = alone(&journal, all_but_the_first);
    assert_eq!(engine.run(&Interrupt::default()).await.unwrap(), Finish::Quiescent);
    let reader = journal.reader().unwrap();
    let stands = |unit| reader.unit(UnitId(unit)).unwrap().state;
    assert_eq!(stands(1), State::new(Stage::Created, Condition::Ready));
    assert_eq!(stands(2), State::new(Stage::Exported, Condition::RolledBack));
}

#[tokio::test(start_paused = true)]
async fn a_unit_that_becomes_ready_behind_the_others_is_not_left_there() {
    let dir = tempfile::tempdir().unwrap();
    let journal = two(&dir, &[2]).await;
    let (journal_of_others, way) =
        (Arc::clone(&journal), Way::Forth { from: Stage::Created, to: Stage::Mapped });
    // While the worker looks at the second, the first becomes ready behind its back.
    let overtaken = Scripted::new(20).going(way).preparing(move |units, _| {
        let (journal, many) = (Arc::clone(&journal_of_others), units.len());
        let second = units.iter().any(|unit| unit.id == UnitId(2));
        Box::pin(async move {
            if second {
                journal.submit(vec![created(1)]).await?;
            }
            Ok((0..many).map(|_| Prepared::Advance(Done::default())).collect())
        })
    });
    let engine = alone(&journal, overtaken);
    assert_eq!(engine.run(&Interrupt::default()).await.unwrap(), Finish::Quiescent);
    assert_eq!(standing(&journal, &THING).mapped, 2);
}

#[tokio::test(start_paused = true)]
async fn a_batch_is_never_larger_than_the_worker_takes() {
    let dir = tempfile::tempdir().unwrap();
    let journal = exported(&dir, 4).await;
    journal.submit(vec![created(3)]).await.unwrap();
    let (journal_of_others, way) =
        (Arc::clone(&journal), Way::Forth { from: Stage::Created, to: Stage::Mapped });
    let batches: Arc<Mutex<Vec<Vec<i64>>>> = Arc::default();
    let noted = Arc::clone(&batches);
    // While the worker looks at the third, one becomes ready before it and two behind it.
    let overtaken = Scripted::new(2).going(way).preparing(move |units, _| {
        let (journal, many) = (Arc::clone(&journal_of_others), units.len());
        let batch: Vec<_> = units.iter().map(|unit| unit.id.0).collect();
        let others = if batch == [3] { vec![created(1), created(2), created(4)] } else { vec![] };
        noted.lock().unwrap().push(batch);
        Box::pin(async move {
            journal.submit(others).await?;
            Ok((0..many).map(|_| Prepared::Advance(Done::default())).collect())
        })
    });
    let engine = alone(&journal, overtaken);
    assert_eq!(engine.run(&Interrupt::default()).await.unwrap(), Finish::Quiescent);
    assert_eq!(*batches.lock().unwrap(), [vec![3], vec![1, 4], vec![2]]);
}
