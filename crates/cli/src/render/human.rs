//! The remaining pages: check, plan, verdict, one unit.

use rehome_migration::document::{
    CheckDoc, PlanDoc, Severity, TablePlan, TableVerdict, UnitDoc, Verdict,
};

use super::amount;
use super::style::Style;
use super::table::table;

/// The page of `check`.
pub(crate) fn check(document: &CheckDoc, style: Style) -> String {
    let mut lines: Vec<_> = document
        .findings
        .iter()
        .map(|finding| {
            let mark = match finding.severity {
                Severity::Ok => style.green("ok      "),
                Severity::Note => style.cyan("note    "),
                Severity::Warning => style.yellow("warning "),
                Severity::Refused => style.red("refused "),
            };
            let mut text = format!("{mark} {}", finding.message);
            if let Some(hint) = &finding.hint {
                text += &format!("\n         {} {hint}", style.dim("→"));
            }
            text
        })
        .collect();
    lines.push(String::new());
    lines.push(if document.ok {
        style.green("a run may start; `rehome plan` says what it would do")
    } else {
        style.red("a run would be refused")
    });
    lines.join("\n")
}

/// The page of `plan`.
pub(crate) fn plan(plan: &PlanDoc, style: Style) -> String {
    let users = &plan.users;
    let mut text = format!("{}\n", style.bold(&plan.migration));
    for (what, which) in &plan.pins {
        text += &format!("  {what}  {}\n", style.dim(which));
    }
    text += &format!("\n{}  {} in the source\n", style.bold("users"), amount::count(users.total));
    let mut line = |number: u64, what: &str| {
        if number > 0 {
            text += &format!("  {:>10}  {what}\n", amount::count(number));
        }
    };
    line(users.done, "done already");
    line(users.create, "would be created");
    line(users.adopt, "have an account in the target that would be adopted");
    line(users.change, "of them were changed in the source since, and would be brought up to date");
    line(users.skip, "are left out");
    line(
        users.deleted,
        if users.accounts_go {
            "were deleted in the source since; their accounts go, unless used, changed or named by a row"
        } else {
            "were deleted in the source since; their accounts stay"
        },
    );
    for (code, number) in &users.fail {
        line(*number, &format!("would fail: {code}"));
    }
    if !users.not_carried.is_empty() {
        text += "  what the target cannot be given (the users arrive without it):\n";
        for (attribute, number) in &users.not_carried {
            text += &format!("  {:>10}  {attribute}\n", amount::count(*number));
        }
    }
    if !plan.tables.is_empty() {
        text += &format!("\n{}\n", plan_tables(plan));
        for (name, table) in &plan.tables {
            if let Some(by) = table.keys_move_by {
                text += &format!("  {} {name}: every key moves by {by}\n", style.bold("rekey"));
            }
            for conflict in &table.conflicts {
                text += &format!("  {} {name}: {conflict}\n", style.yellow("conflict"));
            }
        }
    }
    let overtaken = plan.tables.values().map(|table| table.overtaken).sum();
    if overtaken > 0 {
        text += &format!(
            "  {} only changed in the target since, and stay as they are there\n",
            amount::of(overtaken, "row")
        );
    }
    for place in &plan.undeclared {
        text += &format!("\n{} {place}", style.red("undeclared ids"));
    }
    if !plan.undeclared.is_empty() {
        text += "\n  declare them in [records.ids], or name them in records.leave_ids\n";
    }
    if let Some(rows) = plan.imported {
        text += &format!(
            "\n{} {} would be imported as files; the target database answers nobody meanwhile\n",
            style.yellow("downtime"),
            amount::of(rows, "row")
        );
    }
    text += &format!(
        "\nabout {} to the target, {} at the allowed rate\n",
        amount::of(plan.requests, "request"),
        amount::seconds(plan.seconds)
    );
    text += &if plan.ok {
        style.green("a run may start")
    } else {
        style.red("a run would be refused; `rehome check` says why")
    };
    text
}

/// A column of the plan's rows: its name, and the number of a table.
type Amount = (&'static str, fn(&TablePlan) -> u64);

fn plan_tables(plan: &PlanDoc) -> String {
    let in_place = plan.pins.get("records.mode").is_some_and(|mode| mode == "in-place");
    let mut columns: Vec<Amount> = vec![("rows", |table| table.rows)];
    if in_place {
        columns.push(("rewritten", |table| table.rewrite));
        columns.push(("as they are", |table| table.equal));
    } else {
        columns.push(("insert", |table| table.insert));
        // Only a migration that has begun has any.
        let later: [Amount; 2] =
            [("update", |table| table.update), ("remove", |table| table.remove)];
        let some = |column: &Amount| plan.tables.values().any(|table| column.1(table) > 0);
        columns.extend(later.into_iter().filter(some));
        let rest: [Amount; 5] = [
            ("equal", |table| table.equal),
            ("replace", |table| table.replace),
            ("conflict", |table| table.conflict),
            ("held", |table| table.held),
            ("skipped", |table| table.skipped),
        ];
        columns.extend(rest);
    }
    let ordered = plan.order.iter().filter_map(|name| plan.tables.get_key_value(name));
    let rest = plan.tables.iter().filter(|(name, _)| !plan.order.contains(name));
    let rows: Vec<_> = ordered
        .chain(rest)
        .map(|(name, table)| {
            let numbers = columns.iter().map(|(_, number)| amount::count(number(table)));
            let mut row = vec![name.clone()];
            row.extend(numbers);
            row.push(table.id_columns.join(", "));
            row
        })
        .collect();
    let mut header = vec!["table"];
    header.extend(columns.iter().map(|(name, _)| name));
    header.push("ids in");
    let numbers: Vec<_> = (1..=columns.len()).collect();
    table(&header, &numbers, &rows)
}

/// The page of `verify`; `partial` when only what has arrived was compared.
pub(crate) fn verdict(verdict: &Verdict, partial: bool, style: Style) -> String {
    let row = |name: &str, one: &TableVerdict| {
        let mut row = vec![name.to_owned()];
        row.extend(
            [
                one.source_rows,
                one.target_rows,
                one.equal,
                one.missing,
                one.different,
                one.extra,
                one.unchecked,
            ]
            .map(amount::count),
        );
        row
    };
    let mut rows = vec![row("users", &verdict.users)];
    rows.extend(verdict.tables.iter().map(|(name, table)| row(&format!("table {name}"), table)));
    let header =
        ["", "source", "target", "= same", "- missing", "* differ", "+ extra", "! unchecked"];
    let mut text = table(&header, &[1, 2, 3, 4, 5, 6, 7], &rows);
    let mut fault = |number: u64, what: &str| {
        if number > 0 {
            text += &format!("\n{}", style.red(format!("{} {what}", amount::count(number))));
        }
    };
    fault(verdict.orphan_ids, "source ids still stand in the target's tables");
    fault(verdict.broken_references, "rows of the target point at rows that are not there");
    let mut remark = |number: u64, what: &str| {
        if number > 0 {
            text += &format!("\n{} {what}", amount::count(number));
        }
    };
    remark(verdict.users.skipped, "users of the source were taken out");
    let skipped = verdict.tables.values().map(|table| table.skipped).sum();
    remark(skipped, "rows of the source were left out");
    let overtaken = "were changed in the target alone since a run verified them, and stay so";
    remark(verdict.overtaken, overtaken);
    let theirs = "of these differences were made in the target alone since a run verified what was \
                  there; a run leaves them";
    remark(verdict.of_the_target, theirs);
    let end = if verdict.ok && partial {
        style.yellow("what has arrived is the same on both sides; not everything has")
    } else if verdict.ok && verdict.overtaken > 0 {
        style.green("both sides are the same, but for what only the target has changed")
    } else if verdict.ok {
        style.green("both sides are the same")
    } else {
        style.red("the sides differ")
    };
    format!("{text}\n\n{end}")
}

/// How many waits of one unit are shown; a span can have thousands.
const WAITS: usize = 10;

/// The page of `show`.
pub(crate) fn unit(unit: &UnitDoc, style: Style) -> String {
    let mut text = format!("{} {}", unit.kind, style.bold(&unit.source_id));
    if let Some(label) = &unit.label {
        text += &format!("  {label}");
    }
    let target = unit.target_id.as_deref().unwrap_or("none yet");
    let origin = unit.origin.as_deref().map(|origin| format!(" ({origin})")).unwrap_or_default();
    text += &format!("\n  target    {target}{origin}");
    text += &format!("\n  stands    {}, {}", unit.stage, unit.condition);
    if let Some(failure) = &unit.failure {
        text += &format!("\n  because   {}: {}", style.yellow(&failure.code), failure.message);
        if let Some(hint) = &failure.hint {
            text += &format!("\n  {}     {hint}", style.yellow("hint:"));
        }
    }
    for wait in unit.waits.iter().take(WAITS) {
        text += &format!("\n  waits     {wait}");
    }
    let more = unit.waits.len().saturating_sub(WAITS);
    if more > 0 {
        text += &style.dim(format!("\n            and {more} more, in `show --json`"));
    }
    text += &format!("\n\n  {}", style.bold("history"));
    for entry in &unit.history {
        let step = match (&entry.from, &entry.to) {
            (Some(from), Some(to)) if from != to => format!("  {from} → {to}"),
            (None, Some(to)) => format!("  → {to}"),
            _ => String::new(),
        };
        text += &format!("\n  {:>6}  {}  {}{step}", entry.seq, entry.at, entry.event);
    }
    if let Ok(data) = serde_json::to_string_pretty(&unit.data)
        && !unit.data.is_null()
    {
        text += &format!("\n\n  {}", style.bold("as exported"));
        for line in data.lines() {
            text += &format!("\n  {line}");
        }
    }
    text
}
