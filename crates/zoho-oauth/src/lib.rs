//! OAuth token persistence for Zoho.
#![cfg_attr(docsrs, feature(doc_cfg))]

mod accounts;
mod auth;
mod clock;
#[cfg(feature = "conformance")]
pub mod conformance;
mod credential;
mod data_center;
mod error;
#[doc(hidden)]
pub mod http;
mod login;
mod query;
mod secret;
pub mod store;
mod token;

pub use accounts::{AccountsClient, Revocation, TokenAnswer};
pub use auth::{Access, Authenticator, AuthenticatorBuilder, Event, RefreshPolicy, Session};
pub use clock::Timestamp;
pub use credential::{
    AccessCredential, Credential, GrantCredential, OAuthClient, RefreshCredential,
};
pub use data_center::{DataCenter, DataCenterBuilder, DataCenters, Environment};
pub use error::{Error, ErrorCode, ErrorKind, Result};
pub use http::HttpOptions;
pub use login::{Callback, LoginRequest, PendingLogin};
pub use query::{Criterion, TokenQuery};
pub use secret::{
    AccessToken, ClientSecret, CodeVerifier, Fingerprint, GrantToken, RefreshToken, SavedLogin,
};
#[cfg(feature = "file")]
pub use store::FileStore;
#[cfg(feature = "sqlite")]
pub use store::SqliteStore;
pub use store::{Guarantee, ListStore, TokenStore, TokenTable};
pub use token::{ClientId, OAuthToken, TokenId, UserName};
