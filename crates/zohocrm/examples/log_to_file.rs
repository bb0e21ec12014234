//! Write what the client does to a log file, at a level of your choice: what the official SDKs
//! call `Logger`. `cargo run --example log_to_file`, then look at `zohocrm.log`.
//!
//! Calls are logged with method, path, status, duration and the id of the stored token; never
//! with tokens, query strings, names or records.

use std::fs::OpenOptions;
use std::sync::Mutex;

use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use zoho_sandbox::Sandbox;
use zohocrm::ZohoCrm;
use zohocrm::oauth::{Credential, DataCenter, GrantToken, ListStore, OAuthClient};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let file = OpenOptions::new()
        .create(true)
        .append(true)
        .open("zohocrm.log")?;
    let to_file = tracing_subscriber::fmt::layer()
        .with_ansi(false)
        .with_writer(Mutex::new(file));
    let levels = Targets::new()
        .with_target("zohocrm", LevelFilter::DEBUG)
        .with_target("zoho_oauth", LevelFilter::INFO);
    tracing_subscriber::registry()
        .with(to_file)
        .with(levels)
        .init();

    let sandbox = Sandbox::builder().start().await?;
    let center = DataCenter::builder("sandbox", sandbox.accounts_url())
        .api_domain(sandbox.api_url())
        .build()?;
    let client = OAuthClient::new(sandbox.client_id(), sandbox.client_secret())?;
    let scopes = "ZohoCRM.modules.ALL,ZohoCRM.users.READ,ZohoCRM.org.READ";
    let code = GrantToken::new(sandbox.grant_code(&sandbox.people()[0], scopes))?;
    let crm = ZohoCrm::builder(center, Credential::grant(client, code), ListStore::new())
        .build()
        .await?;

    crm.org().get().await?;
    // One that is refused, so that the file shows that too.
    let refused = crm.records("Nowhere").list().fields(["id"]).send().await;
    tracing::info!(target: "zohocrm", error = ?refused.err(), "and one that was refused");
    Ok(())
}
