//! One refresh from beginning to end: agree, read again, decide, ask Zoho, save, hand out.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::access::{Access, Issued};
use super::cache::CacheEntry;
use super::credential_state::{after_failure, asked_by, credential_of};
use super::decide::{Decision, Purpose, Stop, budget, decide, known_life, unless_usable};
use super::event::Event;
use super::inner::Inner;
use super::lock::release;
use super::lock_queue::{Turn, turn};
use super::memory::{Memory, NOT_ASKED};
use super::mints::{Mint, Reserved, tell};
use super::persist::persist;
use crate::clock::Timestamp;
use crate::credential::OAuthClient;
use crate::data_center::DataCenter;
use crate::error::{Error, ErrorCode, ErrorKind, Result};
use crate::secret::{ClientSecret, Fingerprint, GrantToken, RefreshToken};
use crate::store::Memo;
use crate::token::{ClientId, OAuthToken};

/// The longest pause between two requests of one refresh, during which nobody else can have a try.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// How often a refresh begins again because its lease ended too early.
const MOST_LEASES: u32 = 3;

/// Gets a good access token for the record of `entry`. Runs in a task of its own.
#[tracing::instrument(name = "zoho_refresh", level = "debug", skip_all, fields(id = %entry.id))]
pub(crate) async fn run(
    inner: &Arc<Inner>,
    entry: &Arc<CacheEntry>,
    purpose: &Purpose,
) -> Result<Access> {
    let result = work(inner, entry, purpose).await;
    if let Err(error) = &result {
        report(inner, entry, error);
    }
    result
}

fn report(inner: &Inner, entry: &CacheEntry, error: &Error) {
    let id = entry.id;
    // Events carry no unsaved token; only the error of the caller does.
    let cause = error.clone().without_unsaved_token();
    match error.kind() {
        // Told when it was noticed.
        _ if error.code() == ErrorCode::RecordDeleted => {}
        ErrorKind::LoginRequired if !entry.tell_login() => {}
        ErrorKind::LoginRequired => {
            tracing::warn!(%error, "a person has to log in again");
            inner.tell(Event::LoginRequired { id, error: cause });
        }
        _ => {
            tracing::warn!(%error, "the refresh failed");
            inner.tell(Event::RefreshFailed { id, error: cause });
        }
    }
}

async fn work(inner: &Arc<Inner>, entry: &Arc<CacheEntry>, purpose: &Purpose) -> Result<Access> {
    let _turn = entry.work.lock().await;
    let mut attempt = 1;
    loop {
        match in_turn(inner, entry, purpose).await {
            // Somebody else took over, and what this process learned does not count. Look again.
            Err(error) if error.code() == ErrorCode::LeaseLost && attempt < MOST_LEASES => {
                tracing::warn!(%error, "beginning again");
                attempt += 1;
            }
            done => return done,
        }
    }
}

async fn in_turn(inner: &Arc<Inner>, entry: &Arc<CacheEntry>, purpose: &Purpose) -> Result<Access> {
    inner.health.check()?;
    let (permit, _place) = match turn(inner, entry, purpose).await? {
        Turn::Ours(permit, place) => (permit, place),
        Turn::Done(access) => return Ok(access),
    };
    let work = Work {
        inner,
        entry,
        purpose,
        memory: Memory::new(inner, entry, permit.as_deref()),
    };
    let done = alone(&work).await;
    // A store that did not take the token would make its caller wait for the same lock again. It
    // knows of the mint since before Zoho was asked.
    let saved = done.as_ref().ok().filter(|done| !done.access.0.unsaved);
    let settled = saved.and_then(|done| done.settled.as_ref());
    release(permit, settled).await;
    done.map(|done| done.access)
}

/// One's turn at a record.
struct Work<'a> {
    inner: &'a Arc<Inner>,
    entry: &'a Arc<CacheEntry>,
    purpose: &'a Purpose,
    memory: Memory<'a>,
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

/// Does what is due, while nobody else works on the record.
async fn alone(work: &Work<'_>) -> Result<Done> {
    let Work { inner, entry, .. } = work;
    // What Zoho refused, while the record was seen to hold something else by then.
    let mut refused = Vec::new();
    loop {
        let began = Timestamp::now();
        let record = inner.record_of(entry).await?;
        if entry.is_revoked(&record) {
            let message = format!("the refresh token of record {} was revoked", entry.id);
            return Err(Error::new(ErrorCode::InvalidCode, message));
        }
        let recalled = work.memory.recall(&record, Timestamp::now()).await;
        let credential = credential_of(&record);
        let party = asked(inner, entry, &record);
        let (now, policy) = (Timestamp::now(), &inner.policy);
        let memo = match recalled {
            Ok(memo) => memo,
            // A good token needs no memory.
            Err(error) => {
                let memo = Memo::default();
                return match decide(&record, &memo, party.as_ref(), now, policy, work.purpose) {
                    Decision::Use => stored(work, &record, &memo, began),
                    _ => Err(error.about(NOT_ASKED)),
                };
            }
        };
        let decision = decide(&record, &memo, party.as_ref(), now, policy, work.purpose);
        let done = match decision {
            Decision::Refresh(_) | Decision::Exchange(_) if refused.contains(&credential) => {
                // Reads that lag behind, in turns. Neither is Zoho asked for ever, nor is anybody
                // told to log in who may just have done so.
                let id = entry.id;
                let message = format!("the store shows now one login in record {id}, now another");
                return Err(Error::new(ErrorCode::StoreUnavailable, message));
            }
            Decision::Refresh(token) => renew(work, &record, memo, &token, began).await?,
            Decision::Exchange(code) => exchange(work, &record, memo, &code).await?,
            Decision::Use => return stored(work, &record, &memo, began),
            Decision::Stop(stop) => return Err(stopped(work, stop)),
        };
        if let Some(done) = done {
            return Ok(done);
        }
        tracing::debug!("the record holds another credential now, deciding again");
        refused.push(credential);
    }
}

fn stopped(work: &Work<'_>, stop: Stop) -> Error {
    stop.into_error(&format!("record {}", work.entry.id))
}

/// Hands out the stored access token of `record`, which the store was asked for at `asked`.
fn stored(work: &Work<'_>, record: &OAuthToken, memo: &Memo, asked: Timestamp) -> Result<Done> {
    let life = known_life(record, memo);
    let issued = Issued::of(record, life, &work.inner.policy, asked)
        .ok_or_else(|| Error::new(ErrorCode::Internal, "decided to use no access token"))?;
    Ok(work.entry.publish(issued.kept(Timestamp::now())).into())
}

/// Counts a mint among those of all who use the refresh token. What else can be done is the answer
/// if they have used it up.
async fn reserve(
    work: &Work<'_>,
    record: &OAuthToken,
    memo: &Memo,
    token: &RefreshToken,
    asked: Timestamp,
) -> Result<ControlFlow<Done, Mint>> {
    let (inner, purpose) = (work.inner, work.purpose);
    let policy = &inner.policy;
    let most = budget(record, policy, purpose);
    let free_at = match Mint::reserve(inner, token, most, purpose).await {
        Ok(Reserved::Mint(mint)) => return Ok(ControlFlow::Continue(mint)),
        Ok(Reserved::Spent(free_at)) => free_at,
        Err(error) if error.code() == ErrorCode::StoreLocked && *purpose == Purpose::Ahead => {
            let access = work.entry.postpone().ok_or(error)?;
            return Ok(ControlFlow::Break(access.into()));
        }
        Err(error) => return Err(error),
    };
    let stop = Stop::Wait(free_at, ErrorCode::MintBudget);
    match unless_usable(record, memo, Timestamp::now(), policy, purpose, stop) {
        Decision::Stop(stop) => Err(stopped(work, stop)),
        _ => stored(work, record, memo, asked).map(ControlFlow::Break),
    }
}

/// Returns the client and the data center that the record's tokens belong to.
pub(crate) fn parties(
    inner: &Inner,
    entry: &CacheEntry,
    record: &OAuthToken,
) -> Result<((ClientId, ClientSecret), DataCenter)> {
    let hints = entry.hints();
    let center = inner.center_of(record, hints.center.as_ref())?;
    // Each with the data center that its own secret was given for.
    let home = hints.client_home.as_ref().unwrap_or(&inner.center);
    let configured = [
        (hints.client.as_ref(), home),
        (inner.client.as_ref(), &inner.center),
    ];
    let configured = configured.into_iter().filter_map(|(client, home)| {
        let client = client?;
        let fits = record.client_id.as_ref().is_none_or(|id| *id == client.id);
        fits.then_some((client, home))
    });
    // A configured secret is newer than a stored one, where it was given for this center.
    let given = configured.clone().find_map(|(client, home)| {
        let secret = client.secret_for(&center, home)?;
        Some((client.id.clone(), secret.clone()))
    });
    let stored = || Some((record.client_id.clone()?, record.client_secret.clone()?));
    let any = || {
        let (client, _) = configured.clone().next()?;
        Some((client.id.clone(), client.secret.clone()))
    };
    let client = given.or_else(stored).or_else(any).ok_or_else(|| {
        Error::invalid_input(format!(
            "record {} has no client id and secret, and the authenticator was given none for it",
            entry.id
        ))
    })?;
    Ok((client, center))
}

/// Names whom the record's tokens would be shown to; `None` if nobody can be asked.
pub(crate) fn asked(inner: &Inner, entry: &CacheEntry, record: &OAuthToken) -> Option<Fingerprint> {
    let ((id, _), center) = parties(inner, entry, record).ok()?;
    Some(asked_by(&center, &id))
}

/// Remembers that Zoho did not grant what it was asked for, and returns the error.
///
/// `None` when Zoho refuses what it was shown and the record holds something else by now: a
/// user who has just logged in is not asked to do so.
async fn not_granted<T>(
    work: &Work<'_>,
    record: &OAuthToken,
    memo: &Memo,
    mut error: Error,
) -> Result<Option<T>> {
    if error.code() == ErrorCode::InvalidCode {
        match work.inner.record_of(work.entry).await {
            Ok(stored) if is_same_login(&stored, record) => {}
            Ok(_) => return Ok(None),
            Err(gone) if gone.code() == ErrorCode::RecordDeleted => return Err(gone),
            // Where the record cannot be seen, nobody is told to log in yet.
            Err(unseen) => error = unseen,
        }
    }
    work.memory.remember(memo).await?;
    Err(error)
}

/// Whether both records hold what the same access tokens are made from.
fn is_same_login(one: &OAuthToken, other: &OAuthToken) -> bool {
    one.refresh_token == other.refresh_token
        && (one.refresh_token.is_some() || one.grant_token == other.grant_token)
}

/// Exchanges the grant token of a record that nothing was done with yet. `None`: see
/// [`not_granted`].
async fn exchange(
    work: &Work<'_>,
    record: &OAuthToken,
    before: Memo,
    code: &GrantToken,
) -> Result<Option<Done>> {
    let Work { inner, entry, .. } = work;
    if let Some(unsaved) = entry.unsaved(record) {
        return Err(unsaved);
    }
    let ((id, secret), center) = parties(inner, entry, record)?;
    let asked = asked_by(&center, &id);
    let mut client = OAuthClient::of(id, secret);
    client.redirect_uri.clone_from(&record.redirect_url);
    // A store that cannot write this down could not save what the grant token is spent for.
    let mut noted = before.clone();
    noted.note_mint(Timestamp::now());
    work.memory.reserve(&before, &noted).await?;
    entry.has_asked.store(true, Ordering::SeqCst);
    let answer = inner.accounts.exchange(&center, &client, code, None).await;
    match answer {
        Ok(mut answer) => {
            let answered = Timestamp::now();
            inner.stay_at(&center, record, &mut answer);
            let kept = persist(inner, entry, record, &answer).await;
            if let Some(token) = &answer.refresh_token {
                tell(inner, token, answered).await;
            }
            let access = kept?;
            // It is the first of the new refresh token, unless the record has another one by now.
            let is_kept = *access.token() == answer.access_token;
            let issued = answer.refresh_token.filter(|_| is_kept);
            let settled = issued.map(|token| Memo {
                credential: Some(token.fingerprint()),
                minted_at: vec![Timestamp::now()],
                ..Memo::default()
            });
            if let Some(memo) = &settled {
                entry.set_memo(memo.clone(), true);
            }
            Ok(Some(Done { access, settled }))
        }
        Err(error) => {
            let memo = after_failure(&before, &before, &error, &asked, &inner.policy);
            not_granted(work, record, &memo, error).await
        }
    }
}

/// Asks Zoho for a new access token, saves it, and only then hands it out. `None`: see
/// [`not_granted`].
async fn renew(
    work: &Work<'_>,
    record: &OAuthToken,
    mut memo: Memo,
    token: &RefreshToken,
    read_at: Timestamp,
) -> Result<Option<Done>> {
    let Work { inner, entry, .. } = work;
    let ((id, secret), center) = parties(inner, entry, record)?;
    let asked = asked_by(&center, &id);
    let policy = &inner.policy;
    let began = Instant::now();
    let recalled = memo.clone();
    let mut failure = None;
    let mut attempt = 1;
    let (mut answer, mint) = loop {
        // Noted before asking: should this process die now, Zoho has counted all the same.
        let mint = match (
            reserve(work, record, &recalled, token, read_at).await,
            failure,
        ) {
            (Ok(ControlFlow::Continue(mint)), _) => mint,
            (_, Some(error)) => return not_granted(work, record, &memo, error).await,
            (otherwise, None) => return otherwise.map(ControlFlow::break_value),
        };
        let before = memo.clone();
        memo.note_mint(Timestamp::now());
        if let Err(error) = work.memory.reserve(&before, &memo).await {
            mint.take_back().await;
            return Err(error);
        }
        entry.has_asked.store(true, Ordering::SeqCst);
        let result = inner.accounts.refresh(&center, &id, &secret, token).await;
        let error = match result {
            Ok(answer) => break (answer, mint),
            Err(error) => error,
        };
        memo = after_failure(&before, &memo, &error, &asked, policy);
        if error.may_have_issued() {
            mint.settle(Timestamp::now()).await;
        } else {
            mint.take_back().await;
        }
        let pause = Duration::from_millis(200) * 2_u32.saturating_pow(attempt - 1);
        let pause = pause.min(LONGEST_PAUSE).mul_f64(0.5 + fastrand::f64());
        let now = Timestamp::now();
        let is_spent = (policy.mint_budget)
            .is_some_and(|most| memo.budget_wait(most, now, policy.counted_for()).is_some());
        // Others wait for this to end. A last request may take twice as long as all before it.
        let is_long = began.elapsed() + pause > policy.patience / 3;
        let again = error.kind() == ErrorKind::Network
            && error.is_transient()
            && attempt < policy.attempts
            && !is_spent
            && error.retry_after().is_none_or(|wait| wait <= pause)
            && !is_long;
        if !again {
            return not_granted(work, record, &memo, error).await;
        }
        tracing::debug!(%error, attempt, "asking again");
        failure = Some(error);
        sleep(pause).await;
        attempt += 1;
    };
    // Zoho counted it at some moment before its answer was here.
    let answered = Timestamp::now();
    inner.stay_at(&center, record, &mut answer);
    memo.settle_mint(answered);
    entry.set_memo(memo.clone(), true);
    let kept = persist(inner, entry, record, &answer).await;
    mint.settle(answered).await;
    Ok(Some(Done {
        access: kept?,
        settled: Some(memo),
    }))
}
