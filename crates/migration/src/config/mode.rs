//! How rows are moved, and which databases that takes.

use rehome_records::policy::Unmapped;
use serde::Deserialize;

use super::Config;

/// How rows are moved.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RecordsMode {
    /// From one database into another.
    #[default]
    Copy,
    /// They stay where they are, and their ids are rewritten.
    InPlace,
}

impl RecordsMode {
    /// The word used in the configuration and in journals.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Copy => "copy",
            Self::InPlace => "in-place",
        }
    }
}

/// Whether the databases are those that the mode needs; if not, what is wrong and what to do.
pub(super) fn judge(config: &Config) -> Result<(), (String, &'static str)> {
    let both = (config.source.database.is_some(), config.target.database.is_some());
    let Some(records) = &config.records else {
        return match both {
            (false, false) => Ok(()),
            (true, true) => Err((
                "there are two databases, but no `[records]`".into(),
                "add `[records]` with `[records.ids]`, or remove the databases",
            )),
            (true, false) | (false, true) => Err((
                "there is a database, but no `[records]`".into(),
                "add `[records]` with `[records.ids]`, or remove the database",
            )),
        };
    };
    match records.mode {
        RecordsMode::Copy => copy(both),
        RecordsMode::InPlace => in_place(records.on_unmapped, both.1),
    }
}

fn copy(both: (bool, bool)) -> Result<(), (String, &'static str)> {
    match both {
        (true, true) => Ok(()),
        (false, false) => Err((
            "there is `[records]`, but no database".into(),
            "add `[source.database]` and `[target.database]`, or remove `[records]`",
        )),
        (source, _) => {
            let missing = if source { "target" } else { "source" };
            Err((
                format!("there is no `[{missing}.database]`"),
                "rows move from a source database into a target database: give both; or set \
                 `records.mode = \"in-place\"` and give only `[target.database]`",
            ))
        }
    }
}

fn in_place(unmapped: Unmapped, database: bool) -> Result<(), (String, &'static str)> {
    if !database {
        return Err((
            "there is no `[target.database]`".into(),
            "name the database whose ids are to be rewritten",
        ));
    }
    match unmapped {
        Unmapped::Hold | Unmapped::Keep => Ok(()),
        Unmapped::Skip => Err((
            "`records.on_unmapped = \"skip\"` has no meaning in place".into(),
            "a row of a user without a counterpart keeps its ids: say \"hold\" to have that told \
             and mended later, or \"keep\"",
        )),
    }
}
