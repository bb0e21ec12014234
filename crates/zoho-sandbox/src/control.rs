//! The control API: what the library's handle does, over HTTP, for programs in any language.

use std::time::Duration;

use axum::body::Bytes;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::Error;
use crate::faults::{Effect, Endpoint, Fault};
use crate::hosts::{self, refusal};
use crate::sandbox::console_code;
use crate::server::Context;

/// Where the control API is, below the address of a data center.
pub(crate) const PREFIX: &str = "/_sandbox";

/// How many faults may wait. Each request looks at all of them.
const FAULTS_LIMIT: usize = 1_000;

/// How many requests the answer to `GET /requests` no longer has.
const DROPPED: &str = "x-sandbox-requests-dropped";

pub(crate) fn routes() -> Router<Context> {
    let routes = Router::new()
        .route("/", get(overview))
        .route("/counts", get(counts))
        .route("/requests", get(requests))
        .route("/people", get(people))
        .route("/expire", post(expire))
        .route("/advance", post(advance))
        .route(
            "/faults",
            get(list_faults).post(add_fault).delete(clear_faults),
        )
        .route("/codes", post(code))
        .route("/reset", post(reset));
    // The nested root answers without a slash only, and people type one.
    Router::new()
        .nest(PREFIX, routes)
        .route(&format!("{PREFIX}/"), get(overview))
        .layer(axum::middleware::from_fn(hosts::same_origin))
}

/// A JSON body, whatever its `Content-Type`; none at all counts as `{}`.
fn read<T: DeserializeOwned>(body: &Bytes) -> Result<T, Box<Response>> {
    let text: &[u8] = if body.is_empty() { b"{}" } else { body };
    serde_json::from_slice(text)
        .map_err(|error| Box::new(refusal(StatusCode::BAD_REQUEST, &error.to_string())))
}

async fn overview(State(context): State<Context>) -> Json<Value> {
    let centers = context.shared.centers.iter();
    let centers: Vec<Value> = centers
        .map(|center| json!({ "name": center.name, "accounts_url": center.url, "api_url": center.url }))
        .collect();
    let clients = context.shared.clients.iter();
    let clients: Vec<&str> = clients.map(|client| client.id.as_str()).collect();
    Json(json!({ "centers": centers, "clients": clients }))
}

async fn counts(State(context): State<Context>) -> Response {
    Json(context.shared.recorder.counts()).into_response()
}

async fn requests(State(context): State<Context>) -> Response {
    let recorder = &context.shared.recorder;
    let dropped = recorder.counts().requests_dropped;
    let headers = [(DROPPED, dropped.to_string())];
    (headers, Json(recorder.requests())).into_response()
}

async fn people(State(context): State<Context>) -> Json<Value> {
    let shared = &context.shared;
    let people = shared.people.iter().map(|person| {
        json!({
            "email": person.email,
            "name": person.full_name(),
            "organisation": person.organisation,
            "center": shared.home_of(person),
        })
    });
    Json(people.collect())
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Expire {
    email: Option<String>,
}

async fn expire(State(context): State<Context>, body: Bytes) -> Response {
    let asked: Expire = match read(&body) {
        Ok(asked) => asked,
        Err(response) => return *response,
    };
    let email = asked.email.map(|email| email.to_ascii_lowercase());
    let ended = context
        .shared
        .ledger()
        .expire_access_tokens(email.as_deref());
    Json(json!({ "expired": ended })).into_response()
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Advance {
    seconds: u64,
}

async fn advance(State(context): State<Context>, body: Bytes) -> Response {
    let asked: Advance = match read(&body) {
        Ok(asked) => asked,
        Err(response) => return *response,
    };
    context
        .shared
        .clock
        .advance(Duration::from_secs(asked.seconds));
    Json(json!({ "now_ms": context.shared.clock.now_ms() })).into_response()
}

async fn list_faults(State(context): State<Context>) -> Response {
    Json(context.shared.faults.waiting()).into_response()
}

/// `{"effect": "status", "status": 503, "endpoint": "refresh", "times": 2}`; `"times": null`
/// lets it strike until faults are cleared.
async fn add_fault(State(context): State<Context>, body: Bytes) -> Response {
    if context.shared.faults.waiting().len() >= FAULTS_LIMIT {
        let text = format!("{FAULTS_LIMIT} faults wait already");
        return refusal(StatusCode::BAD_REQUEST, &text);
    }
    match read::<Value>(&body).map(parse_fault) {
        Ok(Ok(fault)) => {
            let answer = Json(&fault).into_response();
            context.shared.faults.inject(fault);
            answer
        }
        Ok(Err(text)) => refusal(StatusCode::BAD_REQUEST, &text),
        Err(response) => *response,
    }
}

fn parse_fault(mut given: Value) -> Result<Fault, String> {
    let object = given.as_object_mut().ok_or("a fault is a JSON object")?;
    let endpoint = object.remove("endpoint");
    let times = object.remove("times");
    // Serde passes unknown keys over where the effect has no fields of its own.
    let known: &[&str] = match object.get("effect").and_then(Value::as_str) {
        Some("status") => &["effect", "status"],
        Some("delay") => &["effect", "ms"],
        _ => &["effect"],
    };
    if let Some(key) = object.keys().find(|key| !known.contains(&key.as_str())) {
        return Err(format!("a fault of this effect has no key `{key}`"));
    }
    let effect: Effect = serde_json::from_value(given).map_err(|error| error.to_string())?;
    if let Effect::Status { status } = effect
        && !(200..=599).contains(&status)
    {
        return Err(format!(
            "a fault's answer cannot have the HTTP status {status}"
        ));
    }
    let mut fault = Fault::new(effect);
    if let Some(endpoint) = endpoint {
        let endpoint: Endpoint =
            serde_json::from_value(endpoint).map_err(|error| error.to_string())?;
        fault = fault.on(endpoint);
    }
    if let Some(times) = times {
        fault.times = serde_json::from_value(times).map_err(|error| error.to_string())?;
    }
    Ok(fault)
}

async fn clear_faults(State(context): State<Context>) -> Json<Value> {
    context.shared.faults.clear();
    Json(json!({ "status": "cleared" }))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct CodeRequest {
    email: String,
    scopes: String,
    client_id: Option<String>,
    life_seconds: Option<u64>,
}

async fn code(State(context): State<Context>, body: Bytes) -> Response {
    let asked: CodeRequest = match read(&body) {
        Ok(asked) => asked,
        Err(response) => return *response,
    };
    let shared = &context.shared;
    let client_id = asked.client_id.as_deref().unwrap_or(&shared.clients[0].id);
    let life = asked.life_seconds;
    match console_code(shared, client_id, &asked.email, &asked.scopes, life) {
        Ok(code) => {
            let home = shared
                .person(&asked.email)
                .map(|person| shared.home_of(person));
            let center = home.and_then(|home| shared.center(home));
            Json(json!({
                "code": code,
                "location": home,
                "accounts_url": center.map(|center| center.url.as_str()),
                "expires_in": life.unwrap_or(shared.rules.self_client_code_life_s),
            }))
            .into_response()
        }
        Err(error @ Error::Refused(_)) => {
            refusal(StatusCode::TOO_MANY_REQUESTS, &error.to_string())
        }
        Err(error) => refusal(StatusCode::BAD_REQUEST, &error.to_string()),
    }
}

async fn reset(State(context): State<Context>) -> Json<Value> {
    context.shared.reset();
    Json(json!({ "status": "reset" }))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::crm::arbitrary;

    proptest! {
        #[test]
        fn any_body_is_a_fault_or_refused(
            bytes in any::<Vec<u8>>(),
            mut fault in arbitrary::json(),
            effect in prop::sample::select(&["status", "delay", "html", "earthquake"][..]),
            number in arbitrary::json(),
        ) {
            if let Err(response) = read::<Expire>(&Bytes::from(bytes)) {
                prop_assert_eq!(response.status(), StatusCode::BAD_REQUEST);
            }
            if let Some(fault) = fault.as_object_mut() {
                fault.insert("effect".into(), effect.into());
                fault.insert("status".into(), number.clone());
                fault.insert("times".into(), number);
            }
            if let Ok(Fault { effect: Effect::Status { status }, .. }) = parse_fault(fault) {
                prop_assert!((200..=599).contains(&status));
            }
        }
    }
}
