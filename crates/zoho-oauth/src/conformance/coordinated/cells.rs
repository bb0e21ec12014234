//! What [`Leases`](crate::store::Leases) are made of, asked directly.

use super::key;
use crate::clock::Timestamp;
use crate::conformance::subject::ensure;
use crate::conformance::{Verdict, Violation};
use crate::store::{Cell, CoordinationKey, LeaseCells};

/// Two cells under test, of two keys that nobody uses.
struct Pair<'a> {
    cells: &'a dyn LeaseCells,
    keys: [CoordinationKey; 2],
}

impl Pair<'_> {
    async fn read(&self, index: usize) -> Result<Cell, Violation> {
        let cell = self.cells.read_cell(&self.keys[index]).await;
        cell.map_err(|error| Violation::error("`read_cell` failed", &error))
    }

    /// Swaps the first cell, and breaks the rule unless that is answered as `expected`, and the cells
    /// hold what they must.
    async fn swap(
        &self,
        before: Option<&str>,
        after: Option<&str>,
        not_after: Option<Timestamp>,
        expected: bool,
    ) -> Verdict {
        let old = self.read(0).await?.text;
        let key = &self.keys[0];
        let swapped = self.cells.swap_cell(key, before, after, not_after).await;
        let swapped = swapped.map_err(|error| Violation::error("`swap_cell` failed", &error))?;
        let what = format!("swapping {before:?} for {after:?}, not after {not_after:?}");
        ensure!(
            swapped == expected,
            "the cell holds {old:?}, and {what}, answered {swapped}"
        );
        let right = if expected { after } else { old.as_deref() };
        let found = self.read(0).await?.text;
        ensure!(
            found.as_deref() == right,
            "after {what}, which answered {swapped}, the cell holds {found:?}"
        );
        let other = self.read(1).await?.text;
        ensure!(other.is_none(), "the cell of another key holds {other:?}");
        Ok(())
    }
}

/// A cell is swapped only if it holds, to the byte, what is to be replaced, and if the store's clock
/// shows no more than it may. Whoever reads it, reads what was written last, and a clock that goes.
///
/// For authors of [`LeaseCells`]: what the stores' rules cannot see, since leases look at the clock
/// twice. No tier runs it, since it takes cells and no store: call it in a test of your own. `cells`
/// must be empty, or used by nobody else.
pub async fn cells_are_compared_and_swapped(cells: &dyn LeaseCells) -> Verdict {
    let keys = [key(9_999_999_998)?, key(9_999_999_999)?];
    let pair = Pair { cells, keys };
    let began = pair.read(0).await?;
    ensure!(began.text.is_none(), "the cell holds {:?}", began.text);
    pair.swap(Some("a"), Some("b"), None, false).await?;
    pair.swap(Some(""), Some("b"), None, false).await?;
    pair.swap(None, Some("a"), None, true).await?;
    pair.swap(None, Some("b"), None, false).await?;
    for wrong in ["A", "a ", " a", "", "\u{e1}", "aa", "%", "b"] {
        pair.swap(Some(wrong), Some("c"), None, false).await?;
        pair.swap(Some(wrong), None, None, false).await?;
    }
    // As long as a lease with a hundred mints, and with what Zoho may say.
    let long = format!(
        "{{\"code\":\"'\\\"\\\\ \u{e9}\u{1f511}%_$1?\",\"fence\":{}}}",
        "1795372876984,".repeat(300)
    );
    pair.swap(Some("a"), Some(&long), None, true).await?;
    pair.swap(Some(&long[..long.len() - 1]), Some("b"), None, false)
        .await?;
    pair.swap(Some(&long), Some("b"), None, true).await?;

    let now = pair.read(0).await?.now;
    let (past, future) = (now.shifted(-1), now.shifted(3_600_000));
    pair.swap(Some("b"), Some("c"), Some(past), false).await?;
    pair.swap(Some("b"), None, Some(past), false).await?;
    pair.swap(Some("b"), Some("c"), Some(future), true).await?;
    pair.swap(Some("b"), Some("d"), Some(future), false).await?;
    pair.swap(Some("c"), None, Some(future), true).await?;
    pair.swap(Some("c"), None, None, false).await?;
    pair.swap(None, Some("e"), Some(past), false).await?;
    pair.swap(None, Some("e"), Some(future), true).await?;
    pair.swap(Some("e"), None, None, true).await?;
    let ended = pair.read(0).await?.now;
    ensure!(
        ended >= began.now,
        "the clock went from {} to {ended}",
        began.now
    );
    Ok(())
}
