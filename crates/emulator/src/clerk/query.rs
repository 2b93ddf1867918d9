//! Query strings as form encoding has them: a key may repeat, `%2B` is a plus
//! sign and a raw `+` is a space.

use percent_encoding::percent_decode_str;

use crate::refusal::Refusal;

/// The pairs in their order, decoded.
pub(crate) fn pairs(query: &str) -> Result<Vec<(String, String)>, Refusal> {
    query
        .split('&')
        .filter(|pair| !pair.is_empty())
        .map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            Ok((decode(name)?, decode(value)?))
        })
        .collect()
}

fn decode(text: &str) -> Result<String, Refusal> {
    let spaced = text.replace('+', " ");
    percent_decode_str(&spaced)
        .decode_utf8()
        .map(std::borrow::Cow::into_owned)
        .map_err(|_| Refusal::query_malformed())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_raw_plus_is_a_space_and_an_encoded_one_a_plus() {
        let pairs = pairs("external_id=%2Ba&external_id=+b&order_by=%2Bcreated_at&x").unwrap();
        let expected =
            [("external_id", "+a"), ("external_id", " b"), ("order_by", "+created_at"), ("x", "")];
        assert_eq!(pairs.len(), expected.len());
        for ((name, value), (want_name, want_value)) in pairs.iter().zip(expected) {
            assert_eq!((name.as_str(), value.as_str()), (want_name, want_value));
        }
    }

    #[test]
    fn bytes_that_are_not_utf8_are_refused() {
        assert!(pairs("query=%ff").is_err());
    }
}
