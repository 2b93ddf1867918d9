//! What remains to be told of a span after a survey: what is done, what waits, what fails.

use std::collections::{BTreeMap, HashMap, HashSet};

use rehome_core::{Block, Done, Failure, Halt, Rest, Stage, Unit, Wait};
use serde::{Deserialize, Serialize};

use super::digests::{Digests, RowDigest, Written, pack, unpack};
use super::intent::KeySet;
use super::statements::Ours;
use crate::layout::Form;
use crate::rewrite::{Mention, unreadable};
use crate::span::SPAN;
use crate::survey::{Fate, Past, Planned, show_key};
use crate::value::Value;

/// How many rows a failure's message names; the others are counted.
const NAMED: usize = 5;

/// What the journal keeps of a span that was written: everything a rollback needs besides the
/// intents, and without the source.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct SpanDone {
    /// Keys of all rows of this span that this migration put into the target, so far.
    pub(crate) inserted: KeySet,
    /// What was written there, in the order of those keys. Absent in journals of the first
    /// version.
    #[serde(default, skip_serializing_if = "Digests::is_empty")]
    pub(crate) digests: Digests,
    /// Those of the inserted rows in which a reference was left empty.
    #[serde(default, skip_serializing_if = "KeySet::is_empty")]
    pub(crate) open: KeySet,
    /// Those of the inserted rows that only the target has changed since, or in which its version
    /// counts: their digests are of what the source had when that was found.
    #[serde(default, skip_serializing_if = "KeySet::is_empty")]
    pub(crate) overtaken: KeySet,
    /// Rows that the database has refused, each on its own.
    #[serde(default, skip_serializing_if = "KeySet::is_empty")]
    rejected: KeySet,
    /// What they were, in the order of those keys.
    #[serde(default, skip_serializing_if = "Digests::is_empty")]
    rejected_digests: Digests,
    /// Keys of earlier rows (see [`super::Replaced`]) that an undo is through with.
    #[serde(default, skip_serializing_if = "KeySet::is_empty")]
    pub(crate) settled: KeySet,
    /// Keys of earlier rows whose place an undo has cleared, and which are not back yet.
    #[serde(default, skip_serializing_if = "KeySet::is_empty")]
    pub(crate) waiting: KeySet,
    /// Keys of earlier rows whose place somebody else has emptied: an undo found it so and has
    /// left it at that.
    #[serde(default, skip_serializing_if = "KeySet::is_empty")]
    pub(crate) emptied: KeySet,
    /// By how much the keys of the span moved, when not with their table.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) moved: Option<i64>,
    /// How many rows were there before, equal.
    pub(crate) equal: u64,
    /// How many took the place of others.
    pub(crate) replaced: u64,
    /// How many were left out by policy.
    #[serde(default)]
    pub(crate) skipped: u64,
    /// In how many a column that should hold ids inside JSON holds something else, which was
    /// carried as it is.
    #[serde(default)]
    pub(crate) unreadable: u64,
}

impl SpanDone {
    /// What an entry of the journal holds.
    pub(crate) fn of(data: &serde_json::Value) -> Result<Self, Halt> {
        Self::deserialize(data)
            .map_err(|error| Halt::Bug(format!("what the journal keeps of a span: {error}")))
    }

    /// The rows of ours that are there, with what was written.
    pub(crate) fn rows(&self) -> Result<Vec<Written>, Halt> {
        unpack(&self.inserted, &self.digests)
    }

    /// The rows that the database has refused, with what they were.
    pub(crate) fn rejected(&self) -> Result<Vec<Written>, Halt> {
        unpack(&self.rejected, &self.rejected_digests)
    }

    /// Replaces the rows of ours.
    pub(crate) fn set_rows(&mut self, rows: &[Written]) {
        (self.inserted, self.digests) = pack(rows);
    }

    /// As the journal writes it.
    pub(crate) fn json(&self) -> Result<serde_json::Value, Halt> {
        serde_json::to_value(self).map_err(|error| Halt::Bug(error.to_string()))
    }
}

/// How many rows of a span are in the target, as far as the journal knows: those that this migration
/// wrote there and has not taken back, and those that it found there, equal. `None` when the journal
/// keeps nothing of what was written, or a scrub has left no more than that there was something.
///
/// # Errors
/// [`Halt::Bug`] when the journal holds something else.
pub fn arrived(span: &Unit) -> Result<Option<u64>, Halt> {
    let scrubbed =
        |data: &&serde_json::Value| data.as_object().is_some_and(|fields| fields.is_empty());
    let data = span.effect.as_ref().and_then(|effect| effect.data.as_ref());
    let Some(data) = data.filter(|data| !scrubbed(data)) else {
        return Ok(None);
    };
    let done = SpanDone::of(data)?;
    Ok(Some(done.inserted.len().saturating_add(done.equal)))
}

/// One row that fails: a stable word, and what to tell.
pub(crate) struct Failed {
    pub(crate) code: &'static str,
    pub(crate) message: String,
}

/// What will be true of the span once all planned writes have happened. `repeated`: see
/// [`Past::hand_on`].
pub(crate) fn done(
    form: &Form,
    planned: &[Planned],
    past: &Past,
    repeated: bool,
) -> Result<Done, Halt> {
    let mut data = SpanDone::default();
    let mut ours: Vec<Written> = Vec::new();
    let mut gone = HashSet::new();
    let mut overtaken = Vec::new();
    let mut open = Vec::new();
    let mut failed = Vec::new();
    let mut waits: BTreeMap<(String, Option<String>, Option<String>), Wait> = BTreeMap::new();
    let mut blocks = Vec::new();
    for plan in planned {
        if comes(plan) && !unreadable(form, &plan.source).is_empty() {
            data.unreadable += 1;
        }
        match &plan.fate {
            Fate::Insert
            | Fate::Complete { .. }
            | Fate::Overwrite { .. }
            | Fate::Equal { ours: true } => {
                ours.push(written(plan));
            }
            Fate::Overtaken => {
                ours.push((plan.key.clone(), Some(RowDigest::of(&plan.row))));
                overtaken.push(&plan.key);
            }
            Fate::Update { .. } | Fate::Displace { .. } => {
                ours.push(written(plan));
                data.replaced += 1;
            }
            Fate::Remove { .. } | Fate::Gone => {
                gone.insert(&plan.key);
            }
            Fate::Equal { ours: false } => data.equal += 1,
            Fate::Skipped | Fate::Yields { .. } => data.skipped += 1,
            Fate::Failed { code, message } => {
                failed.push(Failed { code, message: message.clone() });
                blocks.extend(self::blocks(&plan.mentions));
            }
            Fate::Held { code, kind, key, scope, stage } => {
                let wait = Wait {
                    code: code.clone(),
                    kind: kind.clone(),
                    key: key.clone(),
                    scope: scope.clone(),
                    stage: *stage,
                    parts: 0,
                    example: Some(format!("{} {}", form.target_table, show_key(&plan.key))),
                };
                count(&mut waits, wait);
                blocks.extend(self::blocks(&plan.mentions));
            }
        }
        if let (Some(parent), true) = (&plan.open, comes(plan)) {
            open.push(&plan.key);
            count(
                &mut waits,
                Wait {
                    code: "parent_held".to_owned(),
                    kind: SPAN,
                    key: None,
                    scope: Some(parent.clone()),
                    stage: Stage::Imported,
                    parts: 0,
                    example: Some(format!("{} {}", form.target_table, show_key(&plan.key))),
                },
            );
            blocks.extend(self::blocks(&plan.mentions));
        }
    }
    // What was ours is so until it is gone: also rows that the source has no more, and those that
    // somebody has changed.
    let known: HashSet<&Vec<Value>> = ours.iter().map(|(key, _)| key).chain(gone).collect();
    let kept: Vec<Written> = past
        .written()
        .filter(|(key, _)| !known.contains(key))
        .map(|(key, digest)| (key.clone(), digest))
        .collect();
    open.extend(kept.iter().map(|(key, _)| key).filter(|key| past.was_open(key)));
    ours.extend(kept.iter().cloned());
    data.set_rows(&ours);
    data.open = KeySet::new(open);
    data.overtaken = KeySet::new(overtaken);
    past.hand_on(&mut data, repeated);
    blocks.sort_by(|a, b| (&a.kind, &a.key).cmp(&(&b.kind, &b.key)));
    blocks.dedup();
    Ok(Done {
        target: None,
        origin: None,
        data: Some(data.json()?),
        rest: rest(&failed, waits.into_values().collect(), blocks),
    })
}

/// What is there of a row of ours, or will be once it is written.
fn written(plan: &Planned) -> Written {
    (plan.key.clone(), Some(RowDigest::of(&plan.now)))
}

fn comes(plan: &Planned) -> bool {
    plan.fate.writes() || matches!(plan.fate, Fate::Equal { .. })
}

fn count(waits: &mut BTreeMap<(String, Option<String>, Option<String>), Wait>, wait: Wait) {
    let name = (format!("{} {}", wait.code, wait.kind), wait.key.clone(), wait.scope.clone());
    waits.entry(name).or_insert(wait).parts += 1;
}

/// Whoever a row names that is not there is not complete.
pub(crate) fn blocks(mentions: &[Mention]) -> impl Iterator<Item = Block> + '_ {
    mentions.iter().map(|(kind, key)| Block { kind: kind.clone(), key: key.clone() })
}

/// A failure wins over a wait: a person is needed either way, and what waits is found again then.
fn rest(failed: &[Failed], waits: Vec<Wait>, blocks: Vec<Block>) -> Option<Rest> {
    if let Some(mut failure) = failure(failed) {
        let parts: u64 = waits.iter().map(|wait| wait.parts).sum();
        if let (Some(wait), true) = (waits.first(), parts > 0) {
            let example = wait.example.as_deref().unwrap_or("a row");
            failure
                .message
                .push_str(&format!("; besides, {parts} wait ({}: {example})", wait.code));
        }
        Some(Rest::Failed { failure, blocks })
    } else if waits.is_empty() {
        None
    } else {
        Some(Rest::Held { waits, blocks })
    }
}

/// All failing rows as one failure.
pub(crate) fn failure(failed: &[Failed]) -> Option<Failure> {
    let code = failed.first()?.code;
    let mut named: Vec<_> = failed.iter().take(NAMED).map(|f| f.message.clone()).collect();
    if failed.len() > NAMED {
        named.push(format!("and {} more rows", failed.len() - NAMED));
    }
    let hint = match code {
        "row_conflict" => {
            "decide which of the two rows is right: remove or change the one in the target, or say \
             `skip` or `replace` for the table in [records.on_conflict]; then `rehome retry`"
        }
        "value_held" => {
            "it goes on by itself (`rehome run`) once that row has changed or gone; one that the source \
             has no more goes with records.on_removed = \"delete\", or when you remove it"
        }
        "value_taken" => {
            "change the value in the source, or change or remove the row of the target that has it; then \
             `rehome run`"
        }
        "changed_on_both_sides" => {
            "decide which version is right: say `skip` for the table in [records.on_conflict] to leave \
             the target's, `replace` to write the source's, or make both alike by hand; then `rehome run`"
        }
        "removed_in_source" => {
            "remove the row in the target too, or say `skip` for the table in [records.on_conflict] to \
             leave it to the application; then `rehome run`"
        }
        "key_taken" => {
            "one key after the other was taken in the target while this run looked for one, or none is \
             left beyond its largest; `rehome retry` looks again"
        }
        "parent_missing" => {
            "add the missing row, clear the reference, or carry the table that it is in, then \
             `rehome retry`"
        }
        "row_too_large" => "shorten the row in the source, then `rehome retry`",
        _ => "mend the row in the source or the constraint in the target, then `rehome retry`",
    };
    Some(Failure::new(code, named.join("; ")).with_hint(hint))
}

/// A row that the database refused.
pub(crate) struct Refused {
    pub(crate) key: Vec<Value>,
    /// What it was to be.
    pub(crate) meant: RowDigest,
    pub(crate) message: String,
    /// What stands there of ours all the same.
    pub(crate) ours: Option<Ours>,
}

/// Adds rows that the database refused to what remains.
pub(crate) fn add_failed(
    done: &mut Done,
    form: &Form,
    refused: &[Refused],
    blocks: Vec<Block>,
) -> Result<(), Halt> {
    if refused.is_empty() {
        return Ok(());
    }
    let mut failed: Vec<_> = refused
        .iter()
        .map(|Refused { key, message, .. }| Failed {
            code: "row_rejected",
            message: format!("{} {}: {message}", form.target_table, show_key(key)),
        })
        .collect();
    let mut all = blocks;
    match done.rest.take() {
        Some(Rest::Failed { failure, blocks }) => {
            failed.push(Failed { code: "row_rejected", message: failure.message });
            all.extend(blocks);
        }
        Some(Rest::Held { blocks, .. }) => all.extend(blocks),
        Some(Rest::More) | None => {}
    }
    all.sort_by(|a, b| (&a.kind, &a.key).cmp(&(&b.kind, &b.key)));
    all.dedup();
    if let Some(failure) = failure(&failed) {
        done.rest = Some(Rest::Failed { failure, blocks: all });
    }
    // The refused rows are not there, or are as they were.
    if let Some(json) = done.data.take() {
        let mut data = SpanDone::of(&json)?;
        let rejected: Vec<Written> =
            refused.iter().map(|one| (one.key.clone(), Some(one.meant))).collect();
        let mut refused: HashMap<_, _> = refused.iter().map(|one| (&one.key, one.ours)).collect();
        let mut rows = Vec::new();
        let mut open = data.open.keys()?;
        open.retain(|key| !refused.contains_key(key));
        for (key, digest) in data.rows()? {
            match refused.remove(&key) {
                None => rows.push((key, digest)),
                Some(Some(ours)) => {
                    if ours.open {
                        open.push(key.clone());
                    }
                    rows.push((key, Some(ours.digest)));
                }
                Some(None) => {}
            }
        }
        // Rows of ours that were to go.
        let stay = refused.into_iter().filter_map(|(key, ours)| Some((key.clone(), ours?.digest)));
        rows.extend(stay.map(|(key, digest)| (key, Some(digest))));
        data.set_rows(&rows);
        data.open = KeySet::new(&open);
        (data.rejected, data.rejected_digests) = pack(&rejected);
        done.data = Some(data.json()?);
    }
    Ok(())
}
