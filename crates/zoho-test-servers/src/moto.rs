//! moto, which answers in AWS's place.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, TcpStream};
use std::time::Duration;

use crate::error::Result;
use crate::home::Home;
use crate::options::Options;
use crate::port::Port;
use crate::programs;
use crate::service::{Service, arguments};

/// How long an answer may take before it is asked again: the first one loads much of moto.
const ANSWER: Duration = Duration::from_secs(10);

/// A server that answers as AWS does, with any credentials. All of it is in memory: a restart
/// forgets. It is laxer than AWS: it takes values over 64 KiB, keeps all versions, never throttles.
#[derive(Debug)]
pub struct Moto {
    service: Service,
    port: Port,
}

impl Moto {
    /// Starts one.
    ///
    /// # Errors
    /// When the program is missing, or it ends before it answers.
    pub fn start() -> Result<Self> {
        Self::start_with(&Options::new())
    }

    /// Starts one with further arguments.
    ///
    /// # Errors
    /// See [`Moto::start`].
    pub fn start_with(options: &Options) -> Result<Self> {
        let program = options
            .program
            .clone()
            .map_or_else(|| programs::needed("moto_server"), Ok)?;
        let home = Home::new(None)?;
        let port = Port::reserve()?;
        let mut all = arguments(["-H", "127.0.0.1", "-p", &port.number().to_string()]);
        all.extend_from_slice(&options.arguments);
        let service = Service::new("moto", program, all, home);
        let mut server = Self { service, port };
        server.restart()?;
        Ok(server)
    }

    /// The endpoint, `http://127.0.0.1:PORT`.
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port())
    }

    /// The port of 127.0.0.1 that it listens on; the same after a restart.
    pub fn port(&self) -> u16 {
        self.port.number()
    }

    /// SIGKILL; returns when the server is gone.
    pub fn kill(&mut self) {
        self.service.kill();
    }

    /// Starts it again on its port, empty; kills it first if it runs.
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

    /// Lets it go on after [`Moto::pause`].
    pub fn resume(&self) {
        self.service.resume();
    }
}

/// Whether moto's own page comes.
fn answers(port: u16) -> bool {
    let ask = || {
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
        stream.set_read_timeout(Some(ANSWER))?;
        write!(
            stream,
            "GET /moto-api/ HTTP/1.0\r\nHost: 127.0.0.1:{port}\r\n\r\n"
        )?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer)?;
        Ok::<_, std::io::Error>(answer)
    };
    ask().is_ok_and(|answer| answer.starts_with(b"HTTP/1.") && answer.get(8..12) == Some(b" 200"))
}
