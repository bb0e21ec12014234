//! Eight processes that want the same key.

use std::fs::{self, OpenOptions};
use std::path::Path;

use super::{SOON, key, memo_of, release, set_memo};
use crate::clock::Timestamp;
use crate::conformance::child::{run_together, wait_for_the_start};
use crate::conformance::subject::{Subject, ensure};
use crate::conformance::{StoreFactory, Verdict, Violation};
use crate::secret::Fingerprint;
use crate::store::{Memo, Verdict as Judgement};

/// Waits for the start, then takes a key again and again.
pub(in crate::conformance) const TAKE_TURNS: &str = "take-turns";

const PROCESSES: u64 = 8;
const TURNS: u64 = 15;

/// Of eight processes one at a time holds a key, and each finds the memo of the one before it.
pub async fn one_process_holds_a_key(factory: &StoreFactory) -> Verdict {
    let subject = Subject::open(factory).await?;
    subject.guarantee()?;
    run_together(factory, TAKE_TURNS, &subject.place, PROCESSES).await?;
    let taken = count(&subject.place.path().join("turns"))?;
    ensure!(
        taken == PROCESSES * TURNS,
        "{} turns were taken, and {taken} were counted: two holders counted at once",
        PROCESSES * TURNS
    );
    let permit = subject
        .acquire_within(SOON, &key(3)?, "after all turns")
        .await?;
    release(permit, None).await
}

/// The part of each process.
pub(in crate::conformance) async fn take_turns(subject: &Subject, process: u64) -> Verdict {
    wait_for_the_start().await;
    let key = key(3)?;
    let folder = subject.place.path();
    for turn in 0..TURNS {
        let permit = subject
            .acquire_within(SOON * 12, &key, "while others take turns")
            .await?;
        // Whoever finds this file is not alone.
        let inside = folder.join("inside");
        let alone = OpenOptions::new()
            .write(true)
            .create_new(true)
            .open(&inside);
        alone.map_err(|error| {
            Violation::new(format!("two processes hold a key at once, or: {error}"))
        })?;
        let before = count(&folder.join("turns"))?;
        let memo = memo_of(&permit).await?;
        let told = memo.verdicts.first().map_or("0", |it| it.code.as_str());
        ensure!(
            told == before.to_string(),
            "the memo is that of turn {told}, and {before} turns were taken"
        );
        let failed = |error| Violation::new(format!("cannot count: {error}"));
        fs::write(folder.join("turns"), (before + 1).to_string()).map_err(failed)?;
        let memo = Memo {
            credential: Some(Fingerprint::of(&["turns"])),
            verdicts: vec![Judgement::new((before + 1).to_string(), Timestamp::now())],
            ..Memo::default()
        };
        let is_dropped = (turn + process).is_multiple_of(3);
        if is_dropped {
            set_memo(&permit, &memo).await?;
        }
        fs::remove_file(&inside).map_err(failed)?;
        if is_dropped {
            drop(permit);
        } else {
            release(permit, Some(&memo)).await?;
        }
    }
    // What is given back in the background is given back before this process ends.
    let permit = subject
        .acquire_within(SOON * 12, &key, "after all turns")
        .await?;
    release(permit, None).await
}

fn count(file: &Path) -> Result<u64, Violation> {
    match fs::read_to_string(file) {
        Ok(text) => text
            .parse()
            .map_err(|_| Violation::new("two processes counted at once")),
        Err(_) => Ok(0),
    }
}
