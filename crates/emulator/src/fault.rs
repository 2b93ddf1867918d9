//! Faults by plan: which request meets which fault, decided from a seed and
//! the order of the requests, so that a run can be replayed.
//!
//! A plan is a JSON file:
//!
//! ```json
//! {"seed": 7, "rules": [
//!   {"method": "POST", "path": "/v1/users", "instance": "target", "probability": 0.1,
//!    "fault": {"kind": "reset", "when": "after"}},
//!   {"path": "/v1/users*", "skip": 3, "times": 2,
//!    "fault": {"kind": "status", "status": 429, "retry_after": {"seconds": 1}}},
//!   {"instance": "d1", "nth": 5, "fault": {"kind": "truncate"}}
//! ]}
//! ```
//!
//! For each request the rules are asked in order; the first that fires wins.
//! A rule counts the requests that match it, lets the first `skip` pass, then
//! fires on every `nth` (1: all) with `probability`, at most `times` times.

use std::sync::{Mutex, PoisonError};

use serde::{Deserialize, Serialize};

use crate::error::Error;

/// A seeded set of rules; the default has none.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct FaultPlan {
    /// What probabilities are drawn from.
    pub seed: u64,
    /// Asked in this order.
    pub rules: Vec<Rule>,
}

impl FaultPlan {
    /// A plan of these rules under seed 0.
    pub fn of(rules: impl IntoIterator<Item = Rule>) -> Self {
        Self { seed: 0, rules: rules.into_iter().collect() }
    }

    /// Reads a plan from JSON.
    ///
    /// # Errors
    /// [`Error::FaultPlan`] when it is not of the documented form.
    pub fn from_json(text: &str) -> Result<Self, Error> {
        serde_json::from_str(text).map_err(Error::FaultPlan)
    }
}

/// Which requests meet a fault, and how often.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rule {
    /// `GET`, `POST`, …; any without.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub method: Option<String>,
    /// The whole path, where `*` stands for anything: `/v1/users/*`; any without.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// An instance's label, id or secret key, or `d1`; any without.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instance: Option<String>,
    /// How many matching requests pass at first.
    #[serde(default)]
    pub skip: u64,
    /// How often it fires at most; without end when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub times: Option<u64>,
    /// After `skip`, every nth matching request; 1 is every one.
    #[serde(default = "one")]
    pub nth: u64,
    /// 0.0 to 1.0, drawn for each request that came so far.
    #[serde(default = "certain")]
    pub probability: f64,
    /// What happens.
    pub fault: Fault,
}

fn one() -> u64 {
    1
}

fn certain() -> f64 {
    1.0
}

impl Rule {
    /// A rule that fires on every request.
    pub fn always(fault: Fault) -> Self {
        Self {
            method: None,
            path: None,
            instance: None,
            skip: 0,
            times: None,
            nth: 1,
            probability: 1.0,
            fault,
        }
    }

    /// The same for one method and path glob only.
    #[must_use]
    pub fn on(mut self, method: &str, path: &str) -> Self {
        self.method = Some(method.to_owned());
        self.path = Some(path.to_owned());
        self
    }

    /// The same for one instance (label, id or key) or `d1` only.
    #[must_use]
    pub fn at(mut self, instance: &str) -> Self {
        self.instance = Some(instance.to_owned());
        self
    }

    /// The same, at most so often.
    #[must_use]
    pub fn times(mut self, times: u64) -> Self {
        self.times = Some(times);
        self
    }

    /// The same, after so many requests passed.
    #[must_use]
    pub fn skip(mut self, skip: u64) -> Self {
        self.skip = skip;
        self
    }

    /// The same, with a probability.
    #[must_use]
    pub fn with_probability(mut self, probability: f64) -> Self {
        self.probability = probability;
        self
    }
}

/// Before the request has its effect, or after.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum When {
    /// Nothing happens in the store.
    #[default]
    Before,
    /// The effect has happened; only the answer suffers.
    After,
}

/// The body of an injected status.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum BodyKind {
    /// An error in the form of the API that was called.
    #[default]
    Json,
    /// A proxy's page, `text/html`.
    Html,
    /// Nothing.
    Empty,
}

/// The form of `Retry-After` (RFC 9110, 10.2.3 allows both).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RetryAfter {
    /// `Retry-After: 3`
    Seconds(u64),
    /// `Retry-After: Mon, 23 Nov 2026 06:00:03 GMT`, so many seconds from now.
    DateIn(u64),
}

/// What happens to a request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum Fault {
    /// Another status instead of the answer.
    Status {
        /// For example 429, 500, 502, 503.
        status: u16,
        /// What the body is.
        #[serde(default)]
        body: BodyKind,
        /// A `Retry-After` header.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        retry_after: Option<RetryAfter>,
        /// Before or after the effect.
        #[serde(default)]
        when: When,
    },
    /// The connection is reset without a byte of an answer.
    Reset {
        /// Before or after the effect.
        #[serde(default)]
        when: When,
    },
    /// After the effect: `Content-Length` of the whole, half of the body, then
    /// the connection is closed.
    Truncate,
    /// The answer comes late.
    Delay {
        /// Milliseconds before the effect.
        #[serde(default)]
        before_ms: u64,
        /// Milliseconds after the effect.
        #[serde(default)]
        after_ms: u64,
    },
    /// After the effect: the same status with valid JSON of another shape.
    WrongShape,
    /// A list answers its previous page again.
    RepeatPage,
    /// A refusal in Clerk's own form, without an effect: 409 `resource_locked`, 401
    /// `clerk_key_invalid`, 403 `user_quota_exceeded`, 422 `form_identifier_exists` …
    Refuse {
        /// The status.
        status: u16,
        /// The code.
        code: String,
        /// `meta.param_name`.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        param: Option<String>,
    },
    /// Before a create: somebody else signs up with the first address or number that it carries,
    /// so that the create meets a record that is not its own.
    Rival,
    /// Before a list: people come, go and change while somebody pages. Who goes and who changes
    /// is drawn from the plan's seed.
    Drift {
        /// So many sign up.
        #[serde(default)]
        created: u32,
        /// So many are deleted.
        #[serde(default)]
        deleted: u32,
        /// So many get another given name.
        #[serde(default)]
        changed: u32,
    },
    /// A list with `starting_after` answers as if the user that it names were not there any
    /// more, and the place forgotten: 422.
    CursorGone,
    /// After the effect: the body comes byte by byte.
    SlowBody {
        /// Milliseconds before each byte.
        byte_ms: u64,
    },
    /// No answer until the client gives up.
    Hang {
        /// Before or after the effect.
        #[serde(default)]
        when: When,
    },
}

impl Fault {
    /// The name under which it is counted.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Status { .. } => "status",
            Self::Reset { .. } => "reset",
            Self::Truncate => "truncate",
            Self::Delay { .. } => "delay",
            Self::WrongShape => "wrong_shape",
            Self::RepeatPage => "repeat_page",
            Self::Refuse { .. } => "refuse",
            Self::Rival => "rival",
            Self::Drift { .. } => "drift",
            Self::CursorGone => "cursor_gone",
            Self::SlowBody { .. } => "slow_body",
            Self::Hang { .. } => "hang",
        }
    }
}

impl Fault {
    /// Whether it can happen to such a request: some are about lists or creates only.
    fn applies(&self, target: &Target<'_>) -> bool {
        let users = |method: &str| target.path == "/v1/users" && target.method == method;
        match self {
            Self::Rival => users("POST"),
            Self::Drift { .. } => users("GET"),
            Self::CursorGone => {
                let mut pairs = target.query.split('&');
                users("GET") && pairs.any(|pair| pair.starts_with("starting_after="))
            }
            Self::Status { .. }
            | Self::Reset { .. }
            | Self::Truncate
            | Self::Delay { .. }
            | Self::WrongShape
            | Self::RepeatPage
            | Self::Refuse { .. }
            | Self::SlowBody { .. }
            | Self::Hang { .. } => true,
        }
    }
}

/// Where a request goes, as rules name it.
pub(crate) struct Target<'a> {
    pub(crate) method: &'a str,
    pub(crate) path: &'a str,
    pub(crate) query: &'a str,
    /// Label, id and key of the instance, or `d1`.
    pub(crate) names: &'a [&'a str],
}

impl Rule {
    fn matches(&self, target: &Target<'_>) -> bool {
        self.method.as_deref().is_none_or(|method| method.eq_ignore_ascii_case(target.method))
            && self.path.as_deref().is_none_or(|pattern| glob(pattern, target.path))
            && self.instance.as_deref().is_none_or(|name| target.names.contains(&name))
            && self.fault.applies(target)
    }
}

#[derive(Debug)]
struct Running {
    plan: FaultPlan,
    state: Vec<RuleState>,
    rng: fastrand::Rng,
}

#[derive(Debug)]
struct RuleState {
    seen: u64,
    fired: u64,
    rng: fastrand::Rng,
}

/// A plan that is being played.
#[derive(Debug)]
pub(crate) struct Faults(Mutex<Running>);

impl Faults {
    pub(crate) fn new(plan: FaultPlan) -> Self {
        Self(Mutex::new(Running::start(plan)))
    }

    /// Puts another plan in place, from its beginning.
    pub(crate) fn set(&self, plan: FaultPlan) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Running::start(plan);
    }

    pub(crate) fn plan(&self) -> FaultPlan {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).plan.clone()
    }

    /// A number below `below` (0 for 0), from the plan's seed.
    pub(crate) fn draw(&self, below: usize) -> usize {
        let mut running = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if below == 0 { 0 } else { running.rng.usize(..below) }
    }

    /// The fault that this request meets.
    pub(crate) fn pick(&self, target: &Target<'_>) -> Option<Fault> {
        let mut running = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Running { plan, state, rng: _ } = &mut *running;
        let mut picked = None;
        for (rule, state) in plan.rules.iter().zip(state) {
            if !rule.matches(target) {
                continue;
            }
            state.seen += 1;
            // Drawn even when it cannot fire, so that the sequence depends on
            // the number of matching requests alone.
            let lucky = state.rng.f64() < rule.probability;
            let due = state.seen > rule.skip
                && (state.seen - rule.skip).is_multiple_of(rule.nth.max(1))
                && rule.times.is_none_or(|times| state.fired < times);
            if picked.is_none() && lucky && due {
                state.fired += 1;
                picked = Some(rule.fault.clone());
            }
        }
        picked
    }
}

impl Running {
    fn start(plan: FaultPlan) -> Self {
        let state = (0_u64..)
            .zip(&plan.rules)
            .map(|(index, _)| RuleState {
                seen: 0,
                fired: 0,
                rng: fastrand::Rng::with_seed(
                    plan.seed.wrapping_mul(0x9E37_79B9).wrapping_add(index),
                ),
            })
            .collect();
        let rng = fastrand::Rng::with_seed(plan.seed);
        Self { plan, state, rng }
    }
}

/// Whether a text meets a pattern in which `*` stands for anything.
pub(crate) fn glob(pattern: &str, text: &str) -> bool {
    let mut parts = pattern.split('*');
    let first = parts.next().unwrap_or_default();
    let Some(mut rest) = text.strip_prefix(first) else { return false };
    let Some(last) = parts.next_back() else { return rest.is_empty() };
    for part in parts {
        let Some(at) = rest.find(part) else { return false };
        rest = &rest[at + part.len()..];
    }
    rest.ends_with(last)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target<'a>(names: &'a [&'a str]) -> Target<'a> {
        Target { method: "POST", path: "/v1/users", query: "", names }
    }

    #[test]
    fn globs() {
        for (pattern, text, fits) in [
            ("/v1/users", "/v1/users", true),
            ("/v1/users", "/v1/users/x", false),
            ("/v1/users/*", "/v1/users/x/metadata", true),
            ("*@blocked.example", "a@blocked.example", true),
            ("/v1/*/metadata", "/v1/users/x/metadata", true),
            ("a*a", "a", false),
            ("*", "", true),
        ] {
            assert_eq!(glob(pattern, text), fits, "{pattern} {text}");
        }
    }

    #[test]
    fn skip_times_and_instance() {
        let rule = Rule::always(Fault::Truncate).at("target").skip(1).times(2);
        let faults = Faults::new(FaultPlan::of([rule]));
        let fired: Vec<bool> =
            (0..5).map(|_| faults.pick(&target(&["target"])).is_some()).collect();
        assert_eq!(fired, [false, true, true, false, false]);
        assert!(faults.pick(&target(&["source"])).is_none());
    }

    #[test]
    fn the_same_seed_gives_the_same_faults() {
        let run = |seed| {
            let plan = FaultPlan {
                seed,
                rules: vec![Rule::always(Fault::WrongShape).with_probability(0.3)],
            };
            let faults = Faults::new(plan);
            (0..64).map(|_| faults.pick(&target(&[])).is_some()).collect::<Vec<_>>()
        };
        assert_eq!(run(1), run(1));
        assert_ne!(run(1), run(2));
    }

    #[test]
    fn a_plan_is_read_from_json_and_back() {
        let text = r#"{"seed": 7, "rules": [
            {"method": "POST", "path": "/v1/users", "instance": "target", "probability": 0.1,
             "fault": {"kind": "reset", "when": "after"}},
            {"skip": 3, "times": 2, "fault": {"kind": "status", "status": 429, "retry_after": {"seconds": 1}}},
            {"instance": "d1", "nth": 5, "fault": {"kind": "truncate"}}]}"#;
        let plan = FaultPlan::from_json(text).unwrap();
        assert_eq!(plan.rules[0].fault, Fault::Reset { when: When::After });
        assert_eq!(plan.rules[2].nth, 5);
        let again = serde_json::to_string(&plan).unwrap();
        assert_eq!(FaultPlan::from_json(&again).unwrap(), plan);
        assert!(FaultPlan::from_json(r#"{"rules": [{"falt": 1}]}"#).is_err());
    }
}
