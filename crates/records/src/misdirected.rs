//! The answer of every worker here to a payload that is not its own.

use rehome_core::{Halt, Outcome};

/// Nothing was sent, and the run ends: the engine has mixed two workers up.
pub(crate) fn misdirected() -> Outcome {
    let reason = "a payload of another worker".to_owned();
    Outcome::NotSent { reason: reason.clone(), retry_after: None, halt: Some(Halt::Bug(reason)) }
}
