//! Planning and verifying where ids are rewritten in place: one database, and nothing to compare
//! it with but the journal's pairs of ids.
//!
//! A rewrite touches nothing but ids, so what there is to verify is that no old id of a mapped
//! user is left anywhere, that no reference points nowhere, and that the tables have their rows.

use std::collections::BTreeMap;
use std::sync::Arc;

use rehome_clerk::USER;
use rehome_core::journal::Reader;
use rehome_core::progress::{Progress, Watcher};
use rehome_core::{Condition, Knowledge, Known, Stage, UnitId};
use rehome_records::in_place::{self, LOT, Left, LotData, Places};
use rehome_records::verify::RowAudit;
use rehome_records::{Select, Value};

use crate::config::RecordsConfig;
use crate::connect::Databases;
use crate::document::{TableVerdict, Verdict, VerdictLine};
use crate::error::Error;
use crate::undeclared;

/// How many users' ids are counted at once.
const BATCH: usize = 5_000;

/// How many rows of each table hold ids of users whom `reader` knows and a run would move: those that
/// would be rewritten.
pub(crate) async fn count(
    databases: &Databases,
    places: &Places,
    reader: &Reader,
    watcher: &Watcher,
) -> Result<BTreeMap<String, u64>, Error> {
    let mut counts: BTreeMap<String, u64> = BTreeMap::new();
    let total = reader.counts()?.get(&USER).map(rehome_core::journal::Standing::total);
    let (mut after, mut done) = (UnitId(0), 0);
    loop {
        let users = reader.known_after(&USER, after, BATCH)?;
        let Some(last) = users.last() else { return Ok(counts) };
        after = last.id;
        let ids: Vec<_> =
            users.iter().filter(|user| moves(user)).map(|user| user.source_key.as_str()).collect();
        for (table, rows) in places.count(databases.target.as_ref(), &ids).await? {
            *counts.entry(table).or_default() += rows;
        }
        done += users.len() as u64;
        let what = "users whose rows are counted".to_owned();
        watcher.note(&Progress::Verifying { what, done, total });
    }
}

/// Whether a run would rewrite somebody's ids: whoever failed or was taken out keeps them.
fn moves(user: &Known) -> bool {
    match user.state.condition {
        Condition::Failed | Condition::Stuck | Condition::Skipped => {
            user.state.stage >= Stage::Mapped
        }
        Condition::Ready
        | Condition::Intended
        | Condition::InDoubt
        | Condition::Held
        | Condition::Undoing
        | Condition::UndoInDoubt
        | Condition::RolledBack => true,
    }
}

/// Reads the database through for old ids, counts its rows and its references that point nowhere.
pub(crate) async fn verify(
    databases: &Databases,
    records: &RecordsConfig,
    reader: &Arc<Reader>,
    watcher: &Watcher,
    verdict: &mut Verdict,
    tell: &mut (dyn FnMut(UnitId, VerdictLine) + Send),
) -> Result<(), Error> {
    let target = databases.target.as_ref();
    let tables: Vec<_> = databases.layout.tables.iter().map(|table| &table.name).collect();
    let questions = tables.iter().map(|table| {
        let table = rehome_records::database::quote_name(table);
        Select::new(["count(*)"], format!("FROM {table}"))
    });
    let answers = target.select(questions.collect()).await?;
    let mut left: BTreeMap<String, u64> = BTreeMap::new();
    watcher.note(&Progress::Verifying { what: "rows".into(), done: 0, total: None });
    let mut hear = |found: Left| {
        let Left { user, sighting } = found;
        if records.leaves(&sighting.table, &sighting.column) {
            return;
        }
        *left.entry(sighting.table.clone()).or_default() += 1;
        let detail = format!("{} still holds the old id {}", sighting.column, sighting.id);
        let line = VerdictLine {
            mark: '*',
            what: sighting.table,
            key: sighting.key,
            detail: Some(detail),
        };
        tell(user, line);
    };
    let knowledge: &dyn Knowledge = reader.as_ref();
    let prefixes = undeclared::prefixes();
    in_place::left(target, &databases.source_schema, &prefixes, knowledge, &mut hear).await?;
    for (table, answer) in tables.into_iter().zip(answers) {
        let rows = answer.first().and_then(|row| row.first()).and_then(Value::as_integer);
        let rows = rows.map_or(0, i64::unsigned_abs);
        let different = left.get(table).copied().unwrap_or(0).min(rows);
        let found = TableVerdict {
            source_rows: rows,
            target_rows: rows,
            equal: rows - different,
            different,
            ..TableVerdict::default()
        };
        verdict.tables.insert(table.clone(), found);
        let what = format!("rows of {table}");
        watcher.note(&Progress::Verifying { what, done: rows, total: Some(rows) });
    }
    verdict.orphan_ids = left.values().sum();
    let audit = RowAudit::new(
        Arc::clone(&databases.source),
        Arc::clone(&databases.target),
        Arc::clone(reader) as Arc<dyn Knowledge>,
        Arc::clone(&databases.layout),
        records.on_unmapped,
    );
    verdict.broken_references =
        audit.broken_references().await?.iter().map(|broken| broken.rows).sum();
    Ok(())
}

/// For each lot that was rewritten the first place where an old id of its users stands again.
pub(crate) fn lots(
    reader: &Reader,
    left: &BTreeMap<UnitId, VerdictLine>,
) -> Result<Vec<(String, Option<String>)>, Error> {
    let mut verdicts = Vec::new();
    let mut after = UnitId(0);
    loop {
        let lots = reader.standing_at_least(&LOT, Stage::Imported, after, 100)?;
        let Some(last) = lots.last() else { return Ok(verdicts) };
        after = last.id;
        for lot in lots {
            let LotData { after, last, .. } = LotData::of(&lot)?;
            let beyond = UnitId(after.0.saturating_add(1));
            let first = left.range(beyond..=last).next().map(|(_, line)| {
                let detail = line.detail.as_deref().unwrap_or_default();
                format!("{} row {}: {detail}", line.what, line.key)
            });
            verdicts.push((lot.source_key, first));
        }
    }
}
