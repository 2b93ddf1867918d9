//! Clerk's error body: `{"errors": [{"code", "message", "long_message", "meta"}], "clerk_trace_id"}`.
//!
//! It is also how an answer of the API is told from an answer of something in between: a proxy's
//! or a firewall's 4xx page has no such body, and what such a page says about an effect is not to
//! be believed.

use std::fmt;

use serde::Deserialize;

use crate::api::null_as_default;

/// One of the errors of an answer.
#[derive(Clone, PartialEq, Eq, Debug, Deserialize)]
pub struct ApiError {
    /// The stable code, for example `form_identifier_exists`.
    pub code: String,
    /// The short text.
    #[serde(default, deserialize_with = "null_as_default")]
    pub message: String,
    /// The text for people.
    #[serde(default, deserialize_with = "null_as_default")]
    pub long_message: String,
    /// What it is about.
    #[serde(default, deserialize_with = "null_as_default")]
    pub meta: Meta,
}

/// The parts of an error's `meta` that a migration uses.
#[derive(Clone, PartialEq, Eq, Debug, Default, Deserialize)]
pub struct Meta {
    /// The field of the request that was refused.
    #[serde(default)]
    pub param_name: Option<String>,
}

/// A refusal in the API's own words: it answered 4xx, and did nothing.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Refusal {
    /// The HTTP status.
    pub status: u16,
    /// At least one.
    pub errors: Vec<ApiError>,
    /// What Clerk's support asks for.
    pub trace_id: Option<String>,
}

#[derive(Deserialize)]
struct Body {
    errors: Vec<ApiError>,
    #[serde(default)]
    clerk_trace_id: Option<String>,
}

impl Refusal {
    /// Reads the body of a 4xx; `None` when it is not the API's.
    pub fn parse(status: u16, body: &[u8]) -> Option<Self> {
        let Body { errors, clerk_trace_id: trace_id } = serde_json::from_slice(body).ok()?;
        (!errors.is_empty()).then_some(Self { status, errors, trace_id })
    }

    /// The code of the first error.
    pub fn code(&self) -> &str {
        self.errors.first().map_or("", |error| &error.code)
    }

    /// Whether one of the errors has this code.
    pub fn has(&self, code: &str) -> bool {
        self.errors.iter().any(|error| error.code == code)
    }

    /// The fields that were refused.
    pub fn params(&self) -> impl Iterator<Item = &str> {
        self.errors.iter().filter_map(|error| error.meta.param_name.as_deref())
    }
}

/// Every error with its field, and the trace id.
impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, error) in self.errors.iter().enumerate() {
            if index > 0 {
                f.write_str("; ")?;
            }
            let text =
                if error.long_message.is_empty() { &error.message } else { &error.long_message };
            f.write_str(if text.is_empty() { &error.code } else { text })?;
            if let Some(param) = &error.meta.param_name {
                write!(f, " ({param})")?;
            }
        }
        write!(f, " [{}", self.status)?;
        if let Some(trace) = &self.trace_id {
            write!(f, ", clerk_trace_id {trace}")?;
        }
        f.write_str("]")
    }
}

impl std::error::Error for Refusal {}

/// What can be said about a body that should not have come: the API's code and trace id, or
/// nothing. Starts with a separator unless empty.
pub(crate) fn summary(body: &[u8]) -> String {
    Refusal::parse(0, body).map_or_else(String::new, |refusal| {
        let trace = refusal
            .trace_id
            .as_ref()
            .map_or_else(String::new, |trace| format!(", clerk_trace_id {trace}"));
        format!(" {}{trace}", refusal.code())
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn several_errors_are_all_told() {
        let body = br#"{"errors":[
            {"code":"form_identifier_exists","message":"taken","long_message":"That email address is taken.","meta":{"param_name":"email_address"}},
            {"code":"form_param_unknown","message":"is unknown","meta":null}],
            "meta":{},"clerk_trace_id":"t1"}"#;
        let refusal = Refusal::parse(422, body).unwrap();
        assert_eq!(
            refusal.to_string(),
            "That email address is taken. (email_address); is unknown [422, clerk_trace_id t1]"
        );
        assert_eq!(refusal.code(), "form_identifier_exists");
        assert!(refusal.has("form_param_unknown"));
        assert_eq!(refusal.params().collect::<Vec<_>>(), ["email_address"]);
    }

    #[test]
    fn what_is_not_the_apis_is_not_taken_for_it() {
        for body in ["", "<html>403</html>", "{}", r#"{"errors":[]}"#, r#"{"errors":["x"]}"#, "[]"]
        {
            assert_eq!(Refusal::parse(403, body.as_bytes()), None, "{body}");
        }
    }

    proptest! {
        #[test]
        fn any_body_is_survived(body in proptest::collection::vec(any::<u8>(), 0..200)) {
            drop(Refusal::parse(422, &body));
            drop(summary(&body));
        }
    }
}
