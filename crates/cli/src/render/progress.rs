//! A run while it goes: bars on a terminal, a plain line now and then elsewhere.
//!
//! Both draw from one tally of the run's events, which starts from what the journal held before.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressState, ProgressStyle};
use rehome_core::Stage;
use rehome_core::progress::{Progress, Watch};
use rehome_migration::document::Status;

use super::amount;
use crate::context::Showing;
use crate::out::Notes;

/// How often a plain line is printed.
const EVERY: Duration = Duration::from_secs(10);

/// How far units of one kind have come.
#[derive(Clone, Debug, Default)]
struct Kind {
    known: u64,
    total: Option<u64>,
    reached: BTreeMap<Stage, u64>,
}

impl Kind {
    fn whole(&self) -> u64 {
        self.total.unwrap_or(0).max(self.known)
    }

    fn at(&self, stage: Stage) -> u64 {
        self.reached.get(&stage).copied().unwrap_or(0)
    }
}

#[derive(Debug, Default)]
struct Tally {
    kinds: BTreeMap<String, Kind>,
    failed: u64,
    held: u64,
    in_doubt: u64,
    waiting: Option<String>,
    comparing: Option<(String, u64, Option<u64>)>,
    interrupted: bool,
}

impl Tally {
    fn of(status: Option<&Status>) -> Self {
        let mut tally = Self::default();
        for (kind, counts) in status.iter().flat_map(|status| &status.units) {
            let verified = counts.verified;
            let imported = verified + counts.imported;
            let mapped = imported + counts.mapped;
            let reached = BTreeMap::from([
                (Stage::Created, mapped + counts.created),
                (Stage::Mapped, mapped),
                (Stage::Imported, imported),
                (Stage::Verified, verified),
            ]);
            let total = status.and_then(|status| status.expected.get(kind).copied());
            tally.kinds.insert(kind.clone(), Kind { known: counts.total, total, reached });
            tally.failed += counts.failed;
            tally.held += counts.held;
        }
        tally
    }

    fn take(&mut self, progress: &Progress) {
        match progress {
            // A warning is told in the words of the command, above the bars.
            Progress::Started { .. } | Progress::Warned { .. } => {}
            Progress::Exported { kind, known, total, .. } => {
                let kind = self.kinds.entry(kind.to_string()).or_default();
                kind.known = *known;
                kind.total = total.or(kind.total);
            }
            Progress::Advanced { kind, stage, units } => {
                let kind = self.kinds.entry(kind.to_string()).or_default();
                *kind.reached.entry(*stage).or_default() += units;
                self.waiting = None;
            }
            Progress::Failed { .. } => self.failed += 1,
            Progress::Held { .. } => self.held += 1,
            Progress::Released { units } => self.held = self.held.saturating_sub(*units),
            Progress::InDoubt { .. } => self.in_doubt += 1,
            Progress::Waiting { reason, delay } => {
                self.waiting = Some(match delay {
                    Some(delay) => {
                        format!("{reason} for {}", amount::seconds(delay.as_secs().max(1)))
                    }
                    None => reason.clone(),
                });
            }
            Progress::Verifying { what, done, total } => {
                self.comparing = Some((what.clone(), *done, *total));
            }
            Progress::Reopened { kind, from, to, units } => {
                let kind = self.kinds.entry(kind.to_string()).or_default();
                for (stage, reached) in &mut kind.reached {
                    if stage > to && stage <= from {
                        *reached = reached.saturating_sub(*units);
                    }
                }
            }
            Progress::Interrupted => self.interrupted = true,
        }
    }

    /// What needs a look, in a few words; empty when all is well.
    fn remarks(&self) -> String {
        let mut remarks = Vec::new();
        if self.interrupted {
            remarks.push("finishing what is under way".to_owned());
        }
        if let Some(waiting) = &self.waiting {
            remarks.push(format!("waiting: {waiting}"));
        }
        for (number, word) in [
            (self.failed, "failed"),
            (self.held, "held"),
            (self.in_doubt, "answers lost, to be settled by a look at the target"),
        ] {
            if number > 0 {
                remarks.push(format!("{} {word}", amount::count(number)));
            }
        }
        remarks.join(", ")
    }

    fn line(&self) -> String {
        let mut parts = Vec::new();
        // Users first: everything else follows them.
        let mut kinds: Vec<_> = self.kinds.iter().collect();
        kinds.sort_by_key(|(name, _)| name.as_str() != "user");
        for (name, kind) in kinds {
            let furthest = if name == "user" { Stage::Mapped } else { Stage::Imported };
            let mut part = format!("{}:", amount::kind(name));
            if name == "user" {
                part += &format!(" {} created,", amount::count(kind.at(Stage::Created)));
            }
            part += &format!(
                " {} {furthest} of {}",
                amount::count(kind.at(furthest)),
                amount::count(kind.whole())
            );
            parts.push(part);
        }
        if let Some((what, done, total)) = &self.comparing {
            let of = total.map(|total| format!(" of {}", amount::count(total)));
            parts.push(format!(
                "comparing {what}: {}{}",
                amount::count(*done),
                of.unwrap_or_default()
            ));
        }
        let remarks = self.remarks();
        if !remarks.is_empty() {
            parts.push(remarks);
        }
        parts.join("; ")
    }
}

/// Shows a run while it goes.
pub(crate) struct Board {
    tally: Mutex<Tally>,
    bars: Option<Bars>,
}

impl Board {
    /// A board that starts from where the journal stands; nothing when nothing is to be shown.
    pub(crate) fn start(
        showing: Showing,
        notes: &Notes,
        status: Option<&Status>,
    ) -> Option<Arc<Self>> {
        let tally = Tally::of(status);
        let board = match showing {
            Showing::Nothing => return None,
            Showing::Bars => {
                let bars = Bars::new(notes, &tally);
                Arc::new(Self { tally: Mutex::new(tally), bars: Some(bars) })
            }
            Showing::Lines => {
                let board = Arc::new(Self { tally: Mutex::new(tally), bars: None });
                let (weak, notes) = (Arc::downgrade(&board), notes.clone());
                tokio::spawn(async move {
                    loop {
                        tokio::time::sleep(EVERY).await;
                        let Some(board) = weak.upgrade() else { return };
                        let line =
                            board.tally.lock().unwrap_or_else(PoisonError::into_inner).line();
                        notes.say(&line);
                    }
                });
                board
            }
        };
        Some(board)
    }

    /// Takes the bars away: the page that follows says it all.
    pub(crate) fn end(&self) {
        if let Some(bars) = &self.bars {
            bars.end();
        }
    }
}

impl Watch for Board {
    fn note(&self, progress: &Progress) {
        let mut tally = self.tally.lock().unwrap_or_else(PoisonError::into_inner);
        tally.take(progress);
        if let Some(bars) = &self.bars {
            bars.draw(&tally);
        }
    }
}

struct Bars {
    read: ProgressBar,
    created: ProgressBar,
    mapped: ProgressBar,
    rows: ProgressBar,
    comparing: ProgressBar,
    remarks: ProgressBar,
}

impl Bars {
    fn new(notes: &Notes, tally: &Tally) -> Self {
        let bar = |name: &'static str| {
            let bar = notes.bars.add(ProgressBar::no_length()).with_prefix(name);
            bar.set_style(style(
                "{prefix:14} {bar:28.cyan/dim} {human_pos:>9} of {human_len:<9} {rate:>7} {msg}",
            ));
            bar
        };
        let bars = Self {
            read: bar("users read"),
            created: bar("users created"),
            mapped: bar("users mapped"),
            rows: bar("spans of rows"),
            comparing: bar("comparing"),
            remarks: notes.bars.add(ProgressBar::no_length()),
        };
        bars.remarks.set_style(style("{msg}"));
        bars.draw(tally);
        for bar in bars.all() {
            bar.reset_eta();
        }
        bars
    }

    fn all(&self) -> [&ProgressBar; 6] {
        let Self { read, created, mapped, rows, comparing, remarks } = self;
        [read, created, mapped, rows, comparing, remarks]
    }

    fn draw(&self, tally: &Tally) {
        let set = |bar: &ProgressBar, done: u64, whole: u64| {
            bar.set_length(whole.max(done));
            bar.set_position(done);
            let left = bar.eta().as_secs();
            let message = if done < whole && left > 0 {
                format!("{} left", amount::seconds(left))
            } else {
                String::new()
            };
            bar.set_message(message);
        };
        if let Some(users) = tally.kinds.get("user") {
            set(&self.read, users.known, users.whole());
            set(&self.created, users.at(Stage::Created), users.whole());
            set(&self.mapped, users.at(Stage::Mapped), users.whole());
        }
        if let Some(spans) = tally.kinds.get("span") {
            set(&self.rows, spans.at(Stage::Imported), spans.whole());
        }
        if let Some(lots) = tally.kinds.get("lot") {
            self.rows.set_prefix(amount::kind("lot").to_owned());
            set(&self.rows, lots.at(Stage::Imported), lots.whole());
        }
        if let Some((what, done, total)) = &tally.comparing {
            self.comparing.set_prefix(format!("= {what}"));
            set(&self.comparing, *done, total.unwrap_or(*done));
        }
        self.remarks.set_message(tally.remarks());
    }

    fn end(&self) {
        for bar in self.all() {
            bar.finish_and_clear();
        }
    }
}

fn style(template: &str) -> ProgressStyle {
    // The templates are constants; a wrong one would show the plain bar.
    let style = ProgressStyle::with_template(template);
    let style = style.unwrap_or_else(|_| ProgressStyle::default_bar()).progress_chars("━╸─");
    style.with_key("rate", |state: &ProgressState, out: &mut dyn std::fmt::Write| {
        let under_way = state.len().is_some_and(|whole| state.pos() < whole) && state.pos() > 0;
        if under_way {
            // A writer into memory; there is nobody to tell if it fails.
            let _unwritten = write!(out, "{:.0}/s", state.per_sec()).is_err();
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_tells_how_far_and_what_is_waited_for() {
        let user = rehome_core::Kind::new("user");
        let mut tally = Tally::default();
        for progress in [
            Progress::Started { resumed: false },
            Progress::Exported {
                kind: user.clone(),
                new: 500,
                known: 500,
                total: Some(1_200),
                done: false,
            },
            Progress::Advanced { kind: user.clone(), stage: Stage::Created, units: 40 },
            Progress::Advanced { kind: user, stage: Stage::Mapped, units: 30 },
            Progress::Waiting {
                reason: "429 of the target".into(),
                delay: Some(Duration::from_secs(12)),
            },
        ] {
            tally.take(&progress);
        }
        assert_eq!(
            tally.line(),
            "users: 40 created, 30 mapped of 1,200; waiting: 429 of the target for 12 s"
        );
    }
}
