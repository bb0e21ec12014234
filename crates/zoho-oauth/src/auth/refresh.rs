//! One refresh from beginning to end: agree, read again, decide, ask Zoho, save, hand out.

use std::sync::Arc;
use std::time::Duration;

use super::Event;
use super::access::{Access, Issued};
use super::decide::{Decision, Purpose, decide, known_life};
use super::keep::keep;
use super::memory::{Memory, after_failure, asked_by};
use super::shared::Shared;
use super::slot::Slot;
use super::turn::{Queue, release};
use crate::clock::Timestamp;
use crate::credential::OAuthClient;
use crate::data_center::DataCenter;
use crate::error::{Error, ErrorCode, ErrorKind, Result};
use crate::secret::{ClientSecret, Fingerprint, GrantToken, RefreshToken};
use crate::store::{CoordinationKey, Memo, Permit};
use crate::token::{ClientId, OAuthToken};

/// The longest pause between two requests of one refresh, during which nobody else can have a try.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// How often a refresh begins again because its lease ended too early.
const MOST_LEASES: u32 = 3;

/// Gets a good access token for the record of `slot`. Runs in a task of its own.
#[tracing::instrument(name = "zoho_refresh", level = "debug", skip_all, fields(id = %slot.id))]
pub(crate) async fn run(
    shared: &Arc<Shared>,
    slot: &Arc<Slot>,
    purpose: &Purpose,
) -> Result<Access> {
    let result = work(shared, slot, purpose).await;
    if let Err(error) = &result {
        tell(shared, slot, error);
    }
    result
}

fn tell(shared: &Shared, slot: &Slot, error: &Error) {
    let id = slot.id;
    // Whoever was to be saved is in the error that the caller gets, and in no event.
    let cause = error.clone().without_unsaved_token();
    match error.kind() {
        // Told when it was noticed.
        _ if error.code() == ErrorCode::RecordDeleted => {}
        ErrorKind::LoginRequired if !slot.tell_login() => {}
        ErrorKind::LoginRequired => {
            tracing::warn!(%error, "a person has to log in again");
            shared.tell(Event::LoginRequired { id, error: cause });
        }
        _ => {
            tracing::warn!(%error, "the refresh failed");
            shared.tell(Event::RefreshFailed { id, error: cause });
        }
    }
}

async fn work(shared: &Arc<Shared>, slot: &Arc<Slot>, purpose: &Purpose) -> Result<Access> {
    let _turn = slot.work.lock().await;
    let mut attempt = 1;
    loop {
        match in_turn(shared, slot, purpose).await {
            // Somebody else took over, and what this process learned does not count. Look again.
            Err(error) if error.code() == ErrorCode::LeaseLost && attempt < MOST_LEASES => {
                tracing::warn!(%error, "beginning again");
                attempt += 1;
            }
            done => return done,
        }
    }
}

async fn in_turn(shared: &Arc<Shared>, slot: &Arc<Slot>, purpose: &Purpose) -> Result<Access> {
    shared.health.check()?;
    let permit = match turn(shared, slot, purpose).await {
        Ok(Turn::Ours(permit)) => permit,
        Ok(Turn::Done(access)) => return Ok(access),
        Err(error) => {
            shared.health.note(&error);
            return Err(error);
        }
    };
    let memory = Memory::new(shared, slot, permit.as_deref());
    // Never closed, so this cannot fail.
    let _place = shared.at_work.acquire().await;
    let done = alone(shared, slot, purpose, &memory).await;
    let settled = done.as_ref().ok().and_then(|done| done.settled.as_ref());
    release(permit, settled).await;
    done.map(|done| done.access)
}

/// What came of a turn.
struct Done {
    access: Access,
    /// What is remembered from now on, if a token was issued.
    settled: Option<Memo>,
}

impl From<Access> for Done {
    fn from(access: Access) -> Self {
        Self {
            access,
            settled: None,
        }
    }
}

enum Turn {
    Ours(Option<Box<dyn Permit>>),
    /// Somebody else did the work meanwhile.
    Done(Access),
}

async fn turn(shared: &Arc<Shared>, slot: &Arc<Slot>, purpose: &Purpose) -> Result<Turn> {
    let patience = match purpose {
        // A good token is in hand, and whoever holds the lock is about to bring a new one.
        Purpose::Ahead => Duration::ZERO,
        Purpose::Need | Purpose::Refused(_) => shared.policy.patience,
    };
    let key = CoordinationKey::record(slot.id);
    let is_left_to_others = |error: &Error| {
        let locked = error.code() == ErrorCode::StoreLocked;
        (locked && *purpose == Purpose::Ahead).then(|| slot.postpone())?
    };
    let postponed = |error: Error| match is_left_to_others(&error) {
        Some(access) => Ok(Turn::Done(access)),
        None => Err(error),
    };
    let mut queue = match Queue::enter(shared, &key, patience).await {
        Ok(Some(queue)) => queue,
        Ok(None) => return Ok(Turn::Ours(None)),
        Err(error) => return postponed(error),
    };
    loop {
        match queue.try_once().await {
            Ok(Some(permit)) => return Ok(Turn::Ours(Some(permit))),
            Ok(None) => {}
            Err(error) => return postponed(error),
        }
        // A fleet that waits for one refresh must not take the lease one after the other, only to
        // find that there is nothing left to do.
        if queue.is_fleet()
            && let Some(access) = done_by_another(shared, slot, purpose).await?
        {
            return Ok(Turn::Done(access));
        }
    }
}

async fn done_by_another(
    shared: &Arc<Shared>,
    slot: &Arc<Slot>,
    purpose: &Purpose,
) -> Result<Option<Access>> {
    let record = match shared.record_of(slot).await {
        Ok(record) if !slot.is_revoked(&record) => record,
        Err(error) if error.code() == ErrorCode::RecordDeleted => return Err(error),
        _ => return Ok(None),
    };
    let now = Timestamp::now();
    // What is remembered stands against asking Zoho, and can be seen with the lease alone.
    match decide(
        &record,
        &Memo::default(),
        None,
        now,
        &shared.policy,
        purpose,
    ) {
        Decision::Use => Ok(Issued::of(&record, None, &shared.policy, now)
            .map(|issued| slot.publish(issued.kept(now)))),
        _ => Ok(None),
    }
}

/// Does what is due, while nobody else works on the record.
async fn alone(
    shared: &Arc<Shared>,
    slot: &Arc<Slot>,
    purpose: &Purpose,
    memory: &Memory<'_>,
) -> Result<Done> {
    let record = shared.record_of(slot).await?;
    if slot.is_revoked(&record) {
        let message = format!("the refresh token of record {} was revoked", slot.id);
        return Err(Error::new(ErrorCode::InvalidCode, message));
    }
    let now = Timestamp::now();
    let memo = memory.recall(&record, now).await;
    let asked = asked(shared, slot, &record);
    match decide(&record, &memo, asked.as_ref(), now, &shared.policy, purpose) {
        Decision::Use => {
            let life = known_life(&record, &memo);
            let issued = Issued::of(&record, life, &shared.policy, now)
                .ok_or_else(|| Error::new(ErrorCode::Internal, "decided to use no access token"))?;
            Ok(slot.publish(issued.kept(now)).into())
        }
        Decision::Refresh(token) => renew(shared, slot, memory, &record, memo, &token).await,
        Decision::Exchange(code) => exchange(shared, slot, memory, &record, memo, &code).await,
        Decision::Stop(stop) => Err(stop.into_error(&format!("record {}", slot.id))),
    }
}

/// Returns the client and the data center that the record's tokens belong to.
pub(crate) fn parties(
    shared: &Shared,
    slot: &Slot,
    record: &OAuthToken,
) -> Result<((ClientId, ClientSecret), DataCenter)> {
    let hints = slot.hints();
    let center = shared.center_of(record, hints.center.as_ref())?;
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

/// Names whom the record's tokens would be shown to; `None` if nobody can be asked.
pub(crate) fn asked(shared: &Shared, slot: &Slot, record: &OAuthToken) -> Option<Fingerprint> {
    let ((id, _), center) = parties(shared, slot, record).ok()?;
    Some(asked_by(&center, &id))
}

/// Exchanges the grant token of a record that nothing was done with yet.
async fn exchange(
    shared: &Arc<Shared>,
    slot: &Arc<Slot>,
    memory: &Memory<'_>,
    record: &OAuthToken,
    before: Memo,
    code: &GrantToken,
) -> Result<Done> {
    let ((id, secret), center) = parties(shared, slot, record)?;
    let asked = asked_by(&center, &id);
    let client = OAuthClient {
        id,
        secret,
        redirect_uri: record.redirect_url.clone(),
    };
    let answer = shared.accounts.exchange(&center, &client, code, None).await;
    match answer {
        Ok(answer) => {
            let access = keep(shared, slot, record, &answer).await?;
            // It is the first of the new refresh token, unless the record has another one by now.
            let is_kept = *access.token() == answer.access_token;
            let issued = answer.refresh_token.filter(|_| is_kept);
            let settled = issued.map(|token| Memo {
                credential: Some(token.fingerprint()),
                minted_at: vec![Timestamp::now()],
                ..Memo::default()
            });
            if let Some(memo) = &settled {
                slot.set_memo(memo.clone(), true);
            }
            Ok(Done { access, settled })
        }
        Err(error) => {
            let memo = after_failure(&before, &before, &error, &asked, &shared.policy);
            memory.remember(&memo).await?;
            Err(error)
        }
    }
}

/// Asks Zoho for a new access token, saves it, and only then hands it out.
async fn renew(
    shared: &Arc<Shared>,
    slot: &Arc<Slot>,
    memory: &Memory<'_>,
    record: &OAuthToken,
    mut memo: Memo,
    token: &RefreshToken,
) -> Result<Done> {
    let ((id, secret), center) = parties(shared, slot, record)?;
    let asked = asked_by(&center, &id);
    let policy = &shared.policy;
    let began = tokio::time::Instant::now();
    let mut attempt = 1;
    let answer = loop {
        // Noted before asking: should this process die now, Zoho has counted all the same.
        let before = memo.clone();
        memo.note_mint(Timestamp::now());
        memory.reserve(&before, &memo).await?;
        let result = shared.accounts.refresh(&center, &id, &secret, token).await;
        let error = match result {
            Ok(answer) => break answer,
            Err(error) => error,
        };
        memo = after_failure(&before, &memo, &error, &asked, policy);
        let pause = Duration::from_millis(200) * 2_u32.saturating_pow(attempt - 1);
        let pause = pause.min(LONGEST_PAUSE).mul_f64(0.5 + fastrand::f64());
        let now = Timestamp::now();
        let is_spent = (policy.mint_budget)
            .is_some_and(|most| memo.budget_wait(most, now, policy.counted_for()).is_some());
        // Others wait for this to end. A last request may take twice as long as all before it.
        let is_long = began.elapsed() + pause > policy.patience / 3;
        let again = error.kind() == ErrorKind::Network
            && attempt < policy.attempts
            && !is_spent
            && error.retry_after().is_none_or(|wait| wait <= pause)
            && !is_long;
        if !again {
            memory.remember(&memo).await?;
            return Err(error);
        }
        tracing::debug!(%error, attempt, "asking again");
        tokio::time::sleep(pause).await;
        attempt += 1;
    };
    // Zoho counted it at some moment before its answer was here.
    memo.settle_mint(Timestamp::now());
    slot.set_memo(memo.clone(), true);
    let access = keep(shared, slot, record, &answer).await?;
    Ok(Done {
        access,
        settled: Some(memo),
    })
}
