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
    /// Anything may have changed: all records were deleted, or changes may have been missed.
    Everything,
}
