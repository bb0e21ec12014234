//! The servers that tests share, with Redis for all: it is there in a moment.

use std::io::{BufRead as _, BufReader, Read as _};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};

use crate::support::Stage;

/// In the tests' place: says where its Redis is and asks it something.
const TESTS: &str = r#"echo "redis=$ZOHO_TEST_REDIS"
redis-cli -u "$ZOHO_TEST_REDIS" PING"#;

const ONLY_REDIS: &[&str] = &["--without", "mysql,postgres,aws"];

fn with_redis(stage: &Stage, arguments: &[&str]) -> Command {
    let mut command = stage.xtask(arguments);
    command.args(ONLY_REDIS);
    command
}

/// Reads the child's stdout up to the address of its Redis, and returns `127.0.0.1:PORT`.
fn address(child: &mut Child) -> String {
    let stdout = child.stdout.take().expect("it is piped");
    let lines = BufReader::new(stdout).lines().map_while(Result::ok);
    let mut addresses = lines.filter_map(|line| Some(line.split_once("=redis://")?.1.to_owned()));
    addresses.next().expect("the address is told")
}

fn interrupt(child: &Child) {
    kill_process(Pid::from_child(child), Signal::INT).expect("it runs");
}

/// The tests find it running, and it ends with the run.
#[test]
fn a_shared_redis_answers_while_the_tests_run_and_ends_with_them() {
    let stage = Stage::new(TESTS);
    let output = with_redis(&stage, &["test", "--only", "doctests"])
        .output()
        .unwrap();
    let out = String::from_utf8_lossy(&output.stdout);
    assert!(out.contains("\nPONG\n"), "{out}");
    assert!(out.contains("\nservers    ok "), "{out}");
    let address = out.split_once("redis=redis://").unwrap().1;
    let address = address.lines().next().unwrap();
    assert!(TcpStream::connect(address).is_err());
}

/// Ctrl-C during the tests ends the servers too.
#[test]
fn an_interrupted_run_leaves_no_redis() {
    // Told by the program that is to be ended: a shell that starts another one after that may hear
    // of the Ctrl-C when the other can no longer.
    let stage = Stage::new(
        "echo \"is=$ZOHO_TEST_REDIS\" >\"$0.told\"
        exec tail -n +1 -f \"$0.told\"",
    );
    let mut child = with_redis(&stage, &["test", "--only", "doctests"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let address = address(&mut child);
    assert!(TcpStream::connect(&address).is_ok());
    interrupt(&child);
    assert_eq!(child.wait().unwrap().code(), Some(130));
    assert!(TcpStream::connect(&address).is_err());
}

/// By hand: the variables are printed for a shell, and Ctrl-C is the way to end.
#[test]
fn redis_runs_for_tests_by_hand_until_it_is_interrupted() {
    let stage = Stage::new("exit 1");
    let mut child = with_redis(&stage, &["servers"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let address = address(&mut child);
    assert!(TcpStream::connect(&address).is_ok());
    interrupt(&child);
    let mut told = String::new();
    child
        .stderr
        .take()
        .unwrap()
        .read_to_string(&mut told)
        .unwrap();
    assert!(child.wait().unwrap().success(), "{told}");
    assert!(told.contains("Ctrl-C ends them"), "{told}");
    assert!(TcpStream::connect(&address).is_err());
}

/// A server that does not start fails the run before anything else, with its log and the way
/// without.
#[test]
fn a_redis_that_does_not_start_fails_the_run() {
    let stage = Stage::new("echo started >&2");
    stage.program("redis-server", "echo 'out of everything'; exit 3");
    for task in [
        &["test", "--only", "doctests"][..],
        &["bench"],
        &["servers"],
    ] {
        let output = with_redis(&stage, task).output().unwrap();
        let told = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{told}");
        assert!(told.contains("    out of everything\n"), "{told}");
        let way = format!("`cargo xtask {} --without redis`\n", task[0]);
        assert!(
            told.ends_with(&way) && !told.contains("\nstarted"),
            "{told}"
        );
    }
}

/// A server that a person has is used, and its address is not shown.
#[test]
fn a_redis_that_is_there_already_is_used() {
    let stage = Stage::new(r#"[ "$ZOHO_TEST_REDIS" = redis://:secret@10.0.0.1 ] && echo used"#);
    stage.program("redis-server", "exit 3");
    let output = with_redis(&stage, &["test", "--only", "doctests"])
        .env("ZOHO_TEST_REDIS", "redis://:secret@10.0.0.1")
        .output()
        .unwrap();
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{told}");
    assert!(output.stdout.starts_with(b"used\n"));
    assert!(
        told.contains("ZOHO_TEST_REDIS is set") && !told.contains("secret"),
        "{told}"
    );
}
