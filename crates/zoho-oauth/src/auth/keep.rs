//! Saving what Zoho answered to a refresh, and what to do when that fails.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::Event;
use super::access::{Access, Issued};
use super::decide::believed_end;
use super::memory::count;
use super::shared::Shared;
use super::slot::Slot;
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
pub(super) async fn keep(
    shared: &Arc<Shared>,
    slot: &Arc<Slot>,
    record: &OAuthToken,
    answer: &TokenAnswer,
) -> Result<Access> {
    // Only what is new: whoever saved another refresh token meanwhile must find it there still.
    let mut news = OAuthToken::new();
    news.id = Some(slot.id);
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
    let issued = Issued::of(&fresh, Some(answer.life), &shared.policy, now)
        .ok_or_else(|| Error::new(ErrorCode::Internal, "a new record has no access token"))?;

    let mut fact = Fact::new(slot.id, record.clone(), news);
    let mut kept = save(shared, &fact).await;
    if let Ok(Kept::Superseded(stored)) = &kept
        && stored.refresh_token == record.refresh_token
        && stored.expiry_time.is_some()
        && believed_end(stored, now).is_none()
    {
        // An end that cannot be true does not say which of the two access tokens is newer.
        fact = Fact::new(slot.id, OAuthToken::clone(stored), fact.news().clone());
        kept = save(shared, &fact).await;
    }
    match kept {
        Ok(Kept::Saved) => {
            let expires_at = answer.expires_at;
            tracing::info!(%expires_at, "refreshed");
            let id = slot.id;
            shared.tell(Event::Refreshed { id, expires_at });
            Ok(slot.publish(issued))
        }
        Ok(Kept::Superseded(stored)) => {
            tracing::debug!("the store has something newer than what was refreshed");
            let issued_token = fact.news().refresh_token.as_ref();
            if issued_token.is_some() && stored.refresh_token.as_ref() != issued_token {
                if discard(shared, slot, &fact).await.is_err() {
                    rescue(Arc::clone(shared), Arc::clone(slot), fact);
                }
                // The new access token ends with that. What the record holds now is looked at.
                let message = format!("record {} holds another login by now", slot.id);
                return Err(Error::new(ErrorCode::LeaseLost, message));
            }
            let newer = Issued::of(&stored, None, &shared.policy, now);
            let newer = newer.filter(|issued| issued.is_usable(now));
            Ok(slot.publish(newer.unwrap_or(issued)))
        }
        Ok(Kept::Gone) => Err(gone(shared, slot, fact, fresh).await),
        Err(error) if is_gone(&error) => Err(gone(shared, slot, fact, fresh).await),
        Err(error) if fact.news().refresh_token.is_some() => {
            // Nothing but this answer holds the new refresh token, and nobody may be waiting.
            let error = not_saved(&error, fresh);
            slot.set_unsaved(Some(error.clone()));
            rescue(Arc::clone(shared), Arc::clone(slot), fact);
            Err(error)
        }
        Err(error) => {
            // The refresh token is stored as it was, so nothing is lost but this hour's key.
            tracing::error!(%error, "a new access token is in use and could not be saved");
            shared.tell(Event::SaveFailed { id: slot.id, error });
            let access = slot.publish(issued.with_unsaved(true));
            let unsaved = Unsaved {
                fact,
                access: access.clone(),
            };
            save_later(Arc::clone(shared), Arc::clone(slot), unsaved);
            Ok(access)
        }
    }
}

/// Saves a fact; one that alone holds a refresh token is tried again for a while.
async fn save(shared: &Shared, fact: &Fact) -> Result<Kept> {
    let mut patience = Patience::new(shared);
    loop {
        match shared.store.save_fact(fact).await {
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
    pub(super) fn new(shared: &Shared) -> Self {
        Self {
            began: Instant::now(),
            most: RESCUE.min(shared.policy.patience / 3),
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
async fn gone(shared: &Arc<Shared>, slot: &Arc<Slot>, fact: Fact, fresh: OAuthToken) -> Error {
    let discarded = discard(shared, slot, &fact).await;
    let error = shared.gone(slot);
    if discarded.is_ok() {
        return error;
    }
    rescue(Arc::clone(shared), Arc::clone(slot), fact);
    error.with_unsaved_token(fresh)
}

/// Revokes a new refresh token that has no place in the store, so that nothing is alive at Zoho that
/// nobody knows of.
async fn discard(shared: &Shared, slot: &Slot, fact: &Fact) -> Result<()> {
    let Some(token) = &fact.news().refresh_token else {
        return Ok(());
    };
    let revoked = match shared.center_of(fact.before(), slot.hints().center.as_ref()) {
        Ok(center) => shared.accounts.revoke(&center, token).await.map(drop),
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
fn save_later(shared: Arc<Shared>, slot: Arc<Slot>, unsaved: Unsaved) {
    tokio::spawn(async move {
        let mut pause = Duration::from_millis(250);
        loop {
            tokio::time::sleep(pause.mul_f64(0.5 + fastrand::f64())).await;
            pause = (pause * 2).min(Duration::from_secs(30));
            let token = unsaved.access.token();
            let Some(in_hand) = slot.in_hand() else {
                return;
            };
            let end = unsaved.fact.news().expiry_time;
            if end.is_none_or(|end| end <= Timestamp::now()) || in_hand.token != *token {
                return;
            }
            // Not while a refresh of this process is at it.
            let _turn = slot.work.lock().await;
            match shared.store.save_fact(&unsaved.fact).await {
                Ok(Kept::Gone) => {
                    shared.gone(&slot);
                    return;
                }
                Ok(kept) => {
                    slot.settle(token);
                    if kept == Kept::Saved {
                        shared.tell(Event::SaveRecovered { id: slot.id });
                    }
                    return;
                }
                Err(error) if is_gone(&error) => {
                    shared.gone(&slot);
                    return;
                }
                Err(error) => tracing::warn!(id = %slot.id, %error, "still cannot save"),
            }
        }
    });
}

/// Goes on until a new refresh token is stored or revoked: nothing but an error holds it, and nobody
/// may have received that.
///
/// Unlike a login without a record, it cannot bring back what was deleted nor take the place of
/// what is newer, so it does not matter who else saves it.
fn rescue(shared: Arc<Shared>, slot: Arc<Slot>, fact: Fact) {
    tokio::spawn(async move {
        let issued = fact.news().refresh_token.as_ref();
        let mut pause = Duration::from_millis(250);
        let is_stored = loop {
            tokio::time::sleep(pause.mul_f64(0.5 + fastrand::f64())).await;
            pause = (pause * 2).min(Duration::from_secs(30));
            // Not while a refresh of this process is at it.
            let _turn = slot.work.lock().await;
            match shared.store.save_fact(&fact).await {
                Ok(Kept::Saved) => break true,
                Ok(Kept::Superseded(stored)) if stored.refresh_token.as_ref() == issued => {
                    break true;
                }
                Ok(Kept::Superseded(_)) => {}
                Ok(Kept::Gone) => drop(shared.gone(&slot)),
                Err(error) if is_gone(&error) => drop(shared.gone(&slot)),
                Err(error) => {
                    tracing::warn!(id = %slot.id, %error, "still cannot save a login");
                    continue;
                }
            }
            match discard(&shared, &slot, &fact).await {
                Err(error) if error.is_transient() => {}
                _ => break false,
            }
        };
        slot.set_unsaved(None);
        let news = fact.news();
        if let (true, Some(expires_at), Some(issued)) = (is_stored, news.expiry_time, issued) {
            tracing::info!(id = %slot.id, "a login that could not be saved is saved");
            let id = slot.id;
            shared.tell(Event::Refreshed { id, expires_at });
            let minted_at = vec![Timestamp::now()];
            count(&shared, &slot, minted_at, Some(&issued.fingerprint())).await;
        }
    });
}
