//! The application's webhook handler, for one person: their new account gets a bare row, and loses
//! it with the account. One person, so that both cases are in every world: a row that rehome finds
//! already there, and rows that it brings first.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rehome_emulator::{Effect, Instance};
use rusqlite::{Connection, params};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// How long the application may lag behind before a test gives up on it.
const PATIENCE: Duration = Duration::from_secs(60);

/// An application that listens until it is dropped.
#[derive(Debug)]
pub struct Application {
    task: JoinHandle<()>,
    instance: Arc<Instance>,
    heard: watch::Receiver<u64>,
}

impl Application {
    /// Listens to `instance`, and keeps a row in the database at `path` for whoever has `address`.
    ///
    /// # Panics
    /// When the database cannot be opened.
    pub fn start(instance: Arc<Instance>, path: &Path, address: &'static str) -> Self {
        let connection = Connection::open(path).expect("the target database is there");
        connection.busy_timeout(Duration::from_secs(10)).expect("a timeout can be set");
        let mut effects = instance.subscribe();
        let (count, heard) = watch::channel(0);
        let task = tokio::spawn(async move {
            while let Ok(effect) = effects.recv().await {
                answer(&connection, &effect, address);
                if !matches!(effect, Effect::Updated { .. }) {
                    count.send_modify(|count| *count += 1);
                }
            }
        });
        Self { task, instance, heard }
    }

    /// Waits until it has answered everything that has happened so far.
    ///
    /// # Panics
    /// When it does not get there.
    pub async fn settled(&self) {
        let counters = self.instance.counters();
        let happened = counters.creates + counters.deletes;
        let mut heard = self.heard.clone();
        let waited = tokio::time::timeout(PATIENCE, heard.wait_for(|heard| *heard >= happened));
        drop(waited.await.expect("the application hears of everything").expect("it listens"));
    }
}

fn answer(connection: &Connection, effect: &Effect, address: &str) {
    let is_theirs =
        |user: &rehome_emulator::User| user.email_addresses.iter().any(|one| one.value == address);
    let answered = match effect {
        Effect::Created { user, .. } if is_theirs(user) => connection.execute(
            "INSERT OR IGNORE INTO users (clerk_id, email) VALUES (?1, ?2)",
            params![user.id, address],
        ),
        Effect::Deleted { user, .. } if is_theirs(user) => {
            connection.execute("DELETE FROM users WHERE clerk_id = ?1", [&user.id])
        }
        Effect::Created { .. } | Effect::Updated { .. } | Effect::Deleted { .. } => return,
    };
    answered.expect("the application can write to its database");
}

impl Drop for Application {
    fn drop(&mut self) {
        self.task.abort();
    }
}
