//! `rehome init`: a commented configuration to fill in.

use std::io::{ErrorKind, Write as _};
use std::path::Path;

use super::wrangler::{self, Found};
use crate::args::Init;
use crate::context::Context;
use crate::failure::Failure;
use crate::file::Whole;
use crate::{exit, out};

/// What stands in for something that the user has to name.
const ACCOUNT: &str = "FILL-IN-the-account-id";
const SOURCE: &str = "FILL-IN-the-source-database";
const TARGET: &str = "FILL-IN-the-target-database";

/// Writes the file, unless there is one.
pub(crate) fn init(context: &Context, arguments: &Init) -> Result<u8, Failure> {
    let path = &context.config_path;
    let found = arguments.from_wrangler.as_deref().map(wrangler::read).transpose()?;
    let text = template(found.as_ref());
    create(path, &text)?;
    let left: Vec<_> =
        [ACCOUNT, SOURCE, TARGET].into_iter().filter(|word| text.contains(word)).collect();
    if context.json {
        out::print_json(&serde_json::json!({ "written": path, "to_fill_in": left }))?;
        return Ok(exit::DONE);
    }
    out::print(&format!("{} is written", path.display()))?;
    context.notes.say(&format!(
        "next: fill it in (who owns which key, where ids stand in the tables), then `{}`",
        context.command(&["check"])
    ));
    Ok(exit::DONE)
}

fn create(path: &Path, text: &str) -> Result<(), Failure> {
    let created = std::fs::OpenOptions::new().write(true).create_new(true).open(path);
    let mut file = match created {
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {
            return Err(Failure::usage(
                format!("{} is there already, and is not overwritten", path.display()),
                "move it away, or write another one with `--config FILE`",
            ));
        }
        created => created.map_err(Whole::failed(path))?,
    };
    file.write_all(text.as_bytes()).map_err(Whole::failed(path))
}

/// The file. With databases from a wrangler file they are filled in; without, the sections stand
/// there as comments.
fn template(found: Option<&Found>) -> String {
    let databases = match found {
        Some(found) => databases(found),
        None => DATABASES_LATER.to_owned(),
    };
    format!("{HEAD}{databases}{USERS}{}", if found.is_some() { RECORDS } else { RECORDS_LATER })
}

fn databases(found: &Found) -> String {
    let account = quoted(found.account_id.as_deref().unwrap_or(ACCOUNT));
    let (source, target) = found.sides();
    let (source, target) = (quoted(source.unwrap_or(SOURCE)), quoted(target.unwrap_or(TARGET)));
    format!(
        r#"# Rows are copied from this database, which is only read: a token with "D1 Read" is enough.
[source.database]
kind = "d1"
account_id = {account}
database = {source}
api_token = "env:CLOUDFLARE_API_TOKEN"

# Into this one, which has the same tables already: a token with "D1 Edit".
[target.database]
kind = "d1"
account_id = {account}
database = {target}
api_token = "env:CLOUDFLARE_API_TOKEN"

"#
    )
}

fn quoted(text: &str) -> String {
    toml::Value::String(text.to_owned()).to_string()
}

const HEAD: &str = r#"# What rehome moves, from where, and to where. `rehome check` reads this file and writes nothing.

[migration]
# What the migration is called. Its journal is bound to the name, the instances and the databases.
name = "users"
# The memory of the migration: every step, every old and new id. Keep it until you are sure.
# By default <name>.journal beside this file.
# journal = "users.journal"

# No key ever stands in this file, only where it is to be had:
#   env:VARIABLE   file:PATH   pass:ENTRY   cmd:COMMAND LINE
# Clerk's dashboard shows secret keys (sk_test_…, sk_live_…) under "API keys".
[source.clerk]
secret_key = "env:CLERK_SOURCE_SECRET_KEY"

[target.clerk]
secret_key = "env:CLERK_TARGET_SECRET_KEY"
# This share of the instance's request limit is used; the rest stays with the live application.
rate_share = 0.9
# The limit itself, when it is not Clerk's: 1,000 in 10 s for production, 100 for development.
# rate_limit = "1000/10s"

"#;

const DATABASES_LATER: &str = r#"# Without databases only Clerk is migrated. With them (and [records] below), every row that names a
# user is copied under the new id. A database is Cloudflare's D1, the copy of one
# that `wrangler dev` keeps here (its file, or its HTTP API: see docs/d1.md), or a SQLite file.
# [source.database]
# kind = "d1"
# account_id = "..."
# database = "app-testing"                # name or uuid
# api_token = "env:CLOUDFLARE_API_TOKEN"
#
# [target.database]                       # (an empty D1 may take rows as files: see docs/d1.md)
# kind = "sqlite"                         # or "d1-local", with the Worker's `database` id (or
# path = "live.sqlite"                    # binding) and `state`, by default ".wrangler/state"

"#;

const USERS: &str = r#"[users]
# Someone who has an account in the target already (same verified address): adopt, skip or fail.
on_existing = "adopt"
# Users get their old Clerk id as external_id, unless they have one:
# keep-or-source-id, source-id, keep or none.
external_id = "keep-or-source-id"
# The account of a user whom the source deletes later: keep, or delete (if nobody has used or changed
# it, and no row names it).
# on_removed = "keep"
# What may be left out where the target refuses it, for example ["phone_number", "banned"].
without = []

"#;

const RECORDS: &str = r#"[records]
# "copy": rows move from the source's database into the target's. "in-place": only the Clerk
# instance changes, and ids are rewritten where they stand; then [target.database] is the only
# database, and [source.database], on_removed, [records.on_conflict] and [records.references] go.
mode = "copy"
# A row that names a user who could not be moved: hold (until he is), skip, or keep (as it is).
on_unmapped = "hold"
# A row that was carried and that the source has no more: keep or delete.
# on_removed = "keep"
# Only these tables; by default all of the application's own.
# tables = ["users", "posts"]
# Not these.
exclude = ["d1_migrations"]
# Columns in which old ids may stay, a log of the past for example.
# leave_ids = ["audit.message"]

# A row whose key or unique value the target has already, with other content: fail (a person looks
# at it), skip (the target's row stays), replace (ours takes its place; a rollback gives it back) or
# rekey (all rows of the table get new keys, and whatever refers to them follows).
# [records.on_conflict]
# default = "fail"
# "settings" = "replace"
# "posts" = "rekey"
#
# References that no foreign key declares: from a column to a table.
# [records.references]
# "comments.post_id" = "posts"

# Where ids of users stand. Columns that point at one of these by a foreign key follow by themselves;
# `rehome plan` finds what was forgotten, and a run is refused until it is named.
[records.ids]
# "users.clerk_id" = "user"
# "events.payload:$.actor.id" = "user"    # inside a JSON column
# '"odd table"."a:$b"' = "user"           # names with `:$` in them, quoted as in SQL
"#;

const RECORDS_LATER: &str = r#"# [records]
# mode = "copy"                           # or "in-place": ids are rewritten in [target.database]
# on_unmapped = "hold"                    # a row of a user who could not be moved: hold, skip, keep
# on_removed = "keep"                     # a carried row that the source has no more: keep, delete
# exclude = ["d1_migrations"]
#
# [records.ids]
# "users.clerk_id" = "user"
# "events.payload:$.actor.id" = "user"    # inside a JSON column
"#;

#[cfg(test)]
mod tests {
    use super::*;
    use rehome_migration::Config;

    fn parse(text: &str) -> Config {
        Config::parse(Path::new("rehome.toml"), text).unwrap()
    }

    #[test]
    fn what_is_written_can_be_read() {
        let plain = template(None);
        assert!(parse(&plain).records.is_none());
        let found = Found {
            account_id: Some("abc".into()),
            databases: vec!["app \"quoted\"".into(), "app-testing".into()],
        };
        let filled = template(Some(&found));
        let config = parse(&filled);
        let source = format!("{:?}", config.source.database.unwrap());
        assert!(source.contains("app-testing") && config.records.is_some(), "{source}");
        insta::assert_snapshot!("from_wrangler", filled);
        let unknown = template(Some(&Found::default()));
        parse(&unknown);
        assert!(unknown.contains(SOURCE) && unknown.contains(ACCOUNT));
    }

    /// The commented examples are right too: with the comment signs taken away they parse.
    #[test]
    fn the_examples_in_comments_hold() {
        let text: String = template(None)
            .lines()
            .map(|line| {
                let example = line.starts_with("# [") || line.contains(" = ");
                let line = if example { line.trim_start_matches("# ") } else { line };
                format!("{line}\n")
            })
            .collect();
        let config = parse(&text);
        assert!(config.records.is_some() && config.target.clerk.rate_limit.is_some(), "{text}");
    }

    #[test]
    fn nothing_is_overwritten() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("rehome.toml");
        create(&path, "mine").unwrap();
        let error = create(&path, "yours").unwrap_err();
        assert_eq!(error.report().exit, 2);
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "mine");
    }
}
