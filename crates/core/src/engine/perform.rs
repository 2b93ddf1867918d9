//! Effects, by the protocol: a durable intent, one attempt, a durable outcome.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Mutex, mpsc};

use super::{Shared, course};
use crate::halt::{Halt, RemoteTrouble};
use crate::journal::{self, Change, Detail};
use crate::outcome::{Done, Outcome, Rest};
use crate::progress::Progress;
use crate::state::{Condition, Event, Stage};
use crate::transition::{Payload, Transition, Way};
use crate::unit::{Failure, Unit, UnitId};

/// An effect that was prepared.
pub(super) struct Effect {
    pub(super) unit: Unit,
    pub(super) intent: serde_json::Value,
    pub(super) payload: Payload,
}

/// What is performed at once: one effect, or several of a worker that performs them together.
pub(super) type Task = Vec<Effect>;

/// What a performer tells its lane about a unit that it is finished with.
#[derive(Debug)]
pub(super) enum Feedback {
    /// Nothing more to do here.
    Settled(UnitId),
    /// Ready again: to be prepared anew after a while.
    Again(UnitId, Option<Duration>),
    /// In doubt.
    Doubt(UnitId),
}

/// Takes tasks until there are no more, or the run stops. What is left in the channel then is
/// still `ready` in the journal: its intent was never written.
pub(super) async fn run(
    shared: Arc<Shared>,
    transition: Arc<dyn Transition>,
    tasks: Arc<Mutex<mpsc::Receiver<Task>>>,
    feedback: mpsc::UnboundedSender<Result<Feedback, Halt>>,
) {
    loop {
        let task = tokio::select! {
            biased;
            () = shared.stopping() => None,
            task = async { tasks.lock().await.recv().await } => task,
        };
        let Some(task) = task else { return };
        let heard = match perform(&shared, transition.as_ref(), task).await {
            Ok(heard) => heard,
            Err(halt) => vec![Err(halt)],
        };
        let failed = heard.iter().any(Result::is_err);
        for result in heard {
            if feedback.send(result).is_err() {
                return;
            }
        }
        if failed {
            return;
        }
    }
}

/// Performs a task. Every outcome is recorded, also when one of them ends the run.
async fn perform(
    shared: &Shared,
    transition: &dyn Transition,
    task: Task,
) -> Result<Vec<Result<Feedback, Halt>>, Halt> {
    let way = transition.step().way;
    let mut units = Vec::with_capacity(task.len());
    let mut payloads = Vec::with_capacity(task.len());
    let mut intents = Vec::with_capacity(task.len());
    for Effect { mut unit, intent, payload } in task {
        intents.push(intention(&unit, &way, intent.clone()));
        unit.intent = Some(intent);
        units.push(unit);
        payloads.push(payload);
    }
    shared.journal.submit(intents).await?;
    let outcomes = transition.apply_joint(&units, payloads).await;
    if outcomes.len() != units.len() {
        return Err(Halt::Bug(format!("{} outcomes of {} effects", outcomes.len(), units.len())));
    }
    let mut heard = Vec::with_capacity(units.len());
    for (unit, outcome) in units.iter().zip(outcomes) {
        heard.push(record(shared, &way, unit, outcome).await);
    }
    Ok(heard)
}

/// Records what became of one effect.
async fn record(
    shared: &Shared,
    way: &Way,
    unit: &Unit,
    outcome: Outcome,
) -> Result<Feedback, Halt> {
    match outcome {
        Outcome::Done(done) => {
            shared.trouble.over();
            let more = done.rest == Some(Rest::More);
            record_done(shared, unit, course::done(way), way.to(), done).await?;
            Ok(if more {
                Feedback::Again(unit.id, Some(Duration::ZERO))
            } else {
                Feedback::Settled(unit.id)
            })
        }
        Outcome::Rejected(failure) => {
            shared.trouble.over();
            let change = Change::failure(unit.id, Event::Rejected, failure.clone(), Vec::new());
            shared.journal.submit(vec![change]).await?;
            note_failure(shared, unit, failure);
            Ok(Feedback::Settled(unit.id))
        }
        Outcome::NotSent { reason, retry_after, halt } => {
            let detail = Detail::because(reason.clone());
            let change = Change::Step { unit: unit.id, event: Event::NotSent, detail };
            shared.journal.submit(vec![change]).await?;
            if let Some(halt) = halt {
                return Err(halt);
            }
            shared.watcher.note(&Progress::Waiting { reason: reason.clone(), delay: retry_after });
            if retry_after.is_none() {
                shared.trouble.more(&reason)?;
            }
            Ok(Feedback::Again(unit.id, retry_after))
        }
        Outcome::Unknown { reason } => {
            let detail = Detail::because(reason.clone());
            let change = Change::Step { unit: unit.id, event: Event::Unknown, detail };
            shared.journal.submit(vec![change]).await?;
            shared.watcher.note(&Progress::InDoubt {
                kind: unit.kind.clone(),
                source_key: unit.source_key.clone(),
                reason: reason.clone(),
            });
            shared.trouble.more(&reason)?;
            Ok(Feedback::Doubt(unit.id))
        }
    }
}

/// The intent of an effect or an undo. That of an undo remembers that a person had taken the
/// unit out, because it has to stay out afterwards.
fn intention(unit: &Unit, way: &Way, intent: serde_json::Value) -> Change {
    match Change::intent(unit.id, course::intended(way), intent) {
        Change::Step { unit: id, event, mut detail } => {
            detail.failure = taken_out(unit);
            Change::Step { unit: id, event, detail }
        }
        other @ (Change::Page { .. } | Change::Note { .. }) => other,
    }
}

/// Why a person took a unit out that is to be taken back, or is being taken back.
fn taken_out(unit: &Unit) -> Option<Failure> {
    match unit.state.condition {
        Condition::Skipped | Condition::Undoing | Condition::UndoInDoubt => unit.failure.clone(),
        Condition::Ready
        | Condition::Intended
        | Condition::InDoubt
        | Condition::Failed
        | Condition::Held
        | Condition::Stuck
        | Condition::RolledBack => None,
    }
}

/// What there is to record of it.
pub(super) fn changes(unit: &Unit, whole: Event, done: Done) -> Vec<Change> {
    match whole {
        Event::Undone(_) | Event::Reverted(_) => {
            Change::undone(unit.id, whole, done, taken_out(unit))
        }
        _ => Change::done(unit.id, whole, done),
    }
}

/// Records what an effect, or an advance without one, led to. A counterpart that belongs to
/// another unit already is a failure of this one, not of the run.
pub(super) async fn record_done(
    shared: &Shared,
    unit: &Unit,
    whole: Event,
    to: Stage,
    done: Done,
) -> Result<(), Halt> {
    let target = done.target.clone();
    let rest = done.rest.clone();
    match shared.journal.submit(changes(unit, whole, done)).await {
        Ok(_) => {}
        Err(journal::Error::TargetTaken { kind, target_key }) => {
            let failure = Failure::new(
                "target_taken",
                format!(
                    "the target's {kind} {} is the counterpart of another unit already",
                    target.unwrap_or(target_key)
                ),
            )
            .with_hint("look at both with `rehome show`; one of them has to be settled by hand");
            let event = match whole {
                Event::Done(_) => Event::Rejected,
                _ => Event::Failed,
            };
            let change = Change::failure(unit.id, event, failure.clone(), Vec::new());
            shared.journal.submit(vec![change]).await?;
            note_failure(shared, unit, failure);
            return Ok(());
        }
        Err(other) => return Err(other.into()),
    }
    match rest {
        None => shared.watcher.note(&Progress::Advanced {
            kind: unit.kind.clone(),
            stage: to,
            units: 1,
        }),
        Some(Rest::Held { waits, .. }) => shared.watcher.note(&Progress::Held {
            kind: unit.kind.clone(),
            source_key: unit.source_key.clone(),
            code: waits.first().map_or_else(|| "held".to_owned(), |wait| wait.code.clone()),
        }),
        Some(Rest::More) => {}
        Some(Rest::Failed { failure, .. }) => note_failure(shared, unit, failure),
    }
    Ok(())
}

/// Tells those who watch that a unit failed.
pub(super) fn note_failure(shared: &Shared, unit: &Unit, failure: Failure) {
    shared.watcher.note(&Progress::Failed {
        kind: unit.kind.clone(),
        source_key: unit.source_key.clone(),
        failure,
    });
}

/// How long nothing but trouble came back.
#[derive(Debug)]
pub(super) struct Trouble {
    patience: Duration,
    since: std::sync::Mutex<Option<tokio::time::Instant>>,
}

impl Trouble {
    pub(super) fn new(patience: Duration) -> Self {
        Self { patience, since: std::sync::Mutex::new(None) }
    }

    /// Something went well.
    pub(super) fn over(&self) {
        *self.since.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = None;
    }

    /// Whether nothing has gone well since the last trouble.
    pub(super) fn is_on(&self) -> bool {
        self.since.lock().unwrap_or_else(std::sync::PoisonError::into_inner).is_some()
    }

    /// Once more no answer. Ends the run when nothing else came for too long.
    fn more(&self, reason: &str) -> Result<(), Halt> {
        let now = tokio::time::Instant::now();
        let mut since = self.since.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let since = *since.get_or_insert(now);
        if now.duration_since(since) < self.patience {
            return Ok(());
        }
        Err(Halt::Remote {
            remote: "target".into(),
            trouble: RemoteTrouble::Unreachable,
            message: format!(
                "no request went through for {} seconds; the last one: {reason}",
                self.patience.as_secs()
            ),
            hint: "check the network and the service's status page, then run the same command"
                .into(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATIENCE: Duration = Duration::from_secs(120);
    const MOMENT: Duration = Duration::from_millis(1);

    #[tokio::test(start_paused = true)]
    async fn patience_ends_when_nothing_went_well_for_so_long() {
        let trouble = Trouble::new(PATIENCE);
        assert!(!trouble.is_on());
        trouble.more("reset").unwrap();
        assert!(trouble.is_on());
        tokio::time::advance(PATIENCE - MOMENT).await;
        trouble.more("reset").unwrap();
        trouble.over();
        assert!(!trouble.is_on());
        trouble.more("reset").unwrap();
        tokio::time::advance(PATIENCE - MOMENT).await;
        trouble.more("reset").unwrap();
        tokio::time::advance(MOMENT).await;
        let halt = trouble.more("the last straw").unwrap_err();
        assert!(halt.to_string().contains("the last straw"), "{halt}");
    }
}
