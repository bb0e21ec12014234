//! Tokens, revocation, identity, data centers.

use std::time::Duration;

use serde_json::{Value, json};
use zoho_sandbox::{Client, Sandbox};

use crate::support::{
    ALL, Api, ELISE, MIRA, client_fields, exchange, http, refresh, sandbox, token, token_response,
};

#[tokio::test]
async fn a_code_becomes_tokens_of_the_documented_shape() {
    let sandbox = sandbox().await;
    let code = sandbox.grant_code(MIRA, "ZohoCRM.modules.ALL,ZohoCRM.org.READ");
    let answer = exchange(&sandbox, &code).await;
    assert_eq!(answer["expires_in"], 3600);
    assert_eq!(answer["token_type"], "Bearer");
    assert_eq!(answer["api_domain"], sandbox.api_url());
    assert_eq!(answer["scope"], "ZohoCRM.modules.ALL ZohoCRM.org.READ");
    for name in ["access_token", "refresh_token"] {
        let parts: Vec<&str> = answer[name].as_str().unwrap().split('.').collect();
        assert_eq!(
            [parts[0].len(), parts[1].len(), parts[2].len()],
            [4, 32, 32]
        );
    }
    assert_eq!(sandbox.counts().code_exchanges_ok, 1);
}

#[tokio::test]
async fn a_code_is_good_once() {
    let sandbox = sandbox().await;
    let code = sandbox.grant_code(MIRA, ALL);
    let first = exchange(&sandbox, &code).await;
    assert_eq!(
        exchange(&sandbox, &code).await,
        json!({ "error": "invalid_code" })
    );
    let api = Api::with_token(sandbox.api_url(), first["access_token"].as_str().unwrap());
    assert_eq!(
        api.get("org").await.0,
        200,
        "the first use stays good by default"
    );
    assert_eq!(sandbox.counts().code_exchanges_failed, 1);
}

#[tokio::test]
async fn using_a_code_twice_can_end_its_tokens() {
    let sandbox = Sandbox::builder()
        .rule(|rules| rules.revoke_on_code_reuse = true)
        .start()
        .await
        .unwrap();
    let code = sandbox.grant_code(MIRA, ALL);
    let first = exchange(&sandbox, &code).await;
    exchange(&sandbox, &code).await;
    let api = Api::with_token(sandbox.api_url(), first["access_token"].as_str().unwrap());
    assert_eq!(api.get("org").await.0, 401);
    let refused = refresh(&sandbox, first["refresh_token"].as_str().unwrap()).await;
    assert_eq!(refused["error"], "invalid_code");
}

#[tokio::test]
async fn parameters_come_in_the_query_in_a_form_or_in_multipart() {
    let sandbox = sandbox().await;
    let url = format!("{}/oauth/v2/token", sandbox.accounts_url());
    let fields = |code: String| {
        let mut fields = client_fields(&sandbox);
        fields.push(("grant_type", "authorization_code".into()));
        fields.push(("code", code));
        fields
    };
    let in_query = fields(sandbox.grant_code(MIRA, ALL));
    let in_form = fields(sandbox.grant_code(MIRA, ALL));
    let mut multipart = reqwest::multipart::Form::new();
    for (name, value) in fields(sandbox.grant_code(MIRA, ALL)) {
        multipart = multipart.text(name, value);
    }
    let http = http();
    for request in [
        http.post(&url).query(&in_query),
        http.post(&url).form(&in_form),
        http.post(&url).multipart(multipart),
    ] {
        let answer: Value = request.send().await.unwrap().json().await.unwrap();
        assert!(answer["access_token"].is_string(), "{answer}");
    }
}

#[tokio::test]
async fn refusals_are_status_200_and_name_what_is_wrong() {
    let sandbox = sandbox().await;
    let code = sandbox.grant_code(MIRA, ALL);
    let exchange = ("grant_type", "authorization_code");
    let code = ("code", code.as_str());
    for (fields, error) in [
        (
            vec![exchange, code, ("client_id", "1000.NOBODY")],
            "invalid_client",
        ),
        (
            vec![exchange, code, ("client_secret", "wrong")],
            "invalid_client_secret",
        ),
        (vec![exchange, ("code", "1000.a.b")], "invalid_code"),
        (vec![exchange], "invalid_code"),
        (vec![("grant_type", "password"), code], "invalid_client"),
        (
            vec![
                ("grant_type", "refresh_token"),
                ("refresh_token", "1000.a.b"),
            ],
            "invalid_code",
        ),
    ] {
        assert_eq!(
            token(&sandbox, &fields).await,
            json!({ "error": error }),
            "{fields:?}"
        );
    }
    // None of those used the code up.
    assert!(token(&sandbox, &[exchange, code]).await["access_token"].is_string());
}

#[tokio::test]
async fn get_and_a_missing_grant_type_are_status_400_with_an_error() {
    let sandbox = sandbox().await;
    let get = async |path: &str| {
        let url = format!("{}{path}", sandbox.accounts_url());
        http().get(url).send().await.unwrap()
    };
    for response in [
        token_response(&sandbox, &[]).await,
        token_response(&sandbox, &[("grant_type", "")]).await,
        get("/oauth/v2/token?grant_type=refresh_token").await,
        get("/oauth/v2/token").await,
        get("/oauth/v2/token/revoke?token=1000.a.b").await,
        get("/oauth/v2/revoke/token?token=1000.a.b").await,
    ] {
        assert_eq!(response.status(), 400, "{}", response.url());
        let body: Value = response.json().await.unwrap();
        assert_eq!(body, json!({ "error": "invalid_client" }));
    }
}

#[tokio::test]
async fn refreshing_keeps_the_refresh_token_and_returns_none() {
    let sandbox = sandbox().await;
    let (refresh_token, access_token) = sandbox.login(MIRA, ALL);
    let first = refresh(&sandbox, &refresh_token).await;
    let second = refresh(&sandbox, &refresh_token).await;
    assert!(first["refresh_token"].is_null());
    assert_ne!(first["access_token"], second["access_token"]);
    let api = Api::with_token(sandbox.api_url(), &access_token);
    assert_eq!(api.get("org").await.0, 200, "older access tokens stay good");
    assert_eq!(sandbox.counts().refreshes_of(&refresh_token), 2);
}

#[tokio::test]
async fn codes_and_access_tokens_end_with_their_life() {
    let sandbox = Sandbox::builder()
        .access_token_life(Duration::from_secs(90))
        .start()
        .await
        .unwrap();
    let code = sandbox.grant_code(MIRA, ALL);
    sandbox.advance(Duration::from_mins(3));
    assert_eq!(exchange(&sandbox, &code).await["error"], "invalid_code");

    let (refresh_token, _) = sandbox.login(MIRA, ALL);
    let answer = refresh(&sandbox, &refresh_token).await;
    assert_eq!(answer["expires_in"], 90);
    let api = Api::with_token(sandbox.api_url(), answer["access_token"].as_str().unwrap());
    assert_eq!(api.get("org").await.0, 200);
    sandbox.advance(Duration::from_secs(90));
    let (status, body) = api.get("org").await;
    assert_eq!(
        (status, body["code"].as_str()),
        (401, Some("INVALID_TOKEN"))
    );
}

#[tokio::test]
async fn revoking_a_refresh_token_ends_its_access_tokens_at_both_paths() {
    for (path, basic) in [
        ("/oauth/v2/token/revoke", false),
        ("/oauth/v2/revoke/token", true),
    ] {
        let sandbox = sandbox().await;
        let (refresh_token, access_token) = sandbox.login(MIRA, ALL);
        let url = format!("{}{path}", sandbox.accounts_url());
        let revoke = || {
            let form = [("token", refresh_token.as_str())];
            let request = http().post(&url).form(&form);
            if basic {
                request.basic_auth(sandbox.client_id(), Some(sandbox.client_secret()))
            } else {
                request
            }
        };
        let response = revoke().send().await.unwrap();
        assert_eq!(response.status(), 200);
        assert_eq!(
            response.json::<Value>().await.unwrap(),
            json!({ "status": "success" })
        );
        let api = Api::with_token(sandbox.api_url(), &access_token);
        assert_eq!(api.get("org").await.0, 401);
        assert_eq!(
            refresh(&sandbox, &refresh_token).await["error"],
            "invalid_code"
        );
        assert_eq!(
            revoke().send().await.unwrap().status(),
            400,
            "{path}: unknown by now"
        );
        assert_eq!(sandbox.counts().revocations, 1);
    }
}

#[tokio::test]
async fn revoking_with_a_wrong_secret_ends_nothing() {
    let sandbox = sandbox().await;
    let (refresh_token, _) = sandbox.login(MIRA, ALL);
    let answer: Value = http()
        .post(format!("{}/oauth/v2/revoke/token", sandbox.accounts_url()))
        .basic_auth(sandbox.client_id(), Some("wrong"))
        .form(&[("token", &refresh_token)])
        .send()
        .await
        .unwrap()
        .json()
        .await
        .unwrap();
    assert_eq!(answer["error"], "invalid_client_secret");
    assert!(refresh(&sandbox, &refresh_token).await["access_token"].is_string());
}

#[tokio::test]
async fn client_credentials_are_for_self_clients_and_want_an_organisation() {
    let sandbox = Sandbox::builder()
        .client(Client::self_client("1000.SELF", "self-secret"))
        .start()
        .await
        .unwrap();
    let base = vec![
        ("grant_type", "client_credentials"),
        ("client_id", "1000.SELF"),
        ("client_secret", "self-secret"),
        ("scope", "ZohoCRM.org.READ"),
    ];
    assert_eq!(token(&sandbox, &base).await["error"], "missing_org_info");
    let mut wrong = base.clone();
    wrong.push(("soid", "ZohoCRM.1"));
    assert_eq!(token(&sandbox, &wrong).await["error"], "invalid_soid");

    let mut good = base;
    good.push(("soid", "ZohoCRM.600123001"));
    let answer = token(&sandbox, &good).await;
    assert!(answer["refresh_token"].is_null());
    let api = Api::with_token(sandbox.api_url(), answer["access_token"].as_str().unwrap());
    assert_eq!(api.get("org").await.1["org"][0]["zgid"], "600123001");
    // The other documented path.
    let url = format!("{}/oauth/v2/auth", sandbox.accounts_url());
    let answer: Value = http()
        .post(url)
        .form(&good)
        .send()
        .await
        .unwrap()
        .json()
        .await
        .unwrap();
    assert!(answer["access_token"].is_string());
}

#[tokio::test]
async fn data_centers_do_not_know_each_others_tokens() {
    let sandbox = sandbox().await;
    let europe = sandbox.center("eu");
    assert_ne!(europe.accounts_url(), sandbox.accounts_url());
    let code = sandbox.grant_code(ELISE, ALL);
    // Asked at the wrong center.
    assert_eq!(exchange(&sandbox, &code).await["error"], "invalid_client");
    // Asked at home.
    let mut form = client_fields(&sandbox);
    form.push(("grant_type", "authorization_code".into()));
    form.push(("code", code));
    let url = format!("{}/oauth/v2/token", europe.accounts_url());
    let answer: Value = http()
        .post(&url)
        .form(&form)
        .send()
        .await
        .unwrap()
        .json()
        .await
        .unwrap();
    assert_eq!(answer["api_domain"], europe.api_url());
    let access_token = answer["access_token"].as_str().unwrap();
    let here = Api::with_token(europe.api_url(), access_token)
        .get("org")
        .await;
    assert_eq!(here.1["org"][0]["company_name"], "Harbour Language School");
    let abroad = Api::with_token(sandbox.api_url(), access_token)
        .get("org")
        .await;
    assert_eq!(abroad.1["code"], "INVALID_TOKEN");
    let refresh_token = answer["refresh_token"].as_str().unwrap();
    assert_eq!(
        refresh(&sandbox, refresh_token).await["error"],
        "invalid_client"
    );
}

#[tokio::test]
async fn a_client_secret_can_differ_between_data_centers() {
    let uri = "https://app.example.com/cb";
    let client = Client::web("1000.C", "us-secret", uri).secret_in("eu", "eu-secret");
    let sandbox = Sandbox::builder()
        .default_client(client)
        .start()
        .await
        .unwrap();
    assert_eq!(sandbox.client_secret(), "us-secret");
    assert_eq!(sandbox.center("eu").client_secret(), "eu-secret");
    let (refresh_token, _) = sandbox.login(ELISE, ALL);
    let url = format!("{}/oauth/v2/token", sandbox.center("eu").accounts_url());
    for (secret, good) in [("us-secret", false), ("eu-secret", true)] {
        let form = [
            ("grant_type", "refresh_token"),
            ("client_id", "1000.C"),
            ("client_secret", secret),
            ("refresh_token", &refresh_token),
        ];
        let answer: Value = http()
            .post(&url)
            .form(&form)
            .send()
            .await
            .unwrap()
            .json()
            .await
            .unwrap();
        assert_eq!(
            answer["access_token"].is_string(),
            good,
            "{secret}: {answer}"
        );
        assert_eq!(answer["error"] == "invalid_client_secret", !good);
    }
}

#[tokio::test]
async fn who_the_user_is_needs_its_scope() {
    let sandbox = sandbox().await;
    let url = format!("{}/oauth/user/info", sandbox.accounts_url());
    let ask = |token: String| {
        let header = format!("Zoho-oauthtoken {token}");
        http().get(&url).header("Authorization", header).send()
    };
    let (_, token) = sandbox.login(MIRA, "AaaServer.profile.READ");
    let answer: Value = ask(token).await.unwrap().json().await.unwrap();
    assert_eq!(answer["Email"], MIRA);
    assert_eq!(answer["Display_Name"], "Mira Holm");
    let (_, token) = sandbox.login(MIRA, ALL);
    assert_eq!(ask(token).await.unwrap().status(), 401);
}

#[tokio::test]
async fn server_info_names_the_data_centers() {
    let sandbox = sandbox().await;
    let url = format!("{}/oauth/serverinfo", sandbox.accounts_url());
    let answer: Value = http().get(url).send().await.unwrap().json().await.unwrap();
    assert_eq!(answer["locations"]["us"], sandbox.accounts_url());
    assert_eq!(
        answer["locations"]["eu"],
        sandbox.center("eu").accounts_url()
    );
}

#[tokio::test]
async fn many_sandboxes_live_side_by_side_and_stop_when_dropped() {
    let one = sandbox().await;
    let two = sandbox().await;
    let (_, token) = one.login(MIRA, ALL);
    assert_eq!(
        Api::with_token(one.api_url(), &token).get("org").await.0,
        200
    );
    assert_eq!(
        Api::with_token(two.api_url(), &token).get("org").await.0,
        401
    );
    let url = one.accounts_url().to_owned();
    one.stop().await;
    assert!(http().get(url).send().await.is_err());
    assert!(http().get(two.accounts_url()).send().await.is_ok());
}

#[tokio::test]
async fn a_sandbox_can_be_mounted_in_another_server() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let sandbox = Sandbox::builder().mounted_at(&url).unwrap();
    let routes = sandbox.router();
    let server = tokio::spawn(async move { axum::serve(listener, routes).await });
    let code = sandbox.grant_code(MIRA, ALL);
    let answer = exchange(&sandbox, &code).await;
    assert_eq!(answer["api_domain"], url.as_str());
    server.abort();
}

#[tokio::test]
async fn contradictions_are_found_before_anything_starts() {
    let wrong = [
        Sandbox::builder().client_id(""),
        Sandbox::builder().redirect_uri("not a url"),
        Sandbox::builder().client(Client::self_client("1000.A", "s").secret_in("mars", "s")),
        Sandbox::builder()
            .client(Client::self_client("1000.A", "s"))
            .client(Client::self_client("1000.A", "s")),
        Sandbox::builder().person(zoho_sandbox::Person::new("nobody")),
        Sandbox::builder().person(zoho_sandbox::Person::new(MIRA)),
        Sandbox::builder().person(zoho_sandbox::Person::new("x@example.com").of("Nowhere")),
        Sandbox::builder().rule(|rules| rules.throttle_status = 7),
    ];
    for builder in wrong {
        let error = builder.clone().start().await.unwrap_err();
        assert!(
            matches!(error, zoho_sandbox::Error::Config(_)),
            "{builder:?}: {error}"
        );
    }
}

#[tokio::test]
async fn no_secret_is_in_debug_output() {
    let sandbox = sandbox().await;
    let builder = format!("{:?}", Sandbox::builder().client_secret("hush-hush"));
    assert!(!builder.contains("hush-hush"));
    let (refresh_token, _) = sandbox.login(MIRA, ALL);
    refresh(&sandbox, &refresh_token).await;
    let shown = format!("{sandbox:?} {:?}", sandbox.counts());
    assert!(!shown.contains(sandbox.client_secret()));
    assert!(!shown.contains(&refresh_token));
}

#[tokio::test]
async fn data_centers_are_listed_the_first_one_first() {
    let sandbox = sandbox().await;
    assert_eq!(sandbox.center_name(), "us");
    let mut centers = sandbox.centers();
    let first = centers.next().unwrap();
    assert_eq!(first.name(), "us");
    assert_eq!(first.accounts_url(), sandbox.accounts_url());
    let second = centers.next().unwrap();
    assert_eq!(second.accounts_url(), sandbox.center("eu").accounts_url());
    assert!(centers.next().is_none());
}
