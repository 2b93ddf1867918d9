//! Identifiers in Clerk's form: a prefix and 27 letters or digits, here from
//! a seeded generator so that a run can be repeated.

use std::sync::{Mutex, PoisonError};

const ALPHABET: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

/// A seeded source of ids for one instance.
#[derive(Debug)]
pub(crate) struct Ids(Mutex<fastrand::Rng>);

impl Ids {
    pub(crate) fn new(seed: u64) -> Self {
        Self(Mutex::new(fastrand::Rng::with_seed(seed)))
    }

    /// A fresh id: `prefix` followed by 27 base-62 characters, the form that
    /// the specification's `^(user|org|mch|scim)_\w{27}$` describes.
    pub(crate) fn next(&self, prefix: &str) -> String {
        let mut rng = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        random_id(&mut rng, prefix)
    }
}

/// One id from a generator that the caller holds.
pub(crate) fn random_id(rng: &mut fastrand::Rng, prefix: &str) -> String {
    let mut id = String::with_capacity(prefix.len() + 27);
    id.push_str(prefix);
    for _ in 0..27 {
        id.push(char::from(ALPHABET[rng.usize(..ALPHABET.len())]));
    }
    id
}

/// A stable seed for a text, so that every instance draws other ids without
/// having to be given a number.
pub(crate) fn seed_of(text: &str) -> u64 {
    // FNV-1a: stable between builds, which the standard hasher does not promise.
    text.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    })
}
