//! Strings and numbers inside a JSON text, found and replaced where they stand.
//!
//! A JSON column is an application's own text: its spaces, the order of its keys, the spelling of
//! its numbers may matter to somebody (a signature, a cache key, a diff). So nothing is parsed
//! and written anew: the byte range of each string at a path is found, and only that is changed.

use std::ops::Range;

use serde::de::IgnoredAny;

use crate::json_path::{JsonPath, Segment};

/// A text nested deeper is nobody's document; it is left as it is. serde_json reads as deep.
const DEEPEST: usize = 128;

/// A string or a number of a JSON text.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Found {
    /// Where it stands, quotes included.
    pub(crate) range: Range<usize>,
    /// What it says: the string's content, the number's spelling.
    pub(crate) text: String,
    /// Whether it is a string.
    pub(crate) quoted: bool,
}

/// The strings at `path`; `None` when the text is not JSON (or is nested deeper than 128
/// containers).
pub(crate) fn find(json: &str, path: &JsonPath) -> Option<Vec<Found>> {
    let mut found = scalars(json, path)?;
    found.retain(|one| one.quoted);
    Some(found)
}

/// The same with the numbers.
pub(crate) fn scalars(json: &str, path: &JsonPath) -> Option<Vec<Found>> {
    // Checked as a whole first: then the walk below may trust the grammar. What is ignored is
    // checked without recursion, so depth is for the walk to bound, whose stack it is.
    serde_json::from_str::<IgnoredAny>(json).ok()?;
    let mut walk = Walk { json, at: 0, depth: 0, found: Vec::new() };
    walk.value(Some(path.segments()));
    (walk.depth == 0).then_some(walk.found)
}

/// The text with each of the ranges replaced by a JSON string of the new content. The ranges
/// must not overlap; those that do not fit the text are left out.
pub(crate) fn replace(json: &str, edits: Vec<(Range<usize>, String)>) -> String {
    let raw = |(range, text)| (range, serde_json::Value::String(text).to_string());
    replace_raw(json, edits.into_iter().map(raw).collect())
}

/// The same with JSON that is put there as it is.
pub(crate) fn replace_raw(json: &str, mut edits: Vec<(Range<usize>, String)>) -> String {
    edits.sort_by_key(|(range, _)| range.start);
    let mut out = String::with_capacity(json.len());
    let mut done = 0;
    for (range, text) in edits {
        let (Some(before), true) = (json.get(done..range.start), range.end <= json.len()) else {
            continue;
        };
        out.push_str(before);
        out.push_str(&text);
        done = range.end;
    }
    out.push_str(json.get(done..).unwrap_or_default());
    out
}

struct Walk<'a> {
    json: &'a str,
    at: usize,
    /// Containers that are open here. At the end: 0, unless the text was too deep.
    depth: usize,
    found: Vec<Found>,
}

impl Walk<'_> {
    fn peek(&self) -> Option<u8> {
        self.json.as_bytes().get(self.at).copied()
    }

    fn space(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
        }
    }

    /// Passes one value. `path` is what is left of the path here; `None` off the path.
    fn value(&mut self, path: Option<&[Segment]>) {
        self.space();
        match self.peek() {
            Some(b'{') => self.container(b'}', path),
            Some(b'[') => self.container(b']', path),
            Some(b'"') => {
                let range = self.string();
                if path.is_some_and(<[Segment]>::is_empty)
                    && let Some(text) = self.decode(&range)
                {
                    self.found.push(Found { range, text, quoted: true });
                }
            }
            Some(_) => {
                // A number, true, false or null.
                let start = self.at;
                while self.peek().is_some_and(|byte| {
                    !matches!(byte, b',' | b']' | b'}' | b' ' | b'\t' | b'\n' | b'\r')
                }) {
                    self.at += 1;
                }
                let text = self.json.get(start..self.at).unwrap_or_default();
                let number = text.starts_with(|c: char| c == '-' || c.is_ascii_digit());
                if number && path.is_some_and(<[Segment]>::is_empty) {
                    let (range, text) = (start..self.at, text.to_owned());
                    self.found.push(Found { range, text, quoted: false });
                }
            }
            None => {}
        }
    }

    fn container(&mut self, close: u8, path: Option<&[Segment]>) {
        let object = close == b'}';
        self.depth += 1;
        if self.depth > DEEPEST {
            self.at = self.json.len();
            return;
        }
        self.at += 1;
        let mut index = 0;
        loop {
            self.space();
            match self.peek() {
                // Only where it was too deep, further in.
                None => return,
                Some(byte) if byte == close => {
                    self.at += 1;
                    self.depth -= 1;
                    return;
                }
                Some(b',') => {
                    self.at += 1;
                    continue;
                }
                Some(_) => {}
            }
            let key = if object {
                let range = self.string();
                let key = self.decode(&range);
                self.space();
                self.at += 1; // the colon
                key
            } else {
                None
            };
            let inside = path.and_then(<[Segment]>::split_first).and_then(|(step, rest)| {
                let meant = match step {
                    Segment::Every => true,
                    Segment::Index(wanted) => !object && *wanted == index,
                    Segment::Key(wanted) => key.as_ref() == Some(wanted),
                };
                meant.then_some(rest)
            });
            let before = self.at;
            self.value(inside);
            if self.at == before {
                // Nothing was passed: not JSON after all. Never loop.
                self.at = self.json.len();
            }
            index += 1;
        }
    }

    /// Passes a string and tells where it stood.
    fn string(&mut self) -> Range<usize> {
        let start = self.at;
        self.at += 1;
        while let Some(byte) = self.peek() {
            self.at += if byte == b'\\' { 2 } else { 1 };
            if byte == b'"' {
                break;
            }
        }
        self.at = self.at.min(self.json.len());
        start..self.at
    }

    fn decode(&self, range: &Range<usize>) -> Option<String> {
        serde_json::from_str(self.json.get(range.clone())?).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn texts(json: &str, path: &str) -> Vec<String> {
        find(json, &JsonPath::parse(path).unwrap())
            .unwrap()
            .into_iter()
            .map(|found| found.text)
            .collect()
    }

    #[test]
    fn strings_are_found_by_path_and_nothing_else_changes() {
        let json = "{ \"b\" : 1.50, \"actor\":{\"id\" : \"user_\\u0031\"},\n \"l\":[\"a\",2,[\"b\"],\"c\"], \"actor\": {\"id\":\"x\"}}";
        assert_eq!(texts(json, "$.actor.id"), ["user_1", "x"], "a repeated key too");
        assert_eq!(texts(json, "$.l[*]"), ["a", "c"]);
        assert_eq!(texts(json, "$.l[2][0]"), ["b"]);
        assert_eq!(texts(json, "$.l[1]"), Vec::<String>::new());
        let found = find(json, &JsonPath::parse("$.actor.id").unwrap()).unwrap();
        let edits = found.into_iter().map(|found| (found.range, "ne\"w".to_owned())).collect();
        assert_eq!(
            replace(json, edits),
            json.replace("\"user_\\u0031\"", "\"ne\\\"w\"").replace("\"x\"", "\"ne\\\"w\"")
        );
        assert_eq!(find("{", &JsonPath::parse("$").unwrap()), None);
        assert_eq!(texts("\"user_1\"", "$"), ["user_1"]);
    }

    #[test]
    fn a_text_nested_deeper_than_anybody_means_is_left_alone() {
        let path = JsonPath::parse("$[0]").unwrap();
        let nested = |depth: usize| format!("{}\"x\"{}", "[".repeat(depth), "]".repeat(depth));
        assert_eq!(find(&nested(DEEPEST), &path), Some(Vec::new()));
        for depth in [DEEPEST + 1, 10_000, 1_000_000] {
            assert_eq!(find(&nested(depth), &path), None, "{depth}");
        }
        let objects = format!("{}1{}", "{\"a\":".repeat(10_000), "}".repeat(10_000));
        assert_eq!(find(&objects, &path), None);
        // What only looks like nesting is text.
        assert!(find(&format!("[\"{}\\\"\"]", "[".repeat(10_000)), &path).is_some());
    }

    fn json() -> impl Strategy<Value = serde_json::Value> {
        let leaf = prop_oneof![
            Just(serde_json::Value::Null),
            any::<bool>().prop_map(serde_json::Value::from),
            any::<f64>().prop_map(serde_json::Value::from),
            any::<String>().prop_map(serde_json::Value::from),
        ];
        leaf.prop_recursive(4, 40, 5, |inner| {
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..5).prop_map(serde_json::Value::from),
                proptest::collection::btree_map("[a-c]|\\PC{0,3}", inner, 0..5)
                    .prop_map(serde_json::Value::from_iter),
            ]
        })
    }

    proptest! {
        #[test]
        fn any_text_is_safe(text in "[\\[\\]{}\":,\\\\ a0\u{e9}]{0,30}", path in "\\$(\\.a|\\[0\\]|\\[\\*\\]){0,3}") {
            let path = JsonPath::parse(&path).unwrap();
            if let Some(found) = find(&text, &path) {
                let same = found.into_iter().map(|f| (f.range, f.text)).collect();
                let _text = replace(&text, same);
            }
        }

        /// Replacing every string of a document by itself gives the same document, and what lies
        /// outside the ranges is the same bytes.
        #[test]
        fn only_the_found_bytes_change(value in json(), path in "\\$(\\.a|\\.b|\\.\\*|\\[0\\]|\\[\\*\\]){0,4}", pretty: bool) {
            let text = if pretty { serde_json::to_string_pretty(&value).unwrap() } else { value.to_string() };
            let path = JsonPath::parse(&path).unwrap();
            let found = find(&text, &path).unwrap();
            let mut expected = String::new();
            let mut done = 0;
            for one in &found {
                expected.push_str(&text[done..one.range.start]);
                expected.push_str("\"NEW\"");
                done = one.range.end;
            }
            expected.push_str(&text[done..]);
            let edits = found.iter().map(|f| (f.range.clone(), "NEW".to_owned())).collect();
            prop_assert_eq!(replace(&text, edits), expected);
            let same = found.into_iter().map(|f| (f.range, f.text)).collect();
            let back: serde_json::Value = serde_json::from_str(&replace(&text, same)).unwrap();
            prop_assert_eq!(back, value);
        }
    }
}
