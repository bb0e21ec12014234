//! What a store can tell of changes that others make.

use crate::token::TokenId;

/// Something changed in a store.
///
/// A store tells what may end or replace a token that somebody holds in memory: that a record was
/// deleted, or got another refresh token. It need not tell of new access tokens, and may tell of a
/// change twice, or of one that was none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Change {
    /// The record with this id changed, or is gone.
    Record(TokenId),
    /// Anything may have changed, as when all records were deleted. Every token in memory is looked
    /// up before it is handed out again.
    Everything,
    /// Nobody listened for a while, so some changes may have gone unheard. Told after each connection
    /// that was made anew, when the store may just have come back: the look-ups are spread over the
    /// time after which a token in memory is looked up in any case, up to five seconds.
    Missed,
}
