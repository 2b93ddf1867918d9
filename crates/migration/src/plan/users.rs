//! What a run would do with the users: whom it would create, adopt, bring up to date, leave alone.

use std::collections::HashSet;
use std::sync::Arc;

use futures::future::BoxFuture;
use rehome_clerk::{Decision, Journaled, Matcher, USER};
use rehome_core::journal::{Change, Detail, Journal, Reader};
use rehome_core::progress::{Progress, Watcher};
use rehome_core::{Condition, Event, Knowledge, Origin, Pass, Stage, Unit, UnitId};
use rehome_records::policy::Removed;

use crate::config::Config;
use crate::connect::Remotes;
use crate::departed;
use crate::document::UserPlan;
use crate::error::Error;
use crate::verify::{self, UserFinding};

/// How many users are judged at once: enough to fill look-ups of a hundred.
const BATCH: usize = 400;

/// Where a run would find a user.
enum Standing {
    /// There is an account already.
    Done,
    /// It is to be decided whether there is one, or is to be.
    Open,
    /// Nothing happens before a person has said so.
    Stands,
    /// A person took the user out.
    Out,
    /// The source has deleted the user.
    Left,
}

impl Standing {
    fn of(unit: &Unit) -> Self {
        match unit.state.condition {
            Condition::Skipped if departed::has_left(unit) => Self::Left,
            Condition::Skipped => Self::Out,
            Condition::Failed | Condition::Stuck => Self::Stands,
            Condition::Ready
            | Condition::Intended
            | Condition::InDoubt
            | Condition::Held
            | Condition::Undoing
            | Condition::UndoInDoubt
            | Condition::RolledBack => {
                if unit.state.stage >= Stage::Created {
                    Self::Done
                } else {
                    Self::Open
                }
            }
        }
    }
}

/// What a run would do with each user of the scratch journal.
pub(super) async fn users(
    config: &Config,
    remotes: &Remotes,
    journal: &Journal,
    reader: &Arc<Reader>,
    watcher: &Watcher,
) -> Result<UserPlan, Error> {
    let knowledge = Arc::clone(reader) as Arc<dyn Knowledge>;
    let policy = config.users.policy();
    let matcher = Matcher::new(remotes.target.reader.clone(), knowledge, policy.clone());
    let accounts_go = match config.users.on_removed {
        Removed::Keep => false,
        Removed::Delete => true,
    };
    let mut plan = UserPlan { accounts_go, ..UserPlan::default() };
    let mut after = UnitId(0);
    let total = reader.counts()?.get(&USER).map(rehome_core::journal::Standing::total);
    loop {
        let known = reader.known_after(&USER, after, BATCH)?;
        let Some(last) = known.last() else { break };
        after = last.id;
        let ids: Vec<_> = known.iter().map(|known| known.id).collect();
        let mut open = Vec::new();
        for unit in reader.load(&ids)? {
            match Standing::of(&unit) {
                Standing::Left => {
                    // Whoever has no account any more, or never got one, leaves nothing to tell of.
                    plan.deleted += u64::from(unit.target_key.is_some());
                    continue;
                }
                Standing::Done => plan.done += 1,
                Standing::Out => plan.skip += 1,
                Standing::Stands => {
                    let code = unit.failure.as_ref().map(|failure| failure.code.clone());
                    *plan.fail.entry(code.unwrap_or_default()).or_default() += 1;
                }
                Standing::Open => open.push(unit.clone()),
            }
            plan.total += 1;
            not_carried(&mut plan, &unit);
        }
        let mut known = Vec::new();
        for (unit, decision) in open.iter().zip(matcher.decide(&open, Pass::Final).await?) {
            match decision {
                Decision::Create => plan.create += 1,
                Decision::Adopt { target, .. } => {
                    plan.adopt += 1;
                    known.push((unit, target, Origin::Adopted));
                }
                Decision::Ours { target } => {
                    plan.adopt += 1;
                    known.push((unit, target, Origin::Created));
                }
                Decision::Skip(_) => plan.skip += 1,
                Decision::Fail(failure) => *plan.fail.entry(failure.code).or_default() += 1,
                Decision::Wait => {
                    *plan.fail.entry("undecided".to_owned()).or_default() += 1;
                }
            }
        }
        // The application may have rows of theirs already, with which ours will collide.
        journal.submit(pairs(reader, known)?).await?;
        let what = "users of the plan".to_owned();
        watcher.note(&Progress::Verifying { what, done: plan.total, total });
    }
    Ok(plan)
}

/// Counts those who have an account and whom the source has changed or deleted since: the comparison
/// at the end of a run finds them, and the run goes on with them.
pub(super) async fn since(
    config: &Config,
    remotes: &Remotes,
    reader: &Arc<Reader>,
    watcher: &Watcher,
    plan: &mut UserPlan,
) -> Result<(), Error> {
    let mut count = |findings: Vec<UserFinding>| -> Result<(), Error> {
        let moved = findings.into_iter().filter(|found| found.left || found.now.is_some());
        let moved: Vec<_> = moved.map(|found| (found.key, found.left)).collect();
        let keys: Vec<_> = moved.iter().map(|(key, _)| key.clone()).collect();
        let known = reader.by_source(&USER, &keys)?;
        for (key, left) in moved {
            // Whoever stands still stays as they are.
            if known.get(&key).is_none_or(|user| user.state.condition != Condition::Ready) {
                continue;
            }
            if left {
                plan.deleted += 1;
                plan.done = plan.done.saturating_sub(1);
                plan.total = plan.total.saturating_sub(1);
            } else {
                plan.change += 1;
            }
        }
        Ok(())
    };
    let mut hear = |findings: Vec<UserFinding>| -> BoxFuture<'static, _> {
        Box::pin(std::future::ready(count(findings)))
    };
    verify::users(config, remotes, reader, watcher, &mut hear).await
}

/// What the plan's own journal is told of users whose account is there already. Of two with one
/// account a run fails the second.
fn pairs(reader: &Reader, known: Vec<(&Unit, String, Origin)>) -> Result<Vec<Change>, Error> {
    let targets: Vec<_> = known.iter().map(|(_, target, _)| target.clone()).collect();
    let mut taken: HashSet<String> = reader.by_target(&USER, &targets)?.into_keys().collect();
    let mut changes = Vec::new();
    for (unit, target, origin) in known {
        // What is in doubt is settled by a run, and nothing else.
        let ready = unit.state.condition == Condition::Ready;
        if ready && taken.insert(target.clone()) {
            let unit = unit.id;
            let detail = Detail { target: Some(target), origin: Some(origin), ..Detail::default() };
            changes.push(Change::Step { unit, event: Event::Advanced(Stage::Created), detail });
            changes.push(Change::step(unit, Event::Advanced(Stage::Mapped)));
        }
    }
    Ok(changes)
}

/// What a user has that no request can give an account.
fn not_carried(plan: &mut UserPlan, unit: &Unit) {
    let Ok(journaled) = Journaled::of(unit) else { return };
    for name in journaled.profile.not_carried.into_keys() {
        *plan.not_carried.entry(name).or_default() += 1;
    }
}
