//! Ids that come again. Our stores never give one twice, but an official SDK on the same file does,
//! once the highest is deleted: then a record that somebody holds is another user's.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;
use tempfile::TempDir;
use tokio::sync::Notify;
use zoho_oauth::store::{Coordination, Inventory};
use zoho_oauth::{
    Authenticator, ErrorCode, FileStore, OAuthToken, Result, TokenId, TokenQuery, TokenStore,
};

use crate::support::{builder, expired, good, logged_in, no_memory, refreshes, sandbox, user};

/// A token file, and what it takes to write it as somebody who knows nothing of us.
struct Place {
    folder: TempDir,
}

impl Place {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        Self { folder }
    }

    async fn open(&self) -> FileStore {
        let path = self.folder.path().join(FileStore::DEFAULT_NAME);
        FileStore::open(path).await.unwrap()
    }

    /// Deletes what is in the file and saves `token` under the first id again.
    async fn start_over(&self, token: &OAuthToken) {
        // A new file of ours is a new file of theirs; put in its place from outside.
        let other = Self::new();
        let id = other.open().await.save_token(token).await.unwrap();
        assert_eq!(id.get(), 1);
        let from = other.folder.path().join(FileStore::DEFAULT_NAME);
        std::fs::copy(from, self.folder.path().join(FileStore::DEFAULT_NAME)).unwrap();
    }
}

#[tokio::test]
async fn a_name_is_not_given_to_another_clients_login() {
    let place = Place::new();
    let auth = Authenticator::builder(place.open().await).build().unwrap();
    let mut nameless = good("ann", "one");
    nameless.user_name = None;
    let id = auth.store().save_token(&nameless).await.unwrap();
    let session = auth.session(id).await.unwrap();
    let mut other = good("bob", "other");
    other.user_name = None;
    place.start_over(&other).await;
    let error = session.set_user_name(user("ann")).await.unwrap_err();
    assert_eq!(error.code(), ErrorCode::RecordDeleted);
    let stored = auth.store().find_token_by_id(id).await.unwrap().unwrap();
    assert_eq!(stored.user_name, None);
}

#[tokio::test]
async fn a_held_session_does_not_become_another_users() {
    let sandbox = sandbox().await;
    let place = Place::new();
    let auth = builder(&sandbox, place.open().await).policy(no_memory());
    let auth = auth.build().unwrap();
    let ann = logged_in(&sandbox, "ann", 3600);
    auth.store().save_token(&ann).await.unwrap();
    let held = auth.session(user("ann")).await.unwrap();
    let access = held.access_token().await.unwrap();

    let bob = logged_in(&sandbox, "bob", 3600);
    place.start_over(&bob).await;
    let id = held.id();
    let codes = [
        auth.access_token(&user("ann")).await.unwrap_err().code(),
        held.access_token().await.unwrap_err().code(),
        held.refused(access.token()).await.unwrap_err().code(),
        held.revoke().await.unwrap_err().code(),
    ];
    assert_eq!(codes[0], ErrorCode::LoginRequired);
    assert_eq!(codes[1..], [ErrorCode::RecordDeleted; 3]);

    // The new record is reached by its id and its user; the old session stays at its end.
    let new = auth.session(id).await.unwrap();
    assert_eq!(new.user_name(), Some(user("bob")));
    for access in [
        new.access_token().await.unwrap(),
        auth.access_token(&user("bob")).await.unwrap(),
    ] {
        assert_eq!(Some(access.token()), bob.access_token.as_ref());
    }
    let code = held.access_token().await.unwrap_err().code();
    assert_eq!(code, ErrorCode::RecordDeleted);
    // And it did not take the new one's place in memory with it.
    auth.access_token(&user("bob")).await.unwrap();
    assert_eq!(sandbox.requests().len(), 0);
    assert!(auth.revoke(id).await.unwrap());
    assert_eq!(sandbox.counts().revocations, 1);
}

/// Where no user has a name, the client is what is left to tell two logins apart.
#[tokio::test]
async fn a_held_session_does_not_become_another_clients() {
    let sandbox = sandbox().await;
    let place = Place::new();
    let auth = builder(&sandbox, place.open().await).policy(no_memory());
    let auth = auth.build().unwrap();
    let mut ours = logged_in(&sandbox, "ann", 3600);
    ours.user_name = None;
    let id = auth.store().save_token(&ours).await.unwrap();
    let held = auth.session(id).await.unwrap();
    held.access_token().await.unwrap();

    let mut theirs = good("ann", "another client");
    theirs.user_name = None;
    place.start_over(&theirs).await;
    let error = held.access_token().await.unwrap_err();
    assert_eq!(error.code(), ErrorCode::RecordDeleted);
    let new = auth.session(id).await.unwrap();
    let access = new.access_token().await.unwrap();
    assert_eq!(Some(access.token()), theirs.access_token.as_ref());
    let error = held.access_token().await.unwrap_err();
    assert_eq!(error.code(), ErrorCode::RecordDeleted);
}

#[tokio::test]
async fn a_refresh_under_way_does_not_write_into_another_users_record() {
    let sandbox = sandbox().await;
    let place = Place::new();
    let store = Arc::new(StopsBeforeSaving::new(place.open().await));
    let (id, _) = expired(&sandbox, &*store, "ann").await;
    let auth = builder(&sandbox, Arc::clone(&store)).build().unwrap();
    let session = auth.session(id).await.unwrap();

    store.stop.store(true, Ordering::SeqCst);
    let refreshing = tokio::spawn(async move { session.access_token().await });
    store.stopped.notified().await;
    assert_eq!(refreshes(&sandbox), 1);
    let mut bob = logged_in(&sandbox, "bob", 3600);
    place.start_over(&bob).await;
    store.go_on.notify_one();
    let error = refreshing.await.unwrap().unwrap_err();
    assert_eq!(error.code(), ErrorCode::RecordDeleted);
    bob.id = Some(id);
    assert_eq!(store.get_tokens().await.unwrap(), [bob]);
}

/// An official SDK deletes without a trace, so the file does not show that the id was ever given.
#[tokio::test]
async fn a_refresh_under_way_does_not_bring_a_deleted_record_back() {
    let sandbox = sandbox().await;
    let place = Place::new();
    let store = Arc::new(StopsBeforeSaving::new(place.open().await));
    let file = store.inner.path().to_owned();
    let empty = std::fs::read(&file).unwrap();
    let (id, _) = expired(&sandbox, &*store, "ann").await;
    // A process that did not give the id itself.
    let store = Arc::new(StopsBeforeSaving::new(place.open().await));
    let auth = builder(&sandbox, Arc::clone(&store)).build().unwrap();
    let session = auth.session(id).await.unwrap();

    store.stop.store(true, Ordering::SeqCst);
    let refreshing = tokio::spawn(async move { session.access_token().await });
    store.stopped.notified().await;
    std::fs::write(&file, &empty).unwrap();
    store.go_on.notify_one();
    let error = refreshing.await.unwrap().unwrap_err();
    assert_eq!(error.code(), ErrorCode::RecordDeleted);
    assert_eq!(std::fs::read(&file).unwrap(), empty);
}

/// A store that, when it is told to, stops before it saves until it may go on.
#[derive(Debug)]
struct StopsBeforeSaving {
    inner: FileStore,
    stop: AtomicBool,
    stopped: Notify,
    go_on: Notify,
}

impl StopsBeforeSaving {
    fn new(inner: FileStore) -> Self {
        Self {
            inner,
            stop: AtomicBool::new(false),
            stopped: Notify::new(),
            go_on: Notify::new(),
        }
    }
}

#[async_trait]
impl TokenStore for StopsBeforeSaving {
    async fn find_token(&self, query: &TokenQuery) -> Result<Option<OAuthToken>> {
        self.inner.find_token(query).await
    }

    async fn save_token(&self, token: &OAuthToken) -> Result<TokenId> {
        if self.stop.swap(false, Ordering::SeqCst) {
            self.stopped.notify_one();
            self.go_on.notified().await;
        }
        self.inner.save_token(token).await
    }

    async fn delete_token(&self, id: TokenId) -> Result<bool> {
        self.inner.delete_token(id).await
    }

    async fn get_tokens(&self) -> Result<Vec<OAuthToken>> {
        self.inner.get_tokens().await
    }

    async fn delete_tokens(&self) -> Result<usize> {
        self.inner.delete_tokens().await
    }

    async fn find_token_by_id(&self, id: TokenId) -> Result<Option<OAuthToken>> {
        self.inner.find_token_by_id(id).await
    }

    async fn inventory(&self) -> Result<Option<Inventory>> {
        self.inner.inventory().await
    }

    fn coordination(&self) -> Option<&dyn Coordination> {
        self.inner.coordination()
    }
}
