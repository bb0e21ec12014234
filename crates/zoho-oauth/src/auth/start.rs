//! From a credential to a stored record. What Zoho has to be asked for is in `login`.

use std::sync::Arc;
use std::time::Duration;

use super::Event;
use super::access::Issued;
use super::login::{
    Login, end_twin, login, plain_twin, same_environment, stored_as, tell_if_replaced,
};
use super::memory::{Memory, count};
use super::shared::Shared;
use super::slot::{Hints, Slot};
use super::turn::{acquire, release};
use crate::clock::Timestamp;
use crate::credential::{AccessCredential, Credential};
use crate::error::{Error, ErrorCode, Result};
use crate::query::TokenQuery;
use crate::store::{CoordinationKey, Memo};
use crate::text;
use crate::token::{OAuthToken, TokenId, UserName};

/// Returns the slot of the record that `credential` leads to, which is stored then.
pub(super) async fn start(shared: &Arc<Shared>, credential: Credential) -> Result<Arc<Slot>> {
    match credential {
        Credential::Stored(id) => stored(shared, id).await,
        Credential::User(name) => user(shared, name).await,
        Credential::Access(access) => bare_access(shared, access).await,
        Credential::Grant(grant) => login(shared, Login::Grant(grant)).await,
        Credential::Refresh(refresh) => login(shared, Login::Refresh(refresh, None)).await,
    }
}

async fn stored(shared: &Shared, id: TokenId) -> Result<Arc<Slot>> {
    let asked = Timestamp::now();
    match shared.store.find_token_by_id(id).await? {
        Some(record) => shared.slot_of(&record, Hints::default(), asked),
        None => Err(Error::new(
            ErrorCode::LoginRequired,
            format!("no record {id} is stored"),
        )),
    }
}

async fn user(shared: &Shared, name: UserName) -> Result<Arc<Slot>> {
    let asked = Timestamp::now();
    let Some(record) = by_name(shared, &name).await? else {
        return Err(Error::new(
            ErrorCode::LoginRequired,
            "no token is stored for this user",
        ));
    };
    let slot = shared.slot_of(&record, Hints::default(), asked)?;
    if shared.client.is_none() {
        shared.users.insert(name, Arc::clone(&slot));
    }
    Ok(slot)
}

/// The user's record under the client of this authenticator, if it has one.
///
/// Else a record that belongs to no client: a bare access token, which the application or an
/// official SDK stored under the user's name. It is looked for each time, since a login that comes
/// later goes before it.
async fn by_name(shared: &Shared, name: &UserName) -> Result<Option<OAuthToken>> {
    let query = TokenQuery::user_name(name.clone());
    if let Some(client) = &shared.client {
        let own = query.clone().with_client(client.id.clone());
        if let Some(record) = shared.store.find_token(&own).await? {
            return Ok(Some(record));
        }
    }
    let found = shared.store.find_token(&query).await?;
    Ok(found.filter(|record| shared.client.is_none() || record.client_id.is_none()))
}

async fn bare_access(shared: &Arc<Shared>, access: AccessCredential) -> Result<Arc<Slot>> {
    if let Some(domain) = &access.api_domain {
        text::check("API domain", domain)?;
    }
    let query = TokenQuery::access_token(access.token.clone());
    let asked = Timestamp::now();
    let found = shared.store.find_token(&query).await?;
    if let Some(record) = found.filter(|record| fits(record, access.user_name.as_ref())) {
        return known(shared, &record, Hints::default(), access.user_name, asked).await;
    }
    if let Some(name) = &access.user_name {
        // What is stored for the user outlives the caller's access token, if it can be renewed.
        let found = by_name(shared, name).await?;
        if let Some(record) = found.filter(|record| record.refresh_token.is_some()) {
            return shared.slot_of(&record, Hints::default(), asked);
        }
    }
    let mut record = OAuthToken::new();
    record.access_token = Some(access.token);
    record.user_name = access.user_name;
    record.api_domain = access.api_domain;
    let id = shared.store.save_token(&record).await?;
    shared.tell(Event::LoggedIn { id });
    // The record may be one that was there before, with another access token in hand.
    let asked = Timestamp::now();
    let stored = shared.store.find_token_by_id(id).await?;
    let stored = stored.filter(|stored| stored.access_token == record.access_token);
    record.id = Some(id);
    let record = stored.unwrap_or(record);
    let slot = shared.slot_of(&record, Hints::default(), asked)?;
    if let Some(issued) = Issued::of(&record, None, &shared.policy, asked) {
        slot.publish(issued);
    }
    Ok(slot)
}

/// Whether `record` can be the one that a credential of this user leads to. One with another name
/// is another login, also if it holds the same token.
pub(super) fn fits(record: &OAuthToken, name: Option<&UserName>) -> bool {
    name.is_none() || record.user_name.is_none() || record.user_name.as_ref() == name
}

/// The credential was used before: the store was asked for its record at `asked`. The name and the
/// secret that it carries may be newer.
pub(super) async fn known(
    shared: &Arc<Shared>,
    record: &OAuthToken,
    hints: Hints,
    given: Option<UserName>,
    asked: Timestamp,
) -> Result<Arc<Slot>> {
    let slot = shared.slot_of(record, hints, asked)?;
    if record.user_name.is_none() && given.is_some() {
        return name(shared, &slot, given).await;
    }
    Ok(slot)
}

/// Saves the user's name, which may turn out to belong to a record that was there before.
pub(super) async fn name(
    shared: &Arc<Shared>,
    slot: &Arc<Slot>,
    name: Option<UserName>,
) -> Result<Arc<Slot>> {
    let (shared, slot) = (Arc::clone(shared), Arc::clone(slot));
    // In a task of its own: what the store holds by then must be known here as well.
    let task = tokio::spawn(async move { name_in_turn(&shared, &slot, name).await });
    task.await.unwrap_or_else(|_| {
        let message = "saving a name ended without an answer";
        Err(Error::new(ErrorCode::Internal, message))
    })
}

async fn name_in_turn(
    shared: &Arc<Shared>,
    slot: &Arc<Slot>,
    name: Option<UserName>,
) -> Result<Arc<Slot>> {
    let mut named = OAuthToken::new();
    named.id = Some(slot.id);
    named.user_name = name;
    // Whose record it is, so that the store refuses the name if another login has the id by now.
    named.client_id = slot.client();
    let _turn = slot.work.lock().await;
    let record = shared.record_of(slot).await?;
    let of_user = OAuthToken {
        user_name: named.user_name.clone(),
        ..record.clone()
    };
    let other = another_of_user(shared, &of_user).await?;
    if let Some(other) = &other {
        same_environment(shared, other, &record)?;
    }
    let hint = slot.hints().center;
    let twin = match shared.center_of(&record, hint.as_ref()) {
        Ok(center) => plain_twin(shared, &of_user, &center).await?,
        Err(_) => None,
    };
    let has_token = |row: &OAuthToken| row.refresh_token.is_some();
    if let Some(twin) = &twin
        && !has_token(&record)
        && !other.as_ref().is_some_and(has_token)
    {
        // Nothing but the record under the address holds it.
        named.refresh_token.clone_from(&twin.refresh_token);
        let secret = record
            .client_secret
            .as_ref()
            .or(twin.client_secret.as_ref());
        named.client_secret = secret.cloned();
    }
    let memo = counted(shared, slot, &record).await;
    let id = match shared.store.save_token(&named).await {
        Ok(id) => id,
        Err(error) if error.code() == ErrorCode::RecordDeleted => return Err(shared.gone(slot)),
        Err(error) => return Err(error),
    };
    if id != slot.id {
        shared.forget(slot);
    }
    if let Some(other) = &other {
        tell_if_replaced(shared, other, &record);
    }
    let asked = Timestamp::now();
    let Some(record) = shared.store.find_token_by_id(id).await? else {
        return Err(shared.gone(slot));
    };
    if record.user_name != named.user_name {
        let message = format!("record {id} does not have the user name that was saved in it");
        return Err(Error::new(ErrorCode::StoreDamaged, message));
    }
    if let Some(twin) = twin.filter(|twin| twin.id != Some(id)) {
        end_twin(shared, &twin, &record).await;
    }
    let now_in = shared.slot_of(&record, slot.hints(), asked)?;
    if id != slot.id {
        // Its refresh token is in another record now, and what was made from it counts there.
        count(shared, &now_in, memo.minted_at, memo.credential.as_ref()).await;
    }
    Ok(now_in)
}

/// Another record than `record`, of the same user under the same client.
async fn another_of_user(shared: &Shared, record: &OAuthToken) -> Result<Option<OAuthToken>> {
    let (Some(name), Some(client)) = (&record.user_name, &record.client_id) else {
        return Ok(None);
    };
    let stored = stored_as(shared, name, client).await?;
    Ok(stored.filter(|stored| stored.id != record.id))
}

/// What is remembered of a record, by all who share the store as far as it can be seen: it goes with
/// the record.
async fn counted(shared: &Shared, slot: &Slot, record: &OAuthToken) -> Memo {
    let (own, _) = slot.memo();
    let key = CoordinationKey::record(slot.id);
    let permit = acquire(shared, &key, Duration::ZERO).await.ok().flatten();
    if permit.is_none() {
        return own;
    }
    let memory = Memory::new(shared, slot, permit.as_deref());
    let memo = memory.recall(record, Timestamp::now()).await;
    release(permit, None).await;
    memo.unwrap_or(own)
}
