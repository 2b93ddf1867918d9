//! The application's own webhook handler, as many applications have it: a new account gets a bare
//! row at once, a deleted one loses it. It races with rehome, which is why it is here.

use std::path::Path;
use std::time::Duration;

use rehome_emulator::{Effect, Emulator};
use rusqlite::{Connection, params};
use tokio::task::JoinHandle;

/// How long the handler takes to hear of an effect.
const DELAY: Duration = Duration::from_millis(5);

/// A handler at work until it is dropped.
#[derive(Debug)]
pub struct Handler(JoinHandle<()>);

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
        Self(tokio::spawn(async move {
            while let Ok(effect) = effects.recv().await {
                tokio::time::sleep(DELAY).await;
                handle(&connection, &target, &effect);
            }
        }))
    }
}

fn handle(connection: &Connection, target: &str, effect: &Effect) {
    let written = match effect {
        Effect::Created { instance, user } if instance == target => connection.execute(
            "INSERT OR IGNORE INTO users (clerk_id, email) VALUES (?1, ?2)",
            params![user.id, user.email_addresses.first().map(|address| &address.value)],
        ),
        Effect::Deleted { instance, user } if instance == target => {
            connection.execute("DELETE FROM users WHERE clerk_id = ?1", [&user.id])
        }
        Effect::Created { .. } | Effect::Updated { .. } | Effect::Deleted { .. } => Ok(0),
    };
    // Like its models it forgets what goes wrong: the row may be gone already, or be in use.
    let _refused = written.is_err();
}

impl Drop for Handler {
    fn drop(&mut self) {
        self.0.abort();
    }
}
