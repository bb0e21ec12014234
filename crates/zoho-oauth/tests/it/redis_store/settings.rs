//! What a server keeps, who may do what, TLS, and connections of the application.

use std::time::Duration;

use redis::aio::ConnectionManager;
use redis::{Client, Value};
use zoho_oauth::store::redis::Persistence;
use zoho_oauth::{Error, ErrorCode, RedisStore, TokenStore};

use super::server::Server;
use super::{login, run, shared, shared_server, unique, users};

async fn set(connection: &mut ConnectionManager, settings: &[(&str, &str)]) {
    for (name, value) in settings {
        run(connection, &["CONFIG", "SET", name, value]).await;
    }
}

#[tokio::test]
async fn what_the_server_keeps_is_told_and_can_be_required() {
    let server = Server::start(&[]);
    let mut connection = server.raw().await;
    for (settings, level) in [
        (&[][..], Persistence::None),
        (&[("save", "3600 1")], Persistence::SnapshotsOnly),
        (
            &[("appendonly", "yes"), ("appendfsync", "no")],
            Persistence::AppendOnly,
        ),
        (&[("appendfsync", "everysec")], Persistence::EverySec),
        (&[("appendfsync", "always")], Persistence::Always),
    ] {
        set(&mut connection, settings).await;
        let store = server.builder().connect().await.unwrap();
        assert_eq!(store.persistence(), level);
        for required in [
            Persistence::None,
            Persistence::EverySec,
            Persistence::Always,
        ] {
            let opened = server
                .builder()
                .require_persistence(required)
                .connect()
                .await;
            match opened {
                Ok(_) => assert!(level >= required),
                Err(error) => {
                    assert!(level < required, "{error}");
                    assert_eq!(error.code(), ErrorCode::Unsupported);
                    assert!(error.message().contains(&format!("{level:?}")), "{error}");
                }
            }
        }
    }
}

#[tokio::test]
async fn a_server_that_may_throw_tokens_away_is_refused() {
    let server = Server::start(&["--maxmemory-policy", "allkeys-lru"]);
    // Without a limit it throws nothing away.
    server.builder().connect().await.unwrap();
    let mut connection = server.raw().await;
    set(&mut connection, &[("maxmemory", "100mb")]).await;
    let existing = server.builder().connect_existing().await.unwrap();
    assert!(existing.is_some(), "what is there can be copied away");
    let error = server.builder().prefix("new").connect().await.unwrap_err();
    assert_eq!(error.code(), ErrorCode::Unsupported);
    assert!(error.message().contains("allkeys-lru"), "{error}");
    assert!(super::keys(&mut connection, "new").await.is_empty());
    for policy in ["volatile-lru", "noeviction"] {
        set(&mut connection, &[("maxmemory-policy", policy)]).await;
        server.builder().connect().await.unwrap();
    }
}

#[tokio::test]
async fn a_server_that_forbids_to_ask_says_less() {
    let server = Server::start(&[
        "--rename-command",
        "CONFIG",
        "",
        "--maxmemory-policy",
        "allkeys-lfu",
    ]);
    let store = server.builder().connect().await.unwrap();
    assert_eq!(store.persistence(), Persistence::Unknown);
    let server = Server::start(&["--rename-command", "CONFIG", "", "--appendonly", "yes"]);
    let store = server.builder().connect().await.unwrap();
    assert_eq!(store.persistence(), Persistence::AppendOnly);
    let server = Server::start(&[
        "--rename-command",
        "CONFIG",
        "",
        "--maxmemory",
        "100mb",
        "--maxmemory-policy",
        "allkeys-lfu",
    ]);
    let error = server.builder().connect().await.unwrap_err();
    assert_eq!(error.code(), ErrorCode::Unsupported);
}

/// Everything that an error and its causes say.
fn whole(error: &Error) -> String {
    let mut text = format!("{error} {error:?} {error:#?}");
    let mut source = std::error::Error::source(error);
    while let Some(error) = source {
        text.extend([error.to_string(), format!("{error:?}")]);
        source = error.source();
    }
    text
}

#[tokio::test]
async fn a_password_is_needed_and_never_printed() {
    let server = Server::start(&["--requirepass", "s3cret-pass"]);
    let impatient = || server.builder().retry_for(Duration::from_millis(100));
    for wrong in [
        impatient(),
        impatient().password("s3cret-wrong"),
        impatient().user("nobody").password("s3cret-pass"),
    ] {
        assert!(!format!("{wrong:?} {wrong:#?}").contains("s3cret"));
        let error = wrong.connect().await.unwrap_err();
        assert_eq!(error.code(), ErrorCode::StorePermission, "{error}");
        let text = whole(&error);
        assert!(!text.contains("s3cret"), "{text}");
        assert!(
            text.contains(&format!("127.0.0.1:{}", server.port)),
            "{text}"
        );
    }
    let store = impatient().password("s3cret-pass").connect().await.unwrap();
    store.save_token(&login("ann", "1")).await.unwrap();
    let text = format!("{store:?} {store:#?} {:?}", store.coordination());
    assert!(
        !text.contains("s3cret") && !text.contains("1000."),
        "{text}"
    );
    assert!(text.contains("zoho_oauth"), "{text}");

    // The password changes, and the connection breaks. When it is the old one again, so is all.
    let client = Client::open(format!("redis://:s3cret-pass@127.0.0.1:{}/", server.port)).unwrap();
    let mut connection = client.get_connection_manager().await.unwrap();
    set(&mut connection, &[("requirepass", "another")]).await;
    run(
        &mut connection,
        &["CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"],
    )
    .await;
    let error = store.get_tokens().await.unwrap_err();
    assert_eq!(error.code(), ErrorCode::StorePermission, "{error}");
    set(&mut connection, &[("requirepass", "s3cret-pass")]).await;
    assert_eq!(users(&store).await.unwrap(), ["ann"]);
}

#[tokio::test]
async fn what_a_user_may_not_do_shows_when_the_store_is_opened() {
    let server = Server::start(&[]);
    let mut connection = server.raw().await;
    let acl = |rules: &[&str]| {
        let rules = [
            &["ACL", "SETUSER", "portal", "reset", "on", ">s3cret"],
            rules,
        ]
        .concat();
        rules.into_iter().map(str::to_owned).collect::<Vec<_>>()
    };
    let mut allow = async |rules: &[&str]| {
        let words = acl(rules);
        let words: Vec<_> = words.iter().map(String::as_str).collect();
        run(&mut connection, &words).await;
        let builder = server.builder().user("portal").password("s3cret");
        builder.prefix("p").connect().await
    };
    for rules in [
        &["~*", "&*", "+@all", "-zadd"][..],
        &["~*", "&*", "+@all", "-@scripting"],
        &["~*", "&*", "+@read", "+@scripting", "+@connection"],
        &["~other*", "&*", "+@all"],
    ] {
        let error = allow(rules).await.unwrap_err();
        assert_eq!(
            error.code(),
            ErrorCode::StorePermission,
            "{rules:?} {error}"
        );
        assert!(!whole(&error).contains("s3cret"));
    }
    // Without CONFIG, INFO and channels a store can be used. It is only not told of changes.
    let rules = ["~{p}:*", "resetchannels", "+@all", "-config", "-info"];
    let store = allow(&rules).await.unwrap();
    assert_eq!(store.persistence(), Persistence::Unknown);
    let ann = store.save_token(&login("ann", "1")).await.unwrap();
    let bob = store.save_token(&login("bob", "1")).await.unwrap();
    assert_eq!([ann.get(), bob.get()], [1, 2]);
    assert!(store.delete_token(ann).await.unwrap());
    assert_eq!(store.delete_tokens().await.unwrap(), 1);
    // With INFO the history has a name from now on. That may be another one than it was.
    let store = allow(&["~{p}:*", "&*", "+@all"]).await.unwrap();
    assert!(store.save_token(&login("cid", "1")).await.unwrap().get() > 100_000);
    let store = allow(&rules).await.unwrap();
    let dan = store.save_token(&login("dan", "1")).await.unwrap();
    assert_eq!(users(&store).await.unwrap(), ["cid", "dan"]);
    assert!(dan.get() > 100_001);
}

#[tokio::test]
async fn settings_that_cannot_be_are_refused() {
    for builder in [
        RedisStore::builder().host(""),
        RedisStore::builder().prefix(""),
        RedisStore::builder().prefix("a}b"),
        RedisStore::builder().tls_roots("no certificate"),
    ] {
        let error = builder
            .retry_for(Duration::ZERO)
            .connect()
            .await
            .unwrap_err();
        assert_eq!(error.code(), ErrorCode::InvalidInput, "{error}");
    }
}

#[tokio::test]
async fn over_tls_the_certificate_is_checked() {
    let folder = tempfile::tempdir().unwrap();
    let rcgen::CertifiedKey { cert, signing_key } =
        rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    std::fs::write(path("cert"), cert.pem()).unwrap();
    std::fs::write(path("key"), signing_key.serialize_pem()).unwrap();
    let tls_port = super::server::free_port();
    let server = Server::start(&[
        "--tls-port",
        &tls_port.to_string(),
        "--tls-cert-file",
        &path("cert"),
        "--tls-key-file",
        &path("key"),
        "--tls-auth-clients",
        "no",
    ]);
    let builder = || RedisStore::builder().host("localhost").port(tls_port);
    let store = builder().tls_roots(cert.pem()).connect().await.unwrap();
    store.save_token(&login("ann", "1")).await.unwrap();
    let mut changes = store.changes().unwrap();
    assert_eq!(
        changes.recv().await.unwrap(),
        zoho_oauth::store::Change::Missed
    );

    let unknown = builder().tls().connect().await.unwrap_err();
    let other_name = builder()
        .host("127.0.0.1")
        .tls_roots(cert.pem())
        .connect()
        .await
        .unwrap_err();
    for error in [unknown, other_name] {
        assert_eq!(error.code(), ErrorCode::CertificateRefused);
        assert!(error.message().contains("certificate"), "{}", whole(&error));
    }
    // TLS asked of a port with plain text.
    let plain = RedisStore::builder().host("localhost").port(server.port);
    let plain = plain.tls_roots(cert.pem()).retry_for(Duration::ZERO);
    let error = plain.connect().await.unwrap_err();
    assert_eq!(error.code(), ErrorCode::StoreUnavailable);
    let said = error.message();
    assert!(said.contains("speak TLS at this port"), "{}", whole(&error));
    // Plain text to a port that wants TLS.
    let error = builder()
        .retry_for(Duration::ZERO)
        .connect()
        .await
        .unwrap_err();
    assert_eq!(error.code(), ErrorCode::StoreUnavailable);
}

#[tokio::test]
async fn a_connection_of_the_application_serves_too() {
    let (host, port) = shared_server();
    let prefix = unique();
    let store = RedisStore::from_connection(shared().await, prefix.as_str())
        .await
        .unwrap();
    let id = store.save_token(&login("ann", "1")).await.unwrap();
    assert!(store.changes().is_none(), "nobody said how to listen");
    assert_eq!(store.persistence(), Persistence::Always);

    // The newer protocol has other answers.
    let url = format!("redis://{host}:{port}/?protocol=resp3");
    let client = Client::open(url).unwrap();
    let other = RedisStore::builder()
        .prefix(prefix)
        .changes_from(client.clone());
    let connection = client.get_connection_manager().await.unwrap();
    let other = other.from_connection(connection).await.unwrap();
    assert_eq!(other.persistence(), Persistence::Always);
    assert_eq!(users(&other).await.unwrap(), ["ann"]);
    let mut changes = other.changes().unwrap();
    assert_eq!(
        changes.recv().await.unwrap(),
        zoho_oauth::store::Change::Missed
    );
    assert!(store.delete_token(id).await.unwrap());
    assert_eq!(
        changes.recv().await.unwrap(),
        zoho_oauth::store::Change::Record(id)
    );
}

#[tokio::test]
async fn replicas_are_waited_for() {
    let primary = Server::start(&["--repl-diskless-sync-delay", "0"]);
    let alone = primary
        .builder()
        .wait_replicas(1, Duration::from_millis(20));
    // There is none yet.
    let error = alone.clone().connect().await.unwrap_err();
    assert_eq!(error.code(), ErrorCode::StoreUnavailable);
    assert!(error.message().contains("0 of 1 replicas"), "{error}");

    let replica = Server::start(&["--replicaof", &format!("127.0.0.1 {}", primary.port)]);
    let store = primary
        .builder()
        .wait_replicas(1, Duration::from_secs(20))
        .connect()
        .await
        .unwrap();
    let mut connection = replica.raw().await;
    for number in 0..20 {
        let id = store
            .save_token(&login(&format!("user-{number}"), "1"))
            .await
            .unwrap();
        let key = format!("{{zoho_oauth}}:1:token:{id}");
        assert_eq!(run(&mut connection, &["EXISTS", &key]).await, Value::Int(1));
    }
    assert!(
        store
            .delete_token(store.get_tokens().await.unwrap()[0].id.unwrap())
            .await
            .unwrap()
    );
    assert_eq!(store.delete_tokens().await.unwrap(), 19);

    // A replica takes no writes: it is not mistaken for the primary.
    let reading = replica.builder().retry_for(Duration::from_millis(200));
    let error = reading.connect().await.unwrap_err();
    assert_eq!(error.code(), ErrorCode::StoreUnavailable);
}

#[tokio::test]
async fn a_store_that_is_there_is_opened_and_nothing_is_made() {
    let prefix = unique();
    let mut connection = shared().await;
    let existing = || super::builder(&prefix).connect_existing();
    assert!(existing().await.unwrap().is_none());
    assert!(super::keys(&mut connection, &prefix).await.is_empty());

    let store = super::builder(&prefix).connect().await.unwrap();
    store.save_token(&login("ann", "1")).await.unwrap();
    let before = super::keys(&mut connection, &prefix).await;
    let again = existing().await.unwrap().unwrap();
    assert_eq!(users(&again).await.unwrap(), ["ann"]);
    assert_eq!(again.persistence(), store.persistence());
    assert_eq!(super::keys(&mut connection, &prefix).await, before);
    again.save_token(&login("bob", "1")).await.unwrap();
    assert_eq!(users(&store).await.unwrap(), ["ann", "bob"]);
    // One that was emptied is there all the same.
    again.delete_tokens().await.unwrap();
    assert!(existing().await.unwrap().is_some());
}

/// The operator switched TLS off while the program runs: the settings were right, so it is the store
/// that is not available, and it is asked again.
#[tokio::test]
async fn a_server_that_stops_offering_tls_is_unavailable_and_says_why() {
    let folder = tempfile::tempdir().unwrap();
    let rcgen::CertifiedKey { cert, signing_key } =
        rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    std::fs::write(path("cert"), cert.pem()).unwrap();
    std::fs::write(path("key"), signing_key.serialize_pem()).unwrap();
    let port = super::server::free_port();
    let number = port.to_string();
    let (certificate, key) = (path("cert"), path("key"));
    let tls = [
        "--tls-port",
        &number,
        "--tls-cert-file",
        &certificate,
        "--tls-key-file",
        &key,
        "--tls-auth-clients",
        "no",
    ];
    let mut server = Server::start(&tls);
    let builder = RedisStore::builder().host("localhost").port(port);
    let builder = builder.tls_roots(cert.pem()).retry_for(Duration::ZERO);
    let store = builder.connect().await.unwrap();
    store.save_token(&login("ann", "1")).await.unwrap();
    server.kill();
    let plain = std::net::TcpListener::bind(("127.0.0.1", port)).unwrap();
    std::thread::spawn(move || {
        use std::io::{Read as _, Write as _};
        for socket in plain.incoming() {
            let mut socket = socket.unwrap();
            let _ = socket.read(&mut [0; 4096]);
            let _ = socket.write_all(b"-ERR unknown command\r\n");
        }
    });
    let mut said = String::new();
    // The first call may still meet the connection that broke.
    for _ in 0..3 {
        let error = store.get_tokens().await.unwrap_err();
        assert_eq!(error.code(), ErrorCode::StoreUnavailable, "{error:?}");
        assert!(error.is_transient());
        said = error.message().to_owned();
    }
    assert!(said.contains("does not speak TLS at this port"), "{said}");
}
