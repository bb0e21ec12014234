//! `zoho tokens`: what is in a store.

mod copy;

use crate::error::Result;
use crate::store_url;

/// Look after stored tokens
#[derive(Debug, clap::Args)]
#[command(after_long_help = store_url::HELP, arg_required_else_help = true)]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    Copy(copy::Args),
}

pub(crate) async fn run(args: Args) -> Result<()> {
    match args.command {
        Command::Copy(args) => copy::run(args).await,
    }
}
