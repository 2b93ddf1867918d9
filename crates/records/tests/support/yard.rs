//! There through the real engine and the real journal: databases, users who are mapped as soon as
//! they are seen, a target that loses answers or dies at a chosen request.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rehome_core::clock::SystemClock;
use rehome_core::engine::{Engine, Finish, Interrupt, Settings};
use rehome_core::journal::{Change, Journal, Reader, Setup};
use rehome_core::pacer::{Pacer, Rate};
use rehome_core::progress::Unwatched;
use rehome_core::{Condition, Event, Knowledge, Stage, Transition, Unit, UnitId};
use rehome_emulator::d1::{D1, DatabaseSpec, router};
use rehome_records::d1::{D1Config, D1Reader, D1Writer};
use rehome_records::ids::IdColumns;
use rehome_records::import::ImportSpans;
use rehome_records::layout::Layout;
use rehome_records::plan::{TablePlan, plan};
use rehome_records::policy::{Conflicts, OnConflict, Unmapped};
use rehome_records::rekey::KeyColumns;
use rehome_records::schema::{self, Selection};
use rehome_records::span::{SPAN, SpanSource};
use rehome_records::sqlite::{SqliteReader, SqliteWriter};
use rehome_records::undo::{SettleUndos, Undoable};
use rehome_records::verify::RowAudit;
use rehome_records::{Limits, ReadDatabase, WriteDatabase};
use tokio::sync::Notify;

pub(crate) use super::trouble::Trouble;
use super::trouble::Troubled;
use super::users::{MapAll, Users};

type Open = Box<dyn Fn() -> (Arc<dyn ReadDatabase>, Arc<dyn WriteDatabase>)>;

/// Two databases and a journal.
pub(crate) struct Yard {
    pub(crate) folder: tempfile::TempDir,
    ids: BTreeMap<String, String>,
    pub(crate) users: Vec<String>,
    pub(crate) adopted: Vec<String>,
    pub(crate) failing: Vec<String>,
    pub(crate) trouble: Trouble,
    pub(crate) limits: Option<Limits>,
    pub(crate) writes: u64,
    pub(crate) conflicts: Conflicts,
    pub(crate) references: BTreeMap<String, String>,
    /// Whether time stands still but for waiting; not with a network in between.
    paused: bool,
    open: Open,
}

impl Yard {
    /// Over two SQLite files of one schema.
    pub(crate) fn new(schema: &str, ids: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        for name in ["source.sqlite", "target.sqlite"] {
            rusqlite::Connection::open(path(name)).unwrap().execute_batch(schema).unwrap();
        }
        let (source, target) = (path("source.sqlite"), path("target.sqlite"));
        let open: Open = Box::new(move || {
            let reader = Arc::new(SqliteReader::open(&source).unwrap()) as Arc<dyn ReadDatabase>;
            let writer = Arc::new(SqliteWriter::open(&target).unwrap()) as Arc<dyn WriteDatabase>;
            (reader, writer)
        });
        Self::over(folder, ids, open)
    }

    /// The same two files behind the emulated D1, over HTTP.
    pub(crate) fn over_d1(schema: &str, ids: &[&str]) -> Self {
        let mut yard = Self::new(schema, ids);
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let spec = |uuid: &str, name: &str| DatabaseSpec {
            uuid: uuid.to_owned(),
            name: name.to_owned(),
            path: Some(yard.path(&format!("{name}.sqlite"))),
        };
        let databases = vec![
            spec("11111111-1111-4111-8111-111111111111", "source"),
            spec("22222222-2222-4222-8222-222222222222", "target"),
        ];
        let d1 = Arc::new(D1::new("acc", "token", databases).unwrap());
        let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).unwrap();
        let url = format!("http://{}/client/v4", listener.local_addr().unwrap());
        runtime.spawn(async move { axum::serve(listener, router(d1)).await });
        yard.paused = false;
        yard.open = Box::new(move || {
            let config = |name: &str| {
                let rate = Rate { requests: 1_000_000, window: Duration::from_secs(1) };
                let mut config =
                    D1Config::new("acc", name, "token".to_owned().into(), "the D1 database");
                config.api_url.clone_from(&url);
                config.pacer = Arc::new(Pacer::new(rate, 1.0));
                config
            };
            let reader = runtime.block_on(D1Reader::connect(config("source"))).unwrap();
            let writer = runtime.block_on(D1Writer::connect(config("target"))).unwrap();
            (Arc::new(reader) as Arc<dyn ReadDatabase>, Arc::new(writer) as Arc<dyn WriteDatabase>)
        });
        yard
    }

    fn over(folder: tempfile::TempDir, ids: &[&str], open: Open) -> Self {
        Self {
            folder,
            ids: ids.iter().map(|place| ((*place).to_owned(), "user".to_owned())).collect(),
            users: Vec::new(),
            adopted: Vec::new(),
            failing: Vec::new(),
            trouble: Trouble::None,
            limits: None,
            writes: 0,
            conflicts: Conflicts::default(),
            references: BTreeMap::new(),
            paused: true,
            open,
        }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn execute(&self, name: &str, sql: &str) {
        let connection = rusqlite::Connection::open(self.path(name)).unwrap();
        connection.pragma_update(None, "foreign_keys", false).unwrap();
        connection.execute_batch(sql).unwrap();
    }

    /// The application writes: with foreign keys on.
    pub(crate) fn live(&self, sql: &str) {
        let connection = rusqlite::Connection::open(self.path("target.sqlite")).unwrap();
        connection.pragma_update(None, "foreign_keys", true).unwrap();
        connection.execute_batch(sql).unwrap();
    }

    pub(super) fn journal(&self) -> Arc<Journal> {
        let setup = Setup { name: "there and back".to_owned(), pins: BTreeMap::new() };
        Arc::new(Journal::open(&self.path("journal"), &setup, Arc::new(SystemClock)).unwrap())
    }

    pub(crate) fn reader(&self) -> Reader {
        Reader::open(&self.path("journal")).unwrap()
    }

    /// What becomes of rows whose place is taken, by table.
    pub(crate) fn on_conflict(&mut self, tables: &[(&str, OnConflict)]) {
        self.conflicts.tables =
            tables.iter().map(|(table, policy)| ((*table).to_owned(), *policy)).collect();
    }

    /// A person has decided about everything that failed.
    pub(crate) fn retry(&mut self) {
        self.live_through(async |yard, _, _| {
            let journal = yard.journal();
            let reader = journal.reader().unwrap();
            let failed = reader.in_condition(&[Condition::Failed], UnitId(0), 10_000).unwrap();
            for unit in failed {
                journal.submit(vec![Change::step(unit, Event::Retried)]).await.unwrap();
            }
        })
        .unwrap();
    }

    /// What a plan of all tables foretells, by what the journal knows.
    pub(crate) fn foretell(&mut self) -> BTreeMap<String, TablePlan> {
        self.live_through(async |yard, source, target| {
            let layout = yard.layout(source.as_ref(), target.as_ref()).await;
            let reader = Arc::new(yard.journal().reader().unwrap());
            let knowledge = Arc::clone(&reader) as Arc<dyn Knowledge>;
            let plans = plan(source, target, knowledge, layout, Unmapped::Hold, Some(reader));
            let plans = plans.await.unwrap();
            plans.into_iter().map(|plan| (plan.table.clone(), plan)).collect()
        })
        .unwrap()
    }

    /// The databases and how rows travel between them, outside of any run.
    pub(crate) async fn databases(&self) -> (Arc<dyn WriteDatabase>, Arc<Layout>) {
        let (source, target) = (self.open)();
        let layout = self.layout(source.as_ref(), target.as_ref()).await;
        (target, layout)
    }

    pub(super) async fn layout(
        &self,
        source: &dyn ReadDatabase,
        target: &dyn ReadDatabase,
    ) -> Arc<Layout> {
        let mut from = schema::read(source, &Selection::default()).await.unwrap();
        let all = Selection { tables: None, exclude: Vec::new() };
        let mut to = schema::read(target, &all).await.unwrap();
        let ids = IdColumns::resolve(&self.ids, &from).unwrap();
        let wrong = schema::declare(&self.references, &mut from, &mut to);
        assert_eq!(wrong, []);
        let (keys, _) = KeyColumns::resolve(&self.conflicts, &from, &to, &ids);
        let layout = Layout::new(&from, &to, &ids).with_conflicts(&self.conflicts);
        Arc::new(layout.with_keys(&keys))
    }

    /// One run of the process, which may die on the way. Says whether it lived.
    pub(super) fn live_through<F, R>(&mut self, run: F) -> Option<R>
    where
        F: AsyncFnOnce(&Self, Arc<dyn ReadDatabase>, Arc<dyn WriteDatabase>) -> R,
    {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .start_paused(self.paused)
            .build()
            .unwrap();
        let (source, inner) = (self.open)();
        let death = Arc::new(Notify::new());
        let target = Arc::new(Troubled {
            inner,
            trouble: self.trouble,
            writes: AtomicU64::new(0),
            seen: Mutex::default(),
            death: Arc::clone(&death),
            meddle: {
                let path = self.path("target.sqlite");
                Box::new(move |sql| {
                    let connection = rusqlite::Connection::open(&path).unwrap();
                    connection.pragma_update(None, "foreign_keys", true).unwrap();
                    connection.execute_batch(sql).unwrap();
                })
            },
            limits: self.limits,
        });
        let writer = Arc::clone(&target) as Arc<dyn WriteDatabase>;
        let result = runtime.block_on(async {
            tokio::select! {
                result = run(self, source, writer) => Some(result),
                () = death.notified() => None,
            }
        });
        drop(runtime);
        self.writes = target.writes.load(Ordering::SeqCst);
        result
    }

    /// What a verification of all tables finds: equal rows, and all others in words.
    pub(crate) fn verify(&mut self) -> (u64, Vec<String>) {
        self.live_through(async |yard, source, target| {
            let layout = yard.layout(source.as_ref(), target.as_ref()).await;
            let knowledge = Arc::new(yard.reader()) as Arc<dyn Knowledge>;
            let spans = Arc::new(yard.reader()) as Arc<dyn Undoable>;
            let audit = RowAudit::new(source, target, knowledge, layout, Unmapped::Hold);
            let audit = audit.knowing(spans);
            let mut found = Vec::new();
            let mut note = |table: &str, key: &str, finding| {
                found.push(format!("{table} {key} {finding:?}"));
            };
            let reports = audit.tables(&mut note).await.unwrap();
            let broken = audit.broken_references().await.unwrap();
            found.extend(broken.iter().map(|one| format!("{one:?}")));
            (reports.iter().map(|report| report.equal).sum(), found)
        })
        .unwrap()
    }

    /// Forth as far as it goes.
    pub(crate) fn forth(&mut self) -> Option<()> {
        self.live_through(async |yard, source, target| yard.forth_once(source, target).await)
    }

    async fn forth_once(&self, source: Arc<dyn ReadDatabase>, target: Arc<dyn WriteDatabase>) {
        let layout = self.layout(source.as_ref(), target.as_ref()).await;
        let journal = self.journal();
        let doubts = Settings { only_doubts: true, ..Settings::default() };
        let undone = SettleUndos::new(Arc::clone(&target) as _, Arc::clone(&layout));
        run(Engine::new(Arc::clone(&journal), Arc::new(Unwatched), doubts)
            .transition(Arc::new(undone)))
        .await;
        let beyond = Arc::clone(&target) as Arc<dyn ReadDatabase>;
        let map = MapAll { adopted: self.adopted.clone(), failing: self.failing.clone() };
        let import = ImportSpans::new(
            Arc::clone(&source),
            target,
            Arc::new(journal.reader().unwrap()) as Arc<dyn Knowledge>,
            Arc::clone(&layout),
            Unmapped::Hold,
            2,
        );
        let (map, import) = (Arc::new(map), Arc::new(import));
        // What was held while its parents were on their way is looked at when a run starts, and
        // with two spans at once that may happen again: twice, and then until a run changes nothing.
        let mut before = None;
        for runs in 0..8 {
            let standing = Some(journal.reader().unwrap().scopes(&SPAN).unwrap());
            if runs >= 2 && standing == before {
                break;
            }
            before = standing;
            let engine =
                Engine::new(Arc::clone(&journal), Arc::new(Unwatched), Settings::default())
                    .source(Arc::new(Users(self.users.clone())))
                    .source(Arc::new(
                        SpanSource::new(Arc::clone(&source), Arc::clone(&layout))
                            .moving_beyond(Arc::clone(&beyond)),
                    ))
                    .transition(Arc::clone(&map) as Arc<dyn Transition>)
                    .transition(Arc::clone(&import) as Arc<dyn Transition>);
            run(engine).await;
        }
    }

    /// The source has moved on: every span that has arrived goes again.
    pub(crate) fn reopen(&mut self) {
        let spans = self.spans();
        self.live_through(async |yard, _, _| {
            let again = |unit: &Unit| {
                Change::reopened(unit.id, Stage::Exported, "moved on".to_owned(), None)
            };
            yard.journal().submit(spans.iter().map(again).collect()).await.unwrap();
        })
        .unwrap();
    }

    /// All spans as the journal has them.
    pub(crate) fn spans(&self) -> Vec<Unit> {
        let reader = self.reader();
        let mut all: Vec<Unit> = Vec::new();
        // A page holds so many bytes, whatever it was asked for.
        loop {
            let after = all.last().map_or(UnitId(0), |unit| unit.id);
            let page = reader.standing_at_least(&SPAN, Stage::Exported, after, 10_000).unwrap();
            if page.is_empty() {
                return all;
            }
            all.extend(page);
        }
    }

    /// That every span has arrived whole.
    pub(crate) fn assert_all_there(&self) {
        let reader = self.reader();
        let waits = reader.failures(None, UnitId(0), 100).unwrap();
        for unit in self.spans() {
            let (key, state) = (&unit.source_key, unit.state);
            assert_eq!(state.stage, Stage::Imported, "{key}: {:?} {waits:?}", unit.failure);
        }
    }

    /// Everything that the target holds, value by value with its storage class.
    pub(crate) fn dump(&self) -> Vec<String> {
        dump(&rusqlite::Connection::open(self.path("target.sqlite")).unwrap())
    }
}

/// Everything that a database holds. AUTOINCREMENT's counters are not taken back.
pub(crate) fn dump(connection: &rusqlite::Connection) -> Vec<String> {
    let strings = |sql: &str| -> Vec<String> {
        let mut statement = connection.prepare(sql).unwrap();
        let rows = statement.query_map([], |row| row.get(0)).unwrap();
        rows.map(Result::unwrap).collect()
    };
    let mut all = Vec::new();
    for table in strings(
        "SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite_%'
         AND name NOT LIKE '\\_cf\\_%' ESCAPE '\\' ORDER BY name",
    ) {
        let columns: Vec<_> = strings(&format!("SELECT name FROM pragma_table_info('{table}')"))
            .into_iter()
            .map(|name| format!("typeof(\"{name}\") || ' ' || quote(\"{name}\")"))
            .collect();
        let rows = strings(&format!("SELECT {} FROM \"{table}\"", columns.join(" || '|' || ")));
        let mut rows: Vec<_> = rows.into_iter().map(|row| format!("{table}: {row}")).collect();
        rows.sort();
        all.extend(rows);
    }
    all
}

pub(super) async fn run(engine: Engine) {
    let finish = Box::pin(engine.run(&Interrupt::default())).await.unwrap();
    assert_eq!(finish, Finish::Quiescent);
}
