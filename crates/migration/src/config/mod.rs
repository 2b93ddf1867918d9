//! `rehome.toml`, understood.
//!
//! Parsing is strict: an unknown key, a wrong type or a value that means nothing is an error
//! that shows the place in the file. What can be judged without looking at a remote is judged
//! here; what needs one (whether a declared column exists) is judged by `check`.

mod conflict;
mod d1;
mod misplaced;
mod mode;
mod place;
mod rate;
mod secret;

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rehome_clerk::{Attribute, ExternalId, OnExisting, UserPolicy};
use rehome_records::policy::{Removed, RowPolicy, Unmapped};
use serde::Deserialize;

pub use conflict::OnConflictConfig;
pub use d1::{D1Access, D1Database};
pub use mode::RecordsMode;
pub use rate::RateLimit;
pub use secret::SecretRef;

use crate::wiring::{Ordinary, Wiring};

/// A configuration that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read {}", .path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// It is not the TOML that is expected. The text shows line and column.
    #[error("{} cannot be understood\n{message}", .path.display())]
    Syntax {
        /// The file.
        path: PathBuf,
        /// The place and what is wrong there, over several lines.
        message: String,
    },
    /// Its parts do not fit together.
    #[error("{}: {message}", .path.display())]
    Meaning {
        /// The file.
        path: PathBuf,
        /// What does not fit.
        message: String,
        /// What to do.
        hint: String,
    },
}

/// The whole file.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Where the file lies; relative paths start there.
    #[serde(skip)]
    pub path: PathBuf,
    /// The migration itself.
    pub migration: MigrationConfig,
    /// Where everything comes from.
    pub source: Side,
    /// Where everything goes.
    pub target: Side,
    /// What happens to users.
    #[serde(default)]
    pub users: UsersConfig,
    /// What happens to rows.
    #[serde(default)]
    pub records: Option<RecordsConfig>,
    /// How the remotes are reached; no part of the file.
    #[serde(skip)]
    wiring: Wired,
}

/// A wiring that can stand in a configuration.
#[derive(Clone, Debug)]
struct Wired(Arc<dyn Wiring>);

impl Default for Wired {
    fn default() -> Self {
        Self(Arc::new(Ordinary))
    }
}

/// `[migration]`
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MigrationConfig {
    /// What the migration is called; part of what a journal is bound to.
    pub name: String,
    /// The journal's path; by default `<name>.journal` beside the configuration.
    pub journal: Option<PathBuf>,
}

/// `[source.…]` or `[target.…]`
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Side {
    /// The Clerk instance.
    pub clerk: ClerkConfig,
    /// The database, if rows move too.
    pub database: Option<DatabaseConfig>,
}

/// `[source.clerk]` or `[target.clerk]`
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClerkConfig {
    /// Where the instance's secret key is to be had.
    pub secret_key: SecretRef,
    /// The API's address without `/v1`.
    #[serde(default = "clerk_url")]
    pub api_url: String,
    /// The publishable key: public, used to say which application is meant.
    pub publishable_key: Option<String>,
    /// How much of the rate limit may be used; the rest stays with the live application.
    #[serde(default = "share")]
    pub rate_share: Share,
    /// The rate limit, when it is not the one of the instance's environment.
    pub rate_limit: Option<RateLimit>,
}

fn clerk_url() -> String {
    rehome_clerk::http::DEFAULT_API_URL.to_owned()
}

fn share() -> Share {
    Share(0.9)
}

/// A share above 0 and up to 1.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize)]
#[serde(try_from = "f64")]
pub struct Share(pub f64);

impl TryFrom<f64> for Share {
    type Error = String;

    fn try_from(value: f64) -> Result<Self, String> {
        if value > 0.0 && value <= 1.0 {
            Ok(Self(value))
        } else {
            Err(format!("{value} is not a share above 0 and up to 1"))
        }
    }
}

/// `[source.database]` or `[target.database]`
#[derive(Clone, Debug, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase", deny_unknown_fields)]
pub enum DatabaseConfig {
    /// Cloudflare D1 behind an API: Cloudflare's own, or that of `wrangler dev`.
    D1(D1Database),
    /// The file in which `wrangler dev` keeps a D1 on a developer's machine.
    #[serde(rename = "d1-local")]
    D1Local {
        /// What the Worker's configuration calls it: its `preview_database_id`, else its
        /// `database_id`, else its `binding`.
        database: String,
        /// Wrangler's folder for local data, where `--persist-to` would point.
        #[serde(default = "wrangler_state")]
        state: PathBuf,
    },
    /// A SQLite file.
    Sqlite {
        /// Its path.
        path: PathBuf,
    },
}

impl DatabaseConfig {
    /// The file that it is, when it is one; a relative path starts at `folder`.
    pub fn file(&self, folder: &Path) -> Option<PathBuf> {
        match self {
            Self::D1(_) => None,
            Self::D1Local { database, state } => {
                Some(rehome_records::d1::local::file(&folder.join(state), database))
            }
            Self::Sqlite { path } => Some(folder.join(path)),
        }
    }
}

fn wrangler_state() -> PathBuf {
    PathBuf::from(".wrangler/state")
}

/// `[users]`
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct UsersConfig {
    /// What to do with a user who is in the target already.
    pub on_existing: OnExisting,
    /// What becomes the target's `external_id`.
    pub external_id: ExternalId,
    /// Attributes that may be left out where the target refuses them.
    pub without: BTreeSet<Attribute>,
    /// What becomes of an account that this migration created, when the source has deleted its user.
    pub on_removed: Removed,
}

impl UsersConfig {
    /// The policy that the workers for users follow.
    pub fn policy(&self) -> UserPolicy {
        UserPolicy {
            on_existing: self.on_existing,
            external_id: self.external_id,
            without: self.without.clone(),
        }
    }
}

/// `[records]`
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RecordsConfig {
    /// How rows are moved.
    #[serde(default)]
    pub mode: RecordsMode,
    /// In place: how many users' rows are rewritten in one request; by what the database's indexes
    /// allow without.
    pub lot_users: Option<NonZeroUsize>,
    /// What to do with a row that names a user without a counterpart.
    #[serde(default)]
    pub on_unmapped: Unmapped,
    /// What to do with a row whose place in the target is taken.
    #[serde(default)]
    pub on_conflict: OnConflictConfig,
    /// What to do with a row that was carried and that the source has no more.
    #[serde(default)]
    pub on_removed: Removed,
    /// References that no foreign key declares: from `table.column` to a table.
    #[serde(default)]
    pub references: BTreeMap<String, String>,
    /// Only these tables.
    pub tables: Option<Vec<String>>,
    /// Not these tables.
    #[serde(default = "excluded")]
    pub exclude: Vec<String>,
    /// Columns (`table.column`) in which ids of the source may stay as they are: a log that
    /// speaks of the past, for example.
    #[serde(default)]
    pub leave_ids: Vec<String>,
    /// Which columns carry which ids.
    #[serde(default)]
    pub ids: BTreeMap<String, String>,
}

fn excluded() -> Vec<String> {
    rehome_records::schema::Selection::default().exclude
}

impl RecordsConfig {
    /// Whether ids of the source may stay in this column.
    pub fn leaves(&self, table: &str, column: &str) -> bool {
        let place = format!("{table}.{column}");
        self.leave_ids.iter().any(|left| left.eq_ignore_ascii_case(&place))
    }

    /// How rows are treated.
    pub fn policy(&self) -> RowPolicy {
        RowPolicy { unmapped: self.on_unmapped, removed: self.on_removed }
    }

    /// Which tables are meant.
    pub fn selection(&self) -> rehome_records::schema::Selection {
        rehome_records::schema::Selection {
            tables: self.tables.clone(),
            exclude: self.exclude.clone(),
        }
    }
}

impl Config {
    /// Reads and understands the file at `path`.
    ///
    /// # Errors
    /// [`ConfigError`], with the place in the file.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        let text = crate::small_file::read(path)
            .map_err(|source| ConfigError::Unreadable { path: path.to_owned(), source })?;
        Self::parse(path, &text)
    }

    /// Understands the text of a configuration that lies at `path`.
    ///
    /// # Errors
    /// [`ConfigError`], with the place in the file.
    pub fn parse(path: &Path, text: &str) -> Result<Self, ConfigError> {
        let mut config: Self = toml::from_str(text).map_err(|error| ConfigError::Syntax {
            path: path.to_owned(),
            message: place::show(text, error.span(), error.message()),
        })?;
        config.path = path.to_owned();
        config.judge(text)?;
        Ok(config)
    }

    fn judge(&self, text: &str) -> Result<(), ConfigError> {
        let refuse = |message: String, hint: &str| {
            Err(ConfigError::Meaning { path: self.path.clone(), message, hint: hint.to_owned() })
        };
        if self.migration.name.trim().is_empty() {
            return refuse("`migration.name` is empty".into(), "give the migration a name");
        }
        if self.migration.journal.is_none() && self.migration.name.contains(['/', '\\', '\0']) {
            return refuse(
                format!("the name {:?} cannot be a file's name", self.migration.name),
                "choose another name, or set `migration.journal`",
            );
        }
        if let Err((message, hint)) = misplaced::find(self, text).and_then(|()| mode::judge(self)) {
            return refuse(message, hint);
        }
        for (place, kind) in self.records.iter().flat_map(|records| &records.ids) {
            if kind != rehome_clerk::USER.as_str() {
                return refuse(
                    format!("`records.ids`: {place:?} is declared as {kind:?}"),
                    "the kind that this version moves is \"user\"",
                );
            }
        }
        Ok(())
    }

    /// The same migration, reaching its remotes in other ways.
    #[must_use]
    pub fn with_wiring(mut self, wiring: Arc<dyn Wiring>) -> Self {
        self.wiring = Wired(wiring);
        self
    }

    /// How the remotes are reached.
    pub fn wiring(&self) -> &dyn Wiring {
        self.wiring.0.as_ref()
    }

    /// The folder that relative paths start from.
    pub fn folder(&self) -> &Path {
        match self.path.parent() {
            Some(folder) if !folder.as_os_str().is_empty() => folder,
            _ => Path::new("."),
        }
    }

    /// Where the journal is.
    pub fn journal_path(&self) -> PathBuf {
        let name = self
            .migration
            .journal
            .clone()
            .unwrap_or_else(|| PathBuf::from(format!("{}.journal", self.migration.name)));
        self.folder().join(name)
    }
}

#[cfg(test)]
mod tests;
