//! References that lead to a key only because its collation takes two spellings for one.
//!
//! `Old1` is no id, byte for byte, and refers to the row of `old1` all the same when the key's
//! collation overlooks case. With the key exchanged it would lead nowhere, or an ON UPDATE would set
//! it, and no way back could tell how it was spelled. So neither of the two is touched: the user
//! whose id it is keeps all rows as they are, and a person sees both spellings.

use std::collections::BTreeMap;

use rehome_core::{Halt, UnitId};

use super::pairs::{Pair, Turn, sought};
use super::places::Places;
use super::trouble::{Trouble, Troubles, Why};
use crate::database::{ReadDatabase, Select};
use crate::value::Value;

/// Users among these whose ids are spelled otherwise by a row that refers to a key of theirs, or by
/// the key to which a row of theirs refers, and where.
///
/// # Errors
/// When the database cannot be read.
pub(super) async fn spelled_otherwise(
    database: &dyn ReadDatabase,
    places: &Places,
    pairs: &[Pair],
    turn: Turn,
) -> Result<Troubles, Halt> {
    let mut found = Troubles::new();
    let ids = sought(pairs, turn);
    let (mut asked, mut questions) = (Vec::new(), Vec::new());
    for reference in places.references.iter().filter(|_| !pairs.is_empty()) {
        let (child, parent) = (places.at(reference.child), places.at(reference.parent));
        let (Some(child), Some(parent)) = (child, parent) else { continue };
        if !reference.refers_to_one_of(&parent.0.folded) {
            continue;
        }
        let (of, to) = (format!("t.{}", child.1.name), format!("p.{}", parent.1.name));
        // The list of one element: see `undo::from_referrers`.
        questions.push(
            Select::new(
                ["j.value".to_owned(), format!("min({of})"), format!("min({to})")],
                format!(
                    "FROM json_each(?1) AS j CROSS JOIN json_each('[0]') AS k \
                     CROSS JOIN {} AS p ON {to} = j.value CROSS JOIN {} AS t ON {} \
                     WHERE ({of} COLLATE BINARY) <> {to} \
                     AND (({to} COLLATE BINARY) = j.value OR ({of} COLLATE BINARY) = j.value) \
                     GROUP BY j.value",
                    parent.0.form.target_table(),
                    child.0.form.target_table(),
                    reference.meets()
                ),
            )
            .with(ids.clone()),
        );
        asked.push((&child.1.label, &parent.1.label));
    }
    if questions.is_empty() {
        return Ok(found);
    }
    let by_id: BTreeMap<&str, UnitId> =
        pairs.iter().map(|pair| (pair.from(turn), pair.unit)).collect();
    for ((of, to), rows) in asked.into_iter().zip(database.select(questions).await?) {
        for row in rows {
            let text = |at: usize| row.get(at).and_then(Value::as_str).unwrap_or_default();
            if let Some(user) = by_id.get(text(0)) {
                found.entry(*user).or_insert_with(|| Trouble {
                    why: Why::ReferenceSpelling,
                    told: format!(
                        "{of} {} refers to {to} {} in another spelling",
                        text(1),
                        text(2)
                    ),
                });
            }
        }
    }
    Ok(found)
}
