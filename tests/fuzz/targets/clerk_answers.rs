//! Every other answer of an instance: errors, the instance itself, counts.
#![no_main]

use rehome_clerk::Refusal;
use rehome_clerk::api::{Instance, TotalCount};

libfuzzer_sys::fuzz_target!(init: rehome_fuzz::prepare(), |body: &[u8]| {
    let refusal = Refusal::parse(422, body);
    let instance = serde_json::from_slice::<Instance>(body);
    let count = serde_json::from_slice::<TotalCount>(body);
    rehome_fuzz::understood(refusal.is_some() || instance.is_ok() || count.is_ok());
    if let Some(refusal) = refusal {
        assert!(!refusal.errors.is_empty());
        assert!(refusal.to_string().contains("[422"));
        assert!(refusal.has(refusal.code()));
        assert!(refusal.params().count() <= refusal.errors.len());
    }
});
