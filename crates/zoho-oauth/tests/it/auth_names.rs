//! Which record a credential or a name leads to, and which it never does.

use zoho_oauth::{AccessToken, Authenticator, Credential, ListStore, OAuthClient, TokenStore};

use crate::support::{authenticator, client, good, logged_in, sandbox, user};

fn access(token: &str) -> AccessToken {
    AccessToken::new(token).unwrap()
}

/// Defect 17, by another door: without a client of its own, the authenticator must answer a
/// question by name as the store does, whatever was asked before.
#[tokio::test]
async fn the_answer_by_name_does_not_depend_on_what_was_asked_before() {
    let auth = Authenticator::builder(ListStore::new()).build().unwrap();
    let (one, other) = (good("ann", "one"), good("ann", "other"));
    auth.store().save_token(&one).await.unwrap();
    let id = auth.store().save_token(&other).await.unwrap();
    for _ in 0..2 {
        let by_name = auth.access_token(&user("ann")).await.unwrap();
        assert_eq!(Some(by_name.token()), one.access_token.as_ref());
        let session = auth.session(id).await.unwrap();
        let by_id = session.access_token().await.unwrap();
        assert_eq!(Some(by_id.token()), other.access_token.as_ref());
    }
}

fn of_client(store: impl TokenStore, id: &str) -> Authenticator {
    let client = OAuthClient::new(id, "secret").unwrap();
    let builder = Authenticator::builder(store).client(client);
    builder.build().unwrap()
}

#[tokio::test]
async fn a_bare_access_token_does_not_lead_to_another_clients_login() {
    let auth = of_client(ListStore::new(), "one");
    let other = good("ann", "other");
    auth.store().save_token(&other).await.unwrap();
    let bare = Credential::access(access("1000.bare")).user_name(user("ann"));
    let session = auth.session(bare).await.unwrap();
    let handed = session.access_token().await.unwrap();
    assert_eq!(handed.token(), &access("1000.bare"));
}

#[tokio::test]
async fn a_new_bare_access_token_is_handed_out_at_once_and_found_by_name() {
    let auth = of_client(ListStore::new(), "one");
    for text in ["1000.first", "1000.second"] {
        let bare = Credential::access(access(text)).user_name(user("ann"));
        let session = auth.session(bare).await.unwrap();
        let handed = session.access_token().await.unwrap();
        assert_eq!(handed.token(), &access(text));
        let by_name = auth.access_token(&user("ann")).await.unwrap();
        assert_eq!(by_name.token(), &access(text));
    }
    // A login under the client of this authenticator comes before it, once there is one.
    let login = good("ann", "one");
    auth.store().save_token(&login).await.unwrap();
    let by_name = auth.access_token(&user("ann")).await.unwrap();
    assert_eq!(Some(by_name.token()), login.access_token.as_ref());
}

#[tokio::test]
async fn a_credential_of_one_user_does_not_lead_to_the_record_of_another() {
    let sandbox = sandbox().await;
    let auth = authenticator(&sandbox, ListStore::new());
    let ann = logged_in(&sandbox, "ann", 3600);
    auth.store().save_token(&ann).await.unwrap();
    let refresh = Credential::refresh(client(&sandbox), ann.refresh_token.unwrap());
    let bare = Credential::access(ann.access_token.unwrap());
    for (name, credential) in [
        ("bob", Credential::from(refresh.user_name(user("bob")))),
        ("cid", bare.user_name(user("cid")).into()),
    ] {
        let session = auth.session(credential).await.unwrap();
        assert_eq!(session.user_name(), Some(user(name)));
        auth.access_token(&user(name)).await.unwrap();
    }
}
