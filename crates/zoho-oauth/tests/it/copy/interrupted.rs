//! Copies that are cut off, at every operation of the target or by SIGKILL, and begun again.

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;

use zoho_oauth::store::{CopyTokens, copy};
use zoho_oauth::{ErrorCode, ListStore, TokenStore};

use super::probe::{Fault, Probe, ReadOnly};
use super::{IDS, fill, list, open, texts, token};

const PAGE: usize = 3;

/// How many operations of the target a whole copy takes.
pub(super) async fn operations_of_a_copy(from: &dyn TokenStore) -> usize {
    let to = Probe::new(ListStore::new());
    let report = CopyTokens::new(from, &*to).page_size(PAGE).run().await;
    assert!(report.unwrap().is_complete());
    to.operations()
}

async fn cut_off_everywhere(fault: Fault) {
    let from = Arc::new(ListStore::new());
    fill(&from).await;
    let operations = operations_of_a_copy(&from).await;
    assert!(operations > 3 * IDS.len(), "{operations}");
    for operation in 1..=operations {
        cut_off(Arc::clone(&from), ListStore::new(), (operation, fault)).await;
    }
}

/// Copies into a store that is empty, is cut off at this operation of it, and copies again.
pub(super) async fn cut_off<S: TokenStore>(
    from: Arc<ListStore>,
    to: S,
    (operation, fault): (usize, Fault),
) {
    let expected = texts(&from).await;
    let to = Probe::new(to);
    to.fail_at(operation, fault);
    let (source, target) = (Arc::clone(&from), Arc::clone(&to));
    let copies = tokio::spawn(async move {
        let copies = CopyTokens::new(&source, &*target).page_size(PAGE);
        tokio::select! {
            result = copies.run() => Some(result),
            () = target.hangs() => None,
        }
    });
    match (fault, copies.await) {
        (Fault::Error | Fault::LostAnswer, Ok(Some(Err(error)))) => {
            assert_eq!(error.code(), ErrorCode::StoreUnavailable);
            assert!(error.message().ends_with("out of order"), "{error}");
        }
        (Fault::Hang | Fault::HangHalfway, Ok(None)) => {}
        (Fault::Panic, Err(ended)) if ended.is_panic() => {}
        (_, other) => panic!("{fault:?} at {operation}: {other:?}"),
    }
    let there = texts(&to.inner).await;
    assert!(expected.starts_with(&there), "{fault:?} at {operation}");

    let report = CopyTokens::new(&from, &*to).page_size(PAGE).run().await;
    let report = report.unwrap();
    assert!(report.is_complete(), "{fault:?} at {operation}: {report}");
    assert_eq!(texts(&to.inner).await, expected, "{fault:?} at {operation}");
    // What was under way may arrive while the second copy runs.
    if fault != Fault::HangHalfway {
        assert_eq!(report.inserted, expected.len() - there.len());
    }
    let to = ReadOnly::of(&to);
    assert!(copy(&from, &to).await.unwrap().is_complete());
}

#[tokio::test]
async fn a_copy_goes_on_after_an_error_at_any_operation() {
    cut_off_everywhere(Fault::Error).await;
}

#[tokio::test]
async fn a_copy_goes_on_after_an_answer_that_was_lost_at_any_operation() {
    cut_off_everywhere(Fault::LostAnswer).await;
}

#[tokio::test]
async fn a_copy_goes_on_after_a_panic_at_any_operation() {
    cut_off_everywhere(Fault::Panic).await;
}

#[tokio::test]
async fn a_copy_goes_on_after_its_future_was_dropped_at_any_operation() {
    cut_off_everywhere(Fault::Hang).await;
}

#[tokio::test]
async fn a_copy_goes_on_after_its_future_was_dropped_in_any_operation() {
    cut_off_everywhere(Fault::HangHalfway).await;
}

#[tokio::test]
async fn a_copy_into_a_target_with_records_goes_on_as_well() {
    let from = list(&[
        "user=ann client=c refresh=r1",
        "user=bob client=c refresh=r2",
        "user=kim client=c refresh=r3",
    ])
    .await;
    let others = ["id=7 user=bob client=c refresh=r2", "id=9 access=other"];
    for operation in 1..40 {
        let to = Probe::new(list(&others).await);
        to.fail_at(operation, Fault::LostAnswer);
        // Whether it ends early or not: at some operation it does not.
        let first = CopyTokens::new(&from, &*to).page_size(2).run().await;
        let was_cut_off = first.is_err();
        to.heal();
        let report = copy(&from, &*to).await.unwrap();
        assert!(report.is_complete(), "{operation}: {report}");
        let expected = [
            "id=7 user=bob client=c refresh=r2",
            "id=9 access=other",
            "id=10 user=ann client=c refresh=r1",
            "id=11 user=kim client=c refresh=r3",
        ];
        assert_eq!(texts(&to.inner).await, expected, "{operation}");
        if !was_cut_off {
            assert!(operation > 15);
            return;
        }
    }
    panic!("every copy was cut off");
}

/// What the process that is killed is told.
const FOLDER: &str = "ZOHO_COPY_FOLDER";
const KIND: &str = "ZOHO_COPY_KIND";
const RECORDS: u64 = 120;

/// Copies, and tells each page, until it is killed. Does nothing unless it is told to.
#[test]
fn process() {
    let told = |name: &str| {
        #[expect(
            clippy::disallowed_methods,
            reason = "how the process is told what to do"
        )]
        std::env::var(name)
    };
    let (Ok(folder), Ok(kind)) = (told(FOLDER), told(KIND)) else {
        return;
    };
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let from = source().await;
        let to = open(&kind, Path::new(&folder)).await;
        let copies = CopyTokens::new(&from, &to).page_size(PAGE);
        let mut pages = 0;
        let copies = copies.on_progress(|_| {
            pages += 1;
            println!("page {pages}");
            if pages == LAST_PAGE {
                // The parent never waits for as much: it must not find the copy done.
                loop {
                    std::thread::park();
                }
            }
        });
        let report = copies.run().await;
        panic!("not killed: {report:?}");
    });
}

const LAST_PAGE: usize = 36;

/// The same records each time, with gaps.
async fn source() -> ListStore {
    let from = ListStore::new();
    for number in 1..=RECORDS {
        let id = number * 7 - number % 5;
        let record = format!(
            "id={id} user=user{number} client=c secret=s refresh=r{number} access=a{number} \
             expiry={number}"
        );
        from.save_token(&token(&record)).await.unwrap();
    }
    from
}

async fn killed(kind: &str) {
    for pages in [1, 2, 11, 23, 35] {
        let folder = tempfile::tempdir().unwrap();
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["copy::interrupted::process", "--exact", "--nocapture"])
            .env(FOLDER, folder.path())
            .env(KIND, kind)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let last = format!("page {pages}");
        // The harness begins its own line without an end.
        let heard = lines.any(|line| line.unwrap().ends_with(&last));
        // SIGKILL: somewhere in the middle of what follows.
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(heard, "the process ended by itself");

        let from = source().await;
        let to = open(kind, folder.path()).await;
        let there = texts(&to).await.len();
        assert!(there >= (pages - 1) * PAGE, "{there} after {pages} pages");
        assert!(
            there < usize::try_from(RECORDS).unwrap(),
            "it was not cut off"
        );
        let report = copy(&from, &to).await.unwrap();
        assert!(report.is_complete(), "{report}");
        assert_eq!(texts(&to).await, texts(&from).await);
        assert!(report.renumbered.is_empty() && report.joined.is_empty());
        assert_eq!(report.inserted + there, report.read);
    }
}

#[tokio::test]
async fn a_copy_to_sqlite_goes_on_after_sigkill() {
    killed("sqlite").await;
}

#[tokio::test]
async fn a_copy_to_a_file_goes_on_after_sigkill() {
    killed("file").await;
}
