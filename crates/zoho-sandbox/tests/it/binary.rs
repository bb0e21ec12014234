//! The program: its first line, its options, its end.

use std::io::Write as _;
use std::process::Stdio;
use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, Command};

use crate::support::{ALL, Api, MIRA, http};

fn program(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_zoho-sandbox"));
    command
        .args(args)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    command
}

/// Starts the program and reads its first line.
async fn started(args: &[&str]) -> (Child, String) {
    let mut child = program(args).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let line = tokio::time::timeout(Duration::from_secs(30), lines.next_line());
    (child, line.await.unwrap().unwrap().unwrap_or_default())
}

/// What comes of a lead that lacks what only its layout demands: the code of the answer.
async fn lead_without_company(ready: &Value) -> String {
    let field = |name: &str| ready[name].as_str().unwrap();
    let asked = serde_json::json!({ "email": MIRA, "scopes": ALL }).to_string();
    let url = format!("{}/codes", field("control_url"));
    let code = http().post(url).body(asked).send().await.unwrap();
    let code: Value = code.json().await.unwrap();
    let form = [
        ("grant_type", "authorization_code"),
        ("client_id", field("client_id")),
        ("client_secret", field("client_secret")),
        ("code", code["code"].as_str().unwrap()),
    ];
    let url = format!("{}/oauth/v2/token", field("accounts_url"));
    let token = http().post(url).form(&form).send().await.unwrap();
    let token: Value = token.json().await.unwrap();
    let api = Api::with_token(field("api_url"), token["access_token"].as_str().unwrap());
    let lead = serde_json::json!({ "data": [{ "Last_Name": "A" }] });
    let (_, body) = api.post("Leads", lead).await;
    body["data"][0]["code"].as_str().unwrap().to_owned()
}

async fn terminated(mut child: Child) -> Option<i32> {
    let pid = child.id().unwrap().to_string();
    let sent = Command::new("kill")
        .args(["-TERM", &pid])
        .status()
        .await
        .unwrap();
    assert!(sent.success());
    let ended = tokio::time::timeout(Duration::from_secs(30), child.wait());
    ended.await.unwrap().unwrap().code()
}

#[tokio::test]
async fn the_first_line_is_json_with_these_keys_when_the_program_is_ready() {
    let args = [
        "--json",
        "--listen",
        "127.0.0.1:0",
        "--client-id",
        "1000.ABC",
        "--client-secret",
        "shh",
        "--redirect-uri",
        "https://app.example.com/cb",
        "--require-layout-fields",
        "--request-log-bytes",
        "1000000",
    ];
    let (child, line) = started(&args).await;
    let ready: Value = serde_json::from_str(&line).unwrap();
    let mut keys: Vec<&String> = ready.as_object().unwrap().keys().collect();
    keys.sort_unstable();
    assert_eq!(
        keys,
        [
            "accounts_url",
            "api_url",
            "client_id",
            "client_secret",
            "control_url",
            "redirect_uri"
        ]
    );
    assert_eq!(ready["client_id"], "1000.ABC");
    assert_eq!(ready["client_secret"], "shh");
    assert_eq!(ready["redirect_uri"], "https://app.example.com/cb");
    let control = ready["control_url"].as_str().unwrap();
    assert_eq!(lead_without_company(&ready).await, "MANDATORY_NOT_FOUND");
    let counts = format!("{control}/counts");
    assert_eq!(http().get(counts).send().await.unwrap().status(), 200);
    assert_eq!(terminated(child).await, Some(0), "SIGTERM ends it cleanly");
}

#[tokio::test]
async fn the_banner_says_what_to_do_next() {
    let (child, line) = started(&["--listen", "127.0.0.1:0"]).await;
    assert!(line.starts_with("Zoho sandbox"), "{line}");
    assert_eq!(terminated(child).await, Some(0));
}

#[tokio::test]
async fn the_banner_tells_where_the_other_data_center_is_and_who_lives_there() {
    let mut child = program(&["--listen", "127.0.0.1:0"]).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut banner = Vec::new();
    while let Some(line) = lines.next_line().await.unwrap() {
        let last = line.starts_with("Ctrl-C");
        banner.push(line);
        if last {
            break;
        }
    }
    let eu = banner.iter().find(|line| line.contains("data center eu"));
    let eu = eu.unwrap().split_whitespace().last().unwrap();
    let overview = http().get(format!("{eu}/_sandbox/")).send().await.unwrap();
    assert_eq!(overview.status(), 200);
    let elise = "elise.brandt@example.org  (eu)";
    assert!(
        banner.iter().any(|line| line.ends_with(elise)),
        "{banner:?}"
    );
    assert_eq!(terminated(child).await, Some(0));
}

#[tokio::test]
async fn a_configuration_file_adds_and_options_go_before_it() {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(
        br#"
        listen = "127.0.0.1:0"
        demo = false
        request_log_bytes = 4000
        [client]
        id = "1000.FROMFILE"
        secret = "file-secret"
        redirect_uris = ["https://app.example.com/cb"]
        [rules]
        code_limit = 0
        require_layout_fields = true
        [[clients]]
        id = "1000.SELF"
        secret = "s"
        kind = "self"
        [[data_centers]]
        name = "in"
        [[organisations]]
        name = "Test Org"
        center = "in"
        [[people]]
        email = "kim@example.com"
        organisation = "Test Org"
        "#,
    )
    .unwrap();
    let path = file.path().to_str().unwrap();
    let (child, line) = started(&["--json", "--config", path, "--client-id", "1000.OPTION"]).await;
    let ready: Value = serde_json::from_str(&line).unwrap();
    assert_eq!(ready["client_id"], "1000.OPTION");
    assert_eq!(ready["client_secret"], "file-secret");
    let people = format!("{}/people", ready["control_url"].as_str().unwrap());
    let people: Value = http()
        .get(people)
        .send()
        .await
        .unwrap()
        .json()
        .await
        .unwrap();
    assert_eq!(people[0]["email"], "kim@example.com");
    assert_eq!(people[0]["center"], "in");
    assert_eq!(people.as_array().unwrap().len(), 1);
    let home = ready["accounts_url"].as_str().unwrap();
    for _ in 0..20 {
        http().get(home).send().await.unwrap();
    }
    let counts = format!("{}/counts", ready["control_url"].as_str().unwrap());
    let counts: Value = http()
        .get(counts)
        .send()
        .await
        .unwrap()
        .json()
        .await
        .unwrap();
    assert!(counts["requests_dropped"].as_u64().unwrap() > 0);
    assert_eq!(terminated(child).await, Some(0));
}

#[tokio::test]
async fn mistakes_are_named_and_the_status_is_not_zero() {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(b"[client]\nid = \"1000.A\"\nsecret = \"file-secret\"\nredirect_url = \"x\"\n")
        .unwrap();
    let path = file.path().to_str().unwrap();
    for (args, text) in [
        (vec!["--nonsense"], "--nonsense"),
        (vec!["--mint-limit", "many"], "many"),
        (vec!["--listen", "nowhere"], "cannot listen on `nowhere`"),
        (
            vec!["--redirect-uri", "nonsense"],
            "`nonsense` is not an http or https URL",
        ),
        (vec!["--config", "/does/not/exist"], "/does/not/exist"),
        (vec!["--config", path], "redirect_url"),
    ] {
        let output = program(&args).output().await.unwrap();
        assert!(!output.status.success(), "{args:?}");
        assert!(output.stdout.is_empty(), "{args:?}");
        let error = String::from_utf8(output.stderr).unwrap();
        assert!(error.contains(text), "{args:?}: {error}");
        assert!(!error.contains("file-secret"), "{error}");
    }
}
