//! The command line.

use std::path::PathBuf;
use std::time::Duration;

use clap::Parser;
use zoho_sandbox::{Sandbox, SandboxBuilder};

use crate::config_file;

/// Zoho's accounts server and CRM on your own machine, for tests and demos.
///
/// Everything is invented: no request leaves this machine, and nothing is kept when it ends.
#[derive(Debug, Parser)]
#[command(version)]
pub(crate) struct Args {
    /// Where the first data center listens; port 0 is any free port [default: 127.0.0.1:8025]
    #[arg(long, value_name = "HOST:PORT")]
    listen: Option<String>,
    /// ID of the default client
    #[arg(long, value_name = "ID")]
    client_id: Option<String>,
    /// Secret of the default client
    #[arg(long, value_name = "SECRET")]
    client_secret: Option<String>,
    /// Redirect URI of the default client
    #[arg(long, value_name = "URI")]
    redirect_uri: Option<String>,
    /// Life of access tokens
    #[arg(long, value_name = "SECONDS")]
    access_token_life: Option<u64>,
    /// Access tokens per refresh token in ten minutes; 0 for no limit
    #[arg(long, value_name = "N")]
    mint_limit: Option<u32>,
    /// Ask every record for the fields that are mandatory only in a layout
    #[arg(long)]
    require_layout_fields: bool,
    /// Memory that the log of requests takes; the oldest go first [default: 33554432]
    #[arg(long, value_name = "BYTES")]
    request_log_bytes: Option<usize>,
    /// More clients, people, organisations, data centers and rules (TOML)
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Print one line of JSON when ready, for programs
    #[arg(long)]
    pub(crate) json: bool,
}

/// Where the program listens unless it is told otherwise.
const LISTEN: &str = "127.0.0.1:8025";

impl Args {
    /// What the options and the file describe; options go before the file.
    pub(crate) fn builder(&self) -> Result<SandboxBuilder, String> {
        let mut builder = Sandbox::builder().listen(LISTEN);
        if let Some(path) = &self.config {
            builder = config_file::apply(path, builder)?;
        }
        if let Some(address) = &self.listen {
            builder = builder.listen(address);
        }
        if let Some(id) = &self.client_id {
            builder = builder.client_id(id);
        }
        if let Some(secret) = &self.client_secret {
            builder = builder.client_secret(secret);
        }
        if let Some(uri) = &self.redirect_uri {
            builder = builder.redirect_uri(uri);
        }
        if let Some(seconds) = self.access_token_life {
            builder = builder.access_token_life(Duration::from_secs(seconds));
        }
        if let Some(limit) = self.mint_limit {
            builder = builder.mint_limit(limit);
        }
        if self.require_layout_fields {
            builder = builder.require_layout_fields();
        }
        if let Some(bytes) = self.request_log_bytes {
            builder = builder.request_log_bytes(bytes);
        }
        Ok(builder)
    }
}
