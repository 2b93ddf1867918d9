//! The target's rows, as the deletion of accounts asks for them.

use std::collections::BTreeSet;
use std::sync::Arc;

use futures::future::BoxFuture;
use rehome_clerk::USER;
use rehome_clerk::undo::{Attached, Attachment, Tie};
use rehome_core::journal::Reader;
use rehome_core::{Done, Failure, Halt, Knowledge as _, Outcome, UnitId};
use rehome_records::in_place::{self, LOT};
use rehome_records::layout::Layout;
use rehome_records::undo::{MentionedRow, RowPlan, mentions_of, remove_rows};
use rehome_records::{Refusal, WriteDatabase, Written as Answer};

use crate::error::Error;

/// Finds and clears rows that mention accounts.
pub(crate) struct TargetRows {
    target: Arc<dyn WriteDatabase>,
    layout: Arc<Layout>,
    written: Written,
}

/// Which of the rows were put there, or rewritten, by this migration.
enum Written {
    /// Those of a plan; none without one.
    Planned(Option<Arc<RowPlan>>),
    /// In place: all rows of users whose ids did not go back.
    OfUsers { journal: Reader, users: BTreeSet<UnitId> },
    /// That does not matter: whoever wrote a row, it keeps its account.
    NobodyAsks,
}

impl TargetRows {
    /// Over the carried tables of `target`. `plan` tells the rows that this migration wrote:
    /// what is left of those was kept for a reason, and keeps the account too.
    pub(crate) fn new(
        target: Arc<dyn WriteDatabase>,
        layout: Arc<Layout>,
        plan: Option<Arc<RowPlan>>,
    ) -> Self {
        Self { target, layout, written: Written::Planned(plan) }
    }

    /// Over the database whose ids were rewritten where they stand. Documents are not read through
    /// again for every hundred accounts: lots gave them their old ids back, whoever wrote them.
    pub(crate) fn in_place(
        target: Arc<dyn WriteDatabase>,
        layout: &Layout,
        journal: Reader,
    ) -> Result<Self, Error> {
        let mut users = BTreeSet::new();
        let mut after = UnitId(0);
        loop {
            let lots = journal.with_effect(&LOT, None, after, 10)?;
            let Some(last) = lots.last() else { break };
            after = last.id;
            for lot in &lots {
                users.extend(in_place::held(lot)?);
            }
        }
        let layout = Arc::new(layout.without_documents());
        Ok(Self { target, layout, written: Written::OfUsers { journal, users } })
    }

    /// Over all tables of `target`, where no row goes with an account.
    pub(crate) fn keeping_all(target: Arc<dyn WriteDatabase>, layout: Arc<Layout>) -> Self {
        Self { target, layout, written: Written::NobodyAsks }
    }

    fn attachment(&self, account: &str, row: &MentionedRow) -> Result<Attachment, Halt> {
        let kept = match &self.written {
            Written::Planned(Some(plan)) => plan.wrote(&row.table, &row.key)?,
            Written::Planned(None) => false,
            Written::NobodyAsks => return Ok(attachment(account, row, Tie::Own)),
            Written::OfUsers { journal, users } => {
                let known = journal.by_target(&USER, &[account.to_owned()])?;
                known.values().any(|user| users.contains(&user.id))
            }
        };
        let tie = match (kept, row.identifying) {
            (true, _) => Tie::Ours,
            (false, true) => Tie::Echo,
            (false, false) => Tie::Own,
        };
        Ok(attachment(account, row, tie))
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
            Ok(Answer::Done { .. }) => Outcome::Done(Done::default()),
            Ok(Answer::Refused { refusal: Refusal::Guard, .. }) => Outcome::NotSent {
                reason: "the rows that go with the account changed meanwhile".to_owned(),
                retry_after: None,
                halt: None,
            },
            Ok(Answer::Refused { message, .. }) => Outcome::Rejected(
                Failure::new("rows_remain", format!("its row cannot be removed: {message}"))
                    .with_hint("remove the row by hand, then roll back again"),
            ),
            Ok(Answer::NotSent { reason, retry_after, halt }) => {
                Outcome::NotSent { reason, retry_after, halt }
            }
            Ok(Answer::Unknown { reason }) => Outcome::Unknown { reason },
            Err(halt) => {
                Outcome::NotSent { reason: halt.to_string(), retry_after: None, halt: Some(halt) }
            }
        }
    }
}

fn attachment(account: &str, row: &MentionedRow, tie: Tie) -> Attachment {
    Attachment {
        account: account.to_owned(),
        table: row.table.clone(),
        key: row.key_in_words(),
        tie,
        content: match tie {
            Tie::Echo => row.to_json(),
            Tie::Own | Tie::Ours => serde_json::Value::Null,
        },
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
