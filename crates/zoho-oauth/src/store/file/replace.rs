//! Files that change from one whole content to the next, whatever happens in between.

use std::fs::{File, Metadata};
use std::io::{self, Write};
use std::path::Path;

use tempfile::NamedTempFile;

use super::super::host_lock::{Given, LockFolder, give_to_owner, take_side_rights};
use crate::error::{Error, ErrorCode, Result};

const TEMPORARY: &str = ".tmp";

/// Makes the file at `target`, which must not exist, for its owner alone. The rest is as with
/// [`replace`], but the new content is written in `folder` under a name that begins with `prefix`.
pub(super) fn create<P: AsRef<[u8]>>(
    folder: &Path,
    prefix: &str,
    target: &Path,
    content: &[P],
) -> io::Result<()> {
    let temporary = prepare(folder, prefix, content)?;
    if let Some(parent) = target.parent() {
        give_to_owner(temporary.as_file(), &std::fs::metadata(parent)?);
    }
    sync(temporary.as_file())?;
    temporary.persist_noclobber(target)?;
    sync_parent(target)
}

/// Puts a file with `content` in the place of `target`, durably: after a crash there is the old
/// file or the new one, whole. On an error the old one is there, and nothing else is left.
///
/// The new content is written into `folder` and renamed. The caller holds the lock named `lock`;
/// [`sweep`] under the same lock removes what killed writers left.
///
/// With `like`, the file keeps that one's mode, owner and group. Where the owner cannot be kept,
/// which only root always can, the file is this process's and the group still has its rights.
/// Where the group cannot be kept either, its rights go. Without `like`, it is a side file.
pub(super) fn replace<P: AsRef<[u8]>>(
    folder: &LockFolder,
    lock: &str,
    target: &Path,
    content: &[P],
    like: Option<&Metadata>,
) -> io::Result<()> {
    let temporary = prepare(folder.path(), lock, content)?;
    match like {
        Some(like) => take_rights(temporary.as_file(), like)?,
        None => take_side_rights(temporary.as_file(), &std::fs::metadata(folder.path())?)?,
    }
    sync(temporary.as_file())?;
    temporary.persist(target)?;
    sync_parent(target)
}

/// Writes `content` into a new file in `folder` with mode 0600, which is removed when it is dropped.
fn prepare<P: AsRef<[u8]>>(
    folder: &Path,
    prefix: &str,
    content: &[P],
) -> io::Result<NamedTempFile> {
    let mut temporary = tempfile::Builder::new()
        .prefix(&format!("{prefix}."))
        .suffix(TEMPORARY)
        .tempfile_in(folder)?;
    for piece in content {
        temporary.write_all(piece.as_ref())?;
    }
    Ok(temporary)
}

/// Waits until `file` is on the disk. The one place for it, so that a test can see which files were.
fn sync(file: &File) -> io::Result<()> {
    #[cfg(all(test, unix))]
    tests::note_sync(file);
    file.sync_all()
}

#[cfg(unix)]
fn take_rights(file: &File, like: &Metadata) -> io::Result<()> {
    use std::fs::Permissions;
    use std::os::unix::fs::{MetadataExt, PermissionsExt};
    let kept = match give_to_owner(file, like) {
        Given::All | Given::Group => 0o777,
        Given::Nothing => 0o700,
    };
    let mode = like.mode() & kept;
    file.set_permissions(Permissions::from_mode(mode))
}

#[cfg(not(unix))]
fn take_rights(_: &File, _: &Metadata) -> io::Result<()> {
    Ok(())
}

/// Removes the temporary files of writers that died while they held the lock named `lock`, which
/// the caller holds now.
pub(super) fn sweep(folder: &LockFolder, lock: &str) -> io::Result<()> {
    for entry in std::fs::read_dir(folder.path())? {
        let entry = entry?;
        let name = entry.file_name();
        let ours = name.to_str().is_some_and(|name| {
            name.strip_prefix(lock)
                .is_some_and(|rest| rest.starts_with('.') && rest.ends_with(TEMPORARY))
        });
        if ours {
            std::fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

/// Makes a rename in the folder of `path` durable.
pub(super) fn sync_parent(path: &Path) -> io::Result<()> {
    #[cfg(unix)]
    if let Some(parent) = path.parent() {
        return match sync(&File::open(parent)?) {
            // Some file systems know no such thing as a folder that is not on disk yet.
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::InvalidInput | io::ErrorKind::Unsupported
                ) =>
            {
                Ok(())
            }
            synced => synced,
        };
    }
    let _ = path;
    Ok(())
}

/// Says what could not be done to which path, with the code that the caller can act on.
pub(super) fn failed(what: &str, path: &Path, error: io::Error) -> Error {
    use io::ErrorKind;
    let code = match error.kind() {
        ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem => ErrorCode::StorePermission,
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded | ErrorKind::FileTooLarge => {
            ErrorCode::StoreFull
        }
        _ => ErrorCode::StoreUnavailable,
    };
    Error::new(code, format!("cannot {what} `{}`", path.display())).caused_by(error)
}

/// [`failed`] as something to hand to `map_err`.
pub(super) fn while_trying(what: &str, path: &Path) -> impl FnOnce(io::Error) -> Error {
    move |error| failed(what, path, error)
}

/// Reads a whole file; `None` if there is none.
pub(super) fn read_if_there(path: &Path) -> Result<Option<Vec<u8>>> {
    match std::fs::read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(failed("read", path, error)),
    }
}

#[cfg(unix)]
#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::os::unix::fs::{MetadataExt, PermissionsExt};

    use super::*;

    fn mode(path: &Path) -> u32 {
        std::fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    fn names(folder: &Path) -> Vec<String> {
        let entries = std::fs::read_dir(folder).unwrap();
        let name = |entry: io::Result<std::fs::DirEntry>| entry.unwrap().file_name();
        let mut names: Vec<_> = entries
            .map(|entry| name(entry).into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    fn side(place: &tempfile::TempDir) -> LockFolder {
        let folder = LockFolder::beside(&place.path().join("file"));
        folder.prepare().unwrap();
        folder
    }

    #[test]
    fn a_new_file_is_private_and_a_replaced_one_keeps_its_mode() {
        let place = tempfile::tempdir().unwrap();
        let folder = side(&place);
        let target = place.path().join("file");
        create(folder.path(), "write", &target, &["one"]).unwrap();
        assert_eq!(mode(&target), 0o600);

        std::fs::set_permissions(&target, PermissionsExt::from_mode(0o640)).unwrap();
        let like = std::fs::metadata(&target).unwrap();
        replace(&folder, "write", &target, &["two"], Some(&like)).unwrap();
        assert_eq!(mode(&target), 0o640);
        assert_eq!(std::fs::read(&target).unwrap(), b"two");
        assert_eq!(names(folder.path()), [""; 0]);
    }

    thread_local! {
        static SYNCED: RefCell<Vec<u64>> = const { RefCell::new(Vec::new()) };
    }

    /// Notes the inode: the temporary file keeps it when it becomes the target.
    pub(super) fn note_sync(file: &File) {
        let inode = file.metadata().unwrap().ino();
        SYNCED.with_borrow_mut(|synced| synced.push(inode));
    }

    #[test]
    fn the_content_and_then_the_name_are_synced() {
        let place = tempfile::tempdir().unwrap();
        let folder = side(&place);
        let target = place.path().join("file");
        let inode = |path: &Path| std::fs::metadata(path).unwrap().ino();
        create(folder.path(), "write", &target, &["one"]).unwrap();
        let both = [inode(&target), inode(place.path())];
        assert_eq!(SYNCED.take(), both);

        replace(&folder, "write", &target, &["two"], None).unwrap();
        let after = [inode(&target), inode(place.path())];
        assert_ne!(after, both, "a new file took the place of the old one");
        assert_eq!(SYNCED.take(), after);
    }

    #[test]
    fn creating_does_not_replace() {
        let place = tempfile::tempdir().unwrap();
        let folder = side(&place);
        let target = place.path().join("file");
        std::fs::write(&target, "theirs").unwrap();
        let error = create(folder.path(), "write", &target, &["ours"]).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(std::fs::read(&target).unwrap(), b"theirs");
        assert_eq!(names(folder.path()), [""; 0]);
    }

    #[test]
    fn what_killed_writers_left_is_removed_and_nothing_else() {
        let place = tempfile::tempdir().unwrap();
        let folder = side(&place);
        for name in [
            "write.a1B2.tmp",
            "write.lock",
            "write.tmp.bak",
            "writer.x.tmp",
            "refresh-07.c3.tmp",
        ] {
            std::fs::write(folder.path().join(name), "").unwrap();
        }
        sweep(&folder, "write").unwrap();
        let left = [
            "refresh-07.c3.tmp",
            "write.lock",
            "write.tmp.bak",
            "writer.x.tmp",
        ];
        assert_eq!(names(folder.path()), left);
    }

    #[test]
    fn each_failure_has_the_code_that_the_caller_can_act_on() {
        use io::ErrorKind;
        for (kind, code) in [
            (ErrorKind::PermissionDenied, ErrorCode::StorePermission),
            (ErrorKind::ReadOnlyFilesystem, ErrorCode::StorePermission),
            (ErrorKind::StorageFull, ErrorCode::StoreFull),
            (ErrorKind::QuotaExceeded, ErrorCode::StoreFull),
            (ErrorKind::FileTooLarge, ErrorCode::StoreFull),
            (ErrorKind::ResourceBusy, ErrorCode::StoreUnavailable),
        ] {
            let error = failed("write", Path::new("/data/tokens"), kind.into());
            assert_eq!(error.code(), code, "{kind:?}");
            assert_eq!(error.message(), "cannot write `/data/tokens`");
        }
    }

    /// The kernel's own ENOSPC, which `/dev/full` gives to every write.
    #[cfg(target_os = "linux")]
    #[test]
    fn a_full_device_is_called_full() {
        let mut full = File::options().write(true).open("/dev/full").unwrap();
        let error = full.write_all(b"x").unwrap_err();
        let error = failed("write", Path::new("/dev/full"), error);
        assert_eq!(error.code(), ErrorCode::StoreFull);
    }
}
