//! Why a command could not do what it was asked, and what that means for the caller: a message,
//! the chain of causes, what to do, and an exit code. Every error of the layers below ends here.

use std::error::Error as _;
use std::io;
use std::path::PathBuf;

use rehome_core::{Halt, journal};
use rehome_migration::document::Finding;
use rehome_migration::{ConfigError, Error, Forced};
use schemars::JsonSchema;
use serde::Serialize;

use crate::context::Context;
use crate::exit;
use crate::render::style::Style;
use crate::secrets::SecretError;

/// Why a command did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    /// Something that the migration itself reports.
    #[error(transparent)]
    Migration(#[from] Error),
    /// The journal is there and cannot be trusted.
    #[error("the journal {} cannot be used", .path.display())]
    Journal {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        #[source]
        source: Box<journal::Error>,
    },
    /// A secret could not be had.
    #[error(transparent)]
    Secret(#[from] SecretError),
    /// The arguments do not fit what is there.
    #[error("{message}")]
    Usage {
        /// What does not fit.
        message: String,
        /// What to do.
        hint: String,
    },
    /// A file that was named cannot be read or written.
    #[error("cannot {doing} {}", .path.display())]
    File {
        /// Reading or writing.
        doing: &'static str,
        /// Which file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// A file that was named does not hold what it should.
    #[error("{} cannot be understood", .path.display())]
    Content {
        /// Which file.
        path: PathBuf,
        /// What is wrong in it.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The emulator could not be started or filled.
    #[error("the emulator cannot be started")]
    Emulator(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// A command that the demonstration started went another way than it should.
    #[error("{command} did not do what the demonstration expects")]
    Demo {
        /// The command.
        command: String,
        /// What it said.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A run that could not go on, and whose last event has told so already.
    #[error(transparent)]
    Told(Box<Failure>),
    /// Whoever read standard output has seen enough.
    #[error("nobody reads standard output any more")]
    ReaderGone,
    /// Standard output could not be written.
    #[error("cannot write to standard output")]
    Stdout(#[source] io::Error),
    /// Interrupted by a signal.
    #[error("interrupted")]
    Interrupted {
        /// How to go on.
        hint: Option<String>,
    },
    /// The system would not let us hear signals.
    #[error("cannot listen for signals")]
    Signals(#[source] io::Error),
    /// The system would not give us threads.
    #[error("cannot start the runtime")]
    Runtime(#[source] io::Error),
    /// A document that cannot be written as JSON: a bug.
    #[error("internal error: a document cannot be written")]
    Document(#[source] serde_json::Error),
}

/// A failure as people and programs read it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, JsonSchema)]
pub(crate) struct Report {
    /// What went wrong.
    pub(crate) message: String,
    /// Why, from the nearest cause to the farthest.
    pub(crate) causes: Vec<String>,
    /// What to do.
    pub(crate) hint: Option<String>,
    /// The exit code.
    pub(crate) exit: u8,
}

/// The last line of standard output with `--json`, when a command failed.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct ErrorLine {
    /// What went wrong.
    pub(crate) error: Report,
}

impl Failure {
    /// For `map_err` where standard output is written.
    pub(crate) fn writing_stdout(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::BrokenPipe => Self::ReaderGone,
            _ => Self::Stdout(error),
        }
    }

    /// For `map_err` where a document is serialized into standard output.
    pub(crate) fn serializing(error: serde_json::Error) -> Self {
        match error.io_error_kind() {
            Some(kind) => Self::writing_stdout(kind.into()),
            None => Self::Document(error),
        }
    }

    /// Wrong use, with advice.
    pub(crate) fn usage(message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self::Usage { message: message.into(), hint: hint.into() }
    }

    /// The same, naming the file when it is the journal that is damaged: what is deep in it does
    /// not know its name.
    pub(crate) fn naming_the_journal(self, context: &Context) -> Self {
        match self {
            Self::Migration(Error::Journal(
                source @ (journal::Error::Damaged(_) | journal::Error::ReplayDiffers(_)),
            )) => match context.config() {
                Ok(config) => {
                    Self::Journal { path: config.journal_path(), source: Box::new(source) }
                }
                Err(_) => Self::Migration(Error::Journal(source)),
            },
            other => other,
        }
    }

    /// All that is to be told.
    pub(crate) fn report(&self) -> Report {
        if let Self::Told(failure) = self {
            return failure.report();
        }
        let mut causes = Vec::new();
        let mut cause = self.source();
        while let Some(error) = cause {
            causes.push(error.to_string());
            cause = error.source();
        }
        let (exit, hint) = self.meaning();
        let mut report = Report { message: self.to_string(), causes, hint, exit };
        if let Self::Migration(Error::Journal(journal::Error::OtherMigration { differences })) =
            self
        {
            let side = |value: &Option<String>| value.clone().unwrap_or_else(|| "nothing".into());
            report.causes.extend(differences.iter().map(|difference| {
                let (journal, found) = (side(&difference.journal), side(&difference.found));
                format!("{}: the journal has {journal}, found {found}", difference.what)
            }));
        }
        if let Self::Migration(Error::Refused(findings)) = self {
            report.causes.extend(findings.iter().map(refusal));
        }
        report
    }

    /// The exit code and what to do.
    fn meaning(&self) -> (u8, Option<String>) {
        let hint = |text: &str| Some(text.to_owned());
        match self {
            Self::Migration(error) => migration(error),
            Self::Journal { source, .. } => journal(source),
            Self::Secret(error) => (exit::USAGE, Some(error.hint())),
            Self::Usage { hint, .. } => (exit::USAGE, Some(hint.clone())),
            Self::File { .. } => (exit::USAGE, hint("check the path and its permissions")),
            Self::Content { .. } => (exit::USAGE, None),
            Self::Emulator(_) => (exit::UNUSABLE, hint("is the port free? `--port 0` takes any")),
            Self::Demo { .. } => (exit::BUG, hint("the folder keeps what happened")),
            Self::Told(failure) => failure.meaning(),
            Self::ReaderGone => (exit::DONE, None),
            Self::Stdout(_) => (exit::UNUSABLE, hint("is the disk full?")),
            Self::Interrupted { hint } => (exit::INTERRUPTED, hint.clone()),
            Self::Signals(_) | Self::Runtime(_) => (exit::UNUSABLE, None),
            Self::Document(_) => (exit::BUG, hint("please report it")),
        }
    }
}

fn refusal(finding: &Finding) -> String {
    match &finding.hint {
        Some(hint) => format!("{}: {} ({hint})", finding.code, finding.message),
        None => format!("{}: {}", finding.code, finding.message),
    }
}

fn migration(error: &Error) -> (u8, Option<String>) {
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

fn journal(error: &journal::Error) -> (u8, Option<String>) {
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

impl Report {
    /// The report as lines for a person.
    pub(crate) fn in_words(&self, style: Style) -> String {
        let mut text = format!("{} {}", style.red("error:"), self.message.trim_end());
        for cause in &self.causes {
            text += &format!("\n  {} {}", style.dim("caused by:"), cause.trim_end());
        }
        if let Some(hint) = &self.hint {
            text += &format!("\n{} {hint}", style.yellow("hint:"));
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rehome_core::RemoteTrouble;

    fn words(failure: &Failure) -> String {
        format!("{}\nexit {}", failure.report().in_words(Style::PLAIN), failure.report().exit)
    }

    #[test]
    fn errors_read_as_what_why_and_what_to_do() {
        let missing = journal::Error::Missing("a.journal".into());
        insta::assert_snapshot!("missing_journal", words(&Error::from(missing).into()));

        let damaged = journal::Error::Damaged("page 7 is torn".into());
        let path = "a.journal".into();
        let damaged = Failure::Journal { path, source: Box::new(damaged) };
        insta::assert_snapshot!("damaged_journal", words(&damaged));
        let (path, wal) = ("a.journal".into(), "a.journal-wal".into());
        let (lock, to) = (".rehome/a.journal.lock".into(), "/mnt/keys/a.journal".into());
        let gone = journal::Error::Gone { path: PathBuf::clone(&path), entries: 4711, lock };
        insta::assert_snapshot!("gone_journal", words(&Error::from(gone).into()));
        let nowhere = journal::Error::Nowhere { path: PathBuf::clone(&path), to };
        insta::assert_snapshot!("nowhere_journal", words(&Error::from(nowhere).into()));

        let orphan = journal::Error::Orphan { path, wal };
        insta::assert_snapshot!("orphan_journal", words(&Error::from(orphan).into()));
        let scrubbed = journal::Error::Scrubbed { at: "2026-11-23T06:00:00Z".into() };
        insta::assert_snapshot!("scrubbed_journal", words(&Error::from(scrubbed).into()));

        let other = journal::Error::OtherMigration {
            differences: vec![journal::Difference {
                what: "target instance".into(),
                journal: Some("ins_a".into()),
                found: Some("ins_b".into()),
            }],
        };
        insta::assert_snapshot!("other_migration", words(&Error::from(other).into()));

        let full = journal::Error::File {
            doing: "write",
            path: "a.journal".into(),
            source: io::Error::other("no space left on device"),
        };
        insta::assert_snapshot!("disk_full", words(&Error::from(full).into()));

        let remote = Error::from(Halt::Remote {
            remote: "target Clerk instance".into(),
            trouble: RemoteTrouble::Authentication,
            message: "it does not accept the key (401)".into(),
            hint: "check `target.clerk.secret_key`".into(),
        });
        insta::assert_snapshot!("remote", words(&remote.into()));
    }

    #[test]
    fn exit_codes_are_the_promised_ones() {
        let exit = |error: Error| Failure::from(error).report().exit;
        assert_eq!(exit(Error::StalePlan("users".into())), 4);
        assert_eq!(exit(Error::Refused(Vec::new())), 4);
        assert_eq!(exit(Error::UnknownKey("x".into())), 2);
        assert_eq!(exit(journal::Error::Locked { owner: "pid 1".into() }.into()), 4);
        assert_eq!(exit(journal::Error::TooNew { found: 9, known: 1 }.into()), 4);
        assert_eq!(exit(Error::RowsStay), 2);
        assert_eq!(exit(Error::Unfinished { what: "x".into() }), 4);
        assert_eq!(exit(journal::Error::Exists("a".into()).into()), 4);
        assert_eq!(exit(journal::Error::Read("a".into()).into()), 4);
        assert_eq!(exit(Halt::Bug("x".into()).into()), 1);
        let refused = Halt::Refused { message: "x".into(), hint: "y".into() };
        assert_eq!(exit(refused.into()), 4);
        assert_eq!(Failure::Interrupted { hint: None }.report().exit, 130);
        assert_eq!(Failure::writing_stdout(io::ErrorKind::BrokenPipe.into()).report().exit, 0);
    }
}
