//! What a login is known by: which row of a table a token speaks of.

use crate::secret::{AccessToken, GrantToken, RefreshToken};
use crate::token::{ClientId, OAuthToken, TokenId, UserName};

/// One way in which a stored row can be the login that a token speaks of.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Identity<'a> {
    /// The same user name under the same client, or both without a client.
    User(&'a UserName, Option<&'a ClientId>),
    /// The same refresh token under the same client.
    Refresh(&'a RefreshToken, Option<&'a ClientId>, Naming<'a>),
    /// The same grant token under the same client.
    Grant(&'a GrantToken, Option<&'a ClientId>, Naming<'a>),
    /// The same access token, unless the clients contradict each other.
    Access(&'a AccessToken, Option<&'a ClientId>, Naming<'a>),
}

/// Whether a row that has a user name may be recognised by its tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Naming<'a> {
    /// Any row: the token that is being saved has no user name.
    Any,
    /// Only rows without a user name or with this one, which the token that is being saved has: a
    /// row with another name is another login.
    As(&'a UserName),
}

impl Naming<'_> {
    fn admits(self, row: &OAuthToken) -> bool {
        match (self, &row.user_name) {
            (Self::As(name), Some(stored)) => name == stored,
            (Self::Any, _) | (_, None) => true,
        }
    }
}

impl Identity<'_> {
    pub(crate) fn matches(&self, row: &OAuthToken) -> bool {
        #[cfg(test)]
        count_comparison();
        let client = row.client_id.as_ref();
        match *self {
            Self::User(name, id) => row.user_name.as_ref() == Some(name) && client == id,
            Self::Refresh(token, id, naming) => {
                row.refresh_token.as_ref() == Some(token) && client == id && naming.admits(row)
            }
            Self::Grant(token, id, naming) => {
                row.grant_token.as_ref() == Some(token) && client == id && naming.admits(row)
            }
            Self::Access(token, id, naming) => {
                row.access_token.as_ref() == Some(token)
                    && (client.is_none() || id.is_none() || client == id)
                    && naming.admits(row)
            }
        }
    }
}

/// Returns what a save without an id looks for, in this order; the first row that matches the
/// first identity that matches anything is the one. Empty when the token identifies nothing.
pub(crate) fn identities(token: &OAuthToken) -> Vec<Identity<'_>> {
    let client = token.client_id.as_ref();
    let naming = token.user_name.as_ref().map_or(Naming::Any, Naming::As);
    let user = token.user_name.as_ref();
    let refresh = token.refresh_token.as_ref();
    let grant = token.grant_token.as_ref();
    let access = token.access_token.as_ref();
    [
        user.map(|name| Identity::User(name, client)),
        refresh.map(|token| Identity::Refresh(token, client, naming)),
        grant.map(|token| Identity::Grant(token, client, naming)),
        access.map(|token| Identity::Access(token, client, naming)),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// Returns whether `row` is a nameless record of the very login that `merged` is: whether what it is
/// known by, its strongest token, is one of `merged`.
///
/// Such a row is deleted when `merged` is saved, and fills what `merged` leaves blank. Its client is
/// the one of `merged` or none, so it cannot change what `merged` is known by.
pub(crate) fn is_same_login_unnamed(row: &OAuthToken, merged: &OAuthToken) -> bool {
    #[cfg(test)]
    count_comparison();
    row.user_name.is_none()
        && (row.client_id.is_none() || row.client_id == merged.client_id)
        && identities(row)
            .first()
            .is_some_and(|identity| identity.matches(merged))
}

/// The id of a row of a table, which always has one.
pub(super) fn id_of(row: &OAuthToken) -> TokenId {
    row.id.expect("every row of a table has an id")
}

#[cfg(test)]
thread_local! {
    pub(super) static COMPARISONS: std::cell::Cell<usize> = const { std::cell::Cell::new(0) };
}

/// Counts one comparison of a row with what is looked for.
#[cfg(test)]
pub(super) fn count_comparison() {
    COMPARISONS.set(COMPARISONS.get() + 1);
}
