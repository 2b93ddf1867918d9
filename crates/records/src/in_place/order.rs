//! In which order columns are exchanged.
//!
//! A column comes before the one to which it refers: when a key changes, nothing points at its old
//! value any more, so whatever the schema says of ON UPDATE finds nothing to do. It is columns that
//! have an order, not tables: two tables may refer to each other, and a column to the key beside it.
//!
//! Columns that refer to each other in a circle (a table's own key inside a composite reference to
//! itself, two keys that are each other's reference) have none. That is as well where the reference
//! waits for the end of the request (NO ACTION, deferred) or follows by itself (CASCADE), which is
//! the very exchange. SET NULL, SET DEFAULT and RESTRICT cannot be kept from acting there: such a
//! [`Circle`] is refused before anything is written.

use std::collections::BTreeSet;

use super::places::TablePlaces;
use crate::database::quote_name;
use crate::schema::OnUpdate;

/// A column by the number of its table and its own among the places of that table.
pub(super) type At = (usize, usize);

/// A column that refers to another, both of them places.
#[derive(Clone, Debug)]
pub(super) struct Reference {
    /// The column that refers.
    pub(super) child: At,
    /// The column to which it refers.
    pub(super) parent: At,
    /// Both sides of all columns of the foreign key, the parent's first, as SQL needs them.
    pub(super) pairs: Vec<(String, String)>,
    /// What the parent's change does to the child.
    pub(super) action: OnUpdate,
}

/// A reference that an action would change, in a circle of columns.
#[derive(Clone, Debug)]
pub(super) struct Circle {
    /// The referring column, as a person knows it.
    pub(super) child: String,
    /// The column to which it refers.
    pub(super) parent: String,
    /// The referring table.
    pub(super) table: String,
    /// The action.
    pub(super) action: OnUpdate,
}

/// The references among the places of these tables that the database holds to.
pub(super) fn references(tables: &[TablePlaces]) -> Vec<Reference> {
    let plain = |table: usize, name: &str| -> Option<At> {
        let places = &tables.get(table)?.places;
        let here =
            |one: &super::places::Place| !one.is_document() && one.name.eq_ignore_ascii_case(name);
        Some((table, places.iter().position(here)?))
    };
    let mut found = Vec::new();
    for (number, table) in tables.iter().enumerate() {
        for key in table.form.parents.iter().filter(|key| key.enforced) {
            let above = tables.iter().position(|one| one.table.eq_ignore_ascii_case(&key.table));
            let names = key.columns.iter().filter_map(|column| table.form.target.get(*column));
            let pairs: Vec<_> = key.parent_columns.iter().cloned().zip(names.cloned()).collect();
            for (parent, child) in &pairs {
                let at = above.and_then(|above| plain(above, parent));
                if let (Some(parent), Some(child)) = (at, plain(number, child)) {
                    let (pairs, action) = (pairs.clone(), key.on_update);
                    found.push(Reference { child, parent, pairs, action });
                }
            }
        }
    }
    found
}

/// The plain places of these tables in the order in which they are exchanged, and the circles that
/// leave some of them without a safe one.
pub(super) fn order(tables: &[TablePlaces], references: &[Reference]) -> (Vec<At>, Vec<Circle>) {
    let mut open: Vec<At> = Vec::new();
    for (number, table) in tables.iter().enumerate() {
        let plain = table.places.iter().enumerate().filter(|(_, place)| !place.is_document());
        open.extend(plain.map(|(place, _)| (number, place)));
    }
    let above = Above::of(references);
    let circles = references
        .iter()
        .filter(|one| is_lost(one) && above.leads(one.parent, one.child))
        // A row whose key refers to the key itself refers to nobody but itself.
        .filter(|one| one.child != one.parent || one.pairs.len() > 1)
        .filter_map(|one| {
            let child = tables.get(one.child.0)?;
            let parent = tables.get(one.parent.0)?;
            Some(Circle {
                child: child.places.get(one.child.1)?.label.clone(),
                parent: parent.places.get(one.parent.1)?.label.clone(),
                table: child.table.clone(),
                action: one.action,
            })
        })
        .collect();
    let mut order = Vec::with_capacity(open.len());
    while !open.is_empty() {
        // Next is one to which none of the others refers, but those of its own circle.
        let next = open.iter().position(|at| {
            open.iter().all(|other| !above.leads(*other, *at) || above.leads(*at, *other))
        });
        // Circles have no circle among themselves, so there is always one.
        order.push(open.remove(next.unwrap_or(0)));
    }
    (order, circles)
}

/// Whether the child's value would not survive a change of the parent's.
fn is_lost(reference: &Reference) -> bool {
    match reference.action {
        OnUpdate::NoAction | OnUpdate::Cascade => false,
        OnUpdate::Restrict | OnUpdate::SetNull | OnUpdate::SetDefault => true,
    }
}

/// Which column leads to which by references that act, over however many steps.
struct Above(BTreeSet<(At, At)>);

impl Above {
    fn of(references: &[Reference]) -> Self {
        let acts = |one: &&Reference| one.action != OnUpdate::NoAction;
        let mut leads: BTreeSet<(At, At)> =
            references.iter().filter(acts).map(|one| (one.child, one.parent)).collect();
        // Until nothing is added: columns with ids are few, so the closure is cheap and plain.
        loop {
            let further: Vec<_> = leads
                .iter()
                .flat_map(|(from, via)| {
                    let beyond = leads.range((*via, (0, 0))..).take_while(move |(at, _)| at == via);
                    beyond.map(|(_, to)| (*from, *to))
                })
                .filter(|step| !leads.contains(step))
                .collect();
            if further.is_empty() {
                return Self(leads);
            }
            leads.extend(further);
        }
    }

    fn leads(&self, from: At, to: At) -> bool {
        self.0.contains(&(from, to))
    }
}

impl Reference {
    /// `p.parent = t.child` for all of its columns: as SQLite compares them for a foreign key, by
    /// the parent's collation.
    pub(super) fn meets(&self) -> String {
        let pairs: Vec<_> =
            self.pairs.iter().map(|(parent, child)| format!("p.{parent} = t.{child}")).collect();
        pairs.join(" AND ")
    }

    /// Whether one of these columns of its parent is called so.
    pub(super) fn refers_to_one_of(&self, names: &[String]) -> bool {
        self.pairs.iter().any(|(parent, _)| {
            names.iter().any(|name| quote_name(name).eq_ignore_ascii_case(parent))
        })
    }
}
