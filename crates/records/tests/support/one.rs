//! One database whose ids are exchanged where they stand, as a file or as an emulated D1, and the
//! few lines of an engine that drive its one lot there and back.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use rehome_core::{
    Done, Effect, Failure, Knowledge, Origin, Outcome, Pass, Prepared, Probed, Rest, Source as _,
    Transition, Unit,
};
use rehome_records::ids::IdColumns;
use rehome_records::in_place::{
    Accounts, LOT, LotSource, Places, RestoreLots, RewriteLots, inspect,
};
use rehome_records::layout::Layout;
use rehome_records::policy::Unmapped;
use rehome_records::schema::{self, Selection};
use rehome_records::sqlite::SqliteWriter;
use rehome_records::{ReadDatabase, WriteDatabase};

use super::cloud::Cloud;
use super::picture::{Picture, picture};
use super::{Memory, USER, fresh};

/// One database and who is known.
pub(crate) struct World {
    _folder: tempfile::TempDir,
    pub(crate) path: PathBuf,
    ids: BTreeMap<String, String>,
    pub(crate) exclude: Vec<String>,
    pub(crate) memory: Arc<Memory>,
    pub(crate) unit: Option<Unit>,
    /// The emulated D1 over the same file, when that is how the database is reached.
    cloud: Option<Cloud>,
    /// What becomes of the accounts on the way back.
    pub(crate) accounts: Accounts,
}

/// How a lot ended.
#[derive(Debug, PartialEq)]
pub(crate) enum End {
    Done,
    Held,
    Failed(Failure),
}

impl World {
    pub(crate) fn new(sql: &str, ids: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("one.sqlite");
        rusqlite::Connection::open(&path).unwrap().execute_batch(sql).unwrap();
        let ids = ids.iter().map(|place| ((*place).to_owned(), "user".to_owned())).collect();
        let memory = Arc::new(Memory::default());
        Self {
            _folder: folder,
            path,
            ids,
            exclude: Vec::new(),
            memory,
            unit: None,
            cloud: None,
            accounts: Accounts::Go,
        }
    }

    /// Users `old1` to `old<count>`, whose accounts this migration has created.
    pub(crate) fn created(self, count: u32) -> Self {
        for n in 1..=count {
            self.memory.mapped(&format!("old{n}"), &format!("new{n}"), Origin::Created);
        }
        self
    }

    pub(crate) fn sql(&self, sql: &str) {
        let connection = rusqlite::Connection::open(&self.path).unwrap();
        connection.execute_batch(sql).unwrap();
    }

    pub(crate) fn ask(&self, sql: &str) -> Vec<String> {
        let connection = rusqlite::Connection::open(&self.path).unwrap();
        let mut statement = connection.prepare(sql).unwrap();
        let rows = statement.query_map([], |row| row.get::<_, String>(0)).unwrap();
        rows.map(Result::unwrap).collect()
    }

    pub(crate) fn picture(&self) -> Picture {
        picture(&self.path)
    }

    /// The same database, reached as a D1.
    pub(crate) async fn in_the_cloud(mut self) -> Self {
        self.cloud = Some(Cloud::over(&self.path).await);
        self
    }

    pub(crate) async fn writer(&self) -> Arc<dyn WriteDatabase> {
        match &self.cloud {
            Some(cloud) => cloud.writer("badges").await,
            None => Arc::new(SqliteWriter::open(&self.path).unwrap()),
        }
    }

    pub(crate) async fn places(&self) -> Arc<Places> {
        let writer = self.writer().await;
        let reader: &dyn ReadDatabase = writer.as_ref();
        let selection = Selection { tables: None, exclude: self.exclude.clone() };
        let meant = schema::read(reader, &selection).await.unwrap();
        let all = Selection { tables: None, exclude: Vec::new() };
        let whole = schema::read(reader, &all).await.unwrap();
        let ids = IdColumns::resolve(&self.ids, &meant).unwrap();
        let layout = Layout::new(&meant, &whole, &ids);
        Arc::new(Places::read(reader, &layout, &USER).await.unwrap())
    }

    /// The codes of what speaks against it.
    pub(crate) async fn findings(&self) -> Vec<String> {
        let writer = self.writer().await;
        let all = Selection { tables: None, exclude: Vec::new() };
        let whole = schema::read(writer.as_ref(), &all).await.unwrap();
        let found = inspect(&whole, self.places().await.as_ref(), writer.identity().kind);
        found.into_iter().map(|one| one.code).collect()
    }

    /// All users as one lot.
    pub(crate) async fn cut(&mut self) {
        let places = self.places().await;
        let knowledge = Arc::clone(&self.memory) as Arc<dyn Knowledge>;
        let source = LotSource::new(self.writer().await, places, knowledge, Some(1000));
        let page = source.next_page(None).await.unwrap();
        let found = page.units.into_iter().next().unwrap();
        self.unit = Some(fresh(1000, LOT, found));
        assert!(source.next_page(Some(page.cursor)).await.unwrap().done, "there is one lot");
    }

    pub(crate) async fn rewriting(&self) -> RewriteLots {
        let knowledge = Arc::clone(&self.memory) as Arc<dyn Knowledge>;
        RewriteLots::new(self.writer().await, knowledge, self.places().await, Unmapped::Hold)
    }

    pub(crate) async fn restoring(&self) -> RestoreLots {
        let knowledge = Arc::clone(&self.memory) as Arc<dyn Knowledge>;
        RestoreLots::new(self.writer().await, knowledge, self.places().await, self.accounts)
    }

    /// Drives the lot through a worker. `lost`: the answer does not arrive, and is probed for.
    pub(crate) async fn drive(&mut self, worker: &dyn Transition, lost: bool) -> End {
        for _ in 0..10 {
            let unit = self.unit.clone().unwrap();
            let prepared = worker.prepare(std::slice::from_ref(&unit), Pass::Final).await.unwrap();
            let (intent, payload) = match prepared.into_iter().next().unwrap() {
                Prepared::Advance(done) => return self.end(done),
                Prepared::Hold { .. } => return End::Held,
                Prepared::Fail { failure, .. } => return End::Failed(failure),
                Prepared::Effect { intent, payload } => (intent, payload),
                Prepared::Wait(_) | Prepared::Skip(_) | Prepared::Leave => panic!("not here"),
            };
            let unit = self.unit.as_mut().unwrap();
            unit.intent = Some(intent);
            unit.intent_void = false;
            let unit = unit.clone();
            match worker.apply(&unit, payload).await {
                Outcome::Done(_) if lost => {
                    let found = worker.probe(std::slice::from_ref(&unit)).await.unwrap();
                    match found.into_iter().next().unwrap() {
                        Probed::Done(done) => return self.end(done),
                        Probed::Part(part) => drop(self.end(part)),
                        other => panic!("{other:?}"),
                    }
                }
                Outcome::Done(done) => return self.end(done),
                Outcome::NotSent { .. } => self.unit.as_mut().unwrap().intent_void = true,
                other => panic!("{other:?}"),
            }
        }
        panic!("prepared again and again");
    }

    pub(crate) fn end(&mut self, done: Done) -> End {
        let unit = self.unit.as_mut().unwrap();
        let intent = unit.intent.take();
        unit.effect = done.data.map(|data| Effect { intent, data: Some(data) });
        match done.rest {
            None => End::Done,
            Some(Rest::Held { .. }) => End::Held,
            Some(Rest::Failed { failure, .. }) => End::Failed(failure),
            Some(Rest::More) => panic!("not here"),
        }
    }

    pub(crate) async fn forth(&mut self) -> End {
        if self.unit.is_none() {
            self.cut().await;
        }
        let worker = self.rewriting().await;
        self.drive(&worker, false).await
    }

    pub(crate) async fn back(&mut self) -> End {
        let worker = self.restoring().await;
        self.drive(&worker, false).await
    }
}
