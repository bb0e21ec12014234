//! Starts processes that end with us, and ends them with all that they have started.

use std::ffi::OsStr;
use std::io;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::sync::{LazyLock, PoisonError, RwLock};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::error::{Error, Result};
use crate::home::{Account, Home};
use crate::programs;
use crate::relatives;

/// Between two looks at something that is about to happen.
pub(crate) const PAUSE: Duration = Duration::from_millis(5);
/// How long a killed process may take to be gone: the kernel writes its pages back first.
const LONGEST_DEATH: Duration = Duration::from_secs(20);
/// How long it may take until all its threads have noticed that they are stopped.
const LONGEST_STOP: Duration = Duration::from_mins(1);

/// A running server, ended by its pid when this is dropped.
#[derive(Debug)]
pub(crate) struct Process {
    child: Child,
    pid: Pid,
}

impl Process {
    /// Starts `program` in `home`, as its user, with its output at the end of the file `log`.
    pub(crate) fn start<S: AsRef<OsStr>>(
        program: &Path,
        arguments: &[S],
        home: &Home,
        log: std::fs::File,
    ) -> Result<Self> {
        let cannot = |error| Error::io(format_args!("run `{}`", program.display()), &error);
        let mut command = ended_with_us(program);
        command
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(log.try_clone().map_err(cannot)?)
            .stderr(log)
            // A Ctrl-C at the terminal is for the tests, which then end their servers.
            .process_group(0);
        live_in(&mut command, home);
        let child = spawn(command).map_err(cannot)?;
        let pid = Pid::from_child(&child);
        Ok(Self { child, pid })
    }

    /// How it ended, if it has.
    pub(crate) fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().ok().flatten()
    }

    /// SIGKILL to it and to all below it; returns when they are gone.
    pub(crate) fn kill(&mut self) {
        if self.ended().is_some() {
            return;
        }
        let family = relatives::freeze(self.pid);
        for &pid in &family {
            // Those below may have ended meanwhile.
            let _ = kill_process(pid, Signal::KILL);
        }
        let _ = self.child.wait();
        let deadline = Instant::now() + LONGEST_DEATH;
        while family.iter().any(|&pid| relatives::is_alive(pid)) && Instant::now() < deadline {
            thread::sleep(PAUSE);
        }
    }

    /// Asks it to end by itself, with `signal`; kills what does not.
    pub(crate) fn end(&mut self, signal: Signal) {
        let _ = kill_process(self.pid, signal);
        let deadline = Instant::now() + LONGEST_DEATH;
        while self.ended().is_none() && Instant::now() < deadline {
            thread::sleep(PAUSE);
        }
        self.kill();
    }

    /// Stops it and all below it where they are; returns when they stand still.
    pub(crate) fn pause(&self) {
        let family = relatives::freeze(self.pid);
        let deadline = Instant::now() + LONGEST_STOP;
        while !family.iter().all(|&pid| relatives::is_stopped(pid)) {
            assert!(Instant::now() < deadline, "a server cannot be stopped");
            thread::sleep(PAUSE);
        }
    }

    /// Lets it, and all below it, go on.
    pub(crate) fn resume(&self) {
        for pid in relatives::family(self.pid) {
            let _ = kill_process(pid, Signal::CONT);
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Runs a program of a server to its end, as the user of `home`, and returns what it printed.
pub(crate) fn run<S: AsRef<OsStr>>(
    program: &Path,
    arguments: &[S],
    home: Option<&Home>,
) -> Result<String> {
    let name = program.file_name().unwrap_or_default().to_string_lossy();
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::null());
    if let Some(home) = home {
        live_in(&mut command, home);
    }
    let output = command
        .output()
        .map_err(|error| Error::io(format_args!("run `{}`", program.display()), &error))?;
    let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
    if output.status.success() {
        return Ok(text(&output.stdout));
    }
    Err(Error::new(format!(
        "`{name}` failed ({}):\n{}{}",
        output.status,
        text(&output.stdout),
        text(&output.stderr)
    )))
}

/// Has a command run in `home`, as its user, with its temporary files there: our own folder for
/// them may be closed to that user.
fn live_in(command: &mut Command, home: &Home) {
    command.current_dir(home.path()).env("TMPDIR", home.path());
    if let Some(Account { user, group }) = home.account() {
        command.uid(user).gid(group);
    }
}

/// A command that the kernel kills when we end, also when we are killed ourselves.
///
/// `setpriv` asks for it after it has become the server's user, since a change of user would undo
/// it. Where it is not there (macOS), servers outlive an owner that is killed.
fn ended_with_us(program: &Path) -> Command {
    static SETPRIV: LazyLock<Option<std::path::PathBuf>> =
        LazyLock::new(|| programs::find_program("setpriv"));
    let Some(setpriv) = SETPRIV.as_deref() else {
        return Command::new(program);
    };
    let mut command = Command::new(setpriv);
    command.args(["--pdeathsig", "KILL", "--"]).arg(program);
    command
}

/// What is to be spawned, and where to answer.
type Order = (Command, mpsc::Sender<io::Result<Child>>);

/// Spawns on a thread that lives as long as the process: for the kernel it is the *thread* that is
/// the parent, and with it the child would end. A server may be started on a thread that ends
/// before it: a test's own, or one of several that start servers side by side.
fn spawn(command: Command) -> io::Result<Child> {
    static SPAWNER: RwLock<Option<mpsc::Sender<Order>>> = RwLock::new(None);
    let (answer, answered) = mpsc::channel();
    let gone = || io::Error::other("the thread that starts servers has ended");
    let known = SPAWNER
        .read()
        .unwrap_or_else(PoisonError::into_inner)
        .clone();
    let spawner = known.map_or_else(
        || {
            let mut spawner = SPAWNER.write().unwrap_or_else(PoisonError::into_inner);
            if let Some(spawner) = &*spawner {
                return Ok(spawner.clone());
            }
            let (orders, taken) = mpsc::channel::<Order>();
            thread::Builder::new()
                .name("test-servers".to_owned())
                .spawn(move || {
                    for (mut command, answer) in taken {
                        // Nobody waits for the answer any more: its owner would have ended it.
                        if let Err(mpsc::SendError(Ok(mut child))) = answer.send(command.spawn()) {
                            let _ = child.kill();
                            let _ = child.wait();
                        }
                    }
                })?;
            *spawner = Some(orders.clone());
            Ok(orders)
        },
        Ok::<_, io::Error>,
    )?;
    spawner.send((command, answer)).map_err(|_| gone())?;
    answered.recv().map_err(|_| gone())?
}
