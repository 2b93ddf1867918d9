//! What the suites share: an emulator with two instances, the client over it, a journal and the
//! engine.
#![allow(dead_code, unreachable_pub, missing_docs, clippy::unwrap_used)]

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rehome_clerk::undo::Attached;
use rehome_clerk::wire::Wire;
use rehome_clerk::{
    Connection, CreateUsers, DeleteUsers, HttpWire, MapUsers, Reader, Transport, UserPolicy,
    UserSource, Writer,
};
use rehome_core::backoff::Backoff;
use rehome_core::clock::{Clock, SystemClock};
use rehome_core::engine::{Engine, Finish, Interrupt, Settings};
use rehome_core::journal::{Journal, Setup};
use rehome_core::pacer::{Pacer, Rate};
use rehome_core::progress::Unwatched;
use rehome_core::{Halt, Unit};
use rehome_emulator::{Emulator, EmulatorConfig, InstanceConfig};
use secrecy::SecretString;

pub const KEY: &str = "sk_test_secretsecretsecret";

/// Fast enough not to matter.
pub const RATE: Rate = Rate { requests: 2000, window: Duration::from_secs(1) };

pub fn quick() -> Backoff {
    Backoff { first: Duration::from_millis(2), cap: Duration::from_millis(20), attempts: 8 }
}

pub fn connection(url: &str, key: &str) -> Connection {
    let mut connection = Connection::new(url, SecretString::from(key.to_owned()));
    connection.timeout = Duration::from_millis(1500);
    connection
}

pub fn transport_over(wire: impl Wire + 'static, pacer: Arc<Pacer>) -> Arc<Transport> {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    Arc::new(Transport::new("target Clerk instance", Box::new(wire), pacer, clock))
}

pub fn transport(url: &str, key: &str) -> Arc<Transport> {
    let wire = HttpWire::new(&connection(url, key)).unwrap();
    transport_over(wire, Arc::new(Pacer::new(RATE, 1.0)))
}

pub fn reader(transport: &Arc<Transport>) -> Reader {
    Reader::with_backoff(Arc::clone(transport), quick())
}

/// Two instances, and the client of each.
pub struct World {
    pub emulator: Emulator,
    pub source: Arc<Transport>,
    pub target: Arc<Transport>,
    /// Users in one page of the export.
    pub page: usize,
}

impl World {
    pub async fn start() -> Self {
        let instances =
            vec![InstanceConfig::development("source"), InstanceConfig::production("target")];
        let keys: Vec<_> = instances.iter().map(|one| one.secret_key.clone()).collect();
        let config = EmulatorConfig { instances, ..EmulatorConfig::default() };
        let emulator = Emulator::start(config).await.unwrap();
        let url = emulator.clerk_url();
        let source = transport(&url, &keys[0]);
        let target = transport(&url, &keys[1]);
        Self { emulator, source, target, page: 50 }
    }

    pub fn source(&self) -> Arc<rehome_emulator::Instance> {
        self.emulator.instance("source").unwrap()
    }

    pub fn target(&self) -> Arc<rehome_emulator::Instance> {
        self.emulator.instance("target").unwrap()
    }

    /// One run over the journal at `path`.
    pub async fn run(&self, path: &Path, policy: UserPolicy) -> Result<Finish, Halt> {
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let setup = Setup { name: "test".into(), ..Setup::default() };
        let journal = Arc::new(Journal::open(path, &setup, Arc::clone(&clock))?);
        let knowledge = Arc::new(journal.reader()?);
        let writer = Writer::new(Arc::clone(&self.target), reader(&self.target));
        let create = CreateUsers::new(writer, knowledge.clone(), policy.clone())
            .with_settle_time(Duration::from_millis(300));
        let map = MapUsers::new(reader(&self.target), knowledge, policy);
        let settings = Settings { backoff: quick(), ..Settings::default() };
        Engine::new(journal, Arc::new(Unwatched), settings)
            .source(Arc::new(UserSource::new(reader(&self.source)).with_page(self.page)))
            .transition(Arc::new(create))
            .transition(Arc::new(map))
            .run(&Interrupt::default())
            .await
    }

    /// One run back over the journal at `path`: doubts of the way forth first, as a rollback
    /// does it.
    pub async fn run_back(
        &self,
        path: &Path,
        change: impl FnOnce(DeleteUsers) -> DeleteUsers,
        attached: Arc<dyn Attached>,
    ) -> Result<Finish, Halt> {
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let setup = Setup { name: "test".into(), ..Setup::default() };
        let journal = Arc::new(Journal::open(path, &setup, Arc::clone(&clock))?);
        let writer = || Writer::new(Arc::clone(&self.target), reader(&self.target));
        let settle = Duration::from_millis(300);
        let policy = UserPolicy::default();
        let knowledge = Arc::new(journal.reader()?);
        let create = CreateUsers::new(writer(), knowledge, policy.clone());
        let settings = Settings { backoff: quick(), ..Settings::default() };
        let doubts = Settings { only_doubts: true, ..settings.clone() };
        Engine::new(Arc::clone(&journal), Arc::new(Unwatched), doubts)
            .transition(Arc::new(create.with_settle_time(settle).with_flight_time(settle)))
            .run(&Interrupt::default())
            .await?;
        let delete = DeleteUsers::new(writer(), policy, attached).with_settle_time(settle);
        Engine::new(journal, Arc::new(Unwatched), settings)
            .transition(Arc::new(change(delete)))
            .run(&Interrupt::default())
            .await
    }
}

pub fn units(path: &Path) -> Vec<Unit> {
    use rehome_core::{Stage, UnitId};
    let reader = rehome_core::journal::Reader::open(path).unwrap();
    let mut units: Vec<Unit> = Vec::new();
    loop {
        let after = units.last().map_or(UnitId(0), |unit| unit.id);
        let page =
            reader.standing_at_least(&rehome_clerk::USER, Stage::Exported, after, 1_000).unwrap();
        if page.is_empty() {
            return units;
        }
        units.extend(page);
    }
}

pub fn unit(path: &Path, source: &str) -> Unit {
    units(path).into_iter().find(|unit| unit.source_key == source).unwrap()
}

pub fn code(unit: &Unit) -> &str {
    unit.failure.as_ref().map_or("", |failure| failure.code.as_str())
}
