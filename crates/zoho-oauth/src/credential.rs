//! What an application can start from.

use crate::data_center::DataCenter;
use crate::error::Result;
use crate::secret::{AccessToken, ClientSecret, CodeVerifier, GrantToken, RefreshToken};
use crate::token::{ClientId, TokenId, UserName};

/// The registration of an application in Zoho's API console.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct OAuthClient {
    /// The client id, `1000.…`.
    pub id: ClientId,
    /// The client secret. With several data centers each may have its own.
    pub secret: ClientSecret,
    /// The registered redirect URI; none for a self client.
    pub redirect_uri: Option<String>,
}

impl OAuthClient {
    /// Takes the client id and the client secret.
    ///
    /// # Errors
    /// `invalid_input` when one of them is empty.
    pub fn new(id: impl Into<String>, secret: impl Into<String>) -> Result<Self> {
        Ok(Self {
            id: ClientId::new(id)?,
            secret: ClientSecret::new(secret)?,
            redirect_uri: None,
        })
    }

    /// Adds the redirect URI, exactly as the API console lists it.
    #[must_use]
    pub fn redirect_uri(mut self, uri: impl Into<String>) -> Self {
        self.redirect_uri = Some(uri.into()).filter(|uri| !uri.is_empty());
        self
    }
}

/// What an application starts from: one of the official flows, or a user who is stored already.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Credential {
    /// A grant token, to be exchanged once; found again in the store when it was exchanged before.
    Grant(GrantCredential),
    /// A refresh token.
    Refresh(RefreshCredential),
    /// A bare access token: it works until it ends, and cannot be refreshed unless the store holds
    /// the refresh token beside it.
    Access(AccessCredential),
    /// A stored record, by its id.
    Stored(TokenId),
    /// A user, who must already be stored.
    User(UserName),
}

impl Credential {
    /// Starts from a grant token.
    pub const fn grant(client: OAuthClient, code: GrantToken) -> GrantCredential {
        GrantCredential {
            client,
            code,
            code_verifier: None,
            user_name: None,
            data_center: None,
        }
    }

    /// Starts from a refresh token.
    pub const fn refresh(client: OAuthClient, token: RefreshToken) -> RefreshCredential {
        RefreshCredential {
            client,
            token,
            user_name: None,
            data_center: None,
        }
    }

    /// Starts from an access token.
    pub const fn access(token: AccessToken) -> AccessCredential {
        AccessCredential {
            token,
            user_name: None,
            api_domain: None,
        }
    }
}

/// A grant token and what its exchange needs.
#[derive(Clone, Debug)]
pub struct GrantCredential {
    pub(crate) client: OAuthClient,
    pub(crate) code: GrantToken,
    pub(crate) code_verifier: Option<CodeVerifier>,
    pub(crate) user_name: Option<UserName>,
    pub(crate) data_center: Option<DataCenter>,
}

/// A refresh token and what a refresh needs.
#[derive(Clone, Debug)]
pub struct RefreshCredential {
    pub(crate) client: OAuthClient,
    pub(crate) token: RefreshToken,
    pub(crate) user_name: Option<UserName>,
    pub(crate) data_center: Option<DataCenter>,
}

/// A bare access token.
#[derive(Clone, Debug)]
pub struct AccessCredential {
    pub(crate) token: AccessToken,
    pub(crate) user_name: Option<UserName>,
    pub(crate) api_domain: Option<String>,
}

macro_rules! common {
    ($($name:ident)*) => {$(
        impl $name {
            /// Names the user, where the application knows it already.
            #[must_use]
            pub fn user_name(mut self, name: UserName) -> Self {
                self.user_name = Some(name);
                self
            }
        }
    )*};
}

common!(GrantCredential RefreshCredential AccessCredential);

impl GrantCredential {
    /// Names the data center that issued the grant token, from the callback's `accounts-server`.
    #[must_use]
    pub fn data_center(mut self, center: DataCenter) -> Self {
        self.data_center = Some(center);
        self
    }

    /// Adds the PKCE verifier that belongs to the challenge of the authorization request.
    #[must_use]
    pub fn code_verifier(mut self, verifier: CodeVerifier) -> Self {
        self.code_verifier = Some(verifier);
        self
    }
}

impl RefreshCredential {
    /// Names the data center that issued the refresh token.
    #[must_use]
    pub fn data_center(mut self, center: DataCenter) -> Self {
        self.data_center = Some(center);
        self
    }
}

impl AccessCredential {
    /// Names the API domain that the token is good for.
    #[must_use]
    pub fn api_domain(mut self, domain: impl Into<String>) -> Self {
        self.api_domain = Some(domain.into()).filter(|domain| !domain.is_empty());
        self
    }
}

impl From<GrantCredential> for Credential {
    fn from(credential: GrantCredential) -> Self {
        Self::Grant(credential)
    }
}

impl From<RefreshCredential> for Credential {
    fn from(credential: RefreshCredential) -> Self {
        Self::Refresh(credential)
    }
}

impl From<AccessCredential> for Credential {
    fn from(credential: AccessCredential) -> Self {
        Self::Access(credential)
    }
}

impl From<TokenId> for Credential {
    fn from(id: TokenId) -> Self {
        Self::Stored(id)
    }
}

impl From<UserName> for Credential {
    fn from(name: UserName) -> Self {
        Self::User(name)
    }
}
