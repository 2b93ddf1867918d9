//! A way in for fuzz targets: what D1 answers, what stands in a JSON column, what a journal
//! says about rows. Each ends with an error or a value; what must hold of the value is asserted
//! by the targets.

use std::ops::Range;

use rehome_core::{Condition, Effect, Kind, Stage, State, Unit, UnitId};

use crate::json_path::JsonPath;
use crate::{d1, import, json_edit, span, undo};

/// What is made of an answer of D1's API; whether it was understood.
pub fn d1_answer(status: u16, body: &[u8]) -> bool {
    d1::hostile(status, body)
}

/// The strings at `path` of a JSON text, with where they stand; `None` when the text is none.
pub fn json_strings(json: &str, path: &JsonPath) -> Option<Vec<(Range<usize>, String)>> {
    let found = json_edit::find(json, path)?;
    Some(found.into_iter().map(|found| (found.range, found.text)).collect())
}

/// The text with each of the ranges replaced by a JSON string.
pub fn json_replaced(json: &str, edits: Vec<(Range<usize>, String)>) -> String {
    json_edit::replace(json, edits)
}

/// Reads JSON of a journal as everything that this crate keeps there; how often it was read.
pub fn journaled(json: &serde_json::Value) -> usize {
    let unit = Unit {
        id: UnitId(1),
        kind: Kind::new("span"),
        scope: String::new(),
        source_key: String::new(),
        target_key: None,
        origin: None,
        label: None,
        state: State::new(Stage::Exported, Condition::Ready),
        attempts: 0,
        failure: None,
        data: json.clone(),
        intent: Some(json.clone()),
        intent_void: false,
        effect: Some(Effect { intent: Some(json.clone()), data: Some(json.clone()) }),
    };
    let key = json.as_array().map(Vec::as_slice).unwrap_or_default();
    [
        span::SpanData::of(&unit).is_ok(),
        span::key_from_json(key).is_ok(),
        import::hostile(&unit),
        undo::hostile(&unit),
        undo::MentionedRow::from_json(json).is_ok(),
    ]
    .into_iter()
    .filter(|read| *read)
    .count()
}
