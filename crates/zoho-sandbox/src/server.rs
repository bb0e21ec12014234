//! Listening, the routes of a data center, and what surrounds every request: faults, counting
//! and the log.

use std::sync::Arc;

use axum::Router;
use axum::body::{self, Body, Bytes};
use axum::extract::{Request, State};
use axum::http::{HeaderValue, Method, StatusCode, Uri, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use futures_util::stream;
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::{Duration, sleep};

use crate::faults::{Effect, Endpoint};
use crate::params::Params;
use crate::recorder::{LoggedRequest, Outcome, loggable};
use crate::shared::Shared;
use crate::{accounts, control, crm, hosts};

/// The longest body of a call of the API in bytes: a hundred records with long texts.
const API_BODY_LIMIT: usize = 16 * 1024 * 1024;
/// The longest body of any other request in bytes: forms of a few fields.
const FORM_LIMIT: usize = 64 * 1024;
/// The longest path with its query in bytes.
const URI_LIMIT: usize = 16 * 1024;

/// What a handler works with: the sandbox, and which of its data centers was asked.
#[derive(Clone)]
pub(crate) struct Context {
    pub(crate) shared: Arc<Shared>,
    pub(crate) center: usize,
}

impl Context {
    /// Location code of the data center that was asked.
    pub(crate) fn center(&self) -> &str {
        &self.shared.centers[self.center].name
    }

    /// Address of the data center that was asked.
    pub(crate) fn url(&self) -> &str {
        &self.shared.centers[self.center].url
    }
}

/// A data center's server. Dropping it closes the listener and every idle connection.
pub(crate) struct Server {
    stop: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

impl Server {
    pub(crate) async fn stop(self) {
        drop(self.stop);
        // The task ends by itself; it can only fail by panicking, which has been reported.
        let _ = self.task.await;
    }
}

/// Serves one data center on a listener until the returned handle is dropped.
pub(crate) fn serve(listener: TcpListener, shared: Arc<Shared>, center: usize) -> Server {
    let (stop, stopped) = oneshot::channel::<()>();
    let routes = router(shared, center);
    let task = tokio::spawn(async move {
        let until = async move {
            let _ = stopped.await;
        };
        if let Err(error) = axum::serve(listener, routes)
            .with_graceful_shutdown(until)
            .await
        {
            tracing::error!(%error, "the server of a data center ended");
        }
    });
    Server { stop, task }
}

/// The routes of one data center.
pub(crate) fn router(shared: Arc<Shared>, center: usize) -> Router {
    let hosts = shared.centers[center].hosts.clone();
    let context = Context { shared, center };
    Router::new()
        .merge(accounts::routes())
        .merge(crm::routes())
        .fallback(no_such_page)
        .layer(middleware::from_fn_with_state(context.clone(), surround))
        .merge(control::routes())
        .layer(middleware::from_fn_with_state(hosts, hosts::check))
        .with_state(context)
}

async fn no_such_page(uri: Uri) -> Response {
    let text = format!("Nothing is here: {}\n", uri.path());
    (StatusCode::NOT_FOUND, text).into_response()
}

/// The body and the parameters of a request, read once for everybody.
#[derive(Clone)]
pub(crate) struct Received {
    pub(crate) body: Bytes,
    pub(crate) params: Params,
}

/// Reads the request, lets faults strike, and writes down what came of it.
async fn surround(State(context): State<Context>, request: Request, next: Next) -> Response {
    let (mut parts, body) = request.into_parts();
    let api = parts.uri.path().starts_with("/crm/");
    let target = parts.uri.path_and_query();
    if target.is_some_and(|target| target.as_str().len() > URI_LIMIT) {
        return too_long(api, StatusCode::URI_TOO_LONG, URI_LIMIT);
    }
    let limit = if api { API_BODY_LIMIT } else { FORM_LIMIT };
    let Ok(body) = body::to_bytes(body, limit).await else {
        return too_long(api, StatusCode::PAYLOAD_TOO_LARGE, limit);
    };
    let params = if api {
        Params::from_query(parts.uri.query().unwrap_or_default())
    } else {
        Params::read(&parts, &body).await
    };
    let endpoint = endpoint_of(&parts.method, &parts.uri, &params);
    let refresh_token = params.get("refresh_token").map(str::to_owned);
    let mut logged = LoggedRequest {
        center: context.center().to_owned(),
        method: parts.method.to_string(),
        path_and_query: parts
            .uri
            .path_and_query()
            .map(ToString::to_string)
            .unwrap_or_default(),
        status: 0,
        headers: loggable(&parts.headers),
    };
    let effects = context.shared.faults.strike(endpoint);
    parts.extensions.insert(Received { body, params });
    parts.extensions.insert(TokenShape::from(&effects[..]));

    let instead = effects
        .iter()
        .find_map(|effect| instead(&context, endpoint, *effect));
    let response = match instead {
        Some(response) => response,
        None => next.run(Request::from_parts(parts, Body::empty())).await,
    };
    logged.status = response.status().as_u16();
    tracing::debug!(
        center = context.center(),
        method = %logged.method,
        path = logged.path_and_query.split('?').next(),
        status = logged.status,
        "answered"
    );
    let outcome = response.extensions().get::<Outcome>().copied();
    let recorder = &context.shared.recorder;
    recorder.note(endpoint, outcome, refresh_token.as_deref(), logged);

    let mut response = response;
    for effect in effects {
        response = spoil(response, effect).await;
    }
    response
}

/// The answer to a request that is longer than `limit` bytes, in the form of the server that was
/// asked.
fn too_long(api: bool, status: StatusCode, limit: usize) -> Response {
    if api {
        crm::too_long(status, limit)
    } else {
        hosts::refusal(status, &format!("the request is longer than {limit} bytes"))
    }
}

fn endpoint_of(method: &Method, uri: &Uri, params: &Params) -> Endpoint {
    let path = uri.path();
    match path {
        "/oauth/v2/token" | "/oauth/v2/auth" if method == Method::POST => {
            match params.get("grant_type") {
                Some("authorization_code") => Endpoint::CodeExchange,
                Some("refresh_token") => Endpoint::Refresh,
                Some("client_credentials") => Endpoint::ClientCredentials,
                _ => Endpoint::Any,
            }
        }
        "/oauth/v2/token/revoke" | "/oauth/v2/revoke/token" => Endpoint::Revoke,
        _ if path.starts_with("/crm/") => Endpoint::Api,
        _ => Endpoint::Any,
    }
}

/// How a fault changes the token answer; the token handler reads it from the request.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct TokenShape {
    pub(crate) without_refresh_token: bool,
    pub(crate) without_expires_in: bool,
    pub(crate) legacy_expiry: bool,
}

impl From<&[Effect]> for TokenShape {
    fn from(effects: &[Effect]) -> Self {
        Self {
            without_refresh_token: effects.contains(&Effect::NoRefreshToken),
            without_expires_in: effects.contains(&Effect::NoExpiresIn),
            legacy_expiry: effects.contains(&Effect::LegacyExpiry),
        }
    }
}

/// The answer a fault gives instead of the service's own.
fn instead(context: &Context, endpoint: Endpoint, effect: Effect) -> Option<Response> {
    match effect {
        Effect::Throttle if endpoint == Endpoint::Api => Some(crm::too_many_requests()),
        Effect::Throttle => Some(accounts::throttled(&context.shared.rules)),
        Effect::InvalidToken => Some(crm::invalid_token()),
        Effect::Status { status } => {
            // An interim status (1xx) is no answer: a client would wait for the one that follows.
            let status = StatusCode::from_u16(status)
                .ok()
                .filter(|status| (200..=599).contains(&status.as_u16()))
                .unwrap_or(StatusCode::BAD_GATEWAY);
            Some(if endpoint == Endpoint::Api {
                crm::broken(status)
            } else {
                (status, "").into_response()
            })
        }
        Effect::Html => {
            let page = "<!DOCTYPE html>\n<html><head><title>Sign in to the network</title></head>\
                        <body><h1>Sign in to the network</h1></body></html>\n";
            Some(([(header::CONTENT_TYPE, "text/html;charset=UTF-8")], page).into_response())
        }
        _ => None,
    }
}

/// What a fault does to an answer that the service has given.
async fn spoil(response: Response, effect: Effect) -> Response {
    match effect {
        Effect::Delay { ms } => {
            sleep(Duration::from_millis(ms)).await;
            response
        }
        Effect::MalformedJson => {
            let (mut parts, body) = response.into_parts();
            parts.headers.remove(header::CONTENT_LENGTH);
            let whole = body::to_bytes(body, usize::MAX).await.unwrap_or_default();
            let half = whole.slice(..whole.len() / 2);
            // An empty answer has no JSON to break; give it some.
            let half = if half.is_empty() {
                Bytes::from_static(b"{\"")
            } else {
                half
            };
            if parts.status == StatusCode::NO_CONTENT {
                parts.status = StatusCode::OK;
            }
            let json = HeaderValue::from_static("application/json;charset=UTF-8");
            parts.headers.insert(header::CONTENT_TYPE, json);
            Response::from_parts(parts, Body::from(half))
        }
        Effect::Cut => {
            let (mut parts, body) = response.into_parts();
            let whole = body::to_bytes(body, usize::MAX).await.unwrap_or_default();
            // The promised length is never reached, so no client can take this for an answer.
            let promised = HeaderValue::from(whole.len().max(2));
            parts.headers.insert(header::CONTENT_LENGTH, promised);
            if parts.status == StatusCode::NO_CONTENT {
                parts.status = StatusCode::OK;
            }
            let half = whole.slice(..whole.len() / 2);
            let pieces = stream::unfold(Some(half), |rest| async move {
                if let Some(half) = rest {
                    return Some((Ok(half), None));
                }
                // Lets the first half reach the wire before the connection goes.
                sleep(Duration::from_millis(10)).await;
                Some((Err(std::io::Error::other("cut by a fault")), None))
            });
            Response::from_parts(parts, Body::from_stream(pieces))
        }
        _ => response,
    }
}
