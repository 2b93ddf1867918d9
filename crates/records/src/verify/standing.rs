//! Whether a span that stands still (it failed, or waits) could go on by now.
//!
//! Time alone may have mended what stopped it: the source or the target has changed, a row that was
//! in its way has gone, another span has brought a parent. And a row that fails must not keep the
//! others of its span from following their source.

use rehome_core::{Halt, Rest, Unit};

use super::RowAudit;
use crate::import::summary;
use crate::span::SpanData;
use crate::survey::{Past, Purpose};

/// What a span that stands still looks like now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Standing {
    /// So many of its rows could be written now, those that the database has refused as they are
    /// not counted.
    pub due: usize,
    /// What would be told of the rows that fail; `None` when none does. `Err` where that cannot be
    /// known without sending them.
    pub failing: Result<Option<String>, Unknowable>,
}

/// What fails shows only when it is sent: the database has refused some rows, or new keys are
/// looked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unknowable;

impl RowAudit {
    /// Looks at the rows of a span that stands still, as an import would.
    ///
    /// # Errors
    /// When a database or the journal cannot be read.
    pub async fn standing(&self, unit: &Unit) -> Result<Standing, Halt> {
        let draft = self.surveyor.draft(&SpanData::of(unit)?).await?;
        let form = draft.form.clone();
        let past = Past::of(unit, unit.intent_void)?;
        let planned = self.surveyor.judge(draft, &past, Purpose::Import).await?;
        let due = planned.iter().filter(|plan| plan.fate.writes() && !past.was_rejected(plan));
        let due = due.count();
        let failing = if form.rekeyed() || past.any_rejected() {
            Err(Unknowable)
        } else {
            Ok(match summary::done(&form, &planned, &past, false)?.rest {
                Some(Rest::Failed { failure, .. }) => Some(failure.message),
                Some(Rest::Held { .. } | Rest::More) | None => None,
            })
        };
        Ok(Standing { due, failing })
    }
}
