//! Compares every account of the target with its source user, both read afresh.
//!
//! The target's list is walked page by page; for each page the journal says which accounts are
//! mapped to whom, those source users are read, and the pairs compared. Accounts that nobody is
//! mapped to are told as extra. A second pass takes the mapped users that the walk did not meet.
//! No success that was journaled is trusted, only the pairs are.
//!
//! Both sides may be live. A pair that differs is read once more before it is told, so that a
//! change between two reads is not taken for damage; and a difference is marked when the source
//! user has changed since the export, because then a later change explains it.

use std::collections::hash_map::RandomState;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::fmt;
use std::hash::BuildHasher as _;
use std::sync::Arc;

use futures::future::try_join;
use rehome_core::{Condition, Exported, Halt, Knowledge, Known, Origin, Stage, journal};
use serde_json::Value;

use crate::USER;
use crate::api::User;
use crate::compare::{Difference, Expected, compare};
use crate::export::{self, Journaled};
use crate::policy::{Attribute, UserPolicy};
use crate::profile::Profile;
use crate::query::Filter;
use crate::reader::{LARGEST_PAGE, Reader};
use crate::undo::present;
use crate::walk::{Position, Walk};

/// What the journal remembers of a user that a comparison needs.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Remembered {
    /// The user as of the export (see [`crate::Journaled`]); `None` when that cannot be read.
    pub profile: Option<Profile>,
    /// What the account was created without.
    pub without: BTreeSet<Attribute>,
    /// Whether the source has changed the user after the export, and the account was looked at to
    /// bring it up to date: what it still has otherwise is the target's own change.
    pub amended: bool,
}

impl Remembered {
    /// From a unit's data, and from what its creation journaled as done, if anything.
    pub fn from_json(data: &Value, done: Option<&Value>) -> Self {
        let without = done.and_then(|done| done.get("without")).cloned();
        let journaled = Journaled::from_json(data).ok();
        Self {
            amended: journaled.as_ref().is_some_and(|journaled| journaled.base.is_some()),
            profile: journaled.map(|journaled| journaled.profile),
            without: without
                .and_then(|without| serde_json::from_value(without).ok())
                .unwrap_or_default(),
        }
    }
}

/// The journal, as far as [`Knowledge`] does not tell.
pub trait Memory: Send + Sync {
    /// What is remembered of these users, by source key.
    ///
    /// # Errors
    /// When the journal cannot be read.
    fn remembered(&self, users: &[Known]) -> Result<HashMap<String, Remembered>, journal::Error>;
}

/// What was found about one account or one user.
#[derive(Clone, PartialEq, Debug)]
pub enum Finding {
    /// `=`: as it should be.
    Equal(Pair),
    /// `*`: differs.
    Different {
        /// Who.
        pair: Pair,
        /// In what; never empty.
        differences: Vec<Difference>,
        /// The source user has changed since the export, which explains it.
        source_changed: bool,
        /// The source user as an export would hand it over now, when it has changed and its account
        /// can be brought up to date.
        now: Option<Box<Exported>>,
        /// The two were found equal before, or the account was brought up to date since: a
        /// difference that the source does not explain is the target's own change.
        verified: bool,
    },
    /// `+`: an account of the target that no source user is mapped to.
    Extra {
        /// The account.
        target: String,
    },
    /// `+`: the source user was deleted since; the account is there.
    Left(Pair),
    /// `-`: the account is not in the target.
    Missing(Pair),
    /// A person took the user out, who therefore has no account, or one that is as it may be.
    LeftOut {
        /// The source user.
        source: String,
    },
    /// `!`: there is nothing to compare.
    Unchecked {
        /// The source user.
        source: String,
        /// Why not.
        reason: String,
    },
}

/// A source user and its account.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Pair {
    /// The source user's id.
    pub source: String,
    /// The account's id.
    pub target: String,
}

/// A mapped user, with what the comparison needs.
struct Mapped {
    known: Known,
    target: String,
}

/// A comparison of all users.
pub struct Audit {
    source: Reader,
    target: Reader,
    knowledge: Arc<dyn Knowledge>,
    memory: Arc<dyn Memory>,
    policy: UserPolicy,
    walk: Walk,
    position: Position,
    /// The users that were met, one bit each.
    met: Vec<u64>,
    /// Accounts that were told as extra, by hash: a page may be read twice.
    extras: HashSet<u64>,
    hasher: RandomState,
}

impl fmt::Debug for Audit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Audit")
            .field("source", &self.source)
            .field("target", &self.target)
            .finish_non_exhaustive()
    }
}

impl Audit {
    /// An audit of the users that `knowledge` has mapped by `policy`.
    pub fn new(
        source: Reader,
        target: Reader,
        knowledge: Arc<dyn Knowledge>,
        memory: Arc<dyn Memory>,
        policy: UserPolicy,
    ) -> Self {
        Self {
            walk: Walk::new(target.clone(), LARGEST_PAGE),
            source,
            target,
            knowledge,
            memory,
            policy,
            position: Position::START,
            met: Vec::new(),
            extras: HashSet::new(),
            hasher: RandomState::new(),
        }
    }

    /// The same, walking by pages of `page` accounts (2 to [`LARGEST_PAGE`]).
    #[must_use]
    pub fn with_page(mut self, page: usize) -> Self {
        self.walk = self.walk.with_page(page);
        self
    }

    /// Walks one page of the target's accounts, and tells what was found of each, once. Returns
    /// whether there may be more.
    ///
    /// # Errors
    /// A [`Halt`] when one of the sides or the journal cannot be read.
    pub async fn step(&mut self, tell: &mut (dyn FnMut(Finding) + Send)) -> Result<bool, Halt> {
        let position = std::mem::replace(&mut self.position, Position::START);
        let step = self.walk.step(position).await?;
        self.page_of(step.users, tell).await?;
        self.position = step.next;
        Ok(!step.done)
    }

    /// Walks all of them.
    ///
    /// # Errors
    /// As [`Audit::step`].
    pub async fn walk(&mut self, tell: &mut (dyn FnMut(Finding) + Send)) -> Result<(), Halt> {
        while self.step(tell).await? {}
        Ok(())
    }

    /// Looks after those of the users that the walk did not meet: to be called for all of them,
    /// after the walk, in batches of a few hundred.
    ///
    /// # Errors
    /// A [`Halt`] when one of the sides or the journal cannot be read.
    pub async fn rest(
        &mut self,
        users: &[Known],
        tell: &mut (dyn FnMut(Finding) + Send),
    ) -> Result<(), Halt> {
        let mut mapped = Vec::new();
        for known in users {
            if !self.meet(known) {
                continue;
            }
            match &known.target_key {
                Some(target) => {
                    mapped.push(Mapped { known: known.clone(), target: target.clone() });
                }
                None if known.state.condition == Condition::Skipped => {
                    tell(Finding::LeftOut { source: known.source_key.clone() });
                }
                None => tell(Finding::Unchecked {
                    source: known.source_key.clone(),
                    reason: format!("has no account yet: {}", known.state),
                }),
            }
        }
        let ids: Vec<_> = mapped.iter().map(|mapped| mapped.target.clone()).collect();
        let accounts = by_id(self.target.users_by(Filter::UserId, &ids).await?);
        self.compare_all(mapped, accounts, tell).await
    }

    async fn page_of(
        &mut self,
        users: Vec<User>,
        tell: &mut (dyn FnMut(Finding) + Send),
    ) -> Result<(), Halt> {
        let ids: Vec<_> = users.iter().map(|user| user.id.clone()).collect();
        let mut owners = self.knowledge.by_target(&USER, &ids)?;
        let mut mapped = Vec::new();
        for target in ids {
            match owners.remove(&target) {
                Some(known) => {
                    if self.meet(&known) {
                        mapped.push(Mapped { known, target });
                    }
                }
                None => {
                    if self.extras.insert(self.hasher.hash_one(&target)) {
                        tell(Finding::Extra { target });
                    }
                }
            }
        }
        self.compare_all(mapped, by_id(users), tell).await
    }

    /// Compares, reads again what differs, and tells.
    async fn compare_all(
        &self,
        mapped: Vec<Mapped>,
        accounts: BTreeMap<String, User>,
        tell: &mut (dyn FnMut(Finding) + Send),
    ) -> Result<(), Halt> {
        if mapped.is_empty() {
            return Ok(());
        }
        let users: Vec<_> = mapped.iter().map(|mapped| mapped.known.clone()).collect();
        let memory = self.memory.remembered(&users)?;
        let sources: Vec<_> = users.into_iter().map(|known| known.source_key).collect();
        let sources = by_id(self.source.users_by(Filter::UserId, &sources).await?);

        let mut again = Vec::new();
        for one in mapped {
            match self.compare_one(&one, &memory, &sources, &accounts) {
                equal @ Finding::Equal(_) => tell(equal),
                Finding::Different { .. }
                | Finding::Left(_)
                | Finding::Missing(_)
                | Finding::Extra { .. }
                | Finding::LeftOut { .. }
                | Finding::Unchecked { .. } => again.push(one),
            }
        }
        if again.is_empty() {
            return Ok(());
        }
        let source_ids: Vec<_> = again.iter().map(|one| one.known.source_key.clone()).collect();
        let target_ids: Vec<_> = again.iter().map(|one| one.target.clone()).collect();
        let (sources, accounts) = try_join(
            // Nobody counts as deleted only because a list does not show them.
            present(&self.source, &source_ids),
            self.target.users_by(Filter::UserId, &target_ids),
        )
        .await?;
        let accounts = by_id(accounts);
        for one in again {
            tell(self.compare_one(&one, &memory, &sources, &accounts));
        }
        Ok(())
    }

    fn compare_one(
        &self,
        mapped: &Mapped,
        memory: &HashMap<String, Remembered>,
        sources: &BTreeMap<String, User>,
        accounts: &BTreeMap<String, User>,
    ) -> Finding {
        let Mapped { known, target } = mapped;
        let pair = Pair { source: known.source_key.clone(), target: target.clone() };
        let taken_out = known.state.condition == Condition::Skipped;
        let Some(account) = accounts.get(target) else {
            if taken_out {
                return Finding::LeftOut { source: pair.source };
            }
            return Finding::Missing(pair);
        };
        let Some(source) = sources.get(&known.source_key) else {
            return Finding::Left(pair);
        };
        let remembered = memory.get(&known.source_key).cloned().unwrap_or_default();
        let profile = Profile::of(source);
        let source_changed = remembered.profile.as_ref().is_some_and(|then| *then != profile);
        let origin = known.origin.unwrap_or(Origin::Created);
        let verified = known.state.stage == Stage::Verified || remembered.amended;
        let expected = Expected {
            external_id: self.policy.external_id.of(&known.source_key, &profile),
            profile,
            without: remembered.without,
            origin,
        };
        let differences = compare(&expected, account);
        if differences.is_empty() {
            return Finding::Equal(pair);
        }
        if taken_out {
            return Finding::LeftOut { source: pair.source };
        }
        Finding::Different {
            pair,
            differences,
            source_changed,
            now: (source_changed && origin == Origin::Created)
                .then(|| Box::new(export::exported(source))),
            verified,
        }
    }

    /// Notes that a user was met; false when it had been before.
    fn meet(&mut self, known: &Known) -> bool {
        let Ok(number) = usize::try_from(known.id.0) else {
            return true;
        };
        let (word, bit) = (number / 64, 1u64 << (number % 64));
        if word >= self.met.len() {
            self.met.resize(word + 1, 0);
        }
        self.met.get_mut(word).is_none_or(|word| {
            let new = *word & bit == 0;
            *word |= bit;
            new
        })
    }
}

fn by_id(users: Vec<User>) -> BTreeMap<String, User> {
    users.into_iter().map(|user| (user.id.clone(), user)).collect()
}
