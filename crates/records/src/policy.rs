//! What the configuration decides about rows.

use serde::{Deserialize, Serialize};

/// What becomes of a row that names somebody who is not mapped (`records.on_unmapped`).
/// A row that names somebody whom a person took out is left out under `Hold`, too.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Unmapped {
    /// It waits.
    #[default]
    Hold,
    /// It is left out, and rows that refer to it too.
    Skip,
    /// It is carried with the old id.
    Keep,
}
