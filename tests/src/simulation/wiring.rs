//! The wires of a simulation: the emulator and two SQLite files in this very thread, and the
//! trouble on the way to them.
//!
//! What can be said in HTTP is the emulator's own fault plan. Here is what only a client sees: no
//! connection at all, a timeout after which the server goes on serving, and everything that
//! happens to a statement on its way to a database.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use rehome_clerk::Connection;
use rehome_clerk::http::Unusable;
use rehome_clerk::wire::{Answer, Exchange, Request, Wire};
use rehome_core::Halt;
use rehome_core::journal::Writing;
use rehome_emulator::Emulator;
use rehome_migration::config::DatabaseConfig;
use rehome_migration::wiring::{End, Opening, Portions, Wiring};
use rehome_records::database::{DatabaseIdentity, Limits, Rows, Select, Statement, Written};
use rehome_records::sqlite::{SqliteReader, SqliteWriter};
use rehome_records::{ReadDatabase, WriteDatabase};
use secrecy::ExposeSecret as _;

use super::fate::{Disk, Fate};

/// Everything within one thread.
#[derive(Clone, Debug)]
pub struct Inside {
    /// Both instances.
    pub emulator: Arc<Emulator>,
    /// What happens on the way.
    pub fate: Arc<Fate>,
    /// How much is read at once.
    pub portions: Portions,
}

impl Wiring for Inside {
    fn clerk(&self, _: End, connection: &Connection) -> Result<Box<dyn Wire>, Unusable> {
        Ok(Box::new(Call { inside: self.clone(), connection: connection.clone() }))
    }

    fn reading<'a>(
        &'a self,
        _: End,
        database: &'a DatabaseConfig,
        folder: &'a Path,
    ) -> Opening<'a, dyn ReadDatabase> {
        let opened = SqliteReader::open(&folder.join(path(database))).expect("it opens").inline();
        let shaky: Arc<dyn ReadDatabase> =
            Arc::new(Shaky { inner: Arc::new(opened), fate: Arc::clone(&self.fate) });
        Some(Box::pin(std::future::ready(Ok(shaky))))
    }

    fn writing<'a>(
        &'a self,
        database: &'a DatabaseConfig,
        folder: &'a Path,
    ) -> Opening<'a, dyn WriteDatabase> {
        let opened = SqliteWriter::open(&folder.join(path(database))).expect("it opens").inline();
        let shaky: Arc<dyn WriteDatabase> =
            Arc::new(Shaky { inner: Arc::new(opened), fate: Arc::clone(&self.fate) });
        Some(Box::pin(std::future::ready(Ok(shaky))))
    }

    fn portions(&self) -> Portions {
        self.portions
    }

    fn journal(&self) -> Writing {
        Writing::Inline(Arc::new(Disk(Arc::clone(&self.fate))))
    }
}

fn path(database: &DatabaseConfig) -> &Path {
    match database {
        DatabaseConfig::Sqlite { path } => path,
        DatabaseConfig::D1 { .. } | DatabaseConfig::D1Local { .. } => {
            panic!("a simulation's databases are SQLite files")
        }
    }
}

/// The wire to one instance.
struct Call {
    inside: Inside,
    connection: Connection,
}

impl Call {
    async fn ask(&self, request: Request) -> Exchange {
        let fate = &self.inside.fate;
        // `Get` is spelled `GET`, and so is every method that is still to come.
        let method = format!("{:?}", request.method).to_uppercase();
        fate.point(&format!("send {method} {}", request.path)).await;
        if fate.trouble("no connection", 0.3) {
            tokio::time::sleep(Duration::from_millis(50)).await;
            return Exchange::NotSent { reason: "no connection".to_owned() };
        }
        let key = self.connection.key.expose_secret();
        let path = format!("/v1{}", request.path);
        // A task of its own: a server goes on when its client has given up, or has died.
        let served =
            tokio::spawn(self.inside.emulator.call(&method, &path, key, request.body.clone()));
        let answer = tokio::time::timeout(self.connection.timeout, served).await;
        fate.point(&format!("answered {method}")).await;
        let lost = |reason: &str| Exchange::Lost { reason: reason.to_owned() };
        let response = match answer {
            Err(_) => {
                fate.count("timeout", 1);
                return lost("timed out");
            }
            Ok(served) => match served.expect("the emulator does not panic") {
                Err(cut) => return lost(&cut.to_string()),
                Ok(response) => response,
            },
        };
        let header = |name| response.headers().get(name).and_then(|value| value.to_str().ok());
        let retry_after = header("retry-after").map(str::to_owned);
        let date = header("date").map(str::to_owned);
        let status = response.status().as_u16();
        if status == 429 || status >= 500 || status == 401 {
            fate.count(&format!("answered {status}"), 1);
        }
        if response.body().len() > request.limit {
            return lost("too long");
        }
        Exchange::Answered(Answer { status, retry_after, date, body: response.into_body() })
    }
}

impl Wire for Call {
    fn exchange(&self, request: Request) -> BoxFuture<'_, Exchange> {
        Box::pin(self.ask(request))
    }
}

/// A database behind a bad line.
struct Shaky<D> {
    inner: Arc<D>,
    fate: Arc<Fate>,
}

impl<D: ReadDatabase + 'static> ReadDatabase for Shaky<D> {
    fn identity(&self) -> &DatabaseIdentity {
        self.inner.identity()
    }

    fn limits(&self) -> Limits {
        self.inner.limits()
    }

    fn select(&self, queries: Vec<Select>) -> BoxFuture<'_, Result<Vec<Rows>, Halt>> {
        Box::pin(async move {
            self.fate.point("select").await;
            tokio::time::sleep(Duration::from_millis(self.fate.below(20))).await;
            let rows = self.inner.select(queries).await;
            self.fate.point("selected").await;
            rows
        })
    }

    fn bookmark(&self) -> BoxFuture<'_, Result<Option<String>, Halt>> {
        self.inner.bookmark()
    }
}

impl<D: WriteDatabase + 'static> WriteDatabase for Shaky<D> {
    fn flight_time(&self) -> Duration {
        self.inner.flight_time()
    }

    fn write(&self, statements: Vec<Statement>) -> BoxFuture<'_, Written> {
        Box::pin(async move {
            let fate = &self.fate;
            fate.point("write").await;
            tokio::time::sleep(Duration::from_millis(fate.below(50))).await;
            let unknown = |reason: &str| Written::Unknown { reason: reason.to_owned() };
            if fate.trouble("write not sent", 1.0) {
                let retry_after =
                    (fate.below(2) == 0).then(|| Duration::from_millis(fate.below(5000)));
                return Written::NotSent {
                    reason: "overloaded".to_owned(),
                    retry_after,
                    halt: None,
                };
            }
            if fate.trouble("write lost before its effect", 1.0) {
                return unknown("reset");
            }
            if fate.trouble("write late", 0.5) {
                // Its client gives up; it takes place within the time that a probe waits.
                let (inner, late) = (Arc::clone(&self.inner), fate.below(4000));
                drop(tokio::spawn(async move {
                    tokio::time::sleep(Duration::from_millis(late)).await;
                    drop(inner.write(statements).await);
                }));
                return unknown("timed out");
            }
            let written = self.inner.write(statements).await;
            fate.point("written").await;
            if fate.trouble("write lost after its effect", 1.0) {
                return unknown("reset");
            }
            written
        })
    }
}
