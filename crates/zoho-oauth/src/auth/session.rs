//! A handle to one stored record.

use std::fmt;
use std::sync::Arc;

use super::access::Access;
use super::cache::CacheEntry;
use super::decide::Purpose;
use super::event::Event;
use super::inner::Inner;
use super::lock::{acquire, release};
use super::memory::Memory;
use super::renew::asked;
use super::{naming, serve};
use crate::accounts::Revocation;
use crate::clock::Timestamp;
use crate::data_center::DataCenter;
use crate::error::{Error, ErrorCode, Result};
use crate::secret::AccessToken;
use crate::store::{CoordinationKey, Permit, Verdict};
use crate::token::{OAuthToken, TokenId, UserName};

/// One logged-in user: a cheap handle to a stored record, which always has a good access token.
///
/// Clone it freely and hold it for as long as you like; all handles to one record share one
/// access token and one refresh.
#[derive(Clone)]
pub struct Session {
    pub(super) inner: Arc<Inner>,
    pub(super) entry: Arc<CacheEntry>,
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session")
            .field("id", &self.entry.id)
            .finish_non_exhaustive()
    }
}

impl Session {
    /// Returns the id of the stored record.
    pub fn id(&self) -> TokenId {
        self.entry.id
    }

    /// Returns the user's name, if it is known.
    pub fn user_name(&self) -> Option<UserName> {
        self.entry.hints().user_name
    }

    /// Returns an access token that is good now.
    ///
    /// From memory in almost every call, without I/O and without waiting. Near the token's end one
    /// background refresh is started; at its end all callers wait for one refresh and get its
    /// result, error included.
    ///
    /// # Errors
    /// [`LoginRequired`](crate::ErrorKind::LoginRequired) when only a person can help (the refresh
    /// token was refused, the record deleted); [`RateLimited`](crate::ErrorKind::RateLimited) with
    /// [`retry_after`](Error::retry_after); [`InvalidClient`](crate::ErrorKind::InvalidClient);
    /// what keeps the store or the network from working.
    ///
    /// # Cancellation
    /// A caller that goes away does not stop the refresh.
    pub async fn access_token(&self) -> Result<Access> {
        if let Some(access) = self.entry.quick() {
            return Ok(access);
        }
        // Boxed, so that the future of the call that needs none of it stays small.
        Box::pin(serve::access_token(&self.inner, &self.entry)).await
    }

    /// Returns another access token, after the API answered that `refused` is not good.
    ///
    /// If the store has another one by now, that is it; otherwise one new token is asked for,
    /// however many callers and processes report the same refusal. Repeat the API call once.
    ///
    /// # Errors
    /// As [`access_token`](Self::access_token).
    pub async fn refused(&self, refused: &AccessToken) -> Result<Access> {
        if let Some(access) = self
            .entry
            .quick()
            .filter(|access| access.token() != refused)
        {
            return Ok(access);
        }
        let purpose = Purpose::Refused(refused.clone());
        Box::pin(serve::renewed(&self.inner, &self.entry, &purpose)).await
    }

    /// Saves the user's name, learned after the login.
    ///
    /// If this user has a record under the same client already, the two become one, and the
    /// returned session is the one to go on with.
    ///
    /// Older official SDKs name a user by the e-mail address alone. A record under `ann@example.com`
    /// becomes one with the login of `ann@example.com:<zgid>`, at the login or when that name is
    /// saved here, if it holds the same refresh token under the same client. Without that it does
    /// so if client, data center and environment are the same, and no other organisation of that
    /// address is stored under the client. It is then found by the full name only. Otherwise the two
    /// records stay: delete the one under the address when it is of no use any more.
    ///
    /// # Errors
    /// `id_conflict` when the record belongs to another user, or when the user has a stored login to
    /// another environment, such as a sandbox: keep the two in two stores, or under two names;
    /// `record_deleted`; what keeps the store from working.
    pub async fn set_user_name(&self, name: UserName) -> Result<Self> {
        let entry = naming::name(&self.inner, &self.entry, Some(name)).await?;
        Ok(Self {
            inner: Arc::clone(&self.inner),
            entry,
        })
    }

    /// Ends the login: revokes the refresh token at Zoho, then deletes the record.
    ///
    /// Revoking a refresh token ends every access token made from it. If the user logs in anew
    /// while Zoho is being asked, that login stays. Other processes that use the
    /// same store hand out nothing of this record any more after
    /// [`RefreshPolicy::recheck`](crate::RefreshPolicy::recheck) at the latest.
    ///
    /// # Errors
    /// `unsupported` when the record holds no refresh token: there is nothing to revoke at Zoho,
    /// [delete](crate::Authenticator::delete) it instead; `unknown_data_center` when Zoho does not
    /// know the token and nothing says that the right data center was asked; `record_deleted`; what
    /// keeps Zoho or the store from working. When Zoho could not be asked, the record is as it was.
    /// When Zoho was asked and the record could not be deleted, this process hands out nothing of it
    /// any more; call again to delete it.
    pub async fn revoke(&self) -> Result<()> {
        let (inner, entry) = (Arc::clone(&self.inner), Arc::clone(&self.entry));
        // In a task of its own: between Zoho and the store there is no good place to stop.
        let task = tokio::spawn(async move { revoke(&inner, &entry).await });
        task.await.unwrap_or_else(|_| {
            let message = "the revocation ended without an answer";
            Err(Error::new(ErrorCode::Internal, message))
        })
    }
}

#[tracing::instrument(name = "zoho_revoke", level = "debug", skip_all, fields(id = %entry.id))]
async fn revoke(inner: &Inner, entry: &CacheEntry) -> Result<()> {
    let _turn = entry.work.lock().await;
    let key = CoordinationKey::record(entry.id);
    let permit = acquire(&inner.locks, &key, inner.policy.patience).await?;
    let revoked = revoke_in_turn(inner, entry, permit.as_deref()).await;
    release(permit, None).await;
    revoked
}

async fn revoke_in_turn(
    inner: &Inner,
    entry: &CacheEntry,
    permit: Option<&dyn Permit>,
) -> Result<()> {
    let record = inner.record_of(entry).await?;
    let Some(token) = &record.refresh_token else {
        return Err(Error::new(
            ErrorCode::Unsupported,
            format!("record {} holds no refresh token to revoke", entry.id),
        ));
    };
    let hint = entry.hints().center;
    let center = inner.center_of(&record, hint.as_ref())?;
    match inner.accounts.revoke(&center, token).await? {
        Revocation::Revoked => tracing::info!("revoked"),
        Revocation::AlreadyInvalid => {
            // Unless this process ended it itself, and could not delete the record then.
            if !entry.is_revoked(&record) && !inner.is_named(&record, hint.as_ref()) {
                return Err(unknown(entry, &center));
            }
            tracing::info!("the token was not valid any more");
        }
    }
    entry.revoked(token.fingerprint());
    if let Err(error) = delete_revoked(inner, entry, &record).await {
        // The record is still there, perhaps. At least nobody need ask Zoho what became of it.
        let memory = Memory::new(inner, entry, permit);
        let now = Timestamp::now();
        if let Ok(mut memo) = memory.recall(&record, now).await {
            memo.judge(Verdict {
                asked: asked(inner, entry, &record),
                ..Verdict::new("invalid_code", now)
            });
            // Should the lease be lost as well, the next refresh finds out for itself.
            let _ = memory.remember(&memo).await;
        }
        return Err(error);
    }
    inner.tell(Event::Revoked { id: entry.id });
    Ok(())
}

/// The error for a token that a data center does not know, which may have been the wrong one to ask:
/// then it is alive elsewhere, and deleting the record would lose it.
fn unknown(entry: &CacheEntry, center: &DataCenter) -> Error {
    let message = format!(
        "record {} does not say which data center it is of, and `{}` does not know its refresh \
         token. It was not deleted. Name its data center in a credential, or delete the record",
        entry.id,
        center.name()
    );
    Error::new(ErrorCode::UnknownDataCenter, message)
}

/// Deletes the record whose refresh token was revoked.
///
/// The request took a while. If the user logged in anew meanwhile, that login is not the one to be
/// ended, and deleting the record would lose its refresh token without ending it. So where the
/// record cannot be seen, it is not deleted.
async fn delete_revoked(inner: &Inner, entry: &CacheEntry, revoked: &OAuthToken) -> Result<()> {
    let stored = inner.store.find_token_by_id(entry.id).await?;
    if stored.is_some_and(|stored| stored.refresh_token != revoked.refresh_token) {
        return Ok(());
    }
    inner.store.delete_token(entry.id).await?;
    inner.forget(entry);
    Ok(())
}
