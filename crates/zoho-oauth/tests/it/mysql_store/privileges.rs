//! The GRANT lines of `SECURITY.md`, on a server.

use zoho_oauth::ErrorCode;

use super::*;
use crate::privileges::{block, everything, rights};

/// The lines for the database of a test, told of `whom`.
fn lines(database: &TestDatabase) -> Vec<String> {
    let lines = block("sql", "-- MySQL and MariaDB");
    let here = lines.iter().map(|line| {
        let line = line.replace("zohooauth.", &format!("{}.", database.name));
        line.replace("'portal'@'%'", "whom")
    });
    here.collect()
}

#[tokio::test]
async fn with_the_rights_that_the_handbook_names_everything_works_and_with_one_less_not() {
    let database = TestDatabase::new().await;
    let admin = database.open().await;
    let account = Account::new(&database).await;
    let builder = account.of(database.builder()).patience(Duration::ZERO);
    let error = builder.clone().connect().await.unwrap_err();
    assert_eq!(error.code(), ErrorCode::StorePermission, "{error}");
    for line in lines(&database) {
        account.told(&database, &line, "whom").await;
    }
    let store = builder.clone().connect().await.unwrap();
    everything(&store).await.unwrap();
    let error = store.widen().await;
    // There is nothing to widen, so it needs nothing.
    assert!(error.is_ok(), "{error:?}");

    for (right, object) in rights(&lines(&database)) {
        let revoke = format!("REVOKE {right} ON {object} FROM whom");
        account.told(&database, &revoke, "whom").await;
        let outcome = async {
            let store = builder.clone().connect().await?;
            everything(&store).await
        };
        let error = outcome.await.expect_err(&revoke);
        assert_eq!(error.code(), ErrorCode::StorePermission, "{revoke} {error}");
        let grant = format!("GRANT {right} ON {object} TO whom");
        account.told(&database, &grant, "whom").await;
    }
    everything(&store).await.unwrap();
    everything(&admin).await.unwrap();
    store.disconnect().await;
    account.drop(&database).await;
}

#[tokio::test]
async fn an_account_that_may_alter_the_table_widens_it() {
    let database = TestDatabase::official().await;
    database.open().await;
    let account = Account::new(&database).await;
    let mut all = lines(&database);
    all.push(format!(
        "GRANT ALTER, CREATE, INSERT ON {}.oauthtoken TO whom",
        database.name
    ));
    for line in &all {
        account.told(&database, line, "whom").await;
    }
    let builder = account.of(database.builder()).patience(Duration::ZERO);
    for right in ["ALTER", "none of them"] {
        let is_less = right != "none of them";
        if is_less {
            let revoke = format!("REVOKE {right} ON {}.oauthtoken FROM whom", database.name);
            account.told(&database, &revoke, "whom").await;
        }
        let store = builder.clone().connect().await.unwrap();
        let widened = store.widen().await;
        if is_less {
            let error = widened.unwrap_err();
            assert_eq!(error.code(), ErrorCode::StorePermission, "{error}");
            let grant = format!("GRANT {right} ON {}.oauthtoken TO whom", database.name);
            account.told(&database, &grant, "whom").await;
        } else {
            widened.unwrap();
        }
        store.disconnect().await;
    }
    account.drop(&database).await;
}
