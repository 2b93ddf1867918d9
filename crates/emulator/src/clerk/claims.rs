//! Uniqueness: which of a user's identifiers belong to someone else already.

use serde_json::Value;

use crate::config::Attribute;
use crate::refusal::{self, Refusal};
use crate::store::{Store, identifiers};
use crate::user::User;

/// The API's names of the taken identifiers, one entry per taken value.
fn taken(store: &Store, user: &User) -> Vec<&'static str> {
    let except = Some(user.id.as_str());
    let mut taken = Vec::new();
    for kind in Attribute::ALL {
        for identifier in identifiers(user, kind) {
            // A mere mention of an address that somebody else has verified
            // is refused too; two mere mentions may live side by side.
            if store.claimant(kind, &identifier.value, except).is_some() {
                taken.push(kind.param());
            }
        }
    }
    taken.extend(taken_names(store, user));
    taken
}

fn taken_names(store: &Store, user: &User) -> Vec<&'static str> {
    let mut taken = Vec::new();
    if let Some(name) = &user.username
        && store.claimant(Attribute::Username, name, Some(&user.id)).is_some()
    {
        taken.push(Attribute::Username.param());
    }
    if let Some(external_id) = &user.external_id
        && store.by_external(external_id).is_some_and(|owner| *owner != user.id)
    {
        taken.push("external_id");
    }
    taken
}

/// Refuses with every collision in one answer: `form_identifier_exists` each.
pub(crate) fn check(store: &Store, user: &User) -> Result<(), Refusal> {
    refuse(taken(store, user))
}

/// The same for what `PATCH /users/{id}` can change: user name and external id.
/// The addresses of a user may meanwhile be claimed by another, which is no
/// reason to refuse a change of something else.
pub(crate) fn check_names(store: &Store, user: &User) -> Result<(), Refusal> {
    refuse(taken_names(store, user))
}

fn refuse(taken: Vec<&'static str>) -> Result<(), Refusal> {
    let errors: Vec<Value> = taken.into_iter().map(refusal::taken).collect();
    if errors.is_empty() { Ok(()) } else { Err(Refusal::taken(errors)) }
}

/// For seeds, where unclaimed addresses may be shared with a claimed one.
pub(crate) fn first_taken(store: &Store, user: &User) -> Option<&'static str> {
    if store.get(&user.id).is_some() {
        return Some("id");
    }
    let mut claimed = user.clone();
    for list in
        [&mut claimed.email_addresses, &mut claimed.phone_numbers, &mut claimed.web3_wallets]
    {
        list.retain(crate::user::Identifier::claimed);
    }
    taken(store, &claimed).first().copied()
}
