//! Asks the target and the journal about a batch of source users, and decides what becomes of
//! each. Only reads, so a plan uses it as a run does.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use rehome_core::{Failure, Halt, Knowledge, Known, Pass, Unit};

use crate::USER;
use crate::alias;
use crate::decide::{Case, Decision};
use crate::export::Journaled;
use crate::lookup::{Account, Accounts, Wanted};
use crate::policy::UserPolicy;
use crate::profile::Profile;
use crate::query::Filter;
use crate::reader::Reader;

/// Matches source users with accounts of the target.
#[derive(Clone)]
pub struct Matcher {
    target: Reader,
    knowledge: Arc<dyn Knowledge>,
    policy: UserPolicy,
}

impl fmt::Debug for Matcher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Matcher")
            .field("target", &self.target)
            .field("policy", &self.policy)
            .finish_non_exhaustive()
    }
}

/// A unit whose profile could be read.
struct Candidate<'a> {
    index: usize,
    unit: &'a Unit,
    profile: Profile,
    key: Option<String>,
    accounts: Vec<Arc<Account>>,
}

/// What the journal says about the identifiers and accounts at hand.
#[derive(Default)]
struct Facts {
    claimants: HashMap<String, Vec<Known>>,
    owners: HashMap<String, Known>,
    namesakes: HashMap<String, Known>,
    export_done: bool,
}

impl Matcher {
    /// Matches with the accounts that `target` sees, by what `knowledge` knows of the source.
    pub fn new(target: Reader, knowledge: Arc<dyn Knowledge>, policy: UserPolicy) -> Self {
        Self { target, knowledge, policy }
    }

    /// The policy it decides by.
    pub fn policy(&self) -> &UserPolicy {
        &self.policy
    }

    /// The reads of the target.
    pub fn target(&self) -> &Reader {
        &self.target
    }

    /// What is to be done with each unit, in the order given. In the final pass no decision is
    /// [`Decision::Wait`].
    ///
    /// # Errors
    /// A [`Halt`] when the target or the journal cannot be read.
    pub async fn decide(&self, units: &[Unit], pass: Pass) -> Result<Vec<Decision>, Halt> {
        let mut decisions: Vec<Option<Decision>> = vec![None; units.len()];
        let mut candidates = Vec::with_capacity(units.len());
        for (index, unit) in units.iter().enumerate() {
            match Journaled::of(unit) {
                Ok(Journaled { profile, .. }) => candidates.push(Candidate {
                    key: self.policy.external_id.of(&unit.source_key, &profile),
                    index,
                    unit,
                    profile,
                    accounts: Vec::new(),
                }),
                Err(error) => {
                    set(&mut decisions, index, Decision::Fail(unreadable(&error)));
                }
            }
        }

        let mut facts = Facts {
            export_done: self.knowledge.export_done(&USER)?,
            claimants: self.claimants(&candidates)?,
            ..Facts::default()
        };
        candidates.retain(|candidate| {
            let early = candidate.case(&facts, pass).before_looking();
            let goes_on = early.is_none();
            if let Some(decision) = early {
                set(&mut decisions, candidate.index, decision);
            }
            goes_on
        });

        self.look_up(&mut candidates, &mut facts).await?;
        for candidate in &candidates {
            let decision = candidate.case(&facts, pass).decide(&self.policy);
            set(&mut decisions, candidate.index, decision);
        }
        decisions
            .into_iter()
            .map(|decision| {
                decision.ok_or_else(|| Halt::Bug("a user was not decided upon".to_owned()))
            })
            .collect()
    }

    fn claimants(&self, candidates: &[Candidate<'_>]) -> Result<HashMap<String, Vec<Known>>, Halt> {
        let aliases = candidates.iter().flat_map(|one| one.profile.aliases());
        let aliases: Vec<_> = aliases.collect();
        Ok(self.knowledge.claimants(&USER, &aliases)?)
    }

    /// Finds every candidate's accounts, and what the journal knows about those.
    async fn look_up(
        &self,
        candidates: &mut [Candidate<'_>],
        facts: &mut Facts,
    ) -> Result<(), Halt> {
        let mut wanted = Wanted::default();
        for candidate in &*candidates {
            wanted.add_profile(&candidate.profile);
            if let Some(key) = &candidate.key {
                wanted.add(Filter::ExternalId, key);
            }
        }
        let found = Accounts::look_up(&self.target, &wanted).await?;

        let (mut ids, mut external_ids, mut aliases) = (Vec::new(), Vec::new(), Vec::new());
        for candidate in candidates {
            candidate.accounts = found.matching(candidate.key.as_deref(), &candidate.profile);
            for account in &candidate.accounts {
                ids.push(account.user.id.clone());
                aliases.extend(account.claims.keys().cloned());
                if let Some(external_id) = &account.user.external_id {
                    aliases.push(alias::external_id(external_id));
                    external_ids.push(external_id.clone());
                }
            }
        }
        if ids.is_empty() {
            return Ok(());
        }
        facts.owners = self.knowledge.by_target(&USER, &ids)?;
        facts.namesakes = self.knowledge.by_source(&USER, &external_ids)?;
        facts.claimants.extend(self.knowledge.claimants(&USER, &aliases)?);
        Ok(())
    }
}

impl Candidate<'_> {
    fn case<'b>(&'b self, facts: &'b Facts, pass: Pass) -> Case<'b> {
        Case {
            unit: self.unit,
            profile: &self.profile,
            key: self.key.as_deref(),
            accounts: &self.accounts,
            claimants: &facts.claimants,
            owners: &facts.owners,
            namesakes: &facts.namesakes,
            export_done: facts.export_done,
            pass,
        }
    }
}

fn set(decisions: &mut [Option<Decision>], index: usize, decision: Decision) {
    if let Some(slot) = decisions.get_mut(index) {
        *slot = Some(decision);
    }
}

/// A unit whose data is not a profile.
pub(crate) fn unreadable(error: &dyn std::error::Error) -> Failure {
    let why = error.source().map_or_else(String::new, |source| format!(": {source}"));
    Failure::new("profile_unreadable", format!("{error}{why}"))
        .with_hint("use the version of rehome that wrote this journal, or a later one")
}
