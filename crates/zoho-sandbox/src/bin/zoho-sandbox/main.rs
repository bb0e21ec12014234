//! `zoho-sandbox`: the sandbox as a program of its own.

mod args;
mod config_file;
mod printer;

use std::process::ExitCode;

use clap::Parser as _;

use args::Args;

#[tokio::main]
async fn main() -> ExitCode {
    let args = Args::parse();
    tracing_subscriber::fmt()
        .with_env_filter(tracing_subscriber::EnvFilter::from_default_env())
        .with_writer(std::io::stderr)
        .init();
    let builder = match args.builder() {
        Ok(builder) => builder,
        Err(text) => {
            printer::error(&text);
            return ExitCode::from(2);
        }
    };
    let sandbox = match builder.start().await {
        Ok(sandbox) => sandbox,
        Err(error) => {
            printer::failure(&error);
            return ExitCode::FAILURE;
        }
    };
    // From here on a signal ends the program as it should; before, by default.
    let ended = wait_for_end();
    if args.json {
        printer::json(&sandbox);
    } else {
        printer::banner(&sandbox);
    }
    let status = match ended.await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            printer::failure(&error);
            ExitCode::FAILURE
        }
    };
    // Answers under way may be held back by a fault; nobody should wait for those.
    let grace = std::time::Duration::from_secs(2);
    let _ = tokio::time::timeout(grace, sandbox.stop()).await;
    status
}

/// Resolves on Ctrl-C, and on SIGTERM where there is one.
#[cfg(unix)]
fn wait_for_end() -> impl Future<Output = std::io::Result<()>> {
    use tokio::signal::unix::{SignalKind, signal};

    // Registered now, not when polled, so that no signal is missed in between.
    let signals = signal(SignalKind::interrupt())
        .and_then(|interrupt| Ok((interrupt, signal(SignalKind::terminate())?)));
    async move {
        let (mut interrupt, mut terminate) = signals?;
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
        Ok(())
    }
}

#[cfg(not(unix))]
fn wait_for_end() -> impl Future<Output = std::io::Result<()>> {
    tokio::signal::ctrl_c()
}
