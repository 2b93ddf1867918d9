//! What was asked of an instance and what it did: the evidence for
//! "exactly one account for every user" and "a second run writes nothing".

use std::collections::BTreeMap;

use serde::Serialize;

/// A snapshot of the counters of one instance, or of the D1 side.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Counters {
    /// Requests that arrived, by `METHOD /route/{id}`; refused and faulted
    /// ones too.
    pub requests: BTreeMap<String, u64>,
    /// Users created through the API.
    pub creates: u64,
    /// The same by `external_id`, for those that have one.
    pub creates_by_external_id: BTreeMap<String, u64>,
    /// Users changed through the API, identifiers included.
    pub updates: u64,
    /// Users deleted through the API.
    pub deletes: u64,
    /// The same by the user's id.
    pub deletes_by_id: BTreeMap<String, u64>,
    /// 429s of the instance's own rate limit (not the injected ones).
    pub refused_429: u64,
    /// Faults injected, by kind.
    pub faults: BTreeMap<String, u64>,
    /// The most requests seen in any stretch of `window_ms`, refused or not.
    pub max_in_window: u64,
    /// The most that the rate limit let pass in such a stretch.
    pub max_accepted_in_window: u64,
    /// The stretch, in milliseconds: the rate limit's, or 10 s without one.
    pub window_ms: u64,
    /// Requests per whole second since the emulator's start.
    pub per_second: BTreeMap<u64, u64>,
}

impl Counters {
    /// Requests that could change something: all but GET and HEAD.
    pub fn writes_requested(&self) -> u64 {
        self.requests
            .iter()
            .filter(|(route, _)| !route.starts_with("GET ") && !route.starts_with("HEAD "))
            .map(|(_, count)| count)
            .sum()
    }

    /// Requests of all kinds.
    pub fn total(&self) -> u64 {
        self.requests.values().sum()
    }
}

/// `METHOD /path` with every id replaced by `{id}`, so that routes can be counted.
pub(crate) fn route(method: &str, path: &str) -> String {
    let mut out = String::with_capacity(method.len() + path.len() + 1);
    out.push_str(method);
    out.push(' ');
    for segment in path.split('/').skip(1) {
        out.push('/');
        let id = segment.contains('-')
            || ["user_", "idn_", "org_", "ins_"].iter().any(|prefix| segment.starts_with(prefix));
        out.push_str(if id { "{id}" } else { segment });
    }
    out
}
