//! Is this account the one that a lost request made?
//!
//! Three things have to come together: it is where the intent said it would be (under its key,
//! or, without one, under its identifiers), it carries exactly what was sent, and its
//! identifiers came into being after the intent. The identifiers' own dates are the evidence;
//! the account's sign-up date is not, because it is carried over from the source, and for the
//! same reason it helps where there is no key: only an account made by this migration has the
//! source's date.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::lookup::Account;
use crate::policy::Attribute;
use crate::profile::Profile;

/// How far the target's clock may be behind what is known of it, in milliseconds: its answers and
/// its records may be dated by different machines, and one that dates no answers is taken to have
/// our time.
const SKEW: i64 = 5 * 60 * 1000;
/// How exactly a carried date must come back: to the second, if milliseconds should be cut off.
const DATE_TOLERANCE: i64 = 1000;

/// What is journaled before an account is created.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Intent {
    /// The key under which the account will be found.
    pub external_id: Option<String>,
    /// When, by the target's clock; Unix milliseconds.
    pub at: i64,
    /// What is left out because the target refuses it.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub without: BTreeSet<Attribute>,
}

impl Intent {
    /// Reads a journaled intent; `None` when it is not one of this transition.
    pub fn from_json(value: &Value) -> Option<Self> {
        Self::deserialize(value).ok()
    }
}

/// What an account is to an intent.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Verdict {
    /// This migration made it.
    Ours,
    /// The same user, but it was there before, or could have been made by others.
    Before,
    /// It carries other identifiers than were sent.
    Other,
}

/// Judges `account`, found where `intent` for the user with `profile` would have put it.
pub(crate) fn judge(profile: &Profile, intent: &Intent, account: &Account) -> Verdict {
    let sent = profile.without(&intent.without);
    let sent: BTreeSet<_> = sent.claims().into_iter().map(|(alias, _)| alias).collect();
    if !sent.iter().eq(account.claims.keys()) {
        return Verdict::Other;
    }
    let user = &account.user;
    if intent.external_id.is_some() && user.external_id != intent.external_id {
        return Verdict::Before;
    }
    let identifiers =
        user.email_addresses.iter().chain(&user.phone_numbers).chain(&user.web3_wallets);
    let oldest = identifiers
        .map(|identifier| identifier.created_at)
        // A username has no date of its own; nothing can have happened to its account since.
        .chain(
            account
                .claims
                .keys()
                .all(|alias| alias.starts_with("username:"))
                .then_some(user.updated_at),
        )
        .min()
        .flatten();
    let is_new = oldest.is_some_and(|oldest| oldest >= intent.at.saturating_sub(SKEW));
    let has_our_date = match (profile.created_at, user.created_at) {
        (Some(sent), Some(found)) => sent.abs_diff(found) < DATE_TOLERANCE.unsigned_abs(),
        (Some(_), None) => false,
        (None, Some(_) | None) => intent.external_id.is_some(),
    };
    if is_new && (intent.external_id.is_some() || has_our_date) {
        Verdict::Ours
    } else {
        Verdict::Before
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const AT: i64 = 1_700_000_000_000;
    const SIGNED_UP: i64 = 1_600_000_000_123;

    fn user(made_at: i64) -> Value {
        json!({
            "id": "user_t", "external_id": "user_s", "created_at": SIGNED_UP,
            "email_addresses": [{"email_address": "A@x.org", "created_at": made_at,
                                 "verification": {"status": "verified"}}],
        })
    }

    fn judged(account: Value, key: Option<&str>) -> Verdict {
        let source: crate::api::User = serde_json::from_value(user(SIGNED_UP)).unwrap();
        let intent =
            Intent { external_id: key.map(str::to_owned), at: AT, without: BTreeSet::new() };
        let account = Account::new(serde_json::from_value(account).unwrap());
        judge(&Profile::of(&source), &intent, &account)
    }

    #[test]
    fn the_identifiers_dates_decide_with_room_for_the_clocks() {
        for (made_at, verdict) in [
            (AT, Verdict::Ours),
            (AT + 60_000, Verdict::Ours),
            (AT - SKEW, Verdict::Ours),
            (AT - SKEW - 1, Verdict::Before),
            (SIGNED_UP, Verdict::Before),
        ] {
            assert_eq!(judged(user(made_at), Some("user_s")), verdict, "{made_at}");
        }
        let mut undated = user(AT);
        undated["email_addresses"][0]["created_at"] = Value::Null;
        assert_eq!(judged(undated, Some("user_s")), Verdict::Before);
    }

    #[test]
    fn other_identifiers_or_another_key_are_not_ours() {
        let mut more = user(AT);
        more["username"] = json!("eve");
        assert_eq!(judged(more, Some("user_s")), Verdict::Other);
        assert_eq!(judged(user(AT), Some("user_x")), Verdict::Before);
    }

    #[test]
    fn without_a_key_only_the_carried_sign_up_date_tells_ours_from_a_new_sign_up() {
        assert_eq!(judged(user(AT), None), Verdict::Ours);
        let mut signed_up_now = user(AT);
        signed_up_now["created_at"] = json!(AT);
        assert_eq!(judged(signed_up_now, None), Verdict::Before);
    }

    #[test]
    fn an_intent_comes_back_and_anything_else_is_none() {
        let intent =
            Intent { external_id: None, at: AT, without: BTreeSet::from([Attribute::Banned]) };
        assert_eq!(Intent::from_json(&json!(intent)), Some(intent));
        assert_eq!(Intent::from_json(&json!({"rows": 3})), None);
    }
}
