//! What the stores in files keep next to their file: who may use it, and who holds the locks in it.

use std::path::{Path, PathBuf};
use std::time::Duration;

use zoho_oauth::store::CoordinationKey;
use zoho_oauth::{ErrorCode, FileStore, RefreshPolicy, SqliteStore, TokenId, TokenStore};

use crate::support::{builder, expired, sandbox};
use crate::workers;

const KINDS: [&str; 2] = ["file", "sqlite"];

fn key(number: u64) -> CoordinationKey {
    CoordinationKey::record(TokenId::new(number).unwrap())
}

fn path_in(folder: &Path, kind: &str) -> PathBuf {
    folder.join(match kind {
        "file" => FileStore::DEFAULT_NAME,
        _ => SqliteStore::DEFAULT_FILE_NAME,
    })
}

/// A refresh that another process holds up says which process that is.
#[tokio::test]
async fn those_who_wait_for_a_refresh_learn_which_process_holds_the_lock() {
    let folder = tempfile::tempdir().unwrap();
    let sandbox = sandbox().await;
    for kind in KINDS {
        let path = path_in(folder.path(), kind);
        let store = workers::open(&format!("{kind} {}", path.display())).await;
        let (id, _) = expired(&sandbox, &store, "ann").await;
        let other = workers::open(&format!("{kind} {}", path.display())).await;
        let coordination = other.coordination().unwrap();
        assert_eq!(coordination.holder(&key(id.get())).await, None, "{kind}");
        let permit = coordination.try_acquire(&key(id.get())).await.unwrap();
        assert!(permit.is_some());

        let policy = RefreshPolicy::new().with_patience(Duration::from_millis(30));
        let auth = builder(&sandbox, store).policy(policy).build().unwrap();
        let session = auth.session(id).await;
        let error = match session {
            Ok(session) => session.access_token().await.unwrap_err(),
            Err(error) => error,
        };
        assert_eq!(error.code(), ErrorCode::StoreLocked, "{kind}: {error}");
        let text = error.to_string();
        let process = format!("process {} or a child", std::process::id());
        assert!(text.contains(&process), "{kind}: {text}");
        let lock = format!("{}.state/refresh-", path.display());
        assert!(text.contains(&lock), "{kind}: {text}");
    }
}

#[tokio::test]
async fn opening_makes_no_side_folder() {
    let folder = tempfile::tempdir().unwrap();
    for kind in KINDS {
        let path = path_in(folder.path(), kind);
        let mut side = path.clone().into_os_string();
        side.push(".state");
        let side = Path::new(&side);
        let store = workers::open(&format!("{kind} {}", path.display())).await;
        assert!(store.get_tokens().await.unwrap().is_empty());
        let coordination = store.coordination().unwrap();
        assert_eq!(coordination.holder(&key(1)).await, None);
        assert!(!side.exists(), "{kind}");
        assert!(coordination.try_acquire(&key(1)).await.unwrap().is_some());
        assert!(side.exists(), "{kind}");
    }
}

/// Two processes that came by two names lost half of 6,000 saves and damaged an index.
#[cfg(unix)]
#[test]
fn a_database_with_another_name_is_refused_unless_that_is_a_backup() {
    let folder = tempfile::tempdir().unwrap();
    let path = path_in(folder.path(), "sqlite");
    drop(SqliteStore::open(&path).unwrap());
    let backup = folder.path().join("backup.db");
    std::fs::hard_link(&path, &backup).unwrap();
    let before = std::fs::read(&path).unwrap();
    for name in [&path, &backup] {
        let error = SqliteStore::open(name).unwrap_err();
        assert_eq!(error.code(), ErrorCode::StoreAliased);
        assert!(
            error.message().ends_with("has 2 names (hard links)"),
            "{error}"
        );
        let error = SqliteStore::builder().open_read_only(name).unwrap_err();
        assert_eq!(error.code(), ErrorCode::StoreAliased);
    }
    assert_eq!(std::fs::read(&path).unwrap(), before);
    let allowing = || SqliteStore::builder().allow_hard_links();
    allowing().open(&path).unwrap();
    assert!(allowing().open_read_only(&backup).unwrap().is_some());
    std::fs::remove_file(&backup).unwrap();
    SqliteStore::open(&path).unwrap();
}

#[cfg(target_os = "linux")]
#[test]
fn a_database_that_is_a_mount_point_is_refused() {
    use crate::child::{place_of_child, run_child, with_mount};
    if let Some(mount) = place_of_child() {
        let builder = || SqliteStore::builder().allow_hard_links();
        for outcome in [
            builder().open(&mount).map(drop),
            builder().open_read_only(&mount).map(drop),
        ] {
            let error = outcome.unwrap_err();
            assert_eq!(error.code(), ErrorCode::StoreAliased);
            assert!(error.message().contains("is a mount point"), "{error}");
        }
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let path = path_in(folder.path(), "sqlite");
    drop(SqliteStore::open(&path).unwrap());
    let mount = folder.path().join("mounted.db");
    std::fs::write(&mount, "").unwrap();
    let test = "side_files::a_database_that_is_a_mount_point_is_refused";
    run_child(with_mount(&path, &mount), test, &mount);
}

#[cfg(unix)]
mod users {
    use std::fs;
    use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
    use std::os::unix::process::CommandExt;
    use std::process::Command;

    use zoho_oauth::store::Memo;
    use zoho_oauth::{OAuthToken, RefreshToken, UserName};

    use super::*;
    use crate::child::{NOBODY, place_of_child, program, run_child};

    /// Two users and a group that no system has.
    const ANN: u32 = 64_001;
    const GROUP: u32 = 64_900;

    fn token_of(name: &str) -> OAuthToken {
        let mut token = OAuthToken::new();
        token.user_name = UserName::new(name).ok();
        token.refresh_token = RefreshToken::new(format!("1000.refresh.{name}")).ok();
        token
    }

    fn set_mode(path: &Path, mode: u32) {
        fs::set_permissions(path, PermissionsExt::from_mode(mode)).unwrap();
    }

    /// Owner, group and mode.
    fn rights(path: &Path) -> (u32, u32, u32) {
        let metadata = fs::metadata(path).unwrap();
        (metadata.uid(), metadata.gid(), metadata.mode() & 0o777)
    }

    /// A folder of this user and group, below one that holds the program of the test.
    fn folder_of(user: u32, group: u32, mode: u32) -> (tempfile::TempDir, PathBuf, PathBuf) {
        let place = tempfile::tempdir().unwrap();
        let is_root = rights(place.path()).0 == 0;
        assert!(is_root, "this test acts as several users: run it as root");
        let folder = place.path().join("shared");
        fs::create_dir(&folder).unwrap();
        chown(&folder, Some(user), Some(group)).unwrap();
        set_mode(&folder, mode);
        let program = program(place.path());
        (place, folder, program)
    }

    fn run_as(program: &Path, user: u32, group: u32, test: &str, place: &Path) {
        let mut command = Command::new(program);
        command.uid(user).gid(group);
        run_child(command, &format!("side_files::users::{test}"), place);
    }

    fn block_on(future: impl Future<Output = ()>) {
        let mut runtime = tokio::runtime::Builder::new_current_thread();
        runtime.enable_time().build().unwrap().block_on(future);
    }

    /// All that a service does with a store, by the user of this process.
    async fn use_store(kind: &str, path: &Path) {
        let store = workers::open(&format!("{kind} {}", path.display())).await;
        let before = store.get_tokens().await.unwrap().len();
        let name = format!("user {before}");
        let id = store.save_token(&token_of(&name)).await.unwrap();
        let coordination = store.coordination().unwrap();
        let permit = coordination.try_acquire(&key(1)).await.unwrap().unwrap();
        let mut memo = Memo::default();
        memo.wait_until = Some(zoho_oauth::Timestamp::from_millis(1));
        permit.set_memo(&memo).await.unwrap();
        drop(permit);
        // A deletion writes the highest id down.
        assert!(store.delete_token(id).await.unwrap());
        store.save_token(&token_of(&name)).await.unwrap();
        assert_eq!(store.get_tokens().await.unwrap().len(), before + 1);
    }

    #[test]
    fn the_members_of_a_group_share_a_store() {
        let test = "the_members_of_a_group_share_a_store";
        if let Some(place) = place_of_child() {
            block_on(async {
                for kind in KINDS {
                    use_store(kind, &path_in(&place, kind)).await;
                }
            });
            return;
        }
        for folder_mode in [0o2770, 0o770] {
            let (_place, folder, program) = folder_of(ANN, GROUP, folder_mode);
            run_as(&program, ANN, GROUP, test, &folder);
            // A person shares what was for its owner alone.
            for kind in KINDS {
                let path = path_in(&folder, kind);
                assert_eq!(rights(&path), (ANN, GROUP, 0o600));
                set_mode(&path, 0o660);
            }
            run_as(&program, ANN, GROUP, test, &folder);
            run_as(&program, NOBODY, GROUP, test, &folder);
            run_as(&program, ANN, GROUP, test, &folder);
            for kind in KINDS {
                let path = path_in(&folder, kind);
                let (_, group, mode) = rights(&path);
                assert_eq!((group, mode), (GROUP, 0o660), "{kind} {folder_mode:o}");
                let side = folder.join(format!("{}.state", path.file_name().unwrap().display()));
                assert_eq!(rights(&side), (ANN, GROUP, 0o770), "{kind}");
                for file in fs::read_dir(&side).unwrap() {
                    let file = file.unwrap().path();
                    let (_, group, mode) = rights(&file);
                    assert_eq!((group, mode), (GROUP, 0o660), "{}", file.display());
                }
            }
        }
    }

    /// Who is not in the group learns it when the store is opened, not when a token is to be saved.
    #[test]
    fn others_do_not_share_a_store() {
        let test = "others_do_not_share_a_store";
        if let Some(place) = place_of_child() {
            block_on(async {
                // The folder lets this user in, and the side folder does not.
                let error = FileStore::open(path_in(&place, "file")).await.unwrap_err();
                assert_eq!(error.code(), ErrorCode::StorePermission);
                assert!(error.message().contains(".state` for `"), "{error}");
            });
            return;
        }
        let (_place, folder, program) = folder_of(ANN, GROUP, 0o2777);
        run_as(
            &program,
            ANN,
            GROUP,
            "the_members_of_a_group_share_a_store",
            &folder,
        );
        let path = path_in(&folder, "file");
        set_mode(&path, 0o664);
        run_as(
            &program,
            ANN,
            GROUP,
            "the_members_of_a_group_share_a_store",
            &folder,
        );
        run_as(&program, NOBODY, NOBODY, test, &folder);
    }

    /// Root opens a store where there is none yet: the service must be able to use it.
    #[test]
    fn what_root_makes_in_the_folder_of_a_service_is_the_services() {
        let test = "what_root_makes_in_the_folder_of_a_service_is_the_services";
        if let Some(place) = place_of_child() {
            block_on(async {
                for kind in KINDS {
                    use_store(kind, &path_in(&place, kind)).await;
                }
            });
            return;
        }
        for is_used_by_root in [false, true] {
            let (_place, folder, program) = folder_of(ANN, GROUP, 0o700);
            block_on(async {
                for kind in KINDS {
                    let path = path_in(&folder, kind);
                    if is_used_by_root {
                        use_store(kind, &path).await;
                    } else {
                        workers::open(&format!("{kind} {}", path.display())).await;
                    }
                    assert_eq!(rights(&path), (ANN, GROUP, 0o600), "{kind}");
                }
            });
            run_as(&program, ANN, GROUP, test, &folder);
            for entry in fs::read_dir(&folder).unwrap() {
                let path = entry.unwrap().path();
                assert_eq!(rights(&path).0, ANN, "{}", path.display());
            }
        }
    }

    /// A link of the service must not make root give a file away that lies elsewhere.
    #[test]
    fn root_gives_nothing_away_outside_of_the_folder() {
        let (place, folder, _) = folder_of(ANN, GROUP, 0o700);
        block_on(async {
            for kind in KINDS {
                let elsewhere = place.path().join(format!("elsewhere-{kind}"));
                let path = path_in(&folder, kind);
                std::os::unix::fs::symlink(&elsewhere, &path).unwrap();
                use_store(kind, &path).await;
                assert_eq!(rights(&elsewhere).0, 0, "{kind}");
            }
        });
    }
}
