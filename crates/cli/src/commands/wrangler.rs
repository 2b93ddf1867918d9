//! The D1 databases that a Cloudflare project names in its wrangler file.

use std::collections::BTreeMap;
use std::path::Path;

use serde::Deserialize;

use crate::failure::Failure;
use crate::file;

/// What `init` takes from there:
/// <https://developers.cloudflare.com/workers/wrangler/configuration/#d1-databases>.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct Found {
    /// The account's id, if the file names it.
    pub(super) account_id: Option<String>,
    /// Names (or ids) of the databases, each once, in the order of the file.
    pub(super) databases: Vec<String>,
}

impl Found {
    /// Which database is probably copied from, and which into: names of a test, development or
    /// staging database are taken for the source. Either may be unknown.
    pub(super) fn sides(&self) -> (Option<&str>, Option<&str>) {
        let tests = |name: &&String| {
            let name = name.to_lowercase();
            ["test", "dev", "stag", "preview", "sandbox", "old"]
                .iter()
                .any(|word| name.contains(word))
        };
        let source = self.databases.iter().find(tests);
        let target = self.databases.iter().find(|name| !tests(name));
        let (source, target) = match (source, target, self.databases.as_slice()) {
            (None, _, [first, second, ..]) | (_, None, [first, second, ..]) => {
                (Some(first), Some(second))
            }
            (source, target, _) => (source, target),
        };
        (source.map(String::as_str), target.map(String::as_str))
    }
}

#[derive(Debug, Deserialize)]
struct Wrangler {
    account_id: Option<String>,
    #[serde(default)]
    d1_databases: Vec<Binding>,
    #[serde(default)]
    env: BTreeMap<String, Environment>,
}

#[derive(Debug, Deserialize)]
struct Environment {
    #[serde(default)]
    d1_databases: Vec<Binding>,
}

#[derive(Debug, Deserialize)]
struct Binding {
    database_name: Option<String>,
    database_id: Option<String>,
}

/// Reads `wrangler.toml`, or `wrangler.json` and `wrangler.jsonc`.
pub(super) fn read(path: &Path) -> Result<Found, Failure> {
    parse(path, &file::read(path)?)
}

fn parse(path: &Path, text: &str) -> Result<Found, Failure> {
    let json = path.extension().is_some_and(|extension| {
        extension.eq_ignore_ascii_case("json") || extension.eq_ignore_ascii_case("jsonc")
    });
    let wrong = |source: Box<dyn std::error::Error + Send + Sync>| Failure::Content {
        path: path.to_owned(),
        source,
    };
    let wrangler: Wrangler = if json {
        jsonc_parser::parse_to_serde_value(text, &jsonc_parser::ParseOptions::default())
            .map_err(|error| wrong(error.into()))?
    } else {
        toml::from_str(text).map_err(|error| wrong(error.into()))?
    };
    let environments = wrangler.env.into_values().flat_map(|env| env.d1_databases);
    let mut databases = Vec::new();
    for binding in wrangler.d1_databases.into_iter().chain(environments) {
        if let Some(name) = binding.database_name.or(binding.database_id)
            && !databases.contains(&name)
        {
            databases.push(name);
        }
    }
    Ok(Found { account_id: wrangler.account_id, databases })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const TOML: &str = r#"
name = "badges"
account_id = "0123456789abcdef0123456789abcdef"
compatibility_date = "2026-01-01"

[[d1_databases]]
binding = "DB"
database_name = "badges"
database_id = "11111111-1111-4111-8111-111111111111"

[[env.testing.d1_databases]]
binding = "DB"
database_name = "badges-testing"
database_id = "22222222-2222-4222-8222-222222222222"
"#;

    const JSONC: &str = r#"{
  // the worker
  "name": "badges",
  "d1_databases": [
    { "binding": "DB", "database_name": "badges", "database_id": "1" }, /* live */
  ],
  "env": { "testing": { "d1_databases": [{ "binding": "DB", "database_name": "badges-testing" }] } },
}"#;

    #[test]
    fn databases_of_all_environments_are_found_in_either_form() {
        for (name, text) in [("wrangler.toml", TOML), ("wrangler.jsonc", JSONC)] {
            let found = parse(Path::new(name), text).unwrap();
            assert_eq!(found.databases, ["badges", "badges-testing"], "{name}");
            assert_eq!(found.sides(), (Some("badges-testing"), Some("badges")), "{name}");
        }
    }

    #[test]
    fn sides_are_guessed_only_from_what_is_there() {
        let of = |names: &[&str]| Found {
            account_id: None,
            databases: names.iter().map(|name| (*name).to_owned()).collect(),
        };
        assert_eq!(of(&[]).sides(), (None, None));
        assert_eq!(of(&["app"]).sides(), (None, Some("app")));
        assert_eq!(of(&["app-dev"]).sides(), (Some("app-dev"), None));
        assert_eq!(of(&["one", "two"]).sides(), (Some("one"), Some("two")));
        assert!(parse(Path::new("wrangler.toml"), "= broken").is_err());
    }

    proptest! {
        #[test]
        fn any_file_is_survived_in_either_form(
            at in any::<prop::sample::Index>(),
            length in 0_usize..12,
            put in "[\\[\\]{},=\":/*\\n a-c]{0,12}",
            json in any::<bool>(),
        ) {
            let (name, good) = if json { ("wrangler.jsonc", JSONC) } else { ("wrangler.toml", TOML) };
            let mut text = good.to_owned();
            let at = at.index(text.len());
            text.replace_range(at..(at + length).min(good.len()), &put);
            if let Ok(found) = parse(Path::new(name), &text) {
                let (source, target) = found.sides();
                let known = |side: &str| found.databases.iter().any(|name| name == side);
                prop_assert!(source.is_none_or(known) && target.is_none_or(known));
            }
        }
    }

    #[test]
    fn nesting_is_refused_in_either_form() {
        for name in ["wrangler.toml", "wrangler.jsonc"] {
            let deep = format!("{}{}", "[".repeat(10_000), "]".repeat(10_000));
            let text = if name.ends_with("toml") {
                format!("a = {deep}")
            } else {
                format!("{{\"a\":{deep}}}")
            };
            assert!(parse(Path::new(name), &text).is_err(), "{name}");
        }
    }
}
