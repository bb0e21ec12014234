//! Stores on servers, as a person names them: real servers, and moto in AWS's place.

use std::fs;
use std::path::Path;
use std::process::Output;

use mysql_async::prelude::Queryable as _;
use serde_json::{Value, json};
use tempfile::{TempDir, tempdir};
use tokio_postgres::NoTls;
use zoho_test_servers::{Options, Postgres, Redis, shared};

use super::{FILE, commands_of_the_handbook, run_with};
use crate::support::{stderr, stdout};

/// The password of every account of these tests, in this variable.
const PASSWORD: (&str, &str) = ("DB_PASSWORD", "secret-password");

/// Credentials that the emulator takes, and nothing of the tester's own.
const AWS: [(&str, &str); 5] = [
    ("AWS_ACCESS_KEY_ID", "test"),
    ("AWS_SECRET_ACCESS_KEY", "test"),
    ("AWS_EC2_METADATA_DISABLED", "true"),
    ("AWS_CONFIG_FILE", "/nonexistent"),
    ("AWS_SHARED_CREDENTIALS_FILE", "/nonexistent"),
];

/// A place for stores that one test has for itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    MySql,
    Postgres,
    Redis,
    Aws,
}

struct Place {
    kind: Kind,
    name: String,
    /// What leads to a store there that nobody has made.
    url: String,
    folder: TempDir,
}

/// Host and port of a shared server.
fn at(url: &str) -> &str {
    let (_, rest) = url.split_once("://").unwrap();
    let rest = rest.rsplit_once('@').map_or(rest, |(_, place)| place);
    rest.split('/').next().unwrap()
}

async fn mysql(sql: &str) -> Vec<String> {
    let options = mysql_async::Opts::from_url(&shared::mysql_url()).unwrap();
    let mut connection = mysql_async::Conn::new(options).await.unwrap();
    let rows = connection.query(sql).await.unwrap();
    connection.disconnect().await.unwrap();
    rows
}

async fn postgres(url: &str, sql: &str) -> Vec<String> {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await.unwrap();
    tokio::spawn(connection);
    let rows = client.simple_query(sql).await.unwrap();
    let first = |message| match message {
        tokio_postgres::SimpleQueryMessage::Row(row) => row.get(0).map(str::to_owned),
        _ => None,
    };
    rows.into_iter().filter_map(first).collect()
}

async fn redis<T: redis::FromRedisValue>(words: &[&str]) -> T {
    let client = redis::Client::open(shared::redis_url()).unwrap();
    let mut connection = client.get_connection_manager().await.unwrap();
    let mut command = redis::Cmd::new();
    for word in words {
        command.arg(*word);
    }
    command.query_async(&mut connection).await.unwrap()
}

impl Place {
    async fn new(kind: Kind) -> Self {
        let folder = tempdir().unwrap();
        super::write(&folder.path().join("sdk_tokens.txt"), FILE);
        let random = std::hash::BuildHasher::hash_one(
            &std::collections::hash_map::RandomState::new(),
            folder.path(),
        );
        let name = format!("cli_{random:016x}");
        let (user, password) = (&name, PASSWORD.1);
        let url = match kind {
            Kind::MySql => {
                mysql(&format!("CREATE DATABASE {name}")).await;
                // A server may have users without a name on this machine, who come first.
                for host in ["%", "localhost", "127.0.0.1"] {
                    mysql(&format!(
                        "CREATE USER {user}@'{host}' IDENTIFIED BY '{password}'"
                    ))
                    .await;
                    mysql(&format!("GRANT ALL ON {name}.* TO {user}@'{host}'")).await;
                }
                let at = at(&shared::mysql_url()).to_owned();
                format!("mysql://{user}@{at}/{name}?password_env=DB_PASSWORD")
            }
            Kind::Postgres => {
                let url = shared::postgres_url();
                let sql = format!(
                    "CREATE ROLE {user} LOGIN PASSWORD '{password}'; \
                     GRANT CREATE ON DATABASE postgres TO {user}"
                );
                postgres(&url, &sql).await;
                let at = at(&url);
                format!("postgres://{user}@{at}/postgres?schema={name}&password_env=DB_PASSWORD")
            }
            Kind::Redis => {
                let (rule, keys) = (format!(">{password}"), format!("~{{{name}}}:*"));
                let user = ["ACL", "SETUSER", &name, "on", &rule, &keys, "&*", "+@all"];
                redis::<()>(&user).await;
                let at = at(&shared::redis_url()).to_owned();
                format!("redis://{name}@{at}/0?prefix={name}&password_env=DB_PASSWORD")
            }
            Kind::Aws => {
                let endpoint = shared::aws_url();
                format!("secretsmanager:{name}?region=eu-central-1&endpoint={endpoint}")
            }
        };
        Self {
            kind,
            name,
            url,
            folder,
        }
    }

    fn path(&self) -> &Path {
        self.folder.path()
    }

    fn run(&self, arguments: &[&str]) -> Output {
        let variables = [&AWS[..], &[PASSWORD]].concat();
        run_with(self.path(), arguments, &variables)
    }

    fn copy(&self, from: &str, to: &str, more: &[&str]) -> Output {
        let arguments = [&["tokens", "copy", "--from", from, "--to", to], more].concat();
        self.run(&arguments)
    }

    /// Everything that the server has for this place.
    async fn things(&self) -> Vec<String> {
        let name = &self.name;
        let mut things = match self.kind {
            Kind::MySql => mysql(&format!("SHOW TABLES IN {name}")).await,
            Kind::Postgres => {
                let sql = format!(
                    "SELECT nspname::text FROM pg_namespace WHERE nspname = '{name}' UNION ALL \
                     SELECT tablename::text FROM pg_tables WHERE schemaname = '{name}'"
                );
                postgres(&shared::postgres_url(), &sql).await
            }
            Kind::Redis => redis(&["KEYS", &format!("{{{name}}}*")]).await,
            // Nothing else is ever made there.
            Kind::Aws => {
                let read = self.copy(&self.url, "file:looked", &[]);
                let is_there = read.status.success();
                let text = fs::read_to_string(self.path().join("looked"));
                drop(fs::remove_file(self.path().join("looked")));
                let text = text.unwrap_or_default();
                assert!(is_there || text.is_empty(), "{}", stderr(&read));
                text.lines().skip(1).map(str::to_owned).collect()
            }
        };
        things.sort();
        things
    }

    async fn leave(self) {
        let name = &self.name;
        match self.kind {
            Kind::MySql => {
                mysql(&format!("DROP DATABASE {name}")).await;
                for host in ["%", "localhost", "127.0.0.1"] {
                    mysql(&format!("DROP USER {name}@'{host}'")).await;
                }
            }
            Kind::Postgres => {
                let sql = format!(
                    "SET client_min_messages = warning; DROP OWNED BY {name} CASCADE; \
                     DROP ROLE {name}"
                );
                postgres(&shared::postgres_url(), &sql).await;
            }
            Kind::Redis => redis(&["ACL", "DELUSER", name]).await,
            Kind::Aws => {}
        }
    }
}

fn rows(path: &Path) -> Vec<String> {
    let text = fs::read_to_string(path).unwrap();
    text.lines().skip(1).map(str::to_owned).collect()
}

/// What holds for a kind of server, from the first mistake to the way back.
async fn a_whole_move(kind: Kind, what_is_missing: &str) {
    let place = Place::new(kind).await;
    let url = place.url.as_str();

    // A source that is not there is a mistake, and a rehearsal changes nothing.
    let output = place.copy(url, "file:back.txt", &[]);
    assert_eq!(output.status.code(), Some(2), "{}", stderr(&output));
    assert!(
        stderr(&output).contains(what_is_missing),
        "{}",
        stderr(&output)
    );
    assert!(!place.path().join("back.txt").exists());
    let output = place.copy("file:sdk_tokens.txt", url, &["--dry-run"]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert!(stdout(&output).contains("3 would be inserted\n"));
    assert!(
        place.things().await.is_empty(),
        "{:?}",
        place.things().await
    );

    let output = place.copy("file:sdk_tokens.txt", url, &["--json"]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert_eq!(stderr(&output), "");
    let report: Value = serde_json::from_str(stdout(&output)).unwrap();
    for (field, expected) in [
        ("complete", json!(true)),
        ("inserted", json!(3)),
        ("verified", json!(3)),
        ("renumbered", json!({})),
        ("refused", json!({})),
    ] {
        assert_eq!(report[field], expected, "{report}");
    }

    // Once more, as a rehearsal and in earnest, over what is there.
    let before = place.things().await;
    assert!(!before.is_empty());
    for more in [&["--dry-run"][..], &[]] {
        let output = place.copy("file:sdk_tokens.txt", url, more);
        assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
        assert!(
            stdout(&output).contains("3 there already\n"),
            "{}",
            stdout(&output)
        );
        assert_eq!(place.things().await, before);
    }

    let output = place.copy(url, "file:back.txt", &[]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let (there, back) = ("sdk_tokens.txt", "back.txt");
    assert_eq!(
        rows(&place.path().join(there)),
        rows(&place.path().join(back))
    );
    place.leave().await;
}

#[tokio::test]
async fn tokens_move_to_mysql_and_back() {
    a_whole_move(Kind::MySql, "there is no table `oauthtoken`").await;
}

#[tokio::test]
async fn tokens_move_to_postgres_and_back() {
    a_whole_move(
        Kind::Postgres,
        "there is no table `oauthtoken` in the schema",
    )
    .await;
}

#[tokio::test]
async fn tokens_move_to_redis_and_back() {
    a_whole_move(Kind::Redis, "there is no store with the prefix").await;
}

#[tokio::test]
async fn tokens_move_to_secrets_manager_and_back() {
    a_whole_move(Kind::Aws, "there are no secrets with the prefix").await;
}

/// The table of an official SDK is read without anything being made beside it.
#[tokio::test]
async fn the_mysql_table_of_an_official_sdk_is_only_read() {
    let place = Place::new(Kind::MySql).await;
    let name = &place.name;
    let columns = "id varchar(10) NOT NULL PRIMARY KEY, user_name varchar(255), client_id \
        varchar(255), client_secret varchar(255), refresh_token varchar(255), access_token \
        varchar(255), grant_token varchar(255), expiry_time varchar(20), redirect_url varchar(255), \
        api_domain varchar(255)";
    mysql(&format!("CREATE TABLE {name}.tokens ({columns})")).await;
    let values = "'7', 'lee@example.com:1', 'c', 'secret-s', 'secret-r', 'secret-a', NULL, '5', \
        NULL, NULL";
    mysql(&format!("INSERT INTO {name}.tokens VALUES ({values})")).await;
    let url = format!("{}&table=tokens", place.url);
    let output = place.copy(&url, "sqlite:new.db", &[]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let output = place.copy("file:sdk_tokens.txt", &url, &["--dry-run"]);
    assert!(
        stdout(&output).contains("3 would be inserted\n"),
        "{}",
        stderr(&output)
    );
    assert_eq!(place.things().await, ["tokens"]);
    place.leave().await;
}

/// What a person types wrong is told without a server, and nothing secret is repeated.
fn mistakes(kind: &str, parameter: &str) {
    let folder = tempdir().unwrap();
    let typed = |url: &str| {
        let arguments = ["tokens", "copy", "--from", url, "--to", "file:new.txt"];
        let output = run_with(folder.path(), &arguments, &[]);
        assert_eq!(output.status.code(), Some(2), "{url}: {}", stderr(&output));
        assert!(stderr(&output).contains("hint: "), "{url}");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0, "{url}");
        stderr(&output).to_owned()
    };
    for password in [
        "secret-p",
        "secret-p@1",
        "1/secret-p",
        "1?secret-p",
        "1#secret-p",
    ] {
        let text = typed(&format!("{kind}://ann:{password}@127.0.0.1:1/0"));
        assert!(text.contains("password"), "{text}");
    }
    let text = typed(&format!("{kind}://127.0.0.1:1/0?password=secret-p"));
    assert!(text.contains("there is a password"), "{text}");
    let text = typed(&format!("{kind}://127.0.0.1:1/0?sslmode=secret-p"));
    assert!(text.contains("`sslmode` is no parameter of"), "{text}");
    assert!(text.contains(parameter), "{text}");
    let text = typed(&format!(
        "{kind}://127.0.0.1:1/0?password_env=ZOHO_NO_SUCH_VARIABLE"
    ));
    assert!(text.contains("`ZOHO_NO_SUCH_VARIABLE`"), "{text}");
    let text = typed(&format!("{kind}://127.0.0.1:1/0?{parameter}="));
    assert!(text.contains("is empty"), "{text}");
    let text = typed(&format!("{kind}:127.0.0.1"));
    assert!(text.contains("`//` is missing"), "{text}");
}

#[test]
fn mistakes_in_a_mysql_url_are_told() {
    mistakes("mysql", "table");
}

#[test]
fn mistakes_in_a_postgres_url_are_told() {
    mistakes("postgres", "schema");
    mistakes("postgresql", "socket");
}

#[test]
fn mistakes_in_a_redis_url_are_told() {
    mistakes("redis", "prefix");
    mistakes("rediss", "tls_ca");
}

#[test]
fn mistakes_in_a_secrets_manager_text_are_told() {
    let folder = tempdir().unwrap();
    for (text, problem) in [
        ("secretsmanager://p", "there is no `//`"),
        (
            "secretsmanager:p?regoin=secret-p",
            "`regoin` is no parameter",
        ),
        ("secretsmanager:p?password=secret-p", "there is a password"),
        (
            "secretsmanager:p?region=eu-central-1&endpoint=https://ann:secret-p@localhost",
            "there is a password",
        ),
        ("secretsmanager:a b?region=eu-central-1", "prefix"),
        ("secretsmanager:p", "no AWS region"),
    ] {
        let arguments = ["tokens", "copy", "--from", text, "--to", "file:new.txt"];
        let output = run_with(folder.path(), &arguments, &AWS);
        assert_eq!(output.status.code(), Some(2), "{text}: {}", stderr(&output));
        assert!(stderr(&output).contains(problem), "{}", stderr(&output));
    }
}

/// A certificate for 127.0.0.1 that is its own authority, and its key.
fn certificate() -> (String, String) {
    let made = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
    (made.cert.pem(), made.signing_key.serialize_pem())
}

/// Encrypted connections work with the authority and fail without; `url` ends where parameters go.
fn over_tls(folder: &Path, url: &str, authority: &str, parameters: [&str; 2]) {
    super::write(&folder.join("sdk_tokens.txt"), FILE);
    fs::write(folder.join("ca.pem"), authority).unwrap();
    let copy = |url: &str| {
        let arguments = [
            "tokens",
            "copy",
            "--from",
            "file:sdk_tokens.txt",
            "--to",
            url,
        ];
        run_with(folder, &arguments, &[])
    };
    let [with, without] = parameters;
    let output = copy(&format!("{url}{with}"));
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert!(stdout(&output).contains("3 verified\n"));
    // The system's authorities do not know it.
    let output = copy(&format!("{url}{without}"));
    let said = stderr(&output);
    assert!(said.contains("certificate"), "{said}");
    // 7 where the store knows that it was the certificate.
    let refused = said.contains("[certificate_refused]");
    assert_eq!(
        output.status.code(),
        Some(if refused { 7 } else { 6 }),
        "{said}"
    );
    let output = copy(&format!("{url}{}", with.replace("ca.pem", "no.pem")));
    assert_eq!(output.status.code(), Some(2), "{}", stderr(&output));
    assert!(stderr(&output).contains("`no.pem`"), "{}", stderr(&output));
}

#[test]
fn redis_is_reached_over_tls() {
    let folder = tempdir().unwrap();
    let (certificate, key) = certificate();
    let server = Redis::start_with(&Options::new().tls(&certificate, key)).unwrap();
    let url = format!("rediss://127.0.0.1:{}", server.tls_port().unwrap());
    over_tls(folder.path(), &url, &certificate, ["?tls_ca=ca.pem", ""]);
    let url = format!("{}?tls_ca=ca.pem", server.url());
    let arguments = ["tokens", "copy", "--from", &url, "--to", "file:new.txt"];
    let output = run_with(folder.path(), &arguments, &[]);
    assert_eq!(output.status.code(), Some(2));
    assert!(
        stderr(&output).contains("`rediss://`"),
        "{}",
        stderr(&output)
    );
}

#[test]
fn postgres_is_reached_over_tls_and_by_its_socket() {
    let folder = tempdir().unwrap();
    let (certificate, key) = certificate();
    let server = Postgres::start_with(&Options::new().tls(&certificate, key)).unwrap();
    let url = server.url();
    let parameters = ["?tls_ca=ca.pem", "?tls=always"];
    over_tls(folder.path(), &url, &certificate, parameters);
    let url = format!("{url}?tls=never&tls_ca=ca.pem");
    let arguments = ["tokens", "copy", "--from", &url, "--to", "file:new.txt"];
    let output = run_with(folder.path(), &arguments, &[]);
    assert_eq!(output.status.code(), Some(2));
    assert!(
        stderr(&output).contains("`tls=never`"),
        "{}",
        stderr(&output)
    );

    let runtime = tokio::runtime::Runtime::new().unwrap();
    let asked = "SHOW unix_socket_directories";
    let socket = runtime.block_on(postgres(&server.url(), asked)).remove(0);
    let port = at(&server.url()).rsplit_once(':').unwrap().1.to_owned();
    let url = format!("postgres://postgres@:{port}/postgres?socket={socket}");
    let arguments = ["tokens", "copy", "--from", &url, "--to", "file:new.txt"];
    let output = run_with(folder.path(), &arguments, &[]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert!(stdout(&output).contains("3 verified\n"));
}

#[tokio::test]
async fn mysql_is_encrypted_where_that_is_asked_for() {
    let place = Place::new(Kind::MySql).await;
    // The server offers no TLS.
    fs::write(place.path().join("ca.pem"), certificate().0).unwrap();
    for parameter in ["tls=always", "tls_ca=ca.pem"] {
        let url = format!("{}&{parameter}", place.url);
        let output = place.copy("file:sdk_tokens.txt", &url, &[]);
        assert_eq!(output.status.code(), Some(6), "{}", stderr(&output));
        assert!(
            stderr(&output).contains("offers no TLS"),
            "{}",
            stderr(&output)
        );
    }
    let url = format!("{}&tls=sometimes", place.url);
    let output = place.copy("file:sdk_tokens.txt", &url, &[]);
    assert_eq!(output.status.code(), Some(2), "{}", stderr(&output));
    assert!(stderr(&output).contains("`tls` is `always` or `never`"));
    assert!(place.things().await.is_empty());
    place.leave().await;
}

#[tokio::test]
async fn a_wrong_password_of_mysql_is_refused_and_not_printed() {
    let place = Place::new(Kind::MySql).await;
    let arguments = [
        "tokens",
        "copy",
        "--from",
        "file:sdk_tokens.txt",
        "--to",
        &place.url,
    ];
    let wrong = [("DB_PASSWORD", "secret-wrong")];
    let output = run_with(place.path(), &arguments, &wrong);
    assert_eq!(output.status.code(), Some(6), "{}", stderr(&output));
    assert!(
        stderr(&output).contains("[store_permission]"),
        "{}",
        stderr(&output)
    );
    place.leave().await;
}

#[test]
fn a_redis_that_would_lose_tokens_is_warned_of() {
    let folder = tempdir().unwrap();
    super::write(&folder.path().join("sdk_tokens.txt"), FILE);
    let forgetful = Options::new().arguments(["--appendonly", "no"]);
    let server = Redis::start_with(&forgetful).unwrap();
    let url = server.url();
    let arguments = [
        "tokens",
        "copy",
        "--from",
        "file:sdk_tokens.txt",
        "--to",
        &url,
    ];
    let output = run_with(folder.path(), &arguments, &[]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let said = stderr(&output);
    assert!(
        said.starts_with("warning: the server keeps nothing when it restarts"),
        "{said}"
    );
    let arguments = ["tokens", "copy", "--from", &url, "--to", "file:back.txt"];
    let output = run_with(folder.path(), &arguments, &[]);
    assert_eq!(stderr(&output), "", "whoever leaves need not be told");
}

/// The handbook's commands about a kind, on a place of this test.
async fn handbook(kind: Kind, scheme: &str) {
    let place = Place::new(kind).await;
    let commands = commands_of_the_handbook(Some(scheme));
    assert!(!commands.is_empty(), "{scheme}");
    for (words, expected) in commands {
        let here = |word: &String| {
            let is_url = word.starts_with(scheme);
            if is_url {
                place.url.clone()
            } else {
                word.clone()
            }
        };
        let words: Vec<_> = words.iter().map(here).collect();
        let words: Vec<_> = words.iter().map(String::as_str).collect();
        assert_eq!(words[0], "zoho");
        let output = place.run(&words[1..]);
        assert_eq!(
            output.status.code(),
            Some(0),
            "{words:?}: {}",
            stderr(&output)
        );
        assert_eq!(super::told(&output), expected, "{words:?}");
    }
    place.leave().await;
}

#[tokio::test]
async fn the_handbook_says_what_happens_with_mysql() {
    handbook(Kind::MySql, "mysql://").await;
}

#[tokio::test]
async fn the_handbook_says_what_happens_with_postgres() {
    handbook(Kind::Postgres, "postgres://").await;
}

#[tokio::test]
async fn the_handbook_says_what_happens_with_redis() {
    handbook(Kind::Redis, "rediss://").await;
}

#[tokio::test]
async fn the_handbook_says_what_happens_with_secrets_manager() {
    handbook(Kind::Aws, "secretsmanager:").await;
}
