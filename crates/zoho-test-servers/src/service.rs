//! A server as a recipe: what to run, where, and whether it runs.

use std::ffi::OsString;
use std::fmt::Write as _;
use std::fs::{self, File, OpenOptions};
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::error::{Error, Result};
use crate::home::Home;
use crate::process::{PAUSE, Process};

/// How long a server may take until it answers, on a machine that is busy with much else.
const LONGEST_START: Duration = Duration::from_mins(2);
/// How much of a log an error shows.
const LAST_LINES: usize = 25;

/// A server that can be started, killed and started again.
#[derive(Debug)]
pub(crate) struct Service {
    name: &'static str,
    program: PathBuf,
    arguments: Vec<OsString>,
    /// Dropped before the folder.
    process: Option<Process>,
    home: Home,
}

impl Service {
    /// A service that does not run yet.
    pub(crate) fn new(
        name: &'static str,
        program: PathBuf,
        arguments: Vec<OsString>,
        home: Home,
    ) -> Self {
        Self {
            name,
            program,
            arguments,
            process: None,
            home,
        }
    }

    pub(crate) fn home(&self) -> &Home {
        &self.home
    }

    /// Starts it, with `further` arguments this time, and waits until `ready` says yes. One that
    /// runs already is killed first.
    pub(crate) fn start(&mut self, further: &[OsString], ready: impl Fn() -> bool) -> Result<()> {
        self.kill();
        let log = self.open_log()?;
        let arguments = [&self.arguments[..], further].concat();
        self.process = Some(Process::start(&self.program, &arguments, &self.home, log)?);
        let waited = self.wait_until(ready);
        if waited.is_err() {
            self.kill();
        }
        waited
    }

    fn wait_until(&mut self, ready: impl Fn() -> bool) -> Result<()> {
        let deadline = Instant::now() + LONGEST_START;
        loop {
            if let Some(status) = self.process.as_mut().and_then(Process::ended) {
                return Err(self.with_log(&format!("ended before it was ready ({status})")));
            }
            if ready() {
                return Ok(());
            }
            if Instant::now() > deadline {
                return Err(self.with_log(&format!(
                    "was not ready after {} s",
                    LONGEST_START.as_secs()
                )));
            }
            thread::sleep(PAUSE);
        }
    }

    /// As by a power cut; its folder stays.
    pub(crate) fn kill(&mut self) {
        self.process = None;
    }

    /// Has it end by itself, which takes along what it keeps outside of its folder.
    pub(crate) fn end(&mut self, signal: Signal) {
        if let Some(mut process) = self.process.take() {
            process.end(signal);
        }
    }

    pub(crate) fn pause(&self) {
        if let Some(process) = &self.process {
            process.pause();
        }
    }

    pub(crate) fn resume(&self) {
        if let Some(process) = &self.process {
            process.resume();
        }
    }

    fn log(&self) -> PathBuf {
        self.home.path().join("server.log")
    }

    fn open_log(&self) -> Result<File> {
        let log = self.log();
        OpenOptions::new()
            .append(true)
            .create(true)
            .open(&log)
            .map_err(|error| Error::io(format_args!("write `{}`", log.display()), &error))
    }

    fn with_log(&self, what: &str) -> Error {
        let log = fs::read(self.log()).unwrap_or_default();
        let log = String::from_utf8_lossy(&log);
        let lines: Vec<_> = log.lines().collect();
        let mut message = format!("{} {what}; the end of its log:", self.name);
        for line in &lines[lines.len().saturating_sub(LAST_LINES)..] {
            let _ = write!(message, "\n    {line}");
        }
        Error::new(message)
    }
}

/// Makes arguments of anything that is one.
pub(crate) fn arguments<I>(arguments: I) -> Vec<OsString>
where
    I: IntoIterator,
    I::Item: Into<OsString>,
{
    arguments.into_iter().map(Into::into).collect()
}
