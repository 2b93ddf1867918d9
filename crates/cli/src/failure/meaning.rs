//! What each error of the layers below means for the caller: its exit code, and what to do.

use std::io;

use rehome_core::{Halt, journal};
use rehome_migration::{ConfigError, Error, Forced};

use crate::exit;

/// Of an error that the migration reports.
pub(super) fn migration(error: &Error) -> (u8, Option<String>) {
    let hint = |text: &str| Some(text.to_owned());
    match error {
        Error::Config(error) => (exit::USAGE, configuration(error)),
        Error::Key { .. } => (exit::USAGE, hint("take it from Clerk's dashboard, under API keys")),
        Error::Database { source, .. } => {
            let exit = if source.may_pass() { exit::UNUSABLE } else { exit::USAGE };
            (exit, hint(source.hint()))
        }
        Error::NoLocalD1 { .. } => (exit::USAGE, hint(rehome_migration::NO_LOCAL_D1)),
        Error::Journal(error) | Error::Halt(Halt::Journal(error)) => journal(error),
        Error::Halt(Halt::Remote { hint, .. }) => (exit::UNUSABLE, Some(hint.clone())),
        Error::Halt(Halt::Refused { hint, .. }) => (exit::REFUSED, Some(hint.clone())),
        Error::Halt(Halt::Bug(_)) => {
            (exit::BUG, hint("please report it with `--log-file`; the journal is intact"))
        }
        Error::Refused(_) => (exit::REFUSED, hint("`rehome check` looks at everything")),
        Error::StalePlan(_) => {
            (exit::REFUSED, hint("look again with `rehome plan --out FILE`, then run that"))
        }
        Error::ForceCount { what, found, .. } => (
            exit::REFUSED,
            Some(match what {
                Forced::Accounts => format!(
                    "`rehome rollback --dry-run` names them; `--force {found}` deletes them with the rest"
                ),
                Forced::Rows => format!(
                    "`rehome rollback --dry-run` names them; `--force-rows {found}` takes them with the rest"
                ),
            }),
        ),
        Error::ForcedSince { .. } => (
            exit::REFUSED,
            hint(
                "nothing more was taken back; look with `rehome rollback --dry-run`, then name how many there are now",
            ),
        ),
        Error::Downtime(_) => (
            exit::REFUSED,
            hint(
                "pass `--allow-downtime`; or remove `target.database.import_from`, and rows go by \
                 requests beside those of others",
            ),
        ),
        Error::NoBookmark => (
            exit::REFUSED,
            hint(
                "only a D1 behind Cloudflare's API has Time Travel, and its bookmark is taken when \
                 a run begins; `rehome rollback` without `--restore-bookmark` needs none",
            ),
        ),
        Error::OtherBookmark { .. } => (
            exit::REFUSED,
            hint("`rehome rollback --dry-run --restore-bookmark` shows it with its time"),
        ),
        Error::RestoreIsWhole => {
            (exit::USAGE, hint("leave `--only` out, and let `--to` be exported, created or mapped"))
        }
        Error::NotRestored { .. } => (
            exit::REFUSED,
            hint(
                "nothing happened; D1 keeps 30 days (7 on the free plan) and allows ten restores \
                 in ten minutes; `rehome rollback` takes back row by row",
            ),
        ),
        Error::RestoreInDoubt { .. } => (
            exit::UNUSABLE,
            hint(
                "give `rehome rollback --restore-bookmark` again: to the same bookmark it leads to \
                 the same database; until then nothing else is done",
            ),
        ),
        Error::RowsStay => (
            exit::USAGE,
            hint(
                "leave `--created-since` out: a rollback could not tell the rows that arrived, and \
                 would leave them without the accounts that they name",
            ),
        ),
        Error::Unfinished { .. } => (
            exit::REFUSED,
            hint(
                "finish with `rehome run` (or `rehome skip` what is not to move); `--force` removes \
                 it all the same, and then nothing can be resumed or taken back",
            ),
        ),
        Error::UnknownKey(_) => {
            (exit::USAGE, hint("name a unit by its source id, its target id or its e-mail address"))
        }
        Error::NotNow { key, .. } => {
            (exit::USAGE, Some(format!("`rehome show {key}` tells where it stands")))
        }
        // The enum may grow; what is not understood here is reported as what it is: unexpected.
        _ => (exit::BUG, None),
    }
}

fn configuration(error: &ConfigError) -> Option<String> {
    match error {
        ConfigError::Unreadable { source, .. } if source.kind() == io::ErrorKind::NotFound => {
            Some("write one with `rehome init`, or name it with `--config FILE`".to_owned())
        }
        ConfigError::Unreadable { .. } => Some("check its permissions".to_owned()),
        ConfigError::Syntax { .. } => None,
        ConfigError::Meaning { hint, .. } => Some(hint.clone()),
    }
}

/// Of an error of the journal.
pub(super) fn journal(error: &journal::Error) -> (u8, Option<String>) {
    let hint = |text: &str| Some(text.to_owned());
    match error {
        journal::Error::Missing(_) => (
            exit::USAGE,
            hint(
                "it begins with `rehome run`; one that was lost is built anew with `rehome journal \
                 rebuild`",
            ),
        ),
        journal::Error::Orphan { wal, .. } => (
            exit::REFUSED,
            Some(format!(
                "put the journal back beside it; if that is lost, move {} away too, and build the \
                 journal anew with `rehome journal rebuild`",
                wal.display()
            )),
        ),
        journal::Error::Gone { lock, .. } => (
            exit::REFUSED,
            Some(format!(
                "put it back (with its `-wal`), or build it anew with `rehome journal rebuild`; to \
                 begin another migration here, which cannot take back what that one did, remove {}",
                lock.display()
            )),
        ),
        journal::Error::Nowhere { .. } => (
            exit::REFUSED,
            hint(
                "is a disk missing? Put the journal back there; if it is lost, remove the link and \
                 build the journal anew with `rehome journal rebuild`",
            ),
        ),
        journal::Error::Locked { .. } => {
            (exit::REFUSED, hint("let it finish, or interrupt it; `rehome status` shows it"))
        }
        journal::Error::OtherMigration { .. } => (
            exit::REFUSED,
            hint("use the configuration that it was made with, or name a new `migration.journal`"),
        ),
        journal::Error::Damaged(_) => (
            exit::REFUSED,
            hint(
                "move it away with its `-wal` and put a copy back, or build it anew with `rehome \
                 journal rebuild`; keep this one for a look at it",
            ),
        ),
        journal::Error::ReplayDiffers(_) => (
            exit::REFUSED,
            hint(
                "`rehome journal replay --repair` derives the rest from the log, which is the truth",
            ),
        ),
        journal::Error::NotAJournal { .. } => (
            exit::REFUSED,
            hint(
                "if it was one, move it away with its `-wal` and put a copy back, or build it anew \
                 with `rehome journal rebuild`; if it is something else, name another file in \
                 `migration.journal`",
            ),
        ),
        journal::Error::Shortened { lock, .. } => (
            exit::REFUSED,
            Some(format!(
                "put it back together with its `-wal` file; to go on from this older state all the \
                 same, remove {}: what came later is then found in the target and adopted",
                lock.display()
            )),
        ),
        journal::Error::Exists(_) => {
            (exit::REFUSED, hint("move it away first; nothing that is there is ever overwritten"))
        }
        journal::Error::Read(_) => {
            (exit::REFUSED, hint("end what reads it (`rehome status --watch`), then try again"))
        }
        journal::Error::Scrubbed { .. } => (
            exit::REFUSED,
            hint(
                "`map`, `status` and `journal log` still work; a migration of newcomers needs a \
                 journal of its own, under another name in `migration.journal`",
            ),
        ),
        journal::Error::ReadOnly(_) => {
            (exit::REFUSED, hint("make it writable for its owner (`chmod 600`), or name a copy"))
        }
        journal::Error::TooNew { .. } => {
            (exit::REFUSED, hint("use the version of rehome that wrote it, or a later one"))
        }
        journal::Error::Pragma { .. } => {
            (exit::REFUSED, hint("put the journal on a local disk: it cannot be kept safe there"))
        }
        journal::Error::File { .. } | journal::Error::Sqlite { .. } => (
            exit::UNUSABLE,
            hint("look at the disk (space, permissions), then give the same command again"),
        ),
        journal::Error::TargetTaken { .. } => {
            (exit::REFUSED, hint("`rehome show` with the target's id tells whose it is"))
        }
        journal::Error::Illegal { .. }
        | journal::Error::UnknownUnit(_)
        | journal::Error::Closed => (exit::BUG, hint("please report it; the journal is intact")),
        // The enum may grow; see above.
        _ => (exit::BUG, None),
    }
}
