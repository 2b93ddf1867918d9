//! Comparing both sides afresh: users by [`rehome_clerk::audit`], rows by
//! [`rehome_records::verify`], summed up in one [`Verdict`].
//!
//! The same comparison serves `verify`, which only tells, and the last step of a run, which also
//! journals what was found (see [`crate::settle`]).

use std::collections::HashSet;
use std::sync::Arc;

use futures::future::BoxFuture;
use rehome_clerk::audit::{Audit, Finding};
use rehome_clerk::{Difference, USER, UserSource};
use rehome_core::journal::Reader;
use rehome_core::progress::{Progress, Watcher};
use rehome_core::{Condition, Exported, Failure, Knowledge, Source as _, Stage, UnitId};
use rehome_records::id_search::Sighting;
use rehome_records::span::SPAN;
use rehome_records::undo::Undoable;
use rehome_records::verify::{BrokenReference, Moved, RowAudit, RowFinding, Standing};

use crate::config::{Config, RecordsConfig};
use crate::connect::{Databases, Remotes};
use crate::document::{TableVerdict, Verdict, VerdictLine};
use crate::error::Error;
use crate::memory::JournalMemory;
use crate::undeclared;

/// What a line says of a difference that the target's application has made.
const OVERTAKEN: &str = "; only the target has changed it since a run verified it";

/// How many users are looked after at once in the second pass.
const BATCH: usize = 500;

/// What was found about one user, in the order of finding.
pub(crate) struct UserFinding {
    /// The source id; the account's, for one that only the target has.
    pub(crate) key: String,
    /// What it means; `None` for whom a person took out.
    pub(crate) line: Option<VerdictLine>,
    /// Whether a later change of the source explains the difference.
    pub(crate) explained: bool,
    /// The user as the source shows it now, when that is to be carried over.
    pub(crate) now: Option<Box<Exported>>,
    /// The two were equal once, and only the target has changed since.
    pub(crate) overtaken: bool,
    /// The source user was deleted.
    pub(crate) left: bool,
}

/// Takes findings, a page at a time, before the next page is read.
pub(crate) type Sink<'a, T> =
    &'a mut (dyn FnMut(Vec<T>) -> BoxFuture<'static, Result<(), Error>> + Send);

/// Compares all users, a page at a time.
pub(crate) async fn users(
    config: &Config,
    remotes: &Remotes,
    reader: &Arc<Reader>,
    watcher: &Watcher,
    sink: Sink<'_, UserFinding>,
) -> Result<(), Error> {
    let mut audit = Audit::new(
        remotes.source.reader.clone(),
        remotes.target.reader.clone(),
        Arc::clone(reader) as Arc<dyn Knowledge>,
        Arc::new(JournalMemory(Arc::clone(reader))),
        config.users.policy(),
    )
    .with_page(config.wiring().portions().users);
    let total = reader.counts()?.get(&USER).map(rehome_core::journal::Standing::total);
    let mut done = 0;
    let mut heard = |found: &[UserFinding]| {
        done += found.len() as u64;
        watcher.note(&Progress::Verifying { what: USER.to_string(), done, total });
    };
    loop {
        let mut found = Vec::new();
        let more = audit.step(&mut |finding| found.push(understand(finding))).await?;
        heard(&found);
        sink(found).await?;
        if !more {
            break;
        }
    }
    let mut after = UnitId(0);
    loop {
        let known = reader.known_after(&USER, after, BATCH)?;
        let Some(last) = known.last() else { return Ok(()) };
        after = last.id;
        let mut found = Vec::new();
        audit.rest(&known, &mut |finding| found.push(understand(finding))).await?;
        heard(&found);
        sink(found).await?;
    }
}

/// Walks the source for users whom the journal does not know: they came after the export.
pub(crate) async fn newcomers(
    remotes: &Remotes,
    reader: &Reader,
    tell: &mut (dyn FnMut(VerdictLine) + Send),
) -> Result<(), Error> {
    let source = UserSource::new(remotes.source.reader.clone());
    let mut cursor = None;
    let mut told = HashSet::new();
    loop {
        let page = source.next_page(cursor.take()).await?;
        let keys: Vec<_> = page.units.into_iter().map(|unit| unit.source_key).collect();
        let known = reader.by_source(&USER, &keys)?;
        for key in keys {
            // A page may be read twice.
            if !known.contains_key(&key) && told.insert(key.clone()) {
                let detail = "came after the export; `rehome run` takes the user up".to_owned();
                let what = USER.to_string();
                tell(VerdictLine { mark: '-', what, key, detail: Some(detail) });
            }
        }
        if page.done {
            return Ok(());
        }
        cursor = Some(page.cursor);
    }
}

fn understand(finding: Finding) -> UserFinding {
    let line = |mark, key: &str, detail| VerdictLine {
        mark,
        what: USER.to_string(),
        key: key.to_owned(),
        detail,
    };
    let (mut now, mut overtaken) = (None, false);
    let left = matches!(finding, Finding::Left(_));
    let (key, line, explained) = match finding {
        Finding::LeftOut { source } => {
            let (line, explained) = (None, true);
            return UserFinding { key: source, line, explained, now, overtaken, left };
        }
        Finding::Equal(pair) => (pair.source.clone(), line('=', &pair.source, None), false),
        Finding::Different { pair, differences, source_changed, now: renewed, verified } => {
            now = renewed;
            overtaken = verified && !source_changed;
            let mut detail = in_words(&differences);
            if source_changed {
                detail.push_str("; the source has changed since the export");
            } else if overtaken {
                detail.push_str(OVERTAKEN);
            }
            (pair.source.clone(), line('*', &pair.source, Some(detail)), source_changed)
        }
        Finding::Left(pair) => {
            let detail = "was deleted in the source since; the account stays".to_owned();
            (pair.source.clone(), line('+', &pair.source, Some(detail)), true)
        }
        Finding::Missing(pair) => {
            let detail = format!("the account {} is not in the target", pair.target);
            (pair.source.clone(), line('-', &pair.source, Some(detail)), false)
        }
        Finding::Extra { target } => (target.clone(), line('+', &target, None), false),
        Finding::Unchecked { source, reason } => {
            (source.clone(), line('!', &source, Some(reason)), false)
        }
    };
    UserFinding { key, line: Some(line), explained, now, overtaken, left }
}

/// The fields that differ. Values are personal data: `show` has them, a report does not.
fn in_words(differences: &[Difference]) -> String {
    let fields: Vec<_> = differences.iter().map(|difference| difference.field).collect();
    format!("differs in {}", fields.join(", "))
}

/// What was found about one span, for the journal.
pub(crate) struct SpanFinding {
    /// The span's source key.
    pub(crate) key: String,
    /// Why it differs; `None` when it does not.
    pub(crate) failure: Option<Failure>,
    /// How the source has moved on since it was written.
    pub(crate) moved: Moved,
}

/// An audit of rows by the configuration's policy.
pub(crate) fn row_audit(
    databases: &Databases,
    records: &RecordsConfig,
    reader: &Arc<Reader>,
) -> RowAudit {
    RowAudit::new(
        Arc::clone(&databases.source),
        Arc::clone(&databases.target),
        Arc::clone(reader) as Arc<dyn Knowledge>,
        Arc::clone(&databases.layout),
        records.policy(),
    )
    .knowing(Arc::clone(reader) as Arc<dyn Undoable>)
}

/// Compares all rows of both databases, whatever the journal knows of spans.
pub(crate) async fn rows(
    databases: &Databases,
    records: &RecordsConfig,
    reader: &Arc<Reader>,
    watcher: &Watcher,
    verdict: &mut Verdict,
    tell: &mut (dyn FnMut(VerdictLine) + Send),
) -> Result<(), Error> {
    let audit = row_audit(databases, records, reader);
    watcher.note(&Progress::Verifying { what: "rows".into(), done: 0, total: None });
    let mut hear = |table: &str, key: &str, finding| tell(row_line(table, key, finding));
    for report in audit.tables(&mut hear).await? {
        let table = verdict.tables.entry(report.table.clone()).or_default();
        table.source_rows += report.source_rows;
        table.target_rows += report.target_rows;
        table.equal += report.equal;
        table.missing += report.missing + report.held;
        table.different += report.different;
        table.of_the_target += report.overtaken;
        table.extra += report.extra;
        table.skipped += report.skipped;
        watcher.note(&Progress::Verifying {
            what: format!("rows of {}", report.table),
            done: report.source_rows,
            total: Some(report.source_rows),
        });
    }
    leftovers(databases, records, &audit, reader, verdict, tell).await
}

/// Compares the spans that a run has imported, and tells what to journal of each.
pub(crate) async fn spans(
    databases: &Databases,
    records: &RecordsConfig,
    reader: &Arc<Reader>,
    watcher: &Watcher,
    verdict: &mut Verdict,
    sink: Sink<'_, SpanFinding>,
) -> Result<(), Error> {
    let audit = row_audit(databases, records, reader);
    let total = reader.counts()?.get(&SPAN).map(rehome_core::journal::Standing::total);
    let mut done = 0;
    // From the last stage down: what is found equal is not met again.
    for stage in [Stage::Verified, Stage::Imported] {
        let mut after = UnitId(0);
        loop {
            let units = reader.ready(&SPAN, stage, after, 100)?;
            let Some(last) = units.last() else { break };
            after = last.id;
            for unit in units {
                let mut first = None;
                let mut hear = |table: &str, key: &str, finding| {
                    first.get_or_insert_with(|| row_line(table, key, finding));
                };
                let (report, moved) = audit.unit(&unit, &mut hear).await?;
                let table = verdict.tables.entry(report.table.clone()).or_default();
                table.source_rows += report.rows;
                table.target_rows += report.equal + report.different + report.overtaken;
                table.equal += report.equal;
                table.missing += report.missing + report.held;
                table.different += report.different;
                table.overtaken += report.overtaken;
                table.skipped += report.skipped;
                let failure = first.map(span_failure);
                sink(vec![SpanFinding { key: unit.source_key, failure, moved }]).await?;
                done += 1;
                watcher.note(&Progress::Verifying { what: "spans of rows".into(), done, total });
            }
        }
    }
    leftovers(databases, records, &audit, reader, verdict, &mut |_| {}).await
}

/// Looks at the spans that stand still because of some of their rows, and tells of those that could
/// go on, with the reason. Nothing of them counts as compared.
pub(crate) async fn standing(
    databases: &Databases,
    records: &RecordsConfig,
    reader: &Arc<Reader>,
    tell: &mut (dyn FnMut(UnitId, String) + Send),
) -> Result<(), Error> {
    let audit = row_audit(databases, records, reader);
    let mut after = UnitId(0);
    loop {
        let ids = reader.in_condition(&[Condition::Held, Condition::Failed], after, 100)?;
        let Some(last) = ids.last() else { return Ok(()) };
        after = *last;
        for id in ids {
            let unit = reader.unit(id)?;
            if unit.kind != SPAN {
                continue;
            }
            let Standing { due, failing } = audit.standing(&unit).await?;
            let told = unit.failure.as_ref().filter(|failure| failure.code != ROWS_DIFFER);
            if due > 0 {
                tell(id, format!("{due} rows can be written by now"));
            } else if let (Some(told), Ok(now)) = (told, failing)
                && unit.state.condition == Condition::Failed
                && now.as_ref() != Some(&told.message)
            {
                tell(id, "other rows stand in the way by now, or none".to_owned());
            }
        }
    }
}

/// The code of a span in which rows were found otherwise than they were written.
const ROWS_DIFFER: &str = "rows_differ";

fn span_failure(first: VerdictLine) -> Failure {
    let detail = first.detail.unwrap_or_else(|| "differs".to_owned());
    Failure::new(ROWS_DIFFER, format!("{} row {}: {detail}", first.what, first.key))
        .with_hint("`rehome verify` lists every row; settle it, then `rehome retry`")
}

fn row_line(table: &str, key: &str, finding: RowFinding) -> VerdictLine {
    let (mark, detail) = match finding {
        RowFinding::Missing => ('-', "is not in the target".to_owned()),
        RowFinding::Different(columns) => ('*', format!("differs in {}", columns.join(", "))),
        RowFinding::Overtaken(None) => ('-', format!("is not in the target{OVERTAKEN}")),
        RowFinding::Overtaken(Some(columns)) => {
            ('*', format!("differs in {}{OVERTAKEN}", columns.join(", ")))
        }
        RowFinding::Held { kind, key } => {
            ('-', format!("waits for {kind} {key}, who is not mapped"))
        }
    };
    VerdictLine { mark, what: table.to_owned(), key: key.to_owned(), detail: Some(detail) }
}

/// What no comparison of rows sees: ids of the source anywhere in the target, and foreign keys
/// that point nowhere.
async fn leftovers(
    databases: &Databases,
    records: &RecordsConfig,
    audit: &RowAudit,
    reader: &Arc<Reader>,
    verdict: &mut Verdict,
    tell: &mut (dyn FnMut(VerdictLine) + Send),
) -> Result<(), Error> {
    let mut left = |found: Sighting| {
        verdict.orphan_ids += 1;
        let detail = format!("{} still holds the source id {}", found.column, found.id);
        let Sighting { table: what, key, .. } = found;
        tell(VerdictLine { mark: '*', what, key, detail: Some(detail) });
    };
    undeclared::left_in_target(databases, records, reader.as_ref(), &mut left).await?;
    for BrokenReference { table, parent, rows } in audit.broken_references().await? {
        verdict.broken_references += rows;
        let detail = format!("{rows} of them refer to rows of {parent} that are not there");
        tell(VerdictLine { mark: '*', what: table, key: "rows".to_owned(), detail: Some(detail) });
    }
    Ok(())
}

/// Counts what was found about a user into the verdict.
pub(crate) fn count_user(verdict: &mut Verdict, finding: &UserFinding) {
    match &finding.line {
        Some(line) => count(verdict, line),
        None => verdict.users.skipped += 1,
    }
}

/// Counts a line into the verdict.
pub(crate) fn count(verdict: &mut Verdict, line: &VerdictLine) {
    let of = if line.what == USER.as_str() {
        &mut verdict.users
    } else {
        verdict.tables.entry(line.what.clone()).or_default()
    };
    add(of, line.mark, 1);
}

/// Adds so many of a mark.
pub(crate) fn add(of: &mut TableVerdict, mark: char, many: u64) {
    match mark {
        '=' => of.equal += many,
        '+' => of.extra += many,
        '-' => of.missing += many,
        '*' => of.different += many,
        _ => of.unchecked += many,
    }
}

/// Sums up.
pub(crate) fn sum(verdict: &mut Verdict) {
    let parts: Vec<_> =
        std::iter::once(&verdict.users).chain(verdict.tables.values()).cloned().collect();
    let total = |pick: fn(&TableVerdict) -> u64| parts.iter().map(pick).sum();
    verdict.equal = total(|part| part.equal);
    verdict.missing = total(|part| part.missing);
    verdict.extra = total(|part| part.extra);
    verdict.different = total(|part| part.different);
    verdict.unchecked = total(|part| part.unchecked);
    verdict.overtaken = total(|part| part.overtaken);
    verdict.of_the_target = total(|part| part.of_the_target);
    verdict.users.source_rows =
        parts[0].equal + parts[0].missing + parts[0].different + parts[0].unchecked;
    verdict.users.target_rows = parts[0].equal + parts[0].different + parts[0].extra;
    verdict.ok = verdict.missing == 0
        && verdict.different == 0
        && verdict.unchecked == 0
        && verdict.orphan_ids == 0
        && verdict.broken_references == 0;
}
