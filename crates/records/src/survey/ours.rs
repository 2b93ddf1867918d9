//! Rows that this migration has written and that the target has otherwise than the source by now.
//!
//! Three versions decide: what was written (the journal keeps its digest), what the source has
//! now, and what the target has. If only the source has moved on, ours follows. If only the target
//! has, the row is its application's by now, and stays as it is there, or stays away. If both
//! have, a person has said for the table what becomes of it, and the default is to ask.

use super::displace::completes;
use super::{Fate, Past, Planned, differing, show_key};
use crate::layout::Form;
use crate::policy::OnConflict;
use crate::value::Value;

/// The code of a row that both sides have changed. Users have the same.
const BOTH: &str = "changed_on_both_sides";

/// What should become of a row of ours that is not in the target as it should be; `None` when the
/// journal does not say what was written, or when `rivals` (rows with one of its unique values)
/// have to be looked at first.
pub(super) fn of_ours(
    form: &Form,
    plan: &Planned,
    there: Option<&Vec<Value>>,
    rivals: bool,
    past: &Past,
) -> Option<Fate> {
    past.digest(&plan.key)?;
    let left_so = |there: &&Vec<Value>| {
        past.as_written(&plan.key, there) || plan.was_open && completes(form, there, &plan.row)
    };
    if let Some(earlier) = there.filter(left_so) {
        return (!rivals).then(|| Fate::Complete { earlier: earlier.clone() });
    }
    if past.still_wanted(plan) {
        return Some(Fate::Overtaken);
    }
    match form.on_conflict {
        OnConflict::Fail | OnConflict::Rekey => Some(both(form, plan, there)),
        OnConflict::Skip => Some(Fate::Overtaken),
        OnConflict::Replace if rivals => None,
        OnConflict::Replace => Some(match there {
            Some(earlier) => Fate::Overwrite { earlier: earlier.clone() },
            None => Fate::Insert,
        }),
    }
}

fn both(form: &Form, plan: &Planned, there: Option<&Vec<Value>>) -> Fate {
    let table = &form.target_table;
    let key = show_key(&plan.key);
    let message = match there {
        Some(there) => {
            let columns = differing(form, there, &plan.row).join(", ");
            format!(
                "{table} {key} was changed in the source and in the target, and differs in {columns}"
            )
        }
        None => format!("{table} {key} was changed in the source and removed from the target"),
    };
    Fate::Failed { code: BOTH, message }
}
