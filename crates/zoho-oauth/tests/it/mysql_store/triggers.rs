//! Rules of the table that change what is written, or swallow it.

use std::time::Instant;

use zoho_oauth::{ErrorCode, TokenStore};

use super::*;
use crate::privileges::{block, everything};

/// Triggers that give an update or a new record other values, or none.
const MEDDLERS: [(&str, &str); 4] = [
    ("BEFORE UPDATE", "SET NEW.access_token = OLD.access_token"),
    (
        "BEFORE UPDATE",
        "SET NEW.access_token = CONCAT(NEW.access_token, ' ')",
    ),
    ("BEFORE UPDATE", "SET NEW.api_domain = NULL"),
    ("BEFORE INSERT", "SET NEW.user_name = UPPER(NEW.user_name)"),
];

fn renewed(name: &str, turn: usize) -> OAuthToken {
    let mut token = user(name);
    token.access_token = access(&format!("1000.renewed.{turn}"));
    token
}

/// Triggers that were there when the store was opened, and those that come later; seen by an account
/// that may see them, and not by one that may not.
#[tokio::test(flavor = "multi_thread")]
async fn a_trigger_that_changes_what_is_written_is_said() {
    let mut turn = 0;
    for may_see in [true, false] {
        for (event, body) in MEDDLERS {
            for is_early in [true, false] {
                turn += 1;
                let database = TestDatabase::official().await;
                let account = Account::new(&database).await;
                let mut builder = database.builder();
                database
                    .open()
                    .await
                    .save_token(&user("ann"))
                    .await
                    .unwrap();
                if !may_see {
                    let lines = block("sql", "-- MySQL and MariaDB");
                    for line in lines {
                        let line = line.replace("zohooauth.", &format!("{}.", database.name));
                        account.told(&database, &line, "'portal'@'%'").await;
                    }
                    builder = account.of(builder);
                }
                let late = if is_early {
                    None
                } else {
                    Some(builder.clone().connect().await.unwrap())
                };
                database
                    .run(&format!(
                        "CREATE TRIGGER meddler {event} ON oauthtoken FOR EACH ROW {body}"
                    ))
                    .await;
                let store = match late {
                    Some(store) => store,
                    None => builder.connect().await.unwrap(),
                };
                let why = format!("{event} {body}, early {is_early}, seen {may_see}");
                let began = Instant::now();
                let outcome = if event == "BEFORE INSERT" {
                    store.save_token(&user("bob")).await
                } else {
                    store.save_token(&renewed("ann", turn)).await
                };
                let error = outcome.expect_err(&why);
                assert_eq!(error.code(), ErrorCode::StoreForeign, "{why}: {error}");
                assert!(error.message().contains("trigger"), "{error}");
                assert!(began.elapsed() < Duration::from_secs(10), "{why}");
                // What was changed is taken back: the first write of a store is always watched.
                let stored = "SELECT CONCAT_WS(' ', user_name, access_token, api_domain) \
                    FROM oauthtoken";
                let ann = "ann 1000.a.ann https://www.zohoapis.eu";
                assert_eq!(database.ask(stored).await, [ann], "{why}");
                // A login that changes more than the access token goes another way.
                let mut login = renewed("ann", turn);
                login.refresh_token = RefreshToken::new("1000.r.new").ok();
                let outcome = store.save_token(&login).await;
                if event == "BEFORE UPDATE" {
                    let error = outcome.expect_err(&why);
                    assert_eq!(error.code(), ErrorCode::StoreForeign, "{why}: {error}");
                }
                store.disconnect().await;
                account.drop(&database).await;
            }
        }
    }
}

#[tokio::test]
async fn a_trigger_that_minds_its_own_business_is_in_nobodys_way() {
    let database = TestDatabase::official().await;
    let made = "ALTER TABLE oauthtoken ADD COLUMN changes int NOT NULL DEFAULT 0; \
        CREATE TABLE audit (what varchar(20)); \
        CREATE TRIGGER one BEFORE UPDATE ON oauthtoken FOR EACH ROW SET NEW.changes = OLD.changes + 1; \
        CREATE TRIGGER two AFTER INSERT ON oauthtoken FOR EACH ROW INSERT INTO audit VALUES ('new'); \
        CREATE TRIGGER three AFTER DELETE ON oauthtoken FOR EACH ROW INSERT INTO audit VALUES ('gone')";
    database.run(made).await;
    let store = database.open().await;
    store.widen().await.unwrap();
    everything(&store).await.unwrap();
    let ann = store.save_token(&user("ann")).await.unwrap();
    assert_eq!(store.save_token(&renewed("ann", 1)).await.unwrap(), ann);
    assert_eq!(database.ask("SELECT changes FROM oauthtoken").await, ["1"]);
    // Eight at once: some find that others were faster.
    let mut savers = tokio::task::JoinSet::new();
    for turn in 0..40 {
        let store = store.clone();
        savers.spawn(async move { store.save_token(&renewed("ann", turn)).await.unwrap() });
    }
    assert!(savers.join_all().await.iter().all(|id| *id == ann));
}

#[tokio::test]
async fn a_trigger_that_refuses_a_record_is_said() {
    let database = TestDatabase::official().await;
    let store = database.open().await;
    let ann = store.save_token(&user("ann")).await.unwrap();
    for (event, says) in [
        (
            "INSERT",
            "SIGNAL SQLSTATE '45000' SET MESSAGE_TEXT = 's3cret'",
        ),
        (
            "UPDATE",
            "SIGNAL SQLSTATE '45000' SET MESSAGE_TEXT = 's3cret'",
        ),
        (
            "DELETE",
            "SIGNAL SQLSTATE '45000' SET MESSAGE_TEXT = 's3cret'",
        ),
    ] {
        let trigger = format!("CREATE TRIGGER no BEFORE {event} ON oauthtoken FOR EACH ROW {says}");
        database.run(&trigger).await;
        let outcome = match event {
            "INSERT" => store.save_token(&user("bob")).await.map(drop),
            "UPDATE" => store.save_token(&renewed("ann", 1)).await.map(drop),
            _ => store.delete_token(ann).await.map(drop),
        };
        let error = outcome.unwrap_err();
        assert_eq!(error.code(), ErrorCode::StoreForeign, "{event}: {error}");
        assert!(!format!("{error:?}").contains("s3cret"), "{error:?}");
        database.run("DROP TRIGGER no").await;
    }
    assert_eq!(
        store.get_tokens().await.unwrap(),
        [with_id(ann, user("ann"))]
    );
}

/// A column of type CHAR leaves out spaces at the end, one of BINARY adds zeros.
#[tokio::test]
async fn a_column_that_changes_what_is_written_is_said() {
    let database = TestDatabase::new().await;
    let sql = super::OFFICIAL_TABLE.replace("user_name varchar(255)", "user_name char(100)");
    database.run(&sql).await;
    let store = database.open().await;
    let ann = store.save_token(&user("ann")).await.unwrap();
    let error = store.save_token(&user("ann ")).await.unwrap_err();
    assert_eq!(error.code(), ErrorCode::StoreForeign, "{error}");
    assert_eq!(store.save_token(&renewed("ann", 1)).await.unwrap(), ann);
    assert_eq!(
        store.get_tokens().await.unwrap(),
        [with_id(ann, renewed("ann", 1))]
    );
}
