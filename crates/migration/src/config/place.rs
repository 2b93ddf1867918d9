//! Shows the place of a mistake in a configuration, without showing a secret that somebody
//! pasted there.

use std::ops::Range;

/// What is wrong, with line, column and the line itself.
pub(super) fn show(text: &str, span: Option<Range<usize>>, message: &str) -> String {
    let Some(start) = span.map(|span| span.start.min(text.len())) else {
        return masked(message);
    };
    let before = text.get(..start).unwrap_or_default();
    let number = before.matches('\n').count() + 1;
    let line_start = before.rfind('\n').map_or(0, |at| at + 1);
    let column = before.get(line_start..).unwrap_or_default().chars().count() + 1;
    let line = text.get(line_start..).unwrap_or_default().lines().next().unwrap_or_default();
    let gutter = " ".repeat(number.to_string().len());
    let pointer = " ".repeat(column - 1);
    format!(
        "line {number}, column {column}: {}\n{gutter} |\n{number} | {}\n{gutter} | {pointer}^",
        masked(message),
        masked(line)
    )
}

/// The text with everything hidden that could be a secret: long words of letters and digits that
/// no person would choose. Names of keys, which are plain lower-case words, stay.
fn masked(text: &str) -> String {
    let is_word = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '+' | '/' | '=');
    let mut shown = String::new();
    let mut rest = text;
    while let Some(start) = rest.find(is_word) {
        let (before, from) = rest.split_at(start);
        let (word, after) = from.split_at(from.find(|c| !is_word(c)).unwrap_or(from.len()));
        shown.push_str(before);
        let plain = word.chars().all(|c| c.is_ascii_lowercase() || matches!(c, '_' | '-'));
        let secret = word.starts_with("sk_") || (word.len() >= LONG && !plain);
        shown.push_str(if secret { "…" } else { word });
        rest = after;
    }
    shown.push_str(rest);
    shown
}

/// Shorter words are no secrets worth the name.
const LONG: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_span_of_any_text_is_shown() {
        for text in ["", "a", "ä = 1\nb", "\n\n"] {
            for start in 0..6 {
                show(text, Some(start..start + 1), "wrong");
            }
        }
    }

    #[test]
    fn secrets_are_hidden_wherever_they_stand() {
        for (line, shown) in [
            ("secret_key = \"sk_live_abc\"", "secret_key = \"…\""),
            ("secret_key: \"sk_live_abc\"", "secret_key: \"…\""),
            ("sk_test_abc", "…"),
            ("x = { api_token = \"Zk3vQ9rT1mN8pL2s\" }", "x = { api_token = \"…\" }"),
            ("name = \"test-to-live\"", "name = \"test-to-live\""),
            ("external_id = \"keep-or-source-id\"", "external_id = \"keep-or-source-id\""),
        ] {
            assert_eq!(masked(line), shown);
        }
    }
}
