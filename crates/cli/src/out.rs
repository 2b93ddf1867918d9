//! The two streams. Data goes to standard output, everything else to standard error.
//!
//! All of standard output goes through [`Data`], so that a reader who has seen enough (`rehome
//! map | head`) ends the program silently: [`Failure::ReaderGone`].
//!
//! Standard error is shared by messages, the log and the progress bars; [`Notes`] keeps them from
//! writing over each other.

use std::io::{self, Write};

use indicatif::MultiProgress;
use serde::Serialize;

use crate::failure::Failure;

/// Standard output, locked and buffered. Flushed by [`Data::end`].
pub(crate) struct Data {
    stream: io::BufWriter<io::StdoutLock<'static>>,
}

impl Data {
    /// Takes standard output.
    pub(crate) fn open() -> Self {
        Self { stream: io::BufWriter::new(io::stdout().lock()) }
    }

    /// Writes text as it is.
    pub(crate) fn text(&mut self, text: &str) -> Result<(), Failure> {
        self.stream.write_all(text.as_bytes()).map_err(Failure::writing_stdout)
    }

    /// Writes one line.
    pub(crate) fn line(&mut self, line: &str) -> Result<(), Failure> {
        self.text(line)?;
        self.text("\n")
    }

    /// Writes a document on one line.
    pub(crate) fn json_line<T: Serialize + ?Sized>(&mut self, document: &T) -> Result<(), Failure> {
        let line = serde_json::to_string(document).map_err(Failure::serializing)?;
        self.line(&line)
    }

    /// Writes a document over several lines, for a file or a pipe into another program.
    pub(crate) fn json<T: Serialize + ?Sized>(&mut self, document: &T) -> Result<(), Failure> {
        let text = serde_json::to_string_pretty(document).map_err(Failure::serializing)?;
        self.line(&text)
    }

    /// Hands everything over to the reader.
    pub(crate) fn end(mut self) -> Result<(), Failure> {
        self.stream.flush().map_err(Failure::writing_stdout)
    }
}

impl Write for Data {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.stream.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.stream.flush()
    }
}

/// A JSON array that is written element by element.
pub(crate) struct Array {
    data: Data,
    elements: u64,
    written: Result<(), Failure>,
}

impl Array {
    /// An array to be written to `data`. Its bracket is written with the first element, or at the
    /// end: whoever fails before that has written nothing.
    pub(crate) fn new(data: Data) -> Self {
        Self { data, elements: 0, written: Ok(()) }
    }

    /// Adds an element. Trouble is kept for [`Array::close`], as callbacks cannot return it.
    pub(crate) fn add<T: Serialize>(&mut self, element: &T) {
        if self.written.is_err() {
            return;
        }
        let separator = if self.elements > 0 { ",\n" } else { "[\n" };
        self.elements += 1;
        self.written = serde_json::to_string(element)
            .map_err(Failure::serializing)
            .and_then(|text| self.data.text(&format!("{separator}{text}")));
    }

    /// Closes the bracket.
    pub(crate) fn close(mut self) -> Result<Data, Failure> {
        self.written?;
        self.data.line(if self.elements > 0 { "\n]" } else { "[]" })?;
        Ok(self.data)
    }
}

/// Prints `text` and a line feed on standard output.
pub(crate) fn print(text: &str) -> Result<(), Failure> {
    let mut data = Data::open();
    data.line(text)?;
    data.end()
}

/// Prints a document on standard output.
pub(crate) fn print_json<T: Serialize + ?Sized>(document: &T) -> Result<(), Failure> {
    let mut data = Data::open();
    data.json(document)?;
    data.end()
}

/// Prints a document on one line of standard output.
pub(crate) fn print_json_line<T: Serialize + ?Sized>(document: &T) -> Result<(), Failure> {
    let mut data = Data::open();
    data.json_line(document)?;
    data.end()
}

/// Standard error.
#[derive(Clone, Debug)]
pub(crate) struct Notes {
    /// Where progress bars are drawn; hidden when none are wanted.
    pub(crate) bars: MultiProgress,
    quiet: bool,
}

impl Notes {
    /// Standard error with these bars; `quiet` leaves only errors.
    pub(crate) fn new(bars: MultiProgress, quiet: bool) -> Self {
        Self { bars, quiet }
    }

    /// Tells the person something. Nobody may be there to read it, which is no failure.
    pub(crate) fn say(&self, text: &str) {
        if !self.quiet {
            self.always(text);
        }
    }

    /// The same, even when quiet was asked for: errors, and how to go on.
    pub(crate) fn always(&self, text: &str) {
        self.write(format!("{text}\n").as_bytes());
    }

    /// Asks for a line of input. `None` at the end of input.
    pub(crate) fn ask(&self, question: &str) -> Option<String> {
        self.write(question.as_bytes());
        let mut line = String::new();
        match io::stdin().read_line(&mut line) {
            Ok(0) | Err(_) => None,
            Ok(_) => Some(line.trim().to_owned()),
        }
    }

    fn write(&self, bytes: &[u8]) {
        self.bars.suspend(|| {
            let mut stderr = io::stderr().lock();
            let _nobody_reads = stderr.write_all(bytes).and_then(|()| stderr.flush()).is_err();
        });
    }
}

/// One line of the log, written whole, above the bars.
impl Write for Notes {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        Self::write(self, bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
