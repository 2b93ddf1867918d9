//! Files that appear whole or not at all, readable by their owner alone: they hold addresses of
//! people.

use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use tempfile::NamedTempFile;

use crate::failure::Failure;

/// A file that takes its name when it is complete.
pub(crate) struct Whole {
    path: PathBuf,
    stream: BufWriter<NamedTempFile>,
}

impl Whole {
    /// Starts a file that will be at `path`.
    pub(crate) fn create(path: &Path) -> Result<Self, Failure> {
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
        // A temporary file is made with mode 0600, and keeps it under its own name.
        let file = NamedTempFile::new_in(folder.unwrap_or(Path::new(".")));
        let file =
            file.map_err(|source| Failure::File { doing: "write", path: path.to_owned(), source })?;
        Ok(Self { path: path.to_owned(), stream: BufWriter::new(file) })
    }

    /// Puts it on the disk and gives it its name, in place of what was there.
    pub(crate) fn finish(self) -> Result<(), Failure> {
        let Self { path, stream } = self;
        let failed = |source| Failure::File { doing: "write", path: path.clone(), source };
        let file = stream.into_inner().map_err(|error| failed(error.into_error()))?;
        file.as_file().sync_all().map_err(failed)?;
        file.persist(&path).map_err(|error| failed(error.error))?;
        Ok(())
    }

    /// For `map_err` while writing.
    pub(crate) fn failed(path: &Path) -> impl FnOnce(std::io::Error) -> Failure {
        let path = path.to_owned();
        move |source| Failure::File { doing: "write", path, source }
    }
}

impl Write for Whole {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.stream.write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.stream.flush()
    }
}

/// Reads a file that the user named.
pub(crate) fn read(path: &Path) -> Result<String, Failure> {
    rehome_migration::small_file::read(path).map_err(|source| Failure::File {
        doing: "read",
        path: path.to_owned(),
        source,
    })
}
