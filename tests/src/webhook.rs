//! The application's own webhook handler, as many applications have it: a new account gets a bare
//! row at once, a deleted one loses it. It races with rehome, which is why it is here.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use rehome_emulator::{Effect, Emulator, Instance};
use rusqlite::{Connection, params};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// How long the handler takes to hear of an effect.
const DELAY: Duration = Duration::from_millis(5);

/// How long the handler may lag behind before a test gives up on it.
const PATIENCE: Duration = Duration::from_secs(60);

/// A handler at work until it is dropped.
#[derive(Debug)]
pub struct Handler {
    task: JoinHandle<()>,
    rows: Arc<AtomicU64>,
    target: Arc<Instance>,
    heard: watch::Receiver<u64>,
}

impl Handler {
    /// Listens to what happens in the target instance, and writes to the database at `database`
    /// through a connection of its own.
    ///
    /// # Panics
    /// When the database cannot be opened.
    pub fn start(emulator: &Emulator, database: &Path) -> Self {
        let connection = Connection::open(database).expect("the target database is there");
        connection.busy_timeout(Duration::from_secs(10)).expect("a timeout can be set");
        let target = emulator.instance("target").expect("there is a target");
        let mut effects = target.subscribe();
        let rows = Arc::new(AtomicU64::new(0));
        let counter = Arc::clone(&rows);
        let (count, heard) = watch::channel(0);
        let task = tokio::spawn(async move {
            while let Ok(effect) = effects.recv().await {
                tokio::time::sleep(DELAY).await;
                counter.fetch_add(handle(&connection, &effect), Ordering::Relaxed);
                match effect {
                    Effect::Created { .. } | Effect::Deleted { .. } => {
                        count.send_modify(|count| *count += 1);
                    }
                    Effect::Updated { .. } => {}
                }
            }
        });
        Self { task, rows, target, heard }
    }

    /// Waits until it has handled everything that has happened so far: it is slower than rehome,
    /// and what it has not handled yet is in nobody's database.
    ///
    /// # Panics
    /// When it does not get there.
    pub async fn settled(&self) {
        let counters = self.target.counters();
        let happened = counters.creates + counters.deletes;
        let mut heard = self.heard.clone();
        let waited = tokio::time::timeout(PATIENCE, heard.wait_for(|heard| *heard >= happened));
        drop(waited.await.expect("the handler hears of everything").expect("it listens"));
    }

    /// How many rows it has put in before rehome could.
    pub fn rows(&self) -> u64 {
        self.rows.load(Ordering::Relaxed)
    }
}

/// Gives how many rows were put in.
fn handle(connection: &Connection, effect: &Effect) -> u64 {
    let written = match effect {
        Effect::Created { user, .. } => connection.execute(
            "INSERT OR IGNORE INTO users (clerk_id, email) VALUES (?1, ?2)",
            params![user.id, user.email_addresses.first().map(|address| &address.value)],
        ),
        Effect::Deleted { user, .. } => {
            connection.execute("DELETE FROM users WHERE clerk_id = ?1", [&user.id]).map(|_| 0)
        }
        Effect::Updated { .. } => Ok(0),
    };
    // Like its models it forgets what goes wrong: the row may be gone already, or be in use.
    written.map_or(0, |rows| rows as u64)
}

impl Drop for Handler {
    fn drop(&mut self) {
        self.task.abort();
    }
}
