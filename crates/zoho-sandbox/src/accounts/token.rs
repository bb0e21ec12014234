//! `POST /oauth/v2/token`: codes, refresh tokens and client credentials become access tokens.
//!
//! Ordinary refusals are HTTP 200 with `{"error": …}` (Zoho Accounts documentation: errors), so
//! clients must read the body before they believe the status.

use axum::extract::State;
use axum::http::{Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Serialize;
use sha2::{Digest, Sha256};

use crate::config::{Client, ClientKind, Rules};
use crate::ledger::{Challenge, Grant, Issued, Refusal};
use crate::params::Params;
use crate::recorder::Outcome;
use crate::scope::Scopes;
use crate::server::{Context, Received, TokenShape};

/// A token answer, keys in Zoho's order.
#[derive(Serialize)]
struct TokenAnswer<'a> {
    access_token: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    refresh_token: Option<&'a str>,
    scope: String,
    api_domain: &'a str,
    token_type: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    expires_in: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    expires_in_sec: Option<u64>,
}

/// The throttle answer; its keys come in this order in public logs.
#[derive(Serialize)]
struct ThrottleAnswer {
    error_description: &'static str,
    error: &'static str,
    status: &'static str,
}

#[derive(Serialize)]
struct ErrorAnswer {
    error: &'static str,
}

pub(crate) async fn answer(
    State(context): State<Context>,
    method: Method,
    Extension(received): Extension<Received>,
    Extension(shape): Extension<TokenShape>,
) -> Response {
    let params = &received.params;
    let (Method::POST, Some(grant_type)) = (method, params.get("grant_type")) else {
        return bad_request();
    };
    let result = match grant_type {
        "authorization_code" => exchange(&context, params),
        "refresh_token" => refresh(&context, params),
        "client_credentials" => client_credentials(&context, params),
        // Documented so: a wrong grant type is blamed on the client.
        _ => Err(Refusal::InvalidClient),
    };
    match result {
        Ok(issued) => {
            let rules = &context.shared.rules;
            issued_answer(rules, context.url(), &issued, shape)
        }
        Err(refusal) => refused(&context.shared.rules, refusal),
    }
}

fn exchange(context: &Context, params: &Params) -> Result<Issued, Refusal> {
    let client = authenticate(context, params)?;
    let text = params.get("code").ok_or(Refusal::InvalidCode)?;
    let shared = &context.shared;
    let now = shared.clock.now_ms();
    let mut ledger = shared.ledger();
    let code = ledger.code(&shared.rules, text, &client.id, context.center(), now)?;
    if let Some(expected) = &code.redirect_uri
        && params.get("redirect_uri") != Some(expected)
    {
        return Err(Refusal::InvalidRedirectUri);
    }
    if let Some(challenge) = &code.challenge
        && !proves(params.get("code_verifier"), challenge)
    {
        return Err(Refusal::InvalidCode);
    }
    Ok(ledger.redeem(&shared.rules, text, &code, now))
}

fn refresh(context: &Context, params: &Params) -> Result<Issued, Refusal> {
    let client = authenticate(context, params)?;
    let text = params.get("refresh_token").ok_or(Refusal::InvalidCode)?;
    let shared = &context.shared;
    let now = shared.clock.now_ms();
    let mut ledger = shared.ledger();
    ledger.refresh(&shared.rules, text, &client.id, context.center(), now)
}

/// `soid` names the organisation as `ZohoCRM.<zgid>`; its first person stands behind the token.
fn client_credentials(context: &Context, params: &Params) -> Result<Issued, Refusal> {
    let client = authenticate(context, params)?;
    if client.kind != ClientKind::SelfClient {
        return Err(Refusal::InvalidClient);
    }
    let scopes = params.get("scope").ok_or(Refusal::InvalidScope)?;
    let scopes = Scopes::parse(scopes).map_err(|_| Refusal::InvalidScope)?;
    let soid = params.get("soid").ok_or(Refusal::MissingOrgInfo)?;
    let shared = &context.shared;
    let person = soid
        .strip_prefix("ZohoCRM.")
        .and_then(|zgid| shared.crm().organisation_by_zgid(zgid))
        .filter(|position| shared.organisations[*position].center == context.center())
        .and_then(|position| {
            let mut people = shared.people.iter();
            people.find(|person| shared.organisation_of(person) == position)
        })
        .ok_or(Refusal::InvalidSoid)?;
    let grant = Grant {
        client_id: client.id.clone(),
        email: person.email.to_ascii_lowercase(),
        center: context.center().to_owned(),
        scopes,
    };
    let now = shared.clock.now_ms();
    Ok(shared.ledger().mint_alone(&shared.rules, &grant, now))
}

fn authenticate<'a>(context: &'a Context, params: &Params) -> Result<&'a Client, Refusal> {
    check_client(
        context,
        params.get("client_id"),
        params.get("client_secret"),
    )
}

/// The client, if it is known in this data center and the secret is right there.
pub(crate) fn check_client<'a>(
    context: &'a Context,
    id: Option<&str>,
    secret: Option<&str>,
) -> Result<&'a Client, Refusal> {
    let client = id
        .and_then(|id| context.shared.client(id))
        .ok_or(Refusal::InvalidClient)?;
    let expected = client
        .secret_at(context.center())
        .ok_or(Refusal::InvalidClient)?;
    if secret == Some(expected) {
        Ok(client)
    } else {
        Err(Refusal::InvalidClientSecret)
    }
}

/// RFC 7636, section 4.6.
fn proves(verifier: Option<&str>, challenge: &Challenge) -> bool {
    let Some(verifier) = verifier else {
        return false;
    };
    if challenge.sha256 {
        URL_SAFE_NO_PAD.encode(Sha256::digest(verifier.as_bytes())) == challenge.value
    } else {
        verifier == challenge.value
    }
}

fn issued_answer(rules: &Rules, api_domain: &str, issued: &Issued, shape: TokenShape) -> Response {
    let life = rules.access_token_life_s;
    let refresh_token = issued.refresh_token.as_deref();
    let answer = TokenAnswer {
        access_token: &issued.access_token,
        refresh_token: refresh_token.filter(|_| !shape.without_refresh_token),
        scope: issued.grant.scopes.spaced(),
        api_domain,
        token_type: "Bearer",
        expires_in: match shape {
            TokenShape {
                without_expires_in: true,
                ..
            } => None,
            TokenShape {
                legacy_expiry: true,
                ..
            } => Some(life.saturating_mul(1000)),
            _ => Some(life),
        },
        expires_in_sec: shape.legacy_expiry.then_some(life),
    };
    let no_store = [(header::CACHE_CONTROL, "no-store")];
    let mut response = (no_store, Json(answer)).into_response();
    response.extensions_mut().insert(Outcome::Done);
    response
}

/// The answer to a request that is none: another method than POST, or no `grant_type`. The status
/// is 400, unlike that of other refusals (public logs); the error is the one of a wrong
/// `grant_type`.
pub(crate) fn bad_request() -> Response {
    let error = Refusal::InvalidClient.code();
    (StatusCode::BAD_REQUEST, Json(ErrorAnswer { error })).into_response()
}

pub(crate) fn refused(rules: &Rules, refusal: Refusal) -> Response {
    if refusal == Refusal::Throttled {
        return throttled(rules);
    }
    let error = refusal.code();
    Json(ErrorAnswer { error }).into_response()
}

/// The answer to too many requests.
pub(crate) fn throttled(rules: &Rules) -> Response {
    let status = StatusCode::from_u16(rules.throttle_status).unwrap_or(StatusCode::BAD_REQUEST);
    let answer = ThrottleAnswer {
        error_description: "You have made too many requests continuously. Please try again after \
                            some time.",
        error: Refusal::Throttled.code(),
        status: "failure",
    };
    let mut response = (status, Json(answer)).into_response();
    response.extensions_mut().insert(Outcome::Throttled);
    response
}
