//! Whether the journal's disk has room for what a migration still writes there.
//!
//! `check`, `plan` and `run` ask here, so that they say the same. Users who have come far enough
//! to be written about no more do not count. A file system that does not tell its room (a tmpfs
//! without a limit says that it has no blocks at all) stands in nobody's way.

use std::io;
use std::path::Path;

use rehome_clerk::USER;
use rehome_core::Stage;
use rehome_core::journal::Reader;

use crate::config::Config;
use crate::connect::Remotes;
use crate::document::{Finding, Severity};
use crate::error::Error;
use crate::finding::{advise, fine};

/// A journal takes less than this per user and everything that belongs to one.
const BYTES_PER_USER: u64 = 2048;
/// What the write-ahead log may take besides, whoever still comes.
const BESIDES: u64 = 64 * MEGABYTE;
const MEGABYTE: u64 = 1024 * 1024;
const CODE: &str = "disk";

/// Bytes that the disk has to give.
enum Room {
    Free(u64),
    Untold,
    Unusable(io::Error),
}

/// Looks at the disk for a source of so many users.
pub(crate) fn look(config: &Config, users: u64) -> Finding {
    finding(config, ask(folder(&config.journal_path())), users)
}

/// The same before a run writes anything; asks the source only where the answer matters.
///
/// # Errors
/// [`Error::Refused`] in the words of `check`; [`Error::Halt`] when the source cannot be read.
pub(crate) async fn refuse(config: &Config, remotes: &Remotes) -> Result<(), Error> {
    let room = ask(folder(&config.journal_path()));
    let users = match room {
        Room::Free(_) => remotes.source.reader.count().await?,
        Room::Untold | Room::Unusable(_) => 0,
    };
    let found = finding(config, room, users);
    if found.severity == Severity::Refused { Err(Error::Refused(vec![found])) } else { Ok(()) }
}

fn ask(folder: &Path) -> Room {
    match fs4::statvfs(folder) {
        Ok(stats) if stats.total_space() == 0 => Room::Untold,
        Ok(stats) => Room::Free(stats.available_space()),
        Err(error) => match error.kind() {
            io::ErrorKind::NotFound
            | io::ErrorKind::NotADirectory
            | io::ErrorKind::PermissionDenied => Room::Unusable(error),
            // A file system that knows no such question.
            _ => Room::Untold,
        },
    }
}

fn finding(config: &Config, room: Room, users: u64) -> Finding {
    let path = config.journal_path();
    match room {
        Room::Free(free) => weigh(free, users.saturating_sub(settled(&path))),
        Room::Untold => fine(CODE, "the journal's disk does not tell how much room it has"),
        Room::Unusable(error) => advise(
            Severity::Refused,
            CODE,
            format!("the journal's folder {} cannot be used: {error}", folder(&path).display()),
            "create it, or set `migration.journal`",
        ),
    }
}

/// Judges so many free bytes for so many users who still come.
fn weigh(free: u64, coming: u64) -> Finding {
    let needed = coming.saturating_mul(BYTES_PER_USER).saturating_add(BESIDES);
    // Rounded apart, so that too little never reads as enough.
    let (has, wants) = (free / MEGABYTE, needed.div_ceil(MEGABYTE));
    let message = format!("{has} MB free for the journal, {wants} MB are needed");
    if free >= needed {
        return fine(CODE, message);
    }
    let hint = "make room, or set `migration.journal` to another disk";
    advise(Severity::Refused, CODE, message, hint)
}

/// Users about whom next to nothing is written any more. A journal that cannot be read has none;
/// what is wrong with it is said elsewhere.
fn settled(journal: &Path) -> u64 {
    let counts = Reader::open(journal).and_then(|reader| reader.counts()).unwrap_or_default();
    let standing = counts.get(&USER);
    standing.map_or(0, |standing| standing.moving.range(Stage::Imported..).map(|(_, n)| n).sum())
}

fn folder(journal: &Path) -> &Path {
    match journal.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        Some(_) | None => Path::new("."),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_room_that_is_needed_is_counted_to_the_byte() {
        let needed = 1_000 * BYTES_PER_USER + BESIDES;
        assert_eq!(weigh(needed, 1_000).severity, Severity::Ok);
        let short = weigh(needed - 1, 1_000);
        assert_eq!(short.severity, Severity::Refused);
        assert_eq!(short.message, "65 MB free for the journal, 66 MB are needed");
        assert_eq!(weigh(u64::MAX - 1, u64::MAX).severity, Severity::Refused);
    }

    #[test]
    fn a_disk_that_does_not_tell_its_room_stands_in_nobodys_way() {
        let text = "[migration]\nname = \"x\"\n[source.clerk]\nsecret_key = \"env:A\"\n\
                    [target.clerk]\nsecret_key = \"env:B\"\n";
        let config = Config::parse(Path::new("rehome.toml"), text).unwrap();
        assert_eq!(finding(&config, Room::Untold, u64::MAX).severity, Severity::Ok);
    }
}
