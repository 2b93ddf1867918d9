//! Which step comes next, worked out from three states of one user.

use std::collections::BTreeSet;

use rehome_core::Failure;
use serde_json::{Map, Value, json};

use super::form::{Amendment, List};
use crate::api::{Identification, User};
use crate::create::date;
use crate::profile::{Profile, Status};

/// What is to be done with an account.
#[derive(Clone, PartialEq, Debug)]
pub enum Next {
    /// It is up to date.
    Nothing,
    /// This.
    Step(Amendment),
    /// Both sides have changed the same thing, or it cannot be carried.
    Conflict(Failure),
}

/// The next step that brings `account` from `base` to `now` (both as the source showed the user,
/// without what is left out), under the key `external_id`.
pub fn next(base: &Profile, now: &Profile, external_id: Option<&str>, account: &User) -> Next {
    let mut steps = Steps { fields: Map::new(), metadata: Map::new(), conflicts: BTreeSet::new() };
    let there = Profile::of(account);
    let text = |value: &Option<String>| json!(value);
    // The base's key is what the account was given; whoever else changes it is in conflict.
    if base.external_id != now.external_id {
        steps.field("external_id", &json!(there.external_id), &json!(external_id), None);
    }
    steps.text("username", &base.username, &now.username, &there.username);
    for (name, base, now, there) in [
        ("first_name", &base.first_name, &now.first_name, &there.first_name),
        ("last_name", &base.last_name, &now.last_name, &there.last_name),
        ("locale", &base.locale, &now.locale, &there.locale),
    ] {
        steps.field(name, &text(there), &text(now), Some(&text(base)));
    }
    for (name, base, now, there) in [
        (
            "delete_self_enabled",
            base.delete_self_enabled,
            now.delete_self_enabled,
            there.delete_self_enabled,
        ),
        (
            "create_organization_enabled",
            base.create_organization_enabled,
            now.create_organization_enabled,
            there.create_organization_enabled,
        ),
        (
            "bypass_client_trust",
            base.bypass_client_trust,
            now.bypass_client_trust,
            there.bypass_client_trust,
        ),
    ] {
        steps.field(name, &json!(there), &json!(now), Some(&json!(base)));
    }
    // "0 means unlimited" (schema `User`).
    let limit = |limit: Option<i64>| json!(limit.unwrap_or(0));
    let (was, is, has) = (
        limit(base.create_organizations_limit),
        limit(now.create_organizations_limit),
        limit(there.create_organizations_limit),
    );
    steps.field("create_organizations_limit", &has, &is, Some(&was));
    let day = |at: Option<i64>| json!(at.and_then(date));
    let (was, is, has) =
        (day(base.legal_accepted_at), day(now.legal_accepted_at), day(there.legal_accepted_at));
    steps.field("legal_accepted_at", &has, &is, Some(&was));
    for (name, base, now, there) in [
        ("public_metadata", &base.public_metadata, &now.public_metadata, &there.public_metadata),
        (
            "private_metadata",
            &base.private_metadata,
            &now.private_metadata,
            &there.private_metadata,
        ),
        ("unsafe_metadata", &base.unsafe_metadata, &now.unsafe_metadata, &there.unsafe_metadata),
    ] {
        match three(base, now, there) {
            Three::Same => {}
            Three::Ours => drop(steps.metadata.insert(name.to_owned(), json!(now))),
            Three::Both => drop(steps.conflicts.insert(name)),
        }
    }
    let mut one = None;
    for (list, base, now, there, primary) in [
        (
            List::Emails,
            &base.emails,
            &now.emails,
            &account.email_addresses,
            &account.primary_email_address_id,
        ),
        (
            List::Phones,
            &base.phones,
            &now.phones,
            &account.phone_numbers,
            &account.primary_phone_number_id,
        ),
    ] {
        match identifiers(list, base, now, there, primary.as_deref()) {
            Ok(step) => one = one.or(step),
            Err(field) => drop(steps.conflicts.insert(field)),
        }
    }
    let wallets = |profile: &Profile| -> BTreeSet<String> {
        profile.wallets.iter().map(|wallet| wallet.to_lowercase()).collect()
    };
    if three(&wallets(base), &wallets(now), &wallets(&there)) != Three::Same {
        // The API cannot add one to an account that exists.
        steps.conflicts.insert("web3_wallets");
    }
    for (name, base, now, there, step) in [
        ("banned", base.banned, now.banned, there.banned, Amendment::Banned(now.banned)),
        ("locked", base.locked, now.locked, there.locked, Amendment::Locked(now.locked)),
    ] {
        match three(&base, &now, &there) {
            Three::Same => {}
            Three::Ours => one = one.or(Some(step)),
            Three::Both => drop(steps.conflicts.insert(name)),
        }
    }
    steps.first(one)
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Three {
    /// There is nothing to carry: the target has it, or the source has not changed it.
    Same,
    /// The source has changed it, and the target has not.
    Ours,
    /// Both have.
    Both,
}

fn three<T: PartialEq>(base: &T, now: &T, there: &T) -> Three {
    if base == now || now == there {
        Three::Same
    } else if base == there {
        Three::Ours
    } else {
        Three::Both
    }
}

struct Steps {
    fields: Map<String, Value>,
    metadata: Map<String, Value>,
    conflicts: BTreeSet<&'static str>,
}

impl Steps {
    fn field(&mut self, name: &'static str, there: &Value, now: &Value, base: Option<&Value>) {
        match three(base.unwrap_or(there), now, there) {
            Three::Same => {}
            Three::Ours => drop(self.fields.insert(name.to_owned(), now.clone())),
            Three::Both => drop(self.conflicts.insert(name)),
        }
    }

    /// Of a name whose letter case does not count.
    fn text(
        &mut self,
        name: &'static str,
        base: &Option<String>,
        now: &Option<String>,
        there: &Option<String>,
    ) {
        let folded = |text: &Option<String>| text.as_ref().map(|text| text.to_lowercase());
        match three(&folded(base), &folded(now), &folded(there)) {
            Three::Same => {}
            Three::Ours => drop(self.fields.insert(name.to_owned(), json!(now))),
            Three::Both => drop(self.conflicts.insert(name)),
        }
    }

    fn first(self, one: Option<Amendment>) -> Next {
        if !self.conflicts.is_empty() {
            let fields: Vec<_> = self.conflicts.into_iter().collect();
            let failure = Failure::new(
                "changed_on_both_sides",
                format!(
                    "the source has changed {} since the account was made, and it cannot be \
                     carried over: the target has another value by now, or the API cannot set it",
                    fields.join(", ")
                ),
            );
            return Next::Conflict(failure.with_hint(
                "give the account in the target what it should have (`rehome show` has both), then `rehome retry`",
            ));
        }
        if let Some(step) = one {
            return Next::Step(step);
        }
        if !self.fields.is_empty() {
            return Next::Step(Amendment::Fields(self.fields));
        }
        if !self.metadata.is_empty() {
            return Next::Step(Amendment::Metadata(self.metadata));
        }
        Next::Nothing
    }
}

/// The next step for one list, or the field that both sides have changed: first what is new comes,
/// then statuses and the primary are set, and only then what is gone goes, so that the account is
/// never without a name.
fn identifiers(
    list: List,
    base: &[(String, Status)],
    now: &[(String, Status)],
    there: &[Identification],
    primary: Option<&str>,
) -> Result<Option<Amendment>, &'static str> {
    let field = match list {
        List::Emails => "email_addresses",
        List::Phones => "phone_numbers",
    };
    if base == now {
        return Ok(None);
    }
    let same = |a: &str, b: &str| a.to_lowercase() == b.to_lowercase();
    let of = |set: &[(String, Status)], value: &str| {
        set.iter().find(|(other, _)| same(other, value)).map(|(_, status)| *status)
    };
    let on = |value: &str| there.iter().find(|item| same(&item.value, value));
    // Somebody has added one there, or taken one away that both had.
    let stranger =
        |item: &Identification| of(base, &item.value).is_none() && of(now, &item.value).is_none();
    let missing = |(value, _): &(String, Status)| of(now, value).is_some() && on(value).is_none();
    if there.iter().any(stranger) || base.iter().any(missing) {
        return Err(field);
    }
    for (value, status) in now {
        match on(value) {
            None => {
                let (value, verified) = (value.clone(), *status == Status::Verified);
                return Ok(Some(Amendment::Add { list, value, verified }));
            }
            Some(item) if item.is_verified() != (*status == Status::Verified) => {
                let was = of(base, value).map(|status| status == Status::Verified);
                if was.is_some_and(|was| was != item.is_verified()) {
                    return Err(field);
                }
                let id = item.id.clone().ok_or(field)?;
                let verified = *status == Status::Verified;
                return Ok(Some(Amendment::Verify { list, id, verified }));
            }
            Some(_) => {}
        }
    }
    if let Some((first, status)) = now.first()
        && let Some(item) = on(first)
        && item.id.as_deref() != primary
        && base.first().is_none_or(|(before, _)| !same(before, first))
    {
        if *status != Status::Verified {
            // The API makes only a proven one the primary (`UpdateUser`).
            return Err(field);
        }
        let id = item.id.clone().ok_or(field)?;
        return Ok(Some(Amendment::Primary { list, id }));
    }
    let gone = there.iter().find(|item| of(now, &item.value).is_none());
    match gone {
        None => Ok(None),
        Some(item) => Ok(Some(Amendment::Remove { list, id: item.id.clone().ok_or(field)? })),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn user(change: impl FnOnce(&mut Value)) -> User {
        let mut user = json!({
            "id": "user_1", "external_id": "user_s", "primary_email_address_id": "a",
            "email_addresses": [
                {"id": "a", "email_address": "a@x.org", "verification": {"status": "verified"}},
                {"id": "b", "email_address": "b@x.org", "reserved": true, "verification": null},
            ],
            "first_name": "Ada", "username": "ada", "public_metadata": {"a": 1},
        });
        change(&mut user);
        serde_json::from_value(user).unwrap()
    }

    /// The next step when the source has made `now` of the user and somebody `there` of the account.
    fn step(now: impl FnOnce(&mut Value), there: impl FnOnce(&mut Value)) -> Next {
        let (base, now) = (Profile::of(&user(|_| {})), Profile::of(&user(now)));
        next(&base, &now, Some("user_s"), &user(there))
    }

    fn conflict(next: &Next) -> bool {
        matches!(next, Next::Conflict(failure) if failure.code == "changed_on_both_sides")
    }

    #[test]
    fn what_only_the_source_has_changed_is_carried_and_what_only_the_target_has_stays() {
        let name = |user: &mut Value| user["first_name"] = json!("Grace");
        let Next::Step(Amendment::Fields(fields)) = step(name, |_| {}) else { panic!() };
        assert_eq!(Value::Object(fields), json!({"first_name": "Grace"}));
        assert_eq!(step(|_| {}, name), Next::Nothing);
        assert_eq!(step(name, name), Next::Nothing);
        assert!(conflict(&step(name, |user| user["first_name"] = json!("Jean"))));
        // Taken away: null says so.
        let Next::Step(step) = step(|user| user["first_name"] = Value::Null, |_| {}) else {
            panic!()
        };
        assert_eq!(step.request("user_1").2, Some(json!({"first_name": null})));
    }

    #[test]
    fn metadata_is_replaced_as_a_whole_so_that_a_key_can_go() {
        let Next::Step(step) = step(|user| user["public_metadata"] = json!({}), |_| {}) else {
            panic!()
        };
        let (method, path, body) = step.request("user_1");
        assert_eq!((method, path.as_str()), (crate::wire::Method::Put, "/users/user_1/metadata"));
        assert_eq!(body, Some(json!({"public_metadata": {}})));
    }

    /// Steps until none is left, done to an account as the API would do them.
    fn walk(now: impl FnOnce(&mut Value)) -> Vec<String> {
        let (base, now) = (Profile::of(&user(|_| {})), Profile::of(&user(now)));
        let mut account = user(|_| {});
        let mut done = Vec::new();
        loop {
            let step = match next(&base, &now, Some("user_s"), &account) {
                Next::Nothing => return done,
                Next::Conflict(failure) => panic!("{failure:?} after {done:?}"),
                Next::Step(step) => step,
            };
            done.push(step.what());
            assert!(done.len() < 9, "{done:?}");
            let emails = &mut account.email_addresses;
            match step {
                Amendment::Add { value, verified, .. } => {
                    let status = if verified { "verified" } else { "unverified" };
                    let item = json!({"id": value, "email_address": value,
                                      "verification": {"status": status}});
                    emails.push(serde_json::from_value(item).unwrap());
                }
                Amendment::Remove { id, .. } => emails.retain(|item| item.id.as_ref() != Some(&id)),
                Amendment::Primary { id, .. } => account.primary_email_address_id = Some(id),
                Amendment::Verify { id, verified, .. } => {
                    let item =
                        emails.iter_mut().find(|item| item.id.as_ref() == Some(&id)).unwrap();
                    item.verification = verified
                        .then(|| serde_json::from_value(json!({"status": "verified"})).unwrap());
                }
                Amendment::Fields(_)
                | Amendment::Metadata(_)
                | Amendment::Banned(_)
                | Amendment::Locked(_) => panic!("only addresses changed"),
            }
        }
    }

    #[test]
    fn addresses_come_before_others_go() {
        let steps = walk(|user| {
            user["primary_email_address_id"] = json!("c");
            user["email_addresses"] = json!([
                {"id": "b", "email_address": "B@x.org", "verification": {"status": "verified"}},
                {"id": "c", "email_address": "c@x.org", "verification": {"status": "verified"}},
            ]);
        });
        assert_eq!(
            steps,
            [
                "one more email_address",
                "the status of an email_address",
                "the primary email_address",
                "one email_address less"
            ]
        );
    }

    #[test]
    fn an_address_that_the_target_has_changed_itself_is_left_to_a_person() {
        let more = |user: &mut Value| {
            let list = user["email_addresses"].as_array_mut().unwrap();
            list.push(json!({"id": "c", "email_address": "c@x.org", "verification": null}));
        };
        let stranger = |user: &mut Value| {
            let list = user["email_addresses"].as_array_mut().unwrap();
            list.push(json!({"id": "d", "email_address": "d@x.org", "verification": null}));
        };
        assert!(matches!(step(more, |_| {}), Next::Step(Amendment::Add { verified: false, .. })));
        assert!(conflict(&step(more, stranger)));
        let fewer = |user: &mut Value| {
            user["email_addresses"].as_array_mut().unwrap().pop();
        };
        assert!(conflict(&step(more, fewer)), "b was taken away there, and is kept here");
        assert_eq!(step(|_| {}, stranger), Next::Nothing);
    }

    #[test]
    fn what_no_request_can_set_is_said() {
        let wallet = |user: &mut Value| {
            user["web3_wallets"] =
                json!([{"web3_wallet": "0x1", "verification": {"status": "verified"}}]);
        };
        assert!(conflict(&step(wallet, |_| {})));
        // Only a proven address can become the primary one.
        assert!(conflict(&step(|user| user["primary_email_address_id"] = json!("b"), |_| {})));
    }
}
