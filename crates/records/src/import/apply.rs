//! Sending a span, once; and when a row of it is refused for good, writing the others.
//!
//! A span goes out in one request, unless the target is comfortable with less at the moment (D1
//! ends a request after 30 s): then in several, each of them atomic. When one of those does not
//! come through, what came before it is there, so the span is in doubt: the probe records the part
//! that is there, and the rest is surveyed afresh. Rows that need each other (a child before its
//! parent) go together when they do not come through apart.
//!
//! A refusal by one of our guards, by a unique index or by a foreign key first counts as a race:
//! everything that could refuse was looked up just before, so somebody wrote in between, and the
//! span is surveyed afresh. A refusal that stays, or one that no race can cause, is isolated by
//! halves: each half is atomic, the good ones are written, and what is left are the rows that the
//! target does not take, each with the database's own words.

use futures::future::BoxFuture;
use rehome_core::{Block, Outcome};

use super::digests::RowDigest;
use super::statements::{WriteRow, statements};
use super::{Payload, summary};
use crate::database::{Refusal, WriteDatabase, Written, size};
use crate::layout::Form;
use crate::quiet;

/// After so many races in a row a refusal counts as lasting.
const RACES: u32 = 3;

/// What became of the rows, and whether it was a race.
pub(super) async fn apply(target: &dyn WriteDatabase, payload: Payload) -> (Outcome, bool) {
    let Payload { form, rows, mut done, races, first: _ } = payload;
    let Sent { left, wrote, answer } = send(target, &form, rows).await;
    let (refusal, message) = match answer {
        Written::Done { .. } => return (Outcome::Done(done), false),
        Written::Refused { refusal, message } => (refusal, message),
        Written::NotSent { reason, .. } if wrote => {
            return (Outcome::Unknown { reason }, false);
        }
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
        let reason = format!("the target changed while the span was prepared: {message}");
        let outcome = if wrote {
            Outcome::Unknown { reason }
        } else {
            Outcome::NotSent { reason, retry_after: None, halt: None }
        };
        return (outcome, true);
    }
    let mut isolation = Isolation { target, form: &form, refused: Vec::new(), wrote };
    if let Err(stopped) = isolation.run(left, refusal, message).await {
        return (stopped, false);
    }
    let blocks: Vec<Block> =
        isolation.refused.iter().flat_map(|one| summary::blocks(&one.row.mentions)).collect();
    let refused: Vec<_> = isolation
        .refused
        .into_iter()
        .map(|refused| summary::Refused {
            meant: RowDigest::of(&refused.row.row),
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

/// How far the rows of a span came.
struct Sent {
    /// What is not there: nothing, or the rows of the request that was answered last and all
    /// behind it.
    left: Vec<WriteRow>,
    /// Whether an earlier request has written others.
    wrote: bool,
    /// The last answer.
    answer: Written,
}

/// Sends the rows in requests as large as the target is comfortable with, until one does not come
/// through.
async fn send(target: &dyn WriteDatabase, form: &Form, rows: Vec<WriteRow>) -> Sent {
    let mut rows = rows;
    let mut wrote = false;
    let mut together = false;
    loop {
        let mut request = statements(form, &rows, target.limits());
        let (all, fits) = (size(&request), target.comfortable());
        let mut rest = Vec::new();
        if !together && all > fits && rows.len() > 1 {
            // Rows of a span are about of a size.
            let part = (rows.len().saturating_mul(fits) / all.max(1)).clamp(1, rows.len());
            rest = rows.split_off(part);
            request = statements(form, &rows, target.limits());
        }
        let answer = if rows.len() > 1 && size(&request) > target.limits().request {
            // The range holds much more than when it was cut.
            let message = "too large a request".to_owned();
            Written::Refused { refusal: Refusal::TooBig, message }
        } else {
            quiet::write(target, &[form], request).await
        };
        match answer {
            Written::Done { .. } if !rest.is_empty() => {
                wrote = true;
                rows = rest;
            }
            // A row of this part may need one of the rest, or a value that one of those gives away.
            Written::Refused {
                refusal: Refusal::Guard | Refusal::ForeignKey | Refusal::Unique,
                ..
            } if !rest.is_empty() => {
                together = true;
                rows.append(&mut rest);
            }
            Written::Done { .. } => return Sent { left: Vec::new(), wrote: true, answer },
            Written::Refused { .. } | Written::NotSent { .. } | Written::Unknown { .. } => {
                rows.append(&mut rest);
                return Sent { left: rows, wrote, answer };
            }
        }
    }
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
        if rows.len() > 1 && size(&request) > self.target.limits().request {
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
