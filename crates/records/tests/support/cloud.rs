//! Two D1 databases behind the emulated API, with faults between, and a migration from one to the
//! other without an engine.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State as AxumState};
use axum::http::StatusCode;
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use rehome_core::backoff::Backoff;
use rehome_core::pacer::{Pacer, Rate};
use rehome_core::{Knowledge, Origin, Source as _, Unit};
use rehome_emulator::d1::{D1, DatabaseSpec, router};
use rehome_records::d1::{D1Config, D1Reader, D1Writer};
use rehome_records::ids::IdColumns;
use rehome_records::import::ImportSpans;
use rehome_records::layout::Layout;
use rehome_records::policy::Unmapped;
use rehome_records::schema::{self, Selection};
use rehome_records::span::{SpanSize, SpanSource};
use rehome_records::verify::RowAudit;
use rehome_records::{DatabaseKind, ReadDatabase, WriteDatabase};

use super::{Memory, fresh};

pub(crate) const SOURCE: &str = "11111111-1111-4111-8111-111111111111";
pub(crate) const TARGET: &str = "22222222-2222-4222-8222-222222222222";

/// What happens to the next requests, in order.
#[derive(Clone, Debug)]
pub(crate) enum Fault {
    None,
    /// Answered without being looked at.
    Instead(StatusCode, &'static str),
    /// Done, and the answer is lost.
    Lost,
    /// Done, and the answer is cut off.
    Truncated,
}

#[derive(Clone, Default)]
pub(crate) struct Faults {
    pub(crate) plan: Arc<Mutex<Vec<Fault>>>,
    pub(crate) seen: Arc<AtomicU32>,
}

async fn meddle(AxumState(faults): AxumState<Faults>, request: Request, next: Next) -> Response {
    faults.seen.fetch_add(1, Ordering::SeqCst);
    let fault = {
        let mut plan = faults.plan.lock().unwrap();
        if plan.is_empty() { Fault::None } else { plan.remove(0) }
    };
    match fault {
        Fault::None => next.run(request).await,
        Fault::Instead(status, body) => (status, [("retry-after", "0")], body).into_response(),
        Fault::Lost => {
            drop(next.run(request).await);
            (StatusCode::BAD_GATEWAY, "<html>").into_response()
        }
        Fault::Truncated => {
            let response = next.run(request).await;
            let body = axum::body::to_bytes(response.into_body(), usize::MAX).await.unwrap();
            Response::new(Body::from(body.slice(..body.len() / 2)))
        }
    }
}

pub(crate) struct Cloud {
    pub(crate) d1: Arc<D1>,
    pub(crate) faults: Faults,
    pub(crate) url: String,
}

impl Cloud {
    pub(crate) async fn new() -> Self {
        Self::of(None).await
    }

    /// The target is the database in this file.
    pub(crate) async fn over(target: &Path) -> Self {
        Self::of(Some(target.to_owned())).await
    }

    async fn of(target: Option<PathBuf>) -> Self {
        let spec = |uuid: &str, name: &str, path| DatabaseSpec {
            uuid: uuid.to_owned(),
            name: name.to_owned(),
            path,
        };
        let databases = vec![spec(SOURCE, "badges-testing", None), spec(TARGET, "badges", target)];
        let d1 = Arc::new(D1::new("acc", "token", databases).unwrap());
        let faults = Faults::default();
        let app: Router = router(Arc::clone(&d1)).layer(from_fn_with_state(faults.clone(), meddle));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/client/v4", listener.local_addr().unwrap());
        tokio::spawn(async move { axum::serve(listener, app).await });
        Self { d1, faults, url }
    }

    pub(crate) fn config(&self, database: &str) -> D1Config {
        let fast = Rate { requests: 1_000_000, window: Duration::from_secs(1) };
        let mut config =
            D1Config::new("acc", database, "token".to_owned().into(), "the D1 database");
        config.api_url.clone_from(&self.url);
        config.pacer = Arc::new(Pacer::new(fast, 1.0));
        config.backoff =
            Backoff { first: Duration::from_millis(1), cap: Duration::from_millis(2), attempts: 3 };
        config
    }

    pub(crate) fn next(&self, plan: &[Fault]) {
        plan.clone_into(&mut self.faults.plan.lock().unwrap());
    }

    pub(crate) async fn reader(&self, name: &str) -> Arc<D1Reader> {
        Arc::new(D1Reader::connect(self.config(name)).await.unwrap())
    }

    pub(crate) async fn writer(&self, name: &str) -> Arc<D1Writer> {
        Arc::new(D1Writer::connect(self.config(name)).await.unwrap())
    }
}

pub(crate) struct Move {
    pub(crate) source: Arc<dyn ReadDatabase>,
    pub(crate) target: Arc<dyn WriteDatabase>,
    pub(crate) layout: Arc<Layout>,
    pub(crate) journal: Arc<Memory>,
}

impl Move {
    pub(crate) async fn new(cloud: &Cloud, users: &[(String, Option<String>)]) -> Self {
        let source = cloud.reader("badges-testing").await as Arc<dyn ReadDatabase>;
        let target = cloud.writer("badges").await as Arc<dyn WriteDatabase>;
        let from = schema::read(source.as_ref(), &Selection::default()).await.unwrap();
        let all = Selection { tables: None, exclude: Vec::new() };
        let to = schema::read(target.as_ref(), &all).await.unwrap();
        assert!(schema::compare(&from, &to, DatabaseKind::D1).is_empty());
        let declared = ["users.clerk_id", "events.payload:$.actor.id"]
            .map(|place| (place.to_owned(), "user".to_owned()));
        let ids = IdColumns::resolve(&BTreeMap::from(declared), &from).unwrap();
        let journal = Arc::new(Memory::default());
        for (user, _) in users {
            journal.mapped(user, &user.replace("user_", "user_new"), Origin::Created);
        }
        Self { source, target, layout: Arc::new(Layout::new(&from, &to, &ids)), journal }
    }

    pub(crate) fn knowledge(&self) -> Arc<dyn Knowledge> {
        Arc::clone(&self.journal) as Arc<dyn Knowledge>
    }

    pub(crate) fn worker(&self) -> ImportSpans {
        ImportSpans::new(
            Arc::clone(&self.source),
            Arc::clone(&self.target),
            self.knowledge(),
            Arc::clone(&self.layout),
            Unmapped::Keep,
            2,
        )
    }

    pub(crate) async fn units(&self) -> Vec<Unit> {
        let spans = SpanSource::new(Arc::clone(&self.source), Arc::clone(&self.layout))
            .sized(SpanSize::LARGE);
        let (mut units, mut cursor) = (Vec::new(), None);
        loop {
            let page = spans.next_page(cursor).await.unwrap();
            for found in page.units {
                units.push(fresh(units.len() as i64 + 1, spans.kind(), found));
            }
            if page.done {
                return units;
            }
            cursor = Some(page.cursor);
        }
    }

    /// Compares both sides, and finds `total` rows that are equal and no other.
    pub(crate) async fn assert_equal(&self, total: u64) {
        let target = Arc::clone(&self.target) as Arc<dyn ReadDatabase>;
        let audit = RowAudit::new(
            Arc::clone(&self.source),
            target,
            self.knowledge(),
            Arc::clone(&self.layout),
            Unmapped::Keep,
        );
        let reports = audit
            .tables(&mut |table, key, finding| panic!("{table} {key}: {finding:?}"))
            .await
            .unwrap();
        let equal: u64 = reports.iter().map(|report| report.equal).sum();
        assert_eq!(equal, total);
        assert!(reports.iter().all(|report| report.extra == 0));
        assert!(audit.broken_references().await.unwrap().is_empty());
    }
}
