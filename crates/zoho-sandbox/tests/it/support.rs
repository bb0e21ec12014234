//! What the tests share.

use std::sync::OnceLock;

use reqwest::{Client, Method, Response, redirect};
use serde_json::Value;
use zoho_sandbox::Sandbox;

pub(crate) const ALL: &str = "ZohoCRM.modules.ALL,ZohoCRM.settings.ALL,ZohoCRM.users.READ,\
                              ZohoCRM.org.READ,ZohoCRM.coql.READ";
pub(crate) const MIRA: &str = "mira.holm@example.com";
pub(crate) const ELISE: &str = "elise.brandt@example.org";
pub(crate) const LENA: &str = "lena.frost@example.net";

/// An HTTP client that follows no redirects and keeps no connections: tests have runtimes of
/// their own, and a connection must not outlive its.
pub(crate) fn http() -> Client {
    static CLIENT: OnceLock<Client> = OnceLock::new();
    let client = CLIENT.get_or_init(|| {
        rustls::crypto::ring::default_provider()
            .install_default()
            .expect("the provider is installed once");
        Client::builder()
            .redirect(redirect::Policy::none())
            .no_proxy()
            .pool_max_idle_per_host(0)
            .build()
            .unwrap()
    });
    client.clone()
}

pub(crate) async fn sandbox() -> Sandbox {
    Sandbox::builder().start().await.unwrap()
}

/// The client fields of a token request.
pub(crate) fn client_fields(sandbox: &Sandbox) -> Vec<(&'static str, String)> {
    vec![
        ("client_id", sandbox.client_id().to_owned()),
        ("client_secret", sandbox.client_secret().to_owned()),
    ]
}

/// A token request as a form, with the default client's fields unless they are given.
pub(crate) async fn token_response(sandbox: &Sandbox, fields: &[(&str, &str)]) -> Response {
    let mut form: Vec<(&str, String)> = client_fields(sandbox);
    form.retain(|(name, _)| fields.iter().all(|(other, _)| other != name));
    form.extend(
        fields
            .iter()
            .map(|(name, value)| (*name, (*value).to_owned())),
    );
    let url = format!("{}/oauth/v2/token", sandbox.accounts_url());
    http().post(url).form(&form).send().await.unwrap()
}

/// The body of a token request that is answered with 200.
pub(crate) async fn token(sandbox: &Sandbox, fields: &[(&str, &str)]) -> Value {
    let response = token_response(sandbox, fields).await;
    assert_eq!(response.status(), 200);
    response.json().await.unwrap()
}

pub(crate) async fn exchange(sandbox: &Sandbox, code: &str) -> Value {
    token(
        sandbox,
        &[("grant_type", "authorization_code"), ("code", code)],
    )
    .await
}

pub(crate) async fn refresh(sandbox: &Sandbox, refresh_token: &str) -> Value {
    let grant = ("grant_type", "refresh_token");
    token(sandbox, &[grant, ("refresh_token", refresh_token)]).await
}

/// A signed-in caller of the API.
pub(crate) struct Api {
    base: String,
    token: String,
    http: Client,
}

impl Api {
    pub(crate) fn new(sandbox: &Sandbox, email: &str, scopes: &str) -> Self {
        let (_, token) = sandbox.login(email, scopes);
        Self::with_token(sandbox.api_url(), &token)
    }

    pub(crate) fn with_token(base: &str, token: &str) -> Self {
        Self {
            base: format!("{base}/crm/v8/"),
            token: token.to_owned(),
            http: http(),
        }
    }

    /// The status and the body, null when there is none.
    pub(crate) async fn call(
        &self,
        method: Method,
        path: &str,
        body: Option<Value>,
    ) -> (u16, Value) {
        // No Content-Type, as the official Python SDK sends its JSON.
        let mut request = self
            .http
            .request(method, format!("{}{path}", self.base))
            .header("Authorization", format!("Zoho-oauthtoken {}", self.token));
        if let Some(body) = body {
            request = request.body(body.to_string());
        }
        let response = request.send().await.unwrap();
        let status = response.status().as_u16();
        let text = response.text().await.unwrap();
        let body = if text.is_empty() {
            Value::Null
        } else {
            serde_json::from_str(&text).unwrap()
        };
        (status, body)
    }

    pub(crate) async fn get(&self, path: &str) -> (u16, Value) {
        self.call(Method::GET, path, None).await
    }

    pub(crate) async fn post(&self, path: &str, body: Value) -> (u16, Value) {
        self.call(Method::POST, path, Some(body)).await
    }

    pub(crate) async fn put(&self, path: &str, body: Value) -> (u16, Value) {
        self.call(Method::PUT, path, Some(body)).await
    }

    pub(crate) async fn delete(&self, path: &str) -> (u16, Value) {
        self.call(Method::DELETE, path, None).await
    }
}

/// The text between two others.
pub(crate) fn between<'a>(text: &'a str, before: &str, after: &str) -> Option<&'a str> {
    let (_, rest) = text.split_once(before)?;
    Some(rest.split_once(after)?.0)
}
