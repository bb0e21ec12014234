//! What people read of this store in `docs/troubleshooting.md`, held to a server.

use zoho_oauth::{Error, ErrorCode, TokenStore};

use super::*;

/// Each code and what is said, of a server at `db.example.com:3306`. Quoted in the handbook.
pub(crate) const SAID: [(ErrorCode, &str); 7] = [
    (
        ErrorCode::StorePermission,
        "the database at `db.example.com:3306` does not let this account in: its password is wrong, \
        or the server asks for TLS and this store does not",
    ),
    (
        ErrorCode::StoreUnavailable,
        "the connection to the database at `db.example.com:1` failed",
    ),
    (
        ErrorCode::StoreDamaged,
        "table `oauthtoken`, id 7: the column `expiry_time` is no time in milliseconds",
    ),
    (
        ErrorCode::StoreForeign,
        "table `prices` lacks the columns user_name, client_id, client_secret, refresh_token, \
        access_token, grant_token, expiry_time, redirect_url, api_domain",
    ),
    (
        ErrorCode::StoreForeign,
        "table `oauthtoken` lacks the column api_domain, as tables of older SDKs do: add it with \
        `MySqlStoreBuilder::widen`",
    ),
    (
        ErrorCode::StoreForeign,
        "the database at `db.example.com:3306` has a table whose rules refuse a record of ours",
    ),
    (ErrorCode::ColumnTooNarrow, TOO_NARROW),
];

#[tokio::test]
async fn the_handbook_quotes_what_people_read() {
    let database = TestDatabase::official().await;
    let builder = database.builder().patience(Duration::ZERO);
    let store = builder.clone().connect().await.unwrap();
    let mut said = Vec::new();
    let place = format!("127.0.0.1:{}", address().tcp_port());
    let mut note = |error: Error| {
        let text = error.message().replace(&place, "db.example.com:3306");
        said.push((error.code(), text.replace("127.0.0.1", "db.example.com")));
    };
    let wrong = builder.clone().user("nobody_of_this_name").password("x");
    note(wrong.connect().await.unwrap_err());
    note(builder.clone().port(1).connect().await.unwrap_err());
    let row = "INSERT INTO oauthtoken (id, expiry_time) VALUES ('7', 'soon')";
    database.run(row).await;
    note(store.find_token_by_id(id(7)).await.unwrap_err());
    database.run("DELETE FROM oauthtoken").await;
    database
        .run("CREATE TABLE prices (id int PRIMARY KEY)")
        .await;
    database
        .run("ALTER TABLE prices MODIFY id varchar(9)")
        .await;
    note(builder.clone().table("prices").connect().await.unwrap_err());
    let alter = |change: &str| format!("ALTER TABLE oauthtoken {change}");
    database.run(&alter("DROP COLUMN api_domain")).await;
    note(builder.connect().await.unwrap_err());
    database
        .run(&alter("ADD COLUMN api_domain varchar(255)"))
        .await;
    store.save_token(&user("ann")).await.unwrap();
    database.run(&alter("ADD UNIQUE one (client_id)")).await;
    note(store.save_token(&user("bob")).await.unwrap_err());
    database.run(&alter("DROP KEY one")).await;
    database
        .run(&alter("ADD CONSTRAINT two CHECK (user_name <> 'bob')"))
        .await;
    note(store.save_token(&user("bob")).await.unwrap_err());
    let mut long = user("ann");
    long.access_token = access(&"x".repeat(256));
    note(store.save_token(&long).await.unwrap_err());
    // A unique index and a check are refused in the same words.
    said.dedup();
    let expected = SAID.map(|(code, text)| (code, text.to_owned()));
    assert_eq!(said, expected);
}
