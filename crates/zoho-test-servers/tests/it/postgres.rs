//! `Postgres` and `PgBouncer`.

use zoho_test_servers::{Options, PgBouncer, Postgres};

use crate::support::{Certificate, client, listens, printed, wait_until};

/// What it acknowledged is there after a kill, on the same port; a dropped one is gone.
#[test]
fn postgres_keeps_its_data_through_a_kill_and_is_gone_when_dropped() {
    let mut server = Postgres::start().unwrap();
    let port = server.port();
    assert_eq!(
        server.url(),
        format!("postgres://postgres@127.0.0.1:{port}/postgres")
    );
    assert_eq!(server.sql("SHOW fsync").unwrap(), "on\n");
    server.sql("CREATE TABLE t (a INT, b TEXT)").unwrap();
    server
        .sql("INSERT INTO t VALUES (1, 'x'), (2, 'y')")
        .unwrap();

    server.kill();
    assert!(!listens(port) && server.sql("SELECT 1").is_err());
    server.restart().unwrap();

    assert_eq!(server.port(), port);
    assert_eq!(
        server.sql("SELECT * FROM t ORDER BY a").unwrap(),
        "1\tx\n2\ty\n"
    );
    drop(server);
    assert!(!listens(port));
}

/// A connection's own process, leader of a session of its own, is killed with the server. This one
/// is too busy to notice by itself that the first process is gone.
#[test]
fn postgres_leaves_no_processes_of_connections_behind_a_kill() {
    let mut server = Postgres::start().unwrap();
    let mut busy = psql(server.port())
        .arg("--command=DO 'BEGIN LOOP END LOOP; END'")
        // Should it be left behind all the same, then not for ever.
        .env("PGOPTIONS", "-c statement_timeout=2min")
        .stderr(std::process::Stdio::null())
        .spawn()
        .unwrap();
    let started = "SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'DO %LOOP%'";
    wait_until(|| server.sql(started).unwrap() == "1\n");
    server.kill();
    // It refuses to start while a process of its former life has the data open.
    server.restart().unwrap();
    assert!(!busy.wait().unwrap().success());
}

/// Over TCP, with the certificate checked; who may come in is what the test says.
#[test]
fn postgres_speaks_tls_and_asks_for_passwords_when_told_to() {
    let certificate = Certificate::new();
    let options = Options::new()
        .tls(&certificate.chain, &certificate.key)
        .hba("hostssl all all 127.0.0.1/32 scram-sha-256")
        .arguments(["-c", "max_connections=17"]);
    let server = Postgres::start_with(&options).unwrap();
    server.sql("CREATE ROLE r LOGIN PASSWORD 'p'").unwrap();
    let connect = |mode, password| {
        let mut client = psql(server.port());
        client
            .args(["--username=r", "--command=SHOW max_connections"])
            .env("PGSSLMODE", mode)
            .env("PGSSLROOTCERT", certificate.file())
            .env("PGPASSWORD", password);
        client
    };
    assert_eq!(printed(&mut connect("verify-full", "p")), "17");
    for (mode, password) in [("verify-full", "q"), ("disable", "p")] {
        let refused = connect(mode, password).output().unwrap();
        assert!(!refused.status.success(), "{mode} {password}");
    }
}

/// Statements come through, each transaction on whatever connection is free.
#[test]
fn pgbouncer_hands_a_postgres_on_by_transactions() {
    let server = Postgres::start().unwrap();
    let few = Options::new().arguments(["default_pool_size = 1"]);
    let bouncer = PgBouncer::start_with(&server, &few).unwrap();
    let port = bouncer.port();
    assert_eq!(
        bouncer.url(),
        format!("postgres://postgres@127.0.0.1:{port}/postgres")
    );
    let backend = || printed(psql(port).arg("--command=SELECT pg_backend_pid()"));
    assert_eq!(backend(), backend());
    // A table of the session, made by one client and seen by the next: only transactions are apart.
    printed(psql(port).arg("--command=CREATE TEMPORARY TABLE seen (a INT)"));
    assert_eq!(
        printed(psql(port).arg("--command=SELECT count(*) FROM seen")),
        "0"
    );
    drop(bouncer);
    assert!(!listens(port));
}

/// One that does not start says why.
#[test]
fn postgres_shows_the_end_of_its_log_when_it_does_not_start() {
    let options = Options::new().arguments(["-c", "no_such_setting=1"]);
    let told = Postgres::start_with(&options).unwrap_err().to_string();
    assert!(
        told.starts_with("PostgreSQL ended before it was ready"),
        "{told}"
    );
    assert!(told.contains("no_such_setting"), "{told}");
}

fn psql(port: u16) -> std::process::Command {
    let mut client = client("psql");
    client
        .args([
            "--no-psqlrc",
            "--no-password",
            "--tuples-only",
            "--no-align",
            "--quiet",
        ])
        .args([
            "--host=127.0.0.1",
            "--username=postgres",
            "--dbname=postgres",
        ])
        .arg(format!("--port={port}"));
    client
}
