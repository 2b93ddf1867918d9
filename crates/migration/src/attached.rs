//! The target's rows, as the deletion of accounts asks for them.

use std::sync::Arc;

use futures::future::BoxFuture;
use rehome_clerk::USER;
use rehome_clerk::undo::{Attached, Attachment, Tie};
use rehome_core::{Done, Failure, Halt, Outcome};
use rehome_records::layout::Layout;
use rehome_records::undo::{MentionedRow, RowPlan, mentions_of, remove_rows};
use rehome_records::{Refusal, WriteDatabase, Written};

/// Finds and clears rows that mention accounts.
pub(crate) struct TargetRows {
    target: Arc<dyn WriteDatabase>,
    layout: Arc<Layout>,
    plan: Option<Arc<RowPlan>>,
}

impl TargetRows {
    /// Over the carried tables of `target`. `plan` tells the rows that this migration wrote:
    /// what is left of those was kept for a reason, and keeps the account too.
    pub(crate) fn new(
        target: Arc<dyn WriteDatabase>,
        layout: Arc<Layout>,
        plan: Option<Arc<RowPlan>>,
    ) -> Self {
        Self { target, layout, plan }
    }

    fn attachment(&self, account: &str, row: &MentionedRow) -> Result<Attachment, Halt> {
        let kept = match &self.plan {
            Some(plan) => plan.wrote(&row.table, &row.key)?,
            None => false,
        };
        let tie = if row.identifying && !kept { Tie::Echo } else { Tie::Own };
        Ok(Attachment {
            account: account.to_owned(),
            table: row.table.clone(),
            key: row.key_in_words(),
            tie,
            content: match tie {
                Tie::Echo => row.to_json(),
                Tie::Own => serde_json::Value::Null,
            },
        })
    }

    async fn look(&self, accounts: &[String]) -> Result<Vec<Attachment>, Halt> {
        let found = mentions_of(self.target.as_ref(), &self.layout, &USER, accounts).await?;
        found
            .iter()
            .flat_map(|(account, rows)| rows.iter().map(move |row| (account, row)))
            .map(|(account, row)| self.attachment(account, row))
            .collect()
    }

    async fn clear(&self, rows: &[Attachment]) -> Outcome {
        let read: Result<Vec<_>, Halt> =
            rows.iter().map(|row| MentionedRow::from_json(&row.content)).collect();
        let written = match read {
            Ok(rows) => remove_rows(self.target.as_ref(), &self.layout, &rows).await,
            Err(halt) => Err(halt),
        };
        match written {
            Ok(Written::Done { .. }) => Outcome::Done(Done::default()),
            Ok(Written::Refused { refusal: Refusal::Guard, .. }) => Outcome::NotSent {
                reason: "the rows that go with the account changed meanwhile".to_owned(),
                retry_after: None,
                halt: None,
            },
            Ok(Written::Refused { message, .. }) => Outcome::Rejected(
                Failure::new("rows_remain", format!("its row cannot be removed: {message}"))
                    .with_hint("remove the row by hand, then roll back again"),
            ),
            Ok(Written::NotSent { reason, retry_after, halt }) => {
                Outcome::NotSent { reason, retry_after, halt }
            }
            Ok(Written::Unknown { reason }) => Outcome::Unknown { reason },
            Err(halt) => {
                Outcome::NotSent { reason: halt.to_string(), retry_after: None, halt: Some(halt) }
            }
        }
    }
}

impl Attached for TargetRows {
    fn look<'a>(&'a self, accounts: &'a [String]) -> BoxFuture<'a, Result<Vec<Attachment>, Halt>> {
        Box::pin(self.look(accounts))
    }

    fn clear<'a>(&'a self, rows: &'a [Attachment]) -> BoxFuture<'a, Outcome> {
        Box::pin(self.clear(rows))
    }
}
