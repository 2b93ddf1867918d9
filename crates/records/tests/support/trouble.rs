//! A target whose requests are lost, refused, or the last thing that its client does.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use futures::future::BoxFuture;
use rehome_core::Halt;
use rehome_records::{
    DatabaseIdentity, Limits, ReadDatabase, Rows, Select, Statement, WriteDatabase, Written,
};
use tokio::sync::Notify;

/// What happens to the requests that write.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Trouble {
    None,
    /// Every answer is lost, in turn before and after the request is carried out.
    Lost,
    /// The application writes just before each request that deletes from a table, so that what was
    /// read is not so any more.
    Meddled {
        table: &'static str,
        sql: &'static str,
    },
    /// The application takes the smallest key that a request is about to insert into a table, so
    /// often: `?1` of these statements is the key.
    Takes {
        table: &'static str,
        insert: &'static str,
        times: u64,
    },
    /// The process dies at the request of this number, before or after it is carried out.
    Dies {
        at: u64,
        after: bool,
    },
}

/// A target in trouble.
pub(crate) struct Troubled {
    pub(crate) inner: Arc<dyn WriteDatabase>,
    pub(crate) trouble: Trouble,
    pub(crate) writes: AtomicU64,
    pub(crate) seen: Mutex<BTreeMap<String, u64>>,
    pub(crate) death: Arc<Notify>,
    pub(crate) meddle: Box<dyn Fn(&str) + Send + Sync>,
    pub(crate) limits: Option<Limits>,
}

impl ReadDatabase for Troubled {
    fn identity(&self) -> &DatabaseIdentity {
        self.inner.identity()
    }

    fn limits(&self) -> Limits {
        self.limits.unwrap_or_else(|| self.inner.limits())
    }

    fn select(&self, queries: Vec<Select>) -> BoxFuture<'_, Result<Vec<Rows>, Halt>> {
        self.inner.select(queries)
    }

    fn bookmark(&self) -> BoxFuture<'_, Result<Option<String>, Halt>> {
        self.inner.bookmark()
    }
}

impl WriteDatabase for Troubled {
    fn write(&self, statements: Vec<Statement>) -> BoxFuture<'_, Written> {
        Box::pin(async move {
            let number = self.writes.fetch_add(1, Ordering::SeqCst);
            match self.trouble {
                Trouble::Lost => {
                    // Each request is lost at most twice, so that it ends.
                    let times = {
                        let mut seen = self.seen.lock().unwrap();
                        let times = seen.entry(format!("{statements:?}")).or_insert(0);
                        *times += 1;
                        *times
                    };
                    if times > 1 || number.is_multiple_of(2) {
                        self.inner.write(statements).await;
                    }
                    Written::Unknown { reason: "the answer was lost".to_owned() }
                }
                Trouble::Dies { at, after } if number == at => {
                    if after {
                        self.inner.write(statements).await;
                    }
                    self.death.notify_one();
                    std::future::pending().await
                }
                Trouble::Meddled { table, sql } => {
                    let deletes = format!("DELETE FROM \"{table}\"");
                    if statements.iter().any(|one| one.sql.starts_with(&deletes)) {
                        (self.meddle)(sql);
                    }
                    self.inner.write(statements).await
                }
                Trouble::Takes { table, insert, times } => {
                    let inserts = format!("INSERT OR ABORT INTO \"{table}\"");
                    let first = statements.iter().find(|one| one.sql.starts_with(&inserts));
                    let taken = self.seen.lock().unwrap().get(table).copied().unwrap_or(0);
                    if let (Some(first), true) = (first, taken < times) {
                        let rows: Vec<Vec<serde_json::Value>> =
                            serde_json::from_str(&first.params[0]).unwrap();
                        (self.meddle)(&insert.replace("?1", &rows[0][0].to_string()));
                        self.seen.lock().unwrap().insert(table.to_owned(), taken + 1);
                    }
                    self.inner.write(statements).await
                }
                Trouble::None | Trouble::Dies { .. } => self.inner.write(statements).await,
            }
        })
    }
}
