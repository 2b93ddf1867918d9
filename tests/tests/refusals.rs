//! What rehome does not do, and how it says so.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::disallowed_methods,
    missing_docs,
    reason = "a test"
)]

use rehome_emulator::FaultPlan;
use rehome_emulator::fault::{Fault, Rule, When};
use rehome_tests::{Options, Running, Stage};

fn small(seed: u64) -> Options {
    Options { users: 30, rows: 120, seed, ..Options::default() }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_run_beside_the_first() {
    let stage = Stage::set(small(61)).await;
    // Slow enough to be met at work.
    stage.target().configure(|settings| settings.latency_ms = 300);
    let mut first = stage.start(&["run", "--yes", "--json"]);
    assert!(first.reaches(|| stage.creates() > 0).await);
    let owner = first.pid().unwrap().to_string();
    let second = stage.run().await.expect(4);
    assert!(second.stderr.contains(&owner), "the owner is named: {}", second.stderr);
    // Looking is always allowed.
    assert_eq!(stage.status().await["complete"], false);
    stage.target().configure(|settings| settings.latency_ms = 0);
    let _undisturbed = first.finish().await.expect(0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_journal_of_another_migration() {
    let stage = Stage::set(small(62)).await;
    let _complete = stage.run().await.expect(0);
    let other = stage.emulator.instance("other").unwrap();
    let effects = stage.effects();
    let mut command = stage.command(&["run", "--yes", "--json"]);
    command.env("TARGET_KEY", other.secret_key());
    let refused = Running::start(command).finish().await.expect(4);
    for id in [stage.target().id(), other.id()] {
        assert!(refused.stderr.contains(id), "the difference is shown: {}", refused.stderr);
    }
    assert_eq!(stage.effects(), effects);
    assert_eq!(other.count(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wrong_key() {
    let stage = Stage::set(small(63)).await;
    let wrong = "sk_live_thisKeyIsNobodys4711";
    let mut command = stage.command(&["run", "--yes", "--json"]);
    command.env("TARGET_KEY", wrong);
    let refused = Running::start(command).finish().await.expect(5);
    assert!(refused.stderr.contains("target"), "which key is said: {}", refused.stderr);
    assert!(!refused.everything().contains(wrong));
    assert_eq!(stage.creates(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_malformed_configuration() {
    let stage = Stage::set(small(64)).await;
    let line =
        |text: &str, part: &str| text.lines().position(|line| line.contains(part)).unwrap() + 1;
    for (good, bad) in [
        ("rate_share = 1.0", "rate_share = \"much\""),
        ("rate_share = 1.0", "rate_shar = 1.0"),
        ("secret_key = \"env:TARGET_KEY\"", "secret_key = \"sk_live_plainly\""),
        ("name = \"suite\"", "name = "),
    ] {
        stage.configure(|text| text.replacen(good, bad, 1));
        let text = std::fs::read_to_string(stage.config()).unwrap();
        let place = line(&text, bad);
        let refused = stage.run().await.expect(2);
        let shown = [
            format!("{place}:"),
            format!("line {place}"),
            format!("{place} │"),
            format!("{place} |"),
        ];
        assert!(
            shown.iter().any(|form| refused.stderr.contains(form.as_str())),
            "line {place} is shown: {}",
            refused.stderr
        );
        assert!(!refused.everything().contains("sk_live_plainly"), "{}", refused.stderr);
    }
    let missing = stage.rehome(&["nonsense"]).await.expect(2);
    assert!(missing.stdout.is_empty());
    assert_eq!(stage.requests(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_fails_at_the_start_prints_no_beginning() {
    let stage = Stage::set(small(65)).await;
    let formats = ["csv", "json", "ndjson", "sql"].map(|format| vec!["map", "--format", format]);
    for arguments in [vec!["map"]].into_iter().chain(formats) {
        let missing = stage.rehome(&arguments).await.expect(2);
        assert_eq!(missing.stdout, "", "{arguments:?}");
        assert!(missing.stderr.contains("suite.journal"), "{}", missing.stderr);
    }
    for command in ["map", "failures"] {
        let missing = stage.rehome(&[command, "--json"]).await.expect(2);
        assert!(missing.json()["error"]["message"].as_str().unwrap().contains("suite.journal"));
    }
    std::fs::write(stage.journal(), "nothing of the kind").unwrap();
    assert_eq!(stage.rehome(&["map"]).await.expect(4).stdout, "");
    std::fs::remove_file(stage.journal()).unwrap();

    let _pilot = stage.rehome(&["run", "--yes", "--limit", "3"]).await.expect(0);
    for format in ["csv", "sql"] {
        let both = stage.rehome(&["map", "--json", "--format", format]).await.expect(2);
        assert!(both.stderr.contains(format), "{}", both.stderr);
        assert_eq!(both.json()["error"]["exit"], 2);
    }
    let map = stage.rehome(&["map", "--json", "--format", "ndjson"]).await.expect(0);
    assert_eq!(map.events().len(), 3);
    let file = ["map", "--json", "--format", "csv", "--output", "ids.csv"];
    assert_eq!(stage.rehome(&file).await.expect(0).stdout, "");
    let lines = std::fs::read_to_string(stage.folder().join("ids.csv")).unwrap();
    assert_eq!(lines.lines().count(), 4);
}

/// A rollback asks the source nothing but who it is, and the journal knows that.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rollback_does_without_a_source_that_is_gone_and_refuses_another() {
    let stage = Stage::set(small(66)).await;
    let _complete = stage.run().await.expect(0);
    let (source, other) = (stage.source(), stage.emulator.instance("other").unwrap());
    let effects = stage.effects();
    let dry = ["rollback", "--dry-run", "--json"];
    let with_key = |key: Option<&str>, arguments: &[&str]| {
        let mut command = stage.command(arguments);
        match key {
            Some(key) => command.env("SOURCE_KEY", key),
            None => command.env_remove("SOURCE_KEY"),
        };
        Running::start(command).finish()
    };
    let usual = stage.rehome(&dry).await.expect(0);
    assert_eq!(usual.stderr, "");

    let another = with_key(Some(other.secret_key()), &dry).await.expect(4);
    for id in [source.id(), other.id()] {
        assert!(another.stderr.contains(id), "the difference is shown: {}", another.stderr);
    }
    let publishable = with_key(Some("pk_test_it"), &dry).await.expect(2);
    assert!(publishable.stderr.contains("publishable"), "{}", publishable.stderr);

    let revoked = with_key(Some("sk_test_nobodysAnyMore4711"), &dry).await.expect(0);
    let keyless = with_key(None, &dry).await.expect(0);
    let rule = Rule::always(Fault::Reset { when: When::Before }).at("source");
    stage.emulator.set_faults(FaultPlan::of([rule]));
    let unreachable = stage.rehome(&dry).await.expect(0);
    for (gone, why) in [(revoked, "not accepted"), (keyless, "no key"), (unreachable, "failing")] {
        assert_eq!(gone.json(), usual.json());
        let warning = gone.stderr.lines().last().unwrap_or_default().to_owned();
        assert!(warning.starts_with("warning: ") && warning.contains(why), "{}", gone.stderr);
        assert!(warning.contains("source Clerk instance"), "{warning}");
        assert!(warning.contains(source.id()), "{warning}");
        assert!(!gone.everything().contains("4711"), "{}", gone.stderr);
    }
    assert_eq!(stage.effects(), effects);
    // Nothing else does without it.
    let _needs_it = with_key(None, &["run", "--yes"]).await.expect(2);

    let back = with_key(None, &["rollback", "--yes", "--json"]).await.expect(0);
    assert!(back.events().iter().any(|event| event["event"] == "warned"), "{}", back.stdout);
    assert_eq!(stage.target().count(), 0);
    stage.replay();
}
