//! A source that is made from the units of another begins when that one is at its end.

use super::*;

const SHEAF: Kind = Kind::new("sheaf");

/// Finds one unit: all things that the journal knows when it is first asked.
struct Sheaves(Arc<Journal>);

impl Source for Sheaves {
    fn kind(&self) -> Kind {
        SHEAF
    }

    fn goes_on(&self) -> bool {
        true
    }

    fn follows(&self) -> Option<Kind> {
        Some(THING)
    }

    fn next_page<'a>(&'a self, cursor: Option<Value>) -> BoxFuture<'a, Result<Page, Halt>> {
        Box::pin(async move {
            let reader = self.0.reader()?;
            let last = UnitId(cursor.and_then(|cursor| cursor.as_i64()).unwrap_or(0));
            let found = reader.between(&THING, last, UnitId(i64::MAX), 1000)?;
            let end = found.last().map_or(last, |thing| thing.id);
            let sheaf = Exported {
                source_key: format!("{} things", found.len()),
                scope: String::new(),
                label: None,
                aliases: vec![],
                data: json!({}),
            };
            let units = if found.is_empty() { vec![] } else { vec![sheaf] };
            Ok(Page { done: units.is_empty(), units, cursor: json!(end.0), total: None })
        })
    }
}

/// The sheaves that the journal knows after a run over `count` things.
async fn sheaves(journal: &Arc<Journal>, things: Option<usize>) -> Vec<String> {
    let mut engine = Engine::new(Arc::clone(journal), Arc::new(Unwatched), Settings::default())
        .source(Arc::new(Sheaves(Arc::clone(journal))));
    if let Some(count) = things {
        engine = engine.source(Arc::new(Growing(Things { kind: THING, count })));
    }
    assert_eq!(engine.run(&Interrupt::default()).await.unwrap(), Finish::Quiescent);
    let reader = journal.reader().unwrap();
    let units = reader.standing_at_least(&SHEAF, Stage::Exported, UnitId(0), 10).unwrap();
    units.into_iter().map(|unit| unit.source_key).collect()
}

/// Things to which others come later.
struct Growing(Things);

impl Source for Growing {
    fn kind(&self) -> Kind {
        self.0.kind()
    }

    fn goes_on(&self) -> bool {
        true
    }

    fn next_page<'a>(&'a self, cursor: Option<Value>) -> BoxFuture<'a, Result<Page, Halt>> {
        self.0.next_page(cursor)
    }
}

#[tokio::test(start_paused = true)]
async fn it_begins_when_the_other_is_at_its_end_in_this_run() {
    let dir = tempfile::tempdir().unwrap();
    let journal = open(&dir);
    assert_eq!(sheaves(&journal, Some(230)).await, ["230 things"]);
    // The other is at its end from before, and has more all the same.
    assert_eq!(sheaves(&journal, Some(300)).await, ["230 things", "70 things"]);
    assert_eq!(sheaves(&journal, None).await, ["230 things", "70 things"], "nobody to follow");
}

#[tokio::test(start_paused = true)]
async fn it_does_not_wait_when_the_run_stops_before() {
    let dir = tempfile::tempdir().unwrap();
    let journal = open(&dir);
    let engine = Engine::new(Arc::clone(&journal), Arc::new(Unwatched), Settings::default())
        .source(Arc::new(Sheaves(Arc::clone(&journal))))
        .source(Arc::new(Stuck));
    let interrupt = Interrupt::default();
    let stop = interrupt.clone();
    tokio::spawn(async move {
        tokio::time::sleep(Duration::from_secs(1)).await;
        stop.throw();
    });
    assert_eq!(engine.run(&interrupt).await.unwrap(), Finish::Interrupted);
    assert!(journal.reader().unwrap().checkpoint(&SHEAF).unwrap().is_none());
}

#[tokio::test(start_paused = true)]
async fn it_does_not_begin_when_the_other_has_failed() {
    let dir = tempfile::tempdir().unwrap();
    let journal = open_inline(&dir);
    let engine = Engine::new(Arc::clone(&journal), Arc::new(Unwatched), Settings::default())
        .source(Arc::new(Sheaves(Arc::clone(&journal))))
        .source(Arc::new(Broken));
    let halt = engine.run(&Interrupt::default()).await.unwrap_err();
    assert!(halt.to_string().contains("no pages today"), "{halt}");
    assert!(journal.reader().unwrap().checkpoint(&SHEAF).unwrap().is_none());
}

/// Things whose source answers with an error.
struct Broken;

impl Source for Broken {
    fn kind(&self) -> Kind {
        THING
    }

    fn next_page<'a>(&'a self, _: Option<Value>) -> BoxFuture<'a, Result<Page, Halt>> {
        Box::pin(std::future::ready(Err(Halt::Bug("no pages today".to_owned()))))
    }
}

/// Things whose source does not answer.
struct Stuck;

impl Source for Stuck {
    fn kind(&self) -> Kind {
        THING
    }

    fn next_page<'a>(&'a self, _: Option<Value>) -> BoxFuture<'a, Result<Page, Halt>> {
        Box::pin(std::future::pending())
    }
}
