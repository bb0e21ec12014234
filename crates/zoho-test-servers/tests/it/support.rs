//! What the tests of several servers use.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, TcpStream};
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use tempfile::TempDir;
use zoho_test_servers::find_program;

/// How long something may take that happens in another process.
const LONGEST: Duration = Duration::from_mins(1);

/// Whether somebody listens on the port.
pub(crate) fn listens(port: u16) -> bool {
    TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_ok()
}

/// Looks again until `there` says yes.
pub(crate) fn wait_until(there: impl Fn() -> bool) {
    let deadline = Instant::now() + LONGEST;
    while !there() {
        assert!(Instant::now() < deadline, "it did not come to it");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// A connection to Redis that speaks for itself.
#[derive(Debug)]
pub(crate) struct Connection(TcpStream);

impl Connection {
    pub(crate) fn open(port: u16) -> Self {
        Self(TcpStream::connect((Ipv4Addr::LOCALHOST, port)).expect("it listens"))
    }

    pub(crate) fn send_ping(&mut self) {
        self.0.write_all(b"PING\r\n").expect("it is connected");
    }

    /// Whether the answer comes in this time.
    pub(crate) fn hears_pong(&mut self, patience: Duration) -> bool {
        self.0
            .set_read_timeout(Some(patience))
            .expect("it is not zero");
        let mut answer = [0; 7];
        self.0
            .read_exact(&mut answer)
            .is_ok_and(|()| &answer == b"+PONG\r\n")
    }
}

/// A certificate for 127.0.0.1 that is its own authority, also in a file.
#[derive(Debug)]
pub(crate) struct Certificate {
    pub(crate) chain: String,
    pub(crate) key: String,
    folder: TempDir,
}

impl Certificate {
    pub(crate) fn new() -> Self {
        let made = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()])
            .expect("a name and a key are all it takes");
        let folder = tempfile::tempdir().expect("a folder of our own");
        let chain = made.cert.pem();
        std::fs::write(folder.path().join("ca.pem"), &chain).expect("it can be written");
        Self {
            chain,
            key: made.signing_key.serialize_pem(),
            folder,
        }
    }

    pub(crate) fn file(&self) -> PathBuf {
        self.folder.path().join("ca.pem")
    }
}

/// A server's client program, found as the crate finds it.
pub(crate) fn client(program: &str) -> Command {
    Command::new(find_program(program).expect("it is installed"))
}

/// What a client prints when it succeeds.
pub(crate) fn printed(command: &mut Command) -> String {
    let output = command.output().expect("it can be run");
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout)
        .expect("it prints text")
        .trim()
        .to_owned()
}
