//! MariaDB, alone.

use std::ffi::OsString;
use std::path::PathBuf;

use crate::error::Result;
use crate::home::{Account, Home};
use crate::options::Options;
use crate::port::Port;
use crate::process;
use crate::programs;
use crate::service::{Service, arguments};

/// `mysql` comes with Debian's package.
const USERS: &[&str] = &["mysql", "nobody"];

/// A MariaDB server. Its root has no password and may log in over TCP; there is no other user.
#[derive(Debug)]
pub struct MariaDb {
    service: Service,
    client: Client,
    port: Port,
}

impl MariaDb {
    /// Starts one.
    ///
    /// # Errors
    /// When a program is missing, or the server ends before it answers.
    pub fn start() -> Result<Self> {
        Self::start_with(&Options::new())
    }

    /// Starts one with further arguments, or with TLS.
    ///
    /// # Errors
    /// See [`MariaDb::start`].
    pub fn start_with(options: &Options) -> Result<Self> {
        let home = home()?;
        install(&home)?;
        let port = Port::reserve()?;
        let client = Client::new(&home)?;
        let arguments = server_arguments(&home, &port, options)?;
        let program = program(options)?;
        let service = Service::new("MariaDB", program, arguments, home);
        let mut server = Self {
            service,
            client,
            port,
        };
        server.restart()?;
        Ok(server)
    }

    /// `mysql://root@127.0.0.1:PORT`
    pub fn url(&self) -> String {
        url(&self.port)
    }

    /// The port of 127.0.0.1 that it listens on; the same after a restart.
    pub fn port(&self) -> u16 {
        self.port.number()
    }

    /// Runs statements as root, over the server's own socket, and returns the rows: one a line,
    /// tabs between the columns, no heading.
    ///
    /// # Errors
    /// What the server has to say against it; that it does not run.
    pub fn sql(&self, statements: &str) -> Result<String> {
        self.client.sql(statements)
    }

    /// SIGKILL; returns when the server is gone. What it acknowledged is on disk.
    pub fn kill(&mut self) {
        self.service.kill();
    }

    /// Starts it again on its port and its data; kills it first if it runs.
    ///
    /// # Errors
    /// When the server ends before it answers.
    pub fn restart(&mut self) -> Result<()> {
        self.service.start(&[], || self.client.answers())
    }

    /// Stops the server where it is: connections stay open and nothing answers.
    pub fn pause(&self) {
        self.service.pause();
    }

    /// Lets it go on after [`MariaDb::pause`].
    pub fn resume(&self) {
        self.service.resume();
    }
}

pub(crate) fn home() -> Result<Home> {
    Home::new(Account::other_than_root(USERS)?)
}

pub(crate) fn data(home: &Home) -> PathBuf {
    home.path().join("data")
}

pub(crate) fn program(options: &Options) -> Result<PathBuf> {
    options
        .program
        .clone()
        .map_or_else(|| programs::needed("mariadbd"), Ok)
}

pub(crate) fn url(port: &Port) -> String {
    format!("mysql://root@127.0.0.1:{}", port.number())
}

fn socket(home: &Home) -> PathBuf {
    home.path().join("socket")
}

/// Makes the system's tables. Without the database `test`, and so without users that have no name:
/// they would come before users of a test's own.
pub(crate) fn install(home: &Home) -> Result<()> {
    let arguments = [
        "--no-defaults".to_owned(),
        format!("--datadir={}", data(home).display()),
        "--auth-root-authentication-method=normal".to_owned(),
        "--skip-test-db".to_owned(),
        "--skip-name-resolve".to_owned(),
    ];
    process::run(
        &programs::needed("mariadb-install-db")?,
        &arguments,
        Some(home),
    )?;
    Ok(())
}

/// Our arguments, then those of `options`.
pub(crate) fn server_arguments(
    home: &Home,
    port: &Port,
    options: &Options,
) -> Result<Vec<OsString>> {
    let mut all = arguments([
        "--no-defaults".to_owned(),
        format!("--datadir={}", data(home).display()),
        format!("--socket={}", socket(home).display()),
        format!("--pid-file={}", home.path().join("pid").display()),
        format!("--tmpdir={}", home.path().display()),
        "--bind-address=127.0.0.1".to_owned(),
        format!("--port={}", port.number()),
    ]);
    if let Some(tls) = &options.tls {
        let (certificate, key) = home.write_tls(tls)?;
        all.push(format!("--ssl-cert={certificate}").into());
        all.push(format!("--ssl-key={key}").into());
    }
    all.extend_from_slice(&options.arguments);
    Ok(all)
}

/// The client program, over the server's socket: it works whatever is asked of connections by TCP.
#[derive(Debug)]
pub(crate) struct Client {
    program: PathBuf,
    socket: PathBuf,
}

impl Client {
    pub(crate) fn new(home: &Home) -> Result<Self> {
        Ok(Self {
            program: programs::needed("mariadb")?,
            socket: socket(home),
        })
    }

    pub(crate) fn sql(&self, statements: &str) -> Result<String> {
        let arguments = [
            "--no-defaults",
            "--user=root",
            &format!("--socket={}", self.socket.display()),
            "--batch",
            "--skip-column-names",
            &format!("--execute={statements}"),
        ];
        process::run(&self.program, &arguments, None)
    }

    pub(crate) fn answers(&self) -> bool {
        self.socket.exists() && self.sql("SELECT 1").is_ok()
    }
}
