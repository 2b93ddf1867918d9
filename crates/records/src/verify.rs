//! Whether the rows really are in the target: both sides read afresh, nothing journaled trusted
//! but the mapping.
//!
//! The source is cut into spans anew, so rows that came after the export are seen. Each span is
//! exchanged through the mapping, looked up in the target by key, and compared by a digest of its
//! content; where the digests differ, row by row. One span is in memory at a time. What this
//! sees: a row that is missing, altered in any bit of any carried column, or there without a
//! counterpart. What it cannot see: columns that only the target has, and a row of the
//! application that happens to stand under the key of a row that is held.

mod standing;
mod written;

use std::collections::{BTreeSet, HashSet};
use std::fmt;
use std::sync::Arc;

use rehome_core::{Halt, Knowledge, Source as _, Stage, Unit};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::database::{ReadDatabase, Select};
use crate::import::digests::RowDigest;
use crate::layout::{Form, Layout, pick};
use crate::policy::{Removed, RowPolicy, Unmapped};
use crate::resolve::Resolution;
use crate::span::{SpanData, SpanSize, SpanSource};
use crate::survey::{Past, Purpose, Surveyor, differing, show_key};
use crate::target_rows::under_keys;
use crate::undo::Undoable;
use crate::value::{Row, Value, hex};
pub use standing::{Standing, Unknowable};
use written::Written;

/// One row that is not as it should be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum RowFinding {
    /// The source has it and the target does not.
    Missing,
    /// Both have it, and it differs in these columns.
    Different(Vec<String>),
    /// A run has verified it, and since then only the target has changed it, in these columns; or has
    /// removed it. Told only where a journal says so.
    Overtaken(Option<Vec<String>>),
    /// It names somebody who is not mapped, and is therefore not there.
    Held {
        /// The kind of whom it names.
        kind: String,
        /// Their source key.
        key: String,
    },
}

/// The rows of one span, compared.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SpanReport {
    /// The table.
    pub table: String,
    /// Rows of the source.
    pub rows: u64,
    /// Equal in both.
    pub equal: u64,
    /// Only in the source.
    pub missing: u64,
    /// In both, and not equal.
    pub different: u64,
    /// Waiting for somebody who is not mapped.
    pub held: u64,
    /// Left out: by policy, or because a person took out whom they name.
    pub skipped: u64,
    /// Were verified before, have not changed in the source, and are another's by now in the target.
    /// In a comparison that is not about a unit of the journal they are also among the others.
    pub overtaken: u64,
    /// Digest of the source's rows as they should be in the target, in hexadecimal SHA-256.
    pub source_digest: String,
    /// Digest of the target's rows under the same keys.
    pub target_digest: String,
}

/// How the rows of a span have moved on in the source since they were written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Moved {
    /// Rows that this migration has not written: new ones, or such as were there before.
    pub added: u64,
    /// Rows that are not what was written.
    pub changed: u64,
    /// Rows that are not there any more, where they are to go (see [`crate::policy::Removed`]).
    pub removed: u64,
}

impl Moved {
    /// How many rows that are.
    pub const fn rows(self) -> u64 {
        self.added + self.changed + self.removed
    }
}

impl fmt::Display for Moved {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { added, changed, removed } = self;
        write!(f, "{added} rows were added, {changed} changed, {removed} removed in the source")
    }
}

/// All rows of one table, compared.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TableReport {
    /// The table as the source spells it.
    pub table: String,
    /// Rows of the source.
    pub source_rows: u64,
    /// Rows of the target.
    pub target_rows: u64,
    /// Equal in both.
    pub equal: u64,
    /// Only in the source.
    pub missing: u64,
    /// In both, and not equal.
    pub different: u64,
    /// Only in the target.
    pub extra: u64,
    /// Of the missing and the different ones: those that a run has verified, and that only the target
    /// has changed since.
    pub overtaken: u64,
    /// Waiting for somebody who is not mapped.
    pub held: u64,
    /// Left out: by policy, or because a person took out whom they name.
    pub skipped: u64,
}

/// A foreign key of the target that points nowhere.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BrokenReference {
    /// The referring table.
    pub table: String,
    /// The table that it refers to.
    pub parent: String,
    /// How many rows.
    pub rows: u64,
}

/// Compares the rows of two databases through the mapping.
pub struct RowAudit {
    surveyor: Surveyor,
    written: Option<Written>,
}

/// Told of every row that is not equal: table, key, what was found.
pub type Findings<'a> = &'a mut (dyn FnMut(&str, &str, RowFinding) + Send);

impl RowAudit {
    /// An audit of `target` against `source`.
    pub fn new(
        source: Arc<dyn ReadDatabase>,
        target: Arc<dyn ReadDatabase>,
        knowledge: Arc<dyn Knowledge>,
        layout: Arc<Layout>,
        policy: impl Into<RowPolicy>,
    ) -> Self {
        let guess = Some(Arc::default());
        let policy = policy.into();
        let surveyor = Surveyor { source, target, knowledge, layout, policy, guess, spans: None };
        Self { surveyor, written: None }
    }

    /// The same, asking a journal which rows the migration wrote. Needed where conflicts are
    /// skipped: there a row that is not like ours was either left out in favour of another, or is
    /// ours and was changed, and the databases alone do not tell. And where it is to be said of a
    /// difference that only the target has made it.
    #[must_use]
    pub fn knowing(self, spans: Arc<dyn Undoable>) -> Self {
        let written = Some(Written::new(Arc::clone(&spans)));
        Self { written, surveyor: Surveyor { spans: Some(spans), ..self.surveyor } }
    }

    /// Compares every table, in copy order.
    ///
    /// # Errors
    /// When a database or the journal cannot be read.
    pub async fn tables(&self, findings: Findings<'_>) -> Result<Vec<TableReport>, Halt> {
        let mut reports = Vec::new();
        for table in &self.surveyor.layout.tables {
            let mut report = TableReport { table: table.name.clone(), ..TableReport::default() };
            let alone = Layout { tables: vec![table.clone()] };
            let (source, target) = (&self.surveyor.source, &self.surveyor.target);
            let size = SpanSize::between(source.identity().kind, target.identity().kind);
            let spans = SpanSource::new(Arc::clone(source), Arc::new(alone)).sized(size);
            let mut cursor = None;
            loop {
                let page = spans.next_page(cursor).await?;
                for found in page.units {
                    let span: SpanData = serde_json::from_value(found.data)
                        .map_err(|error| Halt::Bug(error.to_string()))?;
                    let part = self.span(&span, findings).await?;
                    report.source_rows += part.rows;
                    report.equal += part.equal;
                    report.missing += part.missing;
                    report.different += part.different;
                    report.overtaken += part.overtaken;
                    report.held += part.held;
                    report.skipped += part.skipped;
                }
                if page.done {
                    break;
                }
                cursor = Some(page.cursor);
            }
            report.target_rows =
                self.count(table.primary.as_ref().or(table.rowid.as_ref())).await?;
            report.extra = report.target_rows.saturating_sub(report.equal + report.different);
            reports.push(report);
        }
        Ok(reports)
    }

    /// Compares one span.
    ///
    /// # Errors
    /// When a database or the journal cannot be read.
    pub async fn span(&self, span: &SpanData, findings: Findings<'_>) -> Result<SpanReport, Halt> {
        Ok(self.compare(span, &Past::default(), false, self.written.as_ref(), findings).await?.0)
    }

    /// Compares the rows of a span that was imported, and says how the source has moved on since.
    /// Rows that were verified once, and that only the target has changed since, are counted and
    /// are no finding: they are its application's.
    ///
    /// # Errors
    /// When a database or the journal cannot be read.
    pub async fn unit(
        &self,
        unit: &Unit,
        findings: Findings<'_>,
    ) -> Result<(SpanReport, Moved), Halt> {
        let past = Past::of(unit, false)?;
        let verified = unit.state.stage == Stage::Verified;
        self.compare(&SpanData::of(unit)?, &past, verified, None, findings).await
    }

    async fn compare(
        &self,
        span: &SpanData,
        past: &Past,
        verified: bool,
        written: Option<&Written>,
        findings: Findings<'_>,
    ) -> Result<(SpanReport, Moved), Halt> {
        let draft = self.surveyor.draft(span).await?;
        let mut moved = Moved::default();
        if self.surveyor.policy.removed == Removed::Delete {
            let rows = draft.rows.iter();
            let here: HashSet<Vec<Value>> = rows
                .map(|(row, _)| draft.resolved.rewrite(&draft.form, row))
                .map(|row| pick(&row, &draft.form.key))
                .collect();
            moved.removed = past.written().filter(|(key, _)| !here.contains(*key)).count() as u64;
        }
        let (form, resolved) = (&draft.form, &draft.resolved);
        let mut report = SpanReport { table: span.table.clone(), ..SpanReport::default() };
        let mut expected: Vec<(Row, Vec<Value>)> = Vec::new();
        let mut waiting: Vec<(Vec<Value>, String, String)> = Vec::new();
        for (source, named) in &draft.rows {
            report.rows += 1;
            let unmapped = named.iter().find(|mention| !resolved.targets.contains_key(mention));
            let left_out = named.iter().any(|one| *resolved.of(one) == Resolution::TakenOut);
            match (unmapped, self.surveyor.policy.unmapped) {
                (None, _) | (Some(_), Unmapped::Keep) => {
                    expected.push((Row::clone(source), resolved.rewrite(form, source)));
                }
                (Some(_), Unmapped::Skip) => report.skipped += 1,
                (Some(_), Unmapped::Hold) if left_out => report.skipped += 1,
                (Some((kind, key)), Unmapped::Hold) => {
                    waiting.push((pick(source, &form.key), kind.to_string(), key.clone()));
                }
            }
        }
        report.held = waiting.len() as u64;
        // None of them waited when the span was imported.
        moved.added = waiting.len() as u64;
        for (row, kind, key) in waiting {
            findings(&span.table, &show_key(&row), RowFinding::Held { kind, key });
        }

        let (mut sources, mut expected): (Vec<_>, Vec<_>) = expected.into_iter().unzip();
        let mut keys: Vec<_> = expected.iter().map(|row| pick(row, &form.key)).collect();
        let mut there = under_keys(self.surveyor.target.as_ref(), form, &keys).await?;
        for number in self.yielding(form, &sources, &expected, &there).await?.into_iter().rev() {
            sources.remove(number);
            expected.remove(number);
            keys.remove(number);
            there.remove(number);
            report.skipped += 1;
        }
        let absent: Vec<usize> =
            (0..there.len()).filter(|n| there.get(*n).is_some_and(Option::is_none)).collect();
        let left_out = self.left_out(form, &pick(&sources, &absent)).await?;
        // From the end, so that the numbers before remain.
        for place in left_out.into_iter().rev() {
            if let Some(number) = absent.get(place) {
                expected.remove(*number);
                there.remove(*number);
                keys.remove(*number);
                report.skipped += 1;
            }
        }
        let before: Vec<Was> =
            expected.iter().zip(&keys).map(|(row, key)| Was::of(past, key, row)).collect();
        moved.changed = before.iter().filter(|was| **was == Was::Otherwise).count() as u64;
        let mut should = Sha256::new();
        let mut is = Sha256::new();
        for (row, there) in expected.iter().zip(&there) {
            feed(row, &mut should);
            if let Some(there) = there {
                feed(there, &mut is);
            }
        }
        report.source_digest = hex(&should.finalize());
        report.target_digest = hex(&is.finalize());
        if report.source_digest == report.target_digest {
            report.equal = expected.len() as u64;
            return Ok((report, moved));
        }
        for ((row, there), was) in expected.iter().zip(&there).zip(before) {
            let key = || show_key(&pick(row, &form.key));
            if there.as_ref() != Some(row) {
                match was {
                    Was::So if verified || past.overtaken(&pick(row, &form.key)) => {
                        report.overtaken += 1;
                        continue;
                    }
                    Was::Unknown => moved.added += 1,
                    Was::So | Was::Otherwise => {}
                }
            }
            if there.as_ref() == Some(row) {
                report.equal += 1;
                continue;
            }
            let overtaken = match written {
                Some(written) => written.verified(&form.table, &pick(row, &form.key), row)?,
                None => false,
            };
            let columns = there.as_ref().map(|there| differing(form, row, there));
            match columns {
                Some(_) => report.different += 1,
                None => report.missing += 1,
            }
            report.overtaken += u64::from(overtaken);
            let finding = match columns {
                columns if overtaken => RowFinding::Overtaken(columns),
                Some(columns) => RowFinding::Different(columns),
                None => RowFinding::Missing,
            };
            findings(&span.table, &key(), finding);
        }
        Ok((report, moved))
    }

    /// Which of these rows were left out in favour of rows of the target, by the policy of their
    /// table: in ascending order.
    async fn yielding(
        &self,
        form: &Form,
        sources: &[Row],
        expected: &[Vec<Value>],
        there: &[Option<Vec<Value>>],
    ) -> Result<Vec<usize>, Halt> {
        let mut numbers = Vec::new();
        if !form.yields() {
            return Ok(numbers);
        }
        for (number, (row, there)) in expected.iter().zip(there).enumerate() {
            if there.as_ref() == Some(row) {
                continue;
            }
            let ours = match &self.written {
                Some(written) => written.wrote(&form.table, &pick(row, &form.key))?,
                None => false,
            };
            if !ours {
                numbers.push(number);
            }
        }
        let left_out = self
            .surveyor
            .left_out_for_others(form, pick(sources, &numbers), pick(expected, &numbers))
            .await?;
        Ok(left_out.iter().filter_map(|place| numbers.get(*place).copied()).collect())
    }

    /// Which of these rows of the source refer to one that is left out, and are so themselves.
    async fn left_out(&self, form: &Form, rows: &[Row]) -> Result<BTreeSet<usize>, Halt> {
        let mut found = BTreeSet::new();
        if rows.is_empty() {
            return Ok(found);
        }
        for parent in &form.parents {
            found.extend(self.surveyor.left_out(parent, rows, Purpose::Import).await?);
        }
        Ok(found)
    }

    async fn count(&self, form: Option<&Form>) -> Result<u64, Halt> {
        let Some(form) = form else {
            return Ok(0);
        };
        let query = Select::new(["count(*)"], format!("FROM {}", form.target_table()));
        let answers = self.surveyor.target.select(vec![query]).await?;
        let count = answers.first().and_then(|rows| rows.first()?.first()?.as_integer());
        Ok(count.and_then(|count| u64::try_from(count).ok()).unwrap_or(0))
    }

    /// The foreign keys of the target that point nowhere, whoever wrote them.
    ///
    /// # Errors
    /// When the target cannot be read.
    pub async fn broken_references(&self) -> Result<Vec<BrokenReference>, Halt> {
        let query = Select::new(
            ["x.\"table\"", "x.parent", "count(*)"],
            "FROM pragma_foreign_key_check AS x GROUP BY x.\"table\", x.parent \
             ORDER BY x.\"table\", x.parent",
        );
        let rows = self.surveyor.target.select(vec![query]).await?.pop().unwrap_or_default();
        Ok(rows
            .into_iter()
            .map(|row| {
                let text = |index: usize| {
                    row.get(index).and_then(Value::as_str).unwrap_or_default().to_owned()
                };
                let count = row.get(2).and_then(Value::as_integer).unwrap_or(0);
                BrokenReference {
                    table: text(0),
                    parent: text(1),
                    rows: u64::try_from(count).unwrap_or(0),
                }
            })
            .collect())
    }
}

/// What the journal knows of a row of the source as it should be in the target.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Was {
    /// It was written so.
    So,
    /// It was written, and otherwise.
    Otherwise,
    /// This migration has not written it, or the journal does not know what it was.
    Unknown,
}

impl Was {
    fn of(past: &Past, key: &Vec<Value>, row: &[Value]) -> Self {
        match past.digest(key) {
            Some(written) if written == RowDigest::of(row) => Self::So,
            // A reference may still be empty there.
            Some(_) if past.was_open(key) => Self::So,
            Some(_) => Self::Otherwise,
            None => Self::Unknown,
        }
    }
}

fn feed(row: &[Value], hash: &mut Sha256) {
    hash.update([0xff]);
    for value in row {
        value.feed(hash);
    }
}
