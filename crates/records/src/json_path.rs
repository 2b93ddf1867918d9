//! The part of SQLite's JSON paths that names where an id stands inside a JSON column.
//!
//! `$.actor.id`, `$.members[0]`, `$."odd key"`, and beyond SQLite `[*]` for every element of an
//! array and `.*` for every member of an object. See <https://sqlite.org/json1.html#jpath>.

use std::fmt;

/// One step of a path.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Segment {
    /// The member of an object with this name.
    Key(String),
    /// The element of an array at this place, from 0.
    Index(usize),
    /// Every element of an array, or every member of an object.
    Every,
}

/// A path from the root `$`.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct JsonPath {
    text: String,
    segments: Vec<Segment>,
}

/// A text that is not a path.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{path:?} is not a JSON path: {why} (at character {at})")]
pub struct PathError {
    /// The text.
    pub path: String,
    /// What is wrong.
    pub why: &'static str,
    /// Where, counted from 1.
    pub at: usize,
}

impl fmt::Display for JsonPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl JsonPath {
    /// Its steps, the root not counted.
    pub fn segments(&self) -> &[Segment] {
        &self.segments
    }

    /// Whether it leads to this place, which is named without `*`.
    pub fn covers(&self, place: &[Segment]) -> bool {
        self.segments.len() == place.len()
            && self
                .segments
                .iter()
                .zip(place)
                .all(|(step, at)| *step == Segment::Every || step == at)
    }

    /// The path to a place, through every element of the arrays on the way; `None` when a name on the
    /// way cannot be written in a path.
    pub fn to(place: &[Segment]) -> Option<Self> {
        let mut text = "$".to_owned();
        for step in place {
            match step {
                Segment::Index(_) | Segment::Every => text += "[*]",
                Segment::Key(name) if name.contains('"') => return None,
                Segment::Key(name)
                    if name.is_empty() || name == "*" || name.contains(['.', '[']) =>
                {
                    text += &format!(".\"{name}\"");
                }
                Segment::Key(name) => text += &format!(".{name}"),
            }
        }
        Self::parse(&text).ok()
    }

    /// Reads a path.
    ///
    /// # Errors
    /// [`PathError`] with the place and the reason.
    pub fn parse(text: &str) -> Result<Self, PathError> {
        let characters: Vec<char> = text.chars().collect();
        let error = |why, at: usize| PathError { path: text.to_owned(), why, at: at + 1 };
        if characters.first() != Some(&'$') {
            return Err(error("it must begin with `$`", 0));
        }
        let mut segments = Vec::new();
        let mut at = 1;
        while let Some(character) = characters.get(at) {
            let begin = at;
            match character {
                '.' if characters.get(at + 1) == Some(&'"') => {
                    let close = (at + 2..characters.len())
                        .find(|index| characters.get(*index) == Some(&'"'))
                        .ok_or_else(|| error("the quote is not closed", begin + 1))?;
                    let key: String = characters.get(at + 2..close).into_iter().flatten().collect();
                    segments.push(Segment::Key(key));
                    at = close + 1;
                }
                '.' => {
                    at += 1;
                    let key: String = characters
                        .get(at..)
                        .into_iter()
                        .flatten()
                        .take_while(|c| !matches!(c, '.' | '['))
                        .collect();
                    if key.is_empty() {
                        return Err(error("a name must follow the point", begin));
                    }
                    at += key.chars().count();
                    segments.push(if key == "*" { Segment::Every } else { Segment::Key(key) });
                }
                '[' => {
                    let close = (at..characters.len())
                        .find(|index| characters.get(*index) == Some(&']'))
                        .ok_or_else(|| error("the bracket is not closed", begin))?;
                    let inner: String =
                        characters.get(at + 1..close).into_iter().flatten().collect();
                    segments.push(if inner == "*" {
                        Segment::Every
                    } else if inner.bytes().all(|b| b.is_ascii_digit()) {
                        Segment::Index(inner.parse().map_err(|_| {
                            error("a number or `*` must stand in the brackets", begin + 1)
                        })?)
                    } else {
                        return Err(error("a number or `*` must stand in the brackets", begin + 1));
                    });
                    at = close + 1;
                }
                _ => return Err(error("`.name` or `[number]` is expected here", begin)),
            }
        }
        Ok(Self { text: text.to_owned(), segments })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_usual_paths_are_read() {
        let path = JsonPath::parse("$.a.\"b c\"[0][*].*").unwrap();
        assert_eq!(
            path.segments(),
            [
                Segment::Key("a".into()),
                Segment::Key("b c".into()),
                Segment::Index(0),
                Segment::Every,
                Segment::Every
            ]
        );
        assert!(JsonPath::parse("$").unwrap().segments().is_empty());
    }

    #[test]
    fn errors_say_where() {
        for (text, at) in [
            ("", 1),
            ("a", 1),
            ("$a", 2),
            ("$.", 2),
            ("$[x]", 3),
            ("$[1", 2),
            ("$[]", 3),
            ("$.\"a", 3),
        ] {
            assert_eq!(JsonPath::parse(text).unwrap_err().at, at, "{text}");
        }
    }

    proptest! {
        #[test]
        fn no_text_panics(text in "\\$?[.\\[\\]*\"a0é]{0,12}") {
            let _result = JsonPath::parse(&text);
        }
    }
}
