use super::*;
use proptest::prelude::*;
use rehome_records::policy::OnConflict;

const GOOD: &str = r#"
[migration]
name = "test-to-live"

[source.clerk]
secret_key = "env:SOURCE_KEY"

[target.clerk]
secret_key = "pass:app/clerk"
rate_limit = "1000/10s"

[source.database]
kind = "sqlite"
path = "source.sqlite"

[target.database]
kind = "sqlite"
path = "target.sqlite"

[records.ids]
"users.clerk_id" = "user"
"#;

fn parse(text: &str) -> Result<Config, String> {
    Config::parse(Path::new("folder/rehome.toml"), text).map_err(|error| error.to_string())
}

#[test]
fn a_good_file_has_safe_defaults() {
    let config = parse(GOOD).unwrap();
    assert_eq!(config.journal_path(), Path::new("folder/test-to-live.journal"));
    assert_eq!(config.users.on_existing, OnExisting::Adopt);
    assert!((config.target.clerk.rate_share.0 - 0.9).abs() < f64::EPSILON);
    let records = config.records.unwrap();
    assert_eq!(records.on_unmapped, Unmapped::Hold);
    assert_eq!(records.exclude, ["d1_migrations"]);
}

#[test]
fn mistakes_are_shown_where_they_stand() {
    for (name, from, to) in [
        ("unknown_key", "rate_limit =", "rate_limits ="),
        ("wrong_type", "name = \"test-to-live\"", "name = 5"),
        ("plain_secret", "env:SOURCE_KEY", "sk_test_123"),
        ("bad_rate", "1000/10s", "fast"),
        ("bad_toml", "[target.clerk]", "[target.clerk"),
        (
            "no_target_database",
            "[target.database]\nkind = \"sqlite\"\npath = \"target.sqlite\"",
            "",
        ),
        ("unknown_kind", "= \"user\"", "= \"usr\""),
        (
            "bad_policy",
            "[records.ids]",
            "[records.on_conflict]\nposts = \"overwrite\"\n[records.ids]",
        ),
        (
            "bad_reference",
            "[records.ids]",
            "[records.references]\n\"a.b\" = [\"posts\"]\n[records.ids]",
        ),
        ("bad_database", "kind = \"sqlite\"\npath = \"source.sqlite\"", "kind = \"oracle\""),
    ] {
        assert!(GOOD.contains(from), "{name}");
        let error = parse(&GOOD.replace(from, to)).unwrap_err();
        assert!(!error.contains("sk_test_123"), "a pasted secret is not repeated");
        insta::assert_snapshot!(name, error);
    }
}

/// The good file where ids are rewritten in place.
fn in_place() -> String {
    let source = "[source.database]\nkind = \"sqlite\"\npath = \"source.sqlite\"\n";
    assert!(GOOD.contains(source));
    GOOD.replace(source, "")
        .replace("[records.ids]", "[records]\nmode = \"in-place\"\n[records.ids]")
}

#[test]
fn settings_without_effect_in_the_mode_are_refused_at_their_line() {
    let good = in_place();
    assert_eq!(parse(&good).unwrap().records.unwrap().mode, RecordsMode::InPlace);
    for (name, from, to) in [
        (
            "in_place_source",
            "[target.database]",
            "[source.database]\nkind = \"sqlite\"\npath = \"a\"\n[target.database]",
        ),
        ("in_place_removed", "[records.ids]", "on_removed = \"keep\"\n[records.ids]"),
        (
            "in_place_conflict",
            "[records.ids]",
            "[records.on_conflict]\ndefault = \"fail\"\n[records.ids]",
        ),
        (
            "in_place_references",
            "[records.ids]",
            "[records.references]\n\"a.b\" = \"posts\"\n[records.ids]",
        ),
        ("in_place_skip", "[records.ids]", "on_unmapped = \"skip\"\n[records.ids]"),
    ] {
        insta::assert_snapshot!(name, refused(&good.replace(from, to)));
    }
    let lots = GOOD.replace("[records.ids]", "[records]\nlot_users = 5\n[records.ids]");
    insta::assert_snapshot!("copy_lot_users", refused(&lots));
    let d1 = "kind = \"d1\"\ndatabase = \"app\"\naccount_id = \"a\"\napi_token = \"env:TOKEN\"\n\
              import_from = 1000";
    let files = |text: &str, side| {
        text.replace(&format!("kind = \"sqlite\"\npath = \"{side}.sqlite\""), d1)
    };
    insta::assert_snapshot!("copy_source_files", refused(&files(GOOD, "source")));
    insta::assert_snapshot!("in_place_files", refused(&files(&good, "target")));
    assert!(Config::parse(Path::new("folder/rehome.toml"), &files(GOOD, "target")).is_ok());
}

/// The message, and what to do.
fn refused(text: &str) -> String {
    match Config::parse(Path::new("folder/rehome.toml"), text).unwrap_err() {
        error @ ConfigError::Meaning { .. } => {
            let ConfigError::Meaning { hint, .. } = &error else { unreachable!() };
            format!("{error}\n→ {hint}")
        }
        other => panic!("{other}"),
    }
}

#[test]
fn conflicts_are_decided_by_table() {
    let wanted = "[records.on_conflict]\ndefault = \"skip\"\nPosts = \"replace\"\n\
                  threads = \"rekey\"\n[records.references]\n\
                  \"replies.thread\" = \"threads\"\n[records.ids]";
    let records = parse(&GOOD.replace("[records.ids]", wanted)).unwrap().records.unwrap();
    let conflicts = records.on_conflict.conflicts();
    assert_eq!(conflicts.of("posts"), OnConflict::Replace);
    assert_eq!(conflicts.of("users"), OnConflict::Skip);
    assert_eq!(conflicts.of("threads"), OnConflict::Rekey);
    assert_eq!(records.references["replies.thread"], "threads");
    let conflicts = parse(GOOD).unwrap().records.unwrap().on_conflict.conflicts();
    assert_eq!(conflicts.of("posts"), OnConflict::Fail);
}

#[test]
fn a_d1_behind_an_api_needs_what_that_api_asks_for() {
    let sqlite = "kind = \"sqlite\"\npath = \"source.sqlite\"";
    let with = |lines: &str| parse(&GOOD.replace(sqlite, &format!("kind = \"d1\"\n{lines}")));
    let cloudflare = "database = \"app\"\naccount_id = \"a\"\napi_token = \"env:TOKEN\"";
    for (lines, api_url) in [
        (cloudflare, "https://api.cloudflare.com/client/v4"),
        (
            "api = \"local-explorer\"\ndatabase = \"DB\"",
            "http://127.0.0.1:8787/cdn-cgi/local/explorer/api",
        ),
    ] {
        let config = with(lines).unwrap();
        let Some(DatabaseConfig::D1(d1)) = config.source.database else { panic!("{lines}") };
        assert_eq!(d1.api_url, api_url);
    }
    for (name, lines) in [
        ("d1_without_account", "database = \"app\"\napi_token = \"env:TOKEN\""),
        ("d1_without_token", "database = \"app\"\naccount_id = \"a\""),
        ("d1_unknown_api", "api = \"workers\"\ndatabase = \"app\""),
        ("d1_unknown_key", &format!("{cloudflare}\npath = \"a\"")),
        ("explorer_with_token", &format!("api = \"local-explorer\"\n{cloudflare}")),
        (
            "explorer_with_files",
            "api = \"local-explorer\"\ndatabase = \"DB\"\nimport_from = 100000",
        ),
        ("d1_files_of_nothing", &format!("{cloudflare}\nimport_from = 0")),
    ] {
        insta::assert_snapshot!(name, with(lines).unwrap_err());
    }
}

#[test]
fn rates_read_as_people_write_them() {
    assert_eq!("1200/5m".parse::<RateLimit>().unwrap().to_string(), "1200/300s");
    assert_eq!("100/s".parse::<RateLimit>().unwrap().to_string(), "100/1s");
    for wrong in ["", "5", "0/10s", "5/0s", "5/10", "-1/s", "5/99999999999999999999h"] {
        assert!(wrong.parse::<RateLimit>().is_err(), "{wrong}");
    }
}

/// The good file with some of its text changed, taken out or doubled.
fn damaged() -> impl Strategy<Value = String> {
    let cut = (
        any::<prop::sample::Index>(),
        0_usize..20,
        "[\\[\\]=\"\\n a-z0-9.:/$é-]{0,8}",
        any::<bool>(),
    );
    prop::collection::vec(cut, 1..6).prop_map(|cuts| {
        let mut text: Vec<char> = GOOD.chars().collect();
        for (at, length, put, twice) in cuts {
            let at = at.index(text.len() + 1);
            let end = (at + length).min(text.len());
            let mut new: Vec<char> = put.chars().collect();
            if twice {
                let old = text[at..end].to_vec();
                new.extend(old.iter().chain(&old));
            }
            text.splice(at..end, new);
        }
        text.into_iter().collect()
    })
}

proptest! {
    #[test]
    fn any_file_is_understood_or_refused_with_words(text in prop_oneof![damaged(), any::<String>()]) {
        match parse(&text) {
            Ok(config) => prop_assert!(!config.journal_path().as_os_str().is_empty()),
            Err(message) => prop_assert!(!message.is_empty()),
        }
    }
}

#[test]
fn a_file_nested_deeper_than_anybody_writes_is_refused() {
    for (open, close) in [("[", "]"), ("{a=", "}")] {
        let text = format!("x = {}1{}", open.repeat(10_000), close.repeat(10_000));
        assert!(parse(&text).is_err());
    }
    assert!(parse(&format!("[{}a]", "a.".repeat(10_000))).is_err());
}
