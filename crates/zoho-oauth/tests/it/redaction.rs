//! A whole life of tokens over every store, with everything that is printed on the way searched
//! for every secret: logs at TRACE, `Debug` and `Display` of values, errors and their causes,
//! panic texts, and the URLs that arrived at the server.

use std::fmt::Debug;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::fmt::format::FmtSpan;
use tracing_subscriber::util::SubscriberInitExt;
use zoho_oauth::{
    AccessToken, Authenticator, Callback, ClientSecret, Credential, DataCenters, Error, FileStore,
    GrantToken, ListStore, LoginRequest, OAuthToken, RefreshPolicy, RefreshToken,
    SecretsManagerStore, Session, SqliteStore, TokenQuery, TokenStore,
};
use zoho_sandbox::{Endpoint, Fault, Sandbox};

use crate::accounts::{alone_in_a_process, block_on, whole};
use crate::secrets_manager_store::Stub;
use crate::support::{
    FlakyStore, SCOPES, builder, center, client, expire, good, logged_in, sandbox, user,
};

/// Everything that was printed, and everything that must not have been.
#[derive(Clone, Default)]
struct Net(Arc<Mutex<Caught>>);

#[derive(Default)]
struct Caught {
    printed: Vec<u8>,
    secrets: Vec<String>,
}

impl io::Write for Net {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().printed.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Net {
    fn print(&self, value: impl Debug) {
        let text = format!("{value:?} {value:#?}\n");
        self.0
            .lock()
            .unwrap()
            .printed
            .extend_from_slice(text.as_bytes());
    }

    fn error(&self, error: &Error) {
        self.print(format_args!("{}", whole(error)));
        if let Some(token) = error.unsaved_token() {
            self.record(token);
        }
    }

    /// Prints an outcome, and keeps its error, which is what is wanted here.
    fn outcome<T: Debug>(&self, outcome: &Result<T, Error>) {
        self.print(outcome);
        if let Err(error) = outcome {
            self.error(error);
        }
    }

    fn secret(&self, secret: &str) {
        assert!(secret.len() > 5, "too short to be searched for");
        self.0.lock().unwrap().secrets.push(secret.to_owned());
    }

    fn record(&self, token: &OAuthToken) {
        self.print(token);
        let secrets = [
            token.access_token.as_ref().map(AccessToken::expose_secret),
            token
                .refresh_token
                .as_ref()
                .map(RefreshToken::expose_secret),
            token.grant_token.as_ref().map(GrantToken::expose_secret),
            token
                .client_secret
                .as_ref()
                .map(ClientSecret::expose_secret),
        ];
        secrets.into_iter().flatten().for_each(|s| self.secret(s));
    }

    fn search(&self) {
        let caught = self.0.lock().unwrap();
        let printed = String::from_utf8_lossy(&caught.printed);
        assert!(printed.contains("refreshed"), "the log was not caught");
        assert!(
            caught.secrets.len() > 50,
            "{} secrets",
            caught.secrets.len()
        );
        for secret in &caught.secrets {
            // A part of a secret is too much as well.
            let part = &secret[secret.len() - secret.len().min(12)..];
            if let Some(at) = printed.find(part) {
                let mut from = at.saturating_sub(200);
                while !printed.is_char_boundary(from) {
                    from -= 1;
                }
                panic!("a secret was printed after: {}", &printed[from..at]);
            }
        }
    }
}

#[test]
fn no_secret_is_printed_in_the_whole_life_of_a_token() {
    const NAME: &str = "redaction::no_secret_is_printed_in_the_whole_life_of_a_token";
    if alone_in_a_process(NAME, &[]) {
        block_on(lives());
    }
}

async fn lives() {
    let net = Net::default();
    let log = net.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(LevelFilter::TRACE)
        .with_span_events(FmtSpan::FULL)
        .with_ansi(false)
        .with_writer(move || log.clone())
        .finish();
    let _guard = subscriber.set_default();
    let folder = tempfile::tempdir().unwrap();

    let list = ListStore::new();
    life(&net, Arc::new(list)).await;
    let path = folder.path().join("sdk_tokens.txt");
    life(&net, Arc::new(FileStore::open(&path).await.unwrap())).await;
    damaged_file(&net, &path).await;
    let path = folder.path().join("zohooauth.db");
    life(&net, Arc::new(SqliteStore::open(&path).unwrap())).await;
    damaged_database(&net, &path).await;
    let stub = Stub::start().await;
    let secrets = SecretsManagerStore::builder().versions(1, Duration::ZERO);
    let secrets = secrets.with_client(stub.client()).unwrap();
    net.print(&secrets);
    life(&net, Arc::new(secrets.clone())).await;
    refused_secrets(&net, &stub, &secrets).await;
    net.search();
}

/// Whatever AWS refuses, and a secret that is no record.
async fn refused_secrets(net: &Net, stub: &Stub, store: &SecretsManagerStore) {
    let mut token = good("bob", "client");
    net.record(&token);
    net.outcome(&store.save_token(&token).await);
    for (action, code) in [
        ("PutSecretValue", "InvalidParameterException"),
        ("PutSecretValue", "LimitExceededException"),
        ("TagResource", "AccessDeniedException"),
        ("GetSecretValue", "DecryptionFailure"),
    ] {
        // Some codes are tried again.
        stub.refuse(action, code, 4);
        token.access_token = AccessToken::new(format!("1000.{}.unsaved", code.len())).ok();
        net.record(&token);
        let refused = store.save_token(&token).await;
        assert!(refused.is_err(), "{action} {code}");
        net.outcome(&refused);
        stub.refuse_no_more();
    }
    for name in stub.names() {
        if name.contains("/token/") {
            stub.write(&name, "by-hand", "{\"client_secret\": \"damaged-s3cret\"");
        }
    }
    net.secret("damaged-s3cret");
    let damaged = store.get_tokens().await;
    assert!(damaged.is_err());
    net.outcome(&damaged);
}

/// Login, use, trouble, and end.
async fn life(net: &Net, store: Arc<dyn TokenStore>) {
    let sandbox = sandbox().await;
    net.secret(sandbox.client_secret());
    let store = FlakyStore::new(store);
    let policy = RefreshPolicy::new()
        .with_recheck(Duration::ZERO)
        .with_attempts(1)
        .with_mint_budget(None);
    let auth = builder(&sandbox, Arc::clone(&store)).policy(policy);
    net.print(&auth);
    let auth = auth.build().unwrap();
    net.print(&auth);
    let session = log_in(net, &sandbox, &auth).await;
    net.outcome(&session.set_user_name(user("ann@example.com:1")).await);
    remember(net, &*store).await;
    let id = session.id();

    for fault in [
        Fault::status(500),
        Fault::html(),
        Fault::cut(),
        Fault::malformed_json(),
        Fault::legacy_expiry(),
        Fault::no_expires_in(),
        Fault::throttle(),
    ] {
        expire(&store.inner, id).await;
        sandbox.inject(fault.on(Endpoint::Refresh));
        net.outcome(&session.access_token().await);
        remember(net, &*store).await;
        // Past the half second for which a failure answers.
        tokio::time::sleep(Duration::from_millis(510)).await;
        // One that succeeds, since failures in a row answer for longer and longer.
        net.outcome(&session.access_token().await);
        remember(net, &*store).await;
    }
    // A new credential ends the wait that the throttle began.
    let again = logged_in(&sandbox, "ann@example.com:1", 3600);
    net.record(&again);
    net.outcome(&store.save_token(&again).await);
    let access = session.access_token().await;
    net.outcome(&access);
    net.outcome(&session.refused(access.unwrap().token()).await);
    remember(net, &*store).await;

    expire(&store.inner, id).await;
    store.fail_saves(1);
    net.outcome(&session.access_token().await);
    store.fail_reads(1);
    net.outcome(&session.access_token().await);
    conflicts(net, &*store, &again).await;
    panics(net, &again);

    // A refresh token that is dead, a grant token that was used, a login that cannot be kept.
    let dead = RefreshToken::new("1000.deadbeefdeadbeef.deadbeefdeadbeef").unwrap();
    net.secret(dead.expose_secret());
    let credential = Credential::refresh(client(&sandbox), dead);
    net.print(&credential);
    net.outcome(&auth.session(credential).await);
    store.fail_saves(1);
    let code = sandbox.grant_code(&sandbox.people()[0], SCOPES);
    net.secret(&code);
    let credential = Credential::grant(client(&sandbox), GrantToken::new(code).unwrap());
    net.outcome(&auth.session(credential.clone()).await);
    net.outcome(&auth.session(credential).await);

    remember(net, &*store).await;
    net.outcome(&session.revoke().await);
    net.outcome(&session.access_token().await);
    for request in sandbox.requests() {
        net.print(&request.path_and_query);
    }
    assert!(sandbox.counts().refreshes_ok > 3, "{:?}", sandbox.counts());
    net.print(store);
}

async fn log_in(net: &Net, sandbox: &Sandbox, auth: &Authenticator) -> Session {
    let client = client(sandbox).redirect_uri(sandbox.redirect_uri());
    let request = LoginRequest::new(client, center(sandbox), SCOPES.split(',')).consent();
    net.print(&request);
    let (url, pending) = request.begin().unwrap();
    net.print((&url, &pending, pending.save()));
    let back = sandbox.authorize(&url, &sandbox.people()[0]).unwrap();
    let (_, code) = back.split_once("code=").unwrap();
    net.secret(code.split('&').next().unwrap());
    let mut centers = DataCenters::known();
    centers.add(center(sandbox));
    let callback = Callback::from_url(&back).unwrap();
    net.print(&callback);
    let other = request.begin().unwrap().1.accept(&callback, &centers);
    net.outcome(&other);
    let credential = pending.accept(&callback, &centers).unwrap();
    net.print(&credential);
    auth.session(credential).await.unwrap()
}

/// Notes what is stored now.
async fn remember(net: &Net, store: &dyn TokenStore) {
    for token in store.get_tokens().await.unwrap() {
        net.record(&token);
        for query in [
            token.refresh_token.map(TokenQuery::refresh_token),
            token.access_token.map(TokenQuery::access_token),
            token.grant_token.map(TokenQuery::grant_token),
        ] {
            net.print(query);
        }
    }
}

/// Saves that a store must refuse.
async fn conflicts(net: &Net, store: &dyn TokenStore, token: &OAuthToken) {
    let stored = store.get_tokens().await.unwrap();
    let mut wrong = token.clone();
    wrong.id = stored[0].id;
    wrong.user_name = Some(user("bob@example.com:2"));
    net.outcome(&store.save_token(&wrong).await);
    let mut wrong = token.clone();
    wrong.refresh_token = RefreshToken::new("1000.nul.in\0side").ok();
    net.secret("1000.nul.in");
    net.outcome(&store.save_token(&wrong).await);
}

/// What an application prints when it gives up with a token in its hands.
fn panics(net: &Net, token: &OAuthToken) {
    let hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(|_| {}));
    let giving_up = || -> () { panic!("no way to go on with {token:?}") };
    let panicked = catch_unwind(AssertUnwindSafe(giving_up)).unwrap_err();
    std::panic::set_hook(hook);
    net.print(panicked.downcast_ref::<String>().unwrap());
}

/// Files in which tokens stand where they should not.
async fn damaged_file(net: &Net, path: &Path) {
    let header = "id,user_name,client_id,client_secret,refresh_token,access_token,grant_token,expiry_time,redirect_uri,api_domain";
    let secret = "1000.s3cretinthewrongplace.0123456789abcdef";
    net.secret(secret);
    for line in [
        format!("{secret},u,c,s,r,a,g,1,,"),
        format!("1,u,c,s,r,a,g,{secret},,"),
        format!("1,u,c,{secret}"),
        format!("1,u,c,\"{secret},r,a,g,1,,"),
        format!("1,u,c,\"{secret}\"x,r,a,g,1,,"),
        format!("1,u,c,{secret},r,a,g,1,,\r\n1,u,c,{secret},r,a,g,1,,"),
    ] {
        std::fs::write(path, format!("{header}\r\n{line}\r\n")).unwrap();
        let store = FileStore::open(path).await;
        net.print(&store);
        match store {
            Ok(store) => net.outcome(&store.get_tokens().await),
            Err(error) => net.error(&error),
        }
    }
    std::fs::write(path, format!("{secret}\n")).unwrap();
    net.outcome(&FileStore::open(path).await);
}

/// Rows in which tokens stand where they should not.
async fn damaged_database(net: &Net, path: &Path) {
    let secret = "1000.s3cretinthewrongplace.fedcba9876543210";
    net.secret(secret);
    let base = rusqlite::Connection::open(path).unwrap();
    for columns in ["id", "expiry_time, id"] {
        base.execute("delete from oauthtoken", []).unwrap();
        let sql = match columns {
            "id" => "insert into oauthtoken (id) values (?1)",
            _ => "insert into oauthtoken (id, expiry_time) values ('1', ?1)",
        };
        base.execute(sql, [secret]).unwrap();
        let store = SqliteStore::open(path);
        net.print(&store);
        match store {
            Ok(store) => net.outcome(&store.get_tokens().await),
            Err(error) => net.error(&error),
        }
    }
    base.close().unwrap();
    std::fs::write(path, secret).unwrap();
    net.outcome(&SqliteStore::open(path));
}
