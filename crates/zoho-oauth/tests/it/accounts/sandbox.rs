//! Against the sandbox, which is as strict as the real accounts server.

use zoho_oauth::{
    AccountsClient, ClientId, ClientSecret, DataCenter, ErrorCode, GrantToken, LoginRequest,
    OAuthClient, RefreshToken, Result, Revocation, TokenAnswer,
};
use zoho_sandbox::{Fault, Sandbox};

use super::accounts;

const PERSON: &str = "mira.holm@example.com";
const SCOPES: &str = "ZohoCRM.modules.ALL";

/// A sandbox, and what it is asked with.
struct Walk {
    sandbox: Sandbox,
    accounts: AccountsClient,
    center: DataCenter,
    client: OAuthClient,
}

impl Walk {
    async fn start() -> Self {
        let sandbox = Sandbox::builder().start().await.unwrap();
        let center = DataCenter::builder("us", sandbox.accounts_url());
        Self {
            accounts: accounts(),
            center: center.build().unwrap(),
            client: OAuthClient::new(sandbox.client_id(), sandbox.client_secret()).unwrap(),
            sandbox,
        }
    }

    fn code(&self) -> GrantToken {
        GrantToken::new(self.sandbox.grant_code(PERSON, SCOPES)).unwrap()
    }

    fn logged_in(&self) -> RefreshToken {
        RefreshToken::new(self.sandbox.login(PERSON, SCOPES).0).unwrap()
    }

    async fn exchange(&self, code: &GrantToken) -> Result<TokenAnswer> {
        let Self { center, client, .. } = self;
        self.accounts.exchange(center, client, code, None).await
    }

    async fn refresh(&self, token: &RefreshToken) -> Result<TokenAnswer> {
        let OAuthClient { id, secret, .. } = &self.client;
        self.accounts.refresh(&self.center, id, secret, token).await
    }
}

#[tokio::test]
async fn exchange_refresh_revoke() {
    let walk = Walk::start().await;
    let first = walk.exchange(&walk.code()).await.unwrap();
    assert_eq!(first.api_domain.as_deref(), Some(walk.sandbox.api_url()));
    assert_eq!(first.life.as_secs(), 3600);
    let token = first.refresh_token.unwrap();

    let second = walk.refresh(&token).await.unwrap();
    assert_ne!(second.access_token, first.access_token);
    assert_eq!(second.refresh_token, None);
    assert_eq!(second.api_domain, first.api_domain);

    let revoke = || walk.accounts.revoke(&walk.center, &token);
    assert_eq!(revoke().await.unwrap(), Revocation::Revoked);
    assert_eq!(revoke().await.unwrap(), Revocation::AlreadyInvalid);
    let error = walk.refresh(&token).await.unwrap_err();
    assert_eq!(error.code(), ErrorCode::InvalidCode);

    let secrets = [
        token.expose_secret(),
        second.access_token.expose_secret(),
        walk.sandbox.client_secret(),
    ];
    let requests = walk.sandbox.requests();
    assert_eq!(requests.len(), 5);
    for request in requests {
        assert_eq!(request.method, "POST");
        assert!(!request.path_and_query.contains('?'));
        let head = format!("{request:?}");
        assert!(secrets.iter().all(|secret| !head.contains(secret)));
    }
}

#[tokio::test]
async fn a_grant_token_works_once() {
    let walk = Walk::start().await;
    let code = walk.code();
    walk.exchange(&code).await.unwrap();
    let error = walk.exchange(&code).await.unwrap_err();
    assert_eq!(error.code(), ErrorCode::InvalidCode);
}

#[tokio::test]
async fn a_wrong_client_is_told_from_a_wrong_token() {
    let walk = Walk::start().await;
    let token = walk.logged_in();
    let ask = async |id: &str, secret: &str| {
        let id = ClientId::new(id).unwrap();
        let secret = ClientSecret::new(secret).unwrap();
        let answer = walk.accounts.refresh(&walk.center, &id, &secret, &token);
        answer.await.unwrap_err().code()
    };
    let (id, secret) = (walk.sandbox.client_id(), walk.sandbox.client_secret());
    assert_eq!(ask("1000.NOBODY", secret).await, ErrorCode::InvalidClient);
    assert_eq!(ask(id, "wrong").await, ErrorCode::InvalidClientSecret);
}

#[tokio::test]
async fn another_redirect_uri_than_the_login_s_is_refused() {
    let walk = Walk::start().await;
    let client = walk
        .client
        .clone()
        .redirect_uri(walk.sandbox.redirect_uri());
    let request = LoginRequest::new(client, walk.center.clone(), [SCOPES]).without_pkce();
    let (url, _) = request.begin().unwrap();
    let back = walk.sandbox.authorize(&url, PERSON).unwrap();
    let back = url::Url::parse(&back).unwrap();
    let code = back.query_pairs().find(|(name, _)| name == "code").unwrap();
    let code = GrantToken::new(code.1).unwrap();
    let client = walk
        .client
        .clone()
        .redirect_uri("https://elsewhere.example/");
    let answer = walk.accounts.exchange(&walk.center, &client, &code, None);
    let error = answer.await.unwrap_err();
    assert_eq!(error.code(), ErrorCode::InvalidRedirectUri);
}

#[tokio::test]
async fn the_eleventh_refresh_is_throttled_for_one_window_at_most() {
    let walk = Walk::start().await;
    let token = walk.logged_in();
    let throttled = loop {
        if let Err(error) = walk.refresh(&token).await {
            break error;
        }
    };
    assert_eq!(throttled.code(), ErrorCode::Throttled, "{throttled:?}");
    assert_eq!(throttled.server_code(), Some("Access Denied"));
    let wait = throttled.retry_after().unwrap();
    assert!((590..=600).contains(&wait.as_secs()), "{wait:?}");
    walk.sandbox.advance(wait);
    assert!(walk.refresh(&token).await.is_ok());
}

#[tokio::test]
async fn what_goes_wrong_on_the_way_is_no_verdict() {
    let walk = Walk::start().await;
    let token = walk.logged_in();
    for (fault, code) in [
        (Fault::throttle(), ErrorCode::Throttled),
        (Fault::status(500), ErrorCode::ServerError),
        (Fault::status(503), ErrorCode::ServerError),
        (Fault::html(), ErrorCode::ServerError),
        (Fault::malformed_json(), ErrorCode::ServerError),
        (Fault::cut(), ErrorCode::Network),
    ] {
        let name = format!("{fault:?}");
        let asked = walk.sandbox.requests().len();
        walk.sandbox.inject(fault);
        let error = walk.refresh(&token).await.unwrap_err();
        assert_eq!(error.code(), code, "{name}");
        assert!(error.is_transient());
        assert_eq!(walk.sandbox.requests().len(), asked + 1, "{name}");
        assert!(walk.refresh(&token).await.is_ok(), "{name}");
        // Three more access tokens at most: the limit is not what is tested here.
        walk.sandbox.advance(std::time::Duration::from_mins(11));
    }
}

#[tokio::test]
async fn a_life_in_any_form_is_an_hour() {
    let walk = Walk::start().await;
    let token = walk.logged_in();
    for fault in [Fault::no_expires_in(), Fault::legacy_expiry()] {
        walk.sandbox.inject(fault);
        let answer = walk.refresh(&token).await.unwrap();
        assert_eq!(answer.life.as_secs(), 3600);
    }
    walk.sandbox.inject(Fault::no_refresh_token());
    let answer = walk.exchange(&walk.code()).await.unwrap();
    assert_eq!(answer.refresh_token, None);
}
