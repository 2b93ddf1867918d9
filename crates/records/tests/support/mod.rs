//! What the suites of this crate share: databases in a folder, an in-memory journal, and the few
//! lines of an engine that drive one worker.
#![allow(dead_code, reason = "each suite uses its own part")]
#![allow(clippy::disallowed_methods, reason = "a test sets up its own databases")]

pub(crate) mod back;
pub(crate) mod cloud;
pub(crate) mod one;
pub(crate) mod picture;
pub(crate) mod shapes;
pub(crate) mod town;
pub(crate) mod trouble;
pub(crate) mod users;
pub(crate) mod yard;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use rehome_core::journal::Error;
use rehome_core::{
    Condition, Done, Exported, Failure, Kind, Knowledge, Known, Origin, Outcome, Pass, Prepared,
    Rest, Source as _, Stage, State, Transition, Unit, UnitId, Wait,
};
use rehome_records::ids::IdColumns;
use rehome_records::import::ImportSpans;
use rehome_records::layout::Layout;
use rehome_records::policy::Unmapped;
use rehome_records::schema::{self, Selection};
use rehome_records::span::{SPAN, SpanSource};
use rehome_records::sqlite::{SqliteReader, SqliteWriter};
use rehome_records::{ReadDatabase, Select, Value, WriteDatabase};

pub(crate) const USER: Kind = Kind::new("user");

/// A unit as a source has just found it.
pub(crate) fn fresh(id: i64, kind: Kind, found: Exported) -> Unit {
    Unit {
        id: UnitId(id),
        kind,
        scope: found.scope,
        source_key: found.source_key,
        target_key: None,
        origin: None,
        label: found.label,
        state: State::new(Stage::Exported, Condition::Ready),
        attempts: 0,
        failure: None,
        data: found.data,
        intent: None,
        intent_void: false,
        effect: None,
    }
}

/// A journal of a few units, in memory.
#[derive(Default)]
pub(crate) struct Memory {
    known: Mutex<BTreeMap<(String, String), Known>>,
    pub(crate) blocked: Mutex<HashSet<String>>,
    pub(crate) unsettled: Mutex<HashSet<String>>,
}

impl Memory {
    /// A user that is mapped to `target`.
    pub(crate) fn mapped(&self, source: &str, target: &str, origin: Origin) {
        let state = State::new(Stage::Mapped, Condition::Ready);
        self.put(source, Some(target), Some(origin), state, true);
    }

    pub(crate) fn put(
        &self,
        source: &str,
        target: Option<&str>,
        origin: Option<Origin>,
        state: State,
        selected: bool,
    ) {
        let mut known = self.known.lock().unwrap();
        let id = UnitId(known.len() as i64 + 1);
        let entry = Known {
            id,
            source_key: source.to_owned(),
            target_key: target.map(str::to_owned),
            origin,
            state,
            selected,
        };
        known.insert(("user".to_owned(), source.to_owned()), entry);
    }
}

impl Memory {
    /// A user who was known has got a counterpart.
    pub(crate) fn has_come(&self, source: &str, target: &str) {
        let mut known = self.known.lock().unwrap();
        let one = known.get_mut(&("user".to_owned(), source.to_owned())).unwrap();
        one.target_key = Some(target.to_owned());
        one.origin = Some(Origin::Created);
        one.state = State::new(Stage::Mapped, Condition::Ready);
    }
}

impl Knowledge for Memory {
    fn by_source(&self, kind: &Kind, keys: &[String]) -> Result<HashMap<String, Known>, Error> {
        let known = self.known.lock().unwrap();
        Ok(keys
            .iter()
            .filter_map(|key| known.get(&(kind.to_string(), key.clone())))
            .map(|known| (known.source_key.clone(), known.clone()))
            .collect())
    }

    fn by_target(&self, kind: &Kind, keys: &[String]) -> Result<HashMap<String, Known>, Error> {
        let known = self.known.lock().unwrap();
        Ok(known
            .iter()
            .filter(|((name, _), _)| name == kind.as_str())
            .filter_map(|(_, known)| Some((known.target_key.clone()?, known.clone())))
            .filter(|(target, _)| keys.contains(target))
            .collect())
    }

    fn between(
        &self,
        kind: &Kind,
        after: UnitId,
        last: UnitId,
        limit: usize,
    ) -> Result<Vec<Known>, Error> {
        let known = self.known.lock().unwrap();
        let mut found: Vec<_> = known
            .iter()
            .filter(|((name, _), one)| name == kind.as_str() && one.id > after && one.id <= last)
            .map(|(_, one)| one.clone())
            .collect();
        found.sort_by_key(|one| one.id);
        found.truncate(limit);
        Ok(found)
    }

    fn claimants(
        &self,
        _kind: &Kind,
        _aliases: &[String],
    ) -> Result<HashMap<String, Vec<Known>>, Error> {
        Ok(HashMap::new())
    }

    fn cursor(&self, _kind: &Kind) -> Result<Option<serde_json::Value>, Error> {
        Ok(None)
    }

    fn target_keys(&self, _kind: &Kind) -> Result<Vec<String>, Error> {
        Ok(Vec::new())
    }

    fn export_done(&self, _kind: &Kind) -> Result<bool, Error> {
        Ok(true)
    }

    fn blocked(&self, _kind: &Kind, keys: &[String]) -> Result<HashSet<String>, Error> {
        let blocked = self.blocked.lock().unwrap();
        Ok(keys.iter().filter(|key| blocked.contains(*key)).cloned().collect())
    }

    fn settled(&self, _kind: &Kind, scope: Option<&str>, _stage: Stage) -> Result<bool, Error> {
        let unsettled = self.unsettled.lock().unwrap();
        Ok(scope.map_or(unsettled.is_empty(), |scope| !unsettled.contains(scope)))
    }
}

/// Where a span ended up.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum End {
    Imported,
    Held(Vec<Wait>),
    Failed(Failure),
    Waiting,
}

/// Two databases of one schema and a journal between them.
pub(crate) struct World {
    pub(crate) folder: tempfile::TempDir,
    pub(crate) journal: Arc<Memory>,
    ids: BTreeMap<String, String>,
    pub(crate) policy: Unmapped,
    pub(crate) units: Vec<Unit>,
    pub(crate) blocks: Vec<String>,
    worker: Option<Arc<ImportSpans>>,
}

impl World {
    pub(crate) fn new(schema: &str, ids: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        for name in ["source.sqlite", "target.sqlite"] {
            rusqlite::Connection::open(folder.path().join(name))
                .unwrap()
                .execute_batch(schema)
                .unwrap();
        }
        Self {
            folder,
            journal: Arc::new(Memory::default()),
            ids: ids.iter().map(|place| ((*place).to_owned(), "user".to_owned())).collect(),
            policy: Unmapped::Hold,
            units: Vec::new(),
            blocks: Vec::new(),
            worker: None,
        }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn source(&self, sql: &str) {
        self.execute("source.sqlite", sql);
    }

    pub(crate) fn target(&self, sql: &str) {
        self.execute("target.sqlite", sql);
    }

    fn execute(&self, name: &str, sql: &str) {
        let connection = rusqlite::Connection::open(self.path(name)).unwrap();
        connection.pragma_update(None, "foreign_keys", false).unwrap();
        connection.execute_batch(sql).unwrap();
    }

    pub(crate) fn reader(&self, name: &str) -> Arc<dyn ReadDatabase> {
        Arc::new(SqliteReader::open(&self.path(name)).unwrap())
    }

    pub(crate) async fn layout(&self) -> Arc<Layout> {
        let ours = Selection::default();
        let source = schema::read(self.reader("source.sqlite").as_ref(), &ours).await.unwrap();
        let all = Selection { tables: None, exclude: Vec::new() };
        let target = schema::read(self.reader("target.sqlite").as_ref(), &all).await.unwrap();
        let ids = IdColumns::resolve(&self.ids, &source).unwrap();
        Arc::new(Layout::new(&source, &target, &ids))
    }

    /// Reads all spans of the source into units.
    pub(crate) async fn export(&mut self) {
        let source = SpanSource::new(self.reader("source.sqlite"), self.layout().await);
        let mut cursor = None;
        loop {
            let page = source.next_page(cursor).await.unwrap();
            for found in page.units {
                self.units.push(fresh(1000 + self.units.len() as i64, SPAN, found));
            }
            if page.done {
                return;
            }
            cursor = Some(page.cursor);
        }
    }

    /// A worker without memory, as after a restart.
    pub(crate) fn restart(&mut self) {
        self.worker = None;
    }

    pub(crate) async fn worker(&mut self, writer: Arc<dyn WriteDatabase>) -> Arc<ImportSpans> {
        if self.worker.is_none() {
            self.worker = Some(Arc::new(ImportSpans::new(
                self.reader("source.sqlite"),
                writer,
                Arc::clone(&self.journal) as Arc<dyn Knowledge>,
                self.layout().await,
                self.policy,
                2,
            )));
        }
        self.worker.clone().unwrap()
    }

    pub(crate) fn writer(&self) -> Arc<dyn WriteDatabase> {
        Arc::new(SqliteWriter::open(&self.path("target.sqlite")).unwrap())
    }

    /// Exports once, then drives every span once through the worker.
    pub(crate) async fn import(&mut self) -> Vec<End> {
        if self.units.is_empty() {
            self.export().await;
        }
        let writer = self.writer();
        let worker = self.worker(writer).await;
        let mut ends = Vec::new();
        self.blocks.clear();
        for index in 0..self.units.len() {
            ends.push(self.drive(&worker, index, Pass::Patient).await.0);
        }
        ends
    }

    /// One span through prepare and apply; refused by races it is prepared again.
    pub(crate) async fn drive(
        &mut self,
        worker: &ImportSpans,
        index: usize,
        pass: Pass,
    ) -> (End, Option<Done>) {
        for _ in 0..10 {
            let unit = self.units[index].clone();
            let prepared = worker.prepare(std::slice::from_ref(&unit), pass).await.unwrap();
            let (intent, payload) = match prepared.into_iter().next().unwrap() {
                Prepared::Advance(done) => return (End::Imported, Some(done)),
                Prepared::Hold { waits, blocks } => {
                    self.blocks.extend(blocks.into_iter().map(|block| block.key));
                    return (End::Held(waits), None);
                }
                Prepared::Fail { failure, blocks } => {
                    self.blocks.extend(blocks.into_iter().map(|block| block.key));
                    return (End::Failed(failure), None);
                }
                Prepared::Wait(_) => return (End::Waiting, None),
                Prepared::Skip(failure) => return (End::Failed(failure), None),
                Prepared::Effect { intent, payload } => (intent, payload),
                Prepared::Leave => panic!("there is no leaving on the way forth"),
            };
            self.units[index].intent = Some(intent);
            self.units[index].attempts += 1;
            let unit = self.units[index].clone();
            match worker.apply(&unit, payload).await {
                Outcome::Done(done) => return (self.end(done.rest.clone()), Some(done)),
                Outcome::NotSent { .. } => {}
                other => panic!("{other:?}"),
            }
        }
        panic!("prepared again and again");
    }

    pub(crate) fn end(&mut self, rest: Option<Rest>) -> End {
        match rest {
            None => End::Imported,
            Some(Rest::More) => panic!("rows are never half done"),
            Some(Rest::Held { waits, blocks }) => {
                self.blocks.extend(blocks.into_iter().map(|block| block.key));
                End::Held(waits)
            }
            Some(Rest::Failed { failure, blocks }) => {
                self.blocks.extend(blocks.into_iter().map(|block| block.key));
                End::Failed(failure)
            }
        }
    }

    /// The answer of the target to one question, as text.
    pub(crate) fn ask(&self, sql: &str) -> Vec<String> {
        let connection = rusqlite::Connection::open(self.path("target.sqlite")).unwrap();
        let mut statement = connection.prepare(sql).unwrap();
        let columns = statement.column_count();
        let rows = statement
            .query_map([], |row| {
                let cells: Vec<String> = (0..columns)
                    .map(|index| match row.get_ref(index).unwrap() {
                        rusqlite::types::ValueRef::Null => "NULL".to_owned(),
                        rusqlite::types::ValueRef::Integer(n) => n.to_string(),
                        rusqlite::types::ValueRef::Real(n) => format!("{n:?}"),
                        rusqlite::types::ValueRef::Text(t) => {
                            String::from_utf8_lossy(t).into_owned()
                        }
                        rusqlite::types::ValueRef::Blob(b) => format!("{b:?}"),
                    })
                    .collect();
                Ok(cells.join("|"))
            })
            .unwrap();
        rows.map(Result::unwrap).collect()
    }

    pub(crate) async fn rows(&self, name: &str, columns: &[&str], rest: &str) -> Vec<Vec<Value>> {
        let query = Select::new(columns.iter().copied(), rest);
        self.reader(name).select(vec![query]).await.unwrap().remove(0)
    }
}
