//! `rehome run`: starts the migration, or goes on with it.

use std::sync::Arc;

use rehome_core::Stage;
use rehome_core::engine::{Finish, Interrupt};
use rehome_core::progress::{Progress, Watcher};
use rehome_migration::document::{CheckDoc, Finding, Severity, Status};
use rehome_migration::{Config, Keys, Observed, Passes, RunEnd, RunOptions, ledger};

use super::plan;
use crate::args::Run;
use crate::context::Context;
use crate::failure::Failure;
use crate::render::json::{Event, Events};
use crate::render::progress::Board;
use crate::render::{amount, human, status};
use crate::signals::{self, Signals};
use crate::{exit, out};

/// Runs to the end, or to an interrupt. With `--json` the last line tells how it ended, whatever
/// happened.
pub(crate) async fn run(context: &Context, arguments: &Run) -> Result<u8, Failure> {
    let events = Arc::new(Events::new(Arc::clone(&context.clock)));
    let ended = attempt(context, arguments, &events).await;
    let ended = ended.map_err(|failure| failure.naming_the_journal(context));
    if !context.json {
        let end = ended?;
        show(context, arguments, &end)?;
        return Ok(code(&end, arguments));
    }
    match ended {
        Ok(end) => {
            let exit = code(&end, arguments);
            let RunEnd { status, verdict, .. } = end;
            events.write(Event::Finished {
                exit,
                error: None,
                verdict: verdict.map(Box::new),
                status: Some(Box::new(status)),
            });
            Ok(exit)
        }
        Err(failure) => {
            let report = failure.report();
            events.write(Event::Finished {
                exit: report.exit,
                error: Some(Box::new(report)),
                verdict: None,
                status: standing(context).map(Box::new),
            });
            Err(Failure::Told(Box::new(failure)))
        }
    }
}

/// Where everything stands, if there is a configuration and a journal.
fn standing(context: &Context) -> Option<Status> {
    let config = context.config().ok()?;
    ledger::status(&config, context.clock.now()).ok()
}

async fn attempt(
    context: &Context,
    arguments: &Run,
    events: &Arc<Events>,
) -> Result<RunEnd, Failure> {
    let config = context.config()?;
    let mut options = RunOptions {
        until: arguments.until,
        limit: arguments.limit,
        only: arguments.only.clone(),
        plan: arguments.plan.as_deref().map(plan::read).transpose()?,
        passes: if arguments.until_quiet {
            Passes::UntilQuiet(arguments.passes)
        } else {
            Passes::CatchUp
        },
        downtime: arguments.allow_downtime,
    };
    // A migration that has begun was consented to then.
    let consented = arguments.yes || ledger::has_begun(&config)?;
    if !consented && !context.interactive {
        return Err(Failure::usage(
            "a first run writes to the target, and nobody can be asked here",
            format!("pass --yes: `{}`", context.command(&["run", "--yes"])),
        ));
    }
    let keys = context.keys(&config)?;
    if !consented {
        options.downtime |= consent(context, &config, &keys, arguments).await?;
    }
    let interrupt = Interrupt::default();
    let hearing = tokio::spawn(signals::interrupt_at_once(
        Signals::listen()?,
        interrupt.clone(),
        context.notes.clone(),
        resume(context, arguments),
    ));
    let before = ledger::status(&config, context.clock.now()).ok();
    let board = Board::start(context.showing, &context.notes, before.as_ref());
    let watcher = watcher(board.clone(), context.json.then(|| Arc::clone(events)));
    let clock = Arc::clone(&context.clock);
    let running = rehome_migration::run(&config, &keys, options, watcher, &interrupt, clock);
    let ended = Box::pin(running).await;
    hearing.abort();
    if let Some(board) = board {
        board.end();
    }
    Ok(ended?)
}

fn watcher(board: Option<Arc<Board>>, events: Option<Arc<Events>>) -> Watcher {
    use rehome_core::progress::Watch as _;
    Arc::new(move |progress: &Progress| {
        if let Some(board) = &board {
            board.note(progress);
        }
        if let Some(events) = &events {
            events.note(progress);
        }
    })
}

/// Shows what is about to be written where, and asks. A production instance is named by hand; a
/// database that will answer nobody for a while is agreed to apart. Gives whether it was.
async fn consent(
    context: &Context,
    config: &Config,
    keys: &Keys,
    arguments: &Run,
) -> Result<bool, Failure> {
    let checked = rehome_migration::check(config, keys, Arc::clone(&context.clock)).await;
    context.notes.always(&human::check(&about(checked), context.note_style));
    let observed = Observed::connect(config, keys, Arc::clone(&context.clock)).await?;
    let (target, production) = observed.target();
    let who = match (arguments.only.len(), arguments.limit) {
        (0, None) => "every user".to_owned(),
        (0, Some(limit)) => format!("the first {limit} users"),
        (named, _) => format!("{named} named users"),
    };
    context.notes.always(&format!(
        "\n{} goes from {} to {target}{}, up to `{}`.",
        who,
        observed.source(),
        if production { ", a production instance" } else { "" },
        arguments.until,
    ));
    let (wanted, question) = if production {
        (target, "Type the target instance's id to begin: ".to_owned())
    } else {
        ("yes", "Type `yes` to begin: ".to_owned())
    };
    match context.notes.ask(&question) {
        Some(answer) if answer == wanted => {}
        Some(_) | None => return Err(not_agreed()),
    }
    if arguments.allow_downtime || arguments.until < Stage::Imported {
        return Ok(false);
    }
    let Some(downtime) = observed.downtime().await? else { return Ok(false) };
    context.notes.always(&format!(
        "\n{} answers nobody while its rows are imported ({} in the source).",
        downtime.database,
        amount::of(downtime.rows, "row"),
    ));
    match context.notes.ask("Type `unavailable` to allow that: ") {
        Some(answer) if answer == "unavailable" => Ok(true),
        Some(_) | None => Err(not_agreed()),
    }
}

fn not_agreed() -> Failure {
    Failure::usage(
        "not started: that was not the answer asked for",
        "nothing was written; `rehome plan` says what a run would do",
    )
}

/// Without what is as it should be on this machine: who goes where is about to be asked.
fn about(mut checked: CheckDoc) -> CheckDoc {
    let plain = |finding: &Finding| {
        finding.severity == Severity::Ok && (finding.code == "clock" || finding.code == "disk")
    };
    checked.findings.retain(|finding| !plain(finding));
    checked
}

/// The command that goes on.
fn resume(context: &Context, arguments: &Run) -> String {
    let mut words = vec!["run".to_owned()];
    if arguments.until != Stage::Verified {
        words.extend(["--until".to_owned(), arguments.until.to_string()]);
    }
    if let Some(limit) = arguments.limit {
        words.extend(["--limit".to_owned(), limit.to_string()]);
    }
    if arguments.until_quiet {
        words.push("--until-quiet".to_owned());
    }
    if !arguments.only.is_empty() {
        words.push("--only".to_owned());
        words.extend(arguments.only.iter().cloned());
    }
    context.command(&words.iter().map(String::as_str).collect::<Vec<_>>())
}

/// How a run that came to its end is judged.
fn code(end: &RunEnd, arguments: &Run) -> u8 {
    match end.finish {
        Finish::Interrupted => return exit::INTERRUPTED,
        Finish::Quiescent => {}
    }
    let aside = end.aside > 0;
    let differs = end.verdict.as_ref().is_some_and(|verdict| !verdict.ok);
    let whole = arguments.until == Stage::Verified
        && arguments.limit.is_none()
        && arguments.only.is_empty();
    let moved = end.moved > 0;
    if aside || differs || moved || (whole && !end.status.complete) {
        exit::UNFINISHED
    } else {
        exit::DONE
    }
}

/// What leads on from here: to what really shows why a run is not through.
fn next(context: &Context, arguments: &Run, end: &RunEnd) -> String {
    let differs = end.verdict.as_ref().is_some_and(|verdict| !verdict.ok);
    if code(end, arguments) != exit::UNFINISHED {
        context.command(&["map"])
    } else if end.aside > 0 {
        context.command(&["failures"])
    } else if end.moved > 0 {
        format!("{}  (the source has moved on meanwhile)", resume(context, arguments))
    } else if !differs {
        resume(context, arguments)
    } else {
        let lines = context.command(&["verify", "--combined", "differences.txt"]);
        format!("{lines}  (a line for each difference)")
    }
}

fn show(context: &Context, arguments: &Run, end: &RunEnd) -> Result<(), Failure> {
    let style = context.style;
    let mut text = status::page(&end.status, style);
    if let Some(verdict) = &end.verdict {
        text += &format!("\n\n{}", human::verdict(verdict, !end.status.complete, style));
    }
    out::print(&text)?;
    match end.finish {
        Finish::Interrupted => {
            let resume = resume(context, arguments);
            context.notes.always(&format!("interrupted; go on with `{resume}`"));
        }
        Finish::Quiescent => {
            context.notes.say(&format!("next: {}", next(context, arguments, end)));
        }
    }
    Ok(())
}
