//! `PostgresStore` on a real server: the kit, and what only this store has.

mod bad_rows;
mod faults;
mod lost;
mod notify;
mod privileges;
pub(crate) mod said;
mod secrecy;
mod session;
pub(crate) mod support;
mod tables;
mod tls;
mod triggers;

/// Straight on the server.
mod direct {
    use std::time::Duration;

    use zoho_oauth::conformance::Place;
    use zoho_oauth::{PostgresStore, Result, token_store_conformance};

    use super::support::{leading_to, server};

    async fn open(place: Place) -> Result<PostgresStore> {
        leading_to(&server()).schema(place.name()).connect().await
    }

    token_store_conformance!(basic, open);
    // A process that connects anew takes its time.
    token_store_conformance!(durable, open, kills = 200);

    /// With leases that end while the kit waits for it.
    async fn open_briefly(place: Place) -> Result<PostgresStore> {
        let builder = leading_to(&server()).schema(place.name());
        builder.lease(Duration::from_secs(3)).connect().await
    }

    token_store_conformance!(coordinated, open_briefly, lease = Duration::from_secs(3));
}

/// Through a proxy that gives every transaction another connection.
mod pooled {
    use std::sync::OnceLock;

    use zoho_oauth::conformance::Place;
    use zoho_oauth::{PostgresStore, Result, token_store_conformance};

    use super::support::{Own, leading_to, server};

    async fn open(place: Place) -> Result<PostgresStore> {
        static PROXY: OnceLock<Own> = OnceLock::new();
        let proxy = PROXY.get_or_init(|| Own::proxy(&server()));
        leading_to(&server())
            .host("127.0.0.1")
            .port(proxy.port)
            .prepared_statements(false)
            .schema(place.name())
            .connect()
            .await
    }

    token_store_conformance!(basic, open);
}
