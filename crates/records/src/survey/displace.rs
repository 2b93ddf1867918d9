//! Rows of the target that stand where one of ours should.
//!
//! Creating an account fires a webhook, to which many applications answer by inserting a row for
//! it at once. Such a row is keyed by an id that this migration itself has just created, so it
//! can only come from there, and ours takes its place; the earlier one is journaled first. It is
//! left alone, as a conflict, when ours was already there before (then the application has
//! changed it since), when its user has no row of its own in the source that would take its
//! place, or when other rows refer to it and would be torn along.
//!
//! Every other row belongs to the application: a conflict, for which a person has said what
//! becomes of it ([`OnConflict`]). A row that is the same thing as ours (see `alike`) may become
//! ours where it stands, and keeps whoever refers to it; any other has to go, and goes only when
//! nobody refers to it.
//!
//! A row that this migration wrote itself, and that has a value which another of its rows is to get,
//! is nobody's but ours: no policy for the application's rows is about it. Ours waits until that one
//! has changed or gone.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use rehome_core::{Halt, Kind, Origin};

use super::alike::{identifying, same_thing};
use super::{Fate, Past, Planned, Surveyor, differing, show_key};
use crate::database::Select;
use crate::json_rows::chunks;
use crate::layout::{Form, IdAt, pick};
use crate::policy::OnConflict;
use crate::target_rows::{referred, take_number};
use crate::value::Value;

/// What was decided about one contested row.
pub(super) struct Verdict {
    pub(super) number: usize,
    pub(super) fate: Fate,
}

/// The code of a row whose new key is taken; its span may go elsewhere while nothing of it is there.
pub(crate) const KEY_TAKEN: &str = "key_taken";

/// The code of a row that cannot have a value because another row of this migration has it.
const VALUE_HELD: &str = "value_held";

/// The code of a row of ours that cannot change to what the source has, because a row of the target
/// has a value of it.
const VALUE_TAKEN: &str = "value_taken";

/// A row's number, the row with its key, and the rows with one of its unique values.
pub(super) type Contest = (usize, Option<Vec<Value>>, Vec<Vec<Value>>);

/// Whose webhook made a row: the id column that shows it and the source key of the user.
type Owners = HashMap<(Kind, String), String>;

impl Surveyor {
    pub(super) async fn contested(
        &self,
        form: &Form,
        planned: &[Planned],
        contests: Vec<Contest>,
        past: &Past,
    ) -> Result<Vec<Verdict>, Halt> {
        if contests.is_empty() {
            return Ok(Vec::new());
        }
        let identifying: Vec<&IdAt> = identifying(form).collect();
        let owners = self.owners(&identifying, &contests)?;
        let owner_of = |row: &[Value]| {
            identifying.iter().find_map(|id| {
                let text = row.get(id.column)?.as_str()?;
                let source = owners.get(&(id.kind.clone(), text.to_owned()))?;
                Some((*id, source.clone()))
            })
        };

        let wanted: BTreeSet<(usize, String)> = contests
            .iter()
            .flat_map(|(_, same, rivals)| same.iter().chain(rivals))
            .filter_map(|row| owner_of(row).map(|(id, source)| (id.column, source)))
            .collect();
        let have_own = self.own_rows(form, &wanted).await?;

        // With new keys a row whose key is taken may go elsewhere.
        let keyed: HashSet<usize> = contests
            .iter()
            .filter(|_| form.rekeyed())
            .filter(|(number, same, _)| {
                let key = planned.get(*number).map(|plan| &plan.key);
                key.zip(same.as_ref()).is_some_and(|(key, there)| !past.was_ours(key, there))
            })
            .map(|(number, _, _)| *number)
            .collect();

        let all = contests.iter().flat_map(|(_, same, rivals)| same.iter().chain(rivals));
        let written = self.recorded(form, &all.map(|row| pick(row, &form.key)).collect())?;

        let mut verdicts = Vec::new();
        let mut displaced: Vec<(usize, Vec<Vec<Value>>)> = Vec::new();
        for (number, same, rivals) in contests {
            let Some(plan) = planned.get(number) else {
                continue;
            };
            let in_the_way: Vec<&Vec<Value>> = same.iter().chain(&rivals).collect();
            if let (Some(there), [_]) = (&same, in_the_way.as_slice()) {
                // Ours, with a reference that was left empty; or with what the source had then.
                if past.was_open(&plan.key) && completes(form, there, &plan.row)
                    || past.as_written(&plan.key, there)
                {
                    let earlier = there.clone();
                    verdicts.push(Verdict { number, fate: Fate::Complete { earlier } });
                    continue;
                }
                let own =
                    identifying.iter().all(|id| there.get(id.column) == plan.row.get(id.column));
                if own && owner_of(there).is_some() && !past.was_ours(&plan.key, there) {
                    let earlier = there.clone();
                    verdicts.push(Verdict { number, fate: Fate::Update { earlier } });
                    continue;
                }
            }
            let mut decided = None;
            if let Some(there) = &same
                && past.was_ours(&plan.key, there)
            {
                decided = Some(match rivals.first() {
                    // Ours as it was left; what it is to become, another row has.
                    Some(rival) if past.as_written(&plan.key, there) => {
                        if written.contains(&pick(rival, &form.key)) {
                            held(form, plan, rival, "changed")
                        } else {
                            let message = barred(form, plan, rival, "changed");
                            Fate::Failed { code: VALUE_TAKEN, message }
                        }
                    }
                    Some(_) | None => {
                        let why = "it was changed after this migration wrote it";
                        conflict(form, plan, there, Some(why))
                    }
                });
            } else if let Some(rival) =
                rivals.iter().find(|row| written.contains(&pick(row, &form.key)))
            {
                decided = Some(held(form, plan, rival, "added"));
            } else if let Some(there) =
                same.as_ref().filter(|row| written.contains(&pick(row, &form.key)))
            {
                // Somebody looks who does not know this span's past.
                decided = Some(conflict(form, plan, there, Some("it was changed since")));
            } else if let Some(theirs) = in_the_way.iter().find(|row| owner_of(row).is_none()) {
                match form.on_conflict {
                    OnConflict::Fail => decided = Some(conflict(form, plan, theirs, None)),
                    // Another number is no reason to have the same thing twice.
                    OnConflict::Rekey => {
                        let same = |row: &&&Vec<Value>| same_thing(form, &plan.row, row);
                        decided = Some(match in_the_way.iter().find(same) {
                            Some(there) if form.yields() => {
                                Fate::Yields { there: (**there).clone() }
                            }
                            Some(_) | None => conflict(form, plan, theirs, None),
                        });
                    }
                    OnConflict::Skip => decided = Some(left_out(form, plan, &in_the_way)),
                    OnConflict::Replace => {
                        if let (Some(there), [_]) = (&same, in_the_way.as_slice())
                            && becomes(form, there, &plan.row)
                        {
                            decided = Some(Fate::Update { earlier: there.clone() });
                        }
                    }
                }
            }
            for row in in_the_way {
                if decided.is_some() {
                    break;
                }
                if let Some((id, source)) = owner_of(row)
                    && !have_own.contains(&(id.column, source.clone()))
                {
                    let why = format!("its {} {source} has no such row in the source", id.kind);
                    decided = Some(conflict(form, plan, row, Some(&why)));
                }
            }
            // Decided, or all that is in the way has to go.
            match decided {
                Some(fate) => verdicts.push(Verdict { number, fate }),
                None => displaced.push((number, same.into_iter().chain(rivals).collect())),
            }
        }

        let all: Vec<Vec<Value>> = displaced.iter().flat_map(|(_, rows)| rows.clone()).collect();
        let torn = if all.is_empty() {
            BTreeMap::new()
        } else {
            referred(self.target.as_ref(), form, &all).await?
        };
        let mut place = 0;
        for (number, rows) in displaced {
            let child = (place..place + rows.len()).find_map(|n| torn.get(&n));
            place += rows.len();
            let fate = match (child, planned.get(number), rows.first()) {
                (Some(child), Some(plan), Some(row)) => {
                    let why = format!("rows of {child} refer to the row that is there");
                    conflict(form, plan, row, Some(&why))
                }
                (_, _, _) => Fate::Displace { earlier: rows },
            };
            verdicts.push(Verdict { number, fate });
        }
        for verdict in &mut verdicts {
            if let (Fate::Failed { code, .. }, true) =
                (&mut verdict.fate, keyed.contains(&verdict.number))
            {
                *code = KEY_TAKEN;
            }
        }
        Ok(verdicts)
    }

    /// Which of the ids in contested rows belong to accounts that this migration created.
    fn owners(&self, identifying: &[&IdAt], contests: &[Contest]) -> Result<Owners, Halt> {
        let mut by_kind: HashMap<Kind, Vec<String>> = HashMap::new();
        for row in contests.iter().flat_map(|(_, same, rivals)| same.iter().chain(rivals)) {
            for id in identifying {
                if let Some(text) = row.get(id.column).and_then(Value::as_str) {
                    by_kind.entry(id.kind.clone()).or_default().push(text.to_owned());
                }
            }
        }
        let mut owners = Owners::new();
        for (kind, mut keys) in by_kind {
            keys.sort();
            keys.dedup();
            for (target, known) in self.knowledge.by_target(&kind, &keys)? {
                if known.origin == Some(Origin::Created) {
                    owners.insert((kind.clone(), target), known.source_key);
                }
            }
        }
        Ok(owners)
    }

    /// Which of these owners have a row of their own in the source's table, by the column that
    /// names them.
    async fn own_rows(
        &self,
        form: &Form,
        wanted: &BTreeSet<(usize, String)>,
    ) -> Result<HashSet<(usize, String)>, Halt> {
        let mut found = HashSet::new();
        let mut queries = Vec::new();
        let mut asked: Vec<Vec<(usize, String)>> = Vec::new();
        for column in wanted.iter().map(|(column, _)| *column).collect::<BTreeSet<_>>() {
            let owners: Vec<(usize, String)> =
                wanted.iter().filter(|(of, _)| *of == column).cloned().collect();
            let names: Vec<_> = owners.iter().map(|(_, key)| vec![Value::text(key)]).collect();
            for chunk in chunks(names.iter(), self.source.limits().parameter) {
                let on = chunk.matches("t", &pick(&form.source, &[column]));
                asked.push(owners.get(chunk.rows.clone()).unwrap_or_default().to_vec());
                queries.push(
                    Select::new(
                        ["j.key"],
                        format!(
                            "FROM json_each(?1) AS j \
                             WHERE EXISTS (SELECT 1 FROM {} AS t WHERE {on})",
                            form.source_table()
                        ),
                    )
                    .with(chunk.json),
                );
            }
        }
        if queries.is_empty() {
            return Ok(found);
        }
        for (owners, answer) in asked.into_iter().zip(self.source.select(queries).await?) {
            let places: Vec<usize> = (0..owners.len()).collect();
            for mut row in answer {
                let owner = take_number(&mut row, &places).and_then(|place| owners.get(place));
                found.extend(owner.cloned());
            }
        }
        Ok(found)
    }
}

/// Whether the row that is there is ours but for references that are still empty.
pub(super) fn completes(form: &Form, there: &[Value], ours: &[Value]) -> bool {
    there.iter().zip(ours).enumerate().all(|(column, (there, ours))| {
        there == ours
            || (there.is_null()
                && form
                    .parents
                    .iter()
                    .any(|parent| parent.circle && parent.columns.contains(&column)))
    })
}

/// A row that is left out in favour of those that are there.
fn left_out(form: &Form, plan: &Planned, in_the_way: &[&Vec<Value>]) -> Fate {
    match in_the_way.iter().find(|row| same_thing(form, &plan.row, row)) {
        Some(there) => Fate::Yields { there: (**there).clone() },
        None => Fate::Skipped,
    }
}

/// Whether the row that is there can become ours where it stands: it is the same thing, and
/// whoever refers to it will refer to ours.
fn becomes(form: &Form, there: &[Value], ours: &[Value]) -> bool {
    let referred_alike =
        form.children.iter().all(|child| pick(there, &child.columns) == pick(ours, &child.columns));
    referred_alike && same_thing(form, ours, there)
}

fn conflict(form: &Form, plan: &Planned, there: &[Value], why: Option<&str>) -> Fate {
    let message = if pick(there, &form.key) == plan.key {
        let (table, key) = (&form.target_table, show_key(&plan.key));
        let columns = differing(form, there, &plan.row).join(", ");
        format!("{table} {key} is in the target already and differs in {columns}")
    } else {
        barred(form, plan, there, "added")
    };
    Fate::Failed {
        code: "row_conflict",
        message: match why {
            Some(why) => format!("{message} ({why})"),
            None => message,
        },
    }
}

/// A row that cannot have its unique values because another one of ours has them.
fn held(form: &Form, plan: &Planned, there: &[Value], verb: &str) -> Fate {
    let message = barred(form, plan, there, verb);
    Fate::Failed { code: VALUE_HELD, message: format!("{message}, and this migration wrote it") }
}

/// That a row cannot have its unique values, because another one has them.
fn barred(form: &Form, plan: &Planned, there: &[Value], verb: &str) -> String {
    let table = &form.target_table;
    let shared: Vec<_> = form
        .unique
        .iter()
        .filter(|set| pick(there, set) == pick(&plan.row, set))
        .flatten()
        .filter_map(|column| form.names.get(*column).map(String::as_str))
        .collect();
    format!(
        "{table} {} cannot be {verb}: {table} {} of the target has the same {}",
        show_key(&plan.key),
        show_key(&pick(there, &form.key)),
        shared.join(", ")
    )
}
