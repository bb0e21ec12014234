//! From a credential that Zoho turns into tokens to a stored record.

use std::panic::AssertUnwindSafe;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use futures_util::FutureExt;
use tokio::sync::watch;

use super::Event;
use super::access::Issued;
use super::decide::{Purpose, Stop, believed_end, standing};
use super::keep::{Patience, not_saved};
use super::memory::{NOT_ASKED, after_failure, asked_by, count, recent};
use super::mints::{Mint, Reserved, tell};
use super::shared::Shared;
use super::slot::{Hints, Slot};
use super::start::{fits, known};
use super::turn::{acquire, release};
use crate::accounts::TokenAnswer;
use crate::clock::Timestamp;
use crate::credential::{GrantCredential, OAuthClient, RefreshCredential};
use crate::data_center::DataCenter;
use crate::error::{Error, ErrorCode, ErrorKind, Result};
use crate::query::TokenQuery;
use crate::secret::{Fingerprint, RefreshToken};
use crate::store::{CoordinationKey, Fact, Guarantee, Kept, Memo, Permit};
use crate::token::{ClientId, OAuthToken, TokenId, UserName};

/// The number of records that are listed at a time.
const PAGE: usize = 1000;

/// A login under way; everybody who starts from the same credential waits for its outcome.
#[derive(Clone, Debug)]
pub(super) struct Starting {
    outcome: watch::Receiver<Option<Result<Arc<Slot>>>>,
    /// Whose login it is to be.
    user_name: Option<UserName>,
    /// Whom the credential is shown to.
    asked: Fingerprint,
    /// Somebody got it.
    is_heard: Arc<AtomicBool>,
}

impl Starting {
    /// Whether what comes of it is the answer to `login` too.
    fn answers(&self, shared: &Shared, login: &Login) -> bool {
        let name = login.user_name();
        let is_the_user = name.is_none() || self.user_name.as_ref() == name;
        is_the_user && self.asked == login.asked(shared)
    }
}

/// The two credentials that Zoho turns into tokens.
#[derive(Clone, Debug)]
pub(super) enum Login {
    Grant(GrantCredential),
    /// With the refresh token of the user's stored login, if Zoho was seen to refuse that.
    Refresh(RefreshCredential, Option<RefreshToken>),
}

impl Login {
    fn hints(&self) -> Hints {
        let (client, center) = match self {
            Self::Grant(grant) => (&grant.client, &grant.data_center),
            Self::Refresh(refresh, _) => (&refresh.client, &refresh.data_center),
        };
        Hints {
            user_name: None,
            client: Some(client.clone()),
            client_home: center.clone(),
            center: center.clone(),
        }
    }

    /// Names the credential for all who start from it, in every process.
    fn fingerprint(&self) -> Fingerprint {
        match self {
            Self::Grant(grant) => Fingerprint::of(&[
                "grant",
                grant.client.id.as_str(),
                grant.code.expose_secret(),
            ]),
            Self::Refresh(refresh, _) => Fingerprint::of(&[
                "refresh",
                refresh.client.id.as_str(),
                refresh.token.expose_secret(),
            ]),
        }
    }

    /// Names the credential and whom it is shown to, for what came of that.
    fn attempt(&self, shared: &Shared) -> Fingerprint {
        let asked = self.center(shared).accounts_url();
        Fingerprint::of(&[self.fingerprint().as_str(), asked])
    }

    fn client(&self) -> &OAuthClient {
        match self {
            Self::Grant(grant) => &grant.client,
            Self::Refresh(refresh, _) => &refresh.client,
        }
    }

    fn asked(&self, shared: &Shared) -> Fingerprint {
        asked_by(self.center(shared), &self.client().id)
    }

    fn center<'a>(&'a self, shared: &'a Shared) -> &'a DataCenter {
        let named = match self {
            Self::Grant(grant) => &grant.data_center,
            Self::Refresh(refresh, _) => &refresh.data_center,
        };
        named.as_ref().unwrap_or(&shared.center)
    }

    fn user_name(&self) -> Option<&UserName> {
        match self {
            Self::Grant(grant) => grant.user_name.as_ref(),
            Self::Refresh(refresh, _) => refresh.user_name.as_ref(),
        }
    }

    fn query(&self) -> TokenQuery {
        match self {
            Self::Grant(grant) => {
                TokenQuery::grant_token(grant.code.clone()).with_client(grant.client.id.clone())
            }
            Self::Refresh(refresh, _) => TokenQuery::refresh_token(refresh.token.clone())
                .with_client(refresh.client.id.clone()),
        }
    }

    /// Whether another login that is stored for the user goes first: see [`RefreshCredential`].
    fn gives_way_to(&self, stored: &OAuthToken) -> bool {
        let (Self::Refresh(refresh, dead), Some(token)) = (self, &stored.refresh_token) else {
            return false;
        };
        *token != refresh.token && Some(token) != dead.as_ref()
    }

    /// The record as the credential knows it, without what Zoho is yet to say.
    fn record(&self, shared: &Shared) -> OAuthToken {
        let mut record = OAuthToken::new();
        match self {
            Self::Grant(grant) => record.grant_token = Some(grant.code.clone()),
            Self::Refresh(refresh, _) => record.refresh_token = Some(refresh.token.clone()),
        }
        record.user_name = self.user_name().cloned();
        let client = self.client().at(self.center(shared));
        record.client_id = Some(client.id.clone());
        record.client_secret = Some(client.secret.clone());
        record.redirect_url.clone_from(&client.redirect_uri);
        record
    }

    async fn ask(&self, shared: &Shared) -> Result<TokenAnswer> {
        let center = self.center(shared);
        let client = self.client().at(center);
        match self {
            Self::Grant(grant) => {
                let verifier = grant.code_verifier.as_ref();
                shared
                    .accounts
                    .exchange(center, &client, &grant.code, verifier)
                    .await
            }
            Self::Refresh(refresh, _) => {
                shared
                    .accounts
                    .refresh(center, &client.id, &client.secret, &refresh.token)
                    .await
            }
        }
    }
}

/// Returns the slot of the record that the credential leads to, which is stored then.
pub(super) async fn login(shared: &Arc<Shared>, mut login: Login) -> Result<Arc<Slot>> {
    login.client().check()?;
    loop {
        let asked = Timestamp::now();
        let record = found(shared, &login).await?;
        // A record without a name would take the place of the user's stored login as well.
        let another_may_go_first = match &record {
            Some(record) => record.user_name.is_none(),
            None => matches!(login, Login::Refresh(..)),
        };
        if another_may_go_first
            && let Some(stored) = stored_of_user(shared, &login).await?
            && (record.as_ref()).is_none_or(|record| record.refresh_token != stored.refresh_token)
        {
            let slot = slot_of_user(shared, &login, &stored, asked)?;
            if is_alive(shared, &slot).await {
                tell_stored_used(shared, slot.id);
                return Ok(slot);
            }
            if let Login::Refresh(_, dead) = &mut login {
                *dead = stored.refresh_token;
            }
        }
        if let Some(record) = record {
            return slot_of_found(shared, &login, &record, asked).await;
        }
        let mut starting = join_or_begin(shared, &login);
        let answers = starting.answers(shared, &login);
        let answer = starting.outcome.wait_for(Option::is_some).await;
        match answer.as_deref() {
            // Of another user, or from another data center. What it left behind is looked at.
            _ if !answers => {}
            Ok(Some(result)) => {
                starting.is_heard.store(true, Ordering::SeqCst);
                return result.clone();
            }
            _ => {
                let message = "the login ended without an answer: its runtime was shut down";
                return Err(Error::new(ErrorCode::Internal, message));
            }
        }
    }
}

/// The record that the credential led to before.
async fn found(shared: &Shared, login: &Login) -> Result<Option<OAuthToken>> {
    let found = shared.store.find_token(&login.query()).await?;
    Ok(found.filter(|record| fits(record, login.user_name())))
}

/// The slot of a record that was [`found`]. The store was asked for it at `asked`.
async fn slot_of_found(
    shared: &Arc<Shared>,
    login: &Login,
    record: &OAuthToken,
    asked: Timestamp,
) -> Result<Arc<Slot>> {
    let name = login.user_name().cloned();
    known(shared, record, login.hints(), name, asked).await
}

/// The login that is stored for the user of the credential, under its client.
async fn stored_of_user(shared: &Shared, login: &Login) -> Result<Option<OAuthToken>> {
    let Some(name) = login.user_name() else {
        return Ok(None);
    };
    let stored = stored_as(shared, name, &login.client().id).await?;
    Ok(stored.filter(|record| record.refresh_token.is_some()))
}

/// The slot of what is [stored for the user](stored_of_user). It is another login than the one that
/// the credential speaks of, perhaps of another data center, where the given secret is not shown.
fn slot_of_user(
    shared: &Shared,
    login: &Login,
    stored: &OAuthToken,
    asked: Timestamp,
) -> Result<Arc<Slot>> {
    let given = login.center(shared).accounts_url();
    let at = shared.center_of(stored, None);
    let hints = if at.is_ok_and(|at| at.has_accounts_url(given)) {
        login.hints()
    } else {
        Hints::default()
    };
    shared.slot_of(stored, hints, asked)
}

fn tell_stored_used(shared: &Shared, id: TokenId) {
    tracing::warn!(%id, "a given credential is not used: its user has another login in the store");
    shared.tell(Event::StoredLoginUsed { id });
}

/// The record of a user under a client.
pub(super) async fn stored_as(
    shared: &Shared,
    name: &UserName,
    client: &ClientId,
) -> Result<Option<OAuthToken>> {
    let query = TokenQuery::user_name(name.clone()).with_client(client.clone());
    shared.store.find_token(&query).await
}

/// Whether Zoho still grants access tokens to a stored login, as far as that is known.
async fn is_alive(shared: &Arc<Shared>, slot: &Arc<Slot>) -> bool {
    match slot.access(shared).await {
        Ok(_) => true,
        Err(error) => error.kind() != ErrorKind::LoginRequired,
    }
}

/// Says so if `login` takes the place of a stored one with another refresh token.
pub(super) fn tell_if_replaced(shared: &Shared, stored: &OAuthToken, login: &OAuthToken) {
    let (Some(id), Some(old), Some(new)) = (stored.id, &stored.refresh_token, &login.refresh_token)
    else {
        return;
    };
    if old != new {
        tracing::info!(%id, "a login takes the place of the stored one of its user");
        shared.tell(Event::LoginReplaced { id });
    }
}

fn join_or_begin(shared: &Arc<Shared>, login: &Login) -> Starting {
    let key = login.fingerprint();
    let mut starts = shared.starts.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(under_way) = starts
        .get(&key)
        .filter(|flight| flight.outcome.has_changed().is_ok())
    {
        return under_way.clone();
    }
    let (sender, outcome) = watch::channel(None);
    let is_heard = Arc::new(AtomicBool::new(false));
    let starting = Starting {
        outcome,
        user_name: login.user_name().cloned(),
        asked: login.asked(shared),
        is_heard,
    };
    starts.insert(key.clone(), starting.clone());
    drop(starts);
    let is_heard = Arc::clone(&starting.is_heard);
    let (shared, login) = (Arc::clone(shared), login.clone());
    tokio::spawn(async move {
        let begun = AssertUnwindSafe(begin(&shared, &login, &key)).catch_unwind();
        let outcome = begun
            .await
            .unwrap_or_else(|_| Err(Error::new(ErrorCode::Internal, "the login panicked")));
        shared
            .starts
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(&key);
        let error = outcome.as_ref().err();
        let unsaved = error.and_then(Error::unsaved_token).cloned();
        let is_refused = error.is_some_and(|error| error.code() != ErrorCode::TokenNotSaved);
        // Nobody may be waiting.
        let _ = sender.send(Some(outcome));
        let Some(record) = unsaved.filter(|record| record.refresh_token.is_some()) else {
            return;
        };
        // Whoever waits may go away before he looks.
        sender.closed().await;
        if is_heard.load(Ordering::SeqCst) {
            return;
        }
        if is_refused {
            discard(&shared, &login, &record).await;
        } else {
            save_later(&shared, &login, &record).await;
        }
    });
    starting
}

/// Goes on trying to save a login that nobody waits for any more, and that nothing else holds.
async fn save_later(shared: &Shared, login: &Login, record: &OAuthToken) {
    let mut pause = Duration::from_millis(250);
    loop {
        tokio::time::sleep(pause.mul_f64(0.5 + fastrand::f64())).await;
        pause = (pause * 2).min(Duration::from_secs(30));
        match save_unless_outdated(shared, login, record).await {
            Ok(None) => break,
            Ok(Some(id)) => {
                tracing::info!(%id, "a login that nobody waits for any more is saved");
                shared.tell(Event::LoggedIn { id });
                return;
            }
            Err(error) => tracing::warn!(%error, "still cannot save a login"),
        }
    }
    tracing::info!("a login that could not be saved gives way to a newer one");
    discard(shared, login, record).await;
}

/// Revokes the refresh token of a login that is not stored and that no caller received.
async fn discard(shared: &Shared, login: &Login, record: &OAuthToken) {
    // A refresh token that came with the credential is the application's, and not ours to end.
    if let (Login::Grant(_), Some(token)) = (login, &record.refresh_token)
        && let Err(error) = shared.accounts.revoke(login.center(shared), token).await
    {
        tracing::warn!(%error, "cannot revoke the refresh token of a login that is not stored");
    }
}

/// Saves a login; `None` if the store holds a newer one of the same user under the same client, or one
/// of another environment, or one that it cannot be told from.
async fn save_unless_outdated(
    shared: &Shared,
    login: &Login,
    record: &OAuthToken,
) -> Result<Option<TokenId>> {
    let found = match (&record.user_name, &record.client_id) {
        (Some(name), Some(client)) => {
            let query = TokenQuery::user_name(name.clone()).with_client(client.clone());
            shared.store.find_token(&query).await?
        }
        _ => None,
    };
    let Some(stored) = found else {
        return shared.store.save_token(record).await.map(Some);
    };
    if stored.refresh_token == record.refresh_token {
        return Ok(stored.id);
    }
    let mut record = record.clone();
    let end = believed_end(&stored, Timestamp::now());
    let is_newer = stored.refresh_token.is_some() && end > record.expiry_time;
    if is_newer
        || login.gives_way_to(&stored)
        || lead_back(shared, login.center(shared), &stored, &mut record).is_err()
        || same_environment(shared, &stored, &record).is_err()
    {
        return Ok(None);
    }
    save_over(shared, &stored, &record).await.map(Some)
}

/// Saves a login in the place of `stored`, and of nothing that comes while it is saved.
async fn save_over(shared: &Shared, stored: &OAuthToken, record: &OAuthToken) -> Result<TokenId> {
    let Some(id) = stored.id else {
        return shared.store.save_token(record).await;
    };
    let mut news = record.clone();
    news.id = Some(id);
    let fact = Fact::new(id, stored.clone(), news);
    if shared.store.save_fact(&fact).await? == Kept::Saved {
        return Ok(id);
    }
    let message = format!("record {id} changed at this very moment");
    Err(Error::new(ErrorCode::StoreLocked, message))
}

/// Turns the credential into a stored record. Runs in a task of its own: the grant token works
/// once, so whoever asked must not take the answer with him when he goes.
#[tracing::instrument(name = "zoho_login", level = "debug", skip_all)]
async fn begin(shared: &Arc<Shared>, login: &Login, key: &Fingerprint) -> Result<Arc<Slot>> {
    let key = CoordinationKey::start(key);
    let permit = acquire(shared, &key, shared.policy.patience).await?;
    // What follows may wait for a refresh of the record, and that for the lock of this permit.
    let begun = begin_in_turn(shared, login, permit.as_deref()).await;
    let is_fleet = shared.guarantee() == Guarantee::Fleet;
    let settled = match &begun {
        Ok(Begun::New(_, memo)) if is_fleet => Some(memo.clone()),
        // What the others of the fleet counted goes on counting, if the record is deleted again.
        Ok(Begun::Stored) if is_fleet => None,
        // The record takes over from here. A store of one machine has nobody who tidies up what is
        // of no use after an hour, and what its processes do they do one after the other.
        Ok(Begun::Stored | Begun::New(..)) => Some(Memo::default()),
        _ => None,
    };
    release(permit, settled.as_ref()).await;
    let asked = Timestamp::now();
    match begun? {
        Begun::Stored => {
            let Some(record) = found(shared, login).await? else {
                let message = "the record was deleted at this very moment";
                return Err(Error::new(ErrorCode::RecordDeleted, message));
            };
            slot_of_found(shared, login, &record, asked).await
        }
        Begun::Spent(error) => match found(shared, login).await? {
            Some(record) => slot_of_found(shared, login, &record, asked).await,
            None => match stored_of_user(shared, login).await? {
                Some(stored) => slot_of_user(shared, login, &stored, asked),
                None => Err(error),
            },
        },
        Begun::New(slot, memo) => {
            // The record may hold another login, which the given refresh token gave way to.
            let given = match login {
                Login::Grant(_) => None,
                Login::Refresh(refresh, _) => Some(refresh.token.fingerprint()),
            };
            count(shared, &slot, memo.minted_at, given.as_ref()).await;
            Ok(slot)
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
    New(Arc<Slot>, Memo),
}

async fn begin_in_turn(
    shared: &Arc<Shared>,
    login: &Login,
    permit: Option<&dyn Permit>,
) -> Result<Begun> {
    if found(shared, login).await?.is_some() {
        return Ok(Begun::Stored);
    }
    match ask(shared, login, permit).await {
        Err(error) if error.code() == ErrorCode::InvalidCode => Ok(Begun::Spent(error)),
        Err(error) => Err(error),
        Ok((answer, memo, mint)) => {
            let (issued, answered) = (answer.refresh_token.clone(), Timestamp::now());
            let saved = save(shared, login, answer).await;
            match (mint, issued) {
                (Some(mint), _) => mint.settle(answered).await,
                (None, Some(token)) => tell(shared, &token, answered).await,
                (None, None) => {}
            }
            Ok(Begun::New(saved?, memo))
        }
    }
}

/// Asks Zoho, unless it is known what it would say, or that it should not be asked. Returns also
/// what is known about the credential from then on, and the mint that is to be settled.
async fn ask(
    shared: &Arc<Shared>,
    login: &Login,
    permit: Option<&dyn Permit>,
) -> Result<(TokenAnswer, Memo, Option<Mint>)> {
    let policy = &shared.policy;
    let (now, window) = (Timestamp::now(), policy.counted_for());
    let (attempt, asked) = (login.attempt(shared), login.asked(shared));
    let own = (shared.attempts).recall(&attempt, now, window);
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
        Login::Refresh(refresh, _) => Some(reserve(shared, &refresh.token).await?),
    };
    let mut noted = before.clone();
    noted.note_mint(Timestamp::now());
    if let Err(error) = remember(shared, permit, &noted).await
        && !may_go_on(shared, login, &error)
    {
        // Nothing was asked of Zoho, so nothing counts.
        shared.attempts.remember(&before, now, window);
        take_back(mint).await;
        return Err(error.about(NOT_ASKED));
    }
    let error = match login.ask(shared).await {
        Ok(answer) => {
            let answered = Timestamp::now();
            noted.settle_mint(answered);
            shared.attempts.remember(&noted, answered, window);
            return Ok((answer, noted, mint));
        }
        Err(error) => error,
    };
    let memo = after_failure(&before, &noted, &error, &asked, policy);
    match mint {
        Some(mint) if error.may_have_issued() => mint.settle(Timestamp::now()).await,
        mint => take_back(mint).await,
    }
    if let Err(error) = remember(shared, permit, &memo).await {
        tracing::warn!(%error, "cannot tell other processes what became of a login");
    }
    Err(error)
}

/// Whether the login goes on although the store did not write it down.
///
/// A lock passes, and a grant token does not live long enough to wait for that elsewhere than here,
/// where the save is tried for a while. It works once, so there is nothing to count.
fn may_go_on(shared: &Shared, login: &Login, error: &Error) -> bool {
    let is_locked = error.code() == ErrorCode::StoreLocked;
    is_locked && matches!(login, Login::Grant(_)) && shared.guarantee() != Guarantee::Fleet
}

/// Counts a mint among those of all who use the refresh token.
async fn reserve(shared: &Arc<Shared>, token: &RefreshToken) -> Result<Mint> {
    let most = shared.policy.mint_budget;
    match Mint::reserve(shared, token, most, &Purpose::Need).await? {
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

/// Remembers what became of a login, in this process and, as far as the store can, in all.
async fn remember(shared: &Shared, permit: Option<&dyn Permit>, memo: &Memo) -> Result<()> {
    let (now, window) = (Timestamp::now(), shared.policy.counted_for());
    shared.attempts.remember(memo, now, window);
    match permit {
        Some(permit) => permit.set_memo(memo).await,
        None => Ok(()),
    }
}

async fn save(shared: &Shared, login: &Login, answer: TokenAnswer) -> Result<Arc<Slot>> {
    let mut record = login.record(shared);
    record.access_token = Some(answer.access_token);
    record.expiry_time = Some(answer.expires_at);
    record.api_domain = answer.api_domain;
    if let Some(refresh_token) = answer.refresh_token {
        record.refresh_token = Some(refresh_token);
    }
    let center = login.center(shared);
    if record.api_domain.is_none() {
        match shared.missing_domain(center, None) {
            Ok(domain) => record.api_domain = domain,
            Err(error) => return Err(error.with_unsaved_token(record)),
        }
    }
    store_login(shared, record, center, Some(login), Some(answer.life)).await
}

/// Stores a login that Zoho issued at `center` for the credential of `login`, and was good for `life`.
/// Returns the slot of what is stored for its user, if that goes first.
///
/// # Errors
/// `unknown_data_center`, `id_conflict` and `refresh_token_missing` when it has no place in the
/// store; `token_not_saved`. The error carries the record.
pub(super) async fn store_login(
    shared: &Shared,
    record: OAuthToken,
    center: &DataCenter,
    login: Option<&Login>,
    life: Option<Duration>,
) -> Result<Arc<Slot>> {
    if let Some(domain) = &record.api_domain
        && let Err(error) = shared.check_domain(center, domain)
    {
        return Err(error.with_unsaved_token(record));
    }
    let mut patience = Patience::new(shared);
    let (id, room) = loop {
        let asked = Timestamp::now();
        let error = match room_for(shared, &record, center).await {
            Ok(Err(refusal)) => return Err(refusal.with_unsaved_token(record)),
            Ok(Ok(room)) => {
                let saved = match (login, &room.stored) {
                    (Some(login), Some(stored)) if login.gives_way_to(stored) => {
                        let slot = slot_of_user(shared, login, stored, asked)?;
                        tell_stored_used(shared, slot.id);
                        return Ok(slot);
                    }
                    (Some(Login::Refresh(..)), Some(stored)) => {
                        save_over(shared, stored, &room.record).await
                    }
                    _ => shared.store.save_token(&room.record).await,
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
    let stored = shared.store.find_token_by_id(id).await.ok().flatten();
    if let Some(stored) = &stored
        && !is_saved_as(stored, &room.record)
    {
        let message = format!("the store holds another login under the id {id} that it gave");
        let cause = Error::new(ErrorCode::StoreDamaged, message);
        return Err(not_saved(&cause, record));
    }
    tracing::info!(%id, "logged in");
    shared.tell(Event::LoggedIn { id });
    if let Some(replaced) = &room.stored {
        tell_if_replaced(shared, replaced, &room.record);
    }
    let record = stored.unwrap_or(OAuthToken {
        id: Some(id),
        ..room.record
    });
    if let Some(twin) = &room.twin {
        end_twin(shared, twin, &record).await;
    }
    let hints = login.map(Login::hints).unwrap_or_default();
    let slot = shared.slot_of(&record, hints, asked)?;
    if record.access_token == issued_token
        && let Some(issued) = Issued::of(&record, life, &shared.policy, asked)
    {
        slot.publish(issued);
    }
    Ok(slot)
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
async fn room_for(
    shared: &Shared,
    record: &OAuthToken,
    center: &DataCenter,
) -> Result<Result<Room>> {
    let mut record = record.clone();
    let stored = match (&record.user_name, &record.client_id) {
        (Some(name), Some(client)) => stored_as(shared, name, client).await?,
        _ => None,
    };
    if let Some(stored) = &stored {
        if let Err(refusal) = lead_back(shared, center, stored, &mut record) {
            return Ok(Err(refusal));
        }
        if let Err(conflict) = same_environment(shared, stored, &record) {
            return Ok(Err(conflict));
        }
    }
    let twin = plain_twin(shared, &record, center).await?;
    if record.refresh_token.is_none() {
        // One of another data center is of no use: the row would join a token of one center to the
        // address of another.
        let is_renewable = stored
            .as_ref()
            .is_some_and(|stored| stored.refresh_token.is_some() && is_at(shared, stored, center));
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

/// Gives a login that `center` issued without an API domain the one that it needs when it is joined
/// to the stored record.
///
/// # Errors
/// `unknown_data_center` when none is known.
fn lead_back(
    shared: &Shared,
    center: &DataCenter,
    stored: &OAuthToken,
    record: &mut OAuthToken,
) -> Result<()> {
    if record.api_domain.is_none() {
        record.api_domain = shared.missing_domain(center, Some(stored))?;
    }
    Ok(())
}

/// Whether what is stored belongs to `center`, which also counts if nothing says so.
fn is_at(shared: &Shared, stored: &OAuthToken, center: &DataCenter) -> bool {
    let at = shared.center_of(stored, Some(center));
    at.is_ok_and(|at| at.has_accounts_url(center.accounts_url()))
}

/// Refuses to join the logins of one user to two environments, such as production and a sandbox: one
/// of them would be lost.
///
/// # Errors
/// `id_conflict`.
pub(super) fn same_environment(
    shared: &Shared,
    stored: &OAuthToken,
    login: &OAuthToken,
) -> Result<()> {
    let environment_of = |record: &OAuthToken| {
        let domain = record.api_domain.as_deref()?;
        let center = shared.centers.by_api_domain(domain)?;
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
    shared: &Shared,
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
    let twin = stored_as(shared, &UserName::received(address)?, client).await?;
    let is_known = |domain: &String| shared.known_center(domain).is_ok();
    let twin = twin.filter(|twin| twin.api_domain.as_ref().is_none_or(is_known));
    let twin = twin.filter(|twin| is_at(shared, twin, center));
    let Some(twin) = twin.filter(|twin| same_environment(shared, twin, record).is_ok()) else {
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
        let rows = match shared.store.get_tokens_page(after, PAGE).await {
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
pub(super) async fn end_twin(shared: &Shared, twin: &OAuthToken, record: &OAuthToken) {
    let Some(id) = twin.id.filter(|_| record.refresh_token.is_some()) else {
        return;
    };
    let deleted = match shared.store.find_token_by_id(id).await {
        Ok(Some(stored)) if is_same_row(&stored, twin) => shared.store.delete_token(id).await,
        Ok(_) => return,
        Err(error) => Err(error),
    };
    match deleted {
        Ok(_) => {
            tell_if_replaced(shared, twin, record);
            tracing::info!(%id, "a record under the e-mail address joins the one with the full name");
            if let Some(slot) = shared.slots.get(&id) {
                shared.forget(&slot);
            }
            shared.tell(Event::Deleted { id });
        }
        Err(error) => {
            tracing::warn!(%id, %error, "cannot delete the record under the e-mail address");
        }
    }
}
