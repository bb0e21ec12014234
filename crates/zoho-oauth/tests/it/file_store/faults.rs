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
async fn damage_of_the_header_is_an_error_with_its_line_and_stays_as_it_is() {
    let zeros = vec![0; 4096];
    let cases: [(&str, usize, Vec<u8>); 5] = [
        ("an empty file", 1, Vec::new()),
        ("zeros", 1, zeros),
        ("a header cut off", 1, HEADER[..40].into()),
        ("a header that is no text", 1, b"id,hunter2\xff,".into()),
        ("an open quote", 1, b"id,\"hunter2,\n".into()),
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
async fn a_line_that_cannot_be_read_spares_the_others_and_stays_byte_for_byte() {
    let cases: [(&str, &str, &[u8]); 8] = [
        (
            "a row cut off",
            "has 4 columns instead of 10",
            b"2,bad,hunter2,hu",
        ),
        (
            "a row too long",
            "has 11 columns instead of 10",
            b"2,bad,,,,,,,,,hunter2",
        ),
        (
            "a bad expiry",
            "has an expiry time that is not a number",
            b"2,bad,c,s,r,a,g,hunter2,,",
        ),
        (
            "an open quote",
            "opens a quote that never ends",
            b"2,bad,\"hunter2,,,,,,,",
        ),
        (
            "text behind a quote",
            "has text behind a closing quote",
            b"2,bad,\"a\"hunter2,,,,,,,",
        ),
        ("no text", "is not UTF-8", b"2,bad,hunter2\xff,,,,,,,"),
        ("a zero", "holds a NUL character", b"2,bad,hunter2\0,,,,,,,"),
        (
            "a bad id",
            "has an id that is not a number from 1 to 9999999999",
            b"hunter2,bad,c,s,,,,,,",
        ),
    ];
    let mut checks = tokio::task::JoinSet::new();
    for (what, damage, line) in cases {
        for place_of_line in ["first", "middle", "last"] {
            checks.spawn(check_bad_line(what, damage, line, place_of_line));
        }
    }
    checks.join_all().await;
}

async fn check_bad_line(what: &str, damage: &str, bad: &[u8], position: &str) {
    let what = &format!("{what}, {position}");
    let (first, third) = (b"1,ann,c,s,r1,a,g,5,,d\r\n", b"3,cid,c,s,r3,a,g,5,,d\r\n");
    let line = [bad, b"\r\n"].concat();
    let (number, lines) = match position {
        "first" => (2, [&line, &first[..], third]),
        "middle" => (3, [&first[..], &line, third]),
        _ => (4, [&first[..], third, bad]),
    };
    let before = [HEADER.as_bytes(), &lines.concat()].concat();
    let place = Place::with(&before);
    let store = place.open().await;
    let message = format!("line {number} of `{}` {damage}", place.file.display());

    // The good ones work.
    assert_eq!(ids(&store.get_tokens().await.unwrap()), [1, 3], "{what}");
    let page = store.get_tokens_page(Some(id(1)), 5).await.unwrap();
    assert_eq!(ids(&page), [3], "{what}");
    let by_name = |name: &str| TokenQuery::user_name(user(name));
    for (number, name) in [(1, "ann"), (3, "cid")] {
        let found = store.find_token(&by_name(name)).await.unwrap();
        assert_eq!(found.unwrap().id, Some(id(number)), "{what}");
        let found = store.find_token_by_id(id(number)).await.unwrap();
        assert_eq!(found.unwrap().user_name, Some(user(name)), "{what}");
    }
    assert_eq!(store.find_token(&by_name("dan")).await.unwrap(), None);
    assert_eq!(store.find_token_by_id(id(4)).await.unwrap(), None);
    // The bad one is counted and named, and it is not absent.
    let inventory = store.inventory().await.unwrap().unwrap();
    assert_eq!(inventory.records, 3, "{what}");
    assert_eq!(inventory.unreadable, [message.as_str()], "{what}");
    let has_id = bad.starts_with(b"2,");
    let mut refused = vec![store.find_token(&by_name("bad")).await.map(drop)];
    let mut under_its_id = token_of("bad");
    under_its_id.id = Some(id(2));
    if has_id {
        refused.push(store.find_token_by_id(id(2)).await.map(drop));
        refused.push(store.save_token(&under_its_id).await.map(drop));
    }
    for outcome in refused {
        let error = outcome.unwrap_err();
        assert_eq!(error.code().as_str(), "store_damaged", "{what}");
        assert_eq!(error.message(), message, "{what}");
        assert_discreet(&error);
    }
    // Nothing changed so far, and no write changes it.
    assert_eq!(fs::read(&place.file).unwrap(), before, "{what}");
    let new = store.save_token(&token_of("new")).await.unwrap();
    assert_eq!(new, id(4), "{what}");
    let mut news = OAuthToken::new();
    news.id = Some(id(3));
    news.access_token = Some(AccessToken::new("x").unwrap());
    store.save_token(&news).await.unwrap();
    assert!(store.delete_token(id(1)).await.unwrap());
    let third = b"3,cid,c,s,r3,x,g,,,d\r\n";
    let lines = match position {
        "last" => [&third[..], &line],
        _ => [&line, &third[..]],
    };
    let new = b"4,new,1000.CLIENT,,1000.refresh.new,,,,,\r\n";
    let expected = [HEADER.as_bytes(), &lines.concat(), new].concat();
    let text = String::from_utf8_lossy(&expected).into_owned();
    assert_eq!(fs::read(&place.file).unwrap(), expected, "{what}: {text}");
    // What is to go goes.
    assert_eq!(store.delete_token(id(2)).await.unwrap(), has_id, "{what}");
    assert_eq!(
        store.delete_tokens().await.unwrap(),
        if has_id { 2 } else { 3 }
    );
    assert_eq!(place.text(), HEADER, "{what}");
    assert_eq!(store.save_token(&token_of("x")).await.unwrap(), id(5));
}

/// Two official processes that save at once give one id to two logins.
#[tokio::test]
async fn deleting_a_record_spares_the_bad_line_of_another_login_with_its_id() {
    let bad = "5,ann,c,s,r,a,g,soon,,\r\n";
    let place = Place::with(format!("{HEADER}{bad}5,bob,c,s,r,a,g,5,,d\r\n"));
    let store = place.open().await;
    assert!(store.delete_token(id(5)).await.unwrap());
    assert_eq!(place.text(), format!("{HEADER}{bad}"));
    assert!(store.delete_token(id(5)).await.unwrap());
    assert_eq!(place.text(), HEADER);
    assert!(!store.delete_token(id(5)).await.unwrap());
}

#[tokio::test]
async fn a_line_that_cannot_be_read_is_named_once_in_the_log_and_waited_for_once() {
    let log = crate::support::Log::default();
    let writer = log.clone();
    let logging = tracing_subscriber::fmt().with_writer(move || writer.clone());
    let _logging = tracing::subscriber::set_default(logging.finish());
    let bad = "2,hunter2,c,s,r,a,g,soon,,\r\n";
    let place = Place::with(format!("{HEADER}{ROW}{bad}"));
    place.open().await;
    let store = place.open().await;
    let began = std::time::Instant::now();
    for _ in 0..50 {
        assert_eq!(store.get_tokens().await.unwrap().len(), 1);
    }
    // Each look that waited for an official SDK to finish would take a fifth of a second.
    assert!(began.elapsed() < Duration::from_secs(5));
    store.save_token(&token_of("new")).await.unwrap();
    store.inventory().await.unwrap();
    let text = log.text();
    let named = format!("line 3 of `{}` has an expiry time", place.file.display());
    assert_eq!(text.matches(&named).count(), 1, "{text}");
    assert!(!text.contains("hunter2"), "{text}");
    // Another bad line is another record.
    fs::write(&place.file, place.text() + "4,x\r\n").unwrap();
    store.get_tokens().await.unwrap();
    assert_eq!(log.text().matches(" columns instead of 10").count(), 1);
}

/// A sparse file of 4 TB cost all memory, and one of 200 MB seven times its size.
#[tokio::test]
async fn a_file_that_is_too_large_is_refused_before_it_is_read() {
    let place = Place::new();
    for (start, code, text) in [
        ("", "store_damaged", "line 1 of"),
        ("PK\u{3}\u{4}", "store_foreign", "line 1 of"),
        (
            HEADER,
            "unsupported",
            "has 4398046511104 bytes, and a token file has at most 67108864",
        ),
    ] {
        fs::write(&place.file, start).unwrap();
        let file = fs::File::options().write(true).open(&place.file).unwrap();
        if let Err(error) = file.set_len(1 << 42) {
            // Not every file system has files of this size; all have one above the limit.
            assert_eq!(error.kind(), std::io::ErrorKind::FileTooLarge, "{error}");
            return;
        }
        let error = FileStore::open(&place.file).await.unwrap_err();
        assert_eq!(error.code().as_str(), code);
        assert!(error.message().contains(text), "{error}");
        let error = FileStore::open_read_only(&place.file).await.unwrap_err();
        assert_eq!(error.code().as_str(), code);
    }
    assert!(!place.side().exists());
}

#[tokio::test]
async fn a_write_does_not_make_a_file_that_cannot_be_read_again() {
    let place = Place::new();
    let store = place.open().await;
    let mut large = token_of("large");
    let size = usize::try_from(FileStore::MAX_SIZE).unwrap() - 200;
    large.api_domain = Some("x".repeat(size));
    store.save_token(&large).await.unwrap();
    let before = fs::metadata(&place.file).unwrap().len();
    assert!(before <= FileStore::MAX_SIZE);
    let error = store
        .save_token(&full_of(&"y".repeat(64)))
        .await
        .unwrap_err();
    assert_eq!(error.code().as_str(), "store_full");
    assert!(error.message().contains("at most 67108864"), "{error}");
    assert_eq!(fs::metadata(&place.file).unwrap().len(), before);
    assert!(store.delete_token(id(1)).await.unwrap());
    store.save_token(&full_of("y")).await.unwrap();
}

/// The application looks up host names, reads files and more on these threads.
#[test]
fn the_store_works_while_the_threads_of_the_runtime_are_all_taken() {
    let place = Place::new();
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    let runtime = runtime
        .enable_time()
        .max_blocking_threads(1)
        .build()
        .unwrap();
    let (done, wait) = std::sync::mpsc::channel::<()>();
    runtime.block_on(async {
        let taken = tokio::task::spawn_blocking(move || wait.recv());
        let work = async {
            let store = place.open().await;
            store.save_token(&token_of("a")).await.unwrap();
            let key = zoho_oauth::store::CoordinationKey::record(id(1));
            let coordination = store.coordination().unwrap();
            let permit = coordination.try_acquire(&key).await.unwrap().unwrap();
            permit.memo().await.unwrap();
            assert_eq!(store.get_tokens().await.unwrap().len(), 1);
        };
        tokio::time::timeout(Duration::from_mins(1), work)
            .await
            .unwrap();
        done.send(()).unwrap();
        taken.await.unwrap().unwrap();
    });
}

#[tokio::test]
async fn opening_and_reading_make_no_side_files() {
    let place = Place::new();
    let names = || {
        let entries = fs::read_dir(place.folder.path()).unwrap();
        let names = entries.map(|entry| entry.unwrap().file_name());
        names.collect::<Vec<_>>()
    };
    assert!(
        FileStore::open_read_only(&place.file)
            .await
            .unwrap()
            .is_none()
    );
    assert_eq!(names(), [""; 0]);
    let store = place.open().await;
    assert_eq!(place.text().lines().count(), 1);
    store.get_tokens().await.unwrap();
    store
        .find_token(&TokenQuery::user_name(user("a")))
        .await
        .unwrap();
    store.inventory().await.unwrap();
    drop(place.open().await);
    assert_eq!(names(), [FileStore::DEFAULT_NAME]);
    store.save_token(&token_of("a")).await.unwrap();
    assert!(place.side().exists());
}

#[tokio::test]
async fn a_file_that_is_only_read_stays_as_it_is() {
    let place = Place::with(format!("{HEADER}{ROW}x,u,c,s,r,a,g,5,,\r\n"));
    let before = place.text();
    let store = FileStore::open_read_only(&place.file)
        .await
        .unwrap()
        .unwrap();
    assert_eq!(ids(&store.get_tokens().await.unwrap()), [1, 2]);
    assert!(store.find_token_by_id(id(2)).await.unwrap().is_some());
    let query = TokenQuery::user_name(user("hunter2"));
    assert!(store.find_token(&query).await.unwrap().is_some());
    assert_eq!(store.inventory().await.unwrap().unwrap().records, 2);
    assert!(store.coordination().is_none());
    let denied = [
        code(store.save_token(&token_of("a")).await),
        code(store.delete_token(id(1)).await),
        code(store.delete_tokens().await),
    ];
    assert_eq!(denied, ["store_permission"; 3]);
    let error = store.delete_token(id(1)).await.unwrap_err();
    assert!(
        error.message().ends_with("was opened for reading only"),
        "{error}"
    );
    assert_eq!(place.text(), before);
    assert_eq!(fs::read_dir(place.folder.path()).unwrap().count(), 1);
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
    #[cfg(unix)]
    {
        // To open a pipe would wait for its other end, and to read the device would never end.
        let pipe = place.folder.path().join("pipe");
        let made = std::process::Command::new("mkfifo").arg(&pipe).status();
        assert!(made.unwrap().success());
        for path in [pipe, "/dev/zero".into()] {
            assert_eq!(code(FileStore::open(&path).await), "store_foreign");
            assert_eq!(
                code(FileStore::open_read_only(&path).await),
                "store_foreign"
            );
        }
    }
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
    fs::create_dir(place.side()).unwrap();
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
    store.save_token(&token_of("first")).await.unwrap();
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

    use crate::child::{NOBODY, place_of_child, program, run_child};

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().mode() & 0o777
    }

    fn set_mode(path: &Path, mode: u32) {
        fs::set_permissions(path, PermissionsExt::from_mode(mode)).unwrap();
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

        let mut command = Command::new(program(place.path()));
        if fs::metadata(place.path()).unwrap().uid() == 0 {
            command.uid(NOBODY).gid(NOBODY);
        }
        let test = "file_store::faults::unix::what_this_user_may_not_do_is_said";
        run_child(command, test, place.path());
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

    /// A file of 200 MB cost 1.5 GB to read.
    #[cfg(target_os = "linux")]
    #[test]
    fn memory_stays_near_the_size_of_the_file() {
        if let Some(place) = place_of_child() {
            runtime().block_on(measured(&place));
            return;
        }
        let place = Place::new();
        let row = |number: u64| {
            let mut row = full_of(&format!("{number:0>40}"));
            row.id = Some(id(number));
            let fields = row.expose_fields().map(Option::unwrap_or_default);
            fields.join(",") + "\n"
        };
        let rows: String = (1..=50_000).map(row).collect();
        fs::write(&place.file, HEADER.to_owned() + &rows).unwrap();
        let command = Command::new(std::env::current_exe().unwrap());
        let test = "file_store::faults::unix::memory_stays_near_the_size_of_the_file";
        run_child(command, test, &place.file);
    }

    #[cfg(target_os = "linux")]
    async fn measured(path: &Path) {
        /// The most memory that this process had so far, in bytes.
        fn most() -> u64 {
            let status = fs::read_to_string("/proc/self/status").unwrap();
            let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
            let number = line.unwrap().trim().trim_end_matches(" kB");
            number.parse::<u64>().unwrap() * 1024
        }
        let size = fs::metadata(path).unwrap().len();
        let before = most();
        let store = FileStore::open(path).await.unwrap();
        let query = TokenQuery::user_name(user(&format!("{:0>40}", 49_999)));
        assert!(store.find_token(&query).await.unwrap().is_some());
        assert!(store.find_token_by_id(id(50_000)).await.unwrap().is_some());
        let page = store.get_tokens_page(Some(id(25_000)), 100).await.unwrap();
        assert_eq!(page.len(), 100);
        let reading = most() - before;
        assert!(
            reading > size,
            "{reading} bytes for {size}: nothing was measured"
        );
        assert!(reading < size * 5 / 2, "{reading} bytes to read {size}");
        store.save_token(&token_of("new")).await.unwrap();
        let writing = most() - before;
        assert!(writing < size * 5, "{writing} bytes to write {size}");
    }

    #[tokio::test]
    async fn a_file_with_another_name_is_refused_unless_that_is_a_backup() {
        let place = Place::new();
        let store = place.open().await;
        store.save_token(&token_of("a")).await.unwrap();
        let backup = place.folder.path().join("backup");
        fs::hard_link(&place.file, &backup).unwrap();
        for name in [&place.file, &backup] {
            let error = FileStore::open(name).await.unwrap_err();
            assert_eq!(error.code().as_str(), "store_aliased");
            assert!(
                error.message().ends_with("has 2 names (hard links)"),
                "{error}"
            );
            assert!(error.remedy().contains("one name"), "{error}");
            // To read it is no harm.
            let read = FileStore::open_read_only(name).await.unwrap().unwrap();
            assert_eq!(read.get_tokens().await.unwrap().len(), 1);
        }
        assert!(!place.folder.path().join("backup.state").exists());
        let before = place.text();
        let builder = FileStore::builder(&place.file).allow_hard_links();
        let store = builder.open().await.unwrap();
        store.save_token(&token_of("b")).await.unwrap();
        assert_eq!(store.get_tokens().await.unwrap().len(), 2);
        // A write puts a new file under its name; the backup keeps the old one.
        assert_eq!(fs::read_to_string(&backup).unwrap(), before);
        drop(place.open().await);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_file_that_is_a_mount_point_can_only_be_read() {
        let test = "file_store::faults::unix::a_file_that_is_a_mount_point_can_only_be_read";
        if let Some(place) = place_of_child() {
            runtime().block_on(mounted(&place));
            return;
        }
        let place = Place::new();
        let mount = place.folder.path().join("a mount\\point");
        fs::write(&place.file, format!("{HEADER}{ROW}")).unwrap();
        fs::write(&mount, "").unwrap();
        run_child(crate::child::with_mount(&place.file, &mount), test, &mount);
        assert_eq!(fs::read_dir(place.folder.path()).unwrap().count(), 2);
    }

    #[cfg(target_os = "linux")]
    async fn mounted(mount: &Path) {
        for builder in [
            FileStore::builder(mount),
            FileStore::builder(mount).allow_hard_links(),
        ] {
            let error = builder.open().await.unwrap_err();
            assert_eq!(error.code().as_str(), "store_aliased");
            assert!(error.message().contains("is a mount point"), "{error}");
        }
        let store = FileStore::open_read_only(mount).await.unwrap().unwrap();
        assert_eq!(store.get_tokens().await.unwrap().len(), 1);
        // Why: nothing can be put in its place.
        let other = mount.with_file_name("other");
        fs::write(&other, "").unwrap();
        let error = fs::rename(&other, mount).unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::ResourceBusy);
        fs::remove_file(other).unwrap();
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
        let test = "file_store::faults::unix::a_full_disk_leaves_the_old_file_and_nothing_else";
        run_child(command, test, &place.file);
        assert_eq!(
            place.text(),
            before + "2,small,1000.CLIENT,,1000.refresh.small,,,,,\n"
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
