//! Sending a span, once; and when a row of it is refused for good, writing the others.
//!
//! A refusal by one of our guards, by a unique index or by a foreign key first counts as a race:
//! everything that could refuse was looked up just before, so somebody wrote in between, and the
//! span is surveyed afresh. A refusal that stays, or one that no race can cause, is isolated by
//! halves: each half is atomic, the good ones are written, and what is left are the rows that the
//! target does not take, each with the database's own words.

use futures::future::BoxFuture;
use rehome_core::{Block, Outcome};

use super::statements::{WriteRow, statements};
use super::{Payload, summary};
use crate::database::{Refusal, Statement, WriteDatabase, Written};
use crate::layout::Form;
use crate::quiet;

/// After so many races in a row a refusal counts as lasting.
const RACES: u32 = 3;

/// What became of the rows, and whether it was a race.
pub(super) async fn apply(target: &dyn WriteDatabase, payload: Payload) -> (Outcome, bool) {
    let Payload { form, rows, mut done, races, first: _ } = payload;
    let request = statements(&form, &rows, target.limits());
    let answer = if rows.len() > 1 && bytes(&request) > target.limits().request {
        // The range holds much more than when it was cut.
        Written::Refused { refusal: Refusal::TooBig, message: "too large a request".to_owned() }
    } else {
        quiet::write(target, &[&form], request).await
    };
    let (refusal, message) = match answer {
        Written::Done { .. } => return (Outcome::Done(done), false),
        Written::Refused { refusal, message } => (refusal, message),
        Written::NotSent { reason, retry_after, halt } => {
            return (Outcome::NotSent { reason, retry_after, halt }, false);
        }
        Written::Unknown { reason } => return (Outcome::Unknown { reason }, false),
    };
    let may_be_a_race = match refusal {
        Refusal::Guard | Refusal::Unique | Refusal::ForeignKey => true,
        Refusal::Constraint | Refusal::TooBig | Refusal::Other => false,
    };
    if may_be_a_race && races < RACES {
        return (
            Outcome::NotSent {
                reason: format!("the target changed while the span was prepared: {message}"),
                retry_after: None,
                halt: None,
            },
            true,
        );
    }
    let mut isolation = Isolation { target, form: &form, refused: Vec::new(), wrote: false };
    if let Err(stopped) = isolation.run(rows, refusal, message).await {
        return (stopped, false);
    }
    let blocks: Vec<Block> =
        isolation.refused.iter().flat_map(|refused| refused.row.blocks.iter().cloned()).collect();
    let refused: Vec<_> = isolation
        .refused
        .into_iter()
        .map(|refused| summary::Refused {
            key: refused.row.key,
            message: refused.message,
            ours: refused.row.ours,
        })
        .collect();
    match summary::add_failed(&mut done, &form, &refused, blocks) {
        Ok(()) => (Outcome::Done(done), false),
        Err(halt) => (Outcome::Unknown { reason: halt.to_string() }, false),
    }
}

fn bytes(request: &[Statement]) -> usize {
    request
        .iter()
        .map(|statement| {
            statement.sql.len() + statement.params.iter().map(String::len).sum::<usize>()
        })
        .sum()
}

/// Finds the rows that the target does not take.
struct Isolation<'a> {
    target: &'a dyn WriteDatabase,
    form: &'a Form,
    refused: Vec<Refused>,
    wrote: bool,
}

/// A row that was refused on its own.
struct Refused {
    row: WriteRow,
    refusal: Refusal,
    message: String,
}

impl Isolation<'_> {
    async fn run(
        &mut self,
        rows: Vec<WriteRow>,
        refusal: Refusal,
        message: String,
    ) -> Result<(), Outcome> {
        self.split(rows, refusal, message).await?;
        // A row may have been refused only because its parent stood in another half.
        loop {
            let (again, lasting): (Vec<_>, Vec<_>) =
                std::mem::take(&mut self.refused).into_iter().partition(|refused| {
                    matches!(refused.refusal, Refusal::ForeignKey | Refusal::Guard)
                });
            let before = again.len();
            self.refused = lasting;
            for refused in again {
                self.attempt(vec![refused.row]).await?;
            }
            let after = self
                .refused
                .iter()
                .filter(|refused| matches!(refused.refusal, Refusal::ForeignKey | Refusal::Guard))
                .count();
            if after == 0 || after == before {
                return Ok(());
            }
        }
    }

    fn split(
        &mut self,
        mut rows: Vec<WriteRow>,
        refusal: Refusal,
        message: String,
    ) -> BoxFuture<'_, Result<(), Outcome>> {
        Box::pin(async move {
            if rows.len() <= 1 {
                let message = match refusal {
                    Refusal::Guard => {
                        "what is in its place in the target keeps changing".to_owned()
                    }
                    Refusal::Unique
                    | Refusal::ForeignKey
                    | Refusal::Constraint
                    | Refusal::TooBig
                    | Refusal::Other => message,
                };
                self.refused.extend(rows.pop().map(|row| Refused { row, refusal, message }));
                return Ok(());
            }
            let second = rows.split_off(rows.len() / 2);
            self.attempt(rows).await?;
            self.attempt(second).await
        })
    }

    async fn attempt(&mut self, rows: Vec<WriteRow>) -> Result<(), Outcome> {
        let request = statements(self.form, &rows, self.target.limits());
        if rows.len() > 1 && bytes(&request) > self.target.limits().request {
            return self.split(rows, Refusal::TooBig, String::new()).await;
        }
        match quiet::write(self.target, &[self.form], request).await {
            Written::Done { .. } => {
                self.wrote = true;
                Ok(())
            }
            Written::Refused { refusal, message } => self.split(rows, refusal, message).await,
            // Earlier halves were written: only a survey can tell which.
            Written::NotSent { reason, .. } if self.wrote => Err(Outcome::Unknown { reason }),
            Written::NotSent { reason, retry_after, halt } => {
                Err(Outcome::NotSent { reason, retry_after, halt })
            }
            Written::Unknown { reason } => Err(Outcome::Unknown { reason }),
        }
    }
}
