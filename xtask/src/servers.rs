//! The servers that tests share: started side by side, stopped when the value is dropped.
//!
//! Tests learn the addresses from variables. One that is set already is a server that a person
//! has, a MySQL for instance, which Debian does not package: it is used as it is.

use clap::Args;

use crate::environment;
use crate::failure::{Failure, Result};
use crate::needs::{NEEDS, Need};
use crate::process;
use crate::provision::{self, Provided};
use crate::report;
use crate::workspace::Workspace;

/// What tests and benchmarks are told was switched off, separated by commas.
pub(crate) const WITHOUT: &str = "ZOHO_TEST_WITHOUT";

/// The needs that are servers, and the variables with their addresses.
const SHARED: &[(&str, &str)] = &[
    ("mysql", "ZOHO_TEST_MYSQL"),
    ("postgres", "ZOHO_TEST_POSTGRES"),
    ("redis", "ZOHO_TEST_REDIS"),
    ("aws", "ZOHO_TEST_AWS"),
];

/// Servers that run until this is dropped.
#[derive(Debug, Default)]
pub(crate) struct Servers {
    /// Each with the address of a server.
    variables: Vec<(&'static str, String)>,
    #[cfg(unix)]
    running: Vec<start::Server>,
}

impl Servers {
    /// Starts those of `needs` that are servers. `task` is ours that needs them.
    pub(crate) fn start(needs: &[&Need], provided: &Provided, task: &str) -> Result<Self> {
        let mut servers = Self::default();
        let mut missing = Vec::new();
        for &(name, variable) in SHARED {
            if !needs.iter().any(|need| need.name == name) {
                continue;
            }
            if environment::chosen_server(variable).is_some() {
                // Its address may hold a password, and the tests have it from us already.
                report::talk(format_args!("{variable} is set: its server is used"));
            } else {
                missing.push((name, variable));
            }
        }
        if !missing.is_empty() {
            servers.start_missing(&missing, provided, task)?;
        }
        Ok(servers)
    }

    pub(crate) fn variables(&self) -> &[(&'static str, String)] {
        &self.variables
    }

    #[cfg(unix)]
    fn start_missing(
        &mut self,
        missing: &[(&'static str, &'static str)],
        provided: &Provided,
        task: &str,
    ) -> Result<()> {
        let (mut failed, mut told) = (Vec::new(), Vec::new());
        for ((name, variable), outcome) in missing.iter().zip(start::all(missing, provided)) {
            match outcome {
                Ok((address, server)) => {
                    self.variables.push((variable, address));
                    self.running.push(server);
                }
                Err(error) => {
                    failed.push(*name);
                    told.push(format!("the server `{name}` cannot be started: {error}"));
                }
            }
        }
        if process::interrupted() {
            return Err(Failure::interrupted());
        }
        if failed.is_empty() {
            return Ok(());
        }
        let way = provision::without(task, failed.into_iter());
        Err(Failure::new(told.join("\n")).with_hint(format!("go without: {way}")))
    }

    #[cfg(not(unix))]
    fn start_missing(
        &mut self,
        missing: &[(&'static str, &'static str)],
        _: &Provided,
        task: &str,
    ) -> Result<()> {
        let variables: Vec<_> = missing.iter().map(|(_, variable)| *variable).collect();
        let way = provision::without(task, missing.iter().map(|(name, _)| *name));
        let failure = Failure::new("servers for tests are started on Unix only");
        Err(failure.with_hint(format!(
            "set {} to servers that you have, or go without: {way}",
            variables.join(", ")
        )))
    }
}

#[cfg(unix)]
mod start {
    use std::fmt;
    use std::thread;

    use zoho_test_servers::{MariaDb, Moto, Options, Postgres, Redis, Result};

    use crate::needs::MOTO_SERVER;
    use crate::provision::Provided;

    /// A running server, whichever it is.
    pub(super) struct Server(#[expect(dead_code, reason = "held to be dropped")] Box<dyn Send>);

    impl fmt::Debug for Server {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("Server")
        }
    }

    /// Starts all at once, since each of them waits more than it works.
    pub(super) fn all(
        names: &[(&'static str, &'static str)],
        provided: &Provided,
    ) -> Vec<Result<(String, Server)>> {
        thread::scope(|scope| {
            let starts: Vec<_> = names
                .iter()
                .map(|(name, _)| scope.spawn(|| one(name, provided)))
                .collect();
            starts
                .into_iter()
                .map(|start| start.join().expect("starting a server does not panic"))
                .collect()
        })
    }

    fn one(name: &str, provided: &Provided) -> Result<(String, Server)> {
        // Tests run side by side, and each has a pool or two.
        Ok(match name {
            "mysql" => {
                let options = Options::new().arguments(["--max-connections=1000"]);
                let server = MariaDb::start_with(&options)?;
                (server.url(), Server(Box::new(server)))
            }
            "postgres" => {
                let options = Options::new().arguments(["-c", "max_connections=500"]);
                let server = Postgres::start_with(&options)?;
                (server.url(), Server(Box::new(server)))
            }
            "redis" => {
                let server = Redis::start()?;
                (server.url(), Server(Box::new(server)))
            }
            _ => {
                let program = provided.iter().find(|(name, _)| *name == MOTO_SERVER);
                let options = program
                    .iter()
                    .fold(Options::new(), |options, (_, path)| options.program(path));
                let server = Moto::start_with(&options)?;
                (server.url(), Server(Box::new(server)))
            }
        })
    }
}

#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Leave out a server; may be given several times
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    without: Vec<String>,
}

/// `cargo xtask servers`: starts them, prints the variables, and waits for Ctrl-C.
pub(crate) fn run(options: &Options) -> Result<bool> {
    let workspace = Workspace::load()?;
    let (servers, _) = provided_and_started(&options.without, "servers", &workspace)?;
    for (variable, address) in servers.variables() {
        report::result(format_args!("export {variable}={address}"));
    }
    report::talk("the servers run; Ctrl-C ends them");
    process::wait_until_interrupted();
    Ok(true)
}

/// Brings and starts all servers but those that a person left out.
pub(crate) fn provided_and_started(
    without: &[String],
    task: &str,
    workspace: &Workspace,
) -> Result<(Servers, Provided)> {
    let names: Vec<_> = SHARED.iter().map(|(name, _)| *name).collect();
    if let Some(unknown) = without.iter().find(|name| !names.contains(&name.as_str())) {
        return Err(
            Failure::new(format!("`--without {unknown}`: no such server"))
                .with_hint(format!("the servers are {}", names.join(", "))),
        );
    }
    let needs: Vec<_> = NEEDS
        .iter()
        .filter(|need| names.contains(&need.name))
        .filter(|need| !without.iter().any(|name| name == need.name))
        .collect();
    let provided = provision::provide(&needs, task, &workspace.root, &workspace.scratch())?;
    let servers = Servers::start(&needs, &provided, task)?;
    Ok((servers, provided))
}
