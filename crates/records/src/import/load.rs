//! Many spans in one file, where the target takes files.
//!
//! D1's `/import` takes a file of any number of statements for a handful of requests, all or
//! nothing; but the database answers nobody meanwhile, so it is for a target that is not in use
//! yet, and a person has to agree. The protocol stays that of every span: its intent is durable
//! before the file goes out, and its outcome is its own. So nothing here has to be journaled
//! besides: a process that dies on the way leaves spans with intents, which the next one looks for
//! in the target like any other.
//!
//! What goes into the file are new rows of plain tables. Rows that change or make room, tables
//! with triggers, tables in a circle of references, tables that get new keys, and rows too long
//! for a statement are written by [`ImportSpans`], in the same batch; and so is everything else as
//! soon as the database has refused a file. A refused file should have left nothing: Cloudflare
//! then restores the database to where it was. That is not taken on trust. Its spans are in doubt,
//! and each is looked for before it is written again.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::future::BoxFuture;
use rehome_core::progress::{Progress, Watcher};
use rehome_core::{
    Done, Halt, Outcome, Pass, Payload as Opaque, Prepared, Probed, Step, Transition, Unit,
};

use super::statements::Way;
use super::{ImportSpans, Payload};
use crate::database::{Written, guard};
use crate::script::{Script, Writer, fits};
use crate::span::SpanData;

/// So many spans share a file at most. With spans of 27,000 rows these are 430,000 rows and about
/// 55 MB, which D1 does in a minute or so (66,000 rows a second were measured on its engine), and
/// what is known of those spans meanwhile takes some megabytes of memory.
const SPANS: usize = 16;

/// How long a batch that is not full waits for more spans, while others are still found.
const LINGER: Duration = Duration::from_secs(30);

/// Writes spans of rows, many in one file where that is worth it: `exported` to `imported`.
pub struct LoadSpans {
    spans: ImportSpans,
    from_rows: u64,
    watcher: Watcher,
    /// Whether the target has refused a file.
    refused: AtomicBool,
}

/// A span that is in the file of its batch.
struct Loaded {
    done: Done,
    file: Arc<Mutex<Option<Script>>>,
}

impl LoadSpans {
    /// Batches of fewer than `from_rows` rows are written as `spans` writes them.
    pub fn new(spans: ImportSpans, from_rows: u64, watcher: Watcher) -> Self {
        Self { spans, from_rows, watcher, refused: AtomicBool::new(false) }
    }

    fn worthwhile(&self, units: &[Unit]) -> Result<bool, Halt> {
        if self.refused.load(Ordering::Relaxed) || !self.spans.target.takes_files() {
            return Ok(false);
        }
        let mut rows = 0;
        for unit in units {
            rows += SpanData::of(unit)?.rows;
        }
        Ok(rows >= self.from_rows)
    }

    /// Sends the file.
    async fn load(&self, file: &Mutex<Option<Script>>) -> Written {
        let script = file.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(script) = script else {
            let reason = "the file of the batch is gone".to_owned();
            return Written::NotSent { reason, retry_after: None, halt: None };
        };
        self.watcher.note(&Progress::Waiting {
            reason: format!(
                "{} imports {} rows, and answers nobody meanwhile",
                self.spans.target.identity(),
                script.rows()
            ),
            delay: None,
        });
        let written = self.spans.target.load(script).await;
        if let Written::Refused { message, .. } = &written {
            tracing::warn!("an import was refused, so rows go by requests from here: {message}");
            self.refused.store(true, Ordering::Relaxed);
        }
        written
    }
}

/// What the answer to a file says of one span in it.
fn outcome(written: &mut Written, done: Done) -> Outcome {
    match written {
        Written::Done { .. } => Outcome::Done(done),
        Written::Refused { message, .. } => {
            Outcome::Unknown { reason: format!("the import was refused: {message}") }
        }
        // The run ends once.
        Written::NotSent { reason, retry_after, halt } => Outcome::NotSent {
            reason: reason.clone(),
            retry_after: *retry_after,
            halt: halt.take(),
        },
        Written::Unknown { reason } => Outcome::Unknown { reason: reason.clone() },
    }
}

/// Whether these rows can go into a file.
fn is_plain(payload: &Payload) -> bool {
    let Payload { form, rows, .. } = payload;
    form.triggers.is_empty()
        && !form.rekeyed()
        && !form.parents.iter().any(|parent| parent.circle)
        && rows.iter().all(|row| row.way == Way::Insert && fits(&row.row))
}

/// Appends a span.
fn append(writer: &mut Writer, payload: &Payload) -> Result<(), Halt> {
    let Payload { form, rows, .. } = payload;
    // A trigger that was made since the schema was read would fire.
    let table = crate::value::Value::text(form.target_table.clone()).to_sql();
    writer.push(&guard(&format!(
        "EXISTS (SELECT 1 FROM sqlite_master AS m WHERE m.type = 'trigger' \
         AND m.tbl_name = {table} COLLATE NOCASE)"
    )))?;
    writer.insert(form, rows.iter().map(|row| &*row.row))?;
    if let Some(counter) = super::statements::counter(form) {
        writer.push(&counter.sql)?;
    }
    Ok(())
}

impl Transition for LoadSpans {
    fn step(&self) -> Step {
        Step { batch: SPANS, concurrency: 1, ..self.spans.step() }
    }

    fn flight_time(&self) -> Duration {
        self.spans.flight_time()
    }

    fn linger(&self) -> Duration {
        LINGER
    }

    fn prepare<'a>(
        &'a self,
        units: &'a [Unit],
        pass: Pass,
    ) -> BoxFuture<'a, Result<Vec<Prepared>, Halt>> {
        Box::pin(async move {
            let mut writer = if self.worthwhile(units)? { Some(Writer::new()?) } else { None };
            let file: Arc<Mutex<Option<Script>>> = Arc::default();
            let mut prepared = Vec::with_capacity(units.len());
            for unit in units {
                let mut one = self.spans.prepare_one(unit, pass).await?;
                if let (Prepared::Effect { payload, .. }, Some(writer)) = (&mut one, &mut writer)
                    && let Some(span) = payload.downcast_ref::<Payload>()
                    && is_plain(span)
                {
                    append(writer, span)?;
                    // Its rows are on the disk now.
                    *payload =
                        Box::new(Loaded { done: span.done.clone(), file: Arc::clone(&file) });
                }
                prepared.push(one);
            }
            if let Some(writer) = writer {
                *file.lock().unwrap_or_else(PoisonError::into_inner) = Some(writer.finish()?);
            }
            Ok(prepared)
        })
    }

    fn apply<'a>(&'a self, unit: &'a Unit, payload: Opaque) -> BoxFuture<'a, Outcome> {
        self.spans.apply(unit, payload)
    }

    fn joint(&self) -> bool {
        true
    }

    fn apply_joint<'a>(
        &'a self,
        units: &'a [Unit],
        payloads: Vec<Opaque>,
    ) -> BoxFuture<'a, Vec<Outcome>> {
        Box::pin(async move {
            let mut written = None;
            let mut outcomes = Vec::with_capacity(units.len());
            for (unit, payload) in units.iter().zip(payloads) {
                outcomes.push(match payload.downcast::<Loaded>() {
                    Ok(span) => {
                        let Loaded { done, file } = *span;
                        let answer = match &mut written {
                            Some(answer) => answer,
                            none => none.insert(self.load(&file).await),
                        };
                        outcome(answer, done)
                    }
                    Err(payload) => self.spans.apply(unit, payload).await,
                });
            }
            outcomes
        })
    }

    fn probe<'a>(&'a self, units: &'a [Unit]) -> BoxFuture<'a, Result<Vec<Probed>, Halt>> {
        self.spans.probe(units)
    }
}
