//! Situations in which token stores that are in use today go wrong, as far as no other module has
//! them. The whole list, with the test for each, is `docs/regressions.md`; `list` reads it.

mod list;

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use rusqlite::Connection;
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::process::Command;
use zoho_oauth::{
    AccessToken, ClientId, Credential, DataCenter, DataCenters, Error, ErrorCode, FileStore,
    GrantToken, ListStore, OAuthClient, OAuthToken, RefreshToken, SqliteStore, TokenId, TokenQuery,
    TokenStore, UserName,
};
use zoho_sandbox::{Endpoint, Fault, Organisation, Person, Sandbox};

use crate::support::{
    SCOPES, authenticator, builder, center, client, expired, in_seconds, logged_in, refreshes,
    sandbox, user,
};

/// The table as Zoho's samples for databases make it, for either collation.
fn official_table(collation: &str) -> String {
    let column = format!("varchar(255) {collation}");
    let columns = [
        "user_name",
        "client_id",
        "client_secret",
        "refresh_token",
        "access_token",
        "grant_token",
        "expiry_time",
        "redirect_url",
        "api_domain",
    ];
    let columns = columns.map(|name| format!(", {name} {column}")).concat();
    format!("CREATE TABLE oauthtoken (id varchar(10) NOT NULL PRIMARY KEY{columns})")
}

/// The stores that outlive a process: a token file, a database of ours, one of the samples.
struct Kept {
    _folder: TempDir,
    name: &'static str,
    path: PathBuf,
}

impl Kept {
    fn all() -> [Self; 3] {
        ["file", "sqlite", "sample"].map(|name| {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("tokens");
            if name == "sample" {
                let raw = Connection::open(&path).unwrap();
                raw.execute_batch(&official_table("")).unwrap();
            }
            Self {
                _folder: folder,
                name,
                path,
            }
        })
    }

    /// Opens the store once more, as another process would.
    async fn open(&self) -> Arc<dyn TokenStore> {
        open(self.name, &self.path, Duration::from_mins(1)).await
    }
}

/// Opens a store that waits for others as long as `patience`.
async fn open(name: &str, path: &Path, patience: Duration) -> Arc<dyn TokenStore> {
    if name == "file" {
        let store = FileStore::builder(path).lock_timeout(patience);
        Arc::new(store.open().await.unwrap())
    } else {
        let store = SqliteStore::builder().busy_timeout(patience);
        Arc::new(store.open(path).unwrap())
    }
}

fn grant(sandbox: &Sandbox) -> Credential {
    let code = sandbox.grant_code(&sandbox.people()[0], SCOPES);
    Credential::grant(client(sandbox), GrantToken::new(code).unwrap()).into()
}

// ---- losing tokens

/// What the child process is told: which store, and where.
const SAVER_STORE: &str = "ZOHO_SAVER_STORE";
const SAVER_PATH: &str = "ZOHO_SAVER_PATH";
const READS: usize = 1000;

/// Saves until its standard input ends, as it does when the parent dies; nothing at all unless it
/// is told to.
#[test]
fn saver() {
    let told = |name: &str| {
        #[expect(clippy::disallowed_methods, reason = "how a child is told what to do")]
        std::env::var(name)
    };
    let (Ok(name), Ok(path)) = (told(SAVER_STORE), told(SAVER_PATH)) else {
        return;
    };
    let waiting = std::thread::spawn(|| std::io::stdin().lines().count());
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let store = open(&name, path.as_ref(), Duration::from_mins(1)).await;
        for number in 0_usize.. {
            if waiting.is_finished() {
                break;
            }
            let mut token = OAuthToken::new();
            token.user_name = Some(user(&format!("user {}", number % 20)));
            token.access_token = AccessToken::new(format!("1000.access.{number}")).ok();
            store.save_token(&token).await.unwrap();
        }
    });
}

/// Defect 3: 59 to 90 % of such reads found nobody.
#[tokio::test]
async fn a_reader_finds_everybody_while_another_process_saves() {
    for kept in Kept::all() {
        let store = kept.open().await;
        let mut token = OAuthToken::new();
        token.user_name = Some(user("reader"));
        token.refresh_token = RefreshToken::new("1000.refresh.reader").ok();
        token.id = Some(store.save_token(&token).await.unwrap());
        let mut saver = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "defects::saver"])
            .env(SAVER_STORE, kept.name)
            .env(SAVER_PATH, &kept.path)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        // The child has begun.
        while store.get_tokens().await.unwrap().len() < 21 {
            assert!(saver.try_wait().unwrap().is_none(), "the saver ended");
        }
        let before = store.get_tokens().await.unwrap();
        let query = TokenQuery::user_name(user("reader"));
        let mut last = before.clone();
        let mut reads = 0;
        // Until the saver has been at work for the whole time, however slow this machine is.
        while reads < READS || last == before {
            let found = store.find_token(&query).await.unwrap();
            assert_eq!(found.as_ref(), Some(&token), "{}", kept.name);
            last = store.get_tokens().await.unwrap();
            assert_eq!(last.len(), 21, "{}", kept.name);
            reads += 1;
        }
        assert!(saver.try_wait().unwrap().is_none(), "the saver ended");
        saver.kill().await.unwrap();
    }
}

/// Holds what a writer of the store needs.
enum Obstacle {
    File(std::fs::File),
    Database(Connection),
}

impl Obstacle {
    fn new(kept: &Kept) -> Self {
        if kept.name == "file" {
            let lock = kept.path.with_file_name("tokens.state/write.lock");
            std::fs::create_dir_all(lock.parent().unwrap()).unwrap();
            let lock = std::fs::File::create(lock).unwrap();
            lock.lock().unwrap();
            Self::File(lock)
        } else {
            let raw = Connection::open(&kept.path).unwrap();
            raw.execute_batch("BEGIN IMMEDIATE").unwrap();
            Self::Database(raw)
        }
    }

    fn go_away(self) {
        match self {
            Self::File(lock) => lock.unlock().unwrap(),
            Self::Database(raw) => raw.execute_batch("ROLLBACK").unwrap(),
        }
    }
}

/// Defect 6: the failed save of a one-time grant is swallowed, and so is its cause.
#[tokio::test]
async fn a_login_that_a_locked_store_cannot_keep_is_not_lost() {
    for kept in Kept::all() {
        let sandbox = sandbox().await;
        let store = open(kept.name, &kept.path, Duration::from_millis(30)).await;
        let auth = authenticator(&sandbox, Arc::clone(&store));
        let obstacle = Obstacle::new(&kept);
        let credential = grant(&sandbox);
        let error = auth.session(credential.clone()).await.unwrap_err();
        assert_eq!(error.code(), ErrorCode::TokenNotSaved, "{error}");
        let cause = std::error::Error::source(&error).unwrap();
        let cause: &Error = cause.downcast_ref().unwrap();
        assert_eq!(cause.code(), ErrorCode::StoreLocked, "{}", kept.name);

        obstacle.go_away();
        let rescued = error.unsaved_token().unwrap();
        let id = store.save_token(rescued).await.unwrap();
        assert_eq!(auth.session(credential).await.unwrap().id(), id);
        assert_eq!(sandbox.counts().code_exchanges_ok, 1);
    }
}

/// Defect 7: whoever read before and saves after another puts the old refresh token back.
#[tokio::test]
async fn a_refresh_keeps_the_refresh_token_that_another_process_saved_meanwhile() {
    for kept in Kept::all() {
        let sandbox = sandbox().await;
        let (ours, theirs) = (kept.open().await, kept.open().await);
        let (id, old) = expired(&sandbox, &*ours, "ann").await;
        let auth = authenticator(&sandbox, ours);
        let session = auth.session(id).await.unwrap();
        sandbox.inject(Fault::delay(Duration::from_millis(300)).on(Endpoint::Refresh));
        let refreshing = tokio::spawn(async move { session.access_token().await });
        while refreshes(&sandbox) == 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let new = logged_in(&sandbox, "ann", 3600);
        assert_eq!(theirs.save_token(&new).await.unwrap(), id);
        refreshing.await.unwrap().unwrap();
        let stored = kept.open().await.find_token_by_id(id).await.unwrap();
        let stored = stored.unwrap();
        assert_eq!(stored.refresh_token, new.refresh_token, "{}", kept.name);
        assert_ne!(stored.refresh_token, old.refresh_token);
    }
}

/// Defect 9: saving what is stored already adds a row, or fails.
/// Defect 10: a column of 255 characters cuts a longer token, or refuses it.
#[tokio::test]
async fn long_tokens_are_kept_whole_and_saving_them_again_changes_nothing() {
    let mut stores: Vec<(&str, Arc<dyn TokenStore>)> =
        vec![("list", Arc::new(ListStore::new()) as _)];
    let kept = Kept::all();
    for kept in &kept {
        stores.push((kept.name, kept.open().await));
    }
    for (name, store) in stores {
        let mut token = OAuthToken::new();
        token.user_name = Some(user("ann"));
        token.access_token = AccessToken::new("1000.a".repeat(50)).ok();
        token.refresh_token = RefreshToken::new("1000.r".repeat(50)).ok();
        for _ in 0..3 {
            token.id = Some(store.save_token(&token).await.unwrap());
            let rows = store.get_tokens().await.unwrap();
            assert_eq!(rows, [token.clone()], "{name}");
        }
    }
}

// ---- someone else's token

/// Defect 15: whoever asks for nothing gets the first row of the table.
#[tokio::test]
async fn whoever_asks_for_nothing_gets_nothing() {
    // What has no text cannot be asked for, and a record of blanks is no query.
    assert!(UserName::new("").is_err() && UserName::new(" ").is_err());
    assert!(AccessToken::new("").is_err() && RefreshToken::new("").is_err());
    let mut blank = OAuthToken::new();
    blank.client_id = ClientId::new("1000.CLIENT").ok();
    blank.redirect_url = Some(String::new());
    assert_eq!(TokenQuery::from_parts(&blank), None);

    for kept in Kept::all() {
        let sandbox = sandbox().await;
        let store = kept.open().await;
        for name in ["ann", "bob"] {
            expired(&sandbox, &*store, name).await;
        }
        let nobody = TokenId::new(4711).unwrap();
        assert_eq!(store.find_token_by_id(nobody).await.unwrap(), None);
        for name in ["nobody", "a b", "%", "0"] {
            let query = TokenQuery::user_name(user(name));
            assert_eq!(store.find_token(&query).await.unwrap(), None);
            let auth = authenticator(&sandbox, Arc::clone(&store));
            let error = auth.access_token(&user(name)).await.unwrap_err();
            assert_eq!(error.code(), ErrorCode::LoginRequired, "{}", kept.name);
        }
        assert_eq!(sandbox.requests().len(), 0, "nobody's token was used");
    }
}

/// Defect 16: another user's refresh token is revoked, or none, and the answer is "done".
#[tokio::test]
async fn revoking_ends_the_login_with_that_id_and_no_other() {
    for kept in Kept::all() {
        let sandbox = sandbox().await;
        let store = kept.open().await;
        let (first, _) = expired(&sandbox, &*store, "ann").await;
        let (second, revoked) = expired(&sandbox, &*store, "bob").await;
        let auth = authenticator(&sandbox, Arc::clone(&store));
        assert!(!auth.revoke(TokenId::new(4711).unwrap()).await.unwrap());
        assert_eq!(sandbox.requests().len(), 0);

        assert!(auth.revoke(second).await.unwrap(), "{}", kept.name);
        assert_eq!(sandbox.counts().revocations, 1);
        assert_eq!(store.find_token_by_id(second).await.unwrap(), None);
        let session = auth.session(first).await.unwrap();
        session.access_token().await.unwrap();
        let credential = Credential::refresh(client(&sandbox), revoked.refresh_token.unwrap());
        let error = auth.session(credential).await.unwrap_err();
        assert_eq!(error.code(), ErrorCode::InvalidCode, "{}", kept.name);
    }
}

/// A sandbox with a second data center, and what our side must know of that.
async fn two_centers() -> (Sandbox, DataCenter, &'static str) {
    let eva = "eva@nordlicht.example";
    let sandbox = Sandbox::builder()
        .no_limits()
        .data_center(zoho_sandbox::DataCenter::new("eu"))
        .organisation(Organisation::new("Nordlicht", "eu"))
        .person(Person::new(eva).of("Nordlicht"))
        .start()
        .await
        .unwrap();
    let eu = sandbox.center("eu");
    let eu = DataCenter::builder("eu", eu.accounts_url()).api_domain(eu.api_url());
    let eu = eu.build().unwrap();
    (sandbox, eu, eva)
}

/// Defect 17: the same user at two data centers makes a row of one center's address and the other
/// one's refresh token.
#[tokio::test]
async fn a_row_never_joins_the_tokens_of_two_data_centers() {
    let (sandbox, eu, eva) = two_centers().await;
    let mut centers = DataCenters::known();
    centers.add(eu.clone());
    centers.add(center(&sandbox));
    let store = Arc::new(ListStore::new());
    let auth = builder(&sandbox, Arc::clone(&store))
        .data_centers(centers)
        .build()
        .unwrap();
    let login = |email: &str, center: DataCenter| {
        let code = GrantToken::new(sandbox.grant_code(email, SCOPES)).unwrap();
        Credential::grant(client(&sandbox), code)
            .user_name(user("eva"))
            .data_center(center)
    };
    let us = login(&sandbox.people()[0], center(&sandbox));
    let id = auth.session(us).await.unwrap().id();
    let before = store.get_tokens().await.unwrap();

    // An answer without a refresh token cannot use the other center's.
    sandbox.inject(Fault::no_refresh_token());
    let refused = auth.session(login(eva, eu.clone())).await.unwrap_err();
    assert_eq!(refused.code(), ErrorCode::RefreshTokenMissing);
    assert_eq!(store.get_tokens().await.unwrap(), before);

    // With one, the whole login moves to the other center.
    let session = auth.session(login(eva, eu)).await.unwrap();
    assert_eq!(session.id(), id);
    let held = session.access_token().await.unwrap();
    let renewed = session.refused(held.token()).await.unwrap();
    assert_eq!(renewed.api_domain(), Some(sandbox.center("eu").api_url()));
    let after = store.get_tokens().await.unwrap();
    assert_eq!(after.len(), 1);
    assert_ne!(after[0].refresh_token, before[0].refresh_token);
    assert_eq!(sandbox.counts().refreshes_failed, 0);

    // The center that is there already may answer without one.
    sandbox.inject(Fault::no_refresh_token());
    let eu = DataCenter::builder("eu", sandbox.center("eu").accounts_url());
    let again = login(eva, eu.build().unwrap());
    assert_eq!(auth.session(again).await.unwrap().id(), id);
}

/// Defect 17: one user under two clients.
#[tokio::test]
async fn a_bare_access_token_is_not_answered_with_another_clients_login() {
    let sandbox = sandbox().await;
    let store = Arc::new(ListStore::new());
    let (theirs, _) = expired(&sandbox, &store, "ann").await;
    let other = OAuthClient::new("1000.OTHER", "x").unwrap();
    let auth = builder(&sandbox, store).client(other).build().unwrap();
    let bare = AccessToken::new("1000.bare.token").unwrap();
    let credential = Credential::access(bare.clone()).user_name(user("ann"));
    let session = auth.session(credential).await.unwrap();
    assert_ne!(session.id(), theirs);
    assert_eq!(session.access_token().await.unwrap().token(), &bare);
    assert_eq!(sandbox.requests().len(), 0);
}

/// Defect 18: `delete_token('0 or 1=1')` empties the table. An id is a number here, so this cannot
/// even be written.
#[test]
fn an_id_is_a_number_and_nothing_else() {
    for text in [
        "0 or 1=1",
        "1 or 1=1",
        "1;",
        "'1'",
        "1--",
        " 1",
        "+1",
        "0x1",
        "",
        "0",
        "1e3",
        "99999999999",
    ] {
        assert!(text.parse::<TokenId>().is_err(), "{text}");
    }
    assert_eq!("17".parse::<TokenId>().unwrap().get(), 17);
}

/// Defect 20: a collation that ignores case finds another user's record and another token.
#[tokio::test]
async fn case_counts_also_where_the_table_ignores_it() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tokens.db");
    let raw = Connection::open(&path).unwrap();
    raw.execute_batch(&official_table("COLLATE NOCASE"))
        .unwrap();
    let store = SqliteStore::open(&path).unwrap();
    let mut token = OAuthToken::new();
    token.user_name = Some(user("Ann@example.com"));
    token.access_token = AccessToken::new("1000.AbC").ok();
    token.refresh_token = RefreshToken::new("1000.DeF").ok();
    token.grant_token = GrantToken::new("1000.GhI").ok();
    let id = store.save_token(&token).await.unwrap();
    for near in [
        TokenQuery::user_name(user("Ann@EXAMPLE.com")),
        TokenQuery::access_token(AccessToken::new("1000.ABC").unwrap()),
        TokenQuery::refresh_token(RefreshToken::new("1000.DEF").unwrap()),
        TokenQuery::grant_token(GrantToken::new("1000.GHI").unwrap()),
    ] {
        assert_eq!(store.find_token(&near).await.unwrap(), None, "{near:?}");
    }
    for exact in [
        TokenQuery::user_name(token.user_name.clone().unwrap()),
        TokenQuery::access_token(token.access_token.clone().unwrap()),
        TokenQuery::refresh_token(token.refresh_token.clone().unwrap()),
        TokenQuery::grant_token(token.grant_token.clone().unwrap()),
    ] {
        let found = store.find_token(&exact).await.unwrap();
        assert_eq!(found.unwrap().id, Some(id), "{exact:?}");
    }
}

// ---- stale, late, too often

/// Defect 27: a token is handed out until 5 seconds before its end, and ends on its way.
#[tokio::test]
async fn a_token_that_ends_within_half_a_minute_is_not_handed_out() {
    let sandbox = sandbox().await;
    let auth = authenticator(&sandbox, ListStore::new());
    let old = logged_in(&sandbox, "ann", 20);
    auth.store().save_token(&old).await.unwrap();
    let access = auth.access_token(&user("ann")).await.unwrap();
    assert_ne!(Some(access.token()), old.access_token.as_ref());
    assert!(access.expires_at().unwrap() > in_seconds(3500));
    assert_eq!(refreshes(&sandbox), 1);
}

/// Defect 28: a silent server holds everybody up for ever. The clock of the test stands still and
/// jumps ahead whenever all tasks wait, so nobody waits.
#[tokio::test(start_paused = true)]
async fn a_silent_server_is_given_up_by_all_who_wait() {
    // The kernel accepts connections for a listener that nobody serves.
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let silent = DataCenter::builder("silent", url).build().unwrap();
    let auth = zoho_oauth::Authenticator::builder(ListStore::new())
        .client(OAuthClient::new("1000.CLIENT", "secret").unwrap())
        .data_center(silent)
        .build()
        .unwrap();
    let mut token = OAuthToken::new();
    token.user_name = Some(user("ann"));
    token.client_id = ClientId::new("1000.CLIENT").ok();
    token.refresh_token = RefreshToken::new("1000.refresh").ok();
    auth.store().save_token(&token).await.unwrap();
    let began = tokio::time::Instant::now();
    let ann = user("ann");
    let (one, other) = tokio::join!(auth.access_token(&ann), auth.access_token(&ann));
    for error in [one.unwrap_err(), other.unwrap_err()] {
        assert_eq!(error.code(), ErrorCode::Timeout, "{error}");
        assert!(error.is_transient());
    }
    // Three tries of half a minute, and the pauses between them.
    assert!(began.elapsed() < Duration::from_mins(2));
}
