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
    /// refresh token.
    LoginRequired {
        /// The record.
        id: TokenId,
        /// What Zoho said.
        error: Error,
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
