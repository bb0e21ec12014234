//! How much memory an authenticator needs for each user that it knows.
//!
//! Not a measurement of time: it counts bytes, which are the same in each run.

use std::alloc::System;
use std::error::Error;
use std::io::Write;
use std::time::Duration;

use futures_util::FutureExt;
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};
use zoho_oauth::{
    AccessToken, Authenticator, ClientId, ListStore, OAuthToken, RefreshPolicy, RefreshToken,
    Timestamp, TokenStore, UserName,
};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

const USERS: usize = 1_000_000;

/// Never reached: in memory nothing is waited for.
const WAITED: &str = "the store made a caller wait";

fn user(number: usize) -> Result<UserName, Box<dyn Error>> {
    Ok(UserName::new(format!(
        "user{number}@example.com:600000{number}"
    ))?)
}

fn main() -> Result<(), Box<dyn Error>> {
    let store = ListStore::new();
    for number in 0..USERS {
        let mut record = OAuthToken::new();
        record.user_name = Some(user(number)?);
        record.client_id = ClientId::new("1000.CLIENT").ok();
        record.access_token = AccessToken::new(format!("1000.{number:032x}.{number:032x}")).ok();
        record.refresh_token = RefreshToken::new(format!("1000.{number:033x}.{number:032x}")).ok();
        record.expiry_time = Some(Timestamp::now().after(Duration::from_hours(1)));
        record.api_domain = Some("https://www.zohoapis.com".to_owned());
        store.save_token(&record).now_or_never().ok_or(WAITED)??;
    }
    let policy = RefreshPolicy::new().with_max_cached(USERS);
    let auth = Authenticator::builder(store).policy(policy).build()?;
    let region = Region::new(ALLOCATOR);
    for number in 0..USERS {
        let name = user(number)?;
        auth.access_token(&name).now_or_never().ok_or(WAITED)??;
    }
    let change = region.change();
    let held = change.bytes_allocated - change.bytes_deallocated;
    let each = held / USERS;
    writeln!(
        std::io::stdout(),
        "authenticator/memory/{USERS}: {each} bytes per user"
    )?;
    Ok(())
}
