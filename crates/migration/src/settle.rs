//! The last step of a run: both sides are compared, and what was found is journaled.
//!
//! A unit that is equal becomes `verified`. One that differs fails, with the fields, unless the
//! source has changed since the export: then it stays where it is, and the next run compares it
//! again.

use std::sync::Arc;

use futures::future::BoxFuture;
use rehome_clerk::USER;
use rehome_core::journal::{Change, Detail, Journal, Reader};
use rehome_core::progress::{Progress, Watcher};
use rehome_core::{Condition, Event, Failure, Kind, Knowledge as _, Stage, UnitId};
use rehome_records::span::SPAN;

use crate::config::Config;
use crate::connect::Remotes;
use crate::document::Verdict;
use crate::error::Error;
use crate::verify::{self, SpanFinding, UserFinding};

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
    let scribe = Scribe {
        journal: Arc::clone(journal),
        reader: Arc::clone(reader),
        watcher: Arc::clone(watcher),
    };
    let mut hear = |found: Vec<UserFinding>| -> BoxFuture<'static, _> {
        for finding in &found {
            verify::count(&mut verdict, &finding.line);
        }
        let verdicts = found.into_iter().filter_map(|finding| {
            let verdict = of_user(&finding)?;
            Some((finding.key, verdict))
        });
        let (scribe, verdicts) = (scribe.clone(), verdicts.collect());
        Box::pin(async move { scribe.record(USER, verdicts).await })
    };
    verify::users(config, remotes, reader, watcher, &mut hear).await?;
    if let (Some(databases), Some(records)) = (&remotes.databases, &config.records) {
        let mut hear = |found: Vec<SpanFinding>| -> BoxFuture<'static, _> {
            let verdicts = found.into_iter().map(|span| (span.key, span.failure)).collect();
            let scribe = scribe.clone();
            Box::pin(async move { scribe.record(SPAN, verdicts).await })
        };
        verify::spans(databases, records, reader, watcher, &mut verdict, &mut hear).await?;
    }
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

/// Journals what was found, a page at a time.
#[derive(Clone)]
struct Scribe {
    journal: Arc<Journal>,
    reader: Arc<Reader>,
    watcher: Watcher,
}

impl Scribe {
    /// For each unit: verified (`None`), or why it is not.
    async fn record(
        &self,
        kind: Kind,
        verdicts: Vec<(String, Option<Failure>)>,
    ) -> Result<(), Error> {
        let keys: Vec<_> = verdicts.iter().map(|(key, _)| key.clone()).collect();
        let known = self.reader.by_source(&kind, &keys)?;
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
                    | Condition::Skipped
                    | Condition::Undoing
                    | Condition::UndoInDoubt
                    | Condition::Stuck
                    | Condition::RolledBack,
                    _,
                ) => continue,
            };
            match failure {
                None => verified += 1,
                Some(ref failure) => self.watcher.note(&Progress::Failed {
                    kind: kind.clone(),
                    source_key: key,
                    failure: failure.clone(),
                }),
            }
            let detail = Detail { failure, ..Detail::default() };
            changes.push(Change::Step { unit: unit.id, event, detail });
        }
        if !changes.is_empty() {
            self.journal.submit(changes).await?;
        }
        if verified > 0 {
            self.watcher.note(&Progress::Advanced {
                kind,
                stage: Stage::Verified,
                units: verified,
            });
        }
        Ok(())
    }
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
