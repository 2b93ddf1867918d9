//! Whose account is it? The one function that decides what becomes of a source user, given what
//! the target and the journal know. It reads nothing and is the same for a plan and for a run.
//!
//! An account is a user's own when it carries the user's key, or when an identifier of it is
//! *verified on both sides*. A username or an unproven address is no proof: the same word in two
//! instances may be two people, and an address may be typed by anybody. Where more than one
//! source user or more than one account could be meant, all of them fail with their names told;
//! nothing is guessed.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use rehome_core::{Condition, Failure, Known, Pass, Unit};

use crate::alias;
use crate::lookup::Account;
use crate::policy::{OnExisting, UserPolicy};
use crate::profile::{Profile, Status};
use crate::refusal::CORRECT;
use crate::settle::{self, Intent, Verdict};

/// What is to be done with a source user.
#[derive(Clone, PartialEq, Debug)]
pub enum Decision {
    /// Nobody in the target has anything to do with the user.
    Create,
    /// An account is the user's own.
    Adopt {
        /// The account.
        target: String,
        /// The proof: `external_id`, `email_address`, `phone_number` or `web3_wallet`.
        by: &'static str,
    },
    /// An account is the one that an earlier attempt of this migration created.
    Ours {
        /// The account.
        target: String,
    },
    /// It cannot be said before the whole source was read.
    Wait,
    /// The policy takes users with an account out.
    Skip(Failure),
    /// A person has to decide.
    Fail(Failure),
}

/// Everything that is known about one source user.
pub(crate) struct Case<'a> {
    pub(crate) unit: &'a Unit,
    pub(crate) profile: &'a Profile,
    /// The `external_id` that the account gets.
    pub(crate) key: Option<&'a str>,
    /// The accounts of the target that have something in common with the user.
    pub(crate) accounts: &'a [Arc<Account>],
    /// Who else claims the identifiers of the user and of those accounts, by alias.
    pub(crate) claimants: &'a HashMap<String, Vec<Known>>,
    /// The units that those accounts are mapped to, by account.
    pub(crate) owners: &'a HashMap<String, Known>,
    /// The units whose source key is the `external_id` of one of those accounts.
    pub(crate) namesakes: &'a HashMap<String, Known>,
    pub(crate) export_done: bool,
    pub(crate) pass: Pass,
}

impl Case<'_> {
    /// What stands in the way before the target need be asked at all.
    pub(crate) fn before_looking(&self) -> Option<Decision> {
        let claims = self.profile.claims();
        let shared = claims
            .iter()
            .filter(|(_, status)| !status.is_exclusive())
            .find_map(|(alias, _)| Some((alias, self.others(alias).next()?)));
        if let Some((alias, other)) = shared {
            return Some(Decision::Fail(
                Failure::new(
                    "identifier_shared",
                    format!(
                        "{alias} is not verified for {}, and {} claims it too",
                        self.unit.source_key, other.source_key
                    ),
                )
                .with_hint(format!("take the one that should not move out with `rehome skip`, then `rehome retry`; or {CORRECT}")),
            ));
        }
        let unproven = claims.iter().any(|(_, status)| !status.is_exclusive());
        (unproven && !self.export_done).then(|| self.wait())
    }

    /// What is to be done, once the target was asked.
    pub(crate) fn decide(&self, policy: &UserPolicy) -> Decision {
        match self.accounts {
            [] => Decision::Create,
            [account] => self.one(account, policy),
            several => {
                let names: Vec<_> = several.iter().map(|account| describe(account)).collect();
                Decision::Fail(
                    Failure::new(
                        "several_accounts",
                        format!(
                            "several accounts of the target could be {}: {}",
                            self.unit.source_key,
                            names.join(", ")
                        ),
                    )
                    .with_hint("merge or delete accounts in the target until one is left, then `rehome retry`"),
                )
            }
        }
    }

    fn one(&self, account: &Account, policy: &UserPolicy) -> Decision {
        let target = account.user.id.clone();
        let intent = self.unit.intent.as_ref().and_then(Intent::from_json);
        if let Some(intent) = intent
            && settle::judge(self.profile, &intent, account) == Verdict::Ours
        {
            return Decision::Ours { target };
        }
        if !self.export_done {
            return self.wait();
        }
        if let Some(owner) = self.owners.get(&target).filter(|owner| self.is_other(owner)) {
            return self.target_shared(&target, &[owner]);
        }
        let by = match self.proof(account) {
            Ok(by) => by,
            Err(failure) => return Decision::Fail(failure),
        };
        let rivals = self.rivals(account);
        if !rivals.is_empty() {
            return self.target_shared(&target, &rivals);
        }
        let exists = || {
            Failure::new(
                "exists_in_target",
                format!("{} has the account {target} in the target, by {by}", self.unit.source_key),
            )
            .with_hint("set `[users] on_existing = \"adopt\"` to map the user to that account, then `rehome retry`")
        };
        match policy.on_existing {
            OnExisting::Adopt => Decision::Adopt { target, by },
            OnExisting::Skip => Decision::Skip(exists()),
            OnExisting::Fail => Decision::Fail(exists()),
        }
    }

    /// What shows that the account is this user's, or why it is not to be believed.
    fn proof(&self, account: &Account) -> Result<&'static str, Failure> {
        let theirs = account.user.external_id.as_deref();
        let own_key =
            theirs.is_some_and(|theirs| Some(theirs) == self.key || theirs == self.unit.source_key);
        let ours: HashMap<_, _> = self.profile.claims().into_iter().collect();
        let shared = || account.claims.keys().filter(|alias| ours.contains_key(*alias));

        if own_key {
            let agree = if has_email(ours.keys()) && has_email(account.claims.keys()) {
                has_email(shared())
            } else {
                shared().next().is_some() || ours.is_empty() || account.claims.is_empty()
            };
            return if agree {
                Ok("external_id")
            } else {
                Err(self
                    .conflict(account, "carries this user's key, but somebody else's identifiers"))
            };
        }

        if let Some(theirs) = theirs {
            let namesake = self.namesakes.get(theirs).filter(|known| self.is_other(known));
            let holder = self.others(&alias::external_id(theirs)).next();
            if let Some(other) = namesake.or(holder) {
                let why = format!("carries the key of {}", other.source_key);
                return Err(self.conflict(account, &why));
            }
            if self.profile.external_id.is_some() {
                return Err(
                    self.conflict(account, "has the same identifiers under another external_id")
                );
            }
        }

        let proven: BTreeSet<_> = shared()
            .filter(|alias| {
                ours.get(*alias) == Some(&Status::Verified)
                    && account.claims.get(*alias) == Some(&Status::Verified)
            })
            .filter_map(|alias| alias.split_once(':').map(|(kind, _)| kind))
            .collect();
        let proofs =
            [("email", "email_address"), ("phone", "phone_number"), ("wallet", "web3_wallet")];
        let by = proofs.iter().find(|(kind, _)| proven.contains(kind));
        by.map(|(_, by)| *by).ok_or_else(|| {
            let shared: Vec<_> = shared().map(String::as_str).collect();
            Failure::new(
                "unproven_match",
                format!(
                    "the account {} of the target has {} in common with {}, which is not verified on both sides and proves nothing",
                    account.user.id,
                    shared.join(", "),
                    self.unit.source_key
                ),
            )
            .with_hint("if they are one person, verify the identifier on both sides or give the account the source's user id as external_id, then `rehome retry`")
        })
    }

    /// Other source users who could mean the same account. An identifier that this user holds
    /// exclusively in the source can be held there by others only without any proof, so it makes
    /// nobody a rival.
    fn rivals<'b>(&'b self, account: &'b Account) -> Vec<&'b Known> {
        let own: HashMap<_, _> = self.profile.claims().into_iter().collect();
        let mut rivals: Vec<_> = account
            .claims
            .keys()
            .filter(|alias| !own.get(*alias).is_some_and(|status| status.is_exclusive()))
            .flat_map(|alias| self.others(alias))
            .collect();
        rivals.sort_by(|a, b| a.source_key.cmp(&b.source_key));
        rivals.dedup_by(|a, b| a.id == b.id);
        rivals
    }

    /// The other units that claim an alias. One that a person took out claims nothing any more:
    /// that is how a person resolves such a case.
    fn others(&self, alias: &str) -> impl Iterator<Item = &Known> {
        self.claimants
            .get(alias)
            .into_iter()
            .flatten()
            .filter(|known| self.is_other(known))
            .filter(|known| known.state.condition != Condition::Skipped)
    }

    fn is_other(&self, known: &Known) -> bool {
        known.id != self.unit.id
    }

    fn wait(&self) -> Decision {
        match self.pass {
            Pass::Patient => Decision::Wait,
            Pass::Final => Decision::Fail(
                Failure::new(
                    "export_unfinished",
                    format!(
                        "whether somebody else claims what {} claims cannot be said before the whole source was read",
                        self.unit.source_key
                    ),
                )
                .with_hint("run again until the export is complete, then `rehome retry`"),
            ),
        }
    }

    fn target_shared(&self, target: &str, others: &[&Known]) -> Decision {
        let mut names = vec![self.unit.source_key.as_str()];
        names.extend(others.iter().map(|known| known.source_key.as_str()));
        names.sort_unstable();
        Decision::Fail(
            Failure::new(
                "target_shared",
                format!(
                    "the account {target} of the target could be each of {}",
                    names.join(", ")
                ),
            )
            .with_hint("take the others out with `rehome skip`, or separate the account's identifiers in the target, then `rehome retry`"),
        )
    }

    fn conflict(&self, account: &Account, why: &str) -> Failure {
        conflict(&self.unit.source_key, account, why)
    }
}

/// A failure that names a source user and an account which is neither the user's nor nobody's.
pub(crate) fn conflict(source_key: &str, account: &Account, why: &str) -> Failure {
    Failure::new(
        "account_conflict",
        format!("{source_key}: {} of the target {why}", describe(account)),
    )
    .with_hint("look at both accounts; correct the target's external_id or identifiers, or take the user out with `rehome skip`, then `rehome retry`")
}

fn has_email<'a>(mut aliases: impl Iterator<Item = &'a String>) -> bool {
    aliases.any(|alias| alias.starts_with("email:"))
}

/// An account by its id, and its e-mail address for a person.
fn describe(account: &Account) -> String {
    let user = &account.user;
    match Profile::of(user).label() {
        Some(label) => format!("{} ({label})", user.id),
        None => user.id.clone(),
    }
}
