//! What an application can start from.

use crate::data_center::DataCenter;
use crate::error::Result;
use crate::secret::{AccessToken, ClientSecret, CodeVerifier, GrantToken, RefreshToken};
use crate::text;
use crate::token::{ClientId, TokenId, UserName};

/// The registration of an application in Zoho's API console.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct OAuthClient {
    /// The client id, `1000.…`.
    pub id: ClientId,
    /// The client secret. With several data centers each may have its own: see
    /// [`secret_at`](Self::secret_at).
    pub secret: ClientSecret,
    /// The registered redirect URI; none for a self client.
    pub redirect_uri: Option<String>,
    /// The secrets of data centers, by their names.
    secrets: Vec<(String, ClientSecret)>,
}

impl OAuthClient {
    /// Takes the client id and the client secret.
    ///
    /// # Errors
    /// `invalid_input` when one of them is empty, begins or ends with white space, or holds a
    /// control character or one that cannot be seen.
    pub fn new(id: impl Into<String>, secret: impl Into<String>) -> Result<Self> {
        Ok(Self::of(ClientId::new(id)?, ClientSecret::new(secret)?))
    }

    pub(crate) fn of(id: ClientId, secret: ClientSecret) -> Self {
        Self {
            id,
            secret,
            redirect_uri: None,
            secrets: Vec::new(),
        }
    }

    /// Names the client secret for the users of one data center, in place of one named before.
    ///
    /// The client id is the same everywhere, the secret need not be: the API console shows one
    /// for each center that the client is enabled for.
    ///
    /// A secret that is configured goes only to the centers that it was given for: one that is named
    /// here to its center, and the client's own to the data center of the credential or the
    /// authenticator that the client is given with. At other centers the secret that was stored with
    /// the login is used, and the client's own only if there is none.
    #[must_use]
    pub fn secret_at(mut self, center: &DataCenter, secret: ClientSecret) -> Self {
        self.secrets.retain(|(name, _)| name != center.name());
        self.secrets.push((center.name().to_owned(), secret));
        self
    }

    /// The secret that was given for `center`, if the client's own was given for `home`.
    pub(crate) fn secret_for(
        &self,
        center: &DataCenter,
        home: &DataCenter,
    ) -> Option<&ClientSecret> {
        let named = self.secrets.iter().find(|(name, _)| name == center.name());
        let own = (center.name() == home.name()).then_some(&self.secret);
        named.map(|(_, secret)| secret).or(own)
    }

    /// The client as the users of `center` know it, where its own secret was given for that.
    pub(crate) fn at(&self, center: &DataCenter) -> Self {
        let mut client = self.clone();
        if let Some(secret) = self.secret_for(center, center) {
            client.secret = secret.clone();
        }
        client
    }

    /// Checks what could not be checked when it was given.
    pub(crate) fn check(&self) -> Result<()> {
        let uri = self.redirect_uri.as_deref();
        uri.map_or(Ok(()), |uri| text::check("redirect URI", uri))
    }

    /// Adds the redirect URI, exactly as the API console lists it.
    ///
    /// [`LoginRequest::begin`](crate::LoginRequest::begin) and
    /// [`Authenticator::session`](crate::Authenticator::session) refuse one that begins or ends with
    /// white space, or holds characters that cannot be seen.
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
///
/// **A stored login of the same user goes first.** If the store holds another refresh token for the
/// [user](Self::user_name) under the same client, and Zoho still takes that one, the stored login is
/// used and the given token is not: settings that name an old token do not undo a later login. An
/// [`Event`](crate::Event) tells. A stored login that Zoho refuses is replaced by the given token. To
/// use the given token in any case, [delete](crate::Authenticator::delete) the stored record first.
///
/// A token that is given without a name counts as a new login: if its user is named later (see
/// [`Session::set_user_name`](crate::Session::set_user_name)), it takes the place of a stored login of
/// that user, and an event tells. So name the user in settings that hold a refresh token.
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
