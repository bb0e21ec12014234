//! The command `zoho`.

mod app;
mod commands;
mod error;
mod log;
mod printer;
mod store_url;

use std::process::ExitCode;

use clap::Parser as _;

#[tokio::main]
async fn main() -> ExitCode {
    app::App::parse().run().await
}
