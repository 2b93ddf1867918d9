//! The demonstration's surroundings: two emulated instances, two SQLite files, a configuration.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rehome_emulator::d1::verifieddit;
use rehome_emulator::seed::SeedUser;
use rehome_emulator::{Emulator, EmulatorConfig, Environment, Instance, InstanceConfig, RateLimit};
use rusqlite::Connection;

use super::child::Rehome;
use crate::commands::emulate::{populate, side};
use crate::failure::Failure;

/// People in the source.
pub(super) const USERS: usize = 1000;
/// Rows in its database, about.
pub(super) const ROWS: usize = 6000;
/// People who have signed up on the target already.
pub(super) const ADOPTED: usize = 3;
/// What people and rows are made from.
const SEED: u64 = 7;

/// Everything that the demonstration runs on.
pub(super) struct Stage {
    /// The temporary folder; it is kept.
    pub(super) folder: PathBuf,
    /// The two instances' server.
    pub(super) emulator: Emulator,
    /// Where everybody goes.
    pub(super) target: Arc<Instance>,
    /// The source's users with their first address.
    pub(super) people: Vec<(String, Option<String>)>,
    source_key: String,
}

impl Stage {
    /// Makes the folder, starts the emulator, fills the source.
    pub(super) async fn set() -> Result<Self, Failure> {
        let failed = |error: Box<dyn std::error::Error + Send + Sync>| Failure::Emulator(error);
        let folder = tempfile::Builder::new()
            .prefix("rehome-demo-")
            .tempdir()
            .map_err(|error| failed(error.into()))?
            .keep();
        let mut source = InstanceConfig::development("source");
        source.settings.rate_limit = Some(RateLimit::documented(Environment::Development));
        let mut target = InstanceConfig::production("target");
        target.settings.rate_limit = Some(RateLimit::documented(Environment::Production));
        let emulator = Emulator::start(EmulatorConfig {
            instances: vec![source, target],
            ..EmulatorConfig::default()
        })
        .await
        .map_err(|error| failed(error.into()))?;
        let (source, target) = (side(&emulator, "source")?, side(&emulator, "target")?);
        let people = populate(&source, USERS, SEED)?;
        let early = people.iter().filter_map(|(_, address)| address.as_deref());
        for address in early.filter(|address| address.starts_with("person.")).take(ADOPTED) {
            let signed_up = target.insert_seed(SeedUser::with_email(address));
            signed_up.map_err(|error| failed(error.into()))?;
        }
        let database = |name: &str, people: &[_], rows| -> Result<(), Failure> {
            let connection = Connection::open(folder.join(name));
            let connection = connection.map_err(|error| failed(error.into()))?;
            verifieddit::fill(&connection, people, rows, SEED)
                .map_err(|error| failed(error.into()))?;
            Ok(())
        };
        database("source.sqlite", &people, ROWS)?;
        database("target.sqlite", &[], 0)?;
        let text = configuration(&emulator.clerk_url());
        std::fs::write(folder.join("rehome.toml"), text).map_err(|error| failed(error.into()))?;
        let source_key = source.secret_key().to_owned();
        Ok(Self { folder, emulator, target, people, source_key })
    }

    /// The configuration file.
    pub(super) fn config(&self) -> PathBuf {
        Path::new(&self.folder).join("rehome.toml")
    }

    /// Accounts in the target.
    pub(super) fn accounts(&self) -> u64 {
        self.target.count() as u64
    }

    /// Accounts that were created through the API.
    pub(super) fn created(&self) -> u64 {
        self.accounts().saturating_sub(ADOPTED as u64)
    }

    /// This program, ready to be started here.
    pub(super) fn rehome(&self) -> Rehome {
        Rehome {
            folder: self.folder.clone(),
            keys: [
                ("DEMO_SOURCE_KEY", self.source_key.clone()),
                ("DEMO_TARGET_KEY", self.target.secret_key().to_owned()),
            ],
        }
    }
}

fn configuration(url: &str) -> String {
    format!(
        r#"# The configuration of a demonstration. Its instances live only as long as `rehome demo` runs;
# the journal stays, and `rehome status`, `show`, `map` and `failures` read it at any time.

[migration]
name = "demo"

[source.clerk]
secret_key = "env:DEMO_SOURCE_KEY"
api_url = "{url}"

[target.clerk]
secret_key = "env:DEMO_TARGET_KEY"
api_url = "{url}"

[source.database]
kind = "sqlite"
path = "source.sqlite"

[target.database]
kind = "sqlite"
path = "target.sqlite"

# Where ids of users stand. `badges.owner_id` and `counters.user_id` point at users(clerk_id) by a
# foreign key, and follow by themselves.
[records.ids]
"users.clerk_id" = "user"
"events.payload:$.actor.id" = "user"
"#
    )
}
