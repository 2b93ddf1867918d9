//! What shells and manual readers need: `completions`, `man`, and usage errors.

use std::process::ExitCode;

use clap::CommandFactory as _;
use clap_complete::Shell;
use clap_mangen::Man as Page;

use crate::args::{Cli, Man};
use crate::failure::{ErrorLine, Failure, Report};
use crate::file::Whole;
use crate::out::Data;
use crate::{exit, out};

/// `rehome completions`
pub(crate) fn completions(shell: Shell) -> Result<u8, Failure> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "rehome", &mut script);
    let mut data = Data::open();
    data.text(&String::from_utf8_lossy(&script))?;
    data.end()?;
    Ok(exit::DONE)
}

/// `rehome man`
pub(crate) fn man(arguments: &Man) -> Result<u8, Failure> {
    let mut cli = Cli::command().disable_help_subcommand(true);
    cli.build();
    if let Some(folder) = &arguments.output {
        std::fs::create_dir_all(folder).map_err(Whole::failed(folder))?;
        clap_mangen::generate_to(cli, folder).map_err(Whole::failed(folder))?;
        return Ok(exit::DONE);
    }
    let command = match &arguments.command {
        None => cli,
        Some(name) => cli.find_subcommand(name).cloned().ok_or_else(|| {
            Failure::usage(format!("there is no command {name:?}"), "`rehome help` lists them")
        })?,
    };
    let mut page = Vec::new();
    Page::new(command).render(&mut page).map_err(Failure::Stdout)?;
    let mut data = Data::open();
    data.text(&String::from_utf8_lossy(&page))?;
    data.end()?;
    Ok(exit::DONE)
}

/// A command line that cannot be understood, or a request for help or the version.
pub(crate) fn usage(error: &clap::Error) -> ExitCode {
    // Help may go into a pipe that ends early.
    let _unread = error.print().is_err();
    let code = u8::try_from(error.exit_code()).unwrap_or(exit::USAGE);
    if code != exit::DONE && wants_json() {
        let message = error.to_string();
        let report = Report {
            message: message.lines().next().unwrap_or_default().replacen("error: ", "", 1),
            causes: possible(&message),
            hint: Some("`rehome help` tells what can be typed".to_owned()),
            exit: code,
        };
        let _unread = out::print_json_line(&ErrorLine { error: report }).is_err();
    }
    ExitCode::from(code)
}

/// The line that lists what could have been said.
fn possible(message: &str) -> Vec<String> {
    let lines = message.lines().map(|line| line.trim().trim_matches(['[', ']']));
    lines.filter(|line| line.starts_with("possible values: ")).map(str::to_owned).collect()
}

#[allow(clippy::disallowed_methods, reason = "the command line reads arguments")]
fn wants_json() -> bool {
    std::env::args_os().any(|word| word == "--json")
}
