//! `rehome plan`: what a run would do.

use std::io::Write as _;
use std::path::Path;
use std::sync::Arc;

use rehome_core::progress::{Unwatched, Watcher};
use rehome_migration::Observed;
use rehome_migration::document::PlanDoc;

use crate::args::Plan;
use crate::context::Context;
use crate::failure::Failure;
use crate::file::{self, Whole};
use crate::render::human;
use crate::render::progress::Board;
use crate::{exit, out};

/// Reads both sides, shows what would happen, and keeps it when asked to.
pub(crate) async fn plan(context: &Context, arguments: &Plan) -> Result<u8, Failure> {
    let config = context.config()?;
    let keys = context.keys(&config)?;
    let observed = Observed::connect(&config, &keys, Arc::clone(&context.clock)).await?;
    let board = Board::start(context.showing, &context.notes, None);
    let watcher: Watcher = match &board {
        Some(board) => Arc::clone(board) as Watcher,
        None => Arc::new(Unwatched),
    };
    let plan = observed.plan(&watcher).await;
    if let Some(board) = board {
        board.end();
    }
    let plan = plan?;
    if let Some(path) = &arguments.out {
        write(path, &plan)?;
    }
    if context.json {
        out::print_json(&plan)?;
    } else {
        out::print(&human::plan(&plan, context.style))?;
    }
    if let Some(path) = &arguments.out {
        let run = context.command(&["run", "--plan", &path.to_string_lossy()]);
        context.notes.say(&format!("the plan is kept; `{run}` runs it"));
    }
    Ok(if plan.ok { exit::DONE } else { exit::REFUSED })
}

fn write(path: &Path, plan: &PlanDoc) -> Result<(), Failure> {
    let text = serde_json::to_string_pretty(plan).map_err(Failure::serializing)?;
    let mut file = Whole::create(path)?;
    writeln!(file, "{text}").map_err(Whole::failed(path))?;
    file.finish()
}

/// Reads a plan that was kept.
pub(crate) fn read(path: &Path) -> Result<PlanDoc, Failure> {
    let text = file::read(path)?;
    serde_json::from_str(&text)
        .map_err(|error| Failure::Content { path: path.to_owned(), source: error.into() })
}
