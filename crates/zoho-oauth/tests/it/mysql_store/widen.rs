//! Giving an official table room and indexes.

use zoho_oauth::{ErrorCode, TokenQuery, TokenStore};

use super::*;

/// An official table of a server's youth, with an index and a comment of the application's own.
const OLD_TABLE: &str = "CREATE TABLE oauthtoken (
    id varchar(10) NOT NULL,
    user_name varchar(255) NOT NULL COMMENT 'who''s \\\\ it?',
    client_id varchar(255),
    client_secret varchar(255),
    refresh_token varchar(255),
    access_token varchar(255),
    grant_token varchar(255),
    expiry_time varchar(20),
    redirect_url varchar(255),
    api_domain varchar(255) CHARACTER SET utf8mb4 COLLATE utf8mb4_unicode_ci,
    noted_by_us timestamp DEFAULT CURRENT_TIMESTAMP,
    primary key (id),
    unique key ours (user_name)
) DEFAULT CHARACTER SET latin1";

#[tokio::test]
async fn a_table_is_given_room_and_indexes_and_keeps_everything_else() {
    let database = TestDatabase::new().await;
    database.run(OLD_TABLE).await;
    let store = database.open().await;
    let other = database.open().await;
    let id = store.save_token(&user("zo\u{eb}")).await.unwrap();
    let mut long = user("zo\u{eb}");
    long.access_token = access(&"1000.a".repeat(1000));
    let error = store.save_token(&long).await.unwrap_err();
    assert_eq!(error.code(), ErrorCode::ColumnTooNarrow);

    let widened = store.widen().await.unwrap();
    let columns = [
        "user_name",
        "client_id",
        "client_secret",
        "refresh_token",
        "access_token",
        "grant_token",
        "redirect_url",
        "api_domain",
    ];
    assert_eq!(widened.columns, columns);
    assert_eq!(
        widened.indexes,
        ["refresh_token", "grant_token", "access_token"]
    );
    let made = "SELECT CONCAT_WS(' ', column_name, column_type, is_nullable, \
        IFNULL(collation_name, '-'), column_comment) FROM information_schema.columns \
        WHERE table_schema = DATABASE() AND table_name = 'oauthtoken' \
        AND column_name IN ('id', 'user_name', 'access_token', 'expiry_time', 'api_domain', \
        'noted_by_us') ORDER BY ordinal_position";
    let made = database.ask(made).await;
    let expected = [
        "id varchar(10) NO latin1_swedish_ci ",
        "user_name varchar(768) NO utf8mb4_bin who's \\ it?",
        "access_token mediumtext YES utf8mb4_bin ",
        "expiry_time varchar(20) YES latin1_swedish_ci ",
        "api_domain mediumtext YES utf8mb4_unicode_ci ",
        "noted_by_us timestamp NO - ",
    ];
    // Servers differ in whether a timestamp is nullable by itself.
    assert_eq!(made[..5], expected[..5]);
    assert!(made[5].starts_with("noted_by_us timestamp"));

    // What was there is there, and what did not fit does; also for who opened the table before.
    let found = store.find_token_by_id(id).await.unwrap();
    assert_eq!(found, Some(with_id(id, user("zo\u{eb}"))));
    assert_eq!(other.save_token(&long).await.unwrap(), id);
    let mut face = user("\u{1f600}");
    face.refresh_token = RefreshToken::new("r".repeat(70_000)).ok();
    let face_id = other.save_token(&face).await.unwrap();
    let query = TokenQuery::refresh_token(face.refresh_token.clone().unwrap());
    let expected = Some(with_id(face_id, face));
    assert_eq!(store.find_token(&query).await.unwrap(), expected);
    assert_eq!(other.find_token(&query).await.unwrap(), expected);

    // The second time there is nothing to do.
    assert!(other.widen().await.unwrap().is_empty());
    assert!(store.widen().await.unwrap().is_empty());
    // The application's own index still rules.
    let ours = "SELECT COUNT(*) FROM information_schema.statistics WHERE index_name = 'ours' \
        AND table_schema = DATABASE() AND non_unique = 0";
    assert_eq!(database.ask(ours).await, ["1"]);
}

#[tokio::test]
async fn two_that_widen_at_the_same_time_do_no_harm() {
    let database = TestDatabase::official().await;
    let store = database.open().await;
    store.save_token(&user("ann")).await.unwrap();
    let others = [database.open().await, database.open().await];
    let writer = store.clone();
    let saves = tokio::spawn(async move {
        for number in 0..50 {
            writer
                .save_token(&user(&format!("u{number}")))
                .await
                .unwrap();
        }
    });
    let (one, two) = tokio::join!(others[0].widen(), others[1].widen());
    assert!(!(one.unwrap().is_empty() && two.unwrap().is_empty()));
    saves.await.unwrap();
    assert_eq!(store.get_tokens().await.unwrap().len(), 51);
    assert!(store.widen().await.unwrap().is_empty());
}
