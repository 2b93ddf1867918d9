//! What an import would do, counted and not done.
//!
//! Only readers are taken, so nothing can be written. Whoever has no counterpart yet is taken to
//! get one; rows that name them cannot be in the target, so they count as inserts. Rows that name
//! somebody whose counterpart is known already are compared under the new id, as an import does.
//!
//! Where a migration has begun, the spans of its journal come first, each with what the journal
//! says was written of it; what of the source lies behind them follows. A span that has arrived and
//! of which the source has not moved on is left alone by a run, and so it is here.

use std::collections::BTreeMap;
use std::sync::Arc;

use rehome_core::{Condition, Halt, Knowledge, Source as _, Stage, Unit, UnitId, journal};
use serde::{Deserialize, Serialize};

use crate::database::ReadDatabase;
use crate::import::placed::standing_for;
use crate::layout::Layout;
use crate::policy::RowPolicy;
use crate::rekey::Apart;
use crate::rewrite::unreadable;
use crate::span::{SPAN, SpanData, SpanSize, SpanSource};
use crate::survey::{Fate, Past, Planned, Purpose, Surveyor};
use crate::undo::Undoable;
use crate::verify::RowAudit;

/// What would become of the rows of one table.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TablePlan {
    /// The table as the source spells it.
    pub table: String,
    /// Rows of the source.
    pub rows: u64,
    /// In how many spans, each one read and at most one write.
    pub spans: u64,
    /// Would be inserted.
    pub insert: u64,
    /// Are ours, and would be brought up to date with the source.
    pub update: u64,
    /// Are ours and not in the source any more: would be removed, by policy.
    pub remove: u64,
    /// Are ours, and only the target has changed them since: stay.
    pub overtaken: u64,
    /// Are there already.
    pub equal: u64,
    /// Would take the place of a row that a webhook made, or by policy of any other.
    pub replace: u64,
    /// Stand against a row of the application.
    pub conflict: u64,
    /// Would wait.
    pub held: u64,
    /// Would be left out.
    pub skipped: u64,
    /// Hold something other than JSON where ids inside JSON were declared; carried as they are.
    pub unreadable: u64,
    /// By how much its keys would move, when they get new ones.
    pub moved: Option<i64>,
    /// Some conflicts, in words.
    pub examples: Vec<String>,
}

/// How many conflicts of a table are told in words.
const EXAMPLES: usize = 5;

/// How many spans are read from the journal at once.
const SPANS: usize = 100;

/// The spans that a journal knows.
pub trait Spans: Undoable {
    /// Those with numbers above `after`, in their order, whatever their condition.
    ///
    /// # Errors
    /// When the journal cannot be read.
    fn spans(&self, after: UnitId, limit: usize) -> Result<Vec<Unit>, journal::Error>;
}

impl Spans for journal::Reader {
    fn spans(&self, after: UnitId, limit: usize) -> Result<Vec<Unit>, journal::Error> {
        self.standing_at_least(&SPAN, Stage::Exported, after, limit)
    }
}

/// Counts what an import would do with every table, in copy order; `begun` has the spans of a
/// migration that has begun already.
///
/// # Errors
/// When a database or the journal cannot be read.
pub async fn plan(
    source: Arc<dyn ReadDatabase>,
    target: Arc<dyn ReadDatabase>,
    knowledge: Arc<dyn Knowledge>,
    layout: Arc<Layout>,
    policy: impl Into<RowPolicy>,
    begun: Option<Arc<dyn Spans>>,
) -> Result<Vec<TablePlan>, Halt> {
    let size = SpanSize::between(source.identity().kind, target.identity().kind);
    let found = SpanSource::new(Arc::clone(&source), Arc::clone(&layout)).sized(size);
    let plans = layout
        .tables
        .iter()
        .map(|table| TablePlan { table: table.name.clone(), ..TablePlan::default() })
        .collect();
    let guess = Some(Arc::default());
    let policy = policy.into();
    let spans = begun.clone().map(|begun| begun as Arc<dyn Undoable>);
    let surveyor = Surveyor { source, target, knowledge, layout, policy, guess, spans };
    let mut tally = Tally { surveyor, plans, standing: BTreeMap::new() };
    tally.shifts().await?;
    if let Some(begun) = begun {
        tally.begun(&begun).await?;
    }
    tally.rest(&found).await?;
    Ok(tally.plans)
}

/// What has been counted so far.
struct Tally {
    surveyor: Surveyor,
    plans: Vec<TablePlan>,
    /// What a run would journal of rows for which others stand; tables that are referred to come
    /// first.
    standing: BTreeMap<String, Apart>,
}

impl Tally {
    async fn shifts(&mut self) -> Result<(), Halt> {
        for (table, shift) in self.surveyor.moves().await?.shifts {
            self.of(&table, |plan| plan.moved = Some(shift.by));
        }
        Ok(())
    }

    fn of(&mut self, table: &str, note: impl FnOnce(&mut TablePlan)) {
        if let Some(plan) = self.plans.iter_mut().find(|plan| plan.table == table) {
            note(plan);
        }
    }

    /// The spans of the journal.
    async fn begun(&mut self, spans: &Arc<dyn Spans>) -> Result<(), Halt> {
        let Surveyor { source, target, knowledge, layout, policy, .. } = self.surveyor.clone();
        let audit = RowAudit::new(source, target, knowledge, layout, policy)
            .knowing(Arc::clone(spans) as Arc<dyn Undoable>);
        let mut after = UnitId(0);
        loop {
            let units = spans.spans(after, SPANS)?;
            let Some(last) = units.last() else { return Ok(()) };
            after = last.id;
            for unit in &units {
                self.unit(&audit, unit).await?;
            }
        }
    }

    async fn unit(&mut self, audit: &RowAudit, unit: &Unit) -> Result<(), Halt> {
        let span = SpanData::of(unit)?;
        let stands = match unit.state.condition {
            Condition::Ready if unit.state.stage >= Stage::Imported => {
                if self.arrived(audit, unit).await? {
                    return Ok(());
                }
                false
            }
            // No run looks at it before a person has said so.
            Condition::Stuck | Condition::Skipped => true,
            Condition::Ready
            | Condition::Intended
            | Condition::InDoubt
            | Condition::Failed
            | Condition::Held
            | Condition::Undoing
            | Condition::UndoInDoubt
            | Condition::RolledBack => false,
        };
        let past = Past::of(unit, unit.intent_void)?;
        let rows = self.judge(&span, &past).await?;
        for row in &rows {
            if stands && row.fate.writes() {
                self.of(&span.table, |plan| plan.held += 1);
            } else {
                self.count(&span.table, row);
            }
        }
        Ok(())
    }

    /// Counts a span that has arrived; false when the source has moved on, and it goes again.
    async fn arrived(&mut self, audit: &RowAudit, unit: &Unit) -> Result<bool, Halt> {
        let mut examples = Vec::new();
        let mut hear = |table: &str, key: &str, _| {
            if examples.len() < EXAMPLES {
                examples.push(format!("{table} {key} differs, or is not there any more"));
            }
        };
        let (report, moved) = audit.unit(unit, &mut hear).await?;
        if moved.rows() > 0 {
            return Ok(false);
        }
        self.of(&report.table, |plan| {
            plan.spans += 1;
            plan.rows += report.rows;
            plan.equal += report.equal;
            plan.overtaken += report.overtaken;
            plan.skipped += report.skipped;
            plan.conflict += report.missing + report.different;
            plan.examples.extend(examples);
            plan.examples.truncate(EXAMPLES);
        });
        Ok(true)
    }

    /// What lies behind the spans of the journal; all of it where there are none.
    async fn rest(&mut self, found: &SpanSource) -> Result<(), Halt> {
        let knowledge = Arc::clone(&self.surveyor.knowledge);
        let mut cursor = knowledge.cursor(&SPAN)?;
        // An export that was interrupted is gone on with, and then looks for newcomers once.
        let mut again = cursor.is_some() && !knowledge.export_done(&SPAN)?;
        loop {
            let page = found.next_page(cursor).await?;
            for unit in page.units {
                let span: SpanData = serde_json::from_value(unit.data)
                    .map_err(|error| Halt::Bug(error.to_string()))?;
                for row in self.judge(&span, &Past::default()).await? {
                    self.count(&span.table, &row);
                }
            }
            if page.done && !std::mem::take(&mut again) {
                return Ok(());
            }
            cursor = Some(page.cursor);
        }
    }

    async fn judge(&mut self, span: &SpanData, past: &Past) -> Result<Vec<Planned>, Halt> {
        let mut draft = self.surveyor.draft(span).await?;
        for (table, keys) in &self.standing {
            draft.resolved.moves.set_apart(table, keys);
        }
        let rows = self.surveyor.judge(draft, past, Purpose::Plan).await?;
        let form = span.form(&self.surveyor.layout)?;
        let keys = standing_for(form, &rows);
        if !keys.is_empty() {
            self.standing.entry(form.table.clone()).or_default().extend(keys);
        }
        let odd = rows.iter().filter(|row| !unreadable(form, &row.source).is_empty()).count();
        // A row of ours that the source has no more is none of its rows.
        let here = rows.iter().filter(|row| !row.source.is_empty()).count();
        self.of(&span.table, |plan| {
            plan.spans += 1;
            plan.rows += here as u64;
            plan.unreadable += odd as u64;
        });
        Ok(rows)
    }

    fn count(&mut self, table: &str, row: &Planned) {
        self.of(table, |plan| match &row.fate {
            Fate::Insert => plan.insert += 1,
            Fate::Equal { .. } => plan.equal += 1,
            Fate::Complete { .. } | Fate::Overwrite { .. } => plan.update += 1,
            Fate::Overtaken => plan.overtaken += 1,
            Fate::Update { .. } | Fate::Displace { .. } => plan.replace += 1,
            Fate::Remove { .. } => plan.remove += 1,
            // It waits for its children, which go before it.
            Fate::Held { .. } if row.source.is_empty() => plan.remove += 1,
            Fate::Gone => {}
            Fate::Held { .. } => plan.held += 1,
            Fate::Skipped | Fate::Yields { .. } => plan.skipped += 1,
            Fate::Failed { message, .. } => {
                plan.conflict += 1;
                if plan.examples.len() < EXAMPLES {
                    plan.examples.push(message.clone());
                }
            }
        });
    }
}
