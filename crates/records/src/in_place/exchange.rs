//! Atomic requests that exchange the ids of some users in every table, in either direction.
//!
//! One request takes all users of a lot, if the database is comfortable with that. D1 ends a
//! request after 30 s, and what a request takes depends on rows and indexes that nobody can see
//! beforehand. So a lot may go out in several requests of fewer users each:
//!
//! - as many users as the database is comfortable with at the moment, by the size of the request
//!   ([`WriteDatabase::comfortable`], learned from how long the answers took);
//! - and at most a quarter of them for each attempt that came to nothing, down to one user. The
//!   journal counts attempts, so a run that was given up goes on with fewer in the next one.
//!
//! That needs no smaller lots, nor lots that are cut anew in the journal: what a lot's journal entry
//! says is said of each user, a request is atomic over its own users (all rows of a user change in
//! the same request), and finds rows by the ids themselves, so that repeating it does nothing. When
//! one of several is refused, the others have happened, and it is known whose they were: the lot goes
//! on with whoever is left. When the answer to one is lost, the lot is in doubt, and is looked at.
//!
//! A request that is refused for good is halved, until whoever is to blame stands alone.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use rehome_core::{Halt, Knowledge, Outcome, UnitId};

use super::memory::{Displaced, Stood};
use super::pairs::{Pair, Turn};
use super::places::{Places, TablePlaces};
use super::standing::{Spared, earlier};
use super::statements;
use super::tally::Tally;
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
    /// Where it is certain of everybody what happened, although the outcome cannot say it: whose
    /// ids were exchanged by requests before. Nobody else's were.
    pub(super) written: Option<Vec<UnitId>>,
}

impl Stopped {
    fn by(outcome: Outcome) -> Box<Self> {
        Box::new(Self { outcome, raced: false, written: None })
    }
}

/// Who could not be exchanged, each with the database's own words.
pub(super) type Refused = BTreeMap<UnitId, String>;

impl Exchange {
    /// Sends the work, in parts if it must be; `attempts` were made before. `Err` when it did not
    /// happen, or nobody knows.
    pub(super) async fn perform(
        &self,
        work: Work,
        races: u32,
        attempts: u32,
    ) -> Result<Refused, Box<Stopped>> {
        let mut parts =
            Parts { exchange: self, work: &work, refused: Refused::new(), written: Vec::new() };
        let most = at_once(work.pairs.len(), attempts);
        let mut rest = work.pairs.as_slice();
        while !rest.is_empty() {
            let (count, request) = parts.fitting(rest, most).await?;
            let (now, later) = rest.split_at(count);
            rest = later;
            match parts.send(now, request).await? {
                Attempt::Done => {}
                Attempt::Refused { refusal, message } => {
                    if may_be_a_race(refusal) && races < RACES {
                        let why = "the database changed while the lot was prepared";
                        let stopped = parts.nothing_more(format!("{why}: {message}"), None, None);
                        return Err(Box::new(Stopped { raced: true, ..stopped }));
                    }
                    parts.split(now, message).await?;
                }
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
        let tally = Tally::of(places, pairs);
        out.extend(tally.before);
        // All documents before any key: their rows are found by keys that may hold ids.
        for (table, place) in places.documents() {
            let spared = spared(table, place)?;
            let target = self.target.as_ref();
            out.extend(
                statements::documents(target, places, table, place, (pairs, turn), spared.as_ref())
                    .await?,
            );
        }
        for (table, place) in places.plain() {
            let spared = spared(table, place)?;
            out.push(statements::column(table, place, pairs, turn, spared.as_ref()));
        }
        out.extend(tally.after);
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
    /// Whose ids were exchanged.
    written: Vec<UnitId>,
}

impl Parts<'_> {
    /// What becomes of the lot when the request at hand did not happen, though earlier ones may
    /// have.
    fn nothing_more(
        &self,
        reason: String,
        retry_after: Option<Duration>,
        halt: Option<Halt>,
    ) -> Stopped {
        if self.written.is_empty() {
            let outcome = Outcome::NotSent { reason, retry_after, halt };
            return Stopped { outcome, raced: false, written: None };
        }
        let outcome = Outcome::Unknown { reason };
        Stopped { outcome, raced: false, written: Some(self.written.clone()) }
    }

    /// The request for some users, as the database is now.
    async fn request(&self, pairs: &[Pair]) -> Result<Vec<Statement>, Box<Stopped>> {
        self.exchange
            .request(self.work, pairs)
            .await
            .map_err(|halt| Box::new(self.nothing_more(halt.to_string(), None, Some(halt))))
    }

    /// The request for the first of these users: as many as the database is comfortable with, at
    /// least one and at most `most`.
    async fn fitting(
        &self,
        pairs: &[Pair],
        most: usize,
    ) -> Result<(usize, Vec<Statement>), Box<Stopped>> {
        let count = most.min(pairs.len());
        let request = self.request(pairs.get(..count).unwrap_or_default()).await?;
        let (all, fits) = (bytes(&request), self.exchange.target.comfortable());
        let fewer = (count.saturating_mul(fits) / all.max(1)).clamp(1, count);
        if all <= fits || fewer == count {
            return Ok((count, request));
        }
        // Users' ids are of a size; documents may not be, and are halved when they are too large.
        Ok((fewer, self.request(pairs.get(..fewer).unwrap_or_default()).await?))
    }

    async fn attempt(&mut self, pairs: &[Pair]) -> Result<Attempt, Box<Stopped>> {
        let request = self.request(pairs).await?;
        self.send(pairs, request).await
    }

    async fn send(
        &mut self,
        pairs: &[Pair],
        request: Vec<Statement>,
    ) -> Result<Attempt, Box<Stopped>> {
        let target = self.exchange.target.as_ref();
        if pairs.len() > 1 && bytes(&request) > target.limits().request {
            let (refusal, message) = (Refusal::TooBig, "too large a request".to_owned());
            return Ok(Attempt::Refused { refusal, message });
        }
        let forms: Vec<&Form> = self.exchange.places.tables.iter().map(|one| &one.form).collect();
        match quiet::write(target, &forms, request).await {
            Written::Done { .. } => {
                self.written.extend(pairs.iter().map(|pair| pair.unit));
                Ok(Attempt::Done)
            }
            Written::Refused { refusal, message } => Ok(Attempt::Refused { refusal, message }),
            Written::NotSent { reason, retry_after, halt } => {
                Err(Box::new(self.nothing_more(reason, retry_after, halt)))
            }
            Written::Unknown { reason } => {
                let reason = format!("{reason} ({})", concerned(pairs));
                Err(Stopped::by(Outcome::Unknown { reason }))
            }
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

/// How many of `users` one request takes at most after so many attempts.
fn at_once(users: usize, attempts: u32) -> usize {
    users.checked_shr(attempts.saturating_mul(2)).unwrap_or(0).max(1)
}

/// Whose rows a lost request was about, for a person.
fn concerned(pairs: &[Pair]) -> String {
    match pairs {
        [one] => format!(
            "one request for the rows of {} alone; if the database takes too long for them, an \
             index on the columns that `rehome check` names helps",
            one.old
        ),
        _ => format!("one request for the rows of {} users", pairs.len()),
    }
}

fn bytes(request: &[Statement]) -> usize {
    let of = |statement: &Statement| {
        statement.sql.len() + statement.params.iter().map(String::len).sum::<usize>()
    };
    request.iter().map(of).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_attempt_that_came_to_nothing_leaves_a_quarter() {
        let all: Vec<_> = (0..7).map(|attempts| at_once(1_000, attempts)).collect();
        assert_eq!(all, [1_000, 250, 62, 15, 3, 1, 1]);
        assert_eq!((at_once(0, 0), at_once(usize::MAX, u32::MAX)), (1, 1));
    }
}
