//! A place where a journal is to be, and none is.
//!
//! A journal that is built anew grows beside its place and takes the name when it is whole. The
//! place is locked meanwhile, as a run would lock it, so nobody begins a journal there, and no
//! second one is built. Whatever happens, what was made and not installed is removed: it names
//! people.
//!
//! A place is not free because no file is there. One who begins a new journal where another one
//! was loses the way back, and does not notice. So what an earlier journal leaves is looked for: its
//! write-ahead log, the number in its lock file, a symbolic link that leads to a disk which is not
//! there. A journal is begun where there is none of these; one is built anew also where only the
//! number is left.

use std::path::{Path, PathBuf};

use super::{Error, lock, replay, schema};

/// Held while a journal is made for a free place; what was made goes with it.
#[derive(Debug)]
pub struct Vacancy {
    lock: lock::Lock,
    made: PathBuf,
    path: PathBuf,
}

impl Vacancy {
    /// Claims the place `path`, and removes what an earlier attempt left beside it.
    ///
    /// # Errors
    /// [`Error::Exists`] when there is something; [`Error::Orphan`] when the write-ahead log of a
    /// journal that was there is; [`Error::Nowhere`]; [`Error::Locked`]; file errors.
    pub fn claim(path: &Path) -> Result<Self, Error> {
        let lock = lock::Lock::take(path)?;
        refuse_taken(path)?;
        let made = schema::beside(path, ".rebuilt");
        discard(&made)?;
        Ok(Self { lock, made, path: path.to_owned() })
    }

    /// Where the journal is to be made.
    pub fn made(&self) -> &Path {
        &self.made
    }

    /// Gives the finished and closed journal at [`Vacancy::made`] its name.
    ///
    /// # Errors
    /// [`Error::Exists`] when something has come there meanwhile; [`Error::Damaged`] or
    /// [`Error::ReplayDiffers`] when what was made is not sound; file errors.
    pub fn install(self) -> Result<(), Error> {
        refuse_taken(&self.path)?;
        replay::check(&self.made, Path::new(""))?;
        self.lock.forget()?;
        schema::take_place(&self.made, &self.path)
    }

    /// Removes what was made.
    ///
    /// # Errors
    /// When a file cannot be removed.
    pub fn discard(self) -> Result<(), Error> {
        discard(&self.made)
    }
}

impl Drop for Vacancy {
    fn drop(&mut self) {
        if let Err(error) = discard(&self.made) {
            tracing::warn!(%error, "what was made for a new journal is left behind");
        }
    }
}

fn refuse_taken(path: &Path) -> Result<(), Error> {
    if path.exists() {
        return Err(Error::Exists(path.to_owned()));
    }
    refuse_wal(path)
}

/// Refuses to begin a journal where another one was.
pub(super) fn refuse_traces(path: &Path) -> Result<(), Error> {
    refuse_wal(path)?;
    match lock::noted(path) {
        Some((entries, lock)) if entries > 0 => {
            Err(Error::Gone { path: path.to_owned(), entries, lock })
        }
        Some(_) | None => Ok(()),
    }
}

/// What to say where no journal is.
pub(super) fn absent(path: &Path) -> Error {
    refuse_traces(path).err().unwrap_or_else(|| Error::Missing(path.to_owned()))
}

/// Refuses a link to nothing, and a place where the write-ahead log of a journal that was there is
/// left. SQLite cannot tell whose it is and would play it into the next file of that name
/// (<https://sqlite.org/howtocorrupt.html>, section 1.4).
fn refuse_wal(path: &Path) -> Result<(), Error> {
    if path.is_symlink() && !path.exists() {
        let to = std::fs::read_link(path).unwrap_or_default();
        return Err(Error::Nowhere { path: path.to_owned(), to });
    }
    let wal = schema::beside(path, "-wal");
    match std::fs::metadata(&wal) {
        Ok(file) if file.len() > 0 => Err(Error::Orphan { path: path.to_owned(), wal }),
        Ok(_) | Err(_) => Ok(()),
    }
}

fn discard(made: &Path) -> Result<(), Error> {
    for suffix in ["", "-journal", "-wal", "-shm", ".new", ".lock"] {
        schema::remove(&schema::beside(made, suffix))?;
    }
    Ok(())
}
