//! Zoho's accounts server and the part of the CRM API (version 8) that the official SDKs call,
//! on your own machine.
//!
//! # Example
//!
//! ```
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), zoho_sandbox::Error> {
//! let sandbox = zoho_sandbox::Sandbox::builder().mint_limit(3).start().await?;
//! let email = &sandbox.people()[0];
//! let (refresh_token, access_token) = sandbox.login(email, "ZohoCRM.modules.ALL");
//! // … point a client at `sandbox.accounts_url()` and `sandbox.api_url()` …
//! # drop((refresh_token, access_token));
//! # Ok(())
//! # }
//! ```
//!
//! # What is strict, and what is settable
//!
//! Codes are single-use and short-lived, redirect URIs are compared exactly, secrets and scopes
//! are checked, and the documented limits hold: see [`Rules`], whose fields name the documents
//! and the readings where those disagree.
//!
//! # What is bounded
//!
//! | input | at most | answer |
//! | --- | --- | --- |
//! | path and query | 16 KiB | 414 |
//! | body of a CRM call; of any other request | 16 MiB; 64 KiB | 413 |
//! | JSON | 127 levels | `INVALID_DATA` |
//! | COQL and criteria | 64 KiB of COQL, 50 levels of parentheses, 25 or 15 conditions | `LIMIT_EXCEEDED`, `INVALID_QUERY` |
//! | open logins | 2,000, each for ten minutes; the oldest go | the page says that it is no longer valid |
//! | page tokens of an organisation | 1,000; the oldest go | `TOKEN_BOUND_DATA_MISMATCH` |
//! | log of requests | 20,000 and [`SandboxBuilder::request_log_bytes`]; the oldest go | [`Counts::requests_dropped`] |
//! | faults that wait (control API) | 1,000 | 400 |
//!
//! Numbers that are too large are errors of the service, such as `LIMIT_EXCEEDED` and
//! `INVALID_DATA`.
//!
//! # Who is answered
//!
//! A request must name this machine: a loopback name or address, or the address that was
//! configured, with the right port, in `Host`, in HTTP/2's `:authority` and in an absolute
//! request target. Else the answer is 403, or 400 where the host cannot be read, with
//! `{"error": "…"}`, and nothing is carried out. So a site whose name resolves to 127.0.0.1 (DNS
//! rebinding) gets nothing. A sandbox that listens on every address (`0.0.0.0`, `[::]`) answers
//! for every address, but for no name except `localhost`.
//!
//! A control call with an `Origin` other than the sandbox's own comes from a page of another
//! site, and is refused with 403. Programs send no `Origin`. The accounts server and the CRM need
//! no such check: their calls need a token, a secret or the name of an open page, which a page of
//! another site does not have and cannot read.
//!
//! # Control API
//!
//! Below [`Sandbox::control_url`], for programs in any language. Bodies are JSON.
//!
//! | call | does |
//! | --- | --- |
//! | `GET /` | data centers and client IDs |
//! | `GET /counts` | [`Counts`] |
//! | `GET /requests` | the [`LoggedRequest`]s, oldest first; `x-sandbox-requests-dropped` counts those that went |
//! | `GET /people` | who can sign in |
//! | `POST /codes` `{email, scopes, client_id?, life_seconds?}` | a grant code as from the API console |
//! | `POST /expire` `{email?}` | ends access tokens, everybody's or one person's |
//! | `POST /advance` `{seconds}` | lets time pass |
//! | `POST /faults` `{effect, endpoint?, times?, …}` | see [`Fault`]; `times: null` is for ever |
//! | `GET /faults`, `DELETE /faults` | the faults that wait; takes them back |
//! | `POST /reset` | [`Sandbox::reset`] |

// The metadata bodies are long JSON literals.
#![recursion_limit = "256"]

mod accounts;
mod builder;
mod clock;
mod config;
mod control;
mod crm;
mod demo;
mod error;
mod expiring;
mod faults;
mod hosts;
mod ledger;
mod params;
mod random;
mod recorder;
mod sandbox;
mod scope;
mod server;
mod shared;

pub use builder::SandboxBuilder;
pub use config::{Client, ClientKind, DataCenter, Organisation, Person, Rules};
pub use error::Error;
pub use faults::{Effect, Endpoint, Fault};
pub use recorder::{Counts, LoggedRequest};
pub use sandbox::{CenterView, Sandbox};

/// The README's example is compiled and run with the documentation's.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
mod readme {}
