//! Deletes the accounts that this migration created, and takes their users back to `exported`.
//!
//! Each account is looked at afresh right before it is deleted. That look decides; whatever was
//! judged or shown before only decides whether a used account may be deleted at all
//! ([`DeleteUsers::forcing`]).
//!
//! A list may be behind, in both directions. An account that was created a moment ago may not be
//! in it yet, so its absence is believed only after the settle time; otherwise it would be taken
//! for deleted and live on for ever. One that was deleted a moment ago may still be in it: then
//! it is deleted once more, and the API's 404 settles it.

use std::any::Any;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use rehome_core::{
    Done, Failure, Halt, Outcome, Pass, Prepared, Probed, Stage, Step, Transition, Unit, UnitId,
    Way,
};
use serde::Deserialize;
use serde_json::json;

use crate::USER;
use crate::error::Refusal;
use crate::policy::UserPolicy;
use crate::undo::attached::{Attached, Attachment, Tie};
use crate::undo::judge::{self, Judgement, Standing};
use crate::writer::{Changed, Writer};

/// How long a created account may take to be found by a filter, and a deleted one to vanish from
/// it. Nothing documents either.
const SETTLE_TIME: Duration = Duration::from_secs(5);
/// So many of the rows that keep an account alive are named.
pub const NAMED_ROWS: usize = 3;

/// Everything above `exported` → `exported`, for users.
pub struct DeleteUsers {
    writer: Writer,
    policy: UserPolicy,
    attached: Arc<dyn Attached>,
    settle_time: Duration,
    forced: BTreeSet<UnitId>,
}

/// What is journaled before an account is deleted, as far as a probe needs it. The rows that go
/// with it stand beside.
#[derive(Deserialize)]
struct Intent {
    account: String,
}

/// What `apply` is given.
struct Payload {
    account: String,
    rows: Vec<Attachment>,
}

impl fmt::Debug for DeleteUsers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DeleteUsers")
            .field("policy", &self.policy)
            .field("forced", &self.forced.len())
            .finish_non_exhaustive()
    }
}

impl DeleteUsers {
    /// Deletes through `writer` (of the target) what was created by `policy`; `attached` knows
    /// the target's rows.
    pub fn new(writer: Writer, policy: UserPolicy, attached: Arc<dyn Attached>) -> Self {
        Self { writer, policy, attached, settle_time: SETTLE_TIME, forced: BTreeSet::new() }
    }

    /// The same, believing after `settle_time` that an account is not there.
    #[must_use]
    pub fn with_settle_time(mut self, settle_time: Duration) -> Self {
        self.settle_time = settle_time;
        self
    }

    /// The same, deleting these users' accounts although they were used or changed: those that a
    /// person was shown and has agreed to, and no others that turn up later.
    #[must_use]
    pub fn forcing(mut self, units: impl IntoIterator<Item = UnitId>) -> Self {
        self.forced.extend(units);
        self
    }

    async fn prepare_all(&self, units: &[Unit]) -> Result<Vec<Prepared>, Halt> {
        let mut standings = self.judge(units).await?;
        let accounts: Vec<_> = units
            .iter()
            .filter(|unit| standings.get(&unit.id).is_some_and(|one| self.may_go(unit, one)))
            .filter_map(|unit| judge::account(unit).map(str::to_owned))
            .collect();
        let mut rows: BTreeMap<String, Vec<Attachment>> = BTreeMap::new();
        if !accounts.is_empty() {
            for row in self.attached.look(&accounts).await? {
                rows.entry(row.account.clone()).or_default().push(row);
            }
        }
        let at = self.writer.transport().now().as_millisecond();
        let prepared = units.iter().map(|unit| match standings.remove(&unit.id) {
            Some(standing) => Ok(self.prepared(unit, &standing, &mut rows, at)),
            None => Err(Halt::Bug("an account was not judged".to_owned())),
        });
        prepared.collect()
    }

    /// Judges the accounts, and those that are not there once more when they could be too young
    /// to be seen.
    async fn judge(&self, units: &[Unit]) -> Result<BTreeMap<UnitId, Standing>, Halt> {
        let reader = self.writer.reader();
        let mut judged: BTreeMap<_, _> = judge::judge(reader, units, &self.policy)
            .await?
            .into_iter()
            .map(|Judgement { unit, standing }| (unit, standing))
            .collect();
        let young: Vec<_> = units
            .iter()
            .filter(|unit| judged.get(&unit.id) == Some(&Standing::Gone) && self.is_young(unit))
            .cloned()
            .collect();
        if !young.is_empty() {
            tokio::time::sleep(self.settle_time).await;
            let again = judge::judge(reader, &young, &self.policy).await?;
            judged.extend(again.into_iter().map(|one| (one.unit, one.standing)));
        }
        Ok(judged)
    }

    /// Whether the account may have been created so recently that no list shows it yet.
    fn is_young(&self, unit: &Unit) -> bool {
        let now = self.writer.transport().now().as_millisecond();
        let settled = i64::try_from(self.settle_time.as_millis()).unwrap_or(i64::MAX);
        // The request may have been under way for a while after its intent, hence twice.
        judge::creation(unit).is_none_or(|intent| {
            intent.at > now || now.saturating_sub(intent.at) < settled.saturating_mul(2)
        })
    }

    /// Whether the account may be deleted as far as Clerk knows, or is gone.
    fn may_go(&self, unit: &Unit, standing: &Standing) -> bool {
        match standing {
            Standing::NotOurs => false,
            Standing::AsLeft | Standing::Gone => true,
            Standing::Used(_) | Standing::Changed(_) | Standing::Unreadable(_) => {
                standing.can_be_forced() && self.forced.contains(&unit.id)
            }
        }
    }

    fn prepared(
        &self,
        unit: &Unit,
        standing: &Standing,
        rows: &mut BTreeMap<String, Vec<Attachment>>,
        at: i64,
    ) -> Prepared {
        let Some(account) = judge::account(unit) else {
            // It was there before, or there never was one: nothing of it is ours.
            return Prepared::Advance(Done::default());
        };
        if !self.may_go(unit, standing)
            && let Some(failure) = standing.objection()
        {
            return fail(failure.clone());
        }
        let rows = rows.remove(account).unwrap_or_default();
        let (echoes, own): (Vec<_>, Vec<_>) =
            rows.into_iter().partition(|row| row.tie == Tie::Echo);
        if *standing == Standing::Gone && echoes.is_empty() {
            return Prepared::Advance(Done::default());
        }
        if *standing != Standing::Gone && !own.is_empty() {
            let more = own.len().saturating_sub(NAMED_ROWS) as u64;
            return fail(rows_remain(account, &unit.source_key, &own, more));
        }
        let mut intent = json!({"account": account, "at": at});
        if let (false, Some(object)) = (echoes.is_empty(), intent.as_object_mut()) {
            object.insert("rows".to_owned(), json!(echoes));
        }
        let payload = Payload { account: account.to_owned(), rows: echoes };
        Prepared::Effect { intent, payload: Box::new(payload) }
    }

    async fn send(&self, unit: &Unit, payload: Box<dyn Any + Send + Sync>) -> Outcome {
        let Ok(payload) = payload.downcast::<Payload>() else {
            return not_sent(
                "the account was lost",
                Some(Halt::Bug("a deletion was given somebody else's payload".to_owned())),
            );
        };
        if !payload.rows.is_empty() {
            match self.attached.clear(&payload.rows).await {
                Outcome::Done(_) => {}
                // The account was not touched yet: a lost answer about rows is found out by the
                // next look at them.
                other @ (Outcome::Rejected(_)
                | Outcome::NotSent { .. }
                | Outcome::Unknown { .. }) => {
                    return other;
                }
            }
        }
        match self.writer.delete_user(&payload.account).await {
            Changed::Done | Changed::Gone => Outcome::Done(Done::default()),
            Changed::Refused(refusal) => refused(unit, &payload, &refusal),
            Changed::Throttled { retry_after } => {
                Outcome::NotSent { reason: "too many requests".to_owned(), retry_after, halt: None }
            }
            Changed::NotSent { reason } => not_sent(&reason, None),
            Changed::Unauthorized(halt) => not_sent("the secret key is not accepted", Some(halt)),
            Changed::Unknown { reason } => Outcome::Unknown { reason },
        }
    }

    async fn probe_all(&self, units: &[Unit]) -> Result<Vec<Probed>, Halt> {
        let read: Vec<_> = units
            .iter()
            .map(|unit| unit.intent.as_ref().and_then(|intent| Intent::deserialize(intent).ok()))
            .collect();
        let ids: Vec<_> = read.iter().flatten().map(|intent| intent.account.clone()).collect();
        let found = judge::present(self.writer.reader(), &ids).await?;
        let probed = read.into_iter().map(|intent| match intent {
            Some(Intent { account }) if found.contains_key(&account) => Probed::Absent,
            Some(_) => Probed::Done(Done::default()),
            None => Probed::Conflict(
                Failure::new("intent_unreadable", "the journaled intent is not one of a deletion")
                    .with_hint("use the version of rehome that wrote this journal, or a later one"),
            ),
        });
        Ok(probed.collect())
    }
}

impl Transition for DeleteUsers {
    fn step(&self) -> Step {
        let way = Way::Back { to: Stage::Exported, scope: None };
        Step { kind: USER, way, batch: 100, concurrency: 64 }
    }

    fn settle_time(&self) -> Duration {
        self.settle_time
    }

    fn prepare<'a>(
        &'a self,
        units: &'a [Unit],
        _: Pass,
    ) -> BoxFuture<'a, Result<Vec<Prepared>, Halt>> {
        Box::pin(self.prepare_all(units))
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

fn refused(unit: &Unit, payload: &Payload, refusal: &Refusal) -> Outcome {
    // Another request holds the account at this moment (errors `resource_locked`, `conflict`).
    if refusal.has("resource_locked") || refusal.has("conflict") {
        return not_sent(&refusal.to_string(), None);
    }
    let removed = match payload.rows.len() {
        0 => String::new(),
        rows => format!(
            "; {rows} rows that the application had made for it were removed before (`rehome show {}` has them)",
            unit.source_key
        ),
    };
    let message = format!(
        "account {} of {} was not deleted: {refusal}{removed}",
        payload.account, unit.source_key
    );
    Outcome::Rejected(Failure::new(refusal.code(), message).with_hint(
        "delete the account in Clerk's Dashboard, or free it from what holds it there, then run `rehome rollback` again",
    ))
}

/// Why an account cannot be deleted whose rows remain: `rows` are some of them, of which the first
/// few are named, and `more` says how many are not. Code `rows_remain`.
pub fn rows_remain(account: &str, source_key: &str, rows: &[Attachment], more: u64) -> Failure {
    let named: Vec<_> = rows
        .iter()
        .take(NAMED_ROWS)
        .map(|row| match row.tie {
            Tie::Echo | Tie::Own => format!("{} {}", row.table, row.key),
            Tie::Ours => format!("{} {} (written by this migration)", row.table, row.key),
        })
        .collect();
    let more = match more {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    let message = format!(
        "account {account} of {source_key} is mentioned by rows of the target that stay: {}{more}",
        named.join(", ")
    );
    let ours = rows.iter().all(|row| row.tie == Tie::Ours);
    Failure::new("rows_remain", message).with_hint(if ours {
        "see why those rows stay (`rehome failures`), then run `rehome rollback` again; or leave the account alone"
    } else {
        "remove those rows, or what makes the application write them, then run `rehome rollback` again; or leave the account alone"
    })
}

fn fail(failure: Failure) -> Prepared {
    Prepared::Fail { failure, blocks: Vec::new() }
}

fn not_sent(reason: &str, halt: Option<Halt>) -> Outcome {
    Outcome::NotSent { reason: reason.to_owned(), retry_after: None, halt }
}
