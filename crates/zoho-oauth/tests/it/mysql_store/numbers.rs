//! The numbers of the official SDKs and ours: each side can add what it could add alone.

use std::collections::BTreeSet;

use zoho_oauth::TokenStore;

use super::concurrent::{official_number, official_write};
use super::*;

/// What the Java SDK does for a login that it does not know.
async fn java_adds(conn: &mut Conn, name: &str) {
    let number = official_number(conn).await;
    official_write(conn, number, name).await;
}

/// When we add records: so many before theirs, so many after each of theirs.
const TURNS: [(usize, usize); 6] = [(0, 0), (1, 0), (0, 1), (3, 1), (90, 0), (900, 0)];

/// The names that are in the table after official SDKs added up to twelve logins to `start` records
/// of theirs, and whether all of ours are there.
async fn names_left(start: u64, (first, between): (usize, usize)) -> BTreeSet<String> {
    let database = TestDatabase::official().await;
    if start > 0 {
        let sql = format!(
            "INSERT INTO oauthtoken (id, user_name, client_id, access_token) \
            SELECT seq, CONCAT('start-', seq), '1000.THEIRS', CONCAT('1000.a.', seq) \
            FROM seq_1_to_{start}"
        );
        database.run(&sql).await;
    }
    let mut ours = Vec::new();
    let store = if first + between > 0 {
        Some(database.open().await)
    } else {
        None
    };
    let mut add = async |count: usize| {
        for _ in 0..count {
            let token = user(&format!("ours-{}", ours.len()));
            let id = store.as_ref().unwrap().save_token(&token).await.unwrap();
            ours.push(with_id(id, token));
        }
    };
    add(first).await;
    let mut conn = database.connection().await;
    for number in 0..12 {
        java_adds(&mut conn, &format!("theirs-{number}")).await;
        add(between).await;
    }
    conn.disconnect().await.unwrap();
    if let Some(store) = &store {
        let all = store.get_tokens().await.unwrap();
        assert!(ours.iter().all(|token| all.contains(token)), "{start}");
    }
    let names = database.ask("SELECT user_name FROM oauthtoken").await;
    let names = names.into_iter().filter(|name| !name.starts_with("ours"));
    names.collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn official_sdks_can_add_what_they_could_add_without_us() {
    for start in [0, 1, 5, 8, 9, 10, 11, 89, 90, 95, 99, 100, 101] {
        let alone = names_left(start, (0, 0)).await;
        for turns in TURNS {
            if turns.0 == 900 && start > 10 {
                continue;
            }
            let together = names_left(start, turns).await;
            let lost: Vec<_> = alone.difference(&together).collect();
            // They write over their own last one for ever, alone too: which one that is may differ.
            assert!(
                together.len() >= alone.len(),
                "{start} records, {turns:?} of ours: lost {lost:?}"
            );
        }
    }
}
