//! Deep, long and too large input: an answer with an error, and a sandbox that goes on.

use serde_json::{Value, json};

use crate::support::{ALL, Api, MIRA, between, http, sandbox};

/// An error in the CRM's form.
fn is_envelope(body: &Value) -> bool {
    body["code"].is_string()
        && body["message"].is_string()
        && body["status"] == "error"
        && body["details"].is_object()
}

async fn coql(api: &Api, query: &str) -> (u16, Value) {
    api.post("coql", json!({ "select_query": query })).await
}

#[tokio::test]
async fn nested_parentheses_are_an_error_of_the_query() {
    let sandbox = sandbox().await;
    let api = Api::new(&sandbox, MIRA, ALL);
    for depth in [51, 600, 20_000] {
        let (open, close) = ("(".repeat(depth), ")".repeat(depth));
        for query in [
            format!("select id from Leads where {open}id > 1{close}"),
            format!("select id from Leads where {open}"),
        ] {
            let (status, body) = coql(&api, &query).await;
            assert_eq!((status, &body["code"]), (400, &json!("INVALID_QUERY")));
            assert_eq!(body["details"]["limit"], 50);
        }
    }
    // The innermost pair belongs to the condition.
    for depth in [52, 500, 6_000] {
        let (open, close) = ("(".repeat(depth), ")".repeat(depth));
        for criteria in [format!("{open}City:equals:Porto{close}"), open] {
            let path = format!("Leads/search?criteria={criteria}");
            let (status, body) = api.get(&path).await;
            assert_eq!((status, &body["code"]), (400, &json!("INVALID_QUERY")));
        }
    }
    // What a person may write still works.
    let (open, close) = ("(".repeat(40), ")".repeat(40));
    let query = format!("select id from Leads where {open}City = 'Porto'{close}");
    assert_eq!(coql(&api, &query).await.0, 200);
    let path = format!("Leads/search?criteria={open}City:equals:Porto{close}");
    assert_eq!(api.get(&path).await.0, 200);
}

#[tokio::test]
async fn conditions_are_counted_while_they_are_read() {
    let sandbox = sandbox().await;
    let api = Api::new(&sandbox, MIRA, ALL);
    for (join, count) in [(" or ", 2_000), (" and ", 2_000), (" or ", 26)] {
        let conditions = vec!["id = 1"; count].join(join);
        let query = format!("select id from Leads where {conditions}");
        let (status, body) = coql(&api, &query).await;
        assert_eq!((status, &body["code"]), (400, &json!("LIMIT_EXCEEDED")));
        assert_eq!(body["details"], json!({ "clause": "where", "limit": 25 }));
    }
    for join in ["or", "and"] {
        let criteria = vec!["(id:equals:1)"; 900].join(join);
        let path = format!("Leads/search?criteria={criteria}");
        let (status, body) = api.get(&path).await;
        assert_eq!((status, &body["code"]), (400, &json!("LIMIT_EXCEEDED")));
        assert_eq!(body["details"]["limit"], 15);
    }
    let query = format!("select id from Leads where City = '{}'", "x".repeat(70_000));
    let (status, body) = coql(&api, &query).await;
    assert_eq!((status, &body["code"]), (400, &json!("LIMIT_EXCEEDED")));
    assert_eq!(body["details"]["api_name"], "select_query");
}

const LARGE: [&str; 4] = [
    "9223372036854775808",
    "18446744073709551615",
    "18446744073709551616",
    "99999999999999999999999999999999999999999",
];

#[tokio::test]
async fn numbers_that_are_too_large_are_errors_of_the_crm() {
    let sandbox = sandbox().await;
    let api = Api::new(&sandbox, MIRA, ALL);
    for large in LARGE {
        for (tail, clause) in [
            (format!("limit {large}"), "limit"),
            (format!("offset {large}"), "offset"),
            (format!("limit 5 offset {large}"), "offset"),
            (format!("limit {large}, 5"), "offset"),
        ] {
            let query = format!("select id from Leads where id > 1 {tail}");
            let (status, body) = coql(&api, &query).await;
            assert_eq!(
                (status, &body["code"], &body["details"]["clause"]),
                (400, &json!("LIMIT_EXCEEDED"), &json!(clause)),
                "{tail}"
            );
        }
        for condition in [
            format!("id = {large}"),
            format!("id not in ({large}, 1)"),
            format!("No_of_Employees between 1 and {large}"),
        ] {
            let query = format!("select id from Leads where {condition}");
            let (status, body) = coql(&api, &query).await;
            assert_eq!(
                (status, &body["code"]),
                (400, &json!("INVALID_QUERY")),
                "{condition}"
            );
        }
        for path in [
            format!("Leads?fields=id&page={large}"),
            format!("Leads?fields=id&per_page={large}"),
            format!("Leads/search?word=porto&page={large}"),
            format!("Leads/deleted?per_page={large}"),
            format!("users?page={large}"),
        ] {
            let (status, body) = api.get(&path).await;
            assert!(status == 400 && is_envelope(&body), "{path}: {body}");
        }
    }
    // Larger than 64 bits: no ID of a record can be that.
    for large in &LARGE[2..] {
        for path in [
            format!("Leads/{large}"),
            format!("users/{large}"),
            format!("Leads?fields=id&ids=1,{large}"),
            format!("Accounts/{large}/Contacts?fields=id"),
            format!("Leads/search?criteria=(id:equals:{large})"),
        ] {
            let (status, body) = api.get(&path).await;
            assert!(status == 400 && is_envelope(&body), "{path}: {body}");
        }
        for id in [
            json!(large),
            serde_json::from_str(large).unwrap(),
            json!({ "id": large }),
        ] {
            let change = json!({ "data": [{ "id": id, "City": "Oslo" }] });
            let (status, body) = api.put("Leads", change).await;
            assert!(status == 400 && is_envelope(&body["data"][0]), "{body}");
        }
        let (status, body) = api.delete(&format!("Leads?ids={large}")).await;
        assert!(status == 400 && is_envelope(&body["data"][0]), "{body}");
        let path = format!("Leads/{large}");
        let (status, body) = api.delete(&path).await;
        assert!(status == 400 && is_envelope(&body), "{body}");
    }
    let (status, body) = api.get("Leads/18446744073709551615").await;
    assert_eq!(
        (status, body),
        (204, Value::Null),
        "an ID that no record has"
    );
}

#[tokio::test]
async fn deep_and_long_bodies_are_refused_in_the_form_of_the_service() {
    let sandbox = sandbox().await;
    let (_, token) = sandbox.login(MIRA, ALL);
    let api = Api::with_token(sandbox.api_url(), &token);
    let send = async |url: String, content_type: &str, body: String| {
        let request = http()
            .post(url)
            .header("Authorization", format!("Zoho-oauthtoken {token}"))
            .header("Content-Type", content_type)
            .body(body);
        let response = request.send().await.unwrap();
        let status = response.status().as_u16();
        (status, response.json::<Value>().await.unwrap())
    };
    let leads = format!("{}/crm/v8/Leads", sandbox.api_url());
    for depth in [100, 126, 130, 100_000] {
        let deep = "[".repeat(depth) + &"]".repeat(depth);
        for body in [
            deep.clone(),
            format!(r#"{{"data":[{{"Last_Name":"A","Tag":{deep}}}]}}"#),
            format!(r#"{{"data":[{{"Last_Name":"A","Owner":{deep}}}]}}"#),
            format!(r#"{{"data":{deep}}}"#),
        ] {
            let (status, body) = send(leads.clone(), "application/json", body).await;
            let error = if body["data"].is_array() {
                &body["data"][0]
            } else {
                &body
            };
            assert!(status == 400 && is_envelope(error), "{depth}: {body}");
        }
        let faults = format!("{}/faults", sandbox.control_url());
        let (status, body) = send(faults, "application/json", deep).await;
        assert!(status == 400 && body["error"].is_string(), "{body}");
    }
    // Tags keep their documented form, and no more than that.
    let tags = json!([{ "name": "New", "id": "1", "color_code": null, "more": { "x": [] } }]);
    let lead = json!({ "data": [{ "Last_Name": "A", "Company": "B", "Tag": tags }] });
    let (status, body) = api.post("Leads", lead).await;
    assert_eq!(status, 201, "{body}");
    let id = body["data"][0]["details"]["id"]
        .as_str()
        .unwrap()
        .to_owned();
    let (_, body) = api.get(&format!("Leads/{id}")).await;
    assert_eq!(
        body["data"][0]["Tag"],
        json!([{ "name": "New", "id": "1", "color_code": null }])
    );
    for tag in [
        json!("New"),
        json!([7]),
        json!([{ "name": [] }]),
        json!([{}]),
    ] {
        let lead = json!({ "data": [{ "Last_Name": "A", "Company": "B", "Tag": tag }] });
        let (status, body) = api.post("Leads", lead).await;
        let error = &body["data"][0];
        assert_eq!((status, &error["code"]), (400, &json!("INVALID_DATA")));
        assert_eq!(error["details"]["api_name"], "Tag");
    }
    // Too long.
    let long = format!(r#"{{"data":[{{"Last_Name":"{}"}}]}}"#, "x".repeat(17 << 20));
    let (status, body) = send(leads, "application/json", long).await;
    assert_eq!((status, &body["code"]), (413, &json!("LIMIT_EXCEEDED")));
    let token_url = format!("{}/oauth/v2/token", sandbox.accounts_url());
    let form = "a&".repeat(200_000);
    let (status, body) = send(token_url, "application/x-www-form-urlencoded", form).await;
    assert!(status == 413 && body["error"].is_string(), "{body}");
    let (status, body) = api
        .get(&format!("Leads?fields={}", "x".repeat(20_000)))
        .await;
    assert_eq!((status, &body["code"]), (414, &json!("LIMIT_EXCEEDED")));
    let page = format!(
        "{}/oauth/v2/auth?state={}",
        sandbox.accounts_url(),
        "x".repeat(20_000)
    );
    let response = http().get(page).send().await.unwrap();
    assert_eq!(response.status(), 414);
    assert!(response.json::<Value>().await.unwrap()["error"].is_string());
    assert_eq!(api.get("org").await.0, 200);
}

#[tokio::test]
async fn lists_of_names_are_bounded_in_every_call() {
    let sandbox = sandbox().await;
    let api = Api::new(&sandbox, MIRA, ALL);
    let names = vec!["City"; 51].join(",");
    let (_, body) = api.get("Accounts?fields=id&per_page=1").await;
    let account = body["data"][0]["id"].as_str().unwrap();
    for path in [
        format!("Leads?fields={names}"),
        format!("Leads/search?word=porto&fields={names}"),
        format!("Accounts/{account}?fields={names}"),
        format!("Accounts/{account}/Contacts?fields={names}"),
    ] {
        let (status, body) = api.get(&path).await;
        assert_eq!(
            (status, &body["code"]),
            (400, &json!("LIMIT_EXCEEDED")),
            "{path}"
        );
    }
    let checks = vec!["Email"; 1_000];
    let lead = json!({ "Last_Name": "A", "Company": "B", "Email": "none@example.com" });
    let many = json!({ "data": [lead], "duplicate_check_fields": checks });
    let (status, body) = api.post("Leads/upsert", many).await;
    assert_eq!((status, &body["code"]), (400, &json!("LIMIT_EXCEEDED")));
}

/// Each request looks at all faults that wait.
#[tokio::test]
async fn waiting_faults_are_bounded_in_number() {
    let sandbox = sandbox().await;
    let add = async || {
        let url = format!("{}/faults", sandbox.control_url());
        let fault = json!({ "effect": "html", "endpoint": "revoke" }).to_string();
        http().post(url).body(fault).send().await.unwrap()
    };
    for _ in 0..999 {
        sandbox.inject(zoho_sandbox::Fault::html().on(zoho_sandbox::Endpoint::Revoke));
    }
    assert_eq!(add().await.status(), 200);
    let refused = add().await;
    assert_eq!(refused.status(), 400);
    let body: Value = refused.json().await.unwrap();
    assert_eq!(body["error"], "1000 faults wait already");
}

/// Each page that is opened waits for its form. Only the newest wait.
#[tokio::test]
async fn open_logins_are_bounded_in_number() {
    let sandbox = sandbox().await;
    let url = format!(
        "{}/oauth/v2/auth?client_id={}&response_type=code&scope={ALL}&redirect_uri={}",
        sandbox.accounts_url(),
        sandbox.client_id(),
        sandbox.redirect_uri()
    );
    // The support's client would connect two thousand times.
    drop(http());
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let open = async || {
        let page = client.get(&url).send().await.unwrap().text().await.unwrap();
        let name = between(&page, "name=\"request\" value=\"", "\"");
        name.unwrap().to_owned()
    };
    let sign_in = async |name: &str| {
        let url = format!("{}/oauth/v2/auth/signin", sandbox.accounts_url());
        let form = [("request", name), ("email", MIRA)];
        let page = http().post(url).form(&form).send().await.unwrap();
        page.text().await.unwrap().contains("name=\"decision\"")
    };
    let (first, second) = (open().await, open().await);
    let mut last = String::new();
    for _ in 0..1_999 {
        last = open().await;
    }
    assert!(!sign_in(&first).await, "the oldest made room");
    assert!(sign_in(&second).await, "two thousand wait");
    assert!(sign_in(&last).await);
}

/// Each answer with more pages makes a token. Only the newest are kept, and making one does not
/// look at all others.
#[tokio::test]
async fn page_tokens_are_bounded_in_number() {
    let sandbox = sandbox().await;
    let api = Api::new(&sandbox, MIRA, ALL);
    let path = "Leads?fields=id&per_page=1";
    let token = async || {
        let (_, body) = api.get(path).await;
        body["info"]["next_page_token"].as_str().unwrap().to_owned()
    };
    let first = token().await;
    for _ in 0..999 {
        token().await;
    }
    let next = format!("{path}&page_token={first}");
    assert_eq!(api.get(&next).await.0, 200, "a thousand are kept");
    let last = token().await;
    // The call with the first token has made one too.
    let (status, body) = api.get(&next).await;
    assert_eq!(
        (status, &body["code"]),
        (400, &json!("TOKEN_BOUND_DATA_MISMATCH"))
    );
    assert_eq!(api.get(&format!("{path}&page_token={last}")).await.0, 200);
}
