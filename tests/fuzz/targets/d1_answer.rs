//! An answer of D1's API under any status: understood, or called what it is.
#![no_main]

use rehome_records::hostile::d1_answer;

libfuzzer_sys::fuzz_target!(init: rehome_fuzz::prepare(), |body: &[u8]| {
    // A refusal is one of the seeds: as good as a result, if it is what D1 would send.
    let refusal = body.starts_with(br#"{"success":false,"#);
    rehome_fuzz::understood(refusal || d1_answer(200, body));
    for status in [200, 302, 400, 401, 404, 413, 429, 500, 503] {
        let understood = d1_answer(status, body);
        assert!(!understood || status == 200);
    }
});
