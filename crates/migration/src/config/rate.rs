//! A rate limit as people write it: `1000/10s`.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use rehome_core::pacer::Rate;
use serde::Deserialize;

/// So many requests in so long, for example `1000/10s` or `1200/5m`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Deserialize)]
#[serde(try_from = "String")]
pub struct RateLimit(pub Rate);

/// No API counts over more than a day.
const LONGEST: Duration = Duration::from_secs(86_400);

impl FromStr for RateLimit {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("{text:?} is not a rate limit such as \"1000/10s\" or \"1200/5m\"");
        let (requests, window) = text.split_once('/').ok_or_else(wrong)?;
        let requests: u32 = requests.trim().parse().map_err(|_| wrong())?;
        let window = window.trim();
        let (number, unit) =
            window.split_at(window.find(|c: char| !c.is_ascii_digit()).unwrap_or(window.len()));
        let number: u64 =
            if number.is_empty() { 1 } else { number.parse().map_err(|_| wrong())? };
        let seconds = match unit.trim() {
            "s" => 1,
            "m" | "min" => 60,
            "h" => 3600,
            _ => return Err(wrong()),
        };
        let window = Duration::from_secs(number.checked_mul(seconds).ok_or_else(wrong)?);
        if requests == 0 || window.is_zero() || window > LONGEST {
            return Err(wrong());
        }
        Ok(Self(Rate { requests, window }))
    }
}

impl TryFrom<String> for RateLimit {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl fmt::Display for RateLimit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}s", self.0.requests, self.0.window.as_secs())
    }
}
