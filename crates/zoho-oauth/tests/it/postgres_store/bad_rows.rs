//! Rows that cannot be read.

use zoho_oauth::store::Inventory;
use zoho_oauth::{ClientId, ErrorCode, TokenStore};

use super::support::{Schema, by_user, id, refreshed, token};
use crate::support::all_pages;

#[tokio::test]
async fn a_bad_row_is_left_out_named_and_in_the_way_of_none() {
    let schema = Schema::new().await;
    let store = schema.open().await;
    let mut expected = Vec::new();
    for name in ["a", "b", "c", "d"] {
        let mut saved = token(name);
        saved.id = Some(store.save_token(&saved).await.unwrap());
        expected.push(saved);
    }
    schema
        .run(
            "INSERT INTO oauthtoken (id, user_name, expiry_time) VALUES ('', 'bad-empty', NULL), \
            ('x', 'bad-id', NULL), ('05', 'bad-zero', NULL), ('70', 'bad-time', 'soon'), \
            ('\u{fc}\u{fc}\u{fc}', 'bad-text', NULL), ('77777777777', 'bad-long', NULL)",
        )
        .await;
    assert_eq!(store.get_tokens().await.unwrap(), expected);
    for limit in 1..8 {
        let all = all_pages(&store, limit).await;
        assert_eq!(all, expected, "pages of {limit}");
    }
    let inventory: Inventory = store.inventory().await.unwrap().unwrap();
    assert_eq!((inventory.records, inventory.unreadable.len()), (10, 6));
    let text = inventory.unreadable.join("; ");
    assert!(
        text.contains("record 70: the column `expiry_time`"),
        "{text}"
    );
    assert!(!text.contains("soon"), "{text}");

    for name in ["empty", "id", "zero", "time", "text", "long"] {
        let name = format!("bad-{name}");
        for outcome in [
            store.find_token(&by_user(&name)).await.map(drop),
            store.save_token(&token(&name)).await.map(drop),
        ] {
            let error = outcome.expect_err(&name);
            assert_eq!(error.code(), ErrorCode::StoreDamaged, "{name}: {error}");
        }
    }
    assert_eq!(store.save_token(&refreshed("b", 1)).await.unwrap(), id(2));
    assert!(store.delete_token(id(1)).await.unwrap());
    let count = "SELECT count(*)::text FROM oauthtoken WHERE user_name LIKE 'bad%'";
    assert_eq!(schema.ask(count).await, ["6"]);
    schema.drop().await;
}

#[tokio::test]
async fn a_bad_row_is_in_the_way_of_its_own_login_alone() {
    let schema = Schema::new().await;
    let store = schema.open().await;
    schema
        .run(
            "INSERT INTO oauthtoken (id, user_name, client_id, refresh_token, access_token, \
            expiry_time) VALUES ('1', 'ann', '1000.OTHER', '1000.r.ann', '1000.x', 'soon'), \
            ('2', 'bob', '1000.CLIENT', '1000.r.bob', '1000.b', 'soon'), \
            ('3', 'bob', '1000.CLIENT', '1000.r.bob', '1000.b', NULL)",
        )
        .await;
    // The same user under another client, who logs in and is renewed.
    let ann_id = store.save_token(&token("ann")).await.unwrap();
    let mut ann = refreshed("ann", 1);
    assert_eq!(store.save_token(&ann).await.unwrap(), ann_id);
    let found = store.find_token(&by_user("ann")).await.unwrap();
    assert_eq!(found.unwrap().id, Some(ann_id));
    ann.client_id = ClientId::new("1000.OTHER").ok();
    let error = store.save_token(&ann).await.unwrap_err();
    assert_eq!(error.code(), ErrorCode::StoreDamaged, "{error}");
    let other = by_user("ann").with_client(ann.client_id.unwrap());
    let error = store.find_token(&other).await.unwrap_err();
    assert_eq!(error.code(), ErrorCode::StoreDamaged, "{error}");

    // Two rows of one login.
    let found = store.find_token(&by_user("bob")).await.unwrap();
    assert_eq!(found.unwrap().id, Some(id(3)));
    assert_eq!(store.save_token(&refreshed("bob", 1)).await.unwrap(), id(3));
    let error = store.find_token_by_id(id(2)).await.unwrap_err();
    assert_eq!(error.code(), ErrorCode::StoreDamaged, "{error}");
    let bad = "SELECT id FROM oauthtoken WHERE expiry_time = 'soon' ORDER BY id";
    assert_eq!(schema.ask(bad).await, ["1", "2"]);
    schema.drop().await;
}
