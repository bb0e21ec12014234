//! Processes that write: how they are started, and what they do.

use std::collections::BTreeMap;
use std::io;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use fastrand::Rng;

use super::lines::Line;
use super::script::record;
use crate::conformance::subject::Subject;
use crate::conformance::{Place, StoreFactory, Violation, environment};
use crate::error::Error;
use crate::token::TokenId;

/// Writes until it is killed.
pub(super) const WRITE_UNTIL_KILLED: &str = "write-until-killed";
/// Waits for the start, then writes a fixed number of records.
pub(super) const WRITE_TOGETHER: &str = "write-together";

/// How many different users of the process `seed` write together, each saved once.
pub(super) const OWN_USERS: usize = 30;
/// How many users all processes save.
pub(super) const SHARED_USERS: usize = 10;

/// Does the part of a child process of the kit, if this process is one; `true` when it was.
///
/// The durable tier starts the program of this process again, with environment variables that say
/// what to do. In a test binary `token_store_conformance!` takes care of it. Any other program calls
/// this first in `main`, with the same factory, and ends when the answer is `true`:
///
/// ```no_run
/// # use zoho_oauth::{ListStore, Result};
/// use zoho_oauth::conformance::{Place, StoreFactory, Tier, check, child_main};
///
/// # async fn open(_: Place) -> Result<ListStore> { Ok(ListStore::new()) }
/// # async fn example() {
/// if child_main(StoreFactory::new(open)).await {
///     return;
/// }
/// let report = check(Tier::Durable, StoreFactory::new(open)).await;
/// assert!(report.is_conformant(), "{report}");
/// # }
/// ```
pub async fn child_main(factory: StoreFactory) -> bool {
    if !environment::is_child() {
        return false;
    }
    let told = match play(&factory).await {
        Ok(()) => Line::Finished.tell(),
        Err(violation) => Line::Failed(violation.to_string()).tell(),
    };
    // A parent that is gone cannot be told.
    drop(told);
    true
}

async fn play(factory: &StoreFactory) -> Result<(), Violation> {
    let order = environment::child_order()
        .ok_or_else(|| Violation::new("the child's environment is incomplete"))?;
    let subject = Subject::open_at(factory, order.place).await?;
    Line::Ready.tell().map_err(pipe)?;
    match order.part.as_str() {
        WRITE_UNTIL_KILLED => write_until_killed(&subject, order.seed).await,
        WRITE_TOGETHER => write_together(&subject, order.seed).await,
        other => Err(Violation::new(format!("no part is called `{other}`"))),
    }
}

#[expect(clippy::needless_pass_by_value, reason = "for `map_err`")]
fn pipe(error: io::Error) -> Violation {
    Violation::new(format!("the pipe to the parent: {error}"))
}

/// About twenty users are updated; guests come and go.
async fn write_until_killed(subject: &Subject, seed: u64) -> Result<(), Violation> {
    let mut rng = Rng::with_seed(seed);
    let mut stored: BTreeMap<String, TokenId> = BTreeMap::new();
    for row in subject.all().await? {
        if let (Some(name), Some(id)) = (row.user_name, row.id) {
            stored.insert(name.as_str().to_owned(), id);
        }
    }
    for number in 0_u64.. {
        let guests = stored.keys().filter(|name| name.starts_with("guest"));
        let (count, oldest) = (guests.clone().count(), guests.clone().next().cloned());
        let regular = format!("regular-{:02}", rng.u32(0..20));
        let stamp = format!("{seed:x}-{number}");
        let (user, is_delete) = match rng.u32(0..100) {
            0..15 if count < 8 => (format!("guest-{stamp}"), false),
            0..27 => (oldest.unwrap_or(regular), count > 0),
            27..30 => (regular, true),
            _ => (regular, false),
        };
        if let Some(id) = stored.get(&user).copied().filter(|_| is_delete) {
            delete(subject, &user, id).await?;
            stored.remove(&user);
        } else {
            let id = save(subject, &user, &stamp).await?;
            stored.insert(user, id);
        }
    }
    Ok(())
}

/// Own users, each of which is there at the end or deleted again, and users that all processes save.
async fn write_together(subject: &Subject, process: u64) -> Result<(), Violation> {
    // The parent closes the pipe when all are ready.
    let waited = tokio::task::spawn_blocking(|| io::stdin().lines().count()).await;
    drop(waited);
    for number in 0..OWN_USERS {
        let stamp = format!("{process}-{number}");
        let user = format!("own-{stamp}");
        let id = save(subject, &user, &stamp).await?;
        save(
            subject,
            &format!("shared-{}", number % SHARED_USERS),
            &stamp,
        )
        .await?;
        if number % 5 == 4 {
            delete(subject, &user, id).await?;
        }
    }
    Ok(())
}

/// Tells, saves, tells.
async fn save(subject: &Subject, user: &str, stamp: &str) -> Result<TokenId, Violation> {
    let line = Line::Save {
        user: user.into(),
        stamp: stamp.into(),
    };
    line.tell().map_err(pipe)?;
    let record = record(user, stamp);
    let saved = persistently(|| subject.store.save_token(&record)).await;
    let id = saved.map_err(|error| Violation::error("`save_token` failed", &error))?;
    Line::Saved(id).tell().map_err(pipe)?;
    Ok(id)
}

/// Tells, deletes, tells.
async fn delete(subject: &Subject, user: &str, id: TokenId) -> Result<(), Violation> {
    let line = Line::Delete {
        user: user.into(),
        id,
    };
    line.tell().map_err(pipe)?;
    let deleted = persistently(|| subject.store.delete_token(id)).await;
    let was_there = deleted.map_err(|error| Violation::error("`delete_token` failed", &error))?;
    Line::Deleted(was_there).tell().map_err(pipe)
}

/// Calls again when the store says that it may help, as an application would.
async fn persistently<T, F>(call: impl Fn() -> F) -> Result<T, Error>
where
    F: Future<Output = Result<T, Error>>,
{
    for _ in 0..20 {
        match call().await {
            Err(error) if error.is_transient() => {}
            answer => return answer,
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    call().await
}

/// A child process, killed when this is dropped.
#[derive(Debug)]
pub(super) struct Process {
    child: Child,
}

impl Process {
    pub(super) fn start(
        factory: &StoreFactory,
        part: &str,
        place: &Place,
        seed: u64,
    ) -> Result<Self, Violation> {
        let failed = |error| Violation::new(format!("cannot start this program again: {error}"));
        let program = std::env::current_exe().map_err(failed)?;
        let mut command = Command::new(program);
        command
            .args(factory.child_arguments())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped());
        environment::give_order(&mut command, part, place, seed);
        let child = command.spawn().map_err(failed)?;
        Ok(Self { child })
    }

    /// The pipe from the child, once.
    pub(super) fn output(&mut self) -> Result<ChildStdout, Violation> {
        let output = self.child.stdout.take();
        output.ok_or_else(|| Violation::new("the child has no output"))
    }

    /// The pipe to the child, once.
    pub(super) fn input(&mut self) -> Option<ChildStdin> {
        self.child.stdin.take()
    }

    /// Ends the child with SIGKILL, in the middle of whatever it does, and waits for it to be gone.
    pub(super) fn kill(&mut self) {
        // It can fail only if the child has ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}
