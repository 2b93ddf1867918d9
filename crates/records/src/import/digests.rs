//! What this migration wrote, remembered in eight bytes a row.
//!
//! A rollback removes a row only when it still is as it was written, and must know that without
//! the source, which may have moved on or be gone. The whole row would prove it and be far too
//! large for a journal that may take about 2 KB a user; the first 64 bits of a SHA-256 over the
//! exact values (storage class, length, content) take eleven characters. That an altered row
//! keeps its digest by chance has a probability of 2⁻⁶⁴; nobody gains by forging one.

use std::collections::HashMap;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sha2::{Digest as _, Sha256};

use super::intent::KeySet;
use crate::value::Value;

/// Bytes of one digest.
const BYTES: usize = 8;

/// The digest of one row.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) struct RowDigest([u8; BYTES]);

impl RowDigest {
    /// Of a row's values, in the order of the columns that travel.
    pub(crate) fn of(row: &[Value]) -> Self {
        let mut hash = Sha256::new();
        hash.update((row.len() as u64).to_be_bytes());
        for value in row {
            value.feed(&mut hash);
        }
        let mut short = [0; BYTES];
        for (byte, from) in short.iter_mut().zip(hash.finalize()) {
            *byte = from;
        }
        Self(short)
    }
}

/// The digests of the rows of a [`KeySet`], in the order of its keys; or none at all, in journals
/// of the first version. Written as one string of URL-safe base64 without padding.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Digests(Vec<RowDigest>);

impl Digests {
    /// Whether there are none.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl Serialize for Digests {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let bytes: Vec<u8> = self.0.iter().flat_map(|digest| digest.0).collect();
        serializer.serialize_str(&URL_SAFE_NO_PAD.encode(bytes))
    }
}

impl<'de> Deserialize<'de> for Digests {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let bytes = URL_SAFE_NO_PAD.decode(text).map_err(serde::de::Error::custom)?;
        let (rows, rest) = bytes.as_chunks::<BYTES>();
        if !rest.is_empty() {
            return Err(serde::de::Error::custom("the row digests are cut off"));
        }
        Ok(Self(rows.iter().map(|row| RowDigest(*row)).collect()))
    }
}

/// A key with the digest of its row, when there is one.
pub(crate) type Written = (Vec<Value>, Option<RowDigest>);

/// Keys and digests as the journal keeps them. Digests are kept for all rows or for none: one
/// that is missing would shift those behind it.
pub(crate) fn pack(rows: &[Written]) -> (KeySet, Digests) {
    let known: HashMap<Vec<Value>, Option<RowDigest>> = rows.iter().cloned().collect();
    let keys = KeySet::new(rows.iter().map(|(key, _)| key));
    let ordered = keys.keys().unwrap_or_default();
    let digests: Option<Vec<_>> =
        ordered.iter().map(|key| known.get(key).copied().flatten()).collect();
    (keys, Digests(digests.unwrap_or_default()))
}

/// The reverse of [`pack`].
///
/// # Errors
/// A bug, when a key of the journal cannot be read.
pub(crate) fn unpack(keys: &KeySet, digests: &Digests) -> Result<Vec<Written>, rehome_core::Halt> {
    let keys = keys.keys()?;
    let paired = keys.len() == digests.0.len();
    Ok(keys
        .into_iter()
        .enumerate()
        .map(|(place, key)| (key, digests.0.get(place).copied().filter(|_| paired)))
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digests_stay_with_their_keys_and_take_eleven_characters() {
        let row = |n: i64| vec![Value::Integer(n), Value::text(format!("row {n}"))];
        let rows: Vec<Written> = [900, 3, 1, 2]
            .into_iter()
            .map(|n| (vec![Value::Integer(n)], Some(RowDigest::of(&row(n)))))
            .chain([(vec![Value::text("x")], Some(RowDigest::of(&row(-1))))])
            .collect();
        let (keys, digests) = pack(&rows);
        let json = serde_json::to_string(&digests).unwrap();
        assert!(json.len() <= 5 * 11 + 2, "{json}");
        let back: Digests = serde_json::from_str(&json).unwrap();
        let unpacked = unpack(&keys, &back).unwrap();
        assert_eq!(unpacked.len(), 5);
        for pair in rows {
            assert!(unpacked.contains(&pair), "{pair:?}");
        }
        assert!(serde_json::from_str::<Digests>("\"AAAA\"").is_err());
        assert!(serde_json::from_str::<Digests>("\"%\"").is_err());
    }

    #[test]
    fn type_length_and_content_count() {
        let rows = [
            vec![Value::Integer(1)],
            vec![Value::Real(1.0)],
            vec![Value::text("1")],
            vec![Value::Blob(b"1".to_vec().into())],
            vec![Value::Null],
            vec![Value::text("1"), Value::Null],
            vec![Value::text(""), Value::text("1")],
        ];
        let all: std::collections::HashSet<_> = rows.iter().map(|row| RowDigest::of(row)).collect();
        assert_eq!(all.len(), rows.len());
    }

    #[test]
    fn without_one_digest_there_are_none() {
        let some = Some(RowDigest::of(&[Value::Null]));
        let (keys, digests) =
            pack(&[(vec![Value::Integer(1)], some), (vec![Value::Integer(2)], None)]);
        assert!(digests.is_empty());
        let back = unpack(&keys, &digests).unwrap();
        assert!(back.len() == 2 && back.iter().all(|(_, digest)| digest.is_none()));
    }
}
