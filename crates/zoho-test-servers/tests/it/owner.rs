//! Servers end with their owner, however that ends.

use std::fs::Permissions;
use std::io::{BufRead as _, BufReader};
use std::os::unix::fs::PermissionsExt as _;
use std::panic::{self, AssertUnwindSafe};
use std::process::{Command, Stdio};
use std::thread;

use zoho_test_servers::{MariaDb, Redis};

use crate::support::{listens, wait_until};

/// Set for the child process that is to be killed.
const CHILD: &str = "ZOHO_TEST_SERVERS_CHILD";

#[test]
fn redis_ends_when_its_owner_panics() {
    let mut port = 0;
    let panicked = panic::catch_unwind(AssertUnwindSafe(|| {
        let server = Redis::start().unwrap();
        port = server.port();
        panic::resume_unwind(Box::new("the owner's own trouble"));
    }));
    assert!(panicked.is_err() && port != 0);
    assert!(!listens(port));
}

/// The kernel takes the thread for the parent; a server belongs to the process.
#[test]
fn redis_outlives_the_thread_that_started_it() {
    let server = thread::spawn(|| Redis::start().unwrap()).join().unwrap();
    assert_eq!(server.command(&["PING"]).unwrap(), "PONG\n");
}

/// Not a test of its own: the process that owns servers until it is killed.
#[test]
fn child_that_owns_servers() {
    #[expect(clippy::disallowed_methods, reason = "how a test talks to its child")]
    if std::env::var_os(CHILD).is_none() {
        return;
    }
    let redis = Redis::start().unwrap();
    let mariadb = MariaDb::start().unwrap();
    println!("\nports {} {}", redis.port(), mariadb.port());
    thread::park();
}

/// Nobody runs `Drop` when the owner is killed; the kernel ends the servers. One of them runs as
/// another user when we are root.
#[test]
#[cfg(target_os = "linux")]
fn redis_and_mariadb_end_when_their_owner_is_killed() {
    // What is left of their folders is removed with this one, which all may enter.
    let folders = tempfile::Builder::new()
        .permissions(Permissions::from_mode(0o755))
        .tempdir()
        .unwrap();
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "owner::child_that_owns_servers", "--nocapture"])
        .env(CHILD, "1")
        .env("TMPDIR", folders.path())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let ports: Vec<u16> = lines
        .map_while(Result::ok)
        .find_map(|line| {
            let ports = line.strip_prefix("ports ")?.split(' ');
            Some(ports.map(|port| port.parse().unwrap()).collect())
        })
        .unwrap();
    assert!(ports.iter().all(|&port| listens(port)));
    child.kill().unwrap();
    child.wait().unwrap();
    for port in ports {
        wait_until(|| !listens(port));
    }
}
