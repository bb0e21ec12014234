//! `Redis`.

use std::time::Duration;

use zoho_test_servers::{Options, Redis};

use crate::support::{Certificate, Connection, client, listens, printed};

/// What it acknowledged is there after a kill, on the same port; a dropped one is gone.
#[test]
fn redis_keeps_its_data_through_a_kill_and_is_gone_when_dropped() {
    let mut server = Redis::start().unwrap();
    let port = server.port();
    assert_eq!(server.url(), format!("redis://127.0.0.1:{port}"));
    assert_eq!(server.tls_port(), None);
    assert_eq!(server.command(&["SET", "key", "a b"]).unwrap(), "OK\n");

    server.kill();
    assert!(!listens(port));
    server.restart().unwrap();

    assert_eq!(server.port(), port);
    assert_eq!(server.command(&["GET", "key"]).unwrap(), "a b\n");
    drop(server);
    assert!(!listens(port));
}

/// Arguments come after ours, so that one that forgets can be had.
#[test]
fn redis_forgets_in_a_kill_when_told_to() {
    let mut server = Redis::start_with(&Options::new().arguments(["--appendonly", "no"])).unwrap();
    server.command(&["SET", "key", "1"]).unwrap();
    server.kill();
    server.restart().unwrap();
    assert_eq!(server.command(&["EXISTS", "key"]).unwrap(), "0\n");
}

#[test]
fn redis_speaks_tls_on_a_second_port() {
    let certificate = Certificate::new();
    let options = Options::new().tls(&certificate.chain, &certificate.key);
    let server = Redis::start_with(&options).unwrap();
    let port = server.tls_port().unwrap().to_string();
    let mut client = client("redis-cli");
    client
        .args(["-h", "127.0.0.1", "-p", &port, "--tls", "--cacert"])
        .arg(certificate.file())
        .arg("PING");
    assert_eq!(printed(&mut client), "PONG");
    assert_eq!(server.command(&["PING"]).unwrap(), "PONG\n");
}

/// A paused server keeps its connections and answers late.
#[test]
fn redis_that_is_paused_answers_when_it_goes_on() {
    let server = Redis::start().unwrap();
    let mut connection = Connection::open(server.port());
    connection.send_ping();
    assert!(connection.hears_pong(Duration::from_mins(1)));
    server.pause();
    connection.send_ping();
    assert!(!connection.hears_pong(Duration::from_millis(50)));
    server.resume();
    assert!(connection.hears_pong(Duration::from_mins(1)));
}

/// What a server refuses is an error of the client program, with its text.
#[test]
fn redis_errors_are_told() {
    let server = Redis::start().unwrap();
    let told = server
        .command(&["NO-SUCH-COMMAND"])
        .unwrap_err()
        .to_string();
    assert!(told.contains("unknown command"), "{told}");
    let options = Options::new().arguments(["--no-such-setting", "1"]);
    let told = Redis::start_with(&options).unwrap_err().to_string();
    assert!(
        told.starts_with("Redis ended before it was ready"),
        "{told}"
    );
    assert!(told.contains("no-such-setting"), "{told}");
}
