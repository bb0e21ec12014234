//! Saving what Zoho answered to a refresh, and what to do when that fails.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::access::{Access, Issued};
use super::cache::CacheEntry;
use super::decide::believed_end;
use super::event::Event;
use super::inner::Inner;
use super::save_later::{Unsaved, discard, is_gone, save_later};
use crate::accounts::TokenAnswer;
use crate::clock::Timestamp;
use crate::error::{Error, ErrorCode, Result};
use crate::store::table::merge;
use crate::store::{Fact, Kept};
use crate::token::OAuthToken;

/// Maximum time for which a caller waits while a new refresh token is saved.
const RESCUE: Duration = Duration::from_secs(10);

/// Saves what Zoho answered about `record`, then hands it out.
pub(super) async fn persist(
    inner: &Arc<Inner>,
    entry: &Arc<CacheEntry>,
    record: &OAuthToken,
    answer: &TokenAnswer,
) -> Result<Access> {
    // Only what is new, so that a refresh token that another process saved meanwhile stays.
    let mut news = OAuthToken::new();
    news.id = Some(entry.id);
    // Whose it is, so that the store refuses it if another login has the id by now.
    news.user_name.clone_from(&record.user_name);
    news.client_id.clone_from(&record.client_id);
    news.access_token = Some(answer.access_token.clone());
    news.expiry_time = Some(answer.expires_at);
    news.refresh_token =
        (answer.refresh_token.clone()).filter(|token| record.refresh_token.as_ref() != Some(token));
    news.api_domain.clone_from(&answer.api_domain);

    let fresh = merge(record, &news);
    let now = Timestamp::now();
    let issued = Issued::of(&fresh, Some(answer.life), &inner.policy, now)
        .ok_or_else(|| Error::new(ErrorCode::Internal, "a new record has no access token"))?;

    let mut fact = Fact::new(entry.id, record.clone(), news);
    let mut kept = save(inner, &fact).await;
    if let Ok(Kept::Superseded(stored)) = &kept
        && stored.refresh_token == record.refresh_token
        && stored.expiry_time.is_some()
        && believed_end(stored, now).is_none()
    {
        // An end that cannot be true does not say which of the two access tokens is newer.
        fact = Fact::new(entry.id, OAuthToken::clone(stored), fact.news().clone());
        kept = save(inner, &fact).await;
    }
    match kept {
        Ok(Kept::Saved) => {
            let expires_at = answer.expires_at;
            tracing::info!(%expires_at, "refreshed");
            let id = entry.id;
            inner.tell(Event::Refreshed { id, expires_at });
            Ok(entry.publish(issued))
        }
        Ok(Kept::Superseded(stored)) => {
            tracing::debug!("the store has something newer than what was refreshed");
            let issued_token = fact.news().refresh_token.as_ref();
            if issued_token.is_some() && stored.refresh_token.as_ref() != issued_token {
                if discard(inner, entry, &fact).await.is_err() {
                    save_later(inner, Unsaved::RefreshToken(Arc::clone(entry), fact));
                }
                // The new access token ends with that. What the record holds now is looked at.
                let message = format!("record {} holds another login by now", entry.id);
                return Err(Error::new(ErrorCode::LeaseLost, message));
            }
            let newer = Issued::of(&stored, None, &inner.policy, now);
            let newer = newer.filter(|issued| issued.is_usable(now));
            Ok(entry.publish(newer.unwrap_or(issued)))
        }
        Ok(Kept::Gone) => Err(gone(inner, entry, fact, fresh).await),
        Err(error) if is_gone(&error) => Err(gone(inner, entry, fact, fresh).await),
        Err(error) if fact.news().refresh_token.is_some() => {
            // Only this answer holds the new refresh token, and perhaps no caller waits for it.
            let error = not_saved(&error, fresh);
            entry.set_unsaved(Some(error.clone()));
            save_later(inner, Unsaved::RefreshToken(Arc::clone(entry), fact));
            Err(error)
        }
        Err(error) => {
            // The refresh token is stored as it was, so nothing is lost but this hour's key.
            tracing::error!(%error, "a new access token is in use and could not be saved");
            inner.tell(Event::SaveFailed {
                id: entry.id,
                error,
            });
            let access = entry.publish(issued.with_unsaved(true));
            save_later(inner, Unsaved::AccessToken(Arc::clone(entry), fact));
            Ok(access)
        }
    }
}

/// Saves a fact; one that alone holds a refresh token is tried again for a while.
async fn save(inner: &Inner, fact: &Fact) -> Result<Kept> {
    let mut patience = Patience::new(inner);
    loop {
        match inner.store.save_fact(fact).await {
            Err(error) if fact.news().refresh_token.is_some() => patience.after(error).await?,
            kept => return kept,
        }
    }
}

/// Tries again to save what nothing else holds. Its credential may be spent, so a store that is away
/// for a moment must not cost the login.
pub(super) struct Patience {
    began: Instant,
    most: Duration,
    pause: Duration,
}

impl Patience {
    pub(super) fn new(inner: &Inner) -> Self {
        Self {
            began: Instant::now(),
            most: RESCUE.min(inner.policy.patience / 3),
            pause: Duration::from_millis(100),
        }
    }

    /// Waits a moment before the next try.
    ///
    /// # Errors
    /// `error`, if another try is of no use or it was tried for long enough.
    pub(super) async fn after(&mut self, error: Error) -> Result<()> {
        if !error.is_transient() || self.began.elapsed() + self.pause > self.most {
            return Err(error);
        }
        tracing::warn!(%error, "cannot save a new login, trying again");
        tokio::time::sleep(self.pause.mul_f64(0.5 + fastrand::f64() / 2.0)).await;
        self.pause = (self.pause * 2).min(Duration::from_secs(2));
        Ok(())
    }
}

/// Revokes what was issued for a record that is gone.
async fn gone(inner: &Arc<Inner>, entry: &Arc<CacheEntry>, fact: Fact, fresh: OAuthToken) -> Error {
    let discarded = discard(inner, entry, &fact).await;
    let error = inner.gone(entry);
    if discarded.is_ok() {
        return error;
    }
    save_later(inner, Unsaved::RefreshToken(Arc::clone(entry), fact));
    error.with_unsaved_token(fresh)
}

/// The error for a token that nothing but this error holds.
pub(super) fn not_saved(cause: &Error, token: OAuthToken) -> Error {
    Error::new(
        ErrorCode::TokenNotSaved,
        "Zoho issued a token and the store could not keep it",
    )
    .caused_by(cause.clone())
    .with_unsaved_token(token)
}
