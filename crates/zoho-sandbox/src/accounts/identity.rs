//! Who the user is, and which data centers there are.
//!
//! The exact bodies are not documented; their keys are those that public clients read.

use axum::Json;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use serde_json::{Map, Value, json};

use crate::crm::bearer;
use crate::server::Context;

/// `GET /oauth/user/info`, for tokens with the scope `AaaServer.profile.READ`.
pub(crate) async fn user_info(State(context): State<Context>, headers: HeaderMap) -> Response {
    let shared = &context.shared;
    let refused = |status, error: &str| (status, Json(json!({ "error": error }))).into_response();
    let now = shared.clock.now_ms();
    let grant = bearer(&headers).and_then(|token| {
        let ledger = shared.ledger();
        let live = ledger.live_access_token(token, context.center(), now)?;
        Some(live.grant.clone())
    });
    let Some(grant) = grant else {
        return refused(StatusCode::UNAUTHORIZED, "INVALID_OAUTHTOKEN");
    };
    if !grant.scopes.allow("AaaServer.profile", "READ") {
        return refused(StatusCode::UNAUTHORIZED, "INVALID_OAUTHSCOPE");
    }
    let Some(person) = shared.person(&grant.email) else {
        return refused(StatusCode::UNAUTHORIZED, "INVALID_OAUTHTOKEN");
    };
    Json(json!({
        "First_Name": person.first_name,
        "Last_Name": person.last_name,
        "Display_Name": person.full_name(),
        "Email": person.email,
        "ZUID": shared.zuid_of(person),
    }))
    .into_response()
}

/// `GET /oauth/serverinfo`: the data centers by location code.
pub(crate) async fn server_info(State(context): State<Context>) -> Response {
    let locations: Map<String, Value> = context
        .shared
        .centers
        .iter()
        .map(|center| (center.name.clone(), Value::String(center.url.clone())))
        .collect();
    Json(json!({ "result": "success", "locations": locations })).into_response()
}
