//! The CRM API, version 8: the part that the official SDKs call.
//!
//! Paths are taken apart here rather than by the router, because the API answers unknown paths
//! and methods in its own envelope, and fixed segments go before module names.

#[cfg(test)]
pub(crate) mod arbitrary;
mod org;
mod query;
mod read;
mod reply;
mod schema;
mod settings;
mod store;
mod validate;
mod write;

use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, Method, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use axum::routing::any;
use axum::{Extension, Router};
use serde_json::Value;

pub(crate) use reply::ApiError;
pub(crate) use schema::module;
pub(crate) use store::{Crm, EPOCH_MS, OrgData, Record};

use crate::params::Params;
use crate::scope::Scopes;
use crate::server::{Context, Received};
use reply::{Reply, Result};
use store::User;

const VERSION: &str = "/crm/v8/";

pub(crate) fn routes() -> Router<Context> {
    Router::new().route("/crm/{*path}", any(answer))
}

/// A call whose token is good.
struct Call<'a> {
    method: &'a Method,
    params: &'a Params,
    headers: &'a HeaderMap,
    body: &'a Bytes,
    scopes: &'a Scopes,
    user: User,
    now: u64,
    scope_mismatch_status: u16,
    refuse_unknown_fields: bool,
    require_layout_fields: bool,
}

impl Call<'_> {
    /// Refuses the call unless its token covers `operation` on one of `targets`.
    fn need(&self, targets: &[&str], operation: &str) -> Result<()> {
        if targets
            .iter()
            .any(|target| self.scopes.allow(target, operation))
        {
            return Ok(());
        }
        Err(ApiError::new(
            self.scope_mismatch_status,
            "OAUTH_SCOPE_MISMATCH",
            "invalid oauth scope to access this URL",
        ))
    }

    /// Refuses every method but this one.
    fn only(&self, method: &Method) -> Result<()> {
        if self.method == method {
            Ok(())
        } else {
            Err(ApiError::wrong_method())
        }
    }

    /// The body as a JSON object, whatever its `Content-Type`: the official Python SDK sends none.
    fn json(&self) -> Result<serde_json::Map<String, Value>> {
        match serde_json::from_slice(self.body) {
            Ok(Value::Object(object)) => Ok(object),
            _ => Err(ApiError::invalid_data(
                serde_json::json!({ "expected_data_type": "jsonobject" }),
            )),
        }
    }
}

async fn answer(
    State(context): State<Context>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    Extension(received): Extension<Received>,
) -> Response {
    match carry_out(&context, &method, &uri, &headers, &received) {
        Ok(reply) => reply.into_response(),
        Err(error) => error.into_response(),
    }
}

fn carry_out(
    context: &Context,
    method: &Method,
    uri: &Uri,
    headers: &HeaderMap,
    received: &Received,
) -> Result {
    let shared = &context.shared;
    let now = shared.clock.now_ms();
    let token = bearer(headers)
        .ok_or_else(|| ApiError::new(401, "AUTHENTICATION_FAILURE", "Authentication failed"))?;
    let grant = {
        let ledger = shared.ledger();
        let live = ledger.live_access_token(token, context.center(), now);
        live.ok_or_else(bad_token)?.grant.clone()
    };
    let person = shared.person(&grant.email).ok_or_else(bad_token)?;
    let position = shared.organisation_of(person);
    let mut crm = shared.crm();
    let data = crm.organisation(position);
    let user = data.user(&person.email).cloned().ok_or_else(bad_token)?;
    let call = Call {
        method,
        params: &received.params,
        headers,
        body: &received.body,
        scopes: &grant.scopes,
        user,
        now,
        scope_mismatch_status: shared.rules.scope_mismatch_status,
        refuse_unknown_fields: shared.rules.refuse_unknown_fields,
        require_layout_fields: shared.rules.require_layout_fields,
    };
    let path = uri.path().strip_prefix(VERSION);
    let path = path.ok_or_else(ApiError::no_such_path)?;
    let segments: Vec<&str> = path.split('/').collect();
    dispatch(&call, data, &segments)
}

fn dispatch(call: &Call<'_>, data: &mut OrgData, segments: &[&str]) -> Result {
    match segments {
        ["users"] => org::users(call, data),
        ["users", "actions", "count"] => org::users_count(call, data),
        ["users", id] => org::user(call, data, id),
        ["org"] => org::organisation(call, data),
        ["settings", "modules"] => settings::modules(call, data),
        ["settings", "modules", name] => settings::module(call, data, name),
        ["settings", "fields"] => settings::fields(call, data),
        ["settings", "fields", id] => settings::field(call, data, id),
        ["settings", "related_lists"] => settings::related_lists(call, data),
        ["coql"] => query::coql::answer(call, data),
        []
        | [
            "settings" | "users" | "org" | "coql" | "files" | "upload" | "",
            ..,
        ] => Err(ApiError::no_such_path()),
        [name, rest @ ..] => records(call, data, name, rest),
    }
}

fn records(call: &Call<'_>, data: &mut OrgData, name: &str, rest: &[&str]) -> Result {
    let writes = *call.method != Method::GET;
    let Some(module) = schema::module(name) else {
        let error = ApiError::no_such_module();
        // The documents' examples wrap this error on writes and leave it bare on reads.
        return if writes {
            let body = serde_json::json!({ "data": [error.envelope()] });
            Ok(Reply::with(error.status, body))
        } else {
            Err(error)
        };
    };
    match (rest, call.method) {
        ([], &Method::GET) => read::list(call, data, module),
        ([], &Method::POST) => write::create(call, data, module),
        ([], &Method::PUT) => write::update_many(call, data, module),
        ([], &Method::DELETE) => write::delete_many(call, data, module),
        (["upsert"], &Method::POST) => write::upsert(call, data, module),
        (["search"], &Method::GET) => query::search::answer(call, data, module),
        (["deleted"], &Method::GET) => read::deleted(call, data, module),
        (["actions", "count"], &Method::GET) => read::count(call, data, module),
        ([] | ["upsert" | "search" | "deleted"] | ["actions", "count"], _) => {
            Err(ApiError::wrong_method())
        }
        (["actions", ..], _) => Err(ApiError::no_such_path()),
        ([id], &Method::GET) => read::one(call, data, module, id),
        ([id], &Method::PUT) => write::update_one(call, data, module, id),
        ([id], &Method::DELETE) => write::delete_one(call, data, module, id),
        ([_], _) => Err(ApiError::wrong_method()),
        ([id, list], &Method::GET) => read::related(call, data, module, id, list),
        _ => Err(ApiError::no_such_path()),
    }
}

/// The access token of a request: `Zoho-oauthtoken` as the SDKs send it, or `Bearer`.
pub(crate) fn bearer(headers: &HeaderMap) -> Option<&str> {
    let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, token) = value.split_once(' ')?;
    let known =
        scheme.eq_ignore_ascii_case("Zoho-oauthtoken") || scheme.eq_ignore_ascii_case("Bearer");
    (known && !token.trim().is_empty()).then(|| token.trim())
}

fn bad_token() -> ApiError {
    ApiError::new(401, "INVALID_TOKEN", "invalid oauth token")
}

/// 401 `INVALID_TOKEN`, for faults.
pub(crate) fn invalid_token() -> Response {
    bad_token().into_response()
}

/// 429, for faults.
pub(crate) fn too_many_requests() -> Response {
    ApiError::new(429, "TOO_MANY_REQUESTS", "too many requests").into_response()
}

/// The answer to a call that is longer than `limit` bytes.
pub(crate) fn too_long(status: StatusCode, limit: usize) -> Response {
    ApiError::new(status.as_u16(), "LIMIT_EXCEEDED", "limit exceeded")
        .details(serde_json::json!({ "limit": limit }))
        .into_response()
}

/// An answer with a status of the fault's choice.
pub(crate) fn broken(status: StatusCode) -> Response {
    let error = match status.as_u16() {
        503 => ApiError::new(
            503,
            "SERVICE_UNAVAILABLE",
            "Service temporarily unavailable",
        ),
        other => ApiError::new(other, "INTERNAL_ERROR", "Internal Server Error"),
    };
    error.into_response()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{any, *};
    use serde_json::json;

    use super::arbitrary::{json, nested, word};
    use super::*;
    use crate::demo;

    #[derive(Debug)]
    struct Asked {
        method: Method,
        path: String,
        query: String,
        date: Option<String>,
        body: Vec<u8>,
    }

    fn query() -> impl Strategy<Value = String> {
        const NAMES: &[&str] = &[
            "fields",
            "ids",
            "page",
            "per_page",
            "page_token",
            "sort_by",
            "sort_order",
            "criteria",
            "email",
            "phone",
            "word",
            "type",
            "module",
        ];
        let value = prop_oneof![
            3 => word(),
            1 => nested(Just("City:equals:Porto".to_owned())),
        ];
        let pairs = prop::collection::vec((prop::sample::select(NAMES), value), 0..5);
        let pairs = pairs.prop_map(|pairs| {
            url::form_urlencoded::Serializer::new(String::new())
                .extend_pairs(pairs)
                .finish()
        });
        prop_oneof![4 => pairs, 1 => any::<String>()]
    }

    fn body() -> impl Strategy<Value = Vec<u8>> {
        let nest = (0_usize..5_000, 0_usize..5_000).prop_map(|(open, close)| {
            let deep = "[".repeat(open) + &"]".repeat(close);
            format!(r#"{{"data":[{{"Last_Name":"A","Company":"B","Tag":{deep}}}]}}"#)
        });
        let records = prop::collection::vec(prop::collection::vec((word(), json()), 0..6), 1..4);
        let records = (records, json(), nested(word())).prop_map(|(records, checks, query)| {
            let records: Vec<Value> = records
                .into_iter()
                .map(|fields| {
                    let mut record = json!({ "Last_Name": "A", "Company": "B" });
                    for (name, value) in fields {
                        record[name] = value;
                    }
                    record
                })
                .collect();
            json!({
                "data": records,
                "duplicate_check_fields": checks,
                "select_query": format!("select id, City from Leads where {query}"),
            })
        });
        prop_oneof![
            4 => records.prop_map(|body| body.to_string().into_bytes()),
            1 => json().prop_map(|body| body.to_string().into_bytes()),
            1 => nest.prop_map(String::into_bytes),
            1 => any::<Vec<u8>>(),
        ]
    }

    fn asked() -> impl Strategy<Value = Asked> {
        const PATHS: &[&str] = &[
            "Leads",
            "Contacts/upsert",
            "Leads/upsert",
            "Leads/search",
            "Contacts/search",
            "Leads/deleted",
            "Leads/actions/count",
            "coql",
            "users",
            "users/actions/count",
            "org",
            "settings/modules",
            "settings/fields",
            "settings/related_lists",
            "Leads/5540230000100009",
            "Accounts/5540230000100001/Contacts",
        ];
        let path = prop_oneof![
            4 => prop::sample::select(PATHS).prop_map(str::to_owned),
            1 => prop::collection::vec(word(), 0..4).prop_map(|words| words.join("/")),
        ];
        let method = prop::sample::select(
            &[
                Method::GET,
                Method::POST,
                Method::PUT,
                Method::DELETE,
                Method::PATCH,
            ][..],
        );
        let date = prop::option::of(word());
        (method, path, query(), date, body()).prop_map(|(method, path, query, date, body)| Asked {
            method,
            path,
            query,
            date,
            body,
        })
    }

    proptest! {
        /// Whatever is asked, the answer is a status and a body that every JSON reader can take.
        #[test]
        fn any_call_has_an_answer(calls in prop::collection::vec(asked(), 1..8)) {
            let (organisations, people) = (demo::organisations(), demo::people());
            let mut crm = Crm::new(&organisations, &people);
            let data = crm.organisation(0);
            let user = data.users[0].clone();
            let scopes = Scopes::parse(
                "ZohoCRM.modules.ALL,ZohoCRM.settings.ALL,ZohoCRM.users.ALL,ZohoCRM.org.ALL,\
                 ZohoCRM.coql.READ",
            )
            .unwrap();
            for asked in calls {
                let mut headers = HeaderMap::new();
                if let Some(date) = asked.date.and_then(|date| date.parse().ok()) {
                    let name = if asked.method == Method::GET {
                        header::IF_MODIFIED_SINCE
                    } else {
                        header::IF_UNMODIFIED_SINCE
                    };
                    headers.insert(name, date);
                }
                let (params, body) = (Params::from_query(&asked.query), Bytes::from(asked.body));
                let call = Call {
                    method: &asked.method,
                    params: &params,
                    headers: &headers,
                    body: &body,
                    scopes: &scopes,
                    user: user.clone(),
                    now: EPOCH_MS,
                    scope_mismatch_status: 401,
                    refuse_unknown_fields: false,
                    require_layout_fields: false,
                };
                let segments: Vec<&str> = asked.path.split('/').collect();
                let (status, answer) = match dispatch(&call, data, &segments) {
                    Ok(reply) => (reply.status, reply.body.unwrap_or_default()),
                    Err(error) => (error.status, error.envelope()),
                };
                prop_assert!((200..500).contains(&status), "{status}");
                let text = answer.to_string();
                prop_assert!(serde_json::from_str::<Value>(&text).is_ok());
            }
        }
    }
}
