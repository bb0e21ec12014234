//! The integration tests of this crate, one binary: its modules are its parts.

#[cfg(feature = "sqlite")]
mod sqlite_store;
mod support;
