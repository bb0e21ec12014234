//! Answers of the API: bodies, and the error envelope.

use axum::Json;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

/// A refusal in the form the API gives it.
#[derive(Clone, Debug)]
pub(crate) struct ApiError {
    pub(crate) status: u16,
    pub(crate) code: &'static str,
    pub(crate) message: String,
    pub(crate) details: Value,
}

/// An answer: a status, and a body unless there is nothing to say.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) body: Option<Value>,
}

pub(crate) type Result<T = Reply> = std::result::Result<T, ApiError>;

impl Reply {
    pub(crate) fn ok(body: Value) -> Self {
        Self::with(200, body)
    }

    pub(crate) fn with(status: u16, body: Value) -> Self {
        Self {
            status,
            body: Some(body),
        }
    }

    /// 204: an empty list, without a body.
    pub(crate) fn nothing() -> Self {
        Self {
            status: 204,
            body: None,
        }
    }
}

impl ApiError {
    pub(crate) fn new(status: u16, code: &'static str, message: &str) -> Self {
        Self {
            status,
            code,
            message: message.to_owned(),
            details: json!({}),
        }
    }

    pub(crate) fn details(mut self, details: Value) -> Self {
        self.details = details;
        self
    }

    pub(crate) fn invalid_data(details: Value) -> Self {
        Self::new(400, "INVALID_DATA", "invalid data").details(details)
    }

    pub(crate) fn invalid_param(name: &str) -> Self {
        Self::invalid_data(json!({ "param_name": name }))
    }

    pub(crate) fn missing_param(name: &str) -> Self {
        Self::new(400, "REQUIRED_PARAM_MISSING", "required param is missing")
            .details(json!({ "param_name": name }))
    }

    pub(crate) fn no_such_path() -> Self {
        Self::new(
            404,
            "INVALID_URL_PATTERN",
            "Please check if the URL trying to access is a correct one",
        )
    }

    pub(crate) fn wrong_method() -> Self {
        Self::new(
            400,
            "INVALID_REQUEST_METHOD",
            "The HTTP request method type is not a valid one",
        )
    }

    pub(crate) fn no_such_module() -> Self {
        Self::new(
            400,
            "INVALID_MODULE",
            "the module name given seems to be invalid",
        )
        .details(json!({ "resource_path_index": 0 }))
    }

    pub(crate) fn limit(limit: usize, name: &str) -> Self {
        Self::new(400, "LIMIT_EXCEEDED", "limit exceeded")
            .details(json!({ "limit": limit, "param_name": name }))
    }

    /// The envelope.
    pub(crate) fn envelope(&self) -> Value {
        json!({
            "code": self.code,
            "details": self.details,
            "message": self.message,
            "status": "error",
        })
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::BAD_REQUEST);
        (status, Json(self.envelope())).into_response()
    }
}

impl IntoResponse for Reply {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::OK);
        match self.body {
            Some(body) => (status, Json(body)).into_response(),
            None => status.into_response(),
        }
    }
}
