//! The last step of a run: both sides are compared, and what was found is journaled.
//!
//! A unit that is equal becomes `verified`. One that differs because the source has moved on is
//! *reopened*: it goes again from where the change matters, in the next pass of the same run or in
//! the next run. Any other difference is a failure, with the fields; but a row that was verified
//! once, and that only the target has changed since, belongs to its application.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use futures::future::BoxFuture;
use rehome_clerk::USER;
use rehome_clerk::export::renewed;
use rehome_core::journal::{Change, Journal, Reader};
use rehome_core::progress::{Progress, Watcher};
use rehome_core::{Condition, Event, Exported, Failure, Halt, Kind, Knowledge as _, Stage, UnitId};
use rehome_records::in_place::LOT;
use rehome_records::policy::Removed;
use rehome_records::span::SPAN;
use rehome_records::verify::Moved;

use crate::config::Config;
use crate::connect::Remotes;
use crate::departed;
use crate::document::Verdict;
use crate::error::Error;
use crate::in_place;
use crate::verify::{self, SpanFinding, UserFinding};

/// So many users whose old ids are left are remembered, to say of their lots that they are not
/// verified. With more of them, some lots are looked at again by the next run.
const LEFT: usize = 50_000;

/// What a comparison has led to.
pub(crate) struct Settled {
    /// What was found; `None` when there was nothing to compare.
    pub(crate) verdict: Option<Verdict>,
    /// Units of which the source has moved on, or that stood still and can go on.
    pub(crate) moved: u64,
    /// Those that stood still and were let go on.
    pub(crate) released: u64,
}

/// Which units a comparison sends on their way again.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Again {
    /// Those of which the source has moved on.
    pub(crate) moved: bool,
    /// Those that stand still and can go on, for whatever reason.
    pub(crate) standing: bool,
}

/// Compares both sides when there is anything to verify. Units that have to go again are reopened when
/// `again` says that another pass follows; else they stay as they are.
pub(crate) async fn verify(
    config: &Config,
    remotes: &Remotes,
    journal: &Arc<Journal>,
    reader: &Arc<Reader>,
    watcher: &Watcher,
    again: Again,
) -> Result<Settled, Error> {
    if !anything_to_verify(reader)? {
        let could = standing(config, remotes, journal, reader, again).await?;
        let released = if again.standing { could } else { 0 };
        return Ok(Settled { verdict: None, moved: could, released });
    }
    let mut verdict = Verdict::default();
    let mut released = 0;
    let scribe = Scribe {
        journal: Arc::clone(journal),
        reader: Arc::clone(reader),
        watcher: Arc::clone(watcher),
        reopen: again.moved,
        departed: config.users.on_removed,
        moved: Arc::new(AtomicU64::new(0)),
    };
    let mut hear = |found: Vec<UserFinding>| -> BoxFuture<'static, _> {
        for finding in &found {
            if finding.overtaken {
                verdict.users.overtaken += 1;
            } else {
                verify::count_user(&mut verdict, finding);
            }
        }
        let verdicts = found.into_iter().filter_map(|finding| {
            let key = finding.key.clone();
            Some((key, of_user(finding)?))
        });
        let (scribe, verdicts) = (scribe.clone(), verdicts.collect());
        Box::pin(async move { scribe.record(USER, verdicts).await })
    };
    verify::users(config, remotes, reader, watcher, &mut hear).await?;
    if let (Some(databases), Some(records)) = (&remotes.databases, &config.records) {
        if databases.places.is_some() {
            // One line a user is enough, and a whole database may be left.
            let mut left = BTreeMap::new();
            let mut hear = |user, line| {
                if left.len() < LEFT {
                    left.entry(user).or_insert(line);
                }
            };
            let about = &mut verdict;
            in_place::verify(databases, records, reader, watcher, about, &mut hear).await?;
            let lots = in_place::lots(reader, &left)?;
            let lots = lots.into_iter().map(|(lot, first)| (lot, of_lot(first))).collect();
            scribe.record(LOT, lots).await?;
            verify::sum(&mut verdict);
            let moved = scribe.moved.load(Ordering::Relaxed);
            return Ok(Settled { verdict: Some(verdict), moved, released: 0 });
        }
        let mut hear = |found: Vec<SpanFinding>| -> BoxFuture<'static, _> {
            let verdicts =
                found.into_iter().map(|span| (span.key, of_span(span.failure, span.moved)));
            let verdicts = verdicts.collect();
            let scribe = scribe.clone();
            Box::pin(async move { scribe.record(SPAN, verdicts).await })
        };
        verify::spans(databases, records, reader, watcher, &mut verdict, &mut hear).await?;
        let could = standing(config, remotes, journal, reader, again).await?;
        scribe.moved.fetch_add(could, Ordering::Relaxed);
        released = if again.standing { could } else { 0 };
    }
    verify::sum(&mut verdict);
    let moved = scribe.moved.load(Ordering::Relaxed);
    Ok(Settled { verdict: Some(verdict), moved, released })
}

/// How many spans that stand still could go on; they are reopened if `again` says so.
async fn standing(
    config: &Config,
    remotes: &Remotes,
    journal: &Journal,
    reader: &Arc<Reader>,
    again: Again,
) -> Result<u64, Error> {
    let (Some(databases), Some(records)) = (&remotes.databases, &config.records) else {
        return Ok(0);
    };
    if databases.places.is_some() {
        return Ok(0);
    }
    let mut could = Vec::new();
    let mut hear = |unit, reason| could.push((unit, reason));
    verify::standing(databases, records, reader, &mut hear).await?;
    let units = could.len() as u64;
    if again.standing && units > 0 {
        let changes = could
            .into_iter()
            .map(|(unit, reason)| Change::reopened(unit, Stage::Exported, reason, None));
        journal.submit(changes.collect()).await?;
    }
    Ok(units)
}

fn anything_to_verify(reader: &Reader) -> Result<bool, Error> {
    for kind in [USER, SPAN, LOT] {
        for stage in [Stage::Imported, Stage::Verified] {
            if !reader.ready_ids(&kind, stage, UnitId(0), 1)?.is_empty() {
                return Ok(true);
            }
        }
    }
    Ok(false)
}

/// What was found about one unit.
enum Found {
    /// It is as it should be.
    Equal,
    /// It differs, for no good reason.
    Differs(Failure),
    /// The source has deleted it: it is taken out, and its counterpart stays, or goes in the next
    /// pass ([`departed`]).
    Left(Failure),
    /// The source has moved on: it goes again from this stage.
    Moved { to: Stage, reason: String, now: Option<Box<Exported>> },
}

impl Found {
    /// Whether the source has moved on.
    const fn is_news(&self) -> bool {
        match self {
            Self::Left(_) | Self::Moved { .. } => true,
            Self::Equal | Self::Differs(_) => false,
        }
    }
}

/// Journals what was found, a page at a time.
#[derive(Clone)]
struct Scribe {
    journal: Arc<Journal>,
    reader: Arc<Reader>,
    watcher: Watcher,
    reopen: bool,
    /// What becomes of accounts whose users the source has deleted.
    departed: Removed,
    moved: Arc<AtomicU64>,
}

impl Scribe {
    /// What the journal is to keep of a user who has changed.
    fn renewed(&self, unit: UnitId, now: Exported) -> Result<(Exported, Vec<String>), Error> {
        let data = self.reader.unit(unit)?.data;
        renewed(&data, now).map_err(|error| Error::Halt(Halt::Bug(error.to_string())))
    }

    async fn record(&self, kind: Kind, verdicts: Vec<(String, Found)>) -> Result<(), Error> {
        let keys: Vec<_> = verdicts.iter().map(|(key, _)| key.clone()).collect();
        let known = self.reader.by_source(&kind, &keys)?;
        let mut changes = Vec::new();
        let mut verified = 0;
        for (key, found) in verdicts {
            let Some(unit) = known.get(&key) else { continue };
            let stage = match (unit.state.stage, unit.state.condition) {
                (stage @ (Stage::Imported | Stage::Verified), Condition::Ready) => stage,
                // It waits for rows and has an account: what the source has made of the user
                // meanwhile is not to wait for the run after the one that ends the wait.
                (Stage::Mapped, Condition::Held) if found.is_news() => Stage::Mapped,
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
                ) => continue,
            };
            match found {
                Found::Equal if stage == Stage::Verified => {}
                Found::Equal => {
                    verified += 1;
                    changes.push(Change::step(unit.id, Event::Advanced(Stage::Verified)));
                }
                Found::Differs(failure) => {
                    self.watcher.note(&Progress::Failed {
                        kind: kind.clone(),
                        source_key: key,
                        failure: failure.clone(),
                    });
                    let was_verified = stage == Stage::Verified;
                    let event = if was_verified { Event::Differed } else { Event::Failed };
                    changes.push(Change::failure(unit.id, event, failure, Vec::new()));
                }
                Found::Left(failure) => {
                    let failure = match self.departed {
                        Removed::Keep => failure,
                        Removed::Delete => {
                            self.moved.fetch_add(1, Ordering::Relaxed);
                            failure.with_hint(departed::GOES)
                        }
                    };
                    changes.push(Change::failure(unit.id, Event::Skipped, failure, Vec::new()));
                }
                Found::Moved { to, reason, now } => {
                    self.moved.fetch_add(1, Ordering::Relaxed);
                    if self.reopen {
                        let renewed = match now {
                            Some(now) => Some(self.renewed(unit.id, *now)?),
                            None => None,
                        };
                        changes.push(Change::reopened(unit.id, to, reason, renewed));
                        let kind = kind.clone();
                        self.watcher.note(&Progress::Reopened { kind, from: stage, to, units: 1 });
                    }
                }
            }
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

/// What was found about a span.
fn of_span(failure: Option<Failure>, moved: Moved) -> Found {
    if moved.rows() > 0 {
        return Found::Moved { to: Stage::Exported, reason: moved.to_string(), now: None };
    }
    failure.map_or(Found::Equal, Found::Differs)
}

/// What was found about a lot: the first place where an old id stands again.
fn of_lot(first: Option<String>) -> Found {
    first.map_or(Found::Equal, |reason| Found::Moved { to: Stage::Exported, reason, now: None })
}

/// What a finding means for the user; `None` when there is nothing to journal.
fn of_user(finding: UserFinding) -> Option<Found> {
    let UserFinding { key, line, explained, now, overtaken, left } = finding;
    if left {
        return Some(Found::Left(departed::failure(&key)));
    }
    let line = line?;
    let detail = line.detail.unwrap_or_default();
    let advice = "`rehome show` has the values; settle it on one side, then `rehome retry`";
    match line.mark {
        '=' => Some(Found::Equal),
        '*' if now.is_some() => {
            let reason = "the source has changed the user since the export".to_owned();
            Some(Found::Moved { to: Stage::Mapped, reason, now })
        }
        // What only the target has changed is as it should be.
        '*' if overtaken => Some(Found::Equal),
        '*' if !explained => {
            Some(Found::Differs(Failure::new("differs", detail).with_hint(advice)))
        }
        '-' => Some(Found::Differs(Failure::new("account_gone", detail).with_hint(advice))),
        _ => None,
    }
}
