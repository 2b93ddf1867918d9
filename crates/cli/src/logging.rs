//! Diagnostics for whoever looks for the reason of something, apart from what users are told.
//!
//! Only rehome's own crates are heard at the finer levels: the HTTP stack's trace output would
//! show headers, and with them keys.

use std::path::Path;
use std::sync::Mutex;

use tracing_subscriber::EnvFilter;

use crate::failure::Failure;
use crate::out::Notes;

/// Sends the log to `file` as JSON Lines, or to standard error. `verbose` counts the `-v`s.
pub(crate) fn start(notes: &Notes, verbose: u8, file: Option<&Path>) -> Result<(), Failure> {
    // A file that was asked for is worth little without the ordinary course of things.
    let verbose = if file.is_some() { verbose.max(1) } else { verbose };
    let level = match verbose {
        0 => "error",
        1 => "info",
        2 => "debug",
        _ => "trace",
    };
    let crates = ["rehome", "rehome_core", "rehome_clerk", "rehome_records", "rehome_migration"];
    let own: Vec<_> = crates.iter().map(|name| format!("{name}={level}")).collect();
    let filter = EnvFilter::new(format!("error,{}", own.join(",")));
    match file {
        Some(path) => {
            let opened = std::fs::OpenOptions::new().create(true).append(true).open(path);
            let file = opened.map_err(|source| Failure::File {
                doing: "write",
                path: path.to_owned(),
                source,
            })?;
            tracing_subscriber::fmt()
                .json()
                .with_env_filter(filter)
                .with_writer(Mutex::new(file))
                .init();
        }
        None => {
            let notes = notes.clone();
            tracing_subscriber::fmt()
                .with_ansi(false)
                .with_env_filter(filter)
                .with_writer(move || notes.clone())
                .init();
        }
    }
    Ok(())
}
