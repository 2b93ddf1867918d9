//! The syntax of what identifies a person. Clerk does not publish its exact
//! expressions; these refuse what its documentation says is refused and no
//! more.

use crate::refusal::Refusal;
use crate::user::Metadata;

/// Bytes of metadata per user (Clerk's documentation on user metadata: 8 KB).
const METADATA_LIMIT: usize = 8 * 1024;

pub(crate) fn email(name: &str, value: &str) -> Result<(), Refusal> {
    let refuse = || Refusal::bad_format(name, &format!("{name} must be a valid email address."));
    let (local, domain) = value.rsplit_once('@').ok_or_else(refuse)?;
    let local_fits = !local.is_empty()
        && local.len() <= 64
        && !local.starts_with('.')
        && !local.ends_with('.')
        && !local.contains("..")
        && local.chars().all(|c| c.is_ascii_alphanumeric() || "!#$%&'*+/=?^_`{|}~.-".contains(c));
    let domain_fits = domain.len() <= 253
        && domain.contains('.')
        && domain.split('.').all(|label| {
            (1..=63).contains(&label.len())
                && !label.starts_with('-')
                && !label.ends_with('-')
                && label.chars().all(|c| c.is_ascii_alphanumeric() || c == '-')
        });
    if local_fits && domain_fits { Ok(()) } else { Err(refuse()) }
}

/// E.164; for North America also that area code and exchange may exist.
pub(crate) fn phone(name: &str, value: &str) -> Result<(), Refusal> {
    if is_phone(value) {
        return Ok(());
    }
    let long =
        format!("{name} must be a valid phone number according to E.164 international standard.");
    Err(Refusal::bad_format(name, &long))
}

fn is_phone(value: &str) -> bool {
    let Some(digits) = value.strip_prefix('+') else { return false };
    if !(8..=15).contains(&digits.len())
        || digits.starts_with('0')
        || !digits.bytes().all(|b| b.is_ascii_digit())
    {
        return false;
    }
    match digits.strip_prefix('1') {
        None => true,
        Some(national) => {
            let bytes = national.as_bytes();
            bytes.len() == 10 && bytes[0] >= b'2' && bytes[3] >= b'2'
        }
    }
}

/// A wallet's address: Ethereum's 0x and 40 hex digits, or Solana's base 58.
pub(crate) fn wallet(name: &str, value: &str) -> Result<(), Refusal> {
    let ethereum = value
        .strip_prefix("0x")
        .is_some_and(|hex| hex.len() == 40 && hex.bytes().all(|b| b.is_ascii_hexdigit()));
    let solana = (32..=44).contains(&value.len())
        && value.bytes().all(|b| b.is_ascii_alphanumeric() && !b"0OIl".contains(&b));
    if ethereum || solana {
        return Ok(());
    }
    Err(Refusal::bad_format(name, &format!("{name} must be a valid web3 wallet address.")))
}

/// 4 to 64 Latin letters, digits, `_` and `-`, with one that is no digit.
pub(crate) fn username(value: &str) -> Result<(), Refusal> {
    if is_phone(value) {
        return Err(Refusal::username(
            "form_username_cannot_be_phone_number",
            "username cannot be a phone number. Please choose a different username.",
        ));
    }
    if !(4..=64).contains(&value.chars().count()) {
        return Err(Refusal::username(
            "form_username_invalid_length",
            "Username must be between 4 and 64 characters long.",
        ));
    }
    if !value.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-') {
        return Err(Refusal::username(
            "form_username_invalid_character",
            "Username can only contain letters, numbers and '_' or '-'.",
        ));
    }
    if value.bytes().all(|b| b.is_ascii_digit()) {
        return Err(Refusal::username(
            "form_username_needs_non_number_char",
            "Username must contain one non-number character.",
        ));
    }
    Ok(())
}

/// A first or last name: at most 256 bytes, no URL, no HTML, no phone number.
pub(crate) fn person(name: &str, value: &str) -> Result<(), Refusal> {
    if value.len() > 256 {
        return Err(Refusal::too_long(name, 256));
    }
    let lower = value.to_lowercase();
    let url = lower.contains("://") || lower.starts_with("www.");
    let html = value.split('<').skip(1).any(|rest| {
        rest.starts_with(|c: char| c.is_ascii_alphabetic() || c == '/') && rest.contains('>')
    });
    if url || html || is_phone(value) {
        let long = format!("{name} must not be a URL, HTML or a phone number.");
        return Err(Refusal::bad_format(name, &long));
    }
    Ok(())
}

/// A BCP 47 language tag, roughly: subtags of letters and digits.
pub(crate) fn locale(value: &str) -> Result<(), Refusal> {
    let mut tags = value.split('-');
    let first = tags.next().is_some_and(|tag| {
        (2..=8).contains(&tag.len()) && tag.bytes().all(|b| b.is_ascii_alphabetic())
    });
    let rest = tags
        .all(|tag| (1..=8).contains(&tag.len()) && tag.bytes().all(|b| b.is_ascii_alphanumeric()));
    if first && rest {
        return Ok(());
    }
    Err(Refusal::bad_format("locale", "locale must be a valid BCP-47 language tag."))
}

/// All metadata of a user together. `name` is the field to blame.
pub(crate) fn metadata_size(name: &str, all: [&Metadata; 3]) -> Result<(), Refusal> {
    let size: usize = all
        .into_iter()
        .filter(|map| !map.is_empty())
        .map(|map| serde_json::to_vec(map).map_or(usize::MAX, |bytes| bytes.len()))
        .fold(0, usize::saturating_add);
    if size > METADATA_LIMIT { Err(Refusal::too_large(name)) } else { Ok(()) }
}

/// Whether an address meets a pattern: a glob where `*` stands for anything,
/// or a plain suffix.
pub(crate) fn matches_pattern(pattern: &str, value: &str) -> bool {
    let (pattern, value) = (pattern.to_lowercase(), value.to_lowercase());
    if pattern.contains('*') {
        crate::fault::glob(&pattern, &value)
    } else {
        value.ends_with(&pattern)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses() {
        for good in ["a@example.com", "A.b+c@x-y.example", "o'neil@mail.example"] {
            assert!(email("email_address", good).is_ok(), "{good}");
        }
        for bad in
            ["", "a", "@example.com", "a@b", "a b@example.com", "a..b@example.com", "a@-x.com"]
        {
            assert!(email("email_address", bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn numbers() {
        for good in ["+12125550123", "+4930123456", "+447911123456"] {
            assert!(phone("phone_number", good).is_ok(), "{good}");
        }
        for bad in ["12125550123", "+1212555012", "+11125550123", "+0123456789", "+1 2125550123"] {
            assert!(phone("phone_number", bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn user_names_and_people() {
        assert!(username("ada_love-1").is_ok());
        for bad in ["abc", "ada love", "12345", "+12125550123", "ädalove"] {
            assert!(username(bad).is_err(), "{bad}");
        }
        assert!(person("first_name", "Ада <3").is_ok());
        for bad in ["https://x.example", "<b>x</b>", "+12125550123"] {
            assert!(person("first_name", bad).is_err(), "{bad}");
        }
    }
}
