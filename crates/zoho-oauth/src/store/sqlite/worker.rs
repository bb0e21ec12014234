//! The threads of a store: one that writes, in groups, and one for reads that take their time.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc as std_mpsc;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::mpsc::{Receiver, Sender, channel};
use tokio::sync::oneshot;

use super::db::Db;
use super::fault::{Place, no_thread};
use super::pulse::Pulse;
use crate::error::{Error, ErrorCode, Result};

/// The most jobs that share one transaction, so that the first does not wait for too many others.
const GROUP: usize = 256;

/// The most jobs that wait for a thread.
pub(super) const MOST_WAITING: usize = 100_000;

/// How long what can be done later waits for a lock that another process is known to hold.
const SHORT_WAIT: Duration = Duration::from_millis(100);

/// How long one try for a lock lasts, after which new jobs join those that wait.
const TRY: Duration = Duration::from_millis(50);

/// How long to pause where SQLite refuses a lock without waiting for it.
const PAUSE: Duration = Duration::from_millis(5);

/// How many steps of SQLite's machine are a sign that a long statement gets on.
const STEPS: i32 = 100_000;

/// How long a store waits.
#[derive(Clone, Copy, Debug)]
pub(super) struct Patience {
    /// For the locks of other connections, in all, from the call on.
    pub(super) locks: Duration,
    /// Beyond that for anything else, above all the disk, before it counts as hung.
    pub(super) disk: Duration,
}

/// Locks a connection. A panic of another holder leaves at worst an open transaction, which the
/// next group rolls back.
pub(super) fn lock(db: &Mutex<Db>) -> MutexGuard<'_, Db> {
    db.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A thread that works off a queue until its owner is dropped, which waits for it unless it hangs.
struct Thread<J> {
    queue: Option<Sender<J>>,
    handle: Option<JoinHandle<()>>,
    /// Disconnected when the thread has ended.
    end: Mutex<std_mpsc::Receiver<()>>,
    pulse: Arc<Pulse>,
    place: Arc<Place>,
    patience: Patience,
}

impl<J: Send + 'static> Thread<J> {
    fn spawn(
        name: &str,
        db: Arc<Mutex<Db>>,
        patience: Patience,
        work: impl Fn(&Db, &Pulse, &mut Receiver<J>, J) + Send + 'static,
    ) -> Result<Self> {
        let (queue, mut jobs) = channel(MOST_WAITING);
        let (running, end) = std_mpsc::channel::<()>();
        let pulse = Pulse::watched(patience.locks.saturating_add(patience.disk))?;
        let place = Arc::clone(&lock(&db).place);
        let beat = Arc::clone(&pulse);
        lock(&db).on_progress(STEPS, move || beat.beat_if_busy())?;
        let of_thread = Arc::clone(&pulse);
        let run = move || {
            let _running = running;
            while let Some(job) = jobs.blocking_recv() {
                of_thread.beat();
                work(&lock(&db), &of_thread, &mut jobs, job);
                of_thread.rest();
            }
        };
        let builder = std::thread::Builder::new().name(name.to_owned());
        let handle = builder.spawn(run).map_err(no_thread)?;
        Ok(Self {
            queue: Some(queue),
            handle: Some(handle),
            end: Mutex::new(end),
            pulse,
            place,
            patience,
        })
    }

    /// Queues a job and waits for its answer, or until the thread hangs. What was not begun when
    /// it hung is never done.
    async fn answer<T>(
        &self,
        job: J,
        given_up: &AtomicBool,
        answer: oneshot::Receiver<Result<T>>,
    ) -> Result<T> {
        let mut is_hung = self.pulse.subscribe();
        let hung = || self.pulse.hung(&self.place.name());
        if self.pulse.is_hung() {
            return Err(hung());
        }
        let queue = self.queue.as_ref().ok_or_else(|| gone(()))?;
        match queue.try_send(job) {
            Ok(()) => {}
            Err(TrySendError::Full(_)) => {
                let message = format!("{MOST_WAITING} calls wait for {}", self.place.name());
                return Err(Error::new(ErrorCode::StoreUnavailable, message));
            }
            Err(TrySendError::Closed(_)) => return Err(gone(())),
        }
        tokio::select! {
            biased;
            answer = answer => answer.map_err(gone).flatten(),
            _ = is_hung.wait_for(|is_hung| *is_hung) => {
                given_up.store(true, Ordering::Release);
                Err(hung())
            }
        }
    }
}

impl<J> Drop for Thread<J> {
    fn drop(&mut self) {
        drop(self.queue.take());
        // An answer can wake a task whose last act is to drop the store, here on the thread itself.
        let handle = self.handle.take();
        let elsewhere = handle.filter(|handle| handle.thread().id() != std::thread::current().id());
        let Some(handle) = elsewhere else { return };
        let end = self.end.get_mut().unwrap_or_else(PoisonError::into_inner);
        while end.recv_timeout(PAUSE * 20) == Err(std_mpsc::RecvTimeoutError::Timeout) {
            if self.pulse.is_hung() {
                return;
            }
        }
        let _ = handle.join();
    }
}

/// The answer never came: the thread has ended, which only a panic in it can do.
fn gone<T>(_: T) -> Error {
    Error::new(ErrorCode::Internal, "the thread of the database has ended")
}

/// The thread that writes.
pub(super) struct WriteThread {
    thread: Thread<Box<dyn Job>>,
    /// Whether the last try to write ended at the lock of another connection.
    pub(super) is_locked: Arc<AtomicBool>,
}

impl WriteThread {
    pub(super) fn spawn(db: Arc<Mutex<Db>>, patience: Patience) -> Result<Self> {
        let is_locked = Arc::new(AtomicBool::new(false));
        let told = Arc::clone(&is_locked);
        let work = move |db: &Db, pulse: &Pulse, jobs: &mut Receiver<Box<dyn Job>>, first| {
            let mut group = vec![first];
            while group.len() < GROUP
                && let Ok(job) = jobs.try_recv()
            {
                group.push(job);
            }
            let writer = Writer {
                db,
                pulse,
                is_locked: &told,
            };
            writer.commit(group, jobs);
        };
        let thread = Thread::spawn("zoho-oauth-sqlite-write", db, patience, work)?;
        Ok(Self { thread, is_locked })
    }

    pub(super) fn is_hung(&self) -> bool {
        self.thread.pulse.is_hung()
    }

    /// Runs `work` in a transaction and answers when that is committed.
    ///
    /// `work` may run a second time if the transaction of the first was lost. Once queued it is
    /// done whether anybody waits for it or not, unless the thread hangs before.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        work: impl FnMut(&Db) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        self.run_within(self.thread.patience.locks, work).await
    }

    /// The same for what can be written later: it hardly waits for a lock that another write has
    /// waited for in vain.
    pub(super) async fn run_briefly<T: Send + 'static>(
        &self,
        work: impl FnMut(&Db) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let mut wait = self.thread.patience.locks;
        if self.is_locked.load(Ordering::Relaxed) {
            wait = wait.min(SHORT_WAIT);
        }
        self.run_within(wait, work).await
    }

    /// The same with another wait for locks.
    pub(super) async fn run_within<T: Send + 'static>(
        &self,
        wait: Duration,
        work: impl FnMut(&Db) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let (reply, answer) = oneshot::channel();
        let given_up = Arc::new(AtomicBool::new(false));
        let job = Box::new(Task {
            work,
            done: None,
            reply,
            deadline: Instant::now() + wait,
            given_up: Arc::clone(&given_up),
        });
        self.thread.answer(job, &given_up, answer).await
    }
}

/// A write that waits for its transaction.
trait Job: Send {
    /// Does the work, keeps its result, and returns whether it succeeded.
    fn run(&mut self, db: &Db) -> bool;

    /// Passes the result on: that of the work, unless what surrounds it failed.
    fn answer(self: Box<Self>, transaction: Result<()>);

    /// Until when it waits for the locks of others.
    fn deadline(&self) -> Instant;

    /// Whether its caller was told that it is not done.
    fn is_given_up(&self) -> bool;
}

struct Task<T, W> {
    work: W,
    done: Option<Result<T>>,
    reply: oneshot::Sender<Result<T>>,
    deadline: Instant,
    given_up: Arc<AtomicBool>,
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
        let Self {
            work, done, reply, ..
        } = *self;
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

    fn deadline(&self) -> Instant {
        self.deadline
    }

    fn is_given_up(&self) -> bool {
        self.given_up.load(Ordering::Acquire)
    }
}

/// The thread that writes, with a group of jobs in hand.
struct Writer<'a> {
    db: &'a Db,
    pulse: &'a Pulse,
    is_locked: &'a AtomicBool,
}

impl Writer<'_> {
    /// Commits a group of jobs at once, and answers them. `jobs` are those that come after them.
    fn commit(&self, mut group: Vec<Box<dyn Job>>, jobs: &mut Receiver<Box<dyn Job>>) {
        if !self.db.connection.is_autocommit() {
            let _ = self.db.execute("ROLLBACK", []);
        }
        if !self.begin(&mut group, Some(jobs)) {
            return;
        }
        if group.len() == 1 {
            for mut job in group {
                let outcome = alone(self.db, &mut *job);
                job.answer(outcome);
            }
            return;
        }
        if together(self.db, &mut group).is_ok() {
            return group.into_iter().for_each(|job| job.answer(Ok(())));
        }
        // The transaction was lost: a full disk, say, undoes all of it. Alone, those that fit still
        // get through.
        for job in group {
            let mut group = vec![job];
            if self.begin(&mut group, None)
                && let Some(mut job) = group.pop()
            {
                let outcome = alone(self.db, &mut *job);
                job.answer(outcome);
            }
        }
    }

    /// Begins a transaction with the right to write, and answers each job for which that takes too
    /// long. Jobs that come meanwhile join the group. Returns false when no job is left, and then
    /// there is no transaction.
    fn begin(
        &self,
        group: &mut Vec<Box<dyn Job>>,
        mut jobs: Option<&mut Receiver<Box<dyn Job>>>,
    ) -> bool {
        loop {
            self.pulse.beat();
            group.retain(|job| !job.is_given_up());
            let deadlines = || group.iter().map(|job| job.deadline());
            let (Some(first), Some(last)) = (deadlines().min(), deadlines().max()) else {
                return false;
            };
            let left = |deadline: Instant| deadline.saturating_duration_since(Instant::now());
            let begun = self.db.wait_for_locks(left(first).min(TRY));
            let begun = begun.and_then(|()| self.db.execute("BEGIN IMMEDIATE", []));
            let Err(error) = begun else {
                self.is_locked.store(false, Ordering::Relaxed);
                // Outside a write-ahead log the commit waits for readers, for as long as is left.
                let _ = self.db.wait_for_locks(left(last));
                return true;
            };
            let is_locked = error.code() == ErrorCode::StoreLocked;
            let now = Instant::now();
            let is_over = |job: &mut Box<dyn Job>| !is_locked || job.deadline() <= now;
            let over: Vec<_> = group.extract_if(.., is_over).collect();
            if over.is_empty() {
                std::thread::sleep(PAUSE);
            } else {
                self.is_locked.store(is_locked, Ordering::Relaxed);
            }
            for job in over {
                job.answer(Err(error.clone()));
            }
            if let Some(jobs) = &mut jobs {
                let room = GROUP.saturating_sub(group.len());
                group.extend(std::iter::from_fn(|| jobs.try_recv().ok()).take(room));
            }
        }
    }
}

/// Runs each job in a savepoint, so that a failing one takes back its own work only. After an
/// error nothing of the transaction is in the database.
fn together(db: &Db, group: &mut [Box<dyn Job>]) -> Result<()> {
    let done = group.iter_mut().try_for_each(|job| {
        db.execute("SAVEPOINT job", [])?;
        // Its caller may have been told so while a job before it hung.
        if job.is_given_up() || !job.run(db) {
            db.execute("ROLLBACK TO job", [])?;
        }
        db.execute("RELEASE job", []).map(drop)
    });
    finish(db, done)
}

fn alone(db: &Db, job: &mut dyn Job) -> Result<()> {
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

/// A read, with the moment until which it waits for the locks of others.
type Read = (Instant, Box<dyn FnOnce(&Db) + Send>);

/// The thread for what may take long: whole tables, pages, waits for a lock, the lock files.
pub(super) struct ReadThread(Thread<Read>);

impl ReadThread {
    pub(super) fn spawn(db: Arc<Mutex<Db>>, patience: Patience) -> Result<Self> {
        let work = |db: &Db, _: &Pulse, _: &mut Receiver<Read>, (deadline, read): Read| {
            // A connection whose timeout cannot be set waits as long as it did.
            let _ = db.wait_for_locks(deadline.saturating_duration_since(Instant::now()));
            read(db);
        };
        Thread::spawn("zoho-oauth-sqlite-read", db, patience, work).map(Self)
    }

    pub(super) fn is_hung(&self) -> bool {
        self.0.pulse.is_hung()
    }

    pub(super) async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Db) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let (reply, answer) = oneshot::channel();
        let given_up = Arc::new(AtomicBool::new(false));
        let is_given_up = Arc::clone(&given_up);
        let read = Box::new(move |db: &Db| {
            if !is_given_up.load(Ordering::Acquire) {
                let _ = reply.send(work(db));
            }
        });
        let deadline = Instant::now() + self.0.patience.locks;
        self.0.answer((deadline, read), &given_up, answer).await
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

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
        let task = Task {
            work,
            done: None,
            reply,
            deadline: Instant::now(),
            given_up: Arc::default(),
        };
        (Box::new(task), answer)
    }

    fn run(db: &Db, jobs: Vec<(Box<dyn Job>, Answer)>) -> Vec<Result<TokenId>> {
        let (jobs, answers): (Vec<_>, Vec<_>) = jobs.into_iter().unzip();
        let pulse = Pulse::watched(Duration::from_mins(1)).unwrap();
        let is_locked = AtomicBool::new(false);
        let writer = Writer {
            db,
            pulse: &pulse,
            is_locked: &is_locked,
        };
        writer.commit(jobs, &mut channel(1).1);
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

    /// A database whose lock another connection holds.
    fn locked() -> (tempfile::TempDir, Db, rusqlite::Connection) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("t.db");
        std::fs::write(&path, "").unwrap();
        let db = open::writer(&path, "t", Duration::ZERO).unwrap();
        let other = rusqlite::Connection::open(&path).unwrap();
        other.execute_batch("BEGIN IMMEDIATE").unwrap();
        (folder, db, other)
    }

    #[test]
    fn a_group_has_its_limit_also_while_it_waits_for_a_lock() {
        let (_folder, db, other) = locked();
        let (queue, mut jobs) = channel(2 * GROUP);
        let mut answers = Vec::new();
        for _ in 0..2 * GROUP {
            let (reply, answer) = oneshot::channel();
            let task = Task {
                work: |db: &Db| save::save(db, &token("a")),
                done: None,
                reply,
                deadline: Instant::now() + Duration::from_mins(5),
                given_up: Arc::default(),
            };
            assert!(queue.try_send(Box::new(task) as Box<dyn Job>).is_ok());
            answers.push(answer);
        }
        let pulse = Pulse::watched(Duration::from_mins(1)).unwrap();
        let is_locked = AtomicBool::new(false);
        let writer = Writer {
            db: &db,
            pulse: &pulse,
            is_locked: &is_locked,
        };
        // A job whose time is over, so that the wait goes through its whole round.
        let (late, mut refused) = job(|db| save::save(db, &token("late")));
        let mut group = vec![late, jobs.try_recv().unwrap()];
        std::thread::scope(|scope| {
            scope.spawn(move || {
                while refused.try_recv().is_err() {
                    std::thread::yield_now();
                }
                // The group was answered and filled up; now it gets the lock.
                other.execute_batch("COMMIT").unwrap();
            });
            assert!(writer.begin(&mut group, Some(&mut jobs)));
        });
        assert_eq!((group.len(), jobs.len()), (GROUP, GROUP));
        drop(answers);
    }

    #[test]
    fn nothing_is_answered_as_done_when_the_lock_is_refused() {
        let (_folder, db, other) = locked();
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
