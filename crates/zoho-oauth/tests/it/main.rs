//! The integration tests of this crate, one binary: its modules are its parts.

mod file_store;
mod kit;
#[cfg(feature = "sqlite")]
mod sqlite_store;
mod stores;
mod support;
