//! Whether a store's file can be reached by another name, past the locks and the side files that
//! belong to its name.

use std::fs::Metadata;
use std::path::Path;

use crate::error::Result;

/// Refuses a file with hard links, unless they are allowed, and a file that is a mount point.
///
/// Locks, side files and SQLite's log are found by the name of the file. Two processes that open
/// it by two names do not see each other's: both write, and one overwrites the other. A mounted
/// file cannot be replaced, and what SQLite keeps next to it stays outside the mount.
///
/// `path` has no symbolic links: those are followed, and lead to one name. Has no effect on systems
/// other than Unix.
///
/// # Errors
/// `store_aliased`.
pub(super) fn check_single_name(
    path: &Path,
    metadata: &Metadata,
    allow_hard_links: bool,
) -> Result<()> {
    #[cfg(unix)]
    {
        use crate::error::{Error, ErrorCode};
        use std::os::unix::fs::MetadataExt;

        let names = metadata.nlink();
        if names > 1 && !allow_hard_links {
            let path = path.display();
            let message = format!("`{path}` has {names} names (hard links)");
            return Err(Error::new(ErrorCode::StoreAliased, message));
        }
        if is_mount_point(path, metadata) {
            let path = path.display();
            let message = format!("`{path}` is a mount point: a single file is mounted there");
            return Err(Error::new(ErrorCode::StoreAliased, message));
        }
    }
    #[cfg(not(unix))]
    let _ = (path, metadata, allow_hard_links);
    Ok(())
}

/// A bind mount within one file system shows in this table alone. Device numbers say nothing
/// certain on Linux: in an overlay those of a file and of its folder differ.
#[cfg(target_os = "linux")]
fn is_mount_point(path: &Path, _: &Metadata) -> bool {
    use std::os::unix::ffi::OsStrExt;

    let Ok(table) = std::fs::read("/proc/self/mountinfo") else {
        return false;
    };
    // The table writes these characters as numbers.
    let mut name = Vec::new();
    for &byte in path.as_os_str().as_bytes() {
        match byte {
            b' ' | b'\t' | b'\n' | b'\\' => name.extend(format!("\\{byte:03o}").bytes()),
            _ => name.push(byte),
        }
    }
    let mut lines = table.split(|&byte| byte == b'\n');
    lines.any(|line| line.split(|&byte| byte == b' ').nth(4) == Some(&name[..]))
}

#[cfg(all(unix, not(target_os = "linux")))]
fn is_mount_point(path: &Path, metadata: &Metadata) -> bool {
    use std::os::unix::fs::MetadataExt;
    let folder = path.parent().and_then(|folder| folder.metadata().ok());
    folder.is_some_and(|folder| folder.dev() != metadata.dev())
}
