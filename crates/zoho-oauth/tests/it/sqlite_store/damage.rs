//! Rows that cannot be read, among rows that can.

use std::collections::BTreeSet;

use rusqlite::Connection;
use zoho_oauth::{ErrorCode, SqliteStore, TokenQuery, TokenStore};

use super::{Log, SAMPLE_TABLE, by_user, code, id, ids, place, sample, sample_insert, token};
use crate::support::all_pages;

/// What makes row 2 unreadable, and what names it.
const DAMAGES: [(&str, &str); 9] = [
    ("id = 'one'", "`id`"),
    ("id = '007'", "`id`"),
    ("id = '0'", "`id`"),
    ("id = ''", "`id`"),
    ("id = 'null'", "`id`"),
    ("expiry_time = 'soon-1000.secret'", "`expiry_time`"),
    ("access_token = CAST(x'ff31' AS TEXT)", "`access_token`"),
    ("client_secret = x'41'", "`client_secret`"),
    (
        "refresh_token = 1.5, refresh_token = CAST(1.5 AS BLOB)",
        "`refresh_token`",
    ),
];

async fn ids_of_pages(store: &SqliteStore, limit: usize) -> Vec<u64> {
    let all = all_pages(store, limit).await;
    all.iter().map(|row| row.id.unwrap().get()).collect()
}

#[tokio::test]
async fn one_bad_row_leaves_the_good_ones_usable() {
    for (damage, column) in DAMAGES {
        for read_only in [false, true] {
            let (_folder, path) = place();
            let raw = sample(&path, &["1", "2", "3", "4", "5"]);
            raw.execute_batch("CREATE TABLE copy AS SELECT * FROM oauthtoken; DELETE FROM oauthtoken WHERE id = '2'")
                .unwrap();
            raw.execute_batch(&format!("UPDATE copy SET {damage} WHERE id = '2'"))
                .unwrap();
            raw.execute_batch(
                "INSERT INTO oauthtoken SELECT * FROM copy WHERE rowid = 2; DROP TABLE copy",
            )
            .unwrap();
            let open = || {
                if read_only {
                    SqliteStore::builder()
                        .open_read_only(&path)
                        .unwrap()
                        .unwrap()
                } else {
                    SqliteStore::open(&path).unwrap()
                }
            };
            let store = open();
            assert_eq!(ids(&store).await, [1, 3, 4, 5], "{damage}");
            for limit in 1..6 {
                assert_eq!(ids_of_pages(&store, limit).await, [1, 3, 4, 5], "{damage}");
            }
            assert_eq!(ids(&open()).await, [1, 3, 4, 5], "{damage}");

            let inventory = store.inventory().await.unwrap().unwrap();
            assert_eq!(inventory.records, 5, "{damage}");
            assert_eq!(inventory.unreadable.len(), 1, "{damage}");
            for part in ["`oauthtoken`", "zohooauth.db", "rowid", column] {
                assert!(inventory.unreadable[0].contains(part), "{inventory:?}");
            }
            assert!(
                !inventory.unreadable[0].contains("secret-"),
                "{inventory:?}"
            );

            assert_eq!(
                code(store.find_token(&by_user("user 2")).await),
                ErrorCode::StoreDamaged
            );
            let found = store.find_token(&by_user("user 3")).await.unwrap();
            assert_eq!(found.and_then(|row| row.id), Some(id(3)));
            if read_only {
                continue;
            }
            // Saving the login of the bad row changes nothing; saving others works.
            let mut same = token("user 2");
            same.client_id = zoho_oauth::ClientId::new("c").ok();
            assert_eq!(code(store.save_token(&same).await), ErrorCode::StoreDamaged);
            let mut other = token("user 3");
            other.client_id = same.client_id.clone();
            assert_eq!(store.save_token(&other).await.unwrap(), id(3));
            assert!(store.save_token(&token("new")).await.unwrap() > id(5));
            let count = raw.query_row("SELECT count(*) FROM oauthtoken", [], |row| row.get(0));
            assert_eq!(count, Ok(6), "{damage}");
        }
    }
}

/// The log names a bad row once in a process, also when it is read through several stores.
#[test]
fn the_log_names_a_bad_row_once() {
    let (_folder, path) = place();
    let raw = sample(&path, &["1", "2", "3"]);
    raw.execute_batch("UPDATE oauthtoken SET expiry_time = 'x' || id WHERE id > '1'")
        .unwrap();
    let log = Log::default();
    let log_copy = log.clone();
    let logging = tracing_subscriber::fmt().with_writer(move || log_copy.clone());
    let read = async {
        for _ in 0..2 {
            let store = SqliteStore::open(&path).unwrap();
            for _ in 0..3 {
                assert_eq!(ids(&store).await, [1]);
                assert_eq!(ids_of_pages(&store, 2).await, [1]);
            }
        }
    };
    tracing::subscriber::with_default(logging.finish(), || super::block_on(read));
    let text = log.text();
    let path = path.display().to_string();
    for rowid in [2, 3] {
        let of_row = |line: &&str| line.contains(&path) && line.contains(&format!("rowid {rowid}"));
        assert_eq!(text.lines().filter(of_row).count(), 1, "{text}");
    }
}

#[tokio::test]
async fn a_bad_nameless_row_of_a_login_stays_where_it_is() {
    let (_folder, path) = place();
    let raw = sample(&path, &["1"]);
    raw.execute_batch(
        "INSERT INTO oauthtoken (id, client_id, refresh_token, expiry_time) \
        VALUES ('2', 'c', 'other', 'soon')",
    )
    .unwrap();
    let store = SqliteStore::open(&path).unwrap();
    let mut ann = token("user 1");
    ann.client_id = zoho_oauth::ClientId::new("c").ok();
    ann.refresh_token = zoho_oauth::RefreshToken::new("other").ok();
    assert_eq!(store.save_token(&ann).await.unwrap(), id(1));
    assert_eq!(ids(&store).await, [1]);
    let inventory = store.inventory().await.unwrap().unwrap();
    assert_eq!((inventory.records, inventory.unreadable.len()), (2, 1));
}

/// Whose login an id is that two rows have, nothing can tell.
#[tokio::test]
async fn two_rows_with_one_id_are_both_left_out() {
    let (_folder, path) = place();
    let raw = Connection::open(&path).unwrap();
    let table = SAMPLE_TABLE.replace(" NOT NULL PRIMARY KEY", "");
    raw.execute_batch(&table).unwrap();
    for id in ["1", "2", "2", "3", "4", "4", "4"] {
        sample_insert(&raw, id);
    }
    let store = SqliteStore::open(&path).unwrap();
    assert_eq!(ids(&store).await, [1, 3]);
    for limit in 1..5 {
        assert_eq!(ids_of_pages(&store, limit).await, [1, 3]);
    }
    let inventory = store.inventory().await.unwrap().unwrap();
    assert_eq!(inventory.records, 7);
    assert_eq!(inventory.unreadable.len(), 5);
    assert!(inventory.unreadable[0].contains("id 2"), "{inventory:?}");
    let mut changed = token("user 3");
    changed.client_id = zoho_oauth::ClientId::new("c").ok();
    assert_eq!(store.save_token(&changed).await.unwrap(), id(3));
}

#[tokio::test]
async fn a_store_that_can_be_read_counts_what_it_holds() {
    let (_folder, path) = place();
    for store in [
        SqliteStore::open(&path).unwrap(),
        SqliteStore::in_memory().unwrap(),
    ] {
        for number in 0..3 {
            assert_eq!(store.inventory().await.unwrap().unwrap().records, number);
            store
                .save_token(&token(&format!("u{number}")))
                .await
                .unwrap();
        }
        let names: BTreeSet<_> = store
            .inventory()
            .await
            .unwrap()
            .unwrap()
            .unreadable
            .into_iter()
            .collect();
        assert!(names.is_empty());
        let query = TokenQuery::user_name(super::user("u1"));
        assert!(store.find_token(&query).await.unwrap().is_some());
    }
}
