//! `GET /oauth/v2/auth` and the two forms behind it (Zoho Accounts documentation: web
//! applications, authorization request).
//!
//! A request that is checked becomes a *pending* one under an unguessable name; the forms carry
//! that name and nothing else of the request, so a form cannot change where the browser goes.

use axum::Extension;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use url::Url;

use super::pages;
use crate::config::{ClientKind, Person};
use crate::ledger::{Challenge, Grant, NewCode};
use crate::params::Params;
use crate::random;
use crate::scope::Scopes;
use crate::server::{Context, Received};
use crate::shared::Shared;

/// How long a page may stay open before its form is refused, in seconds.
pub(crate) const PENDING_LIFE_S: u64 = 600;

/// A valid authorization request.
#[derive(Clone)]
pub(crate) struct AuthorizeRequest {
    pub(crate) client_id: String,
    pub(crate) scopes: Scopes,
    redirect_uri: String,
    offline: bool,
    prompt_consent: bool,
    state: Option<String>,
    challenge: Option<Challenge>,
}

/// A request whose page is open in somebody's browser.
pub(crate) struct Pending {
    request: AuthorizeRequest,
    /// Set by the first form.
    email: Option<String>,
}

/// Why the page shows an error instead of redirecting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Problem {
    Client,
    ResponseType,
    Scope,
    RedirectUri,
    Parameter(&'static str),
    Expired,
}

impl Problem {
    pub(crate) fn title(self) -> &'static str {
        match self {
            Self::Client => "Invalid client",
            Self::ResponseType => "Invalid response type",
            Self::Scope => "Invalid scope",
            Self::RedirectUri => "Invalid redirect URI",
            Self::Parameter(_) => "Invalid parameter",
            Self::Expired => "This page is no longer valid",
        }
    }

    pub(crate) fn explanation(self) -> String {
        match self {
            Self::Client => {
                "The client ID is missing, or no application with this ID is registered \
                at this data center."
                    .into()
            }
            Self::ResponseType => {
                "The parameter response_type must be code. This sandbox does not \
                serve the implicit flow (token)."
                    .into()
            }
            Self::Scope => "The parameter scope must be a comma separated list such as \
                ZohoCRM.modules.ALL,ZohoCRM.users.READ."
                .into(),
            Self::RedirectUri => "The redirect URI is missing, or is not exactly one of those \
                registered for this application."
                .into(),
            Self::Parameter(name) => format!("The parameter {name} has a value that is not known."),
            Self::Expired => {
                "It was left open for too long, or was already answered. Go back to the \
                application and start again."
                    .into()
            }
        }
    }
}

impl AuthorizeRequest {
    /// Checks the parameters in the order in which the page reports their errors.
    pub(crate) fn check(shared: &Shared, center: &str, params: &Params) -> Result<Self, Problem> {
        let client = params
            .get("client_id")
            .and_then(|id| shared.client(id))
            .filter(|client| client.secret_at(center).is_some())
            .filter(|client| client.kind == ClientKind::Web)
            .ok_or(Problem::Client)?;
        if params.get("response_type") != Some("code") {
            return Err(Problem::ResponseType);
        }
        let redirect_uri = params
            .get("redirect_uri")
            .filter(|uri| client.redirect_uris.iter().any(|known| known == uri))
            .ok_or(Problem::RedirectUri)?;
        let scopes = params
            .get("scope")
            .and_then(|list| Scopes::parse(list).ok())
            .ok_or(Problem::Scope)?;
        let offline = match params.get("access_type") {
            None | Some("online") => false,
            Some("offline") => true,
            Some(_) => return Err(Problem::Parameter("access_type")),
        };
        let challenge = match (
            params.get("code_challenge"),
            params.get("code_challenge_method"),
        ) {
            (None, None) => None,
            (Some(value), None | Some("plain")) => Some(Challenge {
                value: value.to_owned(),
                sha256: false,
            }),
            (Some(value), Some("S256")) => Some(Challenge {
                value: value.to_owned(),
                sha256: true,
            }),
            (None, Some(_)) => return Err(Problem::Parameter("code_challenge")),
            (Some(_), Some(_)) => return Err(Problem::Parameter("code_challenge_method")),
        };
        Ok(Self {
            client_id: client.id.clone(),
            scopes,
            redirect_uri: redirect_uri.to_owned(),
            offline,
            prompt_consent: params.get("prompt") == Some("consent"),
            state: params.get("state").map(str::to_owned),
            challenge,
        })
    }

    /// The host the browser will be sent to, for the page.
    pub(crate) fn redirect_host(&self) -> String {
        let url = Url::parse(&self.redirect_uri).ok();
        let host = url.as_ref().and_then(Url::host_str);
        host.unwrap_or_default().to_owned()
    }

    /// Whether the person will be told that access goes on while they are away.
    pub(crate) fn offline(&self) -> bool {
        self.offline
    }
}

/// What a person's decision leads to: the URL to send the browser to.
pub(crate) fn decide(
    shared: &Shared,
    request: &AuthorizeRequest,
    person: &Person,
    accept: bool,
) -> String {
    let email = person.email.to_ascii_lowercase();
    let home = shared.home_of(person);
    let mut answer: Vec<(&str, String)> = Vec::new();
    let code = accept.then(|| {
        let now = shared.clock.now_ms();
        let mut ledger = shared.ledger();
        // Only an offline consent counts as the first: an online one brings no refresh token.
        let first = request.offline && ledger.note_consent(&request.client_id, &email);
        let new = NewCode {
            grant: Grant {
                client_id: request.client_id.clone(),
                email,
                center: home.to_owned(),
                scopes: request.scopes.clone(),
            },
            redirect_uri: Some(request.redirect_uri.clone()),
            challenge: request.challenge.clone(),
            with_refresh_token: request.offline && (first || request.prompt_consent),
            life_s: shared.rules.code_life_s,
        };
        ledger.issue_code(&shared.rules, new, now)
    });
    if let Some(state) = &request.state {
        answer.push(("state", state.clone()));
    }
    match code {
        Some(Ok(code)) => {
            let accounts = shared.center(home).map(|center| center.url.clone());
            answer.push(("code", code));
            answer.push(("location", home.to_owned()));
            answer.push(("accounts-server", accounts.unwrap_or_default()));
        }
        Some(Err(_)) | None => answer.push(("error", "access_denied".into())),
    }
    match Url::parse(&request.redirect_uri) {
        Ok(mut url) => {
            url.query_pairs_mut().extend_pairs(answer);
            url.into()
        }
        // Checked when the client was registered.
        Err(_) => request.redirect_uri.clone(),
    }
}

/// Step one: the page where a person signs in.
pub(crate) async fn open(
    State(context): State<Context>,
    Extension(received): Extension<Received>,
) -> Response {
    let shared = &context.shared;
    let checked = AuthorizeRequest::check(shared, context.center(), &received.params);
    let request = match checked {
        Ok(request) => request,
        Err(problem) => return pages::problem(problem),
    };
    let name = random::handle();
    let page = pages::sign_in(shared, &request, &name);
    let pending = Pending {
        request,
        email: None,
    };
    let now = shared.clock.now_ms();
    shared.pending().insert(name, pending, now);
    page
}

/// Step two: the page where the person consents.
pub(crate) async fn sign_in(
    State(context): State<Context>,
    Extension(received): Extension<Received>,
) -> Response {
    let shared = &context.shared;
    let person = received
        .params
        .get("email")
        .and_then(|email| shared.person(email));
    let name = received.params.get("request").unwrap_or_default();
    let now = shared.clock.now_ms();
    let mut pending = shared.pending();
    let open = person.and_then(|person| Some((person, pending.take(name, now)?)));
    let Some((person, mut open)) = open else {
        return pages::problem(Problem::Expired);
    };
    // The name changes with the step, so that the first page cannot answer for the second.
    let name = random::handle();
    let page = pages::consent(shared, &open.request, person, &name);
    open.email = Some(person.email.clone());
    pending.insert(name, open, now);
    page
}

/// The decision.
pub(crate) async fn consent(
    State(context): State<Context>,
    Extension(received): Extension<Received>,
) -> Response {
    let shared = &context.shared;
    let name = received.params.get("request").unwrap_or_default();
    let accept = match received.params.get("decision") {
        Some("accept") => true,
        Some("reject") => false,
        _ => return pages::problem(Problem::Parameter("decision")),
    };
    let open = shared.pending().take(name, shared.clock.now_ms());
    let signed_in = open.and_then(|open| {
        let person = shared.person(open.email.as_deref()?)?;
        Some((open.request, person))
    });
    let Some((request, person)) = signed_in else {
        return pages::problem(Problem::Expired);
    };
    let url = decide(shared, &request, person, accept);
    (StatusCode::FOUND, [(header::LOCATION, url)]).into_response()
}
