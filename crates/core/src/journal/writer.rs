//! The one thread that writes.
//!
//! SQLite has one writer anyway, so there is one here, and it commits in groups: it takes every
//! change that waits, writes each inside its own savepoint, commits once, and only then answers
//! each caller. A change that cannot be made is rolled back alone. With one commit shared by all
//! who wait, full durability costs next to nothing: that is why it is never traded away.

use std::sync::Arc;

use rusqlite::{Connection, OptionalExtension as _, params};
use tokio::sync::{mpsc, oneshot, watch};

use super::Error;
use super::cache::{self, Entry};
use super::change::{Ack, Change, ExportedDetail, PAGE, PageDetail};
use super::inline::Inline;
use crate::boundary::{self, Boundary};
use crate::clock::Clock;
use crate::state::{Event, Stage, next_state};

/// How many changes may wait for the thread. Callers wait for their answers, so this bounds
/// memory without ever being the limit.
const QUEUE: usize = 4096;
/// How many changes share one commit at most; keeps a commit under a few milliseconds.
const GROUP: usize = 512;

/// A change on its way to the disk.
pub(super) struct Job {
    changes: Vec<Change>,
    answer: oneshot::Sender<Result<Ack, Error>>,
}

/// The callers' end.
pub(super) struct Writer {
    way: Way,
    version: watch::Receiver<u64>,
}

/// Where the commits are made.
enum Way {
    Thread(mpsc::Sender<Job>),
    Inline(Inline),
}

impl Writer {
    /// Starts the thread on a connection that it owns from now on. `closing` runs on it at the
    /// end, when every caller is gone.
    pub(super) fn start(
        conn: Connection,
        clock: Arc<dyn Clock>,
        closing: impl FnOnce(Connection) + Send + 'static,
    ) -> Result<(Self, std::thread::JoinHandle<()>), Error> {
        let (jobs, queue) = mpsc::channel(QUEUE);
        let (committed, version) = watch::channel(0);
        let thread = std::thread::Builder::new()
            .name("journal".into())
            .spawn(move || {
                let mut conn = conn;
                conn.set_prepared_statement_cache_capacity(64);
                run(&mut conn, queue, &committed, clock.as_ref());
                closing(conn);
            })
            .map_err(|source| Error::File {
                doing: "start the thread that writes",
                path: "the journal".into(),
                source,
            })?;
        Ok((Self { way: Way::Thread(jobs), version }, thread))
    }

    /// A writer without a thread: see [`super::inline`].
    pub(super) fn inline(inline: Inline) -> Self {
        let version = inline.version();
        Self { way: Way::Inline(inline), version }
    }

    /// Records the changes together. Returns once they are on the disk.
    pub(super) async fn submit(&self, changes: Vec<Change>) -> Result<Ack, Error> {
        let jobs = match &self.way {
            Way::Thread(jobs) => jobs,
            Way::Inline(inline) => return inline.submit(changes).await,
        };
        let (answer, answered) = oneshot::channel();
        jobs.send(Job { changes, answer }).await.map_err(|_| Error::Closed)?;
        answered.await.map_err(|_| Error::Closed)?
    }

    /// Counts commits: a reader that finds nothing at one version need not look again before
    /// the next.
    pub(super) fn version(&self) -> watch::Receiver<u64> {
        self.version.clone()
    }
}

fn run(
    conn: &mut Connection,
    mut queue: mpsc::Receiver<Job>,
    committed: &watch::Sender<u64>,
    clock: &dyn Clock,
) {
    while let Some(first) = queue.blocking_recv() {
        let mut group = vec![first];
        while group.len() < GROUP {
            match queue.try_recv() {
                Ok(job) => group.push(job),
                Err(_) => break,
            }
        }
        let (changes, answers): (Vec<_>, Vec<_>) =
            group.into_iter().map(|job| (job.changes, job.answer)).unzip();
        let now = clock.now().as_millisecond();
        match commit(conn, changes, now) {
            Ok(results) => {
                committed.send_modify(|version| *version += 1);
                for (answer, result) in answers.into_iter().zip(results) {
                    // A caller that has gone away does not undo what is durable.
                    answer.send(result).ok();
                }
            }
            Err(error) => {
                // Nothing of the group is durable. The first caller learns why; the others
                // learn that the journal refused, and all of them stop.
                tracing::error!(%error, "the journal refused a commit");
                let mut error = Some(error);
                for answer in answers {
                    answer.send(Err(error.take().unwrap_or(Error::Closed))).ok();
                }
            }
        }
    }
}

/// Writes a group in one transaction.
pub(super) fn commit(
    conn: &mut Connection,
    group: Vec<Vec<Change>>,
    now: i64,
) -> Result<Vec<Result<Ack, Error>>, Error> {
    let doing = "write to it";
    let mut tx = conn
        .transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)
        .map_err(Error::sqlite(doing))?;
    let mut results = Vec::with_capacity(group.len());
    for changes in group {
        let savepoint = tx.savepoint().map_err(Error::sqlite(doing))?;
        let result = record_all(&savepoint, &changes, now);
        match &result {
            Ok(_) => savepoint.commit().map_err(Error::sqlite(doing))?,
            // A broken file concerns everybody who waits, a change that cannot be made only one.
            Err(Error::Damaged(_)) => {
                drop(savepoint);
                return Err(result.err().unwrap_or(Error::Closed));
            }
            Err(Error::Sqlite { source, .. }) if is_disk_trouble(source) => {
                drop(savepoint);
                return Err(result.err().unwrap_or(Error::Closed));
            }
            Err(_) => drop(savepoint),
        }
        results.push(result);
    }
    boundary::reach(Boundary::GroupWritten);
    tx.commit().map_err(Error::sqlite(doing))?;
    boundary::reach(Boundary::GroupDurable);
    Ok(results)
}

/// Whether the file as a whole is in trouble, rather than one change.
fn is_disk_trouble(error: &rusqlite::Error) -> bool {
    matches!(
        error.sqlite_error_code(),
        Some(
            rusqlite::ErrorCode::DiskFull
                | rusqlite::ErrorCode::SystemIoFailure
                | rusqlite::ErrorCode::DatabaseCorrupt
                | rusqlite::ErrorCode::ReadOnly
        )
    )
}

fn record_all(conn: &Connection, changes: &[Change], now: i64) -> Result<Ack, Error> {
    let mut ack = Ack::default();
    for change in changes {
        match change {
            Change::Page { kind, units, cursor, done, total } => {
                for unit in units {
                    if known(conn, kind.as_str(), &unit.source_key)? {
                        continue;
                    }
                    let id = next_unit(conn)?;
                    let detail = to_json(&ExportedDetail {
                        kind: kind.clone(),
                        scope: unit.scope.clone(),
                        key: unit.source_key.clone(),
                        label: unit.label.clone(),
                        aliases: unit.aliases.clone(),
                        data: unit.data.clone(),
                    })?;
                    ack.seq = append(
                        conn,
                        now,
                        Some(id),
                        Event::Exported.as_str(),
                        (None, Some(Stage::Exported)),
                        0,
                        Some(&detail),
                    )?;
                    ack.new_units += 1;
                }
                let detail = to_json(&PageDetail {
                    kind: kind.clone(),
                    cursor: cursor.clone(),
                    done: *done,
                    total: *total,
                })?;
                ack.seq = append(conn, now, None, PAGE, (None, None), 0, Some(&detail))?;
            }
            Change::Step { unit, event, detail } => {
                let before = cache::position(conn, unit.0)?;
                let state = next_state(Some(before.state), *event)
                    .map_err(|source| Error::Illegal { unit: unit.0, source })?;
                let attempts = match event {
                    Event::Intended | Event::UndoIntended => before.attempts + 1,
                    Event::Retried => 0,
                    _ if state.stage != before.state.stage => 0,
                    _ => before.attempts,
                };
                let detail = to_json(detail)?;
                let detail = (detail != "{}").then_some(detail);
                ack.seq = append(
                    conn,
                    now,
                    Some(unit.0),
                    event.as_str(),
                    (Some(before.state.stage), Some(state.stage)),
                    attempts,
                    detail.as_deref(),
                )?;
            }
            Change::Note { event, detail } => {
                let detail = detail.to_string();
                ack.seq = append(conn, now, None, event, (None, None), 0, Some(&detail))?;
            }
        }
    }
    Ok(ack)
}

fn to_json<T: serde::Serialize>(value: &T) -> Result<String, Error> {
    serde_json::to_string(value).map_err(|error| Error::Damaged(error.to_string()))
}

fn known(conn: &Connection, kind: &str, source_key: &str) -> Result<bool, Error> {
    conn.prepare_cached("SELECT 1 FROM unit WHERE kind = ?1 AND source_key = ?2")
        .and_then(|mut statement| statement.query_row([kind, source_key], |_| Ok(())).optional())
        .map(|found| found.is_some())
        .map_err(Error::sqlite("look a unit up"))
}

fn next_unit(conn: &Connection) -> Result<i64, Error> {
    conn.prepare_cached("SELECT coalesce(max(id), 0) + 1 FROM unit")
        .and_then(|mut statement| statement.query_row([], |row| row.get(0)))
        .map_err(Error::sqlite("number a unit"))
}

fn append(
    conn: &Connection,
    now: i64,
    unit: Option<i64>,
    event: &str,
    (from, to): (Option<Stage>, Option<Stage>),
    attempt: i64,
    detail: Option<&str>,
) -> Result<i64, Error> {
    conn.prepare_cached(
        "INSERT INTO entry (unit, at, event, from_stage, to_stage, attempt, detail)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
    )
    .and_then(|mut statement| {
        statement.execute(params![
            unit,
            now,
            event,
            from.map(Stage::rank),
            to.map(Stage::rank),
            attempt,
            detail
        ])
    })
    .map_err(Error::sqlite("append to its log"))?;
    let seq = conn.last_insert_rowid();
    cache::apply(conn, &Entry { seq, unit, event, from, to, attempt, detail })?;
    Ok(seq)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use serde_json::json;

    use super::super::schema;
    use super::*;
    use crate::clock::SystemClock;

    type Answer = oneshot::Receiver<Result<Ack, Error>>;

    /// What the thread does with notes of these lengths that all wait when it looks: the number of
    /// commits, and what each caller was told.
    fn written(conn: &mut Connection, lengths: &[usize]) -> (u64, Vec<Result<Ack, Error>>) {
        let (jobs, queue) = mpsc::channel(QUEUE);
        let wait = |length: &usize| -> Answer {
            let (answer, answered) = oneshot::channel();
            let detail = json!("x".repeat(*length));
            let job = Job { changes: vec![Change::Note { event: "remark", detail }], answer };
            assert!(jobs.try_send(job).is_ok());
            answered
        };
        let answers: Vec<Answer> = lengths.iter().map(wait).collect();
        drop(jobs);
        let (committed, version) = watch::channel(0);
        run(conn, queue, &committed, &SystemClock);
        let told = answers.into_iter().map(|answer| answer.blocking_recv().unwrap()).collect();
        (*version.borrow(), told)
    }

    #[test]
    fn all_who_wait_share_a_commit_up_to_its_size() {
        let mut conn = schema::open_scratch(Path::new("")).unwrap();
        let (commits, told) = written(&mut conn, &[1; GROUP + 1]);
        assert_eq!(commits, 2);
        let seqs: Vec<i64> = told.into_iter().map(|told| told.unwrap().seq).collect();
        assert_eq!(seqs, (1..=seqs.len() as i64).collect::<Vec<_>>());
    }

    #[test]
    fn a_commit_that_fails_is_told_to_all_who_waited_and_counts_for_nothing() {
        let mut conn = schema::open_scratch(Path::new("")).unwrap();
        let pages: i64 = conn.pragma_query_value(None, "page_count", |row| row.get(0)).unwrap();
        conn.pragma_update(None, "max_page_count", pages + 2).unwrap();
        let (commits, told) = written(&mut conn, &[1, 100_000, 1]);
        assert_eq!(commits, 0);
        assert!(matches!(
            &told[..],
            [Err(Error::Sqlite { .. }), Err(Error::Closed), Err(Error::Closed)]
        ));
    }
}
