//! `Retry-After` in both forms that HTTP allows: seconds, and a date (RFC 9110, 10.2.3).

use std::time::Duration;

use jiff::Timestamp;

use crate::remote_clock::parse_date;

/// No remote can send a migration to sleep for longer than this at once; it will say so again.
pub const LONGEST: Duration = Duration::from_secs(3600);

/// How long to wait, at most [`LONGEST`]; zero for a date that has passed; `None` for anything
/// that is neither a number of seconds nor a date.
pub fn parse(value: &str, now: Timestamp) -> Option<Duration> {
    let value = value.trim();
    if !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit()) {
        // A number too long for a u64 is still a number: a very long wait.
        let seconds = value.parse().unwrap_or(u64::MAX);
        return Some(Duration::from_secs(seconds).min(LONGEST));
    }
    let until = parse_date(value)?;
    let wait = Duration::try_from(until.duration_since(now)).unwrap_or(Duration::ZERO);
    Some(wait.min(LONGEST))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn now() -> Timestamp {
        "1994-11-06T08:49:07Z".parse().unwrap()
    }

    #[test]
    fn both_forms_are_read() {
        assert_eq!(parse("7", now()), Some(Duration::from_secs(7)));
        assert_eq!(parse(" 0 ", now()), Some(Duration::ZERO));
        assert_eq!(parse("Sun, 06 Nov 1994 08:49:37 GMT", now()), Some(Duration::from_secs(30)));
        assert_eq!(
            parse("Sun, 06 Nov 1994 08:00:00 GMT", now()),
            Some(Duration::ZERO),
            "a date that has passed"
        );
    }

    #[test]
    fn nonsense_is_not_a_wait_and_no_wait_is_endless() {
        for value in ["", "-1", "soon", "1.5", "06 Nov"] {
            assert_eq!(parse(value, now()), None, "{value:?}");
        }
        assert_eq!(parse("99999999999999999999999999", now()), Some(LONGEST));
        assert_eq!(parse("Sun, 06 Nov 2094 08:49:37 GMT", now()), Some(LONGEST));
    }

    proptest! {
        #[test]
        fn any_text_is_survived(value in ".*") {
            let wait = parse(&value, now());
            prop_assert!(wait.is_none_or(|wait| wait <= LONGEST));
        }

        #[test]
        fn seconds_come_back(seconds in 0u64..3600) {
            prop_assert_eq!(parse(&seconds.to_string(), now()), Some(Duration::from_secs(seconds)));
        }
    }
}
