//! Everything that can go wrong is done once, and what people then read is compared with
//! `docs/troubleshooting.md`.

mod handbook;

use std::collections::BTreeSet;
use std::fmt::Debug;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::FutureExt;
use rusqlite::Connection;
use tempfile::TempDir;
use tokio::net::TcpListener;
use zoho_oauth::store::{CoordinationKey, Memo};
use zoho_oauth::{
    AccountsClient, Authenticator, Callback, Credential, DataCenter, DataCenters, Error, ErrorCode,
    FileStore, GrantCredential, GrantToken, HttpOptions, ListStore, LoginRequest, OAuthClient,
    OAuthToken, RefreshToken, SecretsManagerStore, SqliteStore, TokenId, TokenStore,
};
use zoho_sandbox::{Fault, Sandbox};

use crate::accounts::{RawServer, TlsServer, block_on, refresh};
use crate::fleet::FleetStore;
use crate::secrets_manager_store::Stub;
use crate::support::{
    FlakyStore, SCOPES, authenticator, builder, center, client, expire, expired, logged_in,
    no_memory, sandbox, user,
};

use crate::{mysql_store, postgres_store, redis_store};

/// What was said, with the places of this test replaced by those that the document uses.
struct Said {
    folder: TempDir,
    texts: Mutex<BTreeSet<(String, String)>>,
}

impl Said {
    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Notes what an error says, after a check that it is this one.
    #[track_caller]
    fn note<T: Debug>(&self, code: ErrorCode, outcome: Result<T, Error>) {
        let error = outcome.unwrap_err();
        assert_eq!(error.code(), code, "{error:?}");
        self.text(code.as_str(), &error.to_string());
    }

    fn text(&self, code: &str, text: &str) {
        let folder = self.folder.path().to_str().unwrap();
        let text = text.replace(folder, "/srv/portal");
        // The addresses of local servers.
        let text = text.replace("`localhost:", "`127.0.0.1:");
        let mut parts = text.split("127.0.0.1");
        let mut plain = parts.next().unwrap().to_owned();
        for part in parts {
            let port = |c: char| c == ':' || c.is_ascii_digit();
            plain += "accounts.zoho.eu";
            plain += part.trim_start_matches(port);
        }
        let mut texts = self.texts.lock().unwrap();
        texts.insert((code.to_owned(), plain));
    }
}

#[test]
fn the_document_says_what_people_read() {
    let said = Said {
        folder: tempfile::tempdir().unwrap(),
        texts: Mutex::default(),
    };
    block_on(async {
        arguments(&said).await;
        logins(&said).await;
        callbacks(&said).await;
        clients(&said).await;
        limits(&said).await;
        records(&said).await;
        files(&said).await;
        databases(&said).await;
        servers(&said);
        fleets(&said).await;
        secrets(&said).await;
        networks(&said).await;
    });
    shut_down(&said);
    #[cfg(unix)]
    unix::permissions_and_full_disks(&said);
    let codes: Vec<_> = ErrorCode::ALL.iter().map(|code| code.as_str()).collect();
    handbook::check("Tokens", &codes, &said.texts.lock().unwrap());
}

fn grant(sandbox: &Sandbox) -> GrantCredential {
    let code = sandbox.grant_code(&sandbox.people()[0], SCOPES);
    Credential::grant(client(sandbox), GrantToken::new(code).unwrap())
}

fn token(name: &str) -> OAuthToken {
    let mut token = OAuthToken::new();
    token.user_name = Some(user(name));
    token.refresh_token = RefreshToken::new(format!("1000.refresh.{name}")).ok();
    token
}

async fn arguments(said: &Said) {
    let center = |url: &str| DataCenter::builder("own", url).build();
    said.note(ErrorCode::InvalidInput, center("accounts.zoho.eu"));
    let secret = OAuthClient::new("1000.CLIENT", "secret\n");
    said.note(ErrorCode::InvalidInput, secret);
    let outcome = ListStore::new().save_token(&OAuthToken::new()).await;
    said.note(ErrorCode::InvalidInput, outcome);
    let plain = center("http://accounts.example");
    said.note(ErrorCode::InsecureUrl, plain);
    let unknown = DataCenters::known().by_name("moon").map(drop);
    said.note(ErrorCode::UnknownDataCenter, unknown);
}

async fn logins(said: &Said) {
    let sandbox = sandbox().await;
    let auth = authenticator(&sandbox, ListStore::new());
    let nobody = auth.access_token(&user("nobody")).await;
    said.note(ErrorCode::LoginRequired, nobody);
    let nowhere = auth.session(TokenId::new(7).unwrap()).await;
    said.note(ErrorCode::LoginRequired, nowhere);

    // A code that was used, by a program that did not keep what came of it.
    let used = grant(&sandbox);
    auth.session(used.clone()).await.unwrap();
    let forgetful = authenticator(&sandbox, ListStore::new());
    said.note(ErrorCode::InvalidCode, forgetful.session(used).await);
    // A refresh token that was revoked: refused once, and then not asked for again.
    let auth = builder(&sandbox, ListStore::new())
        .policy(no_memory())
        .build()
        .unwrap();
    let (id, stored) = expired(&sandbox, auth.store(), "ann").await;
    let other = authenticator(&sandbox, ListStore::new());
    let same = other.store().save_token(&stored).await.unwrap();
    assert!(other.revoke(same).await.unwrap());
    let session = auth.session(id).await.unwrap();
    said.note(ErrorCode::InvalidCode, session.access_token().await);
    tokio::time::sleep(Duration::from_millis(600)).await;
    said.note(ErrorCode::InvalidCode, session.access_token().await);

    let bare = logged_in(&sandbox, "bob", 3600).access_token.unwrap();
    let session = auth
        .session(Credential::access(bare.clone()))
        .await
        .unwrap();
    said.note(ErrorCode::AccessTokenEnded, session.refused(&bare).await);
    said.note(ErrorCode::Unsupported, session.revoke().await);

    sandbox.inject(Fault::no_refresh_token());
    let outcome = auth.session(grant(&sandbox)).await;
    said.note(ErrorCode::RefreshTokenMissing, outcome);

    let mut production = logged_in(&sandbox, "ann", 3600);
    production.api_domain = Some("https://www.zohoapis.com".to_owned());
    let store = Arc::new(ListStore::new());
    store.save_token(&production).await.unwrap();
    let center = DataCenter::builder("us", sandbox.accounts_url())
        .api_domain("https://www.zohoapis.com")
        .sandbox_domain(sandbox.api_url());
    let auth = builder(&sandbox, Arc::clone(&store)).data_center(center.build().unwrap());
    let auth = auth.build().unwrap();
    let outcome = auth.session(grant(&sandbox).user_name(user("ann"))).await;
    said.note(ErrorCode::IdConflict, outcome);

    let store = ListStore::new();
    production.api_domain = Some("https://api.zoho.mars".to_owned());
    let id = store.save_token(&production).await.unwrap();
    let auth = authenticator(&sandbox, store);
    let session = auth.session(id).await.unwrap();
    let access = session.access_token().await.unwrap();
    let refused = session.refused(access.token()).await;
    said.note(ErrorCode::UnknownDataCenter, refused);

    let store = FlakyStore::new(ListStore::new());
    let patience = Duration::from_millis(300);
    let auth = builder(&sandbox, Arc::clone(&store))
        .policy(no_memory().with_patience(patience))
        .build()
        .unwrap();
    store.fail_saves(usize::MAX);
    let outcome = auth.session(grant(&sandbox)).await;
    said.note(ErrorCode::TokenNotSaved, outcome);
}

async fn callbacks(said: &Said) {
    let sandbox = sandbox().await;
    let client = client(&sandbox).redirect_uri(sandbox.redirect_uri());
    let request = LoginRequest::new(client, center(&sandbox), SCOPES.split(','));
    let centers = DataCenters::known();
    let (url, pending) = request.begin().unwrap();
    let accept = |back: &str| {
        let callback = Callback::from_url(back)?;
        pending.accept(&callback, &centers).map(drop)
    };
    let refused = sandbox.reject(&url, &sandbox.people()[0]).unwrap();
    said.note(ErrorCode::AccessDenied, accept(&refused));
    let (another, _) = request.begin().unwrap();
    let back = sandbox.authorize(&another, &sandbox.people()[0]).unwrap();
    said.note(ErrorCode::CallbackRefused, accept(&back));
    let at = |rest: &str| {
        format!(
            "https://portal.example/back?state={}{rest}",
            pending.state()
        )
    };
    let stranger = accept(&at(
        "&code=1000.x&accounts-server=https://accounts.evil.example",
    ));
    said.note(ErrorCode::UnknownDataCenter, stranger);
    said.note(ErrorCode::CallbackRefused, accept(&at("")));
    said.note(ErrorCode::InvalidScope, accept(&at("&error=invalid_scope")));
}

async fn clients(said: &Said) {
    let sandbox = sandbox().await;
    let store = Arc::new(ListStore::new());
    for (id, secret, code) in [
        ("1000.NOBODY", "wrong", ErrorCode::InvalidClient),
        (sandbox.client_id(), "wrong", ErrorCode::InvalidClientSecret),
    ] {
        let wrong = OAuthClient::new(id, secret).unwrap();
        let (refresh, _) = sandbox.login(&sandbox.people()[0], SCOPES);
        let credential = Credential::refresh(wrong, RefreshToken::new(refresh).unwrap());
        let auth = authenticator(&sandbox, Arc::clone(&store));
        said.note(code, auth.session(credential).await);
    }
    let client = client(&sandbox).redirect_uri(sandbox.redirect_uri());
    let request = LoginRequest::new(client.clone(), center(&sandbox), SCOPES.split(','));
    let (url, _) = request.without_pkce().begin().unwrap();
    let back = sandbox.authorize(&url, &sandbox.people()[0]).unwrap();
    let back = url::Url::parse(&back).unwrap();
    let code = back.query_pairs().find(|(name, _)| name == "code").unwrap();
    let code = GrantToken::new(code.1).unwrap();
    let elsewhere = client.redirect_uri("https://portal.example/");
    let credential = Credential::grant(elsewhere, code);
    let auth = authenticator(&sandbox, store);
    said.note(
        ErrorCode::InvalidRedirectUri,
        auth.session(credential).await,
    );
}

async fn limits(said: &Said) {
    let sandbox = sandbox().await;
    let auth = authenticator(&sandbox, ListStore::new());
    let (id, _) = expired(&sandbox, auth.store(), "ann").await;
    let session = auth.session(id).await.unwrap();
    sandbox.inject(Fault::throttle());
    said.note(ErrorCode::Throttled, session.access_token().await);
    // Longer than a failure answers those who ask at the same moment.
    tokio::time::sleep(Duration::from_millis(600)).await;
    said.note(ErrorCode::Throttled, session.access_token().await);

    let stingy = no_memory().with_mint_budget(Some(1));
    let auth = builder(&sandbox, ListStore::new()).policy(stingy);
    let auth = auth.build().unwrap();
    let (id, _) = expired(&sandbox, auth.store(), "ann").await;
    let session = auth.session(id).await.unwrap();
    session.access_token().await.unwrap();
    expire(auth.store(), id).await;
    said.note(ErrorCode::MintBudget, session.access_token().await);
}

async fn records(said: &Said) {
    let store = ListStore::new();
    let id = store.save_token(&token("ann")).await.unwrap();
    let mut other = token("bob");
    other.id = Some(id);
    said.note(ErrorCode::IdConflict, store.save_token(&other).await);
    store.delete_token(id).await.unwrap();
    said.note(ErrorCode::RecordDeleted, store.save_token(&other).await);
    other.id = Some(TokenId::MAX);
    store.save_token(&other).await.unwrap();
    let one_more = store.save_token(&token("cy")).await;
    said.note(ErrorCode::IdsExhausted, one_more);
}

async fn files(said: &Said) {
    let missing = FileStore::open(said.path("missing/sdk_tokens.txt")).await;
    said.note(ErrorCode::StoreUnavailable, missing);
    let path = said.path("notes.txt");
    std::fs::write(&path, "shopping list\n").unwrap();
    said.note(ErrorCode::StoreForeign, FileStore::open(&path).await);

    let path = said.path("sdk_tokens.txt");
    let patience = Duration::from_millis(30);
    let builder = || FileStore::builder(&path).lock_timeout(patience);
    let store = builder().open().await.unwrap();
    store.save_token(&token("ann")).await.unwrap();
    let lock = std::fs::File::create(said.path("sdk_tokens.txt.state/write.lock")).unwrap();
    lock.lock().unwrap();
    std::fs::write(said.path("sdk_tokens.txt.state/write.lock"), "4711\n").unwrap();
    said.note(
        ErrorCode::StoreLocked,
        store.save_token(&token("bob")).await,
    );
    lock.unlock().unwrap();
    let good = std::fs::read(&path).unwrap();
    std::fs::write(&path, &good[..good.len() - 20]).unwrap();
    let cut_off = store.find_token_by_id(TokenId::new(1).unwrap()).await;
    said.note(ErrorCode::StoreDamaged, cut_off);
    #[cfg(unix)]
    {
        std::fs::hard_link(&path, said.path("backup.txt")).unwrap();
        said.note(ErrorCode::StoreAliased, builder().open().await);
        std::fs::remove_file(said.path("backup.txt")).unwrap();
    }
    let large = std::fs::File::options().append(true).open(&path).unwrap();
    large.set_len(FileStore::MAX_SIZE + 1).unwrap();
    said.note(ErrorCode::Unsupported, builder().open().await);
}

async fn databases(said: &Said) {
    let missing = SqliteStore::open(said.path("missing/zohooauth.db"));
    said.note(ErrorCode::StoreUnavailable, missing);
    let path = said.path("zohooauth.db");
    let store = SqliteStore::builder().busy_timeout(Duration::from_millis(30));
    let store = store.open(&path).unwrap();
    let ann = store.save_token(&token("ann")).await.unwrap();
    let raw = Connection::open(&path).unwrap();
    raw.execute_batch("BEGIN IMMEDIATE").unwrap();
    said.note(
        ErrorCode::StoreLocked,
        store.save_token(&token("bob")).await,
    );
    let trigger = "ROLLBACK; CREATE TRIGGER ignores BEFORE INSERT ON oauthtoken \
        BEGIN SELECT RAISE(IGNORE); END";
    raw.execute_batch(trigger).unwrap();
    said.note(
        ErrorCode::StoreForeign,
        store.save_token(&token("bob")).await,
    );
    raw.execute_batch("UPDATE oauthtoken SET expiry_time = 'soon'")
        .unwrap();
    said.note(ErrorCode::StoreDamaged, store.find_token_by_id(ann).await);
    drop((store, raw));

    let path = said.path("orders.db");
    let raw = Connection::open(&path).unwrap();
    raw.execute_batch("CREATE TABLE oauthtoken (id INTEGER PRIMARY KEY)")
        .unwrap();
    said.note(ErrorCode::StoreForeign, SqliteStore::open(&path));
}

/// What the stores on servers say; their own tests hold them to that.
fn servers(said: &Said) {
    let (mysql, postgres, redis) = (
        mysql_store::said::SAID,
        postgres_store::said::SAID,
        redis_store::said::SAID,
    );
    for (code, text) in mysql.into_iter().chain(postgres).chain(redis) {
        said.note::<()>(code, Err(Error::new(code, text)));
    }
}

async fn fleets(said: &Said) {
    let store = FleetStore::new();
    let id = store.save_token(&token("ann")).await.unwrap();
    let key = CoordinationKey::record(id);
    let agreement = store.coordination().unwrap();
    let permit = agreement.try_acquire(&key).await.unwrap().unwrap();
    let _other = store.take_over(id).await;
    said.note(
        ErrorCode::LeaseLost,
        permit.set_memo(&Memo::default()).await,
    );

    let auth = Authenticator::builder(store.clone()).build().unwrap();
    let mut sessions = vec![auth.session(id).await.unwrap()];
    for name in ["bob", "cid", "dan"] {
        let id = store.save_token(&token(name)).await.unwrap();
        sessions.push(auth.session(id).await.unwrap());
    }
    store.cells.break_down(true);
    for session in &sessions[..3] {
        let error = session.access_token().await.unwrap_err();
        assert_eq!(error.message(), "out of order");
    }
    said.note(
        ErrorCode::StoreUnavailable,
        sessions[3].access_token().await,
    );
}

async fn secrets(said: &Said) {
    let stub = Stub::start().await;
    let store = SecretsManagerStore::builder().versions(1, Duration::from_mins(20));
    let store = store.with_client(stub.client()).unwrap();
    let mut ann = token("ann");
    let id = store.save_token(&ann).await.unwrap();
    for code in [
        "AccessDeniedException",
        "ExpiredTokenException",
        "DecryptionFailure",
        "UnrecognizedClientException",
    ] {
        stub.refuse("GetSecretValue", code, 1);
        said.note(ErrorCode::StorePermission, store.find_token_by_id(id).await);
    }
    stub.refuse("GetSecretValue", "ThrottlingException", 4);
    said.note(ErrorCode::StoreThrottled, store.find_token_by_id(id).await);
    stub.refuse("PutSecretValue", "LimitExceededException", 4);
    for (refresh, is_saved) in [("quota", false), ("last", true), ("spent", false)] {
        ann.refresh_token = RefreshToken::new(refresh).ok();
        let saved = store.save_token(&ann).await;
        if is_saved {
            saved.unwrap();
        } else {
            said.note(ErrorCode::StoreThrottled, saved);
        }
    }
    stub.write("zoho-oauth/token/1", "by-hand", "{");
    said.note(ErrorCode::StoreDamaged, store.find_token_by_id(id).await);
}

async fn networks(said: &Said) {
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let at = |listener: &TcpListener| {
        let url = format!("http://{}", listener.local_addr().unwrap());
        DataCenter::builder("own", url).build().unwrap()
    };
    let options = HttpOptions::new().timeout(Duration::from_millis(100));
    let accounts = AccountsClient::new(&options).unwrap();
    let outcome = refresh(&accounts, &at(&silent)).await.map(drop);
    said.note(ErrorCode::Timeout, outcome);
    let nobody = at(&silent);
    drop(silent);
    let outcome = refresh(&accounts, &nobody).await.map(drop);
    said.note(ErrorCode::Network, outcome);

    let answers = [
        ("", ErrorCode::Network),
        (
            "HTTP/1.1 503 x\r\nContent-Length: 0\r\n\r\n",
            ErrorCode::ServerError,
        ),
        (
            "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 13\r\n\r\n<html></html>",
            ErrorCode::ServerError,
        ),
        (
            "HTTP/1.1 302 x\r\nLocation: /\r\nContent-Length: 0\r\n\r\n",
            ErrorCode::UnexpectedAnswer,
        ),
        (
            "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}",
            ErrorCode::UnexpectedAnswer,
        ),
    ];
    let patient = AccountsClient::new(&HttpOptions::new()).unwrap();
    let strange = TlsServer::start(&[]);
    let center = DataCenter::builder("own", &strange.url).build().unwrap();
    let outcome = refresh(&patient, &center).await.map(drop);
    said.note(ErrorCode::CertificateRefused, outcome);
    for (answer, code) in answers {
        let server = RawServer::answering(answer).await;
        let outcome = refresh(&patient, &server.center()).await.map(drop);
        said.note(code, outcome);
    }
}

/// The runtime ends in the middle of a login, and somebody outside goes on waiting for it.
fn shut_down(said: &Said) {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let silent = DataCenter::builder("own", url).build().unwrap();
    let auth = Authenticator::builder(ListStore::new())
        .data_center(silent)
        .build()
        .unwrap();
    let client = OAuthClient::new("1000.CLIENT", "secret").unwrap();
    let credential = Credential::grant(client, GrantToken::new("1000.code").unwrap());
    let mut login = Box::pin(auth.session(credential));
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .unwrap();
    let begun = runtime.block_on(async { (&mut login).now_or_never() });
    assert!(begun.is_none());
    runtime.shutdown_background();
    block_on(async { said.note(ErrorCode::Internal, login.await) });
}

#[cfg(unix)]
mod unix {
    use std::os::unix::fs::{MetadataExt, PermissionsExt};
    use std::os::unix::process::CommandExt;
    use std::process::Command;

    use super::*;

    /// Tells a test that it runs as the child of itself, and where.
    const PLACE: &str = "ZOHO_OAUTH_TROUBLE_AT";
    /// "nobody" on every system that has one, and no user at all on the others: just as good.
    const NOBODY: u32 = 65534;

    fn set_mode(path: &Path, mode: u32) {
        std::fs::set_permissions(path, PermissionsExt::from_mode(mode)).unwrap();
    }

    /// Runs a test of this module again in `command`, and notes the lines that it writes.
    fn hear(said: &Said, mut command: Command, test: &str, place: &Path) {
        let test = format!("troubleshooting::unix::{test}");
        let output = command
            .args(["--exact", &test, "--nocapture"])
            .env(PLACE, place)
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&output.stdout);
        let ran = output.status.success() && text.contains("1 passed");
        assert!(ran, "{text}{}", String::from_utf8_lossy(&output.stderr));
        for line in text.lines() {
            if let Some((_, told)) = line.split_once("told: ") {
                let (code, text) = told.split_once(' ').unwrap();
                said.text(code, text);
            }
        }
    }

    fn place_of_child() -> Option<PathBuf> {
        #[expect(clippy::disallowed_methods, reason = "how a test talks to its child")]
        std::env::var_os(PLACE).map(PathBuf::from)
    }

    #[track_caller]
    #[expect(clippy::print_stdout, reason = "how a child answers its test")]
    fn tell<T: Debug>(code: ErrorCode, outcome: Result<T, Error>) {
        let error = outcome.unwrap_err();
        assert_eq!(error.code(), code, "{error:?}");
        println!("told: {} {error}", code.as_str());
    }

    pub(super) fn permissions_and_full_disks(said: &Said) {
        let open = said.path("open");
        std::fs::create_dir(&open).unwrap();
        for name in ["sdk_tokens.txt", "zohooauth.db"] {
            std::fs::write(said.path(name), "").unwrap();
            set_mode(&said.path(name), 0o000);
            std::fs::write(open.join(name), "").unwrap();
            set_mode(&open.join(name), 0o644);
        }
        set_mode(said.folder.path(), 0o755);
        let program = said.path("test");
        std::fs::copy(std::env::current_exe().unwrap(), &program).unwrap();
        set_mode(&program, 0o755);
        // Root may do anything, so under root the child is somebody else.
        let mut command = Command::new(&program);
        if std::fs::metadata(said.folder.path()).unwrap().uid() == 0 {
            command.uid(NOBODY).gid(NOBODY);
        }
        hear(said, command, "forbidden", said.folder.path());

        let full = said.path("full");
        std::fs::create_dir(&full).unwrap();
        let mut command = Command::new("sh");
        // A limit on the size of files: for what it is, see `file_store::faults`.
        command
            .args(["-c", "trap '' XFSZ; ulimit -f 16; exec \"$0\" \"$@\""])
            .arg(std::env::current_exe().unwrap());
        hear(said, command, "full", &full);
    }

    /// What this user may not read, and what all others may.
    #[test]
    fn forbidden() {
        let Some(place) = place_of_child() else {
            return;
        };
        let (file, database) = ("sdk_tokens.txt", "zohooauth.db");
        let permission = ErrorCode::StorePermission;
        block_on(async {
            tell(permission, FileStore::open(place.join(file)).await);
            let open = FileStore::builder(place.join("open").join(file));
            tell(permission, open.require_private().open().await);
        });
        tell(permission, SqliteStore::open(place.join(database)));
        let open = SqliteStore::builder().require_private(true);
        tell(permission, open.open(place.join("open").join(database)));
    }

    #[test]
    fn full() {
        let Some(place) = place_of_child() else {
            return;
        };
        block_on(async {
            let path = place.join("sdk_tokens.txt");
            let store = FileStore::open(path).await.unwrap();
            let huge = token(&"x".repeat(64 * 1024));
            tell(ErrorCode::StoreFull, store.save_token(&huge).await);
        });
    }
}
