//! Reads every pair back from the target itself: the account that answers to the user's own
//! e-mail address is the one in the journal.
//!
//! The list by address is another index than the account itself, and nothing promises that a
//! new account shows there at once. So a pair that is not found is asked for again a few times;
//! an account that answers to its id meanwhile is late, one that does not is missing.

use std::any::Any;
use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use rehome_core::backoff::Backoff;
use rehome_core::{
    Done, Failure, Halt, Knowledge, Known, Origin, Outcome, Pass, Prepared, Probed, Stage, Step,
    Transition, Unit, Way,
};

use crate::USER;
use crate::export::Journaled;
use crate::lookup::{self, Accounts, Wanted};
use crate::matcher;
use crate::policy::{Attribute, UserPolicy};
use crate::profile::Profile;
use crate::query::Filter;
use crate::reader::Reader;

/// How long an account may take to show in the list: about 16 s in all.
const VISIBILITY: Backoff =
    Backoff { first: Duration::from_millis(500), cap: Duration::from_secs(4), attempts: 6 };

/// `created` → `mapped`, for users.
pub struct MapUsers {
    target: Reader,
    knowledge: Arc<dyn Knowledge>,
    policy: UserPolicy,
}

impl fmt::Debug for MapUsers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MapUsers").field("target", &self.target).finish_non_exhaustive()
    }
}

/// A pair that is to be confirmed.
struct Pair<'a> {
    index: usize,
    unit: &'a Unit,
    target: &'a str,
    /// By which names the account may answer; one of them is enough.
    names: Vec<(Filter, String)>,
}

impl MapUsers {
    /// Reads back from `target`; `policy` is the one that users were created by.
    pub fn new(target: Reader, knowledge: Arc<dyn Knowledge>, policy: UserPolicy) -> Self {
        Self { target, knowledge, policy }
    }

    async fn map(&self, units: &[Unit]) -> Result<Vec<Prepared>, Halt> {
        let mut prepared: Vec<Option<Prepared>> = Vec::new();
        prepared.resize_with(units.len(), || None);
        let mut set = |index: usize, outcome: Prepared| {
            if let Some(slot) = prepared.get_mut(index) {
                *slot = Some(outcome);
            }
        };

        let targets: Vec<_> = units.iter().filter_map(|unit| unit.target_key.clone()).collect();
        let owners = self.knowledge.by_target(&USER, &targets)?;
        let mut pairs = Vec::with_capacity(units.len());
        for (index, unit) in units.iter().enumerate() {
            match self.pair(index, unit, &owners) {
                Ok(pair) => pairs.push(pair),
                Err(failure) => set(index, fail(failure)),
            }
        }

        let mut delays = VISIBILITY.delays(self.target.seed());
        loop {
            let (found, missing) = self.read_back(pairs).await?;
            for pair in found {
                set(
                    pair.index,
                    Prepared::Advance(Done {
                        target: Some(pair.target.to_owned()),
                        origin: pair.unit.origin,
                        data: None,
                        rest: None,
                    }),
                );
            }
            if missing.is_empty() {
                break;
            }
            match delays.next() {
                Some(delay) => tokio::time::sleep(delay).await,
                None => {
                    for (pair, failure) in self.explain(missing).await? {
                        set(pair.index, fail(failure));
                    }
                    break;
                }
            }
            pairs = missing;
        }
        prepared
            .into_iter()
            .map(|one| one.ok_or_else(|| Halt::Bug("a pair was not looked at".to_owned())))
            .collect()
    }

    fn pair<'a>(
        &self,
        index: usize,
        unit: &'a Unit,
        owners: &HashMap<String, Known>,
    ) -> Result<Pair<'a>, Failure> {
        let Journaled { profile, .. } =
            Journaled::of(unit).map_err(|error| matcher::unreadable(&error))?;
        let target = unit.target_key.as_deref().ok_or_else(|| {
            Failure::new("mapping_not_found", "the journal knows no account of this user")
        })?;
        if let Some(other) = owners.get(target).filter(|known| known.id != unit.id) {
            return Err(Failure::new(
                "mapping_mismatch",
                format!(
                    "the account {target} belongs to {} and to {}",
                    other.source_key, unit.source_key
                ),
            )
            .with_hint("take one of the two out with `rehome skip`"));
        }
        Ok(Pair { index, unit, target, names: self.names(unit, &profile) })
    }

    /// The names that the account must answer to. One that this migration created answers to
    /// its first identifier. An adopted one answers to whichever proved it; and where the policy
    /// lets identifiers be left out, the first may be missing.
    fn names(&self, unit: &Unit, profile: &Profile) -> Vec<(Filter, String)> {
        let key = self.policy.external_id.of(&unit.source_key, profile);
        let mut names = lookup::identifiers(profile);
        names.extend(key.map(|key| (Filter::ExternalId, key)));
        let may_lack = |filter: Filter| match filter {
            Filter::EmailAddress => self.policy.without.contains(&Attribute::EmailAddress),
            Filter::PhoneNumber => self.policy.without.contains(&Attribute::PhoneNumber),
            Filter::Username => self.policy.without.contains(&Attribute::Username),
            Filter::Web3Wallet => self.policy.without.contains(&Attribute::Web3Wallet),
            Filter::ExternalId | Filter::UserId => false,
        };
        if unit.origin != Some(Origin::Adopted) {
            let sure = names.iter().position(|(filter, _)| !may_lack(*filter));
            names.truncate(sure.map_or(names.len(), |sure| sure + 1));
        }
        names
    }

    async fn read_back<'a>(
        &self,
        pairs: Vec<Pair<'a>>,
    ) -> Result<(Vec<Pair<'a>>, Vec<Pair<'a>>), Halt> {
        let mut wanted = Wanted::default();
        for (filter, value) in pairs.iter().flat_map(|pair| &pair.names) {
            wanted.add_identifier(*filter, value);
        }
        let found = Accounts::look_up(&self.target, &wanted).await?;
        Ok(pairs.into_iter().partition(|pair| {
            pair.names
                .iter()
                .any(|(filter, value)| answers(&found, *filter, value).contains(&pair.target))
        }))
    }

    /// What is wrong with each pair that was not found in time.
    async fn explain<'a>(&self, missing: Vec<Pair<'a>>) -> Result<Vec<(Pair<'a>, Failure)>, Halt> {
        let mut wanted = Wanted::default();
        for pair in &missing {
            wanted.add(Filter::UserId, pair.target);
            for (filter, value) in &pair.names {
                wanted.add_identifier(*filter, value);
            }
        }
        let found = Accounts::look_up(&self.target, &wanted).await?;
        Ok(missing
            .into_iter()
            .map(|pair| {
                let failure = mismatch(&pair, &found);
                (pair, failure)
            })
            .collect())
    }
}

/// The ids of the accounts that answer to a name.
fn answers<'a>(found: &'a Accounts, filter: Filter, value: &str) -> Vec<&'a str> {
    let accounts = match lookup::alias_of(filter, value) {
        Some(alias) => found.with_alias(&alias).iter().collect(),
        None => found.with_external_id(value).into_iter().collect::<Vec<_>>(),
    };
    accounts.into_iter().map(|account| account.user.id.as_str()).collect()
}

fn mismatch(pair: &Pair<'_>, found: &Accounts) -> Failure {
    let Pair { unit, target, .. } = pair;
    let others: Vec<_> = pair
        .names
        .iter()
        .flat_map(|(filter, value)| answers(found, *filter, value))
        .filter(|id| id != target)
        .collect();
    let name = pair.names.first().map_or("", |(_, value)| value);
    if let Some(other) = others.first() {
        return Failure::new(
            "mapping_mismatch",
            format!(
                "{}: {name} belongs to {other} in the target, not to {target}",
                unit.source_key
            ),
        )
        .with_hint("look at both accounts in the target; give the identifier back to the right one, then `rehome retry`");
    }
    let message = if found.with_id(target).is_some() {
        format!("{}: the account {target} exists, but does not answer to {name}", unit.source_key)
    } else {
        format!("{}: the account {target} is not in the target any more", unit.source_key)
    };
    Failure::new("mapping_not_found", message).with_hint(
        "if the account was changed or deleted in the target, restore it; then `rehome retry`",
    )
}

impl Transition for MapUsers {
    fn step(&self) -> Step {
        let way = Way::Forth { from: Stage::Created, to: Stage::Mapped };
        Step { kind: USER, way, batch: 1000, concurrency: 1 }
    }

    fn linger(&self) -> Duration {
        Duration::from_secs(10)
    }

    fn prepare<'a>(
        &'a self,
        units: &'a [Unit],
        _: Pass,
    ) -> BoxFuture<'a, Result<Vec<Prepared>, Halt>> {
        Box::pin(self.map(units))
    }

    fn apply<'a>(&'a self, _: &'a Unit, _: Box<dyn Any + Send + Sync>) -> BoxFuture<'a, Outcome> {
        // `prepare` never asks for an effect.
        let outcome = Outcome::NotSent {
            reason: "mapping has no effects".to_owned(),
            retry_after: None,
            halt: Some(Halt::Bug("mapping was asked for an effect".to_owned())),
        };
        Box::pin(std::future::ready(outcome))
    }

    fn probe<'a>(&'a self, units: &'a [Unit]) -> BoxFuture<'a, Result<Vec<Probed>, Halt>> {
        // Without effects nothing of this stage can be in doubt.
        let probed = units.iter().map(|_| Probed::Absent).collect();
        Box::pin(std::future::ready(Ok(probed)))
    }
}

fn fail(failure: Failure) -> Prepared {
    Prepared::Fail { failure, blocks: Vec::new() }
}
