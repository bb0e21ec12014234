//! The hot path allocates nothing. A binary of its own, since it replaces the allocator.

use std::alloc::System;
use std::time::Duration;

use futures_util::FutureExt;
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};
use zoho_oauth::{
    AccessToken, Authenticator, ListStore, OAuthToken, RefreshToken, Timestamp, UserName,
};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

#[test]
fn a_token_in_memory_is_handed_out_without_an_allocation() {
    let auth = Authenticator::builder(ListStore::new()).build().unwrap();
    let name = UserName::new("ann@example.com:1").unwrap();
    let mut token = OAuthToken::new();
    token.user_name = Some(name.clone());
    token.access_token = AccessToken::new("1000.access").ok();
    token.refresh_token = RefreshToken::new("1000.refresh").ok();
    token.expiry_time = Some(Timestamp::now().after(Duration::from_hours(1)));
    let id = auth.store().save_token(&token).now_or_never().unwrap();
    let session = auth.session(id.unwrap()).now_or_never().unwrap().unwrap();
    // The first call may set up what belongs to the thread.
    auth.access_token(&name).now_or_never().unwrap().unwrap();

    let region = Region::new(ALLOCATOR);
    for _ in 0..1000 {
        session.access_token().now_or_never().unwrap().unwrap();
        auth.access_token(&name).now_or_never().unwrap().unwrap();
    }
    let change = region.change();
    assert_eq!(change.allocations, 0, "{change:?}");
    assert_eq!(change.reallocations, 0, "{change:?}");
}
