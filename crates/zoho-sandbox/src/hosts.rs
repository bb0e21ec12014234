//! Whom the sandbox answers: the host that every request names, and the page that a control call
//! comes from.
//!
//! A site can let its own name resolve to 127.0.0.1 (DNS rebinding). The browser then takes the
//! sandbox for that site, and lets the site's pages read every answer. Their requests still carry
//! the site's name, so a request that names anything but this machine is refused.

use std::net::Ipv6Addr;

use axum::extract::{Request, State};
use axum::http::{StatusCode, header, uri};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use axum::{Extension, Json};
use serde_json::json;
use url::{Host, Url};

/// A host with its port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Authority {
    host: Host,
    port: u16,
}

/// The hosts that a data center answers for: its own, and the loopback names and addresses,
/// all with the data center's port.
#[derive(Clone, Debug)]
pub(crate) struct Hosts {
    url: String,
    own: Authority,
    /// The port of requests that name none.
    usual_port: u16,
    /// Whether the data center listens on every address of the machine, and so answers for
    /// every address. That is safe: only a name can be rebound.
    every_address: bool,
}

impl Hosts {
    /// The hosts of the data center at `url`; `None` unless that is an http or https URL.
    pub(crate) fn new(url: &str, every_address: bool) -> Option<Self> {
        let parsed = Url::parse(url).ok()?;
        let usual_port = match parsed.scheme() {
            "http" => 80,
            "https" => 443,
            _ => return None,
        };
        Some(Self {
            url: url.to_owned(),
            own: Authority::of(&parsed)?,
            usual_port,
            every_address,
        })
    }

    fn allow(&self, named: &Authority) -> bool {
        let this_machine = match &named.host {
            Host::Domain(name) => name == "localhost",
            Host::Ipv4(address) => self.every_address || address.is_loopback(),
            Host::Ipv6(address) => self.every_address || is_loopback(*address),
        };
        named.port == self.own.port && (this_machine || named.host == self.own.host)
    }

    /// The host that a request names, if this data center answers for it.
    ///
    /// HTTP/2 names it in `:authority`, which is part of the URI here, and so does a proxy's
    /// absolute request target. It goes before `Host` (RFC 9112, section 3.2.2); where both are
    /// there, both must be right.
    fn named_by(&self, request: &Request) -> Result<Authority, (StatusCode, String)> {
        let bad = |text: &str| (StatusCode::BAD_REQUEST, text.to_owned());
        let mut texts = Vec::new();
        for value in request.headers().get_all(header::HOST) {
            texts.push(
                value
                    .to_str()
                    .map_err(|_| bad("the Host header is no host"))?,
            );
        }
        if texts.len() > 1 {
            return Err(bad("the request has more than one Host header"));
        }
        texts.extend(request.uri().authority().map(uri::Authority::as_str));
        let mut named = Err(bad("the request names no host"));
        for text in texts {
            let authority = Authority::parse(text, self.usual_port)
                .ok_or_else(|| bad("the Host header is no host"))?;
            if !self.allow(&authority) {
                let url = &self.url;
                return Err((
                    StatusCode::FORBIDDEN,
                    format!("the request is for `{text}`, and this sandbox is at {url}"),
                ));
            }
            named = Ok(authority);
        }
        named
    }
}

impl Authority {
    /// Reads `host` or `host:port`, as a browser does.
    fn parse(text: &str, usual_port: u16) -> Option<Self> {
        let (host, port) = match text.rsplit_once(':') {
            // The last colon of `[::1]` is inside the brackets.
            Some((host, port)) if !port.ends_with(']') => (host, port),
            _ => (text, ""),
        };
        let port = match port {
            "" => usual_port,
            digits if digits.bytes().all(|byte| byte.is_ascii_digit()) => digits.parse().ok()?,
            _ => return None,
        };
        let host = without_dot(Host::parse(host).ok()?);
        Some(Self { host, port })
    }

    fn of(url: &Url) -> Option<Self> {
        Some(Self {
            host: without_dot(url.host()?.to_owned()),
            port: url.port_or_known_default()?,
        })
    }
}

/// A name with a dot at its end is the same name.
fn without_dot(host: Host) -> Host {
    match host {
        Host::Domain(name) => Host::Domain(name.strip_suffix('.').unwrap_or(&name).to_owned()),
        address => address,
    }
}

fn is_loopback(address: Ipv6Addr) -> bool {
    address.to_canonical().is_loopback()
}

/// Refuses requests that name another host: 403, or 400 if the host cannot be read.
pub(crate) async fn check(
    State(hosts): State<Hosts>,
    mut request: Request,
    next: Next,
) -> Response {
    match hosts.named_by(&request) {
        Ok(named) => {
            request.extensions_mut().insert(named);
            next.run(request).await
        }
        Err((status, text)) => {
            tracing::debug!(%status, text, "refused a request");
            refusal(status, &text)
        }
    }
}

/// Refuses control calls that a page of another site makes from a person's browser.
///
/// A browser needs no permission to send a form or plain text elsewhere, and such a request names
/// the right host. But with everything except plain GET and HEAD requests it sends `Origin`, and
/// no GET or HEAD of the control API changes anything. Programs send no `Origin`.
pub(crate) async fn same_origin(
    Extension(named): Extension<Authority>,
    request: Request,
    next: Next,
) -> Response {
    let origins = request.headers().get_all(header::ORIGIN);
    let own = |origin: &str| {
        let url = Url::parse(origin).ok()?;
        let web = matches!(url.scheme(), "http" | "https");
        (web && Authority::of(&url)? == named).then_some(())
    };
    let mut origins = origins.iter().map(|origin| origin.to_str());
    if origins.all(|origin| origin.ok().and_then(own).is_some()) {
        next.run(request).await
    } else {
        refusal(
            StatusCode::FORBIDDEN,
            "the call comes from a page of another site",
        )
    }
}

/// A refusal with its reason.
pub(crate) fn refusal(status: StatusCode, text: &str) -> Response {
    (status, Json(json!({ "error": text }))).into_response()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Only this machine is ever allowed, however it is written.
        #[test]
        fn any_text_is_a_host_or_none(
            text in prop_oneof![
                any::<String>(),
                "[0-9a-fx.:%\\[\\]@/]{0,24}",
                "(localhost|127\\.0\\.0\\.1|\\[::1\\])[.:0-9a-z@]{0,8}",
            ],
        ) {
            let hosts = Hosts::new("http://127.0.0.1:8025", false).unwrap();
            if let Some(named) = Authority::parse(&text, 80)
                && hosts.allow(&named)
            {
                prop_assert_eq!(named.port, 8025);
                match named.host {
                    Host::Domain(name) => prop_assert_eq!(name, "localhost"),
                    Host::Ipv4(address) => prop_assert!(address.is_loopback()),
                    Host::Ipv6(address) => prop_assert!(is_loopback(address)),
                }
            }
        }
    }
}
