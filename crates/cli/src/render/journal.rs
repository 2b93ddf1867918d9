//! What `rehome journal` shows to people.

use rehome_migration::journal_tools::{LogDoc, RebuildDoc, ReplayDoc, ScrubDoc};
use serde_json::Value;

use super::amount;
use super::style::Style;

/// How much of a message fits on a line of the log.
const MESSAGE: usize = 120;

/// One entry of the log, on one line.
pub(crate) fn entry(entry: &LogDoc, style: Style) -> String {
    let unit = match (&entry.kind, &entry.source_id) {
        (Some(kind), Some(key)) => format!("{kind} {key}"),
        (Some(kind), None) => kind.clone(),
        (None, _) => String::new(),
    };
    let step = match (&entry.from, &entry.to) {
        (Some(from), Some(to)) if from != to => format!("  {from} → {to}"),
        (None, Some(to)) => format!("  → {to}"),
        (Some(at), _) => format!("  at {at}"),
        (None, None) => String::new(),
    };
    let mut line = format!("{:>8}  {}  {:<13} {unit}{step}", entry.seq, entry.at, entry.event);
    if entry.attempt > 1 {
        line += &format!("  (attempt {})", entry.attempt);
    }
    if let Some(words) = why(&entry.detail) {
        line += &format!("  {}", style.dim(amount::shortened(&words, MESSAGE)));
    }
    // One entry, one line: a key of a row may hold anything.
    line.trim_end().replace('\\', "\\\\").replace('\n', "\\n").replace('\r', "\\r")
}

/// The part of a detail that tells a person most.
fn why(detail: &Value) -> Option<String> {
    let text = |value: &Value| value.as_str().map(str::to_owned);
    if let (Some(code), Some(message)) =
        (text(&detail["failure"]["code"]), text(&detail["failure"]["message"]))
    {
        return Some(format!("{code}: {message}"));
    }
    if let Some(waits) = detail["waits"].as_array().filter(|waits| !waits.is_empty()) {
        let codes: std::collections::BTreeSet<_> =
            waits.iter().filter_map(|wait| wait["code"].as_str()).collect();
        let codes = codes.into_iter().collect::<Vec<_>>().join(", ");
        return Some(format!("{codes}: waits for {}", amount::of(waits.len() as u64, "thing")));
    }
    if let Some(target) = text(&detail["target"]) {
        let origin = text(&detail["origin"]).unwrap_or_default();
        return Some(format!("{origin} {target}").trim().to_owned());
    }
    text(&detail["reason"])
}

/// The page of `journal replay`.
pub(crate) fn replay(document: &ReplayDoc, style: Style) -> String {
    let of = |number, what| match number {
        1 => format!("1 {what}y"),
        many => format!("{} {what}ies", amount::count(many)),
    };
    let read = format!(
        "{}\n{} lead to {}",
        style.dim(&document.journal),
        of(document.entries, "entr"),
        amount::of(document.units, "unit"),
    );
    match &document.difference {
        None => format!("{read}\n{}", style.green("the log leads to what the journal says")),
        Some(difference) => format!(
            "{read}\n{}\n  {}",
            style.red("the log does not lead to what the journal says; the first difference:"),
            difference.message
        ),
    }
}

/// The page of `journal scrub`.
pub(crate) fn scrub(document: &ScrubDoc, style: Style) -> String {
    let ScrubDoc { journal, entries, units, bytes_before, bytes_after } = document;
    format!(
        "{}\n{} of {} are still there, without anything about anybody\n{} bytes before, {} now; \
         {}\n`map`, `status`, `show`, `failures`, `journal log` and `journal replay` work as before; \
         `run`, `plan`, `verify`, `rollback`, `retry` and `skip` refuse from now on",
        style.dim(journal),
        amount::of(*entries, "event"),
        amount::of(*units, "unit"),
        amount::count(*bytes_before),
        amount::count(*bytes_after),
        style.green("the old pages are overwritten"),
    )
}

/// The page of `journal rebuild`.
pub(crate) fn rebuild(document: &RebuildDoc, style: Style) -> String {
    let mut text = format!(
        "{}\n{} in the source",
        style.dim(&document.journal),
        amount::of(document.users, "user"),
    );
    let mut line = |number: u64, what: &str| {
        if number > 0 {
            text += &format!("\n  {:>9}  {what}", amount::count(number));
        }
    };
    line(document.pairs, "have their account: it carries their key, and was read back");
    line(document.created, "  count as created: a rollback deletes the account");
    line(document.adopted, "  count as adopted: a rollback leaves the account alone");
    line(document.absent, "are not in the target: the next run creates them");
    line(document.by_identifier, "share an identifier with an account: the next run judges them");
    for (code, users) in &document.unclear {
        line(*users, &format!("need a person: {code}"));
    }
    text + "\nrows are found again by the next run, which leaves those that arrived as they are\n\
            cannot be known: who failed, was skipped or held, and why; which rows were there before; \
            who made an account, unless its dates were asked (--created-since)"
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn line(event: &str, detail: Value) -> String {
        let entry = LogDoc {
            seq: 7,
            at: "2026-11-23T06:00:00Z".into(),
            event: event.into(),
            kind: Some("user".into()),
            source_id: Some("user_a".into()),
            from: Some("exported".into()),
            to: Some("exported".into()),
            attempt: 2,
            detail,
        };
        super::entry(&entry, Style::PLAIN)
    }

    #[test]
    fn an_entry_is_one_line_that_says_why() {
        let failed = line("failed", json!({"failure": {"code": "c", "message": "two\nlines"}}));
        let start = "       7  2026-11-23T06:00:00Z  ";
        assert_eq!(
            failed,
            format!("{start}failed        user user_a  at exported  (attempt 2)  c: two\\nlines")
        );
        let held = line("held", json!({"waits": [{"code": "b"}, {"code": "a"}, {"code": "b"}]}));
        assert!(held.ends_with("a, b: waits for 3 things"), "{held}");
        let done = line("done", json!({"target": "user_t", "origin": "created"}));
        assert!(done.ends_with("created user_t"), "{done}");
        assert!(line("intended", Value::Null).ends_with("(attempt 2)"));
    }
}
