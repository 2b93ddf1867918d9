//! A path from a configuration and a text from a JSON column: ids are exchanged where they stand,
//! and nothing else changes.
#![no_main]

use rehome_records::hostile::{json_replaced, json_strings};
use rehome_records::json_path::JsonPath;

libfuzzer_sys::fuzz_target!(init: rehome_fuzz::prepare(), |text: &str| {
    let (path, json) = text.split_once('\n').unwrap_or(("$", text));
    let path = JsonPath::parse(path);
    rehome_fuzz::understood(path.is_ok());
    let Ok(path) = path else { return };
    assert_eq!(JsonPath::parse(&path.to_string()).as_ref(), Ok(&path));
    let found = json_strings(json, &path);
    rehome_fuzz::understood(found.as_ref().is_some_and(|found| !found.is_empty()));
    let Some(found) = found else { return };
    for (range, text) in &found {
        let there = json.get(range.clone()).map(serde_json::from_str::<String>);
        assert_eq!(there.and_then(Result::ok).as_ref(), Some(text));
    }
    let kept = |json: &str| -> Vec<String> {
        json_strings(json, &path).into_iter().flatten().map(|(_, text)| text).collect()
    };
    let edits = found.iter().map(|(range, _)| (range.clone(), "user_new".to_owned())).collect();
    let edited = json_replaced(json, edits);
    assert_eq!(kept(&edited), vec!["user_new"; found.len()]);
    // And back again: only the spelling of those strings may differ.
    let again = json_strings(&edited, &path).into_iter().flatten();
    let edits = again.zip(&found).map(|((range, _), (_, old))| (range, old.clone())).collect();
    let back = json_replaced(&edited, edits);
    let value = |json: &str| serde_json::from_str::<serde_json::Value>(json).ok();
    assert_eq!(value(&back), value(json));
});
