//! A developer's local D1 is migrated where `wrangler dev` keeps it.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::disallowed_methods,
    missing_docs,
    reason = "a test"
)]

use std::path::PathBuf;

use rehome_records::d1::local;
use rehome_tests::{Judge, Options, Stage, filter};

/// A stage whose databases are where wrangler would have put them.
async fn beside_a_worker() -> Stage {
    let stage = Stage::set(Options { users: 60, rows: 300, seed: 44, ..Options::default() }).await;
    stage.configure(|mut text| {
        for side in ["source", "target"] {
            let file = format!("kind = \"sqlite\"\npath = \"{side}.sqlite\"");
            let local = format!("kind = \"d1-local\"\ndatabase = \"{side}-id\"");
            assert!(text.contains(&file));
            text = text.replace(&file, &local);
        }
        text
    });
    for side in ["source", "target"] {
        let (plain, kept) = (stage.folder().join(format!("{side}.sqlite")), kept(&stage, side));
        std::fs::create_dir_all(kept.parent().unwrap()).unwrap();
        std::fs::rename(&plain, &kept).unwrap();
        // For the judge, who looks where the stage says.
        std::os::unix::fs::symlink(&kept, &plain).unwrap();
    }
    stage
}

fn kept(stage: &Stage, side: &str) -> PathBuf {
    local::file(&stage.folder().join(".wrangler/state"), &format!("{side}-id"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rows_move_between_the_files_that_wrangler_keeps() {
    let stage = beside_a_worker().await;
    let _sound = stage.rehome(&["check", "--json"]).await.expect(0);
    let _complete = stage.run().await.expect(0);
    Judge::default().accepts(&stage).await;
    stage.replay();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_that_wrangler_never_made_is_named() {
    let stage = beside_a_worker().await;
    std::fs::remove_file(kept(&stage, "target")).unwrap();
    let told = stage.rehome(&["run", "--yes"]).await.expect(2).stderr;
    filter::settings().bind(|| insta::assert_snapshot!(told));
    assert_eq!(stage.creates(), 0, "nothing was begun");
}
