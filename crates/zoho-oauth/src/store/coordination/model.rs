//! A model check of the protocol: every order in which workers, time, Zoho and the user can act.
//!
//! The transitions are those of [`Lease`] and [`Fact`], nothing is written twice. A worker may pause
//! before each of its steps, since time may pass at any moment; it may crash at any moment; and the
//! answer to one write may be lost, which is then done at once, later, or never. [`Ghost`] keeps
//! account of who holds the lease by the store's clock, apart from what the cell says.
//!
//! # How far the budget of mints holds
//! A mint is written down before Zoho is asked. So of the tokens that Zoho issues within one window,
//! no more than the budget were also *written down* within that window. A worker that stands still
//! between the two for longer than the rest of the window escapes that: the model finds it
//! (`a sleeper exceeds the budget`), and nothing but Zoho could prevent it.

use std::sync::OnceLock;
use std::time::Duration;

use stateright::{Checker, Model, Property};

use super::Memo;
use super::lease::{Hold, Lease, Write};
use crate::clock::Timestamp;
use crate::secret::{AccessToken, Fingerprint, RefreshToken};
use crate::token::{OAuthToken, TokenId};

/// Of a lease, in ticks of the model's clock.
const LIFE: i64 = 2;
/// In which at most [`BUDGET`] access tokens are minted.
const WINDOW: i64 = 4;
const BUDGET: usize = 1;
/// How long an access token is good: to the end of all time that the model looks at.
const TOKEN_LIFE: i64 = 100;

const fn ticks(number: i64) -> Duration {
    Duration::from_millis(number.unsigned_abs())
}

const fn at(tick: i64) -> Timestamp {
    Timestamp::from_millis(tick)
}

/// What may happen, and how often.
#[derive(Clone)]
struct Setup {
    workers: usize,
    /// When time ends, except for waiting.
    end: i64,
    luck: Luck,
    /// What must be reached somewhere.
    reached: fn() -> Vec<Property<Setup>>,
}

/// What may still go wrong, or change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Luck {
    crashes: u8,
    lost_answers: u8,
    renewals: u8,
    /// How often Zoho refuses a refresh token.
    refusals: u8,
    logins: u8,
    deletes: u8,
}

/// The stored record: its refresh token, and the access token with its end and with the refresh
/// token that it came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Record {
    refresh: u8,
    access: u8,
    from: u8,
    end: i64,
}

/// What Zoho issued.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Issue {
    refresh: u8,
    access: u8,
    noted: i64,
    at: i64,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct State {
    now: i64,
    cell: Option<Lease>,
    record: Option<Record>,
    workers: Vec<Worker>,
    /// A write whose answer was lost and that was not done yet.
    flying: Option<Flying>,
    issues: Vec<Issue>,
    left: Luck,
    ghost: Ghost,
}

/// A write that may be done: by whom, instead of what.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Flying {
    before: Option<Lease>,
    write: Write,
    by: Hold,
    kind: Kind,
}

/// What a write is meant to do; a take and a renewal, until when.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Kind {
    Take(i64),
    Renew(i64),
    Remember,
    Release,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
struct Ghost {
    /// Who holds the lease, and until when, if nobody else did anything wrong.
    holder: Option<(Hold, i64)>,
    wrong: Option<Wrong>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Wrong {
    TwoHolders,
    OpinionWithoutHold,
    FactLost,
    FactRolledBack,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Worker {
    step: Step,
    hold: Option<Hold>,
    /// The cell as it was last seen.
    known: Lease,
    /// The record as it was read.
    before: Option<Record>,
    memo: Memo,
    issued: Option<Issue>,
    kept: Option<End>,
}

impl Worker {
    fn new() -> Self {
        Self {
            step: Step::Begin,
            hold: None,
            known: Lease::default(),
            before: None,
            memo: Memo::default(),
            issued: None,
            kept: None,
        }
    }
}

/// What a worker does next.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Step {
    /// Read the cell.
    Begin,
    /// Take the lease that was found free.
    Take(Box<(Option<Lease>, Write, i64)>),
    /// Find out what became of a write whose answer was lost.
    FindOut(Box<Flying>),
    /// Read the record.
    Look,
    /// Write down the mint.
    Note,
    Ask,
    /// Save what Zoho issued.
    Keep,
    /// Give the lease back, with a last memo or without one.
    Release(bool),
    /// Tell of the issue, since the lease was lost.
    Tell,
    End(End),
    Dead,
}

/// What became of a worker's wish for an access token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum End {
    /// Somebody else had brought one.
    Used,
    /// What Zoho issued was saved.
    Saved,
    /// The same, although the lease was lost by then.
    SavedLate,
    Superseded,
    /// The record was deleted before Zoho was asked.
    Gone,
    /// The same, after Zoho issued.
    GoneLate,
    /// The refresh token is dead, and the others know.
    LoginAgain,
    /// The refresh token is dead, and the lease was lost before that could be written down.
    Unheard,
    /// The budget is spent.
    Wait,
    /// The lease was lost before Zoho was asked, or an answer was never found out.
    Failed,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Action {
    Step(usize),
    /// The same, and the answer is lost.
    StepUnheard(usize),
    Renew(usize),
    RenewUnheard(usize),
    Refuse(usize),
    /// Zoho issues, and the answer is lost.
    IssueUnheard(usize),
    Crash(usize),
    /// The write that was on its way is done.
    Land,
    Tick,
    Login,
    Delete,
}

fn credential(refresh: u8) -> Fingerprint {
    static BOTH: OnceLock<[Fingerprint; 2]> = OnceLock::new();
    let both = BOTH.get_or_init(|| [Fingerprint::of(&["0"]), Fingerprint::of(&["1"])]);
    both[usize::from(refresh)].clone()
}

impl Record {
    fn token(self) -> OAuthToken {
        let mut token = OAuthToken::new();
        token.id = TokenId::new(1).ok();
        token.refresh_token = RefreshToken::new(self.refresh.to_string()).ok();
        token.access_token = AccessToken::new(format!("{}/{}", self.access, self.from)).ok();
        token.expiry_time = Some(at(self.end));
        token
    }

    fn of(token: &OAuthToken) -> Self {
        let access = token.access_token.as_ref().unwrap().expose_secret();
        let (access, from) = access.split_once('/').unwrap();
        let refresh = token.refresh_token.as_ref().unwrap().expose_secret();
        Self {
            refresh: refresh.parse().unwrap(),
            access: access.parse().unwrap(),
            from: from.parse().unwrap(),
            end: token.expiry_time.unwrap().as_millis(),
        }
    }
}

mod check;
mod steps;
