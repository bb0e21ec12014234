//! OAuth token persistence for Zoho.
#![cfg_attr(docsrs, feature(doc_cfg))]

mod clock;
#[cfg(feature = "conformance")]
pub mod conformance;
mod credential;
mod data_center;
mod error;
mod query;
mod secret;
pub mod store;
mod token;

pub use clock::Timestamp;
pub use credential::{
    AccessCredential, Credential, GrantCredential, OAuthClient, RefreshCredential,
};
pub use data_center::{DataCenter, DataCenterBuilder, DataCenters, Environment};
pub use error::{Error, ErrorCode, ErrorKind, Result};
pub use query::{Criterion, TokenQuery};
pub use secret::{AccessToken, ClientSecret, CodeVerifier, Fingerprint, GrantToken, RefreshToken};
#[cfg(feature = "file")]
pub use store::FileStore;
#[cfg(feature = "sqlite")]
pub use store::sqlite::SqliteStore;
pub use store::{ListStore, TokenStore, TokenTable};
pub use token::{ClientId, OAuthToken, TokenId, UserName};
