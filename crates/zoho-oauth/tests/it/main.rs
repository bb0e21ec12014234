//! The integration tests of this crate, one binary: its modules are its parts.

mod auth;
mod auth_store;
mod accounts;
mod file_store;
#[cfg(feature = "sqlite")]
mod sqlite_store;
mod support;
