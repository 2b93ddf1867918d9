//! `rehome`: moves a user base from one Clerk instance to another, with every database row that
//! points at it.
//!
//! This crate is the outside of the program and nothing more: it reads arguments, the
//! configuration and secrets, calls the facade (`rehome_migration`), shows what comes back, and
//! turns it into an exit code. Whatever a program that embeds rehome would miss here belongs
//! into the facade.
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic))]
#![cfg_attr(test, allow(clippy::disallowed_methods, reason = "a test stands outside the walls"))]

mod args;
mod commands;
mod context;
mod exit;
mod failure;
mod file;
mod logging;
mod out;
mod render;
#[cfg(test)]
mod schemas;
mod secrets;
mod signals;

use std::process::ExitCode;

use clap::Parser as _;

use crate::args::{Cli, Command};
use crate::context::Context;
use crate::failure::{ErrorLine, Failure};
use crate::render::style::Style;

/// The whole program: from the process's arguments to its exit code.
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(usage) => return commands::shell::usage(&usage),
    };
    let json = cli.global.json;
    let context = match Context::new(&cli.global) {
        Ok(context) => context,
        Err(failure) => return fail(&failure, json, Style::PLAIN),
    };
    match start(&context, cli.command) {
        Ok(code) => ExitCode::from(code),
        Err(failure) => fail(&failure, json, context.note_style),
    }
}

/// Gives the command a runtime. Threads that are still busy when it is done are not waited for:
/// what they were doing was not acknowledged, and is settled by the next run.
fn start(context: &Context, command: Command) -> Result<u8, Failure> {
    let mut builder = match &command {
        Command::Emulate(_) | Command::Demo => tokio::runtime::Builder::new_multi_thread(),
        // A migration waits for remotes, it does not compute. Each thread would bring an arena of
        // the system's allocator, which only grows: with one, a run with ten times the users takes
        // no more memory.
        _ => tokio::runtime::Builder::new_current_thread(),
    };
    // For SQLite files and DNS; the same reason.
    builder.max_blocking_threads(2);
    let runtime = builder.enable_all().build().map_err(Failure::Runtime)?;
    let result = runtime.block_on(Box::pin(dispatch(context, command)));
    runtime.shutdown_background();
    result.map_err(|failure| failure.naming_the_journal(context))
}

async fn dispatch(context: &Context, command: Command) -> Result<u8, Failure> {
    use commands::{
        check, demo, emulate, init, journal, map, plan, rollback, run, shell, status, units, verify,
    };
    use signals::unless_interrupted;
    match command {
        Command::Init(arguments) => init::init(context, &arguments),
        Command::Check => unless_interrupted(check::check(context)).await,
        Command::Plan(arguments) => unless_interrupted(plan::plan(context, &arguments)).await,
        Command::Run(arguments) => run::run(context, &arguments).await,
        Command::Rollback(arguments) => rollback::rollback(context, &arguments).await,
        Command::Status(arguments) => unless_interrupted(status::status(context, &arguments)).await,
        Command::Show(arguments) => units::show(context, &arguments),
        Command::Failures(arguments) => units::failures(context, &arguments),
        Command::Retry(arguments) => units::retry(context, arguments).await,
        Command::Skip(arguments) => units::skip(context, &arguments).await,
        Command::Map(arguments) => map::map(context, &arguments),
        Command::Verify(arguments) => unless_interrupted(verify::verify(context, &arguments)).await,
        Command::Journal { command } => journal::journal(context, &command).await,
        Command::Emulate(arguments) => emulate::emulate(context, &arguments).await,
        Command::Demo => unless_interrupted(demo::demo(context)).await,
        Command::Completions { shell } => shell::completions(shell),
        Command::Man(arguments) => shell::man(&arguments),
    }
}

/// Tells what went wrong, to the person and, with `--json`, to the machine.
fn fail(failure: &Failure, json: bool, style: Style) -> ExitCode {
    let report = failure.report();
    if matches!(failure, Failure::ReaderGone) {
        return ExitCode::from(exit::DONE);
    }
    let notes = out::Notes::new(indicatif::MultiProgress::new(), false);
    notes.always(&report.in_words(style));
    let code = ExitCode::from(report.exit);
    if json && !matches!(failure, Failure::Told(_)) {
        // Nobody may be there to read it; the exit code tells the same.
        let _unread = out::print_json_line(&ErrorLine { error: report }).is_err();
    }
    code
}
