//! `rehome verify`: both sides compared afresh.

use std::io::Write as _;
use std::sync::Arc;

use rehome_core::progress::{Unwatched, Watcher};
use rehome_migration::Observed;
use rehome_migration::document::VerdictLine;

use crate::args::Verify;
use crate::context::Context;
use crate::failure::Failure;
use crate::file::Whole;
use crate::render::human;
use crate::render::progress::Board;
use crate::{exit, out};

/// Compares, shows, and keeps the lines when asked to.
pub(crate) async fn verify(context: &Context, arguments: &Verify) -> Result<u8, Failure> {
    let config = context.config()?;
    let keys = context.keys(&config)?;
    let observed = Observed::connect(&config, &keys, Arc::clone(&context.clock)).await?;
    let board = Board::start(context.showing, &context.notes, None);
    let watcher: Watcher = match &board {
        Some(board) => Arc::clone(board) as Watcher,
        None => Arc::new(Unwatched),
    };
    let mut file = arguments.combined.as_deref().map(Whole::create).transpose()?;
    let mut written = Ok(());
    let verdict = observed
        .verify(&watcher, &mut |line| {
            if let (Some(file), Ok(())) = (&mut file, &written) {
                written = writeln!(file, "{}", in_words(&line));
            }
        })
        .await;
    if let Some(board) = board {
        board.end();
    }
    let verdict = verdict?;
    if let (Some(file), Some(path)) = (file, &arguments.combined) {
        written.map_err(Whole::failed(path))?;
        file.finish()?;
    }
    if context.json {
        out::print_json(&verdict)?;
    } else {
        out::print(&human::verdict(&verdict, false, context.style))?;
    }
    Ok(if verdict.ok { exit::DONE } else { exit::UNFINISHED })
}

/// `= user user_2abc`, `* badges badge_7: status`.
fn in_words(line: &VerdictLine) -> String {
    let VerdictLine { mark, what, key, detail } = line;
    let text = match detail {
        Some(detail) => format!("{mark} {what} {key}: {detail}"),
        None => format!("{mark} {what} {key}"),
    };
    // One unit, one line: a key of a row may hold anything.
    text.replace('\\', "\\\\").replace('\n', "\\n").replace('\r', "\\r")
}
