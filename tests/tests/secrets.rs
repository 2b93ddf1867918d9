//! No key is ever in a file, in an output, or among a process's arguments.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::disallowed_methods,
    missing_docs,
    reason = "a test"
)]

use std::path::Path;

use rehome_emulator::FaultPlan;
use rehome_emulator::fault::{Fault, Rule, When};
use rehome_tests::{Databases, Options, Running, Stage};

/// Every file below a folder with its bytes.
fn files(folder: &Path, into: &mut Vec<(String, Vec<u8>)>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files(&path, into);
        } else {
            into.push((path.display().to_string(), std::fs::read(&path).unwrap()));
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_key_is_written_anywhere() {
    let options =
        Options { users: 60, rows: 300, seed: 71, databases: Databases::D1, ..Options::default() };
    let stage = Stage::set(options).await;
    // Errors are where keys get out: some of everything.
    let lost = Rule::always(Fault::Reset { when: When::After }).with_probability(0.05).times(2);
    let error = Fault::Status {
        status: 500,
        body: rehome_emulator::fault::BodyKind::Json,
        retry_after: None,
        when: When::Before,
    };
    let rules = vec![lost, Rule::always(error).with_probability(0.05).times(3)];
    stage.emulator.set_faults(FaultPlan { seed: 71, rules });
    let log = stage.folder().join("trace.log").display().to_string();
    let mut said = Vec::new();

    let mut running = stage.start(&["run", "--yes", "--json", "-vvv", "--log-file", &log]);
    assert!(running.reaches(|| stage.creates() > 5).await);
    let process = format!("/proc/{}/cmdline", running.pid().unwrap());
    said.push(("arguments".to_owned(), std::fs::read(process).unwrap()));
    let finished = running.finish().await.expect(0);
    said.push(("run".to_owned(), finished.everything().into_bytes()));
    stage.emulator.clear_faults();

    for arguments in [
        &["check"][..],
        &["plan"],
        &["status"],
        &["status", "--json"],
        &["failures"],
        &["verify"],
        &["show", &stage.people[0].0],
        &["map", "--format", "csv"],
        &["-vvv", "run", "--yes"],
    ] {
        let finished = stage.rehome(arguments).await;
        said.push((arguments.join(" "), finished.everything().into_bytes()));
    }
    let mut wrong = stage.command(&["run", "--yes", "-vvv"]);
    wrong.env("D1_TOKEN", "cf-token-of-somebody-else");
    said.push((
        "wrong token".into(),
        Running::start(wrong).finish().await.everything().into_bytes(),
    ));
    files(stage.folder(), &mut said);
    assert!(said.iter().any(|(name, text)| name.ends_with("trace.log") && !text.is_empty()));
    for (name, text) in &said {
        for (variable, secret) in stage.secrets() {
            let found = text.windows(secret.len()).any(|part| part == secret.as_bytes());
            assert!(!found, "{variable} is in {name}");
        }
        assert!(!text.windows(24).any(|part| part == b"cf-token-of-somebody-els"), "{name}");
    }
}
