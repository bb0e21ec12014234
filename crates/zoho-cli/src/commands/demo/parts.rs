//! The five parts of the demo. Each does something, and returns what was measured meanwhile.

use std::collections::HashSet;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Barrier;
use tokio::task::JoinSet;
use zohocrm::oauth::{
    AccessToken, Authenticator, Callback, Credential, DataCenters, ErrorCode, ListStore,
    LoginRequest, SqliteStore, Timestamp, TokenId, UserName,
};
use zohocrm::{Record, ZohoCrm};

use super::measured::{End, Expiry, Leads, Login, Restart, TASKS};
use super::second_start;
use super::stage::{LIFE, SCOPES, Stage, count};
use crate::error::{Failure, Result};

/// Sends the person through the login, stores what comes back, and returns the application's
/// client with the name that it filed the login under.
pub(crate) async fn log_in(stage: &Stage) -> Result<(ZohoCrm, UserName, Login)> {
    let before = stage.counts();
    // What a web application does: send the person away with one URL, and take what comes back
    // under another.
    let request = LoginRequest::new(stage.client.clone(), stage.center.clone(), SCOPES);
    let (url, pending) = request.begin()?;
    let returned_to = stage.sandbox.authorize(&url, &stage.email)?;
    let callback = Callback::from_url(&returned_to)?;
    let grant = pending.accept(&callback, &DataCenters::known())?;

    let store = SqliteStore::open(stage.file())?;
    let crm = ZohoCrm::builder(stage.center.clone(), grant, store)
        .build()
        .await?;
    if let Some(error) = crm.find_user_error() {
        return Err(error.clone().into());
    }
    let name = crm
        .user_name()
        .ok_or_else(|| Failure::new("the login has no user name"))?;

    let found = crm.authenticator().session(name.clone()).await?;
    let records = crm.authenticator().store().get_tokens().await?;
    let login = Login {
        code_exchanges: stage.counts().code_exchanges_ok - before.code_exchanges_ok,
        records_in_file: records.len() as u64,
        found_by_user_name: found.id() == crm.token_id() && is_of(&name, &stage.email),
        file_is_private: is_private(&stage.file())?,
    };
    Ok((crm, name, login))
}

/// Reads leads, writes one, and reads again.
pub(crate) async fn read_and_write(crm: &ZohoCrm) -> Result<Leads> {
    const NAME: &str = "Quill";
    let leads = crm.records("Leads");
    let read = count(&leads).await?;
    let lead = Record::new()
        .with("Last_Name", NAME)
        .with("Company", "Lantern Works");
    let mut written = Vec::new();
    for result in leads.create([lead]).send().await? {
        written.push(result.map_err(zohocrm::Error::from)?);
    }
    let mut read_back = false;
    if let Some(new) = written.first() {
        let new = leads.get(new.id().clone()).send().await?;
        read_back = new.and_then(|new| new.text("Last_Name")).as_deref() == Some(NAME);
    }
    Ok(Leads {
        read,
        created: written.len() as u64,
        new_one_read_back: read_back,
        read_afterwards: count(&leads).await?,
    })
}

/// Returns the token in use, and how long it is until it has ended, by Zoho's clock too.
pub(crate) async fn time_left(crm: &ZohoCrm) -> Result<(AccessToken, Duration)> {
    /// The token's end is reckoned from when the answer came, Zoho's from when it was sent.
    const LATER: Duration = Duration::from_millis(250);
    loop {
        let access = crm.session().access_token().await?;
        let end = access
            .expires_at()
            .ok_or_else(|| Failure::new("the access token has no end"))?;
        let left = end.since(Timestamp::now());
        // From three quarters of its life on, asking for a token has it renewed in the background.
        // A machine so slow that it comes to that here takes the next token.
        if left > LIFE / 3 {
            return Ok((access.token().clone(), left + LATER));
        }
        tokio::time::sleep(left).await;
    }
}

/// Waits until `old` has ended, then lets all tasks ask at once.
pub(crate) async fn expire(
    stage: &Stage,
    crm: &ZohoCrm,
    old: &AccessToken,
    wait: Duration,
) -> Result<Expiry> {
    tokio::time::sleep(wait).await;
    let shown = stage.counts();
    let taken = stage.try_out(old).await?;
    let refused = stage.counts().api_unauthorized - shown.api_unauthorized;

    let before = stage.counts();
    let mut tasks = JoinSet::new();
    let together = Arc::new(Barrier::new(usize::try_from(TASKS).unwrap_or(usize::MAX)));
    for _ in 0..TASKS {
        let (crm, together) = (crm.clone(), Arc::clone(&together));
        tasks.spawn(async move {
            together.wait().await;
            let access = crm.session().access_token().await?;
            let leads = crm
                .records("Leads")
                .list()
                .fields(["Last_Name"])
                .per_page(1);
            let page = leads.send().await?;
            Ok::<_, zohocrm::Error>((access.token().fingerprint(), page.items().len()))
        });
    }
    let mut served = 0;
    let mut tokens = HashSet::new();
    while let Some(ended) = tasks.join_next().await {
        let ended = ended.map_err(|error| Failure::new(format!("a task died: {error}")))?;
        let (token, leads) = ended?;
        tokens.insert(token);
        served += u64::from(leads > 0);
    }
    let after = stage.counts();
    Ok(Expiry {
        waited_ms: u64::try_from(wait.as_millis()).unwrap_or(u64::MAX),
        old_token_refused: if taken { 0 } else { refused },
        tasks_served: served,
        calls_refused: after.api_unauthorized - before.api_unauthorized,
        different_tokens: tokens.len() as u64,
        token_is_new: !tokens.contains(&old.fingerprint()),
        refreshes: after.refreshes_ok + after.refreshes_failed
            - before.refreshes_ok
            - before.refreshes_failed,
    })
}

/// Starts the application again, in a process that has the file and the name alone.
pub(crate) async fn start_again(
    stage: &Stage,
    user: &UserName,
    leads_before: u64,
) -> Result<Restart> {
    let before = stage.counts();
    let leads_read = second_start::start(stage, &stage.file(), user).await?;
    let after = stage.counts();
    Ok(Restart {
        leads_before,
        leads_read,
        code_exchanges: after.code_exchanges_ok + after.code_exchanges_failed
            - before.code_exchanges_ok
            - before.code_exchanges_failed,
        refreshes: after.refreshes_ok - before.refreshes_ok,
    })
}

/// Revokes the login, from the file, and then tries what was revoked.
pub(crate) async fn revoke(stage: &Stage, id: TokenId) -> Result<End> {
    let store = SqliteStore::open(stage.file())?;
    let authenticator = Authenticator::builder(store)
        .data_center(stage.center.clone())
        .build()?;
    let session = authenticator.session(id).await?;
    let access = session.access_token().await?;
    let record = authenticator.store().find_token_by_id(id).await?;
    let refresh_token = record
        .and_then(|record| record.refresh_token)
        .ok_or_else(|| Failure::new("the stored login has no refresh token"))?;
    let access_token_worked = stage.try_out(access.token()).await?;

    let before = stage.counts();
    session.revoke().await?;
    let records_in_file = authenticator.store().get_tokens().await?.len() as u64;

    let access_taken = stage.try_out(access.token()).await?;
    let alone = Authenticator::builder(ListStore::new())
        .data_center(stage.center.clone())
        .build()?;
    let again = Credential::refresh(stage.client.clone(), refresh_token);
    let refresh_taken = match alone.session(again).await {
        Ok(_) => true,
        Err(error) if error.code() == ErrorCode::InvalidCode => false,
        Err(error) => return Err(error.into()),
    };
    let after = stage.counts();
    let access_refused = after.api_unauthorized - before.api_unauthorized;
    let refresh_refused = after.refreshes_failed - before.refreshes_failed;
    Ok(End {
        access_token_worked,
        revocations: after.revocations - before.revocations,
        access_token_refused: if access_taken { 0 } else { access_refused },
        refresh_token_refused: if refresh_taken { 0 } else { refresh_refused },
        records_in_file,
    })
}

/// Whether this is the name of the person with this address: `<email>:<organisation>`.
fn is_of(name: &UserName, email: &str) -> bool {
    let rest = name.as_str().strip_prefix(email);
    rest.is_some_and(|rest| rest.len() > 1 && rest.starts_with(':'))
}

/// Whether the file is its owner's alone, where the system tells by mode bits.
#[cfg(unix)]
fn is_private(path: &Path) -> Result<Option<bool>> {
    use std::os::unix::fs::PermissionsExt as _;

    let metadata = std::fs::metadata(path)
        .map_err(|error| Failure::new(format!("cannot look at `{}`: {error}", path.display())))?;
    Ok(Some(metadata.permissions().mode() & 0o777 == 0o600))
}

#[cfg(not(unix))]
#[expect(clippy::unnecessary_wraps, reason = "the same signature everywhere")]
fn is_private(_: &Path) -> Result<Option<bool>> {
    Ok(None)
}
