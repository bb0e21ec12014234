//! Nothing that we started outlives us.

use std::io::{BufRead as _, BufReader, Read as _};
use std::process::Stdio;

use rustix::process::{Pid, Signal, kill_process};

use crate::support::Stage;

/// Ctrl-C reaches the programs that we started, and those that ignore it are killed.
#[test]
fn an_interrupted_run_leaves_nothing_running() {
    for (signal, part) in [
        (Signal::INT, "format"),
        (Signal::TERM, "format"),
        (Signal::INT, "doctests"),
    ] {
        let stage = Stage::new(
            "(trap '' INT TERM; echo ready >&2; while :; do sleep 1000; done) &
            wait",
        );
        let mut child = stage
            .xtask(&["test", "--only", part])
            .args(["--without", "mysql,postgres,redis,aws"])
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut talk = BufReader::new(child.stderr.take().unwrap());
        let mut line = String::new();
        while line.trim() != "ready" {
            line.clear();
            assert_ne!(
                talk.read_line(&mut line).unwrap(),
                0,
                "it ended before it was interrupted"
            );
        }
        kill_process(Pid::from_child(&child), signal).unwrap();
        assert_eq!(child.wait().unwrap().code(), Some(130));
        // The end comes when the last process that holds our stderr is gone.
        let mut rest = String::new();
        talk.read_to_string(&mut rest).unwrap();
        assert!(rest.contains("error: interrupted"), "{rest}");
    }
}

/// Nobody can catch SIGKILL: the kernel ends what we started.
#[cfg(target_os = "linux")]
#[test]
fn a_killed_run_leaves_nothing_running() {
    let stage = Stage::new("echo ready >&2; exec sleep 1000");
    let mut child = stage
        .xtask(&["test", "--only", "format"])
        .args(["--without", "mysql,postgres,redis,aws"])
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut talk = BufReader::new(child.stderr.take().unwrap());
    let mut line = String::new();
    while line.trim() != "ready" {
        line.clear();
        assert_ne!(talk.read_line(&mut line).unwrap(), 0, "it ended by itself");
    }
    kill_process(Pid::from_child(&child), Signal::KILL).unwrap();
    child.wait().unwrap();
    // The end comes when the last process that holds our stderr is gone.
    talk.read_to_string(&mut line).unwrap();
}
