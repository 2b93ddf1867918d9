//! Where a migration stands, on one screen.

use rehome_migration::document::{Status, UnitCounts};

use super::amount;
use super::style::Style;
use super::table::table;

const BAR: u64 = 24;

/// The page of `status`, also shown at the end of a run.
pub(crate) fn page(status: &Status, style: Style) -> String {
    let mut text = headline(status, style);
    // Users first: everything else follows them.
    let first = |kind: &&String| kind.as_str() != "user";
    let mut kinds: Vec<_> = status.units.keys().collect();
    kinds.sort_by_key(first);
    for kind in kinds {
        let Some(counts) = status.units.get(kind) else { continue };
        if counts.total > 0 || status.expected.contains_key(kind) {
            let expected = status.expected.get(kind).copied();
            text += &format!("\n\n{}", funnel(kind, counts, expected, style));
        }
    }
    if !status.tables.is_empty() {
        text += &format!("\n\n{}", tables(status));
    }
    let requests = &status.requests;
    let mut sent = format!(
        "requests  {} to the source, {} to the target",
        amount::count(requests.source),
        amount::count(requests.target)
    );
    if requests.source_database + requests.target_database > 0 {
        sent += &format!(
            "; databases {} and {}",
            amount::count(requests.source_database),
            amount::count(requests.target_database)
        );
    }
    text += &format!("\n\n{}", style.dim(sent));
    if !status.codes.is_empty() {
        text += &format!("\n\n{}", codes(status, style));
    }
    text
}

fn headline(status: &Status, style: Style) -> String {
    let state = match (status.complete, &status.running) {
        (_, Some(owner)) => style.cyan(format!("a run is on ({owner})")),
        (true, None) => style.green("complete"),
        (false, None) => style.yellow("not complete"),
    };
    let mut text = format!("{}  {state}", style.bold(&status.migration));
    if status.running.is_some() {
        text +=
            &format!(", {} steps in the last minute", amount::count(status.advanced_last_minute));
        if let Some(eta) = status.eta_seconds {
            text += &format!(", about {} left", amount::seconds(eta));
        }
    }
    format!("{text}\n{}", style.dim(&status.journal))
}

/// One line per stage: how many came at least so far, and how many stand there now.
fn funnel(kind: &str, counts: &UnitCounts, expected: Option<u64>, style: Style) -> String {
    let whole = expected.unwrap_or(counts.total).max(counts.total);
    let stages = [
        ("exported", counts.exported),
        ("created", counts.created),
        ("mapped", counts.mapped),
        ("imported", counts.imported),
        ("verified", counts.verified),
    ];
    // Spans and lots skip the stages that are about accounts.
    let stages = stages.into_iter().filter(|(name, _)| {
        kind == "user" || matches!(*name, "exported" | "imported" | "verified")
    });
    let stages: Vec<_> = stages.collect();
    let mut text = style.bold(amount::kind(kind));
    text += &match expected {
        Some(total) if total > counts.total => {
            format!("  {} read of {}", amount::count(counts.total), amount::count(total))
        }
        Some(_) | None => format!("  {}", amount::count(counts.total)),
    };
    for (place, (name, here)) in stages.iter().enumerate() {
        // Those who stand aside were exported too; how far they came is in `failures`.
        let aside = if place == 0 { aside(counts) } else { 0 };
        let reached: u64 = stages.iter().skip(place).map(|(_, here)| here).sum::<u64>() + aside;
        text += &format!(
            "\n  {name:<9} {} {:>10}",
            amount::bar(reached, whole, BAR),
            amount::count(reached)
        );
        let last = place + 1 == stages.len();
        if *here > 0 && !last {
            text += &style.dim(format!("   {} here now", amount::count(*here)));
        }
    }
    let apart = [
        (counts.failed, "failed"),
        (counts.held, "held"),
        (counts.stuck, "stuck"),
        (counts.skipped, "skipped"),
        (counts.rolled_back, "rolled back"),
        (counts.in_doubt, "in doubt"),
    ];
    let apart: Vec<_> = apart
        .into_iter()
        .filter(|(number, _)| *number > 0)
        .map(|(number, word)| format!("{} {word}", amount::count(number)))
        .collect();
    if !apart.is_empty() {
        text += &format!("\n  {}", style.yellow(apart.join(", ")));
    }
    text
}

fn aside(counts: &UnitCounts) -> u64 {
    counts.failed + counts.held + counts.stuck + counts.skipped + counts.rolled_back
}

fn tables(status: &Status) -> String {
    let in_place = status.units.contains_key("lot");
    let rows: Vec<_> = status
        .tables
        .iter()
        .map(|(name, counts)| {
            let waiting = match counts.waiting_spans {
                0 => String::new(),
                parts => {
                    let part = if in_place { "lot" } else { "span" };
                    format!("{} held or failed", amount::of(parts, part))
                }
            };
            vec![name.clone(), amount::count(counts.rows), amount::count(counts.imported), waiting]
        })
        .collect();
    let arrived = if in_place { "rewritten" } else { "imported" };
    table(&["table", "rows", arrived, ""], &[1, 2], &rows)
}

fn codes(status: &Status, style: Style) -> String {
    let rows: Vec<_> = status
        .codes
        .iter()
        .map(|(code, units)| vec![amount::count(*units), code.clone()])
        .collect();
    let head = style.bold("standing aside");
    let list: Vec<_> = rows.iter().map(|row| format!("  {:>9}  {}", row[0], row[1])).collect();
    format!("{head}\n{}\n  {}", list.join("\n"), style.dim("`rehome failures` says what to do"))
}
