//! Time Travel bookmarks: a position in the history of one database.
//!
//! The form is D1's, `00000085-0000024c-00004c6d-<32 hex digits>`: two counters (the
//! second stays 0 here), the days since
//! 1970, and a fingerprint; later bookmarks compare greater as strings. Cloudflare does not publish
//! when a bookmark moves; this one moves with every write and never without one.

/// The position after the last write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Position {
    /// Writes so far.
    pub(crate) sequence: u32,
    /// The day of the last write, in days since 1970.
    pub(crate) day: u32,
}

impl Position {
    /// Moves on by one write that happened on `today`; a clock set back does not move it back.
    pub(crate) fn advance(self, today: u32) -> Self {
        Self { sequence: self.sequence.saturating_add(1), day: self.day.max(today) }
    }

    /// The bookmark of this position in the database `uuid`.
    pub(crate) fn bookmark(self, uuid: &str) -> String {
        let seed = fingerprint(0xcbf2_9ce4_8422_2325, uuid.as_bytes());
        let first = fingerprint(seed, &self.sequence.to_be_bytes());
        let second = fingerprint(first, &self.day.to_be_bytes());
        let Self { sequence, day } = self;
        format!("{sequence:08x}-00000000-{day:08x}-{first:016x}{second:016x}")
    }
}

/// FNV-1a: the digits only have to look arbitrary and be the same every time.
fn fingerprint(start: u64, bytes: &[u8]) -> u64 {
    bytes
        .iter()
        .fold(start, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn later_positions_are_greater_strings_of_the_documented_form() {
        let mut position = Position { sequence: 0, day: 20_000 };
        let mut last = position.bookmark("a");
        assert_eq!(last.len(), 8 + 1 + 8 + 1 + 8 + 1 + 32);
        for day in [20_000, 19_000, 20_001] {
            position = position.advance(day);
            let next = position.bookmark("a");
            assert!(next > last, "{next} is not after {last}");
            last = next;
        }
        assert_eq!(position.day, 20_001);
        assert_ne!(position.bookmark("a"), position.bookmark("b"));
    }
}
