//! `zoho demo`: the whole story of a login on a sandbox, told and checked.
//!
//! Start with [`run`]. [`parts`] does what is told, [`measured`] holds the numbers and what is
//! claimed of them, [`second_start`] is the second process.

mod claim;
mod measured;
mod parts;
pub(crate) mod second_start;
mod stage;
mod story;

use std::path::PathBuf;
use std::time::Instant;

use serde::Serialize;

use self::claim::Claim;
use self::measured::{End, Expiry, Leads, Login, Restart, TASKS};
use self::stage::{LIFE, Stage};
use self::story::Story;
use crate::error::Result;
use crate::printer::{self, Printer};

/// Log in, let the token end, start again, revoke: the whole story, on a sandbox
///
/// Needs nothing: no account, no network, no server, since the sandbox runs inside this program. Everything it says is measured, and the exit
/// status is 1 if any of it did not happen.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Keep the SQLite file, and say where it is
    #[arg(long)]
    keep: bool,
    /// Make the demo's folder in DIR, not in the system's temporary folder
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// Print what was measured as one JSON object; the story goes to standard error
    #[arg(long)]
    json: bool,
}

/// The object that `--json` prints.
#[derive(Debug, Serialize)]
struct Report {
    ok: bool,
    seconds: f64,
    access_token_life_seconds: u64,
    tasks: u64,
    login: Login,
    leads: Leads,
    expiry: Expiry,
    restart: Restart,
    end: End,
    claims: Vec<Claim>,
    /// Where the file was kept.
    file: Option<String>,
}

/// Tells the story.
pub(crate) async fn run(args: Args) -> Result<()> {
    let printer = if args.json {
        Printer::on_stderr()
    } else {
        Printer::on_stdout()
    };
    let mut story = Story::new(printer);
    let stage = Stage::set_up(args.data_dir.as_deref(), args.keep).await?;
    let report = tell(&mut story, &stage, args.keep).await?;
    if args.json {
        printer::json(&report)?;
    }
    story.verdict()
}

async fn tell(story: &mut Story, stage: &Stage, keep: bool) -> Result<Report> {
    let started = Instant::now();
    let life = LIFE.as_secs();
    story.say("Zoho is played by a sandbox inside this program; nothing leaves this computer.")?;
    story.say(&format!(
        "Access tokens live {life} seconds here instead of an hour, so that one can end."
    ))?;

    story.part("1. A person logs in, once")?;
    story.tell(&format!(
        "{} agrees on Zoho's page and comes back with a code. The",
        stage.email
    ))?;
    story.tell("application exchanges it for tokens and stores them in a SQLite file.")?;
    let (crm, user, login) = parts::log_in(stage).await?;
    let id = crm.token_id();
    story.check(login.claims())?;

    story.part("2. The application reads and writes leads")?;
    let leads = parts::read_and_write(&crm).await?;
    story.check(leads.claims())?;

    story.part(&format!(
        "3. The access token ends while {TASKS} tasks want one at once"
    ))?;
    let (old, wait) = parts::time_left(&crm).await?;
    story.tell(&format!(
        "Waiting {:.1} seconds for its end. Nobody asks meanwhile: no early renewal.",
        wait.as_secs_f64()
    ))?;
    let expiry = parts::expire(stage, &crm, &old, wait).await?;
    story.check(expiry.claims())?;

    story.part("4. The application ends, and starts again from the file")?;
    // The last handle: the connections to the file are closed.
    drop(crm);
    story.tell("A second process is given the file and the person's name; no code, no token.")?;
    let restart = parts::start_again(stage, &user, leads.read_afterwards).await?;
    story.check(restart.claims())?;
    story.tell(match restart.refreshes {
        0 => "The access token in the file was still good, and was used.",
        _ => "The access token in the file had ended; the refresh token beside it got a new one.",
    })?;

    story.part("5. The login is revoked, at Zoho and in the file")?;
    let end = parts::revoke(stage, id).await?;
    story.check(end.claims())?;

    let time = started.elapsed();
    story.summary(time)?;
    let file = keep.then(|| stage.file().display().to_string());
    if let Some(file) = &file {
        story.say(&format!("The file is kept: `{file}`"))?;
    }
    Ok(Report {
        ok: story.verdict().is_ok(),
        seconds: (time.as_secs_f64() * 10.0).round() / 10.0,
        access_token_life_seconds: life,
        tasks: TASKS,
        login,
        leads,
        expiry,
        restart,
        end,
        claims: story.claims().to_vec(),
        file,
    })
}
