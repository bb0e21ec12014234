//! A handle to one stored record.

use std::fmt;
use std::sync::Arc;

use super::access::Access;
use super::decide::Purpose;
use super::memory::Memory;
use super::refresh::asked;
use super::shared::Shared;
use super::slot::Slot;
use super::turn::{acquire, release};
use super::{Event, start};
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
    pub(super) shared: Arc<Shared>,
    pub(super) slot: Arc<Slot>,
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session")
            .field("id", &self.slot.id)
            .finish_non_exhaustive()
    }
}

impl Session {
    /// Returns the id of the stored record.
    pub fn id(&self) -> TokenId {
        self.slot.id
    }

    /// Returns the user's name, if it is known.
    pub fn user_name(&self) -> Option<UserName> {
        self.slot.hints().user_name
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
        if let Some(access) = self.slot.quick() {
            return Ok(access);
        }
        // Boxed, so that the future of the call that needs none of it stays small.
        Box::pin(self.slot.access(&self.shared)).await
    }

    /// Returns another access token, after the API answered that `refused` is not good.
    ///
    /// If the store has another one by now, that is it; otherwise one new token is asked for,
    /// however many callers and processes report the same refusal. Repeat the API call once.
    ///
    /// # Errors
    /// As [`access_token`](Self::access_token).
    pub async fn refused(&self, refused: &AccessToken) -> Result<Access> {
        if let Some(access) = self.slot.quick().filter(|access| access.token() != refused) {
            return Ok(access);
        }
        let purpose = Purpose::Refused(refused.clone());
        Box::pin(self.slot.renewed(&self.shared, &purpose)).await
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
        let slot = start::name(&self.shared, &self.slot, Some(name)).await?;
        Ok(Self {
            shared: Arc::clone(&self.shared),
            slot,
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
        let (shared, slot) = (Arc::clone(&self.shared), Arc::clone(&self.slot));
        // In a task of its own: between Zoho and the store there is no good place to stop.
        let task = tokio::spawn(async move { revoke(&shared, &slot).await });
        task.await.unwrap_or_else(|_| {
            let message = "the revocation ended without an answer";
            Err(Error::new(ErrorCode::Internal, message))
        })
    }
}

#[tracing::instrument(name = "zoho_revoke", level = "debug", skip_all, fields(id = %slot.id))]
async fn revoke(shared: &Shared, slot: &Slot) -> Result<()> {
    let _turn = slot.work.lock().await;
    let key = CoordinationKey::record(slot.id);
    let permit = acquire(shared, &key, shared.policy.patience).await?;
    let revoked = revoke_in_turn(shared, slot, permit.as_deref()).await;
    release(permit, None).await;
    revoked
}

async fn revoke_in_turn(shared: &Shared, slot: &Slot, permit: Option<&dyn Permit>) -> Result<()> {
    let record = shared.record_of(slot).await?;
    let Some(token) = &record.refresh_token else {
        return Err(Error::new(
            ErrorCode::Unsupported,
            format!("record {} holds no refresh token to revoke", slot.id),
        ));
    };
    let hint = slot.hints().center;
    let center = shared.center_of(&record, hint.as_ref())?;
    match shared.accounts.revoke(&center, token).await? {
        Revocation::Revoked => tracing::info!("revoked"),
        Revocation::AlreadyInvalid => {
            // Unless this process ended it itself, and could not delete the record then.
            if !slot.is_revoked(&record) && !shared.is_named(&record, hint.as_ref()) {
                return Err(unknown(slot, &center));
            }
            tracing::info!("the token was not valid any more");
        }
    }
    slot.revoked(token.fingerprint());
    if let Err(error) = delete_revoked(shared, slot, &record).await {
        // The record is still there, perhaps. At least nobody need ask Zoho what became of it.
        let memory = Memory::new(shared, slot, permit);
        let now = Timestamp::now();
        if let Ok(mut memo) = memory.recall(&record, now).await {
            memo.judge(Verdict {
                asked: asked(shared, slot, &record),
                ..Verdict::new("invalid_code", now)
            });
            // Should the lease be lost as well, the next refresh finds out for itself.
            let _ = memory.remember(&memo).await;
        }
        return Err(error);
    }
    shared.tell(Event::Revoked { id: slot.id });
    Ok(())
}

/// The error for a token that a data center does not know, which may have been the wrong one to ask:
/// then it is alive elsewhere, and deleting the record would lose it.
fn unknown(slot: &Slot, center: &DataCenter) -> Error {
    let message = format!(
        "record {} does not say which data center it is of, and `{}` does not know its refresh \
         token. It was not deleted. Name its data center in a credential, or delete the record",
        slot.id,
        center.name()
    );
    Error::new(ErrorCode::UnknownDataCenter, message)
}

/// Deletes the record whose refresh token was revoked.
///
/// The request took a while. If the user logged in anew meanwhile, that login is not the one to be
/// ended, and deleting the record would lose its refresh token without ending it. So where the
/// record cannot be seen, it is not deleted.
async fn delete_revoked(shared: &Shared, slot: &Slot, revoked: &OAuthToken) -> Result<()> {
    let stored = shared.store.find_token_by_id(slot.id).await?;
    if stored.is_some_and(|stored| stored.refresh_token != revoked.refresh_token) {
        return Ok(());
    }
    shared.store.delete_token(slot.id).await?;
    shared.forget(slot);
    Ok(())
}
