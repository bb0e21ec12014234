//! OAuth token persistence for Zoho that nobody has to think about.
//!
//! A person logs in with Zoho once. From then on the application asks for an access token per user
//! and always gets a valid one, or an error that says what a human must do. Behind that question
//! stand a **store** (where tokens live), an **authenticator** (when to refresh, exactly once) and
//! an **accounts client** (how to ask Zoho). Works for every Zoho product; knows no CRM: that is
//! the crate `zohocrm`.
//!
//! # Where to start
//! - [`Authenticator`]: the question, with an example.
//! - [`LoginRequest`]: "Login with Zoho", from the authorization URL to the stored login.
//! - [`Credential`]: what an application can start from: a grant token, a refresh token, an access
//!   token, a stored id, a user who is stored already.
//! - [`TokenStore`]: the contract of stores, six methods, and anyone can write one.
//!   [`ListStore`] keeps tokens in memory, `FileStore` in the official token file, `SqliteStore`
//!   in a SQLite file or shared in memory.
//! - [`Error`] and [`ErrorCode`]: what can go wrong, and the remedy.
//!
//! # Features
//! | feature | default | what it brings |
//! | --- | --- | --- |
//! | `file` | yes | `FileStore`: the CSV file of Zoho's official SDKs |
//! | `sqlite` | yes | `SqliteStore`: the official ten-column table in a SQLite database |
//! | `mysql` | no | `MySqlStore`: the official table in MySQL, MariaDB and clusters, for many machines |
//! | `postgres` | no | `PostgresStore`: PostgreSQL, for many machines |
//! | `redis` | no | `RedisStore`: Redis and Valkey, for many machines |
//! | `secrets-manager` | no | `SecretsManagerStore`: AWS Secrets Manager, one secret per login |
//! | `conformance` | no | the kit that tells the author of a store whether it is right |
//!
//! # What is kept
//! A token is saved before it is handed out. A token is refreshed once, however many tasks ask,
//! and with the file and SQLite stores however many processes of the machine. No look-up answers
//! with another user's or another client's record. No secret is printed by `Debug`, `Display`,
//! logs or errors. Files and tables that the official SDKs wrote are read and written as they are.
#![cfg_attr(docsrs, feature(doc_cfg))]

mod accounts;
mod auth;
mod clock;
#[cfg(feature = "conformance")]
pub mod conformance;
mod connection;
mod credential;
mod data_center;
mod error;
#[doc(hidden)]
pub mod http;
mod login;
mod query;
mod secret;
pub mod store;
mod text;
mod token;

/// The attribute for `impl TokenStore`, so that a store of your own needs no crate for it.
pub use async_trait::async_trait;

pub use accounts::{AccountsClient, Revocation, TokenAnswer};
pub use auth::{
    Access, Authenticator, AuthenticatorBuilder, Event, RefreshPolicy, Session, StoreState,
};
pub use clock::Timestamp;
pub use credential::{
    AccessCredential, Credential, GrantCredential, OAuthClient, RefreshCredential,
};
pub use data_center::{DataCenter, DataCenterBuilder, DataCenters, Environment};
pub use error::{Error, ErrorCode, ErrorKind, Result};
#[doc(hidden)]
pub use error::{Report, causes, in_words, write_report};
pub use http::HttpOptions;
pub use login::{Callback, LoginRequest, PendingLogin};
pub use query::{Criterion, TokenQuery};
pub use secret::{
    AccessToken, ClientSecret, CodeVerifier, Fingerprint, GrantToken, RefreshToken, SavedLogin,
};
#[cfg(feature = "file")]
pub use store::FileStore;
#[cfg(feature = "mysql")]
pub use store::MySqlStore;
#[cfg(feature = "postgres")]
pub use store::PostgresStore;
#[cfg(feature = "redis")]
pub use store::RedisStore;
#[cfg(feature = "secrets-manager")]
pub use store::SecretsManagerStore;
#[cfg(feature = "sqlite")]
pub use store::SqliteStore;
pub use store::{Guarantee, ListStore, TokenStore, TokenTable};
pub use token::{ClientId, OAuthToken, TokenId, UserName};

/// The code of the README, compiled.
#[cfg(all(doctest, feature = "file"))]
#[doc = include_str!("../README.md")]
mod readme {}
