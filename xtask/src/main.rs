//! `cargo xtask`: what a person runs to test and to measure the whole project.
//!
//! `test` brings what the tests need and runs everything; `bench` runs the benchmarks and sets
//! ours beside what people use today; `servers` starts what both share, for tests run by hand.
//! Start reading at [`test::run`].

mod bench;
mod counts;
mod environment;
mod failure;
mod needs;
mod process;
mod provision;
mod report;
mod servers;
mod test;
mod workspace;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Tests and measures the project.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Arguments {
    #[command(subcommand)]
    task: Task,
}

#[derive(Debug, Subcommand)]
enum Task {
    /// Brings what the tests need and runs everything.
    Test(test::Options),
    /// Runs the benchmarks and prints ours beside the baselines'.
    Bench(bench::Options),
    /// Starts the servers that tests share and runs until Ctrl-C.
    Servers(servers::Options),
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let outcome = process::end_children_with_us().and_then(|()| match arguments.task {
        Task::Test(options) => test::run(&options),
        Task::Bench(options) => bench::run(&options),
        Task::Servers(options) => servers::run(&options),
    });
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(failure) => {
            report::failure(&failure);
            ExitCode::from(failure.exit_status())
        }
    }
}
