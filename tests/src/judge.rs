//! Runs `judges/compare.py`: the verdict on a finished migration, by code that is not rehome's.

use std::path::{Path, PathBuf};

use serde_json::Value;
use tokio::process::Command;

use crate::stage::{ID_COLUMNS, Stage};

/// What the judge has to know besides the stage.
#[derive(Clone, Debug, Default)]
pub struct Judge {
    /// Source ids of users who could not be moved.
    pub unmoved: Vec<String>,
    /// Attributes that were left out on purpose, as the configuration calls them.
    pub left_out: Vec<String>,
    /// A copy of the target database as it was before, when it was not empty.
    pub target_before: Option<PathBuf>,
    /// Whether how often an account was created is passed over: after a way back and forth again
    /// some were created more often.
    pub uncounted: bool,
    /// Tables that are judged elsewhere.
    pub elsewhere: Vec<String>,
}

impl Judge {
    /// Compares both sides of `stage` as they are now.
    ///
    /// # Errors
    /// What the judge printed, when it found a difference or could not judge.
    ///
    /// # Panics
    /// When Python cannot be run.
    pub async fn compare(&self, stage: &Stage) -> Result<String, String> {
        let folder = stage.folder();
        let keep = |name: &str, value: &Value| {
            let path = folder.join(name);
            std::fs::write(&path, value.to_string()).expect("the folder can be written");
            path
        };
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("judges/compare.py");
        let mut command = Command::new("python3");
        command.arg(script);
        command.arg("--state").arg(keep("state.json", &stage.control("state").await));
        command.arg("--counters").arg(keep("counters.json", &stage.control("counters").await));
        command.arg("--before").arg(keep("before.json", stage.before()));
        command.arg("--unmoved").arg(keep("unmoved.json", &self.unmoved.clone().into()));
        if self.uncounted {
            command.arg("--uncounted");
        }
        if stage.in_place() {
            command.arg("--in-place");
        }
        for table in &self.elsewhere {
            command.arg("--elsewhere").arg(table);
        }
        for attribute in &self.left_out {
            command.arg("--left-out").arg(attribute);
        }
        if let Some((source, target)) = stage.databases() {
            command.arg("--source-database").arg(source);
            command.arg("--target-database").arg(target);
            if let Some(before) = &self.target_before {
                command.arg("--target-database-before").arg(before);
            }
            for column in ID_COLUMNS {
                command.arg("--id").arg(column);
            }
        }
        let output = command.output().await.expect("python3 can be run");
        let said = format!(
            "{}{}",
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        );
        if output.status.success() { Ok(said) } else { Err(said) }
    }

    /// The same, as a test's last word.
    ///
    /// # Panics
    /// On any difference.
    #[track_caller]
    pub fn accepts(&self, stage: &Stage) -> impl Future<Output = ()> {
        let place = std::panic::Location::caller();
        async move {
            if let Err(said) = self.compare(stage).await {
                panic!("{place}: both sides differ\n{said}");
            }
        }
    }
}
