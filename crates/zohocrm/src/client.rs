//! [`ZohoCrm`]: one user of one organisation, ready to call the CRM.

use std::fmt;
use std::sync::Arc;

use tokio::sync::{Semaphore, SemaphorePermit};
use zoho_oauth::http::HttpClient;
use zoho_oauth::{
    Authenticator, Credential, DataCenter, DataCenters, Environment, Session, TokenId, TokenStore,
    UserName,
};

use crate::builder::ZohoCrmBuilder;
use crate::call::Method;
use crate::coql::Coql;
use crate::error::{Error, Result};
use crate::find_user::{find_user, log_in};
use crate::http::{CheckedDomains, RetryPolicy};
use crate::org::Org;
use crate::records::Records;
use crate::request::Request;
use crate::settings::{Fields, Modules};
use crate::users::Users;

/// Which CRM is spoken to: a data center, and which organisation there.
///
/// Made from a [`DataCenter`] alone (its production) or from a pair:
/// `(DataCenter::eu(), Environment::Sandbox)`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    center: DataCenter,
    environment: Environment,
}

impl Target {
    /// Returns the data center.
    pub fn data_center(&self) -> &DataCenter {
        &self.center
    }

    /// Returns the environment.
    pub fn environment(&self) -> Environment {
        self.environment
    }
}

impl From<DataCenter> for Target {
    fn from(center: DataCenter) -> Self {
        (center, Environment::Production).into()
    }
}

impl From<(DataCenter, Environment)> for Target {
    fn from((center, environment): (DataCenter, Environment)) -> Self {
        Self {
            center,
            environment,
        }
    }
}

/// Which address wins when the token's own `api_domain` and the chosen environment differ.
///
/// In any case a token is sent to an address of its data center only, or to one that the application
/// [allowed by name](ZohoCrmBuilder::allow_api_domain). `https://api.zoho.eu`, which some of Zoho's
/// documents name in place of `https://www.zohoapis.eu`, is such an address, and used as it was sent.
///
/// Zoho does not document whether the token of a sandbox organisation comes with the sandbox's
/// address, and the official SDKs follow the token.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ApiDomain {
    /// The token's address, except that a token which names *production* is used at the chosen
    /// sandbox or developer address of the same data center, and one whose environment is not known
    /// is not used at all when a sandbox or developer organisation was asked for: who asked for a
    /// sandbox never writes to production. The default.
    #[default]
    OfEnvironment,
    /// The token's address whenever it has one, as in the official SDKs.
    OfToken,
}

/// What all handles of one client share.
pub(crate) struct Shared {
    pub(crate) authenticator: Authenticator,
    pub(crate) http: HttpClient,
    pub(crate) options: Options,
    pub(crate) domains: CheckedDomains,
    pub(crate) permits: Option<Arc<Semaphore>>,
}

#[derive(Clone)]
pub(crate) struct Options {
    pub(crate) target: Target,
    pub(crate) data_centers: DataCenters,
    pub(crate) api_domain: ApiDomain,
    pub(crate) allowed_domains: Vec<url::Origin>,
    pub(crate) retry: RetryPolicy,
    pub(crate) max_answer_bytes: usize,
    pub(crate) find_user: bool,
    pub(crate) refresh_on_authentication_failure: bool,
}

/// One user of one organisation, ready to call the CRM.
///
/// Cheap to clone, and to have many of: [`switch_user`](Self::switch_user) makes a handle for
/// somebody else that shares connections and authenticator, and both go on side by side. There is
/// no global.
///
/// See the [crate documentation](crate) for an example.
#[derive(Clone)]
pub struct ZohoCrm {
    shared: Arc<Shared>,
    user: Arc<User>,
}

struct User {
    session: Session,
    find_user_error: Option<Error>,
}

impl ZohoCrm {
    /// Starts to build a client: for which CRM, what the application starts from, and where its
    /// tokens live.
    pub fn builder(
        target: impl Into<Target>,
        credential: impl Into<Credential>,
        store: impl TokenStore,
    ) -> ZohoCrmBuilder {
        ZohoCrmBuilder::new(target.into(), credential.into(), store)
    }

    /// Starts to build a client on an authenticator that the application owns, for one of its
    /// sessions.
    pub fn with_authenticator(
        target: impl Into<Target>,
        authenticator: Authenticator,
        session: Session,
    ) -> ZohoCrmBuilder {
        ZohoCrmBuilder::ready(target.into(), authenticator, session)
    }

    /// Makes a handle for somebody else, who starts from `credential`. This one stays as it is.
    ///
    /// A grant token is exchanged and saved; a stored user costs a look in the store. Users of
    /// other data centers and organisations are welcome: each call goes where the user's token
    /// belongs.
    ///
    /// # Errors
    /// As [`ZohoCrmBuilder::build`].
    ///
    /// # Cancellation
    /// What the authenticator has begun it brings to its end: a grant token is not lost.
    pub async fn switch_user(&self, credential: impl Into<Credential>) -> Result<Self> {
        let session = log_in(&self.shared, credential.into()).await?;
        Ok(self.switch_session(session).await)
    }

    /// Makes a handle for a session of the same authenticator. This one stays as it is.
    ///
    /// If the session has no user name, the CRM is asked for it, as at the first login.
    pub async fn switch_session(&self, session: Session) -> Self {
        Self::open(Arc::clone(&self.shared), session).await
    }

    pub(crate) fn handle(
        shared: Arc<Shared>,
        session: Session,
        find_user_error: Option<Error>,
    ) -> Self {
        let user = Arc::new(User {
            session,
            find_user_error,
        });
        Self { shared, user }
    }

    /// Makes the first or a further handle, and learns the user's name if it is not known.
    pub(crate) async fn open(shared: Arc<Shared>, session: Session) -> Self {
        let handle =
            |session, find_user_error| Self::handle(Arc::clone(&shared), session, find_user_error);
        let crm = handle(session.clone(), None);
        if !shared.options.find_user || session.user_name().is_some() {
            return crm;
        }
        match find_user(&crm).await {
            Ok(named) => handle(named, None),
            Err(error) => {
                tracing::warn!(
                    token_id = %session.id(),
                    code = error.code().as_str(),
                    http_status = error.http_status(),
                    "the name of the user could not be found out; the token is saved without it"
                );
                handle(session, Some(error))
            }
        }
    }

    /// Returns the records of a module, by its API name: `Leads`, `Contacts`, `Deals`…
    pub fn records(&self, module: impl Into<String>) -> Records {
        Records::new(self, module.into())
    }

    /// Asks a question in COQL, the CRM's query language: `select Last_Name from Leads where …`.
    ///
    /// The text is sent as it is. Do not build it from what strangers typed.
    pub fn coql(&self, query: impl Into<String>) -> Coql {
        Coql::new(self, query.into())
    }

    /// Returns the users of the organisation.
    pub fn users(&self) -> Users {
        Users::new(self)
    }

    /// Returns the organisation.
    pub fn org(&self) -> Org {
        Org::new(self)
    }

    /// Returns the modules of the organisation: what kinds of records there are.
    pub fn modules(&self) -> Modules {
        Modules::new(self)
    }

    /// Returns the fields of a module, by its API name.
    pub fn fields(&self, module: impl Into<String>) -> Fields {
        Fields::new(self, module.into())
    }

    /// Starts any request, for what has no method here yet.
    ///
    /// `path` is relative to `/crm/v8/` (`Leads/123/Notes`), or absolute from `/crm/`
    /// (`/crm/bulk/v8/read`). It goes to the API of this user's data center and nowhere else.
    pub fn request(&self, method: Method, path: impl AsRef<str>) -> Request {
        Request::new(self, method, path.as_ref())
    }

    /// Returns the id of the stored record that this handle works with.
    pub fn token_id(&self) -> TokenId {
        self.user.session.id()
    }

    /// Returns the name of the user, `<email>:<zgid>`, if it is known.
    pub fn user_name(&self) -> Option<UserName> {
        self.user.session.user_name()
    }

    /// Returns why the user's name is not known, if the look-up was tried and failed.
    ///
    /// Everything works without the name, but the store then knows the login by its tokens only:
    /// a second login of the same person makes a second record. Most often the scopes
    /// `ZohoCRM.users.READ` and `ZohoCRM.org.READ` are missing.
    pub fn find_user_error(&self) -> Option<&Error> {
        self.user.find_user_error.as_ref()
    }

    /// Returns the session: access tokens, and revoking.
    pub fn session(&self) -> &Session {
        &self.user.session
    }

    /// Returns the authenticator that all handles of this client share.
    pub fn authenticator(&self) -> &Authenticator {
        &self.shared.authenticator
    }

    pub(crate) fn options(&self) -> &Options {
        &self.shared.options
    }

    pub(crate) fn domains(&self) -> &CheckedDomains {
        &self.shared.domains
    }

    pub(crate) fn http(&self) -> &HttpClient {
        &self.shared.http
    }

    /// Waits until another call may be under way.
    pub(crate) async fn permit(&self) -> Option<SemaphorePermit<'_>> {
        // The semaphore is never closed.
        self.shared.permits.as_ref()?.acquire().await.ok()
    }
}

impl fmt::Debug for ZohoCrm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ZohoCrm")
            .field("target", &self.shared.options.target)
            .field("token_id", &self.token_id())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;
    use zoho_oauth::{AccessToken, ListStore};

    use super::*;

    #[tokio::test]
    async fn calls_beyond_the_limit_wait_for_all_handles_together() {
        let token = AccessToken::new("1000.a.b").unwrap();
        let credential = Credential::access(token.clone());
        let crm = ZohoCrm::builder(DataCenter::us(), credential, ListStore::new())
            .find_user(false)
            .max_concurrent_calls(2.try_into().unwrap())
            .build()
            .await
            .unwrap();
        let other = crm.switch_user(Credential::access(token)).await.unwrap();
        let first = crm.permit().await;
        let second = other.permit().await;
        assert!(first.is_some() && second.is_some());
        assert!(
            other.permit().now_or_never().is_none(),
            "a third call went ahead"
        );
        drop(first);
        assert!(other.permit().now_or_never().is_some());
    }
}
