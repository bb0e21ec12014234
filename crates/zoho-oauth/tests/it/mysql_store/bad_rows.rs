//! Rows that official SDKs wrote in their own way, and rows that cannot be read.

use zoho_oauth::store::Inventory;
use zoho_oauth::{ErrorCode, GrantToken, TokenQuery, TokenStore};

use super::*;
use crate::support::all_pages;

fn named(name: &str) -> TokenQuery {
    TokenQuery::user_name(UserName::new(name).unwrap())
}

/// As some official SDKs write it.
const NULLS: &str = "INSERT INTO oauthtoken VALUES ('1', 'null', '1000.CLIENT', 's', '1000.r', \
    '1000.a', 'null', '1795372876984', 'null', 'null')";

#[tokio::test]
async fn the_text_null_is_none_and_a_user_of_that_name_survives() {
    for not_null in [false, true] {
        let database = TestDatabase::new().await;
        let mut table = OFFICIAL_TABLE.to_owned();
        if not_null {
            table = table.replace("varchar(255)", "varchar(255) NOT NULL");
        }
        database.run(&table).await;
        database.run(NULLS).await;
        let store = database.open().await;
        let mut stored = OAuthToken::new();
        stored.id = Some(id(1));
        stored.client_id = ClientId::new("1000.CLIENT").ok();
        stored.client_secret = ClientSecret::new("s").ok();
        stored.refresh_token = RefreshToken::new("1000.r").ok();
        stored.access_token = access("1000.a");
        stored.expiry_time = Some(Timestamp::from_millis(1_795_372_876_984));
        assert_eq!(store.get_tokens().await.unwrap(), [stored.clone()]);
        // Nobody is found by what is not there.
        assert_eq!(store.find_token(&named("null")).await.unwrap(), None);
        let grant = TokenQuery::grant_token(GrantToken::new("null").unwrap());
        assert_eq!(store.find_token(&grant).await.unwrap(), None);

        // Our own user of that name, whose record has everything, or little.
        let mut own = user("null");
        own.id = Some(store.save_token(&own).await.unwrap());
        let mut sparse = OAuthToken::new();
        sparse.user_name = UserName::new("null").ok();
        sparse.client_id = ClientId::new("1000.OTHER").ok();
        sparse.access_token = access("1000.sparse");
        sparse.id = Some(store.save_token(&sparse).await.unwrap());
        let expected = [stored.clone(), own.clone(), sparse.clone()];
        assert_eq!(store.get_tokens().await.unwrap(), expected);
        assert_eq!(
            store.find_token(&named("null")).await.unwrap(),
            Some(own.clone())
        );
        let other = named("null").with_client(sparse.client_id.clone().unwrap());
        assert_eq!(
            store.find_token(&other).await.unwrap(),
            Some(sparse.clone())
        );
        for token in [&mut own, &mut sparse] {
            token.access_token = access(&format!("x{}", fastrand::u64(..)));
            assert_eq!(store.save_token(token).await.unwrap(), token.id.unwrap());
        }

        // A write to the official row finds it unchanged, and joins the name that is learned.
        stored.access_token = access("renewed");
        assert_eq!(store.save_token(&stored).await.unwrap(), id(1));
        stored.user_name = UserName::new("ann").ok();
        assert_eq!(store.save_token(&stored).await.unwrap(), id(1));
        let expected = [stored.clone(), own, sparse];
        assert_eq!(store.get_tokens().await.unwrap(), expected);
        assert_eq!(store.find_token(&named("ann")).await.unwrap(), Some(stored));
        assert!(store.delete_token(id(1)).await.unwrap());
    }
}

/// A merge deletes such a row, on the condition that it is what was read.
#[tokio::test]
async fn a_row_with_the_text_null_joins_the_login_that_it_belongs_to() {
    let database = TestDatabase::official().await;
    database.run(NULLS).await;
    let store = database.open().await;
    let ann = store.save_token(&user("ann")).await.unwrap();
    let mut login = user("ann");
    login.refresh_token = RefreshToken::new("1000.r").ok();
    assert_eq!(store.save_token(&login).await.unwrap(), ann);
    assert_eq!(store.get_tokens().await.unwrap(), [with_id(ann, login)]);
    // A field that would be read back as none is refused.
    let mut wrong = user("bob");
    wrong.client_id = ClientId::new("null").ok();
    let error = store.save_token(&wrong).await.unwrap_err();
    assert_eq!(error.code(), ErrorCode::InvalidInput, "{error}");
}

const BAD: &str = "INSERT INTO oauthtoken (id, user_name, expiry_time) VALUES ('2', 'bad-time', 'soon'), \
    ('abc', 'bad-id', NULL), ('05', 'zero', NULL), ('12345678\n', 'line', NULL), \
    ('9999999999', 'bad-far', '+7'), ('abcdefghij', 'bad-long', NULL)";

#[tokio::test]
async fn a_bad_row_is_left_out_named_and_in_the_way_of_none() {
    let database = TestDatabase::official().await;
    database.run(BAD).await;
    let store = database.open().await;
    let mut expected = Vec::new();
    for (index, number) in [1, 3, 700, 2_000_000_000, 9_999_999_998]
        .into_iter()
        .enumerate()
    {
        // As other programs have it.
        let name = format!("good-{index}");
        let sql = format!(
            "INSERT INTO oauthtoken (id, user_name, client_id, access_token) \
            VALUES ('{number}', '{name}', '1000.CLIENT', '1000.a.{name}')"
        );
        database.run(&sql).await;
        let mut token = OAuthToken::new();
        token.id = Some(id(number));
        token.user_name = UserName::new(&name).ok();
        token.client_id = ClientId::new("1000.CLIENT").ok();
        token.access_token = access(&format!("1000.a.{name}"));
        expected.push(token);
    }
    assert_eq!(store.get_tokens().await.unwrap(), expected);
    for limit in 1..8 {
        let all = all_pages(&store, limit).await;
        assert_eq!(all, expected, "pages of {limit}");
    }
    let inventory: Inventory = store.inventory().await.unwrap().unwrap();
    assert_eq!((inventory.records, inventory.unreadable.len()), (11, 6));
    let text = inventory.unreadable.join("; ");
    assert!(text.contains("id 2: the column `expiry_time`"), "{text}");
    assert!(!text.contains("soon"), "{text}");

    // The bad ones are said when they are asked for, and stay as they are.
    for name in ["bad-time", "bad-id", "zero", "line", "bad-far", "bad-long"] {
        for outcome in [
            store.find_token(&named(name)).await.map(drop),
            store.save_token(&user(name)).await.map(drop),
        ] {
            let error = outcome.expect_err(name);
            assert_eq!(error.code(), ErrorCode::StoreDamaged, "{name}: {error}");
        }
    }
    let renewed = {
        let mut token = expected[1].clone();
        token.access_token = access("renewed");
        token
    };
    assert_eq!(store.save_token(&renewed).await.unwrap(), id(3));
    assert!(store.delete_token(id(1)).await.unwrap());
    let count = "SELECT COUNT(*) FROM oauthtoken WHERE user_name NOT LIKE 'good%'";
    assert_eq!(database.ask(count).await, ["6"]);
}

#[tokio::test]
async fn a_bad_row_is_in_the_way_of_its_own_login_alone() {
    let database = TestDatabase::official().await;
    let store = database.open().await;
    let rows = "INSERT INTO oauthtoken (id, user_name, client_id, refresh_token, access_token, \
        expiry_time) VALUES ('1', 'ann', '1000.OTHER', '1000.r.ann', '1000.x', 'soon'), \
        ('2', 'bob', '1000.CLIENT', '1000.r.bob', '1000.b', 'soon'), \
        ('3', 'bob', '1000.CLIENT', '1000.r.bob', '1000.b', NULL)";
    database.run(rows).await;
    // The same user under another client, who logs in and is renewed.
    let mut ann = user("ann");
    let ann_id = store.save_token(&ann).await.unwrap();
    ann.access_token = access("1000.renewed");
    assert_eq!(store.save_token(&ann).await.unwrap(), ann_id);
    let found = store.find_token(&named("ann")).await.unwrap();
    assert_eq!(found, Some(with_id(ann_id, ann.clone())));
    ann.client_id = ClientId::new("1000.OTHER").ok();
    let error = store.save_token(&ann).await.unwrap_err();
    assert_eq!(error.code(), ErrorCode::StoreDamaged, "{error}");
    let other = named("ann").with_client(ann.client_id.unwrap());
    let error = store.find_token(&other).await.unwrap_err();
    assert_eq!(error.code(), ErrorCode::StoreDamaged, "{error}");

    // Two rows of one login.
    let found = store.find_token(&named("bob")).await.unwrap();
    assert_eq!(found.unwrap().id, Some(id(3)));
    assert_eq!(store.save_token(&user("bob")).await.unwrap(), id(3));
    let mut login = user("bob");
    login.refresh_token = RefreshToken::new("1000.r.new").ok();
    assert_eq!(store.save_token(&login).await.unwrap(), id(3));
    let error = store.find_token_by_id(id(2)).await.unwrap_err();
    assert_eq!(error.code(), ErrorCode::StoreDamaged, "{error}");
    let bad = "SELECT id FROM oauthtoken WHERE expiry_time = 'soon' ORDER BY id";
    assert_eq!(database.ask(bad).await, ["1", "2"]);
}
