//! Tables of nine columns, as older official SDKs made them.

use std::path::Path;

use rusqlite::Connection;
use zoho_oauth::{ClientId, ErrorCode, SqliteStore, TokenStore};

use super::{SAMPLE_TABLE, by_user, id, ids, place, token};

/// Nine columns: no `api_domain`.
fn nine_columns(user: &str) -> String {
    let table = SAMPLE_TABLE.replace(", api_domain varchar(255)", "");
    table
        .replace("user_name", user)
        .replace("varchar(10)", "varchar(255)")
}

fn older(path: &Path, user: &str, ids: &[&str]) -> Connection {
    let raw = Connection::open(path).unwrap();
    raw.execute_batch(&nine_columns(user)).unwrap();
    for id in ids {
        insert(&raw, user, id);
    }
    raw
}

/// What the older SDK does: it names its nine columns.
fn insert(raw: &Connection, user: &str, id: &str) {
    let sql = format!(
        "INSERT INTO oauthtoken (id, {user}, client_id, client_secret, refresh_token, access_token, \
        grant_token, expiry_time, redirect_url) VALUES (?1, ?1 || '@x', 'c', 's', 'r' || ?1, 'a', \
        NULL, '1795372876984', '')"
    );
    raw.execute(&sql, [id]).unwrap();
}

fn text(raw: &Connection, sql: &str) -> String {
    raw.query_row(sql, [], |row| row.get(0)).unwrap()
}

#[tokio::test]
async fn a_table_of_nine_columns_is_used() {
    for user in ["user_name", "user_mail"] {
        let (_folder, path) = place();
        let raw = older(&path, user, &["1", "2", "10"]);
        let store = SqliteStore::open(&path).unwrap();
        assert_eq!(ids(&store).await, [1, 2, 10]);
        let mut two = store.find_token(&by_user("2@x")).await.unwrap().unwrap();
        assert_eq!((two.id, two.api_domain.as_deref()), (Some(id(2)), None));
        two.api_domain = Some("https://www.zohoapis.eu".into());
        assert_eq!(store.save_token(&two).await.unwrap(), id(2));
        assert_eq!(store.find_token_by_id(id(2)).await.unwrap(), Some(two));
        let new = token("new");
        assert_eq!(store.save_token(&new).await.unwrap(), id(11));

        // The older SDK goes on: it reads what we wrote, and we read what it writes.
        let sql = format!("SELECT {user} || access_token FROM oauthtoken WHERE id = '11'");
        assert_eq!(text(&raw, &sql), "new1000.a.new");
        insert(&raw, user, "12");
        let found = store.find_token(&by_user("12@x")).await.unwrap().unwrap();
        assert_eq!(found.id, Some(id(12)));
        drop(store);
        let store = SqliteStore::open(&path).unwrap();
        assert_eq!(ids(&store).await, [1, 2, 10, 11, 12]);
        let found = store.find_token(&by_user("new")).await.unwrap().unwrap();
        assert_eq!(found.api_domain, new.api_domain);
        assert!(store.delete_token(id(12)).await.unwrap());
        assert_eq!(store.save_token(&token("last")).await.unwrap(), id(13));
    }
}

#[tokio::test]
async fn ids_of_older_sdks_become_numbers() {
    for user in ["user_name", "user_mail"] {
        let (_folder, path) = place();
        let raw = older(
            &path,
            user,
            &["python_u1_EU_9f3c", "7", "java_u2_US_0001", "05"],
        );
        let read_only = SqliteStore::builder()
            .open_read_only(&path)
            .unwrap()
            .unwrap();
        let seen = read_only.get_tokens().await.unwrap();
        drop(read_only);
        assert_eq!(
            text(
                &raw,
                "SELECT group_concat(id) FROM (SELECT id FROM oauthtoken ORDER BY rowid)"
            ),
            "python_u1_EU_9f3c,7,java_u2_US_0001,05",
            "reading changes nothing"
        );

        let store = SqliteStore::open(&path).unwrap();
        assert_eq!(ids(&store).await, [7, 8, 10, 11]);
        assert_eq!(
            store.get_tokens().await.unwrap(),
            seen,
            "the same as before the migration"
        );
        let found = store
            .find_token(&by_user("python_u1_EU_9f3c@x"))
            .await
            .unwrap()
            .unwrap();
        assert_eq!(found.id, Some(id(8)));
        assert_eq!(
            found.refresh_token.unwrap().expose_secret(),
            "rpython_u1_EU_9f3c"
        );
        let again = store.find_token_by_id(id(8)).await.unwrap();
        assert_eq!(again.unwrap().client_id, ClientId::new("c").ok());
        assert_eq!(store.save_token(&token("new")).await.unwrap(), id(12));
        let inventory = store.inventory().await.unwrap().unwrap();
        assert_eq!((inventory.records, inventory.unreadable.len()), (5, 0));
    }
}

/// A table takes ids of an older SDK at each start, also once it has today's columns.
#[tokio::test]
async fn an_older_sdk_that_goes_on_is_taken_in_at_the_next_start() {
    for user in ["user_mail", "user_name"] {
        let (_folder, path) = place();
        let raw = older(&path, user, &["1"]);
        let store = SqliteStore::open(&path).unwrap();
        insert(&raw, user, "python_u9_EU_1");
        assert_eq!(ids(&store).await, [1]);
        drop(store);
        let store = SqliteStore::open(&path).unwrap();
        assert_eq!(ids(&store).await, [1, 3], "{user}");
    }
}

/// A program that died in a transaction leaves a journal, without which the database holds what was
/// never committed.
#[tokio::test]
async fn a_database_with_a_journal_to_take_back_is_not_read_without_it() {
    let (folder, path) = place();
    let raw = older(&path, "user_name", &["1"]);
    for number in 2..200 {
        insert(&raw, "user_name", &number.to_string());
    }
    let shrink = "PRAGMA journal_mode = DELETE; PRAGMA cache_size = 1; PRAGMA cache_spill = 1; \
        BEGIN; UPDATE oauthtoken SET access_token = hex(zeroblob(2000))";
    raw.execute_batch(shrink).unwrap();
    let name = |suffix: &str| path.file_name().unwrap().to_str().unwrap().to_owned() + suffix;
    let dead = folder.path().join("dead");
    std::fs::create_dir(&dead).unwrap();
    for suffix in ["", "-journal"] {
        let name = name(suffix);
        std::fs::copy(folder.path().join(&name), dead.join(&name)).unwrap();
    }
    let opened = SqliteStore::builder().open_read_only(dead.join(name("")));
    let error = match opened {
        Ok(store) => store.unwrap().get_tokens().await.map(drop).unwrap_err(),
        Err(error) => error,
    };
    assert_eq!(error.code(), ErrorCode::StorePermission, "{error}");
}

#[tokio::test]
async fn a_table_of_nine_columns_that_is_only_read_stays_as_it_is() {
    for user in ["user_name", "user_mail"] {
        let (folder, path) = place();
        drop(older(&path, user, &["1", "2"]));
        let before = std::fs::read(&path).unwrap();
        let store = SqliteStore::builder()
            .open_read_only(&path)
            .unwrap()
            .unwrap();
        assert_eq!(ids(&store).await, [1, 2]);
        let found = store.find_token(&by_user("2@x")).await.unwrap().unwrap();
        assert_eq!((found.id, found.api_domain), (Some(id(2)), None));
        let page = store.get_tokens_page(Some(id(1)), 5).await.unwrap();
        assert_eq!(page.len(), 1);
        assert_eq!(store.inventory().await.unwrap().unwrap().records, 2);
        drop(store);
        assert_eq!(std::fs::read(&path).unwrap(), before);
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    }
}
