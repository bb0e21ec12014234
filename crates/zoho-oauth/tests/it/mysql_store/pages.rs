//! Reading everything, and reading it page by page.

use zoho_oauth::TokenStore;

use super::*;

/// Every page after every record, for pages of several sizes.
async fn pages_show(store: &MySqlStore, expected: &[u64]) {
    let ids = |tokens: Vec<OAuthToken>| -> Vec<u64> {
        tokens.iter().map(|token| token.id.unwrap().get()).collect()
    };
    assert_eq!(ids(store.get_tokens().await.unwrap()), expected);
    for limit in [1, 2, 7, 64, 65, 500, 5000] {
        let mut seen: Vec<u64> = Vec::new();
        let mut after = None;
        loop {
            let page = ids(store.get_tokens_page(after, limit).await.unwrap());
            assert!(page.len() <= limit);
            seen.extend(&page);
            after = page.last().map(|&last| id(last));
            // Small pages of all of it would take long.
            if page.len() < limit || (limit < 5 && seen.len() > 40) {
                break;
            }
        }
        assert_eq!(seen, expected[..seen.len()], "pages of {limit}");
        assert!(limit < 5 || seen.len() == expected.len());
    }
    for after in [
        0,
        5,
        9,
        10,
        99,
        100,
        1000,
        999_999_999,
        8_999_999_999,
        9_000_000_001,
    ] {
        let rest: Vec<_> = expected.iter().copied().filter(|&id| id > after).collect();
        let after = (after > 0).then(|| id(after));
        let page = ids(store.get_tokens_page(after, 30).await.unwrap());
        assert_eq!(page, rest[..rest.len().min(30)], "after {after:?}");
    }
    assert!(store.get_tokens_page(None, 0).await.unwrap().is_empty());
}

/// Somebody inserts records with these ids.
async fn insert(database: &TestDatabase, ids: &[u64]) {
    let rows: Vec<_> = ids.iter().map(|id| format!("('{id}', 'u{id}')")).collect();
    let rows = rows.join(", ");
    let sql = format!("INSERT INTO oauthtoken (id, user_name) VALUES {rows}");
    database.run(&sql).await;
}

#[tokio::test]
async fn pages_are_in_the_order_of_numbers_and_leave_out_nothing() {
    for official in [false, true] {
        let database = TestDatabase::new().await;
        if official {
            database.run(OFFICIAL_TABLE).await;
        }
        let store = database.open().await;
        pages_show(&store, &[]).await;
        // One after the other, past 9, 99 and 999.
        let mut ids: Vec<u64> = (1..=1130).collect();
        insert(&database, &ids).await;
        pages_show(&store, &ids).await;
        // Here and there, with long gaps, up to the last one there is.
        let far = [
            1200,
            4711,
            10_000,
            99_999,
            100_000,
            654_321,
            999_999_998,
            1_000_000_000,
            1_000_000_001,
            8_999_999_999,
            9_000_000_000,
            9_000_000_002,
            9_999_999_999,
        ];
        insert(&database, &far).await;
        ids.extend(far);
        pages_show(&store, &ids).await;
        // Few are left of many.
        database
            .run("DELETE FROM oauthtoken WHERE id % 50 AND id > 60")
            .await;
        ids.retain(|id| id % 50 == 0 || *id <= 60);
        pages_show(&store, &ids).await;
    }
}
