//! What can be typed. Names and flags are promises; the help texts are the manual.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;
use rehome_core::Stage;

use crate::exit;

mod journal;

pub(crate) use journal::{Journal, Log, Rebuild, Replay, Scrub};

/// Move a user base from one Clerk instance to another, with every database row that points at it.
///
/// Every step is journaled before and after it happens. A run may be killed at any instant; the
/// same command goes on where it stopped, and creates nobody twice. `rehome demo` shows all of it
/// in half a minute, without keys and without a network.
#[derive(Debug, Parser)]
#[command(name = "rehome", version, max_term_width = 100, after_help = exit::HELP)]
#[command(subcommand_required = true, arg_required_else_help = true)]
pub(crate) struct Cli {
    /// What applies to every command.
    #[command(flatten)]
    pub(crate) global: Global,
    /// What to do.
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// Flags of every command.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Everywhere")]
pub(crate) struct Global {
    /// Read this configuration
    #[arg(long, global = true, value_name = "FILE", default_value = "rehome.toml")]
    pub(crate) config: PathBuf,
    /// Print JSON on standard output, and nothing else there
    #[arg(long, global = true)]
    pub(crate) json: bool,
    /// Print only results and errors
    #[arg(short, long, global = true)]
    pub(crate) quiet: bool,
    /// Log more: -v the course of things, -vv requests, -vvv everything
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    pub(crate) verbose: u8,
    /// Colour the output; NO_COLOR is respected
    #[arg(long, global = true, value_name = "WHEN", default_value = "auto")]
    pub(crate) color: Colour,
    /// Draw no progress bars
    #[arg(long, global = true)]
    pub(crate) no_progress: bool,
    /// Append the log to this file, as JSON Lines
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) log_file: Option<PathBuf>,
}

/// When to colour.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub(crate) enum Colour {
    /// On a terminal, unless NO_COLOR is set
    Auto,
    /// Always
    Always,
    /// Never
    Never,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Write a commented rehome.toml
    ///
    /// Nothing is overwritten. The file names where each key is to be had; no key stands in it.
    #[command(after_help = "Example:\n  rehome init --from-wrangler wrangler.toml")]
    Init(Init),
    /// Look at everything that a run needs, and write nothing
    ///
    /// Keys, instances, limits, databases, schemas, id columns, disk, clock, journal. Each finding
    /// says what was found, why it matters, and what to do. Exit code 4 when a run would be refused.
    Check,
    /// Say what a run would do, and write nothing
    ///
    /// Reads every source user and every row: who would be created, adopted, left out or refused,
    /// and which rows would be written, wait, or stand against rows of the application's own.
    #[command(after_help = "Example:\n  rehome plan --out agreed.json\n  \
                            rehome run --plan agreed.json")]
    Plan(Plan),
    /// Start the migration, or go on with it: the same command always
    ///
    /// Users are read, created (or adopted, when they are there already), and read back; rows follow
    /// as soon as the users that they mention are mapped; then both sides are compared. Ctrl-C
    /// finishes what is under way; a second one stops at once, which is as safe.
    #[command(
        after_help = "Examples:\n  rehome run --limit 20        a pilot of 20 users and their \
                            rows\n  rehome run --until mapped    accounts, but no rows yet\n  \
                            rehome run                   everything"
    )]
    Run(Run),
    /// Show where everything stands, also while a run is on
    Status(Status),
    /// Show one unit: its state, both ids, its history, and why it stands still
    #[command(after_help = "Example:\n  rehome show ada@example.com")]
    Show(Show),
    /// List what is failed, held, skipped or stuck, by code, each with what to do
    #[command(after_help = "Example:\n  rehome failures --code form_password_pwned --json")]
    Failures(Failures),
    /// Put failed units back, so that the next run takes them up
    #[command(after_help = "Examples:\n  rehome retry                  all that failed\n  \
                            rehome retry --code CODE      those that failed for one reason\n  \
                            rehome retry ada@example.com  this one, also if it was skipped")]
    Retry(Retry),
    /// Take units out of the migration, with a reason
    ///
    /// `rehome retry KEY` takes one in again.
    #[command(after_help = "Example:\n  rehome skip bot@example.com --reason \"a test account\"")]
    Skip(Skip),
    /// Print which old id became which new id
    #[command(after_help = "Example:\n  rehome map --format sql --output id_map.sql")]
    Map(Map),
    /// Compare both sides afresh, at any time
    ///
    /// Trusts no success that was journaled. Exit code 3 when anything is missing, differs, or could
    /// not be checked. Rows that only the target has are counted, and are no fault.
    #[command(after_help = "Example:\n  rehome verify --combined differences.txt")]
    Verify(Verify),
    /// Take the migration back: the journal, replayed backwards
    ///
    /// Rows that rehome inserted go, rows that it replaced get their earlier values, children before
    /// their parents; then the accounts that it created go. Accounts that were there before live on.
    /// Nothing goes that somebody has used or changed since: that is stuck, and `rehome failures`
    /// lists it with the difference. May be interrupted and given again; afterwards `rehome run`
    /// goes forth again.
    #[command(
        after_help = "Examples:\n  rehome rollback --dry-run          what would go, and what \
                            would stay\n  rehome rollback --to mapped        the rows, not the \
                            accounts\n  rehome rollback --only ada@example.com"
    )]
    Rollback(Rollback),
    /// Work with the journal itself: its history, its soundness, what it knows of people
    ///
    /// The journal is one SQLite file: a log that only grows, and a cache of what the log leads to.
    #[command(subcommand_required = true, arg_required_else_help = true)]
    Journal {
        /// What to do with it
        #[command(subcommand)]
        command: Journal,
    },
    /// Serve Clerk and D1 on 127.0.0.1, to rehearse against
    ///
    /// A development instance full of varied users, an empty production instance, and two D1
    /// databases. Prints one JSON line with addresses and keys, and serves until it is interrupted.
    #[command(
        after_help = "Example:\n  rehome emulate --port 8787 --users 5000 --faults faults.json"
    )]
    Emulate(Emulate),
    /// Watch a whole migration, killed in the middle, on this machine alone
    ///
    /// No keys, no network: 1,000 users and their rows move between two emulated instances in a
    /// temporary folder, which is kept for you to look at.
    Demo,
    /// Print a completion script for a shell
    #[command(after_help = "Example:\n  rehome completions bash > ~/.local/share/bash-completion/\
                            completions/rehome")]
    Completions {
        /// The shell
        shell: Shell,
    },
    /// Print the manual page
    #[command(
        after_help = "Examples:\n  rehome man | man -l -\n  rehome man --output share/man/man1"
    )]
    Man(Man),
}

/// `init`
#[derive(Debug, Args)]
pub(crate) struct Init {
    /// Take the D1 databases from this wrangler.toml, wrangler.json or wrangler.jsonc
    #[arg(long, value_name = "FILE")]
    pub(crate) from_wrangler: Option<PathBuf>,
}

/// `plan`
#[derive(Debug, Args)]
pub(crate) struct Plan {
    /// Keep the plan in this file, for `rehome run --plan`
    #[arg(long, value_name = "FILE")]
    pub(crate) out: Option<PathBuf>,
}

/// `run`
#[derive(Debug, Args)]
pub(crate) struct Run {
    /// Stop when units have come this far
    #[arg(long, value_name = "STATE", value_parser = stage, default_value = "verified")]
    pub(crate) until: Stage,
    /// Move only the first N users and their rows: a pilot
    #[arg(long, value_name = "N", conflicts_with = "only")]
    pub(crate) limit: Option<u64>,
    /// Move only these users (source id or e-mail address) and their rows
    #[arg(long, value_name = "KEY", num_args = 1..)]
    pub(crate) only: Vec<String>,
    /// Go through everything again until a pass finds that the source has not moved on
    #[arg(long, conflicts_with_all = ["until", "limit", "only"])]
    pub(crate) until_quiet: bool,
    /// With --until-quiet: stop after so many passes, quiet or not
    #[arg(long, value_name = "N", default_value_t = 20, requires = "until_quiet", value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) passes: u32,
    /// Refuse when things are not as they were when this plan was made
    #[arg(long, value_name = "FILE")]
    pub(crate) plan: Option<PathBuf>,
    /// Start without asking
    #[arg(short, long)]
    pub(crate) yes: bool,
    /// The target database may answer nobody while rows are imported as files (import_from)
    #[arg(long)]
    pub(crate) allow_downtime: bool,
}

fn stage(word: &str) -> Result<Stage, String> {
    one_of(&Stage::ALL, word)
}

/// The stage of that name, if it is among these; else which there are.
fn one_of(stages: &[Stage], word: &str) -> Result<Stage, String> {
    let words: Vec<_> = stages.iter().map(|stage| stage.as_str()).collect();
    let found = stages.iter().copied().find(|stage| stage.as_str() == word);
    found.ok_or_else(|| format!("one of {}", words.join(", ")))
}

/// `rollback`
#[derive(Debug, Args)]
pub(crate) struct Rollback {
    /// Take units back to this state, and no further: exported, created, mapped or imported
    #[arg(long, value_name = "STATE", value_parser = earlier_stage, default_value = "exported")]
    pub(crate) to: Stage,
    /// Take back only these users (source id or e-mail address) and their rows
    #[arg(long, value_name = "KEY", num_args = 1..)]
    pub(crate) only: Vec<String>,
    /// Say what would go and what would stay, and write nothing
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Delete also accounts that were used or changed since, of which there are N
    #[arg(long, value_name = "N")]
    pub(crate) force: Option<u64>,
    /// Remove also rows that were changed since, and give rows back whose place somebody has
    /// emptied, of which there are N together
    #[arg(long, value_name = "N")]
    pub(crate) force_rows: Option<u64>,
    /// As a last resort, restore the whole target D1 to the bookmark from before the first write:
    /// everything that anybody has written there since is lost. With --yes, name the bookmark
    #[arg(long, value_name = "BOOKMARK", num_args = 0..=1, default_missing_value = "")]
    #[arg(conflicts_with = "only")]
    pub(crate) restore_bookmark: Option<String>,
    /// Start without asking
    #[arg(short, long)]
    pub(crate) yes: bool,
}

fn earlier_stage(word: &str) -> Result<Stage, String> {
    // Nothing is taken back to the last stage.
    one_of(&[Stage::Exported, Stage::Created, Stage::Mapped, Stage::Imported], word)
}

/// `status`
#[derive(Debug, Args)]
pub(crate) struct Status {
    /// Draw it again every second, until all is done
    #[arg(short, long)]
    pub(crate) watch: bool,
}

/// `show`
#[derive(Debug, Args)]
pub(crate) struct Show {
    /// A source id, a target id or an e-mail address
    pub(crate) key: String,
}

/// `failures`
#[derive(Debug, Args)]
pub(crate) struct Failures {
    /// Only those of this code
    #[arg(long)]
    pub(crate) code: Option<String>,
}

/// `retry`
#[derive(Debug, Args)]
pub(crate) struct Retry {
    /// Only these: source id, target id or e-mail address
    #[arg(value_name = "KEY")]
    pub(crate) keys: Vec<String>,
    /// Only those of this code
    #[arg(long, conflicts_with = "keys")]
    pub(crate) code: Option<String>,
}

/// `skip`
#[derive(Debug, Args)]
pub(crate) struct Skip {
    /// Which: source id, target id or e-mail address
    #[arg(value_name = "KEY", required = true)]
    pub(crate) keys: Vec<String>,
    /// Why; the journal keeps it
    #[arg(long, value_name = "TEXT")]
    pub(crate) reason: String,
}

/// `map`
#[derive(Debug, Args)]
pub(crate) struct Map {
    /// How to write it (csv; json with --json, which goes with ndjson too)
    #[arg(long, value_enum)]
    pub(crate) format: Option<MapFormat>,
    /// Write this file (readable by you alone) instead of standard output
    #[arg(short, long, value_name = "FILE")]
    pub(crate) output: Option<PathBuf>,
}

/// How the map is written.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub(crate) enum MapFormat {
    /// With the header kind,source_id,target_id,origin,email
    Csv,
    /// One array
    Json,
    /// One object a line
    Ndjson,
    /// A table `id_map` and its rows
    Sql,
}

/// `verify`
#[derive(Debug, Args)]
pub(crate) struct Verify {
    /// Write one line per user and per row that is not equal: = same, + only in the target,
    /// - missing there, * differs, ! not checked
    #[arg(long, value_name = "FILE")]
    pub(crate) combined: Option<PathBuf>,
}

/// `emulate`
#[derive(Debug, Args)]
pub(crate) struct Emulate {
    /// Listen on this port of 127.0.0.1; 0 takes any free one
    #[arg(long, default_value_t = 0)]
    pub(crate) port: u16,
    /// Put so many users into the source
    #[arg(long, value_name = "N", default_value_t = 1000)]
    pub(crate) users: usize,
    /// Make about so many rows in all (default: six per user)
    #[arg(long, value_name = "N")]
    pub(crate) rows: Option<usize>,
    /// Make users and rows from this seed
    #[arg(long, default_value_t = 1)]
    pub(crate) seed: u64,
    /// Break requests by this plan (JSON)
    #[arg(long, value_name = "FILE")]
    pub(crate) faults: Option<PathBuf>,
    /// Limit requests as Clerk documents it, in windows of this shape
    #[arg(long, value_enum, default_value = "sliding")]
    pub(crate) rate_limit: LimitShape,
    /// Let the target take no more users than this
    #[arg(long, value_name = "N")]
    pub(crate) user_cap: Option<u64>,
    /// Append every request to Clerk and its answer to this file
    #[arg(long, value_name = "FILE")]
    pub(crate) record: Option<PathBuf>,
}

/// How requests to the emulator are limited.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub(crate) enum LimitShape {
    /// Windows of ten seconds side by side
    Fixed,
    /// Any ten seconds
    Sliding,
    /// No limit
    Off,
}

/// `man`
#[derive(Debug, Args)]
pub(crate) struct Man {
    /// The page of this command instead of the whole program's
    pub(crate) command: Option<String>,
    /// Write every page into this folder instead
    #[arg(long, value_name = "FOLDER", conflicts_with = "command")]
    pub(crate) output: Option<PathBuf>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory as _;

    #[test]
    fn the_declaration_holds_together() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_help_text_is_reviewed() {
        let mut cli = Cli::command().term_width(100);
        insta::assert_snapshot!("help", cli.render_long_help());
        cli.build();
        for command in cli.get_subcommands_mut() {
            if command.get_name() == "help" {
                continue;
            }
            let name = format!("help_{}", command.get_name());
            insta::assert_snapshot!(name.clone(), command.clone().render_long_help());
            for below in command.get_subcommands_mut() {
                if below.get_name() != "help" {
                    let name = format!("{name}_{}", below.get_name());
                    insta::assert_snapshot!(name, below.clone().render_long_help());
                }
            }
        }
    }

    #[test]
    fn commands_read_as_promised() {
        let parse = |line: &str| Cli::try_parse_from(line.split(' '));
        for line in [
            "rehome run --until created --limit 20 --yes --json",
            "rehome run --only user_a ada@example.com --yes",
            "rehome --config x.toml -vv status --watch",
            "rehome retry --code c",
            "rehome skip a b --reason because",
            "rehome rollback --to mapped --only a b --force 3 --force-rows 7 --yes",
            "rehome map --format sql --output map.sql",
            "rehome verify --combined lines.txt",
            "rehome emulate --port 8787 --users 10 --seed 3 --faults plan.json",
            "rehome completions zsh",
            "rehome journal log ada@example.com --event failed --since 2h --limit 5 --reverse",
            "rehome journal log --kind user --since 2026-11-23T06:00:00Z --until 2026-11-24",
            "rehome journal replay --json",
            "rehome journal replay --repair --yes",
            "rehome journal scrub --force --yes",
            "rehome journal rebuild --created-since 2026-11-23T06:00:00Z --dry-run",
        ] {
            assert!(parse(line).is_ok(), "{line}");
        }
        for line in [
            "rehome",
            "rehome run --until nowhere",
            "rehome run --limit 5 --only a",
            "rehome skip a",
            "rehome retry a --code c",
            "rehome map --format xml",
            "rehome journal",
            "rehome journal log --since yesterdayish",
            "rehome journal log --kind users",
            "rehome journal log --event finished",
            "rehome journal log --limit 0",
            "rehome journal replay --yes",
            "rehome rollback --to verified",
            "rehome rollback --force many",
        ] {
            assert_eq!(parse(line).unwrap_err().exit_code(), 2, "{line}");
        }
    }

    #[test]
    fn a_rollback_offers_only_states_that_it_takes() {
        for state in ["verified", "nowhere"] {
            let line = ["rehome", "rollback", "--to", state];
            let words = Cli::try_parse_from(line).unwrap_err().to_string();
            assert!(words.contains("one of exported, created, mapped, imported\n"), "{words}");
        }
        let all = Cli::try_parse_from(["rehome", "run", "--until", "nowhere"]).unwrap_err();
        assert!(all.to_string().contains("imported, verified"), "{all}");
    }
}
