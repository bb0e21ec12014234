//! Zoho's official Python SDK against the sandbox, unmodified: `tests/official_python/`.
//!
//! The environment variable `ZOHO_TEST_PYTHON` names a Python that has `zohocrmsdk8_0`; `cargo
//! xtask test` sets it. `ZOHO_TEST_WITHOUT=python` leaves this test out, visibly.

use std::process::Stdio;
use std::time::Duration;

use serde_json::Value;
use tokio::process::Command;

use crate::support::{ALL, MIRA, sandbox};

const SCRIPT: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/tests/official_python/login_and_leads.py"
);

#[expect(
    clippy::disallowed_methods,
    reason = "the documented switches of this module are environment variables"
)]
#[expect(
    clippy::print_stdout,
    reason = "what did not run must be seen in the test's output"
)]
fn interpreter() -> Option<String> {
    let without = std::env::var("ZOHO_TEST_WITHOUT").unwrap_or_default();
    if without.split(',').any(|word| word.trim() == "python") {
        println!("NOT RUN: the official Python SDK, left out by ZOHO_TEST_WITHOUT");
        return None;
    }
    let path = std::env::var("ZOHO_TEST_PYTHON").unwrap_or_default();
    assert!(
        !path.is_empty(),
        "ZOHO_TEST_PYTHON does not name a Python with zohocrmsdk8_0: run `cargo xtask test`, or \
         set ZOHO_TEST_WITHOUT=python to leave the official SDK out"
    );
    Some(path)
}

#[tokio::test]
async fn the_official_python_sdk_logs_in_and_works_with_leads() {
    let Some(python) = interpreter() else { return };
    let sandbox = sandbox().await;
    let code = sandbox.grant_code(MIRA, ALL);
    let folder = tempfile::tempdir().unwrap();
    let run = Command::new(python)
        .args(["-X", "utf8", "-B", SCRIPT])
        .arg(folder.path().join("sdk_tokens.txt"))
        .env("ZOHO_ACCOUNTS_URL", sandbox.accounts_url())
        .env("ZOHO_API_URL", sandbox.api_url())
        .env("ZOHO_CLIENT_ID", sandbox.client_id())
        .env("ZOHO_CLIENT_SECRET", sandbox.client_secret())
        .env("ZOHO_REDIRECT_URI", sandbox.redirect_uri())
        .env("ZOHO_GRANT_CODE", &code)
        // Its metadata goes with the folder, and no proxy of the environment comes in between.
        .env("TMPDIR", folder.path())
        .env("NO_PROXY", "127.0.0.1")
        .env("no_proxy", "127.0.0.1")
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output();
    let run = tokio::time::timeout(Duration::from_mins(2), run).await;
    let run = run.expect("the script ends in time").unwrap();
    assert!(
        run.status.success(),
        "{}",
        String::from_utf8_lossy(&run.stderr)
    );

    // Its last line is the summary.
    let output = String::from_utf8(run.stdout).unwrap();
    let summary: Value = serde_json::from_str(output.lines().last().unwrap()).unwrap();
    let user_name = summary["user_name"].as_str().unwrap();
    assert!(user_name.starts_with(&format!("{MIRA}:")), "{user_name}");
    assert_eq!(summary["token_id"], "1");
    // What the demo organisation has before the script adds to it.
    assert_eq!(summary["leads"], 60);
    assert_eq!(summary["deals"], 24);
    assert_eq!(summary["fields_of_deals"], 16);

    // One login, then nothing but calls, none of them refused.
    let counts = sandbox.counts();
    assert_eq!(counts.code_exchanges_ok, 1);
    assert_eq!(counts.code_exchanges_failed, 0);
    assert_eq!(counts.refreshes_ok + counts.refreshes_failed, 0);
    assert_eq!(counts.api_unauthorized, 0);
    let requests = sandbox.requests();
    assert_eq!(counts.api_calls, requests.len() as u64 - 1);
    let failed = requests.iter().find(|request| request.status >= 300);
    assert!(failed.is_none(), "{failed:?}");
    // The login asks who the user is in two calls.
    let first: Vec<_> = requests
        .iter()
        .map(|request| request.path_and_query.as_str())
        .collect();
    let login = [
        "/oauth/v2/token",
        "/crm/v8/users?type=CurrentUser",
        "/crm/v8/org",
    ];
    assert_eq!(first[..3], login);
    for (method, path) in [
        ("GET", "/crm/v8/Leads?"),
        ("POST", "/crm/v8/Leads"),
        ("PUT", "/crm/v8/Leads"),
        ("POST", "/crm/v8/Leads/upsert"),
        ("GET", "/crm/v8/Leads/search?"),
        ("POST", "/crm/v8/coql"),
        ("DELETE", "/crm/v8/Leads?ids="),
        ("GET", "/crm/v8/Leads/deleted"),
    ] {
        let arrived = requests
            .iter()
            .any(|request| request.method == method && request.path_and_query.starts_with(path));
        assert!(arrived, "{method} {path} did not arrive");
    }
}
