//! Finds the accounts of the target that have anything to do with a batch of source users: by
//! the key they would get, and by every identifier. A hundred values go into one request, so a
//! look-up costs a few hundredths of a request per user.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use futures::future::try_join_all;
use rehome_core::Halt;

use crate::alias;
use crate::api::User;
use crate::profile::{Profile, Status};
use crate::query::Filter;
use crate::reader::Reader;

/// An account with its identifiers normalised.
#[derive(Debug)]
pub(crate) struct Account {
    pub(crate) user: User,
    /// Every identifier, by alias.
    pub(crate) claims: BTreeMap<String, Status>,
}

impl Account {
    pub(crate) fn new(user: User) -> Self {
        let mut claims: BTreeMap<_, _> = Profile::of(&user).claims().into_iter().collect();
        // A profile leaves unverified wallets behind; for finding an account they count.
        for wallet in &user.web3_wallets {
            let alias = alias::wallet(&wallet.value);
            claims.entry(alias).or_insert(Status::Unverified);
        }
        Self { user, claims }
    }
}

/// The values to ask for, per filter.
#[derive(Debug, Default)]
pub(crate) struct Wanted(BTreeMap<Filter, BTreeSet<String>>);

impl Wanted {
    pub(crate) fn add(&mut self, filter: Filter, value: &str) {
        self.0.entry(filter).or_default().insert(value.to_owned());
    }

    /// A value that is compared without regard to case: as it is spelled, and in lower case,
    /// because it is not documented how the exact filters compare.
    fn add_folded(&mut self, filter: Filter, value: &str) {
        self.add(filter, value);
        self.add(filter, &value.to_lowercase());
    }

    /// Every identifier of a profile.
    pub(crate) fn add_profile(&mut self, profile: &Profile) {
        for (filter, value) in identifiers(profile) {
            self.add_identifier(filter, &value);
        }
    }

    pub(crate) fn add_identifier(&mut self, filter: Filter, value: &str) {
        match filter {
            // Clerk compares addresses without regard to case.
            Filter::EmailAddress => self.add(filter, &value.to_lowercase()),
            Filter::Username | Filter::Web3Wallet => self.add_folded(filter, value),
            Filter::PhoneNumber | Filter::ExternalId | Filter::UserId => self.add(filter, value),
        }
    }
}

/// The identifiers of a profile with the filter that finds each: e-mail addresses first, the
/// primary one before the others, then numbers, username, wallets.
pub(crate) fn identifiers(profile: &Profile) -> Vec<(Filter, String)> {
    let emails = profile.emails.iter();
    let phones = profile.phones.iter();
    let username = profile.username.iter();
    let wallets = profile.wallets.iter();
    emails
        .map(|(address, _)| (Filter::EmailAddress, address.clone()))
        .chain(phones.map(|(number, _)| (Filter::PhoneNumber, number.clone())))
        .chain(username.map(|username| (Filter::Username, username.clone())))
        .chain(wallets.map(|wallet| (Filter::Web3Wallet, wallet.clone())))
        .collect()
}

/// The alias of a value of a filter; `None` for ids, which are no identifiers.
pub(crate) fn alias_of(filter: Filter, value: &str) -> Option<String> {
    match filter {
        Filter::EmailAddress => Some(alias::email(value)),
        Filter::PhoneNumber => Some(alias::phone(value)),
        Filter::Username => Some(alias::username(value)),
        Filter::Web3Wallet => Some(alias::wallet(value)),
        Filter::ExternalId | Filter::UserId => None,
    }
}

/// What a look-up found.
#[derive(Debug, Default)]
pub(crate) struct Accounts {
    by_id: BTreeMap<String, Arc<Account>>,
    by_alias: HashMap<String, Vec<Arc<Account>>>,
    by_external_id: HashMap<String, Arc<Account>>,
}

impl Accounts {
    /// Asks the instance for everything that is wanted.
    pub(crate) async fn look_up(reader: &Reader, wanted: &Wanted) -> Result<Self, Halt> {
        let questions = wanted.0.iter().map(|(filter, values)| async move {
            let values: Vec<_> = values.iter().cloned().collect();
            reader.users_by(*filter, &values).await
        });
        let mut found = Self::default();
        for user in try_join_all(questions).await?.into_iter().flatten() {
            found.insert(user);
        }
        Ok(found)
    }

    fn insert(&mut self, user: User) {
        if self.by_id.contains_key(&user.id) {
            return;
        }
        let account = Arc::new(Account::new(user));
        for alias in account.claims.keys() {
            let holders = self.by_alias.entry(alias.clone()).or_default();
            holders.push(Arc::clone(&account));
        }
        if let Some(external_id) = &account.user.external_id {
            self.by_external_id.insert(external_id.clone(), Arc::clone(&account));
        }
        self.by_id.insert(account.user.id.clone(), account);
    }

    pub(crate) fn with_id(&self, id: &str) -> Option<&Arc<Account>> {
        self.by_id.get(id)
    }

    pub(crate) fn with_external_id(&self, external_id: &str) -> Option<&Arc<Account>> {
        self.by_external_id.get(external_id)
    }

    pub(crate) fn with_alias(&self, alias: &str) -> &[Arc<Account>] {
        self.by_alias.get(alias).map_or(&[], Vec::as_slice)
    }

    /// The accounts that carry this key or share an identifier with `profile`, each
    /// once, in the order of their ids.
    pub(crate) fn matching(&self, key: Option<&str>, profile: &Profile) -> Vec<Arc<Account>> {
        let mut matching = BTreeMap::new();
        let by_key = key.and_then(|key| self.with_external_id(key));
        let claims = profile.claims();
        let by_alias = claims.iter().flat_map(|(alias, _)| self.with_alias(alias));
        for account in by_key.into_iter().chain(by_alias) {
            matching.insert(account.user.id.as_str(), account);
        }
        matching.into_values().cloned().collect()
    }
}
