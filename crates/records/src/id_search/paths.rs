//! At which paths of a JSON text words stand.

use std::collections::{HashMap, VecDeque};

use serde_json::Value;

use crate::json_path::Segment;

/// The paths of all strings of a text, by what they say.
#[derive(Default)]
pub(super) struct Paths(HashMap<String, VecDeque<Vec<Segment>>>);

impl Paths {
    /// Those of a cell; none when it is not JSON.
    pub(super) fn of(cell: &[u8]) -> Self {
        let mut paths = Self::default();
        let begins = cell.iter().find(|byte| !byte.is_ascii_whitespace());
        if matches!(begins, Some(b'{' | b'[' | b'"'))
            && let Ok(value) = serde_json::from_slice(cell)
        {
            paths.gather(&value, &mut Vec::new());
        }
        paths
    }

    // As deep as serde_json reads, which ends at 128.
    fn gather(&mut self, value: &Value, at: &mut Vec<Segment>) {
        match value {
            Value::String(text) => {
                self.0.entry(text.clone()).or_default().push_back(at.clone());
            }
            Value::Array(elements) => {
                for (index, element) in elements.iter().enumerate() {
                    at.push(Segment::Index(index));
                    self.gather(element, at);
                    at.pop();
                }
            }
            Value::Object(members) => {
                for (name, member) in members {
                    at.push(Segment::Key(name.clone()));
                    self.gather(member, at);
                    at.pop();
                }
            }
            Value::Null | Value::Bool(_) | Value::Number(_) => {}
        }
    }

    /// Where this word stands alone; the next place with each call.
    pub(super) fn next(&mut self, word: &str) -> Option<Vec<Segment>> {
        self.0.get_mut(word)?.pop_front()
    }
}
