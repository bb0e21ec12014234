//! The second start of the application: a process of its own, so that nothing can be left over in
//! memory. It is given the file and the user's name, no code and no token. The sandbox stays in
//! the first process, whose counts show what this one asked for.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use serde::{Deserialize, Serialize};
use tokio::process::Command;
use zohocrm::ZohoCrm;
use zohocrm::oauth::{Credential, SqliteStore, UserName};

use super::stage::{Stage, count, data_center};
use crate::error::{Failure, Result};
use crate::printer;

/// The name of the hidden command, as clap makes it from the variant.
const COMMAND: &str = "demo-second-start";

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[arg(long)]
    file: PathBuf,
    #[arg(long)]
    user: String,
    #[arg(long)]
    accounts_url: String,
    #[arg(long)]
    api_url: String,
}

/// What the second process tells the first one.
#[derive(Debug, Deserialize, Serialize)]
struct Report {
    leads: u64,
}

/// The second process.
pub(crate) async fn run(args: Args) -> Result<()> {
    let center = data_center(&args.accounts_url, &args.api_url)?;
    let user = Credential::User(UserName::new(args.user)?);
    let store = SqliteStore::open(&args.file)?;
    let crm = ZohoCrm::builder(center, user, store).build().await?;
    let leads = count(&crm.records("Leads")).await?;
    printer::json(&Report { leads })
}

/// Starts the second process and returns how many leads it read.
pub(super) async fn start(stage: &Stage, file: &Path, user: &UserName) -> Result<u64> {
    let program = std::env::current_exe()
        .map_err(|error| Failure::new(format!("this program cannot find itself: {error}")))?;
    let output = Command::new(&program)
        .arg(COMMAND)
        .arg("--file")
        .arg(file)
        .args(["--user", user.as_str()])
        .args(["--accounts-url", stage.center.accounts_url()])
        .args([
            "--api-url",
            stage.sandbox.center(stage.center.name()).api_url(),
        ])
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .kill_on_drop(true)
        .output()
        .await
        .map_err(|error| Failure::new(format!("cannot start `{}`: {error}", program.display())))?;
    if !output.status.success() {
        let status = output.status;
        return Err(Failure::new(format!(
            "the second process failed ({status})"
        )));
    }
    let report: Report = serde_json::from_slice(&output.stdout)
        .map_err(|error| Failure::new(format!("the second process said nothing: {error}")))?;
    Ok(report.leads)
}
