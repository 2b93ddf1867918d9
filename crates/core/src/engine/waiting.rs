//! What units wait for within a run, and whether it has come.

use std::collections::BTreeMap;

use crate::halt::Halt;
use crate::journal::Reader;
use crate::knowledge::Knowledge as _;
use crate::state::Condition;
use crate::transition::WaitFor;
use crate::unit::UnitId;

/// Units that a lane holds back. Bounded by the lane, so it stays small.
#[derive(Debug, Default)]
pub(super) struct Waiting {
    units: BTreeMap<UnitId, WaitFor>,
}

impl Waiting {
    pub(super) fn len(&self) -> usize {
        self.units.len()
    }

    pub(super) fn contains(&self, unit: UnitId) -> bool {
        self.units.contains_key(&unit)
    }

    pub(super) fn add(&mut self, unit: UnitId, wait: WaitFor) {
        self.units.insert(unit, wait);
    }

    /// Takes everything out.
    pub(super) fn take_all(&mut self) -> Vec<UnitId> {
        std::mem::take(&mut self.units).into_keys().collect()
    }

    /// Takes those out whose wait is over. Each distinct question is asked once.
    pub(super) fn take_ready(&mut self, reader: &Reader) -> Result<Vec<UnitId>, Halt> {
        let mut answers: Vec<(WaitFor, bool)> = Vec::new();
        let mut ready = Vec::new();
        for (unit, wait) in &self.units {
            let known = answers.iter().find(|(asked, _)| asked == wait).map(|(_, answer)| *answer);
            let over = match known {
                Some(answer) => answer,
                None => {
                    let answer = is_over(reader, wait)?;
                    answers.push((wait.clone(), answer));
                    answer
                }
            };
            if over {
                ready.push(*unit);
            }
        }
        for unit in &ready {
            self.units.remove(unit);
        }
        Ok(ready)
    }
}

/// Whether what is waited for has come.
pub(super) fn is_over(reader: &Reader, wait: &WaitFor) -> Result<bool, Halt> {
    Ok(match wait {
        WaitFor::Export(kind) => reader.export_done(kind)?,
        WaitFor::Unit(unit, stage) => {
            let state = reader.unit(*unit)?.state;
            state.stage >= *stage
                || match state.condition {
                    Condition::Failed
                    | Condition::Held
                    | Condition::Skipped
                    | Condition::Stuck
                    | Condition::RolledBack => true,
                    Condition::Ready
                    | Condition::Intended
                    | Condition::InDoubt
                    | Condition::Undoing
                    | Condition::UndoInDoubt => false,
                }
        }
        WaitFor::Settled { kind, scope, stage } => {
            reader.settled(kind, scope.as_deref(), *stage)?
        }
    })
}
