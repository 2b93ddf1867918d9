//! The JSON Schemas in `docs/schema/`, made from the types behind `--json`.
//!
//! `UPDATE_SCHEMAS=1 cargo test -p rehome-cli schemas` writes them; without it the test compares.

use std::path::Path;

use rehome_migration::document::{
    CheckDoc, FailureDoc, MapDoc, PlanDoc, RollbackDoc, Status, UnitDoc, Verdict,
};
use rehome_migration::journal_tools::{LogDoc, RebuildDoc, ReplayDoc, ScrubDoc};
use schemars::{JsonSchema, schema_for};

use crate::failure::ErrorLine;
use crate::render::json::Line;

fn text<T: JsonSchema>(title: &str) -> String {
    let mut schema = schema_for!(T);
    schema.insert("title".to_owned(), title.into());
    let mut text = serde_json::to_string_pretty(&schema).unwrap();
    text.push('\n');
    text
}

#[test]
fn the_published_schemas_are_those_of_the_code() {
    let schemas = [
        ("check", text::<CheckDoc>("rehome check --json")),
        ("error", text::<ErrorLine>("the last line with --json, when a command failed")),
        ("failures", text::<Vec<FailureDoc>>("rehome failures --json")),
        ("journal_log", text::<LogDoc>("a line of rehome journal log --json")),
        ("journal_rebuild", text::<RebuildDoc>("rehome journal rebuild --json")),
        ("journal_replay", text::<ReplayDoc>("rehome journal replay --json")),
        ("journal_scrub", text::<ScrubDoc>("rehome journal scrub --json")),
        ("map", text::<Vec<MapDoc>>("rehome map --format json")),
        ("plan", text::<PlanDoc>("rehome plan --json")),
        ("rollback", text::<RollbackDoc>("rehome rollback --dry-run --json")),
        ("run", text::<Line>("a line of rehome run --json")),
        ("show", text::<UnitDoc>("a line of rehome show --json")),
        ("status", text::<Status>("rehome status --json")),
        ("verify", text::<Verdict>("rehome verify --json")),
    ];
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/schema");
    for (name, text) in schemas {
        let path = folder.join(format!("{name}.json"));
        if std::env::var_os("UPDATE_SCHEMAS").is_some() {
            std::fs::create_dir_all(&folder).unwrap();
            std::fs::write(&path, &text).unwrap();
        }
        let published = std::fs::read_to_string(&path).unwrap_or_default();
        assert_eq!(published, text, "{name}.json: update with UPDATE_SCHEMAS=1");
    }
}
