//! The last step of a run: both sides are compared, and what was found is journaled.
//!
//! A unit that is equal becomes `verified`. One that differs fails, with the fields, unless the
//! source has changed since the export: then it stays where it is, and the next run compares it
//! again.

use std::collections::HashMap;
use std::sync::Arc;

use rehome_clerk::USER;
use rehome_core::journal::{Change, Detail, Journal, Reader};
use rehome_core::progress::{Progress, Watcher};
use rehome_core::{Condition, Event, Failure, Halt, Kind, Knowledge as _, Stage, UnitId};
use rehome_records::span::SPAN;

use crate::config::Config;
use crate::connect::Remotes;
use crate::document::Verdict;
use crate::error::Error;
use crate::verify::{self, UserFinding};

/// How many findings are journaled together.
const BATCH: usize = 500;

/// Compares both sides when there is anything to verify; `None` when there is not.
pub(crate) async fn verify(
    config: &Config,
    remotes: &Remotes,
    journal: &Arc<Journal>,
    reader: &Arc<Reader>,
    watcher: &Watcher,
) -> Result<Option<Verdict>, Error> {
    if !anything_to_verify(reader)? {
        return Ok(None);
    }
    let mut verdict = Verdict::default();
    let scribe = Scribe::start(Arc::clone(journal), Arc::clone(reader), Arc::clone(watcher));
    verify::users(config, remotes, reader, watcher, &mut |finding| {
        verify::count(&mut verdict, &finding.line);
        scribe.write(Note::User(finding));
    })
    .await?;
    if let (Some(databases), Some(records)) = (&remotes.databases, &config.records) {
        verify::spans(databases, records, reader, watcher, &mut verdict, &mut |span| {
            scribe.write(Note::Span(span));
        })
        .await?;
    }
    scribe.finish().await?;
    verify::sum(&mut verdict);
    Ok(Some(verdict))
}

fn anything_to_verify(reader: &Reader) -> Result<bool, Error> {
    for kind in [USER, SPAN] {
        if !reader.ready(&kind, Stage::Imported, UnitId(0), 1)?.is_empty() {
            return Ok(true);
        }
    }
    Ok(false)
}

/// What was found, on its way to the journal.
enum Note {
    User(UserFinding),
    Span(verify::SpanFinding),
}

/// Journals findings in batches, beside the comparison.
struct Scribe {
    notes: tokio::sync::mpsc::UnboundedSender<Note>,
    task: tokio::task::JoinHandle<Result<(), Error>>,
}

impl Scribe {
    fn start(journal: Arc<Journal>, reader: Arc<Reader>, watcher: Watcher) -> Self {
        let (notes, mut inbox) = tokio::sync::mpsc::unbounded_channel();
        let task = tokio::spawn(async move {
            let mut batch = Vec::with_capacity(BATCH);
            while inbox.recv_many(&mut batch, BATCH).await > 0 {
                record(&journal, &reader, &watcher, std::mem::take(&mut batch)).await?;
            }
            Ok(())
        });
        Self { notes, task }
    }

    fn write(&self, note: Note) {
        // The task only ends early with an error, which `finish` tells.
        self.notes.send(note).ok();
    }

    async fn finish(self) -> Result<(), Error> {
        drop(self.notes);
        let ended = self.task.await;
        ended.map_err(|error| Error::Halt(Halt::Bug(format!("the scribe ended early: {error}"))))?
    }
}

async fn record(
    journal: &Journal,
    reader: &Reader,
    watcher: &Watcher,
    notes: Vec<Note>,
) -> Result<(), Error> {
    let mut verdicts: HashMap<Kind, Vec<(String, Option<Failure>)>> = HashMap::new();
    for note in notes {
        match note {
            Note::User(finding) => {
                if let Some(verdict) = of_user(&finding) {
                    verdicts.entry(USER).or_default().push((finding.key, verdict));
                }
            }
            Note::Span(finding) => {
                verdicts.entry(SPAN).or_default().push((finding.key, finding.failure));
            }
        }
    }
    for (kind, verdicts) in verdicts {
        let keys: Vec<_> = verdicts.iter().map(|(key, _)| key.clone()).collect();
        let known = reader.by_source(&kind, &keys)?;
        let mut changes = Vec::new();
        let mut verified = 0;
        for (key, failure) in verdicts {
            let Some(unit) = known.get(&key) else { continue };
            let event = match (unit.state.stage, unit.state.condition, &failure) {
                (Stage::Imported, Condition::Ready, None) => Event::Advanced(Stage::Verified),
                (Stage::Imported, Condition::Ready, Some(_)) => Event::Failed,
                (Stage::Verified, Condition::Ready, Some(_)) => Event::Differed,
                // Not that far yet, or known to stand still: its own reason is the better one.
                (
                    Stage::Exported
                    | Stage::Created
                    | Stage::Mapped
                    | Stage::Imported
                    | Stage::Verified,
                    Condition::Ready
                    | Condition::Intended
                    | Condition::InDoubt
                    | Condition::Failed
                    | Condition::Held
                    | Condition::Skipped,
                    _,
                ) => continue,
            };
            match failure {
                None => verified += 1,
                Some(ref failure) => watcher.note(&Progress::Failed {
                    kind: kind.clone(),
                    source_key: key,
                    failure: failure.clone(),
                }),
            }
            let detail = Detail { failure, ..Detail::default() };
            changes.push(Change::Step { unit: unit.id, event, detail });
        }
        if !changes.is_empty() {
            journal.submit(changes).await?;
        }
        if verified > 0 {
            watcher.note(&Progress::Advanced { kind, stage: Stage::Verified, units: verified });
        }
    }
    Ok(())
}

/// What a finding means for the user: verified (`None`), a failure, or nothing to journal.
fn of_user(finding: &UserFinding) -> Option<Option<Failure>> {
    let detail = || finding.line.detail.clone().unwrap_or_default();
    let advice = "`rehome show` has the values; settle it on one side, then `rehome retry`";
    match finding.line.mark {
        '=' => Some(None),
        '*' if !finding.explained => {
            Some(Some(Failure::new("differs", detail()).with_hint(advice)))
        }
        '-' => Some(Some(Failure::new("account_gone", detail()).with_hint(advice))),
        _ => None,
    }
}
