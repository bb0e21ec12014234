//! The only place that reads environment variables.

use std::env;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

#[expect(
    clippy::disallowed_methods,
    reason = "this module is the one documented place"
)]
fn read(name: &str) -> Option<OsString> {
    env::var_os(name).filter(|value| !value.is_empty())
}

/// Whether this is a run of continuous integration: `CI` is `true`, as every such service sets it.
pub(crate) fn ci() -> bool {
    read("CI").is_some_and(|value| value == "true" || value == "1")
}

/// The cargo that started us (`CARGO`), so that its toolchain is used throughout.
pub(crate) fn cargo() -> OsString {
    read("CARGO").unwrap_or_else(|| "cargo".into())
}

/// The root of the workspace, when cargo started us (`CARGO_MANIFEST_DIR` is our own folder).
pub(crate) fn own_folder() -> Option<PathBuf> {
    read("CARGO_MANIFEST_DIR").map(PathBuf::from)
}

/// Where a person says a program is, under the name that the tests know.
pub(crate) fn chosen_program(variable: &str) -> Option<PathBuf> {
    read(variable).map(PathBuf::from)
}

/// The address of a server that a person has, under the name that the tests know.
pub(crate) fn chosen_server(variable: &str) -> Option<String> {
    read(variable)?.into_string().ok()
}

/// Whether the person asked for output without colours (`NO_COLOR`).
pub(crate) fn no_color() -> bool {
    read("NO_COLOR").is_some()
}

/// The first file named `program` in the folders of `PATH`. An absolute path is looked up as it is.
pub(crate) fn find_program(program: &str) -> Option<PathBuf> {
    let path = read("PATH").unwrap_or_default();
    env::split_paths(&path)
        .map(|folder| folder.join(program))
        .find(|file| is_program(file))
}

fn is_program(file: &Path) -> bool {
    let Ok(metadata) = file.metadata() else {
        return false;
    };
    #[cfg(unix)]
    let executable = std::os::unix::fs::PermissionsExt::mode(&metadata.permissions()) & 0o111 != 0;
    #[cfg(not(unix))]
    let executable = true;
    metadata.is_file() && executable
}

/// What `cargo run` told *us* about our own package.
///
/// Build scripts ask to run again when some of these change. Handed down, they would have the
/// same crates built once for `cargo xtask` and once more for a plain `cargo`.
pub(crate) fn our_own_package_variables() -> impl Iterator<Item = OsString> {
    env::vars_os().map(|(name, _)| name).filter(|name| {
        let name = name.to_string_lossy();
        name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_")
    })
}
