//! `rehome journal`: the history, whether it leads to what the journal says, and what becomes of a
//! journal that is at its end or lost.

use std::sync::Arc;

use rehome_core::engine::Interrupt;
use rehome_core::progress::{Unwatched, Watcher};
use rehome_migration::Config;
use rehome_migration::journal_tools::{self, LogQuery};

use crate::args::{Journal, Log, Rebuild, Replay, Scrub};
use crate::context::Context;
use crate::failure::Failure;
use crate::out::Data;
use crate::render::journal;
use crate::render::progress::Board;
use crate::signals::{self, Signals};
use crate::{exit, out};

/// Any of them.
pub(crate) async fn journal(context: &Context, command: &Journal) -> Result<u8, Failure> {
    match command {
        Journal::Log(arguments) => log(context, arguments),
        Journal::Replay(arguments) => replay(context, arguments),
        Journal::Scrub(arguments) => scrub(context, arguments),
        Journal::Rebuild(arguments) => rebuild(context, arguments).await,
    }
}

/// Asks for a `yes`, unless it was given.
fn consent(context: &Context, given: bool, question: &str, again: &[&str]) -> Result<(), Failure> {
    if given {
        return Ok(());
    }
    if !context.interactive {
        let words = [&["journal"], again, &["--yes"]].concat();
        return Err(Failure::usage(
            format!("{question} Nobody can be asked here"),
            format!("pass --yes: `{}`", context.command(&words)),
        ));
    }
    match context.notes.ask(&format!("{question} Type `yes` to do so: ")) {
        Some(answer) if answer == "yes" => Ok(()),
        Some(_) | None => {
            Err(Failure::usage("not done: that was not a yes", "nothing was changed"))
        }
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
        context.notes.say(&nothing(&config, query.code)?);
    }
    Ok(exit::DONE)
}

/// What to say when there is no such entry: a code can be any word, so one that was mistyped is told
/// from one to which nothing else fits.
fn nothing(config: &Config, code: Option<String>) -> Result<String, Failure> {
    if let Some(code) = code {
        let alone = LogQuery { code: Some(code.clone()), limit: Some(1), ..LogQuery::default() };
        let mut found = false;
        journal_tools::log(config, &alone, &mut |_| {
            found = true;
            false
        })?;
        if !found {
            return Ok(format!("no entry of the log has the code {code:?}"));
        }
    }
    Ok("the log has no such entries".to_owned())
}

/// `journal replay`.
fn replay(context: &Context, arguments: &Replay) -> Result<u8, Failure> {
    let config = context.config()?;
    let mut document = journal_tools::replay(&config)?;
    if !document.equal && arguments.repair {
        context.notes.say(&journal::replay(&document, context.note_style));
        let question = "What the journal says is derived anew from its log.";
        consent(context, arguments.yes, question, &["replay", "--repair"])?;
        document = journal_tools::repair(&config)?;
    }
    if context.json {
        out::print_json(&document)?;
    } else {
        out::print(&journal::replay(&document, context.style))?;
    }
    if document.equal {
        return Ok(exit::DONE);
    }
    let repair = context.command(&["journal", "replay", "--repair"]);
    context.notes.say(&format!("the log is the truth; `{repair}` derives the rest from it"));
    Ok(exit::REFUSED)
}

/// `journal scrub`.
fn scrub(context: &Context, arguments: &Scrub) -> Result<u8, Failure> {
    let config = context.config()?;
    // Refused before anybody is asked.
    if let Some(what) = journal_tools::unfinished(&config)?.filter(|_| !arguments.force) {
        return Err(rehome_migration::Error::Unfinished { what }.into());
    }
    let question = "Personal data is removed for good: no run, rollback or verify afterwards.";
    let again = if arguments.force { &["scrub", "--force"][..] } else { &["scrub"] };
    consent(context, arguments.yes, question, again)?;
    let document = journal_tools::scrub(&config, arguments.force, context.clock.as_ref())?;
    if context.json {
        out::print_json(&document)?;
    } else {
        out::print(&journal::scrub(&document, context.style))?;
    }
    Ok(exit::DONE)
}

/// `journal rebuild`: makes it, shows what is in it, and then asks whether it is to be the journal.
async fn rebuild(context: &Context, arguments: &Rebuild) -> Result<u8, Failure> {
    let config = context.config()?;
    let keys = context.keys(&config)?;
    let since =
        arguments.created_since.map(|moment| moment.resolve(context.clock.now()).as_millisecond());
    let again = context.command(&["journal", "rebuild"]);
    let interrupt = Interrupt::default();
    let hearing = tokio::spawn(signals::interrupt_at_once(
        Signals::listen()?,
        interrupt.clone(),
        context.notes.clone(),
        again.clone(),
    ));
    let board = Board::start(context.showing, &context.notes, None);
    let watcher: Watcher = match &board {
        Some(board) => Arc::clone(board) as Watcher,
        None => Arc::new(Unwatched),
    };
    let clock = Arc::clone(&context.clock);
    let made = journal_tools::rebuild(&config, &keys, since, &watcher, &interrupt, clock).await;
    hearing.abort();
    if let Some(board) = board {
        board.end();
    }
    let Some(made) = made? else {
        return Err(Failure::Interrupted { hint: Some(format!("begin again with `{again}`")) });
    };
    let document = if arguments.dry_run {
        made.discard()?
    } else {
        context.notes.say(&journal::rebuild(&made.document, context.note_style));
        let mut words = vec!["rebuild".to_owned()];
        if let Some(since) = since.and_then(|since| jiff::Timestamp::from_millisecond(since).ok()) {
            words.extend(["--created-since".to_owned(), since.to_string()]);
        }
        let words: Vec<_> = words.iter().map(String::as_str).collect();
        match consent(context, arguments.yes, "This becomes the journal.", &words) {
            Ok(()) => made.install()?,
            Err(failure) => {
                made.discard()?;
                return Err(failure);
            }
        }
    };
    if context.json {
        out::print_json(&document)?;
    } else if arguments.dry_run {
        out::print(&journal::rebuild(&document, context.style))?;
    } else {
        out::print(&format!("{} is there again", document.journal))?;
        context.notes.say(&format!("next: {}", context.command(&["run"])));
    }
    Ok(exit::DONE)
}
