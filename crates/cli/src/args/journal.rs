//! What can be typed after `rehome journal`.

use clap::builder::PossibleValuesParser;
use clap::{Args, Subcommand};
use jiff::civil;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use rehome_core::Kind;
use rehome_migration::journal_tools::{self, KINDS};

/// The commands of `journal`.
#[derive(Debug, Subcommand)]
pub(crate) enum Journal {
    /// Print the history: of one unit, or of everything
    ///
    /// Reads the log in its order, also while a run writes it. With --json one entry a line, with
    /// all that the journal knows of it; else one line each.
    #[command(after_help = "Examples:\n  rehome journal log ada@example.com\n  \
                            rehome journal log --event failed --since 2h\n  \
                            rehome journal log --code rows_held --json\n  \
                            rehome journal log --reverse --limit 20")]
    Log(Log),
    /// Replay the log and compare it with what the journal says
    ///
    /// The log is the truth; where everything stands is a cache of it. Exit code 0 when the log
    /// leads to the cache exactly, 4 when it does not (the first difference is shown) or when the
    /// log itself is damaged. Writes nothing, and works while a run is on; with --repair it derives
    /// the cache anew from a log that is sound.
    #[command(after_help = "Examples:\n  rehome journal replay && cp rehome.journal backup/\n  \
                            rehome journal replay --repair")]
    Replay(Replay),
    /// Remove personal data from a journal that has done its work
    ///
    /// Pairs of ids, states, events and their times stay; addresses, names, what was exported, rows
    /// and messages go. The file is written anew and the old pages are overwritten with zeros: that
    /// reaches them on an ordinary disk, but not copies that a file system with snapshots, or a
    /// solid-state disk, keeps of its own accord, nor backups. `map`, `status`, `journal log` and
    /// `journal replay` still work; `run`, `rollback` and `verify` do not. It cannot be undone.
    #[command(after_help = "Example:\n  rehome map --output ids.csv && rehome journal scrub")]
    Scrub(Scrub),
    /// Build a lost journal anew, from the source and the target
    ///
    /// Only reads. Source users are exported again; accounts of the target that carry their keys
    /// (external_id) are looked up and read back; the next `run` does the rest, and creates nobody
    /// who is there. What cannot be known: who made an account. It counts as adopted, which a
    /// rollback leaves alone. In a migration without databases, --created-since says when the lost
    /// one began: accounts whose dates bear that out count as created. Rows that arrived are found equal by the next run; a rollback
    /// does not remove them.
    #[command(after_help = "Examples:\n  rehome journal rebuild --dry-run\n  \
                            rehome journal rebuild --created-since 2026-11-23T06:00:00Z")]
    Rebuild(Rebuild),
}

/// `journal replay`
#[derive(Debug, Args)]
pub(crate) struct Replay {
    /// When they differ, derive what the journal says anew from its log
    #[arg(long)]
    pub(crate) repair: bool,
    /// Repair without asking
    #[arg(short, long, requires = "repair")]
    pub(crate) yes: bool,
}

/// `journal scrub`
#[derive(Debug, Args)]
pub(crate) struct Scrub {
    /// Also while units still need what is removed: they can never go on then
    #[arg(long)]
    pub(crate) force: bool,
    /// Remove it without asking
    #[arg(short, long)]
    pub(crate) yes: bool,
}

/// `journal rebuild`
#[derive(Debug, Args)]
pub(crate) struct Rebuild {
    /// When the lost migration began: accounts that were made since, exactly as it would have made
    /// them, count as created. Not where rows belong to the migration
    #[arg(long, value_name = "TIME", value_parser = moment)]
    pub(crate) created_since: Option<Moment>,
    /// Say what would be in it, and write no journal
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Write it without asking
    #[arg(short, long)]
    pub(crate) yes: bool,
}

/// `journal log`
#[derive(Debug, Args)]
pub(crate) struct Log {
    /// Only this unit: a source id, a target id or an e-mail address
    pub(crate) key: Option<String>,
    /// Only units of this kind; a span is a range of rows, a lot some users in place
    #[arg(long, value_parser = kinds())]
    pub(crate) kind: Option<String>,
    /// Only this event
    #[arg(long, value_parser = events())]
    pub(crate) event: Option<String>,
    /// Only from this time on: 2026-11-23, 2026-11-23T06:00:00Z, or 2h for two hours ago
    #[arg(long, value_name = "TIME", value_parser = moment)]
    pub(crate) since: Option<Moment>,
    /// Only before this time
    #[arg(long, value_name = "TIME", value_parser = moment)]
    pub(crate) until: Option<Moment>,
    /// Only failures and holds of this code
    #[arg(long)]
    pub(crate) code: Option<String>,
    /// At most so many entries
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) limit: Option<u64>,
    /// The latest first
    #[arg(long)]
    pub(crate) reverse: bool,
}

fn kinds() -> PossibleValuesParser {
    PossibleValuesParser::new(KINDS.iter().map(Kind::as_str))
}

fn events() -> PossibleValuesParser {
    PossibleValuesParser::new(journal_tools::events())
}

/// A point in time as a person types it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Moment {
    /// That one.
    At(Timestamp),
    /// So long ago.
    Ago(SignedDuration),
}

impl Moment {
    /// When that is, if it is `now`. The earliest time there is, when it would be before that.
    pub(crate) fn resolve(self, now: Timestamp) -> Timestamp {
        match self {
            Self::At(at) => at,
            Self::Ago(duration) => now.checked_sub(duration).unwrap_or(Timestamp::MIN),
        }
    }
}

/// Understands an instant, a date or time of this machine's time zone, or a duration.
fn moment(text: &str) -> Result<Moment, String> {
    if let Ok(at) = text.parse::<Timestamp>() {
        return Ok(Moment::At(at));
    }
    let local = text
        .parse::<civil::DateTime>()
        .or_else(|_| text.parse::<civil::Date>().map(|date| date.at(0, 0, 0, 0)));
    if let Ok(at) = local.and_then(|local| local.to_zoned(TimeZone::system())) {
        return Ok(Moment::At(at.timestamp()));
    }
    text.parse::<SignedDuration>()
        .map(|duration| Moment::Ago(duration.abs()))
        .map_err(|_| "a time (2026-11-23T06:00:00Z), a date (2026-11-23) or a duration (2h)".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_understood_as_people_write_them() {
        let now: Timestamp = "2026-11-23T12:00:00Z".parse().unwrap();
        let at = |text: &str| moment(text).map(|moment| moment.resolve(now).to_string());
        assert_eq!(at("2026-11-23T06:00:00Z").unwrap(), "2026-11-23T06:00:00Z");
        assert_eq!(at("2026-11-23T06:00:00+02:00").unwrap(), "2026-11-23T04:00:00Z");
        assert_eq!(at("2h").unwrap(), "2026-11-23T10:00:00Z");
        assert_eq!(at("1h 30m ago").unwrap(), "2026-11-23T10:30:00Z");
        assert!(at("2026-11-23").is_ok() && at("2026-11-23T06:00").is_ok());
        assert_eq!(Moment::Ago(SignedDuration::MAX).resolve(now), Timestamp::MIN);
        for wrong in ["", "yesterdayish", "12", "2026-13-01"] {
            assert!(at(wrong).is_err(), "{wrong}");
        }
    }
}
