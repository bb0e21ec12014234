//! A process that does what its parent says, so that a rule reads from top to bottom.

use std::io::{self, Write as _};
use std::process::{ChildStdin, Command};
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::key;
use crate::clock::Timestamp;
use crate::conformance::child::{Process, listen, pipe};
use crate::conformance::lines::Line;
use crate::conformance::subject::Subject;
use crate::conformance::{Place, StoreFactory, Verdict, Violation};
use crate::error::{Error, ErrorCode};
use crate::secret::Fingerprint;
use crate::store::{Fact, Kept, Memo, Permit};
use crate::token::{OAuthToken, TokenId};

/// Does what it reads from its parent, until the pipe ends.
pub(in crate::conformance) const DO_AS_TOLD: &str = "do-as-told";

/// A puppet that has not answered by then never will.
const PATIENCE: Duration = Duration::from_mins(1);

type Fields = [Option<String>; 10];

/// What the parent wants done.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Order {
    /// Take the key of a record.
    Acquire(u64),
    Drop,
    Release(Option<Memo>),
    SetMemo(Memo),
    TellIssue(Fingerprint, Timestamp),
    SaveFact {
        id: u64,
        before: Box<Fields>,
        news: Box<Fields>,
    },
    SaveToken(Box<Fields>),
    Delete(u64),
    DeleteAll,
}

/// What came of it.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Outcome {
    Done,
    /// Another holder has the key.
    Held,
    /// What became of a fact: `saved`, `superseded` or `gone`.
    Kept(String),
    Failed {
        code: String,
        text: String,
    },
}

impl Order {
    pub(super) fn save(id: TokenId, before: &OAuthToken, news: &OAuthToken) -> Self {
        Self::SaveFact {
            id: id.get(),
            before: fields(before),
            news: fields(news),
        }
    }

    pub(super) fn save_token(token: &OAuthToken) -> Self {
        Self::SaveToken(fields(token))
    }
}

fn fields(token: &OAuthToken) -> Box<Fields> {
    Box::new(token.expose_fields().map(|text| text.map(Into::into)))
}

/// The puppet, from its parent's side. Killed when this is dropped.
#[derive(Debug)]
pub(super) struct Puppet {
    process: Process,
    orders: ChildStdin,
    lines: Option<Receiver<Line>>,
}

impl Puppet {
    pub(super) async fn start(factory: &StoreFactory, place: &Place) -> Result<Self, Violation> {
        if cfg!(not(unix)) {
            return Err(Violation::new("this rule needs the processes of Unix"));
        }
        let mut process = Process::start(factory, DO_AS_TOLD, place, 0)?;
        let orders = process.input();
        let orders = orders.ok_or_else(|| Violation::new("the child has no input"))?;
        let mut puppet = Self {
            lines: Some(listen(&mut process)?),
            process,
            orders,
        };
        match puppet.hear().await? {
            Line::Ready => Ok(puppet),
            line => Err(Violation::new(format!("a child began with `{line}`"))),
        }
    }

    async fn hear(&mut self) -> Result<Line, Violation> {
        let lost = || Violation::new("a child cannot be heard any more");
        let lines = self.lines.take().ok_or_else(lost)?;
        let heard = tokio::task::spawn_blocking(move || {
            let line = lines.recv_timeout(PATIENCE);
            (lines, line)
        });
        let (lines, line) = heard.await.map_err(|_| lost())?;
        self.lines = Some(lines);
        match line {
            Ok(Line::Failed(why)) => Err(Violation::new(why)),
            Ok(line) => Ok(line),
            Err(RecvTimeoutError::Timeout) => Err(Violation::new("a child does not answer")),
            Err(RecvTimeoutError::Disconnected) => Err(Violation::new(
                "a child ended early: is the child's test in the same module, or `child_main` \
                 called first in `main`?",
            )),
        }
    }

    /// Has something done.
    pub(super) async fn does(&mut self, order: &Order) -> Result<Outcome, Violation> {
        let text = serde_json::to_string(order)
            .map_err(|error| Violation::new(format!("an order cannot be written: {error}")))?;
        writeln!(self.orders, "{text}")
            .and_then(|()| self.orders.flush())
            .map_err(|error| Violation::new(format!("the pipe to a child: {error}")))?;
        match self.hear().await? {
            Line::Told(text) => serde_json::from_str(&text)
                .map_err(|error| Violation::new(format!("a child said nonsense: {error}"))),
            line => Err(Violation::new(format!("a child answered `{line}`"))),
        }
    }

    /// Has something done that must succeed.
    pub(super) async fn succeeds(&mut self, order: &Order) -> Verdict {
        match self.does(order).await? {
            Outcome::Done => Ok(()),
            outcome => {
                let text = format!("in another process {order:?} came to {outcome:?}");
                Err(Violation::new(text))
            }
        }
    }

    /// Has something done that must fail, since the hold was lost.
    pub(super) async fn has_lost(&mut self, order: &Order) -> Verdict {
        let outcome = self.does(order).await?;
        let code = ErrorCode::LeaseLost.as_str();
        match &outcome {
            Outcome::Failed { code: failed, .. } if failed == code => Ok(()),
            _ => Err(Violation::new(format!(
                "a holder that lost its key should fail with `{code}`, and {order:?} came to \
                 {outcome:?}"
            ))),
        }
    }

    /// Lets the process stand still in the middle of whatever it does.
    pub(super) fn stop(&self) -> Verdict {
        self.signal("STOP")
    }

    /// Lets it go on.
    pub(super) fn go_on(&self) -> Verdict {
        self.signal("CONT")
    }

    /// Ends it with SIGKILL and waits for it to be gone.
    pub(super) fn kill(&mut self) {
        self.process.kill();
    }

    fn signal(&self, name: &str) -> Verdict {
        // Every shell can, and the standard library cannot without `unsafe`.
        let command = format!("kill -{name} {}", self.process.id());
        let sent = Command::new("sh").args(["-c", &command]).status();
        match sent {
            Ok(status) if status.success() => Ok(()),
            other => Err(Violation::new(format!("`{command}` failed: {other:?}"))),
        }
    }
}

/// The part of the process itself.
pub(in crate::conformance) async fn do_as_told(subject: &Subject) -> Verdict {
    let mut permit = None;
    loop {
        let read = tokio::task::spawn_blocking(|| {
            let mut text = String::new();
            io::stdin().read_line(&mut text).map(|_| text)
        });
        let text = match read.await {
            Ok(Ok(text)) if !text.is_empty() => text,
            _ => return Ok(()),
        };
        let order = serde_json::from_str(&text)
            .map_err(|error| Violation::new(format!("an order cannot be read: {error}")))?;
        let outcome = match carry_out(subject, &mut permit, order).await {
            Ok(outcome) => outcome,
            Err(error) => Outcome::Failed {
                code: error.code().as_str().into(),
                text: Violation::error("", &error).to_string(),
            },
        };
        let text = serde_json::to_string(&outcome)
            .map_err(|error| Violation::new(format!("an outcome cannot be written: {error}")))?;
        Line::Told(text).tell().map_err(pipe)?;
    }
}

async fn carry_out(
    subject: &Subject,
    held: &mut Option<Box<dyn Permit>>,
    order: Order,
) -> Result<Outcome, Error> {
    let wrong = |what: &str| Error::new(ErrorCode::Internal, format!("the kit is wrong: {what}"));
    let coordination = subject.store.coordination();
    let coordination = coordination.ok_or_else(|| wrong("no coordination"))?;
    let permit = held.as_ref().ok_or_else(|| wrong("no key is held"));
    match order {
        Order::Acquire(id) => {
            let key = key(id).map_err(|violation| wrong(&violation.to_string()))?;
            *held = coordination.try_acquire(&key).await?;
            let outcome = held.as_ref().map_or(Outcome::Held, |_| Outcome::Done);
            return Ok(outcome);
        }
        Order::Drop => *held = None,
        Order::Release(memo) => {
            let permit = held.take().ok_or_else(|| wrong("no key is held"))?;
            permit.release(memo.as_ref()).await?;
        }
        Order::SetMemo(memo) => permit?.set_memo(&memo).await?,
        Order::TellIssue(credential, at) => permit?.tell_issue(&credential, at).await?,
        Order::SaveFact { id, before, news } => {
            let before = OAuthToken::from_fields(&before)?;
            let news = OAuthToken::from_fields(&news)?;
            let fact = Fact::new(TokenId::new(id)?, before, news);
            let kept = match subject.store.save_fact(&fact).await? {
                Kept::Saved => "saved",
                Kept::Superseded(_) => "superseded",
                Kept::Gone => "gone",
            };
            return Ok(Outcome::Kept(kept.into()));
        }
        Order::SaveToken(fields) => {
            let token = OAuthToken::from_fields(&fields)?;
            subject.store.save_token(&token).await?;
        }
        Order::Delete(id) => drop(subject.store.delete_token(TokenId::new(id)?).await?),
        Order::DeleteAll => drop(subject.store.delete_tokens().await?),
    }
    Ok(Outcome::Done)
}
