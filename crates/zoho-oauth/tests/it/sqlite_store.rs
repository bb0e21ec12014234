//! `SqliteStore` through its public face, beside other users of the same file.

#![expect(clippy::unwrap_used, reason = "in a test a panic is the report")]

mod damage;
mod meddling;
mod nulls;
mod older;
mod rules;
mod sharing;

use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::Connection;
use tempfile::TempDir;
use zoho_oauth::{
    AccessToken, ClientId, ClientSecret, ErrorCode, OAuthToken, SqliteStore, Timestamp, TokenId,
    TokenQuery, TokenStore, UserName,
};

#[cfg(unix)]
use crate::support::Log;
use crate::support::with_field;

/// The statement of Zoho's sample for SQLite.
const SAMPLE_TABLE: &str = "CREATE TABLE oauthtoken (id varchar(10) NOT NULL PRIMARY KEY, \
    user_name varchar(255), client_id varchar(255), client_secret varchar(255), \
    refresh_token varchar(255), access_token varchar(255), grant_token varchar(255), \
    expiry_time varchar(20), redirect_url varchar(255), api_domain varchar(255))";

const SAMPLE_INSERT: &str = "INSERT INTO oauthtoken (id, user_name, client_id, client_secret, \
    refresh_token, access_token, grant_token, expiry_time, redirect_url, api_domain) \
    VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)";

fn user(name: &str) -> UserName {
    with_field(&OAuthToken::new(), "user_name", name)
        .user_name
        .unwrap()
}

fn id(number: u64) -> TokenId {
    TokenId::new(number).unwrap()
}

fn by_user(name: &str) -> TokenQuery {
    TokenQuery::user_name(user(name))
}

/// A record with tokens that carry the user's name.
fn token(name: &str) -> OAuthToken {
    let mut token = OAuthToken::new();
    token.user_name = Some(user(name));
    token.client_id = Some(ClientId::new("1000.CLIENT").unwrap());
    token.client_secret = Some(ClientSecret::new("secret").unwrap());
    token.expiry_time = Some(Timestamp::from_millis(1_795_372_876_984));
    token.api_domain = Some("https://www.zohoapis.eu".into());
    let token = with_field(&token, "refresh_token", &format!("1000.r.{name}"));
    with_field(&token, "access_token", &format!("1000.a.{name}"))
}

/// A folder with room for a database.
fn place() -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(SqliteStore::DEFAULT_FILE_NAME);
    (folder, path)
}

/// A database as the sample leaves it, with rows for these ids.
fn sample(path: &Path, ids: &[&str]) -> Connection {
    let connection = Connection::open(path).unwrap();
    connection.execute_batch(SAMPLE_TABLE).unwrap();
    for id in ids {
        sample_insert(&connection, id);
    }
    connection
}

fn sample_insert(connection: &Connection, id: &str) {
    let name = format!("user {id}");
    let access = format!("a{id}");
    // The sample writes what it does not know as NULL or as ''.
    let row = rusqlite::params![
        id,
        name,
        "c",
        "s",
        "r",
        access,
        None::<String>,
        "1795372876984",
        "",
        "d"
    ];
    connection.execute(SAMPLE_INSERT, row).unwrap();
}

async fn ids(store: &SqliteStore) -> Vec<u64> {
    let rows = store.get_tokens().await.unwrap();
    rows.iter().map(|row| row.id.unwrap().get()).collect()
}

fn code<T: std::fmt::Debug>(result: zoho_oauth::Result<T>) -> ErrorCode {
    result.unwrap_err().code()
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    runtime.block_on(future)
}

fn with_timeout(milliseconds: u64) -> zoho_oauth::store::sqlite::SqliteStoreBuilder {
    SqliteStore::builder().busy_timeout(Duration::from_millis(milliseconds))
}

// ---- the file

#[tokio::test]
async fn a_database_that_is_only_read_stays_as_it_is() {
    let (folder, path) = place();
    let read_only = || SqliteStore::builder().open_read_only(&path);
    assert!(read_only().unwrap().is_none());
    std::fs::write(&path, "").unwrap();
    assert!(read_only().unwrap().is_none());
    let other = SqliteStore::builder().table("other");
    drop(sample(&path, &["1", "2"]));
    assert!(other.open_read_only(&path).unwrap().is_none());
    let before = std::fs::read(&path).unwrap();
    let mut permissions = path.metadata().unwrap().permissions();
    permissions.set_readonly(true);
    std::fs::set_permissions(&path, permissions).unwrap();

    let store = read_only().unwrap().unwrap();
    assert_eq!(ids(&store).await, [1, 2]);
    let found = store.find_token(&by_user("user 2")).await.unwrap();
    assert_eq!(found.and_then(|token| token.id), Some(id(2)));
    assert!(store.find_token_by_id(id(1)).await.unwrap().is_some());
    let page = store.get_tokens_page(Some(id(1)), 9).await.unwrap();
    assert_eq!(page.len(), 1);
    assert!(store.coordination().is_none());
    let denied = ErrorCode::StorePermission;
    assert_eq!(code(store.save_token(&token("ann")).await), denied);
    assert_eq!(code(store.delete_token(id(1)).await), denied);
    assert_eq!(code(store.delete_tokens().await), denied);
    drop(store);
    assert_eq!(std::fs::read(&path).unwrap(), before);
    let files = folder.path().read_dir().unwrap().count();
    assert_eq!(files, 1, "nothing was made beside it");

    std::fs::remove_file(&path).unwrap();
    std::fs::write(&path, "no database, but as long as one. ".repeat(99)).unwrap();
    assert_eq!(code(read_only()), ErrorCode::StoreForeign);
    let folder = SqliteStore::builder().open_read_only(folder.path());
    assert_eq!(code(folder), ErrorCode::StoreForeign);
}

#[tokio::test]
async fn a_database_in_use_can_be_read() {
    let (_folder, path) = place();
    let writing = SqliteStore::open(&path).unwrap();
    let ann = writing.save_token(&token("ann")).await.unwrap();
    let reading = SqliteStore::builder().open_read_only(&path);
    let reading = reading.unwrap().unwrap();
    assert_eq!(ids(&reading).await, [ann.get()]);
    let bob = writing.save_token(&token("bob")).await.unwrap();
    assert_eq!(ids(&reading).await, [ann.get(), bob.get()]);
}

#[tokio::test]
async fn everything_is_there_after_reopening() {
    let (_folder, path) = place();
    let store = SqliteStore::open(&path).unwrap();
    let saved = store.save_token(&token("ann")).await.unwrap();
    assert!(path.with_extension("db-wal").exists());
    drop(store);
    // Closing empties the write-ahead log into the file.
    assert!(!path.with_extension("db-wal").exists());
    let store = SqliteStore::open(&path).unwrap();
    let found = store.find_token(&by_user("ann")).await.unwrap().unwrap();
    let mut expected = token("ann");
    expected.id = Some(saved);
    assert_eq!(found, expected);
    assert_eq!(store.find_token_by_id(saved).await.unwrap(), Some(expected));
    assert_eq!(store.path(), Some(&*path.canonicalize().unwrap()));
}

#[tokio::test]
async fn a_database_of_the_sample_is_used_as_it_is() {
    let (_folder, path) = place();
    let raw = sample(&path, &["9", "10", "99", "100"]);
    let store = SqliteStore::open(&path).unwrap();
    assert_eq!(ids(&store).await, [9, 10, 99, 100]);
    let found = store
        .find_token(&by_user("user 10"))
        .await
        .unwrap()
        .unwrap();
    assert_eq!(found.grant_token, None);
    assert_eq!(found.redirect_url, None);
    let expiry = Timestamp::from_millis(1_795_372_876_984);
    assert_eq!(found.expiry_time, Some(expiry));
    assert_eq!(store.save_token(&token("new")).await.unwrap(), id(101));

    // The sample reads what we wrote, and we read what it writes.
    let read =
        "SELECT id, access_token, expiry_time, grant_token FROM oauthtoken WHERE user_name='new'";
    let row: (String, String, String, Option<String>) = raw
        .query_row(read, [], |row| {
            Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?))
        })
        .unwrap();
    let expected = (
        "101".into(),
        "1000.a.new".into(),
        "1795372876984".into(),
        None,
    );
    assert_eq!(row, expected);
    raw.execute("UPDATE oauthtoken SET access_token='b' WHERE id='101'", [])
        .unwrap();
    sample_insert(&raw, "102");
    let found = store.find_token(&by_user("new")).await.unwrap().unwrap();
    assert_eq!(found.access_token.unwrap().expose_secret(), "b");
    assert_eq!(ids(&store).await, [9, 10, 99, 100, 101, 102]);

    // Nothing but the ten columns in the official table.
    let columns: i64 = raw
        .query_row(
            "SELECT count(*) FROM pragma_table_info('oauthtoken')",
            [],
            |row| row.get(0),
        )
        .unwrap();
    assert_eq!(columns, 10);
}

#[tokio::test]
async fn an_empty_table_and_an_empty_file_are_empty_stores() {
    let (_folder, path) = place();
    drop(sample(&path, &[]));
    for _ in 0..2 {
        let store = SqliteStore::open(&path).unwrap();
        assert_eq!(ids(&store).await, [0; 0]);
        assert_eq!(store.delete_tokens().await.unwrap(), 0);
    }
    let (_folder, path) = place();
    std::fs::write(&path, "").unwrap();
    assert_eq!(ids(&SqliteStore::open(&path).unwrap()).await, [0; 0]);
}

#[tokio::test]
async fn no_id_is_given_twice_whoever_deletes() {
    let (_folder, path) = place();
    let raw = sample(&path, &["3"]);
    let store = SqliteStore::open(&path).unwrap();
    // Inserted and deleted by the sample, while we look the other way.
    sample_insert(&raw, "41");
    raw.execute("DELETE FROM oauthtoken WHERE id='41'", [])
        .unwrap();
    assert_eq!(store.save_token(&token("ann")).await.unwrap(), id(42));
    assert!(store.delete_token(id(42)).await.unwrap());
    assert!(!store.delete_token(id(42)).await.unwrap());
    assert_eq!(store.save_token(&token("bob")).await.unwrap(), id(43));
    assert_eq!(store.delete_tokens().await.unwrap(), 2);
    drop(store);
    let store = SqliteStore::open(&path).unwrap();
    let mut late = token("bob");
    late.id = Some(id(43));
    assert_eq!(
        code(store.save_token(&late).await),
        ErrorCode::RecordDeleted
    );
    assert_eq!(store.save_token(&token("bob")).await.unwrap(), id(44));
    // An id that is none of ours does not use up the numbers.
    sample_insert(&raw, "99999999999999");
    assert_eq!(store.save_token(&token("cy")).await.unwrap(), id(45));
    raw.execute("DELETE FROM oauthtoken", []).unwrap();
    assert_eq!(store.save_token(&token("dan")).await.unwrap(), id(46));
}

#[tokio::test]
async fn a_row_that_cannot_be_read_is_named_and_harms_no_other() {
    for (column, value) in [
        ("id", "one"),
        ("id", "007"),
        ("id", "0"),
        ("expiry_time", "soon-1000.secret"),
    ] {
        let (_folder, path) = place();
        let raw = sample(&path, &["1", "2"]);
        let update = format!("UPDATE oauthtoken SET {column} = ?1 WHERE id = '2'");
        raw.execute(&update, [value]).unwrap();
        let store = SqliteStore::open(&path).unwrap();
        let found = store.find_token(&by_user("user 2")).await;
        let error = found.unwrap_err();
        assert_eq!(error.code(), ErrorCode::StoreDamaged);
        for part in ["`oauthtoken`", "rowid 2", column, "zohooauth.db"] {
            assert!(error.to_string().contains(part), "{error}");
        }
        assert!(!error.to_string().contains("secret"));
        assert_eq!(ids(&store).await, [1]);
        assert!(
            store
                .find_token(&by_user("user 1"))
                .await
                .unwrap()
                .is_some()
        );
        assert!(store.save_token(&token("ann")).await.is_ok());
    }
}

#[tokio::test]
async fn text_that_is_no_text_is_damage() {
    let (_folder, path) = place();
    let raw = sample(&path, &["1"]);
    let store = SqliteStore::open(&path).unwrap();
    for value in ["CAST(x'ff' AS TEXT)", "x'41'"] {
        let update = format!("UPDATE oauthtoken SET client_secret = {value}");
        raw.execute(&update, []).unwrap();
        let found = store.find_token(&by_user("user 1")).await;
        assert_eq!(code(found), ErrorCode::StoreDamaged, "{value}");
    }
}

#[test]
fn what_is_not_ours_is_refused_and_left_untouched() {
    let (folder, path) = place();
    let text = "id,user_name\n".repeat(400);
    std::fs::write(&path, &text).unwrap();
    assert_eq!(code(SqliteStore::open(&path)), ErrorCode::StoreForeign);
    assert_eq!(std::fs::read_to_string(&path).unwrap(), text);
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);

    let lacking = SAMPLE_TABLE.replace("client_id varchar(255), ", "");
    let view = "CREATE TABLE x (id); CREATE VIEW oauthtoken AS SELECT * FROM x";
    let without_rowid = format!("{SAMPLE_TABLE} WITHOUT ROWID");
    for (sql, part) in [
        (&*lacking, "`oauthtoken`"),
        (&lacking, "client_id"),
        (view, "view"),
        (&without_rowid, "no ordinary table"),
    ] {
        let (folder, path) = place();
        Connection::open(&path).unwrap().execute_batch(sql).unwrap();
        let before = std::fs::read(&path).unwrap();
        let error = SqliteStore::open(&path).unwrap_err();
        assert_eq!(error.code(), ErrorCode::StoreForeign);
        assert!(error.to_string().contains(part), "{error}");
        assert_eq!(std::fs::read(&path).unwrap(), before);
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    }
    // Another table beside it is nobody's business.
    let (_folder, path) = place();
    let raw = Connection::open(&path).unwrap();
    raw.execute_batch("CREATE TABLE orders (id)").unwrap();
    assert!(SqliteStore::open(&path).is_ok());
}

#[tokio::test]
async fn a_truncated_database_is_damage() {
    let (_folder, path) = place();
    let store = SqliteStore::open(&path).unwrap();
    for number in 0..50 {
        store
            .save_token(&token(&format!("u{number}")))
            .await
            .unwrap();
    }
    drop(store);
    let whole = std::fs::read(&path).unwrap();
    for length in [whole.len() / 2, 5000, 600] {
        std::fs::write(&path, &whole[..length]).unwrap();
        let opened = SqliteStore::open(&path);
        assert_eq!(code(opened), ErrorCode::StoreDamaged, "{length}");
        assert_eq!(std::fs::read(&path).unwrap(), whole[..length]);
    }
}

#[test]
fn a_folder_and_a_missing_folder_are_told_apart() {
    let (folder, path) = place();
    assert_eq!(
        code(SqliteStore::open(folder.path())),
        ErrorCode::StoreForeign
    );
    let nowhere = path.join("missing").join("t.db");
    let error = SqliteStore::open(&nowhere).unwrap_err();
    assert_eq!(error.code(), ErrorCode::StoreUnavailable);
    assert!(error.to_string().contains("missing"));
    assert_eq!(
        code(SqliteStore::builder().table("a\"; DROP").open(&path)),
        ErrorCode::InvalidInput
    );
    assert!(!path.exists());
}

#[cfg(unix)]
#[tokio::test]
async fn files_are_private_from_the_start() {
    use std::os::unix::fs::PermissionsExt;

    let (folder, path) = place();
    let store = SqliteStore::open(&path).unwrap();
    store.save_token(&token("ann")).await.unwrap();
    let mut names = Vec::new();
    for entry in std::fs::read_dir(folder.path()).unwrap() {
        let entry = entry.unwrap();
        let mode = entry.metadata().unwrap().permissions().mode() & 0o777;
        assert_eq!(mode, 0o600, "{:?}", entry.file_name());
        names.push(entry.file_name().into_string().unwrap());
    }
    names.sort();
    assert_eq!(
        names,
        ["zohooauth.db", "zohooauth.db-shm", "zohooauth.db-wal"]
    );

    drop(store);
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
    let private = SqliteStore::builder().require_private(true);
    let error = private.clone().open(&path).unwrap_err();
    assert_eq!(error.code(), ErrorCode::StorePermission);
    assert!(error.to_string().contains("644"), "{error}");
    // Without asking for it, the file is used, and the log says what to do.
    let log = Log::default();
    let log_copy = log.clone();
    let logging = tracing_subscriber::fmt().with_writer(move || log_copy.clone());
    let store = tracing::subscriber::with_default(logging.finish(), || SqliteStore::open(&path));
    assert_eq!(ids(&store.unwrap()).await, [1]);
    let text = log.text();
    assert_eq!(text.matches("chmod 600").count(), 1, "{text}");
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
    assert!(private.open(&path).is_ok());
}

// ---- values

#[tokio::test]
async fn hostile_values_are_only_values() {
    let (_folder, path) = place();
    let store = SqliteStore::open(&path).unwrap();
    store.save_token(&token("victim")).await.unwrap();
    let hostile = [
        "' OR '1'='1",
        "x'; DROP TABLE oauthtoken; --",
        "a\"b`c\\",
        "user_name",
        "a,b\r\nc",
        "%",
        "_",
        "\u{feff}ünï\u{202e}",
        "Victim",
        " victim",
        "NULL",
        "0",
    ];
    for name in hostile {
        assert_eq!(store.find_token(&by_user(name)).await.unwrap(), None);
        let mut saved = token(name);
        saved.redirect_url = Some(name.into());
        saved.id = Some(store.save_token(&saved).await.unwrap());
        let found = store.find_token(&by_user(name)).await.unwrap();
        assert_eq!(found.as_ref(), Some(&saved));
        let access = TokenQuery::access_token(saved.access_token.clone().unwrap());
        assert_eq!(
            store.find_token(&access).await.unwrap().as_ref(),
            Some(&saved)
        );
    }
    assert_eq!(ids(&store).await.len(), hostile.len() + 1);
    let huge = "x".repeat(1_000_000);
    let mut big = token("victim");
    big.access_token = Some(AccessToken::new(&*huge).unwrap());
    store.save_token(&big).await.unwrap();
    let found = store.find_token(&by_user("victim")).await.unwrap().unwrap();
    assert_eq!(found.access_token.unwrap().expose_secret(), huge);
    for text in ["a\0b", "\0"] {
        let refused = store.save_token(&token(text)).await;
        assert_eq!(code(refused), ErrorCode::InvalidInput);
    }
}

#[tokio::test]
async fn comparisons_are_exact_even_in_a_table_that_ignores_case() {
    let (_folder, path) = place();
    let raw = Connection::open(&path).unwrap();
    let table = SAMPLE_TABLE.replace("varchar(255)", "varchar(255) COLLATE NOCASE");
    raw.execute_batch(&table).unwrap();
    let store = SqliteStore::open(&path).unwrap();
    store.save_token(&token("Ann")).await.unwrap();
    assert_eq!(store.find_token(&by_user("ann")).await.unwrap(), None);
    assert_eq!(store.save_token(&token("ann")).await.unwrap(), id(2));
    let found = store.find_token(&by_user("ann")).await.unwrap().unwrap();
    assert_eq!(found.id, Some(id(2)));
}

#[tokio::test]
async fn no_error_carries_a_secret_nor_do_its_causes() {
    let (_folder, path) = place();
    let raw = Connection::open(&path).unwrap();
    let check = "access_token varchar(255) CHECK (length(access_token) < 5)";
    let table = SAMPLE_TABLE.replace("access_token varchar(255)", check);
    raw.execute_batch(&table).unwrap();
    let store = SqliteStore::open(&path).unwrap();
    let error = store.save_token(&token("TopSecret")).await.unwrap_err();
    assert_eq!(error.code(), ErrorCode::StoreForeign);
    let mut texts = vec![error.to_string(), format!("{error:?}")];
    let mut cause: Option<&dyn std::error::Error> = Some(&error);
    while let Some(error) = cause {
        texts.push(format!("{error} {error:?}"));
        cause = error.source();
    }
    assert!(texts.len() > 3, "there is a cause");
    for text in texts {
        assert!(
            !text.contains("TopSecret") && !text.contains("access_token"),
            "{text}"
        );
    }
    assert!(!format!("{store:?}").contains("TopSecret"));
}

#[tokio::test]
async fn pages_go_through_all_records_in_order() {
    let store = SqliteStore::in_memory().unwrap();
    for number in 0..25 {
        store
            .save_token(&token(&format!("u{number}")))
            .await
            .unwrap();
    }
    let (mut seen, mut after) = (Vec::new(), None);
    loop {
        let page = store.get_tokens_page(after, 10).await.unwrap();
        after = page.last().and_then(|row| row.id).or(after);
        seen.extend(page.iter().map(|row| row.id.unwrap().get()));
        if page.len() < 10 {
            break;
        }
    }
    assert_eq!(seen, (1..=25).collect::<Vec<_>>());
}

#[tokio::test]
async fn tables_of_one_database_are_apart() {
    let (_folder, path) = place();
    let one = SqliteStore::open(&path).unwrap();
    let other = SqliteStore::builder().table("order").open(&path).unwrap();
    let same = SqliteStore::builder()
        .table("OAuthToken")
        .open(&path)
        .unwrap();
    one.save_token(&token("ann")).await.unwrap();
    assert_eq!(ids(&other).await, [0; 0]);
    assert_eq!(ids(&same).await, [1]);
    assert_eq!(other.save_token(&token("bob")).await.unwrap(), id(1));
    assert!(same.delete_token(id(1)).await.unwrap());
    assert_eq!(same.save_token(&token("ann")).await.unwrap(), id(2));
    assert_eq!(other.save_token(&token("cy")).await.unwrap(), id(2));
    // No name is in the way of what lies beside the tables.
    for name in ["highest", "memo", "oauthtoken_by", "a", "a_user"] {
        let store = SqliteStore::builder().table(name).open(&path).unwrap();
        assert_eq!(store.save_token(&token("dan")).await.unwrap(), id(1));
    }
}

#[tokio::test]
async fn any_time_can_be_waited() {
    let (_folder, path) = place();
    let builder = SqliteStore::builder().busy_timeout(Duration::MAX);
    let store = builder.open(&path).unwrap();
    assert_eq!(store.save_token(&token("ann")).await.unwrap(), id(1));
}

/// Which of the two is meant? Nobody can know, and a guess would overwrite somebody's login.
#[tokio::test]
async fn a_write_never_reaches_a_row_that_only_looks_like_its_own() {
    // What SQLite takes for the same number, and the id itself.
    for of_bob in ["05", "5x", " 5", "5"] {
        let (_folder, path) = place();
        let raw = Connection::open(&path).unwrap();
        let table = SAMPLE_TABLE.replace(" NOT NULL PRIMARY KEY", "");
        raw.execute_batch(&table).unwrap();
        for id in [of_bob, "5"] {
            sample_insert(&raw, id);
        }
        let rename = "UPDATE oauthtoken SET user_name = ?1, access_token = ?1 WHERE rowid = ?2";
        raw.execute(rename, rusqlite::params!["bob", 1]).unwrap();
        raw.execute(rename, rusqlite::params!["ann", 2]).unwrap();
        let access_tokens = || -> Vec<String> {
            let sql = "SELECT access_token FROM oauthtoken ORDER BY rowid";
            let mut statement = raw.prepare(sql).unwrap();
            let rows = statement.query_map([], |row| row.get(0)).unwrap();
            rows.map(Result::unwrap).collect()
        };

        let store = SqliteStore::open(&path).unwrap();
        let mut new = token("ann");
        new.client_id = Some(ClientId::new("c").unwrap());
        new.access_token = Some(AccessToken::new("new").unwrap());
        let saved = store.save_token(&new).await;
        if of_bob == "5" {
            assert_eq!(code(saved), ErrorCode::StoreDamaged);
            let deleted = store.delete_token(id(5)).await;
            assert_eq!(code(deleted), ErrorCode::StoreDamaged);
            assert_eq!(access_tokens(), ["bob", "ann"]);
        } else {
            assert_eq!(saved.unwrap(), id(5), "{of_bob:?}");
            assert_eq!(access_tokens(), ["bob", "new"], "{of_bob:?}");
            let found = store.find_token_by_id(id(5)).await.unwrap().unwrap();
            assert_eq!(found.access_token, new.access_token);
            assert!(store.delete_token(id(5)).await.unwrap());
            assert_eq!(access_tokens(), ["bob"], "{of_bob:?}");
            let found = store.find_token_by_id(id(5)).await;
            assert_eq!(code(found), ErrorCode::StoreDamaged);
        }
    }
}

/// Pages leave out what the whole list leaves out.
#[tokio::test]
async fn pages_pass_over_no_record_that_can_be_read() {
    let table = SAMPLE_TABLE.replace(" NOT NULL PRIMARY KEY", "");
    for (extra, expected) in [
        (None, vec![1, 2, 3, 4]),
        (Some("3"), vec![1, 2, 4]),
        (Some("-99999999999999999999"), vec![1, 2, 3, 4]),
    ] {
        let (_folder, path) = place();
        let raw = Connection::open(&path).unwrap();
        raw.execute_batch(&table).unwrap();
        for id in ["1", "2", "3", "4"] {
            sample_insert(&raw, id);
        }
        sample_insert(&raw, "5");
        raw.execute("UPDATE oauthtoken SET id = ?1 WHERE id = '5'", [extra])
            .unwrap();
        let store = SqliteStore::open(&path).unwrap();
        let (mut seen, mut after) = (Vec::new(), None);
        loop {
            let page = store.get_tokens_page(after, 3).await.unwrap();
            seen.extend(page.iter().map(|row| row.id.unwrap().get()));
            if page.len() < 3 {
                break;
            }
            after = page.last().and_then(|row| row.id);
        }
        assert_eq!(seen, expected, "{extra:?}");
        assert_eq!(ids(&store).await, expected, "{extra:?}");
    }
}

/// Somebody puts a table aside: what belonged to it goes with it under its old name.
#[tokio::test]
async fn a_table_that_takes_the_place_of_another_is_whole() {
    let (_folder, path) = place();
    let store = SqliteStore::open(&path).unwrap();
    store.save_token(&token("ann")).await.unwrap();
    drop(store);
    let raw = Connection::open(&path).unwrap();
    raw.execute_batch("ALTER TABLE oauthtoken RENAME TO before")
        .unwrap();
    let companions = |table: &str| {
        let sql = "SELECT count(*) FROM sqlite_schema WHERE tbl_name = ?1 AND name LIKE 'zoho%'";
        raw.query_row(sql, [table], |row| row.get::<_, u32>(0))
            .unwrap()
    };
    assert_eq!(companions("before"), 6);

    let store = SqliteStore::open(&path).unwrap();
    assert_eq!(companions("oauthtoken"), 6);
    assert_eq!(companions("before"), 0);
    let second = store.save_token(&token("ann")).await.unwrap();
    raw.execute("DELETE FROM oauthtoken", []).unwrap();
    let mut late = token("ann");
    late.id = Some(second);
    let saved = store.save_token(&late).await;
    assert_eq!(code(saved), ErrorCode::RecordDeleted);
    // What was put aside is nobody's business any more.
    raw.execute("DELETE FROM before", []).unwrap();
}
