//! What networks and servers do to connections.

mod middleman;

use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use zoho_oauth::store::mysql::MySqlTls;
use zoho_oauth::store::{Coordination, CoordinationKey};
use zoho_oauth::{ErrorCode, ErrorKind, TokenQuery, TokenStore};
use zoho_test_servers::{MariaDb, Options};

use self::middleman::Middleman;
use super::concurrent::{official_number, official_write};
use super::*;

/// A store whose only connection goes through the middleman, and one that goes straight.
async fn both(database: &TestDatabase, middleman: &Middleman) -> (MySqlStore, MySqlStore) {
    let through = database
        .builder()
        .hosts([format!("127.0.0.1:{}", middleman.port())])
        .pool_size(1);
    (through.connect().await.unwrap(), database.open().await)
}

/// An operation through the middleman.
type Work<'a> = std::pin::Pin<Box<dyn Future<Output = ()> + Send + 'a>>;

/// Does the work again and again, and each time the connection is cut behind another statement,
/// which the server has carried out: at the first, at the second, until there are no more.
async fn with_each_answer_lost<'a>(
    middleman: &'a Middleman,
    warm: &MySqlStore,
    work: impl Fn() -> Work<'a> + Send + Sync,
) {
    let mut cuts = 0;
    loop {
        // So that opening a connection is not what is cut.
        warm.find_token_by_id(id(1)).await.unwrap();
        middleman.cut_after(cuts + 1);
        work().await;
        if !middleman.has_cut() {
            break;
        }
        cuts += 1;
        assert!(cuts < 100, "it never ends");
    }
    assert!(cuts > 0, "nothing was cut");
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_that_are_lost_are_found_out() {
    let database = TestDatabase::new().await;
    let middleman = Middleman::before(address().tcp_port()).await;
    let (store, straight) = both(&database, &middleman).await;
    let (store, straight) = (&store, &straight);

    let inserts = || -> Work<'_> {
        Box::pin(async move {
            straight.delete_tokens().await.unwrap();
            let id = store.save_token(&user("ann")).await.unwrap();
            let all = straight.get_tokens().await.unwrap();
            assert_eq!(all, [with_id(id, user("ann"))]);
        })
    };
    with_each_answer_lost(&middleman, store, inserts).await;

    let ann = straight.get_tokens().await.unwrap()[0].id.unwrap();
    let updates = || -> Work<'_> {
        Box::pin(async move {
            let mut renewed = user("ann");
            renewed.access_token = access(&format!("x{}", fastrand::u64(..)));
            assert_eq!(store.save_token(&renewed).await.unwrap(), ann);
            let all = straight.get_tokens().await.unwrap();
            assert_eq!(all, [with_id(ann, renewed)]);
        })
    };
    with_each_answer_lost(&middleman, store, updates).await;

    let joins = || -> Work<'_> {
        Box::pin(async move {
            let mut nameless = OAuthToken::new();
            nameless.client_id = user("ann").client_id;
            nameless.refresh_token = RefreshToken::new("another").ok();
            straight.save_token(&nameless).await.unwrap();
            let mut learned = user("ann");
            learned.refresh_token.clone_from(&nameless.refresh_token);
            assert_eq!(store.save_token(&learned).await.unwrap(), ann);
            let all = straight.get_tokens().await.unwrap();
            assert_eq!(all, [with_id(ann, learned)]);
        })
    };
    with_each_answer_lost(&middleman, store, joins).await;

    let reads = || -> Work<'_> {
        Box::pin(async move {
            let name = UserName::new("ann").unwrap();
            let found = store
                .find_token(&TokenQuery::user_name(name))
                .await
                .unwrap();
            assert_eq!(found.unwrap().id, Some(ann));
            assert_eq!(store.get_tokens().await.unwrap().len(), 1);
            assert_eq!(store.get_tokens_page(None, 9).await.unwrap().len(), 1);
        })
    };
    with_each_answer_lost(&middleman, store, reads).await;

    let deletes = || -> Work<'_> {
        Box::pin(async move {
            let id = straight.save_token(&user("bob")).await.unwrap();
            assert!(store.delete_token(id).await.unwrap());
            assert!(!store.delete_token(id).await.unwrap());
            assert_eq!(straight.get_tokens().await.unwrap().len(), 1);
        })
    };
    with_each_answer_lost(&middleman, store, deletes).await;

    let clears = || -> Work<'_> {
        Box::pin(async move {
            straight.save_token(&user("ann")).await.unwrap();
            straight.save_token(&user("bob")).await.unwrap();
            assert_eq!(store.delete_tokens().await.unwrap(), 2);
            assert_eq!(straight.get_tokens().await.unwrap(), []);
        })
    };
    with_each_answer_lost(&middleman, store, clears).await;

    let key = &CoordinationKey::record(id(7));
    let leases = || -> Work<'_> {
        Box::pin(async move {
            let fleet: [&dyn Coordination; 2] = [
                store.coordination().unwrap(),
                straight.coordination().unwrap(),
            ];
            let permit = fleet[0].try_acquire(key).await.unwrap().unwrap();
            assert!(fleet[1].try_acquire(key).await.unwrap().is_none());
            permit.release(None).await.unwrap();
            let permit = fleet[1].try_acquire(key).await.unwrap().unwrap();
            permit.release(None).await.unwrap();
        })
    };
    with_each_answer_lost(&middleman, store, leases).await;
}

/// A session whose name turns out to be that of another record: the two are joined by an id that is
/// gone when they are.
#[tokio::test(flavor = "multi_thread")]
async fn a_merge_whose_answer_is_lost_is_found_out() {
    let database = TestDatabase::new().await;
    let middleman = Middleman::before(address().tcp_port()).await;
    let (store, straight) = both(&database, &middleman).await;
    let (store, straight) = (&store, &straight);
    straight.save_token(&user("ann")).await.unwrap();
    let merges = || -> Work<'_> {
        Box::pin(async move {
            let mut nameless = OAuthToken::new();
            nameless.client_id = user("ann").client_id;
            nameless.refresh_token = RefreshToken::new(format!("r{}", fastrand::u64(..))).ok();
            let nameless_id = straight.save_token(&nameless).await.unwrap();
            let mut named = nameless.clone();
            named.id = Some(nameless_id);
            named.user_name = UserName::new("ann").ok();
            let kept = store.save_token(&named).await.unwrap();
            let all = straight.get_tokens().await.unwrap();
            assert_eq!(all.len(), 1, "{all:?}");
            assert_eq!(all[0].id, Some(kept));
            assert_eq!(all[0].refresh_token, nameless.refresh_token);
        })
    };
    with_each_answer_lost(&middleman, store, merges).await;
}

/// An official SDK adds so many records between our last look and our commit that it is about to
/// give the number that ours has. It writes at once, or after the save.
#[tokio::test(flavor = "multi_thread")]
async fn an_official_sdk_that_caught_up_writes_over_no_record_of_ours() {
    for (is_shared, is_early) in [(false, false), (false, true), (true, false), (true, true)] {
        let database = TestDatabase::official().await;
        let middleman = Middleman::before(address().tcp_port()).await;
        let hosts = [format!("127.0.0.1:{}", middleman.port())];
        let mut store = database.builder().hosts(hosts).pool_size(1);
        // For as long as it takes them.
        store = store.timeout(PATIENCE);
        let mut last = 0;
        if is_shared {
            store = store.ids_from(MySqlStore::SHARED_IDS);
        }
        let store = store.connect().await.unwrap();
        if is_shared {
            last = store.save_token(&user("ann")).await.unwrap().get();
        }
        // What is told to a new connection is not what is held.
        store.get_tokens().await.unwrap();

        let mut held = middleman.hold(b"COMMIT");
        let saving = store.clone();
        let saving = tokio::spawn(async move { saving.save_token(&user("bob")).await });
        let commit = held.recv().await.unwrap();
        let mut conn = database.connection().await;
        for _ in 0..8 {
            let number = official_number(&mut conn).await;
            official_write(&mut conn, number, &format!("theirs-{number}")).await;
        }
        let number = official_number(&mut conn).await;
        assert_eq!(number, last + 9);
        let writing = async move { official_write(&mut conn, number, "theirs").await };
        // All that comes after the commit.
        let mut held = middleman.hold(b"\0");
        let saved;
        if is_early {
            // It waits for the commit, if it comes before it.
            let writing = tokio::spawn(writing);
            commit.send(()).unwrap();
            writing.await.unwrap();
            saved = release_all(&mut held, saving).await;
        } else {
            commit.send(()).unwrap();
            saved = release_all(&mut held, saving).await;
            writing.await;
        }

        let saved = saved.unwrap().unwrap();
        let all = database.open().await.get_tokens().await.unwrap();
        assert!(all.contains(&with_id(saved, user("bob"))), "{all:?}");
        let theirs = ClientId::new("1000.THEIRS").ok();
        let theirs = all.iter().filter(|token| token.client_id == theirs);
        assert_eq!(theirs.count(), 9, "{all:?}");
        assert_eq!(all.len(), 10 + usize::from(is_shared), "{all:?}");
    }
}

/// Lets everything go on its way until the work is done.
async fn release_all<T>(
    held: &mut tokio::sync::mpsc::UnboundedReceiver<tokio::sync::oneshot::Sender<()>>,
    mut work: tokio::task::JoinHandle<T>,
) -> Result<T, tokio::task::JoinError> {
    loop {
        tokio::select! {
            done = &mut work => return done,
            Some(command) = held.recv() => drop(command.send(())),
        }
    }
}

/// Reads work and writes stand still, as while somebody makes a backup.
#[tokio::test(flavor = "multi_thread")]
async fn a_table_that_takes_no_writes_is_not_waited_for_for_ever() {
    let database = TestDatabase::new().await;
    let builder = database.builder().timeout(Duration::from_millis(300));
    let store = builder.patience(Duration::from_secs(2)).connect().await;
    let store = store.unwrap();
    let saved = store.save_token(&user("ann")).await.unwrap();

    let mut conn = database.connection().await;
    let lock = "LOCK TABLES zoho_oauth_lease READ, oauthtoken READ, zoho_oauth_mark READ";
    conn.query_drop(lock).await.unwrap();
    let coordination = store.coordination().unwrap();
    let key = CoordinationKey::record(saved);
    let limit = Duration::from_secs(30);
    let taken = tokio::time::timeout(limit, coordination.try_acquire(&key));
    let taken = taken.await.expect("it gives up by itself").unwrap_err();
    assert_eq!(taken.code(), ErrorCode::StoreUnavailable);
    let deleted = tokio::time::timeout(limit, store.delete_token(saved));
    let deleted = deleted.await.expect("it gives up by itself").unwrap_err();
    assert_eq!(deleted.kind(), ErrorKind::StoreUnavailable, "{deleted}");

    conn.query_drop("UNLOCK TABLES").await.unwrap();
    assert!(coordination.try_acquire(&key).await.unwrap().is_some());
}

/// Lets this much time go by for this process alone.
async fn let_time_pass(time: Duration) {
    tokio::time::pause();
    tokio::time::advance(time).await;
    tokio::time::resume();
}

/// The answer to a swap is lost, it is not done yet when the store looks, and then it is: it stays
/// the store's own, and not somebody else's for as long as a lease lives.
#[tokio::test]
async fn a_swap_that_comes_about_late_is_known_again() {
    let database = TestDatabase::new().await;
    let middleman = Middleman::before(address().tcp_port()).await;
    let through = database
        .builder()
        .hosts([format!("127.0.0.1:{}", middleman.port())])
        .timeout(Duration::from_secs(8));
    let through = through.connect().await.unwrap();
    let key = CoordinationKey::record(id(7));
    // What is written, and not what is asked for.
    let mut held = middleman.hold(b"\"fence\":");
    let acquiring = tokio::spawn(async move {
        let permit = through.coordination().unwrap().try_acquire(&key).await;
        permit.unwrap().is_some()
    });
    let first = held.recv().await.unwrap();
    let_time_pass(Duration::from_secs(9)).await;
    let second = held.recv().await.unwrap();
    first.send(()).unwrap();
    let cells = "SELECT COUNT(*) FROM zoho_oauth_lease";
    tokio::time::timeout(PATIENCE, async {
        while database.ask(cells).await == ["0"] {}
    })
    .await
    .unwrap();
    second.send(()).unwrap();
    assert!(acquiring.await.unwrap(), "nobody has it, and it is taken");
}

/// Looking at all ids takes as long as the table is, and not as a statement may take.
#[tokio::test]
async fn the_last_page_takes_its_time() {
    let database = TestDatabase::new().await;
    let middleman = Middleman::before(address().tcp_port()).await;
    let (store, _) = both(&database, &middleman).await;
    let ann = store.save_token(&user("ann")).await.unwrap();
    let mut held = middleman.hold(b"CHAR_LENGTH(id), id LIMIT");
    let reading = tokio::spawn(async move { store.get_tokens_page(None, 9).await });
    let scan = held.recv().await.unwrap();
    let_time_pass(Duration::from_mins(2)).await;
    scan.send(()).expect("the command is still held");
    let page = reading.await.unwrap().unwrap();
    assert_eq!(page, [with_id(ann, user("ann"))]);
}

/// So does taking all records away, up to the answer that they are gone.
#[tokio::test]
async fn taking_all_records_away_takes_its_time() {
    let database = TestDatabase::new().await;
    let middleman = Middleman::before(address().tcp_port()).await;
    for statement in [&b"DELETE FROM `oauthtoken`"[..], b"COMMIT"] {
        let (store, straight) = both(&database, &middleman).await;
        store.save_token(&user("ann")).await.unwrap();
        let mut held = middleman.hold(statement);
        let deleting = tokio::spawn(async move { store.delete_tokens().await });
        let held = held.recv().await.unwrap();
        let_time_pass(Duration::from_mins(2)).await;
        held.send(()).expect("the command is still held");
        assert_eq!(deleting.await.unwrap().unwrap(), 1);
        assert_eq!(straight.get_tokens().await.unwrap(), []);
    }
}

/// What is remembered of the records goes when they are gone, a part at a time, and what is of use
/// stays.
#[tokio::test]
async fn what_is_remembered_of_all_records_stands_in_nobodys_way() {
    let database = TestDatabase::new().await;
    let middleman = Middleman::before(address().tcp_port()).await;
    let (store, straight) = both(&database, &middleman).await;
    store.save_token(&user("ann")).await.unwrap();
    database
        .run(
            "INSERT INTO zoho_oauth_lease SELECT 'oauthtoken', CONCAT('id:', seq), '', 0 \
            FROM seq_1_to_2000; UPDATE zoho_oauth_mark SET highest_id = 2000; \
            INSERT INTO zoho_oauth_lease VALUES ('oauthtoken', 'start:x', '', 0), \
            ('oauthtoken', 'id:2009', '', 0), ('another', 'id:7', '', 0)",
        )
        .await;
    let mut held = middleman.hold(b"DELETE FROM zoho_oauth_lease");
    let deleting = tokio::spawn(async move { store.delete_tokens().await });
    let held = held.recv().await.unwrap();
    assert_eq!(straight.get_tokens().await.unwrap(), []);
    let bob = straight.save_token(&user("bob")).await.unwrap();
    // Some are left out, as after each record that was deleted.
    assert_eq!(bob, id(2009));
    held.send(()).expect("the command is still held");
    assert_eq!(deleting.await.unwrap().unwrap(), 1);
    let cells = "SELECT CONCAT(token_table, ' ', lease_key) FROM zoho_oauth_lease ORDER BY 1";
    let left = ["another id:7", "oauthtoken id:2009", "oauthtoken start:x"];
    assert_eq!(database.ask(cells).await, left);
}

#[tokio::test(flavor = "multi_thread")]
async fn another_node_is_used_when_one_is_gone_and_until_it_fails() {
    let database = TestDatabase::new().await;
    let nodes = [
        Middleman::before(address().tcp_port()).await,
        Middleman::before(address().tcp_port()).await,
    ];
    let hosts = nodes
        .each_ref()
        .map(|node| format!("127.0.0.1:{}", node.port()));
    let builder = database.builder();
    let dead = ["127.0.0.1:1".to_owned()];
    let store = builder
        .hosts(dead.into_iter().chain(hosts))
        .connect()
        .await
        .unwrap();
    let served = || nodes.each_ref().map(Middleman::commands);
    let id = store.save_token(&user("ann")).await.unwrap();
    assert_eq!(served()[1], 0);
    let find = async || store.find_token_by_id(id).await.unwrap().unwrap();
    find().await;
    assert_eq!(served()[1], 0);

    nodes[0].stop();
    find().await;
    assert!(served()[1] > 0);
    store.save_token(&user("bob")).await.unwrap();
    // The first one is back; there is no need of it.
    nodes[0].go_on();
    let before = served()[0];
    find().await;
    assert_eq!(served()[0], before);
    nodes[1].stop();
    find().await;
    assert!(served()[0] > before);
    assert_eq!(store.get_tokens().await.unwrap().len(), 2);
}

/// A server of this test's own is killed in the middle of saves, and comes back.
#[tokio::test(flavor = "multi_thread")]
async fn a_killed_server_that_comes_back_is_waited_for() {
    let mut server = tokio::task::spawn_blocking(|| MariaDb::start().unwrap())
        .await
        .unwrap();
    server.sql("CREATE DATABASE portal").unwrap();
    let store = MySqlStore::builder()
        .port(server.port())
        .host("127.0.0.1")
        .database("portal")
        .patience(PATIENCE)
        .connect()
        .await
        .unwrap();
    let id = store.save_token(&user("ann")).await.unwrap();
    let writer = store.clone();
    let (told, mut hear) = tokio::sync::watch::channel(0_u32);
    let saves = tokio::spawn(async move {
        for number in 1..=300 {
            let mut token = user("ann");
            token.access_token = access(&format!("x{number}"));
            writer.save_token(&token).await.unwrap();
            writer
                .save_token(&user(&format!("u{number}")))
                .await
                .unwrap();
            told.send_replace(number);
        }
    });
    for moment in [50, 120] {
        hear.wait_for(|number| *number >= moment).await.unwrap();
        let restart = move || {
            server.kill();
            server.restart().unwrap();
            server
        };
        server = tokio::task::spawn_blocking(restart).await.unwrap();
    }
    saves.await.unwrap();
    let all = store.get_tokens().await.unwrap();
    assert_eq!(all.len(), 301);
    let ann = all.iter().find(|token| token.id == Some(id)).unwrap();
    assert_eq!(ann.access_token, access("x300"));

    // One that stands still is given up in time, and used again when it goes on.
    let hasty = MySqlStore::builder()
        .hosts([format!("127.0.0.1:{}", server.port())])
        .database("portal")
        .timeout(Duration::from_secs(2))
        .connect_timeout(Duration::from_secs(2))
        .patience(Duration::from_millis(100))
        .connect()
        .await
        .unwrap();
    server.pause();
    for _ in 0..2 {
        let error = hasty.find_token_by_id(id).await.unwrap_err();
        assert_eq!(error.code(), ErrorCode::StoreUnavailable);
        assert!(error.is_transient());
    }
    server.resume();
    assert!(hasty.find_token_by_id(id).await.unwrap().is_some());
}

#[tokio::test]
async fn a_pool_of_the_application_stays_its_own() {
    let database = TestDatabase::new().await;
    let pool = careless_pool(&database.name, 10);
    let store = MySqlStore::from_pool(pool.clone(), "tokens").await.unwrap();
    let id = store.save_token(&user("ann")).await.unwrap();
    let text = format!("{store:?}");
    assert!(
        text.contains("tokens") && text.contains("application"),
        "{text}"
    );
    // Somebody returns a connection with a transaction half done: that is theirs, not ours.
    let mut conn = pool.get_conn().await.unwrap();
    conn.query_drop("START TRANSACTION; DELETE FROM tokens")
        .await
        .unwrap();
    drop(conn);
    assert!(store.find_token_by_id(id).await.unwrap().is_some());
    let mut renewed = user("ann");
    renewed.access_token = access("renewed");
    store.save_token(&renewed).await.unwrap();
    // What we did is committed, although these connections commit nothing by themselves.
    let other = database.builder().table("tokens").connect().await.unwrap();
    assert_eq!(other.get_tokens().await.unwrap(), [with_id(id, renewed)]);
    store.disconnect().await;
    let mut conn = pool.get_conn().await.unwrap();
    let one: Option<u8> = conn.query_first("SELECT 1").await.unwrap();
    assert_eq!(one, Some(1));
    drop(conn);
    pool.disconnect().await.unwrap();

    // A limit within which nothing can be done is a mistake with any pool.
    let zero = MySqlStore::builder().timeout(Duration::ZERO);
    let pool = careless_pool(&database.name, 1);
    let error = zero.open_pool(pool).await.unwrap_err();
    assert_eq!(error.code(), ErrorCode::InvalidInput);

    // Without a database there is no table.
    let nowhere = Pool::new(OptsBuilder::from_opts(address()).prefer_socket(false));
    let error = MySqlStore::from_pool(nowhere, "tokens").await.unwrap_err();
    assert_eq!(error.code(), ErrorCode::InvalidInput);
}

/// What somebody left half done, on the only connection there is, is taken back: nothing of ours
/// gets into it or ends it, whatever the last thing was that the server said.
#[tokio::test]
async fn a_transaction_that_an_application_left_open_is_not_gone_on_with() {
    let database = TestDatabase::new().await;
    let pool = careless_pool(&database.name, 1);
    let store = MySqlStore::from_pool(pool.clone(), "tokens").await.unwrap();
    let other = database.builder().table("tokens").connect().await.unwrap();
    let mut ann = user("ann");
    ann.id = Some(store.save_token(&ann).await.unwrap());
    for begin in ["SET autocommit = 0", "START TRANSACTION"] {
        for work in [
            "DELETE FROM tokens",
            "UPDATE tokens SET api_domain = 'theirs'",
        ] {
            for last in [
                "SELECT 1",
                "INSERT INTO tokens (id) VALUES ('77'), ('77')",
                "no statement",
            ] {
                let mut conn = pool.get_conn().await.unwrap();
                conn.query_drop(begin).await.unwrap();
                conn.query_drop(work).await.unwrap();
                drop(conn.query_drop(last).await);
                drop(conn);
                ann.access_token = access(&format!("x{}", fastrand::u64(..)));
                store.save_token(&ann).await.unwrap();
                let why = format!("{begin}; {work}; {last}");
                // What others see is what was committed, and that is not taken back either.
                drop(pool.get_conn().await.unwrap());
                let all = other.get_tokens().await.unwrap();
                assert_eq!(all, std::slice::from_ref(&ann), "{why}");
                let found = store.find_token_by_id(ann.id.unwrap()).await.unwrap();
                assert_eq!(found.as_ref(), Some(&ann), "{why}");
                let all = other.get_tokens().await.unwrap();
                assert_eq!(all, std::slice::from_ref(&ann), "{why}");
            }
        }
    }
}

/// A pool all of whose connections begin in a transaction: each is closed, and no end would be.
#[tokio::test]
async fn connections_that_all_come_with_a_transaction_are_said() {
    let database = TestDatabase::new().await;
    let pool = PoolOpts::default().with_constraints(PoolConstraints::new(0, 3).unwrap());
    let options = database.options().pool_opts(pool);
    let pool = Pool::new(options.setup(vec!["START TRANSACTION"]));
    let opening = MySqlStore::from_pool(pool, "tokens");
    let opened = tokio::time::timeout(PATIENCE, opening).await;
    let error = opened.expect("it gives up by itself").unwrap_err();
    assert_eq!(error.code(), ErrorCode::StoreUnavailable);
    assert!(error.message().contains("left open"), "{error}");
}

#[tokio::test]
async fn a_disconnected_store_says_so() {
    let database = TestDatabase::new().await;
    let store = database.open().await;
    let clone = store.clone();
    store.disconnect().await;
    let error = clone.get_tokens().await.unwrap_err();
    assert_eq!(error.code(), ErrorCode::StoreUnavailable);
    assert!(error.message().contains("disconnected"), "{error}");
}

/// No connection is held between two questions, nor while somebody else is asked something.
#[tokio::test]
async fn one_connection_serves_many_tasks_and_the_leases() {
    let database = TestDatabase::new().await;
    let store = Arc::new(database.builder().pool_size(1).connect().await.unwrap());
    let key = CoordinationKey::record(id(7));
    let permit = store
        .coordination()
        .unwrap()
        .try_acquire(&key)
        .await
        .unwrap()
        .unwrap();
    let mut tasks = tokio::task::JoinSet::new();
    for number in 0..20 {
        let store = store.clone();
        tasks.spawn(async move {
            store
                .save_token(&user(&format!("u{number}")))
                .await
                .unwrap()
        });
    }
    let ids = tokio::time::timeout(PATIENCE, tasks.join_all())
        .await
        .unwrap();
    assert_eq!(ids.len(), 20);
    permit.release(None).await.unwrap();
}

/// An authority, and a certificate that it made for `name`: certificate, key, authority.
pub(super) fn certificate(name: &str) -> (String, String, String) {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let key = KeyPair::generate().unwrap();
    let authority = params.self_signed(&key).unwrap().pem();
    let issuer = Issuer::new(params, key);
    let key = KeyPair::generate().unwrap();
    let params = CertificateParams::new(vec![name.to_owned()]).unwrap();
    let certificate = params.signed_by(&key, &issuer).unwrap();
    (certificate.pem(), key.serialize_pem(), authority)
}

#[tokio::test]
async fn a_server_over_tls_is_believed_by_its_certificate_alone() {
    let (chain, key, authority) = certificate("db.example.com");
    let server = tokio::task::spawn_blocking(move || {
        let options = Options::new().tls(chain, key);
        let options = options.arguments(["--require-secure-transport=ON"]);
        MariaDb::start_with(&options).unwrap()
    });
    let server = server.await.unwrap();
    server.sql("CREATE DATABASE portal").unwrap();
    let builder = MySqlStore::builder()
        .hosts([format!("127.0.0.1:{}", server.port())])
        .database("portal")
        .patience(Duration::ZERO);
    // Not without TLS, not to whom another authority vouches for, not to another host.
    let error = builder.clone().connect().await.unwrap_err();
    assert_eq!(error.code(), ErrorCode::StorePermission, "{error}");
    let (_, _, other) = certificate("db.example.com");
    for tls in [
        MySqlTls::system(),
        MySqlTls::authorities(other).host_name("db.example.com"),
        MySqlTls::authorities(&authority),
    ] {
        let error = builder.clone().tls(tls).connect().await.unwrap_err();
        assert_eq!(error.code(), ErrorCode::CertificateRefused, "{error}");
        assert!(error.message().contains("not trusted"), "{error}");
    }
    let tls = MySqlTls::authorities(&authority).host_name("db.example.com");
    let store = builder.tls(tls).connect().await.unwrap();
    store.save_token(&user("ann")).await.unwrap();
    assert_eq!(store.get_tokens().await.unwrap().len(), 1);

    // The host is the one that the certificate names.
    let (chain, key, authority) = certificate("localhost");
    let server = tokio::task::spawn_blocking(move || {
        MariaDb::start_with(&Options::new().tls(chain, key)).unwrap()
    });
    let server = server.await.unwrap();
    server.sql("CREATE DATABASE portal").unwrap();
    let builder = MySqlStore::builder().port(server.port()).database("portal");
    let tls = MySqlTls::authorities(&authority);
    let store = builder.clone().tls(tls).connect().await.unwrap();
    store.save_token(&user("ann")).await.unwrap();
    // Without a word, this machine is reached in the open.
    let plain = builder.connect().await.unwrap();
    assert_eq!(plain.get_tokens().await.unwrap().len(), 1);
}

/// Who asks for TLS gets it or an error.
#[tokio::test]
async fn a_server_without_tls_is_refused_where_tls_is_asked_for() {
    let server = tokio::task::spawn_blocking(|| {
        MariaDb::start_with(&Options::new().arguments(["--skip-ssl"])).unwrap()
    });
    let server = server.await.unwrap();
    let (_, _, authority) = certificate("localhost");
    let tls = MySqlTls::authorities(&authority);
    let builder = MySqlStore::builder().port(server.port()).database("mysql");
    let error = builder.tls(tls).connect().await.unwrap_err();
    assert_eq!(error.code(), ErrorCode::StoreUnavailable, "{error}");
    assert!(error.message().contains("no TLS"), "{error}");
}
