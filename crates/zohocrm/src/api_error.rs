//! [`ApiError`]: what the CRM says when it refuses, in both places where it says so.

use std::fmt;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

use crate::error::{Error, ErrorCode, Result};

/// Longest code that is kept, in characters.
const CODE_LIMIT: usize = 100;
/// Longest message that is kept, in characters.
const MESSAGE_LIMIT: usize = 500;
/// Longest details that are kept, in bytes of JSON.
const DETAILS_LIMIT: usize = 16 * 1024;

/// What the CRM said when it refused a request, or one record of a write.
///
/// The shape is the same in both places: `code`, `message`, `status: "error"` and `details`.
/// The set of codes is open: Zoho's descriptions name more than 150.
#[derive(Clone)]
pub struct ApiError {
    code: String,
    message: String,
    details: Option<Box<RawValue>>,
}

impl ApiError {
    /// Returns the CRM's code in upper case, such as `MANDATORY_NOT_FOUND`.
    pub fn code(&self) -> &str {
        &self.code
    }

    /// Returns the CRM's message. For people: the text may change, and may be in their language.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// Returns the details as JSON, if there are any: an object whose keys depend on the code.
    ///
    /// Details of more than 16 KiB are left out.
    pub fn details_json(&self) -> Option<&str> {
        self.details.as_deref().map(RawValue::get)
    }

    /// Returns one entry of the details, `None` when it is absent, null or of another type.
    ///
    /// `detail::<String>("json_path")` tells which value of the request was wrong.
    pub fn detail<T: DeserializeOwned>(&self, key: &str) -> Option<T> {
        let details: serde_json::Value = self.details_as().ok()?;
        let value = details.get(key).filter(|value| !value.is_null())?;
        serde_json::from_value(value.clone()).ok()
    }

    /// Returns the details as a type of your own.
    ///
    /// # Errors
    /// `unexpected_answer` when there are none or they do not fit the type.
    pub fn details_as<T: DeserializeOwned>(&self) -> Result<T> {
        let json = self.details_json().unwrap_or("null");
        serde_json::from_str(json).map_err(|cause| {
            Error::new(
                ErrorCode::UnexpectedAnswer,
                format!("the details of `{}` do not fit the type", self.code),
            )
            .caused_by(cause)
        })
    }

    /// Returns the API name of the field that is at fault, where the CRM names one.
    pub fn field(&self) -> Option<String> {
        self.detail("api_name")
    }

    /// Returns the code of this crate for this refusal, given the HTTP status if it stood alone.
    pub(crate) fn error_code(&self, status: Option<u16>) -> ErrorCode {
        match (self.code.as_str(), status) {
            // By the code first: documents disagree about the status of several.
            ("OAUTH_SCOPE_MISMATCH", _) => ErrorCode::ScopeMismatch,
            ("INVALID_TOKEN" | "AUTHENTICATION_FAILURE" | "INVALID_OAUTHTOKEN", _) => {
                ErrorCode::TokenRefused
            }
            ("NO_PERMISSION" | "AUTHORIZATION_FAILED", _) => ErrorCode::PermissionDenied,
            ("TOO_MANY_REQUESTS" | "RATE_LIMIT_EXCEEDED", _) => ErrorCode::TooManyRequests,
            ("ALREADY_MODIFIED", _) => ErrorCode::ModifiedMeanwhile,
            // As its accounts server does: a refusal under the status of a success.
            (_, None | Some(200..=299)) => ErrorCode::Refused,
            (_, Some(status)) => by_status(status),
        }
    }

    pub(crate) fn from_parts(code: &str, message: &str, details: Option<Box<RawValue>>) -> Self {
        Self {
            code: tame(code, CODE_LIMIT),
            message: tame(message, MESSAGE_LIMIT),
            details: details.filter(|json| {
                json.get().len() <= DETAILS_LIMIT && !matches!(json.get(), "null" | "{}")
            }),
        }
    }

    /// Returns the refusal if the body holds nothing else and its `status` is `error`.
    pub(crate) fn alone(body: &[u8]) -> Option<Self> {
        // Every successful answer comes through here: a text search is faster than parsing JSON.
        let text = std::str::from_utf8(body).ok()?;
        if !text.contains("\"code\"") {
            return None;
        }
        let item: Item = serde_json::from_str(text).ok()?;
        let is_error = item.status.eq_ignore_ascii_case("error") && !item.code.is_empty();
        is_error.then(|| item.into_error())
    }

    /// Finds the refusal in a body: alone, or as the first one in a list under any key.
    ///
    /// Zoho's own examples disagree about when it is wrapped, so both forms are taken always.
    pub(crate) fn find(body: &[u8]) -> Option<Self> {
        let body: Body = serde_json::from_slice(body).ok()?;
        body.0
    }
}

/// Returns the code of this crate for an answer that is no success: by what the CRM said first, and
/// by the HTTP status second.
pub(crate) fn meaning_of(said: Option<&ApiError>, status: u16) -> ErrorCode {
    said.map_or_else(|| by_status(status), |api| api.error_code(Some(status)))
}

/// The code of this crate for an HTTP status alone.
const fn by_status(status: u16) -> ErrorCode {
    match status {
        401 => ErrorCode::TokenRefused,
        403 => ErrorCode::PermissionDenied,
        404 => ErrorCode::NotFound,
        412 => ErrorCode::ModifiedMeanwhile,
        429 => ErrorCode::TooManyRequests,
        500..=599 => ErrorCode::ServerError,
        400..=499 => ErrorCode::Refused,
        _ => ErrorCode::UnexpectedAnswer,
    }
}

/// Cuts a text of the server to a length, and takes out what could forge lines of a log.
fn tame(text: &str, limit: usize) -> String {
    let plain = |c: char| if c.is_control() { ' ' } else { c };
    let mut tamed: String = text.chars().take(limit).map(plain).collect();
    if text.chars().nth(limit).is_some() {
        tamed.push('…');
    }
    tamed
}

impl fmt::Display for ApiError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.code)?;
        if !self.message.is_empty() {
            write!(f, " ({})", self.message)?;
        }
        match self.field() {
            Some(field) => write!(f, ", field `{}`", tame(&field, CODE_LIMIT)),
            None => Ok(()),
        }
    }
}

impl fmt::Debug for ApiError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ApiError")
            .field("code", &self.code)
            .field("message", &self.message)
            .field("details", &self.details_json())
            .finish()
    }
}

impl std::error::Error for ApiError {}

impl PartialEq for ApiError {
    fn eq(&self, other: &Self) -> bool {
        self.code == other.code
            && self.message == other.message
            && self.details_json() == other.details_json()
    }
}

/// One item of a write's answer, or a refusal: the same keys.
#[derive(Deserialize)]
pub(crate) struct Item {
    #[serde(default)]
    pub(crate) code: String,
    #[serde(default)]
    pub(crate) status: String,
    #[serde(default)]
    pub(crate) message: String,
    #[serde(default)]
    pub(crate) details: Option<Box<RawValue>>,
    #[serde(default)]
    pub(crate) action: Option<String>,
    #[serde(default)]
    pub(crate) duplicate_field: Option<String>,
}

impl Item {
    pub(crate) fn is_success(&self) -> bool {
        self.status.eq_ignore_ascii_case("success") || self.code == "SUCCESS"
    }

    pub(crate) fn into_error(self) -> ApiError {
        ApiError::from_parts(&self.code, &self.message, self.details)
    }

    fn refusal(json: &str) -> Option<ApiError> {
        let item: Self = serde_json::from_str(json).ok()?;
        (!item.code.is_empty() && !item.is_success()).then(|| item.into_error())
    }
}

/// A body in which a refusal may be.
struct Body(Option<ApiError>);

impl<'de> Deserialize<'de> for Body {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let whole = <&RawValue>::deserialize(deserializer)?.get();
        if let Some(refusal) = Item::refusal(whole) {
            return Ok(Self(Some(refusal)));
        }
        let object: std::collections::BTreeMap<String, &RawValue> =
            serde_json::from_str(whole).map_err(serde::de::Error::custom)?;
        let first = object.values().find_map(|value| {
            let list: Vec<&RawValue> = serde_json::from_str(value.get()).ok()?;
            list.into_iter().find_map(|item| Item::refusal(item.get()))
        });
        Ok(Self(first))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_is_found_alone_and_wrapped() {
        let alone = br#"{"status":"error","details":{},"message":"invalid oauth token","code":"INVALID_TOKEN"}"#;
        let found = ApiError::find(alone).unwrap();
        assert_eq!(found.code(), "INVALID_TOKEN");
        assert_eq!(found.details_json(), None);
        let wrapped = br#"{"data":[{"code":"INVALID_MODULE","details":{"resource_path_index":0},"message":"m","status":"error"}]}"#;
        let found = ApiError::find(wrapped).unwrap();
        assert_eq!(found.detail::<u8>("resource_path_index"), Some(0));
        let users = br#"{"users":[{"code":"DUPLICATE_DATA","status":"error","details":{"api_name":"email"}}]}"#;
        assert_eq!(ApiError::find(users).unwrap().field().unwrap(), "email");
    }

    #[test]
    fn no_refusal_is_seen_where_there_is_none() {
        for body in [
            &br#"{"data":[{"code":"SUCCESS","status":"success","details":{"id":"1"}}]}"#[..],
            br#"{"data":[{"Last_Name":"Zed"}],"info":{}}"#,
            b"<html>Bad gateway</html>",
            b"[]",
            b"",
        ] {
            assert!(ApiError::find(body).is_none());
        }
    }

    #[test]
    fn the_first_refused_item_of_a_mixed_answer_is_found() {
        let body = br#"{"data":[{"code":"SUCCESS","status":"success"},{"code":"INVALID_DATA","status":"error"}]}"#;
        assert_eq!(ApiError::find(body).unwrap().code(), "INVALID_DATA");
    }

    #[test]
    fn texts_are_cut_and_cannot_forge_log_lines() {
        let details = RawValue::from_string(format!("\"{}\"", "x".repeat(DETAILS_LIMIT))).unwrap();
        let error = ApiError::from_parts("A\nB", &"m".repeat(10_000), Some(details));
        assert_eq!(error.code(), "A B");
        assert_eq!(error.message().chars().count(), MESSAGE_LIMIT + 1);
        assert_eq!(error.details_json(), None);
    }

    #[test]
    fn the_code_decides_before_the_status() {
        let code = |text: &str, status| ApiError::from_parts(text, "", None).error_code(status);
        assert_eq!(
            code("OAUTH_SCOPE_MISMATCH", Some(403)),
            ErrorCode::ScopeMismatch
        );
        assert_eq!(
            code("AUTHORIZATION_FAILED", Some(400)),
            ErrorCode::PermissionDenied
        );
        assert_eq!(code("WHATEVER", Some(404)), ErrorCode::NotFound);
        assert_eq!(code("WHATEVER", None), ErrorCode::Refused);
    }
}
