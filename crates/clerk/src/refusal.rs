//! What a refused creation means: a unit that fails, a part that is left out, an account that is
//! already there, or an instance that takes nobody any more.

use std::collections::BTreeSet;

use rehome_core::{Failure, RemoteTrouble};

use crate::create::CreateUser;
use crate::error::{ApiError, Refusal};
use crate::policy::{Attribute, UserPolicy};

/// What helps where the source has to change: the journal keeps users as they were exported.
pub(crate) const CORRECT: &str = "correct it in the source and start with a new journal (accounts that are there are then adopted)";

/// The meaning of a refusal of `CreateUser`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Meaning {
    /// No user can be created any more in this run.
    Exhausted { trouble: RemoteTrouble, hint: &'static str },
    /// The remote was busy with this very resource; nothing was done.
    Busy,
    /// An identifier is taken: by somebody else, or by an earlier attempt whose answer was lost.
    Taken,
    /// These parts are refused, and the policy lets the user go without them.
    GoWithout(Vec<Part>),
    /// The user cannot be created like this.
    Failed(Failure),
}

/// A refused part.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Part {
    pub(crate) attribute: Attribute,
    /// The instance refuses it for everybody, not this user's value of it.
    pub(crate) everywhere: bool,
}

/// What `refusal` of `form` means under `policy`.
pub(crate) fn meaning(refusal: &Refusal, form: &CreateUser, policy: &UserPolicy) -> Meaning {
    let has = |code| refusal.has(code);
    if has("user_quota_exceeded") || has("quota_exceeded") {
        return Meaning::Exhausted {
            trouble: RemoteTrouble::Quota,
            hint: "a development instance holds at most 100 users: use a production instance, or delete users; otherwise raise the plan's limit. Then run the same command again",
        };
    }
    if has("resource_locked") {
        return Meaning::Busy;
    }
    if is_taken(refusal) {
        return Meaning::Taken;
    }
    let parts = refused_parts(refusal, form);
    let allowed = |part: &Part| policy.without.contains(&part.attribute);
    if let Some(parts) = &parts
        && parts.iter().all(allowed)
    {
        return Meaning::GoWithout(parts.clone());
    }
    let failure = Failure::new(refusal.code(), refusal.to_string());
    Meaning::Failed(match hint(refusal, parts.as_deref().unwrap_or_default()) {
        Some(hint) => failure.with_hint(hint),
        None => failure,
    })
}

/// That an identifier or the external id is taken. For the latter the code is not documented,
/// only its text ("That external id is taken") has been seen, so the text counts too.
fn is_taken(refusal: &Refusal) -> bool {
    refusal.errors.iter().any(|error| {
        error.code == "form_identifier_exists"
            || (refusal.status == 422
                && [&error.message, &error.long_message]
                    .iter()
                    .any(|text| text.contains("is taken")))
    })
}

/// The parts of the form that were refused; `None` unless every error is about such a part.
fn refused_parts(refusal: &Refusal, form: &CreateUser) -> Option<Vec<Part>> {
    let parts: Option<Vec<_>> = refusal
        .errors
        .iter()
        .map(|error| {
            let everywhere =
                matches!(error.code.as_str(), "form_param_unknown" | "feature_not_enabled")
                    || refusal.status == 402;
            let named = error.meta.param_name.as_deref().and_then(Attribute::of_param);
            // `CreateUser`: a ban needs a plan that has it (402), a lock needs lockout enabled
            // (403); such errors need not name the field.
            let implied = match (refusal.status, error.code.as_str()) {
                (402, _) => Some(Attribute::Banned),
                (403, "feature_not_enabled") => Some(Attribute::Locked),
                (_, _) => None,
            };
            let attribute = named.or(implied).filter(|attribute| form.carries(*attribute))?;
            Some(Part { attribute, everywhere })
        })
        .collect();
    parts.filter(|parts| !parts.is_empty())
}

/// That an error is about what this user has there, which no setting of the instance changes.
fn is_about_the_value(error: &ApiError) -> bool {
    matches!(
        error.code.as_str(),
        "form_param_format_invalid"
            | "form_param_value_invalid"
            | "form_param_max_length_exceeded"
            | "form_param_exceeds_allowed_size"
    )
}

fn hint(refusal: &Refusal, parts: &[Part]) -> Option<String> {
    let attributes: BTreeSet<_> = parts.iter().map(|part| part.attribute).collect();
    let words: Vec<_> =
        attributes.iter().map(|attribute| format!("\"{}\"", attribute.as_str())).collect();
    let without = words.join(", ");
    if refusal.errors.iter().any(is_about_the_value) {
        let about = refusal.errors.iter().filter(|error| is_about_the_value(error));
        let fields: BTreeSet<_> =
            about.filter_map(|error| error.meta.param_name.as_deref()).collect();
        let fields = match fields.len() {
            0 => "a field".to_owned(),
            _ => fields.into_iter().collect::<Vec<_>>().join(", "),
        };
        let or_without = match attributes.len() {
            0 => String::new(),
            _ => format!(
                "; or set `[users] without = [{without}]` to carry users without it, then `rehome retry`"
            ),
        };
        return Some(format!(
            "the target refuses the value of {fields} itself: take the user out with `rehome skip`, or {CORRECT}{or_without}"
        ));
    }
    if !attributes.is_empty() {
        return Some(format!(
            "enable it in the target instance, or set `[users] without = [{without}]` to carry users without it; then `rehome retry`"
        ));
    }
    let hint = match refusal.code() {
        "form_password_pwned" | "form_param_missing" | "form_data_missing" => {
            "the target instance requires something that the source user does not have: relax its user settings, then `rehome retry`"
        }
        "not_allowed_access" => {
            "the target's allowlist, blocklist or restrictions refuse this user: change them in the target, then `rehome retry`"
        }
        _ => return None,
    };
    Some(hint.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::profile::Profile;
    use serde_json::{Value, json};

    fn form() -> CreateUser {
        let user = json!({"id": "user_1", "username": "u", "first_name": "A", "banned": true, "locked": true,
            "phone_numbers": [{"phone_number": "+1", "verification": {"status": "verified"}}]});
        let user = serde_json::from_value(user).unwrap();
        CreateUser::new(&Profile::of(&user), None, &BTreeSet::new())
    }

    fn meant(status: u16, errors: &[(&str, Option<&str>)], without: &[Attribute]) -> Meaning {
        let errors: Vec<Value> = errors
            .iter()
            .map(|(code, param)| json!({"code": code, "meta": {"param_name": param}}))
            .collect();
        let body = json!({"errors": errors}).to_string();
        let refusal = Refusal::parse(status, body.as_bytes()).unwrap();
        let without = without.iter().copied().collect();
        meaning(&refusal, &form(), &UserPolicy { without, ..UserPolicy::default() })
    }

    fn part(attribute: Attribute, everywhere: bool) -> Part {
        Part { attribute, everywhere }
    }

    #[test]
    fn a_plan_or_setting_may_be_gone_without_where_the_policy_says_so() {
        let banned = [("unsupported_subscription_plan_features", None)];
        let parts = vec![part(Attribute::Banned, true)];
        assert_eq!(meant(402, &banned, &[Attribute::Banned]), Meaning::GoWithout(parts));
        let locked = [("feature_not_enabled", None)];
        let parts = vec![part(Attribute::Locked, true)];
        assert_eq!(meant(403, &locked, &[Attribute::Locked]), Meaning::GoWithout(parts));

        let Meaning::Failed(failure) = meant(402, &banned, &[Attribute::Locked]) else { panic!() };
        assert_eq!(failure.code, "unsupported_subscription_plan_features");
        assert!(failure.hint.unwrap().contains("without = [\"banned\"]"));
    }

    #[test]
    fn one_users_value_is_not_held_against_everybody() {
        let refused = [("form_param_format_invalid", Some("phone_number[0]"))];
        let parts = vec![part(Attribute::PhoneNumber, false)];
        assert_eq!(meant(422, &refused, &[Attribute::PhoneNumber]), Meaning::GoWithout(parts));
    }

    #[test]
    fn a_refused_value_is_not_put_down_to_a_setting() {
        for (code, param) in [
            ("form_param_format_invalid", "phone_number"),
            ("form_param_max_length_exceeded", "first_name"),
            ("form_param_exceeds_allowed_size", "public_metadata"),
        ] {
            let Meaning::Failed(failure) = meant(422, &[(code, Some(param))], &[]) else {
                panic!()
            };
            let hint = failure.hint.unwrap();
            assert!(hint.contains(param) && hint.contains("new journal"), "{hint}");
            assert!(!hint.contains("enable"), "{hint}");
        }
    }

    #[test]
    fn every_error_has_to_be_covered() {
        let two = [
            ("form_param_unknown", Some("username")),
            ("form_param_unknown", Some("phone_number")),
        ];
        assert!(matches!(meant(422, &two, &[Attribute::Username]), Meaning::Failed(_)));
        let both = [Attribute::Username, Attribute::PhoneNumber];
        assert!(matches!(meant(422, &two, &both), Meaning::GoWithout(parts) if parts.len() == 2));
        let other =
            [("form_param_unknown", Some("username")), ("form_data_missing", Some("password"))];
        assert!(matches!(meant(422, &other, &Attribute::ALL), Meaning::Failed(_)));
    }

    #[test]
    fn what_was_not_sent_cannot_be_left_out() {
        let wallet = [("form_param_unknown", Some("web3_wallet"))];
        assert!(matches!(meant(422, &wallet, &Attribute::ALL), Meaning::Failed(_)));
    }

    #[test]
    fn taken_busy_and_full_are_told_apart() {
        assert_eq!(
            meant(422, &[("form_identifier_exists", Some("email_address"))], &[]),
            Meaning::Taken
        );
        assert_eq!(meant(409, &[("resource_locked", None)], &[]), Meaning::Busy);
        assert!(matches!(
            meant(403, &[("user_quota_exceeded", None)], &[]),
            Meaning::Exhausted { trouble: RemoteTrouble::Quota, .. }
        ));
        let body = br#"{"errors":[{"code":"form_param_value_invalid","message":"x","long_message":"That external id is taken. Please try another."}]}"#;
        let refusal = Refusal::parse(422, body).unwrap();
        assert_eq!(meaning(&refusal, &form(), &UserPolicy::default()), Meaning::Taken);
    }
}
