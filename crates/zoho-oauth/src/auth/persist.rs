//! Saving what Zoho answered to a refresh, and what to do when that fails.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::access::{Access, Issued};
use super::cache::CacheEntry;
use super::decide::believed_end;
use super::event::Event;
use super::inner::Inner;
use super::memory::count;
use crate::accounts::TokenAnswer;
use crate::clock::Timestamp;
use crate::error::{Error, ErrorCode, Result};
use crate::store::table::merge;
use crate::store::{Fact, Kept};
use crate::token::OAuthToken;

/// For how long at most what nothing else holds is tried to be saved while somebody may be waiting
/// for it.
const RESCUE: Duration = Duration::from_secs(10);

/// Saves what Zoho answered about `record`, then hands it out.
pub(super) async fn persist(
    inner: &Arc<Inner>,
    entry: &Arc<CacheEntry>,
    record: &OAuthToken,
    answer: &TokenAnswer,
) -> Result<Access> {
    // Only what is new: whoever saved another refresh token meanwhile must find it there still.
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
                    rescue(Arc::clone(inner), Arc::clone(entry), fact);
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
            // Nothing but this answer holds the new refresh token, and nobody may be waiting.
            let error = not_saved(&error, fresh);
            entry.set_unsaved(Some(error.clone()));
            rescue(Arc::clone(inner), Arc::clone(entry), fact);
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
            let unsaved = Unsaved {
                fact,
                access: access.clone(),
            };
            save_later(Arc::clone(inner), Arc::clone(entry), unsaved);
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

/// Ends what was issued for a record that is gone, which nobody wants any more.
async fn gone(inner: &Arc<Inner>, entry: &Arc<CacheEntry>, fact: Fact, fresh: OAuthToken) -> Error {
    let discarded = discard(inner, entry, &fact).await;
    let error = inner.gone(entry);
    if discarded.is_ok() {
        return error;
    }
    rescue(Arc::clone(inner), Arc::clone(entry), fact);
    error.with_unsaved_token(fresh)
}

/// Revokes a new refresh token that has no place in the store, so that nothing is alive at Zoho that
/// nobody knows of.
async fn discard(inner: &Inner, entry: &CacheEntry, fact: &Fact) -> Result<()> {
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
fn is_gone(error: &Error) -> bool {
    matches!(
        error.code(),
        ErrorCode::RecordDeleted | ErrorCode::IdConflict
    )
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

/// A new access token that is in use and not in the store.
struct Unsaved {
    fact: Fact,
    access: Access,
}

/// Goes on trying to save the token until it is saved, or something newer makes it pointless.
fn save_later(inner: Arc<Inner>, entry: Arc<CacheEntry>, unsaved: Unsaved) {
    tokio::spawn(async move {
        let mut pause = Duration::from_millis(250);
        loop {
            tokio::time::sleep(pause.mul_f64(0.5 + fastrand::f64())).await;
            pause = (pause * 2).min(Duration::from_secs(30));
            let token = unsaved.access.token();
            let Some(in_hand) = entry.in_hand() else {
                return;
            };
            let end = unsaved.fact.news().expiry_time;
            if end.is_none_or(|end| end <= Timestamp::now()) || in_hand.token != *token {
                return;
            }
            // Not while a refresh of this process is at it.
            let _turn = entry.work.lock().await;
            match inner.store.save_fact(&unsaved.fact).await {
                Ok(Kept::Gone) => {
                    inner.gone(&entry);
                    return;
                }
                Ok(kept) => {
                    entry.settle(token);
                    if kept == Kept::Saved {
                        inner.tell(Event::SaveRecovered { id: entry.id });
                    }
                    return;
                }
                Err(error) if is_gone(&error) => {
                    inner.gone(&entry);
                    return;
                }
                Err(error) => tracing::warn!(id = %entry.id, %error, "still cannot save"),
            }
        }
    });
}

/// Goes on until a new refresh token is stored or revoked: nothing but an error holds it, and nobody
/// may have received that.
///
/// Unlike a login without a record, it cannot bring back what was deleted nor take the place of
/// what is newer, so it does not matter who else saves it.
fn rescue(inner: Arc<Inner>, entry: Arc<CacheEntry>, fact: Fact) {
    tokio::spawn(async move {
        let issued = fact.news().refresh_token.as_ref();
        let mut pause = Duration::from_millis(250);
        let is_stored = loop {
            tokio::time::sleep(pause.mul_f64(0.5 + fastrand::f64())).await;
            pause = (pause * 2).min(Duration::from_secs(30));
            // Not while a refresh of this process is at it.
            let _turn = entry.work.lock().await;
            match inner.store.save_fact(&fact).await {
                Ok(Kept::Saved) => break true,
                Ok(Kept::Superseded(stored)) if stored.refresh_token.as_ref() == issued => {
                    break true;
                }
                Ok(Kept::Superseded(_)) => {}
                Ok(Kept::Gone) => drop(inner.gone(&entry)),
                Err(error) if is_gone(&error) => drop(inner.gone(&entry)),
                Err(error) => {
                    tracing::warn!(id = %entry.id, %error, "still cannot save a login");
                    continue;
                }
            }
            match discard(&inner, &entry, &fact).await {
                Err(error) if error.is_transient() => {}
                _ => break false,
            }
        };
        entry.set_unsaved(None);
        let news = fact.news();
        if let (true, Some(expires_at), Some(issued)) = (is_stored, news.expiry_time, issued) {
            tracing::info!(id = %entry.id, "a login that could not be saved is saved");
            let id = entry.id;
            inner.tell(Event::Refreshed { id, expires_at });
            let minted_at = vec![Timestamp::now()];
            count(&inner, &entry, minted_at, Some(&issued.fingerprint())).await;
        }
    });
}
