//! This very program as a child process, as a user would start it.

use std::fs::File;
use std::path::PathBuf;
use std::process::Stdio;

use tokio::process::{Child, Command};

use crate::failure::Failure;

/// Starts this program with the demonstration's configuration. Keys travel by environment.
pub(super) struct Rehome {
    pub(super) folder: PathBuf,
    pub(super) keys: [(&'static str, String); 2],
}

impl Rehome {
    fn command(&self, words: &[&str]) -> Result<Command, Failure> {
        let program = std::env::current_exe().map_err(|error| problem(words, error))?;
        let mut command = Command::new(program);
        command.args(words).args(["--config", "rehome.toml", "--color", "never", "--no-progress"]);
        command.current_dir(&self.folder).envs(self.keys.clone());
        command.stdin(Stdio::null()).kill_on_drop(true);
        Ok(command)
    }

    /// Starts it in the background; what it says goes into a file of the folder.
    pub(super) fn start(&self, words: &[&str], log: &str) -> Result<Child, Failure> {
        let file = File::create(self.folder.join(log)).map_err(|error| problem(words, error))?;
        let both = file.try_clone().map_err(|error| problem(words, error))?;
        let mut command = self.command(words)?;
        command.stdout(file).stderr(both);
        command.spawn().map_err(|error| problem(words, error))
    }

    /// Runs it to its end, and returns its standard output, if it ended with one of these codes.
    pub(super) async fn output(&self, words: &[&str], codes: &[i32]) -> Result<String, Failure> {
        let output = self.command(words)?.output().await.map_err(|error| problem(words, error))?;
        if !output.status.code().is_some_and(|code| codes.contains(&code)) {
            let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
            return Err(problem(words, std::io::Error::other(said)));
        }
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// A run that ended otherwise than it should, with its last words.
    pub(super) fn failed(&self, command: &str, log: &str) -> Failure {
        let said = std::fs::read_to_string(self.folder.join(log)).unwrap_or_default();
        problem(&[command], std::io::Error::other(said.trim().to_owned()))
    }
}

fn problem(words: &[&str], error: std::io::Error) -> Failure {
    Failure::Demo { command: format!("rehome {}", words.join(" ")), source: error.into() }
}
