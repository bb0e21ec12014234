//! Which record a credential or a name leads to, and which it never does.

use std::time::Duration;

use futures_util::future::join_all;
use zoho_oauth::{
    AccessToken, Authenticator, Credential, DataCenter, DataCenters, ErrorCode, ListStore,
    OAuthClient, TokenStore,
};
use zoho_sandbox::{Endpoint, Fault};

use crate::support::{authenticator, builder, client, good, logged_in, sandbox, user};

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

/// The answer to one login under way is nobody else's who starts from the same token.
#[tokio::test]
async fn logins_from_one_token_at_the_same_moment_keep_to_their_names() {
    for names in [[None, Some("ann")], [Some("ann"), Some("bob")]] {
        let sandbox = sandbox().await;
        let auth = authenticator(&sandbox, ListStore::new());
        let token = logged_in(&sandbox, "ann", 0).refresh_token.unwrap();
        let slow = Duration::from_millis(100);
        sandbox.inject(Fault::delay(slow).on(Endpoint::Refresh));
        let ask = |name: Option<&str>| {
            let mut login = Credential::refresh(client(&sandbox), token.clone());
            if let Some(name) = name {
                login = login.user_name(user(name));
            }
            auth.session(login)
        };
        let sessions = join_all(names.map(ask)).await;
        for (name, session) in names.into_iter().zip(sessions) {
            let Some(name) = name.map(user) else {
                continue;
            };
            assert_eq!(session.unwrap().user_name(), Some(name.clone()));
            auth.access_token(&name).await.unwrap();
        }
        let logins = names.iter().flatten().count();
        assert_eq!(auth.store().get_tokens().await.unwrap().len(), logins);
    }
}

#[tokio::test]
async fn a_login_does_not_wait_for_the_answer_of_another_data_center() {
    let (right, wrong) = (sandbox().await, sandbox().await);
    let mut centers = DataCenters::known();
    let there = DataCenter::builder("there", right.accounts_url()).api_domain(right.api_url());
    let there = there.build().unwrap();
    centers.add(there.clone());
    let auth = builder(&wrong, ListStore::new()).data_centers(centers);
    let auth = auth.build().unwrap();
    let token = logged_in(&right, "ann", 0).refresh_token.unwrap();
    let login = Credential::refresh(client(&right), token);
    let there = login.clone().data_center(there);
    let (refused, done) = tokio::join!(auth.session(login), auth.session(there));
    assert_eq!(refused.unwrap_err().code(), ErrorCode::InvalidCode);
    done.unwrap();
}
