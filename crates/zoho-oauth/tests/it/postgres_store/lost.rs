//! Answers that are lost on the way back.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use zoho_oauth::store::{CoordinationKey, Memo};
use zoho_oauth::{OAuthToken, PostgresStore, RefreshToken, TokenStore};

use super::support::{Schema, id, refreshed, server, token};

/// Between a store and its server: swallows an answer and cuts the connection.
#[derive(Clone)]
struct Relay {
    /// How many answers until then; below zero: none is swallowed.
    left: Arc<AtomicI64>,
    port: u16,
}

impl Relay {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let relay = Self {
            left: Arc::new(AtomicI64::new(-1)),
            port: listener.local_addr().unwrap().port(),
        };
        let this = relay.clone();
        tokio::spawn(async move {
            loop {
                let (client, _) = listener.accept().await.unwrap();
                let server = TcpStream::connect(("127.0.0.1", server().get_ports()[0])).await;
                tokio::spawn(this.clone().carry(client, server.unwrap()));
            }
        });
        relay
    }

    async fn carry(self, mut client: TcpStream, mut server: TcpStream) {
        let (mut question, mut answer) = (vec![0; 65536], vec![0; 65536]);
        loop {
            tokio::select! {
                read = client.read(&mut question) => match read {
                    Ok(length @ 1..) => server.write_all(&question[..length]).await.unwrap(),
                    _ => return,
                },
                read = server.read(&mut answer) => match read {
                    Ok(length @ 1..) => {
                        if self.left.fetch_sub(1, Ordering::SeqCst) == 0 {
                            return;
                        }
                        if client.write_all(&answer[..length]).await.is_err() {
                            return;
                        }
                    }
                    _ => return,
                },
            }
        }
    }

    /// Carries out `work` with its first answer lost, then with its second lost, and so on, as long
    /// as there are answers to lose; at least so many there must be.
    async fn lose_each(&self, least: i64, work: impl AsyncFn(i64)) {
        for number in 0.. {
            self.left.store(number, Ordering::SeqCst);
            work(number).await;
            let was_lost = self.left.swap(i64::MIN / 2, Ordering::SeqCst) < 0;
            if !was_lost {
                assert!(number >= least, "{number} answers");
                return;
            }
        }
    }
}

async fn store(schema: &Schema, relay: &Relay) -> PostgresStore {
    schema
        .builder()
        .host("127.0.0.1")
        .port(relay.port)
        .pool_size(1)
        .connect()
        .await
        .unwrap()
}

async fn stored(store: &PostgresStore, number: u64) -> Option<OAuthToken> {
    let found = store.find_token_by_id(id(number)).await.unwrap();
    found.map(|mut found| {
        found.id = None;
        found
    })
}

#[tokio::test]
async fn a_write_whose_answer_is_lost_is_found_out() {
    let schema = Schema::new().await;
    let relay = Relay::start().await;
    let (store, relay) = (&store(&schema, &relay).await, &relay);
    let ann = store.save_token(&token("ann")).await.unwrap();

    relay
        .lose_each(2, async |turn| {
            let new = refreshed("ann", usize::try_from(turn).unwrap());
            assert_eq!(store.save_token(&new).await.unwrap(), ann);
            assert_eq!(stored(store, ann.get()).await, Some(new));
        })
        .await;
    relay
        .lose_each(3, async |turn| {
            let mut login = token("ann");
            login.refresh_token = RefreshToken::new(format!("login {turn}")).ok();
            assert_eq!(store.save_token(&login).await.unwrap(), ann);
            assert_eq!(stored(store, ann.get()).await, Some(login));
        })
        .await;
    let count = async || store.get_tokens().await.unwrap().len();
    relay
        .lose_each(4, async |turn| {
            let before = count().await;
            let guest = token(&format!("guest {turn}"));
            let saved = store.save_token(&guest).await.unwrap();
            assert_eq!(stored(store, saved.get()).await, Some(guest));
            assert_eq!(count().await, before + 1);
        })
        .await;
    let next = std::cell::Cell::new(1);
    relay
        .lose_each(1, async |_| {
            next.set(next.get() + 1);
            assert!(store.delete_token(id(next.get())).await.unwrap());
            assert_eq!(stored(store, next.get()).await, None);
        })
        .await;
    relay
        .lose_each(1, async |_| {
            store.save_token(&token("ann")).await.unwrap();
            store.delete_tokens().await.unwrap();
            assert_eq!(count().await, 0);
        })
        .await;
    schema.drop().await;
}

#[tokio::test]
async fn a_lease_whose_answer_is_lost_is_had_by_one() {
    let schema = Schema::new().await;
    let relay = Relay::start().await;
    let (store, relay) = (&store(&schema, &relay).await, &relay);
    let coordination = store.coordination().unwrap();
    let mut memo = Memo::default();
    memo.wait_until = token("ann").expiry_time;
    let memo = &memo;
    relay
        .lose_each(4, async |turn| {
            let key = CoordinationKey::record(id(1 + turn.unsigned_abs()));
            let permit = coordination.try_acquire(&key).await.unwrap().unwrap();
            assert!(coordination.try_acquire(&key).await.unwrap().is_none());
            permit.set_memo(memo).await.unwrap();
            permit.release(None).await.unwrap();
            let again = coordination.try_acquire(&key).await.unwrap().unwrap();
            assert!(again.memo().await.unwrap().wait_until.is_some());
            again.release(Some(&Memo::default())).await.unwrap();
        })
        .await;
    assert!(
        schema
            .ask("SELECT key FROM zoho_oauth_lease")
            .await
            .is_empty()
    );
    schema.drop().await;
}
