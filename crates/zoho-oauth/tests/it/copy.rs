//! Moving tokens between stores: every pair of them, non-empty targets, newer records, deletions.
//! Interruptions are in [`interrupted`], records that are not read in [`counted`], stores in use in [`in_use`], chance in [`random`], stores on
//! servers in [`servers`].

mod counted;
mod in_use;
mod interrupted;
mod probe;
mod random;
mod servers;

use std::path::Path;
use std::sync::Arc;

use zoho_oauth::store::copy::{Progress, Stage, verify};
use zoho_oauth::store::{CopyTokens, copy};
use zoho_oauth::{
    ErrorCode, ErrorKind, FileStore, ListStore, OAuthToken, SqliteStore, TokenId, TokenStore,
};

use crate::support::with_field;

use self::probe::{Probe, ReadOnly};

/// The ids of the records of [`fill`], with the gaps that deleted records leave.
const IDS: [u64; 7] = [1, 2, 9, 10, 11, 100, 4711];

/// Text that means something to a file, a database, a terminal or a careless store.
const HOSTILE: [&str; 7] = [
    "a,b\"c'd",
    "a\r\nb\nc",
    " a\t",
    "x'; DROP TABLE oauthtoken; --",
    "NULL",
    "\u{1f511}\u{202e}\u{10ffff}\u{feff}",
    "%s {0} \\n \\",
];

fn id(number: u64) -> TokenId {
    TokenId::new(number).unwrap()
}

/// A record from `"id=3 user=ann client=c refresh=r1 access=a1 expiry=100 url=u"`.
fn token(text: &str) -> OAuthToken {
    let mut fields = [const { None }; 10];
    for field in text.split_whitespace() {
        let (name, value) = field.split_once('=').unwrap();
        let name = match name {
            "user" => "user_name",
            "client" => "client_id",
            "secret" => "client_secret",
            "refresh" => "refresh_token",
            "access" => "access_token",
            "grant" => "grant_token",
            "expiry" => "expiry_time",
            "url" => "redirect_url",
            "domain" => "api_domain",
            other => other,
        };
        let index = OAuthToken::FIELDS.iter().position(|known| *known == name);
        fields[index.unwrap()] = Some(value);
    }
    OAuthToken::from_fields(&fields).unwrap()
}

/// The opposite, so that a failure can be read.
fn text(token: &OAuthToken) -> String {
    let names = [
        "id", "user", "client", "secret", "refresh", "access", "grant", "expiry", "url", "domain",
    ];
    let fields = names.into_iter().zip(token.expose_fields());
    let filled = fields.filter_map(|(name, value)| Some(format!("{name}={}", value?)));
    filled.collect::<Vec<_>>().join(" ")
}

async fn texts(store: &dyn TokenStore) -> Vec<String> {
    let tokens = store.get_tokens().await.unwrap();
    tokens.iter().map(text).collect()
}

async fn save(store: &dyn TokenStore, records: &[&str]) {
    for record in records {
        let saved = store.save_token(&token(record)).await;
        saved.unwrap_or_else(|error| panic!("{record}: {error}"));
    }
}

async fn list(records: &[&str]) -> Arc<ListStore> {
    let store = Arc::new(ListStore::new());
    save(&store, records).await;
    store
}

fn ids(numbers: &[u64]) -> Vec<TokenId> {
    numbers.iter().copied().map(id).collect()
}

/// Complete records, records with holes, and hostile ones, under ids with gaps.
async fn fill(store: &dyn TokenStore) {
    for (index, number) in IDS.into_iter().enumerate() {
        let mut record = token(&format!(
            "id={number} user=u{number} client=c secret=s refresh=r{number} access=a{number} \
             grant=g{number} expiry={number}000 url=https://x domain=https://y"
        ));
        match index {
            0 => {}
            1 => record.user_name = None,
            2 => {
                record.access_token = None;
                record.expiry_time = None;
                record.grant_token = None;
            }
            3 => record = token(&format!("id={number} access=a{number}")),
            _ => {
                let value = HOSTILE[index];
                record.redirect_url = Some(value.to_owned());
                record.api_domain = Some(HOSTILE[index - 3].to_owned());
                record = with_field(&record, "user_name", value);
                record = with_field(&record, "client_secret", value);
                record = with_field(&record, "refresh_token", &format!("{value}r"));
            }
        }
        assert_eq!(store.save_token(&record).await.unwrap(), id(number));
    }
}

/// What has to hold for any two stores that are empty.
async fn round_trip(from: Arc<dyn TokenStore>, to: Arc<dyn TokenStore>) {
    fill(&from).await;
    let read_only = ReadOnly(Arc::clone(&to));
    let plan = CopyTokens::new(&from, &read_only).dry_run();
    let plan = plan.run().await.unwrap();
    assert!(plan.dry_run && plan.is_complete(), "{plan}");
    assert_eq!(plan.inserted, IDS.len());
    assert!(texts(&to).await.is_empty());

    let report = CopyTokens::new(&from, &to).page_size(3).run().await;
    let report = report.unwrap();
    assert!(report.is_complete(), "{report}");
    assert_eq!(
        (report.read, report.inserted, report.verified),
        (IDS.len(), IDS.len(), IDS.len())
    );
    assert!(report.joined.is_empty() && report.renumbered.is_empty());
    let (source, target) = (texts(&from).await, texts(&to).await);
    assert_eq!(source, target);
    assert_eq!(source.len(), IDS.len());

    let verified = verify(&from, &to).await.unwrap();
    assert_eq!((verified.read, verified.equal), (IDS.len(), IDS.len()));
    let again = copy(&from, &read_only).await.unwrap();
    assert_eq!((again.unchanged, again.verified), (IDS.len(), IDS.len()));

    // The next login continues behind the highest id in both.
    let next = token("user=next client=c refresh=next");
    let given = from.save_token(&next).await.unwrap();
    assert_eq!(given, to.save_token(&next).await.unwrap());
}

async fn open(kind: &str, folder: &Path) -> Arc<dyn TokenStore> {
    match kind {
        "list" => Arc::new(ListStore::new()),
        "file" => {
            let path = folder.join("sdk_tokens.txt");
            Arc::new(FileStore::open(path).await.unwrap())
        }
        "sqlite" => Arc::new(SqliteStore::open(folder.join("zohooauth.db")).unwrap()),
        "memory" => Arc::new(SqliteStore::in_memory().unwrap()),
        other => panic!("no store is called {other}"),
    }
}

const KINDS: [&str; 4] = ["list", "file", "sqlite", "memory"];

#[tokio::test]
async fn every_pair_of_local_stores_keeps_everything() {
    for from in KINDS {
        for to in KINDS {
            let (here, there) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
            let (from, to) = (open(from, here.path()).await, open(to, there.path()).await);
            round_trip(from, to).await;
        }
    }
}

#[tokio::test]
async fn a_target_with_records_keeps_them_and_gives_new_ids() {
    let from = list(&[
        "id=1 user=ann client=c refresh=r1",
        "id=2 user=bob client=c refresh=r2",
        "id=7 access=a7",
    ])
    .await;
    let to = list(&[
        "user=kim client=c refresh=k",
        "user=bob client=d refresh=other",
        "user=ann client=c refresh=r1 url=https://here",
    ])
    .await;
    let before = texts(&to).await;

    let plan = CopyTokens::new(&from, &ReadOnly::of(&to))
        .dry_run()
        .run()
        .await;
    let plan = plan.unwrap();
    assert_eq!((plan.inserted, plan.unchanged), (2, 1));
    assert_eq!(
        plan.joined.into_iter().collect::<Vec<_>>(),
        [(id(1), id(3))]
    );
    let new: Vec<_> = plan.renumbered.into_iter().collect();
    assert_eq!(new, [(id(2), None), (id(7), None)]);

    let report = copy(&from, &to).await.unwrap();
    assert!(report.is_complete(), "{report}");
    assert_eq!(
        (report.inserted, report.unchanged, report.verified),
        (2, 1, 3)
    );
    assert_eq!(report.new_id(id(1)), Some(id(3)));
    assert_eq!(report.new_id(id(2)), Some(id(4)));
    assert_eq!(report.new_id(id(7)), Some(id(5)));
    let after = texts(&to).await;
    assert_eq!(after[..3], before, "what was there is as it was");
    assert_eq!(
        after[3..],
        ["id=4 user=bob client=c refresh=r2", "id=5 access=a7"]
    );
    let verified = verify(&from, &to).await.unwrap();
    assert!(verified.is_complete());
    assert_eq!((verified.equal, verified.other_ids.len()), (2, 3));
    assert_eq!(Vec::from_iter(verified.fuller), ids(&[1]));
    assert_writes_nothing(&from, &to).await;
}

/// A second run has nothing to do.
async fn assert_writes_nothing(from: &dyn TokenStore, to: &Arc<ListStore>) {
    let report = copy(from, &ReadOnly::of(to)).await.unwrap();
    assert_eq!(report.inserted + report.updated, 0, "{report}");
}

#[tokio::test]
async fn two_records_of_one_login_become_one() {
    // As official files have them: no store of ours would make the second.
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("sdk_tokens.txt");
    let header = OAuthToken::FIELDS.join(",");
    let lines = "1,ann,c,,r1,a1,,100,,\n2,ann,c,,r2,a2,,200,https://x,\n3,bob,c,,r3,,,,,\n";
    std::fs::write(&path, format!("{header}\n{lines}")).unwrap();
    let from = FileStore::open(path).await.unwrap();
    let to = list(&[]).await;

    let plan = CopyTokens::new(&from, &ReadOnly::of(&to))
        .dry_run()
        .run()
        .await;
    let plan = plan.unwrap();
    assert_eq!((plan.inserted, plan.joined.len()), (2, 1));
    let report = copy(&from, &to).await.unwrap();
    assert!(report.is_complete(), "{report}");
    assert_eq!(report.new_id(id(2)), Some(id(1)));
    assert_eq!(
        texts(&to).await,
        [
            "id=1 user=ann client=c refresh=r2 access=a2 expiry=200 url=https://x",
            "id=3 user=bob client=c refresh=r3"
        ]
    );
    assert_writes_nothing(&from, &to).await;
}

#[tokio::test]
async fn a_newer_record_of_the_target_stays_and_an_older_one_does_not() {
    let from = list(&[
        "user=ann client=c secret=s refresh=r1 access=a1 expiry=100",
        "user=bob client=c refresh=r2 access=a2 expiry=200",
        "user=kim client=c refresh=r3 secret=old",
    ])
    .await;
    let to = list(&[
        "user=ann client=c refresh=new access=new expiry=101",
        "user=bob client=c refresh=old access=old expiry=199 url=https://x",
        "user=kim client=c refresh=other secret=new",
    ])
    .await;
    let copies = CopyTokens::new(&from, &to).run().await.unwrap();
    assert_eq!(Vec::from_iter(copies.kept_newer.clone()), ids(&[1]));
    assert_eq!(copies.updated, 2, "ann's secret was missing, bob's are old");
    let fields = vec!["client_secret", "refresh_token"];
    assert_eq!(Vec::from_iter(copies.different.clone()), [(id(3), fields)]);
    assert!(!copies.is_complete());
    assert_eq!(copies.verified, 2);
    assert_eq!(
        texts(&to).await,
        [
            "id=1 user=ann client=c secret=s refresh=new access=new expiry=101",
            "id=2 user=bob client=c refresh=r2 access=a2 expiry=200 url=https://x",
            "id=3 user=kim client=c secret=new refresh=other",
        ]
    );
    assert_writes_nothing(&from, &to).await;
    let verified = verify(&from, &to).await.unwrap();
    assert_eq!(Vec::from_iter(verified.newer), ids(&[1]));
    assert_eq!(verified.different.len(), 1);

    let copies = CopyTokens::new(&from, &to).source_wins_ties().run().await;
    assert!(copies.unwrap().is_complete());
    let kim = to.find_token_by_id(id(3)).await.unwrap().unwrap();
    assert_eq!(text(&kim), "id=3 user=kim client=c secret=old refresh=r3");
}

#[tokio::test]
async fn a_copy_onto_itself_does_no_harm() {
    for kind in KINDS {
        let folder = tempfile::tempdir().unwrap();
        let store = open(kind, folder.path()).await;
        fill(&store).await;
        let report = copy(&store, &ReadOnly(Arc::clone(&store))).await.unwrap();
        assert!(report.is_complete());
        assert_eq!((report.unchanged, report.verified), (IDS.len(), IDS.len()));
    }
}

#[tokio::test]
async fn what_was_deleted_in_the_target_stays_deleted() {
    let from = list(&[
        "user=ann client=c refresh=r1",
        "user=bob client=c refresh=r2",
        "user=kim client=c refresh=r3",
    ])
    .await;
    let to = list(&[]).await;
    let first = copy(&from, &to).await.unwrap();
    assert!(first.is_complete());
    // The application works on the target: a logout and a new login. The source gets one as well.
    assert!(to.delete_token(id(2)).await.unwrap());
    save(&to, &["user=new client=c refresh=r9"]).await;
    save(&from, &["user=late client=c refresh=r8"]).await;

    let second = copy(&from, &to).await.unwrap();
    assert_eq!(Vec::from_iter(second.left_out.clone()), ids(&[2]));
    assert!(!second.is_complete());
    assert_eq!(
        second.new_id(id(4)),
        Some(id(5)),
        "4 is another login there"
    );
    assert!(to.find_token_by_id(id(2)).await.unwrap().is_none());
    assert_eq!(texts(&to).await.len(), 4);

    let third = CopyTokens::new(&from, &to).bring_back_deleted().run().await;
    let third = third.unwrap();
    assert!(third.is_complete(), "{third}");
    assert_eq!(third.new_id(id(2)), Some(id(6)));
}

#[tokio::test]
async fn what_was_copied_last_and_deleted_in_the_target_stays_deleted() {
    for (deleted, new_logins) in [
        (&[3_u64][..], &[][..]),
        (&[3], &["user=new client=c refresh=r9"]),
        (&[2, 3], &["id=12 user=new client=c refresh=r9"]),
        (&[1, 2, 3], &[]),
    ] {
        let from = list(&[
            "user=ann client=c refresh=r1",
            "user=bob client=c refresh=r2",
            "user=kim client=c refresh=r3",
        ])
        .await;
        let to = list(&[]).await;
        assert!(copy(&from, &to).await.unwrap().is_complete());
        for number in deleted {
            assert!(to.delete_token(id(*number)).await.unwrap());
        }
        save(&to, new_logins).await;
        let there = texts(&to).await;

        let second = copy(&from, &to).await.unwrap();
        assert_eq!(Vec::from_iter(second.left_out.clone()), ids(deleted));
        assert!(!second.is_complete());
        assert_eq!((second.inserted, second.renumbered.len()), (0, 0));
        assert_eq!(texts(&to).await, there);

        let third = CopyTokens::new(&from, &to).bring_back_deleted().run().await;
        let third = third.unwrap();
        assert!(third.is_complete(), "{third}");
        assert_eq!(third.inserted, deleted.len());
        assert_eq!(texts(&to).await.len(), 3 + new_logins.len());
    }
}

/// The ids of an earlier copy and those that were merely given to others look the same, as long as
/// nothing shows that no copy has been there.
#[tokio::test]
async fn behind_an_id_that_is_taken_nothing_counts_as_deleted() {
    let from = list(&["id=1 access=a", "id=2 access=b"]).await;
    let to = Probe::new(ListStore::new());
    assert!(copy(&from, &*to).await.unwrap().is_complete());
    // A login in the source, one in the target, then others in the source.
    save(&from, &["access=c", "access=d", "access=e", "access=f"]).await;
    save(&to.inner, &["access=x"]).await;
    // As a store does that leaves numbers to official SDKs.
    to.leave_out_ids(9);
    let report = copy(&from, &*to).await.unwrap();
    assert!(report.is_complete(), "{report}");
    assert_eq!(report.new_id(id(3)), Some(id(13)));
    assert_eq!(report.new_id(id(4)), Some(id(23)));
    assert_eq!((report.inserted, report.verified), (4, 6));
}

#[tokio::test]
async fn an_empty_target_that_was_used_before_brings_nothing_back_unless_it_is_told_to() {
    let from = list(&["id=2 access=a", "id=5 access=b", "id=500 access=c"]).await;
    let to = list(&["id=100 access=x"]).await;
    assert_eq!(to.delete_tokens().await.unwrap(), 1);
    let report = copy(&from, &to).await.unwrap();
    assert_eq!(Vec::from_iter(report.left_out), ids(&[2, 5]));
    assert_eq!(texts(&to).await, ["id=500 access=c"]);
    let copies = CopyTokens::new(&from, &to).bring_back_deleted();
    assert!(copies.run().await.unwrap().is_complete());
    let records = ["id=500 access=c", "id=501 access=a", "id=502 access=b"];
    assert_eq!(texts(&to).await, records);
    assert_writes_nothing(&from, &to).await;

    let to = list(&["id=100 access=x"]).await;
    assert_eq!(to.delete_tokens().await.unwrap(), 1);
    let copies = CopyTokens::new(&from, &to).bring_back_deleted();
    assert!(copies.run().await.unwrap().is_complete());
    let records = ["id=101 access=a", "id=102 access=b", "id=500 access=c"];
    assert_eq!(texts(&to).await, records);
}

#[tokio::test]
async fn a_copy_can_start_after_an_id() {
    let from = list(&["id=1 access=a", "id=2 access=b", "id=10 access=c"]).await;
    let to = list(&[]).await;
    let report = CopyTokens::new(&from, &to).start_after(id(1)).run().await;
    let report = report.unwrap();
    assert_eq!((report.read, report.inserted, report.verified), (2, 2, 2));
    assert_eq!(texts(&to).await, ["id=2 access=b", "id=10 access=c"]);
}

#[tokio::test]
async fn a_record_that_the_target_cannot_hold_is_told_and_the_others_go_on() {
    let from = list(&[
        "id=1 user=ann access=short",
        "id=2 user=bob access=much-too-long-for-it",
        "id=3 user=kim access=short2",
    ])
    .await;
    let narrow = Probe::new(ListStore::new());
    narrow.refuse_longer_than(10);
    let report = copy(&from, &*narrow).await.unwrap();
    assert!(!report.is_complete());
    assert_eq!((report.inserted, report.verified), (2, 2));
    let refused: Vec<_> = report.refused.iter().collect();
    assert_eq!(refused[0].0, &id(2));
    assert_eq!(refused[0].1.code(), ErrorCode::InvalidInput);
    assert_eq!(texts(&narrow.inner).await.len(), 2);
    for printed in [format!("{report}"), format!("{report:?}")] {
        assert!(printed.contains('2'));
        for hidden in ["bob", "much-too"] {
            assert!(!printed.contains(hidden), "{printed}");
        }
    }

    // The column was widened. Number 3 is there, so number 2 counts as deleted until told.
    narrow.refuse_longer_than(usize::MAX);
    let again = copy(&from, &*narrow).await.unwrap();
    assert_eq!(Vec::from_iter(again.left_out), ids(&[2]));
    let again = CopyTokens::new(&from, &*narrow).bring_back_deleted();
    let again = again.run().await.unwrap();
    assert!(again.is_complete());
    assert_eq!(again.new_id(id(2)), Some(id(4)));
}

#[tokio::test]
async fn a_copy_can_stop_at_the_first_error() {
    let from = list(&["access=short", "access=much-too-long", "access=short2"]).await;
    let narrow = Probe::new(ListStore::new());
    narrow.refuse_longer_than(10);
    let stopped = CopyTokens::new(&from, &*narrow).stop_at_first_error();
    let error = stopped.run().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    assert!(error.message().starts_with("copying record 2: "), "{error}");
    assert_eq!(texts(&narrow.inner).await, ["id=1 access=short"]);
}

#[tokio::test]
async fn a_store_that_cuts_values_off_is_found_out() {
    let from = list(&["user=ann access=short", "user=bob access=much-too-long"]).await;
    let cutting = Probe::new(ListStore::new());
    cutting.cut_to(6);
    let report = copy(&from, &*cutting).await.unwrap();
    let fields = vec!["access_token"];
    assert_eq!(Vec::from_iter(report.different.clone()), [(id(2), fields)]);
    assert!(!report.is_complete());
    assert_eq!((report.inserted, report.verified), (2, 1));
    let verified = verify(&from, &*cutting).await.unwrap();
    assert_eq!((verified.equal, verified.different.len()), (1, 1));
}

#[tokio::test]
async fn a_store_that_forgets_what_it_acknowledged_is_found_out() {
    let from = list(&["access=a", "access=b", "access=c"]).await;
    let forgetful = Probe::new(ListStore::new());
    forgetful.forget_save(2);
    let report = copy(&from, &*forgetful).await.unwrap();
    assert_eq!(Vec::from_iter(report.missing.clone()), ids(&[2]));
    assert!(!report.is_complete());
    assert_eq!(report.verified, 2);
}

#[tokio::test]
async fn a_store_whose_pages_do_not_rise_is_an_error_and_not_an_endless_copy() {
    let from = Probe::new(list(&["access=a", "access=b", "access=c"]).await);
    from.ignore_after();
    let to = list(&[]).await;
    let error = CopyTokens::new(&*from, &to).page_size(2).run().await;
    let error = error.unwrap_err();
    assert_eq!(error.code(), ErrorCode::StoreDamaged);
    assert!(error.message().contains("source"), "{error}");
}

#[tokio::test]
async fn progress_is_told_page_by_page() {
    let from = list(&["access=a", "access=b", "access=c", "id=40 access=d"]).await;
    let to = list(&["access=a"]).await;
    let mut heard: Vec<Progress> = Vec::new();
    let copies = CopyTokens::new(&from, &to).page_size(2);
    let copies = copies.on_progress(|progress| heard.push(*progress));
    let report = copies.run().await.unwrap();
    assert!(report.is_complete());
    let told: Vec<_> = heard
        .iter()
        .map(|told| {
            let last_id = told.last_id.map_or(0, TokenId::get);
            (told.stage, told.done, told.skipped, last_id, told.total)
        })
        .collect();
    assert_eq!(
        told,
        [
            (Stage::Looking, 1, 0, 1, None),
            (Stage::Copying, 1, 1, 2, None),
            (Stage::Copying, 3, 1, 40, None),
            (Stage::Verifying, 0, 2, 2, Some(4)),
            (Stage::Verifying, 0, 4, 40, Some(4)),
        ]
    );
    assert!(heard.iter().all(|told| told.failed == 0));
}

#[tokio::test]
async fn names_and_secrets_are_nowhere() {
    let from = list(&[
        "user=ann-name client=c secret=secret-s refresh=secret-r access=secret-a expiry=5",
        "user=bob-name client=c refresh=secret-x",
    ])
    .await;
    let to = list(&["user=bob-name client=c refresh=secret-y"]).await;
    let copies = CopyTokens::new(&from, &to);
    let before = format!("{copies:?} {copies:#?}");
    let copied = copies.run().await.unwrap();
    let verified = verify(&from, &to).await.unwrap();
    let printed = format!("{before} {copied} {copied:?} {verified} {verified:?}");
    assert!(printed.contains("refresh_token"), "the field is named");
    for hidden in ["ann-name", "bob-name", "secret-"] {
        assert!(!printed.contains(hidden), "{printed}");
    }
}

#[tokio::test]
async fn a_report_reads_well() {
    let from = list(&[
        "user=ann client=c refresh=r1",
        "user=bob client=c refresh=r2",
        "user=kim client=c refresh=r3 access=a expiry=1",
    ])
    .await;
    let to = list(&[
        "user=bob client=c refresh=other",
        "user=kim client=c refresh=r4 access=b expiry=2",
    ])
    .await;
    let report = copy(&from, &to).await.unwrap();
    assert_eq!(
        report.to_string(),
        "3 records in the source\n\
         1 inserted\n\
         0 updated\n\
         0 there already\n\
         2 there under another id: 2 is 1, 3 is 2\n\
         1 under a new id: 1 is 3\n\
         1 newer in the target, kept: 3\n\
         1 different in the target: 2 (refresh_token)\n\
         2 verified\n"
    );
    let report = verify(&from, &to).await.unwrap();
    assert_eq!(
        report.to_string(),
        "3 records in the source\n\
         1 equal in the target\n\
         3 there under another id: 1 is 3, 2 is 1, 3 is 2\n\
         1 newer in the target: 3\n\
         1 different in the target: 2 (refresh_token)\n"
    );
}
