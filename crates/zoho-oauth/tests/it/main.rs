//! The integration tests of this crate, one binary: its modules are its parts.

mod kit;
mod stores;
mod file_store;
#[cfg(feature = "sqlite")]
mod sqlite_store;
mod support;
