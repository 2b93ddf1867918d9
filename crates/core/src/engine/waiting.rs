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

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use futures::executor::block_on;
    use serde_json::json;

    use super::*;
    use crate::clock::SystemClock;
    use crate::journal::{Change, Journal, Setup};
    use crate::state::{Event, Stage};
    use crate::transition::Exported;
    use crate::unit::Kind;

    const THING: Kind = Kind::new("thing");

    fn thing(number: u32) -> Exported {
        Exported {
            source_key: format!("t{number}"),
            scope: String::new(),
            label: None,
            aliases: vec![],
            data: json!({}),
        }
    }

    #[test]
    fn a_wait_is_over_when_the_stage_is_reached_or_will_not_be() {
        let dir = tempfile::tempdir().unwrap();
        let setup = Setup { name: "test".into(), ..Setup::default() };
        let journal = Journal::open(&dir.path().join("j"), &setup, Arc::new(SystemClock)).unwrap();
        let reader = journal.reader().unwrap();
        let submit = |change| block_on(journal.submit(vec![change])).map(drop).unwrap();
        let page = |done, from: u32| Change::Page {
            kind: THING,
            units: (from..from + 2).map(thing).collect(),
            cursor: json!(from),
            done,
            total: None,
        };
        submit(page(false, 1));
        let mut waiting = Waiting::default();
        let unit = |number| WaitFor::Unit(UnitId(number), Stage::Mapped);
        for (number, wait) in [(10, unit(1)), (11, unit(2)), (12, unit(2))] {
            waiting.add(UnitId(number), wait);
        }
        waiting.add(UnitId(13), WaitFor::Export(THING));
        assert_eq!((waiting.len(), waiting.contains(UnitId(13))), (4, true));
        assert_eq!(waiting.take_ready(&reader).unwrap(), []);

        submit(page(true, 3));
        assert_eq!(waiting.take_ready(&reader).unwrap(), [UnitId(13)]);
        assert!(!waiting.contains(UnitId(13)));
        // On its way, but not there yet.
        submit(Change::step(UnitId(1), Event::Advanced(Stage::Created)));
        assert_eq!(waiting.take_ready(&reader).unwrap(), []);
        submit(Change::step(UnitId(1), Event::Advanced(Stage::Mapped)));
        assert_eq!(waiting.take_ready(&reader).unwrap(), [UnitId(10)]);
        submit(Change::step(UnitId(2), Event::Failed));
        assert_eq!(waiting.take_ready(&reader).unwrap(), [UnitId(11), UnitId(12)]);
        assert_eq!(waiting.len(), 0);
    }
}
