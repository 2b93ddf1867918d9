//! The application's own webhook handler, as many applications have it: a new account gets a bare
//! row at once, a deleted one loses it. It races with rehome, which is why it is here.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use rehome_emulator::{Effect, Emulator};
use rusqlite::{Connection, params};
use tokio::task::JoinHandle;

/// How long the handler takes to hear of an effect.
const DELAY: Duration = Duration::from_millis(5);

/// A handler at work until it is dropped.
#[derive(Debug)]
pub struct Handler {
    task: JoinHandle<()>,
    rows: Arc<AtomicU64>,
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
        let target = emulator.instance("target").expect("there is a target").id().to_owned();
        let mut effects = emulator.subscribe();
        let rows = Arc::new(AtomicU64::new(0));
        let counter = Arc::clone(&rows);
        let task = tokio::spawn(async move {
            while let Ok(effect) = effects.recv().await {
                tokio::time::sleep(DELAY).await;
                counter.fetch_add(handle(&connection, &target, &effect), Ordering::Relaxed);
            }
        });
        Self { task, rows }
    }

    /// How many rows it has put in before rehome could.
    pub fn rows(&self) -> u64 {
        self.rows.load(Ordering::Relaxed)
    }
}

/// Gives how many rows were put in.
fn handle(connection: &Connection, target: &str, effect: &Effect) -> u64 {
    let written = match effect {
        Effect::Created { instance, user } if instance == target => connection.execute(
            "INSERT OR IGNORE INTO users (clerk_id, email) VALUES (?1, ?2)",
            params![user.id, user.email_addresses.first().map(|address| &address.value)],
        ),
        Effect::Deleted { instance, user } if instance == target => {
            connection.execute("DELETE FROM users WHERE clerk_id = ?1", [&user.id]).map(|_| 0)
        }
        Effect::Created { .. } | Effect::Updated { .. } | Effect::Deleted { .. } => Ok(0),
    };
    // Like its models it forgets what goes wrong: the row may be gone already, or be in use.
    written.map_or(0, |rows| rows as u64)
}

impl Drop for Handler {
    fn drop(&mut self) {
        self.task.abort();
    }
}
