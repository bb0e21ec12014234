//! Users, organisation, metadata, and records: reading, writing, who may and who sees what.

use reqwest::Method;
use serde_json::{Value, json};
use zoho_sandbox::Sandbox;

use crate::support::{ALL, Api, LENA, MIRA, http, sandbox};

fn item(body: &Value) -> &Value {
    &body["data"][0]
}

#[tokio::test]
async fn users_and_organisation_name_the_user_as_the_official_sdks_do() {
    let sandbox = sandbox().await;
    let api = Api::new(&sandbox, MIRA, ALL);
    let (_, users) = api.get("users?type=CurrentUser").await;
    assert_eq!(users["users"][0]["email"], MIRA);
    assert_eq!(
        users["info"],
        json!({ "per_page": 200, "count": 1, "page": 1, "more_records": false })
    );
    assert_eq!(api.get("org").await.1["org"][0]["zgid"], "600123001");
    let (_, all) = api.get("users?type=AllUsers&per_page=3").await;
    assert_eq!(all["users"].as_array().unwrap().len(), 3);
    assert_eq!(all["info"]["more_records"], true);
    assert_eq!(api.get("users?type=DeletedUsers").await.0, 204);
    assert_eq!(api.get("users?type=Nonsense").await.0, 400);
    let id = users["users"][0]["id"].as_str().unwrap();
    assert_eq!(
        api.get(&format!("users/{id}")).await.1["users"][0]["full_name"],
        "Mira Holm"
    );
}

#[tokio::test]
async fn metadata_has_what_the_sdks_read() {
    let sandbox = sandbox().await;
    let api = Api::new(&sandbox, MIRA, ALL);
    let (_, modules) = api.get("settings/modules").await;
    let names: Vec<&str> = modules["modules"]
        .as_array()
        .unwrap()
        .iter()
        .map(|module| module["api_name"].as_str().unwrap())
        .collect();
    assert_eq!(names, ["Leads", "Contacts", "Accounts", "Deals"]);
    let (_, fields) = api.get("settings/fields?module=Deals").await;
    let fields = fields["fields"].as_array().unwrap();
    let field = |name: &str| {
        fields
            .iter()
            .find(|field| field["api_name"] == name)
            .unwrap()
    };
    assert_eq!(
        field("Account_Name")["lookup"]["module"]["api_name"],
        "Accounts"
    );
    assert_eq!(field("Stage")["data_type"], "picklist");
    assert_eq!(
        field("Stage")["pick_list_values"][0]["display_value"],
        "Enquiry"
    );
    assert_eq!(field("Deal_Name")["system_mandatory"], true);
    assert_eq!(field("Amount")["json_type"], "double");
    assert_eq!(
        api.get("settings/fields").await.1["code"],
        "REQUIRED_PARAM_MISSING"
    );
    assert_eq!(
        api.get("settings/fields?module=Nope").await.1["code"],
        "INVALID_MODULE"
    );
    let (_, lists) = api.get("settings/related_lists?module=Accounts").await;
    assert_eq!(lists["related_lists"][0]["api_name"], "Contacts");
}

#[tokio::test]
async fn a_record_is_made_read_changed_and_deleted() {
    let sandbox = sandbox().await;
    let api = Api::new(&sandbox, MIRA, ALL);
    let lead = json!({ "Last_Name": "Zed", "First_Name": "Zoe", "Company": "Z", "Email": "z@example.com" });
    let (status, body) = api.post("Leads", json!({ "data": [lead] })).await;
    assert_eq!(status, 201);
    let made = item(&body);
    assert_eq!(
        (&made["code"], &made["status"], &made["message"]),
        (&json!("SUCCESS"), &json!("success"), &json!("record added"))
    );
    assert_eq!(made["details"]["Created_By"]["name"], "Mira Holm");
    let id = made["details"]["id"].as_str().unwrap().to_owned();
    assert!(id.parse::<i64>().is_ok(), "an ID fits in 64 bits");

    let (status, body) = api.get(&format!("Leads/{id}")).await;
    assert_eq!(status, 200);
    assert_eq!(item(&body)["Full_Name"], "Zoe Zed");
    assert_eq!(item(&body)["Owner"]["email"], MIRA);
    assert_eq!(item(&body)["City"], Value::Null);

    // IDs come as strings or as numbers; one change at its path, many in one call.
    let number: u64 = id.parse().unwrap();
    let (status, body) = api
        .put(
            "Leads",
            json!({ "data": [{ "id": number, "City": "Oslo" }] }),
        )
        .await;
    assert_eq!(
        (status, &item(&body)["message"]),
        (200, &json!("record updated"))
    );
    let (status, _) = api
        .put(
            &format!("Leads/{id}"),
            json!({ "data": [{ "Last_Name": "Zeddy" }] }),
        )
        .await;
    assert_eq!(status, 200);
    let (_, body) = api.get(&format!("Leads/{id}?fields=City,Full_Name")).await;
    assert_eq!(
        item(&body),
        &json!({ "id": id, "City": "Oslo", "Full_Name": "Zoe Zeddy" })
    );

    let (status, body) = api
        .delete(&format!("Leads?ids={id},1&wf_trigger=True"))
        .await;
    assert_eq!(status, 207);
    assert_eq!(item(&body)["details"], json!({ "id": id }));
    assert_eq!(body["data"][1]["message"], "record not deleted");
    assert_eq!(api.delete(&format!("Leads/{id}")).await.0, 400);
    assert_eq!(api.get(&format!("Leads/{id}")).await.0, 204);
    let (_, body) = api.get("Leads/deleted").await;
    assert_eq!(item(&body)["id"], id.as_str());
    assert_eq!(item(&body)["display_name"], "Zoe Zeddy");
}

#[tokio::test]
async fn the_status_tells_all_some_and_none() {
    let sandbox = sandbox().await;
    let api = Api::new(&sandbox, MIRA, ALL);
    let good = json!({ "Last_Name": "A", "Company": "B" });
    let bad = json!({ "Company": "B" });
    assert_eq!(
        api.post("Leads", json!({ "data": [good, good] })).await.0,
        201
    );
    let (status, body) = api.post("Leads", json!({ "data": [bad, good] })).await;
    assert_eq!(status, 207);
    assert_eq!(item(&body)["code"], "MANDATORY_NOT_FOUND");
    assert_eq!(
        item(&body)["details"],
        json!({ "api_name": "Last_Name", "json_path": "$.data[0].Last_Name" })
    );
    assert_eq!(body["data"][1]["code"], "SUCCESS");
    assert_eq!(api.post("Leads", json!({ "data": [bad] })).await.0, 400);
}

#[tokio::test]
async fn values_are_checked_against_their_fields() {
    let sandbox = sandbox().await;
    let api = Api::new(&sandbox, MIRA, ALL);
    for (field, value, detail) in [
        ("Last_Name", json!("x".repeat(81)), "maximum_length"),
        ("Last_Name", json!(7), "expected_data_type"),
        ("Email", json!("not an address"), "expected_data_type"),
        ("Lead_Status", json!("Elsewhere"), "supported_values"),
        ("No_of_Employees", json!("12"), "expected_data_type"),
        (
            "No_of_Employees",
            json!(12_345_678_901_i64),
            "maximum_length",
        ),
        ("Annual_Revenue", json!("much"), "expected_data_type"),
        ("Email_Opt_Out", json!("yes"), "expected_data_type"),
        ("Preferred_Start", json!("2026-02-30"), "expected_data_type"),
        ("Shoe_Size", json!(44), "api_name"),
        ("Owner", json!({ "id": "1" }), "api_name"),
    ] {
        let mut lead = json!({ "Last_Name": "A", "Company": "B" });
        lead[field] = value;
        let (status, body) = api.post("Leads", json!({ "data": [lead] })).await;
        let item = item(&body);
        assert_eq!(
            (status, &item["code"]),
            (400, &json!("INVALID_DATA")),
            "{field}: {body}"
        );
        assert_eq!(item["details"]["json_path"], format!("$.data[0].{field}"));
        assert!(item["details"].get(detail).is_some(), "{field}: {item}");
    }
    let deal = json!({ "Deal_Name": "D", "Stage": "Offer", "Contact_Name": { "id": "12" } });
    let (_, body) = api.post("Deals", json!({ "data": [deal] })).await;
    assert_eq!(item(&body)["details"]["api_name"], "Contact_Name");
    // System fields in a request are passed over.
    let lead = json!({ "Last_Name": "A", "Company": "B", "Created_Time": "yesterday", "$x": 1 });
    assert_eq!(api.post("Leads", json!({ "data": [lead] })).await.0, 201);
}

#[tokio::test]
async fn unknown_fields_can_be_passed_over() {
    let sandbox = Sandbox::builder()
        .rule(|rules| rules.refuse_unknown_fields = false)
        .start()
        .await
        .unwrap();
    let api = Api::new(&sandbox, MIRA, ALL);
    let lead = json!({ "Last_Name": "A", "Company": "B", "Shoe_Size": 44 });
    assert_eq!(api.post("Leads", json!({ "data": [lead] })).await.0, 201);
}

#[tokio::test]
async fn mandatory_fields_cannot_be_emptied_and_picklists_can() {
    let sandbox = sandbox().await;
    let api = Api::new(&sandbox, MIRA, ALL);
    let (_, body) = api
        .get("Leads?fields=Last_Name,Lead_Status&per_page=1")
        .await;
    let id = item(&body)["id"].clone();
    let change = |field: &str, value: Value| {
        let mut record = json!({ "id": id });
        record[field] = value;
        json!({ "data": [record] })
    };
    let (status, body) = api.put("Leads", change("Last_Name", Value::Null)).await;
    assert_eq!(
        (status, &item(&body)["code"]),
        (400, &json!("MANDATORY_NOT_FOUND"))
    );
    assert_eq!(
        api.put("Leads", change("Lead_Status", json!("-None-")))
            .await
            .0,
        200
    );
    let path = format!("Leads/{}?fields=Lead_Status", id.as_str().unwrap());
    assert_eq!(item(&api.get(&path).await.1)["Lead_Status"], Value::Null);
}

#[tokio::test]
async fn a_unique_value_is_taken_once() {
    let sandbox = sandbox().await;
    let api = Api::new(&sandbox, MIRA, ALL);
    let contact = json!({ "Last_Name": "A", "Student_Number": "NL-10001" });
    let (status, body) = api.post("Contacts", json!({ "data": [contact] })).await;
    let item = item(&body);
    assert_eq!((status, &item["code"]), (400, &json!("DUPLICATE_DATA")));
    assert_eq!(item["details"]["api_name"], "Student_Number");
    assert_eq!(
        item["details"]["duplicate_record"]["module"]["api_name"],
        "Contacts"
    );
    // Writing its own value back is no duplicate.
    let id = &item["details"]["id"];
    let same = json!({ "data": [{ "id": id, "Student_Number": "NL-10001" }] });
    assert_eq!(api.put("Contacts", same).await.0, 200);
}

#[tokio::test]
async fn upsert_goes_by_the_fields_it_is_told() {
    let sandbox = sandbox().await;
    let api = Api::new(&sandbox, MIRA, ALL);
    let lead = |email: &str| json!({ "Last_Name": "Up", "Company": "Sert", "Email": email });
    let first = json!({ "data": [lead("u@example.com")], "duplicate_check_fields": ["Email"] });
    let (status, body) = api.post("Leads/upsert", first).await;
    assert_eq!((status, &item(&body)["action"]), (200, &json!("insert")));
    assert_eq!(item(&body)["duplicate_field"], Value::Null);
    let id = item(&body)["details"]["id"].clone();
    // Without being told, leads go by their address.
    let again = json!({ "data": [lead("U@example.com"), lead("v@example.com")] });
    let (_, body) = api.post("Leads/upsert", again).await;
    assert_eq!(item(&body)["action"], "update");
    assert_eq!(item(&body)["duplicate_field"], "Email");
    assert_eq!(item(&body)["details"]["id"], id);
    assert_eq!(body["data"][1]["action"], "insert");
    let wrong = json!({ "data": [lead("x@example.com")], "duplicate_check_fields": ["Shoe_Size"] });
    assert_eq!(
        api.post("Leads/upsert", wrong).await.1["code"],
        "INVALID_DATA"
    );
}

/// Unique fields are looked at in every upsert, after the fields that it names or the module's own.
#[tokio::test]
async fn upsert_finds_a_record_by_its_unique_field() {
    let sandbox = sandbox().await;
    let api = Api::new(&sandbox, MIRA, ALL);
    let (_, body) = api
        .get("Contacts?fields=Student_Number,Email,Account_Name&sort_order=asc&per_page=2")
        .await;
    let (one, other) = (&body["data"][0], &body["data"][1]);
    assert_eq!(one["Student_Number"], "NL-10001");
    let upsert = async |contact: Value, checks: Value| {
        let mut asked = json!({ "data": [contact] });
        if !checks.is_null() {
            asked["duplicate_check_fields"] = checks;
        }
        let (status, body) = api.post("Contacts/upsert", asked).await;
        (status, item(&body).clone())
    };
    for checks in [
        Value::Null,
        json!(["Email"]),
        json!(["Phone", "Email"]),
        json!([]),
    ] {
        for number in ["NL-10001", "nl-10001"] {
            let contact =
                json!({ "Last_Name": "A", "Student_Number": number, "Email": "new@example.com" });
            let (status, item) = upsert(contact, checks.clone()).await;
            assert_eq!((status, &item["code"]), (200, &json!("SUCCESS")), "{item}");
            assert_eq!(item["action"], "update");
            assert_eq!(item["details"]["id"], one["id"]);
        }
    }
    // The number alone is enough, and the field is named.
    let contact = json!({ "Last_Name": "A", "Student_Number": "NL-10001" });
    let (_, item) = upsert(contact, Value::Null).await;
    assert_eq!(
        (&item["action"], &item["duplicate_field"]),
        (&json!("update"), &json!("Student_Number"))
    );
    // The named field goes first, and what it finds may not take another record's number.
    let contact = json!({ "Last_Name": "A", "Email": other["Email"] });
    let (_, item) = upsert(contact.clone(), Value::Null).await;
    assert_eq!(
        (&item["details"]["id"], &item["duplicate_field"]),
        (&other["id"], &json!("Email"))
    );
    let mut taken = contact;
    taken["Student_Number"] = "NL-10001".into();
    let (status, item) = upsert(taken, Value::Null).await;
    assert_eq!(
        (status, &item["code"]),
        (400, &json!("DUPLICATE_DATA")),
        "{item}"
    );
    assert_eq!(item["details"]["id"], one["id"]);
    // A number that is new is an insert; the second record of one request finds the first.
    let fresh = json!({ "Last_Name": "N", "Student_Number": "NL-77777" });
    let (_, body) = api
        .post("Contacts/upsert", json!({ "data": [fresh, fresh] }))
        .await;
    let actions = [&body["data"][0]["action"], &body["data"][1]["action"]];
    assert_eq!(actions, [&json!("insert"), &json!("update")]);
    assert_eq!(
        body["data"][0]["details"]["id"],
        body["data"][1]["details"]["id"]
    );
    // An insert still refuses a number that is taken.
    let (status, _) = api.post("Contacts", json!({ "data": [fresh] })).await;
    assert_eq!(status, 400);
}

/// What is empty is no value that two records can share.
#[tokio::test]
async fn empty_values_are_no_duplicates() {
    let sandbox = sandbox().await;
    let api = Api::new(&sandbox, MIRA, ALL);
    for empty in [Value::Null, json!(""), json!(" ")] {
        let contact = json!({ "Last_Name": "Empty", "Student_Number": empty, "Phone": empty });
        for path in ["Contacts", "Contacts/upsert"] {
            for _ in 0..2 {
                let asked = json!({ "data": [contact], "duplicate_check_fields": ["Phone"] });
                let (_, body) = api.post(path, asked).await;
                assert_eq!(
                    item(&body)["message"],
                    "record added",
                    "{path} {empty}: {body}"
                );
            }
        }
    }
}

/// Duplicates are found by fields of every type.
#[tokio::test]
async fn upsert_compares_numbers_and_lookups() {
    let sandbox = sandbox().await;
    let api = Api::new(&sandbox, MIRA, ALL);
    let (_, body) = api.get("Accounts?fields=Employees&per_page=1").await;
    let account = item(&body).clone();
    let asked = |mut record: Value, field: &str, value: &Value| {
        record[field] = value.clone();
        json!({ "data": [record], "duplicate_check_fields": [field] })
    };
    let (_, body) = api
        .post(
            "Accounts/upsert",
            asked(
                json!({ "Account_Name": "Renamed" }),
                "Employees",
                &account["Employees"],
            ),
        )
        .await;
    assert_eq!(item(&body)["details"]["id"], account["id"], "{body}");
    let id: u64 = account["id"].as_str().unwrap().parse().unwrap();
    for to in [
        json!({ "id": account["id"] }),
        json!(id),
        json!({ "id": id, "name": "x" }),
    ] {
        let (_, body) = api
            .post(
                "Deals/upsert",
                asked(
                    json!({ "Deal_Name": "D", "Stage": "Offer" }),
                    "Account_Name",
                    &to,
                ),
            )
            .await;
        assert_eq!(item(&body)["duplicate_field"], "Account_Name", "{body}");
    }
}

#[tokio::test]
async fn upsert_with_an_id_means_that_record() {
    let sandbox = sandbox().await;
    let api = Api::new(&sandbox, MIRA, ALL);
    let (_, body) = api.get("Leads?fields=Email&per_page=2").await;
    let (one, other) = (body["data"][0].clone(), body["data"][1].clone());
    let id: u64 = one["id"].as_str().unwrap().parse().unwrap();
    let upsert = async |lead: Value| {
        let asked = json!({ "data": [lead], "duplicate_check_fields": ["Email"] });
        let (status, body) = api.post("Leads/upsert", asked).await;
        (status, item(&body).clone())
    };
    // The ID goes before every other field, whatever that would find. No name is needed.
    for (given, email) in [
        (one["id"].clone(), &one["Email"]),
        (json!(id), &json!("n@example.com")),
        (one["id"].clone(), &other["Email"]),
    ] {
        let (status, item) = upsert(json!({ "id": given, "City": "Oslo", "Email": email })).await;
        assert_eq!((status, &item["action"]), (200, &json!("update")), "{item}");
        assert_eq!(item["duplicate_field"], Value::Null);
        assert_eq!(item["details"]["id"], one["id"]);
    }
    let count = async || api.get("Leads/actions/count").await.1["count"].clone();
    assert_eq!(count().await, 60, "nothing was added");
    // An ID that no record of the module has is an error, as it is in an update.
    api.delete(&format!("Leads/{}", other["id"].as_str().unwrap()))
        .await;
    let (_, contacts) = api.get("Contacts?fields=id&per_page=1").await;
    for id in [
        json!("1"),
        json!(1),
        other["id"].clone(),
        item(&contacts)["id"].clone(),
        json!("abc"),
        json!(-1),
        json!("99999999999999999999"),
        json!(true),
    ] {
        let (status, item) =
            upsert(json!({ "id": id, "Last_Name": "A", "Email": one["Email"] })).await;
        assert_eq!(
            (status, &item["code"]),
            (400, &json!("INVALID_DATA")),
            "{id}"
        );
        assert_eq!(
            item["details"],
            json!({ "api_name": "id", "json_path": "$.data[0].id" })
        );
    }
    assert_eq!(count().await, 59);
    let (_, item) = upsert(json!({ "id": null, "Last_Name": "A" })).await;
    assert_eq!(item["action"], "insert", "no ID");
}

/// A lead's company is mandatory in its layout only, and is asked for where the layout is named.
#[tokio::test]
async fn what_only_a_layout_demands_is_asked_for_with_the_layout() {
    let strict = Sandbox::builder()
        .require_layout_fields()
        .start()
        .await
        .unwrap();
    let strict = Api::new(&strict, MIRA, ALL);
    let sandbox = sandbox().await;
    let lenient = Api::new(&sandbox, MIRA, ALL);
    let layout = json!({ "id": "5540230000000055", "name": "Standard" });
    for (api, lead, good) in [
        (&lenient, json!({ "Last_Name": "A" }), true),
        (&lenient, json!({ "Last_Name": "A", "Company": null }), true),
        (&lenient, json!({ "Last_Name": "A", "Layout": null }), true),
        (
            &lenient,
            json!({ "Last_Name": "A", "Layout": layout }),
            false,
        ),
        (
            &lenient,
            json!({ "Last_Name": "A", "Layout": "5540230000000055" }),
            false,
        ),
        (
            &lenient,
            json!({ "Last_Name": "A", "Layout": layout, "Company": "B" }),
            true,
        ),
        (&lenient, json!({ "Company": "B" }), false),
        (&strict, json!({ "Last_Name": "A" }), false),
        (&strict, json!({ "Last_Name": "A", "Company": "" }), false),
        (&strict, json!({ "Last_Name": "A", "Company": "B" }), true),
    ] {
        for path in ["Leads", "Leads/upsert"] {
            let (_, body) = api.post(path, json!({ "data": [lead] })).await;
            let expected = if good {
                "SUCCESS"
            } else {
                "MANDATORY_NOT_FOUND"
            };
            assert_eq!(item(&body)["code"], expected, "{path} {lead}");
        }
    }
    // Emptying it is the same question.
    let (_, body) = lenient.get("Leads?fields=Company&per_page=1").await;
    let id = item(&body)["id"].clone();
    for (change, status) in [
        (json!({ "id": id, "Company": null, "Layout": layout }), 400),
        (json!({ "id": id, "City": "Oslo", "Layout": layout }), 200),
        (json!({ "id": id, "Company": null }), 200),
    ] {
        let asked = json!({ "data": [change] });
        assert_eq!(lenient.put("Leads", asked).await.0, status, "{change}");
    }
    let (_, fields) = lenient.get("settings/fields?module=Leads").await;
    let mandatory: Vec<&str> = fields["fields"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|field| field["system_mandatory"] == true)
        .map(|field| field["api_name"].as_str().unwrap())
        .collect();
    assert_eq!(mandatory, ["Last_Name"], "the SDKs refuse what lacks those");
}

#[tokio::test]
async fn a_change_can_ask_that_nobody_was_faster() {
    let sandbox = sandbox().await;
    let (_, token) = sandbox.login(MIRA, ALL);
    let api = Api::with_token(sandbox.api_url(), &token);
    let (_, body) = api.get("Leads?fields=Modified_Time&per_page=1").await;
    let id = item(&body)["id"].as_str().unwrap().to_owned();
    let seen = item(&body)["Modified_Time"].as_str().unwrap().to_owned();
    let change = async || {
        let response = http()
            .put(format!("{}/crm/v8/Leads/{id}", sandbox.api_url()))
            .header("Authorization", format!("Bearer {token}"))
            .header("If-Unmodified-Since", &seen)
            .body(json!({ "data": [{ "City": "Oslo" }] }).to_string())
            .send()
            .await
            .unwrap();
        (
            response.status().as_u16(),
            response.json::<Value>().await.unwrap(),
        )
    };
    assert_eq!(change().await.0, 200);
    let (status, body) = change().await;
    assert_eq!(
        (status, &item(&body)["code"]),
        (412, &json!("ALREADY_MODIFIED"))
    );
}

#[tokio::test]
async fn writes_have_limits_and_a_form() {
    let sandbox = sandbox().await;
    let api = Api::new(&sandbox, MIRA, ALL);
    let many = vec![json!({ "Last_Name": "A", "Company": "B" }); 101];
    let (status, body) = api.post("Leads", json!({ "data": many })).await;
    assert_eq!((status, &body["code"]), (400, &json!("LIMIT_EXCEEDED")));
    assert_eq!(
        api.post("Leads", json!({ "data": [] })).await.1["code"],
        "INVALID_DATA"
    );
    assert_eq!(
        api.post("Leads", json!({})).await.1["code"],
        "MANDATORY_NOT_FOUND"
    );
    assert_eq!(api.post("Leads", json!([])).await.1["code"], "INVALID_DATA");
    assert_eq!(
        api.delete("Leads").await.1["code"],
        "REQUIRED_PARAM_MISSING"
    );
}

#[tokio::test]
async fn unknown_paths_methods_and_modules_are_told_apart() {
    let sandbox = sandbox().await;
    let api = Api::new(&sandbox, MIRA, ALL);
    let code = async |method, path| {
        let (status, body) = api.call(method, path, None).await;
        (status, body["code"].as_str().unwrap_or_default().to_owned())
    };
    let is = |status, code: &str| (status, code.to_owned());
    assert_eq!(
        code(Method::GET, "settings/nonsense").await,
        is(404, "INVALID_URL_PATTERN")
    );
    assert_eq!(
        code(Method::GET, "Leads/1/2/3").await,
        is(404, "INVALID_URL_PATTERN")
    );
    assert_eq!(
        code(Method::PATCH, "Leads").await,
        is(400, "INVALID_REQUEST_METHOD")
    );
    assert_eq!(
        code(Method::POST, "org").await,
        is(400, "INVALID_REQUEST_METHOD")
    );
    assert_eq!(code(Method::GET, "Nope").await, is(400, "INVALID_MODULE"));
    assert_eq!(
        code(Method::GET, "Leads/abc").await,
        is(400, "INVALID_DATA")
    );
    // On writes the error stands inside `data`.
    let (status, body) = api.post("Nope", json!({ "data": [{}] })).await;
    assert_eq!(
        (status, &item(&body)["code"]),
        (400, &json!("INVALID_MODULE"))
    );
}

#[tokio::test]
async fn credentials_and_scopes_are_checked() {
    let sandbox = sandbox().await;
    let url = format!("{}/crm/v8/org", sandbox.api_url());
    let bare: Value = http().get(&url).send().await.unwrap().json().await.unwrap();
    assert_eq!(bare["code"], "AUTHENTICATION_FAILURE");
    let unknown = Api::with_token(sandbox.api_url(), "1000.a.b");
    assert_eq!(
        unknown.get("org").await,
        (
            401,
            json!({
                "code": "INVALID_TOKEN", "details": {}, "message": "invalid oauth token", "status": "error",
            })
        )
    );

    let reader = Api::new(&sandbox, MIRA, "ZohoCRM.modules.leads.READ");
    assert_eq!(reader.get("Leads?fields=id").await.0, 200);
    let lead = json!({ "data": [{ "Last_Name": "A", "Company": "B" }] });
    for (status, body) in [
        reader.get("Contacts?fields=id").await,
        reader.get("org").await,
        reader.get("users").await,
        reader.get("settings/modules").await,
        reader.post("Leads", lead.clone()).await,
        reader.post("Leads/upsert", lead.clone()).await,
        reader.delete("Leads?ids=1").await,
        reader
            .post(
                "coql",
                json!({ "select_query": "select id from Leads where id > 1" }),
            )
            .await,
    ] {
        assert_eq!(
            (status, &body["code"]),
            (401, &json!("OAUTH_SCOPE_MISMATCH"))
        );
    }
    let writer = Api::new(&sandbox, MIRA, "ZohoCRM.modules.Leads.WRITE");
    assert_eq!(writer.post("Leads", lead.clone()).await.0, 201);
    assert_eq!(writer.post("Leads/upsert", lead).await.0, 200);
    assert_eq!(writer.get("Leads?fields=id").await.0, 401);
}

#[tokio::test]
async fn people_of_one_organisation_share_records_and_others_do_not_see_them() {
    let sandbox = sandbox().await;
    let mira = Api::new(&sandbox, MIRA, ALL);
    let tomas = Api::new(&sandbox, "tomas.reyes@example.com", ALL);
    let lena = Api::new(&sandbox, LENA, ALL);
    let lead = json!({ "data": [{ "Last_Name": "Shared", "Company": "B" }] });
    let (_, body) = mira.post("Leads", lead).await;
    let path = format!("Leads/{}", item(&body)["details"]["id"].as_str().unwrap());
    assert_eq!(tomas.get(&path).await.0, 200);
    assert_eq!(lena.get(&path).await.0, 204);
    let (status, body) = lena
        .put(&path, json!({ "data": [{ "City": "Oslo" }] }))
        .await;
    assert_eq!((status, &body["code"]), (400, &json!("INVALID_DATA")));
    assert_eq!(lena.delete(&path).await.0, 400);
    let (_, count) = mira.get("Leads/actions/count").await;
    assert_eq!(count["count"], 61);
}

#[tokio::test]
async fn the_demo_is_the_same_every_time_and_reset_brings_it_back() {
    let (one, two) = (sandbox().await, sandbox().await);
    let path = "Leads?fields=Full_Name,Email,Created_Time&per_page=200";
    let api = Api::new(&one, MIRA, ALL);
    let (_, first) = api.get(path).await;
    assert_eq!(first, Api::new(&two, MIRA, ALL).get(path).await.1);
    assert!(first["data"].as_array().unwrap().len() >= 40);
    let id = item(&first)["id"].as_str().unwrap();
    assert_eq!(api.delete(&format!("Leads/{id}")).await.0, 200);
    one.reset();
    let api = Api::new(&one, MIRA, ALL);
    assert_eq!(api.get(path).await.1, first);
}
