//! From a configuration and its keys to remotes that answer.
//!
//! Each remote is first made for reading. The writing side is a second value, made from the
//! same parts by [`Remotes::writing`], which only a run calls.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rehome_clerk::{Connection, Reader, Transport, USER, Writer};
use rehome_core::clock::Clock;
use rehome_core::journal::Setup;
use rehome_core::pacer::{Pacer, Rate};
use rehome_records::d1::{D1Config, D1Reader, D1Writer, LOCAL_RATE, RATE};
use rehome_records::ids::IdColumns;
use rehome_records::in_place::{self, Places};
use rehome_records::layout::Layout;
use rehome_records::rekey::KeyColumns;
use rehome_records::schema::{self, Schema, Selection};
use rehome_records::sqlite::{OpenError, SqliteReader, SqliteWriter};
use rehome_records::{ReadDatabase, WriteDatabase};
use secrecy::{ExposeSecret as _, SecretString};

use crate::config::{
    ClerkConfig, Config, D1Access, D1Database, DatabaseConfig, RecordsConfig, RecordsMode,
    SecretRef,
};
use crate::document::Finding;
use crate::error::Error;
use crate::finding;
use crate::wiring::End;

/// The secrets that a migration needs, resolved by the caller.
#[derive(Clone, Debug)]
pub struct Keys {
    /// The source instance's secret key. Only a rollback does without.
    pub source_clerk: Option<SecretString>,
    /// The target instance's secret key.
    pub target_clerk: SecretString,
    /// The source database's API token, for D1.
    pub source_database: Option<SecretString>,
    /// The target database's API token, for D1.
    pub target_database: Option<SecretString>,
}

/// One Clerk instance, for reading.
pub(crate) struct Instance {
    pub(crate) reader: Reader,
    pub(crate) transport: Arc<Transport>,
    pub(crate) rate: Rate,
    pub(crate) id: String,
    pub(crate) environment: String,
}

/// Both databases, for reading, and how rows travel between them; in place one and the same.
pub(crate) struct Databases {
    pub(crate) source: Arc<dyn ReadDatabase>,
    pub(crate) target: Arc<dyn ReadDatabase>,
    pub(crate) source_schema: Schema,
    pub(crate) ids: IdColumns,
    pub(crate) layout: Arc<Layout>,
    /// Where ids stand, when they are rewritten in place: then both databases are one.
    pub(crate) places: Option<Arc<Places>>,
    /// What was found when the schemas were compared and the ids resolved.
    pub(crate) findings: Vec<Finding>,
    /// Who paces the requests to each.
    pub(crate) pacers: Pacers,
}

/// Who paces the requests to the databases: Cloudflare counts by token, so two databases behind
/// one token share one pacer.
#[derive(Clone)]
pub(crate) struct Pacers {
    pub(crate) source: Arc<Pacer>,
    pub(crate) target: Arc<Pacer>,
}

impl Pacers {
    fn new(source: &DatabaseConfig, target: &DatabaseConfig) -> Self {
        let first = Arc::new(pacer(source));
        let second = match (token(source), token(target)) {
            (Some(one), Some(other)) if one == other => Arc::clone(&first),
            _ => Arc::new(pacer(target)),
        };
        Self { source: first, target: second }
    }
}

/// What Cloudflare tells callers apart by.
fn token(database: &DatabaseConfig) -> Option<(&SecretRef, &str)> {
    match database {
        DatabaseConfig::D1(D1Database { access, api_url, .. }) => match access {
            D1Access::Cloudflare { api_token, .. } => Some((api_token, api_url)),
            D1Access::LocalExplorer => None,
        },
        DatabaseConfig::D1Local { .. } | DatabaseConfig::Sqlite { .. } => None,
    }
}

/// A file is not paced; its pacer gives no turns.
fn pacer(database: &DatabaseConfig) -> Pacer {
    match database {
        DatabaseConfig::D1(D1Database { rate_limit: Some(limit), .. }) => Pacer::new(limit.0, 1.0),
        DatabaseConfig::D1(D1Database { access: D1Access::LocalExplorer, .. }) => {
            Pacer::new(LOCAL_RATE, 1.0)
        }
        // The rest stays with whoever else uses the token.
        DatabaseConfig::D1(D1Database { access: D1Access::Cloudflare { .. }, .. })
        | DatabaseConfig::D1Local { .. }
        | DatabaseConfig::Sqlite { .. } => Pacer::new(RATE, 0.9),
    }
}

/// Everything a migration talks to, for reading.
pub(crate) struct Remotes {
    pub(crate) source: Instance,
    pub(crate) target: Instance,
    pub(crate) databases: Option<Databases>,
}

/// What a run or a rollback may do besides.
pub(crate) struct Writing {
    transport: Arc<Transport>,
    reader: Reader,
    pub(crate) database: Option<Arc<dyn WriteDatabase>>,
}

impl Writing {
    /// Writes to the target instance.
    pub(crate) fn users(&self) -> Writer {
        Writer::new(Arc::clone(&self.transport), self.reader.clone())
    }
}

/// What a journal is bound to: the source instance's id.
pub(crate) const SOURCE_PIN: &str = "source instance";
/// How a person knows the remotes.
pub(crate) const SOURCE_CLERK: &str = "source Clerk instance";
/// See [`SOURCE_CLERK`].
pub(crate) const TARGET_CLERK: &str = "target Clerk instance";
const SOURCE_DATABASE: &str = "source database";
const TARGET_DATABASE: &str = "target database";

impl Remotes {
    /// Connects everything and asks each remote who it is.
    pub(crate) async fn connect(
        config: &Config,
        keys: &Keys,
        clock: &Arc<dyn Clock>,
    ) -> Result<Self, Error> {
        let source = source_instance(config, keys, clock).await?;
        let target = target_instance(config, keys, clock).await?;
        let databases = both_databases(config, keys).await?;
        Ok(Self { source, target, databases })
    }

    /// The writing side.
    pub(crate) async fn writing(&self, config: &Config, keys: &Keys) -> Result<Writing, Error> {
        let database = match (&config.target.database, &self.databases) {
            (Some(target), Some(databases)) => {
                let token = keys.target_database.as_ref();
                let pacer = &databases.pacers.target;
                Some(writing(config, target, token, pacer).await?)
            }
            _ => None,
        };
        let (transport, reader) = (Arc::clone(&self.target.transport), self.target.reader.clone());
        Ok(Writing { transport, reader, database })
    }

    /// What the journal is bound to: the remotes, and every setting that changes what its
    /// entries mean.
    pub(crate) fn setup(&self, config: &Config) -> Setup {
        let users = &config.users;
        let mut pins = BTreeMap::from([
            (SOURCE_PIN.to_owned(), self.source.id.clone()),
            ("target instance".to_owned(), self.target.id.clone()),
            ("users.external_id".to_owned(), word(&users.external_id)),
        ]);
        if let (Some(databases), Some(records)) = (&self.databases, &config.records) {
            let name = |database: &Arc<dyn ReadDatabase>| database.identity().id.clone();
            match records.mode {
                RecordsMode::Copy => {
                    pins.insert("source database".to_owned(), name(&databases.source));
                    pins.insert("target database".to_owned(), name(&databases.target));
                }
                RecordsMode::InPlace => {
                    pins.insert("records.mode".to_owned(), records.mode.as_str().to_owned());
                    pins.insert("database".to_owned(), name(&databases.target));
                }
            }
            pins.insert("records.ids".to_owned(), word(&records.ids));
            pins.insert(
                "tables".to_owned(),
                databases
                    .layout
                    .tables
                    .iter()
                    .map(|table| table.name.as_str())
                    .collect::<Vec<_>>()
                    .join(", "),
            );
            // Where keys move, the entries speak of keys that are not those of the source; and by
            // which references was decided with the first row.
            let rekeyed: Vec<&str> = databases
                .layout
                .tables
                .iter()
                .filter(|table| table.rekeyed().is_some())
                .map(|table| table.name.as_str())
                .collect();
            if !rekeyed.is_empty() {
                pins.insert("rekeyed tables".to_owned(), rekeyed.join(", "));
                if !records.references.is_empty() {
                    pins.insert("records.references".to_owned(), word(&records.references));
                }
            }
        }
        Setup { name: config.migration.name.clone(), pins }
    }
}

/// Connects the source instance.
pub(crate) async fn source_instance(
    config: &Config,
    keys: &Keys,
    clock: &Arc<dyn Clock>,
) -> Result<Instance, Error> {
    let role = SOURCE_CLERK;
    let missing = || Error::Key { role, message: "no key was given".to_owned() };
    let key = keys.source_clerk.as_ref().ok_or_else(missing)?;
    instance(config, End::Source, key, clock).await
}

/// Connects the target instance.
pub(crate) async fn target_instance(
    config: &Config,
    keys: &Keys,
    clock: &Arc<dyn Clock>,
) -> Result<Instance, Error> {
    instance(config, End::Target, &keys.target_clerk, clock).await
}

/// Opens both databases for reading, when the configuration has them.
pub(crate) async fn both_databases(
    config: &Config,
    keys: &Keys,
) -> Result<Option<Databases>, Error> {
    let (Some(target), Some(records)) = (&config.target.database, &config.records) else {
        return Ok(None);
    };
    let source = match (&config.source.database, records.mode) {
        (Some(source), RecordsMode::Copy) => source,
        (None, RecordsMode::Copy) => return Ok(None),
        (_, RecordsMode::InPlace) => return one_database(config, keys, target, records).await,
    };
    let pacers = Pacers::new(source, target);
    let token = keys.source_database.as_ref();
    let source = reading(config, End::Source, source, token, &pacers.source).await?;
    let token = keys.target_database.as_ref();
    let target = reading(config, End::Target, target, token, &pacers.target).await?;
    databases(source, target, records, pacers).await.map(Some)
}

/// A setting as it stands in the configuration.
fn word<T: serde::Serialize>(value: &T) -> String {
    match serde_json::to_value(value) {
        Ok(serde_json::Value::String(word)) => word,
        Ok(other) => other.to_string(),
        Err(_) => String::new(),
    }
}

/// <https://clerk.com/docs/guides/how-clerk-works/system-limits>: requests to the Backend API
/// per instance, by environment; a production key starts with `sk_live_`.
fn rate(config: &ClerkConfig, key: &SecretString) -> Rate {
    let window = Duration::from_secs(10);
    match config.rate_limit {
        Some(limit) => limit.0,
        None if key.expose_secret().starts_with("sk_live_") => Rate { requests: 1000, window },
        None => Rate { requests: 100, window },
    }
}

async fn instance(
    whole: &Config,
    end: End,
    key: &SecretString,
    clock: &Arc<dyn Clock>,
) -> Result<Instance, Error> {
    let (transport, rate) = transport(whole, end, key, clock)?;
    let reader = Reader::new(Arc::clone(&transport));
    let found = reader.instance().await?;
    Ok(Instance { reader, transport, rate, id: found.id, environment: found.environment_type })
}

/// The way to an instance, and at which rate it may be gone.
pub(crate) fn transport(
    whole: &Config,
    end: End,
    key: &SecretString,
    clock: &Arc<dyn Clock>,
) -> Result<(Arc<Transport>, Rate), Error> {
    let (role, config) = match end {
        End::Source => (SOURCE_CLERK, &whole.source.clerk),
        End::Target => (TARGET_CLERK, &whole.target.clerk),
    };
    let unusable = |message: String| Error::Key { role, message };
    let value = key.expose_secret();
    if value.starts_with("pk_") {
        return Err(unusable("it is a publishable key; the secret one starts with sk_".into()));
    }
    let rate = rate(config, key);
    let pacer = Arc::new(Pacer::new(rate, config.rate_share.0));
    let wire = whole
        .wiring()
        .clerk(end, &Connection::new(&config.api_url, key.clone()))
        .map_err(|error| unusable(error.to_string()))?;
    Ok((Arc::new(Transport::new(role, wire, pacer, Arc::clone(clock))), rate))
}

/// What is needed to reach a D1 database. The caller resolved the token, because the
/// configuration names it.
fn d1_config(
    role: &'static str,
    d1: &D1Database,
    token: Option<&SecretString>,
    pacer: &Arc<Pacer>,
) -> Result<D1Config, Error> {
    let mut config = match &d1.access {
        D1Access::Cloudflare { account_id, api_token: _ } => {
            let missing = || Error::Key { role, message: "no API token was given".into() };
            let token = token.cloned().ok_or_else(missing)?;
            D1Config::new(account_id, &d1.database, token, role)
        }
        D1Access::LocalExplorer => D1Config::local_explorer(&d1.database, role),
    };
    d1.api_url.clone_into(&mut config.api_url);
    config.pacer = Arc::clone(pacer);
    Ok(config)
}

/// The name of a local D1, whose file is named by a digest.
fn local(name: &str) -> String {
    format!("{name} (a local D1)")
}

/// Opens the file that a database is.
fn open<T>(
    role: &'static str,
    config: &Config,
    database: &DatabaseConfig,
    open: impl FnOnce(&Path) -> Result<T, OpenError>,
) -> Result<T, Error> {
    let path = database.file(config.folder()).unwrap_or_default();
    if let (DatabaseConfig::D1Local { database, .. }, false) = (database, path.is_file()) {
        return Err(Error::NoLocalD1 { role, database: database.clone(), path });
    }
    open(&path).map_err(|source| Error::Database { role, path, source: Box::new(source) })
}

async fn reading(
    config: &Config,
    end: End,
    database: &DatabaseConfig,
    token: Option<&SecretString>,
    pacer: &Arc<Pacer>,
) -> Result<Arc<dyn ReadDatabase>, Error> {
    if let Some(opening) = config.wiring().reading(end, database, config.folder()) {
        return opening.await;
    }
    let role = match end {
        End::Source => SOURCE_DATABASE,
        End::Target => TARGET_DATABASE,
    };
    match database {
        DatabaseConfig::D1Local { database: name, .. } => {
            let reader = open(role, config, database, SqliteReader::open)?;
            Ok(Arc::new(reader.named(&local(name))))
        }
        DatabaseConfig::Sqlite { .. } => {
            Ok(Arc::new(open(role, config, database, SqliteReader::open)?))
        }
        DatabaseConfig::D1(d1) => {
            let d1 = d1_config(role, d1, token, pacer)?;
            Ok(Arc::new(D1Reader::connect(d1).await?))
        }
    }
}

async fn writing(
    config: &Config,
    database: &DatabaseConfig,
    token: Option<&SecretString>,
    pacer: &Arc<Pacer>,
) -> Result<Arc<dyn WriteDatabase>, Error> {
    if let Some(opening) = config.wiring().writing(database, config.folder()) {
        return opening.await;
    }
    let role = TARGET_DATABASE;
    match database {
        DatabaseConfig::D1Local { database: name, .. } => {
            let writer = open(role, config, database, SqliteWriter::open)?;
            Ok(Arc::new(writer.named(&local(name))))
        }
        DatabaseConfig::Sqlite { .. } => {
            Ok(Arc::new(open(role, config, database, SqliteWriter::open)?))
        }
        DatabaseConfig::D1(d1) => {
            let d1 = d1_config(role, d1, token, pacer)?;
            Ok(Arc::new(D1Writer::connect(d1).await?))
        }
    }
}

async fn databases(
    source: Arc<dyn ReadDatabase>,
    target: Arc<dyn ReadDatabase>,
    records: &RecordsConfig,
    pacers: Pacers,
) -> Result<Databases, Error> {
    let source_schema = schema::read(source.as_ref(), &records.selection()).await?;
    let all = Selection { tables: None, exclude: Vec::new() };
    let target_schema = schema::read(target.as_ref(), &all).await?;
    let mut findings: Vec<Finding> =
        schema::compare(&source_schema, &target_schema, target.identity().kind)
            .into_iter()
            .map(finding::schema)
            .collect();
    let (mut from, mut to) = (source_schema.clone(), target_schema);
    let wrong = schema::declare(&records.references, &mut from, &mut to);
    findings.extend(wrong.into_iter().map(finding::schema));
    let ids = match IdColumns::resolve(&records.ids, &from) {
        Ok(ids) => ids,
        Err(errors) => {
            findings.extend(errors.iter().map(finding::id_column));
            IdColumns::default()
        }
    };
    let conflicts = records.on_conflict.conflicts();
    let (keys, found) = KeyColumns::resolve(&conflicts, &from, &to, &ids);
    findings.extend(found.into_iter().map(finding::schema));
    let layout = Layout::new(&from, &to, &ids).with_conflicts(&conflicts).with_keys(&keys);
    let unknown = conflicts.tables.keys().filter(|name| source_schema.table(name).is_none());
    findings.extend(unknown.map(|name| finding::no_such_table("on_conflict", name)));
    let layout = Arc::new(layout);
    if source.identity().id == target.identity().id {
        findings.push(finding::same_database(source.identity()));
    }
    let places = None;
    Ok(Databases { source, target, source_schema, ids, layout, places, findings, pacers })
}

/// Opens the one database whose ids are rewritten where they stand: it is both sides.
async fn one_database(
    config: &Config,
    keys: &Keys,
    database: &DatabaseConfig,
    records: &RecordsConfig,
) -> Result<Option<Databases>, Error> {
    let pacer = Arc::new(pacer(database));
    let token = keys.target_database.as_ref();
    let target = reading(config, End::Target, database, token, &pacer).await?;
    let source_schema = schema::read(target.as_ref(), &records.selection()).await?;
    let whole =
        schema::read(target.as_ref(), &Selection { tables: None, exclude: Vec::new() }).await?;
    let mut findings = Vec::new();
    let ids = match IdColumns::resolve(&records.ids, &source_schema) {
        Ok(ids) => ids,
        Err(errors) => {
            findings.extend(errors.iter().map(finding::id_column));
            IdColumns::default()
        }
    };
    let layout = Arc::new(Layout::new(&source_schema, &whole, &ids));
    let places = Places::read(target.as_ref(), &layout, &USER).await?;
    let kind = target.identity().kind;
    // Also about tables that are not meant: a reference from there would be torn.
    findings.extend(in_place::inspect(&whole, &places, kind).into_iter().map(finding::schema));
    Ok(Some(Databases {
        source: Arc::clone(&target),
        target,
        source_schema,
        ids,
        layout,
        places: Some(Arc::new(places)),
        findings,
        pacers: Pacers { source: Arc::clone(&pacer), target: pacer },
    }))
}
