//! Saving what Zoho answered to a refresh, and what to do when that fails.

use std::sync::Arc;
use std::time::Duration;

use super::Event;
use super::access::{Access, Issued};
use super::shared::Shared;
use super::slot::Slot;
use crate::accounts::TokenAnswer;
use crate::clock::Timestamp;
use crate::error::{Error, ErrorCode, Result};
use crate::store::table::merge;
use crate::store::{Fact, Kept};
use crate::token::OAuthToken;

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

    let fact = Fact::new(slot.id, record.clone(), news);
    match shared.store.save_fact(&fact).await {
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
                discard(shared, slot, record, &fact).await;
                // The new access token has ended with that. What the record holds now is looked at.
                let message = format!("record {} holds another login by now", slot.id);
                return Err(Error::new(ErrorCode::LeaseLost, message));
            }
            let newer = Issued::of(&stored, None, &shared.policy, now);
            let newer = newer.filter(|issued| issued.is_usable(now));
            Ok(slot.publish(newer.unwrap_or(issued)))
        }
        Ok(Kept::Gone) => Err(gone(shared, slot, record, &fact, fresh).await),
        Err(error) if is_gone(&error) => Err(gone(shared, slot, record, &fact, fresh).await),
        Err(error) if fact.news().refresh_token.is_some() => {
            // Nothing but this answer holds the new refresh token.
            Err(not_saved(&error, fresh))
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

/// Ends what was issued for a record that is gone, which nobody wants any more.
async fn gone(
    shared: &Shared,
    slot: &Slot,
    record: &OAuthToken,
    fact: &Fact,
    fresh: OAuthToken,
) -> Error {
    let is_ended = discard(shared, slot, record, fact).await;
    let error = shared.gone(slot);
    if is_ended {
        error
    } else {
        error.with_unsaved_token(fresh)
    }
}

/// Revokes a new refresh token that has no place in the store, so that nothing is alive at Zoho that
/// nobody knows of. `false` if that failed.
async fn discard(shared: &Shared, slot: &Slot, record: &OAuthToken, fact: &Fact) -> bool {
    let Some(token) = &fact.news().refresh_token else {
        return true;
    };
    let revoked = match shared.center_of(record, slot.hints().center.as_ref()) {
        Ok(center) => shared.accounts.revoke(&center, token).await.map(drop),
        Err(error) => Err(error),
    };
    if let Err(error) = &revoked {
        tracing::warn!(%error, "cannot revoke a refresh token that has no place in the store");
    }
    revoked.is_ok()
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
