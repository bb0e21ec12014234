//! The pages in a real browser, with JavaScript and without.
//!
//! The environment variable `ZOHO_TEST_CHROMEDRIVER` names the executable of chromedriver; the
//! test starts and stops it. `ZOHO_TEST_WITHOUT=browser` leaves these tests out, visibly.

use std::process::Stdio;
use std::time::Duration;

use fantoccini::elements::Element;
use fantoccini::wd::Capabilities;
use fantoccini::{Client, ClientBuilder, Locator};
use hyper_util::client::legacy::connect::HttpConnector;
use serde_json::json;
use tokio::io::{AsyncBufReadExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};
use zoho_sandbox::Sandbox;

use crate::support::{ALL, MIRA, between};

#[expect(
    clippy::disallowed_methods,
    reason = "the documented switches of this module are environment variables"
)]
#[expect(
    clippy::print_stdout,
    reason = "what did not run must be seen in the test's output"
)]
fn chromedriver() -> Option<String> {
    let without = std::env::var("ZOHO_TEST_WITHOUT").unwrap_or_default();
    if without.split(',').any(|word| word.trim() == "browser") {
        println!("NOT RUN: browser tests, left out by ZOHO_TEST_WITHOUT");
        return None;
    }
    let path = std::env::var("ZOHO_TEST_CHROMEDRIVER").unwrap_or_default();
    assert!(
        !path.is_empty(),
        "ZOHO_TEST_CHROMEDRIVER does not name chromedriver: run `cargo xtask test`, or set \
         ZOHO_TEST_WITHOUT=browser to leave the browser tests out"
    );
    Some(path)
}

/// A browser, its driver, and the folder it keeps its profile in.
struct Browser {
    client: Client,
    driver: Child,
    _output: Lines<BufReader<ChildStdout>>,
    _profile: tempfile::TempDir,
}

impl Browser {
    async fn start(driver: &str, javascript: bool) -> Self {
        let mut driver = Command::new(driver)
            .arg("--port=0")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .expect("chromedriver starts");
        let mut output = BufReader::new(driver.stdout.take().unwrap()).lines();
        let port = loop {
            let line = tokio::time::timeout(Duration::from_secs(30), output.next_line()).await;
            let line = line.expect("chromedriver is ready in time").unwrap();
            let line = line.expect("chromedriver says its port");
            if let Some(port) = between(&format!("{line}\n"), "successfully on port ", ".") {
                break port.to_owned();
            }
        };
        let profile = tempfile::tempdir().unwrap();
        let data = format!("--user-data-dir={}", profile.path().display());
        let mut capabilities = Capabilities::new();
        let options = json!({
            "args": [
                "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage",
                "--no-first-run", "--disable-background-networking",
                "--disable-component-update", "--disable-sync", "--window-size=480,900", data,
            ],
            "prefs": {
                "profile.managed_default_content_settings.javascript":
                    if javascript { 1 } else { 2 },
            },
        });
        capabilities.insert("goog:chromeOptions".into(), options);
        let client = ClientBuilder::new(HttpConnector::new())
            .capabilities(capabilities)
            .connect(&format!("http://127.0.0.1:{port}"))
            .await
            .expect("a browser session starts");
        Self {
            client,
            driver,
            _output: output,
            _profile: profile,
        }
    }

    /// Ends the session before the driver, so that no browser is left behind.
    async fn stop(mut self) {
        self.client.close().await.unwrap();
        self.driver.kill().await.unwrap();
    }

    /// The element, once it is there: a click answers before the next page does.
    async fn element(&self, css: &str) -> Element {
        let wait = self.client.wait().at_most(Duration::from_secs(30));
        wait.for_element(Locator::Css(css)).await.unwrap()
    }

    async fn click(&self, css: &str) {
        self.element(css).await.click().await.unwrap();
    }

    async fn text(&self, css: &str) -> String {
        self.element(css).await.text().await.unwrap()
    }

    /// The address, once it begins like this.
    async fn arrived(&self, start: &str) -> String {
        for _ in 0..600 {
            let url = self.client.current_url().await.unwrap();
            if url.as_str().starts_with(start) {
                return url.into();
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("the browser did not get to {start}");
    }

    async fn picture(&self, name: &str) {
        let picture = self.client.screenshot().await.unwrap();
        std::fs::write(
            format!("{}/{name}.png", env!("CARGO_TARGET_TMPDIR")),
            picture,
        )
        .unwrap();
    }
}

/// A sandbox, the address of its authorization page, and a second sandbox whose only task is to
/// be where the browser arrives.
async fn sandbox_with_landing() -> (Sandbox, String, Sandbox) {
    let landing = Sandbox::builder().start().await.unwrap();
    let uri = format!("{}/oauth/serverinfo", landing.accounts_url());
    let sandbox = Sandbox::builder().redirect_uri(&uri).start().await.unwrap();
    let url = url::Url::parse_with_params(
        &format!("{}/oauth/v2/auth", sandbox.accounts_url()),
        [
            ("response_type", "code"),
            ("client_id", sandbox.client_id()),
            ("scope", ALL),
            ("redirect_uri", &uri),
            ("access_type", "offline"),
            ("state", "st-1"),
        ],
    )
    .unwrap();
    (sandbox, url.into(), landing)
}

async fn sign_in_and_decide(javascript: bool, decision: &str) -> Option<String> {
    let driver = chromedriver()?;
    let (sandbox, url, _landing) = sandbox_with_landing().await;
    let browser = Browser::start(&driver, javascript).await;
    let script = "data:text/html,<p id=p>off</p><script>p.textContent='on'</script>";
    browser.client.goto(script).await.unwrap();
    let expected = if javascript { "on" } else { "off" };
    assert_eq!(
        browser.text("#p").await,
        expected,
        "JavaScript is as this test wants it"
    );

    browser.client.goto(&url).await.unwrap();
    assert_eq!(browser.text("h1").await, "Who is signing in?");
    browser.picture("sign-in").await;
    browser.click(&format!("button[value='{MIRA}']")).await;
    browser.element(".scopes").await;
    let question = browser.text("h1").await;
    assert!(
        question.starts_with("Northlight Student Portal asks"),
        "{question}"
    );
    assert!(browser.text(".scopes").await.contains("ZohoCRM.coql.READ"));
    browser.picture("consent").await;
    browser.click(&format!("button[value='{decision}']")).await;
    let arrived = browser.arrived(sandbox.redirect_uri()).await;
    browser.stop().await;
    assert!(arrived.contains("state=st-1"), "{arrived}");
    Some(arrived)
}

#[tokio::test]
async fn a_person_accepts() {
    if let Some(arrived) = sign_in_and_decide(true, "accept").await {
        assert!(arrived.contains("&code=1000."), "{arrived}");
    }
}

#[tokio::test]
async fn a_person_accepts_without_javascript() {
    if let Some(arrived) = sign_in_and_decide(false, "accept").await {
        assert!(arrived.contains("&code=1000."), "{arrived}");
    }
}

#[tokio::test]
async fn a_person_rejects() {
    if let Some(arrived) = sign_in_and_decide(true, "reject").await {
        assert!(arrived.contains("&error=access_denied"), "{arrived}");
    }
}
