//! `Retry-After`, in whatever form: never a wait without end.
#![no_main]

use rehome_clerk::retry_after::{LONGEST, parse};

libfuzzer_sys::fuzz_target!(init: rehome_fuzz::prepare(), |input: (i64, &str)| {
    let (now, value) = input;
    let now = jiff::Timestamp::from_millisecond(now).unwrap_or_default();
    let wait = parse(value, now);
    rehome_fuzz::understood(wait.is_some());
    assert!(wait.is_none_or(|wait| wait <= LONGEST));
});
