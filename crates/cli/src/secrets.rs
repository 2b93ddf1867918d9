//! From a reference in the configuration to the secret itself.
//!
//! Values travel in `SecretString` from the first moment, and no error repeats one. What a helper
//! program (`pass`, or any command) writes to its standard error goes straight to the user's: it
//! may ask for a passphrase there, and says best what went wrong.

use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};

use rehome_migration::config::{D1Access, DatabaseConfig};
use rehome_migration::{Config, Keys, SecretRef};
use secrecy::SecretString;

/// A secret that could not be had.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SecretError {
    /// The environment does not have it.
    #[error("`{key}` is to be had from the environment variable {variable}, which is not set")]
    Unset {
        /// The key of the configuration.
        key: &'static str,
        /// The variable.
        variable: String,
    },
    /// The value is no text.
    #[error("`{key}`: the value is not valid UTF-8")]
    NotText {
        /// The key of the configuration.
        key: &'static str,
    },
    /// It is empty.
    #[error("`{key}`: {from} gives nothing")]
    Empty {
        /// The key of the configuration.
        key: &'static str,
        /// The reference.
        from: String,
    },
    /// The file cannot be read.
    #[error("`{key}`: cannot read {}", .path.display())]
    File {
        /// The key of the configuration.
        key: &'static str,
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The command cannot be started.
    #[error("`{key}`: cannot start `{program}`")]
    Start {
        /// The key of the configuration.
        key: &'static str,
        /// The program.
        program: String,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The command failed.
    #[error("`{key}`: `{program}` ended with {status}")]
    Ended {
        /// The key of the configuration.
        key: &'static str,
        /// The program.
        program: String,
        /// How it ended.
        status: ExitStatus,
    },
    /// The command line has an open quote.
    #[error("`{key}`: the command line cannot be split into words")]
    Words {
        /// The key of the configuration.
        key: &'static str,
    },
}

impl SecretError {
    /// What to do.
    pub(crate) fn hint(&self) -> String {
        match self {
            Self::Unset { variable, .. } => {
                format!("`export {variable}=…`, or write pass:, file: or cmd: in the configuration")
            }
            Self::NotText { .. } | Self::Empty { .. } => {
                "it should give the key on its first line".to_owned()
            }
            Self::File { .. } => "relative paths start at the configuration's folder".to_owned(),
            Self::Start { program, .. } => format!("is `{program}` installed, and in PATH?"),
            Self::Ended { .. } => "run the command by hand; its own words are above".to_owned(),
            Self::Words { .. } => "close the quotes; there is no shell, only words".to_owned(),
        }
    }
}

/// Every secret that this configuration names. `warn` hears of files that others can read.
pub(crate) fn resolve(config: &Config, warn: &dyn Fn(&str)) -> Result<Keys, SecretError> {
    let key = source(config, warn)?;
    with_source(config, Some(key), warn)
}

/// The same for a rollback, which does without the source's key; `warn` hears why there is none.
pub(crate) fn resolve_back(config: &Config, warn: &dyn Fn(&str)) -> Result<Keys, SecretError> {
    let key = source(config, warn).map_err(|error| warn(&format!("warning: {error}"))).ok();
    with_source(config, key, warn)
}

fn source(config: &Config, warn: &dyn Fn(&str)) -> Result<SecretString, SecretError> {
    get("source.clerk.secret_key", &config.source.clerk.secret_key, config.folder(), warn)
}

fn with_source(
    config: &Config,
    source_clerk: Option<SecretString>,
    warn: &dyn Fn(&str),
) -> Result<Keys, SecretError> {
    let get = |key, reference: &SecretRef| get(key, reference, config.folder(), warn);
    let token = |key, database: &Option<DatabaseConfig>| match database {
        Some(DatabaseConfig::D1(d1)) => match &d1.access {
            D1Access::Cloudflare { api_token, .. } => get(key, api_token).map(Some),
            D1Access::LocalExplorer => Ok(None),
        },
        Some(DatabaseConfig::D1Local { .. } | DatabaseConfig::Sqlite { .. }) | None => Ok(None),
    };
    Ok(Keys {
        source_clerk,
        target_clerk: get("target.clerk.secret_key", &config.target.clerk.secret_key)?,
        source_database: token("source.database.api_token", &config.source.database)?,
        target_database: token("target.database.api_token", &config.target.database)?,
    })
}

fn get(
    key: &'static str,
    reference: &SecretRef,
    folder: &Path,
    warn: &dyn Fn(&str),
) -> Result<SecretString, SecretError> {
    let value = match reference {
        SecretRef::Env(variable) => environment(key, variable)?,
        SecretRef::File(path) => {
            let path = folder.join(path);
            if let Some(warning) = open_to_others(&path) {
                warn(&warning);
            }
            let read = rehome_migration::small_file::read(&path);
            read.map_err(|source| SecretError::File { key, path, source })?
        }
        SecretRef::Pass(entry) => {
            first_line(key, &["pass".to_owned(), "show".to_owned(), entry.clone()], folder)?
        }
        SecretRef::Command(line) => {
            let words = shlex::split(line).ok_or(SecretError::Words { key })?;
            first_line(key, &words, folder)?
        }
    };
    let value = value.trim();
    if value.is_empty() {
        return Err(SecretError::Empty { key, from: reference.to_string() });
    }
    Ok(SecretString::from(value.to_owned()))
}

#[allow(clippy::disallowed_methods, reason = "the command line reads the environment")]
fn environment(key: &'static str, variable: &str) -> Result<String, SecretError> {
    let value = std::env::var_os(variable)
        .ok_or_else(|| SecretError::Unset { key, variable: variable.to_owned() })?;
    value.into_string().map_err(|_| SecretError::NotText { key })
}

/// The first line that a program prints. It may ask on the terminal: input and error stream are
/// the user's own.
fn first_line(key: &'static str, words: &[String], folder: &Path) -> Result<String, SecretError> {
    let Some((program, arguments)) = words.split_first() else {
        return Err(SecretError::Words { key });
    };
    let output = Command::new(program)
        .args(arguments)
        .current_dir(folder)
        .stdin(Stdio::inherit())
        .stderr(Stdio::inherit())
        .output()
        .map_err(|source| SecretError::Start { key, program: program.clone(), source })?;
    if !output.status.success() {
        let status = output.status;
        return Err(SecretError::Ended { key, program: program.clone(), status });
    }
    let text = String::from_utf8(output.stdout).map_err(|_| SecretError::NotText { key })?;
    Ok(text.lines().next().unwrap_or_default().to_owned())
}

#[cfg(unix)]
fn open_to_others(path: &Path) -> Option<String> {
    use std::os::unix::fs::PermissionsExt as _;
    let mode = std::fs::metadata(path).ok()?.permissions().mode();
    (mode & 0o077 != 0)
        .then(|| format!("warning: {0} can be read by others; `chmod 600 {0}`", path.display()))
}

#[cfg(not(unix))]
fn open_to_others(_: &Path) -> Option<String> {
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use secrecy::ExposeSecret as _;
    use std::cell::RefCell;

    const SECRET: &str = "sk_test_not_to_be_seen";

    fn get_in(folder: &Path, reference: &str) -> (Result<String, SecretError>, Vec<String>) {
        let warnings = RefCell::new(Vec::new());
        let reference = SecretRef::try_from(reference.to_owned()).unwrap();
        let warn = |text: &str| warnings.borrow_mut().push(text.to_owned());
        let got = get("source.clerk.secret_key", &reference, folder, &warn);
        (got.map(|secret| secret.expose_secret().to_owned()), warnings.into_inner())
    }

    #[test]
    fn a_file_gives_its_content_and_warns_when_others_can_read_it() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("key"), format!("{SECRET}\n")).unwrap();
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt as _;
            let mode = |mode| std::fs::Permissions::from_mode(mode);
            std::fs::set_permissions(folder.path().join("key"), mode(0o644)).unwrap();
            let (_, warnings) = get_in(folder.path(), "file:key");
            assert_eq!(warnings.len(), 1);
            assert!(!warnings[0].contains(SECRET));
            std::fs::set_permissions(folder.path().join("key"), mode(0o600)).unwrap();
        }
        let (got, warnings) = get_in(folder.path(), "file:key");
        assert_eq!(got.unwrap(), SECRET);
        assert!(warnings.is_empty());
    }

    #[test]
    fn a_command_gives_its_first_line_and_sees_no_shell() {
        let folder = tempfile::tempdir().unwrap();
        let (got, _) = get_in(folder.path(), "cmd:printf '%s\\nmore' 'sk two words'");
        assert_eq!(got.unwrap(), "sk two words");
        let (got, _) = get_in(folder.path(), "cmd:echo $HOME");
        assert_eq!(got.unwrap(), "$HOME");
    }

    #[test]
    fn what_cannot_be_had_is_named_and_never_shown() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("empty"), "\n").unwrap();
        for reference in [
            "env:REHOME_NOBODY_SETS_THIS",
            "file:absent",
            "file:empty",
            "cmd:rehome-no-such-program",
            "cmd:false",
            "cmd:printf 'open",
        ] {
            let error = get_in(folder.path(), reference).0.unwrap_err();
            assert!(error.to_string().contains("source.clerk.secret_key"), "{error}");
            assert!(!error.hint().is_empty());
        }
    }
}
