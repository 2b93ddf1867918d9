//! What differs from run to run in an output, replaced by words, so that the rest can be kept as a
//! snapshot.

use insta::Settings;

/// What stands for what. Order matters: the more specific first.
const FILTERS: [(&str, &str); 9] = [
    // Wherever TMPDIR lies: a folder of tempfile's, and what is in it.
    (r"/[^\s'\x22:,)\]]*/\.tmp[A-Za-z0-9]{6}/(?:[^\s'\x22:,)\]]*/)?([A-Za-z._-]+)", "[folder]/$1"),
    (r"(?:127\.0\.0\.1|localhost):\d+", "[address]"),
    (r"\d{4}-\d{2}-\d{2}[T ]\d{2}:\d{2}:\d{2}(?:\.\d+)?(?:Z|[+-]\d{2}:\d{2})?", "[time]"),
    (r"\b(?:process|pid|PID) \d+", "process [pid]"),
    (r#""pid": ?\d+"#, r#""pid": [pid]"#),
    (r#""at": ?\d{12,}"#, r#""at": [time]"#),
    (r"\d+(?:[.,]\d+)?\s?(?:/s|per second|requests a second)", "[rate]"),
    (r"\b(?:\d+(?:\.\d+)?\s?(?:ms|µs|s|min|m|h)\b\s?)+", "[duration]"),
    (r"\b(user|ins|idn)_[0-9A-Za-z]{27}\b", "$1_[id]"),
];

/// Settings for insta with all filters; bind them around an assertion.
pub fn settings() -> Settings {
    let mut settings = Settings::clone_current();
    for (pattern, word) in FILTERS {
        settings.add_filter(pattern, word);
    }
    settings
}

#[cfg(test)]
mod tests {
    #[test]
    fn what_changes_is_replaced() {
        super::settings().bind(|| {
            insta::assert_snapshot!(
                "running since 2026-11-23T06:12:00.123Z as process 4711, 93.4/s, 1 min 20 s left\n\
                 journal /tmp/a.b/.tmpAbC0d9/work/suite.journal at http://127.0.0.1:40123/v1",
                @r"
            running since [time] as process [pid], [rate], [duration]left
            journal [folder]/suite.journal at http://[address]/v1
            "
            );
        });
    }
}
