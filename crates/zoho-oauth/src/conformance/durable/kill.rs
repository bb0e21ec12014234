//! What is there after SIGKILL in the middle of writing.

use std::io::Write as _;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::thread;
use std::time::Duration;

use fastrand::Rng;
use tokio::task::JoinSet;

use super::script::Acknowledged;
use super::writers::WRITE_UNTIL_KILLED;
use crate::conformance::child::{Process, listen};
use crate::conformance::lines::Line;
use crate::conformance::subject::{Subject, ensure};
use crate::conformance::{Place, StoreFactory, Verdict, Violation, environment};

/// A child that has not answered by then never will.
const PATIENCE: Duration = Duration::from_mins(1);

/// A process that writes is ended with SIGKILL, 1,000 times over (see
/// [`StoreFactory::with_kills`]), each time at a random moment. After each time the store opens, and
/// every save and delete that was acknowledged is there: nothing is lost, rolled back, damaged,
/// doubled or brought back.
///
/// The one call that was not answered may be done or not, and also a little later: the store may be
/// a server that goes on with it when the process that asked is gone.
pub async fn nothing_acknowledged_is_lost_when_killed(factory: &StoreFactory) -> Verdict {
    ensure!(cfg!(unix), "this rule needs the signals of Unix");
    let kills = factory.kills();
    if kills < environment::DEFAULT_KILLS {
        // Past the capture of the test harness: who lowers the number should be reminded.
        let who = environment::kills().map_or("as the test asks", |_| "as the environment asks");
        let note = format!(
            "note: {kills} rounds of SIGKILL instead of {}, {who}\n",
            environment::DEFAULT_KILLS
        );
        let _ = std::io::stderr().write_all(note.as_bytes());
    }
    let seed = environment::seed().unwrap_or_else(|| fastrand::u64(..));
    // The start of a process takes most of a round, so several run side by side.
    let lanes = thread::available_parallelism()
        .map_or(1, usize::from)
        .clamp(1, 4)
        .min(kills);
    let mut running = JoinSet::new();
    for lane in 0..lanes {
        let factory = factory.clone();
        let rounds = kills / lanes + usize::from(lane < kills % lanes);
        let mut rng = Rng::with_seed(seed.wrapping_add(lane as u64));
        running.spawn(async move {
            let place = Place::fresh()?;
            let mut heard = Acknowledged::default();
            for round in 1..=rounds {
                one_kill(&factory, &place, &mut heard, &mut rng)
                    .await
                    .map_err(|violation| violation.at(format!("seed {seed}, kill {round}")))?;
            }
            Ok(())
        });
    }
    while let Some(lane) = running.join_next().await {
        lane.map_err(|panic| Violation::new(format!("a panic: {panic}")))??;
    }
    Ok(())
}

async fn one_kill(
    factory: &StoreFactory,
    place: &Place,
    heard: &mut Acknowledged,
    rng: &mut Rng,
) -> Verdict {
    // Now and then the child is killed while it opens the store. Not while the store may still be at
    // what the child before asked for: when it has done something since, that is over too.
    let from_the_start = rng.u32(0..8) == 0 && !heard.is_late();
    let delay = Duration::from_micros(rng.u64(0..30_000));
    let process = Process::start(factory, WRITE_UNTIL_KILLED, place, rng.u64(..))?;
    let lines = tokio::task::spawn_blocking(move || run_and_kill(process, from_the_start, delay));
    let lines = lines
        .await
        .map_err(|panic| Violation::new(format!("a panic: {panic}")))??;
    for line in lines {
        heard.hear(line)?;
    }
    let subject = Subject::open_at(factory, place.clone()).await?;
    heard.compare(&subject.all().await?)
}

/// Returns everything that the child told before it was killed.
fn run_and_kill(
    mut process: Process,
    from_the_start: bool,
    delay: Duration,
) -> Result<Vec<Line>, Violation> {
    let input = process.input();
    let lines = listen(&mut process)?;
    let mut heard = Vec::new();
    if !from_the_start {
        wait_for_an_answer(&lines, &mut heard)?;
    }
    thread::sleep(delay);
    process.kill();
    drop(input);
    // What was written to the pipe before the kill is still in it.
    heard.extend(lines);
    Ok(heard)
}

/// Hears the child until the store acknowledged a first write.
fn wait_for_an_answer(lines: &Receiver<Line>, heard: &mut Vec<Line>) -> Verdict {
    loop {
        match lines.recv_timeout(PATIENCE) {
            Ok(line) => heard.push(line),
            Err(RecvTimeoutError::Disconnected) => return Err(early_end(heard)),
            Err(RecvTimeoutError::Timeout) => {
                let text = "a child did not acknowledge a single write";
                return Err(Violation::new(text));
            }
        }
        if let Some(Line::Saved(_) | Line::Deleted(_)) = heard.last() {
            return Ok(());
        }
    }
}

/// Why a child ended by itself, by the last that it said.
fn early_end(heard: &[Line]) -> Violation {
    match heard.last() {
        Some(Line::Failed(why)) => Violation::new(why.as_str()),
        Some(line) => Violation::new(format!("a child ended after `{line}`")),
        None => Violation::new(
            "a child ended without a word: is `conformance_child` in the same module, or \
             `child_main` called first in `main`?",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reason_of_an_early_end_is_told() {
        let failed = early_end(&[Line::Ready, Line::Failed("no room".into())]);
        assert_eq!(failed.to_string(), "no room");
        assert!(early_end(&[]).to_string().contains("child_main"));
    }
}
