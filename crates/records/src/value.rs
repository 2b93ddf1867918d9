//! One value of a row, exactly as SQLite stores it.
//!
//! SQLite's own types are kept apart (an integer 1 is not a real 1.0), text is bytes (it may hold
//! NUL and broken UTF-8), and reals are compared by their bits. One exception is forced by the
//! store itself: SQLite prints `-0.0` as `0.0` and saves an integral real of a REAL column as an
//! integer, so the sign of zero does not survive in every database; [`Value::same`] therefore
//! treats both zeros as one.
//!
//! There are three written forms. The *SQL literal* stands in the text of a statement. The *JSON
//! form* stands in the one string parameter that carries whole rows through `json_each`; blobs
//! and broken text become objects there, which `json_rows` decodes in SQL. The *digest
//! form* feeds a hash and is different for any two values that are not the same.

use std::fmt::Write as _;
use std::sync::Arc;

use sha2::{Digest, Sha256};

/// A value with its storage class. A copy shares its content: a row is there as the source has it,
/// as the target is to have it, and by its key.
#[derive(Clone, Debug)]
pub enum Value {
    /// SQL NULL.
    Null,
    /// A 64-bit integer.
    Integer(i64),
    /// A double; may be infinite, never NaN (SQLite stores NaN as NULL).
    Real(f64),
    /// Text as its bytes, valid UTF-8 or not.
    Text(Arc<[u8]>),
    /// Bytes.
    Blob(Arc<[u8]>),
}

/// A row that is held at several places at once. A span is many of them.
pub(crate) type Row = Arc<[Value]>;

impl PartialEq for Value {
    /// See [`Value::same`].
    fn eq(&self, other: &Self) -> bool {
        self.same(other)
    }
}

impl Eq for Value {}

impl std::hash::Hash for Value {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        std::mem::discriminant(self).hash(state);
        match self {
            Self::Null => {}
            Self::Integer(number) => number.hash(state),
            Self::Real(number) => real_bits(*number).hash(state),
            Self::Text(bytes) | Self::Blob(bytes) => bytes.hash(state),
        }
    }
}

/// A JSON document that is not the written form of a value.
#[derive(Debug, thiserror::Error)]
#[error("not the written form of a database value: {0}")]
pub struct NotAValue(String);

fn real_bits(number: f64) -> u64 {
    // Both zeros are one; see the module's text.
    if number == 0.0 { 0 } else { number.to_bits() }
}

impl Value {
    /// Text from a string.
    pub fn text(text: impl Into<String>) -> Self {
        Self::Text(text.into().into_bytes().into())
    }

    /// Whether both are the same value of the same storage class, reals by their bits (but for
    /// the sign of zero).
    pub fn same(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Null, Self::Null) => true,
            (Self::Integer(a), Self::Integer(b)) => a == b,
            (Self::Real(a), Self::Real(b)) => real_bits(*a) == real_bits(*b),
            (Self::Text(a), Self::Text(b)) | (Self::Blob(a), Self::Blob(b)) => a == b,
            (Self::Null | Self::Integer(_) | Self::Real(_) | Self::Text(_) | Self::Blob(_), _) => {
                false
            }
        }
    }

    /// Whether it is NULL.
    pub const fn is_null(&self) -> bool {
        matches!(self, Self::Null)
    }

    /// The text, when it is text and valid UTF-8.
    pub fn as_str(&self) -> Option<&str> {
        match self {
            Self::Text(bytes) => std::str::from_utf8(bytes).ok(),
            Self::Null | Self::Integer(_) | Self::Real(_) | Self::Blob(_) => None,
        }
    }

    /// The integer, when it is one.
    pub const fn as_integer(&self) -> Option<i64> {
        match self {
            Self::Integer(number) => Some(*number),
            Self::Null | Self::Real(_) | Self::Text(_) | Self::Blob(_) => None,
        }
    }

    /// Roughly how many bytes SQLite needs for it; exact for text and blobs.
    pub fn size(&self) -> usize {
        match self {
            Self::Null => 1,
            Self::Integer(_) | Self::Real(_) => 9,
            Self::Text(bytes) | Self::Blob(bytes) => bytes.len() + 2,
        }
    }

    /// The value as an SQL expression without affinity. Holds no `;`, because D1's server splits
    /// the text of a request there (cloudflare/workers-sdk issues 14991 and 15178).
    pub fn to_sql(&self) -> String {
        match self {
            Self::Null => "NULL".to_owned(),
            Self::Integer(number) => number.to_string(),
            Self::Real(number) => real_literal(*number),
            Self::Text(bytes) => match std::str::from_utf8(bytes) {
                Ok(text) if !text.contains(['\0', ';', '\r', '\n']) => {
                    format!("'{}'", text.replace('\'', "''"))
                }
                // The plus sign takes away the affinity that a cast has.
                Ok(_) | Err(_) => format!("(+cast(x'{}' as text))", hex(bytes)),
            },
            Self::Blob(bytes) => format!("x'{}'", hex(bytes)),
        }
    }

    /// Appends the JSON form: NULL, numbers and text as themselves (a real always with a point
    /// or an exponent), a blob as `{"x":"<hex>"}`, text that is not UTF-8 as `{"t":"<hex>"}`.
    pub fn push_json(&self, out: &mut String) {
        match self {
            Self::Null => out.push_str("null"),
            Self::Integer(number) => {
                let _ = write!(out, "{number}");
            }
            Self::Real(number) => out.push_str(&real_literal(*number)),
            Self::Text(bytes) => match std::str::from_utf8(bytes) {
                Ok(text) => push_json_string(text, out),
                Err(_) => {
                    let _ = write!(out, "{{\"t\":\"{}\"}}", hex(bytes));
                }
            },
            Self::Blob(bytes) => {
                let _ = write!(out, "{{\"x\":\"{}\"}}", hex(bytes));
            }
        }
    }

    /// The same form as a document for the journal; an infinity becomes `{"r":"9e999"}`.
    pub fn to_json(&self) -> serde_json::Value {
        use serde_json::{Number, json};
        match self {
            Self::Null => serde_json::Value::Null,
            Self::Integer(number) => json!(number),
            Self::Real(number) => Number::from_f64(*number)
                .map_or_else(|| json!({ "r": real_literal(*number) }), serde_json::Value::Number),
            Self::Text(bytes) => std::str::from_utf8(bytes)
                .map_or_else(|_| json!({ "t": hex(bytes) }), |text| json!(text)),
            Self::Blob(bytes) => json!({ "x": hex(bytes) }),
        }
    }

    /// The reverse of [`Value::to_json`].
    ///
    /// # Errors
    /// [`NotAValue`] for any other document.
    pub fn from_json(json: &serde_json::Value) -> Result<Self, NotAValue> {
        let wrong = || NotAValue(json.to_string().chars().take(80).collect());
        match json {
            serde_json::Value::Null => Ok(Self::Null),
            serde_json::Value::Number(number) => {
                if let Some(integer) = number.as_i64() {
                    Ok(Self::Integer(integer))
                } else {
                    number.as_f64().filter(|_| number.is_f64()).map(Self::Real).ok_or_else(wrong)
                }
            }
            serde_json::Value::String(text) => Ok(Self::text(text.clone())),
            serde_json::Value::Object(object) => {
                let mut fields = object.iter();
                let (Some((tag, serde_json::Value::String(body))), None) =
                    (fields.next(), fields.next())
                else {
                    return Err(wrong());
                };
                match tag.as_str() {
                    "x" => unhex(body).map(|bytes| Self::Blob(bytes.into())),
                    "t" => unhex(body).map(|bytes| Self::Text(bytes.into())),
                    "r" => body.parse().ok().map(Self::Real),
                    _ => None,
                }
                .ok_or_else(wrong)
            }
            serde_json::Value::Bool(_) | serde_json::Value::Array(_) => Err(wrong()),
        }
    }

    /// Whether its JSON form is an object, which SQL has to decode.
    pub fn is_odd(&self) -> bool {
        match self {
            Self::Blob(_) => true,
            Self::Text(bytes) => std::str::from_utf8(bytes).is_err(),
            Self::Null | Self::Integer(_) | Self::Real(_) => false,
        }
    }

    /// Feeds a hash: storage class, length and content, so that no two rows of different values
    /// feed the same bytes.
    pub fn feed(&self, hash: &mut Sha256) {
        match self {
            Self::Null => hash.update([0]),
            Self::Integer(number) => {
                hash.update([1]);
                hash.update(number.to_be_bytes());
            }
            Self::Real(number) => {
                hash.update([2]);
                hash.update(real_bits(*number).to_be_bytes());
            }
            Self::Text(bytes) | Self::Blob(bytes) => {
                hash.update([if matches!(self, Self::Text(_)) { 3 } else { 4 }]);
                hash.update((bytes.len() as u64).to_be_bytes());
                hash.update(bytes);
            }
        }
    }

    /// How a person reads it in a message: shortened, on one line.
    pub fn show(&self) -> String {
        match self {
            Self::Null => "NULL".to_owned(),
            Self::Integer(number) => number.to_string(),
            Self::Real(number) => real_literal(*number),
            Self::Text(bytes) => {
                let text = String::from_utf8_lossy(bytes);
                let mut short: String =
                    text.chars().take(60).flat_map(char::escape_debug).collect();
                if text.chars().nth(60).is_some() {
                    short.push('…');
                }
                format!("'{short}'")
            }
            Self::Blob(bytes) if bytes.len() <= 16 => format!("x'{}'", hex(bytes)),
            Self::Blob(bytes) => {
                format!("x'{}…' ({} bytes)", hex(bytes.get(..8).unwrap_or(bytes)), bytes.len())
            }
        }
    }
}

/// A real as both SQL and JSON read it back exactly; NaN cannot be stored and becomes NULL.
fn real_literal(number: f64) -> String {
    if number.is_nan() {
        "null".to_owned()
    } else if number.is_infinite() {
        // Beyond every double: SQLite reads it as an infinity.
        (if number > 0.0 { "9e999" } else { "-9e999" }).to_owned()
    } else {
        format!("{number:?}")
    }
}

fn push_json_string(text: &str, out: &mut String) {
    out.push('"');
    for character in text.chars() {
        match character {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            control if u32::from(control) < 0x20 || control == '\u{7f}' => {
                let _ = write!(out, "\\u{:04x}", u32::from(control));
            }
            other => out.push(other),
        }
    }
    out.push('"');
}

const DIGITS: &[u8; 16] = b"0123456789abcdef";

/// Bytes as lower-case hexadecimal digits.
pub fn hex(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        for nibble in [byte >> 4, byte & 15] {
            out.push(char::from(DIGITS.get(usize::from(nibble)).copied().unwrap_or(b'0')));
        }
    }
    out
}

/// The reverse of [`hex`], in either case; `None` for anything else.
pub fn unhex(digits: &str) -> Option<Vec<u8>> {
    let nibble = |digit: u8| match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        b'A'..=b'F' => Some(digit - b'A' + 10),
        _ => None,
    };
    let (pairs, rest) = digits.as_bytes().as_chunks::<2>();
    if !rest.is_empty() {
        return None;
    }
    pairs.iter().map(|[high, low]| Some(nibble(*high)? << 4 | nibble(*low)?)).collect()
}
