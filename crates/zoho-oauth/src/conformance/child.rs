//! Processes of the kit: how they are started, told what to do, and heard.

use std::io::{self, BufRead, BufReader};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::Duration;

use super::environment::ChildOrder;
use super::lines::Line;
use super::{Place, StoreFactory, Violation, environment};
use crate::error::Error;

/// A child that has not said a word for so long never will.
const PATIENCE: Duration = Duration::from_mins(2);

/// Waits until the parent closes the pipe, which it does when all are ready.
pub(super) async fn wait_for_the_start() {
    let waited = tokio::task::spawn_blocking(|| io::stdin().lines().count()).await;
    drop(waited);
}

#[expect(clippy::needless_pass_by_value, reason = "for `map_err`")]
pub(super) fn pipe(error: io::Error) -> Violation {
    Violation::new(format!("the pipe to the parent: {error}"))
}

/// Calls again when the store says that it may help, as an application would.
pub(super) async fn persistently<T, F>(call: impl Fn() -> F) -> Result<T, Error>
where
    F: Future<Output = Result<T, Error>>,
{
    for _ in 0..20 {
        match call().await {
            Err(error) if error.is_transient() => {}
            answer => return answer,
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    call().await
}

/// A child process, killed when this is dropped.
#[derive(Debug)]
pub(super) struct Process {
    child: Child,
}

impl Process {
    pub(super) fn start(
        factory: &StoreFactory,
        part: &str,
        place: &Place,
        seed: u64,
    ) -> Result<Self, Violation> {
        let failed = |error| Violation::new(format!("cannot start this program again: {error}"));
        let program = std::env::current_exe().map_err(failed)?;
        let mut command = Command::new(program);
        command
            .args(factory.child_arguments())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped());
        let order = ChildOrder {
            part: part.to_owned(),
            path: place.path().to_owned(),
            name: place.name().to_owned(),
            seed,
        };
        environment::give_order(&mut command, &order);
        let child = command.spawn().map_err(failed)?;
        Ok(Self { child })
    }

    /// The pipe from the child, once.
    pub(super) fn output(&mut self) -> Result<ChildStdout, Violation> {
        let output = self.child.stdout.take();
        output.ok_or_else(|| Violation::new("the child has no output"))
    }

    /// The pipe to the child, once.
    pub(super) fn input(&mut self) -> Option<ChildStdin> {
        self.child.stdin.take()
    }

    pub(super) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Ends the child with SIGKILL, in the middle of whatever it does, and waits for it to be gone.
    pub(super) fn kill(&mut self) {
        // It can fail only if the child has ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Reads the lines of a child in a thread of its own, until the pipe ends.
pub(super) fn listen(process: &mut Process) -> Result<Receiver<Line>, Violation> {
    let output = BufReader::new(process.output()?);
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        for text in output.lines().map_while(Result::ok) {
            if let Some(line) = Line::read(&text)
                && sender.send(line).is_err()
            {
                return;
            }
        }
    });
    Ok(receiver)
}

/// Starts the processes 1 to `count`, lets them begin together, and returns what each told until it
/// was finished.
pub(super) async fn run_together(
    factory: &StoreFactory,
    part: &'static str,
    place: &Place,
    count: u64,
) -> Result<Vec<Vec<Line>>, Violation> {
    if cfg!(not(unix)) {
        return Err(Violation::new("this rule needs the processes of Unix"));
    }
    let (factory, place) = (factory.clone(), place.clone());
    let run = tokio::task::spawn_blocking(move || run_blocking(&factory, part, &place, count));
    let told = run.await;
    told.map_err(|panic| Violation::new(format!("a panic: {panic}")))?
}

fn run_blocking(
    factory: &StoreFactory,
    part: &str,
    place: &Place,
    count: u64,
) -> Result<Vec<Vec<Line>>, Violation> {
    let mut children = Vec::new();
    for seed in 1..=count {
        let mut process = Process::start(factory, part, place, seed)?;
        let lines = listen(&mut process)?;
        children.push((process, lines));
    }
    for (_, lines) in &children {
        match lines.recv_timeout(PATIENCE) {
            Ok(Line::Ready) => {}
            Ok(line) => return Err(Violation::new(format!("a child began with `{line}`"))),
            Err(_) => return Err(Violation::new("a child did not open the store")),
        }
    }
    let starts: Vec<_> = children
        .iter_mut()
        .map(|(process, _)| process.input())
        .collect();
    drop(starts);
    let mut all = Vec::new();
    for (_, lines) in &children {
        let mut told: Vec<Line> = Vec::new();
        while told.last() != Some(&Line::Finished) {
            match lines.recv_timeout(PATIENCE) {
                Ok(Line::Failed(why)) => return Err(Violation::new(why)),
                Ok(line) => told.push(line),
                Err(_) => return Err(Violation::new("a child ended early or hangs")),
            }
        }
        all.push(told);
    }
    Ok(all)
}
