//! Where `wrangler dev` keeps a local D1.
//!
//! Its simulator gives every D1 a SQLite file of its own, named after the database's id by two
//! keyed hashes. Only whoever knows the id finds the file; `metadata.sqlite` beside it is the
//! simulator's own. The formula was measured on files that wrangler 4.164.0 had made; it stands in
//! miniflare's source as the name of a Durable Object.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use hmac::digest::InvalidLength;
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::{Digest as _, Sha256};

/// The simulator's class that keeps D1 databases: a part of the name of each, and of their folder.
const CLASS: &str = "miniflare-D1DatabaseObject";
/// How many bytes of each hash the name keeps.
const KEPT: usize = 16;

/// What a person needs to know who named a database that has no file.
pub const HINT: &str = "`database` is the Worker's preview_database_id, else its database_id, else \
    its binding; `state` is the folder .wrangler/state beside the Worker's configuration; the file \
    comes into being with the first migration that `wrangler d1 migrations apply --local` applies";

/// The file of the database that the configuration of a Worker calls `database`: its
/// `preview_database_id`, else its `database_id`, else its `binding`. `state` is wrangler's folder
/// for local data: `.wrangler/state` beside the Worker's configuration, or what `--persist-to`
/// says.
pub fn file(state: &Path, database: &str) -> PathBuf {
    // A key of 32 bytes has the right length for every hash.
    let name = name(database).unwrap_or_default();
    state.join("v3").join("d1").join(CLASS).join(name + ".sqlite")
}

fn name(database: &str) -> Result<String, InvalidLength> {
    let key = Sha256::digest(CLASS);
    let hash = |content: &[u8]| {
        let mut hash = Hmac::<Sha256>::new_from_slice(&key)?;
        hash.update(content);
        let mut bytes = hash.finalize().into_bytes().to_vec();
        bytes.truncate(KEPT);
        Ok(bytes)
    };
    let first = hash(database.as_bytes())?;
    let second = hash(&first)?;
    Ok(first.iter().chain(&second).fold(String::new(), |mut name, byte| {
        // Writing to a string does not fail.
        let _ = write!(name, "{byte:02x}");
        name
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_have_the_names_that_wrangler_gives_them() {
        for (database, name) in [
            (
                "11111111-1111-4111-8111-111111111111",
                "1d86945724128759ebd10400e22d0254fbaa8faa130296b866e732c3fac26237",
            ),
            // A database without an id goes by its binding.
            ("OTHER", "e8fa2f54a46bfeaf656a05c256834e0f554012d5e62a0358bdd8e179564a48de"),
        ] {
            let folder = "app/.wrangler/state/v3/d1/miniflare-D1DatabaseObject";
            let expected = Path::new(folder).join(format!("{name}.sqlite"));
            assert_eq!(file(Path::new("app/.wrangler/state"), database), expected);
        }
    }
}
