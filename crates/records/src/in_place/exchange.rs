//! One atomic request that exchanges the ids of some users in every table, in either direction;
//! and when it is refused for good, the same for half of them, until whoever is to blame stands
//! alone.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures::future::BoxFuture;
use rehome_core::{Halt, Knowledge, Outcome, UnitId};

use super::memory::{Displaced, Stood};
use super::pairs::{Pair, Turn};
use super::places::{Places, TablePlaces};
use super::standing::{Spared, earlier};
use super::statements;
use crate::database::{Refusal, Statement, WriteDatabase, Written};
use crate::layout::Form;
use crate::quiet;
use crate::value::Value;

/// After so many races in a row a refusal counts as lasting.
const RACES: u32 = 3;

/// The one database, and everything that is needed to exchange ids in it.
pub(super) struct Exchange {
    pub(super) target: Arc<dyn WriteDatabase>,
    pub(super) knowledge: Arc<dyn Knowledge>,
    pub(super) places: Arc<Places>,
}

/// What is to be exchanged.
pub(super) struct Work {
    pub(super) pairs: Vec<Pair>,
    pub(super) turn: Turn,
    /// Rows that keep their new ids on the way back.
    pub(super) stood: Vec<Stood>,
    /// Rows that go out of the way before (forth), or come back after (back).
    pub(super) displaced: Vec<Displaced>,
}

/// Why nothing more of the work was sent.
pub(super) struct Stopped {
    /// What became of the request, as far as it is known.
    pub(super) outcome: Outcome,
    /// Whether somebody else had written in between.
    pub(super) raced: bool,
}

impl Stopped {
    fn by(outcome: Outcome) -> Box<Self> {
        Box::new(Self { outcome, raced: false })
    }
}

/// Who could not be exchanged, each with the database's own words.
pub(super) type Refused = BTreeMap<UnitId, String>;

impl Exchange {
    /// Sends the work, in parts if it must be. `Err` when it did not happen, or nobody knows.
    pub(super) async fn perform(&self, work: Work, races: u32) -> Result<Refused, Box<Stopped>> {
        let mut parts =
            Parts { exchange: self, work: &work, refused: Refused::new(), wrote: false };
        match parts.attempt(&work.pairs).await? {
            Attempt::Done => {}
            Attempt::Refused { refusal, message } => {
                if may_be_a_race(refusal) && races < RACES {
                    let reason =
                        format!("the database changed while the lot was prepared: {message}");
                    let outcome = Outcome::NotSent { reason, retry_after: None, halt: None };
                    return Err(Box::new(Stopped { outcome, raced: true }));
                }
                parts.split(&work.pairs, message).await?;
            }
        }
        Ok(parts.refused)
    }

    /// Everything that the work comes to for some of its users, as one request.
    async fn request(&self, work: &Work, pairs: &[Pair]) -> Result<Vec<Statement>, Halt> {
        let (turn, places) = (work.turn, self.places.as_ref());
        let limit = self.target.limits().parameter;
        let mut out = Vec::new();
        if turn == Turn::Forth {
            for table in &places.tables {
                let rows = rows_of(table, &work.displaced, pairs)?;
                out.extend(statements::remove(&table.form, &rows, limit));
            }
        }
        let spared = |table, place| match turn {
            Turn::Forth => Ok(None),
            Turn::Back => Spared::of(self.knowledge.as_ref(), places, table, place, &work.stood),
        };
        // All documents before any key: their rows are found by keys that may hold ids.
        for (table, place) in places.each().filter(|(_, place)| place.is_document()) {
            let spared = spared(table, place)?;
            let target = self.target.as_ref();
            out.extend(
                statements::documents(target, places, table, place, (pairs, turn), spared.as_ref())
                    .await?,
            );
        }
        for (table, place) in places.each().filter(|(_, place)| !place.is_document()) {
            let spared = spared(table, place)?;
            out.push(statements::column(table, place, pairs, turn, spared.as_ref()));
        }
        if turn == Turn::Back {
            // What is referred to comes before what refers to it.
            for table in places.tables.iter().rev() {
                let rows = rows_of(table, &work.displaced, pairs)?;
                out.extend(statements::put_back(&table.form, &rows, limit));
            }
        }
        // Never switched off: D1 would then commit violations.
        let mut request = vec![Statement::new("PRAGMA defer_foreign_keys = on")];
        let mut quiet = out;
        for table in &places.tables {
            quiet = quiet::quietly(&table.form, quiet);
        }
        request.extend(quiet);
        Ok(request)
    }
}

/// The rows of one table that make room for these users.
fn rows_of(
    table: &TablePlaces,
    displaced: &[Displaced],
    pairs: &[Pair],
) -> Result<Vec<Vec<Value>>, Halt> {
    let news: std::collections::HashSet<&str> =
        pairs.iter().map(|pair| pair.new.as_str()).collect();
    let mut rows = Vec::new();
    for one in displaced.iter().filter(|one| one.table == table.table) {
        let row = earlier(one)?;
        let named = crate::rewrite::mentions(&table.form, &row);
        if named.iter().any(|(_, id)| news.contains(id.as_str())) {
            rows.push(row);
        }
    }
    Ok(rows)
}

fn may_be_a_race(refusal: Refusal) -> bool {
    match refusal {
        Refusal::Guard | Refusal::Unique | Refusal::ForeignKey => true,
        Refusal::Constraint | Refusal::TooBig | Refusal::Other => false,
    }
}

enum Attempt {
    Done,
    Refused { refusal: Refusal, message: String },
}

/// The work while it is taken apart.
struct Parts<'a> {
    exchange: &'a Exchange,
    work: &'a Work,
    refused: Refused,
    wrote: bool,
}

impl Parts<'_> {
    async fn attempt(&mut self, pairs: &[Pair]) -> Result<Attempt, Box<Stopped>> {
        let stopped = |wrote: bool, reason: String, retry_after, halt| {
            // Earlier parts were written: only a probe can tell which.
            let outcome = if wrote {
                Outcome::Unknown { reason }
            } else {
                Outcome::NotSent { reason, retry_after, halt }
            };
            Err(Stopped::by(outcome))
        };
        let request = match self.exchange.request(self.work, pairs).await {
            Ok(request) => request,
            Err(halt) => return stopped(self.wrote, halt.to_string(), None, Some(halt)),
        };
        let target = self.exchange.target.as_ref();
        if pairs.len() > 1 && bytes(&request) > target.limits().request {
            let (refusal, message) = (Refusal::TooBig, "too large a request".to_owned());
            return Ok(Attempt::Refused { refusal, message });
        }
        let forms: Vec<&Form> = self.exchange.places.tables.iter().map(|one| &one.form).collect();
        match quiet::write(target, &forms, request).await {
            Written::Done { .. } => {
                self.wrote = true;
                Ok(Attempt::Done)
            }
            Written::Refused { refusal, message } => Ok(Attempt::Refused { refusal, message }),
            Written::NotSent { reason, retry_after, halt } => {
                stopped(self.wrote, reason, retry_after, halt)
            }
            Written::Unknown { reason } => Err(Stopped::by(Outcome::Unknown { reason })),
        }
    }

    /// Goes on with each half of what was refused.
    fn split<'a>(
        &'a mut self,
        pairs: &'a [Pair],
        message: String,
    ) -> BoxFuture<'a, Result<(), Box<Stopped>>> {
        Box::pin(async move {
            if let [one] = pairs {
                self.refused.insert(one.unit, message);
                return Ok(());
            }
            let (first, second) = pairs.split_at(pairs.len() / 2);
            for half in [first, second] {
                if half.is_empty() {
                    continue;
                }
                if let Attempt::Refused { message, .. } = self.attempt(half).await? {
                    self.split(half, message).await?;
                }
            }
            Ok(())
        })
    }
}

fn bytes(request: &[Statement]) -> usize {
    let of = |statement: &Statement| {
        statement.sql.len() + statement.params.iter().map(String::len).sum::<usize>()
    };
    request.iter().map(of).sum()
}
