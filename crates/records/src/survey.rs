//! A span looked at from both sides: what each of its rows is, and what should become of it.
//!
//! This only reads; the import acts on it, the plan counts it, the probe of a lost answer is
//! settled by it. First the span's rows are drafted: read from the source with the ids that they
//! name and what the journal says of those. Then each row is judged: exchanged, looked up in the
//! target by its key and by every other unique value, and its parents with it.

mod alike;
mod displace;
mod documents;
mod handover;
mod left_out;
mod lots;
mod ours;
mod parents;
mod past;
mod recorded;
mod removed;
mod strangers;
mod yielded;

pub(crate) use alike::identifies;
pub(crate) use displace::KEY_TAKEN;
pub(crate) use past::Past;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use rehome_core::{Halt, Kind, Knowledge, Stage};
use tokio::sync::OnceCell;

use crate::database::ReadDatabase;
use crate::layout::{Form, Layout, TableLayout, pick};
use crate::policy::{RowPolicy, Unmapped};
use crate::rekey::{self, Moves, Shifts};
use crate::resolve::{Resolution, Resolved, resolve};
use crate::rewrite::{Mention, mentions};
use crate::span::{SPAN, SpanData};
use crate::target_rows::{Existing, existing_beside};
use crate::undo::Undoable;
use crate::value::{Row, Value};
pub(crate) use handover::Handover;
pub(crate) use handover::Slot;
use ours::of_ours;

/// What should become of a row.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Fate {
    /// It is not there: insert it.
    Insert,
    /// This row stands in its place and becomes it.
    Update { earlier: Vec<Value> },
    /// This row is ours and becomes this: a reference that was left empty can be filled now, or
    /// the source has changed since.
    Complete { earlier: Vec<Value> },
    /// This row is ours, and the source has it no more: it goes.
    Remove { earlier: Vec<Value> },
    /// It was ours and is no more: neither database has it, or it is left to the target.
    Gone,
    /// It is ours, and only the target has changed or removed it since, or that is to count: it
    /// stays so.
    Overtaken,
    /// This row is ours, both sides have changed it since, and the source's is to count.
    Overwrite { earlier: Vec<Value> },
    /// These rows stand in its way and go.
    Displace { earlier: Vec<Vec<Value>> },
    /// It is there already; `ours` when this migration put it there.
    Equal { ours: bool },
    /// It waits for a unit of the kind: the one with this key, or any of the scope.
    Held { code: String, kind: Kind, key: Option<String>, scope: Option<String>, stage: Stage },
    /// Left out: by policy, or because a person took out whom it names.
    Skipped,
    /// Left out by policy, because this row of the target is the same thing and stays.
    Yields { there: Vec<Value> },
    /// A person has to look at it.
    Failed { code: &'static str, message: String },
}

impl Fate {
    /// Whether it leads to a write.
    pub(crate) const fn writes(&self) -> bool {
        match self {
            Self::Insert
            | Self::Update { .. }
            | Self::Complete { .. }
            | Self::Overwrite { .. }
            | Self::Remove { .. }
            | Self::Displace { .. } => true,
            Self::Equal { .. }
            | Self::Gone
            | Self::Overtaken
            | Self::Held { .. }
            | Self::Skipped
            | Self::Yields { .. }
            | Self::Failed { .. } => false,
        }
    }
}

/// A row and what should become of it.
#[derive(Clone, Debug)]
pub(crate) struct Planned {
    /// As it stands in the source.
    pub(crate) source: Row,
    /// As it is to be in the target.
    pub(crate) row: Row,
    /// As it can be written now: with a reference empty whose row is not there yet.
    pub(crate) now: Row,
    /// Its key in the target.
    pub(crate) key: Vec<Value>,
    /// Whom it names.
    pub(crate) mentions: Arc<[Mention]>,
    /// What should become of it.
    pub(crate) fate: Fate,
    /// The parent table for which it must be completed later, when `now` differs from `row`.
    pub(crate) open: Option<String>,
    /// Whether what is there of it has a reference empty.
    pub(crate) was_open: bool,
    /// From whom it takes a value that must be unique.
    pub(crate) handover: Option<Box<Handover>>,
}

impl Planned {
    /// A row of the source, as `row` in the target.
    pub(crate) fn of(form: &Form, source: Row, row: Vec<Value>, fate: Fate) -> Self {
        let mentions = mentions(form, &source).into();
        Self::naming(form, source, mentions, row, fate)
    }

    /// The same, knowing whom it names.
    fn naming(
        form: &Form,
        source: Row,
        mentions: Arc<[Mention]>,
        row: Vec<Value>,
        fate: Fate,
    ) -> Self {
        let key = pick(&row, &form.key);
        let row = Row::from(row);
        let now = Row::clone(&row);
        Self { source, row, now, key, mentions, fate, open: None, was_open: false, handover: None }
    }

    /// A row of ours in the target that the source has no more.
    pub(crate) fn of_ours(key: Vec<Value>, row: Vec<Value>, fate: Fate) -> Self {
        let row = Row::from(row);
        Self {
            source: Row::default(),
            now: Row::clone(&row),
            row,
            key,
            mentions: Arc::default(),
            fate,
            open: None,
            was_open: false,
            handover: None,
        }
    }

    /// The row as it stands in the target before anything more is written; `None` when ours is
    /// not there.
    pub(crate) fn there(self) -> Option<Self> {
        match self.fate {
            // One that is to be overwritten is the application's until it is.
            Fate::Insert
            | Fate::Update { .. }
            | Fate::Overwrite { .. }
            | Fate::Displace { .. }
            | Fate::Gone => None,
            Fate::Remove { earlier } => {
                Some(Self { now: earlier.into(), fate: Fate::Equal { ours: true }, ..self })
            }
            Fate::Complete { earlier } => Some(Self {
                now: earlier.into(),
                fate: Fate::Equal { ours: true },
                open: self.open.or_else(|| self.was_open.then(String::new)),
                ..self
            }),
            Fate::Equal { .. }
            | Fate::Overtaken
            | Fate::Held { .. }
            | Fate::Skipped
            | Fate::Yields { .. }
            | Fate::Failed { .. } => Some(self),
        }
    }
}

/// A span's rows as the source has them, and what is known of those they name.
#[derive(Clone)]
pub(crate) struct Draft {
    pub(crate) form: Form,
    pub(crate) rows: Vec<(Row, Arc<[Mention]>)>,
    pub(crate) resolved: Resolved,
}

/// How the look is meant.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Purpose {
    /// To write: whoever still moves holds the row.
    Import,
    /// To foretell: whoever still moves is taken to arrive.
    Plan,
}

/// Both sides, the journal and the rules.
#[derive(Clone)]
pub(crate) struct Surveyor {
    pub(crate) source: Arc<dyn ReadDatabase>,
    pub(crate) target: Arc<dyn ReadDatabase>,
    pub(crate) knowledge: Arc<dyn Knowledge>,
    pub(crate) layout: Arc<Layout>,
    pub(crate) policy: RowPolicy,
    /// How far keys would move, for those who only look before the journal says so; `None` for
    /// those who write, to whom only the journal's word counts.
    pub(crate) guess: Option<Arc<OnceCell<Shifts>>>,
    /// What the journal keeps of spans that were written, where there is a journal.
    pub(crate) spans: Option<Arc<dyn Undoable>>,
}

impl Surveyor {
    /// Reads a span's rows and asks the journal about those they name.
    pub(crate) async fn draft(&self, span: &SpanData) -> Result<Draft, Halt> {
        let form = span.form(&self.layout)?.clone();
        let mut answers = self.source.select(vec![span.rows(&form)?]).await?;
        let rows: Vec<(Row, Arc<[Mention]>)> = answers
            .pop()
            .unwrap_or_default()
            .into_iter()
            .map(|row| {
                let named = mentions(&form, &row);
                (row.into(), named.into())
            })
            .collect();
        let all: HashSet<&Mention> = rows.iter().flat_map(|(_, named)| named.iter()).collect();
        let all: Vec<Mention> = all.into_iter().cloned().collect();
        let resolved = self.resolve(all).await?;
        Ok(Draft { form, rows, resolved })
    }

    /// Says of each row of a draft what should become of it.
    pub(crate) async fn judge(
        &self,
        draft: Draft,
        past: &Past,
        purpose: Purpose,
    ) -> Result<Vec<Planned>, Halt> {
        let Draft { form, rows, resolved } = draft;
        let mut planned = Vec::with_capacity(rows.len());
        for (source, named) in rows {
            let row = resolved.rewrite(&form, &source);
            let fate = self.unmapped(&named, &resolved, purpose)?.unwrap_or(Fate::Insert);
            planned.push(Planned::naming(&form, source, named, row, fate));
        }
        // Only those that may be written are looked up, under their new ids.
        let numbers: Vec<usize> = (0..planned.len())
            .filter(|n| planned.get(*n).is_some_and(|p| p.fate == Fate::Insert))
            .collect();
        let rows: Vec<_> =
            numbers.iter().filter_map(|n| planned.get(*n).map(|p| Row::clone(&p.row))).collect();
        if rows.is_empty() {
            planned.extend(self.removed(&form, &planned, past).await?);
            return Ok(planned);
        }
        let removed = self.removed(&form, &planned, past).await?;
        let going: HashSet<Vec<Value>> = removed
            .iter()
            .filter(|plan| matches!(plan.fate, Fate::Remove { .. }))
            .map(|plan| plan.key.clone())
            .collect();
        let mut lots = match purpose {
            Purpose::Plan => Vec::new(),
            Purpose::Import => self.parent_lots(&form, &planned, &numbers).await?,
        };
        let target = self.target.as_ref();
        let first = lots::ask_first(&mut lots, target.limits().parameter);
        let (found, parents) = existing_beside(target, &form, &rows, first).await?;
        lots::hear(&mut lots, parents);
        let found = renumber(found, &numbers);
        self.compare(&form, &mut planned, &found, past, &going).await?;
        match purpose {
            Purpose::Plan => {
                self.foretell_parents(&form, &mut planned).await?;
                self.sizes(&form, &mut planned);
            }
            Purpose::Import => {
                self.documents(&form, &mut planned, &resolved.moves).await?;
                self.parents(&form, &mut planned, &found, lots).await?;
                self.sizes(&form, &mut planned);
                reconsider_open(&mut planned, &found, past);
            }
        }
        handover::take_turns(&form, &mut planned);
        planned.extend(removed);
        Ok(planned)
    }

    /// Asks the journal about all whom rows name, and where keys go.
    pub(crate) async fn resolve(
        &self,
        mentions: impl IntoIterator<Item = Mention> + Send,
    ) -> Result<Resolved, Halt> {
        let mut resolved = resolve(self.knowledge.as_ref(), mentions)?;
        resolved.moves = self.moves().await?;
        Ok(resolved)
    }

    /// Where the keys of tables go that get new ones.
    pub(crate) async fn moves(&self) -> Result<Moves, Halt> {
        let rekeyed: Vec<&TableLayout> =
            self.layout.tables.iter().filter(|table| table.rekeyed().is_some()).collect();
        if rekeyed.is_empty() {
            return Ok(Moves::default());
        }
        let cursor = self.knowledge.cursor(&SPAN)?;
        let mut shifts = cursor.map(rekey::of_cursor).transpose()?.unwrap_or_default();
        if let Some(table) = rekeyed.iter().find(|table| !shifts.contains_key(&table.name)) {
            let Some(guess) = &self.guess else {
                let message = format!("the journal does not say how far {} moves", table.name);
                return Err(Halt::Bug(message));
            };
            let (source, target) = (self.source.as_ref(), self.target.as_ref());
            let guessed =
                guess.get_or_try_init(|| rekey::shifts(&self.layout, source, target)).await?;
            for (table, shift) in guessed {
                shifts.entry(table.clone()).or_insert(*shift);
            }
        }
        Moves::new(shifts, &self.knowledge.target_keys(&SPAN)?)
    }

    /// What the policy says when somebody whom the row names is not mapped. Whoever a person took
    /// out will never be: a row that waited for them would wait for ever, so it is left out.
    pub(crate) fn unmapped(
        &self,
        named: &[Mention],
        resolved: &Resolved,
        purpose: Purpose,
    ) -> Result<Option<Fate>, Halt> {
        let taken_out = |mention| *resolved.of(mention) == Resolution::TakenOut;
        if self.policy.unmapped != Unmapped::Keep && named.iter().any(taken_out) {
            return Ok(Some(Fate::Skipped));
        }
        for mention in named {
            let (kind, key) = mention;
            let code = match resolved.of(mention) {
                Resolution::Mapped(_) | Resolution::TakenOut => continue,
                Resolution::Moving(_) if purpose == Purpose::Plan => continue,
                Resolution::Moving(_) => format!("{kind}_unmapped"),
                Resolution::Stuck(code) => code.clone(),
                Resolution::Unknown
                    if purpose == Purpose::Plan && !self.knowledge.export_done(kind)? =>
                {
                    continue;
                }
                Resolution::Unknown => "unknown_id".to_owned(),
            };
            return Ok(match self.policy.unmapped {
                Unmapped::Hold => Some(Fate::Held {
                    code,
                    kind: kind.clone(),
                    key: Some(key.clone()),
                    scope: None,
                    stage: Stage::Mapped,
                }),
                Unmapped::Skip => Some(Fate::Skipped),
                Unmapped::Keep => None,
            });
        }
        Ok(None)
    }

    async fn compare(
        &self,
        form: &Form,
        planned: &mut [Planned],
        found: &Existing,
        past: &Past,
        going: &HashSet<Vec<Value>>,
    ) -> Result<(), Halt> {
        let mut contested = Vec::new();
        for (number, plan) in planned.iter_mut().enumerate() {
            plan.was_open = past.was_open(&plan.key);
            // The others were not looked up: what is there of them stays as it is.
            if plan.fate != Fate::Insert {
                continue;
            }
            let same = found.same_key.get(&number);
            let rivals = found.same_unique.get(&number);
            if same.is_some_and(|same| *same == *plan.row) {
                plan.fate = Fate::Equal { ours: past.is_ours(&plan.key) };
                continue;
            }
            if let Some(fate) = of_ours(form, plan, same, rivals.is_some(), past) {
                plan.fate = fate;
            } else if same.is_some() || rivals.is_some() {
                contested.push((number, same.cloned(), rivals.cloned().unwrap_or_default()));
            }
        }
        let contested = handover::let_go(form, planned, contested, found, past, going);
        for verdict in self.contested(form, planned, contested, past).await? {
            if let Some(plan) = planned.get_mut(verdict.number) {
                plan.fate = verdict.fate;
            }
        }
        Ok(())
    }

    fn sizes(&self, form: &Form, planned: &mut [Planned]) {
        let limit = self.target.limits().row;
        for plan in planned.iter_mut().filter(|plan| plan.fate.writes()) {
            let size: usize = plan.row.iter().map(Value::size).sum();
            if size > limit {
                plan.fate = Fate::Failed {
                    code: "row_too_large",
                    message: format!(
                        "{} {} holds {size} bytes, and the target takes {limit}",
                        form.target_table,
                        show_key(&plan.key)
                    ),
                };
            }
        }
    }
}

/// Rows of ours whose reference was left empty: complete now, or still waiting.
fn reconsider_open(planned: &mut [Planned], found: &Existing, past: &Past) {
    for (number, plan) in planned.iter_mut().enumerate() {
        let Some(there) = found.same_key.get(&number) else {
            continue;
        };
        if plan.open.is_some() && *there == *plan.now && past.is_ours(&plan.key) {
            plan.fate = Fate::Equal { ours: true };
        }
    }
}

fn renumber(found: Existing, numbers: &[usize]) -> Existing {
    let real = |n: usize| numbers.get(n).copied();
    Existing {
        same_key: found.same_key.into_iter().filter_map(|(n, row)| Some((real(n)?, row))).collect(),
        same_unique: found
            .same_unique
            .into_iter()
            .filter_map(|(n, rows)| Some((real(n)?, rows)))
            .collect(),
        no_parent: found
            .no_parent
            .into_iter()
            .map(|set| set.into_iter().filter_map(real).collect())
            .collect(),
    }
}

/// A key as a person reads it.
pub(crate) fn show_key(key: &[Value]) -> String {
    let parts: Vec<_> = key.iter().map(Value::show).collect();
    match parts.as_slice() {
        [one] => one.clone(),
        many => format!("({})", many.join(", ")),
    }
}

/// The names of the columns in which two rows differ.
pub(crate) fn differing(form: &Form, a: &[Value], b: &[Value]) -> Vec<String> {
    form.names
        .iter()
        .zip(a.iter().zip(b))
        .filter(|(_, (a, b))| a != b)
        .map(|(name, _)| name.clone())
        .collect()
}

/// The rows by the values in some columns; for finding parents inside a batch.
pub(crate) fn index_by<'a>(
    planned: &'a [Planned],
    columns: &[usize],
) -> HashMap<Vec<Value>, (usize, &'a Planned)> {
    planned
        .iter()
        .enumerate()
        .map(|(number, plan)| (pick(&plan.row, columns), (number, plan)))
        .collect()
}
