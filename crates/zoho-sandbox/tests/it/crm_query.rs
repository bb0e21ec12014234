//! Lists with paging, search and COQL.

use std::time::Duration;

use reqwest::Method;
use serde_json::{Value, json};
use zoho_sandbox::Sandbox;

use crate::support::{ALL, Api, MIRA, http, sandbox};

fn column<'a>(body: &'a Value, name: &str) -> Vec<&'a str> {
    let rows = body["data"].as_array().unwrap().iter();
    rows.map(|row| row[name].as_str().unwrap()).collect()
}

#[tokio::test]
async fn lists_want_their_fields() {
    let sandbox = sandbox().await;
    let api = Api::new(&sandbox, MIRA, ALL);
    let (status, body) = api.get("Leads").await;
    assert_eq!(
        (status, &body["code"]),
        (400, &json!("REQUIRED_PARAM_MISSING"))
    );
    assert_eq!(body["details"]["param_name"], "fields");
    let many = vec!["Last_Name"; 51].join(",");
    let (_, body) = api.get(&format!("Leads?fields={many}")).await;
    assert_eq!(body["code"], "LIMIT_EXCEEDED");
    assert_eq!(
        body["details"],
        json!({ "limit": 50, "param_name": "fields" })
    );
    for wrong in [
        "per_page=0",
        "per_page=201",
        "page=0",
        "sort_by=City",
        "sort_order=up",
    ] {
        let (status, body) = api.get(&format!("Leads?fields=id&{wrong}")).await;
        assert_eq!(
            (status, &body["code"]),
            (400, &json!("INVALID_DATA")),
            "{wrong}"
        );
    }
}

#[tokio::test]
async fn page_tokens_lead_through_the_whole_list() {
    let sandbox = sandbox().await;
    let api = Api::new(&sandbox, MIRA, ALL);
    let mut seen = Vec::new();
    let mut path = "Leads?fields=Last_Name&per_page=25".to_owned();
    for page in 1.. {
        let (_, body) = api.get(&path).await;
        seen.extend(column(&body, "id").into_iter().map(str::to_owned));
        let info = &body["info"];
        assert_eq!(info["page"], page);
        assert_eq!(info["sort_by"], "id");
        let Some(token) = info["next_page_token"].as_str() else {
            assert_eq!(info["more_records"], false);
            break;
        };
        assert_eq!(info["more_records"], true);
        path = format!("Leads?fields=Last_Name&per_page=25&page_token={token}");
    }
    assert_eq!(seen.len(), 60);
    let mut sorted = seen.clone();
    sorted.sort_unstable_by(|one, other| other.cmp(one));
    sorted.dedup();
    assert_eq!(seen, sorted, "each record once, the newest first");
}

#[tokio::test]
async fn page_tokens_are_bound_and_end() {
    let sandbox = sandbox().await;
    let api = Api::new(&sandbox, MIRA, ALL);
    let (_, body) = api.get("Leads?fields=Last_Name&per_page=25").await;
    let token = body["info"]["next_page_token"].as_str().unwrap();
    let other = Api::new(&sandbox, "tomas.reyes@example.com", ALL);
    let good = format!("Leads?fields=Last_Name&per_page=25&page_token={token}");
    assert_eq!(
        other.get(&good).await.1["code"],
        "TOKEN_BOUND_DATA_MISMATCH"
    );
    let changed = format!("Leads?fields=City&per_page=25&page_token={token}");
    assert_eq!(
        api.get(&changed).await.1["code"],
        "TOKEN_BOUND_DATA_MISMATCH"
    );
    let both = format!("{good}&page=2");
    assert_eq!(
        api.get(&both).await.1["code"],
        "AMBIGUITY_DURING_PROCESSING"
    );
    assert_eq!(api.get(&good).await.0, 200);
    sandbox.advance(Duration::from_hours(24));
    let api = Api::new(&sandbox, MIRA, ALL);
    assert_eq!(api.get(&good).await.1["code"], "EXPIRED_VALUE");
}

#[tokio::test]
async fn page_numbers_reach_two_thousand_records() {
    let sandbox = sandbox().await;
    let api = Api::new(&sandbox, MIRA, ALL);
    assert_eq!(api.get("Leads?fields=id&page=10").await.0, 204);
    let (status, body) = api.get("Leads?fields=id&page=11").await;
    assert_eq!(
        (status, &body["code"]),
        (400, &json!("DISCRETE_PAGINATION_LIMIT_EXCEEDED"))
    );
    let (_, body) = api.get("Leads?fields=id&page=2&per_page=50").await;
    assert_eq!(body["data"].as_array().unwrap().len(), 10);
}

#[tokio::test]
async fn lists_are_sorted_and_narrowed() {
    let sandbox = sandbox().await;
    let (_, token) = sandbox.login(MIRA, ALL);
    let api = Api::with_token(sandbox.api_url(), &token);
    let (_, body) = api
        .get("Leads?fields=id&sort_by=Created_Time&sort_order=asc&per_page=2")
        .await;
    assert_eq!(
        column(&body, "id"),
        ["5540230000100009", "5540230000100010"]
    );
    let (_, body) = api
        .get("Leads?fields=id&ids=5540230000100010,7,5540230000100012")
        .await;
    assert_eq!(
        column(&body, "id"),
        ["5540230000100012", "5540230000100010"]
    );
    let since = async |time: &str| {
        http()
            .get(format!("{}/crm/v8/Leads?fields=id", sandbox.api_url()))
            .header("Authorization", format!("Bearer {token}"))
            .header("If-Modified-Since", time)
            .send()
            .await
            .unwrap()
            .status()
            .as_u16()
    };
    assert_eq!(since("2026-01-01T00:00:00+00:00").await, 200);
    assert_eq!(since("2126-01-01T00:00:00+00:00").await, 304);
    assert_eq!(since("once").await, 400);
}

const CHANGE: &str = r#"{ "data": [{ "City": "Oslo" }] }"#;

/// A call with a date-time in a header.
async fn conditional(
    sandbox: &Sandbox,
    token: &str,
    method: Method,
    path: &str,
    (header, time): (&str, &str),
    body: &str,
) -> (u16, Value) {
    let request = http()
        .request(method, format!("{}/crm/v8/{path}", sandbox.api_url()))
        .header("Authorization", format!("Bearer {token}"))
        .header(header, time)
        .body(body.to_owned());
    let response = request.send().await.unwrap();
    let status = response.status().as_u16();
    let text = response.text().await.unwrap();
    (status, serde_json::from_str(&text).unwrap_or_default())
}

/// Clients write the offset with a colon, without one, or as `Z`; the sandbox reads all of them
/// wherever it reads a date-time.
#[tokio::test]
async fn every_date_time_is_read_with_any_offset() {
    let sandbox = sandbox().await;
    let (_, token) = sandbox.login(MIRA, ALL);
    let api = Api::with_token(sandbox.api_url(), &token);
    let (_, body) = api.get("Leads?fields=id&per_page=1").await;
    let id = body["data"][0]["id"].as_str().unwrap().to_owned();
    let lead = format!("Leads/{id}");
    let send = async |method, path: &str, header, time: &str, body: &str| {
        conditional(&sandbox, &token, method, path, (header, time), body).await
    };
    for (offset, hour) in [
        ("+00:00", "12"),
        ("+0000", "12"),
        ("-0000", "12"),
        ("+00", "12"),
        ("Z", "12"),
        ("z", "12"),
        ("+05:30", "17"),
        ("+0530", "17"),
        ("-0300", "09"),
        ("-03", "09"),
    ] {
        for fraction in ["", ".000", ".123456789"] {
            let at = |year: u32| format!("{year}-01-01T{hour}:30:00{fraction}{offset}");
            let list = async |time: String| {
                let header = "If-Modified-Since";
                send(Method::GET, "Leads?fields=id", header, &time, "")
                    .await
                    .0
            };
            assert_eq!(list(at(2036)).await, 304, "{}", at(2036));
            assert_eq!(list(at(2026)).await, 200, "{}", at(2026));
            let put = async |time: String| {
                let header = "If-Unmodified-Since";
                send(Method::PUT, &lead, header, &time, CHANGE).await.0
            };
            assert_eq!(put(at(2136)).await, 200, "{}", at(2136));
            assert_eq!(put(at(2026)).await, 412, "{}", at(2026));
            for quote in ["", "'"] {
                let query = |sign, year| {
                    format!(
                        "select id from Deals where Created_Time {sign} {quote}{}{quote}",
                        at(year)
                    )
                };
                assert_eq!(coql(&api, &query(">", 2026)).await.0, 200, "{}", at(2026));
                assert_eq!(coql(&api, &query("<", 2026)).await.0, 204, "{}", at(2026));
                assert_eq!(coql(&api, &query(">", 2036)).await.0, 204, "{}", at(2036));
            }
            let search = async |year| {
                let time = at(year).replace('+', "%2B");
                let path = format!("Deals/search?criteria=(Created_Time:greater_than:{time})");
                api.get(&path).await.0
            };
            assert_eq!(search(2026).await, 200, "{}", at(2026));
            assert_eq!(search(2036).await, 204, "{}", at(2036));
        }
    }
}

#[tokio::test]
async fn what_is_no_date_time_is_refused_wherever_one_is_read() {
    let sandbox = sandbox().await;
    let (_, token) = sandbox.login(MIRA, ALL);
    let api = Api::with_token(sandbox.api_url(), &token);
    let (_, body) = api.get("Leads?fields=id&per_page=1").await;
    let lead = format!("Leads/{}", body["data"][0]["id"].as_str().unwrap());
    for wrong in [
        "once",
        "",
        "2036-01-01",
        "2036-01-01T00:00:00",
        "2036-01-01T00:00:00+000",
        "2036-01-01T00:00:00+00000",
        "2036-01-01T00:00:00 0000",
        "2036-01-01T00:00:00+2500",
        "2036-01-01T00:00:00+00:0000",
        "2036-01-01T00:00:00Z0000",
        "2036-01-01T25:00:00+0000",
        "2036-02-30T00:00:00+0000",
        "0000",
        "+0000",
        "Fri, 01 Jan 2036 00:00:00 +0000",
    ] {
        for (method, path, header, change) in [
            (Method::GET, "Leads?fields=id", "If-Modified-Since", ""),
            (Method::PUT, &lead, "If-Unmodified-Since", CHANGE),
        ] {
            let asked = (header, wrong);
            let (status, body) = conditional(&sandbox, &token, method, path, asked, change).await;
            let error = if body["data"].is_array() {
                &body["data"][0]
            } else {
                &body
            };
            assert_eq!(
                (status, &error["code"]),
                (400, &json!("INVALID_DATA")),
                "{wrong}"
            );
            assert_eq!(error["details"], json!({ "header_name": header }));
        }
        let query = format!("select id from Leads where Created_Time > '{wrong}'");
        let (status, body) = coql(&api, &query).await;
        assert_eq!(
            (status, &body["code"]),
            (400, &json!("INVALID_QUERY")),
            "{wrong}"
        );
        assert_eq!(body["details"]["column_name"], "Created_Time");
        let wrong = wrong.replace('+', "%2B");
        let path = format!("Leads/search?criteria=(Created_Time:in:2036-01-01T00:00:00Z,{wrong})");
        if !wrong.contains(',') {
            let (status, body) = api.get(&path).await;
            assert_eq!(
                (status, &body["code"]),
                (400, &json!("INVALID_QUERY")),
                "{wrong}"
            );
        }
    }
}

#[tokio::test]
async fn related_records_are_found_through_lookups() {
    let sandbox = sandbox().await;
    let api = Api::new(&sandbox, MIRA, ALL);
    let (_, accounts) = api.get("Accounts?fields=Account_Name").await;
    let account = accounts["data"][0]["id"].as_str().unwrap();
    let (status, body) = api
        .get(&format!("Accounts/{account}/Contacts?fields=Account_Name"))
        .await;
    assert_eq!(status, 200);
    for contact in body["data"].as_array().unwrap() {
        assert_eq!(contact["Account_Name"]["id"], account);
    }
    let nope = format!("Accounts/{account}/Shoes?fields=id");
    assert_eq!(api.get(&nope).await.0, 400);
}

#[tokio::test]
async fn search_goes_by_criteria_address_phone_or_word() {
    let sandbox = sandbox().await;
    let api = Api::new(&sandbox, MIRA, ALL);
    let criteria = "Leads/search?criteria=((City:equals:porto)and(Programme:starts_with:Mar))";
    let (status, body) = api.get(criteria).await;
    assert_eq!(status, 200);
    assert!(!column(&body, "City").is_empty());
    assert!(column(&body, "City").iter().all(|city| *city == "Porto"));
    assert!(
        column(&body, "Programme")
            .iter()
            .all(|name| *name == "Marine Biology")
    );
    let (_, body) = api
        .get("Leads/search?email=ava.marsh0@mail.example.net&fields=Full_Name")
        .await;
    assert_eq!(column(&body, "Full_Name"), ["Ava Marsh"]);
    let (_, body) = api.get("Leads/search?phone=%2B44%2020%207946%200007").await;
    assert_eq!(body["info"]["count"], 1);
    assert_eq!(
        api.get("Leads/search?word=saltmarsh").await.1["info"]["count"],
        8
    );
    assert_eq!(
        api.get("Leads/search?email=nobody@example.com").await.0,
        204
    );
    assert_eq!(
        api.get("Leads/search").await.1["code"],
        "REQUIRED_PARAM_MISSING"
    );
    let (status, body) = api.get("Leads/search?criteria=(Shoe_Size:equals:4)").await;
    assert_eq!((status, &body["code"]), (400, &json!("INVALID_QUERY")));
}

async fn coql(api: &Api, query: &str) -> (u16, Value) {
    api.post("coql", json!({ "select_query": query })).await
}

#[tokio::test]
async fn coql_selects_orders_and_limits() {
    let sandbox = sandbox().await;
    let api = Api::new(&sandbox, MIRA, ALL);
    let query = "select Last_Name, City from Leads where (City = 'Porto' or City in ('Leeds', \
                 'Pune')) and Last_Name like 'M%' order by Last_Name asc, id desc limit 4";
    let (status, body) = coql(&api, query).await;
    assert_eq!(status, 200);
    assert_eq!(
        column(&body, "Last_Name"),
        ["Marsh", "Marsh", "Marsh", "Moreau"]
    );
    assert_eq!(body["info"], json!({ "count": 4, "more_records": true }));
    let rest = query.replace("limit 4", "limit 4, 200");
    let (_, body) = coql(&api, &rest).await;
    assert_eq!(body["info"]["more_records"], false);
    assert!(
        column(&body, "Last_Name")
            .iter()
            .all(|name| *name == "Moreau")
    );
    let offset = query.replace("limit 4", "limit 200 offset 4");
    assert_eq!(coql(&api, &offset).await.1, body);
}

#[tokio::test]
async fn coql_compares_by_the_type_of_the_field() {
    let sandbox = sandbox().await;
    let api = Api::new(&sandbox, MIRA, ALL);
    let (_, body) = coql(
        &api,
        "select Amount from Deals where Amount > 900 and Amount < 4400",
    )
    .await;
    let amounts: Vec<i64> = body["data"]
        .as_array()
        .unwrap()
        .iter()
        .map(|row| row["Amount"].as_i64().unwrap())
        .collect();
    assert_eq!(amounts, [4200, 4350], "as numbers, not as text");
    let first = "select id from Deals where Created_Time <= '2026-01-12T10:15:01+01:00'";
    assert_eq!(
        coql(&api, first).await.1["info"]["count"],
        1,
        "the offset counts"
    );
    let through = "select Account_Name.Account_Name, Account_Name from Deals where \
                   Account_Name.Industry = 'Manufacturing' limit 1";
    let (_, body) = coql(&api, through).await;
    assert_eq!(
        body["data"][0]["Account_Name.Account_Name"],
        "Granary Wharf Works"
    );
    assert!(body["data"][0]["Account_Name"]["id"].is_string());
    assert_eq!(
        coql(&api, "select id from Leads where Website is not null")
            .await
            .0,
        204
    );
    assert_eq!(
        coql(&api, "select id from Leads where Website is null")
            .await
            .0,
        200
    );
    let between = "select id from Deals where Probability between 10 and 30";
    assert_eq!(coql(&api, between).await.1["info"]["count"], 10);
}

#[tokio::test]
async fn broken_queries_are_refused_with_the_place() {
    let sandbox = sandbox().await;
    let api = Api::new(&sandbox, MIRA, ALL);
    for (query, code, detail) in [
        (
            "selekt id from Leads where id > 1",
            "SYNTAX_ERROR",
            json!({ "line": 1, "column": 1, "near": "selekt" }),
        ),
        (
            "select id from Leads where id >",
            "SYNTAX_ERROR",
            json!({ "line": 1, "column": 32, "near": "" }),
        ),
        (
            "select id from Leads",
            "SYNTAX_ERROR",
            json!({ "clause": "where" }),
        ),
        (
            "select id from Leads where City = 'x",
            "SYNTAX_ERROR",
            json!({ "line": 1, "column": 35, "near": "'" }),
        ),
        (
            "select Shoe from Leads where id > 1",
            "INVALID_QUERY",
            json!({ "column_name": "Shoe" }),
        ),
        (
            "select id from Leads where Shoe > 1",
            "INVALID_QUERY",
            json!({ "column_name": "Shoe" }),
        ),
        (
            "select id from Shoes where id > 1",
            "INVALID_MODULE",
            json!({ "api_name": "Shoes" }),
        ),
        (
            "select id from Leads where id > 1 limit 2001",
            "LIMIT_EXCEEDED",
            json!({ "clause": "limit", "limit": 2000 }),
        ),
    ] {
        let (status, body) = coql(&api, query).await;
        assert_eq!(
            (status, body["code"].as_str()),
            (400, Some(code)),
            "{query}: {body}"
        );
        assert_eq!(body["details"], detail, "{query}");
    }
    let (_, body) = api.post("coql", json!({ "query": "x" })).await;
    assert_eq!(body["code"], "MANDATORY_NOT_FOUND");
    let aggregate = coql(&api, "select count(id) from Leads where id > 1").await;
    assert_eq!(aggregate.1["code"], "SYNTAX_ERROR", "refused, not misread");
}
