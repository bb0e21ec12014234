//! Copies while the application goes on using the source, the target, or both.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use zoho_oauth::store::copy::verify;
use zoho_oauth::store::{CopyTokens, copy};
use zoho_oauth::{ListStore, TokenStore};

use super::{id, ids, list, save, texts};
use crate::hooks::{HookStore, Step};

async fn source() -> Arc<ListStore> {
    list(&[
        "user=ann client=c refresh=r1 access=a1 expiry=100",
        "user=bob client=c refresh=r2 access=a2 expiry=100",
        "user=kim client=c refresh=r3 access=a3 expiry=100",
    ])
    .await
}

/// A target during whose first save `change` is saved in, or deleted from, `store`.
fn meanwhile(
    store: &Arc<ListStore>,
    saves: &'static [&'static str],
    deletes: &'static [u64],
) -> Arc<HookStore<Arc<ListStore>>> {
    let to = HookStore::new(Arc::new(ListStore::new()));
    let store = Arc::clone(store);
    to.once_at(Step::Saved, move || async move {
        save(&store, saves).await;
        for number in deletes {
            assert!(store.delete_token(id(*number)).await?);
        }
        Ok(())
    });
    to
}

#[tokio::test]
async fn what_changes_in_the_source_meanwhile_is_copied_again() {
    let from = source().await;
    let changes = &[
        // A refresh of what was copied already, a new login of the last, and another user.
        "id=1 access=new1 expiry=200",
        "user=kim client=c refresh=new3 access=new3 expiry=201",
        "user=new client=c refresh=r4 access=a4 expiry=202",
    ];
    let to = meanwhile(&from, changes, &[]);
    // All are read before the first is written.
    let report = CopyTokens::new(&from, &*to).page_size(3).run().await;
    let report = report.unwrap();
    assert!(report.is_complete(), "{report}");
    assert_eq!(Vec::from_iter(report.copied_again.clone()), ids(&[1, 3]));
    assert_eq!((report.read, report.inserted, report.verified), (4, 4, 4));
    assert_eq!(texts(&from).await, texts(&to.inner).await);
}

#[tokio::test]
async fn what_is_deleted_in_the_source_meanwhile_is_told() {
    let from = source().await;
    let to = meanwhile(&from, &[], &[1, 3]);
    let report = CopyTokens::new(&from, &*to).page_size(1).run().await;
    let report = report.unwrap();
    assert!(report.is_complete());
    assert_eq!(Vec::from_iter(report.gone.clone()), ids(&[1]));
    assert_eq!((report.inserted, report.verified), (2, 1));
    assert_eq!(texts(&to.inner).await.len(), 2, "nothing is deleted there");

    let from = source().await;
    let to = meanwhile(&from, &[], &[1, 3]);
    let report = CopyTokens::new(&from, &*to).page_size(3).run().await;
    assert_eq!(Vec::from_iter(report.unwrap().gone), ids(&[1, 3]));
}

#[tokio::test]
async fn a_login_that_the_target_gets_meanwhile_is_not_harmed() {
    let from = source().await;
    let inner = Arc::new(ListStore::new());
    let to = HookStore::new(Arc::clone(&inner));
    to.once_at(Step::Saved, move || async move {
        save(&inner, &["user=eve client=c refresh=r9 access=a9 expiry=1"]).await;
        Ok(())
    });
    let report = copy(&from, &*to).await.unwrap();
    assert!(report.is_complete(), "{report}");
    let renumbered = report.renumbered.into_iter().collect::<Vec<_>>();
    assert_eq!(renumbered, [(id(2), Some(id(3))), (id(3), Some(id(4)))]);
    let all = texts(&to.inner).await;
    assert_eq!(all.len(), 4);
    assert_eq!(
        all[1],
        "id=2 user=eve client=c refresh=r9 access=a9 expiry=1"
    );
    assert_eq!(verify(&from, &to.inner).await.unwrap().equal, 3);
}

#[tokio::test]
async fn what_was_different_for_a_moment_is_not_told_at_the_end() {
    let from = source().await;
    let to = HookStore::new(Arc::new(ListStore::new()));
    let target = Arc::clone(&to.inner);
    let (saves, saved) = (AtomicUsize::new(0), AtomicUsize::new(0));
    // What the target's application does to a record after it is saved is gone again after it was
    // read back.
    to.at_each_step(move |step| {
        let change = match step {
            Step::Saved => {
                let number = saves.fetch_add(1, Ordering::SeqCst) + 1;
                saved.store(number, Ordering::SeqCst);
                ["id=1 access=other", "id=2 access=newer expiry=200"].get(number - 1)
            }
            Step::FoundById => {
                let number = saved.swap(0, Ordering::SeqCst);
                ["", "id=1 access=a1", "id=2 access=a2 expiry=100"].get(number)
            }
            _ => None,
        };
        let change = change.copied().filter(|change| !change.is_empty());
        let target = Arc::clone(&target);
        async move {
            if let Some(change) = change {
                save(&*target, &[change]).await;
            }
            Ok(())
        }
    });
    let report = CopyTokens::new(&from, &*to).page_size(1).run().await;
    let report = report.unwrap();
    assert!(
        report.is_complete() && report.kept_newer.is_empty(),
        "{report}"
    );
    assert_eq!(texts(&from).await, texts(&to.inner).await);
}

#[tokio::test]
async fn ids_that_the_target_leaves_out_meanwhile_are_not_taken_for_deleted() {
    let from = source().await;
    let inner = Arc::new(ListStore::new());
    let to = HookStore::new(Arc::clone(&inner));
    to.once_at(Step::Saved, move || async move {
        save(&inner, &["id=50 user=eve client=c refresh=r9"]).await;
        Ok(())
    });
    let report = copy(&from, &*to).await.unwrap();
    assert!(report.is_complete(), "{report}");
    assert_eq!(report.new_id(id(2)), Some(id(51)));
    assert_eq!(report.new_id(id(3)), Some(id(52)));
}

#[tokio::test]
async fn a_nameless_login_that_takes_an_id_meanwhile_stays_its_own() {
    let from = source().await;
    let inner = Arc::new(ListStore::new());
    let to = HookStore::new(Arc::clone(&inner));
    to.once_at(Step::Saved, move || async move {
        // Exchanged, and not named yet: a save under its id would be taken for its name.
        save(&inner, &["client=c refresh=r9 access=a9 expiry=1"]).await;
        Ok(())
    });
    let report = copy(&from, &*to).await.unwrap();
    assert!(report.is_complete(), "{report}");
    let all = texts(&to.inner).await;
    assert_eq!(all[1], "id=2 client=c refresh=r9 access=a9 expiry=1");
    assert_eq!(report.new_id(id(2)), Some(id(3)));
    assert_eq!(all.len(), 4);
}

#[tokio::test]
async fn what_is_deleted_in_the_target_meanwhile_is_not_brought_back() {
    let from = source().await;
    let inner = Arc::new(ListStore::new());
    let to = HookStore::new(Arc::clone(&inner));
    let store = Arc::clone(&inner);
    to.at_each_step(move |step| {
        let store = Arc::clone(&store);
        async move {
            // The third record was saved: the first, read back or not, goes.
            let last = store.find_token_by_id(id(3)).await?.is_some();
            if step == Step::Saved && last {
                store.delete_token(id(1)).await?;
            }
            Ok(())
        }
    });
    let report = CopyTokens::new(&from, &*to).page_size(1).run().await;
    let report = report.unwrap();
    assert_eq!(Vec::from_iter(report.missing.clone()), ids(&[1]));
    assert!(!report.is_complete());
    assert!(inner.find_token_by_id(id(1)).await.unwrap().is_none());
}

/// The order that `docs/moving.md` recommends.
#[tokio::test]
async fn an_application_moves_while_it_runs() {
    let (old, new) = (source().await, list(&[]).await);
    let report = copy(&old, &new).await.unwrap();
    assert!(report.is_complete());

    // Still on the old store: a refresh, a logout, and a login.
    save(&old, &["id=1 access=old1 expiry=200"]).await;
    assert!(old.delete_token(id(3)).await.unwrap());
    save(
        &old,
        &["user=late client=c refresh=r4 access=a4 expiry=205"],
    )
    .await;
    // Now on the new one: a refresh, a login that takes the same number, a logout.
    save(&new, &["id=2 access=new2 expiry=210"]).await;
    save(&new, &["user=eve client=c refresh=r5 access=a5 expiry=211"]).await;

    let report = copy(&old, &new).await.unwrap();
    assert!(report.is_complete(), "{report}");
    assert_eq!(Vec::from_iter(report.kept_newer.clone()), ids(&[2]));
    assert_eq!((report.updated, report.inserted), (1, 1));
    assert_eq!(report.new_id(id(4)), Some(id(5)));
    assert!(verify(&old, &new).await.unwrap().is_complete());
    assert_eq!(
        texts(&new).await,
        [
            "id=1 user=ann client=c refresh=r1 access=old1 expiry=200",
            "id=2 user=bob client=c refresh=r2 access=new2 expiry=210",
            "id=3 user=kim client=c refresh=r3 access=a3 expiry=100",
            "id=4 user=eve client=c refresh=r5 access=a5 expiry=211",
            "id=5 user=late client=c refresh=r4 access=a4 expiry=205",
        ]
    );
}
