//! What people read of this store in `docs/troubleshooting.md`, held to a server.

use std::time::Duration;

use zoho_oauth::{Error, ErrorCode, TokenStore};

use super::support::{Schema, by_user, server, token};

/// Each code and what is said, of the schema `tokens` in the database `portal` at
/// `db.example.com:5432`. Quoted in the handbook.
pub(crate) const SAID: [(ErrorCode, &str); 7] = [
    (
        ErrorCode::StorePermission,
        "database `portal` at `db.example.com:5432` refuses the user, the password, or this way of \
        connecting",
    ),
    (
        ErrorCode::StorePermission,
        "the database user may not work on table `tokens.oauthtoken` of database `portal` at \
        `db.example.com:5432`",
    ),
    (
        ErrorCode::StoreUnavailable,
        "the connection to database `portal` at `db.example.com:1` failed",
    ),
    (
        ErrorCode::StoreDamaged,
        "table `tokens.oauthtoken` of database `portal` at `db.example.com:5432`: a row whose \
        column `id` is no id: `seven`",
    ),
    (
        ErrorCode::StoreForeign,
        "table `tokens.prices` of database `portal` at `db.example.com:5432` lacks the columns \
        user_name, client_id, client_secret, refresh_token, access_token, grant_token, expiry_time, \
        redirect_url, api_domain",
    ),
    (
        ErrorCode::StoreForeign,
        "a constraint of table `tokens.oauthtoken` of database `portal` at `db.example.com:5432` \
        refuses a record of ours",
    ),
    (
        ErrorCode::StoreDamaged,
        "table `tokens.oauthtoken` of database `portal` at `db.example.com:5432`, or a \
        `zoho_oauth_` table beside it, is missing",
    ),
];

#[tokio::test]
async fn the_handbook_quotes_what_people_read() {
    let schema = Schema::new().await;
    let builder = schema.builder().patience(Duration::ZERO);
    let store = builder.clone().connect().await.unwrap();
    let config = server();
    let (name, port) = (config.get_dbname().unwrap(), config.get_ports()[0]);
    let mut said = Vec::new();
    let mut note = |error: Error| {
        let text = error.message().replace(&schema.name, "tokens");
        let text = text.replace(&format!("database `{name}`"), "database `portal`");
        let text = text.replace(&format!("127.0.0.1:{port}"), "db.example.com:5432");
        said.push((error.code(), text.replace("127.0.0.1", "db.example.com")));
    };
    let nobody = builder.clone().user("nobody_of_this_name");
    note(nobody.connect().await.unwrap_err());
    let role = format!("role_{}", schema.name);
    let grant = format!(
        "CREATE ROLE {role} LOGIN; GRANT USAGE ON SCHEMA {} TO {role}",
        schema.name
    );
    schema.run(&grant).await;
    note(builder.clone().user(&role).connect().await.unwrap_err());
    schema
        .run(&format!("DROP OWNED BY {role}; DROP ROLE {role}"))
        .await;
    note(builder.clone().port(1).connect().await.unwrap_err());
    schema
        .run("INSERT INTO oauthtoken (id, user_name) VALUES ('seven', 'u')")
        .await;
    note(store.find_token(&by_user("u")).await.unwrap_err());
    schema
        .run("DELETE FROM oauthtoken; CREATE TABLE prices (id text)")
        .await;
    note(builder.table("prices").connect().await.unwrap_err());
    schema
        .run("ALTER TABLE oauthtoken ADD CHECK (user_name <> 'bob')")
        .await;
    note(store.save_token(&token("bob")).await.unwrap_err());
    schema.run("DROP TABLE oauthtoken").await;
    note(store.get_tokens().await.unwrap_err());
    let expected = SAID.map(|(code, text)| (code, text.to_owned()));
    assert_eq!(said, expected);
    drop(store);
    schema.drop().await;
}
