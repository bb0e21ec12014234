//! What the authenticator tells those who listen.

use crate::clock::Timestamp;
use crate::error::Error;
use crate::token::TokenId;

/// Something that happened to a stored token. Names records by their id and holds no secret.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Event {
    /// A login was stored.
    LoggedIn {
        /// The record.
        id: TokenId,
    },
    /// Zoho issued a new access token.
    Refreshed {
        /// The record.
        id: TokenId,
        /// When the new access token ends.
        expires_at: Timestamp,
    },
    /// A refresh failed. The stored token is as it was; whoever needed a new one got the error,
    /// and for a moment, longer with each failure in a row, so does whoever asks again.
    RefreshFailed {
        /// The record.
        id: TokenId,
        /// Why.
        error: Error,
    },
    /// A person has to log in again: Zoho refuses the refresh token for good. Told once for each
    /// refresh token, as long as its user is in memory.
    LoginRequired {
        /// The record.
        id: TokenId,
        /// What Zoho said.
        error: Error,
    },
    /// An answer of Zoho named an API domain that is not one of the record's data center and
    /// environment. It was not used: the stored API domain stays, and the new access token is good for
    /// that.
    ForeignApiDomain {
        /// The record.
        id: TokenId,
        /// Scheme, host and port of what the answer named.
        domain: String,
    },
    /// A login took the place of the stored one of its user. The refresh token that was stored before
    /// is kept no more; at Zoho it goes on living until it is revoked there.
    LoginReplaced {
        /// The record.
        id: TokenId,
    },
    /// An application started from a refresh token, or from a credential whose record has no user name
    /// yet, for a user who has another login in the store. The
    /// stored one is used: see [`RefreshCredential`](crate::RefreshCredential).
    StoredLoginUsed {
        /// The record of the stored login.
        id: TokenId,
    },
    /// The store cannot be reached, is slow, or cannot be written. Good access tokens are served
    /// from memory; see [`StoreState`](crate::StoreState).
    StoreDegraded {
        /// What the store said.
        error: Error,
    },
    /// The store works again.
    StoreRecovered,
    /// A new access token is in use and could not be saved; saving goes on in the background.
    SaveFailed {
        /// The record.
        id: TokenId,
        /// What the store said.
        error: Error,
    },
    /// The token of an earlier [`SaveFailed`](Self::SaveFailed) is saved now.
    SaveRecovered {
        /// The record.
        id: TokenId,
    },
    /// The token was ended at Zoho and deleted.
    Revoked {
        /// The record.
        id: TokenId,
    },
    /// The record is gone from the store.
    Deleted {
        /// The record.
        id: TokenId,
    },
}
