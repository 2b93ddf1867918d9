//! Where a secret is to be had. Never the secret itself: a configuration is committed and mailed.

use std::fmt;
use std::path::PathBuf;

use serde::Deserialize;

/// A reference to a secret.
#[derive(Clone, PartialEq, Eq, Debug, Deserialize)]
#[serde(try_from = "String")]
pub enum SecretRef {
    /// `env:VAR`: an environment variable.
    Env(String),
    /// `file:PATH`: the content of a file, without the line's end.
    File(PathBuf),
    /// `pass:ENTRY`: the first line that `pass show ENTRY` prints.
    Pass(String),
    /// `cmd:COMMAND LINE`: the first line that a command prints.
    Command(String),
}

impl TryFrom<String> for SecretRef {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        // The text may be a secret that somebody pasted here, so it is not repeated.
        let how = "write where it is to be had: env:VAR, file:PATH, pass:ENTRY or cmd:COMMAND";
        let Some((scheme, rest)) = text.split_once(':') else {
            return Err(format!("a secret must not stand in the file; {how}"));
        };
        let rest = rest.trim().to_owned();
        if rest.is_empty() {
            return Err(format!("nothing stands behind the colon; {how}"));
        }
        if ["sk_live_", "sk_test_"].iter().any(|prefix| rest.contains(prefix)) {
            return Err(format!("a secret key must not stand in the file; {how}"));
        }
        match scheme {
            "env" if rest.contains(|c: char| !c.is_ascii_alphanumeric() && c != '_') => {
                Err("env: takes the name of a variable: letters, digits and _".to_owned())
            }
            "env" => Ok(Self::Env(rest)),
            "file" => Ok(Self::File(rest.into())),
            "pass" => Ok(Self::Pass(rest)),
            "cmd" => Ok(Self::Command(rest)),
            _ => Err(format!("this is no way to get a secret; {how}")),
        }
    }
}

impl fmt::Display for SecretRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Env(name) => write!(f, "env:{name}"),
            Self::File(path) => write!(f, "file:{}", path.display()),
            Self::Pass(entry) => write!(f, "pass:{entry}"),
            Self::Command(line) => write!(f, "cmd:{line}"),
        }
    }
}
