//! Whether an old id is left anywhere.

use std::collections::HashSet;
use std::ops::ControlFlow;

use rehome_core::{Condition, Halt, Kind, Knowledge, Stage, UnitId};

use crate::database::ReadDatabase;
use crate::id_search::{self, Prefix, Sighting};
use crate::schema::Schema;

/// An old id that still stands in the database although its user is mapped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Left {
    /// Whose it is.
    pub user: UnitId,
    /// Where it stands.
    pub sighting: Sighting,
}

/// Whether ids of this user are expected to be the new ones.
fn is_expected(known: &rehome_core::Known) -> bool {
    known.selected
        && known.state.stage >= Stage::Mapped
        && known.state.condition != Condition::Skipped
}

/// Reads every table of `schema` through and tells of every old id of a user who is mapped. Ids of
/// those who failed, wait, or were taken out stay as they are and are not told of.
///
/// # Errors
/// When the database or the journal cannot be read.
pub async fn left(
    database: &dyn ReadDatabase,
    schema: &Schema,
    prefixes: &[Prefix],
    knowledge: &dyn Knowledge,
    tell: &mut (dyn FnMut(Left) + Send),
) -> Result<(), Halt> {
    let is_id = |kind: &Kind, candidates: &[String]| -> Result<HashSet<String>, Halt> {
        let known = knowledge.by_source(kind, candidates)?;
        let mut found: HashSet<String> =
            known.into_iter().filter(|(_, user)| is_expected(user)).map(|(key, _)| key).collect();
        // One that is also somebody's new id is where it should be.
        let old: Vec<_> = found.iter().cloned().collect();
        for target in knowledge.by_target(kind, &old)?.into_keys() {
            found.remove(&target);
        }
        Ok(found)
    };
    let mut trouble = None;
    let mut hear = |sighting: Sighting| {
        let key = std::slice::from_ref(&sighting.id);
        match knowledge.by_source(&sighting.kind, key) {
            Ok(known) => {
                if let Some(user) = known.get(&sighting.id) {
                    tell(Left { user: user.id, sighting });
                }
                ControlFlow::Continue(())
            }
            Err(error) => {
                trouble = Some(Halt::from(error));
                ControlFlow::Break(())
            }
        }
    };
    id_search::search(database, schema, prefixes, knowledge, &is_id, &mut hear).await?;
    trouble.map_or(Ok(()), Err)
}
