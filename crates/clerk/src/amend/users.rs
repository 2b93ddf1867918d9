//! Brings accounts up to date before their users go on from `mapped`.

use std::any::Any;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use rehome_core::{
    Done, Failure, Halt, Origin, Outcome, Pass, Prepared, Probed, Rest, Step, Transition, Unit, Way,
};
use serde_json::{Value, json};

use super::form::Amendment;
use super::step::{Next, next};
use crate::USER;
use crate::api::User;
use crate::export::Journaled;
use crate::matcher;
use crate::policy::UserPolicy;
use crate::settle::Intent;
use crate::undo::{creation, present};
use crate::writer::{Changed, Writer};

/// Under which name an intent says what it changes.
const AMENDS: &str = "amends";

/// `mapped` → wherever the inner worker leads, for users: accounts of users who have changed in the
/// source are brought up to date first, and what is up to date is handed to the inner worker.
pub struct AmendUsers {
    writer: Writer,
    policy: UserPolicy,
    inner: Arc<dyn Transition>,
}

impl fmt::Debug for AmendUsers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AmendUsers").field("policy", &self.policy).finish_non_exhaustive()
    }
}

/// How a user stands who has changed.
struct Moved {
    index: usize,
    account: String,
    journaled: Journaled,
    /// How the account was made.
    made: Intent,
}

impl AmendUsers {
    /// Changes accounts through `writer` (of the target) that were created by `policy`; `inner` is
    /// the worker that takes users on.
    pub fn new(writer: Writer, policy: UserPolicy, inner: Arc<dyn Transition>) -> Self {
        Self { writer, policy, inner }
    }

    /// A user whose account this migration made, and whom the source has changed since.
    fn moved(&self, index: usize, unit: &Unit) -> Result<Option<Moved>, Failure> {
        let journaled = Journaled::of(unit).map_err(|error| matcher::unreadable(&error))?;
        let (Some(Origin::Created), Some(account), Some(_)) =
            (unit.origin, &unit.target_key, &journaled.base)
        else {
            return Ok(None);
        };
        let made = creation(unit).unwrap_or_else(|| Intent {
            external_id: self.policy.external_id.of(&unit.source_key, &journaled.profile),
            ..Intent::default()
        });
        Ok(Some(Moved { index, account: account.clone(), journaled, made }))
    }

    fn next(&self, unit: &Unit, moved: &Moved, account: &User) -> (Next, Option<String>) {
        let Journaled { profile, base, .. } = &moved.journaled;
        let key = self.policy.external_id.of(&unit.source_key, profile);
        let without = &moved.made.without;
        let base = base.as_ref().unwrap_or(profile).without(without);
        (next(&base, &profile.without(without), key.as_deref(), account), key)
    }

    /// The units that have changed, with their accounts; what is wrong with the others.
    async fn look(
        &self,
        units: &[Unit],
    ) -> Result<(Vec<Moved>, BTreeMap<String, User>, Vec<(usize, Failure)>), Halt> {
        let (mut moved, mut failed) = (Vec::new(), Vec::new());
        for (index, unit) in units.iter().enumerate() {
            match self.moved(index, unit) {
                Ok(one) => moved.extend(one),
                Err(failure) => failed.push((index, failure)),
            }
        }
        let ids: Vec<_> = moved.iter().map(|one| one.account.clone()).collect();
        let accounts = if ids.is_empty() {
            BTreeMap::new()
        } else {
            present(self.writer.reader(), &ids).await?
        };
        Ok((moved, accounts, failed))
    }

    async fn prepare_all(&self, units: &[Unit], pass: Pass) -> Result<Vec<Prepared>, Halt> {
        let (moved, accounts, failed) = self.look(units).await?;
        let mut prepared: Vec<Option<Prepared>> = Vec::new();
        prepared.resize_with(units.len(), || None);
        let fail = |failure| Prepared::Fail { failure, blocks: Vec::new() };
        let mut set = |index: usize, one: Prepared| {
            if let Some(place) = prepared.get_mut(index) {
                *place = Some(one);
            }
        };
        for (index, failure) in failed {
            set(index, fail(failure));
        }
        for one in &moved {
            let Some(unit) = units.get(one.index) else { continue };
            let Some(account) = accounts.get(&one.account) else {
                set(one.index, fail(gone(&one.account)));
                continue;
            };
            match self.next(unit, one, account) {
                (Next::Nothing, _) => {}
                (Next::Conflict(failure), _) => set(one.index, fail(failure)),
                (Next::Step(amendment), external_id) => {
                    // What a rollback asks about the account stays in the latest intent.
                    let external_id = external_id.or_else(|| one.made.external_id.clone());
                    let mut intent = json!(Intent { external_id, ..one.made.clone() });
                    intent[AMENDS] = json!(amendment.what());
                    set(one.index, Prepared::Effect { intent, payload: Box::new(amendment) });
                }
            }
        }
        let rest: Vec<usize> =
            (0..units.len()).filter(|n| prepared.get(*n).is_some_and(Option::is_none)).collect();
        let others: Vec<Unit> = rest.iter().filter_map(|n| units.get(*n).cloned()).collect();
        if !others.is_empty() {
            for (index, one) in rest.into_iter().zip(self.inner.prepare(&others, pass).await?) {
                if let Some(place) = prepared.get_mut(index) {
                    *place = Some(one);
                }
            }
        }
        prepared
            .into_iter()
            .map(|one| one.ok_or_else(|| Halt::Bug("a user was not looked at".to_owned())))
            .collect()
    }

    async fn send(&self, unit: &Unit, amendment: &Amendment) -> Outcome {
        let not_sent = |reason: String, halt| Outcome::NotSent { reason, retry_after: None, halt };
        let Some(account) = &unit.target_key else {
            let why = "a user without an account was to be changed".to_owned();
            return not_sent(why.clone(), Some(Halt::Bug(why)));
        };
        match self.writer.change(account, amendment).await {
            Changed::Done => Outcome::Done(done(unit)),
            // The account, or the address that was to go: the next look tells which.
            Changed::Gone => {
                Outcome::Unknown { reason: "what was to be changed is gone".to_owned() }
            }
            Changed::Refused(refusal) if refusal.has("resource_locked") => {
                not_sent(refusal.to_string(), None)
            }
            Changed::Refused(refusal) => {
                let what = amendment.what();
                let message =
                    format!("the source has changed {what}, and the target refuses it: {refusal}");
                Outcome::Rejected(
                    Failure::new(refusal.code(), message)
                        .with_hint("settle it in the target or in the source, then `rehome retry`"),
                )
            }
            Changed::Throttled { retry_after } => {
                Outcome::NotSent { reason: "too many requests".to_owned(), retry_after, halt: None }
            }
            Changed::NotSent { reason } => not_sent(reason, None),
            Changed::Unauthorized(halt) => {
                not_sent("the secret key is not accepted".to_owned(), Some(halt))
            }
            Changed::Unknown { reason } => Outcome::Unknown { reason },
        }
    }

    async fn probe_all(&self, units: &[Unit]) -> Result<Vec<Probed>, Halt> {
        let (moved, accounts, mut failed) = self.look(units).await?;
        let mut probed: Vec<Probed> = Vec::with_capacity(units.len());
        for (index, unit) in units.iter().enumerate() {
            if let Some(place) = failed.iter().position(|(failing, _)| *failing == index) {
                probed.push(Probed::Conflict(failed.remove(place).1));
                continue;
            }
            let found = moved.iter().find(|one| one.index == index);
            let Some((one, account)) =
                found.and_then(|one| Some((one, accounts.get(&one.account)?)))
            else {
                probed.push(Probed::Absent);
                continue;
            };
            let meant = unit.intent.as_ref().and_then(|intent| intent.get(AMENDS));
            let meant = meant.and_then(Value::as_str);
            probed.push(match self.next(unit, one, account).0 {
                // What was to be done is still to be done.
                Next::Step(step) if meant == Some(step.what().as_str()) => Probed::Absent,
                Next::Step(_) | Next::Nothing | Next::Conflict(_) => Probed::Part(done(unit)),
            });
        }
        Ok(probed)
    }
}

/// There may be more of it; what is known of the account's making stays known.
fn done(unit: &Unit) -> Done {
    let data = unit.effect.as_ref().and_then(|effect| effect.data.clone());
    Done { target: None, origin: None, data, rest: Some(Rest::More) }
}

fn gone(account: &str) -> Failure {
    Failure::new("account_gone", format!("the account {account} is not in the target any more"))
        .with_hint("if it was deleted on purpose, take the user out with `rehome skip`")
}

impl Transition for AmendUsers {
    fn step(&self) -> Step {
        let Step { kind: _, way, batch, concurrency } = self.inner.step();
        let from = match &way {
            Way::Forth { from, .. } => *from,
            Way::Back { to, .. } => *to,
        };
        Step {
            kind: USER,
            way: Way::Forth { from, to: way.to() },
            batch,
            concurrency: concurrency.max(16),
        }
    }

    fn settle_time(&self) -> Duration {
        self.inner.settle_time()
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
        match payload.downcast::<Amendment>() {
            Ok(amendment) => Box::pin(async move { self.send(unit, &amendment).await }),
            Err(payload) => self.inner.apply(unit, payload),
        }
    }

    fn probe<'a>(&'a self, units: &'a [Unit]) -> BoxFuture<'a, Result<Vec<Probed>, Halt>> {
        Box::pin(self.probe_all(units))
    }
}
