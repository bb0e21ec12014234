//! The life of tokens over a store, whichever it is.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use zoho_oauth::store::CoordinationKey;
use zoho_oauth::{
    Authenticator, Callback, Credential, DataCenters, Event, GrantToken, LoginRequest, OAuthToken,
    RefreshPolicy, RefreshToken, Session, TokenQuery, TokenStore,
};
use zoho_sandbox::{Endpoint, Fault, Sandbox};

use super::net::Net;
use crate::support::{
    FlakyStore, SCOPES, builder, center, client, expire, logged_in, no_memory, sandbox, user,
    with_field,
};

/// Login, use, trouble, and end.
pub(super) async fn life(net: &Net, store: Arc<dyn TokenStore>) {
    net.print(&store);
    in_trouble(net, Arc::clone(&store)).await;
    overheard(net, store).await;
}

/// Everything fails once: Zoho, and the store.
async fn in_trouble(net: &Net, store: Arc<dyn TokenStore>) {
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

/// With nothing between authenticator and store, and somebody who listens to both.
async fn overheard(net: &Net, store: Arc<dyn TokenStore>) {
    let sandbox = sandbox().await;
    net.secret(sandbox.client_secret());
    let auth = builder(&sandbox, Arc::clone(&store));
    let auth = auth.policy(no_memory()).build().unwrap();
    let mut events = auth.events();
    let mut changes = store.changes();
    let session = log_in(net, &sandbox, &auth).await;
    remember(net, &store).await;
    expire(&store, session.id()).await;
    net.outcome(&session.access_token().await);
    remember(net, &store).await;
    // Another process makes the login anew, and its refresh token is dead by then.
    let mut dead = logged_in(&sandbox, "ann@example.com:1", -60);
    dead.refresh_token = RefreshToken::new("1000.0bituary0bituary.0bituary0bituary").ok();
    net.record(&dead);
    let id = store.save_token(&dead).await;
    net.outcome(&id);
    let dead = auth.session(id.unwrap()).await.unwrap();
    net.outcome(&dead.access_token().await);
    if let Some(coordination) = store.coordination() {
        let key = CoordinationKey::record(dead.id());
        let permit = coordination.try_acquire(&key).await;
        net.print((coordination, &permit));
        let permit = permit.unwrap().unwrap();
        let memo = permit.memo().await;
        assert!(memo.as_ref().is_ok_and(|memo| !memo.is_empty()));
        net.outcome(&memo);
        net.outcome(&permit.release(None).await);
    }
    net.outcome(&session.revoke().await);
    net.outcome(&store.delete_tokens().await);

    let mut heard = 0;
    while let Ok(event) = events.try_recv() {
        heard += 1;
        net.print(&event);
        if let Event::RefreshFailed { error, .. } | Event::LoginRequired { error, .. } = &event {
            net.error(error);
        }
    }
    assert!(heard > 2, "{heard} events");
    if let Some(changes) = &mut changes {
        let change = changes.recv().await.unwrap();
        net.print(change);
        while let Ok(change) = changes.try_recv() {
            net.print(change);
        }
    }
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
    let wrong = with_field(token, "refresh_token", "1000.nul.in\0side");
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
