//! The query parameters of the user list: which users, in which order, which
//! page. Filters of different names must all hold; values of one name are
//! alternatives.

use std::collections::HashSet;

use crate::config::{Attribute, Cursor};
use crate::refusal::Refusal;
use crate::store::{Store, fold, identifiers};
use crate::user::User;

/// Values per array parameter (specification: "Accepts up to 100").
const MOST_VALUES: usize = 100;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Direction {
    Ascending,
    Descending,
}

/// The value that a list is ordered by; numbers are padded so that they
/// compare as text, absent ones come first.
pub(crate) type FieldOf = fn(&User) -> Option<String>;

#[derive(Debug, Clone, Copy)]
pub(crate) enum Order {
    CreatedAt,
    Field(FieldOf),
}

/// Ids to include or exclude.
#[derive(Debug, Default)]
struct Signed {
    include: HashSet<String>,
    exclude: HashSet<String>,
}

impl Signed {
    /// A leading `-` excludes, a leading `+` is dropped, anything else is the
    /// value itself.
    fn add(&mut self, value: String) {
        if let Some(rest) = value.strip_prefix('-') {
            self.exclude.insert(rest.to_owned());
        } else if let Some(rest) = value.strip_prefix('+') {
            self.include.insert(rest.to_owned());
        } else {
            self.include.insert(value);
        }
    }

    fn pass(&self, value: Option<&str>) -> bool {
        match value {
            Some(value) => {
                (self.include.is_empty() || self.include.contains(value))
                    && !self.exclude.contains(value)
            }
            None => self.include.is_empty(),
        }
    }
}

/// Everything that narrows a list.
#[derive(Debug, Default)]
pub(crate) struct Filters {
    exact: [Option<HashSet<String>>; 4],
    external_id: Signed,
    user_id: Signed,
    organization_id: Signed,
    query: Option<String>,
    email_query: Option<String>,
    phone_query: Option<String>,
    username_query: Option<String>,
    name_query: Option<String>,
    banned: Option<bool>,
    created: Span,
    active: Span,
    signed_in: Span,
    provider: Option<String>,
    provider_user_id: HashSet<String>,
}

/// Strictly between two moments (the specification says before and after).
#[derive(Debug, Default)]
struct Span {
    after: Option<i64>,
    before: Option<i64>,
}

impl Span {
    fn pass(&self, at: Option<i64>) -> bool {
        match at {
            Some(at) => {
                self.after.is_none_or(|after| at > after)
                    && self.before.is_none_or(|before| at < before)
            }
            None => self.after.is_none() && self.before.is_none(),
        }
    }
}

/// A list request that has been understood.
#[derive(Debug)]
pub(crate) struct Listing {
    pub(crate) filters: Filters,
    pub(crate) order: Order,
    pub(crate) direction: Direction,
    pub(crate) limit: usize,
    pub(crate) offset: usize,
    pub(crate) starting_after: Option<String>,
}

fn exact_slot(name: &str) -> Option<usize> {
    Attribute::ALL.iter().position(|kind| kind.param() == name)
}

fn integer(name: &str, value: &str) -> Result<i64, Refusal> {
    value.parse().map_err(|_| Refusal::bad_value(name, value))
}

impl Listing {
    /// Reads the pairs; `paged` is the list itself, otherwise the count, which
    /// knows no page parameters.
    pub(crate) fn read(
        pairs: Vec<(String, String)>,
        paged: bool,
        cursor: Cursor,
    ) -> Result<Self, Refusal> {
        let mut listing = Self {
            filters: Filters::default(),
            order: Order::CreatedAt,
            direction: Direction::Descending,
            limit: 10,
            offset: 0,
            starting_after: None,
        };
        let mut values: std::collections::HashMap<String, usize> = std::collections::HashMap::new();
        for (name, value) in pairs {
            let seen = values.entry(name.clone()).or_default();
            *seen += 1;
            let seen = *seen;
            if listing.filters.array(&name, &value) {
                if seen > MOST_VALUES {
                    return Err(Refusal::too_many(&name, MOST_VALUES));
                }
                continue;
            }
            match (name.as_str(), paged) {
                // Only the first order counts (specification, `order_by`).
                ("order_by", true) if seen > 1 => continue,
                _ if seen > 1 => return Err(Refusal::duplicate(&name)),
                ("limit", true) => {
                    let limit = integer("limit", &value)?;
                    if !(1..=500).contains(&limit) {
                        return Err(Refusal::bad_value("limit", &value));
                    }
                    listing.limit = usize::try_from(limit).unwrap_or(10);
                }
                ("offset", true) => {
                    listing.offset = usize::try_from(integer("offset", &value)?)
                        .map_err(|_| Refusal::bad_value("offset", &value))?;
                }
                ("order_by", true) => listing.order(&value)?,
                ("starting_after", true) if cursor != Cursor::Refused => {
                    listing.starting_after = Some(value);
                }
                ("__clerk_api_version", _) => {}
                (_, _) => listing.filters.single(&name, value)?,
            }
        }
        if listing.filters.provider.is_some() == listing.filters.provider_user_id.is_empty() {
            let (there, missing) = if listing.filters.provider.is_some() {
                ("provider", "provider_user_id")
            } else {
                ("provider_user_id", "provider")
            };
            return Err(Refusal::missing_with(missing, there));
        }
        if listing.starting_after.is_some() {
            match listing.order {
                Order::CreatedAt => {}
                Order::Field(_) => return Err(Refusal::not_with("starting_after", "order_by")),
            }
            if listing.offset != 0 {
                return Err(Refusal::not_with("starting_after", "offset"));
            }
        }
        Ok(listing)
    }

    fn order(&mut self, value: &str) -> Result<(), Refusal> {
        let (direction, name) = match (value.strip_prefix('-'), value.strip_prefix('+')) {
            (Some(name), _) => (Direction::Descending, name),
            (None, Some(name)) => (Direction::Ascending, name),
            (None, None) => (Direction::Ascending, value),
        };
        self.direction = direction;
        self.order = match name {
            "created_at" => Order::CreatedAt,
            "updated_at" => Order::Field(|u| number(Some(u.updated_at))),
            "email_address" => {
                Order::Field(|u| primary(&u.email_addresses, u.primary_email_address_id.as_ref()))
            }
            "phone_number" => {
                Order::Field(|u| primary(&u.phone_numbers, u.primary_phone_number_id.as_ref()))
            }
            "web3wallet" => {
                Order::Field(|u| primary(&u.web3_wallets, u.primary_web3_wallet_id.as_ref()))
            }
            "first_name" => Order::Field(|u| u.first_name.clone()),
            "last_name" => Order::Field(|u| u.last_name.clone()),
            "username" => Order::Field(|u| u.username.clone()),
            "last_active_at" => Order::Field(|u| number(u.last_active_at)),
            "last_sign_in_at" => Order::Field(|u| number(u.last_sign_in_at)),
            _ => return Err(Refusal::bad_value("order_by", value)),
        };
        Ok(())
    }
}

fn number(value: Option<i64>) -> Option<String> {
    value.map(|value| format!("{value:020}"))
}

fn primary(list: &[crate::user::Identifier], id: Option<&String>) -> Option<String> {
    list.iter().find(|identifier| Some(&identifier.id) == id).map(|i| fold(&i.value))
}

impl Filters {
    /// Takes one value of an array parameter; whether the name is one.
    fn array(&mut self, name: &str, value: &str) -> bool {
        if let Some(slot) = exact_slot(name) {
            self.exact[slot].get_or_insert_default().insert(fold(value));
            return true;
        }
        match name {
            "external_id" => self.external_id.add(value.to_owned()),
            "user_id" => self.user_id.add(value.to_owned()),
            "organization_id" => self.organization_id.add(value.to_owned()),
            "provider_user_id" => {
                self.provider_user_id.insert(value.to_owned());
            }
            _ => return false,
        }
        true
    }

    fn single(&mut self, name: &str, value: String) -> Result<(), Refusal> {
        let text = |value: String| Some(value.to_lowercase()).filter(|text| !text.is_empty());
        match name {
            "query" => self.query = text(value),
            "email_address_query" => self.email_query = text(value),
            "phone_number_query" => self.phone_query = text(value),
            "username_query" => self.username_query = text(value),
            "name_query" => self.name_query = text(value),
            "provider" => self.provider = Some(value),
            "banned" => {
                self.banned = Some(match value.as_str() {
                    "true" => true,
                    "false" => false,
                    _ => return Err(Refusal::bad_value(name, &value)),
                });
            }
            "created_at_before" => self.created.before = Some(integer(name, &value)?),
            "created_at_after" => self.created.after = Some(integer(name, &value)?),
            "last_active_at_before" => self.active.before = Some(integer(name, &value)?),
            "last_active_at_after" => self.active.after = Some(integer(name, &value)?),
            "last_active_at_since" => {
                self.active.after = Some(integer(name, &value)?.saturating_sub(1));
            }
            "last_sign_in_at_before" => self.signed_in.before = Some(integer(name, &value)?),
            "last_sign_in_at_after" => self.signed_in.after = Some(integer(name, &value)?),
            _ => return Err(Refusal::unknown(&[name])),
        }
        Ok(())
    }

    /// The ids that the narrowest index names, if any filter has one. The
    /// result still has to pass all filters.
    pub(crate) fn indexed(&self, store: &Store) -> Option<Vec<String>> {
        if !self.user_id.include.is_empty() {
            return Some(self.user_id.include.iter().cloned().collect());
        }
        if !self.external_id.include.is_empty() {
            let found = self.external_id.include.iter().filter_map(|id| store.by_external(id));
            return Some(found.cloned().collect());
        }
        Attribute::ALL.into_iter().find_map(|kind| {
            let values = self.exact[exact_slot(kind.param())?].as_ref()?;
            Some(values.iter().flat_map(|v| store.holders(kind, v)).cloned().collect())
        })
    }

    pub(crate) fn pass(&self, user: &User) -> bool {
        let any = |kind: Attribute, test: &dyn Fn(&str) -> bool| match kind {
            Attribute::Username => user.username.as_deref().is_some_and(|n| test(&fold(n))),
            Attribute::EmailAddress | Attribute::PhoneNumber | Attribute::Web3Wallet => {
                identifiers(user, kind).iter().any(|i| test(&fold(&i.value)))
            }
        };
        let exact = Attribute::ALL.into_iter().zip(&self.exact).all(|(kind, wanted)| {
            wanted.as_ref().is_none_or(|wanted| any(kind, &|value| wanted.contains(value)))
        });
        let part = |kind: Attribute, query: &Option<String>| {
            query.as_ref().is_none_or(|query| any(kind, &|value| value.contains(query.as_str())))
        };
        let named = |query: &str| {
            let full = [user.first_name.as_deref(), user.last_name.as_deref()];
            let full = full.into_iter().flatten().collect::<Vec<_>>().join(" ").to_lowercase();
            full.contains(query)
        };
        exact
            && self.external_id.pass(user.external_id.as_deref())
            && self.user_id.pass(Some(&user.id))
            // No user of the emulator is a member of an organization.
            && self.organization_id.include.is_empty()
            && part(Attribute::EmailAddress, &self.email_query)
            && part(Attribute::PhoneNumber, &self.phone_query)
            && part(Attribute::Username, &self.username_query)
            && self.name_query.as_deref().is_none_or(named)
            && self.query.as_deref().is_none_or(|query| {
                named(query)
                    || user.id.to_lowercase().contains(query)
                    || Attribute::ALL.into_iter().any(|k| any(k, &|value| value.contains(query)))
            })
            && self.banned.is_none_or(|banned| user.banned == banned)
            && self.created.pass(Some(user.created_at))
            && self.active.pass(user.last_active_at)
            && self.signed_in.pass(user.last_sign_in_at)
            && self.provider.as_deref().is_none_or(|provider| {
                let plain = provider.strip_prefix("oauth_").unwrap_or(provider);
                user.external_accounts.iter().any(|account| {
                    account.provider == plain
                        && self.provider_user_id.contains(&account.provider_user_id)
                })
            })
    }
}
