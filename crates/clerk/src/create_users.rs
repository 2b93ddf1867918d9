//! Brings every exported user into the target: finds the account that is already there, or
//! creates one, in a single request under a key that was journaled before.
//!
//! What the target refuses by its settings or plan (a ban, a phone number) can be left out where
//! the policy allows it. That is never done within one effect: the refused attempt ends as *not
//! sent*, and the next one, with an intent of its own, goes without. What was learned is kept in
//! memory only; after a restart the first such user teaches it again.

use std::any::Any;
use std::collections::{BTreeSet, HashMap};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::future::BoxFuture;
use rehome_core::{
    Done, Failure, Halt, Knowledge, Origin, Outcome, Pass, Prepared, Probed, Stage, Step,
    Transition, Unit, UnitId, WaitFor, Way,
};
use serde_json::{Value, json};

use crate::USER;
use crate::create::CreateUser;
use crate::decide::{self, Decision};
use crate::export::Journaled;
use crate::lookup::{self, Accounts, Wanted};
use crate::matcher::{self, Matcher};
use crate::policy::{Attribute, UserPolicy};
use crate::profile::Profile;
use crate::query::Filter;
use crate::refusal::{self, CORRECT, Meaning};
use crate::settle::{self, Intent, Verdict};
use crate::writer::{Attempt, Writer};

/// How long a created account may take to be found by a filter. Nothing documents it; a request
/// that was cut off may also still be served for a while.
const SETTLE_TIME: Duration = Duration::from_secs(5);

/// `exported` → `created`, for users.
pub struct CreateUsers {
    writer: Writer,
    matcher: Matcher,
    settle_time: Duration,
    flight_time: Duration,
    learned: Mutex<Learned>,
}

/// What refusals have taught so far.
#[derive(Default)]
struct Learned {
    /// Refused for everybody.
    everywhere: BTreeSet<Attribute>,
    /// Refused for one user; forgotten when that user is done.
    here: HashMap<UnitId, BTreeSet<Attribute>>,
    /// Users of whom something was said to be taken.
    taken: HashMap<UnitId, u32>,
}

/// What `apply` is given.
struct Payload {
    form: CreateUser,
    without: BTreeSet<Attribute>,
}

impl fmt::Debug for CreateUsers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CreateUsers").field("matcher", &self.matcher).finish_non_exhaustive()
    }
}

impl CreateUsers {
    /// Creates users through `writer`, deciding by `policy` and by what `knowledge` knows of all
    /// source users.
    pub fn new(writer: Writer, knowledge: Arc<dyn Knowledge>, policy: UserPolicy) -> Self {
        Self {
            matcher: Matcher::new(writer.reader().clone(), knowledge, policy),
            writer,
            settle_time: SETTLE_TIME,
            flight_time: crate::http::TIMEOUT,
            learned: Mutex::default(),
        }
    }

    /// The same, believing after `settle_time` that an account is not there.
    #[must_use]
    pub fn with_settle_time(mut self, settle_time: Duration) -> Self {
        self.settle_time = settle_time;
        self
    }

    /// The same, with requests that may be under way for `flight_time` after their sender's death
    /// (see [`Transition::flight_time`]). The client's own timeout, without.
    #[must_use]
    pub fn with_flight_time(mut self, flight_time: Duration) -> Self {
        self.flight_time = flight_time;
        self
    }

    fn learned(&self) -> MutexGuard<'_, Learned> {
        // Only sets and counters, valid after any panic elsewhere.
        self.learned.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What this user has to go without.
    fn without(&self, unit: UnitId) -> BTreeSet<Attribute> {
        let learned = self.learned();
        let here = learned.here.get(&unit).into_iter().flatten();
        learned.everywhere.iter().chain(here).copied().collect()
    }

    fn forget(&self, unit: UnitId) {
        let mut learned = self.learned();
        learned.here.remove(&unit);
        learned.taken.remove(&unit);
    }

    async fn prepare_all(&self, units: &[Unit], pass: Pass) -> Result<Vec<Prepared>, Halt> {
        // Before the look-up: what is found by it cannot be younger than the intent.
        let at = self.writer.transport().now().as_millisecond();
        let decisions = self.matcher.decide(units, pass).await?;
        Ok(units
            .iter()
            .zip(decisions)
            .map(|(unit, decision)| self.prepared(unit, decision, at))
            .collect())
    }

    fn prepared(&self, unit: &Unit, decision: Decision, at: i64) -> Prepared {
        match decision {
            Decision::Create => self.create(unit, at),
            Decision::Adopt { target, by } => {
                self.forget(unit.id);
                Prepared::Advance(Done {
                    target: Some(target),
                    origin: Some(Origin::Adopted),
                    data: Some(json!({"by": by})),
                    rest: None,
                })
            }
            Decision::Ours { target } => {
                self.forget(unit.id);
                let intent = unit.intent.as_ref().and_then(Intent::from_json);
                Prepared::Advance(created(target, &intent.unwrap_or_default().without))
            }
            Decision::Wait => Prepared::Wait(WaitFor::Export(USER)),
            Decision::Skip(failure) => Prepared::Skip(failure),
            Decision::Fail(failure) => fail(failure),
        }
    }

    fn create(&self, unit: &Unit, at: i64) -> Prepared {
        let profile = match Journaled::of(unit) {
            Ok(Journaled { profile, .. }) => profile,
            Err(error) => return fail(matcher::unreadable(&error)),
        };
        let policy = self.matcher.policy();
        let external_id = policy.external_id.of(&unit.source_key, &profile);
        let without: BTreeSet<_> =
            self.without(unit.id).into_iter().filter(|attribute| profile.has(*attribute)).collect();
        let form = CreateUser::new(&profile, external_id.clone(), &without);
        if !form.has_identifier() {
            let failure = Failure::new(
                "no_identifier",
                format!(
                    "{} has no e-mail address, phone number, username or verified wallet that the target takes",
                    unit.source_key
                ),
            );
            return fail(failure.with_hint(
                format!("enable one of the user's identifiers in the target, then `rehome retry`; or take the user out with `rehome skip`; or {CORRECT}"),
            ));
        }
        let intent = Intent { external_id, at, without: without.clone() };
        Prepared::Effect { intent: json!(intent), payload: Box::new(Payload { form, without }) }
    }

    async fn send(&self, unit: &Unit, payload: Box<dyn Any + Send + Sync>) -> Outcome {
        let Ok(payload) = payload.downcast::<Payload>() else {
            return not_sent(
                "the form was lost",
                Some(Halt::Bug("a creation was given somebody else's payload".to_owned())),
            );
        };
        let attempt = self.writer.create_user(&payload.form).await;
        match attempt {
            Attempt::Created(made) => {
                self.forget(unit.id);
                Outcome::Done(created(made.id, &payload.without))
            }
            Attempt::Refused(refusal) => {
                let meaning = refusal::meaning(&refusal, &payload.form, self.matcher.policy());
                self.refused(unit, &refusal.to_string(), refusal.code(), meaning)
            }
            Attempt::Throttled { retry_after } => {
                Outcome::NotSent { reason: "too many requests".to_owned(), retry_after, halt: None }
            }
            Attempt::NotSent { reason } => not_sent(&reason, None),
            Attempt::Unauthorized(halt) => not_sent("the secret key is not accepted", Some(halt)),
            Attempt::Unknown { reason } => Outcome::Unknown { reason },
        }
    }

    fn refused(&self, unit: &Unit, said: &str, code: &str, meaning: Meaning) -> Outcome {
        match meaning {
            Meaning::Exhausted { trouble, hint } => {
                let halt = self.writer.transport().halt(trouble, said, hint);
                not_sent(said, Some(halt))
            }
            Meaning::Busy => not_sent(said, None),
            Meaning::Taken => {
                let times = {
                    let mut learned = self.learned();
                    let times = learned.taken.entry(unit.id).or_default();
                    *times += 1;
                    *times
                };
                if times == 1 {
                    // Perhaps by an earlier attempt of ours: the probe will tell. If not, the
                    // next look-up finds whose it is.
                    return Outcome::Unknown { reason: said.to_owned() };
                }
                self.forget(unit.id);
                Outcome::Rejected(Failure::new(code, said).with_hint(
                    "an identifier is taken in the target by something that its user list does not show (an invitation, a deleted account kept back): free it there, then `rehome retry`",
                ))
            }
            Meaning::GoWithout(parts) => {
                let mut learned = self.learned();
                for part in &parts {
                    if part.everywhere {
                        learned.everywhere.insert(part.attribute);
                    } else {
                        let here = learned.here.entry(unit.id).or_default();
                        here.insert(part.attribute);
                    }
                }
                not_sent(&format!("goes on without what is refused: {said}"), None)
            }
            Meaning::Failed(failure) => {
                self.forget(unit.id);
                Outcome::Rejected(failure)
            }
        }
    }

    async fn probe_all(&self, units: &[Unit]) -> Result<Vec<Probed>, Halt> {
        let mut wanted = Wanted::default();
        let mut read = Vec::with_capacity(units.len());
        for unit in units {
            let doubt = Doubt::of(unit);
            if let Ok(doubt) = &doubt {
                match (&doubt.intent.external_id, doubt.first_identifier()) {
                    (Some(key), _) => wanted.add(Filter::ExternalId, key),
                    (None, Some((filter, value))) => wanted.add_identifier(filter, &value),
                    (None, None) => {}
                }
            }
            read.push(doubt);
        }
        let found = Accounts::look_up(self.writer.reader(), &wanted).await?;
        let probed = units.iter().zip(read).map(|(unit, doubt)| {
            let probed = match doubt {
                Ok(doubt) => doubt.settle(unit, &found),
                Err(failure) => Probed::Conflict(failure),
            };
            if matches!(probed, Probed::Done(_)) {
                self.forget(unit.id);
            }
            probed
        });
        Ok(probed.collect())
    }
}

/// A creation whose answer was lost.
struct Doubt {
    profile: Profile,
    intent: Intent,
}

impl Doubt {
    fn of(unit: &Unit) -> Result<Self, Failure> {
        let Journaled { profile, .. } =
            Journaled::of(unit).map_err(|error| matcher::unreadable(&error))?;
        let intent = unit.intent.as_ref().and_then(Intent::from_json);
        let intent = intent.ok_or_else(|| {
            Failure::new("intent_unreadable", "the journaled intent is not one of a creation")
                .with_hint("use the version of rehome that wrote this journal, or a later one")
        })?;
        Ok(Self { profile, intent })
    }

    /// Where to look when there is no key: the first identifier that was sent.
    fn first_identifier(&self) -> Option<(Filter, String)> {
        let sent = self.profile.without(&self.intent.without);
        lookup::identifiers(&sent).into_iter().next()
    }

    fn settle(&self, unit: &Unit, found: &Accounts) -> Probed {
        let judge = |account| settle::judge(&self.profile, &self.intent, account);
        if let Some(key) = &self.intent.external_id {
            let Some(account) = found.with_external_id(key) else {
                return Probed::Absent;
            };
            return match judge(account) {
                Verdict::Ours => {
                    Probed::Done(created(account.user.id.clone(), &self.intent.without))
                }
                // There is no trace of *our* effect; the next look-up decides about the account.
                Verdict::Before => Probed::Absent,
                Verdict::Other => Probed::Conflict(decide::conflict(
                    &unit.source_key,
                    account,
                    "carries this user's key, but other identifiers than were sent",
                )),
            };
        }
        let alias =
            self.first_identifier().and_then(|(filter, value)| lookup::alias_of(filter, &value));
        let holders = alias.as_deref().map_or(&[][..], |alias| found.with_alias(alias));
        holders
            .iter()
            .find(|account| judge(account) == Verdict::Ours)
            .map_or(Probed::Absent, |account| {
                Probed::Done(created(account.user.id.clone(), &self.intent.without))
            })
    }
}

impl Transition for CreateUsers {
    fn step(&self) -> Step {
        let way = Way::Forth { from: Stage::Exported, to: Stage::Created };
        Step { kind: USER, way, batch: 1000, concurrency: 64 }
    }

    fn settle_time(&self) -> Duration {
        self.settle_time
    }

    fn flight_time(&self) -> Duration {
        self.flight_time
    }

    fn linger(&self) -> Duration {
        Duration::from_secs(10)
    }

    fn prepare<'a>(
        &'a self,
        units: &'a [Unit],
        pass: Pass,
    ) -> BoxFuture<'a, Result<Vec<Prepared>, Halt>> {
        Box::pin(self.prepare_all(units, pass))
    }

    fn apply<'a>(
        &'a self,
        unit: &'a Unit,
        payload: Box<dyn Any + Send + Sync>,
    ) -> BoxFuture<'a, Outcome> {
        Box::pin(self.send(unit, payload))
    }

    fn probe<'a>(&'a self, units: &'a [Unit]) -> BoxFuture<'a, Result<Vec<Probed>, Halt>> {
        Box::pin(self.probe_all(units))
    }
}

fn created(target: String, without: &BTreeSet<Attribute>) -> Done {
    let data: Option<Value> = (!without.is_empty()).then(|| json!({"without": without}));
    Done { target: Some(target), origin: Some(Origin::Created), data, rest: None }
}

fn fail(failure: Failure) -> Prepared {
    Prepared::Fail { failure, blocks: Vec::new() }
}

fn not_sent(reason: &str, halt: Option<Halt>) -> Outcome {
    Outcome::NotSent { reason: reason.to_owned(), retry_after: None, halt }
}
