//! What an import would do, counted and not done.
//!
//! Only readers are taken, so nothing can be written. Whoever has no counterpart yet is taken to
//! get one; rows that name them cannot be in the target, so they count as inserts. Rows that name
//! somebody whose counterpart is known already are compared under the new id, as an import does.

use std::collections::BTreeMap;
use std::sync::Arc;

use rehome_core::{Halt, Knowledge, Source as _};
use serde::{Deserialize, Serialize};

use crate::database::ReadDatabase;
use crate::import::placed::standing_for;
use crate::layout::Layout;
use crate::policy::RowPolicy;
use crate::rekey::Apart;
use crate::rewrite::unreadable;
use crate::span::{SpanData, SpanSize, SpanSource};
use crate::survey::{Fate, Past, Purpose, Surveyor};

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

/// Counts what an import would do with every table, in copy order.
///
/// # Errors
/// When a database or the journal cannot be read.
pub async fn plan(
    source: Arc<dyn ReadDatabase>,
    target: Arc<dyn ReadDatabase>,
    knowledge: Arc<dyn Knowledge>,
    layout: Arc<Layout>,
    policy: impl Into<RowPolicy>,
) -> Result<Vec<TablePlan>, Halt> {
    let size = SpanSize::between(source.identity().kind, target.identity().kind);
    let spans = SpanSource::new(Arc::clone(&source), Arc::clone(&layout)).sized(size);
    let mut plans: Vec<TablePlan> = layout
        .tables
        .iter()
        .map(|table| TablePlan { table: table.name.clone(), ..TablePlan::default() })
        .collect();
    let guess = Some(Arc::default());
    let policy = policy.into();
    let surveyor = Surveyor { source, target, knowledge, layout, policy, guess, spans: None };
    for (table, shift) in surveyor.moves().await?.shifts {
        if let Some(plan) = plans.iter_mut().find(|plan| plan.table == table) {
            plan.moved = Some(shift.by);
        }
    }
    let mut cursor = None;
    // What a run would journal of rows for which others stand; tables that are referred to come first.
    let mut standing: BTreeMap<String, Apart> = BTreeMap::new();
    loop {
        let page = spans.next_page(cursor).await?;
        for found in page.units {
            let span: SpanData =
                serde_json::from_value(found.data).map_err(|error| Halt::Bug(error.to_string()))?;
            let mut draft = surveyor.draft(&span).await?;
            for (table, keys) in &standing {
                draft.resolved.moves.set_apart(table, keys);
            }
            let rows = surveyor.judge(draft, &Past::default(), Purpose::Plan).await?;
            let Some(plan) = plans.iter_mut().find(|plan| plan.table == span.table) else {
                continue;
            };
            plan.spans += 1;
            plan.rows += rows.len() as u64;
            let form = span.form(&surveyor.layout)?;
            let keys = standing_for(form, &rows);
            if !keys.is_empty() {
                standing.entry(form.table.clone()).or_default().extend(keys);
            }
            for row in rows {
                if !unreadable(form, &row.source).is_empty() {
                    plan.unreadable += 1;
                }
                match row.fate {
                    Fate::Insert => plan.insert += 1,
                    Fate::Equal { .. } => plan.equal += 1,
                    Fate::Update { .. } | Fate::Complete { .. } | Fate::Displace { .. } => {
                        plan.replace += 1;
                    }
                    // Of rows that an import has written, which a plan knows nothing of.
                    Fate::Remove { .. } | Fate::Gone | Fate::Overtaken | Fate::Overwrite { .. } => {
                    }
                    Fate::Held { .. } => plan.held += 1,
                    Fate::Skipped | Fate::Yields { .. } => plan.skipped += 1,
                    Fate::Failed { message, .. } => {
                        plan.conflict += 1;
                        if plan.examples.len() < EXAMPLES {
                            plan.examples.push(message);
                        }
                    }
                }
            }
        }
        if page.done {
            return Ok(plans);
        }
        cursor = Some(page.cursor);
    }
}
