//! Values between JSON and SQLite, as lossy as D1's own route through JavaScript.
//!
//! In: a string is text, `null` is NULL, every number is bound as a double, a boolean as 1.0 or 0.0,
//! an array of byte numbers as a blob. Out: every number is a double printed by JavaScript's rules
//! (so 64-bit integers beyond 2^53 lose digits and `1.0` prints as `1`), infinities are `null`,
//! blobs are arrays of numbers, text that is not UTF-8 gets U+FFFD. A client that needs the exact
//! value has to ask for it in SQL (`typeof`, `quote`, `hex`).

use std::fmt::Write as _;

use rusqlite::types::{Value, ValueRef};

/// Turns one element of `params` into what is bound.
///
/// # Errors
/// For objects, for arrays that are not bytes, and for numbers outside a double: the text of the
/// API's refusal.
pub(crate) fn parameter(json: serde_json::Value) -> Result<Value, String> {
    match json {
        serde_json::Value::Null => Ok(Value::Null),
        serde_json::Value::Bool(truth) => Ok(Value::Real(if truth { 1.0 } else { 0.0 })),
        serde_json::Value::Number(number) => number
            .as_f64()
            .map(Value::Real)
            .ok_or_else(|| format!("the number {number} cannot be bound")),
        serde_json::Value::String(text) => Ok(Value::Text(text)),
        serde_json::Value::Array(items) => items
            .iter()
            .map(|item| item.as_u64().and_then(|byte| u8::try_from(byte).ok()))
            .collect::<Option<Vec<u8>>>()
            .map(Value::Blob)
            .ok_or_else(|| "an array in params must hold bytes, 0 to 255".to_owned()),
        serde_json::Value::Object(_) => Err("an object cannot be a parameter".to_owned()),
    }
}

/// Appends the JSON of one column of a row.
pub(crate) fn write_value(out: &mut String, value: ValueRef<'_>) {
    match value {
        ValueRef::Null => out.push_str("null"),
        // The rounding is the point: D1 hands integers to JavaScript as numbers.
        #[expect(clippy::cast_precision_loss)]
        ValueRef::Integer(integer) => write_number(out, integer as f64),
        ValueRef::Real(real) => write_number(out, real),
        ValueRef::Text(bytes) => write_string(out, &String::from_utf8_lossy(bytes)),
        ValueRef::Blob(bytes) => {
            out.push('[');
            for (at, byte) in bytes.iter().enumerate() {
                if at > 0 {
                    out.push(',');
                }
                // Writing into a String cannot fail.
                let _infallible = write!(out, "{byte}");
            }
            out.push(']');
        }
    }
}

/// Appends a JSON string.
pub(crate) fn write_string(out: &mut String, text: &str) {
    out.push_str(&serde_json::Value::from(text).to_string());
}

/// Appends a number as `JSON.stringify` does (ECMA-262, Number::toString): shortest digits, plain
/// up to 21 digits before the point and 6 zeros after it, an exponent beyond.
pub(crate) fn write_number(out: &mut String, number: f64) {
    if !number.is_finite() {
        out.push_str("null");
        return;
    }
    if number == 0.0 {
        out.push('0');
        return;
    }
    // Rust's `{:e}` gives the same shortest digits, as d.ddde±x.
    let scientific = format!("{:e}", number.abs());
    let (mantissa, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let digits: String = mantissa.chars().filter(char::is_ascii_digit).collect();
    let exponent: i32 = exponent.parse().unwrap_or(0);
    let count = i32::try_from(digits.len()).unwrap_or(i32::MAX);
    let point = exponent.saturating_add(1);
    if number < 0.0 {
        out.push('-');
    }
    if count <= point && point <= 21 {
        out.push_str(&digits);
        push_zeros(out, point - count);
    } else if 0 < point && point <= 21 {
        let (whole, fraction) = digits.split_at(usize::try_from(point).unwrap_or(0));
        out.push_str(whole);
        out.push('.');
        out.push_str(fraction);
    } else if -6 < point && point <= 0 {
        out.push_str("0.");
        push_zeros(out, -point);
        out.push_str(&digits);
    } else {
        let (first, rest) = digits.split_at(1);
        out.push_str(first);
        if !rest.is_empty() {
            out.push('.');
            out.push_str(rest);
        }
        let _infallible = write!(out, "e{exponent:+}");
    }
}

fn push_zeros(out: &mut String, count: i32) {
    for _ in 0..count {
        out.push('0');
    }
}

/// The order in which a row's columns appear in a JavaScript object made of them: a repeated name
/// keeps its first place and its last value, and names that are array indexes come first, ascending.
///
/// Returns the positions of the columns to print, in printing order.
pub(crate) fn object_order(names: &[String]) -> Vec<usize> {
    let mut kept: Vec<(Option<u32>, usize, &str)> = Vec::with_capacity(names.len());
    for (position, name) in names.iter().enumerate() {
        match kept.iter_mut().find(|(_, _, known)| known == name) {
            Some(known) => known.1 = position,
            None => kept.push((array_index(name), position, name)),
        }
    }
    // A stable sort: the names that are no indexes stay in their order behind the indexes.
    kept.sort_by_key(|(index, _, _)| index.map_or(u64::MAX, u64::from));
    kept.into_iter().map(|(_, position, _)| position).collect()
}

fn array_index(name: &str) -> Option<u32> {
    let index: u32 = name.parse().ok()?;
    (index != u32::MAX && index.to_string() == name).then_some(index)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn printed(number: f64) -> String {
        let mut out = String::new();
        write_number(&mut out, number);
        out
    }

    #[test]
    #[expect(clippy::cast_precision_loss)]
    fn numbers_print_as_javascript_prints_them() {
        // Expected texts taken from `JSON.stringify` in a JavaScript engine.
        for (number, expected) in [
            (4_959_520_537_444_830_692_i64 as f64, "4959520537444830000"),
            (i64::MAX as f64, "9223372036854776000"),
            (i64::MIN as f64, "-9223372036854776000"),
            (9_007_199_254_740_993_i64 as f64, "9007199254740992"),
            (1.0, "1"),
            (-0.0, "0"),
            (0.1, "0.1"),
            (-1.5, "-1.5"),
            (123.456, "123.456"),
            (1e21, "1e+21"),
            (123e18, "123000000000000000000"),
            (1.5e300, "1.5e+300"),
            (1e-6, "0.000001"),
            (1e-7, "1e-7"),
            (1.25e-7, "1.25e-7"),
            (5e-324, "5e-324"),
            (f64::MAX, "1.7976931348623157e+308"),
            (f64::INFINITY, "null"),
            (f64::NEG_INFINITY, "null"),
            (f64::NAN, "null"),
        ] {
            assert_eq!(printed(number), expected);
        }
    }

    #[test]
    fn rows_become_javascript_objects() {
        let names = ["b", "2", "a", "1", "b", "01"].map(str::to_owned);
        assert_eq!(object_order(&names), [3, 1, 4, 2, 5]);
    }

    #[test]
    fn parameters_follow_the_engine() {
        let bind = |text: &str| parameter(serde_json::from_str(text).unwrap());
        assert_eq!(bind("5"), Ok(Value::Real(5.0)));
        assert_eq!(bind("true"), Ok(Value::Real(1.0)));
        assert_eq!(bind("null"), Ok(Value::Null));
        assert_eq!(bind("\"5\""), Ok(Value::Text("5".to_owned())));
        assert_eq!(bind("[0,255]"), Ok(Value::Blob(vec![0, 255])));
        assert!(bind("[256]").is_err());
        assert!(bind("{}").is_err());
    }
}
