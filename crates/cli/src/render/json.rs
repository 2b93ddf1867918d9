//! `run --json`: one event a line, the last one `finished`.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rehome_core::clock::Clock;
use rehome_core::progress::{Progress, Watch};
use rehome_migration::document::{Status, Verdict};
use schemars::JsonSchema;
use serde::Serialize;

use crate::failure::Report;
use crate::out;

/// One line of `run --json`.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct Line {
    /// When, RFC 3339.
    at: String,
    /// What happened.
    #[serde(flatten)]
    event: Event,
}

/// What happened.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(tag = "event", rename_all = "snake_case")]
pub(crate) enum Event {
    /// The run starts, or goes on.
    Started {
        /// Whether the journal held units already.
        resumed: bool,
    },
    /// A page of a source was journaled.
    Exported {
        /// What it holds: `user`, or `span` for rows, or `lot` for users whose rows are rewritten in
        /// place.
        kind: String,
        /// Units that were new.
        new: u64,
        /// Units of this kind in the journal now.
        known: u64,
        /// How many the source is thought to hold.
        total: Option<u64>,
        /// Whether that was the last page.
        done: bool,
    },
    /// Units reached a stage.
    Advanced {
        /// Their kind.
        kind: String,
        /// The stage.
        stage: String,
        /// How many.
        units: u64,
    },
    /// A unit cannot go on by itself.
    Failed {
        /// Its kind.
        kind: String,
        /// Its source id.
        source_id: String,
        /// A stable word to group by.
        code: String,
        /// What happened.
        message: String,
        /// What to do.
        hint: Option<String>,
    },
    /// A unit waits for another.
    Held {
        /// Its kind.
        kind: String,
        /// Its source id.
        source_id: String,
        /// Why.
        code: String,
    },
    /// Held units go on.
    Released {
        /// How many.
        units: u64,
    },
    /// An answer was lost; a probe settles it.
    InDoubt {
        /// The unit's kind.
        kind: String,
        /// Its source id.
        source_id: String,
        /// What was seen instead of an answer.
        reason: String,
    },
    /// Nothing moves for a while.
    Waiting {
        /// Why.
        reason: String,
        /// For how long, when that is known.
        seconds: Option<f64>,
    },
    /// Both sides are being compared.
    Verifying {
        /// Users, or a table.
        what: String,
        /// How many were compared.
        done: u64,
        /// Of how many.
        total: Option<u64>,
    },
    /// The source has moved on: units go again.
    Reopened {
        /// Their kind.
        kind: String,
        /// The state that they had reached.
        from: String,
        /// The state from which they go again.
        to: String,
        /// How many.
        units: u64,
    },
    /// Something to know that stops nobody.
    Warned {
        /// What.
        message: String,
    },
    /// What is under way ends, nothing new starts.
    Interrupted,
    /// The end; always the last line.
    Finished {
        /// The exit code.
        exit: u8,
        /// What went wrong, when the run could not go on.
        #[serde(skip_serializing_if = "Option::is_none")]
        error: Option<Box<Report>>,
        /// What the comparison found, when the run came that far.
        #[serde(skip_serializing_if = "Option::is_none")]
        verdict: Option<Box<Verdict>>,
        /// Where everything stands, as `status --json` has it; absent without a journal.
        #[serde(flatten)]
        status: Option<Box<Status>>,
    },
}

/// Writes events to standard output, each line at once.
pub(crate) struct Events {
    clock: Arc<dyn Clock>,
    /// A reader that has gone does not stop a migration.
    gone: AtomicBool,
}

impl Events {
    /// Events dated by this clock.
    pub(crate) fn new(clock: Arc<dyn Clock>) -> Self {
        Self { clock, gone: AtomicBool::new(false) }
    }

    /// Writes one.
    pub(crate) fn write(&self, event: Event) {
        if self.gone.load(Ordering::Relaxed) {
            return;
        }
        let line = Line { at: self.clock.now().to_string(), event };
        if out::print_json_line(&line).is_err() {
            self.gone.store(true, Ordering::Relaxed);
        }
    }
}

impl Watch for Events {
    fn note(&self, progress: &Progress) {
        self.write(event(progress));
    }
}

fn event(progress: &Progress) -> Event {
    match progress {
        Progress::Started { resumed } => Event::Started { resumed: *resumed },
        Progress::Exported { kind, new, known, total, done } => Event::Exported {
            kind: kind.to_string(),
            new: *new,
            known: *known,
            total: *total,
            done: *done,
        },
        Progress::Advanced { kind, stage, units } => {
            Event::Advanced { kind: kind.to_string(), stage: stage.to_string(), units: *units }
        }
        Progress::Failed { kind, source_key, failure } => Event::Failed {
            kind: kind.to_string(),
            source_id: source_key.clone(),
            code: failure.code.clone(),
            message: failure.message.clone(),
            hint: failure.hint.clone(),
        },
        Progress::Held { kind, source_key, code } => Event::Held {
            kind: kind.to_string(),
            source_id: source_key.clone(),
            code: code.clone(),
        },
        Progress::Released { units } => Event::Released { units: *units },
        Progress::InDoubt { kind, source_key, reason } => Event::InDoubt {
            kind: kind.to_string(),
            source_id: source_key.clone(),
            reason: reason.clone(),
        },
        Progress::Waiting { reason, delay } => Event::Waiting {
            reason: reason.clone(),
            seconds: delay.map(|delay| delay.as_secs_f64()),
        },
        Progress::Verifying { what, done, total } => {
            Event::Verifying { what: what.clone(), done: *done, total: *total }
        }
        Progress::Reopened { kind, from, to, units } => Event::Reopened {
            kind: kind.to_string(),
            from: from.to_string(),
            to: to.to_string(),
            units: *units,
        },
        Progress::Warned { message } => Event::Warned { message: message.clone() },
        Progress::Interrupted => Event::Interrupted,
    }
}
