//! Values that must be unique and that go from one row of ours to another: a slug that was taken
//! away from one and given to another, or to a row that is new.
//!
//! The row that has the value in the target is no conflict then: the same request changes or
//! removes it. But SQLite looks at a unique index after each row, so who gives goes before who
//! takes: rows that go first, then those that change, turn by turn, then the new ones. Where rows
//! take from each other in a circle (a swap), one of the columns is emptied first, if the schema
//! lets it be NULL; else they are conflicts, and say so.

use std::collections::{HashMap, HashSet};

use super::displace::Contest;
use super::{Fate, Past, Planned, show_key};
use crate::layout::{Form, pick};
use crate::target_rows::Existing;
use crate::value::Value;

/// When a row is changed, among those of its request.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Slot {
    /// Its turn: 0 for those that wait for nobody.
    pub(crate) turn: u32,
    /// Columns that are emptied before any turn.
    pub(crate) emptied: Vec<usize>,
}

/// Whom a row takes a value from, and when its own turn is.
#[derive(Clone, Debug, Default)]
pub(crate) struct Handover {
    /// Rows of the span, by number, that have to give first.
    from: Vec<usize>,
    slot: Slot,
}

impl Handover {
    /// When the row is changed.
    pub(crate) fn slot(&self) -> Box<Slot> {
        Box::new(self.slot.clone())
    }
}

/// Turns run out at so many: each is a statement of its own.
const TURNS: u32 = 200;

/// Takes out of the contests those in which whatever is in the way gives way by the same request.
/// `going` are the keys of the rows that it removes.
pub(super) fn let_go(
    form: &Form,
    planned: &mut [Planned],
    contests: Vec<Contest>,
    found: &Existing,
    past: &Past,
    going: &HashSet<Vec<Value>>,
) -> Vec<Contest> {
    if contests.iter().all(|(_, _, rivals)| rivals.is_empty()) {
        return contests;
    }
    let takes = |(number, same, rivals): &Contest| {
        let plan = planned.get(*number)?;
        let as_left = same.as_ref().is_none_or(|there| past.as_written(&plan.key, there));
        (as_left && !rivals.is_empty()).then_some(*number)
    };
    let mut takers: HashMap<usize, Vec<usize>> = HashMap::new();
    {
        let candidates: HashSet<usize> = contests.iter().filter_map(takes).collect();
        let numbers: HashMap<&Vec<Value>, usize> =
            planned.iter().enumerate().map(|(number, plan)| (&plan.key, number)).collect();
        // Who gives the value away that the row wants; `None` when somebody keeps it.
        let giver = |row: &[Value], rival: &Vec<Value>| -> Option<Option<usize>> {
            let key = pick(rival, &form.key);
            if going.contains(&key) {
                return Some(None);
            }
            let number = *numbers.get(&key)?;
            let other = planned.get(number)?;
            let stands = found.same_key.get(&number) == Some(rival);
            let changes = matches!(other.fate, Fate::Complete { .. })
                || candidates.contains(&number) && past.as_written(&key, rival);
            let lets_go = form
                .unique
                .iter()
                .filter(|set| pick(rival, set) == pick(row, set))
                .all(|set| pick(&other.row, set) != pick(rival, set));
            (stands && changes && lets_go).then_some(Some(number))
        };
        for (number, _, rivals) in contests.iter().filter(|one| candidates.contains(&one.0)) {
            let Some(plan) = planned.get(*number) else { continue };
            let from: Option<Vec<Option<usize>>> =
                rivals.iter().map(|rival| giver(&plan.row, rival)).collect();
            if let Some(from) = from {
                takers.insert(*number, from.into_iter().flatten().collect());
            }
        }
        // Whoever does not get what it wants does not give either.
        loop {
            let stuck: Vec<usize> = takers
                .iter()
                .filter(|(_, from)| {
                    from.iter().any(|one| candidates.contains(one) && !takers.contains_key(one))
                })
                .map(|(number, _)| *number)
                .collect();
            if stuck.is_empty() {
                break;
            }
            for number in stuck {
                takers.remove(&number);
            }
        }
    }
    let mut left = Vec::new();
    for (number, same, rivals) in contests {
        match (takers.remove(&number), planned.get_mut(number)) {
            (Some(from), Some(plan)) => {
                // A new row is inserted, when all others have had their turn.
                if let Some(earlier) = same {
                    plan.fate = Fate::Complete { earlier };
                }
                let slot = Slot::default();
                plan.handover = Some(Box::new(Handover { from, slot }));
            }
            (_, _) => left.push((number, same, rivals)),
        }
    }
    left
}

/// Gives everybody their turn, when it is decided who comes; and says of those that cannot have
/// what they want, because who has it stays, that they are conflicts.
pub(super) fn take_turns(form: &Form, planned: &mut [Planned]) {
    let mut waiting: HashMap<usize, Vec<usize>> = planned
        .iter()
        .enumerate()
        .filter_map(|(number, plan)| Some((number, plan.handover.as_ref()?.from.clone())))
        .collect();
    if waiting.is_empty() {
        return;
    }
    loop {
        let comes = |number: &usize| planned.get(*number).is_some_and(|plan| plan.fate.writes());
        let kept: Vec<(usize, usize)> = waiting
            .iter()
            .filter(|(number, _)| comes(number))
            .filter_map(|(number, from)| Some((*number, *from.iter().find(|one| !comes(one))?)))
            .collect();
        if kept.is_empty() {
            break;
        }
        for (number, holder) in kept {
            let holder = planned.get(holder).map(|plan| show_key(&plan.key)).unwrap_or_default();
            let why = format!("which {} {holder} has and keeps", form.target_table);
            refuse(form, planned, number, &why);
        }
    }
    waiting.retain(|number, _| planned.get(*number).is_some_and(|plan| plan.fate.writes()));

    // The turn after the last of those that give.
    let mut turns: HashMap<usize, u32> = HashMap::new();
    let mut emptied: HashMap<usize, Vec<usize>> = HashMap::new();
    loop {
        let before = turns.len();
        for (number, from) in &waiting {
            // What was emptied gives before any turn.
            let turn_of = |one: &usize| {
                if waiting.contains_key(one) { turns.get(one).copied() } else { Some(0) }
            };
            let last: Option<Vec<u32>> =
                from.iter().filter(|one| !emptied.contains_key(one)).map(turn_of).collect();
            if let Some(last) = last {
                let turn = last.into_iter().max().map_or(0, |last| last.saturating_add(1));
                turns.entry(*number).or_insert(turn);
            }
        }
        if turns.len() > before {
            continue;
        }
        // What is left takes from each other in a circle, or from such.
        let Some(circle) = circle(&waiting, &turns) else { break };
        for number in circle {
            match emptiable(form, planned.get(number)) {
                Some(columns) => {
                    emptied.insert(number, columns);
                }
                None => {
                    refuse(form, planned, number, "which another row gives only in exchange");
                    waiting.remove(&number);
                }
            }
        }
    }
    // Whoever waited for one that was refused in a circle is told by the database: it keeps what
    // it has. So all of them are looked at once more.
    let refused = waiting.iter().find_map(|(number, from)| {
        let comes = |one: &usize| planned.get(*one).is_some_and(|plan| plan.fate.writes());
        (!from.iter().all(comes)).then_some(*number)
    });
    if refused.is_some() {
        return take_turns(form, planned);
    }
    for (number, turn) in turns {
        if turn > TURNS {
            refuse(form, planned, number, "at the end of a long row of such; run again");
        } else if let Some(handover) =
            planned.get_mut(number).and_then(|plan| plan.handover.as_mut())
        {
            handover.slot = Slot { turn, emptied: emptied.remove(&number).unwrap_or_default() };
        }
    }
}

/// Rows that take from each other in a circle, among those that have no turn.
fn circle(waiting: &HashMap<usize, Vec<usize>>, turns: &HashMap<usize, u32>) -> Option<Vec<usize>> {
    let mut at = *waiting.keys().filter(|number| !turns.contains_key(number)).min()?;
    let mut way = vec![at];
    loop {
        let without = |one: &&usize| waiting.contains_key(one) && !turns.contains_key(one);
        at = *waiting.get(&at)?.iter().find(without)?;
        if let Some(start) = way.iter().position(|one| *one == at) {
            return Some(way.split_off(start));
        }
        way.push(at);
    }
}

/// The columns by which a row can let go of its unique values for a moment.
fn emptiable(form: &Form, plan: Option<&Planned>) -> Option<Vec<usize>> {
    let Fate::Complete { earlier } = &plan?.fate else { return None };
    let row = &plan?.row;
    let mut columns = Vec::new();
    for set in form.unique.iter().filter(|set| pick(earlier, set) != pick(row, set)) {
        columns.push(*set.iter().find(|column| form.emptiable.contains(column))?);
    }
    columns.sort_unstable();
    columns.dedup();
    Some(columns)
}

fn refuse(form: &Form, planned: &mut [Planned], number: usize, why: &str) {
    let Some(plan) = planned.get_mut(number) else { return };
    let message = format!(
        "{} {} wants a value that must be unique, {why}",
        form.target_table,
        show_key(&plan.key)
    );
    plan.fate = Fate::Failed { code: "row_conflict", message };
}
