//! Redis servers of a test's own: with other settings, to be killed, or several of them.

use std::net::TcpListener;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use redis::Client;
use redis::aio::ConnectionManager;
use tempfile::TempDir;
use zoho_oauth::RedisStore;
use zoho_oauth::store::redis::RedisStoreBuilder;

/// A server, which is killed when this is dropped.
pub(super) struct Server {
    child: Child,
    pub(super) port: u16,
    pub(super) folder: TempDir,
    options: Vec<String>,
}

impl Server {
    /// Starts a server with further options, in pairs.
    pub(super) fn start(options: &[&str]) -> Self {
        // Between finding the port and using it another program can take it.
        for _ in 0..20 {
            let folder = tempfile::tempdir().unwrap();
            let port = free_port();
            let options: Vec<_> = options.iter().map(|&option| option.to_owned()).collect();
            let child = spawn(port, &folder, &options);
            let mut server = Self {
                child,
                port,
                folder,
                options,
            };
            if server.is_up() {
                return server;
            }
        }
        panic!("no Redis server can be started");
    }

    /// Waits until it answers anything at all; `false` if it ended instead.
    fn is_up(&mut self) -> bool {
        let client = Client::open(format!("redis://127.0.0.1:{}/", self.port)).unwrap();
        let began = Instant::now();
        while began.elapsed() < Duration::from_secs(20) {
            if self.child.try_wait().unwrap().is_some() {
                return false;
            }
            match client.get_connection() {
                Ok(_) => return true,
                Err(error) if error.kind() == redis::ErrorKind::AuthenticationFailed => {
                    return true;
                }
                _ => std::thread::sleep(Duration::from_millis(10)),
            }
        }
        false
    }

    /// Ends it with SIGKILL.
    pub(super) fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Starts it again after [`kill`](Self::kill), where and with what it was.
    pub(super) fn start_again(&mut self) {
        self.child = spawn(self.port, &self.folder, &self.options);
    }

    pub(super) fn builder(&self) -> RedisStoreBuilder {
        RedisStore::builder().port(self.port)
    }

    pub(super) async fn raw(&self) -> ConnectionManager {
        super::raw(("127.0.0.1", self.port)).await
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It can fail only if the server has ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub(super) fn free_port() -> u16 {
    // A node of a cluster listens on the port that is 10,000 above, too.
    loop {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        if let Some(bus) = port.checked_add(10_000)
            && TcpListener::bind(("127.0.0.1", bus)).is_ok()
        {
            return port;
        }
    }
}

fn spawn(port: u16, folder: &TempDir, options: &[String]) -> Child {
    Command::new("redis-server")
        .args(["--port", &port.to_string(), "--bind", "127.0.0.1"])
        .arg("--dir")
        .arg(folder.path())
        .args(["--loglevel", "warning", "--save", "", "--appendonly", "no"])
        .args(options)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("`redis-server` is installed: `cargo xtask test` does it")
}
