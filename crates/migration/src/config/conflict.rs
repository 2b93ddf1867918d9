//! `[records.on_conflict]`: what becomes of rows whose place in the target is taken, by table.

use std::collections::BTreeMap;

use rehome_records::policy::{Conflicts, OnConflict};
use serde::Deserialize;

/// The name under which the answer for every other table stands.
const DEFAULT: &str = "default";

/// Words by table; `default` is no table but the rest.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct OnConflictConfig(BTreeMap<String, OnConflict>);

impl OnConflictConfig {
    /// What it says of each table.
    pub fn conflicts(&self) -> Conflicts {
        let mut tables = self.0.clone();
        let default = tables.remove(DEFAULT).unwrap_or_default();
        Conflicts { default, tables }
    }
}
