//! `rehome status`: where everything stands. Reads the journal only, also while a run writes it.

use std::time::Duration;

use rehome_migration::ledger;

use crate::args::Status;
use crate::context::Context;
use crate::failure::Failure;
use crate::render::status;
use crate::{exit, out};

/// How often a watched page is drawn.
const EVERY: Duration = Duration::from_secs(1);

/// Shows it once, or again and again until all is done.
pub(crate) async fn status(context: &Context, arguments: &Status) -> Result<u8, Failure> {
    let config = context.config()?;
    loop {
        let document = ledger::status(&config, context.clock.now())?;
        match (context.json, arguments.watch) {
            (true, true) => out::print_json_line(&document)?,
            (true, false) => out::print_json(&document)?,
            (false, watch) => {
                let page = status::page(&document, context.style);
                // Home, the page with the rest of each line cleared, then everything below.
                if watch && context.terminal {
                    let page = page.replace('\n', "\x1b[K\n");
                    out::print(&format!("\x1b[H{page}\x1b[K\x1b[J"))?;
                } else {
                    out::print(&page)?;
                }
            }
        }
        if !arguments.watch || document.complete {
            return Ok(exit::DONE);
        }
        tokio::time::sleep(EVERY).await;
    }
}
