//! Colours, where they are wanted.

/// Whether text is coloured. Meaning never hangs on the colour alone.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Style {
    coloured: bool,
}

impl Style {
    /// No colours.
    pub(crate) const PLAIN: Self = Self { coloured: false };

    /// Colours, if `coloured`.
    pub(crate) const fn new(coloured: bool) -> Self {
        Self { coloured }
    }

    fn wrap(self, code: &str, text: impl std::fmt::Display) -> String {
        if self.coloured { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_string() }
    }

    /// For what matters.
    pub(crate) fn bold(self, text: impl std::fmt::Display) -> String {
        self.wrap("1", text)
    }

    /// For what is good to have, but not read first.
    pub(crate) fn dim(self, text: impl std::fmt::Display) -> String {
        self.wrap("2", text)
    }

    /// For what went wrong.
    pub(crate) fn red(self, text: impl std::fmt::Display) -> String {
        self.wrap("1;31", text)
    }

    /// For what went well.
    pub(crate) fn green(self, text: impl std::fmt::Display) -> String {
        self.wrap("32", text)
    }

    /// For what needs a look.
    pub(crate) fn yellow(self, text: impl std::fmt::Display) -> String {
        self.wrap("33", text)
    }

    /// For what can be copied.
    pub(crate) fn cyan(self, text: impl std::fmt::Display) -> String {
        self.wrap("36", text)
    }
}
