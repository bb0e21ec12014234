//! What Zoho issued and the store could not take is saved later, by one task for each.

use std::sync::Arc;
use std::time::Duration;

use super::cache::CacheEntry;
use super::decide::believed_end;
use super::event::Event;
use super::inner::Inner;
use super::login_credential::Login;
use super::memory::count;
use super::naming::{lead_back, same_environment, save_over, stored_as};
use crate::clock::Timestamp;
use crate::error::{Error, ErrorCode, Result};
use crate::store::{Fact, Kept};
use crate::token::{OAuthToken, TokenId};

/// The pause before the first attempt, and the longest one. Each is twice as long as the one before.
const FIRST_PAUSE: Duration = Duration::from_millis(250);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// What Zoho issued and the store does not hold yet.
pub(super) enum Unsaved {
    /// A new access token of a stored record, which is in use. It is given up when it ends or
    /// another one is in use.
    AccessToken(Arc<CacheEntry>, Fact),
    /// A new refresh token for a stored record. Only an error holds it, which perhaps no caller
    /// received, so it is saved or revoked.
    ///
    /// A fact brings back no deleted record and replaces nothing newer, so it does not matter if an
    /// application saves it too.
    RefreshToken(Arc<CacheEntry>, Fact),
    /// A login without a stored record that no caller received. It is saved, or revoked if the store
    /// holds a newer login of its user.
    Login(Login, OAuthToken),
}

/// Whether an attempt was the last one.
#[derive(PartialEq, Eq)]
enum Attempt {
    Done,
    Again,
}

/// Starts to save it, again and again until that is done.
pub(super) fn save_later(inner: &Arc<Inner>, unsaved: Unsaved) {
    let inner = Arc::clone(inner);
    tokio::spawn(async move {
        let mut pause = FIRST_PAUSE;
        loop {
            tokio::time::sleep(pause.mul_f64(0.5 + fastrand::f64())).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
            let attempt = match &unsaved {
                Unsaved::AccessToken(entry, fact) => access_token(&inner, entry, fact).await,
                Unsaved::RefreshToken(entry, fact) => refresh_token(&inner, entry, fact).await,
                Unsaved::Login(login, record) => new_login(&inner, login, record).await,
            };
            if attempt == Attempt::Done {
                return;
            }
        }
    });
}

async fn access_token(inner: &Inner, entry: &CacheEntry, fact: &Fact) -> Attempt {
    let news = fact.news();
    let has_ended = news.expiry_time.is_none_or(|end| end <= Timestamp::now());
    let in_hand = entry.in_hand();
    let in_use = in_hand.filter(|issued| Some(&issued.token) == news.access_token.as_ref());
    let Some(issued) = in_use.filter(|_| !has_ended) else {
        return Attempt::Done;
    };
    // Not during a refresh of this process.
    let _turn = entry.work.lock().await;
    match inner.store.save_fact(fact).await {
        Ok(Kept::Gone) => drop(inner.gone(entry)),
        Ok(kept) => {
            entry.settle(&issued.token);
            if kept == Kept::Saved {
                inner.tell(Event::SaveRecovered { id: entry.id });
            }
        }
        Err(error) if is_gone(&error) => drop(inner.gone(entry)),
        Err(error) => {
            tracing::warn!(id = %entry.id, %error, "still cannot save");
            return Attempt::Again;
        }
    }
    Attempt::Done
}

async fn refresh_token(inner: &Arc<Inner>, entry: &Arc<CacheEntry>, fact: &Fact) -> Attempt {
    let news = fact.news();
    let issued = news.refresh_token.as_ref();
    // Not during a refresh of this process.
    let turn = entry.work.lock().await;
    let is_stored = match inner.store.save_fact(fact).await {
        Ok(Kept::Saved) => true,
        Ok(Kept::Superseded(stored)) => stored.refresh_token.as_ref() == issued,
        Ok(Kept::Gone) => {
            inner.gone(entry);
            false
        }
        Err(error) if is_gone(&error) => {
            inner.gone(entry);
            false
        }
        Err(error) => {
            tracing::warn!(id = %entry.id, %error, "still cannot save a login");
            return Attempt::Again;
        }
    };
    if !is_stored
        && let Err(error) = discard(inner, entry, fact).await
        && error.is_transient()
    {
        return Attempt::Again;
    }
    drop(turn);
    entry.set_unsaved(None);
    if let (true, Some(expires_at), Some(issued)) = (is_stored, news.expiry_time, issued) {
        tracing::info!(id = %entry.id, "a login that could not be saved is saved");
        let id = entry.id;
        inner.tell(Event::Refreshed { id, expires_at });
        let minted_at = vec![Timestamp::now()];
        count(inner, entry, minted_at, Some(&issued.fingerprint())).await;
    }
    Attempt::Done
}

async fn new_login(inner: &Inner, login: &Login, record: &OAuthToken) -> Attempt {
    match save_unless_outdated(inner, login, record).await {
        Ok(Some(id)) => {
            tracing::info!(%id, "a login that no caller received is saved");
            inner.tell(Event::LoggedIn { id });
        }
        Ok(None) => {
            tracing::info!("a login that could not be saved gives way to a newer one");
            discard_login(inner, login, record).await;
        }
        Err(error) => {
            tracing::warn!(%error, "still cannot save a login");
            return Attempt::Again;
        }
    }
    Attempt::Done
}

/// Saves a login; `None` if the store holds a newer one of the same user under the same client, or one
/// of another environment, or one that it cannot be told from.
async fn save_unless_outdated(
    inner: &Inner,
    login: &Login,
    record: &OAuthToken,
) -> Result<Option<TokenId>> {
    let found = match (&record.user_name, &record.client_id) {
        (Some(name), Some(client)) => stored_as(inner, name, client).await?,
        _ => None,
    };
    let Some(stored) = found else {
        return inner.store.save_token(record).await.map(Some);
    };
    if stored.refresh_token == record.refresh_token {
        return Ok(stored.id);
    }
    let mut record = record.clone();
    let end = believed_end(&stored, Timestamp::now());
    let is_newer = stored.refresh_token.is_some() && end > record.expiry_time;
    if is_newer
        || login.gives_way_to(&stored)
        || lead_back(inner, login.center(inner), &stored, &mut record).is_err()
        || same_environment(inner, &stored, &record).is_err()
    {
        return Ok(None);
    }
    save_over(inner, &stored, &record).await.map(Some)
}

/// Revokes the refresh token of a login that is not stored and that no caller received.
pub(super) async fn discard_login(inner: &Inner, login: &Login, record: &OAuthToken) {
    // A refresh token that came with the credential belongs to the application.
    let given = match login {
        Login::Grant(_) => None,
        Login::Refresh(refresh, _) => Some(&refresh.token),
    };
    let issued = record.refresh_token.as_ref();
    if let Some(token) = issued.filter(|token| Some(*token) != given)
        && let Err(error) = inner.accounts.revoke(login.center(inner), token).await
    {
        tracing::warn!(%error, "cannot revoke the refresh token of a login that is not stored");
    }
}

/// Revokes a new refresh token that has no place in the store, so that no unknown token stays valid
/// at Zoho.
pub(super) async fn discard(inner: &Inner, entry: &CacheEntry, fact: &Fact) -> Result<()> {
    let Some(token) = &fact.news().refresh_token else {
        return Ok(());
    };
    let revoked = match inner.center_of(fact.before(), entry.hints().center.as_ref()) {
        Ok(center) => inner.accounts.revoke(&center, token).await.map(drop),
        Err(error) => Err(error),
    };
    revoked.inspect_err(|error| {
        tracing::warn!(%error, "cannot revoke a refresh token that has no place in the store");
    })
}

/// Whether the record is not there any more, or another one is under its id.
pub(super) fn is_gone(error: &Error) -> bool {
    matches!(
        error.code(),
        ErrorCode::RecordDeleted | ErrorCode::IdConflict
    )
}
