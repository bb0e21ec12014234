//! Parameters of requests to the accounts server, from wherever clients put them.
//!
//! Zoho's documents show the query string, its Python and Java SDKs send a form, its Node SDK
//! sends multipart. All three are one list here; the query string comes first.

use axum::body::{Body, Bytes};
use axum::extract::{FromRequest, Multipart};
use axum::http::{Request, header, request::Parts};

/// The parameters of one request, in the order they came.
#[derive(Clone, Default)]
pub(crate) struct Params(Vec<(String, String)>);

impl Params {
    /// Reads the query string and the body, whatever of the two is there.
    pub(crate) async fn read(parts: &Parts, body: &Bytes) -> Self {
        let mut list = pairs(parts.uri.query().unwrap_or_default().as_bytes());
        let content_type = parts
            .headers
            .get(header::CONTENT_TYPE)
            .and_then(|value| value.to_str().ok())
            .unwrap_or_default();
        if content_type.starts_with("multipart/form-data") {
            list.extend(multipart(parts, body).await);
        } else if !content_type.starts_with("application/json") {
            list.extend(pairs(body));
        }
        Self(list)
    }

    /// Reads a query string alone.
    pub(crate) fn from_query(query: &str) -> Self {
        Self(pairs(query.as_bytes()))
    }

    /// The first value of `name`; empty ones count as missing.
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.0
            .iter()
            .find(|(key, value)| key == name && !value.is_empty())
            .map(|(_, value)| value.as_str())
    }

    /// All parameters in the order of their names.
    pub(crate) fn sorted(&self) -> Vec<(&str, &str)> {
        let pairs = self.0.iter();
        let mut sorted: Vec<_> = pairs
            .map(|(key, value)| (key.as_str(), value.as_str()))
            .collect();
        sorted.sort_unstable();
        sorted
    }
}

fn pairs(encoded: &[u8]) -> Vec<(String, String)> {
    url::form_urlencoded::parse(encoded).into_owned().collect()
}

async fn multipart(parts: &Parts, body: &Bytes) -> Vec<(String, String)> {
    let mut request = Request::new(Body::from(body.clone()));
    *request.headers_mut() = parts.headers.clone();
    let mut list = Vec::new();
    let Ok(mut form) = Multipart::from_request(request, &()).await else {
        return list;
    };
    while let Ok(Some(field)) = form.next_field().await {
        let name = field.name().unwrap_or_default().to_owned();
        if let Ok(text) = field.text().await {
            list.push((name, text));
        }
    }
    list
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn any_request_has_parameters(
            query in "[ -~]{0,60}",
            content_type in prop_oneof![
                Just("multipart/form-data; boundary=b".to_owned()),
                Just("multipart/form-data".to_owned()),
                Just("application/x-www-form-urlencoded".to_owned()),
                "[ -~]{0,30}",
            ],
            body in prop_oneof![
                any::<Vec<u8>>(),
                prop::collection::vec(prop::sample::select(&[
                    "--b", "\r\n", "--", "Content-Disposition: form-data; name=\"code\"", ":", "&",
                    "=", "%", "%zz", "grant_type",
                ][..]), 0..60).prop_map(|pieces| pieces.concat().into_bytes()),
            ],
        ) {
            let Ok(request) = Request::builder()
                .uri(format!("/?{}", query.replace(['#', ' '], "")))
                .header(header::CONTENT_TYPE, content_type)
                .body(())
            else {
                return Ok(());
            };
            let (parts, ()) = request.into_parts();
            let length = query.len() + body.len();
            let body = Bytes::from(body);
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            let params = runtime.block_on(Params::read(&parts, &body));
            prop_assert!(params.0.len() <= length + 1);
        }
    }
}
