//! Where secrets may be sent: over https, and in plain on this machine alone.
//!
//! The builder's endpoint is looked at when a store is connected. But the AWS SDK also takes one
//! from the environment and from the profile, and tells of it only when it sends.

use std::error::Error as StdError;
use std::fmt;

use aws_sdk_secretsmanager::config::interceptors::BeforeTransmitInterceptorContextRef;
use aws_sdk_secretsmanager::config::{ConfigBag, Intercept, RuntimeComponents};
use aws_sdk_secretsmanager::error::BoxError;
use url::{Host, Url};

use crate::error::{Error, ErrorCode};

/// Whether somebody on the way could read what is sent there.
pub(super) fn is_readable(url: &Url) -> bool {
    let is_here = match url.host() {
        Some(Host::Domain(name)) => name == "localhost",
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    };
    url.scheme() != "https" && !is_here
}

pub(super) fn refused() -> Error {
    let message = "the endpoint of AWS Secrets Manager would send secrets over plain http";
    Error::new(ErrorCode::InsecureUrl, message)
}

/// Lets no request go that could be read on its way.
#[derive(Debug)]
pub(super) struct OnlyEncrypted;

impl Intercept for OnlyEncrypted {
    fn name(&self) -> &'static str {
        "OnlyEncrypted"
    }

    fn read_before_transmit(
        &self,
        context: &BeforeTransmitInterceptorContextRef<'_>,
        _: &RuntimeComponents,
        _: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        match Url::parse(context.request().uri()) {
            Ok(url) if !is_readable(&url) => Ok(()),
            _ => Err(Readable.into()),
        }
    }
}

/// What stands behind the error of a request that was not let go.
#[derive(Debug)]
struct Readable;

impl fmt::Display for Readable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the request would go over plain http")
    }
}

impl StdError for Readable {}

/// Whether a request was not let go.
pub(super) fn is_refusal(error: &(dyn StdError + 'static)) -> bool {
    let mut cause = Some(error);
    while let Some(error) = cause {
        if error.is::<Readable>() {
            return true;
        }
        cause = error.source();
    }
    false
}
