//! An account of a test's own, with a password, that may do what the test lets it.

use mysql_async::Conn;
use mysql_async::prelude::Queryable;
use zoho_oauth::store::mysql::MySqlStoreBuilder;

use super::{PATIENCE, TestDatabase};

/// An account, known by one name from wherever it comes: a server may have users without a name on
/// this machine, who come before one from anywhere.
pub(crate) struct Account {
    name: String,
    password: String,
}

impl Account {
    pub(crate) async fn new(database: &TestDatabase) -> Self {
        let account = Self {
            name: format!("u{:016x}", fastrand::u64(..)),
            password: format!("pa55-{:016x}", fastrand::u64(..)),
        };
        for user in account.users() {
            let sql = format!("CREATE USER {user} IDENTIFIED BY '{}'", account.password);
            database.run(&sql).await;
        }
        account
    }

    pub(crate) fn password(&self) -> &str {
        &self.password
    }

    fn users(&self) -> [String; 3] {
        ["%", "localhost", "127.0.0.1"].map(|host| format!("'{}'@'{host}'", self.name))
    }

    /// Settings of a store that uses this account.
    pub(crate) fn of(&self, builder: MySqlStoreBuilder) -> MySqlStoreBuilder {
        builder.user(&self.name).password(&self.password)
    }

    /// Runs a statement for each user, whose name takes the place of `whom` in it.
    pub(crate) async fn told(&self, database: &TestDatabase, sql: &str, whom: &str) {
        for user in self.users() {
            database.run(&sql.replace(whom, &user)).await;
        }
    }

    pub(crate) async fn grant_all(&self, database: &TestDatabase) {
        let sql = format!("GRANT ALL ON {}.* TO whom", database.name());
        self.told(database, &sql, "whom").await;
    }

    pub(crate) async fn drop(self, database: &TestDatabase) {
        let sql = format!("DROP USER {}", self.users().join(", "));
        database.run(&sql).await;
    }
}

impl TestDatabase {
    /// Takes locks with these statements, until the connection is disconnected.
    pub(crate) async fn locked(&self, sql: &str) -> Conn {
        let mut conn = self.connection().await;
        conn.query_drop(sql).await.unwrap();
        conn
    }

    /// Waits until a statement that begins like this is under way in this database, and ends its
    /// connection.
    pub(crate) async fn kill_who_waits(&self, statement: &str) {
        let sql = format!(
            "SELECT CAST(id AS CHAR) FROM information_schema.processlist \
            WHERE db = '{}' AND info LIKE '{statement}%'",
            self.name
        );
        let began = std::time::Instant::now();
        loop {
            if let Some(id) = self.ask(&sql).await.first() {
                return self.run(&format!("KILL CONNECTION {id}")).await;
            }
            assert!(began.elapsed() < PATIENCE, "nobody waits");
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
    }
}
