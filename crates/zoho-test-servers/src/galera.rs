//! Galera: MariaDB servers that write in step.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use crate::environment;
use crate::error::{Error, Result};
use crate::mariadb::{self, Client};
use crate::options::Options;
use crate::port::Port;
use crate::programs;
use crate::service::Service;

/// The library that makes a cluster of MariaDB servers, where Debian and Red Hat put it.
const LIBRARIES: &[&str] = &[
    "/usr/lib/galera/libgalera_smm.so",
    "/usr/lib64/galera-4/libgalera_smm.so",
    "/usr/lib64/galera/libgalera_smm.so",
];
const LIBRARY: &str = "ZOHO_TEST_GALERA_LIBRARY";

/// A cluster of MariaDB servers on this machine: each takes writes, and all have what one took.
///
/// After a kill the others wait about six seconds for the dead one (`evs.suspect_timeout`) and
/// refuse or hold back writes meanwhile. More than half of the nodes must live on, or the rest
/// refuses everything.
#[derive(Debug)]
pub struct Galera {
    nodes: Vec<Node>,
}

#[derive(Debug)]
struct Node {
    service: Service,
    client: Client,
    ports: Ports,
    running: bool,
}

/// What a node listens on.
#[derive(Debug)]
struct Ports {
    mysql: Port,
    group: Port,
    incremental: Port,
    whole: Port,
}

impl Galera {
    /// Starts a cluster of `nodes` servers, one after the other, and waits until all are in step.
    ///
    /// # Errors
    /// When a program is missing, or a node ends before it is in step.
    pub fn start(nodes: usize) -> Result<Self> {
        Self::start_with(nodes, &Options::new())
    }

    /// Starts a cluster whose nodes all have further arguments, or TLS for their clients.
    ///
    /// # Errors
    /// See [`Galera::start`].
    pub fn start_with(nodes: usize, options: &Options) -> Result<Self> {
        let ports: Vec<_> = (0..nodes)
            .map(|_| Ports::reserve())
            .collect::<Result<_>>()?;
        let members: Vec<_> = ports.iter().map(|ports| local(&ports.group)).collect();
        let address = format!("gcomm://{}", members.join(","));
        let mut cluster = Self { nodes: Vec::new() };
        for (index, ports) in ports.into_iter().enumerate() {
            let mut node = Node::new(index, ports, &address, options)?;
            let home = node.service.home();
            let first = index == 0;
            if first {
                mariadb::install(home)?;
            } else {
                // The others get everything from the first.
                home.make_folder(&mariadb::data(home))?;
            }
            node.start(first)?;
            cluster.nodes.push(node);
        }
        Ok(cluster)
    }

    /// How many nodes there are, dead ones included.
    pub fn nodes(&self) -> usize {
        self.nodes.len()
    }

    /// `mysql://root@127.0.0.1:PORT` of a node.
    pub fn url(&self, node: usize) -> String {
        mariadb::url(&self.nodes[node].ports.mysql)
    }

    /// The port of 127.0.0.1 that a node takes clients on.
    pub fn port(&self, node: usize) -> u16 {
        self.nodes[node].ports.mysql.number()
    }

    /// Runs statements on a node, as [`MariaDb::sql`](crate::MariaDb::sql) does.
    ///
    /// # Errors
    /// What the node has to say against it; that it does not run.
    pub fn sql(&self, node: usize, statements: &str) -> Result<String> {
        self.nodes[node].client.sql(statements)
    }

    /// SIGKILL to a node; returns when it is gone.
    pub fn kill(&mut self, node: usize) {
        let node = &mut self.nodes[node];
        node.service.kill();
        node.running = false;
    }

    /// Starts a node again and waits until it is in step with the others; kills it first if it runs.
    ///
    /// # Errors
    /// When no other node runs that it could join, or the node ends before it is in step.
    pub fn restart(&mut self, node: usize) -> Result<()> {
        self.kill(node);
        if !self.nodes.iter().any(|node| node.running) {
            return Err(Error::new(
                "all nodes were killed: the cluster is gone, start another",
            ));
        }
        self.nodes[node].start(false)
    }

    /// Stops a node where it is: for the others and for its clients it is as if the network was cut.
    pub fn pause(&self, node: usize) {
        self.nodes[node].service.pause();
    }

    /// Lets a node go on after [`Galera::pause`].
    pub fn resume(&self, node: usize) {
        self.nodes[node].service.resume();
    }
}

impl Ports {
    fn reserve() -> Result<Self> {
        Ok(Self {
            mysql: Port::reserve()?,
            group: Port::reserve()?,
            incremental: Port::reserve()?,
            whole: Port::reserve()?,
        })
    }
}

impl Node {
    fn new(index: usize, ports: Ports, address: &str, options: &Options) -> Result<Self> {
        // Found now: the script that copies a node's data would only write it into the log.
        programs::needed("rsync")?;
        let home = mariadb::home()?;
        let client = Client::new(&home)?;
        let mut arguments = mariadb::server_arguments(&home, &ports.mysql, options)?;
        arguments.extend(cluster_arguments(index, &ports, address)?);
        let program = mariadb::program(options)?;
        Ok(Self {
            service: Service::new("a Galera node", program, arguments, home),
            client,
            ports,
            running: false,
        })
    }

    fn start(&mut self, first: bool) -> Result<()> {
        let found_a_cluster: &[OsString] = if first {
            &["--wsrep-new-cluster".into()]
        } else {
            &[]
        };
        let client = &self.client;
        self.service.start(found_a_cluster, || {
            let state = client.sql("SHOW GLOBAL STATUS LIKE 'wsrep_local_state_comment'");
            state.is_ok_and(|state| state.contains("Synced"))
        })?;
        self.running = true;
        Ok(())
    }
}

fn cluster_arguments(index: usize, ports: &Ports, address: &str) -> Result<Vec<OsString>> {
    let (group, incremental) = (local(&ports.group), local(&ports.incremental));
    Ok(crate::service::arguments([
        "--binlog-format=ROW".to_owned(),
        "--innodb-autoinc-lock-mode=2".to_owned(),
        // Each node makes its own log anew when it gets the others' data: keep that short.
        "--innodb-log-file-size=16M".to_owned(),
        "--wsrep-on=ON".to_owned(),
        format!("--wsrep-provider={}", library()?.display()),
        "--wsrep-cluster-name=zoho-test".to_owned(),
        format!("--wsrep-cluster-address={address}"),
        format!("--wsrep-node-name=node{index}"),
        format!("--wsrep-node-address={group}"),
        format!(
            "--wsrep-provider-options=gmcast.listen_addr=tcp://{group};\
             ist.recv_addr={incremental};gcache.size=16M"
        ),
        "--wsrep-sst-method=rsync".to_owned(),
        format!("--wsrep-sst-receive-address={}", local(&ports.whole)),
    ]))
}

fn local(port: &Port) -> String {
    format!("127.0.0.1:{}", port.number())
}

fn library() -> Result<PathBuf> {
    let usual = || {
        LIBRARIES
            .iter()
            .map(PathBuf::from)
            .find(|path| path.is_file())
    };
    environment::path(LIBRARY)
        .or_else(usual)
        .filter(|path| Path::is_file(path))
        .ok_or_else(|| {
            Error::new(format!(
                "Galera's library is not there: install `galera-4`, or set `{LIBRARY}` to its path"
            ))
        })
}
