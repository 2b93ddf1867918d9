//! How many requests all runs of a migration have sent, kept in the journal.

use std::sync::Arc;
use std::time::Duration;

use rehome_core::journal::{Change, Journal, Reader};
use rehome_records::ReadDatabase;

use crate::connect::{Remotes, Writing};
use crate::document::RequestCounts;
use crate::error::Error;
use crate::ledger::{self, REQUESTS};

/// How often the number of requests is journaled meanwhile.
const TICK: Duration = Duration::from_secs(15);

/// Counts requests over all runs.
pub(crate) struct Counter {
    before: RequestCounts,
    source: Arc<rehome_clerk::Transport>,
    target: Arc<rehome_clerk::Transport>,
    source_database: Option<Arc<dyn ReadDatabase>>,
    target_databases: Vec<Arc<dyn ReadDatabase>>,
}

impl Counter {
    /// Counts what is sent through these from now on, on top of what the journal knows.
    pub(crate) fn new(
        remotes: &Remotes,
        writing: &Writing,
        reader: &Reader,
    ) -> Result<Self, Error> {
        let databases = remotes.databases.as_ref();
        Ok(Self {
            before: ledger::requests(reader)?,
            source: Arc::clone(&remotes.source.transport),
            target: Arc::clone(&remotes.target.transport),
            // In place there is one database, which counts as the target.
            source_database: databases
                .filter(|databases| databases.places.is_none())
                .map(|databases| Arc::clone(&databases.source)),
            target_databases: databases
                .map(|databases| Arc::clone(&databases.target))
                .into_iter()
                .chain(writing.database.iter().map(|it| Arc::clone(it) as Arc<dyn ReadDatabase>))
                .collect(),
        })
    }

    /// Notes the sums in the journal now.
    pub(crate) async fn note(&self, journal: &Journal) -> Result<(), Error> {
        let counts = RequestCounts {
            source: self.before.source + self.source.requests(),
            target: self.before.target + self.target.requests(),
            source_database: self.before.source_database + sent(self.source_database.iter()),
            target_database: self.before.target_database + sent(self.target_databases.iter()),
        };
        let detail = serde_json::to_value(counts).unwrap_or_default();
        journal.submit(vec![Change::Note { event: REQUESTS, detail }]).await?;
        Ok(())
    }
}

/// Requests that these have sent in this run.
fn sent<'a>(databases: impl Iterator<Item = &'a Arc<dyn ReadDatabase>>) -> u64 {
    databases.map(|database| database.requests()).sum()
}

/// Ends with the run, also with one that is dropped half way: the task holds the journal, and
/// with it the lock.
pub(crate) struct Ticking(tokio::task::JoinHandle<()>);

impl Ticking {
    /// Notes the sums now and then from now on.
    pub(crate) fn start(counter: &Arc<Counter>, journal: &Arc<Journal>) -> Self {
        Self(tokio::spawn(tick(Arc::clone(counter), Arc::clone(journal))))
    }
}

impl Drop for Ticking {
    fn drop(&mut self) {
        self.0.abort();
    }
}

async fn tick(counter: Arc<Counter>, journal: Arc<Journal>) {
    loop {
        tokio::time::sleep(TICK).await;
        if let Err(error) = counter.note(&journal).await {
            tracing::debug!(%error, "the number of requests could not be noted");
            return;
        }
    }
}
