//! The handle to a running sandbox: where it is, what happened in it, and what to do to it.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use url::Url;

use crate::accounts::{self, AuthorizeRequest};
use crate::builder::SandboxBuilder;
use crate::config::Client;
use crate::faults::Fault;
use crate::ledger::{Grant, NewCode};
use crate::params::Params;
use crate::recorder::{Counts, LoggedRequest};
use crate::scope::Scopes;
use crate::server::{self, Server};
use crate::shared::Shared;
use crate::{Error, control};

/// A running sandbox. It stops when it is dropped.
pub struct Sandbox {
    shared: Arc<Shared>,
    servers: Vec<Server>,
    control_url: String,
}

impl Sandbox {
    /// Starts to build a sandbox.
    pub fn builder() -> SandboxBuilder {
        SandboxBuilder::default()
    }

    pub(crate) fn new(shared: Arc<Shared>, servers: Vec<Server>) -> Self {
        let control_url = format!("{}{}", shared.centers[0].url, control::PREFIX);
        Self {
            shared,
            servers,
            control_url,
        }
    }

    /// The accounts server of the first data center, as `http://host:port`.
    pub fn accounts_url(&self) -> &str {
        &self.shared.centers[0].url
    }

    /// The API host of the first data center: the `api_domain` of its token answers.
    pub fn api_url(&self) -> &str {
        &self.shared.centers[0].url
    }

    /// Where the control API is; see the crate's documentation.
    pub fn control_url(&self) -> &str {
        &self.control_url
    }

    /// The default client's ID.
    pub fn client_id(&self) -> &str {
        &self.default_client().id
    }

    /// The default client's secret in the first data center.
    pub fn client_secret(&self) -> &str {
        secret_in(self.default_client(), &self.shared.centers[0].name)
    }

    /// The first redirect URI of the default client; empty for a self client.
    pub fn redirect_uri(&self) -> &str {
        redirect_uri(self.default_client())
    }

    /// The location code of the first data center, such as `us`: the `location` of its callbacks.
    pub fn center_name(&self) -> &str {
        &self.shared.centers[0].name
    }

    /// All data centers of this sandbox, the first one first.
    pub fn centers(&self) -> impl Iterator<Item = CenterView<'_>> {
        (0..self.shared.centers.len()).map(|position| CenterView {
            sandbox: self,
            position,
        })
    }

    /// Any data center of this sandbox, by its location code, with the same accessors.
    ///
    /// # Panics
    /// When there is no such data center.
    pub fn center(&self, name: &str) -> CenterView<'_> {
        let position = self
            .shared
            .centers
            .iter()
            .position(|known| known.name == name);
        let Some(position) = position else {
            panic!("no data center `{name}` in this sandbox");
        };
        CenterView {
            sandbox: self,
            position,
        }
    }

    /// The addresses of the people who can sign in, in the order they were given.
    pub fn people(&self) -> Vec<String> {
        let people = self.shared.people.iter();
        people.map(|person| person.email.clone()).collect()
    }

    /// A grant code for the default client, as its owner would make it in the API console.
    /// It is good at the data center where the person lives.
    ///
    /// # Panics
    /// When nobody has this address, a scope is malformed, or the limit of codes is reached;
    /// [`Sandbox::try_grant_code`] returns those as errors.
    pub fn grant_code(&self, email: &str, scopes: &str) -> String {
        self.try_grant_code(self.client_id(), email, scopes)
            .unwrap_or_else(|error| panic!("{error}"))
    }

    /// A grant code for any client of this sandbox, as from the API console.
    ///
    /// # Errors
    /// [`Error::UnknownClient`], [`Error::UnknownPerson`], [`Error::InvalidScope`], or
    /// [`Error::Refused`] past the limit of codes.
    pub fn try_grant_code(
        &self,
        client_id: &str,
        email: &str,
        scopes: &str,
    ) -> Result<String, Error> {
        console_code(&self.shared, client_id, email, scopes, None)
    }

    /// Does what a person clicking through the authorization page would: opens `authorize_url`,
    /// signs in as `email` and accepts. Answers the URL the browser would be sent to.
    ///
    /// # Errors
    /// [`Error::AuthorizePage`] when the page would show an error instead of redirecting,
    /// [`Error::UnknownPerson`] when nobody has this address.
    pub fn authorize(&self, authorize_url: &str, email: &str) -> Result<String, Error> {
        self.decide(authorize_url, email, true)
    }

    /// Like [`Sandbox::authorize`], but the person rejects.
    ///
    /// # Errors
    /// The same as [`Sandbox::authorize`].
    pub fn reject(&self, authorize_url: &str, email: &str) -> Result<String, Error> {
        self.decide(authorize_url, email, false)
    }

    fn decide(&self, authorize_url: &str, email: &str, accept: bool) -> Result<String, Error> {
        let wrong = |text: &str| Error::AuthorizePage(text.to_owned());
        let url = Url::parse(authorize_url).map_err(|_| wrong("the URL cannot be read"))?;
        let center = self
            .shared
            .centers
            .iter()
            .find(|center| authorize_url.starts_with(&format!("{}/oauth/v2/auth?", center.url)))
            .ok_or_else(|| wrong("the URL is not this sandbox's /oauth/v2/auth"))?;
        let person = self
            .shared
            .person(email)
            .ok_or_else(|| Error::UnknownPerson(email.to_owned()))?;
        let params = Params::from_query(url.query().unwrap_or_default());
        let request = AuthorizeRequest::check(&self.shared, &center.name, &params)
            .map_err(|problem| wrong(problem.title()))?;
        Ok(accounts::decide(&self.shared, &request, person, accept))
    }

    /// A finished offline login with the default client: `(refresh token, access token)`.
    /// It is made without HTTP and is not counted. The limit of codes does not apply.
    ///
    /// # Panics
    /// When nobody has this address or a scope is malformed.
    pub fn login(&self, email: &str, scopes: &str) -> (String, String) {
        let grant = self
            .grant(self.client_id(), email, scopes)
            .unwrap_or_else(|error| panic!("{error}"));
        let now = self.shared.clock.now_ms();
        let issued = self.shared.ledger().log_in(&self.shared.rules, &grant, now);
        (
            issued.refresh_token.unwrap_or_default(),
            issued.access_token,
        )
    }

    fn grant(&self, client_id: &str, email: &str, scopes: &str) -> Result<Grant, Error> {
        grant(&self.shared, client_id, email, scopes)
    }

    /// How often things happened since the start or the last reset.
    pub fn counts(&self) -> Counts {
        self.shared.recorder.counts()
    }

    /// The requests that arrived, oldest first. Control calls are left out. The log holds the last
    /// 20,000, and no more than [`SandboxBuilder::request_log_bytes`];
    /// [`Counts::requests_dropped`] says how many went.
    pub fn requests(&self) -> Vec<LoggedRequest> {
        self.shared.recorder.requests()
    }

    /// Lets something go wrong.
    pub fn inject(&self, fault: Fault) {
        self.shared.faults.inject(fault);
    }

    /// Takes back every fault that has not struck yet.
    pub fn clear_faults(&self) {
        self.shared.faults.clear();
    }

    /// Ends every access token now, without telling anybody; answers how many there were.
    pub fn expire_access_tokens(&self) -> usize {
        self.shared.ledger().expire_access_tokens(None)
    }

    /// Ends every access token of one person; answers how many there were.
    pub fn expire_access_tokens_of(&self, email: &str) -> usize {
        let email = email.to_ascii_lowercase();
        self.shared.ledger().expire_access_tokens(Some(&email))
    }

    /// Lets time go past at once, for this sandbox only: lives, windows and time stamps.
    pub fn advance(&self, by: Duration) {
        self.shared.clock.advance(by);
    }

    /// Puts everything back: no codes, no tokens, no faults, no counts, the records as at the
    /// start. Time that was advanced stays advanced.
    pub fn reset(&self) {
        self.shared.reset();
    }

    /// The routes of the first data center and the control API, to be mounted elsewhere; see
    /// [`SandboxBuilder::mounted_at`].
    pub fn router(&self) -> Router {
        server::router(Arc::clone(&self.shared), 0)
    }

    /// Stops the sandbox and waits until its servers have answered what was under way.
    pub async fn stop(mut self) {
        for server in std::mem::take(&mut self.servers) {
            server.stop().await;
        }
    }

    fn default_client(&self) -> &Client {
        &self.shared.clients[0]
    }
}

impl fmt::Debug for Sandbox {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Sandbox")
            .field("centers", &self.shared.centers)
            .field("clients", &self.shared.clients)
            .field("rules", &self.shared.rules)
            .finish_non_exhaustive()
    }
}

/// One data center of a sandbox.
#[derive(Clone, Copy, Debug)]
pub struct CenterView<'a> {
    sandbox: &'a Sandbox,
    position: usize,
}

impl<'a> CenterView<'a> {
    /// The location code.
    pub fn name(&self) -> &'a str {
        &self.sandbox.shared.centers[self.position].name
    }

    /// The accounts server, as `http://host:port`.
    pub fn accounts_url(&self) -> &'a str {
        &self.sandbox.shared.centers[self.position].url
    }

    /// The API host: the `api_domain` of this data center's token answers.
    pub fn api_url(&self) -> &'a str {
        self.accounts_url()
    }

    /// The default client's ID; the same everywhere.
    pub fn client_id(&self) -> &'a str {
        self.sandbox.client_id()
    }

    /// The default client's secret in this data center.
    pub fn client_secret(&self) -> &'a str {
        secret_in(self.sandbox.default_client(), self.name())
    }

    /// The first redirect URI of the default client.
    pub fn redirect_uri(&self) -> &'a str {
        self.sandbox.redirect_uri()
    }

    /// The addresses of the people who live here.
    pub fn people(&self) -> Vec<String> {
        let shared = &self.sandbox.shared;
        let here = shared.people.iter();
        here.filter(|person| shared.home_of(person) == self.name())
            .map(|person| person.email.clone())
            .collect()
    }
}

fn secret_in<'a>(client: &'a Client, center: &str) -> &'a str {
    client.secret_at(center).unwrap_or(&client.secret)
}

fn redirect_uri(client: &Client) -> &str {
    client.redirect_uris.first().map_or("", String::as_str)
}

fn grant(shared: &Shared, client_id: &str, email: &str, scopes: &str) -> Result<Grant, Error> {
    let client = shared
        .client(client_id)
        .ok_or_else(|| Error::UnknownClient(client_id.to_owned()))?;
    let person = shared
        .person(email)
        .ok_or_else(|| Error::UnknownPerson(email.to_owned()))?;
    Ok(Grant {
        client_id: client.id.clone(),
        email: person.email.to_ascii_lowercase(),
        center: shared.home_of(person).to_owned(),
        scopes: Scopes::parse(scopes)?,
    })
}

/// A code as from the API console, for the library and the control API.
pub(crate) fn console_code(
    shared: &Shared,
    client_id: &str,
    email: &str,
    scopes: &str,
    life_s: Option<u64>,
) -> Result<String, Error> {
    let new = NewCode {
        grant: grant(shared, client_id, email, scopes)?,
        redirect_uri: None,
        challenge: None,
        with_refresh_token: true,
        life_s: life_s.unwrap_or(shared.rules.self_client_code_life_s),
    };
    let now = shared.clock.now_ms();
    shared
        .ledger()
        .issue_code(&shared.rules, new, now)
        .map_err(|refusal| Error::Refused(refusal.code().to_owned()))
}
