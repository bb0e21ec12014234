//! Tests that run again in a child process: as another user, in another mount table, with limits.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Tells a test that it runs as the child of itself, and where.
const PLACE: &str = "ZOHO_OAUTH_TEST_PLACE";
/// "nobody" on every system that has one, and no user at all on the others: just as good.
pub(crate) const NOBODY: u32 = 65534;

pub(crate) fn place_of_child() -> Option<PathBuf> {
    #[expect(clippy::disallowed_methods, reason = "how a test talks to its child")]
    std::env::var_os(PLACE).map(PathBuf::from)
}

/// A copy of this program in `folder` that every user can run.
pub(crate) fn program(folder: &Path) -> PathBuf {
    let program = folder.join("test");
    if !program.exists() {
        fs::copy(std::env::current_exe().unwrap(), &program).unwrap();
        let mode = |mode| PermissionsExt::from_mode(mode);
        fs::set_permissions(&program, mode(0o755)).unwrap();
        fs::set_permissions(folder, mode(0o755)).unwrap();
    }
    program
}

/// Runs this very test again in `command`, which names the program, and demands that it ran.
pub(crate) fn run_child(mut command: Command, test: &str, place: &Path) {
    let output = command
        .args(["--exact", test, "--nocapture"])
        .env(PLACE, place)
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    let ran = output.status.success() && text.contains("1 passed");
    assert!(ran, "{text}{}", String::from_utf8_lossy(&output.stderr));
}

/// The program of this test, in a mount table of its own where `file` is mounted on `mount`.
///
/// Needs the right to make such a table: as root, or where the system lets users have namespaces.
/// Elsewhere `run_child` fails with what `unshare` says.
#[cfg(target_os = "linux")]
pub(crate) fn with_mount(file: &Path, mount: &Path) -> Command {
    let mut command = Command::new("unshare");
    let script = "mount --bind \"$1\" \"$2\" && shift 2 && exec \"$@\"";
    command
        .args(["--map-root-user", "--mount", "sh", "-c", script, "sh"])
        .args([file, mount])
        .arg(std::env::current_exe().unwrap());
    command
}
