//! `MariaDb`.

use zoho_test_servers::{MariaDb, Options};

use crate::support::{Certificate, client, listens, printed};

/// What it acknowledged is there after a kill, on the same port; a dropped one is gone.
#[test]
fn mariadb_keeps_its_data_through_a_kill_and_is_gone_when_dropped() {
    let mut server = MariaDb::start().unwrap();
    let port = server.port();
    assert_eq!(server.url(), format!("mysql://root@127.0.0.1:{port}"));
    server
        .sql("CREATE DATABASE d; CREATE TABLE d.t (a INT, b TEXT)")
        .unwrap();
    server
        .sql("INSERT INTO d.t VALUES (1, 'x'), (2, 'y')")
        .unwrap();

    server.kill();
    assert!(!listens(port) && server.sql("SELECT 1").is_err());
    server.restart().unwrap();

    assert_eq!(server.port(), port);
    assert_eq!(
        server.sql("SELECT * FROM d.t ORDER BY a").unwrap(),
        "1\tx\n2\ty\n"
    );
    drop(server);
    assert!(!listens(port));
}

/// Root comes in over TCP without a password, and nobody without a name.
#[test]
fn mariadb_lets_root_in_by_tcp_with_or_without_tls_and_no_nameless_user() {
    let certificate = Certificate::new();
    let options = Options::new()
        .tls(&certificate.chain, &certificate.key)
        .arguments(["--max-connections=17"]);
    let server = MariaDb::start_with(&options).unwrap();
    let connect = |arguments: &[&str]| {
        let mut client = client("mariadb");
        client
            .args([
                "--no-defaults",
                "--protocol=tcp",
                "--host=127.0.0.1",
                "--batch",
            ])
            .args(["--skip-column-names", &format!("--port={}", server.port())])
            .args(arguments);
        client
    };
    let ca = format!("--ssl-ca={}", certificate.file().display());
    let cipher = printed(&mut connect(&[
        "--user=root",
        &ca,
        "--ssl-verify-server-cert",
        "--execute=SHOW STATUS LIKE 'Ssl_cipher'",
    ]));
    assert!(cipher.contains("TLS_"), "{cipher}");
    let most = [
        "--user=root",
        "--skip-ssl",
        "--execute=SELECT @@max_connections",
    ];
    assert_eq!(printed(&mut connect(&most)), "17");
    let nameless = connect(&["--user=nobody", "--execute=SELECT 1"])
        .output()
        .unwrap();
    assert!(!nameless.status.success());
}

/// A server that does not start says why.
#[test]
fn mariadb_shows_the_end_of_its_log_when_it_does_not_start() {
    let options = Options::new().arguments(["--no-such-setting=1"]);
    let told = MariaDb::start_with(&options).unwrap_err().to_string();
    assert!(
        told.starts_with("MariaDB ended before it was ready"),
        "{told}"
    );
    assert!(told.contains("no-such-setting"), "{told}");
}
