//! The conformance kit over rows in memory that behave as badly as a server may.

use std::sync::Mutex as StdMutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use async_trait::async_trait;
use tokio::sync::Mutex;

use super::*;
use crate::conformance::Place;
use crate::query::TokenQuery;
use crate::store::TokenStore;
use crate::token::ClientId;

#[derive(Debug, Default)]
struct Rows {
    table: BTreeMap<TokenId, OAuthToken>,
    mark: Mark,
}

impl Default for Mark {
    fn default() -> Self {
        Self {
            highest_id: 0,
            writes: 7,
        }
    }
}

/// Says now and then that something changed, and lets others in between any two steps.
#[derive(Debug, Default)]
struct Fickle {
    rows: StdMutex<Rows>,
    alone: Mutex<()>,
    confirmed: AtomicUsize,
}

impl Fickle {
    async fn hesitate(&self) -> bool {
        for _ in 0..fastrand::u32(0..3) {
            tokio::task::yield_now().await;
        }
        fastrand::u32(0..5) == 0
    }
}

fn matches(row: &OAuthToken, wanted: &Wanted) -> bool {
    wanted_by(row).contains(wanted)
}

#[async_trait]
impl RowServer for Fickle {
    async fn rows(&self, wanted: &[Wanted]) -> Result<Vec<OAuthToken>> {
        self.hesitate().await;
        let rows = self.rows.lock().unwrap();
        let all = rows.table.values();
        let found = all.filter(|row| wanted.iter().any(|wanted| matches(row, wanted)));
        Ok(found.cloned().collect())
    }

    async fn mark(&self) -> Result<Mark> {
        self.hesitate().await;
        Ok(self.rows.lock().unwrap().mark)
    }

    async fn replace(&self, old: &OAuthToken, new: &OAuthToken) -> Result<bool> {
        assert_eq!(old.id, new.id);
        if self.hesitate().await {
            return Ok(false);
        }
        let mut rows = self.rows.lock().unwrap();
        let row = rows.table.get_mut(&old.id.unwrap());
        Ok(match row {
            Some(row) if row == old => {
                *row = new.clone();
                true
            }
            _ => false,
        })
    }

    async fn apply(&self, mark: &Mark, plan: &Plan) -> Result<bool> {
        if self.hesitate().await {
            return Ok(false);
        }
        let mut rows = self.rows.lock().unwrap();
        let touched = plan
            .delete
            .iter()
            .chain(plan.update.iter().map(|pair| &pair.0));
        let is_same = touched
            .clone()
            .all(|row| rows.table.get(&row.id.unwrap()) == Some(row));
        if rows.mark != *mark || !is_same {
            return Ok(false);
        }
        for row in &plan.delete {
            rows.table.remove(&row.id.unwrap());
        }
        let written = plan.update.iter().map(|pair| &pair.1).chain(&plan.insert);
        for row in written {
            rows.table.insert(row.id.unwrap(), row.clone());
        }
        rows.mark = Mark {
            highest_id: plan.highest_id,
            writes: mark.writes + 1,
        };
        Ok(true)
    }

    async fn confirm(&self) -> Result<()> {
        self.confirmed.fetch_add(1, Ordering::SeqCst);
        Ok(())
    }
}

#[async_trait]
impl TokenStore for Fickle {
    async fn find_token(&self, query: &TokenQuery) -> Result<Option<OAuthToken>> {
        let rows = self.rows.lock().unwrap();
        Ok(rows.table.values().find(|row| query.matches(row)).cloned())
    }

    async fn save_token(&self, token: &OAuthToken) -> Result<TokenId> {
        save(self, &self.alone, token).await
    }

    async fn delete_token(&self, id: TokenId) -> Result<bool> {
        let mut rows = self.rows.lock().unwrap();
        rows.mark.writes += 1;
        Ok(rows.table.remove(&id).is_some())
    }

    async fn get_tokens(&self) -> Result<Vec<OAuthToken>> {
        Ok(self.rows.lock().unwrap().table.values().cloned().collect())
    }

    async fn delete_tokens(&self) -> Result<usize> {
        let mut rows = self.rows.lock().unwrap();
        rows.mark.writes += 1;
        Ok(std::mem::take(&mut rows.table).len())
    }

    async fn find_token_by_id(&self, id: TokenId) -> Result<Option<OAuthToken>> {
        Ok(self.rows.lock().unwrap().table.get(&id).cloned())
    }
}

async fn open(_: Place) -> Result<Fickle> {
    Ok(Fickle::default())
}

crate::token_store_conformance!(basic, open);

fn token(user: &str, access: &str, expiry: i64) -> OAuthToken {
    let mut token = OAuthToken::new();
    token.user_name = UserName::received(user).ok();
    token.refresh_token = RefreshToken::received("r").ok();
    token.access_token = AccessToken::received(access).ok();
    token.expiry_time = Some(crate::clock::Timestamp::from_millis(expiry));
    token
}

#[tokio::test]
async fn a_fact_is_saved_over_what_changed_meanwhile_and_not_over_a_new_login() {
    let server = Fickle::default();
    let id = server.save_token(&token("u", "old", 1)).await.unwrap();
    let before = server.find_token_by_id(id).await.unwrap().unwrap();
    let mut news = OAuthToken::new();
    news.access_token = AccessToken::received("new").ok();
    news.expiry_time = token("u", "x", 5).expiry_time;
    let fact = Fact::new(id, before, news);

    let mut domain = OAuthToken::new();
    domain.id = Some(id);
    domain.api_domain = Some("https://api.example".into());
    server.save_token(&domain).await.unwrap();
    assert_eq!(save_fact(&server, &fact).await.unwrap(), Kept::Saved);
    let stored = server.find_token_by_id(id).await.unwrap().unwrap();
    assert_eq!(stored.access_token, AccessToken::received("new").ok());
    assert_eq!(stored.api_domain, domain.api_domain);

    // What is there already is acknowledged only when the server says that it stays.
    assert_eq!(server.confirmed.load(Ordering::SeqCst), 0);
    assert_eq!(save_fact(&server, &fact).await.unwrap(), Kept::Saved);
    assert_eq!(server.confirmed.load(Ordering::SeqCst), 1);
    server.save_token(&stored).await.unwrap();
    assert_eq!(server.confirmed.load(Ordering::SeqCst), 2);

    let mut login = token("u", "login", 3);
    login.refresh_token = RefreshToken::received("another").ok();
    server.save_token(&login).await.unwrap();
    let kept = save_fact(&server, &fact).await.unwrap();
    let Kept::Superseded(newer) = kept else {
        panic!("{kept:?}");
    };
    assert_eq!(newer.access_token, login.access_token);

    server.delete_token(id).await.unwrap();
    assert_eq!(save_fact(&server, &fact).await.unwrap(), Kept::Gone);
    assert!(server.get_tokens().await.unwrap().is_empty());
}

/// Zoho may answer with the token that is there.
#[tokio::test]
async fn a_fact_with_nothing_new_is_saved_only_if_its_record_is_there() {
    let server = Fickle::default();
    let id = server.save_token(&token("u", "old", 1)).await.unwrap();
    let before = server.find_token_by_id(id).await.unwrap().unwrap();
    let mut news = OAuthToken::new();
    news.access_token.clone_from(&before.access_token);
    news.expiry_time = before.expiry_time;
    let fact = Fact::new(id, before, news);
    assert_eq!(save_fact(&server, &fact).await.unwrap(), Kept::Saved);
    assert_eq!(server.confirmed.load(Ordering::SeqCst), 1);
    server.delete_token(id).await.unwrap();
    assert_eq!(save_fact(&server, &fact).await.unwrap(), Kept::Gone);
}

/// A server that has nothing to say until it is too late.
struct Stalled;

/// How long it takes to give up.
const STALL: Duration = Duration::from_secs(10);

#[async_trait]
impl RowServer for Stalled {
    async fn rows(&self, _: &[Wanted]) -> Result<Vec<OAuthToken>> {
        Ok(Vec::new())
    }

    async fn mark(&self) -> Result<Mark> {
        tokio::time::sleep(STALL).await;
        Err(Error::new(ErrorCode::StoreUnavailable, "stalled"))
    }

    async fn replace(&self, _: &OAuthToken, _: &OAuthToken) -> Result<bool> {
        unreachable!("there are no rows")
    }

    async fn apply(&self, _: &Mark, _: &Plan) -> Result<bool> {
        unreachable!("there is no mark")
    }
}

#[tokio::test(start_paused = true)]
async fn those_who_wait_for_their_turn_hear_of_an_outage_as_soon_as_others() {
    let began = Instant::now();
    let alone = Mutex::new(());
    let saves = (0..64).map(|number| {
        let (alone, token) = (&alone, token(&format!("u{number}"), "a", 1));
        async move { save(&Stalled, alone, &token).await.unwrap_err() }
    });
    for error in futures_util::future::join_all(saves).await {
        assert!(error.is_transient(), "{error}");
    }
    assert!(began.elapsed() <= PATIENCE + STALL, "{:?}", began.elapsed());
}

/// Hands out the mark slowly, and says of each save once that something changed.
#[derive(Default)]
struct Contended(StdMutex<Vec<String>>);

#[async_trait]
impl RowServer for Contended {
    async fn rows(&self, _: &[Wanted]) -> Result<Vec<OAuthToken>> {
        Ok(Vec::new())
    }

    async fn mark(&self) -> Result<Mark> {
        tokio::time::sleep(Duration::from_millis(4500)).await;
        Ok(Mark::default())
    }

    async fn replace(&self, _: &OAuthToken, _: &OAuthToken) -> Result<bool> {
        unreachable!("there are no rows")
    }

    async fn apply(&self, _: &Mark, plan: &Plan) -> Result<bool> {
        let name = plan.insert.as_ref().unwrap().user_name.clone().unwrap();
        let name = name.as_str().to_owned();
        let mut seen = self.0.lock().unwrap();
        let is_known = seen.contains(&name);
        seen.push(name);
        Ok(is_known)
    }
}

#[tokio::test(start_paused = true)]
async fn the_wait_for_a_turn_is_no_race_that_was_lost() {
    let (server, alone) = (Contended::default(), Mutex::new(()));
    // The last one has waited for over half a minute when it is done, and lost one race.
    let saves = (0..5).map(|number| {
        let (server, alone) = (&server, &alone);
        let token = token(&format!("u{number}"), "a", 1);
        async move { save(server, alone, &token).await }
    });
    for saved in futures_util::future::join_all(saves).await {
        saved.unwrap();
    }
}

/// What somebody does to a row.
type Deed = fn(&mut OAuthToken);

/// Somebody is about to give each new id to another record, for so many times as there is
/// something that is done to the row meanwhile.
#[derive(Default)]
struct Reached {
    server: Fickle,
    deeds: StdMutex<Vec<Deed>>,
    /// Which id was not out of reach the last time; it stays so.
    taken: StdMutex<Option<TokenId>>,
    /// How many plans are carried out before one is of which the opposite is told.
    until_lost: StdMutex<Option<usize>>,
}

#[async_trait]
impl RowServer for Reached {
    async fn rows(&self, wanted: &[Wanted]) -> Result<Vec<OAuthToken>> {
        self.server.rows(wanted).await
    }

    async fn mark(&self) -> Result<Mark> {
        self.server.mark().await
    }

    async fn replace(&self, old: &OAuthToken, new: &OAuthToken) -> Result<bool> {
        self.server.replace(old, new).await
    }

    async fn apply(&self, mark: &Mark, plan: &Plan) -> Result<bool> {
        let is_done = self.server.apply(mark, plan).await?;
        let mut left = self.until_lost.lock().unwrap();
        if is_done && let Some(plans) = left.as_mut() {
            if *plans == 0 {
                *left = None;
                return Ok(false);
            }
            *plans -= 1;
        }
        Ok(is_done)
    }

    async fn is_out_of_reach(&self, id: TokenId) -> Result<bool> {
        if *self.taken.lock().unwrap() == Some(id) {
            return Ok(false);
        }
        let Some(deed) = self.deeds.lock().unwrap().pop() else {
            return Ok(true);
        };
        *self.taken.lock().unwrap() = Some(id);
        let table = &mut self.server.rows.lock().unwrap().table;
        let mut row = table.remove(&id).unwrap();
        deed(&mut row);
        if let Some(id) = row.id {
            table.insert(id, row);
        }
        Ok(false)
    }
}

impl Reached {
    /// What is stored after a save during which this is done.
    async fn save(deeds: &[Deed], token: &OAuthToken) -> (TokenId, Vec<OAuthToken>) {
        Self::save_and_lose(deeds, None, token).await
    }

    async fn save_and_lose(
        deeds: &[Deed],
        until_lost: Option<usize>,
        token: &OAuthToken,
    ) -> (TokenId, Vec<OAuthToken>) {
        let server = Self::default();
        *server.deeds.lock().unwrap() = deeds.to_vec();
        *server.until_lost.lock().unwrap() = until_lost;
        let id = save(&server, &server.server.alone, token).await.unwrap();
        (id, server.server.get_tokens().await.unwrap())
    }
}

fn with_id(id: u64, mut token: OAuthToken) -> OAuthToken {
    token.id = TokenId::new(id).ok();
    token
}

#[tokio::test]
async fn a_new_record_moves_out_of_reach_with_all_that_was_added_to_it() {
    let token = token("u", "a", 1);
    let (id, stored) = Reached::save(&[|_| {}, |_| {}], &token).await;
    assert_eq!(id.get(), 3);
    assert_eq!(stored, [with_id(3, token.clone())]);

    let add: Deed = |row| row.access_token = AccessToken::received("newer").ok();
    let (id, stored) = Reached::save(&[add], &token).await;
    assert_eq!(id.get(), 2);
    let mut newer = token.clone();
    add(&mut newer);
    assert_eq!(stored, [with_id(2, newer)]);
}

#[tokio::test]
async fn what_came_about_late_moves_out_of_reach_too() {
    let token = token("u", "a", 1);
    // The insert, and the move.
    for until_lost in [0, 1] {
        let (id, stored) = Reached::save_and_lose(&[|_| {}], Some(until_lost), &token).await;
        assert_eq!(id.get(), 2, "{until_lost}");
        assert_eq!(stored, [with_id(2, token.clone())], "{until_lost}");
    }
}

#[tokio::test]
async fn a_new_record_that_is_written_over_is_saved_anew() {
    let mut token = token("u", "a", 1);
    token.client_id = ClientId::received("ours").ok();
    let overwrite: [Deed; 2] = [
        |row| row.user_name = UserName::received("theirs").ok(),
        |row| row.client_id = ClientId::received("theirs").ok(),
    ];
    for overwrite in overwrite {
        let (id, stored) = Reached::save(&[overwrite], &token).await;
        assert_eq!(id.get(), 2);
        assert_eq!(stored.len(), 2);
        assert_eq!(stored[1], with_id(2, token.clone()));
    }
}

#[tokio::test]
async fn a_new_record_that_is_deleted_stays_so() {
    let (id, stored) = Reached::save(&[|row| row.id = None], &token("u", "a", 1)).await;
    assert_eq!(id.get(), 1);
    assert_eq!(stored, []);
}

#[tokio::test]
async fn an_id_that_was_brought_along_is_kept_within_reach() {
    let token = with_id(7, token("u", "a", 1));
    let (id, stored) = Reached::save(&[|_| {}], &token).await;
    assert_eq!(id.get(), 7);
    assert_eq!(stored, [token]);
}
