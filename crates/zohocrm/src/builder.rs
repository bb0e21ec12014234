//! [`ZohoCrmBuilder`]: the options of a client, and the first login.

use std::fmt;
use std::num::NonZeroUsize;
use std::sync::Arc;

use tokio::sync::Semaphore;
use url::Url;
use zoho_oauth::http::HttpClient;
use zoho_oauth::{
    Authenticator, Credential, DataCenter, DataCenters, HttpOptions, OAuthClient, RefreshPolicy,
    Session, TokenStore,
};

use crate::client::{ApiDomain, Options, Shared, Target, ZohoCrm};
use crate::error::{Error, Result};
use crate::find_user::log_in;
use crate::http::{CheckedDomains, RetryPolicy};

/// The longest answer that is read into memory, in bytes, unless the application says otherwise.
/// A full page of 200 records with 50 fields is well below 1 MiB.
const MAX_ANSWER_BYTES: usize = 32 * 1024 * 1024;

/// Builds a [`ZohoCrm`]. Made by [`ZohoCrm::builder`] and [`ZohoCrm::with_authenticator`].
#[must_use = "nothing happens until `build` is called"]
pub struct ZohoCrmBuilder {
    origin: Origin,
    options: Options,
    centers: Option<DataCenters>,
    more_centers: Vec<DataCenter>,
    http: Option<HttpOptions>,
    max_concurrent_calls: Option<NonZeroUsize>,
    allowed_domains: Vec<String>,
}

/// Where the session comes from.
#[expect(
    clippy::large_enum_variant,
    reason = "there is one, and it is moved once"
)]
enum Origin {
    Login {
        credential: Credential,
        store: Arc<dyn TokenStore>,
        client: Option<OAuthClient>,
        policy: Option<RefreshPolicy>,
    },
    Ready {
        authenticator: Authenticator,
        session: Session,
        /// An option was set that only matters to a new authenticator.
        misfit: Option<&'static str>,
    },
}

/// What the client starts from, once its authenticator is there.
enum Start {
    Credential(Credential),
    Session(Session),
}

impl ZohoCrmBuilder {
    pub(crate) fn new(target: Target, credential: Credential, store: impl TokenStore) -> Self {
        Self::with_origin(
            target,
            Origin::Login {
                credential,
                store: Arc::new(store),
                client: None,
                policy: None,
            },
        )
    }

    pub(crate) fn ready(target: Target, authenticator: Authenticator, session: Session) -> Self {
        Self::with_origin(
            target,
            Origin::Ready {
                authenticator,
                session,
                misfit: None,
            },
        )
    }

    fn with_origin(target: Target, origin: Origin) -> Self {
        Self {
            origin,
            options: Options {
                target,
                data_centers: DataCenters::known(),
                api_domain: ApiDomain::default(),
                allowed_domains: Vec::new(),
                retry: RetryPolicy::default(),
                max_answer_bytes: MAX_ANSWER_BYTES,
                find_user: true,
                refresh_on_authentication_failure: true,
            },
            centers: None,
            more_centers: Vec::new(),
            http: None,
            max_concurrent_calls: None,
            allowed_domains: Vec::new(),
        }
    }

    /// Sets time-outs, proxy and certificates, for the CRM and for the accounts server.
    ///
    /// With an authenticator that is there already, for the CRM alone; without this, its own hold
    /// for the CRM too.
    pub fn http(mut self, options: HttpOptions) -> Self {
        self.http = Some(options);
        self
    }

    /// Registers the application's client, which stored records without client fields need.
    pub fn client(mut self, client: OAuthClient) -> Self {
        match &mut self.origin {
            Origin::Login { client: slot, .. } => *slot = Some(client),
            Origin::Ready { misfit, .. } => *misfit = Some("client"),
        }
        self
    }

    /// Sets when access tokens are refreshed.
    pub fn refresh_policy(mut self, policy: RefreshPolicy) -> Self {
        match &mut self.origin {
            Origin::Login { policy: slot, .. } => *slot = Some(policy),
            Origin::Ready { misfit, .. } => *misfit = Some("refresh_policy"),
        }
        self
    }

    /// Sets the data centers that are known, instead of the official ones or those of the
    /// authenticator; the one of the target is always among them. If the target is an official one
    /// and this table redefines it, the table's definition counts, with the API domains that it names
    /// and no others.
    pub fn data_centers(mut self, centers: DataCenters) -> Self {
        self.centers = Some(centers);
        self
    }

    /// Adds one data center to those that are known.
    pub fn data_center(mut self, center: DataCenter) -> Self {
        self.more_centers.push(center);
        self
    }

    /// Sets whether the CRM is asked for the name of a user that the store does not know yet:
    /// yes by default. It takes two calls after a login, and the scopes `ZohoCRM.users.READ` and
    /// `ZohoCRM.org.READ`.
    pub fn find_user(mut self, find_user: bool) -> Self {
        self.options.find_user = find_user;
        self
    }

    /// Sets which address wins when token and environment differ.
    pub fn api_domain(mut self, choice: ApiDomain) -> Self {
        self.options.api_domain = choice;
        self
    }

    /// Allows access tokens to be sent to this address, which is of no known data center: a gateway,
    /// say. Scheme, host and port count. In plain ASCII: `xn--…` for names in other letters.
    ///
    /// Without it a token whose API domain is of no known data center is sent to no server. A data
    /// center of its own is better [added](Self::data_center): its tokens can then be refreshed too.
    pub fn allow_api_domain(mut self, url: impl Into<String>) -> Self {
        self.allowed_domains.push(url.into());
        self
    }

    /// Sets how reads are repeated after transient failures.
    pub fn retry(mut self, policy: RetryPolicy) -> Self {
        self.options.retry = policy;
        self
    }

    /// Sets whether `AUTHENTICATION_FAILURE` counts as a refused token, for which another one is
    /// asked for once: yes by default. Zoho does not say where it draws the line between that
    /// code and `INVALID_TOKEN`.
    pub fn refresh_on_authentication_failure(mut self, refresh: bool) -> Self {
        self.options.refresh_on_authentication_failure = refresh;
        self
    }

    /// Sets how many calls may be under way at a time, for all handles of this client together;
    /// further ones wait. No limit by default.
    ///
    /// The CRM counts per organisation and application: 5 calls in the free edition, 10 to 25 in
    /// the others.
    pub fn max_concurrent_calls(mut self, calls: NonZeroUsize) -> Self {
        self.max_concurrent_calls = Some(calls);
        self
    }

    /// Sets the longest answer that is read into memory, in bytes: 32 MiB by default.
    pub fn max_answer_bytes(mut self, bytes: usize) -> Self {
        self.options.max_answer_bytes = bytes;
        self
    }

    /// Logs in, or finds the stored login, and returns the client.
    ///
    /// A grant token is exchanged once and saved before anything else happens. Then, unless the
    /// user's name is known or [`find_user`](Self::find_user) is off, the CRM is asked for it, and
    /// the record is saved under it. A person who has logged in before may come back without a refresh
    /// token, which Zoho sends at the first consent only: the new login then joins the stored one of
    /// that name.
    ///
    /// # Errors
    /// `no_token`, with the reason in [`Error::oauth`]: refused credentials, an unreachable store
    /// or accounts server. `invalid_input` when an option cannot be, or belongs to an
    /// authenticator that is there already.
    ///
    /// # Cancellation
    /// What the authenticator has begun it brings to its end: a grant token is not lost.
    pub async fn build(self) -> Result<ZohoCrm> {
        let Self {
            origin,
            mut options,
            centers,
            more_centers,
            http: http_options,
            max_concurrent_calls,
            allowed_domains,
        } = self;
        for url in &allowed_domains {
            options.allowed_domains.push(allowed_origin(url)?);
        }
        let mut own = options.target.data_center().clone();
        options.data_centers = match (centers, &origin) {
            (Some(centers), _) => centers,
            (None, Origin::Ready { authenticator, .. }) => authenticator.data_centers().clone(),
            (None, Origin::Login { .. }) => DataCenters::known(),
        };
        for center in more_centers {
            options.data_centers.add(center);
        }
        // `DataCenter::us()` names the center; a table that redefines `us` says where it is.
        if DataCenters::known().iter().any(|known| *known == own)
            && let Ok(given) = options.data_centers.by_name(own.name())
        {
            own = given.clone();
            options.target = (own.clone(), options.target.environment()).into();
        }
        // The addresses of the target are known in any case: see `http::center_of`. One of its name
        // that was given stays known beside it.
        if options.data_centers.by_name(own.name()).is_err() {
            options.data_centers.add(own.clone());
        }
        let (authenticator, start, http) = match origin {
            Origin::Login {
                credential,
                store,
                client,
                policy,
            } => {
                let mut builder = Authenticator::builder(store)
                    .data_centers(options.data_centers.clone())
                    .data_center(own)
                    .http(http_options.unwrap_or_default());
                if let Some(client) = client {
                    builder = builder.client(client);
                }
                if let Some(policy) = policy {
                    builder = builder.policy(policy);
                }
                let authenticator = builder.build()?;
                let http = authenticator.http_client().clone();
                (authenticator, Start::Credential(credential), http)
            }
            Origin::Ready {
                misfit: Some(option),
                ..
            } => {
                return Err(Error::invalid_input(format!(
                    "the option `{option}` belongs to the authenticator, which is there already"
                )));
            }
            Origin::Ready {
                authenticator,
                session,
                misfit: None,
            } => {
                let http = match http_options {
                    Some(options) => HttpClient::new(&options)?,
                    None => authenticator.http_client().clone(),
                };
                (authenticator, Start::Session(session), http)
            }
        };
        let permits = max_concurrent_calls
            .map(|calls| Arc::new(Semaphore::new(calls.get().min(Semaphore::MAX_PERMITS))));
        let shared = Arc::new(Shared {
            authenticator,
            http,
            options,
            domains: CheckedDomains::default(),
            permits,
        });
        let session = match start {
            Start::Credential(credential) => log_in(&shared, credential).await?,
            Start::Session(session) => session,
        };
        Ok(ZohoCrm::open(shared, session).await)
    }
}

/// Reads an address that is to be allowed. What a parser of URLs would leave out of it without a
/// word is refused.
fn allowed_origin(url: &str) -> Result<url::Origin> {
    let is_plain = url.chars().all(|c| c.is_ascii_graphic());
    let url = Url::parse(url).ok().filter(|url| {
        let is_http = matches!(url.scheme(), "http" | "https") && url.has_host();
        is_plain && is_http && url.username().is_empty() && url.password().is_none()
    });
    let text = "an API domain that is to be allowed is not an http or https URL in plain ASCII";
    url.map(|url| url.origin())
        .ok_or_else(|| Error::invalid_input(text))
}

impl fmt::Debug for ZohoCrmBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ZohoCrmBuilder")
            .field("target", &self.options.target)
            .field("http", &self.http)
            .field("find_user", &self.options.find_user)
            .field("api_domain", &self.options.api_domain)
            .field("retry", &self.options.retry)
            .finish_non_exhaustive()
    }
}
