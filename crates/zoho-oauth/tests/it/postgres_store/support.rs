//! The PostgreSQL server of the tests, and servers of a test's own.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpListener;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::Mutex;
use std::sync::mpsc::{self, Receiver};
use std::time::Duration;

use tokio_postgres::config::Host;
use tokio_postgres::error::SqlState;
use tokio_postgres::{Client, Config, NoTls};
use zoho_oauth::store::postgres::PostgresStoreBuilder;
use zoho_oauth::{
    AccessToken, ClientId, OAuthToken, PostgresStore, RefreshToken, Timestamp, TokenId, TokenQuery,
    UserName,
};

/// How long anything may take that should come at once.
pub(super) const PATIENCE: Duration = Duration::from_secs(30);

/// The server that `cargo xtask test` starts.
pub(crate) fn server() -> Config {
    const NAME: &str = "ZOHO_TEST_POSTGRES";
    #[expect(clippy::disallowed_methods, reason = "where a test finds its server")]
    let url = std::env::var(NAME);
    let url = url.unwrap_or_else(|_| panic!("`{NAME}` is not set: run `cargo xtask test`"));
    url.parse().unwrap()
}

/// The settings that lead to the server of `config`.
pub(crate) fn leading_to(config: &Config) -> PostgresStoreBuilder {
    let [Host::Tcp(host)] = config.get_hosts() else {
        panic!("the server of the tests has one host name");
    };
    let mut builder = PostgresStore::builder()
        .host(host)
        .port(config.get_ports()[0])
        .database(config.get_dbname().unwrap())
        .user(config.get_user().unwrap());
    if let Some(password) = config.get_password() {
        builder = builder.password(String::from_utf8_lossy(password));
    }
    builder
}

pub(crate) async fn connect(config: &Config) -> Client {
    let (client, connection) = config.connect(NoTls).await.unwrap();
    tokio::spawn(connection);
    client
}

/// A schema of a test's own, dropped at its end.
pub(crate) struct Schema {
    pub(crate) name: String,
    pub(crate) base: Client,
}

impl Schema {
    pub(crate) async fn new() -> Self {
        let name = format!("test_{:016x}", fastrand::u64(..));
        let base = connect(&server()).await;
        let sql = format!("CREATE SCHEMA {name}; SET search_path = {name}");
        base.batch_execute(&sql).await.unwrap();
        Self { name, base }
    }

    pub(crate) fn builder(&self) -> PostgresStoreBuilder {
        leading_to(&server()).schema(&self.name)
    }

    pub(crate) async fn open(&self) -> PostgresStore {
        self.builder().connect().await.unwrap()
    }

    pub(crate) async fn run(&self, sql: &str) {
        self.base.batch_execute(sql).await.unwrap();
    }

    /// The first column of all rows, as text.
    pub(crate) async fn ask(&self, sql: &str) -> Vec<String> {
        let rows = self.base.query(sql, &[]).await.unwrap();
        rows.iter().map(|row| row.get(0)).collect()
    }

    pub(crate) async fn drop(self) {
        let sql = format!(
            "SET client_min_messages = warning; DROP SCHEMA {} CASCADE",
            self.name
        );
        // What is still under way in the background locks the tables in another order.
        while let Err(error) = self.base.batch_execute(&sql).await {
            assert_eq!(error.code(), Some(&SqlState::T_R_DEADLOCK_DETECTED));
        }
    }
}

/// A process of a test's own that ends with it, however the test ends: a shell carries out a line
/// for each word that it is sent, and cleans up when it is sent no more.
pub(super) struct Own {
    child: Child,
    input: Option<ChildStdin>,
    output: Mutex<Receiver<String>>,
    pub(super) port: u16,
}

/// What all of them begin with: a folder that is gone in the end, and the programs' place.
const BEGIN: &str = r"
set -eu
folder=$(mktemp -d)
for place in /usr/lib/postgresql/*/bin /usr/sbin; do PATH=$PATH:$place; done
";

impl Own {
    /// `$1` of the script is the port. PostgreSQL refuses to run as root, as does the proxy.
    fn start(script: &str, arguments: &[&str]) -> Self {
        let port = free_port();
        let id = Command::new("id").arg("-u").output().unwrap();
        let mut command = if id.stdout == b"0\n" {
            let mut command = Command::new("runuser");
            command.args(["-u", "postgres", "--", "sh"]);
            command
        } else {
            Command::new("sh")
        };
        let mut child = command
            .args(["-c", &format!("{BEGIN}{script}"), "sh", &port.to_string()])
            .args(arguments)
            .current_dir("/")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let (sender, output) = mpsc::channel();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        std::thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                drop(sender.send(line));
            }
        });
        let own = Self {
            input: child.stdin.take(),
            child,
            output: Mutex::new(output),
            port,
        };
        own.wait();
        own
    }

    /// Waits for the answer to a word.
    fn wait(&self) {
        let output = self.output.lock().unwrap();
        let heard = output.recv_timeout(Duration::from_mins(1));
        assert_eq!(heard.as_deref(), Ok("done"), "the script ended early");
    }

    /// Sends a word and waits until it is done.
    pub(super) fn tell(&mut self, word: &str) {
        let input = self.input.as_mut().unwrap();
        writeln!(input, "{word}").unwrap();
        self.wait();
    }

    /// A proxy that pools transactions, in front of `server`, with one connection to it.
    pub(super) fn proxy(server: &Config) -> Self {
        let port = server.get_ports()[0].to_string();
        let user = server.get_user().unwrap();
        Self::start(
            r"
            cat > $folder/proxy.ini <<END
[databases]
* = host=127.0.0.1 port=$2 user=$3
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = $1
unix_socket_dir =
auth_type = any
pool_mode = transaction
default_pool_size = 4
max_client_conn = 500
END
            pgbouncer -q $folder/proxy.ini >$folder/log 2>&1 &
            until psql -qAt -h 127.0.0.1 -p $1 -U $3 -c 'SELECT 1' postgres >/dev/null 2>&1
            do kill -0 $!; sleep 0.02; done
            echo done
            cat >/dev/null
            kill $!; rm -rf $folder
            ",
            &[&port, user],
        )
    }

    /// A server with the password `s3cret-word` for its user `postgres`, which takes connections
    /// with TLS under this certificate and key. Its words: `stop`, `start`.
    pub(super) fn postgres(certificate: &str, key: &str) -> Self {
        Self::start(
            r#"
            echo s3cret-word > $folder/password
            initdb -D $folder/data -U postgres -A scram-sha-256 --pwfile=$folder/password \
                --no-sync --no-locale -E UTF8 >/dev/null
            (umask 077; echo "$2" > $folder/certificate; echo "$3" > $folder/key)
            run() {
                postgres -D $folder/data -p $1 -c listen_addresses=127.0.0.1 \
                    -c unix_socket_directories=$folder -c ssl=on \
                    -c ssl_cert_file=$folder/certificate -c ssl_key_file=$folder/key \
                    -c shared_buffers=16MB 2>>$folder/log >&2 &
            }
            ready() { until pg_isready -q -h 127.0.0.1 -p $1; do sleep 0.02; done; echo done; }
            run $1; ready $1
            while read word; do case $word in
                stop) kill -INT $!; wait $! || true; echo done;;
                start) run $1; ready $1;;
            esac; done
            kill -QUIT $! || true; wait || true; rm -rf $folder
            "#,
            &[certificate, key],
        )
    }
}

/// A port below those that the system gives to whoever connects: who asks again and again whether
/// one of those is open ends up connected to himself.
fn free_port() -> u16 {
    std::iter::repeat_with(|| fastrand::u16(10_000..30_000))
        .find(|port| TcpListener::bind(("127.0.0.1", *port)).is_ok())
        .unwrap()
}

impl Drop for Own {
    fn drop(&mut self) {
        drop(self.input.take());
        drop(self.child.wait());
    }
}

pub(super) fn user(name: &str) -> UserName {
    UserName::new(name).unwrap()
}

pub(super) fn id(number: u64) -> TokenId {
    TokenId::new(number).unwrap()
}

pub(super) fn by_user(name: &str) -> TokenQuery {
    TokenQuery::user_name(user(name))
}

/// A record with tokens that carry the user's name.
pub(super) fn token(name: &str) -> OAuthToken {
    let mut token = OAuthToken::new();
    token.user_name = Some(user(name));
    token.client_id = ClientId::new("1000.CLIENT").ok();
    token.refresh_token = RefreshToken::new(format!("1000.r.{name}")).ok();
    token.access_token = AccessToken::new(format!("1000.a.{name}")).ok();
    token.expiry_time = Some(Timestamp::from_millis(1_795_372_876_984));
    token.api_domain = Some("https://www.zohoapis.eu".into());
    token
}

/// What a refresh saves.
pub(super) fn refreshed(name: &str, turn: usize) -> OAuthToken {
    let mut token = token(name);
    token.access_token = AccessToken::new(format!("1000.a.{name}.{turn}")).ok();
    token
}
