//! One refresh from beginning to end: agree, read again, decide, ask Zoho, save, hand out.

use std::sync::Arc;
use std::time::Duration;

use super::Event;
use super::decide::{Decision, Purpose, decide, known_life};
use super::shared::Shared;
use super::slot::{Access, Issued, Slot};
use crate::accounts::TokenAnswer;
use crate::clock::Timestamp;
use crate::credential::OAuthClient;
use crate::data_center::DataCenter;
use crate::error::{Error, ErrorCode, ErrorKind, Result};
use crate::secret::{ClientSecret, RefreshToken};
use crate::store::{CoordinationKey, Memo, Permit, Verdict};
use crate::token::{ClientId, OAuthToken};

/// The longest pause between two looks at a lock that another process holds.
const LONGEST_POLL: Duration = Duration::from_millis(25);

/// Gets a good access token for the record of `slot`. Runs in a task of its own.
#[tracing::instrument(name = "zoho_refresh", level = "debug", skip_all, fields(id = %slot.id))]
pub(crate) async fn run(
    shared: &Arc<Shared>,
    slot: &Arc<Slot>,
    purpose: &Purpose,
) -> Result<Access> {
    let result = work(shared, slot, purpose).await;
    if let Err(error) = &result {
        match error.kind() {
            ErrorKind::LoginRequired if error.code() != ErrorCode::RecordDeleted => {
                tracing::warn!(%error, "a person has to log in again");
                let error = error.clone();
                shared.tell(Event::LoginRequired { id: slot.id, error });
            }
            _ => {
                tracing::warn!(%error, "the refresh failed");
                let error = error.clone();
                shared.tell(Event::RefreshFailed { id: slot.id, error });
            }
        }
    }
    result
}

async fn work(shared: &Arc<Shared>, slot: &Arc<Slot>, purpose: &Purpose) -> Result<Access> {
    let _turn = slot.work.lock().await;
    let patience = match purpose {
        // A good token is in hand, and whoever holds the lock is about to bring a new one.
        Purpose::Ahead => Duration::ZERO,
        Purpose::Need | Purpose::Refused(_) => shared.policy.patience,
    };
    let key = CoordinationKey::record(slot.id);
    let permit = match acquire(shared, &key, patience).await {
        Err(error) if *purpose == Purpose::Ahead && error.code() == ErrorCode::StoreLocked => {
            return slot.postpone().ok_or(error);
        }
        acquired => acquired?,
    };
    let record = shared.record_of(slot).await?;
    let memory = Memory {
        slot,
        permit: permit.as_deref(),
    };
    let now = Timestamp::now();
    let memo = memory.recall(&record, now, shared.policy.window).await;
    match decide(&record, &memo, now, &shared.policy, purpose) {
        Decision::Use => {
            let life = known_life(&record, &memo);
            let issued = Issued::of(&record, life, &shared.policy, now)
                .ok_or_else(|| Error::new(ErrorCode::Internal, "decided to use no access token"))?;
            Ok(slot.publish(issued))
        }
        Decision::Refresh(token) => renew(shared, &memory, &record, memo, &token).await,
        Decision::Exchange(code) => {
            let (client, center) = parties(shared, slot, &record)?;
            let mut client = OAuthClient {
                id: client.0,
                secret: client.1,
                redirect_uri: None,
            };
            client.redirect_uri.clone_from(&record.redirect_url);
            let answer = shared
                .accounts
                .exchange(&center, &client, &code, None)
                .await?;
            keep(shared, slot, &record, &answer).await
        }
        Decision::Wait(until, code) => {
            let message = match code {
                ErrorCode::MintBudget => "the budget of new access tokens is spent",
                _ => "Zoho throttles new access tokens",
            };
            Err(Error::new(code, format!("{message} for record {}", slot.id)).retry_at(until))
        }
        Decision::Login(code, server_code) => {
            let message = format!("no new access token can be made for record {}", slot.id);
            let error = Error::new(code, message);
            Err(match server_code {
                Some(server_code) => error.with_server_code(server_code),
                None => error,
            })
        }
    }
}

/// Waits until no other process works on `key`. `None` where the store offers no agreement.
pub(crate) async fn acquire(
    shared: &Shared,
    key: &CoordinationKey,
    patience: Duration,
) -> Result<Option<Box<dyn Permit>>> {
    let Some(coordination) = shared.store.coordination() else {
        return Ok(None);
    };
    let mut pause = Duration::from_millis(1);
    let mut waited = Duration::ZERO;
    loop {
        if let Some(permit) = coordination.try_acquire(key).await? {
            return Ok(Some(permit));
        }
        if waited >= patience {
            return Err(Error::new(
                ErrorCode::StoreLocked,
                "another process is still refreshing this token",
            ));
        }
        let jitter = pause.mul_f64(0.5 + fastrand::f64());
        tokio::time::sleep(jitter).await;
        waited += jitter;
        pause = (pause * 2).min(LONGEST_POLL);
    }
}

/// What is remembered about a record, in the store where it can, in the slot where it cannot.
struct Memory<'a> {
    slot: &'a Arc<Slot>,
    permit: Option<&'a dyn Permit>,
}

impl Memory<'_> {
    async fn recall(&self, record: &OAuthToken, now: Timestamp, window: Duration) -> Memo {
        let memo = match self.permit {
            Some(permit) => permit.memo().await.unwrap_or_else(|error| {
                tracing::warn!(%error, "cannot read what is remembered, going on without");
                Memo::default()
            }),
            None => self.slot.memo(),
        };
        match &record.refresh_token {
            Some(token) => memo.about(&token.fingerprint(), now, window),
            None => Memo::default(),
        }
    }

    async fn remember(&self, memo: &Memo) {
        if let Some(permit) = self.permit {
            if let Err(error) = permit.set_memo(memo).await {
                tracing::warn!(%error, "cannot remember, going on");
            }
        } else {
            self.slot.set_memo(memo.clone());
        }
    }
}

/// Returns the client and the data center that the record's tokens belong to.
pub(crate) fn parties(
    shared: &Shared,
    slot: &Slot,
    record: &OAuthToken,
) -> Result<((ClientId, ClientSecret), DataCenter)> {
    let hints = slot.hints();
    let center = shared.center_of(record, hints.center.as_ref());
    // A configured secret is newer than a stored one, if it is of the same client.
    let configured = [hints.client.as_ref(), shared.client.as_ref()]
        .into_iter()
        .flatten()
        .find(|client| record.client_id.as_ref().is_none_or(|id| *id == client.id));
    if let Some(client) = configured {
        return Ok(((client.id.clone(), client.secret.clone()), center));
    }
    match (&record.client_id, &record.client_secret) {
        (Some(id), Some(secret)) => Ok(((id.clone(), secret.clone()), center)),
        _ => Err(Error::invalid_input(format!(
            "record {} has no client id and secret, and the authenticator was given none for it",
            slot.id
        ))),
    }
}

/// Asks Zoho for a new access token, saves it, and only then hands it out.
async fn renew(
    shared: &Arc<Shared>,
    memory: &Memory<'_>,
    record: &OAuthToken,
    mut memo: Memo,
    token: &RefreshToken,
) -> Result<Access> {
    let slot = memory.slot;
    let ((id, secret), center) = parties(shared, slot, record)?;
    let mut attempt = 1;
    let answer = loop {
        // Noted before asking: if the answer is lost on its way, Zoho has counted all the same.
        let before = memo.clone();
        memo.note_mint(Timestamp::now());
        memory.remember(&memo).await;
        let result = shared.accounts.refresh(&center, &id, &secret, token).await;
        let error = match result {
            Ok(answer) => break answer,
            Err(error) => error,
        };
        match error.kind() {
            ErrorKind::Network if attempt < shared.policy.attempts => {}
            ErrorKind::Network => return Err(error),
            _ => {
                memory.remember(&verdict_on(before, &error, shared)).await;
                return Err(error);
            }
        }
        let budget = shared.policy.mint_budget;
        let now = Timestamp::now();
        if budget.is_some_and(|most| memo.budget_wait(most, now, shared.policy.window).is_some()) {
            return Err(error);
        }
        let pause = Duration::from_millis(200) * 2_u32.saturating_pow(attempt - 1);
        tracing::debug!(%error, attempt, "asking again");
        tokio::time::sleep(pause.mul_f64(0.5 + fastrand::f64())).await;
        attempt += 1;
    };
    keep(shared, slot, record, &answer).await
}

/// What to remember of a refusal: a verdict on the token, a wait, or nothing.
fn verdict_on(mut memo: Memo, error: &Error, shared: &Shared) -> Memo {
    let now = Timestamp::now();
    match error.code() {
        ErrorCode::InvalidCode => {
            memo.verdict = Some(Verdict {
                code: error.server_code().unwrap_or("invalid_code").to_owned(),
                at: now,
            });
        }
        ErrorCode::Throttled => {
            let wait = error.retry_after().unwrap_or(shared.policy.window);
            memo.wait_until = Some(now.after(wait.min(shared.policy.window)));
        }
        // The client's configuration, or an answer that cannot be understood, says nothing
        // about this token.
        _ => {}
    }
    memo
}

/// Saves what Zoho answered, then hands it out.
async fn keep(
    shared: &Arc<Shared>,
    slot: &Arc<Slot>,
    record: &OAuthToken,
    answer: &TokenAnswer,
) -> Result<Access> {
    // Only what is new: whoever saved another refresh token meanwhile must find it there still.
    let mut fact = OAuthToken::new();
    fact.id = Some(slot.id);
    // Whose it is, so that the store refuses it if another login has the id by now.
    fact.user_name.clone_from(&record.user_name);
    fact.client_id.clone_from(&record.client_id);
    fact.access_token = Some(answer.access_token.clone());
    fact.expiry_time = Some(answer.expires_at);
    fact.refresh_token =
        (answer.refresh_token.clone()).filter(|token| record.refresh_token.as_ref() != Some(token));
    fact.api_domain.clone_from(&answer.api_domain);

    let mut fresh = record.clone();
    fresh.access_token.clone_from(&fact.access_token);
    fresh.expiry_time = fact.expiry_time;
    fresh.api_domain = fact.api_domain.clone().or(fresh.api_domain);
    fresh.refresh_token = fact.refresh_token.clone().or(fresh.refresh_token);
    let now = Timestamp::now();
    let issued = Issued::of(&fresh, Some(answer.life), &shared.policy, now)
        .ok_or_else(|| Error::new(ErrorCode::Internal, "a new record has no access token"))?;

    match shared.store.save_token(&fact).await {
        Ok(_) => {
            let expires_at = answer.expires_at;
            tracing::info!(%expires_at, "refreshed");
            let id = slot.id;
            shared.tell(Event::Refreshed { id, expires_at });
            Ok(slot.publish(issued))
        }
        Err(error) if is_gone(&error) => Err(shared.gone(slot)),
        Err(error) if fact.refresh_token.is_some() => {
            // Nothing but this answer holds the new refresh token.
            Err(not_saved(&error, fresh))
        }
        Err(error) => {
            // The refresh token is stored as it was, so nothing is lost but this hour's key.
            tracing::error!(%error, "a new access token is in use and could not be saved");
            let event_error = error.clone();
            shared.tell(Event::SaveFailed {
                id: slot.id,
                error: event_error,
            });
            let access = slot.publish(issued.with_unsaved(true));
            save_later(Arc::clone(shared), Arc::clone(slot), fact, access.clone());
            Ok(access)
        }
    }
}

/// Whether the record is not there any more, or another one is under its id.
fn is_gone(error: &Error) -> bool {
    matches!(
        error.code(),
        ErrorCode::RecordDeleted | ErrorCode::IdConflict
    )
}

/// The error for a token that nothing but this error holds.
pub(crate) fn not_saved(cause: &Error, token: OAuthToken) -> Error {
    Error::new(
        ErrorCode::TokenNotSaved,
        "Zoho issued a token and the store could not keep it",
    )
    .caused_by(cause.clone())
    .with_unsaved_token(token)
}

/// Goes on trying to save `fact` until it is saved, or a newer token makes it pointless.
fn save_later(shared: Arc<Shared>, slot: Arc<Slot>, fact: OAuthToken, access: Access) {
    tokio::spawn(async move {
        let mut pause = Duration::from_millis(250);
        loop {
            tokio::time::sleep(pause.mul_f64(0.5 + fastrand::f64())).await;
            pause = (pause * 2).min(Duration::from_secs(30));
            let Some(in_hand) = slot.in_hand() else {
                return;
            };
            let ended = fact.expiry_time.is_none_or(|end| end <= Timestamp::now());
            if ended || in_hand.token != *access.token() {
                return;
            }
            let _turn = slot.work.lock().await;
            match shared.record_of(&slot).await {
                Ok(stored) if stored.expiry_time > fact.expiry_time => return,
                Ok(_) => {}
                Err(error) if is_gone(&error) => return,
                Err(_) => continue,
            }
            match shared.store.save_token(&fact).await {
                Ok(_) => {
                    let saved = (*in_hand).clone().with_unsaved(false);
                    slot.replace(Some(&in_hand), saved);
                    shared.tell(Event::SaveRecovered { id: slot.id });
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
