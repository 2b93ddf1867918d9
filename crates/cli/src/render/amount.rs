//! Numbers, durations and plurals as people read them.

/// `1234567` as `1,234,567`.
pub(crate) fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// `1 user`, `1,000 users`.
pub(crate) fn of(number: u64, what: &str) -> String {
    let plural = if number == 1 { "" } else { "s" };
    format!("{} {what}{plural}", count(number))
}

/// Seconds as `12 s`, `3 min 05 s`, `2 h 07 min`.
pub(crate) fn seconds(seconds: u64) -> String {
    match (seconds / 3600, seconds / 60 % 60, seconds % 60) {
        (0, 0, s) => format!("{s} s"),
        (0, m, s) => format!("{m} min {s:02} s"),
        (h, m, _) => format!("{h} h {m:02} min"),
    }
}

/// A bar of `width` places, filled by `part` of `whole`.
pub(crate) fn bar(part: u64, whole: u64, width: u64) -> String {
    let filled = part.min(whole).saturating_mul(width).checked_div(whole).unwrap_or(0);
    let places = |number| usize::try_from(number).unwrap_or(0);
    format!("{}{}", "█".repeat(places(filled)), "░".repeat(places(width - filled)))
}

/// At most `length` characters of a text.
pub(crate) fn shortened(text: &str, length: usize) -> String {
    match text.char_indices().nth(length) {
        Some((end, _)) => format!("{}…", text.get(..end).unwrap_or_default()),
        None => text.to_owned(),
    }
}

/// What a person calls a kind of unit.
pub(crate) fn kind(kind: &str) -> &str {
    match kind {
        "user" => "users",
        "span" => "spans of rows",
        "lot" => "lots of users",
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_read_well() {
        assert_eq!([0, 999, 1000, 1_234_567].map(count), ["0", "999", "1,000", "1,234,567"]);
        assert_eq!([5, 185, 7620].map(seconds), ["5 s", "3 min 05 s", "2 h 07 min"]);
        assert_eq!((of(1, "user"), of(2, "user")), ("1 user".into(), "2 users".into()));
        assert_eq!(bar(1, 2, 4), "██░░");
        assert_eq!(
            (shortened("größer", 3), shortened("größer", 6)),
            ("grö…".into(), "größer".into())
        );
        assert_eq!(bar(3, 0, 4), "░░░░");
    }
}
