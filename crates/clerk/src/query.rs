//! Query strings. A raw `+` would be read as a space, so everything but RFC 3986's unreserved
//! characters is percent-encoded.

use std::fmt::Write as _;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

const RESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');

/// `GetUserList` takes at most so many values of one filter.
const MOST_VALUES: usize = 100;
/// Common limits on the request line start at 8 KiB; this leaves room for the rest of it.
const LONGEST_VALUES: usize = 7_000;

/// A value as it may stand in a path or a query.
pub(crate) fn encode(value: &str) -> impl std::fmt::Display + '_ {
    utf8_percent_encode(value, RESERVED)
}

/// A filter of `GetUserList` that takes a list of exact values.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub enum Filter {
    /// The application's own id.
    ExternalId,
    /// Clerk's id.
    UserId,
    /// An e-mail address.
    EmailAddress,
    /// A phone number in E.164.
    PhoneNumber,
    /// A username.
    Username,
    /// A wallet address.
    Web3Wallet,
}

impl Filter {
    /// The name of the query parameter.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::ExternalId => "external_id",
            Self::UserId => "user_id",
            Self::EmailAddress => "email_address",
            Self::PhoneNumber => "phone_number",
            Self::Username => "username",
            Self::Web3Wallet => "web3_wallet",
        }
    }

    /// Ids may carry a sign that includes or excludes them; without an explicit one an id such
    /// as `-abc` would exclude `abc`.
    const fn takes_sign(self) -> bool {
        match self {
            Self::ExternalId | Self::UserId => true,
            Self::EmailAddress | Self::PhoneNumber | Self::Username | Self::Web3Wallet => false,
        }
    }
}

/// The values as query strings (`a=1&a=2`), as few as the API's and common servers' limits
/// allow.
pub(crate) fn chunks(filter: Filter, values: &[String]) -> Vec<String> {
    let mut chunks = Vec::new();
    let mut chunk = String::new();
    let mut held = 0;
    for value in values {
        let sign = if filter.takes_sign() { "%2B" } else { "" };
        let pair = format!("{}={sign}{}", filter.as_str(), encode(value));
        if held == MOST_VALUES || (held > 0 && chunk.len() + pair.len() > LONGEST_VALUES) {
            chunks.push(std::mem::take(&mut chunk));
            held = 0;
        }
        if held > 0 {
            chunk.push('&');
        }
        let _ = write!(chunk, "{pair}");
        held += 1;
    }
    if held > 0 {
        chunks.push(chunk);
    }
    chunks
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signs_and_spaces_survive_the_way() {
        assert_eq!(
            chunks(Filter::ExternalId, &["-abc".to_owned(), "+x y".to_owned(), "ü&=".to_owned()]),
            ["external_id=%2B-abc&external_id=%2B%2Bx%20y&external_id=%2B%C3%BC%26%3D"]
        );
        assert_eq!(
            chunks(Filter::EmailAddress, &["a+b@x.org".to_owned()]),
            ["email_address=a%2Bb%40x.org"]
        );
    }

    #[test]
    fn a_request_holds_a_hundred_values_and_fits_a_request_line() {
        let short: Vec<_> = (0..250).map(|n| format!("u{n}")).collect();
        let sizes: Vec<_> =
            chunks(Filter::UserId, &short).iter().map(|chunk| chunk.split('&').count()).collect();
        assert_eq!(sizes, [100, 100, 50]);

        let long: Vec<_> = (0..100).map(|n| format!("{n}{}", "x".repeat(200))).collect();
        let chunks = chunks(Filter::Username, &long);
        assert!(chunks.iter().all(|chunk| chunk.len() <= LONGEST_VALUES));
        assert_eq!(chunks.iter().map(|c| c.split('&').count()).sum::<usize>(), 100);
    }

    #[test]
    fn nothing_to_ask_is_no_request() {
        assert!(chunks(Filter::UserId, &[]).is_empty());
    }
}
