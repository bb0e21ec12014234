//! A store on a server that takes its time: what a killed process asked for last is done when the
//! process is gone. The kit tolerates that, and nothing beyond it.
//!
//! The server is a thread of the test. A child finds it by the number of its parent.

use std::io::{BufRead, BufReader, Write as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::os::unix::process::parent_id;
use std::path::PathBuf;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use zoho_oauth::conformance::{Place, StoreFactory, durable};
use zoho_oauth::{
    Error, ErrorCode, OAuthToken, Result, TokenId, TokenQuery, TokenStore, token_store_conformance,
};

use crate::stores::own_store::JsonStore;

const KILLS: usize = 60;

type Fields = [Option<String>; 10];

#[derive(Debug, Serialize, Deserialize)]
struct Request {
    path: PathBuf,
    call: Call,
}

#[derive(Debug, Serialize, Deserialize)]
enum Call {
    All,
    Save(Box<Fields>),
    Delete(u64),
}

#[derive(Debug, Serialize, Deserialize)]
enum Reply {
    All(Vec<Fields>),
    Saved(u64),
    Deleted(bool),
}

fn fields(token: &OAuthToken) -> Fields {
    token.expose_fields().map(|text| text.map(Into::into))
}

fn socket(of: u32, is_hasty: bool) -> PathBuf {
    std::env::temp_dir().join(format!("zoho-kit-late-{of}-{is_hasty}.sock"))
}

/// Serves until the process ends. Writes are done one by one, in the order in which they came.
fn serve(is_hasty: bool) {
    let listener = UnixListener::bind(socket(std::process::id(), is_hasty)).unwrap();
    let (sender, writes) = mpsc::channel::<(Request, UnixStream)>();
    thread::spawn(move || {
        for (request, stream) in writes {
            thread::sleep(Duration::from_millis(fastrand::u64(0..25)));
            answer(request, &stream);
        }
    });
    thread::spawn(move || {
        for stream in listener.incoming().map(std::io::Result::unwrap) {
            let mut line = String::new();
            // Whoever connected may have been killed before it asked.
            let Ok(1..) = BufReader::new(&stream).read_line(&mut line) else {
                continue;
            };
            let Ok(request) = serde_json::from_str::<Request>(&line) else {
                continue;
            };
            match &request.call {
                Call::All => answer(request, &stream),
                Call::Delete(_) if is_hasty => {
                    reply(&stream, &Reply::Deleted(true));
                    sender.send((request, stream)).unwrap();
                }
                _ => sender.send((request, stream)).unwrap(),
            }
        }
    });
}

fn reply(mut stream: &UnixStream, reply: &Reply) {
    // Whoever asked may be gone.
    let _ = writeln!(stream, "{}", serde_json::to_string(reply).unwrap());
}

fn answer(request: Request, stream: &UnixStream) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    let folder = request.path.parent().unwrap().to_owned();
    let store = JsonStore(request.path);
    let work = async {
        Ok::<_, Error>(match request.call {
            Call::All => {
                let all = store.get_tokens().await?;
                Reply::All(all.iter().map(fields).collect())
            }
            Call::Save(fields) => {
                let token = OAuthToken::from_fields(&fields)?;
                Reply::Saved(store.save_token(&token).await?.get())
            }
            Call::Delete(id) => Reply::Deleted(store.delete_token(TokenId::new(id)?).await?),
        })
    };
    match runtime.block_on(work) {
        Ok(answer) => reply(stream, &answer),
        // The lane that asked has ended meanwhile and taken its folder with it.
        Err(error) => assert!(!folder.exists(), "{error}"),
    }
}

#[derive(Debug)]
struct LateStore {
    path: PathBuf,
    /// Its server answers before it has deleted a record.
    is_hasty: bool,
}

impl LateStore {
    fn open(place: &Place, is_hasty: bool) -> Self {
        let path = place.path().join("tokens.json");
        Self { path, is_hasty }
    }

    fn ask(&self, call: Call) -> Result<Reply> {
        let failed = |error: &dyn std::fmt::Display| {
            Error::new(ErrorCode::StoreUnavailable, format!("no server: {error}"))
        };
        let connect = |pid| UnixStream::connect(socket(pid, self.is_hasty));
        let stream = connect(parent_id()).or_else(|_| connect(std::process::id()));
        let mut stream = stream.map_err(|error| failed(&error))?;
        let request = Request {
            path: self.path.clone(),
            call,
        };
        writeln!(stream, "{}", serde_json::to_string(&request).unwrap())
            .map_err(|error| failed(&error))?;
        let mut line = String::new();
        let read = BufReader::new(stream).read_line(&mut line);
        read.map_err(|error| failed(&error))?;
        Ok(serde_json::from_str(&line).unwrap())
    }
}

#[async_trait]
impl TokenStore for LateStore {
    async fn find_token(&self, query: &TokenQuery) -> Result<Option<OAuthToken>> {
        let all = self.get_tokens().await?;
        Ok(all.into_iter().find(|row| query.matches(row)))
    }
    async fn find_token_by_id(&self, id: TokenId) -> Result<Option<OAuthToken>> {
        let all = self.get_tokens().await?;
        Ok(all.into_iter().find(|row| row.id == Some(id)))
    }
    async fn get_tokens(&self) -> Result<Vec<OAuthToken>> {
        match self.ask(Call::All)? {
            Reply::All(rows) => rows.iter().map(OAuthToken::from_fields).collect(),
            other => unreachable!("{other:?}"),
        }
    }
    async fn save_token(&self, token: &OAuthToken) -> Result<TokenId> {
        match self.ask(Call::Save(Box::new(fields(token))))? {
            Reply::Saved(id) => TokenId::new(id),
            other => unreachable!("{other:?}"),
        }
    }
    async fn delete_token(&self, id: TokenId) -> Result<bool> {
        match self.ask(Call::Delete(id.get()))? {
            Reply::Deleted(was_there) => Ok(was_there),
            other => unreachable!("{other:?}"),
        }
    }
    async fn delete_tokens(&self) -> Result<usize> {
        unreachable!("the kill rule deletes one by one")
    }
}

async fn kill(factory: StoreFactory, is_hasty: bool) -> std::result::Result<(), String> {
    serve(is_hasty);
    let verdict = durable::nothing_acknowledged_is_lost_when_killed(&factory).await;
    std::fs::remove_file(socket(std::process::id(), is_hasty)).unwrap();
    verdict.map_err(|violation| violation.to_string())
}

mod patient {
    use super::*;

    async fn open(place: Place) -> Result<LateStore> {
        Ok(LateStore::open(&place, false))
    }

    token_store_conformance!(child, open);

    #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
    async fn is_right() {
        let factory = StoreFactory::new(open)
            .with_kills(KILLS)
            .with_child_test(concat!(module_path!(), "::conformance_child"));
        kill(factory, false).await.unwrap();
    }
}

mod hasty {
    use super::*;

    async fn open(place: Place) -> Result<LateStore> {
        Ok(LateStore::open(&place, true))
    }

    token_store_conformance!(child, open);

    #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
    async fn is_found() {
        let factory =
            StoreFactory::new(open).with_child_test(concat!(module_path!(), "::conformance_child"));
        let verdict = kill(factory, true).await;
        let violation = verdict.expect_err("the flaw should be found");
        println!("{violation}");
    }
}
