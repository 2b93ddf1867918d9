//! What a lane does with the units that it took: asks its worker, and follows each answer.

use tokio::sync::mpsc::OwnedPermit;
use tokio::time::Instant;

use super::super::perform::{self, Effect, Task};
use super::super::{course, waiting};
use super::Lane;
use crate::halt::Halt;
use crate::journal::Change;
use crate::outcome::Done;
use crate::progress::Progress;
use crate::state::Event;
use crate::transition::{Prepared, Way};
use crate::unit::Unit;

impl Lane {
    pub(super) async fn decide(&mut self, units: Vec<Unit>) -> Result<(), Halt> {
        let pass = self.pass();
        let prepared = tokio::select! {
            biased;
            // Nothing was decided yet, so there is nothing to record.
            () = self.shared.stopping() => return Ok(()),
            prepared = self.transition.prepare(&units, pass) => prepared?,
        };
        if prepared.len() != units.len() {
            return Err(Halt::Bug(format!(
                "{} decisions for {} units",
                prepared.len(),
                units.len()
            )));
        }
        let mut advanced: Vec<(Unit, Done)> = Vec::new();
        let mut together = Task::new();
        for (unit, prepared) in units.into_iter().zip(prepared) {
            if !belongs(&self.step.way, &prepared) {
                let id = unit.id.0;
                return Err(Halt::Bug(format!("unit {id}: a decision of the other direction")));
            }
            match prepared {
                Prepared::Advance(done) => advanced.push((unit, done)),
                Prepared::Effect { intent, payload } => {
                    let effect = Effect { unit, intent, payload };
                    if self.transition.joint() {
                        together.push(effect);
                    } else {
                        self.hand_out(vec![effect]).await?;
                    }
                }
                Prepared::Wait(wait) => {
                    if waiting::is_over(&self.shared.reader, &wait)? {
                        self.again.insert(unit.id, Instant::now());
                    } else {
                        self.waiting.add(unit.id, wait);
                    }
                }
                Prepared::Hold { waits, blocks } => {
                    let code =
                        waits.first().map_or_else(|| "held".to_owned(), |wait| wait.code.clone());
                    self.shared.journal.submit(vec![Change::hold(unit.id, waits, blocks)]).await?;
                    self.shared.watcher.note(&Progress::Held {
                        kind: unit.kind.clone(),
                        source_key: unit.source_key.clone(),
                        code,
                    });
                }
                Prepared::Fail { failure, blocks } => {
                    let event = course::failed(&self.step.way);
                    let change = Change::failure(unit.id, event, failure.clone(), blocks);
                    self.shared.journal.submit(vec![change]).await?;
                    perform::note_failure(&self.shared, &unit, failure);
                }
                Prepared::Skip(failure) => {
                    let change = Change::failure(unit.id, Event::Skipped, failure, Vec::new());
                    self.shared.journal.submit(vec![change]).await?;
                }
                Prepared::Leave => {}
            }
        }
        if !together.is_empty() {
            self.hand_out(together).await?;
        }
        self.advance(advanced).await
    }

    /// Units that need no effect advance together, in one commit; one by one when two of them
    /// (or an earlier one) claim the same counterpart.
    async fn advance(&mut self, advanced: Vec<(Unit, Done)>) -> Result<(), Halt> {
        let event = course::advanced(&self.step.way);
        let to = self.step.way.to();
        let plain = advanced.iter().all(|(_, done)| done.rest.is_none());
        if plain && !advanced.is_empty() {
            let changes = advanced
                .iter()
                .flat_map(|(unit, done)| perform::changes(unit, event, done.clone()))
                .collect();
            match self.shared.journal.submit(changes).await {
                Ok(_) => {
                    self.shared.watcher.note(&Progress::Advanced {
                        kind: self.step.kind.clone(),
                        stage: to,
                        units: advanced.len() as u64,
                    });
                    return Ok(());
                }
                Err(crate::journal::Error::TargetTaken { .. }) => {}
                Err(other) => return Err(other.into()),
            }
        }
        for (unit, done) in advanced {
            perform::record_done(&self.shared, &unit, event, to, done).await?;
        }
        Ok(())
    }

    /// Gives a task to the performers.
    async fn hand_out(&mut self, task: Task) -> Result<(), Halt> {
        if let Some(permit) = self.room().await? {
            self.handed.extend(task.iter().map(|effect| effect.unit.id));
            permit.send(task);
        }
        Ok(())
    }

    /// Waits until the performers take another task, hearing them meanwhile: a full channel must
    /// not stop the feedback that empties it. `None` when the run stops.
    pub(super) async fn room(&mut self) -> Result<Option<OwnedPermit<Task>>, Halt> {
        let permit = self.tasks.clone().reserve_owned();
        tokio::pin!(permit);
        loop {
            tokio::select! {
                biased;
                () = self.shared.stopping() => return Ok(None),
                permit = &mut permit => return Ok(permit.ok()),
                Some(feedback) = self.feedback.recv() => self.hear(feedback)?,
            }
        }
    }
}

/// Whether a decision can be taken on this way.
fn belongs(way: &Way, prepared: &Prepared) -> bool {
    match (way, prepared) {
        (
            Way::Forth { .. },
            Prepared::Advance(_)
            | Prepared::Effect { .. }
            | Prepared::Wait(_)
            | Prepared::Hold { .. }
            | Prepared::Fail { .. }
            | Prepared::Skip(_),
        )
        | (
            Way::Back { .. },
            Prepared::Advance(_)
            | Prepared::Effect { .. }
            | Prepared::Fail { .. }
            | Prepared::Leave,
        ) => true,
        (Way::Forth { .. }, Prepared::Leave)
        | (Way::Back { .. }, Prepared::Wait(_) | Prepared::Hold { .. } | Prepared::Skip(_)) => {
            false
        }
    }
}
