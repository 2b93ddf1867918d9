//! Single users: read, delete, ban and lock.

use std::time::Duration;

use serde_json::json;
use tokio::time::Instant;

use super::{Answer, json_of};
use crate::instance::{Effect, Instance};
use crate::refusal::Refusal;
use crate::user::User;

/// `GET /users/{user_id}`
pub(crate) fn get(instance: &Instance, id: &str) -> Answer {
    let user = {
        let store = instance.store();
        store.seen(id).cloned()
    };
    json_of(&*user.ok_or_else(|| Refusal::user_not_found(id))?)
}

/// `DELETE /users/{user_id}`. Sure of what there is, whatever the lists still show.
pub(crate) fn delete(instance: &Instance, id: &str) -> Answer {
    let lag = Duration::from_millis(instance.settings().deletion_delay_ms);
    let user = {
        let mut store = instance.store();
        let user = store.remove(id).ok_or_else(|| Refusal::user_not_found(id))?;
        if !lag.is_zero() {
            store.haunt(&user, Instant::now() + lag);
        }
        user
    };
    let mut body = json!({ "object": "user", "id": user.id, "deleted": true });
    if let Some(external_id) = &user.external_id {
        body["external_id"] = json!(external_id);
    }
    instance.tell(Effect::Deleted { instance: instance.id().to_owned(), user });
    json_of(&body)
}

/// `POST /users/{user_id}/ban` and `/unban`: 402 where the plan lacks it.
pub(crate) fn ban(instance: &Instance, id: &str, banned: bool) -> Answer {
    if !instance.settings().ban_plan {
        return Err(Refusal::plan_lacks_ban());
    }
    change(instance, id, |user| {
        user.banned = banned;
        Ok(())
    })
}

/// `POST /users/{user_id}/lock` and `/unlock`: 403 while lockout is off.
pub(crate) fn lock(instance: &Instance, id: &str, locked: bool) -> Answer {
    if !instance.settings().lockout {
        return Err(Refusal::feature_off(None));
    }
    change(instance, id, |user| {
        user.locked = locked;
        user.verification_attempts_remaining = Some(if locked { 0 } else { 100 });
        Ok(())
    })
}

/// Changes a user under the store's lock, checks that nothing it now claims
/// belongs to another, and answers the whole user.
pub(crate) fn change(
    instance: &Instance,
    id: &str,
    change: impl FnOnce(&mut User) -> Result<(), Refusal>,
) -> Answer {
    let mut store = instance.store();
    let mut user =
        store.get(id).map(|user| User::clone(user)).ok_or_else(|| Refusal::user_not_found(id))?;
    change(&mut user)?;
    super::claims::check_names(&store, &user)?;
    user.updated_at = instance.now_ms();
    let user = store.put(user);
    drop(store);
    let answer = json_of(&*user);
    instance.tell(Effect::Updated { instance: instance.id().to_owned(), user });
    answer
}
