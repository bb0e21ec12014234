//! Our stores and Zoho's official Python SDK on one file, one database and one table on a server, in
//! turns and at once.
//!
//! The SDK is unmodified and talks to the sandbox.
//!
//! Both sides' records are compared as [`OAuthToken`]s, so a failure prints no secret.

mod file;
mod mysql;
mod sqlite;

use std::path::PathBuf;
use std::sync::Arc;

use tempfile::TempDir;
use tokio::sync::OnceCell;
use zoho_oauth::{
    AccessToken, ClientId, ClientSecret, ErrorCode, FileStore, GrantToken, OAuthToken,
    RefreshToken, SqliteStore, Timestamp, TokenId, TokenStore,
};
use zoho_sandbox::Sandbox;

use crate::mysql_store::TestDatabase;
use crate::official_sdk::{Language, NextId, OfficialSdk};
use crate::support::{
    builder, expire, in_seconds, logged_in, no_memory, refreshes, sandbox, user, with_field,
};

/// What the SDK needs to read leads: it looks up the fields of the modules, and who the user is.
const SCOPES: &str = "ZohoCRM.modules.ALL,ZohoCRM.settings.ALL,ZohoCRM.users.READ,ZohoCRM.org.READ";
/// With a comma, so that a line of the file needs quotes.
const REDIRECT: &str = "https://app.example.com/callback?from=zoho,crm";

/// A store that both sides open.
pub(crate) struct Place {
    folder: TempDir,
    kind: Kind,
    /// Made when it is opened for the first time.
    database: OnceCell<TestDatabase>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    File,
    Sqlite,
    MySql,
}

impl Place {
    pub(crate) fn new(kind: Kind) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let database = OnceCell::new();
        Self {
            folder,
            kind,
            database,
        }
    }

    pub(crate) fn path(&self) -> PathBuf {
        self.folder.path().join(match self.kind {
            Kind::File => FileStore::DEFAULT_NAME,
            Kind::Sqlite => SqliteStore::DEFAULT_FILE_NAME,
            Kind::MySql => unreachable!("a database on a server has no path"),
        })
    }

    /// With the table of the official documentation.
    async fn database(&self) -> &TestDatabase {
        self.database.get_or_init(TestDatabase::official).await
    }

    pub(crate) async fn open(&self) -> Arc<dyn TokenStore> {
        match self.kind {
            Kind::File => Arc::new(FileStore::open(self.path()).await.unwrap()),
            Kind::Sqlite => Arc::new(SqliteStore::open(self.path()).unwrap()),
            Kind::MySql => Arc::new(self.database().await.open().await),
        }
    }

    pub(crate) async fn open_by(&self, sdk: &mut OfficialSdk) {
        match self.kind {
            Kind::File => sdk.open_file(&self.path()).await,
            Kind::Sqlite => sdk.open_sqlite(&self.path(), NextId::Number).await,
            Kind::MySql => sdk.open_mysql(self.database().await).await,
        }
    }
}

pub(crate) fn id(number: u64) -> TokenId {
    TokenId::new(number).unwrap()
}

fn by_id(id: TokenId) -> OAuthToken {
    let mut token = OAuthToken::new();
    token.id = Some(id);
    token
}

/// Also with a name that no application can give and a store may hold.
pub(crate) fn by_user(name: &str) -> OAuthToken {
    with_field(&OAuthToken::new(), "user_name", name)
}

/// A record that no server knows.
pub(crate) fn invented(name: &str) -> OAuthToken {
    let mut token = by_user(name);
    for (field, kind) in [
        ("refresh_token", 'r'),
        ("access_token", 'a'),
        ("grant_token", 'g'),
    ] {
        token = with_field(&token, field, &format!("1000.{kind}.{name}"));
    }
    token.client_id = ClientId::new("1000.CLIENT").ok();
    token.client_secret = ClientSecret::new("secret").ok();
    token.expiry_time = Some(Timestamp::from_millis(1_795_372_876_984));
    token.redirect_url = Some(REDIRECT.into());
    token.api_domain = Some("https://www.zohoapis.eu".into());
    token
}

pub(crate) fn with_id(number: u64, mut token: OAuthToken) -> OAuthToken {
    token.id = Some(id(number));
    token
}

/// How many codes were exchanged, tokens refreshed and API calls refused.
fn counted(sandbox: &Sandbox) -> (u64, u64, u64) {
    let counts = sandbox.counts();
    assert_eq!(counts.code_exchanges_failed, 0);
    let exchanges = counts.code_exchanges_ok;
    (exchanges, refreshes(sandbox), counts.api_unauthorized)
}

/// Ends every access token at Zoho, and that of the record by its stored time.
async fn expire_everywhere(sandbox: &Sandbox, store: &dyn TokenStore, id: TokenId) {
    sandbox.expire_access_tokens();
    expire(store, id).await;
}

/// The SDK logs in; we read its record, refresh it and save; the SDK goes on with it; then the
/// other way round. One login, and one refresh whenever the access token has ended.
pub(crate) async fn one_login_in_turns(language: Language, kind: Kind) {
    let redirect = match language {
        Language::Python => REDIRECT,
        // It writes no quotes, so that a comma would shift its columns.
        Language::Node => "https://app.example.com/callback",
    };
    let sandbox = Sandbox::builder().no_limits().redirect_uri(redirect);
    let sandbox = sandbox.start().await.unwrap();
    let Some(mut sdk) = OfficialSdk::start(language, &sandbox) else {
        return;
    };
    let place = Place::new(kind);
    place.open_by(&mut sdk).await;

    let email = &sandbox.people()[0];
    let mut login = OAuthToken::new();
    login.client_id = ClientId::new(sandbox.client_id()).ok();
    login.client_secret = ClientSecret::new(sandbox.client_secret()).ok();
    login.grant_token = GrantToken::new(sandbox.grant_code(email, SCOPES)).ok();
    login.redirect_url = Some(redirect.into());
    sdk.initialize(&login).await;
    assert_eq!(sdk.leads().await, 5);
    assert_eq!(counted(&sandbox), (1, 0, 0));

    // We read every field of what it wrote.
    let store = place.open().await;
    let stored = store.get_tokens().await.unwrap();
    assert_eq!(stored, sdk.tokens().await);
    let [first] = &stored[..] else {
        panic!("{} records of one login", stored.len());
    };
    assert_eq!(first.id, Some(id(1)));
    let name = first.user_name.clone().unwrap();
    let (address, organisation) = name.as_str().split_once(':').unwrap();
    assert_eq!(address, email);
    assert!(!organisation.is_empty());
    assert_eq!(first.client_id, login.client_id);
    assert_eq!(first.client_secret, login.client_secret);
    assert_eq!(first.grant_token, login.grant_token);
    assert_eq!(first.redirect_url, login.redirect_url);
    assert_eq!(first.api_domain.as_deref(), Some(sandbox.api_url()));
    assert!(first.refresh_token.is_some() && first.access_token.is_some());
    let expiry = first.expiry_time.unwrap();
    assert!(in_seconds(3000) < expiry && expiry <= in_seconds(3600));

    // We start from it without a word to Zoho.
    let before = sandbox.requests().len();
    let auth = builder(&sandbox, Arc::clone(&store)).policy(no_memory());
    let auth = auth.build().unwrap();
    let session = auth.session(name.clone()).await.unwrap();
    assert_eq!(session.id(), id(1));
    assert_eq!(auth.session(id(1)).await.unwrap().user_name(), Some(name));
    let access = session.access_token().await.unwrap();
    assert_eq!(Some(access.token()), first.access_token.as_ref());
    assert_eq!(access.expires_at(), first.expiry_time);
    assert_eq!(sandbox.requests().len(), before);

    // When it has ended, we refresh it and save. The SDK, started anew, uses what we saved.
    expire_everywhere(&sandbox, &*store, id(1)).await;
    let access = session.access_token().await.unwrap();
    assert_ne!(Some(access.token()), first.access_token.as_ref());
    assert_eq!(counted(&sandbox), (1, 1, 0));
    let mut expected = first.clone();
    expected.access_token = Some(access.token().clone());
    expected.expiry_time = access.expires_at();
    let partial = by_user(first.user_name.as_ref().unwrap().as_str());
    assert_eq!(sdk.find(&partial).await.as_ref(), Some(&expected));
    for start in [&partial, &by_id(id(1))] {
        sdk.initialize(start).await;
        assert_eq!(sdk.leads().await, 5);
    }
    assert_eq!(counted(&sandbox), (1, 1, 0));
    assert_eq!(sdk.tokens().await, [expected.clone()]);

    // When it has ended again, the SDK refreshes it and saves, and we use that.
    for (refreshed, start) in [(2, &partial), (3, &by_id(id(1)))] {
        expire_everywhere(&sandbox, &*store, id(1)).await;
        sdk.initialize(start).await;
        assert_eq!(sdk.leads().await, 5);
        let access = session.access_token().await.unwrap();
        assert_ne!(Some(access.token()), expected.access_token.as_ref());
        expected.access_token = Some(access.token().clone());
        expected.expiry_time = access.expires_at();
        assert!(access.expires_at().unwrap() > in_seconds(3000));
        assert_eq!(counted(&sandbox), (1, refreshed, 0));
        assert_eq!(store.get_tokens().await.unwrap(), [expected.clone()]);
        assert_eq!(sdk.tokens().await, [expected.clone()]);
    }
    let refresh_token = expected.refresh_token.unwrap();
    let refreshed = sandbox.counts().refreshes_of(refresh_token.expose_secret());
    assert_eq!(refreshed, 3);
}

/// User names that are hard to write down, ten of them.
const NAMES: [&str; 10] = [
    "ann@example.com:1",
    "Quill, Ada",
    "\"Bob\"",
    "a \"b\", c",
    " space at both ends ",
    "zoë@example.com",
    "it's; DROP TABLE oauthtoken --",
    "100% _under",
    "back\\slash",
    "x@example.com:600123",
];

/// We write a store alone. The SDK finds in it what it should, uses it, and changes it.
async fn a_store_that_we_wrote(kind: Kind) {
    let sandbox = sandbox().await;
    let Some(mut python) = OfficialSdk::start(Language::Python, &sandbox) else {
        return;
    };
    let place = Place::new(kind);
    let store = place.open().await;
    for (number, name) in (1..).zip(NAMES) {
        let saved = store.save_token(&invented(name)).await.unwrap();
        assert_eq!(saved, id(number));
    }
    // Past ten: one with an end to come, one whose end has come, and one of whom little is known.
    let good = logged_in_for(&sandbox, "good", 3600);
    let ended = logged_in_for(&sandbox, "ended", -60);
    let mut sparse = OAuthToken::new();
    sparse.access_token = AccessToken::new("1000.sparse").ok();
    for token in [&good, &ended, &sparse] {
        store.save_token(token).await.unwrap();
    }
    assert!(store.delete_token(id(3)).await.unwrap());

    place.open_by(&mut python).await;
    let stored = store.get_tokens().await.unwrap();
    assert_eq!(stored.len(), 12);
    assert_eq!(python.tokens().await, stored);
    for token in &stored {
        let found = python.find_by_id(token.id.unwrap()).await.unwrap();
        assert_eq!(&found, token);
    }
    for name in NAMES.iter().filter(|name| **name != NAMES[2]) {
        let found = python.find(&by_user(name)).await.unwrap();
        assert_eq!(found.user_name, by_user(name).user_name);
        assert!(stored.contains(&found), "{name}");
    }
    let gone = python.find_by_id(id(3)).await.unwrap_err();
    assert!(gone.contains("TOKEN_STORE"), "{gone}");
    assert_eq!(python.find(&by_user(NAMES[2])).await, None);
    // By the other criteria of the SDK.
    let mut partial = OAuthToken::new();
    partial.access_token.clone_from(&sparse.access_token);
    assert_eq!(python.find(&partial).await.unwrap(), with_id(13, sparse));
    let mut partial = invented("nobody");
    (partial.user_name, partial.access_token) = (None, None);
    partial.grant_token = invented(NAMES[1]).grant_token;
    partial.refresh_token = None;
    assert_eq!(python.find(&partial).await.unwrap().id, Some(id(2)));
    partial.refresh_token = invented(NAMES[9]).refresh_token;
    partial.grant_token = None;
    assert_eq!(python.find(&partial).await.unwrap().id, Some(id(10)));

    // It calls the API with a token of ours that is good, and refreshes one that has ended.
    python.initialize(&by_user("good")).await;
    assert_eq!(python.leads().await, 5);
    assert_eq!(counted(&sandbox), (0, 0, 0));
    assert_eq!(store.get_tokens().await.unwrap(), stored);
    python.initialize(&by_user("ended")).await;
    assert_eq!(python.leads().await, 5);
    assert_eq!(counted(&sandbox), (0, 1, 0));
    let mut expected = stored;
    let renewed = store.find_token_by_id(id(12)).await.unwrap().unwrap();
    assert_ne!(renewed.access_token, ended.access_token);
    assert!(renewed.expiry_time.unwrap() > in_seconds(3000));
    let row = expected.iter_mut().find(|row| row.id == Some(id(12)));
    let row = row.unwrap();
    row.access_token.clone_from(&renewed.access_token);
    row.expiry_time = renewed.expiry_time;
    assert_eq!(store.get_tokens().await.unwrap(), expected);

    // Each side adds users and changes one of the other side.
    assert_eq!(python.save(&invented("p, 14")).await, id(14));
    let ours = store.save_token(&invented("o, 15")).await.unwrap();
    assert_eq!(ours, id(15));
    assert_eq!(python.save(&invented("p, 16")).await, id(16));
    let mut by_us = invented("p, 14");
    by_us.access_token = AccessToken::new("1000.by.us").ok();
    assert_eq!(store.save_token(&by_us).await.unwrap(), id(14));
    let mut by_python = invented("o, 15");
    by_python.access_token = AccessToken::new("1000.by.python").ok();
    assert_eq!(python.save(&by_python).await, id(15));
    expected.push(with_id(14, by_us));
    expected.push(with_id(15, by_python));
    expected.push(with_id(16, invented("p, 16")));
    assert_eq!(store.get_tokens().await.unwrap(), expected);
    assert_eq!(python.tokens().await, expected);
}

/// Like [`logged_in`], with the scopes that the SDK needs.
fn logged_in_for(sandbox: &Sandbox, name: &str, expires_in_seconds: i64) -> OAuthToken {
    let (refresh, access) = sandbox.login(&sandbox.people()[0], SCOPES);
    let mut token = logged_in(sandbox, name, expires_in_seconds);
    token.refresh_token = RefreshToken::new(refresh).ok();
    token.access_token = AccessToken::new(access).ok();
    token
}

/// The SDK gives the id of a deleted record again, to another user. Whoever held the old record
/// must not get the new user's token.
async fn an_id_given_again(kind: Kind) {
    let sandbox = sandbox().await;
    let Some(mut python) = OfficialSdk::start(Language::Python, &sandbox) else {
        return;
    };
    let place = Place::new(kind);
    place.open_by(&mut python).await;
    let store = place.open().await;
    let auth = builder(&sandbox, Arc::clone(&store)).policy(no_memory());
    let auth = auth.build().unwrap();

    let ann = logged_in(&sandbox, "ann", 3600);
    assert_eq!(python.save(&ann).await, id(1));
    let held = auth.session(user("ann")).await.unwrap();
    let access = held.access_token().await.unwrap();
    assert_eq!(Some(access.token()), ann.access_token.as_ref());

    python.delete(id(1)).await;
    let bob = logged_in(&sandbox, "bob", 3600);
    assert_eq!(python.save(&bob).await, id(1));
    let asked = auth.access_token(&user("ann")).await;
    assert_eq!(asked.unwrap_err().code(), ErrorCode::LoginRequired);
    let asked = held.access_token().await;
    assert_eq!(asked.unwrap_err().code(), ErrorCode::RecordDeleted);
    // Nor must the old session end the new user's login.
    let asked = held.revoke().await;
    assert_eq!(asked.unwrap_err().code(), ErrorCode::RecordDeleted);
    let access = auth.access_token(&user("bob")).await.unwrap();
    assert_eq!(Some(access.token()), bob.access_token.as_ref());
    let asked = held.access_token().await;
    assert_eq!(asked.unwrap_err().code(), ErrorCode::RecordDeleted);
    let again = auth.session(id(1)).await.unwrap();
    assert_eq!(again.user_name(), Some(user("bob")));
    assert_eq!(store.get_tokens().await.unwrap(), [with_id(1, bob)]);
    assert_eq!(sandbox.requests().len(), 0);
}
