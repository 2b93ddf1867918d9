//! What follows from what: how one row's staying decides about others, worked out in the plan's
//! working file.

use std::collections::HashMap;

use rehome_core::{Halt, UnitId};
use rusqlite::params;

use super::reason::Reason;
use super::scratch::{Act, Scratch, key_of};
use crate::value::Value;

/// Resolves references to rows of ours, once all rows are in.
pub(super) fn link(scratch: &Scratch) -> Result<(), Halt> {
    run(
        scratch,
        &[
            "INSERT OR IGNORE INTO link (parent, child, fk)
             SELECT p.id, e.child, e.fk FROM edge e JOIN item p ON p.tbl = e.ptbl AND p.key = e.pkey",
            "DROP TABLE edge",
            "CREATE INDEX link_child ON link (child)",
        ],
    )
}

fn run(scratch: &Scratch, statements: &[&str]) -> Result<(), Halt> {
    scratch.work(|file| {
        for sql in statements {
            file.prepare(sql)?.execute([])?;
        }
        Ok(())
    })
}

/// A row that names nobody belongs to the row that it stands under: with an account that stays,
/// its rows stay whole. One that names somebody else goes with them.
pub(super) fn stay_with_account(scratch: &Scratch) -> Result<(), Halt> {
    run(
        scratch,
        &["WITH RECURSIVE below(id, cause) AS (
               SELECT l.child, l.parent FROM item p JOIN link l ON l.parent = p.id
                   JOIN item c ON c.id = l.child
                   WHERE p.code = 'account_stuck' AND c.named = 0
               UNION
               SELECT l.child, l.parent FROM below b JOIN link l ON l.parent = b.id
                   JOIN item c ON c.id = l.child WHERE c.named = 0)
           UPDATE item SET act = 2, code = 'account_stuck',
               message = 'stands under a row of an account that stays'
           WHERE act IN (0, 1) AND id IN (SELECT id FROM below)"],
    )
}

/// Leaves what neither names a selected unit nor stands under a row that does.
pub(super) fn select(scratch: &Scratch) -> Result<(), Halt> {
    run(
        scratch,
        &["WITH RECURSIVE wanted(id) AS (
               SELECT id FROM item WHERE chosen = 1
               UNION SELECT l.child FROM wanted w JOIN link l ON l.parent = w.id)
           UPDATE item SET act = 3, code = NULL, message = NULL
           WHERE id NOT IN (SELECT id FROM wanted)"],
    )
}

/// Keeps the parents of what stays, and theirs.
pub(super) fn keep_parents(scratch: &Scratch) -> Result<(), Halt> {
    run(
        scratch,
        &[
            "CREATE TABLE keep AS
             WITH RECURSIVE keep(id, cause) AS (
                 SELECT l.parent, l.child FROM item c JOIN link l ON l.child = c.id
                     JOIN item p ON p.id = l.parent
                     WHERE c.act IN (2, 3) AND p.act IN (0, 1)
                 UNION
                 SELECT l.parent, l.child FROM keep k JOIN link l ON l.child = k.id
                     JOIN item p ON p.id = l.parent WHERE p.act IN (0, 1))
             SELECT id, min(cause) AS cause FROM keep GROUP BY id",
            "UPDATE item SET act = 2, code = 'row_referred', message = '',
                 cause = keep.cause FROM keep WHERE keep.id = item.id",
            "DROP TABLE keep",
        ],
    )
}

/// Decides about earlier rows that are to be put back under a key of their own: when some of
/// what stood in their way goes, and nothing of it stays; or when somebody has emptied their
/// place, and that was asked for.
pub(super) fn earlier(scratch: &Scratch) -> Result<(), Halt> {
    run(
        scratch,
        &["WITH way AS (
               SELECT e.id, e.waiting, e.vacant,
                   count(r.key) FILTER (WHERE i.act IN (0, 1)) AS goes,
                   count(r.key) FILTER (WHERE i.act = 2) AS kept,
                   count(r.key) FILTER (WHERE i.act = 3) AS remains,
                   count(r.key) FILTER (WHERE i.id IS NULL) AS strange
               FROM earlier e LEFT JOIN rival r ON r.earlier = e.id
                   LEFT JOIN item i ON i.tbl = r.tbl AND i.key = r.key
               GROUP BY e.id)
           UPDATE earlier SET
               act = CASE WHEN way.vacant = 2 THEN 1
                          WHEN way.vacant = 1 THEN 2
                          WHEN way.goes = 0 AND way.waiting = 0 THEN 3
                          WHEN way.kept + way.strange > 0 THEN 2
                          WHEN way.remains > 0 THEN 3 ELSE 1 END,
               code = CASE WHEN way.vacant = 1 THEN 'place_empty'
                           WHEN (way.goes > 0 OR way.waiting) AND way.kept + way.strange > 0
                           THEN 'place_taken' END,
               message = CASE WHEN way.vacant = 1
                   THEN 'made room for a row of this migration that somebody has removed or '
                       || 'changed since'
                   ELSE 'cannot be put back: another row that stays has its key or one of its '
                       || 'unique values' END
           FROM way WHERE way.id = earlier.id"],
    )
}

/// Keeps rows for a reason.
pub(super) fn keep(scratch: &Scratch, rows: &[(i64, String)], reason: Reason) -> Result<(), Halt> {
    scratch.work(|file| {
        let mut keep =
            file.prepare_cached("UPDATE item SET act = 2, code = ?2, message = ?3 WHERE id = ?1")?;
        for (id, message) in rows {
            keep.execute(params![id, reason.code(), message])?;
        }
        Ok(())
    })
}

/// How often rows of ours refer to the rows of these numbers: by number and the table from
/// which they do.
pub(super) fn our_referrers(
    scratch: &Scratch,
    first: i64,
    last: i64,
) -> Result<HashMap<(i64, usize), u64>, Halt> {
    scratch.work(|file| {
        file.prepare_cached(
            "SELECT l.parent, c.tbl, count(*) FROM link l JOIN item c ON c.id = l.child
             WHERE l.parent BETWEEN ?1 AND ?2 GROUP BY 1, 2",
        )?
        .query_map([first, last], |row| {
            Ok(((row.get(0)?, row.get::<_, i64>(1)? as usize), row.get(2)?))
        })?
        .collect()
    })
}

/// Whether there is a row of ours under this key that neither went nor becomes an earlier one.
pub(super) fn wrote(scratch: &Scratch, table: usize, key: &[Value]) -> Result<bool, Halt> {
    scratch.work(|file| {
        file.prepare_cached(
            "SELECT 1 FROM item WHERE tbl = ?1 AND key = ?2 AND act <> ?3 AND went = 0",
        )?
        .exists(params![
            table as i64,
            super::scratch::key_text(key),
            Act::Restore.number()
        ])
    })
}

/// Notes that these rows of a span went.
pub(super) fn went(scratch: &Scratch, unit: UnitId, keys: &[Vec<Value>]) -> Result<(), Halt> {
    scratch.work(|file| {
        let mut note = file.prepare_cached(
            "UPDATE item SET went = 1
             WHERE unit = ?1 AND tbl = (SELECT tbl FROM item WHERE unit = ?1) AND key = ?2",
        )?;
        for key in keys {
            note.execute(params![unit.0, super::scratch::key_text(key)])?;
        }
        Ok(())
    })
}

/// How many rows of each table there are of each sort.
pub(super) fn counts(scratch: &Scratch) -> Result<Vec<Count>, Halt> {
    scratch.work(|file| {
        file.prepare_cached(
            "SELECT tbl, act, code, count(*), sum(forced) FROM item GROUP BY 1, 2, 3
             UNION ALL
             SELECT tbl, act, code, count(*), sum(forced) FROM earlier WHERE act IN (1, 2)
             GROUP BY 1, 2, 3",
        )?
        .query_map([], |row| {
            Ok(Count {
                table: row.get::<_, i64>(0)? as usize,
                act: Act::from_number(row.get(1)?),
                code: row.get(2)?,
                rows: row.get(3)?,
                forced: row.get(4)?,
            })
        })?
        .collect()
    })
}

/// A row: the table's place and its key.
pub(super) type Which = (usize, Vec<Value>);

/// How many rows of a table there are of one sort.
pub(super) struct Count {
    /// The table's place.
    pub(super) table: usize,
    /// What is to become of them.
    pub(super) act: Act,
    /// Why not.
    pub(super) code: Option<String>,
    /// How many.
    pub(super) rows: u64,
    /// How many of them go although they were changed, or come back into a place that somebody
    /// has emptied; only meant where they do.
    pub(super) forced: u64,
}

/// Which sort of rows.
#[derive(Clone, Copy)]
pub(super) enum Kept {
    /// Rows of ours.
    Rows,
    /// Earlier rows.
    Earlier,
}

/// One that stays.
pub(super) struct KeptRow {
    pub(super) id: i64,
    pub(super) table: usize,
    pub(super) key: Vec<Value>,
    pub(super) reason: Reason,
    pub(super) message: String,
    /// The row on account of which it stays.
    pub(super) cause: Option<Which>,
}

/// Spans with rows that stay because they were changed, with numbers above `after`.
pub(super) fn spans_changed(
    scratch: &Scratch,
    after: UnitId,
    limit: usize,
) -> Result<Vec<UnitId>, Halt> {
    scratch.work(|file| {
        file.prepare_cached(
            "SELECT DISTINCT unit FROM item WHERE act = 2 AND code = 'row_changed' AND unit > ?1
             ORDER BY unit LIMIT ?2",
        )?
        .query_map(params![after.0, limit as i64], |row| row.get(0).map(UnitId))?
        .collect()
    })
}

/// Adds to what is said about changed rows of a span, by number.
pub(super) fn explain(scratch: &Scratch, rows: &[(i64, String)]) -> Result<(), Halt> {
    scratch.work(|file| {
        let mut add = file.prepare_cached(
            "UPDATE item SET message = message || ?2 WHERE id = ?1 AND code = 'row_changed'",
        )?;
        for (id, words) in rows {
            add.execute(params![id, words])?;
        }
        Ok(())
    })
}

/// Those that go or come back only because somebody insists: number, table, key.
pub(super) fn forced(
    scratch: &Scratch,
    kind: Kept,
    after: i64,
    limit: usize,
) -> Result<Vec<(i64, usize, Vec<Value>)>, Halt> {
    let from = match kind {
        Kept::Rows => "item",
        Kept::Earlier => "earlier",
    };
    let rows: Vec<(i64, i64, String)> = scratch.work(|file| {
        file.prepare_cached(&format!(
            "SELECT id, tbl, key FROM {from} WHERE forced = 1 AND act IN (0, 1) AND id > ?1
             ORDER BY id LIMIT ?2"
        ))?
        .query_map(params![after, limit as i64], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?
        .collect()
    })?;
    rows.into_iter().map(|(id, table, key)| Ok((id, table as usize, key_of(&key)?))).collect()
}

/// Those that stay, with numbers above `after`.
pub(super) fn kept(
    scratch: &Scratch,
    kind: Kept,
    after: i64,
    limit: usize,
) -> Result<Vec<KeptRow>, Halt> {
    let sql = match kind {
        Kept::Rows => {
            "SELECT i.id, i.tbl, i.key, i.code, i.message, c.tbl, c.key FROM item i
             LEFT JOIN item c ON c.id = i.cause
             WHERE i.act = 2 AND i.id > ?1 ORDER BY i.id LIMIT ?2"
        }
        Kept::Earlier => {
            "SELECT id, tbl, key, code, message, NULL, NULL FROM earlier
             WHERE act = 2 AND id > ?1 ORDER BY id LIMIT ?2"
        }
    };
    type Raw = (i64, i64, String, Option<String>, Option<String>, Option<i64>, Option<String>);
    let rows: Vec<Raw> = scratch.work(|file| {
        file.prepare_cached(sql)?
            .query_map(params![after, limit as i64], |row| {
                Ok((
                    row.get(0)?,
                    row.get(1)?,
                    row.get(2)?,
                    row.get(3)?,
                    row.get(4)?,
                    row.get(5)?,
                    row.get(6)?,
                ))
            })?
            .collect()
    })?;
    rows.into_iter()
        .map(|(id, table, key, code, message, of, by)| {
            let cause = match (of, by) {
                (Some(of), Some(by)) => Some((of as usize, key_of(&by)?)),
                (_, _) => None,
            };
            Ok(KeptRow {
                id,
                table: table as usize,
                key: key_of(&key)?,
                reason: code.as_deref().and_then(Reason::from_code).unwrap_or(Reason::SpanStuck),
                message: message.unwrap_or_default(),
                cause,
            })
        })
        .collect()
}

/// The table of a row, and on account of which other row it stays.
pub(super) fn cause(scratch: &Scratch, id: i64) -> Result<(usize, Option<Which>), Halt> {
    let (table, of, by): (i64, Option<i64>, Option<String>) = scratch.work(|file| {
        file.prepare_cached(
            "SELECT i.tbl, c.tbl, c.key FROM item i LEFT JOIN item c ON c.id = i.cause
             WHERE i.id = ?1",
        )?
        .query_row([id], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))
    })?;
    Ok((
        table as usize,
        match (of, by) {
            (Some(of), Some(by)) => Some((of as usize, key_of(&by)?)),
            (_, _) => None,
        },
    ))
}
