//! Files that a person named, read up to a size that none of them has.
//!
//! A name is easily wrong, and what stands there may be a database, or a device without an end.
//! Reading it whole would take the machine's memory before anything could say so.

use std::fs::File;
use std::io::{Error, ErrorKind, Read as _, Result};
use std::path::Path;

/// The bytes of the longest file that is read: 16 MiB. A configuration, a secret, a saved
/// plan (which names tables, not rows) are kilobytes.
pub const LONGEST: u64 = 16 * 1024 * 1024;

/// The text of the file at `path`.
///
/// # Errors
/// What the system says; [`ErrorKind::FileTooLarge`] for more than [`LONGEST`] bytes;
/// [`ErrorKind::InvalidData`] for what is not UTF-8.
pub fn read(path: &Path) -> Result<String> {
    let mut bytes = Vec::new();
    File::open(path)?.take(LONGEST + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > LONGEST {
        let longest = LONGEST / (1024 * 1024);
        let message = format!("it has more than {longest} MiB: hardly the file that is meant");
        return Err(Error::new(ErrorKind::FileTooLarge, message));
    }
    // Without the text: what is wrong may be a secret.
    String::from_utf8(bytes).map_err(|error| Error::new(ErrorKind::InvalidData, error.utf8_error()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_read_up_to_a_size_that_none_has() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "what it says: é").unwrap();
        assert_eq!(read(file.path()).unwrap(), "what it says: é");
        file.as_file().set_len(LONGEST).unwrap();
        assert_eq!(read(file.path()).unwrap().len() as u64, LONGEST);
        for length in [LONGEST + 1, 64 * LONGEST] {
            file.as_file().set_len(length).unwrap();
            assert_eq!(read(file.path()).unwrap_err().kind(), ErrorKind::FileTooLarge);
        }
        std::fs::write(file.path(), b"sk_\xff_secret").unwrap();
        let error = read(file.path()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidData);
        assert!(!error.to_string().contains("sk_"), "{error}");
    }
}
