//! A migration's surroundings: two Clerk instances, two databases, a folder with a configuration.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rehome_core::journal::check_replay;
use rehome_emulator::d1::{D1, DatabaseSpec, verifieddit};
use rehome_emulator::seed::{self, SeedUser};
use rehome_emulator::{Emulator, EmulatorConfig, Instance, InstanceConfig, RateLimit};
use rusqlite::Connection;
use serde_json::Value;
use tempfile::TempDir;
use tokio::process::Command;

use crate::binary::{self, Finished, Running};

/// Where the example's schema keeps ids of users.
pub const ID_COLUMNS: [&str; 4] =
    ["users.clerk_id", "badges.owner_id", "counters.user_id", "events.payload:$.actor.id"];

const ACCOUNT: &str = "0123456789abcdef0123456789abcdef";
const TOKEN: &str = "cf-token-that-nobody-may-see-7f3a9c";
const SOURCE: &str = "11111111-1111-4111-8111-111111111111";
const TARGET: &str = "22222222-2222-4222-8222-222222222222";

/// Where the rows are.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Databases {
    /// Nowhere: only Clerk is migrated.
    None,
    /// In two SQLite files that rehome opens itself.
    #[default]
    Sqlite,
    /// Behind the emulated D1, which counts what reaches them.
    D1,
    /// The same, and rows go to the target as files.
    D1Files,
    /// In one SQLite file, which is rewritten where it stands.
    InPlace,
    /// The same behind the emulated D1.
    InPlaceD1,
}

impl Databases {
    /// Whether there is one database only, whose ids are rewritten where they stand.
    pub fn in_place(self) -> bool {
        match self {
            Self::None | Self::Sqlite | Self::D1 | Self::D1Files => false,
            Self::InPlace | Self::InPlaceD1 => true,
        }
    }

    /// Whether the rows are behind the emulated D1.
    pub fn remote(self) -> bool {
        match self {
            Self::None | Self::Sqlite | Self::InPlace => false,
            Self::D1 | Self::D1Files | Self::InPlaceD1 => true,
        }
    }
}

/// What a stage is set with.
#[derive(Clone, Debug)]
pub struct Options {
    /// How many people the source has.
    pub users: usize,
    /// How many rows there are about, in all.
    pub rows: usize,
    /// What people and rows are made from.
    pub seed: u64,
    /// Where the rows are.
    pub databases: Databases,
    /// People of the source besides the population.
    pub source_people: Vec<SeedUser>,
    /// People who are in the target already.
    pub target_people: Vec<SeedUser>,
    /// Users of a lot, in place.
    pub lot_users: usize,
    /// The target's own limit on requests.
    pub limit: Option<RateLimit>,
    /// `rate_limit` in the configuration; by the instance's environment without.
    pub rate_limit: Option<&'static str>,
    /// `rate_share` in the configuration.
    pub rate_share: f64,
    /// Where the folder is made; where temporary ones are without.
    pub place: Option<PathBuf>,
}

impl Default for Options {
    /// Three hundred users at a rate that does not hold an everyday suite up.
    fn default() -> Self {
        Self {
            users: 300,
            rows: 1_500,
            seed: 1,
            databases: Databases::default(),
            source_people: Vec::new(),
            target_people: Vec::new(),
            lot_users: 50,
            limit: None,
            rate_limit: Some("20000/10s"),
            rate_share: 1.0,
            place: None,
        }
    }
}

/// A stage, torn down when dropped.
#[derive(Debug)]
pub struct Stage {
    /// The remotes.
    pub emulator: Emulator,
    folder: TempDir,
    options: Options,
    /// Ids of the source's users with their first address, in the order in which they were put in.
    pub people: Vec<(String, Option<String>)>,
    before: Value,
}

impl Stage {
    /// Starts the emulator, fills the source, and lays the folder out.
    ///
    /// # Panics
    /// When any of it fails.
    pub async fn set(options: Options) -> Self {
        let folder = options.place.as_ref().map_or_else(TempDir::new, TempDir::new_in);
        let folder = folder.expect("a temporary folder can be made");
        let mut target = InstanceConfig::production("target");
        target.settings.rate_limit = options.limit;
        let source = InstanceConfig::development("source");
        let other = InstanceConfig::production("other");
        let emulator = Emulator::start(EmulatorConfig {
            instances: vec![source, target, other],
            d1: d1(&options, folder.path()),
            ..EmulatorConfig::default()
        })
        .await
        .expect("the emulator starts");
        let people = populate(&emulator, &options);
        fill(folder.path(), &people, &options);
        let mut stage = Self { emulator, folder, options, people, before: Value::Null };
        stage.configure(|text| text);
        stage.before = stage.control("state").await;
        stage
    }

    /// The folder with the configuration, the journal and the databases.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The configuration file.
    pub fn config(&self) -> PathBuf {
        self.folder().join("rehome.toml")
    }

    /// The journal.
    pub fn journal(&self) -> PathBuf {
        self.folder().join("suite.journal")
    }

    /// Source and target database, if there are any. In place the source is a copy of the one
    /// database as it was, of which rehome does not know.
    pub fn databases(&self) -> Option<(PathBuf, PathBuf)> {
        match self.options.databases {
            Databases::None => None,
            Databases::Sqlite
            | Databases::D1
            | Databases::D1Files
            | Databases::InPlace
            | Databases::InPlaceD1 => {
                Some((self.folder().join("source.sqlite"), self.folder().join("target.sqlite")))
            }
        }
    }

    /// Whether there is one database only.
    pub fn in_place(&self) -> bool {
        self.options.databases.in_place()
    }

    /// The emulator's state before anything ran.
    pub fn before(&self) -> &Value {
        &self.before
    }

    /// The source instance.
    pub fn source(&self) -> Arc<Instance> {
        self.emulator.instance("source").expect("there is a source")
    }

    /// The target instance.
    pub fn target(&self) -> Arc<Instance> {
        self.emulator.instance("target").expect("there is a target")
    }

    /// Writes the configuration, after `change` has seen its text.
    ///
    /// # Panics
    /// When it cannot be written.
    pub fn configure(&self, change: impl FnOnce(String) -> String) {
        std::fs::write(self.config(), change(self.text())).expect("the folder can be written");
    }

    fn text(&self) -> String {
        let (url, d1) = (self.emulator.clerk_url(), self.emulator.d1_url());
        let limit = self
            .options
            .rate_limit
            .map_or(String::new(), |limit| format!("rate_limit = \"{limit}\"\n"));
        let share = self.options.rate_share;
        let mut text = format!(
            "[migration]\nname = \"suite\"\njournal = \"suite.journal\"\n\n\
             [source.clerk]\nsecret_key = \"env:SOURCE_KEY\"\napi_url = \"{url}\"\n{limit}\n\
             [target.clerk]\nsecret_key = \"env:TARGET_KEY\"\napi_url = \"{url}\"\n{limit}\
             rate_share = {share:?}\n\n"
        );
        let sides: &[&str] = match self.options.databases {
            Databases::None => &[],
            Databases::Sqlite | Databases::D1 | Databases::D1Files => &["source", "target"],
            Databases::InPlace | Databases::InPlaceD1 => &["target"],
        };
        let files = match self.options.databases {
            Databases::D1Files => "import_from = 1\n",
            Databases::None
            | Databases::Sqlite
            | Databases::D1
            | Databases::InPlace
            | Databases::InPlaceD1 => "",
        };
        for side in sides {
            text += &if self.options.databases.remote() {
                format!(
                    "[{side}.database]\nkind = \"d1\"\naccount_id = \"{ACCOUNT}\"\n\
                     database = \"{side}-db\"\napi_token = \"env:D1_TOKEN\"\napi_url = \"{d1}\"\n\
                     rate_limit = \"20000/10s\"\n{}\n",
                    if *side == "target" { files } else { "" }
                )
            } else {
                format!("[{side}.database]\nkind = \"sqlite\"\npath = \"{side}.sqlite\"\n\n")
            };
        }
        if let (true, lot) = (self.options.databases.in_place(), self.options.lot_users) {
            text += &format!("[records]\nmode = \"in-place\"\nlot_users = {lot}\n\n");
        }
        if self.databases().is_some() {
            text += "[records.ids]\n";
            for column in ID_COLUMNS {
                text += &format!("\"{column}\" = \"user\"\n");
            }
        }
        text
    }

    /// The binary with these arguments and this stage's configuration and keys; nothing else of
    /// this process's environment reaches it.
    pub fn command(&self, arguments: &[&str]) -> Command {
        self.command_of(binary::path(), arguments)
    }

    /// The same with another binary.
    pub fn command_of(&self, binary: &Path, arguments: &[&str]) -> Command {
        let mut command = Command::new(binary);
        command.args(arguments).arg("--config").arg(self.config()).current_dir(self.folder());
        command.env_clear().envs(self.secrets()).env("HOME", self.folder());
        command.env("PATH", std::env::var_os("PATH").unwrap_or_default());
        command
    }

    /// Every secret by the variable that carries it.
    pub fn secrets(&self) -> BTreeMap<&'static str, String> {
        BTreeMap::from([
            ("SOURCE_KEY", self.source().secret_key().to_owned()),
            ("TARGET_KEY", self.target().secret_key().to_owned()),
            ("D1_TOKEN", TOKEN.to_owned()),
        ])
    }

    /// Starts a command.
    pub fn start(&self, arguments: &[&str]) -> Running {
        Running::start(self.command(arguments))
    }

    /// Runs a command to its end.
    pub async fn rehome(&self, arguments: &[&str]) -> Finished {
        self.start(arguments).finish().await
    }

    /// `run --yes --json`, to its end.
    pub async fn run(&self) -> Finished {
        let mut arguments = vec!["run", "--yes", "--json"];
        if self.options.databases == Databases::D1Files {
            arguments.push("--allow-downtime");
        }
        self.rehome(&arguments).await
    }

    /// What it was set with.
    pub fn options(&self) -> &Options {
        &self.options
    }

    /// `status --json`.
    pub async fn status(&self) -> Value {
        self.rehome(&["status", "--json"]).await.expect(0).json()
    }

    /// A document of the emulator's control path.
    ///
    /// # Panics
    /// When the emulator does not answer.
    pub async fn control(&self, what: &str) -> Value {
        // Plain HTTP, but the client wants to know its TLS provider before anything else.
        let _installed = rustls::crypto::ring::default_provider().install_default().is_ok();
        let url = format!("{}/__emulator/{what}", self.emulator.clerk_url());
        let client = reqwest::Client::builder().no_proxy().build().expect("a client can be made");
        let answer = client.get(url).send().await.expect("the emulator answers");
        answer.json().await.expect("the emulator answers in JSON")
    }

    /// Requests of all remotes so far: the clock by which kills are timed.
    pub fn requests(&self) -> u64 {
        let clerk: u64 =
            self.emulator.instances().iter().map(|instance| instance.counters().total()).sum();
        clerk + self.emulator.d1_counters().total()
    }

    /// Accounts created in the target so far.
    pub fn creates(&self) -> u64 {
        self.target().counters().creates
    }

    /// Everything that has been changed outside so far: requests that could change something in
    /// Clerk, requests that did in D1, and the contents of the target database file.
    pub fn effects(&self) -> (u64, u64, u64) {
        let clerk = self.target().counters().writes_requested()
            + self.source().counters().writes_requested();
        let d1 = self.emulator.d1().map_or(0, |d1| {
            let counters = d1.counters();
            [SOURCE, TARGET]
                .iter()
                .filter_map(|uuid| counters["databases"][uuid]["write_requests"].as_u64())
                .sum()
        });
        (clerk, d1, self.databases().map_or(0, |(_, target)| digest(&target)))
    }

    /// Replays the journal's log and compares it with the journal's own cache. A process that was
    /// killed before its first commit has left nothing to replay.
    ///
    /// # Panics
    /// When they differ.
    pub fn replay(&self) {
        let length = std::fs::metadata(self.journal()).map_or(0, |file| file.len());
        if length == 0 {
            return;
        }
        let scratch = TempDir::new().expect("a temporary folder can be made");
        let replayed = check_replay(&self.journal(), &scratch.path().join("replayed"));
        replayed.expect("the log gives the cache");
    }
}

fn d1(options: &Options, folder: &Path) -> Option<Arc<D1>> {
    if !options.databases.remote() {
        return None;
    }
    let spec = |uuid: &str, side: &str| DatabaseSpec {
        uuid: uuid.to_owned(),
        name: format!("{side}-db"),
        path: Some(folder.join(format!("{side}.sqlite"))),
    };
    let databases = vec![spec(SOURCE, "source"), spec(TARGET, "target")];
    Some(Arc::new(D1::new(ACCOUNT, TOKEN, databases).expect("the databases open")))
}

fn populate(emulator: &Emulator, options: &Options) -> Vec<(String, Option<String>)> {
    let put = |instance: &str, person: SeedUser| {
        let instance = emulator.instance(instance).expect("there is such an instance");
        let address = person.email_addresses.first().map(|address| address.value.clone());
        (instance.insert_seed(person).expect("a new person"), address)
    };
    for person in &options.target_people {
        put("target", person.clone());
    }
    seed::users(options.users, options.seed)
        .into_iter()
        .chain(options.source_people.iter().cloned())
        .map(|person| put("source", person))
        .collect()
}

/// Both databases: rows in the source, only the schema in the target, or in place the same rows. An
/// emulated D1 serves the same files.
fn fill(folder: &Path, people: &[(String, Option<String>)], options: &Options) {
    if options.databases == Databases::None {
        return;
    }
    let open = |side: &str| {
        let connection = Connection::open(folder.join(format!("{side}.sqlite")));
        let connection = connection.expect("the database opens");
        connection.pragma_update(None, "journal_mode", "wal").expect("WAL can be had");
        connection
    };
    let source = open("source");
    verifieddit::fill(&source, people, options.rows, options.seed).expect("rows can be made");
    if options.databases == Databases::InPlace {
        let folded = source.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()));
        folded.expect("the file is whole");
        std::fs::copy(folder.join("source.sqlite"), folder.join("target.sqlite"))
            .expect("the database can be copied");
        return;
    }
    let target = open("target");
    // The emulated D1 has the file open already.
    if options.databases.in_place() {
        verifieddit::fill(&target, people, options.rows, options.seed).expect("the same again");
    } else {
        target.execute_batch(verifieddit::schema()).expect("the schema can be made");
    }
}

/// A number that changes whenever a value in the database does.
fn digest(path: &Path) -> u64 {
    use std::hash::{DefaultHasher, Hash as _, Hasher as _};
    let connection = Connection::open(path).expect("the database opens");
    let mut hasher = DefaultHasher::new();
    let mut tables = connection
        .prepare("SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE '\\_%' ESCAPE '\\' ORDER BY name")
        .expect("the schema can be read");
    let names: Vec<String> = tables
        .query_map([], |row| row.get(0))
        .and_then(Iterator::collect)
        .expect("the schema can be read");
    for name in names {
        let sql = format!("SELECT * FROM \"{name}\" ORDER BY rowid");
        let mut statement = connection.prepare(&sql).expect("the table can be read");
        let columns = statement.column_count();
        let mut rows = statement.query([]).expect("the table can be read");
        while let Some(row) = rows.next().expect("the row can be read") {
            for column in 0..columns {
                let value = row.get_ref(column).expect("the value can be read");
                format!("{value:?}").hash(&mut hasher);
            }
        }
    }
    hasher.finish()
}
