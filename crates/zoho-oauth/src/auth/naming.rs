//! Which stored records are one login, and what happens when they become one.

use std::sync::Arc;
use std::time::Duration;

use super::cache::{CacheEntry, Hints};
use super::event::Event;
use super::inner::Inner;
use super::lock::{acquire, release};
use super::memory::{Memory, count};
use crate::clock::Timestamp;
use crate::data_center::DataCenter;
use crate::error::{Error, ErrorCode, Result};
use crate::query::TokenQuery;
use crate::store::{CoordinationKey, Fact, Kept, Memo};
use crate::token::{ClientId, OAuthToken, TokenId, UserName};

/// The number of records that are listed at a time.
const PAGE: usize = 1000;

/// Whether `record` can be the one that a credential of this user leads to. One with another name
/// is another login, also if it holds the same token.
pub(super) fn fits(record: &OAuthToken, name: Option<&UserName>) -> bool {
    name.is_none() || record.user_name.is_none() || record.user_name.as_ref() == name
}

/// The credential was used before: the store was asked for its record at `asked`. The name and the
/// secret that it carries may be newer.
pub(super) async fn known(
    inner: &Arc<Inner>,
    record: &OAuthToken,
    hints: Hints,
    given: Option<UserName>,
    asked: Timestamp,
) -> Result<Arc<CacheEntry>> {
    let entry = inner.entry_of(record, hints, asked)?;
    if record.user_name.is_none() && given.is_some() {
        return name(inner, &entry, given).await;
    }
    Ok(entry)
}

/// Saves the user's name, which may turn out to belong to a record that was there before.
pub(super) async fn name(
    inner: &Arc<Inner>,
    entry: &Arc<CacheEntry>,
    name: Option<UserName>,
) -> Result<Arc<CacheEntry>> {
    let (inner, entry) = (Arc::clone(inner), Arc::clone(entry));
    // In a task of its own: what the store holds by then must be known here as well.
    let task = tokio::spawn(async move { name_in_turn(&inner, &entry, name).await });
    task.await.unwrap_or_else(|_| {
        let message = "saving a name ended without an answer";
        Err(Error::new(ErrorCode::Internal, message))
    })
}

async fn name_in_turn(
    inner: &Arc<Inner>,
    entry: &Arc<CacheEntry>,
    name: Option<UserName>,
) -> Result<Arc<CacheEntry>> {
    let mut named = OAuthToken::new();
    named.id = Some(entry.id);
    named.user_name = name;
    // Whose record it is, so that the store refuses the name if another login has the id by now.
    named.client_id = entry.client();
    let _turn = entry.work.lock().await;
    let record = inner.record_of(entry).await?;
    let of_user = OAuthToken {
        user_name: named.user_name.clone(),
        ..record.clone()
    };
    let other = another_of_user(inner, &of_user).await?;
    if let Some(other) = &other {
        same_environment(inner, other, &record)?;
    }
    let hint = entry.hints().center;
    let twin = match inner.center_of(&record, hint.as_ref()) {
        Ok(center) => plain_twin(inner, &of_user, &center).await?,
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
    let memo = counted(inner, entry, &record).await;
    let id = match inner.store.save_token(&named).await {
        Ok(id) => id,
        Err(error) if error.code() == ErrorCode::RecordDeleted => return Err(inner.gone(entry)),
        Err(error) => return Err(error),
    };
    if id != entry.id {
        inner.forget(entry);
    }
    if let Some(other) = &other {
        tell_if_replaced(inner, other, &record);
    }
    let asked = Timestamp::now();
    let Some(record) = inner.store.find_token_by_id(id).await? else {
        return Err(inner.gone(entry));
    };
    if record.user_name != named.user_name {
        let message = format!("record {id} does not have the user name that was saved in it");
        return Err(Error::new(ErrorCode::StoreDamaged, message));
    }
    if let Some(twin) = twin.filter(|twin| twin.id != Some(id)) {
        end_twin(inner, &twin, &record).await;
    }
    let now_in = inner.entry_of(&record, entry.hints(), asked)?;
    if id != entry.id {
        // Its refresh token is in another record now, and what was made from it counts there.
        count(inner, &now_in, memo.minted_at, memo.credential.as_ref()).await;
    }
    Ok(now_in)
}

/// Another record than `record`, of the same user under the same client.
async fn another_of_user(inner: &Inner, record: &OAuthToken) -> Result<Option<OAuthToken>> {
    let (Some(name), Some(client)) = (&record.user_name, &record.client_id) else {
        return Ok(None);
    };
    let stored = stored_as(inner, name, client).await?;
    Ok(stored.filter(|stored| stored.id != record.id))
}

/// Returns what is remembered of a record, in the store if that can be read: it is deleted with the
/// record.
async fn counted(inner: &Inner, entry: &CacheEntry, record: &OAuthToken) -> Memo {
    let (own, _) = entry.memo();
    let key = CoordinationKey::record(entry.id);
    let permit = acquire(&inner.locks, &key, Duration::ZERO)
        .await
        .ok()
        .flatten();
    if permit.is_none() {
        return own;
    }
    let memory = Memory::new(inner, entry, permit.as_deref());
    let memo = memory.recall(record, Timestamp::now()).await;
    release(permit, None).await;
    memo.unwrap_or(own)
}

/// The record of a user under a client.
pub(super) async fn stored_as(
    inner: &Inner,
    name: &UserName,
    client: &ClientId,
) -> Result<Option<OAuthToken>> {
    let query = TokenQuery::user_name(name.clone()).with_client(client.clone());
    inner.store.find_token(&query).await
}

/// Whether what is stored belongs to `center`, which also counts if nothing says so.
pub(super) fn is_at(inner: &Inner, stored: &OAuthToken, center: &DataCenter) -> bool {
    let at = inner.center_of(stored, Some(center));
    at.is_ok_and(|at| at.has_accounts_url(center.accounts_url()))
}

/// Refuses to join the logins of one user to two environments, such as production and a sandbox: one
/// of them would be lost.
///
/// # Errors
/// `id_conflict`.
pub(super) fn same_environment(
    inner: &Inner,
    stored: &OAuthToken,
    login: &OAuthToken,
) -> Result<()> {
    let environment_of = |record: &OAuthToken| {
        let domain = record.api_domain.as_deref()?;
        let center = inner.centers.by_api_domain(domain)?;
        center.environment_of(domain)
    };
    match (environment_of(stored), environment_of(login)) {
        (Some(one), Some(other)) if one != other => {
            let id = stored.id.map(|id| format!(" {id}")).unwrap_or_default();
            let message = format!(
                "the stored record{id} of this user is a login to {one:?}, and this one is to {other:?}"
            );
            Err(Error::new(ErrorCode::IdConflict, message))
        }
        _ => Ok(()),
    }
}

/// Returns the record that older official SDKs made for the same login: they name a user by the
/// e-mail address alone, `ann@example.com`, and not `ann@example.com:<zgid>`.
///
/// It is the same login if it has the same refresh token. With another one it is, if it is of the
/// same client, data center and environment, and no other organisation of this address is stored
/// under the client.
pub(super) async fn plain_twin(
    inner: &Inner,
    record: &OAuthToken,
    center: &DataCenter,
) -> Result<Option<OAuthToken>> {
    let (Some(name), Some(client)) = (&record.user_name, &record.client_id) else {
        return Ok(None);
    };
    let is_zgid = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let parts = name.as_str().rsplit_once(':');
    let Some((address, _)) = parts.filter(|(address, zgid)| address.contains('@') && is_zgid(zgid))
    else {
        return Ok(None);
    };
    let twin = stored_as(inner, &UserName::received(address)?, client).await?;
    let is_known = |domain: &String| inner.known_center(domain).is_ok();
    let twin = twin.filter(|twin| twin.api_domain.as_ref().is_none_or(is_known));
    let twin = twin.filter(|twin| is_at(inner, twin, center));
    let Some(twin) = twin.filter(|twin| same_environment(inner, twin, record).is_ok()) else {
        return Ok(None);
    };
    if twin.refresh_token.is_some() && twin.refresh_token == record.refresh_token {
        return Ok(Some(twin));
    }
    let is_another = |row: &OAuthToken| {
        let organisation = row.user_name.as_ref().and_then(|name| {
            let rest = name.as_str().strip_prefix(address)?;
            rest.strip_prefix(':').filter(|zgid| is_zgid(zgid))
        });
        row.client_id.as_ref() == Some(client)
            && row.user_name.as_ref() != Some(name)
            && organisation.is_some()
    };
    let mut after = None;
    loop {
        let rows = match inner.store.get_tokens_page(after, PAGE).await {
            Ok(rows) => rows,
            Err(error) => {
                tracing::warn!(%error, "cannot see which other logins an e-mail address has");
                return Ok(None);
            }
        };
        if rows.iter().any(is_another) {
            return Ok(None);
        }
        // A record that cannot be read is left out, so a page that is not full may not be the last.
        match rows.last() {
            Some(last) if last.id > after => after = last.id,
            _ => return Ok(Some(twin)),
        }
    }
}

/// Whether a record is of the same user and client as before, with the same refresh token.
fn is_same_row(stored: &OAuthToken, before: &OAuthToken) -> bool {
    let key = |row: &OAuthToken| (row.user_name.clone(), row.client_id.clone());
    key(stored) == key(before) && stored.refresh_token == before.refresh_token
}

/// Deletes the record of [`plain_twin`], whose login is stored under its full name now, as `record`.
/// Should that fail, the next login does it. It stays if it holds another login by now, and if
/// `record` has no refresh token.
pub(super) async fn end_twin(inner: &Inner, twin: &OAuthToken, record: &OAuthToken) {
    let Some(id) = twin.id.filter(|_| record.refresh_token.is_some()) else {
        return;
    };
    let deleted = match inner.store.find_token_by_id(id).await {
        Ok(Some(stored)) if is_same_row(&stored, twin) => inner.store.delete_token(id).await,
        Ok(_) => return,
        Err(error) => Err(error),
    };
    match deleted {
        Ok(_) => {
            tell_if_replaced(inner, twin, record);
            tracing::info!(%id, "a record under the e-mail address joins the one with the full name");
            if let Some(entry) = inner.entries.get(&id) {
                inner.forget(&entry);
            }
            inner.tell(Event::Deleted { id });
        }
        Err(error) => {
            tracing::warn!(%id, %error, "cannot delete the record under the e-mail address");
        }
    }
}

/// Says so if `login` takes the place of a stored one with another refresh token.
pub(super) fn tell_if_replaced(inner: &Inner, stored: &OAuthToken, login: &OAuthToken) {
    let (Some(id), Some(old), Some(new)) = (stored.id, &stored.refresh_token, &login.refresh_token)
    else {
        return;
    };
    if old != new {
        tracing::info!(%id, "a login takes the place of the stored one of its user");
        inner.tell(Event::LoginReplaced { id });
    }
}

/// Saves a login in the place of `stored`, and of nothing that comes while it is saved.
pub(super) async fn save_over(
    inner: &Inner,
    stored: &OAuthToken,
    record: &OAuthToken,
) -> Result<TokenId> {
    let Some(id) = stored.id else {
        return inner.store.save_token(record).await;
    };
    let mut news = record.clone();
    news.id = Some(id);
    let fact = Fact::new(id, stored.clone(), news);
    if inner.store.save_fact(&fact).await? == Kept::Saved {
        return Ok(id);
    }
    let message = format!("record {id} changed at this very moment");
    Err(Error::new(ErrorCode::StoreLocked, message))
}

/// Gives a login that `center` issued without an API domain the one that it needs when it is joined
/// to the stored record.
///
/// # Errors
/// `unknown_data_center` when none is known.
pub(super) fn lead_back(
    inner: &Inner,
    center: &DataCenter,
    stored: &OAuthToken,
    record: &mut OAuthToken,
) -> Result<()> {
    if record.api_domain.is_none() {
        record.api_domain = inner.missing_domain(center, Some(stored))?;
    }
    Ok(())
}
