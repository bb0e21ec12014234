//! How a record is found: one criterion, which cannot be empty, and perhaps the client.

use crate::secret::{AccessToken, GrantToken, RefreshToken};
use crate::token::{ClientId, OAuthToken, UserName};

/// What to look for in a store. There is always a criterion, so no look-up can return just any row.
///
/// With [`client`](Self::client) the record must belong to that client too. Where several
/// records match (one user under two clients, and no client asked for), the one with the lowest
/// id answers, as in the official stores.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenQuery {
    criterion: Criterion,
    client: Option<ClientId>,
}

/// The one thing that a record must have to match a [`TokenQuery`]. All comparisons are exact.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Criterion {
    /// The record of this user.
    UserName(UserName),
    /// The record that holds this access token.
    AccessToken(AccessToken),
    /// The record that this grant token led to.
    GrantToken(GrantToken),
    /// The record that holds this refresh token.
    RefreshToken(RefreshToken),
}

impl TokenQuery {
    const fn of(criterion: Criterion) -> Self {
        Self {
            criterion,
            client: None,
        }
    }

    /// Looks for the record of a user.
    pub const fn user_name(name: UserName) -> Self {
        Self::of(Criterion::UserName(name))
    }

    /// Looks for the record that holds an access token.
    pub const fn access_token(token: AccessToken) -> Self {
        Self::of(Criterion::AccessToken(token))
    }

    /// Looks for the record that a grant token led to.
    pub const fn grant_token(token: GrantToken) -> Self {
        Self::of(Criterion::GrantToken(token))
    }

    /// Looks for the record that holds a refresh token.
    pub const fn refresh_token(token: RefreshToken) -> Self {
        Self::of(Criterion::RefreshToken(token))
    }

    /// Narrows the query to the records of one client.
    #[must_use]
    pub fn with_client(mut self, client: ClientId) -> Self {
        self.client = Some(client);
        self
    }

    /// Turns a half-filled record into a query, by the precedence of the official SDKs.
    ///
    /// User name first; then the access token, when no client is given; then the grant token; then
    /// the refresh token; last the access token beside a client. The client, when given, must fit
    /// in every case (the official stores ignore it, which is how one application gets another
    /// one's token). `None` when there is nothing to look for.
    pub fn from_parts(partial: &OAuthToken) -> Option<Self> {
        let access = partial.access_token.clone().map(Self::access_token);
        let query = if let Some(name) = &partial.user_name {
            Some(Self::user_name(name.clone()))
        } else if access.is_some() && partial.client_id.is_none() {
            access
        } else if let Some(grant) = &partial.grant_token {
            Some(Self::grant_token(grant.clone()))
        } else if let Some(refresh) = &partial.refresh_token {
            Some(Self::refresh_token(refresh.clone()))
        } else {
            access
        };
        query.map(|query| match &partial.client_id {
            Some(client) => query.with_client(client.clone()),
            None => query,
        })
    }

    /// Returns the criterion.
    pub const fn criterion(&self) -> &Criterion {
        &self.criterion
    }

    /// Returns the client that the record must belong to, if one was named.
    pub const fn client(&self) -> Option<&ClientId> {
        self.client.as_ref()
    }

    /// Returns whether `token` is what this query looks for.
    pub fn matches(&self, token: &OAuthToken) -> bool {
        let found = match &self.criterion {
            Criterion::UserName(name) => token.user_name.as_ref() == Some(name),
            Criterion::AccessToken(access) => token.access_token.as_ref() == Some(access),
            Criterion::GrantToken(grant) => token.grant_token.as_ref() == Some(grant),
            Criterion::RefreshToken(refresh) => token.refresh_token.as_ref() == Some(refresh),
        };
        found && (self.client.is_none() || self.client == token.client_id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn partial(fields: &[&str]) -> OAuthToken {
        let mut token = OAuthToken::new();
        for field in fields {
            match *field {
                "user" => token.user_name = Some(UserName::new("u").unwrap()),
                "client" => token.client_id = Some(ClientId::new("c").unwrap()),
                "refresh" => token.refresh_token = Some(RefreshToken::new("r").unwrap()),
                "access" => token.access_token = Some(AccessToken::new("a").unwrap()),
                "grant" => token.grant_token = Some(GrantToken::new("g").unwrap()),
                other => panic!("no field {other}"),
            }
        }
        token
    }

    fn chosen(fields: &[&str]) -> &'static str {
        match TokenQuery::from_parts(&partial(fields)) {
            None => "none",
            Some(query) => match query.criterion() {
                Criterion::UserName(_) => "user",
                Criterion::AccessToken(_) => "access",
                Criterion::GrantToken(_) => "grant",
                Criterion::RefreshToken(_) => "refresh",
            },
        }
    }

    #[test]
    fn precedence_is_the_official_one() {
        assert_eq!(chosen(&["user", "access", "grant", "refresh"]), "user");
        assert_eq!(chosen(&["access", "grant", "refresh"]), "access");
        assert_eq!(chosen(&["client", "access", "grant", "refresh"]), "grant");
        assert_eq!(chosen(&["client", "access", "refresh"]), "refresh");
        assert_eq!(chosen(&["client", "access"]), "access");
        assert_eq!(chosen(&["client"]), "none");
        assert_eq!(chosen(&[]), "none");
    }

    #[test]
    fn a_named_client_must_fit() {
        let query = TokenQuery::from_parts(&partial(&["user", "client"])).unwrap();
        assert!(query.matches(&partial(&["user", "client", "refresh"])));
        assert!(!query.matches(&partial(&["user", "refresh"])));
        let mut other = partial(&["user"]);
        other.client_id = Some(ClientId::new("d").unwrap());
        assert!(!query.matches(&other));
    }
}
