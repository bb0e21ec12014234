//! A client for the Zoho CRM API, version 8, that logs in once and never asks for a token again.
//!
//! Tokens are the business of [`zoho-oauth`](oauth): where they are stored, when they are
//! refreshed, and that this happens once for all tasks and processes. This crate asks it for an
//! access token before every call, and calls.
//!
//! # An example
//! In Zoho's place stands `zoho-sandbox`, the emulator that this crate is tested against.
//!
//! ```
//! use zohocrm::oauth::{Credential, DataCenter, GrantToken, ListStore, OAuthClient};
//! use zohocrm::{Record, ZohoCrm};
//!
//! # #[tokio::main]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let sandbox = zoho_sandbox::Sandbox::builder().start().await?;
//! # let scopes = "ZohoCRM.modules.ALL,ZohoCRM.users.READ,ZohoCRM.org.READ";
//! # let (id, secret) = (sandbox.client_id(), sandbox.client_secret());
//! # let code = sandbox.grant_code(&sandbox.people()[0], scopes);
//! # let center = DataCenter::builder("sandbox", sandbox.accounts_url())
//! #     .api_domain(sandbox.api_url())
//! #     .build()?;
//! // Against Zoho: `let center = DataCenter::eu();`
//! let login = Credential::grant(OAuthClient::new(id, secret)?, GrantToken::new(code)?);
//! let crm = ZohoCrm::builder(center, login, ListStore::new()).build().await?;
//!
//! let leads = crm.records("Leads");
//! let lead = Record::new().with("Last_Name", "Quill").with("Company", "Lantern Works");
//! for result in leads.create([lead]).trigger(["workflow"]).send().await? {
//!     println!("created {}", result?.id());
//! }
//!
//! let mut all = leads.list().fields(["Last_Name", "Company"]).stream();
//! while let Some(lead) = all.next().await {
//!     println!("{}", lead?.text("Last_Name").unwrap_or_default());
//! }
//! # Ok(())
//! # }
//! ```
//!
//! # Login with Zoho
//! On a web page a person logs in with [`LoginRequest`](oauth::LoginRequest). The scopes for users
//! and organisation are for the name of the person: Zoho sends a refresh token at the first consent
//! only, and a later login joins the stored one of that name.
//!
//! ```
//! use zohocrm::oauth::{Callback, DataCenters, ListStore, LoginRequest, OAuthClient};
//! use zohocrm::ZohoCrm;
//! # use zohocrm::oauth::{DataCenter, TokenStore};
//!
//! # #[tokio::main]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let sandbox = zoho_sandbox::Sandbox::builder().start().await?;
//! # let (id, secret) = (sandbox.client_id(), sandbox.client_secret());
//! # let redirect_uri = sandbox.redirect_uri();
//! # let center = DataCenter::builder("us", sandbox.accounts_url())
//! #     .api_domain(sandbox.api_url())
//! #     .build()?;
//! # let mut centers = DataCenters::known();
//! # centers.add(center.clone());
//! # let store = std::sync::Arc::new(ListStore::new());
//! // Against Zoho: `let center = DataCenter::us();` and `let centers = DataCenters::known();`
//! let client = OAuthClient::new(id, secret)?.redirect_uri(redirect_uri);
//! let scopes = ["ZohoCRM.modules.ALL", "ZohoCRM.users.READ", "ZohoCRM.org.READ"];
//! let request = LoginRequest::new(client, center.clone(), scopes);
//!
//! # for _ in 0..2 {
//! # let (store, center) = (store.clone(), center.clone());
//! // Send the person to `url`; keep `saved` in their session.
//! let (url, pending) = request.begin()?;
//! let saved = pending.save();
//! # let called = sandbox.authorize(&url, &sandbox.people()[0])?;
//!
//! // In the callback, `called` is the URL that the browser asks for:
//! let callback = Callback::from_url(&called)?;
//! let grant = request.resume(&saved)?.accept(&callback, &centers)?;
//! let crm = ZohoCrm::builder(center, grant, store).build().await?;
//! println!("{:?} has logged in", crm.user_name());
//! # assert!(crm.user_name().is_some());
//! # assert_eq!(crm.authenticator().store().get_tokens().await?.len(), 1);
//! # sandbox.expire_access_tokens();
//! # crm.org().get().await?;
//! # }
//! # Ok(())
//! # }
//! ```
//!
//! # Where things are
//! - [`ZohoCrm`]: one user of one organisation. [`switch_user`](ZohoCrm::switch_user) makes
//!   another handle; any number of them work side by side.
//! - [`records`]: get, list, search, create, update, upsert, delete. A [`Record`] keeps what it
//!   does not understand; `send_as` reads into types of your own.
//! - [`ZohoCrm::coql`], [`users`](ZohoCrm::users), [`org`](ZohoCrm::org),
//!   [`modules`](ZohoCrm::modules), [`fields`](ZohoCrm::fields).
//! - [`ZohoCrm::request`]: everything else that the CRM knows, as raw requests.
//! - [`Error`]: a [kind](ErrorKind) to decide by, a stable [code](ErrorCode), what the CRM said.
//!
//! # What is kept
//! - **A refused token is replaced once.** After `INVALID_TOKEN`, whatever the HTTP status, and after
//!   401 without a reason another one is asked for and the call repeated; a second refusal is an
//!   error. A missing scope is an error at once.
//! - **Reads are repeated, writes are not.** [`RetryPolicy`] covers lost connections, HTTP 429
//!   and 5xx. A write whose answer was lost ends in [`ErrorCode::OutcomeUnknown`], since nobody
//!   but you can tell whether repeating it would make a second record.
//! - **No list ends in silence** while the CRM says that there is more.
//! - **The token goes to the API of its data center** and nowhere else, unless the application
//!   [allows an address by name](ZohoCrmBuilder::allow_api_domain): no redirects, no plain
//!   http beyond this machine, no path that leaves `/crm/`. Who asked for a sandbox does not
//!   reach production: see [`ApiDomain`].
//! - **Logs** (through `tracing`) have method, path, status, duration and the id of the stored
//!   token; never tokens, query strings, names or records. See `examples/log_to_file.rs`.
//!
//! # Features
//! | feature | default | what it brings |
//! | --- | --- | --- |
//! | `file` | yes | `oauth::FileStore`: the CSV file of Zoho's official SDKs |
//! | `sqlite` | yes | `oauth::SqliteStore`; builds SQLite, so it needs a C compiler |
//! | `conformance` | no | `oauth::conformance`: whether a store of your own is right |
//!
//! `oauth::ListStore`, in memory, is always there.
//!
//! Needs a tokio runtime.
#![cfg_attr(docsrs, feature(doc_cfg))]

mod api_error;
mod builder;
mod call;
mod client;
mod coql;
mod error;
mod find_user;
mod http;
mod org;
mod page;
mod record;
pub mod records;
mod request;
mod resource;
mod settings;
mod users;
mod value;

/// The crate of the moments and dates in this one's methods, so that they can be made without
/// naming its version.
pub use time;
pub use zoho_oauth as oauth;

pub use api_error::ApiError;
pub use builder::ZohoCrmBuilder;
pub use call::Method;
pub use client::{ApiDomain, Target, ZohoCrm};
pub use coql::{Coql, Rows};
pub use error::{Error, ErrorCode, ErrorKind, Result};
pub use http::RetryPolicy;
pub use org::{Org, Organization};
pub use page::{Page, PageInfo, Pages};
pub use record::Record;
pub use records::{Records, WriteResult, Written};
pub use request::{Request, Response};
pub use resource::Named;
pub use settings::{Field, Fields, Module, Modules};
pub use users::{ListUsers, User, UserType, Users};
pub use value::RecordId;

/// The code of the README, compiled.
#[cfg(all(doctest, feature = "file"))]
#[doc = include_str!("../README.md")]
struct Readme;

/// The example of the repository's README compiles. It is above this crate, so only a checkout
/// has it.
#[cfg(all(doctest, feature = "sqlite"))]
#[doc = include_str!("../../../README.md")]
mod readme {}
