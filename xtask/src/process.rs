//! Runs other programs, one at a time, and takes them along when we are told to stop.
//!
//! Each child leads a process group of its own. A signal that would end us is passed on to that
//! group, once, and we wait for the child: test runners need a moment to end what they started.
//! Whatever is left of the group after that is killed.

use std::ffi::OsStr;
use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::{self, BufRead as _, BufReader, IsTerminal as _, Read, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::thread;

use crate::environment;
use crate::failure::{Failure, Result};

pub(crate) use group::{end_children_with_us, interrupted, wait_until_interrupted};

/// What asks the kernel to end a program when whoever started it is killed; of util-linux.
const SETPRIV: &str = "setpriv";

/// A command that runs cargo in `folder`, and ends with us also when we are killed.
pub(crate) fn cargo(folder: &Path) -> Command {
    let mut command = match environment::find_program(SETPRIV) {
        Some(setpriv) if cfg!(target_os = "linux") => {
            let mut command = Command::new(setpriv);
            command.args(["--pdeathsig", "TERM", "--"]);
            command.arg(environment::cargo());
            command
        }
        _ => Command::new(environment::cargo()),
    };
    command.current_dir(folder);
    for name in environment::our_own_package_variables() {
        command.env_remove(name);
    }
    command
}

/// Runs `command` with our output; answers whether it succeeded.
pub(crate) fn run(command: &mut Command) -> Result<bool> {
    let child = group::spawn(command)?;
    group::wait(child)
}

/// Runs `command` with its stdout joined to our stderr; answers whether it succeeded.
pub(crate) fn run_as_talk(command: &mut Command) -> Result<bool> {
    run(command.stdout(io::stderr()))
}

/// Runs `command`, passes its output on line by line, and shows each line to `look`.
pub(crate) fn run_watched(
    command: &mut Command,
    mut look: impl FnMut(&str) + Send,
) -> Result<bool> {
    if io::stderr().is_terminal() && !environment::no_color() {
        // The child sees a pipe and would print without colours.
        command.env("CARGO_TERM_COLOR", "always");
    }
    let mut child = group::spawn(command.stdout(Stdio::piped()).stderr(Stdio::piped()))?;
    let (sender, lines) = mpsc::channel();
    if let Some(stdout) = child.stdout.take() {
        pass_lines(stdout, Stream::Out, sender.clone());
    }
    if let Some(stderr) = child.stderr.take() {
        pass_lines(stderr, Stream::Err, sender);
    }
    thread::scope(|scope| {
        scope.spawn(move || {
            for (stream, line) in lines {
                // A closed terminal is no reason to lose count of the tests.
                let _ = match stream {
                    Stream::Out => io::stdout().write_all(&line),
                    Stream::Err => io::stderr().write_all(&line),
                };
                look(&String::from_utf8_lossy(&line));
            }
        });
        // Not after the last line: what outlives an interrupted child holds its streams open, and
        // is ended here.
        group::wait(child)
    })
}

/// Runs `command` with its output in the file `log`; a failure names the file and shows its end.
pub(crate) fn run_logged(command: &mut Command, log: &Path) -> Result<()> {
    let file = log
        .parent()
        .map_or(Ok(()), fs::create_dir_all)
        .and_then(|()| File::create(log))
        .and_then(|file| Ok((file.try_clone()?, file)));
    let (out, err) =
        file.map_err(|error| Failure::io(format_args!("write `{}`", log.display()), &error))?;
    if run(command.stdout(out).stderr(err))? {
        return Ok(());
    }
    let text = fs::read_to_string(log).unwrap_or_default();
    let mut message = format!(
        "`{}` failed; the end of `{}`:",
        line_of(command),
        log.display()
    );
    for line in last_lines(&text, 15) {
        let _ = write!(message, "\n    {line}");
    }
    Err(Failure::new(message))
}

/// Runs `command` and returns what it printed to stdout.
pub(crate) fn answer(command: &mut Command) -> Result<Vec<u8>> {
    let mut child = group::spawn(command.stdout(Stdio::piped()))?;
    let mut answer = Vec::new();
    let read = child
        .stdout
        .take()
        .map_or(Ok(0), |mut stdout| stdout.read_to_end(&mut answer));
    if !group::wait(child)? {
        return Err(Failure::new(format!("`{}` failed", line_of(command))));
    }
    read.map_err(|error| Failure::io(format_args!("read from `{}`", line_of(command)), &error))?;
    Ok(answer)
}

/// Whether `command` can be run and succeeds; its output is dropped.
pub(crate) fn succeeds(command: &mut Command) -> bool {
    run(command.stdout(Stdio::null()).stderr(Stdio::null())).unwrap_or(false)
}

/// The command as a person would type it.
pub(crate) fn line_of(command: &Command) -> String {
    let mut words = std::iter::once(command.get_program()).chain(command.get_args());
    let mut program = Path::new(words.next().unwrap_or_default());
    if program.ends_with(SETPRIV) {
        let mut rest = words.by_ref().skip_while(|word| *word != "--").skip(1);
        program = Path::new(rest.next().unwrap_or_default());
    }
    let mut line = program
        .file_name()
        .unwrap_or(OsStr::new(""))
        .to_string_lossy()
        .into_owned();
    for argument in words {
        let argument = argument.to_string_lossy();
        let quote = if argument.contains(' ') { "'" } else { "" };
        let _ = write!(line, " {quote}{argument}{quote}");
    }
    line
}

#[derive(Debug, Clone, Copy)]
enum Stream {
    Out,
    Err,
}

fn pass_lines(
    source: impl Read + Send + 'static,
    stream: Stream,
    to: mpsc::Sender<(Stream, Vec<u8>)>,
) {
    thread::spawn(move || {
        let mut source = BufReader::new(source);
        loop {
            let mut line = Vec::new();
            match source.read_until(b'\n', &mut line) {
                Ok(0) | Err(_) => return,
                Ok(_) if to.send((stream, line)).is_err() => return,
                Ok(_) => {}
            }
        }
    });
}

fn last_lines(text: &str, count: usize) -> impl Iterator<Item = &str> {
    let lines: Vec<_> = text.lines().collect();
    let skip = lines.len().saturating_sub(count);
    lines.into_iter().skip(skip)
}

fn cannot_run(command: &Command, error: &io::Error) -> Failure {
    Failure::io(format_args!("run `{}`", line_of(command)), error)
}

#[cfg(unix)]
mod group {
    use std::os::unix::process::CommandExt as _;
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

    use rustix::process::{Pid, Signal, kill_process_group};
    use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
    use signal_hook::iterator::Signals;

    use super::{Child, Command, Failure, Result, Stdio, cannot_run, thread};

    static INTERRUPTED: AtomicBool = AtomicBool::new(false);
    /// The process group of the child that is running, named by its leader.
    static RUNNING: Mutex<Option<Pid>> = Mutex::new(None);

    /// Told, with [`RUNNING`] held, when [`INTERRUPTED`] becomes true.
    static TOLD: Condvar = Condvar::new();

    fn running() -> MutexGuard<'static, Option<Pid>> {
        RUNNING.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// From now on a signal that would end us is passed on to the child that is running.
    pub(crate) fn end_children_with_us() -> Result<()> {
        let mut signals = Signals::new([SIGINT, SIGTERM, SIGHUP])
            .map_err(|error| Failure::io("watch for signals", &error))?;
        thread::spawn(move || {
            for (earlier, signal) in signals.forever().enumerate() {
                let running = running();
                INTERRUPTED.store(true, Ordering::SeqCst);
                TOLD.notify_all();
                // Whoever asks a third time does not want to wait.
                let signal = match signal {
                    _ if earlier >= 2 => Signal::KILL,
                    SIGINT => Signal::INT,
                    SIGHUP => Signal::HUP,
                    _ => Signal::TERM,
                };
                if let Some(group) = *running {
                    // The group may be gone already, and that is what was wanted.
                    let _ = kill_process_group(group, signal);
                }
            }
        });
        Ok(())
    }

    /// Whether we were told to stop.
    pub(crate) fn interrupted() -> bool {
        INTERRUPTED.load(Ordering::SeqCst)
    }

    /// Returns when we are told to stop.
    pub(crate) fn wait_until_interrupted() {
        let mut running = running();
        while !interrupted() {
            running = TOLD.wait(running).unwrap_or_else(PoisonError::into_inner);
        }
    }

    pub(super) fn spawn(command: &mut Command) -> Result<Child> {
        // Held until the child is noted down, so that no signal falls between.
        let mut running = running();
        if interrupted() {
            return Err(Failure::interrupted());
        }
        let child = command
            .stdin(Stdio::null())
            .process_group(0)
            .spawn()
            .map_err(|error| cannot_run(command, &error))?;
        *running = Pid::from_raw(i32::try_from(child.id()).unwrap_or(0));
        Ok(child)
    }

    pub(super) fn wait(mut child: Child) -> Result<bool> {
        let status = child.wait();
        let group = running().take();
        if interrupted() {
            if let Some(group) = group {
                let _ = kill_process_group(group, Signal::KILL);
            }
            return Err(Failure::interrupted());
        }
        let status = status.map_err(|error| Failure::io("wait for a program", &error))?;
        Ok(status.success())
    }
}

#[cfg(not(unix))]
mod group {
    use super::{Child, Command, Failure, Result, Stdio, cannot_run};

    /// The console sends Ctrl-C to all of its processes, so there is nothing to pass on.
    #[expect(clippy::unnecessary_wraps, reason = "on Unix it can fail")]
    pub(crate) fn end_children_with_us() -> Result<()> {
        Ok(())
    }

    /// Ctrl-C ends us too.
    pub(crate) fn interrupted() -> bool {
        false
    }

    /// Never returns: see [`interrupted`].
    pub(crate) fn wait_until_interrupted() {
        loop {
            super::thread::park();
        }
    }

    pub(super) fn spawn(command: &mut Command) -> Result<Child> {
        command
            .stdin(Stdio::null())
            .spawn()
            .map_err(|error| cannot_run(command, &error))
    }

    pub(super) fn wait(mut child: Child) -> Result<bool> {
        let status = child
            .wait()
            .map_err(|error| Failure::io("wait for a program", &error))?;
        Ok(status.success())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_watched_program_shows_both_of_its_streams() {
        let mut seen = Vec::new();
        let mut command = Command::new("sh");
        command.args(["-c", "echo one; echo two >&2; printf three; exit 3"]);
        let succeeded =
            run_watched(&mut command, |line| seen.push(line.trim().to_owned())).unwrap();
        seen.sort();
        assert!(!succeeded);
        assert_eq!(seen, ["one", "three", "two"]);
    }

    #[test]
    fn a_logged_failure_tells_the_command_and_its_last_words() {
        let folder = tempfile::tempdir().unwrap();
        let log = folder.path().join("below/it.log");
        let mut command = Command::new("/bin/sh");
        command.args(["-c", "echo early; seq 20 >&2; exit 1"]);
        let told = run_logged(&mut command, &log).unwrap_err().to_string();
        assert!(
            told.starts_with("error: `sh -c 'echo early; seq 20 >&2; exit 1'` failed"),
            "{told}"
        );
        assert!(
            told.ends_with("\n    20") && !told.contains("\n    early"),
            "{told}"
        );
        assert!(fs::read_to_string(log).unwrap().starts_with("early\n"));
    }

    #[test]
    fn cargo_is_named_as_a_person_would_type_it() {
        let mut command = cargo(Path::new("/"));
        let line = line_of(command.args(["test", "--doc"]));
        assert!(line.ends_with("cargo test --doc"), "{line}");
        assert!(!line.contains(SETPRIV), "{line}");
    }

    #[test]
    fn a_program_that_is_not_there_is_an_error_that_names_it() {
        let told = run(&mut Command::new("/nowhere/at-all"))
            .unwrap_err()
            .to_string();
        assert!(told.starts_with("error: cannot run `at-all`: "), "{told}");
    }
}
