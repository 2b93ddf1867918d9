//! What stands aside, grouped by reason. Memory does not grow with the number of failures: of
//! each group only the count and the first few are kept.

use std::collections::BTreeMap;

use rehome_migration::document::FailureDoc;

use super::amount;
use super::style::Style;

/// How many units of a group are named.
const NAMED: usize = 5;

/// How much of a message is shown; `show` and `--json` have all of it.
const MESSAGE: usize = 200;

/// Units that stand aside for the same reason.
#[derive(Debug)]
struct Group {
    units: u64,
    hint: Option<String>,
    first: Vec<FailureDoc>,
}

/// Collects what stands aside, unit by unit.
#[derive(Debug, Default)]
pub(crate) struct Groups {
    groups: BTreeMap<(String, String, String), Group>,
}

impl Groups {
    /// Takes one unit.
    pub(crate) fn add(&mut self, failure: FailureDoc) {
        let key = (failure.state.clone(), failure.code.clone(), failure.kind.clone());
        let group = self.groups.entry(key).or_insert_with(|| Group {
            units: 0,
            hint: failure.hint.clone(),
            first: Vec::new(),
        });
        group.units += 1;
        if group.first.len() < NAMED {
            group.first.push(failure);
        }
    }

    /// The page of `failures`.
    pub(crate) fn page(&self, style: Style) -> String {
        if self.groups.is_empty() {
            return style.green("nothing is failed, held, skipped or stuck");
        }
        let mut sections = Vec::new();
        for ((state, code, kind), group) in &self.groups {
            let head = format!("{} {} ({state})", amount::count(group.units), amount::kind(kind));
            let mut text = format!("{}  {head}", style.bold(code));
            if let Some(hint) = &group.hint {
                text += &format!("\n  {} {hint}", style.yellow("hint:"));
            }
            for failure in &group.first {
                text += &format!("\n  {}", one(failure, style));
            }
            let more = group.units.saturating_sub(NAMED as u64);
            if more > 0 {
                text += &format!(
                    "\n  {}",
                    style.dim(format!(
                        "and {} more: rehome failures --code {code} --json",
                        amount::count(more)
                    ))
                );
            }
            sections.push(text);
        }
        sections.join("\n\n")
    }
}

fn one(failure: &FailureDoc, style: Style) -> String {
    let mut name = failure.source_id.clone();
    if let Some(email) = &failure.email {
        name += &format!(" {email}");
    }
    let mut text = name;
    if !failure.message.is_empty() {
        text += &format!("  {}", style.dim(amount::shortened(&failure.message, MESSAGE)));
    }
    if failure.attempts > 1 {
        text += &style.dim(format!(" ({} attempts)", failure.attempts));
    }
    text
}
