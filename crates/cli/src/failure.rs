//! Why a command could not do what it was asked, and what that means for the caller: a message,
//! the chain of causes, what to do, and an exit code. Every error of the layers below ends here.

mod meaning;

use std::error::Error as _;
use std::io;
use std::path::PathBuf;

use rehome_core::journal;
use rehome_migration::Error;
use rehome_migration::document::Finding;
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
            Self::Migration(error) => meaning::migration(error),
            Self::Journal { source, .. } => meaning::journal(source),
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
    use rehome_core::{Halt, RemoteTrouble};

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
