//! What happens to the file store, and what it says then.

use super::*;

const HEADER: &str = "id,user_name,client_id,client_secret,refresh_token,access_token,grant_token,expiry_time,redirect_uri,api_domain\r\n";
const ROW: &str = "1,hunter2,hunter2,hunter2,hunter2,hunter2,hunter2,5,hunter2,hunter2\r\n";

/// Fails if `text` quotes the file.
fn assert_discreet(error: &Error) {
    let text = format!("{error} {error:?}");
    assert!(!text.contains("hunter2"), "{text}");
}

#[tokio::test]
async fn damage_is_an_error_with_its_line_and_stays_as_it_is() {
    let good = format!("{HEADER}{ROW}");
    let mut bad_utf8 = good.clone().into_bytes();
    bad_utf8.extend(b"2,hunter2\xff,,,,,,,,\r\n");
    let zeros = vec![0; 4096];
    let cases: [(&str, usize, Vec<u8>); 11] = [
        ("an empty file", 1, Vec::new()),
        ("zeros", 1, zeros),
        ("a header cut off", 1, HEADER[..40].into()),
        ("a row cut off", 2, good[..good.len() - 20].into()),
        (
            "a row too long",
            3,
            format!("{good}2,,,,,,,,,,hunter2\r\n").into(),
        ),
        ("a bad id", 3, format!("{good}hunter2,,,,,,,,,\r\n").into()),
        (
            "a bad expiry",
            3,
            format!("{good}2,,,,,,,hunter2,,\r\n").into(),
        ),
        ("an id twice", 3, format!("{good}{ROW}").into()),
        (
            "a quote that never ends",
            3,
            format!("{good}2,\"hunter2,,,,,,,,\r\n").into(),
        ),
        (
            "text behind a quote",
            3,
            format!("{good}2,\"a\"hunter2,,,,,,,,\r\n").into(),
        ),
        ("bytes that are no text", 3, bad_utf8),
    ];
    // At once, since each look at a damaged file is repeated for a while.
    let mut checks = tokio::task::JoinSet::new();
    for (what, line, bytes) in cases {
        checks.spawn(check_damage(what, line, bytes));
    }
    checks.join_all().await;
}

/// Whoever has the file open and whoever opens it, readers and writers: all must hear the same.
async fn check_damage(what: &str, line: usize, bytes: Vec<u8>) {
    let place = Place::new();
    let store = place.open().await;
    fs::write(&place.file, &bytes).unwrap();
    let name = TokenQuery::user_name(user("hunter2"));
    let token = token_of("a");
    let (find, by_id, all, save, delete, clear, open) = tokio::join!(
        store.find_token(&name),
        store.find_token_by_id(id(1)),
        store.get_tokens(),
        store.save_token(&token),
        store.delete_token(id(1)),
        store.delete_tokens(),
        FileStore::open(&place.file),
    );
    for error in [
        find.unwrap_err(),
        by_id.unwrap_err(),
        all.unwrap_err(),
        save.unwrap_err(),
        delete.unwrap_err(),
        clear.unwrap_err(),
        open.unwrap_err(),
    ] {
        assert_eq!(error.code().as_str(), "store_damaged", "{what}");
        let start = format!("line {line} of `{}` ", place.file.display());
        assert!(error.message().starts_with(&start), "{what}: {error}");
        assert_discreet(&error);
    }
    assert_eq!(fs::read(&place.file).unwrap(), bytes, "{what}");
}

#[tokio::test]
async fn a_file_of_something_else_is_left_alone() {
    for bytes in [
        &b"name,value\nhunter2,1\n"[..],
        b"hunter2",
        b"\n",
        b"SQLite format 3\0",
        b"\xff\xfei\0d\0",
    ] {
        let place = Place::with(bytes);
        let error = FileStore::open(&place.file).await.unwrap_err();
        assert_eq!(error.code().as_str(), "store_foreign");
        assert_discreet(&error);
        assert_eq!(fs::read(&place.file).unwrap(), bytes);
        assert!(!place.side().exists());
    }
}

#[tokio::test]
async fn a_path_that_cannot_be_a_token_file_is_refused() {
    let place = Place::new();
    fs::create_dir(&place.file).unwrap();
    assert_eq!(code(FileStore::open(&place.file).await), "store_foreign");
    let missing = place.folder.path().join("none/tokens.txt");
    let error = FileStore::open(&missing).await.unwrap_err();
    assert_eq!(error.code().as_str(), "store_unavailable");
    assert!(error.message().contains("/none`"));
    assert_eq!(code(FileStore::open("").await), "invalid_input");
}

#[tokio::test]
async fn a_memory_of_ids_that_cannot_be_read_stops_writers() {
    let place = Place::new();
    let store = place.open().await;
    let highest = place.side().join("highest-id");
    fs::write(&highest, "many").unwrap();
    let error = store.save_token(&token_of("a")).await.unwrap_err();
    assert_eq!(error.code().as_str(), "store_damaged");
    assert!(error.message().contains("/highest-id`"));
    fs::write(&highest, "41\n").unwrap();
    assert_eq!(store.save_token(&token_of("a")).await.unwrap(), id(42));
}

#[tokio::test]
async fn the_next_writer_removes_what_a_killed_one_left() {
    let place = Place::new();
    let store = place.open().await;
    let left = place.side().join("write.x1Y2z3.tmp");
    fs::write(&left, ROW).unwrap();
    store.save_token(&token_of("a")).await.unwrap();
    assert!(!left.exists());
    assert!(!place.text().contains("hunter2"));
}

#[cfg(unix)]
mod unix {
    use std::os::unix::fs::{MetadataExt, PermissionsExt};
    use std::os::unix::process::CommandExt;
    use std::path::Path;
    use std::process::Command;

    use super::*;

    /// Tells a test that it runs as the child of itself, and where.
    const PLACE: &str = "ZOHO_OAUTH_TEST_PLACE";
    /// "nobody" on every system that has one, and no user at all on the others: just as good.
    const NOBODY: u32 = 65534;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().mode() & 0o777
    }

    fn set_mode(path: &Path, mode: u32) {
        fs::set_permissions(path, PermissionsExt::from_mode(mode)).unwrap();
    }

    fn place_of_child() -> Option<PathBuf> {
        #[expect(clippy::disallowed_methods, reason = "how a test talks to its child")]
        std::env::var_os(PLACE).map(PathBuf::from)
    }

    /// Runs this very test again in `command`, which names the program, and demands that it ran.
    fn run_child(mut command: Command, test: &str, place: &Path) {
        let test = format!("file_store::faults::unix::{test}");
        let output = command
            .args(["--exact", &test, "--nocapture"])
            .env(PLACE, place)
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&output.stdout);
        let ran = output.status.success() && text.contains("1 passed");
        assert!(ran, "{text}{}", String::from_utf8_lossy(&output.stderr));
    }

    fn runtime() -> tokio::runtime::Runtime {
        let mut builder = tokio::runtime::Builder::new_current_thread();
        builder.enable_time().build().unwrap()
    }

    #[tokio::test]
    async fn everything_is_for_its_owner_alone() {
        let place = Place::new();
        let store = place.open().await;
        assert_eq!(mode(&place.file), 0o600);
        store.save_token(&token_of("a")).await.unwrap();
        store.save_token(&token_of("b")).await.unwrap();
        store.delete_token(id(2)).await.unwrap();
        let key = zoho_oauth::store::CoordinationKey::record(id(1));
        let coordination = store.coordination().unwrap();
        let permit = coordination.try_acquire(&key).await.unwrap().unwrap();
        let mut memo = permit.memo().await.unwrap();
        memo.wait_until = Some(Timestamp::from_millis(1));
        permit.set_memo(&memo).await.unwrap();

        assert_eq!(mode(&place.file), 0o600);
        assert_eq!(mode(&place.side()), 0o700);
        let files: Vec<_> = fs::read_dir(place.side()).unwrap().collect();
        assert_eq!(files.len(), 4, "two locks, the ids, the memo: {files:?}");
        for file in files {
            assert_eq!(mode(&file.unwrap().path()), 0o600);
        }
    }

    /// Root who runs a tool on the file of a service must not lock the service out. Whoever is not
    /// root cannot give files away, and tests the simple half.
    #[tokio::test]
    async fn everything_stays_with_the_owner_of_the_file() {
        let place = Place::with(HEADER);
        set_mode(&place.file, 0o600);
        if fs::metadata(&place.file).unwrap().uid() == 0 {
            std::os::unix::fs::chown(&place.file, Some(NOBODY), Some(NOBODY)).unwrap();
        }
        let owner = |path: &Path| {
            let metadata = fs::metadata(path).unwrap();
            (metadata.uid(), metadata.gid())
        };
        let before = owner(&place.file);
        let store = place.open().await;
        store.save_token(&token_of("a")).await.unwrap();
        store.delete_tokens().await.unwrap();
        assert_eq!(owner(&place.file), before);
        assert_eq!(owner(&place.side()), before);
        let files: Vec<_> = fs::read_dir(place.side()).unwrap().collect();
        assert_eq!(files.len(), 2, "the lock and the ids: {files:?}");
        for file in files {
            assert_eq!(owner(&file.unwrap().path()), before);
        }
    }

    #[tokio::test]
    async fn a_file_keeps_its_mode_and_can_be_required_to_be_private() {
        let place = Place::new();
        drop(place.open().await);
        set_mode(&place.file, 0o640);
        let store = place.open().await;
        store.save_token(&token_of("a")).await.unwrap();
        assert_eq!(mode(&place.file), 0o640);

        let strict = || FileStore::builder(&place.file).require_private().open();
        let error = strict().await.unwrap_err();
        assert_eq!(error.code().as_str(), "store_permission");
        assert!(error.message().contains("mode 640"));
        set_mode(&place.file, 0o600);
        let strict = strict().await.unwrap();
        strict.save_token(&token_of("b")).await.unwrap();
        // Also when somebody opens it up later.
        set_mode(&place.file, 0o604);
        assert_eq!(code(strict.get_tokens().await), "store_permission");
        assert_eq!(code(strict.delete_tokens().await), "store_permission");
    }

    #[tokio::test]
    async fn a_file_marked_read_only_is_not_replaced() {
        let place = Place::new();
        let store = place.open().await;
        store.save_token(&token_of("a")).await.unwrap();
        let before = place.text();
        set_mode(&place.file, 0o400);
        assert_eq!(
            code(store.save_token(&token_of("b")).await),
            "store_permission"
        );
        assert_eq!(code(store.delete_tokens().await), "store_permission");
        assert_eq!(store.get_tokens().await.unwrap().len(), 1);
        assert_eq!(place.text(), before);
    }

    /// Root may do anything, so under root the child is somebody else.
    #[test]
    fn what_this_user_may_not_do_is_said() {
        if let Some(place) = place_of_child() {
            runtime().block_on(refused(&place));
            return;
        }
        let place = tempfile::tempdir().unwrap();
        for folder in ["no-read", "no-folder", "no-make"] {
            fs::create_dir(place.path().join(folder)).unwrap();
        }
        let tokens = |folder: &str| place.path().join(folder).join("tokens");
        fs::write(tokens("no-read"), HEADER).unwrap();
        fs::write(tokens("no-folder"), HEADER).unwrap();
        set_mode(&tokens("no-read"), 0o000);
        set_mode(&tokens("no-folder"), 0o644);
        set_mode(&place.path().join("no-folder"), 0o555);
        set_mode(&place.path().join("no-make"), 0o555);

        let program = place.path().join("test");
        fs::copy(std::env::current_exe().unwrap(), &program).unwrap();
        set_mode(&program, 0o755);
        set_mode(place.path(), 0o755);
        let mut command = Command::new(&program);
        if fs::metadata(place.path()).unwrap().uid() == 0 {
            command.uid(NOBODY).gid(NOBODY);
        }
        run_child(command, "what_this_user_may_not_do_is_said", place.path());
        assert_eq!(fs::read_to_string(tokens("no-folder")).unwrap(), HEADER);
        for folder in ["no-folder", "no-make"] {
            // So that it can be removed.
            set_mode(&place.path().join(folder), 0o755);
        }
    }

    async fn refused(place: &Path) {
        for folder in ["no-read", "no-folder", "no-make"] {
            let error = FileStore::open(place.join(folder).join("tokens")).await;
            let error = error.expect_err(folder);
            assert_eq!(error.code().as_str(), "store_permission", "{error}");
            assert!(error.message().contains(&format!("/{folder}/tokens")));
            assert!(std::error::Error::source(&error).is_some());
        }
    }

    /// A limit on the size of files, which the kernel enforces in the middle of the write as it
    /// would a full disk, and for which nobody needs to be root.
    #[test]
    fn a_full_disk_leaves_the_old_file_and_nothing_else() {
        if let Some(place) = place_of_child() {
            runtime().block_on(filled(&place));
            return;
        }
        let place = Place::new();
        runtime().block_on(async {
            let store = place.open().await;
            store.save_token(&token_of("a")).await.unwrap();
        });
        let before = place.text();
        let mut command = Command::new("sh");
        // The signal that comes with the error would end the process. 16 blocks are 8 KiB or, in
        // some shells, twice that.
        command
            .args(["-c", "trap '' XFSZ; ulimit -f 16; exec \"$0\" \"$@\""])
            .arg(std::env::current_exe().unwrap());
        let test = "a_full_disk_leaves_the_old_file_and_nothing_else";
        run_child(command, test, &place.file);
        assert_eq!(
            place.text(),
            before + "2,small,1000.CLIENT,,1000.refresh.small,,,,,\r\n"
        );
    }

    async fn filled(path: &Path) {
        let store = FileStore::open(path).await.unwrap();
        let before = fs::read(path).unwrap();
        let huge = token_of(&"x".repeat(64 * 1024));
        let error = store.save_token(&huge).await.unwrap_err();
        assert_eq!(error.code().as_str(), "store_full", "{error}");
        assert!(error.message().contains(path.to_str().unwrap()));
        assert_eq!(fs::read(path).unwrap(), before);
        let side = fs::read_dir(path.with_file_name("sdk_tokens.txt.state")).unwrap();
        let names: Vec<_> = side.map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(names, ["write.lock"]);
        // The lock is free again, and what fits is saved.
        let id = store.save_token(&token_of("small")).await.unwrap();
        assert_eq!(id.get(), 2);
    }
}
