//! What every command needs: the global flags, understood once.

use std::io::IsTerminal as _;
use std::path::PathBuf;
use std::sync::Arc;

use indicatif::{MultiProgress, ProgressDrawTarget};
use rehome_core::clock::{Clock, SystemClock};
use rehome_migration::{Config, Error, Keys};

use crate::args::{Colour, Global};
use crate::failure::Failure;
use crate::out::Notes;
use crate::render::style::Style;
use crate::{logging, secrets};

/// How progress is shown.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Showing {
    /// Bars on a terminal.
    Bars,
    /// A plain line now and then.
    Lines,
    /// Nothing.
    Nothing,
}

/// The surroundings of a command.
pub(crate) struct Context {
    /// Where the configuration is.
    pub(crate) config_path: PathBuf,
    /// Whether standard output is for a machine.
    pub(crate) json: bool,
    /// Colours of standard output.
    pub(crate) style: Style,
    /// Colours of standard error.
    pub(crate) note_style: Style,
    /// How progress is shown.
    pub(crate) showing: Showing,
    /// Whether a person can be asked.
    pub(crate) interactive: bool,
    /// Whether standard output is a terminal.
    pub(crate) terminal: bool,
    /// Standard error.
    pub(crate) notes: Notes,
    /// Where dates come from.
    pub(crate) clock: Arc<dyn Clock>,
}

impl Context {
    /// Understands the flags and starts the log.
    pub(crate) fn new(global: &Global) -> Result<Self, Failure> {
        let (stdout, stderr) = (std::io::stdout().is_terminal(), std::io::stderr().is_terminal());
        let coloured = |terminal: bool| match global.color {
            Colour::Always => true,
            Colour::Never => false,
            Colour::Auto => terminal && !no_color(),
        };
        let showing = match (global.quiet || global.json, stderr && !global.no_progress) {
            (true, _) => Showing::Nothing,
            (false, true) => Showing::Bars,
            (false, false) => Showing::Lines,
        };
        let target = match showing {
            Showing::Bars => ProgressDrawTarget::stderr(),
            Showing::Lines | Showing::Nothing => ProgressDrawTarget::hidden(),
        };
        let notes = Notes::new(MultiProgress::with_draw_target(target), global.quiet);
        logging::start(&notes, global.verbose, global.log_file.as_deref())?;
        Ok(Self {
            config_path: global.config.clone(),
            json: global.json,
            style: Style::new(coloured(stdout)),
            note_style: Style::new(coloured(stderr)),
            showing,
            interactive: std::io::stdin().is_terminal() && stderr,
            terminal: stdout,
            notes,
            clock: Arc::new(SystemClock),
        })
    }

    /// Reads the configuration.
    pub(crate) fn config(&self) -> Result<Config, Failure> {
        Ok(Config::load(&self.config_path).map_err(Error::from)?)
    }

    /// Gets every secret that the configuration names.
    pub(crate) fn keys(&self, config: &Config) -> Result<Keys, Failure> {
        Ok(secrets::resolve(config, &|warning| self.notes.say(warning))?)
    }

    /// The same for a rollback, which goes on without the source's key.
    pub(crate) fn keys_back(&self, config: &Config) -> Result<Keys, Failure> {
        Ok(secrets::resolve_back(config, &|warning| self.notes.say(warning))?)
    }

    /// A command of this program, to be copied.
    pub(crate) fn command(&self, words: &[&str]) -> String {
        let mut all = vec!["rehome"];
        all.extend(words);
        let path = self.config_path.to_string_lossy();
        if path != "rehome.toml" {
            all.extend(["--config", &path]);
        }
        shlex::try_join(all.iter().copied()).unwrap_or_else(|_| all.join(" "))
    }
}

/// <https://no-color.org>: set and not empty.
#[allow(clippy::disallowed_methods, reason = "the command line reads the environment")]
fn no_color() -> bool {
    std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty())
}
