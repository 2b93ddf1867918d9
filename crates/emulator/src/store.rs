//! The users of one instance with their indices, made for 100,000 of them:
//! every look-up that a filter or a uniqueness check needs is a map access,
//! the list is a B-tree by (created_at, id).
//!
//! An address that is neither verified nor reserved may be held by several
//! users, so the identifier indices map to lists and a claim is asked for
//! through [`Store::claimant`].

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use tokio::time::Instant;

use crate::config::Attribute;
use crate::user::{Identifier, User};

/// What a create carried that no answer ever shows again.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Credentials {
    /// `password_digest`
    pub password_digest: Option<String>,
    /// `password_hasher`
    pub password_hasher: Option<String>,
    /// `totp_secret`
    pub totp_secret: Option<String>,
    /// `backup_codes`
    pub backup_codes: Vec<String>,
}

/// Where a page begins: the position of a user that is or once was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    Here(i64),
    Deleted(i64),
}

#[derive(Debug, Default)]
pub(crate) struct Store {
    users: HashMap<String, Arc<User>>,
    order: BTreeSet<(i64, String)>,
    external: HashMap<String, String>,
    holders: [HashMap<String, Vec<String>>; 4],
    owners: HashMap<String, String>,
    tombstones: HashMap<String, i64>,
    hidden: HashMap<String, Instant>,
    ghosts: BTreeMap<String, (Arc<User>, Instant)>,
    credentials: HashMap<String, Credentials>,
}

/// The form under which an identifier is compared: Clerk takes addresses that
/// differ only in case as one.
pub(crate) fn fold(value: &str) -> String {
    value.to_lowercase()
}

fn slot(kind: Attribute) -> usize {
    match kind {
        Attribute::EmailAddress => 0,
        Attribute::PhoneNumber => 1,
        Attribute::Username => 2,
        Attribute::Web3Wallet => 3,
    }
}

/// The user's identifiers of one kind that are lists; empty for user names.
pub(crate) fn identifiers(user: &User, kind: Attribute) -> &[Identifier] {
    match kind {
        Attribute::EmailAddress => &user.email_addresses,
        Attribute::PhoneNumber => &user.phone_numbers,
        Attribute::Web3Wallet => &user.web3_wallets,
        Attribute::Username => &[],
    }
}

fn keys(user: &User) -> Vec<(usize, String)> {
    let mut keys = Vec::new();
    for kind in Attribute::ALL {
        keys.extend(identifiers(user, kind).iter().map(|i| (slot(kind), fold(&i.value))));
    }
    keys.extend(user.username.iter().map(|name| (slot(Attribute::Username), fold(name))));
    keys
}

impl Store {
    pub(crate) fn len(&self) -> usize {
        self.users.len()
    }

    pub(crate) fn get(&self, id: &str) -> Option<&Arc<User>> {
        self.users.get(id)
    }

    pub(crate) fn order(&self) -> &BTreeSet<(i64, String)> {
        &self.order
    }

    pub(crate) fn by_external(&self, external_id: &str) -> Option<&String> {
        self.external.get(external_id)
    }

    /// Every user that has this identifier, claimed or not.
    pub(crate) fn holders(&self, kind: Attribute, value: &str) -> &[String] {
        self.holders[slot(kind)].get(&fold(value)).map_or(&[], Vec::as_slice)
    }

    /// The user that has claimed this identifier, if it is another than `except`.
    pub(crate) fn claimant(
        &self,
        kind: Attribute,
        value: &str,
        except: Option<&str>,
    ) -> Option<&str> {
        let folded = fold(value);
        self.holders(kind, value).iter().map(String::as_str).find(|id| {
            Some(*id) != except
                && (kind == Attribute::Username
                    || self.users.get(*id).is_some_and(|user| {
                        identifiers(user, kind)
                            .iter()
                            .any(|i| i.claimed() && fold(&i.value) == folded)
                    }))
        })
    }

    /// The user to whom an `idn_…` belongs.
    pub(crate) fn owner(&self, identification: &str) -> Option<&Arc<User>> {
        self.users.get(self.owners.get(identification)?)
    }

    /// Puts a user in, in place of the one with its id if there is one.
    pub(crate) fn put(&mut self, user: User) -> Arc<User> {
        if let Some(old) = self.users.remove(&user.id) {
            self.unindex(&old);
        }
        let user = Arc::new(user);
        self.order.insert((user.created_at, user.id.clone()));
        if let Some(external_id) = &user.external_id {
            self.external.insert(external_id.clone(), user.id.clone());
        }
        for (slot, key) in keys(&user) {
            let holders = self.holders[slot].entry(key).or_default();
            if !holders.contains(&user.id) {
                holders.push(user.id.clone());
            }
        }
        for kind in Attribute::ALL {
            for identifier in identifiers(&user, kind) {
                self.owners.insert(identifier.id.clone(), user.id.clone());
            }
        }
        self.users.insert(user.id.clone(), Arc::clone(&user));
        user
    }

    /// Takes a user out and remembers where it stood, so that a cursor that
    /// names it still points somewhere.
    pub(crate) fn remove(&mut self, id: &str) -> Option<Arc<User>> {
        let user = self.users.remove(id)?;
        self.unindex(&user);
        self.hidden.remove(id);
        self.credentials.remove(id);
        self.tombstones.insert(user.id.clone(), user.created_at);
        Some(user)
    }

    fn unindex(&mut self, user: &User) {
        self.order.remove(&(user.created_at, user.id.clone()));
        if let Some(external_id) = &user.external_id {
            self.external.remove(external_id);
        }
        for (slot, key) in keys(user) {
            if let Some(holders) = self.holders[slot].get_mut(&key) {
                holders.retain(|id| *id != user.id);
                if holders.is_empty() {
                    self.holders[slot].remove(&key);
                }
            }
        }
        for kind in Attribute::ALL {
            for identifier in identifiers(user, kind) {
                self.owners.remove(&identifier.id);
            }
        }
    }

    pub(crate) fn place(&self, id: &str) -> Option<Place> {
        self.users
            .get(id)
            .map(|user| Place::Here(user.created_at))
            .or_else(|| self.tombstones.get(id).copied().map(Place::Deleted))
    }

    pub(crate) fn hide(&mut self, id: &str, until: Instant) {
        self.hidden.insert(id.to_owned(), until);
    }

    /// A user who was taken out is shown by lists until then.
    pub(crate) fn haunt(&mut self, user: &Arc<User>, until: Instant) {
        self.ghosts.insert(user.id.clone(), (Arc::clone(user), until));
    }

    /// Users who are gone and still shown.
    pub(crate) fn ghosts(&self) -> impl Iterator<Item = &Arc<User>> {
        self.ghosts.values().map(|(user, _)| user)
    }

    /// A user as a reader sees it, who is behind what was written.
    pub(crate) fn seen(&self, id: &str) -> Option<&Arc<User>> {
        let there = self.users.get(id).filter(|_| self.visible(id));
        there.or_else(|| self.ghosts.get(id).map(|(user, _)| user))
    }

    /// Lets readers catch up with everything whose time has come.
    pub(crate) fn reveal(&mut self, now: Instant) {
        self.hidden.retain(|_, until| *until > now);
        self.ghosts.retain(|_, (_, until)| *until > now);
    }

    pub(crate) fn visible(&self, id: &str) -> bool {
        self.hidden.is_empty() || !self.hidden.contains_key(id)
    }

    pub(crate) fn keep_credentials(&mut self, id: &str, credentials: Credentials) {
        self.credentials.insert(id.to_owned(), credentials);
    }

    pub(crate) fn credentials(&self, id: &str) -> Option<&Credentials> {
        self.credentials.get(id)
    }
}
