//! The text `null`, which some official SDKs write for an absent value.

use rusqlite::Connection;
use zoho_oauth::{
    AccessToken, ClientId, GrantToken, OAuthToken, RefreshToken, SqliteStore, TokenQuery,
    TokenStore,
};

use super::{SAMPLE_TABLE, by_user, id, ids, place, token, user};

const COLUMNS: &str = "id, user_name, client_id, client_secret, refresh_token, access_token, \
    grant_token, expiry_time, redirect_url, api_domain";

fn database(rows: &[&str]) -> (tempfile::TempDir, std::path::PathBuf, Connection) {
    let (folder, path) = place();
    let raw = Connection::open(&path).unwrap();
    raw.execute_batch(SAMPLE_TABLE).unwrap();
    for row in rows {
        raw.execute_batch(&format!(
            "INSERT INTO oauthtoken ({COLUMNS}) VALUES ({row})"
        ))
        .unwrap();
    }
    (folder, path, raw)
}

fn access(text: &str) -> Option<AccessToken> {
    AccessToken::new(text).ok()
}

#[tokio::test]
async fn the_text_null_is_absence() {
    let (_folder, path, raw) = database(&[
        "'1', 'null', '1000.CLIENT', 's', '1000.r', '1000.a', 'null', '1795372876984', 'null', 'null'",
        "'2', 'bob', 'null', 'null', 'null', '1000.b', 'null', 'null', 'null', 'null'",
    ]);
    for read_only in [true, false] {
        let store = if read_only {
            SqliteStore::builder()
                .open_read_only(&path)
                .unwrap()
                .unwrap()
        } else {
            SqliteStore::open(&path).unwrap()
        };
        let all = store.get_tokens().await.unwrap();
        assert_eq!(all.len(), 2);
        assert_eq!(all[0].user_name, None);
        assert_eq!((&all[0].grant_token, &all[0].redirect_url), (&None, &None));
        assert_eq!(all[0].refresh_token, RefreshToken::new("1000.r").ok());
        assert_eq!((&all[1].client_id, &all[1].client_secret), (&None, &None));
        assert_eq!((&all[1].refresh_token, all[1].expiry_time), (&None, None));
        assert_eq!(
            store.find_token_by_id(id(2)).await.unwrap().as_ref(),
            all.get(1)
        );
        for query in [
            by_user("null"),
            TokenQuery::grant_token(GrantToken::new("null").unwrap()),
            TokenQuery::refresh_token(RefreshToken::new("null").unwrap()),
            by_user("bob").with_client(ClientId::new("null").unwrap()),
        ] {
            assert_eq!(store.find_token(&query).await.unwrap(), None, "{query:?}");
        }
        let found = store.find_token(&by_user("bob")).await.unwrap();
        assert_eq!(found.as_ref(), all.get(1));
    }

    let store = SqliteStore::open(&path).unwrap();
    // The login without a name learns its name; the one without a client is found without one.
    let mut named = OAuthToken::new();
    named.user_name = Some(user("ann"));
    named.client_id = ClientId::new("1000.CLIENT").ok();
    named.refresh_token = RefreshToken::new("1000.r").ok();
    assert_eq!(store.save_token(&named).await.unwrap(), id(1));
    let mut bob = OAuthToken::new();
    bob.user_name = Some(user("bob"));
    bob.access_token = access("new");
    assert_eq!(store.save_token(&bob).await.unwrap(), id(2));
    let count =
        "SELECT count(*) FROM oauthtoken WHERE 'null' IN (user_name, grant_token, redirect_url)";
    let left = raw.query_row(count, [], |row| row.get(0));
    assert_eq!(left, Ok(0), "a row that we wrote holds no such text");
    assert!(store.delete_token(id(1)).await.unwrap());
    assert_eq!(ids(&store).await, [2]);
}

#[tokio::test]
async fn a_user_called_null_is_another_one() {
    let (_folder, path, _raw) = database(&[
        "'1', 'null', '1000.CLIENT', 's', '1000.r', '1000.a', 'null', NULL, NULL, NULL",
        "'2', 'null', '1000.CLIENT', 's', '1000.q', '1000.b', '', NULL, NULL, NULL",
    ]);
    let store = SqliteStore::open(&path).unwrap();
    let found = store.find_token(&by_user("null")).await.unwrap().unwrap();
    assert_eq!(found.id, Some(id(2)));
    let mut changed = token("null");
    changed.refresh_token = RefreshToken::new("1000.q").ok();
    changed.access_token = access("1000.new");
    assert_eq!(store.save_token(&changed).await.unwrap(), id(2));
    // The absent one is known by its refresh token.
    let mut nameless = token("x");
    nameless.user_name = None;
    nameless.refresh_token = RefreshToken::new("1000.r").ok();
    nameless.access_token = access("1000.later");
    assert_eq!(store.save_token(&nameless).await.unwrap(), id(1));
    assert_eq!(ids(&store).await, [1, 2]);
    let found = store.find_token(&by_user("null")).await.unwrap().unwrap();
    assert_eq!(found.access_token, access("1000.new"));
}

#[tokio::test]
async fn a_nameless_row_that_says_null_is_taken_in() {
    let (_folder, path, _raw) = database(&[
        "'1', 'ann', '1000.CLIENT', 's', '1000.old', '1000.a', NULL, NULL, NULL, NULL",
        "'2', 'null', 'null', 'null', '1000.new', 'null', 'null', 'null', 'null', 'null'",
        "'3', 'null', '1000.CLIENT', 'null', '1000.r.ann', 'null', 'null', 'null', 'https://x', 'null'",
    ]);
    let store = SqliteStore::open(&path).unwrap();
    assert_eq!(store.save_token(&token("ann")).await.unwrap(), id(1));
    assert_eq!(ids(&store).await, [1, 2]);
    let ann = store.find_token(&by_user("ann")).await.unwrap().unwrap();
    assert_eq!(ann.redirect_url.as_deref(), Some("https://x"));
}
