//! Sending: the token, the address, one repeat after a refused token, and repeats of reads.

use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant};

use reqwest::header::{
    ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, RETRY_AFTER,
};
use serde::de::DeserializeOwned;
use url::{Host, Url};
use zoho_oauth::{Access, AccessToken, DataCenter, Environment, Timestamp};

use crate::api_error::{ApiError, meaning_of};
use crate::call::Call;
use crate::client::{ApiDomain, Options, ZohoCrm};
use crate::error::{Error, ErrorCode, Result};
use crate::request::Response;

/// The longest that a repeat waits, whatever the server or the doubling says.
const LONGEST_WAIT: Duration = Duration::from_secs(30);

/// How reads are repeated after a transient failure: a lost connection, HTTP 429 or 5xx.
///
/// Writes are never repeated, except after a refused access token: then nothing was done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RetryPolicy {
    repeats: u32,
    first_wait: Duration,
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self {
            repeats: 2,
            first_wait: Duration::from_millis(250),
        }
    }
}

impl RetryPolicy {
    /// Never repeats.
    pub const fn never() -> Self {
        Self {
            repeats: 0,
            first_wait: Duration::ZERO,
        }
    }

    /// Repeats up to this many times: 2 by default.
    #[must_use]
    pub const fn repeats(mut self, repeats: u32) -> Self {
        self.repeats = repeats;
        self
    }

    /// Waits about this long before the first repeat, and twice as long before each further one:
    /// 250 ms by default, never more than 30 s. A wait that the server names is kept instead.
    #[must_use]
    pub const fn first_wait(mut self, wait: Duration) -> Self {
        self.first_wait = wait;
        self
    }

    /// The wait before repeat number `count`, counted from zero: between half and all of the
    /// doubled time, so that many clients that failed together do not come back together.
    fn wait(&self, count: u32, named: Option<Duration>) -> Duration {
        let doubled = self
            .first_wait
            .saturating_mul(2_u32.saturating_pow(count))
            .min(LONGEST_WAIT);
        let jittered = doubled.mul_f64(0.5 + fastrand::f64() / 2.0);
        named
            .map_or(jittered, |named| named.max(jittered))
            .min(LONGEST_WAIT)
    }
}

/// Sends a call, with everything that may be repeated repeated, and returns the last answer
/// whatever its status.
pub(crate) async fn send(crm: &ZohoCrm, call: &Call) -> Result<Response> {
    let no_token = |cause| Error::no_token(call, cause);
    let policy = crm.options().retry;
    let mut access = crm.session().access_token().await.map_err(no_token)?;
    let mut replaced = false;
    let mut repeats = 0;
    loop {
        let outcome = send_once(crm, call, &access).await;
        if let Ok(answer) = &outcome
            && !replaced
            && refuses_token(crm, answer)
        {
            replaced = true;
            tracing::warn!(token_id = %crm.token_id(), "the CRM refused the access token; another one is asked for");
            access = crm
                .session()
                .refused(access.token())
                .await
                .map_err(no_token)?;
            continue;
        }
        let (transient, named) = match &outcome {
            Ok(answer) => (
                matches!(answer.status, 429 | 500..=599),
                retry_after(&answer.headers),
            ),
            Err(error) => (error.is_transient(), error.retry_after()),
        };
        // A server that asks for more patience than we have gets its answer reported at once.
        let too_long = named.is_some_and(|named| named > LONGEST_WAIT);
        if !transient || !call.only_reads || repeats >= policy.repeats || too_long {
            return outcome;
        }
        let wait = policy.wait(repeats, named);
        repeats += 1;
        tracing::debug!(call = %call, repeats, ?wait, "a read failed for now and is repeated");
        tokio::time::sleep(wait).await;
    }
}

/// Sends a call of ours, checks the status and reads the body; `None` for 204 and 304.
pub(crate) async fn fetch<T: DeserializeOwned>(crm: &ZohoCrm, call: &Call) -> Result<Option<T>> {
    let answer = send(crm, call).await?.check()?;
    if answer.body.is_empty() {
        return Ok(None);
    }
    match serde_json::from_slice(&answer.body) {
        Ok(value) => Ok(Some(value)),
        // Zoho's accounts server reports errors with HTTP 200; should the CRM do so, it is seen.
        Err(_) if ApiError::find(&answer.body).is_some() => Err(answer.error()),
        Err(cause) => {
            let text = format!("the answer to `{call}` does not fit the type");
            Err(Error::new(ErrorCode::UnexpectedAnswer, text)
                .with_status(answer.status)
                .caused_by(cause))
        }
    }
}

async fn send_once(crm: &ZohoCrm, call: &Call, access: &Access) -> Result<Response> {
    let _permit = crm.permit().await;
    let domain = crm.domains().get(crm.options(), access.api_domain())?;
    let url = call.url(&domain)?;
    let headers = headers(call, access.token())?;
    let http = crm.http();
    let mut request = http
        .for_url(&url)
        .request(call.method.into(), url)
        .headers(headers);
    if call.wants_json {
        // What is read into memory as a whole has an end; a download has a read time-out only.
        request = request.timeout(http.timeout());
    }
    if let Some(body) = &call.body {
        request = request.body(body.bytes.clone());
    }
    let start = Instant::now();
    let outcome = receive(crm, call, request).await;
    let elapsed = start.elapsed();
    let (method, path, token_id) = (call.method.as_str(), call.path.as_str(), crm.token_id());
    match &outcome {
        Ok(answer) => {
            tracing::debug!(method, path, status = answer.status, ?elapsed, %token_id, "the CRM answered");
        }
        Err(error) => {
            let code = error.code().as_str();
            tracing::warn!(method, path, code, ?elapsed, %token_id, "a call to the CRM failed");
        }
    }
    let mut answer = outcome?;
    if answer.status >= 400 {
        answer.body = without_token(answer.body, access.token());
    }
    Ok(answer)
}

async fn receive(crm: &ZohoCrm, call: &Call, request: reqwest::RequestBuilder) -> Result<Response> {
    let failed = |error| transport_error(crm, call, error);
    let mut answer = request.send().await.map_err(failed)?;
    let status = answer.status().as_u16();
    let headers = std::mem::take(answer.headers_mut());
    let limit = crm.options().max_answer_bytes;
    let mut body = Vec::new();
    while let Some(chunk) = answer.chunk().await.map_err(failed)? {
        if chunk.len() > limit.saturating_sub(body.len()) {
            let text = format!("the answer to `{call}` is longer than {limit} bytes");
            return Err(
                Error::new(unread(call, ErrorCode::AnswerTooLarge), text).with_status(status)
            );
        }
        body.extend_from_slice(&chunk);
    }
    let answer = Response {
        status,
        headers,
        body,
        call: call.without_body(),
    };
    if call.wants_json && status < 400 && !answer.body.is_empty() && !is_json(&answer.headers) {
        // A page of a proxy or of a maintenance in between: the CRM was not even reached.
        let text = format!("`{call}` was answered with something else than JSON");
        return Err(Error::new(unread(call, ErrorCode::ServerError), text).with_status(status));
    }
    Ok(answer)
}

/// The code for an answer that cannot be read: `reading` for a call that changes nothing. What a
/// write did is then unknown, and must not look like a call to be corrected and made again.
fn unread(call: &Call, reading: ErrorCode) -> ErrorCode {
    if call.only_reads {
        reading
    } else {
        ErrorCode::OutcomeUnknown
    }
}

/// What a failed exchange means. A write that may have arrived is not "transient": whoever
/// repeats it blindly makes a second record.
fn transport_error(crm: &ZohoCrm, call: &Call, error: reqwest::Error) -> Error {
    let reason = crm.http().reason(&error);
    let is_certificate = reason.as_ref().is_some_and(|found| found.is_certificate);
    // The URL holds what was searched for.
    let error = error.without_url();
    let (code, happened) = if error.is_builder() {
        (ErrorCode::InvalidInput, "could not be put together")
    } else if error.is_connect() {
        let code = if is_certificate {
            ErrorCode::CertificateRefused
        } else if error.is_timeout() {
            ErrorCode::Timeout
        } else {
            ErrorCode::Network
        };
        (code, "could not connect")
    } else if !call.only_reads {
        (
            ErrorCode::OutcomeUnknown,
            "was sent, and its answer was lost",
        )
    } else if error.is_timeout() {
        (ErrorCode::Timeout, "got no answer in time")
    } else {
        (ErrorCode::Network, "lost its connection")
    };
    let reason = reason.map_or_else(String::new, |found| format!(": {}", found.text));
    Error::new(code, format!("`{call}` {happened}{reason}")).caused_by(error)
}

fn headers(call: &Call, token: &AccessToken) -> Result<HeaderMap> {
    let mut headers = HeaderMap::new();
    for (name, value) in &call.headers {
        let refused = || {
            let name = name.escape_debug();
            Error::invalid_input(format!("the header `{name}` of `{call}` is no HTTP header"))
        };
        let name = HeaderName::try_from(name.as_str()).map_err(|_| refused())?;
        let value = HeaderValue::try_from(value.as_str()).map_err(|_| refused())?;
        headers.insert(name, value);
    }
    if let Some(body) = &call.body {
        let value = HeaderValue::try_from(body.content_type.as_str()).map_err(|_| {
            Error::invalid_input(format!("the content type of `{call}` is no header value"))
        })?;
        headers.insert(CONTENT_TYPE, value);
    }
    if call.wants_json {
        headers.insert(ACCEPT, HeaderValue::from_static("application/json"));
    }
    headers.insert(AUTHORIZATION, authorization(token)?);
    Ok(headers)
}

/// `Zoho-oauthtoken <token>`, marked so that nothing below prints it.
fn authorization(token: &AccessToken) -> Result<HeaderValue> {
    let text = format!("Zoho-oauthtoken {}", token.expose_secret());
    let mut value = HeaderValue::try_from(text).map_err(|_| {
        Error::invalid_input("the access token holds a character that no header may hold")
    })?;
    value.set_sensitive(true);
    Ok(value)
}

/// Maximum number of cached addresses. A data center has a few, but a store may hold any text.
const MAX_CACHED_DOMAINS: usize = 64;

/// Checked addresses of the API, cached by the API domain of the token. An address depends on this
/// text and on the options of the client alone, and the options never change.
#[derive(Default)]
pub(crate) struct CheckedDomains(RwLock<Vec<(Option<String>, Arc<Url>)>>);

impl CheckedDomains {
    /// Returns the address of the API for a token with this API domain.
    ///
    /// The check parses the URLs of all data centers, so it runs once for each distinct text.
    /// Errors are not cached.
    fn get(&self, options: &Options, domain: Option<&str>) -> Result<Arc<Url>> {
        let known = self.0.read().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, url)) = known.iter().find(|(text, _)| text.as_deref() == domain) {
            return Ok(Arc::clone(url));
        }
        drop(known);
        let url = Arc::new(checked_domain(options, domain)?);
        let mut known = self.0.write().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= MAX_CACHED_DOMAINS {
            known.clear();
        }
        known.push((domain.map(str::to_owned), Arc::clone(&url)));
        Ok(url)
    }
}

/// Returns the address of the API for a token with this API domain.
///
/// The token's own `api_domain` comes first: a user's data center belongs to the token. But an
/// application that asked for a sandbox never gets production by surprise; see [`ApiDomain`].
fn checked_domain(options: &Options, token: Option<&str>) -> Result<Url> {
    let environment = options.target.environment();
    let own = options.target.data_center();
    let domain = match token {
        None => own.api_domain(environment).map(str::to_owned),
        Some(token) => {
            let center = center_of(options, token)?;
            let named = center.environment_of(token);
            let token = center.with_scheme(token);
            match (environment, named) {
                _ if options.api_domain == ApiDomain::OfToken => Some(token),
                (Environment::Production, _) => Some(token),
                (_, Some(Environment::Production)) => {
                    center.api_domain(environment).map(str::to_owned)
                }
                (_, Some(_)) => Some(token),
                // It may well be production: Zoho has more data centers than its SDKs know.
                (_, None) => {
                    return Err(Error::invalid_input(format!(
                        "the API domain of this user is that of no known data center, so it cannot \
                         be told from production, and {environment:?} was asked for (add it with \
                         `data_center`, or choose `ApiDomain::OfToken`)"
                    )));
                }
            }
        }
    };
    let center = own.name();
    let domain = domain.ok_or_else(|| {
        Error::invalid_input(format!(
            "no address of the {environment:?} API is known for this user (data center `{center}`)"
        ))
    })?;
    let refused = |why: &str| Error::invalid_input(format!("the API domain of this user {why}"));
    let url = Url::parse(&domain).map_err(|_| refused("is not a URL"))?;
    let known = own.environment_of(&domain).is_some()
        || options.data_centers.by_api_domain(&domain).is_some();
    if url.scheme() != "https" && !(url.scheme() == "http" && (known || is_loopback(&url))) {
        return Err(refused("would send the access token over plain http"));
    }
    if url.host().is_none() || !url.username().is_empty() || url.password().is_some() {
        return Err(refused("is not the address of a server"));
    }
    Ok(url)
}

/// The data center that an API domain belongs to. A record of the store, and so an answer of some
/// server, says where the token is sent: to an address that is known or allowed, and to no other.
fn center_of<'a>(options: &'a Options, domain: &str) -> Result<&'a DataCenter> {
    let own = options.target.data_center();
    if own.environment_of(domain).is_some() {
        return Ok(own);
    }
    let mut allowed = options.allowed_domains.iter();
    let asked = Url::parse(domain).ok();
    if asked.is_some_and(|asked| allowed.any(|allowed| *allowed == asked.origin())) {
        return Ok(own);
    }
    let center = options.data_centers.of_api_domain(domain, own);
    center.map_err(|cause| {
        Error::invalid_input(format!(
            "{}, so the access token is not sent there (add the data center with `data_center`, or \
             allow the address by name with `allow_api_domain`)",
            cause.message()
        ))
    })
}

fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Domain(name)) => name == "localhost" || name.ends_with(".localhost"),
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    }
}

/// The longest body of a success in which a refusal is looked for: one holds a code and a message.
const LONGEST_REFUSAL: usize = 4096;

/// Whether the CRM refused the token itself, rather than what was asked for: whatever the status,
/// if it says so, and by the status alone if it says nothing that can be read.
fn refuses_token(crm: &ZohoCrm, answer: &Response) -> bool {
    let said = match answer.status {
        400.. => ApiError::find(&answer.body),
        // What is in the records of a success is not about the token.
        _ if answer.body.len() > LONGEST_REFUSAL => return false,
        _ => match ApiError::alone(&answer.body) {
            None => return false,
            said => said,
        },
    };
    let is_doubtful = said.as_ref().map(ApiError::code) == Some("AUTHENTICATION_FAILURE");
    meaning_of(said.as_ref(), answer.status) == ErrorCode::TokenRefused
        && (!is_doubtful || crm.options().refresh_on_authentication_failure)
}

/// The wait that a server asks for. Zoho does not document the header for CRM v8; where a gateway
/// sends it, it is kept.
pub(crate) fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let value = headers.get(RETRY_AFTER)?.to_str().ok()?;
    zoho_oauth::http::retry_after(value, Timestamp::now())
}

fn is_json(headers: &HeaderMap) -> bool {
    let value = headers
        .get(CONTENT_TYPE)
        .and_then(|value| value.to_str().ok());
    value.is_some_and(|value| value.to_ascii_lowercase().contains("json"))
}

/// Takes the token out of an error page that repeats the request, before anybody prints it.
fn without_token(body: Vec<u8>, token: &AccessToken) -> Vec<u8> {
    let secret = token.expose_secret().as_bytes();
    if !body.windows(secret.len()).any(|window| window == secret) {
        return body;
    }
    String::from_utf8_lossy(&body)
        .replace(token.expose_secret(), "[redacted]")
        .into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_within_bounds_and_keep_what_the_server_named() {
        let policy = RetryPolicy::default().first_wait(Duration::from_millis(100));
        for count in 0..40 {
            let wait = policy.wait(count, None);
            let doubled = Duration::from_millis(100)
                .saturating_mul(2_u32.saturating_pow(count))
                .min(LONGEST_WAIT);
            assert!(wait >= doubled / 2 && wait <= doubled, "{count}: {wait:?}");
        }
        let named = Duration::from_secs(3);
        assert_eq!(policy.wait(0, Some(named)), named);
        assert_eq!(policy.wait(0, Some(Duration::from_hours(1))), LONGEST_WAIT);
    }

    #[tokio::test]
    async fn checked_domains_are_bounded_and_refused_ones_are_not_kept() {
        let credential = zoho_oauth::Credential::access(AccessToken::new("1000.abc").unwrap());
        let crm = ZohoCrm::builder(DataCenter::us(), credential, zoho_oauth::ListStore::new());
        let crm = crm.find_user(false).build().await.unwrap();
        let get = |token: Option<&str>| crm.domains().get(crm.options(), token);
        let default = get(None).unwrap();
        assert_eq!(default.as_str(), "https://www.zohoapis.com/");
        assert!(Arc::ptr_eq(&default, &get(None).unwrap()));
        for number in 0..=MAX_CACHED_DOMAINS {
            let token = format!("https://www.zohoapis.eu/{number}");
            assert_eq!(get(Some(&token)).unwrap().as_str(), token);
            assert!(get(Some("")).is_err());
            assert!(get(Some("https://crm.example")).is_err());
            assert!(crm.domains().0.read().unwrap().len() <= MAX_CACHED_DOMAINS);
        }
    }

    #[test]
    fn the_authorization_header_hides_itself() {
        let token = AccessToken::new("1000.abc").unwrap();
        let value = authorization(&token).unwrap();
        assert_eq!(value.to_str().unwrap(), "Zoho-oauthtoken 1000.abc");
        assert!(!format!("{value:?}").contains("abc"));
        let mut fields = [None; 10];
        fields[5] = Some("1000.abc\r\nX: y");
        let stored = zoho_oauth::OAuthToken::from_fields(&fields).unwrap();
        let broken = stored.access_token.unwrap();
        let error = authorization(&broken).unwrap_err();
        assert!(!format!("{error} {error:?}").contains("abc"));
    }

    #[test]
    fn an_error_page_that_repeats_the_token_is_cleaned() {
        let token = AccessToken::new("1000.abc").unwrap();
        let body = b"<pre>Authorization: Zoho-oauthtoken 1000.abc</pre>".to_vec();
        let cleaned = String::from_utf8(without_token(body, &token)).unwrap();
        assert!(cleaned.contains("[redacted]") && !cleaned.contains("1000.abc"));
        assert_eq!(without_token(b"short".to_vec(), &token), b"short");
    }

    #[test]
    fn retry_after_is_read_as_seconds_and_as_a_date() {
        let header = |text: &str| {
            let value = HeaderValue::try_from(text).unwrap();
            retry_after(&HeaderMap::from_iter([(RETRY_AFTER, value)]))
        };
        assert_eq!(header(" 7"), Some(Duration::from_secs(7)));
        assert_eq!(
            header("Sun, 06 Nov 1994 08:49:37 GMT"),
            Some(Duration::ZERO)
        );
        for date in ["Fri, 01 Jan 2055 00:00:00 GMT", "Fri Jan  1 00:00:00 2055"] {
            assert!(
                header(date) > Some(Duration::from_hours(24 * 365)),
                "{date}"
            );
        }
        assert_eq!(header("soon"), None);
    }
}
