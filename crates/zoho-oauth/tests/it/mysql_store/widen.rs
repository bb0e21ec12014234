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

/// Columns with all that a definition may have beside its type.
const ADORNED_TABLE: &str = "CREATE TABLE oauthtoken (
    id varchar(10) NOT NULL,
    user_name varchar(255) NOT NULL DEFAULT 'it''s \\\\ me'
        COMMENT 'x'', DROP COLUMN api_domain -- ' CHECK (user_name <> 'nobody'),
    client_id varchar(255) NOT NULL DEFAULT '',
    client_secret varchar(255) COLLATE latin1_bin DEFAULT 'DEFAULT ''x''',
    refresh_token varchar(255),
    access_token varchar(255),
    grant_token text,
    expiry_time varchar(20),
    redirect_url varchar(255) CHARACTER SET utf8mb4 COLLATE utf8mb4_unicode_ci NOT NULL,
    api_domain varchar(255) DEFAULT 'https://a.example',
    primary key (id)
) DEFAULT CHARACTER SET latin1";

#[tokio::test]
async fn what_a_column_has_beside_its_type_stays_in_any_mode_of_the_server() {
    for mode in ["NO_BACKSLASH_ESCAPES", "ANSI_QUOTES", "", "TRADITIONAL"] {
        let database = TestDatabase::new().await;
        database.run(ADORNED_TABLE).await;
        let told = vec![format!(
            "SET SESSION sql_mode = '{mode}', SESSION sql_quote_show_create = 0"
        )];
        let pool = Pool::new(database.options().setup(told));
        let store = MySqlStore::from_pool(pool, "oauthtoken").await.unwrap();
        let widened = store.widen().await.unwrap();
        assert_eq!(widened.columns.len(), 8, "{mode}");
        let count = "SELECT COUNT(*) FROM information_schema.columns \
            WHERE table_schema = DATABASE() AND table_name = 'oauthtoken' \
            AND (data_type = 'mediumtext' OR column_name IN ('id', 'expiry_time'))";
        assert_eq!(database.ask(count).await, ["10"], "{mode}");

        database
            .run("INSERT INTO oauthtoken (id, redirect_url) VALUES ('7', '')")
            .await;
        let stored = "SELECT CONCAT_WS('|', user_name, client_id, client_secret, \
            IFNULL(refresh_token, '-'), api_domain) FROM oauthtoken";
        let defaults = "it's \\ me||DEFAULT 'x'|-|https://a.example";
        assert_eq!(database.ask(stored).await, [defaults], "{mode}");
        let comment = "SELECT column_comment FROM information_schema.columns \
            WHERE table_schema = DATABASE() AND column_name = 'user_name'";
        let expected = "x', DROP COLUMN api_domain -- ";
        assert_eq!(database.ask(comment).await, [expected], "{mode}");
        let mut conn = database.connection().await;
        for refused in [
            "INSERT INTO oauthtoken (id) VALUES ('8')",
            "INSERT INTO oauthtoken (id, redirect_url, user_name) VALUES ('8', '', 'nobody')",
        ] {
            assert!(conn.query_drop(refused).await.is_err(), "{mode}: {refused}");
        }
        assert!(store.widen().await.unwrap().is_empty(), "{mode}");
    }
}

#[tokio::test]
async fn an_index_that_has_no_room_for_more_keeps_its_columns_and_serves_as_before() {
    for (key, kept) in [
        ("KEY ours (user_name, client_id)", true),
        ("UNIQUE KEY ours (user_name, client_id)", true),
        ("UNIQUE KEY ours (user_name)", false),
    ] {
        for format in ["COMPACT", "DYNAMIC"] {
            let database = TestDatabase::new().await;
            let table = OLD_TABLE.replace("unique key ours (user_name)", key);
            let table = format!("{} ROW_FORMAT={format}", table.replace("(255)", "(150)"));
            database.run(&table).await;
            let store = database.open().await;
            let why = format!("{key} {format}");
            let widened = store.widen().await.expect(&why);
            let (left, wide) = if kept {
                (vec!["user_name", "client_id"], 6)
            } else {
                (vec![], 8)
            };
            assert_eq!(widened.left, left, "{why}");
            assert_eq!(widened.columns.len(), wide, "{why}");
            let kind = "SELECT column_type FROM information_schema.columns \
                WHERE table_schema = DATABASE() AND table_name = 'oauthtoken' \
                AND column_name = 'user_name'";
            let expected = if kept { "varchar(150)" } else { "varchar(768)" };
            assert_eq!(database.ask(kind).await, [expected], "{why}");
            let ours = "SELECT CONCAT(index_type, COUNT(*)) FROM information_schema.statistics \
                WHERE index_name = 'ours' AND table_schema = DATABASE() GROUP BY index_type";
            let parts = if kept { "BTREE2" } else { "BTREE1" };
            assert_eq!(database.ask(ours).await, [parts], "{why}");
            let again = store.widen().await.unwrap();
            assert!(again.is_empty() && again.left == left, "{why}");
            let mut long = user("ann");
            long.access_token = access(&"1000.a".repeat(1000));
            store.save_token(&long).await.unwrap();
        }
    }
}
