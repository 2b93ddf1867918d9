//! A population that holds every kind of user that a migration has to carry.
//!
//! Kinds follow from the index by remainders, so that some forty users
//! already show them all; the seed decides names, times and who combines what.
//! Identifiers carry the index and the seed: no two users share one, and two
//! populations of different seeds may live in one instance.

use serde_json::{Value, json};

use super::{SeedIdentifier, SeedUser, Status};
use crate::user::{ExternalAccount, Metadata};

/// Names as people write them: Latin with its accents and particles, Cyrillic,
/// Greek, Arabic, Hebrew, Chinese, Japanese, Korean, Devanagari, Thai, emoji,
/// combining marks.
const NAMES: [(&str, &str); 20] = [
    ("Ada", "Lovelace"),
    ("Zoë", "Þórsdóttir"),
    ("Łukasz", "Brzęczyszczykiewicz"),
    ("Jean-Luc", "d'Aubigné"),
    ("José", "Muñoz y O'Neill"),
    ("Анна", "Каренина"),
    ("Ђорђе", "Јовановић"),
    ("Αλέξανδρος", "Παπαδόπουλος"),
    ("محمد", "الخوارزمي"),
    ("שרה", "כהן"),
    ("明", "王"),
    ("さくら", "田中"),
    ("지훈", "김"),
    ("अर्जुन", "शर्मा"),
    ("สมชาย", "ใจดี"),
    ("Nguyễn", "Văn Ánh"),
    ("Çağla", "Şimşek"),
    ("🦊 Fox", "🌲👩‍👩‍👧"),
    ("e\u{301}lise", "ze\u{308}bra"),
    ("\"Quote\"", "Back\\slash, & <3"),
];

const LOCALES: [&str; 6] = ["en-US", "fr-FR", "de", "pt-BR", "zh-Hant-TW", "ar"];
const DOMAINS: [&str; 4] = ["example.com", "mail.example", "sub.mail.example", "Example.COM"];
const AREAS: [u32; 5] = [212, 303, 415, 617, 702];
const PROVIDERS: [&str; 3] = ["google", "github", "apple"];

/// 13 September 2020; the first of a population signed up about then.
const BEGINNING: i64 = 1_600_000_000_000;

/// `n` users, the same for the same seed. Sign-ups come in groups of up to
/// seven of the same millisecond, in the order of the list.
pub fn users(n: usize, seed: u64) -> Vec<SeedUser> {
    let mut rng = fastrand::Rng::with_seed(seed);
    let mut at = BEGINNING;
    (0..n)
        .map(|index| {
            if !index.is_multiple_of(7) || index == 0 {
                // The same moment as the one before.
            } else {
                at += rng.i64(1..600_000);
            }
            user(index, seed, at, &mut rng)
        })
        .collect()
}

fn user(index: usize, seed: u64, at: i64, rng: &mut fastrand::Rng) -> SeedUser {
    let kind = |every: usize, rest: usize| index % every == rest;
    let mut user =
        SeedUser { created_at: Some(at), updated_at: Some(at + 1_000), ..SeedUser::default() };
    let (first, last) = NAMES[rng.usize(..NAMES.len())];
    user.first_name = (!kind(11, 4)).then(|| first.to_owned());
    user.last_name = (!kind(11, 5)).then(|| last.to_owned());
    identify(&mut user, index, seed);
    metadata(&mut user, index, rng);

    if kind(4, 1) {
        user.last_sign_in_at = Some(at + 86_400_000);
        user.last_active_at = Some((at + 90_000_000) / 86_400_000 * 86_400_000);
    }
    user.external_id = match index % 6 {
        2 => Some(format!("legacy-{seed}-{index}")),
        5 if kind(12, 5) => Some(format!("-{index}/ünï+cödé {seed}")),
        _ => None,
    };
    user.locale = kind(3, 0).then(|| LOCALES[rng.usize(..LOCALES.len())].to_owned());
    user.legal_accepted_at = kind(4, 2).then_some(at + 1);
    user.banned = kind(23, 7);
    user.locked = kind(29, 11);
    user.delete_self_enabled = !kind(9, 3);
    user.create_organization_enabled = !kind(13, 6);
    user.create_organizations_limit = kind(8, 5).then(|| rng.i64(0..20));
    user.bypass_client_trust = kind(31, 12);
    user.password_enabled = kind(2, 0);
    user.totp_enabled = kind(19, 8);
    user.backup_code_enabled = kind(38, 8);
    user.has_image = kind(10, 9);
    user
}

/// Addresses, numbers, a user name, wallets and social accounts; every user
/// has at least one of them.
fn identify(user: &mut SeedUser, index: usize, seed: u64) {
    let kind = |every: usize, rest: usize| index % every == rest;
    let domain = DOMAINS[index % DOMAINS.len()];
    let address = |part: &str| format!("{part}.{index}.s{seed}@{domain}");
    let name_only = kind(17, 16);
    let phone_only = kind(17, 15);
    let wallet_only = kind(37, 20) && !name_only && !phone_only;

    if !(name_only || phone_only || wallet_only) {
        let main = if kind(5, 3) { address("Mixed.Case") } else { address("person") };
        let status = match index % 14 {
            6 => Status::Reserved,
            13 => Status::Unverified,
            _ => Status::Verified,
        };
        user.email_addresses.push(SeedIdentifier::with(main, status));
        if kind(6, 1) {
            user.email_addresses.push(SeedIdentifier::verified(address("second+tag")));
        }
        if kind(12, 7) {
            let third = SeedIdentifier::with(address("third"), Status::Unverified);
            user.email_addresses.push(third);
        }
        if kind(18, 13) {
            let fourth = SeedIdentifier::with(address("fourth"), Status::Reserved);
            user.email_addresses.push(fourth);
            user.primary_email = usize::from(kind(36, 13));
        }
    }
    if phone_only || kind(5, 0) {
        let area = AREAS[index % AREAS.len()];
        // Exchanges from 230 on, so that none is a service code as 211 is.
        let number = format!("+1{area}{:03}{:04}", 230 + index / 10_000, index % 10_000);
        let status = if kind(20, 10) { Status::Reserved } else { Status::Verified };
        user.phone_numbers.push(SeedIdentifier::with(number, status));
        if kind(15, 5) {
            user.phone_numbers.push(SeedIdentifier::verified(format!("+447911{index:06}")));
        }
    }
    if name_only || kind(7, 2) {
        user.username = Some(if kind(2, 0) {
            format!("user_{index}-s{seed}")
        } else {
            format!("Mixed_Name_{index}_{seed}")
        });
    }
    if wallet_only || kind(16, 8) {
        let address = format!("0x{:040x}", (u128::from(seed) << 64) | index as u128 | 0xab << 56);
        user.web3_wallets.push(SeedIdentifier::verified(address));
    }
    if let Some(email) = user.email_addresses.first()
        && email.status == Status::Verified
        && kind(10, 4)
    {
        user.external_accounts.push(ExternalAccount {
            provider: PROVIDERS[index % PROVIDERS.len()].to_owned(),
            provider_user_id: format!("{seed}{index:012}"),
            email_address: email.value.clone(),
            id: String::new(),
            identification_id: String::new(),
            created_at: 0,
        });
    }
}

fn metadata(user: &mut SeedUser, index: usize, rng: &mut fastrand::Rng) {
    user.public_metadata = match index % 8 {
        0 => object(json!({ "plan": "pro", "seats": rng.u32(..) })),
        1 => object(json!({
            "quote": "she said \"no\" and 'left'; -- DROP TABLE users",
            "path": "C:\\temp\\\n\ttab", "emoji": "👩‍🚀🏳️‍🌈", "empty": "", "nul": "a\u{0}b",
        })),
        2 => object(json!({
            "big": 9_007_199_254_740_993_i64, "min": i64::MIN, "max": u64::MAX,
            "real": 0.1, "tiny": 5e-324, "minus": -0.5,
        })),
        3 => object(json!({ "a": { "b": { "c": [1, [2, [3, { "d": null }]], true] } }, "": [] })),
        _ => Metadata::new(),
    };
    if index % 5 == 2 {
        user.private_metadata = object(json!({
            "stripe": format!("cus_{index}"), "clerk_id": "user_not_ours", "none": null,
        }));
    }
    if index % 9 == 4 {
        user.unsafe_metadata = object(json!({ "theme": "dark", "unicode key ключ": ["ß", "ﬁ"] }));
    }
    if index % 97 == 33 {
        // Near Clerk's limit of 8 KB for all metadata of a user.
        user.unsafe_metadata = object(json!({ "notes": "ä".repeat(3_500) }));
    }
}

fn object(value: Value) -> Metadata {
    match value {
        Value::Object(map) => map,
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_) => {
            Metadata::new()
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn no_two_share_an_identifier_and_everyone_has_one() {
        let mut seen = HashSet::new();
        for user in users(5_000, 3) {
            let own: Vec<String> = user
                .email_addresses
                .iter()
                .chain(&user.phone_numbers)
                .chain(&user.web3_wallets)
                .map(|one| one.value.to_lowercase())
                .chain(user.username.iter().map(|name| name.to_lowercase()))
                .collect();
            assert!(!own.is_empty());
            for value in own.into_iter().chain(user.external_id) {
                assert!(seen.insert(value.clone()), "{value}");
            }
        }
    }

    #[test]
    fn the_same_seed_gives_the_same_people() {
        assert_eq!(users(200, 5), users(200, 5));
        assert_ne!(users(200, 5), users(200, 6));
        assert_eq!(users(200, 5)[..50], users(50, 5)[..]);
    }

    #[test]
    fn forty_show_every_kind() {
        let all = users(40, 1);
        let any = |test: &dyn Fn(&SeedUser) -> bool| all.iter().any(test);
        let status =
            |wanted| any(&|user| user.email_addresses.iter().any(|email| email.status == wanted));
        assert!(status(Status::Reserved) && status(Status::Unverified));
        assert!(any(&|u| u.email_addresses.is_empty() && u.username.is_some()));
        assert!(any(&|u| u.email_addresses.len() > 1));
        assert!(any(&|u| u.phone_numbers.len() > 1));
        assert!(any(&|u| !u.web3_wallets.is_empty() && u.email_addresses.is_empty()));
        assert!(any(&|u| u.banned) && any(&|u| u.locked) && any(&|u| !u.delete_self_enabled));
        assert!(any(&|u| u.external_id.as_deref().is_some_and(|id| id.starts_with('-'))));
        assert!(any(&|u| !u.external_accounts.is_empty()));
        assert!(
            any(&|u| u.create_organizations_limit.is_some()) && any(&|u| u.bypass_client_trust)
        );
        assert!(all.windows(2).any(|pair| pair[0].created_at == pair[1].created_at));
    }
}
