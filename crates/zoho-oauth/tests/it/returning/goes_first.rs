//! Which of several logins of one user stays, also when they come at the same moment.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;
use zoho_oauth::{
    Credential, DataCenter, DataCenters, Error, ErrorCode, ListStore, OAuthClient, OAuthToken,
    RefreshToken, Result, Session, TokenId, TokenQuery, TokenStore,
};
use zoho_sandbox::Sandbox;

use super::{FULL, PLAIN, grant, migrated, only, revoke, told, two_logins};
use crate::hooks::{HookStore, Step};
use crate::support::{
    authenticator, builder, center, client, expire, good, logged_in, refreshes, sandbox, user,
};

async fn by_name(store: &dyn TokenStore, name: &str) -> Option<OAuthToken> {
    let query = TokenQuery::user_name(user(name));
    store.find_token(&query).await.unwrap()
}

async fn works(session: &Session) {
    let access = session.access_token().await.unwrap();
    session.refused(access.token()).await.unwrap();
}

/// A record without a user and without a refresh token.
async fn access_only(sandbox: &Sandbox, store: &dyn TokenStore) -> TokenId {
    let mut record = logged_in(sandbox, PLAIN, 3000);
    record.user_name = None;
    record.refresh_token = None;
    record.client_secret = None;
    store.save_token(&record).await.unwrap()
}

#[tokio::test]
async fn a_name_that_is_learned_later_keeps_the_refresh_token_under_the_address() {
    // The user has no record under the full name; one without a refresh token; one with another.
    for stored in 0..3 {
        let sandbox = sandbox().await;
        let store = Arc::new(ListStore::new());
        let id = access_only(&sandbox, &store).await;
        let old = migrated(&sandbox, &store).await;
        let mut kept = old.refresh_token;
        if stored > 0 {
            let mut full = logged_in(&sandbox, FULL, 3000);
            full.refresh_token = full.refresh_token.filter(|_| stored == 2);
            kept = full.refresh_token.clone().or(kept);
            store.save_token(&full).await.unwrap();
        }
        let auth = authenticator(&sandbox, Arc::clone(&store));
        let mut events = auth.events();
        let session = auth.session(id).await.unwrap();
        let session = session.set_user_name(user(FULL)).await.unwrap();
        let record = only(&store).await;
        assert_eq!(record.id, Some(session.id()), "{stored}");
        assert_eq!(record.refresh_token, kept, "{stored}");
        assert_eq!(record.user_name, Some(user(FULL)), "{stored}");
        assert_eq!(told(&mut events, "LoginReplaced"), stored == 2);
        works(&session).await;
    }
}

#[tokio::test]
async fn a_given_data_center_is_not_the_one_of_another_stored_login() {
    // By an old refresh token; by a spent grant token.
    for is_grant in [false, true] {
        let (home, foreign) = (sandbox().await, sandbox().await);
        let store = Arc::new(ListStore::new());
        let mut stored = logged_in(&home, "ann", -60);
        stored.api_domain = None;
        stored.id = store.save_token(&stored).await.ok();
        let abroad = DataCenter::builder("eu", foreign.accounts_url())
            .api_domain(foreign.api_url())
            .build()
            .unwrap();
        let mut centers = DataCenters::known();
        centers.add(abroad.clone());
        let auth = builder(&home, Arc::clone(&store)).data_centers(centers);
        let auth = auth.build().unwrap();
        let given = OAuthClient::new(home.client_id(), foreign.client_secret()).unwrap();
        let session = if is_grant {
            let spent = zoho_oauth::GrantToken::new("1000.spent").unwrap();
            let credential = Credential::grant(given, spent).user_name(user("ann"));
            auth.session(credential.data_center(abroad)).await
        } else {
            let older = RefreshToken::new("1000.older").unwrap();
            let credential = Credential::refresh(given, older).user_name(user("ann"));
            auth.session(credential.data_center(abroad)).await
        };
        let session = session.unwrap();
        assert_eq!(Some(session.id()), stored.id);
        works(&session).await;
        assert_eq!(only(&store).await.refresh_token, stored.refresh_token);
        assert_eq!(refreshes(&foreign), 0);
    }
}

#[tokio::test]
async fn the_given_client_serves_a_stored_login_of_the_same_data_center() {
    let sandbox = sandbox().await;
    let store = Arc::new(ListStore::new());
    let (id, older) = two_logins(&sandbox, &store).await;
    let mut stored = store.find_token_by_id(id).await.unwrap().unwrap();
    store.delete_token(id).await.unwrap();
    (stored.id, stored.client_secret) = (None, None);
    store.save_token(&stored).await.unwrap();
    let auth = zoho_oauth::Authenticator::builder(Arc::clone(&store));
    let auth = auth.data_center(center(&sandbox)).build().unwrap();
    let credential = Credential::refresh(client(&sandbox), older).user_name(user("ann"));
    works(&auth.session(credential).await.unwrap()).await;
    assert_eq!(only(&store).await.refresh_token, stored.refresh_token);
}

#[tokio::test]
async fn an_older_refresh_token_gives_way_to_a_login_that_comes_while_it_is_used() {
    // Nothing is stored before, or a login that Zoho refuses. The new one comes before the last look
    // by name, or after it.
    for (is_stored, is_seen) in [(false, true), (true, true), (true, false)] {
        let sandbox = Arc::new(sandbox().await);
        let store = HookStore::new(ListStore::new());
        let (id, older) = two_logins(&sandbox, &*store).await;
        if is_stored {
            revoke(&sandbox, &only(&*store).await.refresh_token.unwrap()).await;
            expire(&*store, id).await;
        } else {
            store.delete_token(id).await.unwrap();
        }
        let newer = logged_in(&sandbox, "ann", 3000);
        let auth = authenticator(&sandbox, Arc::clone(&store));
        let mut events = auth.events();
        let is_done = Arc::new(AtomicBool::new(false));
        let (late, to, token) = (newer.clone(), Arc::clone(&store), older.clone());
        let (zoho, done) = (Arc::clone(&sandbox), Arc::clone(&is_done));
        store.at_each_step(move |step| {
            let has_asked = zoho.counts().refreshes_of(token.expose_secret()) > 0;
            let is_step = (step == Step::Find) == is_seen;
            let is_moment = has_asked && is_step && !done.swap(true, Ordering::SeqCst);
            let (late, to) = (late.clone(), Arc::clone(&to));
            async move {
                if is_moment {
                    to.inner.save_token(&late).await?;
                }
                Ok(())
            }
        });
        let credential = Credential::refresh(client(&sandbox), older);
        let session = auth.session(credential.user_name(user("ann")));
        let session = session.await.unwrap();
        assert!(is_done.load(Ordering::SeqCst));
        let stored = only(&*store).await;
        assert_eq!(stored.id, Some(session.id()));
        assert_eq!(stored.refresh_token, newer.refresh_token);
        assert!(told(&mut events, "StoredLoginUsed"));
        works(&session).await;
    }
}

#[tokio::test]
async fn a_nameless_record_gives_way_to_the_stored_login_of_the_user() {
    for (is_grant, is_alive) in [(false, true), (false, false), (true, true), (true, false)] {
        let sandbox = sandbox().await;
        let store = Arc::new(ListStore::new());
        let code = grant(&sandbox);
        let nameless = authenticator(&sandbox, Arc::clone(&store));
        let older = nameless.session(code.clone()).await.unwrap();
        let old = only(&store).await;
        let newer = logged_in(&sandbox, "ann", 3000);
        let id = store.save_token(&newer).await.unwrap();
        let newer = newer.refresh_token.unwrap();
        if !is_alive {
            revoke(&sandbox, &newer).await;
            expire(&store, id).await;
        }
        let auth = authenticator(&sandbox, Arc::clone(&store));
        let mut events = auth.events();
        let session = if is_grant {
            auth.session(code.user_name(user("ann"))).await.unwrap()
        } else {
            let token = old.refresh_token.clone().unwrap();
            let credential = Credential::refresh(client(&sandbox), token);
            auth.session(credential.user_name(user("ann")))
                .await
                .unwrap()
        };
        assert_eq!(session.id(), id);
        let stored = by_name(&store, "ann").await.unwrap();
        let kept = if is_alive {
            Some(newer)
        } else {
            old.refresh_token
        };
        assert_eq!(stored.refresh_token, kept, "{is_grant} {is_alive}");
        assert_eq!(told(&mut events, "StoredLoginUsed"), is_alive);
        let left = store.find_token_by_id(older.id()).await.unwrap();
        assert_eq!(left.is_some(), is_alive);
        works(&session).await;
    }
}

#[tokio::test]
async fn a_login_under_the_address_that_comes_at_the_last_moment_stays() {
    let sandbox = sandbox().await;
    let store = HookStore::new(ListStore::new());
    let old = migrated(&sandbox, &*store).await;
    let newer = logged_in(&sandbox, PLAIN, 3000);
    let (late, to) = (newer.clone(), Arc::clone(&store));
    store.once_at(Step::Saved, move || async move {
        to.inner.save_token(&late).await.map(drop)
    });
    let auth = authenticator(&sandbox, Arc::clone(&store));
    auth.session(grant(&sandbox).user_name(user(FULL)))
        .await
        .unwrap();
    let plain = by_name(&*store, PLAIN).await.unwrap();
    assert_eq!(plain.id, old.id);
    assert_eq!(plain.refresh_token, newer.refresh_token);
    // The next login finds it.
    let mut events = auth.events();
    auth.session(grant(&sandbox).user_name(user(FULL)))
        .await
        .unwrap();
    only(&*store).await;
    assert!(told(&mut events, "Deleted"));
}

#[tokio::test]
async fn the_end_of_another_login_under_the_address_is_told() {
    for is_same in [false, true] {
        let sandbox = sandbox().await;
        let store = Arc::new(ListStore::new());
        let old = migrated(&sandbox, &store).await;
        let auth = authenticator(&sandbox, Arc::clone(&store));
        let mut events = auth.events();
        if is_same {
            let credential = Credential::refresh(client(&sandbox), old.refresh_token.unwrap());
            let login = credential.user_name(user(FULL));
            auth.session(login).await.unwrap();
        } else {
            let login = grant(&sandbox).user_name(user(FULL));
            auth.session(login).await.unwrap();
        }
        only(&store).await;
        assert_eq!(told(&mut events, "LoginReplaced"), !is_same);
    }
}

/// A store that is listed page by page, or not at all, and that may give the wrong id for a save.
#[derive(Debug, Default)]
struct Odd {
    inner: ListStore,
    cannot_list: bool,
    wrong: std::sync::Mutex<Option<TokenId>>,
}

#[async_trait]
impl TokenStore for Odd {
    async fn find_token(&self, query: &TokenQuery) -> Result<Option<OAuthToken>> {
        self.inner.find_token(query).await
    }

    async fn save_token(&self, token: &OAuthToken) -> Result<TokenId> {
        let id = self.inner.save_token(token).await?;
        Ok(self.wrong.lock().unwrap().unwrap_or(id))
    }

    async fn delete_token(&self, id: TokenId) -> Result<bool> {
        self.inner.delete_token(id).await
    }

    async fn get_tokens(&self) -> Result<Vec<OAuthToken>> {
        Err(Error::new(ErrorCode::StoreUnavailable, "too many records"))
    }

    async fn delete_tokens(&self) -> Result<usize> {
        self.inner.delete_tokens().await
    }

    async fn find_token_by_id(&self, id: TokenId) -> Result<Option<OAuthToken>> {
        self.inner.find_token_by_id(id).await
    }

    async fn get_tokens_page(
        &self,
        after: Option<TokenId>,
        limit: usize,
    ) -> Result<Vec<OAuthToken>> {
        if self.cannot_list || limit > 1000 {
            return self.get_tokens().await;
        }
        self.inner.get_tokens_page(after, limit).await
    }
}

#[tokio::test]
async fn the_records_of_an_address_are_listed_page_by_page() {
    // No other organisation; one on the last page; a list that fails.
    for other in 0..3 {
        let sandbox = sandbox().await;
        let store = Arc::new(Odd {
            cannot_list: other == 2,
            ..Odd::default()
        });
        let old = migrated(&sandbox, &store.inner).await;
        for number in 0..1100 {
            let row = good(&format!("u{number}"), "c");
            store.inner.save_token(&row).await.unwrap();
        }
        if other == 1 {
            let organisation = logged_in(&sandbox, "ann@example.com:70002", 3000);
            store.inner.save_token(&organisation).await.unwrap();
        }
        let auth = authenticator(&sandbox, Arc::clone(&store));
        let session = auth.session(grant(&sandbox).user_name(user(FULL))).await;
        works(&session.unwrap()).await;
        let kept = store.find_token_by_id(old.id.unwrap()).await.unwrap();
        assert_eq!(kept.is_some(), other > 0, "{other}");
    }
}

#[tokio::test]
async fn a_nameless_login_does_not_become_the_record_whose_id_the_store_gives() {
    let sandbox = sandbox().await;
    let store = Arc::new(Odd::default());
    // Of another client; of the same.
    for is_own in [false, true] {
        let mut bob = good("bob", "c");
        if is_own {
            bob.client_id = zoho_oauth::ClientId::new(sandbox.client_id()).ok();
        }
        let id = store.inner.save_token(&bob).await.unwrap();
        *store.wrong.lock().unwrap() = Some(id);
        let auth = authenticator(&sandbox, Arc::clone(&store));
        let error = auth.session(grant(&sandbox)).await.unwrap_err();
        assert_eq!(error.code(), ErrorCode::TokenNotSaved);
        let unsaved = error.unsaved_token().unwrap();
        assert!(unsaved.refresh_token.is_some());
        assert_ne!(unsaved.access_token, bob.access_token);
    }
}
