//! Is a created account still what this migration left behind?
//!
//! Three kinds of evidence, from the user list, a hundred accounts a request:
//!
//! - *Used*: it carries a sign-in (`last_sign_in_at`), or activity later than its creation. An
//!   account without any session may carry its own creation there (seen in the wild: null as
//!   well as the millisecond of the sign-up), so activity at that moment says nothing. When the
//!   account came into being is read off its identifiers, whose dates nobody can set.
//! - *Changed*: a field is not what was sent, or it has what the migration never sends (a
//!   password, a second factor, a passkey, an image, a social account, an organization).
//! - *Gone*: no account under the id any more, neither in the list nor under its own address.
//!
//! A change that leaves no trace in the user list is not seen: somebody who set a name and set
//! it back, or an organization where the list does not tell of organizations.

use std::collections::{BTreeMap, BTreeSet};

use futures::future::try_join_all;
use jiff::Timestamp;
use rehome_core::{Failure, Halt, Origin, Unit, UnitId};
use serde_json::{Map, Value, json};

use crate::api::User;
use crate::compare::{self, Difference};
use crate::export::Journaled;
use crate::matcher;
use crate::policy::{Attribute, UserPolicy};
use crate::profile::Profile;
use crate::query::Filter;
use crate::reader::Reader;
use crate::settle::Intent;

/// Activity this much later than the creation, in milliseconds, is somebody's.
const OWN_ACTIVITY: i64 = 5 * 60 * 1000;
/// How exactly a date that was sent must come back, in milliseconds: to the second, if an
/// instance should cut milliseconds off.
const DATE_TOLERANCE: u64 = 1000;
/// So many characters of a value are shown to a person.
const SHOWN: usize = 60;

/// What an account is, compared with how it was left.
#[derive(Clone, PartialEq, Debug)]
pub enum Standing {
    /// There is none of this migration's making: the user was adopted, or never got one.
    NotOurs,
    /// Exactly as it was left.
    AsLeft,
    /// Not there any more.
    Gone,
    /// Somebody has signed in, or was active (code `account_used`).
    Used(Failure),
    /// Nobody has, but it is not what was sent (code `account_changed`).
    Changed(Failure),
    /// What the journal keeps of the user cannot be read, so nothing can be compared.
    Unreadable(Failure),
}

impl Standing {
    /// Why an account must not be deleted without being forced to; `None` where nothing speaks
    /// against it.
    pub fn objection(&self) -> Option<&Failure> {
        match self {
            Self::Used(failure) | Self::Changed(failure) | Self::Unreadable(failure) => {
                Some(failure)
            }
            Self::NotOurs | Self::AsLeft | Self::Gone => None,
        }
    }

    /// Whether `--force` may override the objection.
    pub const fn can_be_forced(&self) -> bool {
        match self {
            Self::Used(_) | Self::Changed(_) => true,
            Self::NotOurs | Self::AsLeft | Self::Gone | Self::Unreadable(_) => false,
        }
    }
}

/// One unit and what its account is.
#[derive(Clone, PartialEq, Debug)]
pub struct Judgement {
    /// The user.
    pub unit: UnitId,
    /// What its account is.
    pub standing: Standing,
}

/// Judges the accounts of `units` (of kind [`crate::USER`]), in the order given, as `reader`
/// (of the target) sees them now. `policy` says which key an account was given where the journal
/// has no intent. Sends one request per hundred created accounts, and one for each that is gone.
///
/// # Errors
/// [`Halt::Remote`] when the target cannot be read.
pub async fn judge(
    reader: &Reader,
    units: &[Unit],
    policy: &UserPolicy,
) -> Result<Vec<Judgement>, Halt> {
    let ids: Vec<_> = units.iter().filter_map(account).map(str::to_owned).collect();
    let found = present(reader, &ids).await?;
    let standing = |unit: &Unit| match account(unit) {
        None => Standing::NotOurs,
        Some(id) => found.get(id).map_or(Standing::Gone, |user| of(unit, policy, user)),
    };
    Ok(units.iter().map(|unit| Judgement { unit: unit.id, standing: standing(unit) }).collect())
}

/// The accounts with these ids that are there. What the list does not show is asked for by its
/// own address: a list that answers for another question (a page that comes twice, a cache
/// between) would otherwise make accounts look deleted that live on.
pub(crate) async fn present(
    reader: &Reader,
    ids: &[String],
) -> Result<BTreeMap<String, User>, Halt> {
    let listed = reader.users_by(Filter::UserId, ids).await?;
    let mut found: BTreeMap<_, _> =
        listed.into_iter().map(|user| (user.id.clone(), user)).collect();
    let missing = ids.iter().filter(|id| !found.contains_key(*id)).map(|id| reader.user(id));
    let single = try_join_all(missing).await?;
    found.extend(single.into_iter().flatten().map(|user| (user.id.clone(), user)));
    Ok(found)
}

/// The id of the account that this migration created for a unit.
pub(crate) fn account(unit: &Unit) -> Option<&str> {
    match unit.origin {
        Some(Origin::Created) => unit.target_key.as_deref(),
        Some(Origin::Adopted) | None => None,
    }
}

/// The intent under which a unit's account was created, where the journal has it.
pub(crate) fn creation(unit: &Unit) -> Option<Intent> {
    unit.effect.as_ref()?.intent.as_ref().and_then(Intent::from_json)
}

/// Judges one account that is there.
fn of(unit: &Unit, policy: &UserPolicy, user: &User) -> Standing {
    let Journaled { profile, base, .. } = match Journaled::of(unit) {
        Ok(journaled) => journaled,
        Err(error) => return Standing::Unreadable(matcher::unreadable(&error)),
    };
    let sent = creation(unit).unwrap_or_else(|| Intent {
        external_id: policy.external_id.of(&unit.source_key, &profile),
        without: without(unit),
        ..Intent::default()
    });
    let mut differences = since_creation(&profile, &sent, user);
    if let Some(base) = &base {
        // Not brought up to date yet, or by halves: what it was before is ours, too.
        let before = since_creation(base, &sent, user);
        differences.retain(|one| before.iter().any(|other| other.field == one.field));
    }
    let use_of_it = used(user);
    if differences.is_empty() && use_of_it.is_empty() {
        return Standing::AsLeft;
    }
    let who = format!("account {} of {}", user.id, unit.source_key);
    let fields: Vec<_> = differences.iter().map(told).collect();
    let changed = user.updated_at.map(|at| format!("last changed {}", date(at)));
    let hint = "leave it alone; or, to delete it all the same, see `rehome rollback --dry-run` for how many such accounts there are and give that number: `rehome rollback --force N`";
    if use_of_it.is_empty() {
        let parts: Vec<_> = fields.into_iter().chain(changed).collect();
        let message = format!("{who} was changed since it was created: {}", parts.join("; "));
        return Standing::Changed(Failure::new("account_changed", message).with_hint(hint));
    }
    let parts: Vec<_> = use_of_it.into_iter().chain(fields).collect();
    let message = format!("{who} was used since it was created: {}", parts.join("; "));
    Standing::Used(Failure::new("account_used", message).with_hint(hint))
}

/// What was left out of an account that the journal has no intent for.
fn without(unit: &Unit) -> BTreeSet<Attribute> {
    let data = unit.effect.as_ref().and_then(|effect| effect.data.as_ref());
    let without = data.and_then(|data| data.get("without")).cloned();
    without.and_then(|without| serde_json::from_value(without).ok()).unwrap_or_default()
}

/// Every field in which the account is not what was sent, and everything that is never sent.
fn since_creation(profile: &Profile, sent: &Intent, user: &User) -> Vec<Difference> {
    let ours = profile.without(&sent.without);
    let theirs = Profile::of(user);
    let mut differences = compare::between(&ours, sent.external_id.as_deref(), &theirs);
    differences.retain(|difference| !is_our_date(difference));
    let extras = [
        ("password_enabled", json!(user.password_enabled)),
        ("two_factor_enabled", json!(user.two_factor_enabled)),
        ("totp_enabled", json!(user.totp_enabled)),
        ("backup_code_enabled", json!(user.backup_code_enabled)),
        ("has_image", json!(user.has_image)),
        ("passkeys", json!(user.passkeys.len())),
        ("external_accounts", json!(user.external_accounts.len())),
        ("saml_accounts", json!(user.saml_accounts.len())),
        ("enterprise_accounts", json!(user.enterprise_accounts.len())),
        ("organization_memberships", json!(user.organization_memberships.len())),
        (
            "unverified web3_wallets",
            json!(user.web3_wallets.iter().filter(|wallet| !wallet.is_verified()).count()),
        ),
        (
            "second factor phone_numbers",
            json!(
                user.phone_numbers.iter().filter(|phone| phone.reserved_for_second_factor).count()
            ),
        ),
    ];
    for (field, target) in extras {
        let source = if target.is_boolean() { json!(false) } else { json!(0) };
        if source != target {
            differences.push(Difference { field, source, target });
        }
    }
    differences
}

/// A date that came back as it was sent, or one that was not sent at all and so is the target's.
fn is_our_date(difference: &Difference) -> bool {
    match difference.field {
        "created_at" => match (difference.source.as_i64(), difference.target.as_i64()) {
            (Some(sent), Some(found)) => sent.abs_diff(found) < DATE_TOLERANCE,
            (None, Some(_)) => true,
            (Some(_) | None, None) => false,
        },
        "legal_accepted_at" => match (difference.source.as_i64(), difference.target.as_i64()) {
            (Some(sent), Some(found)) => sent.abs_diff(found) < DATE_TOLERANCE,
            (Some(_) | None, Some(_) | None) => false,
        },
        _ => false,
    }
}

/// The traces of somebody's use, in words; none for an account that nobody used.
fn used(user: &User) -> Vec<String> {
    let mut traces = Vec::new();
    if let Some(at) = user.last_sign_in_at {
        traces.push(format!("last signed in {}", date(at)));
    }
    let identifiers =
        user.email_addresses.iter().chain(&user.phone_numbers).chain(&user.web3_wallets);
    let made_at = identifiers.filter_map(|identifier| identifier.created_at).min();
    if let Some(at) = user.last_active_at {
        // Without a dated identifier, activity is told from creation by a sign-in only.
        let own = made_at.is_none_or(|made_at| at <= made_at.saturating_add(OWN_ACTIVITY));
        if !own || user.last_sign_in_at.is_some() {
            traces.push(format!("last active {}", date(at)));
        }
    }
    traces
}

/// A difference in a line. Metadata is named by its keys only: what stands in it may be nobody's
/// business.
fn told(difference: &Difference) -> String {
    let Difference { field, source, target } = difference;
    if let (true, Value::Object(source), Value::Object(target)) =
        (field.ends_with("_metadata"), source, target)
    {
        return format!("{field} differs in {}", keys_that_differ(source, target));
    }
    format!("{field} was {}, is {}", shown(source), shown(target))
}

fn keys_that_differ(source: &Map<String, Value>, target: &Map<String, Value>) -> String {
    let keys: BTreeSet<_> = source
        .keys()
        .chain(target.keys())
        .filter(|key| source.get(*key) != target.get(*key))
        .map(String::as_str)
        .collect();
    cut(keys.into_iter().collect::<Vec<_>>().join(", "))
}

fn shown(value: &Value) -> String {
    cut(value.to_string())
}

fn cut(mut text: String) -> String {
    if let Some((end, _)) = text.char_indices().nth(SHOWN) {
        text.truncate(end);
        text.push('…');
    }
    text
}

fn date(milliseconds: i64) -> String {
    Timestamp::from_millisecond(milliseconds)
        .map_or_else(|_| format!("{milliseconds} ms"), |at| at.to_string())
}
