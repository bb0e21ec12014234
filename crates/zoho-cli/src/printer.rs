//! The only place that writes to the screen. Colour only adds to what the words say, and only
//! where there is a terminal that wants it (`NO_COLOR`, `CLICOLOR`).

use std::fmt;
use std::io::{self, Write};

use clap::builder::styling::{AnsiColor, Style};
use serde::Serialize;

use crate::error::{Failure, Result};

const BOLD: Style = Style::new().bold();
const GOOD: Style = AnsiColor::Green.on_default();
const BAD: Style = AnsiColor::Red.on_default().bold();

/// Tells a story, line by line.
pub(crate) struct Printer {
    talk: Box<dyn Write + Send>,
}

impl fmt::Debug for Printer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Printer").finish_non_exhaustive()
    }
}

impl Printer {
    /// Talks on standard output.
    pub(crate) fn on_stdout() -> Self {
        Self {
            talk: Box::new(anstream::stdout()),
        }
    }

    /// Talks on standard error, since standard output is for data.
    pub(crate) fn on_stderr() -> Self {
        Self {
            talk: Box::new(anstream::stderr()),
        }
    }

    /// Talks to a test, in plain text.
    #[cfg(test)]
    pub(crate) fn on(output: impl Write + Send + 'static) -> Self {
        Self {
            talk: Box::new(anstream::StripStream::new(
                Box::new(output) as Box<dyn Write + Send>
            )),
        }
    }

    pub(crate) fn line(&mut self, text: &str) -> Result<()> {
        self.say(format_args!("{text}"))
    }

    pub(crate) fn heading(&mut self, text: &str) -> Result<()> {
        self.say(format_args!("\n{BOLD}{text}{BOLD:#}"))
    }

    pub(crate) fn good(&mut self, text: &str) -> Result<()> {
        self.say(format_args!("   {GOOD}ok{GOOD:#}  {text}"))
    }

    pub(crate) fn bad(&mut self, text: &str) -> Result<()> {
        self.say(format_args!("   {BAD}NO{BAD:#}  {text}"))
    }

    fn say(&mut self, line: fmt::Arguments<'_>) -> Result<()> {
        // The line is shown now, also where standard output is a pipe and the next one is seconds
        // away.
        writeln!(self.talk, "{line}")
            .and_then(|()| self.talk.flush())
            .map_err(|error| Failure::output(&error))
    }
}

/// Writes one line of JSON to standard output.
pub(crate) fn json(value: &impl Serialize) -> Result<()> {
    let mut output = io::stdout().lock();
    serde_json::to_writer(&mut output, value)
        .map_err(io::Error::from)
        .and_then(|()| output.write_all(b"\n"))
        .and_then(|()| output.flush())
        .map_err(|error| Failure::output(&error))
}

/// Says why a command failed, with causes and a hint.
pub(crate) fn failure(failure: &Failure) {
    // Standard error is closed too, so the warning is dropped.
    let mut output = anstream::stderr().lock();
    for (label, text) in failure.lines() {
        let style = match label {
            "error" => BAD,
            "hint" => BOLD,
            _ => Style::new(),
        };
        let _ = writeln!(output, "{style}{label}{style:#}: {text}");
    }
}
