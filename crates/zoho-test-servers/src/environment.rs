//! The environment variables that are read, all of them here.
//!
//! - `PATH`: where programs are.
//! - `ZOHO_TEST_MARIADBD` and the like: where one program is; see `programs`.
//! - `ZOHO_TEST_MYSQL`, `ZOHO_TEST_POSTGRES`, `ZOHO_TEST_REDIS`, `ZOHO_TEST_AWS`: the shared servers.
//! - `ZOHO_TEST_WITHOUT`: what a person switched off, separated by commas.
#![expect(
    clippy::disallowed_methods,
    reason = "the one place where this crate reads the environment"
)]

use std::env;
#[cfg(unix)]
use std::path::PathBuf;

/// The text of a variable that is set to something.
pub(crate) fn text(variable: &str) -> Option<String> {
    env::var(variable).ok().filter(|text| !text.is_empty())
}

/// The path in a variable that is set to something.
#[cfg(unix)]
pub(crate) fn path(variable: &str) -> Option<PathBuf> {
    env::var_os(variable)
        .filter(|path| !path.is_empty())
        .map(PathBuf::from)
}

/// The folders in which a shell looks for programs.
#[cfg(unix)]
pub(crate) fn program_folders() -> Vec<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path).collect()
}
