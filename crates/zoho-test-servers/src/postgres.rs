//! PostgreSQL.

use std::path::PathBuf;

use rustix::process::Signal;

use crate::error::Result;
use crate::home::{Account, Home};
use crate::options::Options;
use crate::port::Port;
use crate::process;
use crate::programs;
use crate::service::{Service, arguments};

/// `postgres` comes with Debian's package.
const USERS: &[&str] = &["postgres", "nobody"];
/// The user that owns everything in the server.
const OWNER: &str = "postgres";

/// A PostgreSQL server with one user, `postgres`, that has no password. Its locale is `C`, its
/// encoding UTF-8.
#[derive(Debug)]
pub struct Postgres {
    service: Service,
    client: Client,
    port: Port,
}

impl Postgres {
    /// Starts one.
    ///
    /// # Errors
    /// When a program is missing, or the server ends before it answers.
    pub fn start() -> Result<Self> {
        Self::start_with(&Options::new())
    }

    /// Starts one with further arguments, with TLS, or with own rules for who may log in.
    ///
    /// # Errors
    /// See [`Postgres::start`].
    pub fn start_with(options: &Options) -> Result<Self> {
        let initdb = programs::needed("initdb")?;
        // Where the others are beside it, and not what leads there.
        let initdb = initdb.canonicalize().unwrap_or(initdb);
        let beside = |name| initdb.with_file_name(name);
        let home = Home::new(Account::other_than_root(USERS)?)?;
        let port = Port::reserve()?;
        let data = home.path().join("data");
        install(&initdb, &home)?;
        let mut all = arguments([
            "-D".to_owned(),
            data.to_string_lossy().into_owned(),
            "-p".to_owned(),
            port.number().to_string(),
        ]);
        let mut set = |setting: String| all.extend(arguments(["-c".to_owned(), setting]));
        set("listen_addresses=127.0.0.1".to_owned());
        set(format!("unix_socket_directories={}", home.path().display()));
        // In the data folder, where it goes away with the rest.
        set("dynamic_shared_memory_type=mmap".to_owned());
        if let Some(tls) = &options.tls {
            let (certificate, key) = home.write_tls(tls)?;
            set("ssl=on".to_owned());
            set(format!("ssl_cert_file={certificate}"));
            set(format!("ssl_key_file={key}"));
        }
        if let Some(rules) = &options.hba {
            let rules = format!("local all all trust\n{rules}\n");
            let file = home.write("pg_hba.conf", &rules)?;
            set(format!("hba_file={}", file.display()));
        }
        all.extend_from_slice(&options.arguments);
        let client = Client {
            program: psql(beside("psql"))?,
            host: home.path().to_string_lossy().into_owned(),
            port: port.number(),
        };
        let program = options
            .program
            .clone()
            .unwrap_or_else(|| beside("postgres"));
        let service = Service::new("PostgreSQL", program, all, home);
        let mut server = Self {
            service,
            client,
            port,
        };
        server.restart()?;
        Ok(server)
    }

    /// `postgres://postgres@127.0.0.1:PORT/postgres`
    pub fn url(&self) -> String {
        url(&self.port)
    }

    /// The port of 127.0.0.1 that it listens on; the same after a restart.
    pub fn port(&self) -> u16 {
        self.port.number()
    }

    /// Runs a statement as `postgres` in the database `postgres`, over the server's own socket, and
    /// returns the rows: one a line, tabs between the columns, no heading. Several statements are
    /// one transaction.
    ///
    /// # Errors
    /// What the server has to say against it; that it does not run.
    pub fn sql(&self, statement: &str) -> Result<String> {
        self.client.sql(statement)
    }

    /// SIGKILL to all of the server's processes; returns when they are gone. What it acknowledged
    /// is on disk.
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

    /// Lets it go on after [`Postgres::pause`].
    pub fn resume(&self) {
        self.service.resume();
    }
}

/// By itself it takes along its piece of shared memory, which no folder holds.
impl Drop for Postgres {
    fn drop(&mut self) {
        self.service.resume();
        self.service.end(Signal::QUIT);
    }
}

fn install(initdb: &std::path::Path, home: &Home) -> Result<()> {
    let data = home.path().join("data");
    let arguments = [
        "--pgdata",
        &data.to_string_lossy(),
        "--username",
        OWNER,
        "--auth=trust",
        "--encoding=UTF8",
        "--locale=C",
        // Only what is there before the first start is not flushed.
        "--no-sync",
    ];
    process::run(initdb, &arguments, Some(home))?;
    Ok(())
}

/// The client of the same version, else any: Debian's on `PATH` is a script that looks for one.
fn psql(beside: PathBuf) -> Result<PathBuf> {
    if beside.is_file() {
        Ok(beside)
    } else {
        programs::needed("psql")
    }
}

pub(crate) fn url(port: &Port) -> String {
    format!("postgres://{OWNER}@127.0.0.1:{}/postgres", port.number())
}

/// The program `psql`.
#[derive(Debug)]
pub(crate) struct Client {
    program: PathBuf,
    /// An address, or the folder of the server's socket.
    host: String,
    port: u16,
}

impl Client {
    /// The same program over TCP, for what listens there in the server's place.
    pub(crate) fn over_tcp(server: &Postgres, port: u16) -> Self {
        Self {
            program: server.client.program.clone(),
            host: "127.0.0.1".to_owned(),
            port,
        }
    }

    fn sql(&self, statement: &str) -> Result<String> {
        let arguments = [
            "--no-psqlrc",
            "--no-password",
            "--quiet",
            "--tuples-only",
            "--no-align",
            "--field-separator=\t",
            "--set=ON_ERROR_STOP=1",
            &format!("--host={}", self.host),
            &format!("--port={}", self.port),
            &format!("--username={OWNER}"),
            "--dbname=postgres",
            &format!("--command={statement}"),
        ];
        process::run(&self.program, &arguments, None)
    }

    pub(crate) fn answers(&self) -> bool {
        self.sql("SELECT 1").is_ok()
    }
}
