//! From `mapped` to `imported` for those whom rows name.
//!
//! There is nothing to do but to wait: until every span (or lot, in place) has been written, held
//! or failed. Then a unit advances unless some held or failed one still owes it a row.

use std::any::Any;
use std::sync::Arc;

use futures::future::BoxFuture;
use rehome_core::{
    Done, Halt, Kind, Knowledge, Outcome, Pass, Prepared, Probed, Stage, Step, Transition, Unit,
    Wait, WaitFor, Way,
};

use crate::span::SPAN;

/// How many units are asked about at once.
const BATCH: usize = 500;

/// Moves units of one kind to `imported` once all rows that name them are there.
pub struct SettleMentions {
    kind: Kind,
    carriers: Kind,
    knowledge: Arc<dyn Knowledge>,
}

impl SettleMentions {
    /// A worker for units of `kind`, whose rows move in spans.
    pub fn new(kind: Kind, knowledge: Arc<dyn Knowledge>) -> Self {
        Self { kind, carriers: SPAN, knowledge }
    }

    /// The same, where the rows move in units of another kind.
    #[must_use]
    pub fn carried_by(self, carriers: Kind) -> Self {
        Self { carriers, ..self }
    }

    fn settle(&self, units: &[Unit], pass: Pass) -> Result<Vec<Prepared>, Halt> {
        let settled = self.knowledge.settled(&self.carriers, None, Stage::Imported)?;
        if pass == Pass::Patient && !settled {
            let wait = || {
                let kind = self.carriers.clone();
                Prepared::Wait(WaitFor::Settled { kind, scope: None, stage: Stage::Imported })
            };
            return Ok(units.iter().map(|_| wait()).collect());
        }
        let keys: Vec<_> = units.iter().map(|unit| unit.source_key.clone()).collect();
        let blocked = self.knowledge.blocked(&self.kind, &keys)?;
        Ok(units
            .iter()
            .map(|unit| {
                // Rows may still be on their way when the run ends: then nothing is certain.
                if settled && !blocked.contains(&unit.source_key) {
                    return Prepared::Advance(Done::default());
                }
                Prepared::Hold {
                    waits: vec![Wait {
                        code: "rows_held".to_owned(),
                        kind: self.carriers.clone(),
                        key: None,
                        scope: None,
                        stage: Stage::Imported,
                        parts: 1,
                        example: None,
                    }],
                    blocks: Vec::new(),
                }
            })
            .collect())
    }
}

impl Transition for SettleMentions {
    fn step(&self) -> Step {
        Step {
            kind: self.kind.clone(),
            way: Way::Forth { from: Stage::Mapped, to: Stage::Imported },
            batch: BATCH,
            concurrency: 1,
        }
    }

    fn prepare<'a>(
        &'a self,
        units: &'a [Unit],
        pass: Pass,
    ) -> BoxFuture<'a, Result<Vec<Prepared>, Halt>> {
        Box::pin(async move { self.settle(units, pass) })
    }

    fn apply<'a>(
        &'a self,
        _unit: &'a Unit,
        _payload: Box<dyn Any + Send + Sync>,
    ) -> BoxFuture<'a, Outcome> {
        Box::pin(async {
            // Never prepared as an effect.
            Outcome::NotSent {
                reason: "settling has no effect".to_owned(),
                retry_after: None,
                halt: Some(Halt::Bug("settling has no effect".to_owned())),
            }
        })
    }

    fn probe<'a>(&'a self, units: &'a [Unit]) -> BoxFuture<'a, Result<Vec<Probed>, Halt>> {
        Box::pin(async move { Ok(units.iter().map(|_| Probed::Absent).collect()) })
    }
}
