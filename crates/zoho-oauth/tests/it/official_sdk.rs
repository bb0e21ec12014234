//! An official SDK of Zoho, unmodified, in its own process, which does what it is told: see
//! `official_python/driver.py` and `official_node/driver.mjs`.
//!
//! The variable `ZOHO_TEST_PYTHON` names a Python that has the Python SDK (PyPI: `zohocrmsdk8_0`),
//! `ZOHO_TEST_NODE_SDK` the folder of the Node SDK (npm: `@zohocrm/nodejs-sdk-8.0`); `cargo xtask
//! test` sets both. `ZOHO_TEST_WITHOUT=python` and `ZOHO_TEST_WITHOUT=node` leave these tests out,
//! visibly.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use zoho_oauth::{OAuthToken, TokenId};
use zoho_sandbox::Sandbox;

use crate::mysql_store::{TestDatabase, server_parts};

/// A limit for what hangs, far above what anything takes.
const PATIENCE: Duration = Duration::from_mins(2);

/// An official SDK, by its language.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Language {
    Python,
    Node,
}

impl Language {
    /// The program that runs the driver; `None` when the tests of this SDK are left out by name.
    #[expect(
        clippy::disallowed_methods,
        reason = "the documented switches of these tests are environment variables"
    )]
    #[expect(
        clippy::print_stdout,
        reason = "what did not run must be seen in the test's output"
    )]
    fn driver(self) -> Option<Command> {
        let (word, variable) = match self {
            Self::Python => ("python", "ZOHO_TEST_PYTHON"),
            Self::Node => ("node", "ZOHO_TEST_NODE_SDK"),
        };
        let without = std::env::var("ZOHO_TEST_WITHOUT").unwrap_or_default();
        if without.split(',').any(|left_out| left_out.trim() == word) {
            println!(
                "NOT RUN: tests with the official {self:?} SDK, left out by ZOHO_TEST_WITHOUT"
            );
            return None;
        }
        let path = std::env::var(variable).unwrap_or_default();
        assert!(
            !path.is_empty(),
            "{variable} does not say where the official {self:?} SDK is: run `cargo xtask test`, \
             or set ZOHO_TEST_WITHOUT={word} to leave the tests with it out"
        );
        let tests = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests");
        Some(match self {
            Self::Python => {
                let mut command = Command::new(path);
                // UTF-8 whatever the locale, and no compiled files in the source folder.
                command.args(["-X", "utf8", "-B"]);
                command.arg(tests.join("official_python/driver.py"));
                command
            }
            Self::Node => {
                let mut command = Command::new("node");
                command.env("ZOHO_SDK", path);
                command.arg(tests.join("official_node/driver.mjs"));
                command
            }
        })
    }
}

/// How the Python store finds its next id.
#[derive(Clone, Copy)]
pub(crate) enum NextId {
    /// After the highest number.
    Number,
    /// After the highest text, as Zoho's sample does.
    Text,
}

/// A process with an official SDK. It ends when this is dropped.
pub(crate) struct OfficialSdk {
    _child: Child,
    stdin: ChildStdin,
    answers: Lines<BufReader<ChildStdout>>,
    _resources: TempDir,
}

impl OfficialSdk {
    /// Starts one that knows the sandbox; `None` when the tests of this SDK are left out by name.
    pub(crate) fn start(language: Language, sandbox: &Sandbox) -> Option<Self> {
        let resources = tempfile::tempdir().unwrap();
        let mut child = (language.driver()?)
            .env("ZOHO_ACCOUNTS_URL", sandbox.accounts_url())
            .env("ZOHO_API_URL", sandbox.api_url())
            .env("ZOHO_RESOURCES", resources.path())
            // The sandbox is on this machine; the SDK would use a proxy of the environment.
            .env("NO_PROXY", "127.0.0.1")
            .env("no_proxy", "127.0.0.1")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .expect("the driver of the official SDK starts");
        let stdin = child.stdin.take().unwrap();
        let answers = BufReader::new(child.stdout.take().unwrap()).lines();
        Some(Self {
            _child: child,
            stdin,
            answers,
            _resources: resources,
        })
    }

    /// Asks for something that can fail.
    async fn try_ask(&mut self, request: Value) -> Result<Value, String> {
        let line = format!("{request}\n");
        self.stdin.write_all(line.as_bytes()).await.unwrap();
        let answer = tokio::time::timeout(PATIENCE, self.answers.next_line()).await;
        let answer = answer.expect("the SDK answers in time").unwrap();
        let answer = answer.expect("the SDK goes on running; see its error output");
        let mut answer: Value = serde_json::from_str(&answer).unwrap();
        match answer.get_mut("error") {
            Some(Value::String(error)) => Err(std::mem::take(error)),
            _ => Ok(answer["ok"].take()),
        }
    }

    async fn ask(&mut self, request: Value) -> Value {
        // The error holds the SDK's code and message. The answer might hold tokens.
        match self.try_ask(request).await {
            Ok(answer) => answer,
            Err(error) => panic!("the official SDK failed: {error}"),
        }
    }

    pub(crate) async fn open_file(&mut self, path: &Path) {
        self.ask(json!(["open_file", path])).await;
    }

    pub(crate) async fn open_sqlite(&mut self, path: &Path, next_id: NextId) {
        let next_id = match next_id {
            NextId::Number => "number",
            NextId::Text => "text",
        };
        self.ask(json!(["open_sqlite", path, next_id])).await;
    }

    /// Uses the SDK's own store for MySQL.
    pub(crate) async fn open_mysql(&mut self, database: &TestDatabase) {
        let (host, port, user, password) = server_parts();
        let request = json!(["open_mysql", host, port, user, password, database.name()]);
        self.ask(request).await;
    }

    /// Closes the database; the next thing must be to open a store.
    pub(crate) async fn close_sqlite(&mut self) {
        self.ask(json!(["close"])).await;
    }

    /// All tokens of the store, by id.
    pub(crate) async fn tokens(&mut self) -> Vec<OAuthToken> {
        let answer = self.ask(json!(["get_tokens"])).await;
        let mut tokens: Vec<_> = answer.as_array().unwrap().iter().map(decode).collect();
        tokens.sort_by_key(|token| token.id);
        tokens
    }

    pub(crate) async fn find(&mut self, partial: &OAuthToken) -> Option<OAuthToken> {
        let answer = self
            .ask(json!(["find_token", partial.expose_fields()]))
            .await;
        (!answer.is_null()).then(|| decode(&answer))
    }

    pub(crate) async fn find_by_id(&mut self, id: TokenId) -> Result<OAuthToken, String> {
        let request = json!(["find_token_by_id", id.to_string()]);
        self.try_ask(request).await.map(|answer| decode(&answer))
    }

    pub(crate) async fn try_save(&mut self, token: &OAuthToken) -> Result<TokenId, String> {
        let answer = self
            .try_ask(json!(["save_token", token.expose_fields()]))
            .await?;
        Ok(answer.as_str().unwrap().parse().unwrap())
    }

    pub(crate) async fn save(&mut self, token: &OAuthToken) -> TokenId {
        match self.try_save(token).await {
            Ok(id) => id,
            Err(error) => panic!("the official SDK failed: {error}"),
        }
    }

    /// Saves a token that is stored already. The SDK's store for MySQL does not tell its id.
    pub(crate) async fn update(&mut self, token: &OAuthToken) {
        self.ask(json!(["save_token", token.expose_fields()])).await;
    }

    pub(crate) async fn delete(&mut self, id: TokenId) {
        self.ask(json!(["delete_token", id.to_string()])).await;
    }

    /// Starts the SDK anew, as an application does, from this token and the store.
    pub(crate) async fn initialize(&mut self, token: &OAuthToken) {
        self.ask(json!(["initialize", token.expose_fields()])).await;
    }

    /// Reads a page of leads and returns how many there are on it.
    pub(crate) async fn leads(&mut self) -> u64 {
        self.ask(json!(["leads"])).await.as_u64().unwrap()
    }
}

/// The ten fields as the SDK has them: text or none.
fn decode(fields: &Value) -> OAuthToken {
    // Anything but text or none, a number say, would be something the SDK itself cannot use.
    let fields: [Option<String>; 10] = serde_json::from_value(fields.clone()).unwrap();
    OAuthToken::from_fields(&fields).unwrap()
}
