//! Revocation, at both documented paths.

use axum::extract::State;
use axum::http::{HeaderMap, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::json;

use super::token::{bad_request, check_client, refused};
use crate::recorder::Outcome;
use crate::server::{Context, Received};

/// `POST /oauth/v2/token/revoke` with `token`, as every official SDK calls it. No client is
/// asked for: who holds the token may end it.
pub(crate) async fn by_token(
    State(context): State<Context>,
    method: Method,
    Extension(received): Extension<Received>,
) -> Response {
    if method != Method::POST {
        return bad_request();
    }
    let token = received.params.get("token").unwrap_or_default();
    let ended = context
        .shared
        .ledger()
        .revoke(token, None, context.center());
    answer(&context, ended, "invalid_code")
}

/// `POST /oauth/v2/revoke/token` with HTTP Basic, as a newer page of Zoho's Accounts
/// documentation describes it.
pub(crate) async fn by_client(
    State(context): State<Context>,
    method: Method,
    headers: HeaderMap,
    Extension(received): Extension<Received>,
) -> Response {
    if method != Method::POST {
        return bad_request();
    }
    let credentials = basic(&headers);
    let (id, secret) = match &credentials {
        Some((id, secret)) => (Some(id.as_str()), Some(secret.as_str())),
        None => (None, None),
    };
    let client = match check_client(&context, id, secret) {
        Ok(client) => client,
        Err(refusal) => return refused(&context.shared.rules, refusal),
    };
    let token = received.params.get("token").unwrap_or_default();
    let mut ledger = context.shared.ledger();
    let ended = ledger.revoke(token, Some(&client.id), context.center());
    drop(ledger);
    answer(&context, ended, "invalid_token")
}

fn answer(context: &Context, ended: bool, error: &str) -> Response {
    if !ended {
        let status = StatusCode::from_u16(context.shared.rules.revoke_unknown_status)
            .unwrap_or(StatusCode::BAD_REQUEST);
        return (status, Json(json!({ "error": error }))).into_response();
    }
    let mut response = Json(json!({ "status": "success" })).into_response();
    response.extensions_mut().insert(Outcome::Done);
    response
}

fn basic(headers: &HeaderMap) -> Option<(String, String)> {
    let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, encoded) = value.split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let text = String::from_utf8(STANDARD.decode(encoded.trim()).ok()?).ok()?;
    let (id, secret) = text.split_once(':')?;
    Some((id.to_owned(), secret.to_owned()))
}
