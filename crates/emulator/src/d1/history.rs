//! Time Travel: the database as it was at every bookmark that somebody was told.
//!
//! Cloudflare can go back to any moment of the last days. Here a copy is kept of each moment that
//! was asked for, because a bookmark that nobody knows cannot be asked to be restored. A client
//! that restores to a bookmark it was told meets what it would meet there: the whole database as
//! it was, schema and all, and a bookmark by which that can be undone in turn.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::Connection;
use rusqlite::backup::Backup;

use super::storage::PrivateFolder;

/// So many moments are kept; the oldest goes first.
const KEPT: usize = 16;
/// Pages that are copied at once: all of them.
const ALL: std::ffi::c_int = std::ffi::c_int::MAX;

/// The moments that can be gone back to.
#[derive(Debug, Default)]
pub(crate) struct History {
    folder: Option<PrivateFolder>,
    kept: VecDeque<(String, PathBuf)>,
    copies: u64,
}

impl History {
    /// Keeps the database as it is now under `bookmark`, unless it is kept already.
    ///
    /// # Errors
    /// When the copy cannot be made.
    pub(crate) fn keep(&mut self, bookmark: &str, now: &Connection) -> rusqlite::Result<()> {
        if self.find(bookmark).is_some() {
            return Ok(());
        }
        let folder = match self.folder.take() {
            Some(folder) => folder,
            None => PrivateFolder::create()
                .map_err(|error| rusqlite::Error::ToSqlConversionFailure(error.into()))?,
        };
        self.copies += 1;
        let path = folder.path().join(format!("{}.sqlite", self.copies));
        self.folder = Some(folder);
        let mut copy = Connection::open(&path)?;
        Backup::new(now, &mut copy)?.run_to_completion(ALL, Duration::ZERO, None)?;
        self.kept.push_back((bookmark.to_owned(), path));
        if self.kept.len() > KEPT
            && let Some((_, oldest)) = self.kept.pop_front()
        {
            // What cannot be removed goes with the folder.
            drop(std::fs::remove_file(oldest));
        }
        Ok(())
    }

    /// The copy of the moment that `bookmark` stands for.
    pub(crate) fn find(&self, bookmark: &str) -> Option<&Path> {
        self.kept.iter().find(|(kept, _)| kept == bookmark).map(|(_, path)| path.as_path())
    }
}

/// Makes `database` what the copy at `from` is.
///
/// # Errors
/// When the copy cannot be read, or the database be written.
pub(crate) fn give_back(from: &Path, database: &mut Connection) -> rusqlite::Result<()> {
    let copy = Connection::open(from)?;
    Backup::new(&copy, database)?.run_to_completion(ALL, Duration::ZERO, None)
}
