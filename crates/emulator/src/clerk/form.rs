//! Reading a JSON body field by field, with Clerk's refusals: unknown names
//! all at once, a wrong type by its name, a null only where the specification
//! says `nullable`.

use axum::http::HeaderMap;
use bytes::Bytes;
use serde_json::Value;

use super::BODY_LIMIT;
use crate::refusal::Refusal;
use crate::user::Metadata;

/// A JSON object that a request carried.
pub(crate) struct Form(Metadata);

impl Form {
    /// Reads the body: 413 when too large, 415 when not declared as JSON, 400
    /// when it is not a JSON object.
    pub(crate) fn read(headers: &HeaderMap, body: &Bytes) -> Result<Self, Refusal> {
        if body.len() > BODY_LIMIT {
            return Err(Refusal::body_too_large(BODY_LIMIT));
        }
        let declared =
            headers.get("content-type").and_then(|value| value.to_str().ok()).unwrap_or_default();
        if declared.split(';').next().map(str::trim) != Some("application/json") {
            return Err(Refusal::content_type(declared));
        }
        match serde_json::from_slice(body) {
            Ok(Value::Object(map)) => Ok(Self(map)),
            Ok(_) | Err(_) => Err(Refusal::body_invalid()),
        }
    }

    /// Refuses every name that `known` does not hold.
    pub(crate) fn only(&self, known: impl Fn(&str) -> bool) -> Result<(), Refusal> {
        let unknown: Vec<&str> =
            self.0.keys().map(String::as_str).filter(|name| !known(name)).collect();
        if unknown.is_empty() { Ok(()) } else { Err(Refusal::unknown(&unknown)) }
    }

    pub(crate) fn has(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }

    /// A nullable text: absent, null, or given.
    pub(crate) fn maybe_text(&self, name: &str) -> Result<Option<Option<String>>, Refusal> {
        match self.0.get(name) {
            None => Ok(None),
            Some(Value::Null) => Ok(Some(None)),
            Some(Value::String(text)) => Ok(Some(Some(text.clone()))),
            Some(other) => Err(wrong(name, other, "string")),
        }
    }

    /// A nullable text where null and "" mean the same as absent.
    pub(crate) fn text(&self, name: &str) -> Result<Option<String>, Refusal> {
        Ok(self.maybe_text(name)?.flatten().filter(|text| !text.is_empty()))
    }

    /// A text that must be there.
    pub(crate) fn required_text(&self, name: &str) -> Result<String, Refusal> {
        self.text(name)?.ok_or_else(|| Refusal::missing(name))
    }

    pub(crate) fn flag(&self, name: &str) -> Result<Option<bool>, Refusal> {
        match self.0.get(name) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::Bool(flag)) => Ok(Some(*flag)),
            Some(other) => Err(wrong(name, other, "boolean")),
        }
    }

    pub(crate) fn maybe_integer(&self, name: &str) -> Result<Option<Option<i64>>, Refusal> {
        match self.0.get(name) {
            None => Ok(None),
            Some(Value::Null) => Ok(Some(None)),
            Some(value) => match value.as_i64() {
                Some(number) => Ok(Some(Some(number))),
                None => Err(wrong(name, value, "integer")),
            },
        }
    }

    pub(crate) fn texts(&self, name: &str) -> Result<Vec<String>, Refusal> {
        match self.0.get(name) {
            None => Ok(Vec::new()),
            Some(Value::Array(items)) => items
                .iter()
                .map(|item| match item {
                    Value::String(text) => Ok(text.clone()),
                    other => Err(wrong(name, other, "string")),
                })
                .collect(),
            Some(other) => Err(wrong(name, other, "array")),
        }
    }

    pub(crate) fn object(&self, name: &str) -> Result<Option<Metadata>, Refusal> {
        match self.0.get(name) {
            None => Ok(None),
            Some(Value::Object(map)) => Ok(Some(map.clone())),
            Some(other) => Err(wrong(name, other, "object")),
        }
    }

    /// An RFC 3339 time, as Unix milliseconds.
    pub(crate) fn time(&self, name: &str) -> Result<Option<i64>, Refusal> {
        self.text(name)?
            .map(|text| {
                text.parse::<jiff::Timestamp>()
                    .map(jiff::Timestamp::as_millisecond)
                    .map_err(|_| Refusal::bad_time(name))
            })
            .transpose()
    }
}

fn wrong(name: &str, value: &Value, wanted: &str) -> Refusal {
    let received = match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    };
    Refusal::wrong_type(name, received, wanted)
}
