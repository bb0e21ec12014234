//! Tables of nine columns, and ids of another kind, as older official SDKs made them.

use zoho_oauth::{ErrorCode, TokenQuery, TokenStore};

use super::*;

/// Ten columns, with ids of any kind.
fn ten_columns(user: &str) -> String {
    let table = OFFICIAL_TABLE.replace("varchar(10)", "varchar(64)");
    table.replace("user_name", user)
}

/// Nine columns: no `api_domain`.
fn nine_columns(user: &str) -> String {
    ten_columns(user).replace("api_domain varchar(255),", "")
}

/// What the older SDK does: it names its nine columns.
async fn insert(database: &TestDatabase, user: &str, id: &str) {
    let sql = format!(
        "INSERT INTO oauthtoken (id, {user}, client_id, client_secret, refresh_token, access_token, \
        grant_token, expiry_time, redirect_url) VALUES ('{id}', '{id}@x', 'c', 's', 'r{id}', 'a', \
        NULL, '1795372876984', '')"
    );
    database.run(&sql).await;
}

async fn older(user: &str, ids: &[&str]) -> TestDatabase {
    let database = TestDatabase::new().await;
    database.run(&nine_columns(user)).await;
    for id in ids {
        insert(&database, user, id).await;
    }
    database
}

fn named(name: &str) -> TokenQuery {
    TokenQuery::user_name(UserName::new(name).unwrap())
}

async fn ids(store: &MySqlStore) -> Vec<u64> {
    let tokens = store.get_tokens().await.unwrap();
    tokens.iter().map(|token| token.id.unwrap().get()).collect()
}

/// How the table is made, and its rows.
async fn all_of(database: &TestDatabase, user: &str) -> Vec<String> {
    let made = "SELECT CONCAT_WS(' ', column_name, column_type, collation_name) \
        FROM information_schema.columns WHERE table_schema = DATABASE() \
        AND table_name = 'oauthtoken' ORDER BY ordinal_position";
    let mut all = database.ask(made).await;
    let rows =
        format!("SELECT CONCAT_WS('|', id, {user}, refresh_token) FROM oauthtoken ORDER BY id");
    all.extend(database.ask(&rows).await);
    all
}

#[tokio::test]
async fn a_table_of_nine_columns_says_which_call_helps_and_is_left_alone() {
    for user in ["user_name", "user_mail"] {
        let database = older(user, &["1", "python_u1_EU_9f3c"]).await;
        let before = all_of(&database, user).await;
        let pool = careless_pool(database.name(), 1);
        for outcome in [
            database.builder().connect().await.map(drop),
            database.builder().connect_existing().await.map(drop),
            MySqlStore::from_pool(pool, "oauthtoken").await.map(drop),
        ] {
            let error = outcome.unwrap_err();
            assert_eq!(error.code(), ErrorCode::StoreForeign, "{error}");
            assert_eq!(
                error.message(),
                "table `oauthtoken` lacks the column api_domain, as tables of older SDKs do: add it \
                with `MySqlStoreBuilder::widen`"
            );
        }
        assert_eq!(all_of(&database, user).await, before);
        assert_eq!(database.ask("SHOW TABLES").await, ["oauthtoken"]);
    }
}

#[tokio::test]
async fn a_table_of_nine_columns_is_used_once_it_was_widened() {
    for user in ["user_name", "user_mail"] {
        let database = older(user, &["1", "2", "10"]).await;
        let store = database.builder().widen().await.unwrap();
        assert_eq!(ids(&store).await, [1, 2, 10]);
        let mut two = store.find_token(&named("2@x")).await.unwrap().unwrap();
        assert_eq!((two.id, two.api_domain.as_deref()), (Some(id(2)), None));
        two.api_domain = Some("https://www.zohoapis.eu".into());
        two.access_token = access(&"1000.a".repeat(100));
        assert_eq!(store.save_token(&two).await.unwrap(), id(2));
        assert_eq!(store.find_token_by_id(id(2)).await.unwrap(), Some(two));
        let mut new = super::user("new");
        new.id = Some(store.save_token(&new).await.unwrap());
        assert!(new.id.unwrap() > id(10));

        // The older SDK goes on: it reads what we wrote, and we read what it writes.
        let sql = format!(
            "SELECT CONCAT({user}, access_token) FROM oauthtoken WHERE id = '{}'",
            new.id.unwrap()
        );
        assert_eq!(database.ask(&sql).await, ["new1000.a.new"]);
        insert(&database, user, "700").await;
        let found = store.find_token(&named("700@x")).await.unwrap().unwrap();
        assert_eq!(found.id, Some(id(700)));

        // From now on it opens as any other, and there is nothing more to widen.
        store.disconnect().await;
        let before = all_of(&database, user).await;
        let store = database.open().await;
        assert!(store.widen().await.unwrap().is_empty(), "{user}");
        let again = database.builder().widen().await.unwrap();
        assert_eq!(all_of(&database, user).await, before);
        let found = again.find_token(&named("new")).await.unwrap();
        assert_eq!(found, Some(new));
        let page = store.get_tokens_page(Some(id(2)), 1).await.unwrap();
        assert_eq!(page[0].id, Some(id(10)));
        assert!(store.delete_token(id(700)).await.unwrap());
        assert!(store.save_token(&super::user("last")).await.unwrap() > id(700));
    }
}

#[tokio::test]
async fn a_table_of_ten_columns_with_user_mail_is_used_as_it_is() {
    let database = TestDatabase::new().await;
    database.run(&ten_columns("user_mail")).await;
    insert(&database, "user_mail", "7").await;
    let before = all_of(&database, "user_mail").await;
    let store = database.open().await;
    let mut seven = store.find_token(&named("7@x")).await.unwrap().unwrap();
    assert_eq!(seven.id, Some(id(7)));
    seven.access_token = access("renewed");
    assert_eq!(store.save_token(&seven).await.unwrap(), id(7));
    assert_eq!(store.get_tokens().await.unwrap(), [seven]);
    assert_eq!(all_of(&database, "user_mail").await, before);

    // A value that is too long is told of by the name of the column that is there.
    let long = user(&"n".repeat(256));
    let error = store.save_token(&long).await.unwrap_err();
    assert_eq!(error.code(), ErrorCode::ColumnTooNarrow);
    assert!(error.message().contains("`user_mail`"), "{error}");
    let widened = store.widen().await.unwrap();
    assert_eq!(widened.columns[0], "user_mail");
    assert_eq!(widened.indexes[0], "user_mail");
    assert!(store.widen().await.unwrap().is_empty());
    let long_id = store.save_token(&long).await.unwrap();
    let found = store.find_token_by_id(long_id).await.unwrap();
    assert_eq!(found, Some(with_id(long_id, long)));
}

/// A column that an application added under this name.
#[tokio::test]
async fn user_name_counts_where_both_columns_are_there() {
    let database = TestDatabase::official().await;
    database
        .run("ALTER TABLE oauthtoken ADD user_mail varchar(255) DEFAULT 'theirs'")
        .await;
    let store = database.open().await;
    store.save_token(&user("ann")).await.unwrap();
    let both = "SELECT CONCAT_WS('|', user_name, user_mail) FROM oauthtoken";
    assert_eq!(database.ask(both).await, ["ann|theirs"]);
    assert!(store.find_token(&named("ann")).await.unwrap().is_some());
}

#[tokio::test]
async fn ids_of_older_sdks_become_numbers() {
    for user in ["user_name", "user_mail"] {
        let database = older(
            user,
            &["python_u1_EU_9f3c", "7", "java_u2_US_0001", "05", "700"],
        )
        .await;
        let store = database.builder().widen().await.unwrap();
        assert_eq!(ids(&store).await, [7, 700, 701, 702, 703]);
        for name in ["python_u1_EU_9f3c", "java_u2_US_0001", "05", "7"] {
            let found = store
                .find_token(&named(&format!("{name}@x")))
                .await
                .unwrap();
            let refresh = found.unwrap().refresh_token.unwrap();
            assert_eq!(refresh.expose_secret(), format!("r{name}"));
        }
        let inventory = store.inventory().await.unwrap().unwrap();
        assert_eq!((inventory.records, inventory.unreadable.len()), (5, 0));
        // None of them is given a second time.
        assert!(store.delete_token(id(703)).await.unwrap());
        assert!(store.save_token(&super::user("new")).await.unwrap() > id(703));

        // The older SDK adds one more: a bad row until the next call.
        insert(&database, user, "python_u9_EU_1").await;
        assert_eq!(ids(&store).await.len(), 5);
        let widened = store.widen().await.unwrap();
        assert_eq!((widened.numbered, widened.is_empty()), (1, false));
        assert_eq!(ids(&store).await.len(), 6);
        assert!(store.widen().await.unwrap().is_empty());
    }
}

/// 1 to 10 are left to the official SDKs, as for other new records.
#[tokio::test]
async fn numbers_that_official_sdks_need_are_left_to_them() {
    let old: Vec<_> = (0..85).map(|number| format!("u{number:02}")).collect();
    let old: Vec<_> = old.iter().map(String::as_str).collect();
    let database = older("user_name", &old).await;
    let store = database.builder().widen().await.unwrap();
    let expected: Vec<_> = (11..=90).chain(101..=105).collect();
    assert_eq!(ids(&store).await, expected);
}

/// What a trigger takes back, or another table's reference forbids, leaves all ids as they were.
#[tokio::test]
async fn all_ids_become_numbers_or_none() {
    for refusing in [
        "CREATE TRIGGER keep BEFORE UPDATE ON oauthtoken FOR EACH ROW SET NEW.id = \
        IF(OLD.id = 'b', OLD.id, NEW.id)",
        "CREATE TABLE log (of varchar(255) CHARACTER SET utf8mb4 COLLATE utf8mb4_general_ci \
        REFERENCES oauthtoken(id)) AS SELECT 'b' AS of",
    ] {
        let database = older("user_name", &["a", "b", "c"]).await;
        database.run(refusing).await;
        let error = database.builder().widen().await.unwrap_err();
        assert_eq!(error.code(), ErrorCode::StoreForeign, "{error}");
        let ids = database.ask("SELECT id FROM oauthtoken ORDER BY id").await;
        assert_eq!(ids, ["a", "b", "c"], "{refusing}");
    }
}

#[tokio::test]
async fn several_that_widen_at_the_same_time_do_no_harm() {
    let old: Vec<_> = (0..30).map(|number| format!("u{number:02}")).collect();
    let old: Vec<_> = old.iter().map(String::as_str).collect();
    let database = older("user_mail", &old).await;
    let widen = || database.builder().widen();
    let (one, two, three) = tokio::join!(widen(), widen(), widen());
    for store in [one.unwrap(), two.unwrap(), three.unwrap()] {
        assert_eq!(ids(&store).await, (11..=40).collect::<Vec<_>>());
        assert!(store.widen().await.unwrap().is_empty());
    }
}

#[tokio::test]
async fn what_is_no_token_table_is_not_touched() {
    let nine = nine_columns("user_name");
    for (sql, code) in [
        (
            nine.replace("grant_token varchar(255),", ""),
            ErrorCode::StoreForeign,
        ),
        (
            nine.replace("user_name", "user_id"),
            ErrorCode::StoreForeign,
        ),
        (
            nine.replacen("id varchar(64)", "id int", 1),
            ErrorCode::StoreForeign,
        ),
        (
            nine.replace("primary key (id)", "key (id)"),
            ErrorCode::StoreForeign,
        ),
        (format!("{nine} ENGINE=MyISAM"), ErrorCode::Unsupported),
        (
            "CREATE TABLE oauthtoken (id varchar(9) PRIMARY KEY, price int)".to_owned(),
            ErrorCode::StoreForeign,
        ),
    ] {
        let database = TestDatabase::new().await;
        database.run(&sql).await;
        let made = "SELECT CONCAT_WS(' ', column_name, column_type) \
            FROM information_schema.columns WHERE table_schema = DATABASE() \
            ORDER BY table_name, ordinal_position";
        let before = database.ask(made).await;
        let error = database.builder().widen().await.unwrap_err();
        assert_eq!(error.code(), code, "{sql}: {error}");
        assert!(!error.message().contains("widen"), "{sql}: {error}");
        assert_eq!(database.ask(made).await, before, "{sql}");
    }
}

#[tokio::test]
async fn an_account_that_may_not_alter_the_table_is_told() {
    let database = older("user_name", &["1"]).await;
    let account = Account::new(&database).await;
    let grant = format!(
        "GRANT SELECT, INSERT, UPDATE, DELETE, CREATE ON {}.* TO whom",
        database.name
    );
    account.told(&database, &grant, "whom").await;
    let builder = account.of(database.builder()).patience(Duration::ZERO);
    let error = builder.widen().await.unwrap_err();
    assert_eq!(error.code(), ErrorCode::StorePermission, "{error}");
    account.drop(&database).await;
}
