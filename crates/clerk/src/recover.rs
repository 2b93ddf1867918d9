//! Finds again which account belongs to which source user when the journal that knew it is lost.
//!
//! The proof is the one by which a run adopts ([`crate::decide`]): an account that carries the
//! user's key, and no identifiers of somebody else. An account that shares only an identifier is
//! left to the next run, which judges it by the policy of the configuration.
//!
//! What the target cannot tell is who made an account. Whoever carried the users over once could
//! have given them the same key. So an account counts as adopted, which a rollback never deletes,
//! unless a person says since when the lost migration was at work and the account bears that out:
//! exactly the identifiers that would have been sent, none of them older, and the source's own
//! sign-up date.

use std::collections::{BTreeSet, HashMap};
use std::fmt;
use std::sync::Arc;

use rehome_core::{Failure, Halt, Knowledge, Origin, Pass, Unit};

use crate::decide::Decision;
use crate::export::Journaled;
use crate::lookup::Account;
use crate::matcher::Matcher;
use crate::policy::{OnExisting, UserPolicy};
use crate::query::Filter;
use crate::reader::Reader;
use crate::settle::{self, Intent, Verdict};

/// What the target knows of a source user.
#[derive(Clone, PartialEq, Debug)]
pub enum Finding {
    /// An account carries the user's key.
    Pair {
        /// The account.
        target: String,
        /// Who made it, as far as can be shown.
        origin: Origin,
        /// The intent under which it would have been created; only for [`Origin::Created`].
        intent: Option<Intent>,
    },
    /// Nobody there has anything to do with the user.
    Nobody,
    /// An account has an identifier in common, and no key: for the next run to judge.
    ByIdentifier,
    /// Several could be meant, or something speaks against it: for a person.
    Unclear(Failure),
}

/// Asks the target about exported users.
pub struct Recovery {
    matcher: Matcher,
    since: Option<i64>,
}

impl fmt::Debug for Recovery {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Recovery").field("since", &self.since).finish_non_exhaustive()
    }
}

impl Recovery {
    /// Asks what `target` sees; `knowledge` knows all source users, `policy` gives their keys.
    /// With `since` (Unix milliseconds), accounts that bear it out count as created since then.
    pub fn new(
        target: Reader,
        knowledge: Arc<dyn Knowledge>,
        policy: UserPolicy,
        since: Option<i64>,
    ) -> Self {
        // What is to become of users with an account was decided when the pair was first made.
        let policy = UserPolicy { on_existing: OnExisting::Adopt, ..policy };
        Self { matcher: Matcher::new(target, knowledge, policy), since }
    }

    /// What the target knows of each unit, in the order given. The export must be complete.
    ///
    /// # Errors
    /// A [`Halt`] when the target or the journal cannot be read.
    pub async fn recover(&self, units: &[Unit]) -> Result<Vec<Finding>, Halt> {
        let decisions = self.matcher.decide(units, Pass::Final).await?;
        let accounts = self.accounts(&decisions).await?;
        Ok(units
            .iter()
            .zip(decisions)
            .map(|(unit, decision)| match decision {
                Decision::Adopt { target, by: "external_id" } | Decision::Ours { target } => {
                    let account = accounts.get(&target);
                    let intent = account.and_then(|account| self.created(unit, account));
                    let origin = if intent.is_some() { Origin::Created } else { Origin::Adopted };
                    Finding::Pair { target, origin, intent }
                }
                // The final pass does not wait; if it did, the next run would settle that too.
                Decision::Adopt { .. } | Decision::Wait => Finding::ByIdentifier,
                Decision::Create => Finding::Nobody,
                Decision::Skip(failure) | Decision::Fail(failure) => Finding::Unclear(failure),
            })
            .collect())
    }

    /// The accounts themselves, where their dates matter.
    async fn accounts(&self, decisions: &[Decision]) -> Result<HashMap<String, Account>, Halt> {
        if self.since.is_none() {
            return Ok(HashMap::new());
        }
        let ids: Vec<_> = decisions
            .iter()
            .filter_map(|decision| match decision {
                Decision::Adopt { target, by: "external_id" } => Some(target.clone()),
                Decision::Adopt { .. }
                | Decision::Ours { .. }
                | Decision::Create
                | Decision::Wait
                | Decision::Skip(_)
                | Decision::Fail(_) => None,
            })
            .collect();
        let users = self.matcher.target().users_by(Filter::UserId, &ids).await?;
        Ok(users.into_iter().map(|user| (user.id.clone(), Account::new(user))).collect())
    }

    /// The intent under which this migration would have made the account, if everything about it
    /// says so.
    fn created(&self, unit: &Unit, account: &Account) -> Option<Intent> {
        let Journaled { profile, .. } = Journaled::of(unit).ok()?;
        let external_id = self.matcher.policy().external_id.of(&unit.source_key, &profile)?;
        let carried = profile.created_at.is_some() && profile.created_at == account.user.created_at;
        let intent =
            Intent { external_id: Some(external_id), at: self.since?, without: BTreeSet::new() };
        (carried && settle::judge(&profile, &intent, account) == Verdict::Ours).then_some(intent)
    }
}
