//! Which data center a login belongs to, and which client secret its accounts server is shown.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;
use zoho_oauth::{
    Authenticator, ClientSecret, Credential, DataCenter, DataCenters, Environment, ErrorCode,
    Event, GrantToken, ListStore, OAuthClient, RefreshToken, Result, Session, TokenId, TokenStore,
};

use crate::accounts::{RawServer, http};
use crate::support::{good, in_seconds, user};

const API: &str = "https://www.zohoapis.eu";

fn granted(api_domain: &str) -> String {
    format!(
        r#"{{"access_token":"1000.new","refresh_token":"1000.refresh","api_domain":"{api_domain}",
            "token_type":"Bearer","expires_in":3600,"status":"success"}}"#
    )
}

/// An accounts server that grants everything, and names this API domain.
async fn accounts(api_domain: &str) -> RawServer {
    RawServer::json(&granted(api_domain)).await
}

/// One that names no API domain.
async fn accounts_without_domain() -> RawServer {
    let body = granted("").replace(r#""api_domain":"","#, "");
    RawServer::json(&body).await
}

fn center_at(name: &str, accounts: &RawServer) -> DataCenter {
    let center = DataCenter::builder(name, &accounts.url).api_domain(API);
    center.build().unwrap()
}

/// The known data centers, with `center` in place of the one of its name.
fn known(center: DataCenter) -> DataCenters {
    let mut centers = DataCenters::known();
    centers.add(center);
    centers
}

fn client(secret: &str) -> OAuthClient {
    OAuthClient::new("1000.CLIENT", secret).unwrap()
}

fn code() -> GrantToken {
    GrantToken::new("1000.code").unwrap()
}

/// Waits until a request to `path` came in, and returns it.
async fn request_to(server: &RawServer, path: &str) -> String {
    loop {
        let requests = server.requests();
        let there = requests.into_iter().find(|request| request.contains(path));
        if let Some(request) = there {
            return request;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn a_host_of_the_centers_own_domains_is_that_center_also_after_a_restart() {
    for domain in [
        "https://api.zoho.eu",
        "https://api.zoho.eu/",
        "api.zoho.eu",
        "https://zohoapis.eu",
        "www.zohoapis.eu",
        "https://www.zohoapis.eu/",
    ] {
        let server = accounts(domain).await;
        let store = Arc::new(ListStore::new());
        let process = || {
            let builder = Authenticator::builder(Arc::clone(&store)).client(client("s"));
            builder.data_centers(known(center_at("eu", &server)))
        };
        let login = Credential::grant(client("s"), code()).user_name(user("ann"));
        let login = login.data_center(center_at("eu", &server));
        let session = process().build().unwrap().session(login).await.unwrap();
        let old = session.access_token().await.unwrap();
        assert_eq!(old.api_domain(), Some(domain));

        let process = process().build().unwrap();
        let session = process.session(user("ann")).await.unwrap();
        let refused = session.access_token().await.unwrap();
        // The stub issues the same access token again, which is no fault of the data center.
        let error = session.refused(refused.token()).await.unwrap_err();
        assert_eq!(error.code(), ErrorCode::UnexpectedAnswer, "{domain}");
        assert!(server.requests().len() > 1, "{domain}");
        session.revoke().await.unwrap();
        assert_eq!(store.get_tokens().await.unwrap(), [], "{domain}");
    }
}

/// What a login at `center` comes to, and what is stored then.
async fn login_at(center: &DataCenter, store: &Arc<ListStore>) -> Result<Session> {
    let auth = Authenticator::builder(Arc::clone(store)).data_center(center.clone());
    let login = Credential::grant(client("s"), code()).user_name(user("ann"));
    auth.build().unwrap().session(login).await
}

#[tokio::test]
async fn a_login_of_no_known_data_center_is_refused_before_anything_is_stored() {
    for domain in [
        "https://api.evil.test",
        "https://api.zoho.eu.evil.test",
        "https://evilzoho.eu",
        "https://api.zoho.mars",
        "not a url at all",
    ] {
        let server = accounts(domain).await;
        let store = Arc::new(ListStore::new());
        let refused = login_at(&center_at("eu", &server), &store).await;
        let error = refused.map(drop).expect_err(domain);
        assert_eq!(error.code(), ErrorCode::UnknownDataCenter, "{domain}");
        assert!(error.remedy().contains("DataCenters::add"), "{error:?}");
        assert_eq!(store.get_tokens().await.unwrap(), [], "{domain}");
        let unsaved = error.unsaved_token().unwrap();
        assert_eq!(
            unsaved.refresh_token,
            RefreshToken::new("1000.refresh").ok()
        );
    }
}

#[tokio::test]
async fn a_login_of_no_known_data_center_that_no_caller_hears_of_is_revoked() {
    let gate = Arc::new(Semaphore::new(0));
    let answer = http(
        "200 OK",
        "application/json",
        &granted("https://api.evil.test"),
    );
    let server = RawServer::answering_behind(Arc::clone(&gate), answer).await;
    let store = Arc::new(ListStore::new());
    let center = center_at("eu", &server);
    let (at, in_store) = (center, Arc::clone(&store));
    let caller = tokio::spawn(async move { login_at(&at, &in_store).await.map(drop) });
    request_to(&server, "/oauth/v2/token ").await;
    caller.abort();
    assert!(caller.await.unwrap_err().is_cancelled());
    gate.add_permits(2);
    let revocation = request_to(&server, "/oauth/v2/token/revoke").await;
    assert!(revocation.contains("token=1000.refresh"));
    assert_eq!(store.get_tokens().await.unwrap(), []);
}

/// A login at `eu` of this table that is refused, before anything is stored.
async fn refused_at_eu(centers: DataCenters, own: Option<DataCenter>) -> String {
    let eu = centers.by_name("eu").unwrap().clone();
    let store = Arc::new(ListStore::new());
    let mut builder = Authenticator::builder(Arc::clone(&store)).data_centers(centers);
    if let Some(own) = own {
        builder = builder.data_center(own);
    }
    let login = Credential::grant(client("s"), code()).user_name(user("ann"));
    let login = login.data_center(eu);
    let refused = builder.build().unwrap().session(login).await;
    assert_eq!(store.get_tokens().await.unwrap(), []);
    let error = refused.map(drop).unwrap_err();
    assert_eq!(error.code(), ErrorCode::UnknownDataCenter);
    let unsaved = error.unsaved_token().unwrap();
    assert!(unsaved.refresh_token.is_some());
    error.message().to_owned()
}

#[tokio::test]
async fn a_center_that_does_not_name_its_api_speaks_for_no_other() {
    let server = accounts("https://evil.test").await;
    for accounts_url in [
        "https://accounts.zoho.uk",
        "https://accounts.somewhere.test",
    ] {
        let silent = DataCenter::builder("x", accounts_url).build().unwrap();
        let mut centers = known(center_at("eu", &server));
        centers.add(silent.clone());
        for own in [None, Some(silent)] {
            let message = refused_at_eu(centers.clone(), own).await;
            assert!(message.contains("https://evil.test"), "{message}");
        }
    }
}

/// Another process that starts from the user's name would not find it.
#[tokio::test]
async fn a_login_at_a_center_that_is_in_no_table_is_refused() {
    let server = accounts("https://www.gateway.test").await;
    let center = DataCenter::builder("gw", &server.url).api_domain("https://www.gateway.test");
    let store = Arc::new(ListStore::new());
    let auth = Authenticator::builder(Arc::clone(&store)).build().unwrap();
    let login = Credential::grant(client("s"), code()).user_name(user("ann"));
    let login = login.data_center(center.build().unwrap());
    let error = auth.session(login).await.map(drop).unwrap_err();
    assert_eq!(error.code(), ErrorCode::UnknownDataCenter);
    assert!(error.remedy().contains("DataCenters::add"), "{error:?}");
    // The grant token, which works once, is not spent.
    assert!(server.requests().is_empty());
    assert_eq!(store.get_tokens().await.unwrap(), []);
}

#[tokio::test]
async fn a_login_does_not_name_the_api_of_another_known_center() {
    for domain in ["https://www.zohoapis.in", "https://api.zoho.in"] {
        let server = accounts(domain).await;
        let message = refused_at_eu(known(center_at("eu", &server)), None).await;
        for part in [domain, "`in`", "`eu`"] {
            assert!(message.contains(part), "{message}");
        }
    }
}

#[tokio::test]
async fn two_centers_of_one_accounts_server_are_one() {
    let server = accounts("https://sandbox.gateway.test").await;
    let sandbox = DataCenter::builder("eu-sandbox", &server.url);
    let sandbox = sandbox.api_domain("https://sandbox.gateway.test");
    let mut centers = known(center_at("eu", &server));
    centers.add(sandbox.build().unwrap());
    let eu = centers.by_name("eu").unwrap().clone();
    let auth = Authenticator::builder(ListStore::new()).data_centers(centers);
    let login = Credential::grant(client("s"), code()).data_center(eu);
    auth.build().unwrap().session(login).await.unwrap();
}

#[test]
fn the_accounts_server_of_a_country_says_what_its_api_is_called() {
    let uk = DataCenter::builder("uk", "https://accounts.zoho.uk").build();
    let uk = uk.unwrap();
    let centers = known(uk.clone());
    for domain in ["https://www.zohoapis.uk", "https://api.zoho.uk"] {
        assert_eq!(centers.of_api_domain(domain, &uk).unwrap(), &uk);
    }
    for own in [&uk, &DataCenter::us()] {
        assert!(centers.of_api_domain("https://evil.test", own).is_err());
    }
}

#[tokio::test]
async fn a_center_that_does_not_name_its_api_is_taken_at_its_word() {
    let server = accounts("https://api.somewhere.test").await;
    let store = Arc::new(ListStore::new());
    let silent = DataCenter::builder("x", &server.url).build().unwrap();
    for own in [true, false] {
        store.delete_tokens().await.unwrap();
        let process = || {
            let builder = Authenticator::builder(Arc::clone(&store)).client(client("s"));
            if own {
                builder.data_center(silent.clone())
            } else {
                builder.data_centers(known(silent.clone()))
            }
        };
        let login = Credential::grant(client("s"), code()).user_name(user("ann"));
        let login = login.data_center(silent.clone());
        process().build().unwrap().session(login).await.unwrap();
        let session = process().build().unwrap().session(user("ann")).await;
        session.unwrap().revoke().await.unwrap();
    }
}

/// A stored login at the center of `server` whose access token has ended.
async fn expired(store: &dyn TokenStore, api_domain: Option<&str>) -> TokenId {
    let mut record = good("ann", "1000.CLIENT");
    record.client_secret = ClientSecret::new("stored-secret").ok();
    record.expiry_time = Some(in_seconds(-60));
    record.api_domain = api_domain.map(str::to_owned);
    store.save_token(&record).await.unwrap()
}

#[tokio::test]
async fn a_refresh_does_not_move_a_login_to_another_data_center() {
    // No known one, and a known one that was not asked.
    for foreign in ["https://evil.test", "https://www.zohoapis.in"] {
        for stored in [Some(API), Some("https://api.zoho.eu"), None] {
            let server = accounts(foreign).await;
            let store = Arc::new(ListStore::new());
            let id = expired(&store, stored).await;
            let auth = Authenticator::builder(Arc::clone(&store)).client(client("s"));
            let auth = auth.data_center(center_at("eu", &server)).build().unwrap();
            let mut events = auth.events();
            let session = auth.session(id).await.unwrap();
            let access = session.access_token().await.unwrap();
            assert_eq!(access.token().expose_secret(), "1000.new");
            assert_eq!(access.api_domain(), stored);
            let record = store.find_token_by_id(id).await.unwrap().unwrap();
            assert_eq!(record.api_domain.as_deref(), stored, "{foreign}");
            let event = events.recv().await.unwrap();
            assert!(
                matches!(&event, Event::ForeignApiDomain { id: of, domain } if *of == id && domain == foreign),
                "{event:?}"
            );
        }
    }
}

/// What a refresh at `center` leaves in a record that has this API domain, and whether it says that
/// the answer named another one.
async fn refreshed_at(center: DataCenter, stored: Option<&str>) -> (Option<String>, bool) {
    let store = Arc::new(ListStore::new());
    let id = expired(&store, stored).await;
    let auth = Authenticator::builder(Arc::clone(&store)).client(client("s"));
    let auth = auth.data_center(center).build().unwrap();
    let mut events = auth.events();
    let access = auth.session(id).await.unwrap().access_token().await;
    let record = store.find_token_by_id(id).await.unwrap().unwrap();
    assert_eq!(access.unwrap().api_domain(), record.api_domain.as_deref());
    let is_told = matches!(events.try_recv(), Ok(Event::ForeignApiDomain { .. }));
    (record.api_domain, is_told)
}

#[tokio::test]
async fn a_center_that_does_not_name_its_api_names_it_once() {
    let server = accounts("https://other.test").await;
    let silent = || DataCenter::builder("x", &server.url).build().unwrap();
    let other = Some("https://other.test".to_owned());
    assert_eq!(refreshed_at(silent(), None).await, (other, false));
    for same in ["https://other.test", "https://other.test/", "other.test"] {
        let (_, is_told) = refreshed_at(silent(), Some(same)).await;
        assert!(!is_told, "{same}");
    }
    let stored = "https://api.somewhere.test";
    let stays = (Some(stored.to_owned()), true);
    assert_eq!(refreshed_at(silent(), Some(stored)).await, stays);
}

#[tokio::test]
async fn a_refresh_does_not_move_a_login_to_another_environment() {
    const SANDBOX: &str = "https://sandbox.zohoapis.eu";
    let cases = [
        (SANDBOX, API, false),
        ("https://sandbox.zoho.eu", "https://api.zoho.eu", false),
        (API, SANDBOX, false),
        (API, "https://developer.zohoapis.eu", false),
        (SANDBOX, "https://sandbox.zoho.eu", true),
        (API, "https://api.zoho.eu", true),
    ];
    for (stored, answered, moves) in cases {
        let server = accounts(answered).await;
        let center = DataCenter::builder("eu", &server.url).api_domain(API);
        let center = center.sandbox_domain(SANDBOX).build().unwrap();
        let (left, is_told) = refreshed_at(center, Some(stored)).await;
        let expected = if moves { answered } else { stored };
        assert_eq!(left.as_deref(), Some(expected), "{stored} {answered}");
        assert_eq!(is_told, !moves, "{stored} {answered}");
    }
}

#[tokio::test]
async fn a_login_without_an_api_domain_stays_at_its_center() {
    let eu = accounts_without_domain().await;
    let us = accounts("https://www.zohoapis.com").await;
    let us_center = DataCenter::builder("us", &us.url).api_domain("https://www.zohoapis.com");
    let us_center = us_center.build().unwrap();
    for stored in [None, Some("https://www.zohoapis.com"), Some("api.zoho.eu")] {
        let store = Arc::new(ListStore::new());
        if stored.is_some() {
            let mut other = good("ann", "1000.CLIENT");
            other.refresh_token = RefreshToken::new("1000.other").ok();
            other.api_domain = stored.map(str::to_owned);
            store.save_token(&other).await.unwrap();
        }
        let process = || {
            let builder = Authenticator::builder(Arc::clone(&store)).client(client("s"));
            let builder = builder.data_centers(known(center_at("eu", &eu)));
            builder.data_center(us_center.clone()).build().unwrap()
        };
        let login = Credential::grant(client("s"), code()).user_name(user("ann"));
        let login = login.data_center(center_at("eu", &eu));
        process().session(login).await.unwrap();
        let record = store.get_tokens().await.unwrap().remove(0);
        assert_eq!(record.refresh_token, RefreshToken::new("1000.refresh").ok());
        assert_eq!(record.api_domain.as_deref(), Some(API));
        let session = process().session(user("ann")).await.unwrap();
        session.revoke().await.unwrap();
        assert_eq!(us.requests().len(), 0);
    }
}

#[tokio::test]
async fn a_login_without_an_api_domain_takes_the_place_of_no_other() {
    let eu = accounts_without_domain().await;
    let silent = DataCenter::builder("x", &eu.url).build().unwrap();
    for (center, stored, code) in [
        // What is not stored leads to the same center later on, through `save_login`.
        (
            center_at("eu", &eu),
            "https://sandbox.zohoapis.eu",
            ErrorCode::IdConflict,
        ),
        (
            silent,
            "https://www.zohoapis.com",
            ErrorCode::UnknownDataCenter,
        ),
    ] {
        let store = Arc::new(ListStore::new());
        let mut other = good("ann", "1000.CLIENT");
        other.api_domain = Some(stored.to_owned());
        store.save_token(&other).await.unwrap();
        let before = store.get_tokens().await.unwrap();
        let known_domain = center
            .api_domain(Environment::Production)
            .map(str::to_owned);
        let auth = Authenticator::builder(Arc::clone(&store)).data_centers(known(center.clone()));
        let login = Credential::grant(client("s"), self::code()).user_name(user("ann"));
        let login = login.data_center(center);
        let refused = auth.build().unwrap().session(login).await.map(drop);
        let error = refused.unwrap_err();
        assert_eq!(error.code(), code, "{error}");
        assert_eq!(error.unsaved_token().unwrap().api_domain, known_domain);
        assert_eq!(store.get_tokens().await.unwrap(), before);
    }
}

#[tokio::test]
async fn a_center_that_another_one_takes_the_place_of_is_named() {
    let server = accounts("https://www.gateway.test").await;
    let api = "https://www.gateway.test";
    let gateway = DataCenter::builder("other", "https://accounts.other.test");
    let mut centers = known(
        DataCenter::builder("eu", &server.url)
            .api_domain(api)
            .build()
            .unwrap(),
    );
    centers.add(gateway.api_domain(api).build().unwrap());
    let message = refused_at_eu(centers, None).await;
    assert!(message.contains("`other`"), "{message}");
}

#[tokio::test]
async fn a_sandbox_that_is_a_center_of_its_own_stays_one() {
    const SANDBOX: &str = "https://sandbox.zohoapis.eu";
    let server = accounts(API).await;
    let sandbox = DataCenter::builder("eu-sandbox", &server.url).api_domain(SANDBOX);
    let sandbox = sandbox.build().unwrap();
    let store = Arc::new(ListStore::new());
    let id = expired(&store, Some(SANDBOX)).await;
    let mut centers = known(center_at("eu", &server));
    centers.add(sandbox.clone());
    let auth = Authenticator::builder(Arc::clone(&store)).client(client("s"));
    let auth = auth.data_centers(centers).data_center(sandbox).build();
    let session = auth.unwrap().session(id).await.unwrap();
    session.access_token().await.unwrap();
    let record = store.find_token_by_id(id).await.unwrap().unwrap();
    assert_eq!(record.api_domain.as_deref(), Some(SANDBOX));
}

#[tokio::test]
async fn what_a_stored_grant_token_is_exchanged_for_stays_at_its_center() {
    for eu in [
        accounts_without_domain().await,
        accounts("https://evil.test").await,
    ] {
        let store = Arc::new(ListStore::new());
        let mut record = good("ann", "1000.CLIENT");
        (record.access_token, record.refresh_token) = (None, None);
        record.expiry_time = None;
        record.api_domain = None;
        record.grant_token = Some(code());
        let id = store.save_token(&record).await.unwrap();
        let auth = Authenticator::builder(Arc::clone(&store));
        let auth = auth.data_centers(known(center_at("eu", &eu))).build();
        let login = Credential::grant(client("s"), code()).data_center(center_at("eu", &eu));
        let session = auth.unwrap().session(login).await.unwrap();
        session.access_token().await.unwrap();
        let record = store.find_token_by_id(id).await.unwrap().unwrap();
        assert!(record.refresh_token.is_some());
        assert_eq!(record.api_domain.as_deref(), Some(API));
    }
}

#[tokio::test]
async fn a_given_table_of_data_centers_wins_over_the_built_in_default() {
    let server = accounts(API).await;
    let store = ListStore::new();
    let auth = Authenticator::builder(store).data_centers(known(center_at("us", &server)));
    let login = Credential::grant(client("s"), code());
    auth.build().unwrap().session(login).await.unwrap();
    assert_eq!(server.requests().len(), 1);
}

#[tokio::test]
async fn the_order_of_the_builders_calls_does_not_matter() {
    let (own, other) = (accounts(API).await, accounts(API).await);
    for reversed in [false, true] {
        let builder = Authenticator::builder(ListStore::new());
        let (center, table) = (center_at("eu", &own), known(center_at("eu", &other)));
        let builder = if reversed {
            builder.data_center(center).data_centers(table)
        } else {
            builder.data_centers(table).data_center(center)
        };
        let auth = builder.build().unwrap();
        let login = Credential::grant(client("s"), code());
        let session = auth.session(login).await.unwrap();
        let access = session.access_token().await.unwrap();
        let _ = session.refused(access.token()).await;
    }
    assert!(own.requests().len() > 2);
    assert_eq!(other.requests().len(), 0);
}

/// The secret that the accounts server was shown by a refresh.
async fn shown(server: &RawServer, auth: &Authenticator, credential: Credential) -> String {
    let before = server.requests().len();
    let session = auth.session(credential).await.unwrap();
    session.access_token().await.unwrap();
    let requests = server.requests();
    assert_eq!(requests.len(), before + 1);
    let secret = requests[before].split("client_secret=").nth(1).unwrap();
    secret.split('&').next().unwrap().to_owned()
}

#[tokio::test]
async fn a_configured_secret_is_used_only_at_the_centers_that_it_was_given_for() {
    let eu = accounts(API).await;
    let us = accounts("https://www.zohoapis.com").await;
    let us_center = DataCenter::builder("us", &us.url).api_domain("https://www.zohoapis.com");
    let us_center = us_center.build().unwrap();
    let store = Arc::new(ListStore::new());
    let id = expired(&store, Some(API)).await;
    let process = |client: OAuthClient| {
        let builder = Authenticator::builder(Arc::clone(&store)).client(client);
        let builder = builder.data_centers(known(center_at("eu", &eu)));
        builder.data_center(us_center.clone()).build().unwrap()
    };
    let again = async || {
        let mut ended = store.find_token_by_id(id).await.unwrap().unwrap();
        ended.expiry_time = Some(in_seconds(-60));
        store.save_token(&ended).await.unwrap();
    };
    // The default center's secret is for the default center.
    let auth = process(client("us-secret"));
    assert_eq!(shown(&eu, &auth, id.into()).await, "stored-secret");
    again().await;
    let auth = process(client("us-secret"));
    assert_eq!(shown(&eu, &auth, user("ann").into()).await, "stored-secret");
    // So is one that comes with a credential which names no data center.
    again().await;
    let refresh = RefreshToken::new("1000.refresh").unwrap();
    let without_center = Credential::refresh(client("us-secret"), refresh.clone());
    let auth = process(client("us-secret"));
    let secret = shown(&eu, &auth, without_center.user_name(user("ann")).into()).await;
    assert_eq!(secret, "stored-secret");
    // One that is given for a center is used there, newer than the stored one as it is.
    again().await;
    let eu_center = center_at("eu", &eu);
    let eu_secret = ClientSecret::new("eu-secret").unwrap();
    let auth = process(client("us-secret").secret_at(&eu_center, eu_secret));
    assert_eq!(shown(&eu, &auth, id.into()).await, "eu-secret");
    again().await;
    let with_center = Credential::refresh(client("eu-secret"), refresh);
    let with_center = with_center.data_center(eu_center).user_name(user("ann"));
    let auth = process(client("us-secret"));
    assert_eq!(shown(&eu, &auth, with_center.into()).await, "eu-secret");
    // One that was given for a center is not the next one's, which was not.
    again().await;
    let auth = process(client("us-secret"));
    let refresh = RefreshToken::new("1000.refresh").unwrap();
    let with_center = Credential::refresh(client("eu-secret"), refresh.clone());
    let with_center = with_center.data_center(center_at("eu", &eu));
    let without_center = Credential::refresh(client("us-secret"), refresh);
    auth.session(with_center).await.unwrap();
    assert_eq!(
        shown(&eu, &auth, without_center.into()).await,
        "stored-secret"
    );
    assert_eq!(us.requests().len(), 0);
    // Where no other is known, the client's own is all there is.
    store.delete_tokens().await.unwrap();
    let mut record = good("bob", "1000.CLIENT");
    (record.expiry_time, record.api_domain) = (Some(in_seconds(-60)), Some(API.to_owned()));
    let id = store.save_token(&record).await.unwrap();
    let auth = process(client("us-secret"));
    assert_eq!(shown(&eu, &auth, id.into()).await, "us-secret");
}

#[tokio::test]
async fn a_login_is_exchanged_with_the_secret_of_its_center_and_stored_with_it() {
    let eu = accounts(API).await;
    let store = Arc::new(ListStore::new());
    let eu_center = center_at("eu", &eu);
    let eu_secret = ClientSecret::new("eu-secret").unwrap();
    let client = client("us-secret").secret_at(&eu_center, eu_secret.clone());
    let auth = Authenticator::builder(Arc::clone(&store)).data_centers(known(eu_center.clone()));
    let login = Credential::grant(client, code()).data_center(eu_center);
    auth.build().unwrap().session(login).await.unwrap();
    assert!(eu.requests()[0].contains("client_secret=eu-secret"));
    let stored = store.get_tokens().await.unwrap().remove(0);
    assert_eq!(stored.client_secret, Some(eu_secret));
}

#[tokio::test]
async fn a_configured_secret_replaces_the_stored_one_at_its_center() {
    let eu = accounts(API).await;
    let store = Arc::new(ListStore::new());
    let id = expired(&store, Some(API)).await;
    let auth = Authenticator::builder(Arc::clone(&store)).client(client("eu-secret"));
    let auth = auth.data_center(center_at("eu", &eu)).build().unwrap();
    assert_eq!(shown(&eu, &auth, id.into()).await, "eu-secret");
}
