use super::*;

const SENT_AT: Timestamp = Timestamp::from_millis(1_795_000_000_000);

fn asked(call: Call) -> Asked<'static> {
    Asked {
        call,
        host: "accounts.zoho.eu",
    }
}

fn answer(status: u16, content_type: &str, body: &str) -> Answer {
    Answer {
        status,
        content_type: Some(content_type.to_owned()),
        retry_after: None,
        body: Zeroizing::new(body.as_bytes().to_vec()),
        too_long: false,
        sent_at: SENT_AT,
    }
}

fn json(status: u16, body: &str) -> Answer {
    answer(status, "application/json;charset=UTF-8", body)
}

/// The error that both an exchange and a refresh end with.
fn error_of(answer: &Answer) -> Error {
    let one = classify(answer, &asked(Call::Exchange)).unwrap_err();
    let other = classify(answer, &asked(Call::Refresh)).unwrap_err();
    assert_eq!(one.code(), other.code());
    assert!(one.message().contains("`accounts.zoho.eu`"), "{one}");
    one
}

fn code_of(answer: &Answer) -> ErrorCode {
    error_of(answer).code()
}

/// Seconds from the request to the moment that the error names.
fn retry_seconds(error: &Error) -> u64 {
    let moment = error.retry_moment().expect("the error names a moment");
    moment.since(SENT_AT).as_secs()
}

fn tokens_of(body: &str) -> TokenAnswer {
    classify(&json(200, body), &asked(Call::Refresh)).unwrap()
}

#[test]
fn an_answer_with_tokens_is_read_whole() {
    let body = r#"{"access_token":"1000.aa.bb","refresh_token":"1000.cc.dd","scope":"ZohoCRM.modules.ALL",
        "api_domain":"https://www.zohoapis.eu","token_type":"Bearer","expires_in":3600,"id_token":"x","new":[{}]}"#;
    let tokens = classify(&json(200, body), &asked(Call::Exchange)).unwrap();
    assert_eq!(tokens.access_token.expose_secret(), "1000.aa.bb");
    let refresh_token = tokens.refresh_token.as_ref().unwrap();
    assert_eq!(refresh_token.expose_secret(), "1000.cc.dd");
    assert_eq!(tokens.scope.as_deref(), Some("ZohoCRM.modules.ALL"));
    assert_eq!(
        tokens.api_domain.as_deref(),
        Some("https://www.zohoapis.eu")
    );
    assert_eq!(tokens.life, Duration::from_hours(1));
    assert_eq!(tokens.expires_at, SENT_AT.after(Duration::from_hours(1)));
    let printed = format!("{tokens:?}");
    assert!(!printed.contains("aa.bb") && !printed.contains("cc.dd"));
}

#[test]
fn what_is_missing_null_or_empty_is_none() {
    for rest in [
        "",
        r#","refresh_token":null,"api_domain":null,"scope":null,"expires_in":null,"error":null"#,
        r#","refresh_token":"","api_domain":"","scope":"","expires_in":"","error":"""#,
    ] {
        let tokens = tokens_of(&format!(r#"{{"access_token":"1000.aa.bb"{rest}}}"#));
        assert_eq!(tokens.refresh_token, None);
        assert_eq!(tokens.api_domain, None);
        assert_eq!(tokens.scope, None);
        assert_eq!(tokens.life, Duration::from_hours(1));
    }
}

#[test]
fn of_a_key_that_is_there_twice_the_last_counts() {
    let tokens =
        tokens_of(r#"{"access_token":"1000.old","access_token":"1000.new","expires_in":60}"#);
    assert_eq!(tokens.access_token.expose_secret(), "1000.new");
}

#[test]
fn the_life_is_read_in_its_unit_and_never_without_end() {
    let hour = 3600;
    for (fields, seconds) in [
        (r#""expires_in":1800"#, 1800),
        (r#""expires_in":"1800""#, 1800),
        (r#""expires_in":1800.9"#, 1800),
        (r#""expires_in":3600"#, 3600),
        (r#""expires_in":1"#, 1),
        // The older form: milliseconds beside seconds.
        (r#""expires_in_sec":1800,"expires_in":1800000"#, 1800),
        (r#""expires_in_sec":"1800","expires_in":"1800000""#, 1800),
        (r#""expires_in_sec":1800"#, 1800),
        (r#""expires_in_sec":"soon","expires_in":1800000"#, 1800),
        (r#""expires_in_sec":null,"expires_in":1800"#, 1800),
        // What cannot be true is the documented hour.
        (r#""other":1"#, hour),
        (r#""expires_in":null"#, hour),
        (r#""expires_in":0"#, hour),
        (r#""expires_in":-1"#, hour),
        (r#""expires_in":3601"#, hour),
        (r#""expires_in":7200"#, hour),
        (r#""expires_in":86400"#, hour),
        (r#""expires_in":3600000"#, hour),
        (r#""expires_in":1e300"#, hour),
        (r#""expires_in":"NaN""#, hour),
        (r#""expires_in":"inf""#, hour),
        (r#""expires_in":"soon""#, hour),
        (r#""expires_in":true"#, hour),
        (r#""expires_in":[3600]"#, hour),
    ] {
        let tokens = tokens_of(&format!(r#"{{"access_token":"1000.aa.bb",{fields}}}"#));
        assert_eq!(tokens.life, Duration::from_secs(seconds), "{fields}");
        assert_eq!(tokens.expires_at, SENT_AT.after(tokens.life), "{fields}");
    }
}

#[test]
fn the_body_decides_before_the_status() {
    for status in [200, 201, 400, 401, 500, 503] {
        let body = r#"{"access_token":"1000.aa.bb"}"#;
        assert!(
            classify(&json(status, body), &asked(Call::Refresh)).is_ok(),
            "{status}"
        );
        let body = r#"{"error":"invalid_code"}"#;
        assert_eq!(code_of(&json(status, body)), ErrorCode::InvalidCode);
    }
    // Nor does the content type decide.
    let mistyped = answer(200, "text/html", r#"{"error":"invalid_code"}"#);
    assert_eq!(code_of(&mistyped), ErrorCode::InvalidCode);
}

#[test]
fn every_documented_error_has_its_code() {
    for (said, code) in [
        ("invalid_code", ErrorCode::InvalidCode),
        ("invalid_client", ErrorCode::InvalidClient),
        ("invalid_client_secret", ErrorCode::InvalidClientSecret),
        ("invalid_redirect_uri", ErrorCode::InvalidRedirectUri),
        ("invalid_scope", ErrorCode::InvalidScope),
        ("missing_org_info", ErrorCode::InvalidInput),
        ("invalid_soid", ErrorCode::InvalidInput),
        ("general_error", ErrorCode::ServerError),
    ] {
        let error = error_of(&json(200, &format!(r#"{{"error":"{said}"}}"#)));
        assert_eq!(error.code(), code, "{said}");
        assert_eq!(error.server_code(), Some(said));
    }
}

#[test]
fn access_denied_is_a_person_at_an_exchange_and_the_limit_at_a_refresh() {
    let denied = json(200, r#"{"error":"access_denied"}"#);
    let at = |call| classify(&denied, &asked(call)).unwrap_err();
    assert_eq!(at(Call::Exchange).code(), ErrorCode::AccessDenied);
    assert_eq!(at(Call::Refresh).code(), ErrorCode::Throttled);
    assert_eq!(at(Call::Refresh).server_code(), Some("access_denied"));
}

#[test]
fn throttling_is_known_by_error_and_status_in_any_language() {
    let bodies = [
        r#"{"error_description":"You have made too many requests continuously. Please try again after some time.","error":"Access Denied","status":"failure"}"#,
        r#"{"error_description":"Sie haben zu viele Anfragen gestellt.","error":"Access Denied","status":"failure"}"#,
        r#"{"status":"FAILURE","error":"access denied"}"#,
    ];
    for body in bodies {
        for status in [200, 400] {
            let error = error_of(&json(status, body));
            assert_eq!(error.code(), ErrorCode::Throttled, "{body}");
            assert_eq!(error.server_code(), Some("Access Denied"));
            assert_eq!(retry_seconds(&error), 600);
        }
    }
    // A firewall on the way says it without Zoho's `status`.
    let firewall = json(403, r#"{"error":"Access Denied"}"#);
    assert_eq!(code_of(&firewall), ErrorCode::UnexpectedAnswer);
}

#[test]
fn status_429_throttles_whatever_the_body_is() {
    for body in ["", "{}", "<html>slow down</html>", r#"{"error":"slow"}"#] {
        assert_eq!(code_of(&json(429, body)), ErrorCode::Throttled, "{body}");
    }
}

#[test]
fn a_retry_after_is_honoured_within_reason() {
    for (header, seconds) in [
        ("30", 30),
        (" 30 ", 30),
        ("0", 1),
        ("99999999999", 86400),
        ("-5", 600),
        // 90 seconds after the request, in the three forms of RFC 9110 section 5.6.7.
        ("Wed, 18 Nov 2026 11:08:10 GMT", 90),
        ("Wednesday, 18-Nov-26 11:08:10 GMT", 90),
        ("Wed Nov 18 11:08:10 2026", 90),
        ("Sun, 06 Nov 1994 08:49:37 GMT", 1),
        ("Fri, 01 Jan 2055 00:00:00 GMT", 86400),
        ("Wed, 18 Nov 2026 11:08:10", 600),
        ("tomorrow", 600),
    ] {
        let mut throttled = json(429, "");
        throttled.retry_after = Some(header.to_owned());
        let error = error_of(&throttled);
        assert_eq!(retry_seconds(&error), seconds, "{header}");
    }
    let mut down = json(503, "");
    down.retry_after = Some("30".to_owned());
    let error = error_of(&down);
    assert_eq!(error.code(), ErrorCode::ServerError);
    assert_eq!(retry_seconds(&error), 30);
}

#[test]
fn a_failing_server_may_recover() {
    for status in [500, 502, 503, 504, 520] {
        for body in [
            "",
            "{}",
            r#"{"message":"down"}"#,
            r#"{"error":"internal_error"}"#,
            r#"{"error":{"code":500}}"#,
            "<html>502 Bad Gateway</html>",
            "upstream connect error",
        ] {
            let error = error_of(&json(status, body));
            assert_eq!(error.code(), ErrorCode::ServerError, "{status} {body}");
            assert!(error.is_transient());
        }
    }
    let error = error_of(&json(500, r#"{"error":"internal_error"}"#));
    assert_eq!(error.server_code(), Some("internal_error"));
}

#[test]
fn pages_and_broken_json_may_pass_and_are_no_verdict() {
    for status in [200, 400, 401, 403, 404] {
        for page in [
            answer(
                status,
                "text/html",
                "<!DOCTYPE html><title>invalid_code</title>",
            ),
            answer(status, "application/json", "  <html>invalid_client</html>"),
            json(status, r#"{"error":"invalid_code""#),
            json(status, r#"{"error":"invalid_code"} and more"#),
            json(status, r#"["invalid_code"]"#),
            json(status, r#""invalid_code""#),
            json(status, "invalid_code"),
            json(status, "null"),
        ] {
            let error = error_of(&page);
            assert_eq!(error.code(), ErrorCode::ServerError, "{status}");
            assert_eq!(error.server_code(), None);
        }
    }
    assert_eq!(code_of(&json(200, "")), ErrorCode::ServerError);
    assert_eq!(code_of(&json(204, "")), ErrorCode::ServerError);
    let mut endless = json(200, "");
    endless.too_long = true;
    assert_eq!(code_of(&endless), ErrorCode::ServerError);
    let deep = format!(r#"{{"error":{}"#, "[".repeat(10_000));
    assert_eq!(code_of(&json(200, &deep)), ErrorCode::ServerError);
}

#[test]
fn json_that_says_nothing_known_is_unexpected() {
    for (status, body) in [
        (200, "{}"),
        (200, r#"{"access_token":""}"#),
        (200, r#"{"access_token":null}"#),
        (200, r#"{"access_token":17}"#),
        (200, r#"{"access_token":["1000.aa.bb"]}"#),
        (200, r#"{"refresh_token":"1000.cc.dd"}"#),
        (200, r#"{"error":17}"#),
        (200, r#"{"error":{"code":"invalid_code"}}"#),
        (200, r#"{"error":["invalid_code"]}"#),
        (200, r#"{"error":true}"#),
        (200, r#"{"error":"INVALID_CODE"}"#),
        (200, r#"{"error":"invalid_code "}"#),
        (200, r#"{"error":"invalid_request"}"#),
        (401, r#"{"error":"INVALID_OAUTHTOKEN"}"#),
        (200, r#"{"status":"failure"}"#),
        (
            200,
            r#"{"error":"invalid_code","access_token":"1000.aa.bb"}"#,
        ),
        (200, r#"{"error":{},"access_token":"1000.aa.bb"}"#),
        (200, "{\"access_token\":\"1000.aa\\r\\nEvil: 1\"}"),
        (
            200,
            r#"{"access_token":"1000.aa.bb","refresh_token":"1000.cc dd"}"#,
        ),
        (400, "{}"),
        (400, ""),
        (404, ""),
        (401, "{}"),
    ] {
        let error = error_of(&json(status, body));
        assert_eq!(error.code(), ErrorCode::UnexpectedAnswer, "{status} {body}");
        assert!(!error.is_transient());
    }
}

#[test]
fn a_redirect_is_never_an_answer() {
    for status in [301, 302, 303, 307, 308] {
        assert_eq!(code_of(&json(status, "")), ErrorCode::UnexpectedAnswer);
        let page = answer(status, "text/html", "<a href='/'>here</a>");
        assert_eq!(code_of(&page), ErrorCode::UnexpectedAnswer);
    }
}

#[test]
fn a_proxy_that_wants_a_password_is_the_network() {
    let page = answer(407, "text/html", "<html>who are you</html>");
    assert_eq!(code_of(&page), ErrorCode::Network);
}

#[test]
fn an_unknown_error_is_kept_if_it_can_be_a_code() {
    let long = "a".repeat(65);
    for (said, kept) in [
        ("invalid_request", true),
        ("INVALID_OAUTHTOKEN", true),
        ("Something else-1.2", true),
        ("<b>no</b>", false),
        ("ann@example.com", false),
        ("1000.3f2a9c5be4d81f07a6c2", false),
        ("ungültig", false),
        (&long, false),
    ] {
        let error = error_of(&json(200, &format!(r#"{{"error":"{said}"}}"#)));
        assert_eq!(error.code(), ErrorCode::UnexpectedAnswer);
        assert_eq!(error.server_code(), kept.then_some(said));
        assert_eq!(error.to_string().contains(said), kept, "{said}");
    }
}

#[test]
fn revoked_or_of_no_use_before_is_what_a_revocation_ends_with() {
    use Revocation::{AlreadyInvalid, Revoked};
    for (status, body, result) in [
        (200, r#"{"status":"success"}"#, Revoked),
        (200, r#"{"status":"SUCCESS","error":null}"#, Revoked),
        (400, r#"{"error":"invalid_code"}"#, AlreadyInvalid),
        (200, r#"{"error":"invalid_code"}"#, AlreadyInvalid),
        (400, r#"{"error":"invalid_token"}"#, AlreadyInvalid),
        (400, r#"{"status":"failure"}"#, AlreadyInvalid),
        (400, "{}", AlreadyInvalid),
        (400, "", AlreadyInvalid),
    ] {
        let found = classify_revocation(&json(status, body), &asked(Call::Revoke));
        assert_eq!(found.unwrap(), result, "{status} {body}");
    }
    for (status, body, code) in [
        (
            400,
            r#"{"error":"Access Denied","status":"failure"}"#,
            ErrorCode::Throttled,
        ),
        (200, r#"{"error":"access_denied"}"#, ErrorCode::Throttled),
        (
            400,
            r#"{"error":"invalid_client"}"#,
            ErrorCode::InvalidClient,
        ),
        (400, r#"{"error":"general_error"}"#, ErrorCode::ServerError),
        (400, r#"{"error":"what"}"#, ErrorCode::UnexpectedAnswer),
        (400, "<html>bad request</html>", ErrorCode::ServerError),
        (400, r#"{"status":"#, ErrorCode::ServerError),
        (200, "", ErrorCode::ServerError),
        (200, "{}", ErrorCode::UnexpectedAnswer),
        (200, r#"{"status":"failure"}"#, ErrorCode::UnexpectedAnswer),
        (302, "", ErrorCode::UnexpectedAnswer),
        (429, "", ErrorCode::Throttled),
        (500, r#"{"status":"failure"}"#, ErrorCode::ServerError),
    ] {
        let found = classify_revocation(&json(status, body), &asked(Call::Revoke));
        assert_eq!(found.unwrap_err().code(), code, "{status} {body}");
    }
    let mut endless = json(400, "");
    endless.too_long = true;
    let found = classify_revocation(&endless, &asked(Call::Revoke));
    assert_eq!(found.unwrap_err().code(), ErrorCode::ServerError);
}
