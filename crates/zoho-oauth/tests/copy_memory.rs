//! A copy holds a page. A binary of its own, since it replaces the allocator, and counts what the
//! whole process allocates.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]

use std::alloc::System;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use futures_util::FutureExt;
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};
use zoho_oauth::store::CopyTokens;
use zoho_oauth::{OAuthToken, RefreshToken, Result, TokenId, TokenQuery, TokenStore, UserName};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// Many records that are nowhere: each is made when it is read. As a source it has all of them, as
/// a target those that were saved.
#[derive(Debug)]
struct Imagined {
    /// The highest id that is there.
    last: AtomicU64,
    /// The most memory that was in use when something was read or saved.
    most: AtomicUsize,
    region: Region<'static, System>,
}

impl Imagined {
    fn new(last: u64) -> Self {
        Self {
            last: AtomicU64::new(last),
            most: AtomicUsize::new(0),
            region: Region::new(ALLOCATOR),
        }
    }

    fn measure(&self) {
        let change = self.region.change();
        let used = change
            .bytes_allocated
            .saturating_sub(change.bytes_deallocated);
        self.most.fetch_max(used, Ordering::SeqCst);
    }

    fn record(number: u64) -> OAuthToken {
        let mut token = OAuthToken::new();
        token.id = TokenId::new(number).ok();
        token.user_name = UserName::new(format!("user{number}@example.com:1")).ok();
        token.refresh_token = RefreshToken::new(format!("{number:>1000}")).ok();
        token
    }
}

#[zoho_oauth::async_trait]
impl TokenStore for Imagined {
    async fn find_token(&self, _: &TokenQuery) -> Result<Option<OAuthToken>> {
        Ok(None)
    }

    async fn save_token(&self, token: &OAuthToken) -> Result<TokenId> {
        self.measure();
        let id = token.id.unwrap();
        assert_eq!(*token, Self::record(id.get()));
        let before = self.last.swap(id.get(), Ordering::SeqCst);
        assert!(before < id.get());
        Ok(id)
    }

    async fn delete_token(&self, _: TokenId) -> Result<bool> {
        unreachable!("a copy deletes nothing")
    }

    async fn get_tokens(&self) -> Result<Vec<OAuthToken>> {
        unreachable!("a copy reads pages")
    }

    async fn delete_tokens(&self) -> Result<usize> {
        unreachable!("a copy deletes nothing")
    }

    async fn find_token_by_id(&self, id: TokenId) -> Result<Option<OAuthToken>> {
        let is_there = id.get() <= self.last.load(Ordering::SeqCst);
        Ok(is_there.then(|| Self::record(id.get())))
    }

    async fn get_tokens_page(
        &self,
        after: Option<TokenId>,
        limit: usize,
    ) -> Result<Vec<OAuthToken>> {
        let first = after.map_or(1, |id| id.get() + 1);
        let last = self.last.load(Ordering::SeqCst);
        let page = (first..=last).take(limit).map(Self::record).collect();
        self.measure();
        Ok(page)
    }
}

#[test]
fn a_copy_holds_a_page_of_each_store_and_not_the_whole() {
    const RECORDS: u64 = 20_000;
    const PAGE: usize = 100;
    let (from, to) = (Imagined::new(RECORDS), Imagined::new(0));
    let copy = CopyTokens::new(&from, &to).page_size(PAGE).run();
    let report = copy.now_or_never().unwrap().unwrap();
    assert!(report.is_complete(), "{report}");
    assert_eq!((report.inserted, report.verified), (20_000, 20_000));

    let most = from
        .most
        .load(Ordering::SeqCst)
        .max(to.most.load(Ordering::SeqCst));
    // A record has more than 1 kB; a copy of what is being saved is on its way as well. Beside
    // them there is the number of each record.
    let allowed = 6 * PAGE * 1_300 + 2 * 20_000 * 8;
    assert!(most > PAGE * 1_000, "{most} bytes: nothing was measured");
    assert!(most < allowed, "{most} bytes, more than {allowed}");
}
