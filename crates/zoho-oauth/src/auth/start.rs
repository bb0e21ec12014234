//! From a credential to a stored record.

use std::sync::{Arc, PoisonError};

use tokio::sync::watch;

use super::Event;
use super::refresh::{acquire, not_saved};
use super::shared::Shared;
use super::slot::{Hints, Slot};
use crate::accounts::TokenAnswer;
use crate::clock::Timestamp;
use crate::credential::{AccessCredential, Credential, GrantCredential, RefreshCredential};
use crate::data_center::DataCenter;
use crate::error::{Error, ErrorCode, Result};
use crate::query::TokenQuery;
use crate::secret::Fingerprint;
use crate::store::CoordinationKey;
use crate::token::{OAuthToken, TokenId, UserName};

/// A login under way; everybody who starts from the same credential waits for its outcome.
pub(crate) type Starting = watch::Receiver<Option<Result<Arc<Slot>>>>;

/// Returns the slot of the record that `credential` leads to, which is stored then.
pub(crate) async fn start(shared: &Arc<Shared>, credential: Credential) -> Result<Arc<Slot>> {
    match credential {
        Credential::Stored(id) => stored(shared, id).await,
        Credential::User(name) => user(shared, &name).await,
        Credential::Access(access) => bare_access(shared, access).await,
        Credential::Grant(grant) => login(shared, Login::Grant(grant)).await,
        Credential::Refresh(refresh) => login(shared, Login::Refresh(refresh)).await,
    }
}

async fn stored(shared: &Shared, id: TokenId) -> Result<Arc<Slot>> {
    match shared.store.find_token_by_id(id).await? {
        Some(record) => shared.slot_of(&record, Hints::default()),
        None => Err(Error::new(
            ErrorCode::LoginRequired,
            format!("no record {id} is stored"),
        )),
    }
}

async fn user(shared: &Shared, name: &UserName) -> Result<Arc<Slot>> {
    match shared.store.find_token(&shared.query_of(name)).await? {
        Some(record) => shared.slot_of(&record, Hints::default()),
        None => Err(Error::new(
            ErrorCode::LoginRequired,
            "no token is stored for this user",
        )),
    }
}

async fn bare_access(shared: &Shared, access: AccessCredential) -> Result<Arc<Slot>> {
    let query = TokenQuery::access_token(access.token.clone());
    let mut found = shared.store.find_token(&query).await?;
    if let (None, Some(name)) = (&found, &access.user_name) {
        // What is stored for the user outlives the caller's access token, if it can be renewed.
        let by_name = shared.store.find_token(&shared.query_of(name)).await?;
        found = by_name.filter(|record| record.refresh_token.is_some());
    }
    if let Some(record) = found {
        return shared.slot_of(&record, Hints::default());
    }
    let mut record = OAuthToken::new();
    record.access_token = Some(access.token);
    record.user_name = access.user_name;
    record.api_domain = access.api_domain;
    let id = shared.store.save_token(&record).await?;
    record.id = Some(id);
    shared.tell(Event::LoggedIn { id });
    shared.slot_of(&record, Hints::default())
}

/// The two credentials that Zoho turns into tokens.
#[derive(Clone, Debug)]
enum Login {
    Grant(GrantCredential),
    Refresh(RefreshCredential),
}

impl Login {
    fn hints(&self) -> Hints {
        let (client, center) = match self {
            Self::Grant(grant) => (&grant.client, &grant.data_center),
            Self::Refresh(refresh) => (&refresh.client, &refresh.data_center),
        };
        Hints {
            user_name: None,
            client: Some(client.clone()),
            center: center.clone(),
        }
    }

    /// Names the credential for all who start from it, in every process.
    fn fingerprint(&self) -> Fingerprint {
        match self {
            Self::Grant(grant) => Fingerprint::of(&[
                "grant",
                grant.client.id.as_str(),
                grant.code.expose_secret(),
            ]),
            Self::Refresh(refresh) => Fingerprint::of(&[
                "refresh",
                refresh.client.id.as_str(),
                refresh.token.expose_secret(),
            ]),
        }
    }

    fn query(&self) -> TokenQuery {
        match self {
            Self::Grant(grant) => {
                TokenQuery::grant_token(grant.code.clone()).with_client(grant.client.id.clone())
            }
            Self::Refresh(refresh) => TokenQuery::refresh_token(refresh.token.clone())
                .with_client(refresh.client.id.clone()),
        }
    }

    /// The record as the credential knows it, without what Zoho is yet to say.
    fn record(&self) -> OAuthToken {
        let mut record = OAuthToken::new();
        let client = match self {
            Self::Grant(grant) => {
                record.grant_token = Some(grant.code.clone());
                record.user_name.clone_from(&grant.user_name);
                &grant.client
            }
            Self::Refresh(refresh) => {
                record.refresh_token = Some(refresh.token.clone());
                record.user_name.clone_from(&refresh.user_name);
                &refresh.client
            }
        };
        record.client_id = Some(client.id.clone());
        record.client_secret = Some(client.secret.clone());
        record.redirect_url.clone_from(&client.redirect_uri);
        record
    }

    /// The data center that the credential belongs to.
    fn center<'a>(&'a self, shared: &'a Shared) -> &'a DataCenter {
        let named = match self {
            Self::Grant(grant) => grant.data_center.as_ref(),
            Self::Refresh(refresh) => refresh.data_center.as_ref(),
        };
        named.unwrap_or(&shared.center)
    }

    async fn ask(&self, shared: &Shared) -> Result<TokenAnswer> {
        let center = self.center(shared);
        match self {
            Self::Grant(grant) => {
                let verifier = grant.code_verifier.as_ref();
                shared
                    .accounts
                    .exchange(center, &grant.client, &grant.code, verifier)
                    .await
            }
            Self::Refresh(refresh) => {
                let client = &refresh.client;
                shared
                    .accounts
                    .refresh(center, &client.id, &client.secret, &refresh.token)
                    .await
            }
        }
    }
}

async fn login(shared: &Arc<Shared>, login: Login) -> Result<Arc<Slot>> {
    if let Some(record) = shared.store.find_token(&login.query()).await? {
        return known(shared, &login, record).await;
    }
    let mut outcome = join_or_begin(shared, &login);
    let answer = outcome.wait_for(Option::is_some).await;
    match answer.as_deref() {
        Ok(Some(result)) => result.clone(),
        _ => Err(Error::new(
            ErrorCode::Internal,
            "the login ended without an answer: its runtime was shut down",
        )),
    }
}

/// The credential was used before. The name and the secret that it carries may be newer.
async fn known(shared: &Shared, login: &Login, record: OAuthToken) -> Result<Arc<Slot>> {
    let slot = shared.slot_of(&record, login.hints())?;
    let given = login.record();
    if record.user_name.is_none() && given.user_name.is_some() {
        return name(shared, &slot, given.user_name).await;
    }
    Ok(slot)
}

fn join_or_begin(shared: &Arc<Shared>, login: &Login) -> Starting {
    let key = login.fingerprint();
    let mut starts = shared.starts.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(under_way) = starts
        .get(&key)
        .filter(|flight| flight.has_changed().is_ok())
    {
        return under_way.clone();
    }
    let (sender, receiver) = watch::channel(None);
    starts.insert(key.clone(), receiver.clone());
    drop(starts);
    let (shared, login) = (Arc::clone(shared), login.clone());
    tokio::spawn(async move {
        let outcome = begin(&shared, &login, &key).await;
        let mut starts = shared.starts.lock().unwrap_or_else(PoisonError::into_inner);
        starts.remove(&key);
        drop(starts);
        // Nobody may be waiting.
        let _ = sender.send(Some(outcome));
    });
    receiver
}

/// Turns the credential into a stored record. Runs in a task of its own: the grant token works
/// once, so whoever asked must not take the answer with him when he goes.
#[tracing::instrument(name = "zoho_login", level = "debug", skip_all)]
async fn begin(shared: &Shared, login: &Login, key: &Fingerprint) -> Result<Arc<Slot>> {
    let key = CoordinationKey::start(key);
    let _permit = acquire(shared, &key, shared.policy.patience).await?;
    if let Some(record) = shared.store.find_token(&login.query()).await? {
        return known(shared, login, record).await;
    }
    let answer = login.ask(shared).await?;
    let mut record = login.record();
    record.access_token = Some(answer.access_token);
    record.expiry_time = Some(answer.expires_at);
    record.api_domain = answer.api_domain;
    if let Some(refresh_token) = answer.refresh_token {
        record.refresh_token = Some(refresh_token);
    }
    let center = login.center(shared);
    if record.refresh_token.is_none() && !renewable(shared, &record, center).await? {
        return Err(Error::new(
            ErrorCode::RefreshTokenMissing,
            "Zoho issued an access token without a refresh token, so nothing was stored",
        )
        .with_unsaved_token(record));
    }
    let id = match shared.store.save_token(&record).await {
        Ok(id) => id,
        Err(error) => return Err(not_saved(&error, record)),
    };
    tracing::info!(%id, expires_at = %answer.expires_at, "logged in");
    shared.tell(Event::LoggedIn { id });
    // The record may be one that was there before, with more in it than was just saved.
    let stored = shared.store.find_token_by_id(id).await;
    let record = stored.ok().flatten().unwrap_or(OAuthToken {
        id: Some(id),
        ..record
    });
    let slot = shared.slot_of(&record, login.hints())?;
    let now = Timestamp::now();
    if record.expiry_time == Some(answer.expires_at)
        && let Some(issued) =
            super::slot::Issued::of(&record, Some(answer.life), &shared.policy, now)
    {
        slot.publish(issued);
    }
    Ok(slot)
}

/// Whether the store has a refresh token for the login that `record` belongs to.
///
/// One of another data center is of no use: the row would join a token of one center to the
/// address of another.
async fn renewable(shared: &Shared, record: &OAuthToken, center: &DataCenter) -> Result<bool> {
    let (Some(name), Some(client)) = (&record.user_name, &record.client_id) else {
        return Ok(false);
    };
    let query = TokenQuery::user_name(name.clone()).with_client(client.clone());
    let stored = shared.store.find_token(&query).await?;
    Ok(stored.is_some_and(|stored| {
        let at = shared.center_of(&stored, Some(center));
        stored.refresh_token.is_some() && at.has_accounts_url(center.accounts_url())
    }))
}

/// Saves the user's name, which may turn out to belong to a record that was there before.
pub(crate) async fn name(
    shared: &Shared,
    slot: &Arc<Slot>,
    name: Option<UserName>,
) -> Result<Arc<Slot>> {
    let mut named = OAuthToken::new();
    named.id = Some(slot.id);
    named.user_name = name;
    let _turn = slot.work.lock().await;
    let id = match shared.store.save_token(&named).await {
        Ok(id) => id,
        Err(error) if error.code() == ErrorCode::RecordDeleted => return Err(shared.gone(slot)),
        Err(error) => return Err(error),
    };
    if id != slot.id {
        shared.forget(slot);
    }
    match shared.store.find_token_by_id(id).await? {
        Some(record) => shared.slot_of(&record, slot.hints()),
        None => Err(shared.gone(slot)),
    }
}
