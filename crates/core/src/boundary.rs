//! The instants between two durable facts, each with a name.
//!
//! A process can die anywhere, but what it leaves behind only changes at few places: a lock is
//! taken, a transaction becomes durable, a request is served. A death between two such places is
//! the same death, wherever exactly it strikes. So the places are named here, and the crash suites
//! kill the process at each of them in turn instead of hoping that a random moment meets it.
//!
//! None of it is in a program that people use. Without the cargo feature `crash-points`, [`reach`]
//! is empty, [`about`] does not look at its argument, `hasten` gives back what it was given, and
//! there is neither a name nor a hook to install; a test looks for the names in the bytes of the
//! shipped binary. With the feature, a program may `install` a hook that hears of each boundary
//! and may end the process there. This crate reads no environment: which boundary is the last one
//! is the program's business.

use std::time::Duration;

/// A place where a death leaves something else behind than a moment before.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Boundary {
    /// The lock is held; the journal was not looked at.
    LockTaken,
    /// The journal is a file, which may be empty.
    FileMade,
    /// The schema (new, or of a later format) is written and not committed.
    SchemaWritten,
    /// The schema is durable.
    SchemaDurable,
    /// The journal is about to be bound to its migration.
    SetupDue,
    /// The journal is bound.
    SetupDurable,
    /// The owner row names this process.
    OwnerSigned,
    /// The owner row is gone, the lock still held.
    OwnerGone,
    /// Changes are about to be given to the writing thread.
    Handed(About),
    /// A group of changes is written and not committed.
    GroupWritten,
    /// A group of changes is durable, and nobody was told.
    GroupDurable,
    /// The caller learned that its changes are durable.
    Acknowledged(About),
    /// A request that may change something is about to be sent to Clerk.
    ClerkDue,
    /// Clerk has served a request; the answer's body is not read.
    ClerkServed,
    /// D1 has served a request; the answer's body is not read.
    D1Served,
    /// Rows are written to a SQLite file and not committed.
    RowsWritten,
    /// Rows are durable in a SQLite file, and nobody was told.
    RowsDurable,
}

/// What a list of changes is about, in one word; nothing at all without `crash-points`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct About(#[cfg(feature = "crash-points")] &'static str);

#[cfg(not(feature = "crash-points"))]
mod shipped {
    use super::{About, Boundary, Duration};

    /// Says that `boundary` is reached. Nothing happens.
    #[inline(always)]
    pub const fn reach(boundary: Boundary) {
        let _ = boundary;
    }

    /// The word for a list of changes. It is not asked for.
    #[inline(always)]
    pub fn about(word: impl FnOnce() -> &'static str) -> About {
        // Only what is called costs something.
        std::mem::forget(word);
        About()
    }

    /// A wait, as it was given.
    #[inline(always)]
    pub(crate) const fn hasten(wait: Duration) -> Duration {
        wait
    }
}

#[cfg(not(feature = "crash-points"))]
pub(crate) use shipped::hasten;
#[cfg(not(feature = "crash-points"))]
pub use shipped::{about, reach};

#[cfg(feature = "crash-points")]
mod tried {
    use std::sync::OnceLock;

    use super::{About, Boundary, Duration};

    /// What a program does about boundaries.
    pub struct Hook {
        /// Hears the name of each boundary that is reached, on the thread that reaches it. Need not
        /// return.
        pub reached: Box<dyn Fn(&str) + Send + Sync>,
        /// By what the waits for slow remotes are divided, so that thousands of runs can be had:
        /// for the settle time of a doubt, the first look at one, and the lingering of a batch.
        pub haste: u32,
    }

    impl std::fmt::Debug for Hook {
        fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.debug_struct("Hook").field("haste", &self.haste).finish_non_exhaustive()
        }
    }

    static HOOK: OnceLock<Hook> = OnceLock::new();

    /// Installs the process's hook. `false` when there is one already, which then stays.
    pub fn install(hook: Hook) -> bool {
        HOOK.set(hook).is_ok()
    }

    /// Says that `boundary` is reached, to the hook if there is one.
    pub fn reach(boundary: Boundary) {
        if let Some(hook) = HOOK.get() {
            (hook.reached)(&boundary.name());
        }
    }

    /// The word for a list of changes.
    pub fn about(word: impl FnOnce() -> &'static str) -> About {
        About(word())
    }

    /// A wait, shortened by the hook's haste.
    pub(crate) fn hasten(wait: Duration) -> Duration {
        HOOK.get().map_or(wait, |hook| wait / hook.haste.max(1))
    }

    impl Boundary {
        /// The names of all boundaries, without what their changes are about.
        pub const NAMES: [&str; 17] = [
            "lock taken",
            "journal file made",
            "schema written, not committed",
            "schema durable",
            "setup not bound yet",
            "setup bound",
            "owner row signed",
            "owner row gone",
            "not handed to the journal yet",
            "group written, not committed",
            "group durable, not acknowledged",
            "acknowledged",
            "clerk: not sent yet",
            "clerk: served, answer unread",
            "d1: served, answer unread",
            "rows written, not committed",
            "rows durable, not reported",
        ];

        /// The boundary's name; those at the ends of a change say what it is about:
        /// `acknowledged: intended`.
        pub fn name(self) -> String {
            let [lock, file, schema, schema_durable, setup, setup_durable, signed, gone, ..] =
                Self::NAMES;
            let [.., handed, group, durable, acknowledged, _, _, _, _, _] = Self::NAMES;
            let [.., clerk, clerk_served, d1_served, rows, rows_durable] = Self::NAMES;
            match self {
                Self::LockTaken => lock.into(),
                Self::FileMade => file.into(),
                Self::SchemaWritten => schema.into(),
                Self::SchemaDurable => schema_durable.into(),
                Self::SetupDue => setup.into(),
                Self::SetupDurable => setup_durable.into(),
                Self::OwnerSigned => signed.into(),
                Self::OwnerGone => gone.into(),
                Self::Handed(About(word)) => format!("{handed}: {word}"),
                Self::GroupWritten => group.into(),
                Self::GroupDurable => durable.into(),
                Self::Acknowledged(About(word)) => format!("{acknowledged}: {word}"),
                Self::ClerkDue => clerk.into(),
                Self::ClerkServed => clerk_served.into(),
                Self::D1Served => d1_served.into(),
                Self::RowsWritten => rows.into(),
                Self::RowsDurable => rows_durable.into(),
            }
        }
    }
}

#[cfg(feature = "crash-points")]
pub(crate) use tried::hasten;
#[cfg(feature = "crash-points")]
pub use tried::{Hook, about, install, reach};
