//! Stores in files, each with one flaw that loses tokens.
//!
//! They work on a copy with the store of `examples/own_store.rs`, which is right, and bring the
//! result back in a way that is not.

use std::fs::{self, File};
use std::io::Write as _;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};

use async_trait::async_trait;
use zoho_oauth::conformance::{Place, StoreFactory, Violation, durable};
use zoho_oauth::{OAuthToken, Result, TokenId, TokenQuery, TokenStore, token_store_conformance};

use crate::stores::own_store::JsonStore;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Flaw {
    /// Truncates the file and writes it anew.
    WritesInPlace,
    /// Reads, changes and writes without a lock.
    LastWriterWins,
    /// Writes every tenth change.
    AcknowledgesTooEarly,
    /// Reads once, and never looks again.
    ReadsOnlyWhenOpened,
    /// Takes the highest stored id for the highest that was given.
    ForgetsTheHighestId,
}

#[derive(Debug)]
struct Flawed {
    flaw: Flaw,
    live: PathBuf,
    work: PathBuf,
    changes: AtomicUsize,
}

impl Flawed {
    fn open(flaw: Flaw, place: &Place) -> Self {
        static STORES: AtomicUsize = AtomicUsize::new(0);
        let number = STORES.fetch_add(1, Ordering::Relaxed);
        let work = format!("work-{}-{number}.json", std::process::id());
        let store = Self {
            flaw,
            live: place.path().join("live.json"),
            work: place.path().join(work),
            changes: AtomicUsize::new(0),
        };
        store.fetch();
        store
    }

    fn fetch(&self) {
        // It may not be there yet.
        let _ = fs::copy(&self.live, &self.work);
    }

    fn begin(&self) -> JsonStore {
        if !matches!(
            self.flaw,
            Flaw::ReadsOnlyWhenOpened | Flaw::AcknowledgesTooEarly
        ) {
            self.fetch();
        }
        JsonStore(self.work.clone())
    }

    /// The same before a change.
    fn begin_change(&self) -> JsonStore {
        let store = self.begin();
        if self.flaw == Flaw::WritesInPlace {
            // Now already, so that it stays empty for as long as the disk takes.
            File::create(&self.live).unwrap();
        }
        store
    }

    fn end(&self) {
        let Ok(text) = fs::read(&self.work) else {
            return;
        };
        match self.flaw {
            Flaw::WritesInPlace => {
                let mut file = File::create(&self.live).unwrap();
                for part in text.chunks(256) {
                    file.write_all(part).unwrap();
                }
                return;
            }
            Flaw::AcknowledgesTooEarly
                if self.changes.fetch_add(1, Ordering::Relaxed) % 10 != 9 =>
            {
                return;
            }
            _ => {}
        }
        let new = self.work.with_extension("new");
        if self.flaw == Flaw::ForgetsTheHighestId {
            let mut file: serde_json::Value = serde_json::from_slice(&text).unwrap();
            file[0] = serde_json::Value::Null;
            fs::write(&new, file.to_string()).unwrap();
        } else {
            fs::write(&new, text).unwrap();
        }
        fs::rename(new, &self.live).unwrap();
    }
}

#[async_trait]
impl TokenStore for Flawed {
    async fn find_token(&self, query: &TokenQuery) -> Result<Option<OAuthToken>> {
        self.begin().find_token(query).await
    }
    async fn find_token_by_id(&self, id: TokenId) -> Result<Option<OAuthToken>> {
        self.begin().find_token_by_id(id).await
    }
    async fn get_tokens(&self) -> Result<Vec<OAuthToken>> {
        self.begin().get_tokens().await
    }
    async fn save_token(&self, token: &OAuthToken) -> Result<TokenId> {
        let saved = self.begin_change().save_token(token).await;
        self.end();
        saved
    }
    async fn delete_token(&self, id: TokenId) -> Result<bool> {
        let deleted = self.begin_change().delete_token(id).await;
        self.end();
        deleted
    }
    async fn delete_tokens(&self) -> Result<usize> {
        let deleted = self.begin_change().delete_tokens().await;
        self.end();
        deleted
    }
}

/// A test that one rule finds one flaw, in a module of its own for its child processes.
macro_rules! flaws {
    ($($module:ident: $flaw:ident breaks $rule:ident;)*) => {
        $(
            mod $module {
                use super::*;

                async fn open(place: Place) -> Result<Flawed> {
                    Ok(Flawed::open(Flaw::$flaw, &place))
                }

                token_store_conformance!(child, open);

                #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
                async fn is_found() {
                    let factory = StoreFactory::new(open)
                        .with_child_test(concat!(module_path!(), "::conformance_child"));
                    let verdict: std::result::Result<(), Violation> = durable::$rule(&factory).await;
                    let violation = verdict.expect_err("the flaw should be found");
                    println!("{violation}");
                }
            }
        )*
    };
}

flaws! {
    in_place: WritesInPlace breaks nothing_acknowledged_is_lost_when_killed;
    too_early: AcknowledgesTooEarly breaks nothing_acknowledged_is_lost_when_killed;
    last_writer: LastWriterWins breaks nothing_is_lost_when_processes_save_at_once;
    opened_once: ReadsOnlyWhenOpened breaks two_open_stores_see_each_other;
    too_early_to_reopen: AcknowledgesTooEarly breaks everything_is_there_after_reopening;
    highest_forgotten: ForgetsTheHighestId breaks ids_go_on_after_reopening;
    highest_forgotten_for_deleted: ForgetsTheHighestId breaks deleted_records_stay_deleted_after_reopening;
}

/// A store that opens, but not in the children: the kit must not take their silence for success.
mod childless {
    use super::*;

    #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
    async fn is_found() {
        let open = |place: Place| async move { crate::stores::own_store::open(place).await };
        // No test of that name: the test harness runs nothing and ends well.
        let factory = StoreFactory::new(open).with_child_test("it::no::such::test");
        let killed = durable::nothing_acknowledged_is_lost_when_killed(&factory).await;
        let text = killed.expect_err("no child wrote anything").to_string();
        assert!(text.contains("child_main"), "{text}");
        let together = durable::nothing_is_lost_when_processes_save_at_once(&factory).await;
        assert!(together.is_err());
    }
}
