//! From a credential that Zoho turns into tokens to a stored record.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures_util::FutureExt;

use super::access::Issued;
use super::cache::{CacheEntry, Hints};
use super::credential_state::{after_failure, recent};
use super::decide::{Purpose, Stop, standing};
use super::event::Event;
use super::inner::{Inner, LoginOutcome};
use super::lock::{acquire, release};
use super::login_credential::Login;
use super::memory::{NOT_ASKED, count};
use super::mints::{Mint, Reserved, tell};
use super::naming::{
    end_twin, fits, is_at, known, lead_back, plain_twin, same_environment, save_over, stored_as,
    tell_if_replaced,
};
use super::persist::{Patience, not_saved};
use super::save_later::{Unsaved, discard_login, save_later};
use super::serve::access_token;
use super::single_flight::{Callers, Flight};
use crate::accounts::TokenAnswer;
use crate::clock::Timestamp;
use crate::data_center::DataCenter;
use crate::error::{Error, ErrorCode, ErrorKind, Result};
use crate::secret::{Fingerprint, RefreshToken};
use crate::store::{CoordinationKey, Guarantee, Memo, Permit};
use crate::token::{OAuthToken, TokenId};

/// Returns the entry of the record that the credential leads to, which is stored then.
pub(super) async fn login(inner: &Arc<Inner>, mut login: Login) -> Result<Arc<CacheEntry>> {
    login.client().check()?;
    loop {
        let asked = Timestamp::now();
        let record = found(inner, &login).await?;
        // A record without a name would take the place of the user's stored login as well.
        let another_may_go_first = match &record {
            Some(record) => record.user_name.is_none(),
            None => matches!(login, Login::Refresh(..)),
        };
        if another_may_go_first
            && let Some(stored) = stored_of_user(inner, &login).await?
            && (record.as_ref()).is_none_or(|record| record.refresh_token != stored.refresh_token)
        {
            let entry = entry_of_user(inner, &login, &stored, asked)?;
            if is_alive(inner, &entry).await {
                tell_stored_used(inner, entry.id);
                return Ok(entry);
            }
            if let Login::Refresh(_, dead) = &mut login {
                *dead = stored.refresh_token;
            }
        }
        if let Some(record) = record {
            return entry_of_found(inner, &login, &record, asked).await;
        }
        // Lives until the outcome is marked as heard: without callers it would be saved or revoked.
        let mut flight = join_or_start(inner, &login);
        let Some(outcome) = flight.outcome().await else {
            if flight.is_joined {
                // The caller that started it, perhaps on another runtime, is gone.
                continue;
            }
            let message = "the login ended without an answer: its runtime was shut down";
            return Err(Error::new(ErrorCode::Internal, message));
        };
        // Of another user, or from another data center: what it left behind is looked at.
        if login.is_answered_by(inner, &outcome) {
            outcome.is_heard.store(true, Ordering::SeqCst);
            return outcome.result.clone();
        }
    }
}

/// The record that the credential led to before.
async fn found(inner: &Inner, login: &Login) -> Result<Option<OAuthToken>> {
    let found = inner.store.find_token(&login.query()).await?;
    Ok(found.filter(|record| fits(record, login.user_name())))
}

/// The entry of a record that was [`found`]. The store was asked for it at `asked`.
async fn entry_of_found(
    inner: &Arc<Inner>,
    login: &Login,
    record: &OAuthToken,
    asked: Timestamp,
) -> Result<Arc<CacheEntry>> {
    let name = login.user_name().cloned();
    known(inner, record, login.hints(), name, asked).await
}

/// The login that is stored for the user of the credential, under its client.
async fn stored_of_user(inner: &Inner, login: &Login) -> Result<Option<OAuthToken>> {
    let Some(name) = login.user_name() else {
        return Ok(None);
    };
    let stored = stored_as(inner, name, &login.client().id).await?;
    Ok(stored.filter(|record| record.refresh_token.is_some()))
}

/// The entry of what is [stored for the user](stored_of_user). It is another login than the one that
/// the credential speaks of, perhaps of another data center, where the given secret is not shown.
fn entry_of_user(
    inner: &Inner,
    login: &Login,
    stored: &OAuthToken,
    asked: Timestamp,
) -> Result<Arc<CacheEntry>> {
    let given = login.center(inner).accounts_url();
    let at = inner.center_of(stored, None);
    let hints = if at.is_ok_and(|at| at.has_accounts_url(given)) {
        login.hints()
    } else {
        Hints::default()
    };
    inner.entry_of(stored, hints, asked)
}

fn tell_stored_used(inner: &Inner, id: TokenId) {
    tracing::warn!(%id, "a given credential is not used: its user has another login in the store");
    inner.tell(Event::StoredLoginUsed { id });
}

/// Returns false if only a person can make the stored login work again.
async fn is_alive(inner: &Arc<Inner>, entry: &Arc<CacheEntry>) -> bool {
    match access_token(inner, entry).await {
        Ok(_) => true,
        Err(error) => error.kind() != ErrorKind::LoginRequired,
    }
}

/// Joins the login from this credential, or starts it. If no caller receives its outcome, what Zoho
/// issued is saved later, or revoked.
fn join_or_start(inner: &Arc<Inner>, login: &Login) -> Flight<Arc<LoginOutcome>> {
    let key = login.fingerprint();
    let work = || {
        let (inner, login, key) = (Arc::clone(inner), login.clone(), key.clone());
        async move {
            let begun = AssertUnwindSafe(begin(&inner, &login, &key)).catch_unwind();
            let result = begun
                .await
                .unwrap_or_else(|_| Err(Error::new(ErrorCode::Internal, "the login panicked")));
            Arc::new(LoginOutcome {
                user_name: login.user_name().cloned(),
                asked: login.asked(&inner),
                result,
                is_heard: AtomicBool::new(false),
            })
        }
    };
    let (of_task, login) = (Arc::clone(inner), login.clone());
    let then = |outcome: Arc<LoginOutcome>, callers: Callers<_>| async move {
        let (inner, error) = (of_task, outcome.result.as_ref().err());
        let unsaved = error.and_then(Error::unsaved_token);
        let Some(record) = unsaved.filter(|record| record.refresh_token.is_some()) else {
            return;
        };
        // A caller may go away before it looks.
        callers.gone().await;
        if outcome.is_heard.load(Ordering::SeqCst) {
            return;
        }
        let is_refused = error.is_some_and(|error| error.code() != ErrorCode::TokenNotSaved);
        if is_refused {
            discard_login(&inner, &login, record).await;
        } else {
            save_later(&inner, Unsaved::Login(login, record.clone()));
        }
    };
    inner.logins.join_or_start(key.clone(), work, then)
}

/// Turns the credential into a stored record. Runs in a task of its own: the grant token works
/// once, so a cancelled caller must not lose the answer.
#[tracing::instrument(name = "zoho_login", level = "debug", skip_all)]
async fn begin(inner: &Arc<Inner>, login: &Login, key: &Fingerprint) -> Result<Arc<CacheEntry>> {
    let key = CoordinationKey::start(key);
    let permit = acquire(&inner.locks, &key, inner.policy.patience).await?;
    // What follows may wait for a refresh of the record, and that for the lock of this permit.
    let begun = begin_in_turn(inner, login, permit.as_deref()).await;
    let is_fleet = inner.locks.guarantee() == Guarantee::Fleet;
    let settled = match &begun {
        Ok(Begun::New(_, memo)) if is_fleet => Some(memo.clone()),
        // What the others of the fleet counted goes on counting, if the record is deleted again.
        Ok(Begun::Stored) if is_fleet => None,
        // The record takes over from here. A store of one machine does not delete old memos, and its
        // processes take turns.
        Ok(Begun::Stored | Begun::New(..)) => Some(Memo::default()),
        _ => None,
    };
    release(permit, settled.as_ref()).await;
    let asked = Timestamp::now();
    match begun? {
        Begun::Stored => {
            let Some(record) = found(inner, login).await? else {
                let message = "the record was deleted at this very moment";
                return Err(Error::new(ErrorCode::RecordDeleted, message));
            };
            entry_of_found(inner, login, &record, asked).await
        }
        Begun::Spent(error) => match found(inner, login).await? {
            Some(record) => entry_of_found(inner, login, &record, asked).await,
            None => match stored_of_user(inner, login).await? {
                Some(stored) => entry_of_user(inner, login, &stored, asked),
                None => Err(error),
            },
        },
        Begun::New(entry, memo) => {
            // The record may hold another login, which the given refresh token gave way to.
            let given = match login {
                Login::Grant(_) => None,
                Login::Refresh(refresh, _) => Some(refresh.token.fingerprint()),
            };
            count(inner, &entry, memo.minted_at, given.as_ref()).await;
            Ok(entry)
        }
    }
}

enum Begun {
    /// Somebody else stored it meanwhile.
    Stored,
    /// Zoho refuses the credential: it was used, by another machine perhaps, where the store offers
    /// no agreement.
    Spent(Error),
    /// With what is known about the credential: its access tokens count, also when the record is
    /// deleted and somebody logs in from it again.
    New(Arc<CacheEntry>, Memo),
}

async fn begin_in_turn(
    inner: &Arc<Inner>,
    login: &Login,
    permit: Option<&dyn Permit>,
) -> Result<Begun> {
    if found(inner, login).await?.is_some() {
        return Ok(Begun::Stored);
    }
    match ask(inner, login, permit).await {
        Err(error) if error.code() == ErrorCode::InvalidCode => Ok(Begun::Spent(error)),
        Err(error) => Err(error),
        Ok((answer, memo, mint)) => {
            let (issued, answered) = (answer.refresh_token.clone(), Timestamp::now());
            let saved = save(inner, login, answer).await;
            match (mint, issued) {
                (Some(mint), _) => mint.settle(answered).await,
                (None, Some(token)) => tell(inner, &token, answered).await,
                (None, None) => {}
            }
            Ok(Begun::New(saved?, memo))
        }
    }
}

/// Asks Zoho, unless it is known what it would say, or that it should not be asked. Returns also
/// what is known about the credential from then on, and the mint that is to be settled.
async fn ask(
    inner: &Arc<Inner>,
    login: &Login,
    permit: Option<&dyn Permit>,
) -> Result<(TokenAnswer, Memo, Option<Mint>)> {
    inner.check_center(login.center(inner))?;
    let policy = &inner.policy;
    let (now, window) = (Timestamp::now(), policy.counted_for());
    let (attempt, asked) = (login.attempt(inner), login.asked(inner));
    let own = (inner.attempts).recall(&attempt, now, window);
    let others = match permit {
        Some(permit) => (permit.memo().await).map_err(|error| error.about(NOT_ASKED))?,
        None => Memo::default(),
    };
    let others = recent(others.about(&attempt, now, window), now, window);
    let before = others.joined(own);
    if let Some(stop) = standing(&before, Some(&asked), policy.mint_budget, now, policy) {
        return Err(stop.into_error("this login"));
    }
    let mint = match login {
        Login::Grant(_) => None,
        Login::Refresh(refresh, _) => Some(reserve(inner, &refresh.token).await?),
    };
    let mut noted = before.clone();
    noted.note_mint(Timestamp::now());
    if let Err(error) = remember(inner, permit, &noted).await
        && !may_go_on(inner, login, &error)
    {
        // Nothing was asked of Zoho, so nothing counts.
        inner.attempts.remember(&before, now, window);
        take_back(mint).await;
        return Err(error.about(NOT_ASKED));
    }
    let error = match login.ask(inner).await {
        Ok(answer) => {
            let answered = Timestamp::now();
            noted.settle_mint(answered);
            inner.attempts.remember(&noted, answered, window);
            return Ok((answer, noted, mint));
        }
        Err(error) => error,
    };
    let memo = after_failure(&before, &noted, &error, &asked, policy);
    match mint {
        Some(mint) if error.may_have_issued() => mint.settle(Timestamp::now()).await,
        mint => take_back(mint).await,
    }
    if let Err(error) = remember(inner, permit, &memo).await {
        tracing::warn!(%error, "cannot tell other processes what became of a login");
    }
    Err(error)
}

/// Whether the login goes on although the store did not write it down.
///
/// A lock passes, and a grant token does not live long enough to wait for that elsewhere than here,
/// where the save is tried for a while. It works once, so there is nothing to count.
fn may_go_on(inner: &Inner, login: &Login, error: &Error) -> bool {
    let is_locked = error.code() == ErrorCode::StoreLocked;
    is_locked && matches!(login, Login::Grant(_)) && inner.locks.guarantee() != Guarantee::Fleet
}

/// Counts a mint among those of all who use the refresh token.
async fn reserve(inner: &Arc<Inner>, token: &RefreshToken) -> Result<Mint> {
    let most = inner.policy.mint_budget;
    match Mint::reserve(inner, token, most, &Purpose::Need).await? {
        Reserved::Mint(mint) => Ok(mint),
        Reserved::Spent(free_at) => {
            Err(Stop::Wait(free_at, ErrorCode::MintBudget).into_error("this login"))
        }
    }
}

async fn take_back(mint: Option<Mint>) {
    if let Some(mint) = mint {
        mint.take_back().await;
    }
}

/// Remembers what became of a login, in this process and in the store.
async fn remember(inner: &Inner, permit: Option<&dyn Permit>, memo: &Memo) -> Result<()> {
    let (now, window) = (Timestamp::now(), inner.policy.counted_for());
    inner.attempts.remember(memo, now, window);
    match permit {
        Some(permit) => permit.set_memo(memo).await,
        None => Ok(()),
    }
}

async fn save(inner: &Inner, login: &Login, answer: TokenAnswer) -> Result<Arc<CacheEntry>> {
    let mut record = login.record(inner);
    record.access_token = Some(answer.access_token);
    record.expiry_time = Some(answer.expires_at);
    record.api_domain = answer.api_domain;
    if let Some(refresh_token) = answer.refresh_token {
        record.refresh_token = Some(refresh_token);
    }
    let center = login.center(inner);
    if record.api_domain.is_none() {
        match inner.missing_domain(center, None) {
            Ok(domain) => record.api_domain = domain,
            Err(error) => return Err(error.with_unsaved_token(record)),
        }
    }
    store_login(inner, record, center, Some(login), Some(answer.life)).await
}

/// Stores a login that Zoho issued at `center` for the credential of `login`, and was good for `life`.
/// Returns the entry of what is stored for its user, if that goes first.
///
/// # Errors
/// `unknown_data_center`, `id_conflict` and `refresh_token_missing` when it has no place in the
/// store; `token_not_saved`. The error carries the record.
pub(super) async fn store_login(
    inner: &Inner,
    record: OAuthToken,
    center: &DataCenter,
    login: Option<&Login>,
    life: Option<Duration>,
) -> Result<Arc<CacheEntry>> {
    if let Some(domain) = &record.api_domain
        && let Err(error) = inner.check_domain(center, domain)
    {
        return Err(error.with_unsaved_token(record));
    }
    let mut patience = Patience::new(inner);
    let (id, room) = loop {
        let asked = Timestamp::now();
        let error = match room_for(inner, &record, center).await {
            Ok(Err(refusal)) => return Err(refusal.with_unsaved_token(record)),
            Ok(Ok(room)) => {
                let saved = match (login, &room.stored) {
                    (Some(login), Some(stored)) if login.gives_way_to(stored) => {
                        let entry = entry_of_user(inner, login, stored, asked)?;
                        discard_login(inner, login, &record).await;
                        tell_stored_used(inner, entry.id);
                        return Ok(entry);
                    }
                    (Some(Login::Refresh(..)), Some(stored)) => {
                        save_over(inner, stored, &room.record).await
                    }
                    _ => inner.store.save_token(&room.record).await,
                };
                match saved {
                    Ok(id) => break (id, room),
                    Err(error) => error,
                }
            }
            // An access token that is good for an hour is all that is at stake.
            Err(error) if record.refresh_token.is_none() => return Err(not_saved(&error, record)),
            Err(error) => error,
        };
        if let Err(error) = patience.after(error).await {
            return Err(not_saved(&error, record));
        }
    };
    // The record may be one that was there before, with more in it than was just saved.
    let asked = Timestamp::now();
    let issued_token = record.access_token.clone();
    let stored = inner.store.find_token_by_id(id).await.ok().flatten();
    if let Some(stored) = &stored
        && !is_saved_as(stored, &room.record)
    {
        let message = format!("the store holds another login under the id {id} that it gave");
        let cause = Error::new(ErrorCode::StoreDamaged, message);
        return Err(not_saved(&cause, record));
    }
    tracing::info!(%id, "logged in");
    inner.tell(Event::LoggedIn { id });
    if let Some(replaced) = &room.stored {
        tell_if_replaced(inner, replaced, &room.record);
    }
    let record = stored.unwrap_or(OAuthToken {
        id: Some(id),
        ..room.record
    });
    if let Some(twin) = &room.twin {
        end_twin(inner, twin, &record).await;
    }
    let hints = login.map(Login::hints).unwrap_or_default();
    let entry = inner.entry_of(&record, hints, asked)?;
    if record.access_token == issued_token
        && let Some(issued) = Issued::of(&record, life, &inner.policy, asked)
    {
        entry.publish(issued);
    }
    Ok(entry)
}

/// Whether `stored` is what came of saving `login`: of the same client, and of the same user or with
/// the same token.
fn is_saved_as(stored: &OAuthToken, login: &OAuthToken) -> bool {
    let is_of_client = login.client_id.is_none() || stored.client_id == login.client_id;
    let is_of_user = login.user_name.is_some() && stored.user_name == login.user_name;
    let has_token = if login.refresh_token.is_some() {
        stored.refresh_token == login.refresh_token
    } else {
        stored.access_token == login.access_token
    };
    is_of_client && fits(stored, login.user_name.as_ref()) && (is_of_user || has_token)
}

/// A login that can be saved.
struct Room {
    record: OAuthToken,
    /// The record of the same user and client, which it joins.
    stored: Option<OAuthToken>,
    /// The record to be deleted once it is saved: see [`plain_twin`].
    twin: Option<OAuthToken>,
}

/// Looks what the store holds for a login that was issued at `center`. The inner error says why the
/// login has no place there.
async fn room_for(inner: &Inner, record: &OAuthToken, center: &DataCenter) -> Result<Result<Room>> {
    let mut record = record.clone();
    let stored = match (&record.user_name, &record.client_id) {
        (Some(name), Some(client)) => stored_as(inner, name, client).await?,
        _ => None,
    };
    if let Some(stored) = &stored {
        if let Err(refusal) = lead_back(inner, center, stored, &mut record) {
            return Ok(Err(refusal));
        }
        if let Err(conflict) = same_environment(inner, stored, &record) {
            return Ok(Err(conflict));
        }
    }
    let twin = plain_twin(inner, &record, center).await?;
    if record.refresh_token.is_none() {
        // One of another data center is of no use: the row would join a token of one center to the
        // address of another.
        let is_renewable = stored
            .as_ref()
            .is_some_and(|stored| stored.refresh_token.is_some() && is_at(inner, stored, center));
        if let (false, Some(twin)) = (is_renewable, &twin) {
            record.refresh_token.clone_from(&twin.refresh_token);
            record.api_domain = record.api_domain.or_else(|| twin.api_domain.clone());
        }
        if !is_renewable && record.refresh_token.is_none() {
            return Ok(Err(Error::new(
                ErrorCode::RefreshTokenMissing,
                "Zoho issued an access token without a refresh token, so nothing was stored",
            )));
        }
    }
    Ok(Ok(Room {
        record,
        stored,
        twin,
    }))
}
