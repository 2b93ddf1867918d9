//! What machines read: the documents behind `--json`. Their field names are promises; each has a
//! JSON Schema in `docs/schema/`, made from these types.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How many units of one kind stand where. Each unit is counted once.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize, JsonSchema)]
pub struct UnitCounts {
    /// In the journal, nothing done yet.
    pub exported: u64,
    /// An account exists.
    pub created: u64,
    /// The pair of ids is proven.
    pub mapped: u64,
    /// Everything that mentions it is in the target.
    pub imported: u64,
    /// Both sides were compared.
    pub verified: u64,
    /// Refused, for a reason that time alone will not mend.
    pub failed: u64,
    /// Waits for another unit.
    pub held: u64,
    /// Taken out, by a person or by policy.
    pub skipped: u64,
    /// Cannot be undone safely.
    pub stuck: u64,
    /// Undone.
    pub rolled_back: u64,
    /// All of them.
    pub total: u64,
    /// Of the moving ones: how many have an effect whose outcome is not known.
    pub in_doubt: u64,
}

/// How far a table has come, in rows.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize, JsonSchema)]
pub struct TableCounts {
    /// Rows that the export found; in place, rows with ids to rewrite.
    pub rows: u64,
    /// Rows that are in the target by the journal: written by this migration and not taken back, or
    /// found there, equal. In place, rows of lots that are rewritten completely.
    pub imported: u64,
    /// Spans, or lots, of which something is held or failed.
    pub waiting_spans: u64,
}

/// Requests sent by all runs of this migration.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize, JsonSchema)]
pub struct RequestCounts {
    /// To the source Clerk instance.
    pub source: u64,
    /// To the target Clerk instance.
    pub target: u64,
    /// To the source database.
    pub source_database: u64,
    /// To the target database.
    pub target_database: u64,
}

/// `status --json`
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, JsonSchema)]
pub struct Status {
    /// The migration's name.
    pub migration: String,
    /// Where its journal is.
    pub journal: String,
    /// Whether everything has arrived and was verified (or was taken out).
    pub complete: bool,
    /// Whether a run is on just now, and whose.
    pub running: Option<String>,
    /// By kind.
    pub units: BTreeMap<String, UnitCounts>,
    /// By kind: pairs of ids that are proven.
    pub mapping: BTreeMap<String, u64>,
    /// By table.
    pub tables: BTreeMap<String, TableCounts>,
    /// By kind: how many units the source is thought to hold, while it is still being read.
    pub expected: BTreeMap<String, u64>,
    /// By remote.
    pub requests: RequestCounts,
    /// Units that advanced in the last minute.
    pub advanced_last_minute: u64,
    /// Seconds until users are done at the present rate; absent when nothing moves.
    pub eta_seconds: Option<u64>,
    /// Failures and holds by code.
    pub codes: BTreeMap<String, u64>,
}

/// One element of `failures --json`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
pub struct FailureDoc {
    /// The unit's kind.
    pub kind: String,
    /// Its source id.
    pub source_id: String,
    /// Its address, for a user.
    pub email: Option<String>,
    /// `failed`, `held`, `skipped` or `stuck`.
    pub state: String,
    /// How far it came.
    pub stage: String,
    /// A stable word to group by.
    pub code: String,
    /// What happened.
    pub message: String,
    /// What to do.
    pub hint: Option<String>,
    /// Attempts so far.
    pub attempts: u32,
}

/// One line or element of `map`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
pub struct MapDoc {
    /// The unit's kind.
    pub kind: String,
    /// Its id in the source.
    pub source_id: String,
    /// Its id in the target.
    pub target_id: String,
    /// `created` or `adopted`.
    pub origin: String,
    /// Its address, where it has one.
    pub email: Option<String>,
}

/// One entry of a unit's history.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, JsonSchema)]
pub struct HistoryDoc {
    /// Its place in the log.
    pub seq: i64,
    /// When, RFC 3339.
    pub at: String,
    /// What happened.
    pub event: String,
    /// From which stage.
    pub from: Option<String>,
    /// To which stage.
    pub to: Option<String>,
    /// Which attempt it belongs to.
    pub attempt: u32,
    /// With what, as the journal has it.
    pub detail: serde_json::Value,
}

/// `show --json`
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, JsonSchema)]
pub struct UnitDoc {
    /// The unit's kind.
    pub kind: String,
    /// Its id in the source.
    pub source_id: String,
    /// Its id in the target.
    pub target_id: Option<String>,
    /// `created` or `adopted`.
    pub origin: Option<String>,
    /// How a person recognises it.
    pub label: Option<String>,
    /// How far it came.
    pub stage: String,
    /// What it is doing there.
    pub condition: String,
    /// Why it stands still.
    pub failure: Option<FailureDoc>,
    /// What it waits for, in words.
    pub waits: Vec<String>,
    /// What the export knows of it.
    pub data: serde_json::Value,
    /// Everything that happened to it.
    pub history: Vec<HistoryDoc>,
}

/// What a rollback does with the users.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize, JsonSchema)]
pub struct UsersBack {
    /// Accounts that this migration created and that go.
    pub delete: u64,
    /// Users whose account was there before, or whose account stays because only later stages are
    /// taken back.
    pub keep: u64,
    /// Created accounts that are not there any more.
    pub gone: u64,
    /// Created accounts that stay: somebody has used or changed them since, or rows that stay
    /// name them.
    pub refused: u64,
    /// Of the accounts that go: how many somebody has used or changed, and `--force` named.
    pub forced: u64,
}

/// What a rollback does with the rows of one table.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize, JsonSchema)]
pub struct RowsBack {
    /// Rows that go.
    pub remove: u64,
    /// Earlier rows that come back.
    pub restore: u64,
    /// Of both, how many only because `--force-rows` says so: rows that were changed since, and
    /// places that somebody has emptied.
    #[serde(default)]
    pub forced: u64,
    /// In place: rows whose ids go back to the old ones.
    #[serde(default)]
    pub rewrite: u64,
    /// Rows that this migration wrote and that are not there any more.
    pub gone: u64,
    /// Rows that nobody asked for.
    pub left: u64,
    /// Rows that stay though they were asked for, by the reason.
    pub kept: BTreeMap<String, u64>,
}

/// Something that stays though its undoing was asked for.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
pub struct RefusalDoc {
    /// `user`, or the table.
    pub what: String,
    /// The source id, or the row's key in the target.
    pub key: String,
    /// A stable word to group by.
    pub code: String,
    /// What keeps it.
    pub message: String,
}

/// A whole database that goes back to a moment.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize, JsonSchema)]
pub struct RestoreDoc {
    /// The database's name.
    pub database: String,
    /// The Time Travel bookmark.
    pub bookmark: String,
    /// When it was taken: everything that anybody has written since is lost.
    pub taken_at: String,
}

/// `rollback --json`, `rollback --dry-run --json`
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize, JsonSchema)]
pub struct RollbackDoc {
    /// The migration's name.
    pub migration: String,
    /// The state to which units go back.
    pub to: String,
    /// Whether this only says what would happen.
    pub dry_run: bool,
    /// Units of which it is not known yet whether their last request happened; a rollback asks
    /// for them first.
    pub in_doubt: u64,
    /// The restore of the whole target database, when that is asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restore: Option<RestoreDoc>,
    /// Users.
    pub users: UsersBack,
    /// By table.
    pub tables: BTreeMap<String, RowsBack>,
    /// What stays, by name: the first thousand.
    pub refusals: Vec<RefusalDoc>,
    /// How many more stay.
    pub more_refusals: u64,
}

/// How one table compares.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize, JsonSchema)]
pub struct TableVerdict {
    /// Rows of the source.
    pub source_rows: u64,
    /// Rows of the target.
    pub target_rows: u64,
    /// `=`
    pub equal: u64,
    /// `-`
    pub missing: u64,
    /// `+`
    pub extra: u64,
    /// `*`
    pub different: u64,
    /// `!`
    pub unchecked: u64,
    /// Rows that were left out: by policy, or with whom they name.
    #[serde(default)]
    pub skipped: u64,
    /// Equal when a run verified them; since then the application has changed or removed them in
    /// the target, and nobody in the source. Only a run sets them apart so.
    pub overtaken: u64,
    /// Of `different` and `missing`: the same, as far as the journal knows. `verify` counts them as
    /// differences all the same.
    #[serde(default)]
    pub of_the_target: u64,
}

/// `verify --json`. The sums count users and rows together.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize, JsonSchema)]
pub struct Verdict {
    /// `=`: the same on both sides.
    pub equal: u64,
    /// `-`: missing in the target.
    pub missing: u64,
    /// `+`: only in the target. Not a fault by itself: the target may have data of its own.
    pub extra: u64,
    /// `*`: differs.
    pub different: u64,
    /// `!`: could not be checked.
    pub unchecked: u64,
    /// Rows that a run verified before and that the target's application has made its own since.
    /// No fault.
    pub overtaken: u64,
    /// Of `different` and `missing`: what only the target has changed since a run verified it, as far
    /// as the journal knows. Told by `verify`, to which it is a difference.
    #[serde(default)]
    pub of_the_target: u64,
    /// Users alone.
    pub users: TableVerdict,
    /// By table.
    pub tables: BTreeMap<String, TableVerdict>,
    /// Source ids that still stand somewhere in the target's carried tables.
    pub orphan_ids: u64,
    /// Rows of the target whose foreign key points nowhere.
    pub broken_references: u64,
    /// Whether nothing is missing, different, unchecked, orphaned or broken.
    pub ok: bool,
}

/// One `= + - * !` line.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
pub struct VerdictLine {
    /// One of `=`, `+`, `-`, `*`, `!`.
    pub mark: char,
    /// `user`, or the table.
    pub what: String,
    /// The source id or the row's key; the target's, for `+`.
    pub key: String,
    /// In what it differs, or why it could not be checked.
    pub detail: Option<String>,
}

/// How much a finding of `check` matters.
#[derive(
    Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// As it should be.
    Ok,
    /// Good to know.
    Note,
    /// May surprise.
    Warning,
    /// Nothing is written while it is so.
    Refused,
}

/// One finding of `check`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
pub struct Finding {
    /// How much it matters.
    pub severity: Severity,
    /// A stable word.
    pub code: String,
    /// What was found.
    pub message: String,
    /// Why it matters and what to do; absent when all is well.
    pub hint: Option<String>,
}

/// `check --json`
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize, JsonSchema)]
pub struct CheckDoc {
    /// Whether a run may start.
    pub ok: bool,
    /// Everything that was looked at.
    pub findings: Vec<Finding>,
}

/// What a run would do with the users.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize, JsonSchema)]
pub struct UserPlan {
    /// Users of the source.
    pub total: u64,
    /// Those that are done already, by the journal.
    pub done: u64,
    /// Would be created.
    pub create: u64,
    /// Have an account in the target that would be adopted.
    pub adopt: u64,
    /// Are left out: have an account, by policy; or a person took them out.
    pub skip: u64,
    /// Of those that are done: the source has changed them since, and the account would be brought up
    /// to date.
    #[serde(default)]
    pub change: u64,
    /// Were deleted in the source since, and have an account. Not counted in `total`.
    #[serde(default)]
    pub deleted: u64,
    /// Whether those accounts go (`users.on_removed`), as far as nothing speaks against it.
    #[serde(default)]
    pub accounts_go: bool,
    /// Would fail, by code.
    pub fail: BTreeMap<String, u64>,
    /// Attributes that the target cannot be given, by name: how many users have them.
    pub not_carried: BTreeMap<String, u64>,
}

/// What a run would do with the rows of one table.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize, JsonSchema)]
pub struct TablePlan {
    /// Rows of the source.
    pub rows: u64,
    /// Rows that stand in the target before.
    pub target_rows: u64,
    /// Would be inserted.
    pub insert: u64,
    /// Have arrived, were changed in the source since, and would be brought up to date.
    #[serde(default)]
    pub update: u64,
    /// Have arrived, are in the source no more, and would be removed (`records.on_removed`).
    #[serde(default)]
    pub remove: u64,
    /// Have arrived, and only the target has changed them since: they stay.
    #[serde(default)]
    pub overtaken: u64,
    /// Are there already.
    pub equal: u64,
    /// Would take the place of a row that the application's webhook made for a new account, or,
    /// by policy, of one of the application's own.
    pub replace: u64,
    /// Stand against a row of the application's own: would fail.
    pub conflict: u64,
    /// Name somebody who would not be mapped: would wait.
    pub held: u64,
    /// Would be left out, by policy.
    pub skipped: u64,
    /// In place: rows in which ids would be rewritten. Those without any count as `equal`.
    #[serde(default)]
    pub rewrite: u64,
    /// By how much its keys would move, when they get new ones (`rekey`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keys_move_by: Option<i64>,
    /// Some of the conflicts, in words.
    pub conflicts: Vec<String>,
    /// Columns whose ids would be rewritten.
    pub id_columns: Vec<String>,
}

/// `plan --json`
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize, JsonSchema)]
pub struct PlanDoc {
    /// The migration's name.
    pub migration: String,
    /// What it would be bound to.
    pub pins: BTreeMap<String, String>,
    /// What the source and target held; a run with this plan refuses when it has changed.
    pub fingerprint: String,
    /// Users.
    pub users: UserPlan,
    /// By table, in copy order.
    pub tables: BTreeMap<String, TablePlan>,
    /// The copy order.
    pub order: Vec<String>,
    /// Undeclared places that hold source ids. A run is refused while there are any.
    pub undeclared: Vec<String>,
    /// Rows that a run would import as files once somebody agrees, while the target database answers nobody.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub imported: Option<u64>,
    /// Requests to the target that a run would send, about.
    pub requests: u64,
    /// How long that takes at the allowed rate, about, in seconds.
    pub seconds: u64,
    /// Whether a run may start.
    pub ok: bool,
}
