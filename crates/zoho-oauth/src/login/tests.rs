use std::collections::HashMap;

use super::*;
use crate::credential::GrantCredential;
use crate::data_center::DataCenters;
use crate::error::ErrorKind;

const SCOPES: [&str; 2] = ["ZohoCRM.modules.ALL", "ZohoCRM.users.READ"];

fn client() -> OAuthClient {
    OAuthClient::new("1000.ABC", "s3cret-of-us")
        .unwrap()
        .redirect_uri("https://portal.example/callback?app=1&x=ü")
}

fn request() -> LoginRequest {
    LoginRequest::new(client(), DataCenter::us(), SCOPES)
}

fn query_of(url: &str) -> HashMap<String, String> {
    Url::parse(url)
        .unwrap()
        .query_pairs()
        .into_owned()
        .collect()
}

/// The query of a callback with this login's state and a code; `rest` goes on from there.
fn query(pending: &PendingLogin, rest: &str) -> String {
    format!("code=1000.c0de&state={}{rest}", pending.state())
}

fn accept(pending: &PendingLogin, query: &str) -> Result<GrantCredential> {
    pending.accept(&Callback::from_query(query)?, &DataCenters::known())
}

fn refusal(pending: &PendingLogin, query: &str) -> ErrorCode {
    let error = accept(pending, query).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::LoginRequired);
    for secret in ["c0de", pending.state(), "evil"] {
        assert!(!format!("{error} {error:?}").contains(secret), "{error}");
    }
    error.code()
}

#[test]
fn the_url_asks_for_what_was_set() {
    let (url, pending) = request().begin().unwrap();
    assert!(url.starts_with("https://accounts.zoho.com/oauth/v2/auth?"));
    let query = query_of(&url);
    assert_eq!(query["response_type"], "code");
    assert_eq!(query["client_id"], "1000.ABC");
    assert_eq!(query["redirect_uri"], client().redirect_uri.unwrap());
    assert_eq!(query["scope"], "ZohoCRM.modules.ALL,ZohoCRM.users.READ");
    assert_eq!(query["access_type"], "offline");
    assert_eq!(query["state"], pending.state());
    assert_eq!(query["code_challenge_method"], "S256");
    assert!(!query.contains_key("prompt"));
    let verifier = pending.verifier.as_ref().unwrap();
    assert_eq!(query["code_challenge"], challenge(verifier));
    for secret in ["s3cret-of-us", verifier.expose_secret()] {
        assert!(!url.contains(secret));
    }

    let other = request().consent().online().without_pkce();
    let (url, _) = other.begin().unwrap();
    let query = query_of(&url);
    assert_eq!(query["prompt"], "consent");
    assert_eq!(query["access_type"], "online");
    assert!(!query.contains_key("code_challenge"));
    assert!(!query.contains_key("code_challenge_method"));
}

#[test]
fn the_challenge_is_that_of_the_rfc() {
    // RFC 7636 appendix B.
    let verifier = CodeVerifier::new("dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk").unwrap();
    assert_eq!(
        challenge(&verifier),
        "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM"
    );
}

#[test]
fn every_login_has_its_own_state_and_verifier() {
    let (_, one) = request().begin().unwrap();
    let (_, other) = request().begin().unwrap();
    assert_ne!(one.state, other.state);
    assert_ne!(one.verifier, other.verifier);
    assert_eq!(one.state.len(), 43);
    assert_ne!(one.state, one.verifier.as_ref().unwrap().expose_secret());
}

#[test]
fn a_login_that_cannot_work_is_refused_before_anybody_is_sent_away() {
    let no_uri = OAuthClient::new("id", "secret").unwrap();
    for client in [
        no_uri.clone(),
        no_uri.clone().redirect_uri("portal.example/callback"),
        no_uri.clone().redirect_uri("https://portal.example/#done"),
        no_uri.redirect_uri("javascript:alert(1)"),
    ] {
        let error = LoginRequest::new(client, DataCenter::us(), SCOPES)
            .begin()
            .unwrap_err();
        assert_eq!(error.code(), ErrorCode::InvalidInput);
        assert!(error.to_string().contains("redirect URI"), "{error}");
    }
}

#[test]
fn scopes_are_checked_and_joined() {
    let url = |scopes: &[&str]| {
        LoginRequest::new(client(), DataCenter::us(), scopes.iter().copied())
            .begin()
            .map(|(url, _)| query_of(&url)["scope"].clone())
    };
    for scope in [
        "ZohoCRM.modules.ALL",
        "ZohoCRM.modules.leads.READ",
        "ZohoCRM.settings.layout_rules.READ",
        "AaaServer.profile.READ",
        "openid",
    ] {
        assert_eq!(url(&[scope]).unwrap(), scope);
    }
    assert_eq!(url(&["email", "A.b.C", "email"]).unwrap(), "email,A.b.C");
    for bad in [
        "",
        "ZohoCRM",
        "ZohoCRM.modules",
        "ZohoCRM..ALL",
        "ZohoCRM.modules.ALL,ZohoCRM.users.READ",
        "ZohoCRM.modules.ALL ZohoCRM.users.READ",
        "ZohoCRM.modules.ALL\n",
        "ZohoCRM.modules.ALL&prompt=none",
    ] {
        let error = url(&[bad]).unwrap_err();
        assert_eq!(error.code(), ErrorCode::InvalidInput, "{bad}");
    }
    assert_eq!(url(&[]).unwrap_err().code(), ErrorCode::InvalidInput);
}

#[test]
fn a_callback_becomes_what_is_exchanged() {
    let (_, pending) = request().begin().unwrap();
    let rest = "&location=eu&accounts-server=https%3A%2F%2Faccounts.zoho.eu&unknown=1&unknown=2";
    let grant = accept(&pending, &query(&pending, rest)).unwrap();
    assert_eq!(grant.code.expose_secret(), "1000.c0de");
    assert_eq!(grant.client, client());
    assert_eq!(grant.code_verifier, pending.verifier);
    assert_eq!(grant.data_center, Some(DataCenter::eu()));

    let plain = request().without_pkce();
    let (_, pending) = plain.begin().unwrap();
    let grant = accept(&pending, &query(&pending, "")).unwrap();
    assert_eq!(grant.code_verifier, None);
    assert_eq!(grant.data_center, Some(DataCenter::us()));
}

#[test]
fn each_data_center_may_have_its_own_secret() {
    let eu_secret = ClientSecret::new("s3cret-of-eu").unwrap();
    let request = request()
        .secret_at(&DataCenter::eu(), ClientSecret::new("old").unwrap())
        .secret_at(&DataCenter::eu(), eu_secret.clone());
    let (_, pending) = request.begin().unwrap();
    let secret_at = |host: &str| {
        let rest = format!("&accounts-server=https://{host}");
        let grant = accept(&pending, &query(&pending, &rest)).unwrap();
        grant.client.secret
    };
    assert_eq!(secret_at("accounts.zoho.eu"), eu_secret);
    assert_eq!(secret_at("accounts.zoho.com"), client().secret);
    assert_eq!(secret_at("accounts.zoho.in"), client().secret);
}

#[test]
fn only_the_origin_of_a_known_center_is_believed() {
    let (_, pending) = request().begin().unwrap();
    for good in [
        "https://accounts.zoho.com",
        "https://accounts.zoho.com/",
        "https://ACCOUNTS.zoho.com:443",
        "https%3A%2F%2Faccounts.zoho.com.cn",
    ] {
        let rest = format!("&accounts-server={good}");
        assert!(accept(&pending, &query(&pending, &rest)).is_ok(), "{good}");
    }
    for bad in [
        "http://accounts.zoho.com",
        "https://accounts.zoho.com@evil.example",
        "https://evil@accounts.zoho.com",
        "https://accounts.zoho.com/evil",
        "https://accounts.zoho.com/?evil",
        "https://accounts.zoho.com/%23evil",
        "//accounts.zoho.com",
        "accounts.zoho.com",
        "eu",
        "data:,evil",
    ] {
        let rest = format!("&accounts-server={bad}");
        let code = refusal(&pending, &query(&pending, &rest));
        assert_eq!(code, ErrorCode::CallbackRefused, "{bad}");
    }
}

#[test]
fn an_accounts_server_of_no_known_center_is_named() {
    let (_, pending) = request().begin().unwrap();
    let long = format!("accounts.{}.example", "zoho.".repeat(300));
    for host in [
        "accounts.zoho.uk",
        "accounts.evil.example",
        "accounts.zoho.com.evil.example",
        "accounts.zoho.com:444",
        "www.zohoapis.com",
        &long,
    ] {
        let rest = format!("&location=uk&accounts-server=https://{host}/");
        let error = accept(&pending, &query(&pending, &rest)).unwrap_err();
        assert_eq!(error.code(), ErrorCode::UnknownDataCenter, "{host}");
        let text = error.to_string();
        let named = &host[..host.len().min(40)];
        assert!(text.contains(named) && text.len() < 500, "{text}");
        assert!(error.remedy().contains("DataCenters::add"), "{error:?}");
    }
    let rest = "&accounts-server=https://accounts.zoho%0auk%1b";
    let error = accept(&pending, &query(&pending, rest)).unwrap_err();
    assert!(!error.to_string().contains(char::is_control), "{error}");
}

#[test]
fn the_location_picks_no_server_and_may_not_contradict() {
    let (_, pending) = request().begin().unwrap();
    let eu = "&accounts-server=https://accounts.zoho.eu";
    for good in [format!("{eu}&location=EU"), "&location=us".to_owned()] {
        assert!(accept(&pending, &query(&pending, &good)).is_ok(), "{good}");
    }
    for bad in [
        format!("{eu}&location=us"),
        format!("{eu}&location=evil.example"),
        "&location=eu".to_owned(),
        "&location=evil.example%2F".to_owned(),
    ] {
        let code = refusal(&pending, &query(&pending, &bad));
        assert_eq!(code, ErrorCode::CallbackRefused, "{bad}");
    }
}

#[test]
fn a_center_of_ones_own_is_known_to_its_login() {
    let center = DataCenter::builder("here", "http://127.0.0.1:4000");
    let center = center.build().unwrap();
    let request = LoginRequest::new(client(), center.clone(), SCOPES);
    let (url, pending) = request.begin().unwrap();
    assert!(url.starts_with("http://127.0.0.1:4000/oauth/v2/auth?"));
    let rest = "&location=here&accounts-server=http://127.0.0.1:4000";
    let grant = accept(&pending, &query(&pending, rest)).unwrap();
    assert_eq!(grant.data_center, Some(center));
}

#[test]
fn the_state_must_be_that_of_the_login() {
    let (_, pending) = request().begin().unwrap();
    let (_, other) = request().begin().unwrap();
    let state = pending.state().to_owned();
    for query in [
        "code=1000.c0de".to_owned(),
        "code=1000.c0de&state=".to_owned(),
        format!("code=1000.c0de&state={}", other.state()),
        format!("code=1000.c0de&state={state}x"),
        format!("code=1000.c0de&state={}", &state[..42]),
        format!("error=access_denied&state={}", other.state()),
        format!("code=1000.c0de&state={state}&state={state}"),
        format!("code=1000.c0de&code=1000.evil&state={state}"),
        "code=1000.c0de&error=access_denied".to_owned(),
    ] {
        assert_eq!(
            refusal(&pending, &query),
            ErrorCode::CallbackRefused,
            "{query}"
        );
    }
}

#[test]
fn what_the_consent_page_reports_has_a_code() {
    let (_, pending) = request().begin().unwrap();
    let report = |query: &str| accept(&pending, query).unwrap_err();
    for query in [
        "error=access_denied".to_owned(),
        format!("error=access_denied&state={}", pending.state()),
        query(&pending, "&error=access_denied"),
    ] {
        assert_eq!(report(&query).code(), ErrorCode::AccessDenied);
        assert_eq!(report(&query).server_code(), Some("access_denied"));
    }
    assert_eq!(
        report("error=invalid_scope").code(),
        ErrorCode::InvalidScope
    );
    let error = report("error=login_failed");
    assert_eq!(error.code(), ErrorCode::CallbackRefused);
    assert_eq!(error.server_code(), Some("login_failed"));
    let error = report("error=%3Cscript%3E");
    assert_eq!(error.server_code(), None);
    assert!(!error.to_string().contains("script"));
}

#[test]
fn a_callback_is_read_from_any_form_of_its_url() {
    for url in [
        "https://portal.example/callback?code=1000.a%2Bb&state=x#top",
        "/callback?code=1000.a%2Bb&state=x",
        "?code=1000.a%2Bb&state=x",
    ] {
        let callback = Callback::from_url(url).unwrap();
        assert_eq!(callback.code.unwrap().expose_secret(), "1000.a+b");
        assert_eq!(callback.state.as_deref(), Some("x"));
    }
    for url in [
        "",
        "https://portal.example/callback",
        "?",
        "?state=x",
        "?code=",
    ] {
        let error = Callback::from_url(url).unwrap_err();
        assert_eq!(error.code(), ErrorCode::CallbackRefused, "{url}");
    }
}

#[test]
fn a_login_can_be_put_aside_and_taken_up_again() {
    let center = DataCenter::builder("my.own", "https://accounts.example");
    let request = LoginRequest::new(client(), center.build().unwrap(), SCOPES);
    for request in [request.clone(), request.without_pkce()] {
        let (_, pending) = request.begin().unwrap();
        let text = pending.save().expose_secret().to_owned();
        assert!(!text.contains("s3cret"));
        let again = request.resume(&SavedLogin::new(text).unwrap()).unwrap();
        assert_eq!(again.state, pending.state);
        assert_eq!(again.verifier, pending.verifier);
        let grant = accept(&again, &query(&pending, "")).unwrap();
        assert_eq!(grant.code_verifier, pending.verifier);
    }
}

#[test]
fn a_damaged_saved_login_is_refused() {
    let request = request();
    let (_, pending) = request.begin().unwrap();
    let good = pending.save().expose_secret().to_owned();
    for bad in [
        "x".to_owned(),
        good.replacen('1', "2", 1),
        good.replace(&pending.state, ""),
        good.replace(&pending.state, "short"),
        good.replace(".us", ".eu"),
        good.replace(".us", ""),
        format!("{good}x"),
    ] {
        let error = request
            .resume(&SavedLogin::new(&*bad).unwrap())
            .unwrap_err();
        assert_eq!(error.code(), ErrorCode::CallbackRefused, "{bad}");
        assert!(!error.to_string().contains(&pending.state));
    }
}

#[test]
fn nothing_prints_a_secret() {
    let request = request().secret_at(
        &DataCenter::eu(),
        ClientSecret::new("s3cret-of-eu").unwrap(),
    );
    let (_, pending) = request.begin().unwrap();
    let callback = Callback::from_query(&query(&pending, "")).unwrap();
    let grant = pending.accept(&callback, &DataCenters::known()).unwrap();
    let saved = pending.save();
    let printed = format!("{request:?} {pending:?} {callback:?} {grant:?} {saved:?}");
    let verifier = pending.verifier.clone().unwrap();
    for secret in ["s3cret", "c0de", pending.state(), verifier.expose_secret()] {
        assert!(!printed.contains(secret), "{printed}");
    }
}

/// The sandbox plays Zoho: a person of another data center clicks through the consent page.
#[tokio::test]
async fn the_walk_through_the_consent_page() {
    let registered = zoho_sandbox::Client::web("1000.ABC", "s3cret-of-us", "http://localhost/back")
        .secret_in("eu", "s3cret-of-eu");
    let sandbox = zoho_sandbox::Sandbox::builder().client(registered);
    let sandbox = sandbox.start().await.unwrap();
    let mut centers = DataCenters::known();
    for name in ["us", "eu"] {
        let center = DataCenter::builder(name, sandbox.center(name).accounts_url());
        centers.add(center.build().unwrap());
    }
    let eu = centers.by_name("eu").unwrap().clone();
    let client = OAuthClient::new("1000.ABC", "s3cret-of-us").unwrap();
    let request = LoginRequest::new(
        client.redirect_uri("http://localhost/back"),
        centers.by_name("us").unwrap().clone(),
        ["ZohoCRM.modules.ALL"],
    )
    .secret_at(&eu, ClientSecret::new("s3cret-of-eu").unwrap());
    let accounts = crate::AccountsClient::new(&crate::HttpOptions::new()).unwrap();

    // Without asking for consent again, the second login would bring no refresh token.
    let again = request.clone().without_pkce().consent();
    for request in [&request, &again] {
        let (url, pending) = request.begin().unwrap();
        let back = sandbox.authorize(&url, "elise.brandt@example.org").unwrap();
        let callback = Callback::from_url(&back).unwrap();
        let grant = pending.accept(&callback, &centers).unwrap();
        let center = grant.data_center.unwrap();
        assert_eq!(center, eu);
        let verifier = grant.code_verifier.as_ref();
        let tokens = accounts
            .exchange(&center, &grant.client, &grant.code, verifier)
            .await
            .unwrap();
        assert!(tokens.refresh_token.is_some());
        assert_eq!(
            tokens.api_domain.as_deref(),
            Some(sandbox.center("eu").api_url())
        );
    }

    let (url, pending) = request.begin().unwrap();
    let back = sandbox.reject(&url, "elise.brandt@example.org").unwrap();
    let callback = Callback::from_url(&back).unwrap();
    let error = pending.accept(&callback, &centers).unwrap_err();
    assert_eq!(error.code(), ErrorCode::AccessDenied);
}
