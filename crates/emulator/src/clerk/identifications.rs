//! `/email_addresses` and `/phone_numbers`: one identifier at a time.
//!
//! Unlike `POST /users`, leaving `verified` out creates the identifier
//! unverified (specification, `CreateEmailAddress`).

use serde_json::json;

use super::form::Form;
use super::{Answer, json_of, validate};
use crate::config::Attribute;
use crate::instance::{Effect, Instance};
use crate::refusal::{self, Refusal};
use crate::user::{Identifier, User, Verification};

/// Which of the two lists a request is about.
fn kind_of(list: &str) -> Attribute {
    if list == "email_addresses" { Attribute::EmailAddress } else { Attribute::PhoneNumber }
}

/// Answers `{POST} /list` and `{GET,PATCH,DELETE} /list/{id}`.
pub(crate) fn answer(
    instance: &Instance,
    method: &str,
    list: &str,
    rest: &[&str],
    body: impl FnOnce() -> Result<Form, Refusal>,
) -> Answer {
    let kind = kind_of(list);
    match (method, rest) {
        ("POST", []) => create(instance, kind, &body()?),
        ("GET", [id]) => {
            let store = instance.store();
            let owner = store.owner(id).ok_or_else(Refusal::identification_not_found)?;
            let found = find(owner, kind, id)?;
            json(kind, found)
        }
        ("PATCH", [id]) => change(instance, kind, id, &body()?),
        ("DELETE", [id]) => delete(instance, kind, id),
        (_, _) => Err(Refusal::no_route()),
    }
}

fn json(kind: Attribute, identifier: &Identifier) -> Answer {
    match kind {
        Attribute::EmailAddress => json_of(&identifier.email_json()),
        Attribute::PhoneNumber => json_of(&identifier.phone_json()),
        Attribute::Web3Wallet | Attribute::Username => json_of(&identifier.wallet_json()),
    }
}

fn find<'a>(user: &'a User, kind: Attribute, id: &str) -> Result<&'a Identifier, Refusal> {
    crate::store::identifiers(user, kind)
        .iter()
        .find(|identifier| identifier.id == id)
        .ok_or_else(Refusal::identification_not_found)
}

/// The user's list and its primary, to be changed.
fn parts(user: &mut User, kind: Attribute) -> (&mut Vec<Identifier>, &mut Option<String>) {
    match kind {
        Attribute::EmailAddress => (&mut user.email_addresses, &mut user.primary_email_address_id),
        Attribute::PhoneNumber => (&mut user.phone_numbers, &mut user.primary_phone_number_id),
        Attribute::Web3Wallet | Attribute::Username => {
            (&mut user.web3_wallets, &mut user.primary_web3_wallet_id)
        }
    }
}

fn create(instance: &Instance, kind: Attribute, form: &Form) -> Answer {
    let name = kind.param();
    let extra = extra(kind);
    form.only(|field| ["user_id", name, "verified", "primary", extra].contains(&field))?;
    let settings = instance.settings();
    if !settings.has(kind) {
        return Err(Refusal::feature_off(Some(name)));
    }
    let user_id = form.required_text("user_id")?;
    let mut value = form.required_text(name)?;
    let verified = form.flag("verified")?.unwrap_or(false);
    let primary = form.flag("primary")?.unwrap_or(false);
    let extra_set = form.flag(extra)?.unwrap_or(false);
    match kind {
        Attribute::EmailAddress => validate::email(name, &value)?,
        Attribute::PhoneNumber => validate::phone(name, &value)?,
        Attribute::Web3Wallet | Attribute::Username => {}
    }
    if kind == Attribute::EmailAddress && settings.lower_case_emails {
        value = value.to_lowercase();
    }
    if super::create::is_refused(&settings, &value) {
        return Err(Refusal::not_allowed(&[&value]));
    }
    let now = instance.now_ms();
    let mut store = instance.store();
    let mut user = store
        .get(&user_id)
        .map(|u| User::clone(u))
        .ok_or_else(|| Refusal::user_not_found(&user_id))?;
    let own = store.holders(kind, &value).contains(&user_id);
    if own || store.claimant(kind, &value, Some(&user_id)).is_some() {
        return Err(Refusal::taken(vec![refusal::taken(name)]));
    }
    if primary && !verified {
        return Err(Refusal::unverified("primary"));
    }
    let identifier = Identifier {
        id: instance.ids.next("idn_"),
        value,
        reserved: false,
        verification: verified.then(Verification::admin),
        linked_to: Vec::new(),
        reserved_for_second_factor: kind == Attribute::PhoneNumber && extra_set && verified,
        created_at: now,
        updated_at: now,
    };
    let answer = json(kind, &identifier);
    let (list, first) = parts(&mut user, kind);
    if primary || list.is_empty() {
        *first = Some(identifier.id.clone());
    }
    list.push(identifier);
    user.updated_at = now;
    let user = store.put(user);
    drop(store);
    instance.tell(Effect::Updated { instance: instance.id().to_owned(), user });
    answer
}

fn extra(kind: Attribute) -> &'static str {
    match kind {
        Attribute::PhoneNumber => "reserved_for_second_factor",
        Attribute::EmailAddress | Attribute::Web3Wallet | Attribute::Username => {
            "notify_primary_email_address_changed"
        }
    }
}

fn change(instance: &Instance, kind: Attribute, id: &str, form: &Form) -> Answer {
    let extra = extra(kind);
    form.only(|field| ["verified", "primary", extra].contains(&field))?;
    let verified = form.flag("verified")?;
    let primary = form.flag("primary")?.unwrap_or(false);
    let extra_set = form.flag(extra)?;
    let now = instance.now_ms();
    let mut store = instance.store();
    let mut user =
        store.owner(id).map(|u| User::clone(u)).ok_or_else(Refusal::identification_not_found)?;
    let value = find(&user, kind, id)?.value.clone();
    if verified == Some(true) && store.claimant(kind, &value, Some(&user.id)).is_some() {
        return Err(Refusal::identification_claimed());
    }
    let (list, first) = parts(&mut user, kind);
    let identifier =
        list.iter_mut().find(|i| i.id == id).ok_or_else(Refusal::identification_not_found)?;
    match verified {
        Some(true) => {
            identifier.verification = Some(Verification::admin());
            identifier.reserved = false;
        }
        Some(false) => {
            identifier.verification = None;
            identifier.reserved = false;
        }
        None => {}
    }
    if kind == Attribute::PhoneNumber
        && let Some(set) = extra_set
    {
        identifier.reserved_for_second_factor = set;
    }
    if primary {
        if !identifier.verified() {
            return Err(Refusal::unverified("primary"));
        }
        *first = Some(identifier.id.clone());
    }
    identifier.updated_at = now;
    let answer = json(kind, identifier);
    user.updated_at = now;
    let user = store.put(user);
    drop(store);
    instance.tell(Effect::Updated { instance: instance.id().to_owned(), user });
    answer
}

fn delete(instance: &Instance, kind: Attribute, id: &str) -> Answer {
    let mut store = instance.store();
    let mut user =
        store.owner(id).map(|u| User::clone(u)).ok_or_else(Refusal::identification_not_found)?;
    if !find(&user, kind, id)?.linked_to.is_empty() {
        return Err(Refusal::linked_identification());
    }
    let (list, first) = parts(&mut user, kind);
    list.retain(|identifier| identifier.id != id);
    if first.as_deref() == Some(id) {
        *first = list.iter().find(|i| i.verified()).or(list.first()).map(|i| i.id.clone());
    }
    if !user.identifiable() {
        return Err(Refusal::last_identification());
    }
    user.updated_at = instance.now_ms();
    let user = store.put(user);
    drop(store);
    instance.tell(Effect::Updated { instance: instance.id().to_owned(), user });
    json_of(&json!({ "object": kind.param(), "id": id, "deleted": true }))
}
