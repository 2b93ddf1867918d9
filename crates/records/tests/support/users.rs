//! The users whom rows name: exported, and mapped as soon as they are seen.

use std::any::Any;

use futures::future::BoxFuture;
use rehome_core::{
    Done, Exported, Failure, Halt, Origin, Outcome, Page, Pass, Prepared, Probed, Source, Stage,
    Step, Transition, Unit, Way,
};
use serde_json::json;

use super::USER;

/// The users of the source.
pub(crate) struct Users(pub(crate) Vec<String>);

impl Source for Users {
    fn kind(&self) -> rehome_core::Kind {
        USER
    }

    fn next_page<'a>(
        &'a self,
        _cursor: Option<serde_json::Value>,
    ) -> BoxFuture<'a, Result<Page, Halt>> {
        Box::pin(async move {
            let units = self
                .0
                .iter()
                .map(|key| Exported {
                    source_key: key.clone(),
                    scope: String::new(),
                    label: None,
                    aliases: Vec::new(),
                    data: json!({}),
                })
                .collect();
            Ok(Page { units, cursor: json!(null), done: true, total: None })
        })
    }
}

/// Gives each user a counterpart, but for those who fail.
pub(crate) struct MapAll {
    pub(crate) adopted: Vec<String>,
    pub(crate) failing: Vec<String>,
}

impl Transition for MapAll {
    fn step(&self) -> Step {
        let way = Way::Forth { from: Stage::Exported, to: Stage::Mapped };
        Step { kind: USER, way, batch: 100, concurrency: 1 }
    }

    fn prepare<'a>(
        &'a self,
        units: &'a [Unit],
        _: Pass,
    ) -> BoxFuture<'a, Result<Vec<Prepared>, Halt>> {
        let decide = |unit: &Unit| {
            let key = &unit.source_key;
            if self.failing.contains(key) {
                let failure = Failure::new("refused", "not this one");
                return Prepared::Fail { failure, blocks: Vec::new() };
            }
            let adopted = self.adopted.contains(key);
            Prepared::Advance(Done {
                target: Some(key.replace("user_", "new_")),
                origin: Some(if adopted { Origin::Adopted } else { Origin::Created }),
                data: None,
                rest: None,
            })
        };
        Box::pin(async move { Ok(units.iter().map(decide).collect()) })
    }

    fn apply<'a>(&'a self, _: &'a Unit, _: Box<dyn Any + Send + Sync>) -> BoxFuture<'a, Outcome> {
        Box::pin(async { panic!("mapping has no effect") })
    }

    fn probe<'a>(&'a self, units: &'a [Unit]) -> BoxFuture<'a, Result<Vec<Probed>, Halt>> {
        Box::pin(async move { Ok(units.iter().map(|_| Probed::Absent).collect()) })
    }
}
