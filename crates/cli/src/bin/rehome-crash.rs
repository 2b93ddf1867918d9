//! The same program, made to die: what the crash suites run. Built with the feature `crash-points`
//! only and never shipped.
//!
//! - `REHOME_CRASH_COUNT=FILE`: the name of each boundary that is reached is added to FILE, a line
//!   each, before anything else happens there. The last one is marked `died: `.
//! - `REHOME_CRASH_AT=N`: the process aborts at the Nth boundary. No destructor runs, nothing is
//!   flushed; what the system holds already stays, as after `kill -9`.
//! - `REHOME_CRASH_HASTE=D`: waits for slow remotes are divided by D.

use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::process::ExitCode;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use rehome_core::boundary::{self, Hook};

fn main() -> ExitCode {
    match hook() {
        Ok(hook) => {
            boundary::install(hook);
            rehome_cli::main()
        }
        // Nobody but a suite starts this, and it has to hear of a spoiled trial.
        Err(_) => ExitCode::from(125),
    }
}

/// How long the thread that writes the journal takes to die. The others go on meanwhile, as far as
/// they may without an answer from it.
const AGONY: Duration = Duration::from_millis(40);

/// How far a process has come.
struct Passed {
    boundaries: u64,
    log: Option<File>,
}

fn hook() -> std::io::Result<Hook> {
    let last = number("REHOME_CRASH_AT")?;
    let haste = number("REHOME_CRASH_HASTE")?.unwrap_or(1).try_into().unwrap_or(u32::MAX);
    let log = variable("REHOME_CRASH_COUNT")
        .map(|path| OpenOptions::new().append(true).create(true).open(path))
        .transpose()?;
    let passed = Mutex::new(Passed { boundaries: 0, log });
    let reached = move |name: &str| {
        let mut passed = passed.lock().unwrap_or_else(PoisonError::into_inner);
        passed.boundaries += 1;
        let last = last == Some(passed.boundaries);
        let mark = if last { "died: " } else { "" };
        let line = format!("{mark}{name}\n");
        let told = passed.log.as_mut().map(|log| log.write_all(line.as_bytes()));
        if last && std::thread::current().name() == Some("journal") {
            // Whoever was told too early that something is durable goes ahead now, and is caught.
            drop(passed);
            std::thread::sleep(AGONY);
            std::process::abort();
        }
        // Otherwise nobody passes a boundary after the last one: the lock is held to the end.
        if last || matches!(told, Some(Err(_))) {
            std::process::abort();
        }
    };
    Ok(Hook { reached: Box::new(reached), haste })
}

#[allow(clippy::disallowed_methods, reason = "the command line reads the environment")]
fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

fn number(name: &str) -> std::io::Result<Option<u64>> {
    let invalid = |error| std::io::Error::new(std::io::ErrorKind::InvalidInput, error);
    variable(name).map(|text| text.parse().map_err(invalid)).transpose()
}
