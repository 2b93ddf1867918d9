//! Lots: so many users, one after another in the journal, whose ids are exchanged together.
//!
//! The source of the kind `lot` reads no remote but to count: it follows the source of the users,
//! who stand in the journal by then. A later run goes on behind the last lot, for those who have
//! come since.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures::future::BoxFuture;
use rehome_core::{Exported, Halt, Kind, Knowledge, Page, Source, Unit, UnitId};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::places::Places;
use crate::database::ReadDatabase;

/// The kind of unit that a lot of users is.
pub const LOT: Kind = Kind::new("lot");

/// Users of a lot when every place is found through an index: the database is locked for others
/// only as long as their rows take.
const BY_INDEX: usize = 1_000;
/// Users of a lot when a table has to be read through for each lot, so that there are few.
const READ_THROUGH: usize = 5_000;

/// What the journal knows of a lot: [`Unit::data`].
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct LotData {
    /// The number of the user before its first.
    pub after: UnitId,
    /// The number of its last user.
    pub last: UnitId,
    /// How many users it has.
    pub users: u64,
    /// How many rows of each table held an old id of them when the lot was cut.
    pub rows: BTreeMap<String, u64>,
}

impl LotData {
    /// The lot that a unit stands for.
    ///
    /// # Errors
    /// [`Halt::Bug`] when the journal holds something else.
    pub fn of(unit: &Unit) -> Result<Self, Halt> {
        Self::deserialize(&unit.data)
            .map_err(|error| Halt::Bug(format!("{} of the journal: {error}", unit.source_key)))
    }
}

#[derive(Clone, Serialize, Deserialize)]
struct Cursor {
    number: u64,
    last: UnitId,
}

/// Cuts lots from the users that a journal knows.
pub struct LotSource {
    database: Arc<dyn ReadDatabase>,
    places: Arc<Places>,
    knowledge: Arc<dyn Knowledge>,
    users: usize,
}

impl LotSource {
    /// Lots of the users that `knowledge` tells of, whose rows are in `database`. `users`: how many
    /// a lot is to have, when the database's indexes are not to decide.
    pub fn new(
        database: Arc<dyn ReadDatabase>,
        places: Arc<Places>,
        knowledge: Arc<dyn Knowledge>,
        users: Option<usize>,
    ) -> Self {
        let usual = if places.all_indexed() { BY_INDEX } else { READ_THROUGH };
        Self { database, places, knowledge, users: users.unwrap_or(usual).max(1) }
    }

    async fn page(&self, cursor: Option<serde_json::Value>) -> Result<Page, Halt> {
        let cursor: Cursor = match cursor {
            Some(json) => serde_json::from_value(json)
                .map_err(|error| Halt::Bug(format!("the cursor of lots: {error}")))?,
            None => Cursor { number: 0, last: UnitId(0) },
        };
        let kind = &self.places.kind;
        let found = self.knowledge.between(kind, cursor.last, UnitId(i64::MAX), self.users)?;
        let Some(last) = found.last() else {
            let cursor = json!(cursor);
            return Ok(Page { units: Vec::new(), cursor, done: true, total: None });
        };
        let ids: Vec<_> = found.iter().map(|user| user.source_key.as_str()).collect();
        let rows = self.places.count(self.database.as_ref(), &ids).await?;
        let data = LotData { after: cursor.last, last: last.id, users: found.len() as u64, rows };
        let next = Cursor { number: cursor.number + 1, last: last.id };
        let units = vec![exported(&next, &data)];
        Ok(Page { units, cursor: json!(next), done: false, total: None })
    }
}

fn exported(cursor: &Cursor, data: &LotData) -> Exported {
    let rows: u64 = data.rows.values().sum();
    Exported {
        source_key: format!("lot#{}", cursor.number),
        scope: String::new(),
        label: Some(format!("{} users, {rows} rows", data.users)),
        aliases: Vec::new(),
        data: json!(data),
    }
}

impl Source for LotSource {
    fn kind(&self) -> Kind {
        LOT
    }

    fn goes_on(&self) -> bool {
        true
    }

    fn follows(&self) -> Option<Kind> {
        Some(self.places.kind.clone())
    }

    fn next_page<'a>(
        &'a self,
        cursor: Option<serde_json::Value>,
    ) -> BoxFuture<'a, Result<Page, Halt>> {
        Box::pin(self.page(cursor))
    }
}
