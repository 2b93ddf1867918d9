//! Rows of a journal as a damaged or forged file may hold them: replayed, or refused.
//!
//! One entry a line: unit, event, stage before, stage after, detail, with tabs between; the last
//! line is what the migration is bound to. Each detail is also read as everything that rows keep.
#![no_main]

use rehome_clerk::Journaled;
use rehome_clerk::settle::Intent;
use rehome_core::journal::hostile::{Row, Scratch};
use rehome_records::hostile::journaled;

thread_local! {
    static SCRATCH: Scratch = Scratch::new().expect("a database in memory");
}

fn row(line: &str) -> Row {
    let mut parts = line.splitn(5, '\t');
    let number = |parts: &mut std::str::SplitN<'_, char>| parts.next()?.parse().ok();
    let unit = number(&mut parts);
    let event = parts.next().unwrap_or_default().to_owned();
    let (from, to) = (number(&mut parts), number(&mut parts));
    Row { unit, event, from, to, detail: parts.next().map(str::to_owned) }
}

libfuzzer_sys::fuzz_target!(init: rehome_fuzz::prepare(), |text: &str| {
    let (log, pins) = text.rsplit_once('\n').unwrap_or((text, "{}"));
    let rows: Vec<Row> = log.lines().map(row).collect();
    SCRATCH.with(|scratch| {
        let replayed = scratch.replay(&rows, pins);
        rehome_fuzz::understood(replayed.is_ok());
        if let Ok(entries) = replayed {
            assert_eq!(entries, rows.len() as u64);
        }
    });
    let mut read = 0;
    for detail in rows.iter().filter_map(|row| row.detail.as_deref()) {
        let Ok(json) = serde_json::from_str::<serde_json::Value>(detail) else { continue };
        for part in [Some(&json), json.get("data")].into_iter().flatten() {
            read += journaled(part);
            read += usize::from(Journaled::from_json(part).is_ok());
            read += usize::from(Intent::from_json(part).is_some());
        }
    }
    rehome_fuzz::understood(read > 0);
});
