//! What D1 refuses, decided where D1 decides it: in SQLite's authorizer, while a statement is
//! prepared.
//!
//! The lists follow what `workerd` (the engine of D1) allows and refuses: transactions belong to
//! the request, nothing may be attached or be temporary, only harmless pragmas work, functions that
//! tell or load too much are gone, and names starting with `_cf_` are Cloudflare's own.

use std::sync::atomic::{AtomicBool, Ordering};

use rusqlite::hooks::{AuthAction, AuthContext, Authorization};

/// Pragmas that read the schema or check it, plus the switches that D1 lets through.
const PRAGMAS: &[&str] = &[
    "table_list",
    "table_info",
    "table_xinfo",
    "index_list",
    "index_info",
    "index_xinfo",
    "foreign_key_list",
    "foreign_key_check",
    "quick_check",
    "data_version",
    "optimize",
    "foreign_keys",
    "defer_foreign_keys",
];

/// Switches that live as long as the connection in SQLite but only as long as the request in D1.
const SWITCHES: &[&str] = &[
    "case_sensitive_like",
    "ignore_check_constraints",
    "legacy_alter_table",
    "recursive_triggers",
    "reverse_unordered_selects",
];

/// Functions of SQLite that D1 does not offer.
const FUNCTIONS: &[&str] = &[
    "sqlite_version",
    "sqlite_source_id",
    "sqlite_compileoption_get",
    "sqlite_compileoption_used",
    "unistr",
    "unistr_quote",
    "if",
    "load_extension",
    "subtype",
];

/// Virtual table modules that D1 is built with.
const MODULES: &[&str] = &["fts5", "fts5vocab", "rtree"];

/// Shared between a connection's authorizer and the code that runs statements on it.
#[derive(Debug, Default)]
pub(crate) struct Gate {
    /// Set while the emulator's own statements are prepared.
    own: AtomicBool,
    /// A statement wanted to begin or end a transaction; D1 has its own text for that.
    transaction_refused: AtomicBool,
    /// A switch of [`SWITCHES`] was touched and has to be put back.
    switched: AtomicBool,
}

impl Gate {
    /// Runs `body` with the authorizer open.
    pub(crate) fn open<T>(&self, body: impl FnOnce() -> T) -> T {
        self.own.store(true, Ordering::Release);
        let result = body();
        self.own.store(false, Ordering::Release);
        result
    }

    /// Whether the last refusal was about a transaction; asking clears it.
    pub(crate) fn take_transaction_refused(&self) -> bool {
        self.transaction_refused.swap(false, Ordering::AcqRel)
    }

    /// Whether a switch was touched; asking clears it.
    pub(crate) fn take_switched(&self) -> bool {
        self.switched.swap(false, Ordering::AcqRel)
    }
}

/// The statements that put every switch back to SQLite's default.
pub(crate) const RESET_SWITCHES: &str = "PRAGMA case_sensitive_like = off;
    PRAGMA ignore_check_constraints = off;
    PRAGMA legacy_alter_table = off;
    PRAGMA recursive_triggers = off;
    PRAGMA reverse_unordered_selects = off;";

/// Whether a name belongs to Cloudflare.
pub(crate) fn is_reserved(name: &str) -> bool {
    name.get(..4).is_some_and(|start| start.eq_ignore_ascii_case("_cf_"))
}

/// Decides one action. `dropping` remembers, between calls, the table that a `DROP` named.
pub(crate) fn decide(
    gate: &Gate,
    dropping: &mut Option<String>,
    context: &AuthContext<'_>,
) -> Authorization {
    use Authorization::{Allow, Deny};
    if gate.own.load(Ordering::Acquire) {
        return Allow;
    }
    // `CREATE TEMP` has actions of its own; `CREATE TABLE temp.t` has not.
    let creates = matches!(
        context.action,
        AuthAction::CreateTable { .. }
            | AuthAction::CreateView { .. }
            | AuthAction::CreateTrigger { .. }
            | AuthAction::CreateVtable { .. }
    );
    if creates && context.database_name == Some("temp") {
        return Deny;
    }
    let unless_reserved = |name: &str| if is_reserved(name) { Deny } else { Allow };
    match context.action {
        AuthAction::Select | AuthAction::Recursive => Allow,
        AuthAction::Read { table_name, .. }
        | AuthAction::Insert { table_name }
        | AuthAction::Update { table_name, .. }
        | AuthAction::CreateTable { table_name }
        | AuthAction::AlterTable { table_name, .. } => unless_reserved(table_name),
        // `ANALYZE` and `PRAGMA optimize` visit every table; Cloudflare's own are passed over.
        AuthAction::Analyze { table_name } => {
            if is_reserved(table_name) {
                Authorization::Ignore
            } else {
                Allow
            }
        }
        AuthAction::CreateView { view_name } => unless_reserved(view_name),
        AuthAction::CreateIndex { index_name, table_name } => {
            either_reserved(index_name, table_name)
        }
        AuthAction::CreateTrigger { trigger_name, table_name } => {
            either_reserved(trigger_name, table_name)
        }
        AuthAction::DropIndex { table_name, .. } | AuthAction::DropTrigger { table_name, .. } => {
            unless_reserved(table_name)
        }
        AuthAction::Reindex { index_name } => unless_reserved(index_name),
        AuthAction::DropTable { table_name } | AuthAction::DropVtable { table_name, .. } => {
            *dropping = Some(table_name.to_owned());
            unless_reserved(table_name)
        }
        AuthAction::DropView { view_name } => {
            *dropping = Some(view_name.to_owned());
            unless_reserved(view_name)
        }
        AuthAction::Delete { table_name } => delete(dropping, table_name),
        AuthAction::CreateVtable { table_name, module_name } => {
            if is_reserved(table_name) || !listed(MODULES, module_name) { Deny } else { Allow }
        }
        AuthAction::Pragma { pragma_name, pragma_value } => pragma(gate, pragma_name, pragma_value),
        AuthAction::Function { function_name } => {
            if listed(FUNCTIONS, function_name) {
                Deny
            } else {
                Allow
            }
        }
        AuthAction::Transaction { .. } | AuthAction::Savepoint { .. } => {
            gate.transaction_refused.store(true, Ordering::Release);
            Deny
        }
        // Everything temporary, attached or unknown to this version of the library. The enum is
        // open, so a catch-all is required; refusing is its safe side.
        _ => Deny,
    }
}

fn either_reserved(first: &str, second: &str) -> Authorization {
    if is_reserved(first) || is_reserved(second) {
        Authorization::Deny
    } else {
        Authorization::Allow
    }
}

/// `Ignore` on a delete makes SQLite delete row by row, so that `DELETE FROM t` without a condition
/// is counted like any other. Inside a `DROP` it would cancel the drop, hence the memory of it.
fn delete(dropping: &mut Option<String>, table: &str) -> Authorization {
    if is_reserved(table) {
        Authorization::Deny
    } else if table.starts_with("sqlite_") || dropping.take().is_some_and(|name| name == table) {
        Authorization::Allow
    } else {
        Authorization::Ignore
    }
}

fn pragma(gate: &Gate, name: &str, value: Option<&str>) -> Authorization {
    if value.is_some_and(is_reserved) {
        return Authorization::Deny;
    }
    if listed(PRAGMAS, name) || (name.eq_ignore_ascii_case("page_size") && value.is_none()) {
        return Authorization::Allow;
    }
    if listed(SWITCHES, name) {
        gate.switched.store(true, Ordering::Release);
        return Authorization::Allow;
    }
    Authorization::Deny
}

fn listed(list: &[&str], name: &str) -> bool {
    list.iter().any(|entry| entry.eq_ignore_ascii_case(name))
}
