//! The order in which rows go.

use crate::layout::{Form, Layout};

/// One step of the way back for rows.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum RowStep {
    /// [`super::DetachSpans`] over the spans of this table (as the source spells it).
    Detach {
        /// The table.
        table: String,
    },
    /// [`super::UndoSpans`] over the spans of this table, again and again while
    /// [`super::UndoSpans::again`] says so.
    Remove {
        /// The table.
        table: String,
    },
}

fn form(layout: &Layout, place: usize) -> Option<&Form> {
    layout.tables.get(place).and_then(|table| table.primary.as_ref().or(table.rowid.as_ref()))
}

/// All steps, in the order in which they must be taken: first every reference within a circle
/// that can be emptied, then the rows, children before their parents. Within a circle the order
/// is that of the references that cannot be emptied.
pub fn stages(layout: &Layout) -> Vec<RowStep> {
    let places = 0..layout.tables.len();
    let name = |place: usize| layout.tables.get(place).map(|table| table.name.clone());
    let mut steps: Vec<RowStep> = places
        .clone()
        .filter(|place| {
            form(layout, *place)
                .is_some_and(|form| form.parents.iter().any(|one| one.circle && one.nullable))
        })
        .filter_map(|place| Some(RowStep::Detach { table: name(place)? }))
        .collect();
    let mut left: Vec<usize> = places.rev().collect();
    while !left.is_empty() {
        let free = left.iter().position(|parent| {
            let Some(above) = form(layout, *parent) else {
                return true;
            };
            !left.iter().any(|child| {
                child != parent
                    && form(layout, *child).is_some_and(|form| {
                        form.parents.iter().any(|one| {
                            one.table == above.target_table && !(one.circle && one.nullable)
                        })
                    })
            })
        });
        // Tables that refer to each other and whose references all must be set: any order is as
        // good as another, and the rows that refer to each other will be named.
        let next = left.remove(free.unwrap_or(0));
        steps.extend(name(next).map(|table| RowStep::Remove { table }));
    }
    steps
}
