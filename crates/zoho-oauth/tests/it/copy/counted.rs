//! Records that a store holds and does not list, or cannot read: a copy is then not complete.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use async_trait::async_trait;
use zoho_oauth::store::copy::verify;
use zoho_oauth::store::{CopyTokens, Inventory, copy};
use zoho_oauth::{
    Error, ErrorCode, ListStore, OAuthToken, Result, TokenId, TokenQuery, TokenStore,
};

use super::{id, ids, save, texts, token};

/// A store of which some records are not listed, and some cannot be read.
#[derive(Debug, Default)]
struct Partial {
    inner: ListStore,
    hidden: Vec<u64>,
    damaged: Vec<u64>,
    cannot_count: bool,
    /// Records that somebody saves, one before each page is read.
    newcomers: Mutex<Vec<OAuthToken>>,
    /// Records that somebody deletes, one before each page is read.
    leavers: Mutex<Vec<TokenId>>,
    counts: AtomicUsize,
}

impl Partial {
    async fn of(records: &[&str]) -> Self {
        let store = Self::default();
        save(&store.inner, records).await;
        store
    }

    fn is_listed(&self, token: &OAuthToken) -> bool {
        let id = token.id.map(TokenId::get);
        let is_in = |ids: &[u64]| id.is_some_and(|id| ids.contains(&id));
        !is_in(&self.hidden) && !is_in(&self.damaged)
    }

    fn read(&self, token: Option<OAuthToken>) -> Result<Option<OAuthToken>> {
        match token.as_ref().and_then(|token| token.id) {
            Some(id) if self.damaged.contains(&id.get()) => Err(damaged(id.get())),
            _ => Ok(token),
        }
    }
}

fn damaged(id: u64) -> Error {
    let message = format!("record {id}: the field `expiry_time` cannot be read");
    Error::new(ErrorCode::StoreDamaged, message)
}

#[async_trait]
impl TokenStore for Partial {
    async fn find_token(&self, query: &TokenQuery) -> Result<Option<OAuthToken>> {
        self.read(self.inner.find_token(query).await?)
    }

    async fn save_token(&self, token: &OAuthToken) -> Result<TokenId> {
        if let Some(id) = token.id {
            self.find_token_by_id(id).await?;
        }
        self.inner.save_token(token).await
    }

    async fn delete_token(&self, id: TokenId) -> Result<bool> {
        self.inner.delete_token(id).await
    }

    async fn get_tokens(&self) -> Result<Vec<OAuthToken>> {
        let newcomer = self.newcomers.lock().unwrap().pop();
        if let Some(newcomer) = newcomer {
            self.inner.save_token(&newcomer).await?;
        }
        let leaver = self.leavers.lock().unwrap().pop();
        if let Some(leaver) = leaver {
            self.inner.delete_token(leaver).await?;
        }
        let all = self.inner.get_tokens().await?.into_iter();
        Ok(all.filter(|token| self.is_listed(token)).collect())
    }

    async fn delete_tokens(&self) -> Result<usize> {
        self.inner.delete_tokens().await
    }

    async fn find_token_by_id(&self, id: TokenId) -> Result<Option<OAuthToken>> {
        self.read(self.inner.find_token_by_id(id).await?)
    }

    async fn inventory(&self) -> Result<Option<Inventory>> {
        if self.cannot_count {
            return Ok(None);
        }
        self.counts.fetch_add(1, Ordering::SeqCst);
        let mut inventory = Inventory::of(0);
        for token in self.inner.get_tokens().await? {
            inventory.records += 1;
            if let Err(error) = self.read(Some(token)) {
                inventory.unreadable.push(error.message().to_owned());
            }
        }
        Ok(Some(inventory))
    }
}

const THREE: [&str; 3] = [
    "id=1 user=ann client=c refresh=r1",
    "id=2 user=bob client=c refresh=r2",
    "id=9 user=kim client=c refresh=r9",
];

/// A server that answers only a part (`sql_select_limit`, hidden rows, a lost index).
#[tokio::test]
async fn a_source_that_lists_a_part_is_not_copied_completely() {
    for hidden in [vec![9], vec![1], vec![1, 2, 9]] {
        let mut from = Partial::of(&THREE).await;
        from.hidden = hidden;
        let to = ListStore::new();
        let plan = CopyTokens::new(&from, &to).dry_run().run().await.unwrap();
        assert!(!plan.is_complete(), "{plan}");
        let report = copy(&from, &to).await.unwrap();
        assert!(!report.is_complete(), "{report}");
        assert!(report.is_confirmed());
        assert_eq!(report.source.records, Some(3));
        assert_eq!(report.source.unread, from.hidden.len());
        let listed = 3 - from.hidden.len();
        let said = format!("not complete: the source counts 3 records, and {listed} were read");
        assert!(report.to_string().contains(&said), "{report}");
        assert_eq!(report.verified, listed);
        let verified = verify(&from, &to).await.unwrap();
        assert!(!verified.is_complete());
        assert!(verified.to_string().contains(&said), "{verified}");
    }
}

#[tokio::test]
async fn a_part_is_compared_with_the_count_of_the_whole() {
    let mut from = Partial::of(&THREE).await;
    let to = ListStore::new();
    let after = CopyTokens::new(&from, &to).start_after(id(1));
    let report = after.bring_back_deleted().run().await.unwrap();
    assert!(report.is_complete(), "{report}");
    assert_eq!((report.read, report.source.read), (2, 3));
    from.hidden = vec![2];
    let after = CopyTokens::new(&from, &to).start_after(id(1));
    let report = after.bring_back_deleted().run().await.unwrap();
    assert!(!report.is_complete(), "{report}");
}

#[tokio::test]
async fn a_record_that_cannot_be_read_is_named_and_the_others_are_copied() {
    let mut from = Partial::of(&THREE).await;
    from.damaged = vec![2];
    let to = ListStore::new();
    let report = copy(&from, &to).await.unwrap();
    assert!(!report.is_complete());
    assert_eq!(report.source.unread, 0);
    let named = "1 damaged in the source: record 2: the field `expiry_time` cannot be read\n";
    assert!(report.to_string().contains(named), "{report}");
    assert_eq!(texts(&to).await, [THREE[0], THREE[2]]);
    assert!(!verify(&from, &to).await.unwrap().is_complete());
}

/// A record of the target that is damaged is neither overwritten nor inserted a second time.
#[tokio::test]
async fn a_record_that_is_damaged_in_the_target_is_refused_and_the_others_are_copied() {
    let from = ListStore::new();
    save(&from, &THREE).await;
    let mut to = Partial::of(&THREE[..2]).await;
    to.damaged = vec![2];
    let report = copy(&from, &to).await.unwrap();
    assert!(!report.is_complete());
    let refused: Vec<_> = report.refused.keys().copied().collect();
    assert_eq!(refused, ids(&[2]));
    assert_eq!(report.target.unreadable, [damaged(2).message()]);
    assert!(
        report
            .to_string()
            .contains("1 damaged in the target: record 2")
    );
    assert_eq!(texts(&to.inner).await, THREE);
    let verified = verify(&from, &to).await.unwrap();
    assert_eq!(verified.unreadable.len(), 1);
    assert!(!verified.is_complete());
}

/// A login that the target does not show would be inserted a second time.
#[tokio::test]
async fn a_target_that_lists_a_part_is_not_written() {
    let from = ListStore::new();
    save(&from, &["id=12 user=liu client=c refresh=r12"]).await;
    let mut to = Partial::of(&THREE).await;
    to.hidden = vec![1, 9];
    let error = copy(&from, &to).await.unwrap_err();
    assert_eq!(error.code(), ErrorCode::StoreDamaged);
    let said = "the target lists 1 records and counts 2 more";
    assert_eq!(error.message(), said);
    assert_eq!(texts(&to.inner).await, THREE);
}

#[tokio::test]
async fn a_source_that_grows_or_shrinks_meanwhile_is_no_failure() {
    for (come, leave) in [(1, 0), (2, 0), (5, 0), (0, 1), (1, 1), (2, 2)] {
        let from = Partial::of(&THREE).await;
        let newcomers = (0..come).map(|n| token(&format!("user=new{n} client=c refresh=n{n}")));
        *from.newcomers.lock().unwrap() = newcomers.collect();
        *from.leavers.lock().unwrap() = ids(&[1, 2][..leave]);
        let report = copy(&from, &ListStore::new()).await.unwrap();
        assert!(report.is_complete(), "{come}, {leave}: {report}");
        assert_eq!(report.source.unread, 0);
    }
}

/// As many come as are hidden: the numbers are equal for a moment.
#[tokio::test]
async fn a_record_that_comes_hides_none_that_is_not_read() {
    let mut from = Partial::of(&THREE).await;
    from.hidden = vec![2];
    // One before each page of both passes.
    let newcomers = (0..2).map(|n| token(&format!("user=new{n} client=c refresh=n{n}")));
    *from.newcomers.lock().unwrap() = newcomers.collect();
    let report = copy(&from, &ListStore::new()).await.unwrap();
    assert!(!report.is_complete(), "{report}");
    assert_eq!(report.source.unread, 1);
}

#[tokio::test]
async fn a_store_that_cannot_count_confirms_nothing_and_the_report_says_so() {
    let mut from = Partial::of(&THREE).await;
    let to = ListStore::new();
    let report = copy(&from, &to).await.unwrap();
    assert!(report.is_confirmed());
    assert!(!report.to_string().contains("second count"), "{report}");
    from.cannot_count = true;
    let report = copy(&from, &to).await.unwrap();
    assert!(report.is_complete(), "complete, by what the source lists");
    assert!(!report.is_confirmed());
    assert_eq!(report.source.records, None);
    let said = "the source has no second count: a record that it does not list is not noticed\n";
    assert!(report.to_string().ends_with(said), "{report}");
    let verified = verify(&from, &to).await.unwrap();
    assert!(verified.to_string().ends_with(said), "{verified}");
}

/// Counting costs a question before and one after, and no further reading.
#[tokio::test]
async fn a_quiet_store_is_counted_twice_and_read_no_more() {
    let from = Partial::of(&THREE).await;
    let report = copy(&from, &ListStore::new()).await.unwrap();
    assert!(report.is_complete());
    assert_eq!(from.counts.load(Ordering::SeqCst), 2);
}
