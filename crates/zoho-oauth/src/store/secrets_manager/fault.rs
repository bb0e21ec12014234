//! What the service refuses, in our words. Its own texts are dropped: they may quote what was sent.

use std::error::Error as StdError;
use std::fmt;

use aws_sdk_secretsmanager::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_secretsmanager::operation::RequestId;

use super::transport;
use crate::error::{Error, ErrorCode};

/// Why a call did not do what it was to do.
#[derive(Debug)]
pub(super) enum Refusal {
    /// There is no such secret, or it has no current value.
    Absent,
    /// There is such a secret or such a version, with another value.
    Exists,
    /// The secret is scheduled for deletion.
    Doomed,
    /// Nothing that the store expects. If `is_open`, the service may have done it all the same.
    Other { error: Error, is_open: bool },
}

impl Refusal {
    /// The error for a caller that expects none of the refusals: something is not as it was left.
    pub(super) fn into_error(self, action: &str, secret: &str) -> Error {
        let state = match self {
            Self::Other { error, .. } => return error,
            Self::Absent => "is gone",
            Self::Exists => "is there already",
            Self::Doomed => "is scheduled for deletion",
        };
        let message = format!("`{action}` failed: the secret `{secret}` {state}");
        Error::new(ErrorCode::StoreDamaged, message)
    }
}

/// What stands behind an error: the service's code for it, and the number of the request.
#[derive(Debug)]
struct Cause {
    code: String,
    request: Option<String>,
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.code)?;
        match &self.request {
            Some(request) => write!(f, " (request {request})"),
            None => Ok(()),
        }
    }
}

impl StdError for Cause {}

/// Says what an error of the SDK means. `action` is the permission that the call needs.
pub(super) fn refusal<E>(action: &str, secret: &str, error: &SdkError<E>) -> Refusal
where
    E: ProvideErrorMetadata + StdError + 'static,
{
    let SdkError::ServiceError(context) = error else {
        return unanswered(action, secret, error);
    };
    let code = context.err().code().unwrap_or_default();
    let text = context.err().message().unwrap_or_default();
    let cause = Cause {
        code: code.to_owned(),
        request: error.request_id().map(str::to_owned),
    };
    answered(
        action,
        secret,
        code,
        text,
        context.raw().status().as_u16(),
        cause,
    )
}

/// Says what an entry among the errors of a batch means.
pub(super) fn refusal_in_batch(action: &str, secret: &str, code: &str, text: &str) -> Refusal {
    let cause = Cause {
        code: code.to_owned(),
        request: None,
    };
    answered(action, secret, code, text, 400, cause)
}

fn answered(
    action: &str,
    secret: &str,
    code: &str,
    text: &str,
    status: u16,
    cause: Cause,
) -> Refusal {
    let failed = |code: ErrorCode, why: &str| {
        let message = format!("`{action}` failed for the secret `{secret}`: {why}");
        Error::new(code, message)
    };
    let error = match code {
        "ResourceNotFoundException" => return Refusal::Absent,
        "ResourceExistsException" => return Refusal::Exists,
        // The code has several meanings, which only the text tells apart: "… was marked for
        // deletion", "… is already scheduled for deletion".
        "InvalidRequestException" if text.contains("delet") => return Refusal::Doomed,
        "ThrottlingException"
        | "Throttling"
        | "TooManyRequestsException"
        | "RequestLimitExceeded"
        | "RequestThrottledException"
        | "SlowDown" => failed(ErrorCode::StoreThrottled, "the account asks too often"),
        "LimitExceededException" => failed(
            ErrorCode::StoreThrottled,
            "a quota of the service is used up: versions of a secret in a day, tags, or secrets",
        ),
        "AccessDeniedException" | "AccessDenied" | "NotAuthorized" => failed(
            ErrorCode::StorePermission,
            "the IAM policy of this process does not allow it",
        ),
        "ExpiredTokenException" | "ExpiredToken" | "RequestExpired" => failed(
            ErrorCode::StorePermission,
            "the AWS credentials of this process have ended",
        ),
        "UnrecognizedClientException"
        | "InvalidClientTokenId"
        | "InvalidSignatureException"
        | "SignatureDoesNotMatch"
        | "MissingAuthenticationToken"
        | "MissingAuthenticationTokenException"
        | "IncompleteSignature"
        | "OptInRequired" => failed(
            ErrorCode::StorePermission,
            "AWS does not accept the credentials of this process, or not in this region",
        ),
        "DecryptionFailure"
        | "DecryptionFailureException"
        | "EncryptionFailure"
        | "EncryptionFailureException" => failed(
            ErrorCode::StorePermission,
            "the KMS key of the secret cannot be used: it is disabled, gone, or its policy does \
             not allow it",
        ),
        code if code.starts_with("KMS") => failed(
            ErrorCode::StorePermission,
            "the KMS key of the secret cannot be used: it is disabled, gone, or its policy does \
             not allow it",
        ),
        "InvalidParameterException" | "ValidationException" | "InvalidRequestException" => failed(
            ErrorCode::Unsupported,
            "the service refuses the request: look at the KMS key, the tags, and at who else \
             manages the secret",
        ),
        _ => failed(ErrorCode::StoreUnavailable, "the service failed"),
    };
    Refusal::Other {
        is_open: status >= 500,
        error: error.with_server_code(code).caused_by(cause),
    }
}

/// The error for a call that was not answered, or never sent.
fn unanswered<E>(action: &str, secret: &str, error: &SdkError<E>) -> Refusal
where
    E: StdError + 'static,
{
    if transport::is_refusal(error) {
        return Refusal::Other {
            error: transport::refused(),
            is_open: false,
        };
    }
    let (why, code, is_open) = match error {
        SdkError::TimeoutError(_) => return late(action, secret),
        SdkError::DispatchFailure(failure) if failure.is_timeout() => return late(action, secret),
        _ if is_about_credentials(error) => (
            "this process has no AWS credentials, or cannot renew them",
            ErrorCode::StorePermission,
            false,
        ),
        SdkError::ConstructionFailure(_) => (
            "the client is not configured: a region or an endpoint is missing",
            ErrorCode::InvalidInput,
            false,
        ),
        SdkError::DispatchFailure(_) => (
            "the service cannot be reached",
            ErrorCode::StoreUnavailable,
            true,
        ),
        _ => ("the answer was lost", ErrorCode::StoreUnavailable, true),
    };
    let message = format!("`{action}` failed for the secret `{secret}`: {why}");
    Refusal::Other {
        error: Error::new(code, message),
        is_open,
    }
}

/// The error for a call that was not answered in time.
pub(super) fn late(action: &str, secret: &str) -> Refusal {
    let message = format!("`{action}` was not answered in time for the secret `{secret}`");
    Refusal::Other {
        error: Error::new(ErrorCode::StoreUnavailable, message),
        is_open: true,
    }
}

/// The SDK has a type for this, in a crate that is not its public face.
fn is_about_credentials<E: StdError + 'static>(error: &SdkError<E>) -> bool {
    let mut cause: Option<&(dyn StdError + 'static)> = error.source();
    while let Some(error) = cause {
        let text = error.to_string();
        if text.contains("credentials") || text.contains("identity") {
            return true;
        }
        cause = error.source();
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    fn code_of(code: &str, text: &str, status: u16) -> Option<(ErrorCode, bool)> {
        let cause = Cause {
            code: code.to_owned(),
            request: Some("r-1".into()),
        };
        match answered(
            "secretsmanager:PutSecretValue",
            "p/token/1",
            code,
            text,
            status,
            cause,
        ) {
            Refusal::Other { error, is_open } => {
                let source = StdError::source(&error).unwrap();
                let all = format!("{error} {error:?} {source} {source:?}");
                assert!(!all.contains("s3cret"), "{all}");
                assert!(all.contains("p/token/1") && all.contains("PutSecretValue"));
                assert!(all.contains("r-1") && error.server_code() == Some(code));
                Some((error.code(), is_open))
            }
            _ => None,
        }
    }

    #[test]
    fn every_code_has_its_meaning() {
        for (code, ours) in [
            ("ThrottlingException", ErrorCode::StoreThrottled),
            ("LimitExceededException", ErrorCode::StoreThrottled),
            ("AccessDeniedException", ErrorCode::StorePermission),
            ("ExpiredTokenException", ErrorCode::StorePermission),
            ("UnrecognizedClientException", ErrorCode::StorePermission),
            ("DecryptionFailure", ErrorCode::StorePermission),
            ("EncryptionFailure", ErrorCode::StorePermission),
            ("KMSDisabledException", ErrorCode::StorePermission),
            ("InvalidParameterException", ErrorCode::Unsupported),
            ("InvalidRequestException", ErrorCode::Unsupported),
            ("SomethingNew", ErrorCode::StoreUnavailable),
        ] {
            assert_eq!(
                code_of(code, "near s3cret", 400),
                Some((ours, false)),
                "{code}"
            );
        }
        let failed = code_of("InternalServiceError", "s3cret", 500);
        assert_eq!(failed, Some((ErrorCode::StoreUnavailable, true)));
    }

    #[test]
    fn what_is_to_be_expected_is_no_error() {
        assert_eq!(code_of("ResourceNotFoundException", "", 400), None);
        assert_eq!(code_of("ResourceExistsException", "", 400), None);
        for text in [
            "You can't perform this operation on the secret because it was marked for deletion.",
            "You can't create this secret because a secret with this name is already scheduled \
             for deletion.",
        ] {
            assert_eq!(code_of("InvalidRequestException", text, 400), None);
        }
        let error = Refusal::Doomed.into_error("secretsmanager:TagResource", "p/ledger");
        assert_eq!(error.code(), ErrorCode::StoreDamaged);
        assert!(error.to_string().contains("scheduled for deletion"));
    }
}
