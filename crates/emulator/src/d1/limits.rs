//! The numbers D1 publishes or enforces, set on a connection.
//!
//! Sources: developers.cloudflare.com/d1/platform/limits; for those the page does not name,
//! `setupSecurity` in workerd's `src/workerd/util/sqlite.c++`.

use rusqlite::Connection;
use rusqlite::limits::Limit;

/// Longest request body the API reads, in bytes (Cloudflare's general limit; D1 names none).
pub(crate) const BODY_BYTES: usize = 100 * 1024 * 1024;

/// What SQLite itself can enforce.
const LIMITS: &[(Limit, i32)] = &[
    // Published.
    (Limit::SQLITE_LIMIT_LENGTH, 2_000_000),
    (Limit::SQLITE_LIMIT_SQL_LENGTH, 100_000),
    (Limit::SQLITE_LIMIT_COLUMN, 100),
    (Limit::SQLITE_LIMIT_VARIABLE_NUMBER, 100),
    (Limit::SQLITE_LIMIT_FUNCTION_ARG, 32),
    (Limit::SQLITE_LIMIT_LIKE_PATTERN_LENGTH, 50),
    // From the engine, except its 25,000 instructions: lists of 15,000 terms and 24,000 rows of
    // VALUES were measured to pass, and this SQLite would refuse them.
    (Limit::SQLITE_LIMIT_EXPR_DEPTH, 100),
    (Limit::SQLITE_LIMIT_COMPOUND_SELECT, 5),
    (Limit::SQLITE_LIMIT_TRIGGER_DEPTH, 10),
    (Limit::SQLITE_LIMIT_ATTACHED, 0),
    (Limit::SQLITE_LIMIT_WORKER_THREADS, 0),
];

/// Sets every limit on `connection`.
///
/// # Errors
/// When SQLite does not know a limit.
pub(crate) fn apply(connection: &Connection) -> rusqlite::Result<()> {
    for (limit, value) in LIMITS {
        connection.set_limit(*limit, *value)?;
    }
    Ok(())
}
