//! `rehome journal`: the history, and whether it leads to what the journal says.

use rehome_migration::journal_tools::{self, LogQuery};

use crate::args::{Journal, Log};
use crate::context::Context;
use crate::failure::Failure;
use crate::out::Data;
use crate::render::journal;
use crate::{exit, out};

/// Any of them.
pub(crate) fn journal(context: &Context, command: &Journal) -> Result<u8, Failure> {
    match command {
        Journal::Log(arguments) => log(context, arguments),
        Journal::Replay => replay(context),
    }
}

/// `journal log`: an entry is printed as soon as it is read.
fn log(context: &Context, arguments: &Log) -> Result<u8, Failure> {
    let config = context.config()?;
    let now = context.clock.now();
    let query = LogQuery {
        key: arguments.key.clone(),
        kind: arguments.kind.clone(),
        event: arguments.event.clone(),
        since: arguments.since.map(|moment| moment.resolve(now)),
        until: arguments.until.map(|moment| moment.resolve(now)),
        code: arguments.code.clone(),
        limit: arguments.limit,
        reverse: arguments.reverse,
    };
    let mut data = Data::open();
    let mut written = Ok(());
    let mut entries = 0u64;
    journal_tools::log(&config, &query, &mut |entry| {
        entries += 1;
        written = if context.json {
            data.json_line(&entry)
        } else {
            data.line(&journal::entry(&entry, context.style))
        };
        written.is_ok()
    })?;
    written?;
    data.end()?;
    if entries == 0 {
        context.notes.say("the log has no such entries");
    }
    Ok(exit::DONE)
}

/// `journal replay`.
fn replay(context: &Context) -> Result<u8, Failure> {
    let document = journal_tools::replay(&context.config()?)?;
    if context.json {
        out::print_json(&document)?;
    } else {
        out::print(&journal::replay(&document, context.style))?;
    }
    Ok(if document.equal { exit::DONE } else { exit::REFUSED })
}
