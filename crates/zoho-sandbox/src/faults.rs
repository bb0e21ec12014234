//! Faults on request: what the service does wrong, where, and how often.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// The kinds of endpoint that faults aim at and that requests are counted by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Endpoint {
    /// Token request with `grant_type=authorization_code`.
    CodeExchange,
    /// Token request with `grant_type=refresh_token`.
    Refresh,
    /// Token request with `grant_type=client_credentials`.
    ClientCredentials,
    /// Both revocation paths.
    Revoke,
    /// Everything below `/crm`.
    Api,
    /// As a target of faults: any of the three token requests.
    Token,
    /// The pages and the rest of the accounts server. As a target of faults: any request at all.
    Any,
}

impl Endpoint {
    fn covers(self, other: Self) -> bool {
        self == Self::Any
            || self == other
            || self == Self::Token
                && matches!(
                    other,
                    Self::CodeExchange | Self::Refresh | Self::ClientCredentials
                )
    }
}

/// What goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "effect", rename_all = "snake_case", deny_unknown_fields)]
#[non_exhaustive]
pub enum Effect {
    /// The throttle answer of the accounts server, or `TOO_MANY_REQUESTS` (429) of the API.
    /// The request is not carried out.
    Throttle,
    /// An answer with this HTTP status, usually 5xx. The request is not carried out.
    Status {
        /// The HTTP status, from 200 to 599; anything else is answered with 502.
        status: u16,
    },
    /// A page of HTML with status 200 where JSON is expected, as from a proxy that is in the
    /// way. The request is not carried out.
    Html,
    /// The request is carried out, but the JSON of its answer breaks off.
    MalformedJson,
    /// The request is carried out, and its answer held back for this long.
    Delay {
        /// How long, in milliseconds of real time.
        ms: u64,
    },
    /// The request is carried out, and the connection cut in the middle of its answer.
    Cut,
    /// A token answer without `refresh_token`.
    NoRefreshToken,
    /// A token answer without `expires_in`.
    NoExpiresIn,
    /// A token answer in the old manner: `expires_in_sec` in seconds, and `expires_in` in
    /// milliseconds.
    LegacyExpiry,
    /// 401 `INVALID_TOKEN`, whatever the token. The request is not carried out.
    InvalidToken,
}

/// A fault: an effect, where it strikes, and how many times.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Fault {
    /// What goes wrong.
    #[serde(flatten)]
    pub effect: Effect,
    /// Which requests it strikes.
    pub endpoint: Endpoint,
    /// How many requests it strikes, or `None` for every one until faults are cleared.
    pub times: Option<u32>,
}

impl Fault {
    /// A fault that strikes once, at the endpoint its effect is usually seen at.
    pub fn new(effect: Effect) -> Self {
        let endpoint = match effect {
            Effect::InvalidToken => Endpoint::Api,
            Effect::Throttle
            | Effect::NoRefreshToken
            | Effect::NoExpiresIn
            | Effect::LegacyExpiry => Endpoint::Token,
            _ => Endpoint::Any,
        };
        Self {
            effect,
            endpoint,
            times: Some(1),
        }
    }

    /// The next token request is throttled.
    pub fn throttle() -> Self {
        Self::new(Effect::Throttle)
    }

    /// The next request is answered with this HTTP status.
    pub fn status(status: u16) -> Self {
        Self::new(Effect::Status { status })
    }

    /// The next request is answered with HTML.
    pub fn html() -> Self {
        Self::new(Effect::Html)
    }

    /// The next answer's JSON breaks off.
    pub fn malformed_json() -> Self {
        Self::new(Effect::MalformedJson)
    }

    /// The next answer is held back for this long, of real time.
    pub fn delay(by: Duration) -> Self {
        Self::new(Effect::Delay {
            ms: crate::clock::millis(by),
        })
    }

    /// The connection is cut in the middle of the next answer.
    pub fn cut() -> Self {
        Self::new(Effect::Cut)
    }

    /// The next token answer has no `refresh_token`.
    pub fn no_refresh_token() -> Self {
        Self::new(Effect::NoRefreshToken)
    }

    /// The next token answer has no `expires_in`.
    pub fn no_expires_in() -> Self {
        Self::new(Effect::NoExpiresIn)
    }

    /// The next token answer has `expires_in` in milliseconds and `expires_in_sec`.
    pub fn legacy_expiry() -> Self {
        Self::new(Effect::LegacyExpiry)
    }

    /// The next API call is refused with `INVALID_TOKEN`.
    pub fn invalid_token() -> Self {
        Self::new(Effect::InvalidToken)
    }

    /// Aims the fault at one kind of endpoint.
    #[must_use]
    pub fn on(mut self, endpoint: Endpoint) -> Self {
        self.endpoint = endpoint;
        self
    }

    /// Lets the fault strike this many requests.
    #[must_use]
    pub fn times(mut self, times: u32) -> Self {
        self.times = Some(times);
        self
    }

    /// Lets the fault strike every request until faults are cleared.
    #[must_use]
    pub fn always(mut self) -> Self {
        self.times = None;
        self
    }
}

/// The faults that wait for requests.
#[derive(Debug, Default)]
pub(crate) struct Faults(Mutex<Vec<Fault>>);

impl Faults {
    pub(crate) fn inject(&self, fault: Fault) {
        if fault.times != Some(0) {
            self.lock().push(fault);
        }
    }

    pub(crate) fn clear(&self) {
        self.lock().clear();
    }

    pub(crate) fn waiting(&self) -> Vec<Fault> {
        self.lock().clone()
    }

    /// What strikes a request to `endpoint`: every delay that fits, and the first other fault
    /// that does. Counts are used up.
    pub(crate) fn strike(&self, endpoint: Endpoint) -> Vec<Effect> {
        let mut faults = self.lock();
        let mut effects = Vec::new();
        let mut struck = false;
        for fault in faults.iter_mut() {
            let delay = matches!(fault.effect, Effect::Delay { .. });
            if !fault.endpoint.covers(endpoint) || (struck && !delay) {
                continue;
            }
            struck |= !delay;
            effects.push(fault.effect);
            if let Some(times) = &mut fault.times {
                *times -= 1;
            }
        }
        faults.retain(|fault| fault.times != Some(0));
        effects
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Fault>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_strikes_where_it_aims_and_as_often_as_told() {
        let faults = Faults::default();
        faults.inject(Fault::status(503).on(Endpoint::Refresh).times(2));
        assert!(faults.strike(Endpoint::Api).is_empty());
        assert_eq!(faults.strike(Endpoint::Refresh).len(), 1);
        assert_eq!(faults.strike(Endpoint::Refresh).len(), 1);
        assert!(faults.strike(Endpoint::Refresh).is_empty());
        assert!(faults.waiting().is_empty());
    }

    #[test]
    fn one_fault_and_any_delays_strike_a_request() {
        let faults = Faults::default();
        faults.inject(Fault::throttle());
        faults.inject(Fault::html());
        faults.inject(Fault::delay(Duration::from_millis(5)));
        let struck = faults.strike(Endpoint::CodeExchange);
        assert_eq!(struck, [Effect::Throttle, Effect::Delay { ms: 5 }]);
        assert_eq!(faults.strike(Endpoint::CodeExchange), [Effect::Html]);
    }
}
