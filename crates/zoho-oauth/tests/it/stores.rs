//! Every store of this crate, held to the conformance kit.

mod list {
    use zoho_oauth::conformance::Place;
    use zoho_oauth::{ListStore, Result, token_store_conformance};

    async fn open(_place: Place) -> Result<ListStore> {
        Ok(ListStore::new())
    }

    token_store_conformance!(basic, open);
}

mod file {
    use zoho_oauth::conformance::Place;
    use zoho_oauth::{FileStore, Result, token_store_conformance};

    async fn open(place: Place) -> Result<FileStore> {
        FileStore::open(place.path().join("tokens.txt")).await
    }

    token_store_conformance!(basic, open);
    token_store_conformance!(durable, open);
    token_store_conformance!(coordinated, open);
}

mod sqlite {
    use zoho_oauth::conformance::Place;
    use zoho_oauth::{Result, SqliteStore, token_store_conformance};

    async fn open(place: Place) -> Result<SqliteStore> {
        SqliteStore::open(place.path().join("zohooauth.db"))
    }

    token_store_conformance!(basic, open);
    token_store_conformance!(durable, open);
    token_store_conformance!(coordinated, open);
}

mod sqlite_memory {
    use zoho_oauth::conformance::Place;
    use zoho_oauth::{Result, SqliteStore, token_store_conformance};

    async fn open(_place: Place) -> Result<SqliteStore> {
        SqliteStore::in_memory()
    }

    token_store_conformance!(basic, open);
}

mod redis {
    use std::time::Duration;

    use zoho_oauth::conformance::Place;
    use zoho_oauth::{RedisStore, Result, token_store_conformance};

    async fn open(place: Place) -> Result<RedisStore> {
        crate::redis_store::builder(place.name()).connect().await
    }

    token_store_conformance!(basic, open);
    // A process that connects anew takes its time.
    token_store_conformance!(durable, open, kills = 200);

    /// With leases that end while the kit waits for it.
    async fn open_briefly(place: Place) -> Result<RedisStore> {
        let builder = crate::redis_store::builder(place.name());
        builder.lease(Duration::from_secs(3)).connect().await
    }

    token_store_conformance!(coordinated, open_briefly, lease = Duration::from_secs(3));
}

/// Over a network that loses every seventh answer with its connection.
mod redis_unlucky {
    use zoho_oauth::conformance::Place;
    use zoho_oauth::{RedisStore, Result, token_store_conformance};

    use crate::redis_store::{Proxy, shared_server};

    async fn open(place: Place) -> Result<RedisStore> {
        let (host, port) = shared_server();
        let proxy = Proxy::start(host, port).await;
        proxy.lose_every(7);
        let builder = RedisStore::builder().port(proxy.port).prefix(place.name());
        // It ends with the runtime of the test.
        std::mem::forget(proxy);
        builder.connect().await
    }

    token_store_conformance!(basic, open);
}

/// The examples that show how to write a store, and how to coordinate a fleet.
#[path = "../../examples/own_fleet_store.rs"]
#[expect(
    dead_code,
    reason = "its `main` is not run here: these tests are what it prints"
)]
pub(crate) mod own_fleet_store;

pub(crate) use own_fleet_store::own_store;

mod own_json {
    use zoho_oauth::token_store_conformance;

    token_store_conformance!(basic, super::own_store::open);
    token_store_conformance!(durable, super::own_store::open);
}

mod own_fleet {
    use zoho_oauth::token_store_conformance;

    use super::own_fleet_store::{LIFE, open};

    token_store_conformance!(basic, open);
    token_store_conformance!(durable, open, kills = 100);
    token_store_conformance!(coordinated, open, lease = LIFE);
}
