//! The file store through its public face: what it keeps, who waits for whom, and which files of
//! others it reads. What can go wrong is in `faults`.
#![expect(clippy::unwrap_used, reason = "in a test a panic is the report")]

mod faults;
mod official;

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tempfile::TempDir;
use zoho_oauth::store::Guarantee;
use zoho_oauth::{
    AccessToken, ClientId, ClientSecret, Error, FileStore, GrantToken, OAuthToken, RefreshToken,
    Timestamp, TokenId, TokenQuery, TokenStore, UserName,
};

/// A folder of one test, with the path of a token file in it.
struct Place {
    folder: TempDir,
    file: PathBuf,
}

impl Place {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join(FileStore::DEFAULT_NAME);
        Self { folder, file }
    }

    fn with(content: impl AsRef<[u8]>) -> Self {
        let place = Self::new();
        fs::write(&place.file, content).unwrap();
        place
    }

    fn side(&self) -> PathBuf {
        self.folder.path().join("sdk_tokens.txt.state")
    }

    fn text(&self) -> String {
        fs::read_to_string(&self.file).unwrap()
    }

    async fn open(&self) -> FileStore {
        FileStore::open(&self.file).await.unwrap()
    }
}

fn id(number: u64) -> TokenId {
    TokenId::new(number).unwrap()
}

fn user(name: &str) -> UserName {
    UserName::new(name).unwrap()
}

/// A token of this user, with a refresh token made from the name.
fn token_of(name: &str) -> OAuthToken {
    let mut token = OAuthToken::new();
    token.user_name = Some(user(name));
    token.client_id = Some(ClientId::new("1000.CLIENT").unwrap());
    token.refresh_token = Some(RefreshToken::new(format!("1000.refresh.{name}")).unwrap());
    token
}

/// A token with `value` in every field that can take it.
fn full_of(value: &str) -> OAuthToken {
    let mut fields = [Some(value); 10];
    (fields[0], fields[7]) = (None, Some("1795372876984"));
    OAuthToken::from_fields(&fields).unwrap()
}

fn code(result: Result<impl Sized, Error>) -> &'static str {
    result.err().map_or("ok", |error| error.code().as_str())
}

fn ids(tokens: &[OAuthToken]) -> Vec<u64> {
    tokens.iter().map(|token| token.id.unwrap().get()).collect()
}

#[tokio::test]
async fn hostile_values_come_back_exactly() {
    let huge = "x\u{1f980},\"\r\n".repeat(64 * 1024 / 9);
    let values = [
        "user_name",
        "id",
        "a,b",
        "\"",
        "\"a\"b",
        "it's",
        "one\r\ntwo\rthree\nfour",
        "\r",
        "\n",
        " ",
        "\u{feff}",
        "\u{1f980}\u{202e}eman",
        "' OR 1=1; --",
        "=1+1",
        &huge,
    ];
    let place = Place::new();
    let store = place.open().await;
    for value in values {
        store.save_token(&full_of(value)).await.unwrap();
    }
    let reopened = place.open().await;
    let stored = reopened.get_tokens().await.unwrap();
    assert_eq!(stored.len(), values.len());
    for (number, value) in (1..).zip(values) {
        let mut expected = full_of(value);
        expected.id = Some(id(number));
        let query = TokenQuery::user_name(expected.user_name.clone().unwrap());
        let found = reopened.find_token(&query).await.unwrap();
        assert_eq!(found.as_ref(), Some(&expected));
        let found = reopened.find_token_by_id(id(number)).await.unwrap();
        assert_eq!(found.as_ref(), Some(&expected));
    }
}

#[tokio::test]
async fn each_criterion_finds_its_own_column_alone() {
    let place = Place::new();
    let store = place.open().await;
    store.save_token(&token_of("ann")).await.unwrap();
    let elsewhere = "1000.refresh.ann";
    for query in [
        TokenQuery::user_name(user(elsewhere)),
        TokenQuery::access_token(AccessToken::new(elsewhere).unwrap()),
        TokenQuery::grant_token(GrantToken::new(elsewhere).unwrap()),
        TokenQuery::user_name(user("Ann")),
        TokenQuery::user_name(user("ann")).with_client(ClientId::new("other").unwrap()),
    ] {
        assert_eq!(store.find_token(&query).await.unwrap(), None, "{query:?}");
    }
    let query = TokenQuery::refresh_token(RefreshToken::new(elsewhere).unwrap());
    assert!(store.find_token(&query).await.unwrap().is_some());
}

#[tokio::test]
async fn ids_grow_past_nine_and_are_never_given_twice() {
    let place = Place::new();
    let store = place.open().await;
    for number in 1..=101 {
        let given = store.save_token(&token_of(&number.to_string())).await;
        assert_eq!(given.unwrap(), id(number));
    }
    assert!(store.delete_token(id(101)).await.unwrap());
    assert!(!store.delete_token(id(101)).await.unwrap());
    let reopened = place.open().await;
    assert_eq!(reopened.save_token(&token_of("a")).await.unwrap(), id(102));
    assert_eq!(reopened.delete_tokens().await.unwrap(), 101);
    assert_eq!(reopened.delete_tokens().await.unwrap(), 0);
    assert_eq!(store.save_token(&token_of("b")).await.unwrap(), id(103));

    // A stale handle does not bring a deleted record back.
    let mut stale = token_of("a");
    stale.id = Some(id(102));
    assert_eq!(code(store.save_token(&stale).await), "record_deleted");
}

#[tokio::test]
async fn without_the_side_folder_the_highest_id_in_the_file_counts() {
    let place = Place::new();
    let store = place.open().await;
    for name in ["a", "b", "c"] {
        store.save_token(&token_of(name)).await.unwrap();
    }
    store.delete_token(id(3)).await.unwrap();
    fs::remove_dir_all(place.side()).unwrap();
    let fresh = place.open().await;
    assert_eq!(fresh.save_token(&token_of("d")).await.unwrap(), id(3));
    assert!(place.side().join("write.lock").exists());
    fresh.delete_token(id(3)).await.unwrap();
    fs::remove_dir_all(place.side()).unwrap();
    // A store that is open remembers by itself.
    assert_eq!(store.save_token(&token_of("d")).await.unwrap(), id(4));
}

/// The official SDKs leave no trace of what they delete. Whoever is refreshing the record must not
/// put back a fragment of it.
#[tokio::test]
async fn the_highest_record_stays_deleted_whoever_deletes_it() {
    let place = Place::new();
    let elsewhere = place.open().await;
    elsewhere.save_token(&token_of("a")).await.unwrap();
    let without = place.text();
    elsewhere.save_token(&token_of("b")).await.unwrap();

    let store = place.open().await;
    let found = store.find_token_by_id(id(2)).await.unwrap().unwrap();
    fs::write(&place.file, &without).unwrap();
    let mut fact = OAuthToken::new();
    fact.id = Some(id(2));
    fact.user_name = found.user_name;
    fact.client_id = found.client_id;
    fact.access_token = Some(AccessToken::new("1000.new").unwrap());
    assert_eq!(code(store.save_token(&fact).await), "record_deleted");
    assert_eq!(place.text(), without);

    // The next write lets all others know.
    assert_eq!(store.save_token(&token_of("c")).await.unwrap(), id(3));
    fs::write(&place.file, &without).unwrap();
    assert!(store.delete_token(id(1)).await.unwrap());
    let fresh = place.open().await;
    assert_eq!(code(fresh.save_token(&fact).await), "record_deleted");
    assert_eq!(fresh.save_token(&token_of("d")).await.unwrap(), id(4));
}

#[tokio::test]
async fn a_missing_file_is_an_empty_store() {
    let place = Place::new();
    let store = place.open().await;
    store.save_token(&token_of("a")).await.unwrap();
    store.delete_token(id(1)).await.unwrap();
    fs::remove_file(&place.file).unwrap();
    assert!(store.get_tokens().await.unwrap().is_empty());
    assert_eq!(store.save_token(&token_of("b")).await.unwrap(), id(2));
}

#[tokio::test]
async fn an_operation_that_changes_nothing_writes_nothing() {
    let place = Place::with(
        "id,user_name,client_id,client_secret,refresh_token,access_token,grant_token,expiry_time,redirect_url\n",
    );
    let before = place.text();
    let store = place.open().await;
    assert!(!store.delete_token(id(1)).await.unwrap());
    assert_eq!(store.delete_tokens().await.unwrap(), 0);
    assert_eq!(
        code(store.save_token(&OAuthToken::new()).await),
        "invalid_input"
    );
    assert_eq!(place.text(), before);
}

#[cfg(unix)]
#[tokio::test]
async fn a_link_to_the_file_is_followed_and_stays() {
    let place = Place::new();
    let link = place.folder.path().join("link");
    // It leads nowhere yet.
    std::os::unix::fs::symlink(FileStore::DEFAULT_NAME, &link).unwrap();
    let through = FileStore::open(&link).await.unwrap();
    through.save_token(&token_of("a")).await.unwrap();
    let direct = place.open().await;
    assert_eq!(direct.save_token(&token_of("b")).await.unwrap(), id(2));
    assert_eq!(ids(&through.get_tokens().await.unwrap()), [1, 2]);
    assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
    assert_eq!(through.path(), direct.path());
    assert!(!place.folder.path().join("link.state").exists());
}

/// Official file stores kept 6 to 10 of 400.
#[tokio::test(flavor = "multi_thread")]
async fn eight_savers_at_once_lose_nothing() {
    let place = Place::new();
    let shared = Arc::new(place.open().await);
    let mut savers = tokio::task::JoinSet::new();
    for saver in 0..8 {
        // Half of them have a store object of their own, as other processes would.
        let store = match saver % 2 {
            0 => Arc::clone(&shared),
            _ => Arc::new(place.open().await),
        };
        savers.spawn(async move {
            for number in 0..50 {
                let token = token_of(&format!("user {saver}.{number}"));
                store.save_token(&token).await.unwrap();
            }
        });
    }
    savers.join_all().await;
    let stored = shared.get_tokens().await.unwrap();
    assert_eq!(ids(&stored), (1..=400).collect::<Vec<_>>());
    let mut names: Vec<_> = stored.iter().map(|token| &token.user_name).collect();
    names.sort();
    names.dedup();
    assert_eq!(names.len(), 400);
}

/// Whoever has the old file open goes on reading the old file, whole.
#[cfg(unix)]
#[tokio::test]
async fn a_write_puts_a_new_file_in_the_place_of_the_old_one() {
    let place = Place::new();
    let store = place.open().await;
    store.save_token(&token_of("a")).await.unwrap();
    let before = place.text();
    let mut old = fs::File::open(&place.file).unwrap();
    store.save_token(&token_of("b")).await.unwrap();
    store.delete_tokens().await.unwrap();
    let mut text = String::new();
    std::io::Read::read_to_string(&mut old, &mut text).unwrap();
    assert_eq!(text, before);
}

/// Official file stores answered "no such user" in 59 to 90 % of such reads.
#[tokio::test(flavor = "multi_thread")]
async fn readers_never_miss_a_record_while_others_write() {
    let place = Place::new();
    let store = Arc::new(place.open().await);
    store.save_token(&token_of("reader")).await.unwrap();
    let done = Arc::new(AtomicBool::new(false));
    let writer = tokio::spawn({
        let (store, done) = (Arc::clone(&store), Arc::clone(&done));
        async move {
            for number in 0..200 {
                let token = token_of(&format!("writer {number}"));
                store.save_token(&token).await.unwrap();
            }
            done.store(true, Ordering::Relaxed);
        }
    });
    let reader = place.open().await;
    let query = TokenQuery::user_name(user("reader"));
    let mut seen = 0;
    while !done.load(Ordering::Relaxed) && !writer.is_finished() {
        assert!(reader.find_token(&query).await.unwrap().is_some());
        let count = reader.get_tokens().await.unwrap().len();
        assert!(count >= seen, "{count} records after {seen}");
        seen = count;
    }
    writer.await.unwrap();
}

/// The first save has its turn and goes on behind the dropped future; the second never had one.
#[tokio::test]
async fn a_save_that_nobody_waits_for_is_done_or_never_begun() {
    let place = Place::new();
    let store = place.open().await;
    let (begun, waiting) = (token_of("begun"), token_of("waiting"));
    {
        let mut begun = store.save_token(&begun);
        let mut waiting = store.save_token(&waiting);
        std::future::poll_fn(|context| {
            assert!(begun.as_mut().poll(context).is_pending());
            assert!(waiting.as_mut().poll(context).is_pending());
            std::task::Poll::Ready(())
        })
        .await;
    }
    assert_eq!(store.save_token(&token_of("last")).await.unwrap(), id(2));
    let stored = store.get_tokens().await.unwrap();
    assert_eq!(stored[0].user_name, Some(user("begun")));
    assert_eq!(ids(&stored), [1, 2]);
}

#[tokio::test]
async fn somebody_else_with_the_lock_is_waited_for_and_then_named() {
    let place = Place::new();
    drop(place.open().await);
    fs::create_dir(place.side()).unwrap();
    let lock = fs::File::create(place.side().join("write.lock")).unwrap();
    lock.lock().unwrap();
    fs::write(place.side().join("write.lock"), "4711      \n").unwrap();

    let builder = FileStore::builder(&place.file).lock_timeout(Duration::from_millis(30));
    let store = builder.clone().open().await.unwrap();
    let error = store.save_token(&token_of("a")).await.unwrap_err();
    assert_eq!(error.code().as_str(), "store_locked");
    assert!(error.is_transient());
    let holder = "state/write.lock`, held by process 4711 or a child that it forked";
    assert!(error.message().ends_with(holder), "{error}");
    // Neither readers nor the making of an empty file need the lock.
    assert!(store.get_tokens().await.unwrap().is_empty());
    fs::remove_file(&place.file).unwrap();
    builder.open().await.unwrap();

    // The wait of each task counts from its own beginning, not from its turn.
    let (one, other) = (token_of("a"), token_of("b"));
    let (one, other) = tokio::join!(store.save_token(&one), store.save_token(&other));
    assert_eq!((code(one), code(other)), ("store_locked", "store_locked"));

    drop(lock);
    store.save_token(&token_of("a")).await.unwrap();
}

#[tokio::test]
async fn refreshing_is_agreed_on_among_the_processes_of_the_machine() {
    let place = Place::new();
    let store = place.open().await;
    let coordination = store.coordination().unwrap();
    assert_eq!(coordination.guarantee(), Guarantee::Host);
    let key = zoho_oauth::store::CoordinationKey::record(id(1));
    let permit = coordination.try_acquire(&key).await.unwrap().unwrap();
    // The holder can save, and nothing of the agreement shows in the official file.
    store.save_token(&token_of("a")).await.unwrap();
    assert_eq!(place.text().lines().count(), 2);
    let other = place.open().await;
    let other = other.coordination().unwrap();
    assert!(other.try_acquire(&key).await.unwrap().is_none());
    drop(permit);
    assert!(other.try_acquire(&key).await.unwrap().is_some());
}
