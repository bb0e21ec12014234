//! Redis.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, TcpStream};
use std::time::Duration;

use crate::error::Result;
use crate::home::Home;
use crate::options::Options;
use crate::port::Port;
use crate::process;
use crate::programs;
use crate::service::{Service, arguments};

/// How long an answer to `PING` may take before it is asked again.
const ANSWER: Duration = Duration::from_secs(5);

/// A Redis server that flushes its append-only file with each command: what it acknowledged is on
/// disk. `["--appendonly", "no"]` in [`Options::arguments`] makes it one that forgets.
#[derive(Debug)]
pub struct Redis {
    service: Service,
    port: Port,
    tls_port: Option<Port>,
}

impl Redis {
    /// Starts one.
    ///
    /// # Errors
    /// When the program is missing, or it ends before it answers.
    pub fn start() -> Result<Self> {
        Self::start_with(&Options::new())
    }

    /// Starts one with further arguments, or with TLS on a second port.
    ///
    /// # Errors
    /// See [`Redis::start`].
    pub fn start_with(options: &Options) -> Result<Self> {
        let program = options
            .program
            .clone()
            .map_or_else(|| programs::needed("redis-server"), Ok)?;
        let home = Home::new(None)?;
        let port = Port::reserve()?;
        let mut tls_port = None;
        let mut all = arguments([
            "--port",
            &port.number().to_string(),
            "--bind",
            "127.0.0.1",
            "--dir",
            &home.path().to_string_lossy(),
            "--save",
            "",
            "--appendonly",
            "yes",
            "--appendfsync",
            "always",
        ]);
        if let Some(tls) = &options.tls {
            let port = tls_port.insert(Port::reserve()?);
            let (certificate, key) = home.write_tls(tls)?;
            all.extend(arguments([
                "--tls-port",
                &port.number().to_string(),
                "--tls-cert-file",
                &certificate,
                "--tls-key-file",
                &key,
                "--tls-auth-clients",
                "no",
            ]));
        }
        all.extend_from_slice(&options.arguments);
        let service = Service::new("Redis", program, all, home);
        let mut server = Self {
            service,
            port,
            tls_port,
        };
        server.restart()?;
        Ok(server)
    }

    /// `redis://127.0.0.1:PORT`
    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port())
    }

    /// The port of 127.0.0.1 that it listens on; the same after a restart.
    pub fn port(&self) -> u16 {
        self.port.number()
    }

    /// The port that speaks TLS, if [`Options::tls`] was given.
    pub fn tls_port(&self) -> Option<u16> {
        self.tls_port.as_ref().map(Port::number)
    }

    /// Sends a command with `redis-cli` and returns its answer, as that prints it for programs.
    ///
    /// # Errors
    /// When the program is missing or the server does not run. An answer that is an error is
    /// returned as one.
    pub fn command(&self, words: &[&str]) -> Result<String> {
        let port = self.port().to_string();
        let options = ["-e", "-h", "127.0.0.1", "-p", &port];
        let program = programs::needed("redis-cli")?;
        process::run(&program, &[&options[..], words].concat(), None)
    }

    /// SIGKILL; returns when the server is gone.
    pub fn kill(&mut self) {
        self.service.kill();
    }

    /// Starts it again on its port and its data; kills it first if it runs.
    ///
    /// # Errors
    /// When the server ends before it answers.
    pub fn restart(&mut self) -> Result<()> {
        let port = self.port();
        self.service.start(&[], || answers(port))
    }

    /// Stops the server where it is: connections stay open and nothing answers.
    pub fn pause(&self) {
        self.service.pause();
    }

    /// Lets it go on after [`Redis::pause`].
    pub fn resume(&self) {
        self.service.resume();
    }
}

/// Whether the server takes commands. While it reads its file it answers with `-LOADING`; one that
/// wants a password (`-NOAUTH`) is ready.
fn answers(port: u16) -> bool {
    let ask = || {
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
        stream.set_read_timeout(Some(ANSWER))?;
        stream.write_all(b"PING\r\n")?;
        let mut answer = [0; 5];
        stream.read_exact(&mut answer)?;
        Ok::<_, std::io::Error>(answer)
    };
    ask().is_ok_and(|answer| matches!(&answer, b"+PONG" | b"-NOAU"))
}
