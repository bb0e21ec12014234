//! What goes over the wire, byte by byte, and where to: against a stub that answers as told.

use std::time::Duration;

use serde_json::{Value, json};
use wiremock::matchers::{body_json, header, method, path, query_param};
use wiremock::{Mock, MockServer, Request, ResponseTemplate};
use zohocrm::oauth::{
    AccessToken, Credential, DataCenter, DataCenters, Environment, ListStore, OAuthClient,
    RefreshToken,
};
use zohocrm::{ApiDomain, ErrorCode, Record, Target, ZohoCrm, ZohoCrmBuilder};

const TOKEN: &str = "1000.aaaa.bbbb";

fn builder(target: impl Into<Target>, api_domain: &str) -> ZohoCrmBuilder {
    let token = AccessToken::new(TOKEN).unwrap();
    let credential = Credential::access(token).api_domain(api_domain);
    ZohoCrm::builder(target, credential, ListStore::new()).find_user(false)
}

async fn client(server: &MockServer) -> ZohoCrm {
    let center = DataCenter::builder("stub", server.uri()).api_domain(server.uri());
    let center = center.build().unwrap();
    builder(center, &server.uri()).build().await.unwrap()
}

fn done(id: &str) -> Value {
    json!({ "code": "SUCCESS", "status": "success", "message": "done", "details": { "id": id } })
}

fn answer(items: &[Value]) -> ResponseTemplate {
    ResponseTemplate::new(200).set_body_json(json!({ "data": items }))
}

#[tokio::test]
async fn writes_look_as_the_official_sdks_send_them() {
    let server = MockServer::start().await;
    let mock = |verb: &str, place: &str, body: Value| {
        Mock::given(method(verb))
            .and(path(place))
            .and(header("Authorization", format!("Zoho-oauthtoken {TOKEN}")))
            .and(header("Content-Type", "application/json"))
            .and(body_json(body))
            .respond_with(answer(&[done("77")]))
            .expect(1)
    };
    let zed = json!({ "Last_Name": "Zed" });
    let create = json!({ "data": [zed], "trigger": ["workflow"], "lar_id": "5" });
    let update = json!({ "data": [{ "id": "77", "Company": "B" }], "trigger": [] });
    let upsert = json!({ "data": [zed], "duplicate_check_fields": ["Email"] });
    mock("POST", "/crm/v8/Leads", create).mount(&server).await;
    mock("PUT", "/crm/v8/Leads", update).mount(&server).await;
    mock("POST", "/crm/v8/Leads/upsert", upsert)
        .mount(&server)
        .await;
    Mock::given(method("DELETE"))
        .and(path("/crm/v8/Leads"))
        .and(query_param("ids", "1,2"))
        .and(query_param("wf_trigger", "false"))
        .respond_with(answer(&[done("1"), done("2")]))
        .expect(1)
        .mount(&server)
        .await;

    let crm = client(&server).await;
    let leads = crm.records("Leads");
    let zed = Record::new().with("Last_Name", "Zed");
    let create = leads
        .create([&zed])
        .trigger(["workflow"])
        .assignment_rule(5_u64);
    create.send().await.unwrap().remove(0).unwrap();
    let change = Record::with_id(77_u64).with("Company", "B");
    let update = leads.update([change]).trigger(Vec::<String>::new());
    update.send().await.unwrap().remove(0).unwrap();
    let upsert = leads.upsert([&zed]).duplicate_check_fields(["Email"]);
    upsert.send().await.unwrap().remove(0).unwrap();
    let gone = leads
        .delete(["1", "2"])
        .run_workflows(false)
        .send()
        .await
        .unwrap();
    assert_eq!(gone.len(), 2);
}

#[tokio::test]
async fn a_page_that_has_more_but_leads_no_further_is_an_error() {
    let server = MockServer::start().await;
    let list = |token: Value| {
        let info = json!({ "more_records": true, "next_page_token": token });
        ResponseTemplate::new(200).set_body_json(json!({ "data": [{ "id": "1" }], "info": info }))
    };
    Mock::given(query_param("page_token", "last"))
        .respond_with(list(Value::Null))
        .with_priority(1)
        .mount(&server)
        .await;
    Mock::given(method("GET"))
        .respond_with(list("last".into()))
        .mount(&server)
        .await;
    let crm = client(&server).await;
    let mut all = crm.records("Leads").list().fields(["id"]).stream();
    assert!(all.next().await.unwrap().is_ok());
    assert!(all.next().await.unwrap().is_ok());
    let error = all.next().await.unwrap().unwrap_err();
    assert_eq!(error.code(), ErrorCode::PagesEnded);
    assert!(all.next().await.is_none());
}

#[tokio::test]
async fn a_refusal_under_the_status_of_a_success_is_seen() {
    let server = MockServer::start().await;
    let body = json!({ "code": "LICENSE_EXPIRED", "message": "m", "status": "error" });
    let refusal = ResponseTemplate::new(200).set_body_json(body);
    Mock::given(method("GET"))
        .respond_with(refusal)
        .mount(&server)
        .await;
    let error = client(&server).await.org().get().await.unwrap_err();
    assert_eq!(error.code(), ErrorCode::Refused);
    assert_eq!(error.api().unwrap().code(), "LICENSE_EXPIRED");
}

#[tokio::test]
async fn who_is_told_to_come_back_in_an_hour_does_not_come_back_before() {
    let server = MockServer::start().await;
    let busy = ResponseTemplate::new(429).insert_header("Retry-After", "3600");
    Mock::given(method("GET"))
        .respond_with(busy)
        .expect(1)
        .mount(&server)
        .await;
    let error = client(&server).await.org().get().await.unwrap_err();
    assert_eq!(error.code(), ErrorCode::TooManyRequests);
    assert_eq!(error.retry_after(), Some(Duration::from_hours(1)));
}

#[tokio::test]
async fn redirects_are_not_followed_since_they_would_carry_the_token_away() {
    let elsewhere = MockServer::start().await;
    let server = MockServer::start().await;
    let away = ResponseTemplate::new(302).insert_header("Location", elsewhere.uri());
    Mock::given(method("GET"))
        .respond_with(away)
        .mount(&server)
        .await;
    let error = client(&server).await.org().get().await.unwrap_err();
    assert_eq!(error.code(), ErrorCode::UnexpectedAnswer);
    assert_eq!(error.http_status(), Some(302));
    assert!(elsewhere.received_requests().await.unwrap().is_empty());
}

#[tokio::test]
async fn a_server_that_repeats_the_token_in_its_error_does_not_get_it_into_ours() {
    let server = MockServer::start().await;
    let echo = |request: &Request| {
        let sent = request.headers["Authorization"]
            .to_str()
            .unwrap()
            .to_owned();
        let body = json!({ "code": sent, "message": sent, "status": "error", "details": { "you_sent": sent } });
        ResponseTemplate::new(400).set_body_json(body)
    };
    Mock::given(method("GET"))
        .respond_with(echo)
        .mount(&server)
        .await;
    let error = client(&server).await.org().get().await.unwrap_err();
    let shown = format!("{error} {error:?} {:?}", error.api());
    assert!(shown.contains("[redacted]"), "{shown}");
    assert!(!shown.contains(TOKEN), "{shown}");
}

#[tokio::test]
async fn an_authentication_failure_asks_for_another_token_unless_told_not_to() {
    for (refresh, expected) in [(true, ErrorCode::NoToken), (false, ErrorCode::TokenRefused)] {
        let server = MockServer::start().await;
        let body = json!({ "code": "AUTHENTICATION_FAILURE", "message": "m", "status": "error" });
        let refusal = ResponseTemplate::new(401).set_body_json(body);
        Mock::given(method("GET"))
            .respond_with(refusal)
            .expect(1)
            .mount(&server)
            .await;
        let center = DataCenter::builder("stub", server.uri()).api_domain(server.uri());
        let crm = builder(center.build().unwrap(), &server.uri())
            .refresh_on_authentication_failure(refresh)
            .build()
            .await
            .unwrap();
        // The bare access token cannot be refreshed, which shows that another one was wanted.
        let error = crm.org().get().await.unwrap_err();
        assert_eq!(error.code(), expected, "{error:?}");
    }
}

/// Whether the first refusal with this status and body makes the client ask for another token.
///
/// The bare access token cannot be refreshed, which shows that another one was wanted.
async fn asks_for_another_token(status: u16, body: &str) -> bool {
    let server = MockServer::start().await;
    let refusal = ResponseTemplate::new(status).set_body_raw(body, "application/json");
    Mock::given(path("/crm/v8/org"))
        .respond_with(refusal)
        .mount(&server)
        .await;
    let crm = client(&server).await;
    let error = crm.request(zohocrm::Method::Post, "org").send().await;
    match error.and_then(zohocrm::Response::check) {
        Err(error) if error.code() == ErrorCode::NoToken => true,
        Err(error) => {
            assert_ne!(error.code(), ErrorCode::TokenRefused, "{status} {body}");
            false
        }
        Ok(_) => false,
    }
}

#[tokio::test]
async fn a_token_is_refused_by_the_code_and_not_by_the_status() {
    for code in [
        "INVALID_TOKEN",
        "INVALID_OAUTHTOKEN",
        "AUTHENTICATION_FAILURE",
    ] {
        let item = json!({ "code": code, "message": "m", "status": "error", "details": {} });
        for body in [item.clone(), json!({ "data": [item] })] {
            for status in [400, 401, 403, 404, 500] {
                assert!(
                    asks_for_another_token(status, &body.to_string()).await,
                    "{status} {body}"
                );
            }
        }
        assert!(
            asks_for_another_token(200, &item.to_string()).await,
            "200 {item}"
        );
    }
    for body in ["", "<html>Unauthorized</html>", "{", "[]", "{}"] {
        assert!(asks_for_another_token(401, body).await, "401 {body}");
    }
    let item = json!({ "code": "OAUTH_SCOPE_MISMATCH", "message": "m", "status": "error" });
    for status in [200, 400, 401, 403, 500] {
        assert!(
            !asks_for_another_token(status, &item.to_string()).await,
            "{status} {item}"
        );
    }
    for (status, code) in [
        (400, "INVALID_DATA"),
        (403, "NO_PERMISSION"),
        (401, "NO_PERMISSION"),
    ] {
        let item = json!({ "code": code, "message": "m", "status": "error" });
        assert!(
            !asks_for_another_token(status, &item.to_string()).await,
            "{status} {item}"
        );
    }
    // What a record holds is not what the CRM says about the token.
    let record = json!({ "data": [{ "id": "1", "code": "INVALID_TOKEN", "status": "error" }] });
    assert!(!asks_for_another_token(200, &record.to_string()).await);
    for status in ["", "active", "success"] {
        let answer = json!({ "code": "INVALID_TOKEN", "message": "m", "status": status });
        assert!(!asks_for_another_token(200, &answer.to_string()).await);
    }
}

#[tokio::test]
async fn a_center_that_the_table_describes_anew_is_where_the_table_says() {
    let (production, sandbox, _) = both().await;
    let us = DataCenter::builder("us", production.uri())
        .api_domain(production.uri())
        .sandbox_domain(sandbox.uri())
        .build()
        .unwrap();
    let mut table = DataCenters::known();
    table.add(us.clone());
    for (builder, calls) in [
        (
            builder(DataCenter::us(), &production.uri()).data_centers(table.clone()),
            (1, 0),
        ),
        (
            builder(DataCenter::us(), &production.uri()).data_center(us),
            (2, 0),
        ),
        (
            builder((DataCenter::us(), Environment::Sandbox), &production.uri())
                .data_centers(table.clone()),
            (2, 1),
        ),
    ] {
        builder.build().await.unwrap().org().get().await.unwrap();
        assert_eq!(
            (received(&production).await, received(&sandbox).await),
            calls
        );
    }
    // One that the application describes itself is its own.
    let own = DataCenter::builder("us", sandbox.uri()).api_domain(sandbox.uri());
    let crm = builder(own.build().unwrap(), &sandbox.uri()).data_centers(table);
    crm.build().await.unwrap().org().get().await.unwrap();
    assert_eq!(
        (received(&production).await, received(&sandbox).await),
        (2, 2)
    );
}

/// A data center with a production and a sandbox API, each a stub that counts.
async fn both() -> (MockServer, MockServer, DataCenter) {
    let (production, sandbox) = (MockServer::start().await, MockServer::start().await);
    for server in [&production, &sandbox] {
        let org = ResponseTemplate::new(200).set_body_json(json!({ "org": [{ "id": "1" }] }));
        Mock::given(path("/crm/v8/org"))
            .respond_with(org)
            .mount(server)
            .await;
    }
    let center = DataCenter::builder("stub", production.uri())
        .api_domain(production.uri())
        .sandbox_domain(sandbox.uri())
        .build()
        .unwrap();
    (production, sandbox, center)
}

async fn received(server: &MockServer) -> usize {
    server.received_requests().await.unwrap().len()
}

#[tokio::test]
async fn who_asks_for_a_sandbox_never_reaches_production() {
    let (production, sandbox, center) = both().await;
    let target = (center, Environment::Sandbox);
    for domain in [production.uri(), sandbox.uri()] {
        let crm = builder(target.clone(), &domain).build().await.unwrap();
        crm.org().get().await.unwrap().unwrap();
    }
    assert_eq!(
        (received(&production).await, received(&sandbox).await),
        (0, 2)
    );
    // Unless the application trusts the token more, as the official SDKs do.
    let crm = builder(target, &production.uri()).api_domain(ApiDomain::OfToken);
    crm.build().await.unwrap().org().get().await.unwrap();
    assert_eq!(
        (received(&production).await, received(&sandbox).await),
        (1, 2)
    );
}

/// Zoho has more data centers than the official SDKs know, and names its API hosts in more than
/// one way: an unknown address may well be production.
#[tokio::test]
async fn an_address_that_nobody_knows_is_not_taken_for_a_sandbox() {
    let (_production, sandbox, center) = both().await;
    let (unknown, _, _) = both().await;
    for environment in [Environment::Sandbox, Environment::Developer] {
        let target = (center.clone(), environment);
        let crm = builder(target, &unknown.uri()).build().await.unwrap();
        let error = crm.org().get().await.unwrap_err();
        assert_eq!(error.code(), ErrorCode::InvalidInput, "{error}");
        assert!(
            error.to_string().contains("no known data center"),
            "{error}"
        );
    }
    assert_eq!((received(&unknown).await, received(&sandbox).await), (0, 0));
    // Those who trust the token, and those who want production, go where it says if that was allowed
    // by name, and nowhere else.
    let trusting = builder((center.clone(), Environment::Sandbox), &unknown.uri());
    let trusting = trusting.api_domain(ApiDomain::OfToken);
    let production = builder(center.clone(), &unknown.uri());
    for builder in [trusting, production] {
        let crm = builder.build().await.unwrap();
        let error = crm.org().get().await.unwrap_err();
        assert_eq!(error.code(), ErrorCode::InvalidInput, "{error}");
        assert!(error.to_string().contains("allow_api_domain"), "{error}");
    }
    assert_eq!(received(&unknown).await, 0);
    let trusting = builder((center.clone(), Environment::Sandbox), &unknown.uri());
    let trusting = trusting.api_domain(ApiDomain::OfToken);
    let production = builder(center.clone(), &unknown.uri());
    for builder in [trusting, production] {
        let builder = builder.allow_api_domain(format!("{}/", unknown.uri()));
        builder.build().await.unwrap().org().get().await.unwrap();
    }
    assert_eq!(received(&unknown).await, 2);
    for bad in [
        "",
        "crm.example",
        "ftp://crm.example",
        "https://a:b@crm.example",
        "https://crm.example\n",
        " https://crm.example",
        "https://crm.ex\tample",
        "https://crm.ex\u{200b}ample",
    ] {
        let builder = builder(center.clone(), &unknown.uri()).allow_api_domain(bad);
        let error = builder.build().await.unwrap_err();
        assert_eq!(error.code(), ErrorCode::InvalidInput, "{bad}");
    }
}

#[tokio::test]
async fn a_token_of_a_sandbox_stays_there_also_when_production_is_the_default() {
    let (production, sandbox, center) = both().await;
    let crm = builder(center, &sandbox.uri()).build().await.unwrap();
    crm.org().get().await.unwrap().unwrap();
    assert_eq!(
        (received(&production).await, received(&sandbox).await),
        (0, 1)
    );
}

#[tokio::test]
async fn a_token_is_not_sent_in_the_open_because_a_record_says_so() {
    let server = MockServer::start().await;
    let center = DataCenter::builder("stub", server.uri()).api_domain(server.uri());
    let center = center.build().unwrap();
    for domain in [
        "http://crm.example",
        "ftp://crm.example",
        "https://a:b@crm.example",
        "crm",
    ] {
        let crm = builder(center.clone(), domain).build().await.unwrap();
        let error = crm.org().get().await.unwrap_err();
        assert_eq!(error.code(), ErrorCode::InvalidInput, "{domain}: {error}");
        assert!(!error.to_string().contains("a:b"));
    }
}

#[tokio::test]
async fn an_api_domain_that_changes_is_checked_again() {
    let (unknown, _, _) = both().await;
    let server = MockServer::start().await;
    let center = DataCenter::builder("stub", server.uri()).api_domain(server.uri());
    let center = center.build().unwrap();
    let gateway = format!("{}/gateway", server.uri());
    let refused = json!({ "code": "INVALID_TOKEN", "message": "m", "status": "error" });
    for (place, token, domain) in [
        ("", "1000.a.a", server.uri()),
        ("/gateway", "1000.b.b", gateway),
    ] {
        let token = json!({ "access_token": token, "api_domain": domain, "expires_in": 3600 });
        Mock::given(path("/oauth/v2/token"))
            .respond_with(ResponseTemplate::new(200).set_body_json(token))
            .up_to_n_times(1)
            .mount(&server)
            .await;
        let org = format!("{place}/crm/v8/org");
        let found = ResponseTemplate::new(200).set_body_json(json!({ "org": [{ "id": "1" }] }));
        Mock::given(path(org.as_str()))
            .respond_with(found)
            .up_to_n_times(1)
            .mount(&server)
            .await;
        Mock::given(path(org))
            .respond_with(ResponseTemplate::new(401).set_body_json(&refused))
            .mount(&server)
            .await;
    }
    let client = OAuthClient::new("1000.ID", "secret").unwrap();
    let login = Credential::refresh(client, RefreshToken::new("1000.r.r").unwrap());
    let crm = ZohoCrm::builder(center, login, ListStore::new()).find_user(false);
    let crm = crm.build().await.unwrap();
    crm.org().get().await.unwrap().unwrap();
    // The token is refused, and the refresh names another address of the same data center.
    crm.org().get().await.unwrap().unwrap();
    let paths: Vec<_> = server.received_requests().await.unwrap();
    let paths: Vec<_> = paths.iter().map(|request| request.url.path()).collect();
    let (token, org) = ("/oauth/v2/token", "/crm/v8/org");
    assert_eq!(paths, [token, org, org, token, "/gateway/crm/v8/org"]);
    // That token is refused too. Meanwhile the record has another, for an unknown address.
    let store = crm.authenticator().store();
    let mut record = store
        .find_token_by_id(crm.token_id())
        .await
        .unwrap()
        .unwrap();
    record.access_token = AccessToken::new("1000.c.c").ok();
    record.api_domain = Some(unknown.uri());
    store.save_token(&record).await.unwrap();
    for _ in 0..2 {
        let error = crm.org().get().await.unwrap_err();
        assert_eq!(error.code(), ErrorCode::InvalidInput, "{error:?}");
        assert!(error.to_string().contains("allow_api_domain"), "{error}");
    }
    assert_eq!(received(&unknown).await, 0);
}
