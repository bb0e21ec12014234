//! `Galera`.

use zoho_test_servers::Galera;

use crate::support::{listens, wait_until};

/// A node takes writes and all have them; the others go on without a dead one, which gets what it
/// missed when it is back.
#[test]
fn galera_nodes_agree_and_outlive_a_kill() {
    let mut cluster = Galera::start(3).unwrap();
    assert_eq!(cluster.nodes(), 3);
    cluster
        .sql(0, "CREATE DATABASE d; CREATE TABLE d.t (a INT PRIMARY KEY)")
        .unwrap();
    cluster.sql(1, "INSERT INTO d.t VALUES (1)").unwrap();
    let rows = |cluster: &Galera, node| {
        let wait = "SET SESSION wsrep_sync_wait = 1; SELECT COUNT(*) FROM d.t";
        cluster
            .sql(node, wait)
            .unwrap_or_default()
            .trim()
            .to_owned()
    };
    assert_eq!(
        (rows(&cluster, 0), rows(&cluster, 2)),
        ("1".into(), "1".into())
    );

    let port = cluster.port(2);
    cluster.kill(2);
    assert!(!listens(port) && cluster.sql(2, "SELECT 1").is_err());
    wait_until(|| cluster.sql(0, "INSERT INTO d.t VALUES (2)").is_ok());
    cluster.restart(2).unwrap();

    assert_eq!(cluster.url(2), format!("mysql://root@127.0.0.1:{port}"));
    assert_eq!(rows(&cluster, 2), "2");
    let ports: Vec<_> = (0..3).map(|node| cluster.port(node)).collect();
    drop(cluster);
    assert!(!ports.into_iter().any(listens));
}

/// The first node can be killed as any other: it comes back into the cluster that goes on.
#[test]
fn galera_takes_its_first_node_back_after_a_kill() {
    let mut cluster = Galera::start(3).unwrap();
    cluster.kill(0);
    wait_until(|| cluster.sql(1, "CREATE DATABASE d").is_ok());
    cluster.restart(0).unwrap();
    let databases = cluster.sql(0, "SHOW DATABASES LIKE 'd'").unwrap();
    assert_eq!(databases, "d\n");
    for node in 0..3 {
        cluster.kill(node);
    }
    let told = cluster.restart(1).unwrap_err().to_string();
    assert!(told.contains("the cluster is gone"), "{told}");
}
