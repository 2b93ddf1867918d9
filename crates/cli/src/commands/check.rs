//! `rehome check`: everything that a run needs, looked at.

use std::sync::Arc;

use crate::context::Context;
use crate::failure::Failure;
use crate::render::human;
use crate::{exit, out};

/// Looks, shows, and says whether a run may start.
pub(crate) async fn check(context: &Context) -> Result<u8, Failure> {
    let config = context.config()?;
    let keys = context.keys(&config)?;
    let document = rehome_migration::check(&config, &keys, Arc::clone(&context.clock)).await;
    if context.json {
        out::print_json(&document)?;
    } else {
        out::print(&human::check(&document, context.style))?;
    }
    Ok(if document.ok { exit::DONE } else { exit::REFUSED })
}
