//! Other people: what happens to an instance besides the requests of whoever is tried.

use bytes::Bytes;
use serde_json::Value;

use crate::fault::Faults;
use crate::instance::Instance;
use crate::seed::{SeedIdentifier, SeedUser};

/// Somebody signs up with the first address or number of a create that is on its way. Nothing
/// happens when that is taken, or when there is none.
pub(crate) fn rival(instance: &Instance, create: &Bytes) {
    let Ok(form) = serde_json::from_slice::<Value>(create) else { return };
    let first = |name: &str| {
        let value = form.get(name)?.get(0)?.as_str()?;
        Some(vec![SeedIdentifier::verified(value)])
    };
    let mut rival = SeedUser::default();
    match (first("email_address"), first("phone_number")) {
        (Some(emails), _) => rival.email_addresses = emails,
        (None, Some(phones)) => rival.phone_numbers = phones,
        (None, None) => return,
    }
    let _was_first = instance.insert_seed(rival).is_ok();
}

/// So many come, go and change.
pub(crate) fn drift(instance: &Instance, faults: &Faults, [created, deleted, changed]: [u32; 3]) {
    for _ in 0..deleted {
        if let Some(id) = somebody(instance, faults) {
            instance.remove_user(&id);
        }
    }
    for _ in 0..changed {
        let number = faults.draw(1_000_000);
        if let Some(id) = somebody(instance, faults) {
            let now = instance.now_ms();
            instance.change_user(&id, |user| {
                user.first_name = Some(format!("Drifted {number}"));
                user.updated_at = now;
            });
        }
    }
    for _ in 0..created {
        let name = instance.ids.next("newcomer-").to_lowercase();
        let newcomer = SeedUser::with_email(format!("{name}@drift.example"));
        let _is_new = instance.insert_seed(newcomer).is_ok();
    }
}

fn somebody(instance: &Instance, faults: &Faults) -> Option<String> {
    let count = instance.count();
    let store = instance.store();
    store.order().iter().nth(faults.draw(count)).map(|(_, id)| id.clone())
}
