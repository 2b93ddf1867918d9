//! `rehome rollback`: takes the migration back, or says what that would do.

use std::sync::Arc;

use rehome_core::Stage;
use rehome_core::engine::{Finish, Interrupt};
use rehome_core::progress::{Progress, Watcher};
use rehome_migration::document::RollbackDoc;
use rehome_migration::{Config, Keys, Restore, RollbackEnd, RollbackOptions};

use crate::args::Rollback;
use crate::context::Context;
use crate::failure::Failure;
use crate::render::json::{Event, Events};
use crate::render::progress::Board;
use crate::render::{rollback as page, status};
use crate::signals::{self, Signals};
use crate::{exit, out};

/// Takes it back, or says what would happen.
pub(crate) async fn rollback(context: &Context, arguments: &Rollback) -> Result<u8, Failure> {
    if arguments.dry_run {
        return signals::unless_interrupted(rehearse(context, arguments)).await;
    }
    let events = Arc::new(Events::new(Arc::clone(&context.clock)));
    let ended = attempt(context, arguments, &events).await;
    if !context.json {
        let end = ended?;
        show(context, arguments, &end)?;
        return Ok(code(&end));
    }
    match ended {
        Ok(end) => {
            let exit = code(&end);
            events.write(Event::Finished {
                exit,
                error: None,
                verdict: None,
                status: Some(Box::new(end.status)),
            });
            Ok(exit)
        }
        Err(failure) => {
            let report = failure.report();
            events.write(Event::Finished {
                exit: report.exit,
                error: Some(Box::new(report)),
                verdict: None,
                status: None,
            });
            Err(Failure::Told(Box::new(failure)))
        }
    }
}

fn options(arguments: &Rollback) -> RollbackOptions {
    let restore = arguments.restore_bookmark.as_ref().map(|bookmark| match bookmark.as_str() {
        "" => Restore::Look,
        shown => Restore::To(shown.to_owned()),
    });
    RollbackOptions {
        to: arguments.to,
        only: arguments.only.clone(),
        force: arguments.force,
        force_rows: arguments.force_rows,
        restore,
    }
}

async fn rehearse(context: &Context, arguments: &Rollback) -> Result<u8, Failure> {
    let config = context.config()?;
    let keys = context.keys_back(&config)?;
    let document = weigh(context, &config, &keys, arguments).await?;
    if context.json {
        out::print_json(&document)?;
    } else {
        out::print(&page::page(&document, context.style))?;
    }
    Ok(if document.refusals.is_empty() { exit::DONE } else { exit::UNFINISHED })
}

async fn weigh(
    context: &Context,
    config: &Config,
    keys: &Keys,
    arguments: &Rollback,
) -> Result<RollbackDoc, Failure> {
    let board = Board::start(context.showing, &context.notes, None);
    let watcher = watcher(context, board.clone(), None);
    let options = options(arguments);
    let clock = Arc::clone(&context.clock);
    let weighed = rehome_migration::rollback_plan(config, keys, &options, &watcher, clock).await;
    if let Some(board) = board {
        board.end();
    }
    Ok(weighed?)
}

async fn attempt(
    context: &Context,
    arguments: &Rollback,
    events: &Arc<Events>,
) -> Result<RollbackEnd, Failure> {
    let config = context.config()?;
    if !arguments.yes && !context.interactive {
        return Err(Failure::usage(
            "a rollback deletes in the target, and nobody can be asked here",
            format!("look with `{}`, then pass --yes", context.command(&["rollback", "--dry-run"])),
        ));
    }
    let mut options = options(arguments);
    if arguments.yes && options.restore == Some(Restore::Look) {
        return Err(Failure::usage(
            "a restore takes back what anybody has written, so --yes needs the bookmark itself",
            format!(
                "look with `{}`, then name what it shows behind --restore-bookmark",
                context.command(&["rollback", "--dry-run", "--restore-bookmark"])
            ),
        ));
    }
    let keys = context.keys_back(&config)?;
    if !arguments.yes
        && let Some(shown) = consent(context, &config, &keys, arguments).await?
    {
        options.restore = Some(Restore::To(shown));
    }
    let interrupt = Interrupt::default();
    let hearing = tokio::spawn(signals::interrupt_at_once(
        Signals::listen()?,
        interrupt.clone(),
        context.notes.clone(),
        resume(context, arguments),
    ));
    let board = Board::start(context.showing, &context.notes, None);
    let watcher = watcher(context, board.clone(), context.json.then(|| Arc::clone(events)));
    let clock = Arc::clone(&context.clock);
    let going = rehome_migration::rollback(&config, &keys, &options, &watcher, &interrupt, clock);
    let ended = Box::pin(going).await;
    hearing.abort();
    if let Some(board) = board {
        board.end();
    }
    Ok(ended?)
}

fn watcher(context: &Context, board: Option<Arc<Board>>, events: Option<Arc<Events>>) -> Watcher {
    use rehome_core::progress::Watch as _;
    let notes = context.notes.clone();
    Arc::new(move |progress: &Progress| {
        if let Progress::Warned { message } = progress {
            notes.say(&format!("warning: {message}"));
        }
        if let Some(board) = &board {
            board.note(progress);
        }
        if let Some(events) = &events {
            events.note(progress);
        }
    })
}

/// Shows what would go, and asks. A production instance is named by hand, and so is a database
/// that is to be restored as a whole. Returns the bookmark that was agreed to.
async fn consent(
    context: &Context,
    config: &Config,
    keys: &Keys,
    arguments: &Rollback,
) -> Result<Option<String>, Failure> {
    let document = weigh(context, config, keys, arguments).await?;
    context.notes.always(&page::page(&document, context.note_style));
    let target = rehome_migration::target(config, keys, Arc::clone(&context.clock)).await?;
    let (target, production) = (target.id.as_str(), target.production);
    let restore = document.restore;
    let (wanted, question) = if let Some(restore) = &restore {
        let name = restore.database.as_str();
        let question = format!(
            "\nEverything written to {name} since {} will be lost. Type its name to restore it: ",
            restore.taken_at
        );
        (name, question)
    } else if production {
        (target, format!("\n{target} is a production instance. Type its id to take this back: "))
    } else {
        ("yes", "\nType `yes` to take this back: ".to_owned())
    };
    match context.notes.ask(&question) {
        Some(answer) if answer == wanted => Ok(restore.map(|restore| restore.bookmark)),
        Some(_) | None => Err(Failure::usage(
            "not started: that was not the answer asked for",
            "nothing was written",
        )),
    }
}

/// The command that goes on.
fn resume(context: &Context, arguments: &Rollback) -> String {
    let mut words = vec!["rollback".to_owned()];
    if arguments.to != Stage::Exported {
        words.extend(["--to".to_owned(), arguments.to.to_string()]);
    }
    if let Some(force) = arguments.force {
        words.extend(["--force".to_owned(), force.to_string()]);
    }
    if let Some(force) = arguments.force_rows {
        words.extend(["--force-rows".to_owned(), force.to_string()]);
    }
    if let Some(bookmark) = &arguments.restore_bookmark {
        words.push("--restore-bookmark".to_owned());
        words.extend((!bookmark.is_empty()).then(|| bookmark.clone()));
    }
    if arguments.yes {
        words.push("--yes".to_owned());
    }
    if !arguments.only.is_empty() {
        words.push("--only".to_owned());
        words.extend(arguments.only.iter().cloned());
    }
    context.command(&words.iter().map(String::as_str).collect::<Vec<_>>())
}

fn code(end: &RollbackEnd) -> u8 {
    match end.finish {
        Finish::Interrupted => exit::INTERRUPTED,
        Finish::Quiescent if end.stuck > 0 => exit::UNFINISHED,
        Finish::Quiescent => exit::DONE,
    }
}

fn show(context: &Context, arguments: &Rollback, end: &RollbackEnd) -> Result<(), Failure> {
    let standing = || status::page(&end.status, context.style);
    out::print(&match &end.plan {
        Some(plan) if page::is_nothing(plan) => page::page(plan, context.style),
        Some(plan) => format!("{}\n\n{}", page::page(plan, context.style), standing()),
        None => standing(),
    })?;
    match end.finish {
        Finish::Interrupted => {
            let resume = resume(context, arguments);
            context.notes.always(&format!("interrupted; go on with `{resume}`"));
        }
        Finish::Quiescent if end.stuck > 0 => {
            let next = context.command(&["failures"]);
            context.notes.say(&format!("next: {next} says why the rest stays"));
        }
        Finish::Quiescent => {
            context.notes.say(&format!("{} goes forth again", context.command(&["run"])));
        }
    }
    Ok(())
}
