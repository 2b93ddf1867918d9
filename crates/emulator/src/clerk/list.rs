//! `GET /users` and `GET /users/count`.

use std::ops::Bound;
use std::sync::Arc;

use serde_json::json;

use super::listing::{Direction, Filters, Listing, Order};
use super::{Answer, json_of};
use crate::config::{Cursor, Settings};
use crate::instance::Instance;
use crate::refusal::Refusal;
use crate::store::{Place, Store};
use crate::user::User;

/// One page: a bare array.
pub(crate) fn page(instance: &Instance, pairs: Vec<(String, String)>) -> Answer {
    let settings = instance.settings();
    let listing = Listing::read(pairs, true, settings.cursor)?;
    let found = {
        let store = instance.store();
        let after = cursor(&store, &settings, &listing)?;
        match listing.order {
            Order::CreatedAt => by_time(&store, &listing, after),
            Order::Field(_) => by_field(&store, &listing),
        }
    };
    json_of(&found.iter().map(AsRef::as_ref).collect::<Vec<&User>>())
}

/// `{object: "total_count", total_count}`.
pub(crate) fn count(instance: &Instance, pairs: Vec<(String, String)>) -> Answer {
    let listing = Listing::read(pairs, false, instance.settings().cursor)?;
    let store = instance.store();
    let total = candidates(&store, &listing.filters).map_or_else(
        || {
            store
                .order()
                .iter()
                .filter_map(|(_, id)| store.get(id))
                .filter(|user| passes(&store, &listing.filters, user))
                .count()
        },
        |some| some.len(),
    );
    json_of(&json!({ "object": "total_count", "total_count": total }))
}

/// The key after which a page begins. A deleted user's place counts unless the
/// settings refuse it; an id that never was is refused.
fn cursor(
    store: &Store,
    settings: &Settings,
    listing: &Listing,
) -> Result<Option<(i64, String)>, Refusal> {
    let Some(id) = &listing.starting_after else { return Ok(None) };
    match store.place(id) {
        Some(Place::Here(at)) => Ok(Some((at, id.clone()))),
        Some(Place::Deleted(at)) if settings.cursor != Cursor::DeletedRefused => {
            Ok(Some((at, id.clone())))
        }
        Some(Place::Deleted(_)) | None => Err(Refusal::resource_missing("starting_after")),
    }
}

fn passes(store: &Store, filters: &Filters, user: &User) -> bool {
    store.visible(&user.id) && filters.pass(user)
}

/// The users that an indexed filter leaves, already checked against all
/// filters; None when no index helps and every user is where the list has it.
fn candidates(store: &Store, filters: &Filters) -> Option<Vec<Arc<User>>> {
    let passing = |users: &mut dyn Iterator<Item = &Arc<User>>| -> Vec<Arc<User>> {
        users.filter(|user| passes(store, filters, user)).cloned().collect()
    };
    let mut found = match filters.indexed(store) {
        Some(mut ids) => {
            ids.sort_unstable();
            ids.dedup();
            passing(&mut ids.iter().filter_map(|id| store.get(id)))
        }
        None if store.ghosts().next().is_none() => return None,
        None => passing(&mut store.order().iter().filter_map(|(_, id)| store.get(id))),
    };
    found.extend(store.ghosts().filter(|user| filters.pass(user)).cloned());
    Some(found)
}

fn by_time(store: &Store, listing: &Listing, after: Option<(i64, String)>) -> Vec<Arc<User>> {
    if let Some(mut some) = candidates(store, &listing.filters) {
        let key = |user: &User| (user.created_at, user.id.clone());
        some.sort_by_cached_key(|user| key(user));
        if listing.direction == Direction::Descending {
            some.reverse();
        }
        return some
            .into_iter()
            .filter(|user| match (&after, listing.direction) {
                (None, Direction::Ascending | Direction::Descending) => true,
                (Some(after), Direction::Ascending) => key(user) > *after,
                (Some(after), Direction::Descending) => key(user) < *after,
            })
            .skip(listing.offset)
            .take(listing.limit)
            .collect();
    }
    let take = |keys: &mut dyn Iterator<Item = &(i64, String)>| {
        keys.filter_map(|(_, id)| store.get(id))
            .filter(|user| passes(store, &listing.filters, user))
            .skip(listing.offset)
            .take(listing.limit)
            .cloned()
            .collect()
    };
    let from = after.map_or(Bound::Unbounded, Bound::Excluded);
    match listing.direction {
        Direction::Ascending => take(&mut store.order().range((from, Bound::Unbounded))),
        Direction::Descending => take(&mut store.order().range((Bound::Unbounded, from)).rev()),
    }
}

fn by_field(store: &Store, listing: &Listing) -> Vec<Arc<User>> {
    let Order::Field(field) = listing.order else { return Vec::new() };
    let mut all = candidates(store, &listing.filters).unwrap_or_else(|| {
        store
            .order()
            .iter()
            .filter_map(|(_, id)| store.get(id))
            .filter(|user| passes(store, &listing.filters, user))
            .cloned()
            .collect()
    });
    all.sort_by_cached_key(|user| (field(user), user.created_at, user.id.clone()));
    if listing.direction == Direction::Descending {
        all.reverse();
    }
    all.into_iter().skip(listing.offset).take(listing.limit).collect()
}
