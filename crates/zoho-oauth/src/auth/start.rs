//! From a credential to a stored record. What Zoho has to be asked for is in `login`.

use std::sync::Arc;

use super::access::Issued;
use super::cache::{CacheEntry, Hints};
use super::event::Event;
use super::inner::Inner;
use super::login::login;
use super::login_credential::Login;
use super::naming::{fits, known};
use crate::clock::Timestamp;
use crate::credential::{AccessCredential, Credential};
use crate::error::{Error, ErrorCode, Result};
use crate::query::TokenQuery;
use crate::text;
use crate::token::{OAuthToken, TokenId, UserName};

/// Returns the entry of the record that `credential` leads to, which is stored then.
pub(super) async fn start(inner: &Arc<Inner>, credential: Credential) -> Result<Arc<CacheEntry>> {
    match credential {
        Credential::Stored(id) => stored(inner, id).await,
        Credential::User(name) => user(inner, name).await,
        Credential::Access(access) => bare_access(inner, access).await,
        Credential::Grant(grant) => login(inner, Login::Grant(grant)).await,
        Credential::Refresh(refresh) => login(inner, Login::Refresh(refresh, None)).await,
    }
}

async fn stored(inner: &Inner, id: TokenId) -> Result<Arc<CacheEntry>> {
    let asked = Timestamp::now();
    match inner.store.find_token_by_id(id).await? {
        Some(record) => inner.entry_of(&record, Hints::default(), asked),
        None => Err(Error::new(
            ErrorCode::LoginRequired,
            format!("no record {id} is stored"),
        )),
    }
}

async fn user(inner: &Inner, name: UserName) -> Result<Arc<CacheEntry>> {
    let asked = Timestamp::now();
    let Some(record) = by_name(inner, &name).await? else {
        return Err(Error::new(
            ErrorCode::LoginRequired,
            "no token is stored for this user",
        ));
    };
    let entry = inner.entry_of(&record, Hints::default(), asked)?;
    if inner.client.is_none() {
        inner.users.insert(name, Arc::clone(&entry));
    }
    Ok(entry)
}

/// The user's record under the client of this authenticator, if it has one.
///
/// Else a record that belongs to no client: a bare access token, which the application or an
/// official SDK stored under the user's name. It is looked for each time, since a login that comes
/// later goes before it.
async fn by_name(inner: &Inner, name: &UserName) -> Result<Option<OAuthToken>> {
    let query = TokenQuery::user_name(name.clone());
    if let Some(client) = &inner.client {
        let own = query.clone().with_client(client.id.clone());
        if let Some(record) = inner.store.find_token(&own).await? {
            return Ok(Some(record));
        }
    }
    let found = inner.store.find_token(&query).await?;
    Ok(found.filter(|record| inner.client.is_none() || record.client_id.is_none()))
}

async fn bare_access(inner: &Arc<Inner>, access: AccessCredential) -> Result<Arc<CacheEntry>> {
    if let Some(domain) = &access.api_domain {
        text::check("API domain", domain)?;
    }
    let query = TokenQuery::access_token(access.token.clone());
    let asked = Timestamp::now();
    let found = inner.store.find_token(&query).await?;
    if let Some(record) = found.filter(|record| fits(record, access.user_name.as_ref())) {
        return known(inner, &record, Hints::default(), access.user_name, asked).await;
    }
    if let Some(name) = &access.user_name {
        // What is stored for the user outlives the caller's access token, if it can be renewed.
        let found = by_name(inner, name).await?;
        if let Some(record) = found.filter(|record| record.refresh_token.is_some()) {
            return inner.entry_of(&record, Hints::default(), asked);
        }
    }
    let mut record = OAuthToken::new();
    record.access_token = Some(access.token);
    record.user_name = access.user_name;
    record.api_domain = access.api_domain;
    let id = inner.store.save_token(&record).await?;
    inner.tell(Event::LoggedIn { id });
    // The record may be one that was there before, with another access token in hand.
    let asked = Timestamp::now();
    let stored = inner.store.find_token_by_id(id).await?;
    let stored = stored.filter(|stored| stored.access_token == record.access_token);
    record.id = Some(id);
    let record = stored.unwrap_or(record);
    let entry = inner.entry_of(&record, Hints::default(), asked)?;
    if let Some(issued) = Issued::of(&record, None, &inner.policy, asked) {
        entry.publish(issued);
    }
    Ok(entry)
}
