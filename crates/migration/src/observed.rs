//! The reading side of a migration: it can be looked at, planned and verified, and has no means
//! to write to any remote.

use std::sync::Arc;

use futures::future::BoxFuture;
use rehome_core::clock::Clock;
use rehome_core::journal::Reader;
use rehome_core::progress::Watcher;

use crate::config::Config;
use crate::connect::{self, Keys, Remotes};
use crate::document::{PlanDoc, Verdict, VerdictLine};
use crate::downtime::{self, Downtime};
use crate::error::Error;
use crate::{in_place, plan, verify};

/// A migration whose remotes answer, for reading.
pub struct Observed {
    config: Config,
    remotes: Remotes,
    clock: Arc<dyn Clock>,
}

impl std::fmt::Debug for Observed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Observed")
            .field("migration", &self.config.migration.name)
            .finish_non_exhaustive()
    }
}

/// Where everything goes, as a person is asked about it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Target {
    /// The instance's id.
    pub id: String,
    /// Whether it is a production instance.
    pub production: bool,
}

/// Asks the target instance alone who it is.
///
/// # Errors
/// When it cannot be used.
pub async fn target(config: &Config, keys: &Keys, clock: Arc<dyn Clock>) -> Result<Target, Error> {
    let found = connect::target_instance(config, keys, &clock).await?;
    let production = found.environment == "production";
    Ok(Target { id: found.id, production })
}

impl Observed {
    /// Connects every remote for reading and asks it who it is.
    ///
    /// # Errors
    /// When one of them cannot be used.
    pub async fn connect(
        config: &Config,
        keys: &Keys,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, Error> {
        let remotes = Remotes::connect(config, keys, &clock).await?;
        Ok(Self { config: config.clone(), remotes, clock })
    }

    /// The target instance: its id, and whether it is a production instance.
    pub fn target(&self) -> (&str, bool) {
        (&self.remotes.target.id, self.remotes.target.environment == "production")
    }

    /// The source instance's id.
    pub fn source(&self) -> &str {
        &self.remotes.source.id
    }

    /// What a run would import as files, while the target answers nobody, if somebody agreed;
    /// `None` when somebody has, and when rows go by requests.
    ///
    /// # Errors
    /// When a database cannot be read.
    pub async fn downtime(&self) -> Result<Option<Downtime>, Error> {
        downtime::due(&self.config, &self.remotes).await
    }

    /// What a run would do. Reads every source user and every row.
    ///
    /// # Errors
    /// When a remote cannot be read, or the scratch journal not be written.
    pub async fn plan(&self, watcher: &Watcher) -> Result<PlanDoc, Error> {
        plan::plan(&self.config, &self.remotes, watcher, &self.clock).await
    }

    /// Compares both sides afresh. `each` hears of every user, and of every row that is not
    /// equal.
    ///
    /// # Errors
    /// When there is no journal, when it belongs to another migration, or when a remote cannot
    /// be read.
    pub async fn verify(
        &self,
        watcher: &Watcher,
        each: &mut (dyn FnMut(VerdictLine) + Send),
    ) -> Result<Verdict, Error> {
        let reader = Arc::new(Reader::open(&self.config.journal_path())?);
        let wanted = self.remotes.setup(&self.config);
        let bound = reader.setup()?.unwrap_or_default();
        bound.accepts(&wanted)?;
        let mut verdict = Verdict::default();
        let mut hear = |found: Vec<verify::UserFinding>| -> BoxFuture<'static, _> {
            for finding in found {
                verify::count_user(&mut verdict, &finding);
                if finding.overtaken {
                    verdict.users.of_the_target += 1;
                }
                if let Some(line) = finding.line {
                    each(line);
                }
            }
            Box::pin(std::future::ready(Ok(())))
        };
        verify::users(&self.config, &self.remotes, &reader, watcher, &mut hear).await?;
        verify::newcomers(&self.remotes, &reader, &mut |line| {
            verify::count(&mut verdict, &line);
            each(line);
        })
        .await?;
        if let (Some(databases), Some(records)) = (&self.remotes.databases, &self.config.records) {
            if databases.places.is_some() {
                let mut hear = |_, line| each(line);
                let verdict = &mut verdict;
                in_place::verify(databases, records, &reader, watcher, verdict, &mut hear).await?;
            } else {
                verify::rows(databases, records, &reader, watcher, &mut verdict, each).await?;
            }
        }
        verify::sum(&mut verdict);
        Ok(verdict)
    }
}
