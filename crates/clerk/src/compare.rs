//! One user on both sides, field by field.
//!
//! Both sides are brought into the same form first ([`Profile`]), so that only differences count
//! that a person would call one: the case of an address does not, the order of secondary
//! addresses does not, the order of keys in metadata does not. What was knowingly not carried is
//! expected to be missing.

use std::collections::{BTreeMap, BTreeSet};

use rehome_core::Origin;
use serde::Serialize;
use serde_json::{Map, Value, json};

use crate::api::User;
use crate::lookup::Account;
use crate::policy::Attribute;
use crate::profile::{Profile, Status, sorted};

/// What the target's account should look like.
#[derive(Clone, PartialEq, Debug)]
pub struct Expected {
    /// The source user as it is now.
    pub profile: Profile,
    /// The `external_id` that the account was given.
    pub external_id: Option<String>,
    /// What was left out because the target refused it.
    pub without: BTreeSet<Attribute>,
    /// Whether this migration created the account.
    pub origin: Origin,
}

/// A field that is not the same on both sides.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Difference {
    /// The field, named as in the API.
    pub field: &'static str,
    /// What the source has, as the target should have it.
    pub source: Value,
    /// What the target has.
    pub target: Value,
}

/// Every difference between what is expected and the account `found`; empty when it is as it
/// should be. Of an adopted account only the link is compared: it has to share a verified
/// identifier, or the key, with the source user; the rest was its own before.
pub fn compare(expected: &Expected, found: &User) -> Vec<Difference> {
    match expected.origin {
        Origin::Adopted => compare_adopted(expected, found),
        Origin::Created => compare_created(expected, found),
    }
}

fn compare_adopted(expected: &Expected, found: &User) -> Vec<Difference> {
    let account = Account::new(found.clone());
    let claims = expected.profile.claims();
    let has_key = found.external_id.is_some() && found.external_id == expected.external_id;
    let shares = claims.iter().any(|(alias, status)| {
        *status == Status::Verified && account.claims.get(alias) == Some(&Status::Verified)
    });
    if has_key || shares {
        return Vec::new();
    }
    let aliases: Vec<_> = claims.iter().map(|(alias, _)| alias).collect();
    let theirs: Vec<_> = account.claims.keys().collect();
    vec![Difference { field: "identifiers", source: json!(aliases), target: json!(theirs) }]
}

fn compare_created(expected: &Expected, found: &User) -> Vec<Difference> {
    let ours = expected.profile.without(&expected.without);
    // An account can have got what was left out at its creation (a lock, a name) later; that
    // is not the migration's difference.
    let theirs = Profile::of(found).without(&expected.without);
    between(&ours, expected.external_id.as_deref(), &theirs)
}

/// Every field in which an account with the profile `theirs` is not what `ours` under
/// `external_id` would make of it. `ours` is taken as it is: what was left out is left out there.
pub(crate) fn between(
    ours: &Profile,
    external_id: Option<&str>,
    theirs: &Profile,
) -> Vec<Difference> {
    let mut differences = Differences(Vec::new());
    let note = &mut differences;

    note.unless_equal("external_id", json!(external_id), json!(theirs.external_id));
    note.identifiers("email_addresses", &ours.emails, &theirs.emails);
    note.unless_equal("primary_email_address", primary(&ours.emails), primary(&theirs.emails));
    note.identifiers("phone_numbers", &ours.phones, &theirs.phones);
    note.unless_equal("primary_phone_number", primary(&ours.phones), primary(&theirs.phones));
    note.unless_equal("web3_wallets", wallets(ours), wallets(theirs));
    note.unless_equal("username", folded(&ours.username), folded(&theirs.username));
    note.unless_equal("first_name", json!(ours.first_name), json!(theirs.first_name));
    note.unless_equal("last_name", json!(ours.last_name), json!(theirs.last_name));
    note.unless_equal("locale", json!(ours.locale), json!(theirs.locale));
    note.metadata("public_metadata", &ours.public_metadata, &theirs.public_metadata);
    note.metadata("private_metadata", &ours.private_metadata, &theirs.private_metadata);
    note.metadata("unsafe_metadata", &ours.unsafe_metadata, &theirs.unsafe_metadata);
    note.unless_equal("created_at", json!(ours.created_at), json!(theirs.created_at));
    note.unless_equal(
        "legal_accepted_at",
        json!(ours.legal_accepted_at),
        json!(theirs.legal_accepted_at),
    );
    note.unless_equal(
        "create_organization_enabled",
        json!(ours.create_organization_enabled),
        json!(theirs.create_organization_enabled),
    );
    note.unless_equal(
        "create_organizations_limit",
        json!(ours.create_organizations_limit),
        json!(theirs.create_organizations_limit),
    );
    note.unless_equal(
        "delete_self_enabled",
        json!(ours.delete_self_enabled),
        json!(theirs.delete_self_enabled),
    );
    note.unless_equal(
        "bypass_client_trust",
        json!(ours.bypass_client_trust),
        json!(theirs.bypass_client_trust),
    );
    note.unless_equal("banned", json!(ours.banned), json!(theirs.banned));
    note.unless_equal("locked", json!(ours.locked), json!(theirs.locked));
    differences.0
}

struct Differences(Vec<Difference>);

impl Differences {
    fn unless_equal(&mut self, field: &'static str, source: Value, target: Value) {
        if source != target {
            self.0.push(Difference { field, source, target });
        }
    }

    fn metadata(
        &mut self,
        field: &'static str,
        source: &Map<String, Value>,
        target: &Map<String, Value>,
    ) {
        if source != target {
            let shown = |map: &Map<String, Value>| sorted(Value::Object(map.clone()));
            self.unless_equal(field, shown(source), shown(target));
        }
    }

    fn identifiers(
        &mut self,
        field: &'static str,
        source: &[(String, Status)],
        target: &[(String, Status)],
    ) {
        let source: BTreeMap<_, _> = source.iter().map(comparable).collect();
        let target: BTreeMap<_, _> = target.iter().map(comparable).collect();
        self.unless_equal(field, json!(source), json!(target));
    }
}

/// An identifier as it can be compared: what is not verified in the source is reserved in the
/// target, so the two are one.
fn comparable((value, status): &(String, Status)) -> (String, &'static str) {
    let status = match status {
        Status::Verified => "verified",
        Status::Reserved | Status::Unverified => "not verified",
    };
    (value.to_lowercase(), status)
}

fn primary(identifiers: &[(String, Status)]) -> Value {
    json!(identifiers.first().map(|(value, _)| value.to_lowercase()))
}

fn wallets(profile: &Profile) -> Value {
    let wallets = profile.wallets.iter().map(|wallet| wallet.to_lowercase());
    json!(wallets.collect::<BTreeSet<_>>())
}

fn folded(text: &Option<String>) -> Value {
    json!(text.as_ref().map(|text| text.to_lowercase()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source() -> Value {
        json!({
            "id": "user_s", "primary_email_address_id": "b", "primary_phone_number_id": "p",
            "email_addresses": [
                {"id": "a", "email_address": "a@x.org", "verification": {"status": "verified"}},
                {"id": "b", "email_address": "B@x.org", "verification": {"status": "unverified"}},
                {"id": "c", "email_address": "c@x.org", "verification": {"status": "verified"}},
            ],
            "phone_numbers": [{"id": "p", "phone_number": "+15555550100", "verification": {"status": "verified"}}],
            "username": "Ada", "first_name": "Ada", "last_name": "L", "locale": "en-US",
            "public_metadata": {"a": 1, "b": {"c": null, "d": [1.5]}},
            "created_at": 1_600_000_000_123_i64, "banned": true, "locked": true,
            "delete_self_enabled": true, "create_organization_enabled": false,
        })
    }

    /// The same as the target shows it: other ids, another order, another case.
    fn target() -> Value {
        let mut target = source();
        target["id"] = json!("user_t");
        target["external_id"] = json!("user_s");
        target["primary_email_address_id"] = json!("2");
        target["email_addresses"] = json!([
            {"id": "1", "email_address": "c@x.org", "verification": {"status": "verified"}},
            {"id": "2", "email_address": "b@x.org", "reserved": true, "verification": null},
            {"id": "3", "email_address": "a@x.org", "verification": {"status": "verified"}},
        ]);
        target["username"] = json!("ada");
        target["public_metadata"] = json!({"b": {"d": [1.5], "c": null}, "a": 1});
        target["private_metadata"] = json!({});
        target["last_sign_in_at"] = json!(1_700_000_000_000_i64);
        target
    }

    fn expected(without: &[Attribute], origin: Origin) -> Expected {
        let user: User = serde_json::from_value(source()).unwrap();
        Expected {
            profile: Profile::of(&user),
            external_id: Some("user_s".into()),
            without: without.iter().copied().collect(),
            origin,
        }
    }

    fn fields(expected: &Expected, target: Value) -> Vec<&'static str> {
        let found = serde_json::from_value(target).unwrap();
        compare(expected, &found).into_iter().map(|difference| difference.field).collect()
    }

    #[test]
    fn only_what_a_person_would_call_a_difference_is_one() {
        assert!(fields(&expected(&[], Origin::Created), target()).is_empty());
    }

    #[test]
    fn every_carried_field_is_compared() {
        for (field, value, said) in [
            ("external_id", json!("user_x"), "external_id"),
            ("phone_numbers", json!([]), "phone_numbers"),
            ("primary_email_address_id", json!("1"), "primary_email_address"),
            (
                "web3_wallets",
                json!([{"web3_wallet": "0x1", "verification": {"status": "verified"}}]),
                "web3_wallets",
            ),
            ("username", json!("eve"), "username"),
            ("first_name", json!("Eve"), "first_name"),
            ("last_name", json!(null), "last_name"),
            ("locale", json!("fr-FR"), "locale"),
            ("public_metadata", json!({"a": 1, "b": {"c": null, "d": [1.6]}}), "public_metadata"),
            ("private_metadata", json!({"x": 1}), "private_metadata"),
            ("unsafe_metadata", json!({"x": 1}), "unsafe_metadata"),
            ("created_at", json!(1_600_000_000_124_i64), "created_at"),
            ("legal_accepted_at", json!(1), "legal_accepted_at"),
            ("create_organization_enabled", json!(true), "create_organization_enabled"),
            ("create_organizations_limit", json!(3), "create_organizations_limit"),
            ("delete_self_enabled", json!(false), "delete_self_enabled"),
            ("bypass_client_trust", json!(true), "bypass_client_trust"),
            ("banned", json!(false), "banned"),
            ("locked", json!(false), "locked"),
        ] {
            let mut target = target();
            target[field] = value;
            let found = fields(&expected(&[], Origin::Created), target);
            assert!(found.contains(&said), "{field}: {found:?}");
        }
    }

    #[test]
    fn an_address_that_became_verified_by_the_move_is_a_difference() {
        let mut target = target();
        target["email_addresses"][1]["verification"] = json!({"status": "verified"});
        assert_eq!(fields(&expected(&[], Origin::Created), target), ["email_addresses"]);
    }

    #[test]
    fn what_was_left_out_is_not_missed() {
        let mut target = target();
        target["banned"] = json!(false);
        target["phone_numbers"] = json!([]);
        let without = [Attribute::Banned, Attribute::PhoneNumber];
        assert!(fields(&expected(&without, Origin::Created), target).is_empty());
    }

    #[test]
    fn an_adopted_account_is_compared_by_its_link_alone() {
        let adopted = expected(&[], Origin::Adopted);
        let mut other = target();
        other["first_name"] = json!("Eve");
        other["external_id"] = json!(null);
        assert!(fields(&adopted, other.clone()).is_empty());
        other["email_addresses"] = json!([]);
        other["phone_numbers"] = json!([]);
        assert_eq!(fields(&adopted, other), ["identifiers"], "a username links nobody");
    }
}
