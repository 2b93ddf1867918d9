//! Shows the place of a mistake in a configuration, without showing a secret that somebody
//! pasted there.

use std::ops::Range;

/// What is wrong, with line, column and the line itself.
pub(super) fn show(text: &str, span: Option<Range<usize>>, message: &str) -> String {
    let Some(start) = span.map(|span| span.start.min(text.len())) else {
        return message.to_owned();
    };
    let before = text.get(..start).unwrap_or_default();
    let number = before.matches('\n').count() + 1;
    let line_start = before.rfind('\n').map_or(0, |at| at + 1);
    let column = before.get(line_start..).unwrap_or_default().chars().count() + 1;
    let line = text.get(line_start..).unwrap_or_default().lines().next().unwrap_or_default();
    let gutter = " ".repeat(number.to_string().len());
    let pointer = " ".repeat(column - 1);
    format!(
        "line {number}, column {column}: {message}\n{gutter} |\n{number} | {}\n{gutter} | {pointer}^",
        masked(line)
    )
}

/// The line with its value hidden where that may be a secret.
fn masked(line: &str) -> String {
    let Some((key, value)) = line.split_once('=') else {
        return line.to_owned();
    };
    let secret = ["secret", "token", "key", "password"];
    let suspicious = secret.iter().any(|word| key.to_lowercase().contains(word))
        && !key.contains("publishable")
        || value.contains("sk_");
    if suspicious { format!("{key}= …") } else { line.to_owned() }
}

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
    fn secrets_are_hidden() {
        assert_eq!(masked("secret_key = \"abc\""), "secret_key = …");
        assert_eq!(masked("name = \"sk_test_abc\""), "name = …");
        assert_eq!(masked("name = \"fine\""), "name = \"fine\"");
    }
}
