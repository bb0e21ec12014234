//! The command line, and what every command has in common: Ctrl-C and the exit status.

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use tracing::Level;

use crate::commands::{demo, tokens};
use crate::error::{Failure, STATUSES};
use crate::log;
use crate::printer;

/// OAuth for Zoho: a person logs in once, and the token is always good.
#[derive(Debug, Parser)]
#[command(name = "zoho", version, after_long_help = STATUSES, arg_required_else_help = true)]
pub(crate) struct App {
    /// Show on standard error what is done; -vv shows more
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    verbose: u8,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Demo(demo::Args),
    /// The process that `demo` starts when it starts again. Not for people.
    #[command(hide = true)]
    DemoSecondStart(demo::second_start::Args),
    Tokens(tokens::Args),
}

impl App {
    /// Does what was asked for, and says why if it cannot.
    pub(crate) async fn run(self) -> ExitCode {
        let level = match &self.command {
            // It makes tokens end and be refused, and tells of that itself.
            Command::Demo(_) | Command::DemoSecondStart(_) => Level::ERROR,
            Command::Tokens(_) => Level::WARN,
        };
        log::start(level, self.verbose);
        let work = async {
            match self.command {
                Command::Demo(args) => demo::run(args).await,
                Command::DemoSecondStart(args) => demo::second_start::run(args).await,
                Command::Tokens(args) => tokens::run(args).await,
            }
        };
        // Whoever interrupts drops the work, which takes its temporary folder with it.
        let result = tokio::select! {
            // The signal is listened to before anything begins.
            biased;
            _ = tokio::signal::ctrl_c() => Err(Failure::interrupted()),
            result = work => result,
        };
        match result {
            Ok(()) => ExitCode::SUCCESS,
            Err(failure) => {
                printer::failure(&failure);
                failure.status().into()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_contradicts_itself_nowhere() {
        App::command().debug_assert();
    }
}
