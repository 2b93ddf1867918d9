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
    let mut differences = Differences(Vec::new());
    let note = &mut differences;

    note.unless_equal("external_id", json!(expected.external_id), json!(theirs.external_id));
    note.identifiers("email_addresses", &ours.emails, &theirs.emails);
    note.unless_equal("primary_email_address", primary(&ours.emails), primary(&theirs.emails));
    note.identifiers("phone_numbers", &ours.phones, &theirs.phones);
    note.unless_equal("primary_phone_number", primary(&ours.phones), primary(&theirs.phones));
    note.unless_equal("web3_wallets", wallets(&ours), wallets(&theirs));
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
