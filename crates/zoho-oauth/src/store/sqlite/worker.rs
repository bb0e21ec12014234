//! The threads of a store: one that writes, in groups, and one for reads that take their time.

use std::io;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use tokio::sync::oneshot;

use super::db::Db;
use crate::error::{Error, ErrorCode, Result};

/// The most jobs that share one transaction, so that the first does not wait for too many others.
const GROUP: usize = 256;

/// Locks a connection. A panic of another holder leaves at worst an open transaction, which the
/// next group rolls back.
pub(super) fn lock(db: &Mutex<Db>) -> MutexGuard<'_, Db> {
    db.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A thread that works off a queue until its owner is dropped, which waits for it.
struct Thread<J> {
    queue: Option<Sender<J>>,
    handle: Option<JoinHandle<()>>,
}

impl<J: Send + 'static> Thread<J> {
    fn spawn(name: &str, work: impl FnOnce(Receiver<J>) + Send + 'static) -> Result<Self> {
        let (queue, jobs) = channel();
        let builder = std::thread::Builder::new().name(name.to_owned());
        let handle = builder.spawn(move || work(jobs)).map_err(no_thread)?;
        Ok(Self {
            queue: Some(queue),
            handle: Some(handle),
        })
    }

    /// A job that cannot be queued is dropped, and whoever waits for its answer learns of it.
    fn queue(&self, job: J) {
        if let Some(queue) = &self.queue {
            let _ = queue.send(job);
        }
    }
}

impl<J> Drop for Thread<J> {
    fn drop(&mut self) {
        drop(self.queue.take());
        // An answer can wake a task whose last act is to drop the store, here on the thread itself.
        let handle = self.handle.take();
        let elsewhere = handle.filter(|handle| handle.thread().id() != std::thread::current().id());
        if let Some(handle) = elsewhere {
            let _ = handle.join();
        }
    }
}

fn no_thread(error: io::Error) -> Error {
    Error::new(
        ErrorCode::StoreUnavailable,
        "cannot start a thread for the database",
    )
    .caused_by(error)
}

/// The answer never came: the thread has ended, which only a panic in it can do.
fn gone<T>(_: T) -> Error {
    Error::new(ErrorCode::Internal, "the thread of the database has ended")
}

/// The thread that writes.
pub(super) struct WriteThread(Thread<Box<dyn Job>>);

impl WriteThread {
    pub(super) fn spawn(db: Arc<Mutex<Db>>) -> Result<Self> {
        let work = move |jobs: Receiver<Box<dyn Job>>| {
            while let Ok(first) = jobs.recv() {
                let mut group = vec![first];
                group.extend(jobs.try_iter().take(GROUP - 1));
                commit(&lock(&db), group);
            }
        };
        Thread::spawn("zoho-oauth-sqlite-write", work).map(Self)
    }

    /// Runs `work` in a transaction and answers when that is committed.
    ///
    /// `work` may run a second time if the transaction of the first was lost. Once queued it is
    /// done whether anybody waits for it or not.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        work: impl FnMut(&Db) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let (reply, answer) = oneshot::channel();
        self.0.queue(Box::new(Task {
            work,
            done: None,
            reply,
        }));
        answer.await.map_err(gone).flatten()
    }
}

/// A write that waits for its transaction.
trait Job: Send {
    /// Does the work, keeps its result, and returns whether it succeeded.
    fn run(&mut self, db: &Db) -> bool;

    /// Passes the result on: that of the work, unless what surrounds it failed.
    fn answer(self: Box<Self>, transaction: Result<()>);
}

struct Task<T, W> {
    work: W,
    done: Option<Result<T>>,
    reply: oneshot::Sender<Result<T>>,
}

impl<T, W> Job for Task<T, W>
where
    T: Send,
    W: FnMut(&Db) -> Result<T> + Send,
{
    fn run(&mut self, db: &Db) -> bool {
        self.done.insert((self.work)(db)).is_ok()
    }

    fn answer(self: Box<Self>, transaction: Result<()>) {
        let Self { work, done, reply } = *self;
        // Who is answered may rely on what the work held being free.
        drop(work);
        let answer = match (done, transaction) {
            (Some(Err(error)), _) | (_, Err(error)) => Err(error),
            (Some(Ok(value)), Ok(())) => Ok(value),
            (None, Ok(())) => Err(gone(())),
        };
        // Nobody may be waiting any more.
        let _ = reply.send(answer);
    }
}

/// Commits a group of jobs at once, and answers them.
fn commit(db: &Db, mut group: Vec<Box<dyn Job>>) {
    if !db.connection.is_autocommit() {
        let _ = db.execute("ROLLBACK", []);
    }
    if group.len() > 1 {
        if let Err(error) = db.execute("BEGIN IMMEDIATE", []) {
            // They have all waited for the lock, once.
            let answer = |job: Box<dyn Job>| job.answer(Err(error.clone()));
            return group.into_iter().for_each(answer);
        }
        if together(db, &mut group).is_ok() {
            return group.into_iter().for_each(|job| job.answer(Ok(())));
        }
    }
    // One job, or a group whose transaction was lost: a full disk, say, undoes all of it. Alone,
    // those that fit still get through.
    for mut job in group {
        let outcome = alone(db, &mut *job);
        job.answer(outcome);
    }
}

/// Runs each job in a savepoint, so that a failing one takes back its own work only. After an
/// error nothing of the transaction is in the database.
fn together(db: &Db, group: &mut [Box<dyn Job>]) -> Result<()> {
    let done = group.iter_mut().try_for_each(|job| {
        db.execute("SAVEPOINT job", [])?;
        if !job.run(db) {
            db.execute("ROLLBACK TO job", [])?;
        }
        db.execute("RELEASE job", []).map(drop)
    });
    finish(db, done)
}

fn alone(db: &Db, job: &mut dyn Job) -> Result<()> {
    db.execute("BEGIN IMMEDIATE", [])?;
    if job.run(db) {
        return finish(db, Ok(()));
    }
    // The job has its own error to tell. A failed statement may have rolled back by itself.
    let _ = db.execute("ROLLBACK", []);
    Ok(())
}

fn finish(db: &Db, done: Result<()>) -> Result<()> {
    let committed = done.and_then(|()| db.execute("COMMIT", []));
    if committed.is_err() && !db.connection.is_autocommit() {
        let _ = db.execute("ROLLBACK", []);
    }
    committed.map(drop)
}

type Read = Box<dyn FnOnce(&Db) + Send>;

/// The thread for what may take long: whole tables, pages, waits for a lock, the lock files.
pub(super) struct ReadThread(Thread<Read>);

impl ReadThread {
    pub(super) fn spawn(db: Arc<Mutex<Db>>) -> Result<Self> {
        let work = move |jobs: Receiver<Read>| {
            for job in jobs {
                job(&lock(&db));
            }
        };
        Thread::spawn("zoho-oauth-sqlite-read", work).map(Self)
    }

    pub(super) async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Db) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let (reply, answer) = oneshot::channel();
        self.0.queue(Box::new(move |db| {
            let _ = reply.send(work(db));
        }));
        answer.await.map_err(gone).flatten()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;
    use crate::secret::AccessToken;
    use crate::store::sqlite::{open, save};
    use crate::token::{OAuthToken, TokenId};

    fn token(access: &str) -> OAuthToken {
        let mut token = OAuthToken::new();
        token.access_token = Some(AccessToken::new(access).unwrap());
        token
    }

    type Answer = oneshot::Receiver<Result<TokenId>>;

    fn job(work: impl FnMut(&Db) -> Result<TokenId> + Send + 'static) -> (Box<dyn Job>, Answer) {
        let (reply, answer) = oneshot::channel();
        let done = None;
        (Box::new(Task { work, done, reply }), answer)
    }

    fn run(db: &Db, jobs: Vec<(Box<dyn Job>, Answer)>) -> Vec<Result<TokenId>> {
        let (jobs, answers): (Vec<_>, Vec<_>) = jobs.into_iter().unzip();
        commit(db, jobs);
        let get = |mut answer: Answer| answer.try_recv().expect("an answer after the commit");
        answers.into_iter().map(get).collect()
    }

    fn stored(db: &Db) -> Vec<String> {
        let access = |row: &OAuthToken| row.access_token.clone().unwrap();
        let (rows, _) = db.all().unwrap();
        rows.iter()
            .map(|row| access(row).expose_secret().to_owned())
            .collect()
    }

    #[test]
    fn a_job_that_fails_takes_back_its_own_work_only() {
        let db = open::in_memory("t").unwrap();
        let fails_late = |db: &Db| {
            save::save(db, &token("undone"))?;
            Err(Error::new(ErrorCode::IdConflict, "on purpose"))
        };
        let answers = run(
            &db,
            vec![
                job(|db| save::save(db, &token("a"))),
                job(fails_late),
                job(|db| save::save(db, &token("b"))),
            ],
        );
        assert_eq!(answers[0].as_ref().unwrap().get(), 1);
        assert_eq!(
            answers[1].as_ref().unwrap_err().code(),
            ErrorCode::IdConflict
        );
        assert_eq!(answers[2].as_ref().unwrap().get(), 2);
        assert_eq!(stored(&db), ["a", "b"]);
        let answers = run(&db, vec![job(fails_late)]);
        assert_eq!(
            answers[0].as_ref().unwrap_err().code(),
            ErrorCode::IdConflict
        );
        assert_eq!(stored(&db), ["a", "b"]);
    }

    #[test]
    fn when_a_group_is_lost_its_jobs_are_done_one_by_one() {
        static RUNS: AtomicUsize = AtomicUsize::new(0);

        let db = open::in_memory("t").unwrap();
        let loses_all = |db: &Db| {
            RUNS.fetch_add(1, Ordering::Relaxed);
            db.execute("ROLLBACK", [])?;
            Err(Error::new(ErrorCode::StoreFull, "as a full disk does"))
        };
        let answers = run(
            &db,
            vec![
                job(|db| save::save(db, &token("a"))),
                job(loses_all),
                job(|db| save::save(db, &token("b"))),
            ],
        );
        assert_eq!(RUNS.load(Ordering::Relaxed), 2);
        assert!(answers[0].is_ok() && answers[2].is_ok());
        assert_eq!(
            answers[1].as_ref().unwrap_err().code(),
            ErrorCode::StoreFull
        );
        assert_eq!(stored(&db), ["a", "b"]);
    }

    #[test]
    fn nothing_is_answered_as_done_when_the_lock_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("t.db");
        std::fs::write(&path, "").unwrap();
        let db = open::writer(&path, "t", std::time::Duration::ZERO).unwrap();
        let other = rusqlite::Connection::open(&path).unwrap();
        other.execute_batch("BEGIN IMMEDIATE").unwrap();
        let save = |name: &'static str| job(move |db| save::save(db, &token(name)));
        for answer in run(&db, vec![save("a"), save("b")]) {
            assert_eq!(answer.unwrap_err().code(), ErrorCode::StoreLocked);
        }
        other.execute_batch("COMMIT").unwrap();
        assert_eq!(stored(&db), [""; 0]);
        assert!(
            run(&db, vec![save("a"), save("b")])
                .iter()
                .all(Result::is_ok)
        );
    }
}
