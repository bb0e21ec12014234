//! What a copy tells: on its way, and when it is done. Numbers and ids, no names and no secrets.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use crate::error::Error;
use crate::token::TokenId;

/// What a copy is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Stage {
    /// The target is looked at: what in it comes from this source?
    Looking,
    /// Records are copied.
    Copying,
    /// Both stores are read again and compared.
    Verifying,
}

/// How far a copy is. Told after each page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Progress {
    /// What is being done.
    pub stage: Stage,
    /// Records that were written in this stage, or would be in a dry run. While looking at the
    /// target, records that were seen.
    pub done: usize,
    /// Records that were left as they are.
    pub skipped: usize,
    /// Records that could not be copied, or differ.
    pub failed: usize,
    /// The last id of the page.
    pub last_id: Option<TokenId>,
    /// How many records there are to do in this stage, where that is known without counting:
    /// while verifying.
    pub total: Option<usize>,
}

impl Progress {
    pub(super) const fn new(stage: Stage, total: Option<usize>) -> Self {
        Self {
            stage,
            done: 0,
            skipped: 0,
            failed: 0,
            last_id: None,
            total,
        }
    }
}

/// What a copy did, or in a dry run would do. Ids are those of the source unless said otherwise.
///
/// `Display` writes it in a few lines for people.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
#[must_use = "records that were not copied are told here: look at `is_complete`"]
pub struct CopyReport {
    /// Whether this was a dry run: nothing was written.
    pub dry_run: bool,
    /// Records that the source held.
    pub read: usize,
    /// Records that were inserted.
    pub inserted: usize,
    /// Records of the target that got newer values, or values where they had none.
    pub updated: usize,
    /// Records that the target held already, with all their values.
    pub unchanged: usize,
    /// Records that the second pass found in the target with all their values, or newer ones. In a
    /// dry run there is no second pass.
    pub verified: usize,
    /// Logins that the target has under another id, because it had them already or because the
    /// source has them twice: id in the source, id in the target.
    pub joined: BTreeMap<TokenId, TokenId>,
    /// Records that were inserted under a new id: id in the source, id in the target. In a dry run
    /// the latter is not known yet.
    pub renumbered: BTreeMap<TokenId, Option<TokenId>>,
    /// Records that the target holds with an access token that ends later. Their values were left
    /// as they are; what was blank was filled.
    pub kept_newer: BTreeSet<TokenId>,
    /// Records that changed in the source after they were copied, and were copied again.
    pub copied_again: BTreeSet<TokenId>,
    /// Records that disappeared from the source while it was being copied. The target has them
    /// still.
    pub gone: BTreeSet<TokenId>,
    /// Records that the target does not have, although an earlier copy passed them or it gave their
    /// ids before: they were deleted there, as far as can be told, or could not be copied then. They
    /// were left out. A dry run knows only of those below the highest id that is there: whether a
    /// higher one was given before, the target says when it is to save it.
    pub left_out: BTreeSet<TokenId>,
    /// Records that were in the target after they were copied and no longer when it was verified:
    /// they were deleted there meanwhile, or the target lost them.
    pub missing: BTreeSet<TokenId>,
    /// Records whose values the target does not hold although it has the login, with the names of
    /// the fields. Either nothing tells which of two values is newer, so the target's was left;
    /// or the target did not give back what was saved.
    pub different: BTreeMap<TokenId, Vec<&'static str>>,
    /// Records that the target refused, with its reasons.
    pub refused: BTreeMap<TokenId, Error>,
}

impl CopyReport {
    /// Returns whether every login of the source is in the target with all its values or newer
    /// ones: nothing was refused, left out, missing or different.
    pub fn is_complete(&self) -> bool {
        self.refused.is_empty()
            && self.left_out.is_empty()
            && self.missing.is_empty()
            && self.different.is_empty()
    }

    /// Returns the id that a record of the source has in the target, if it is another one and is
    /// known.
    pub fn new_id(&self, id: TokenId) -> Option<TokenId> {
        let renumbered = || self.renumbered.get(&id).copied().flatten();
        self.joined.get(&id).copied().or_else(renumbered)
    }
}

impl fmt::Display for CopyReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let would = if self.dry_run { "would be " } else { "" };
        writeln!(f, "{} records in the source", self.read)?;
        for (count, what) in [(self.inserted, "inserted"), (self.updated, "updated")] {
            writeln!(f, "{count} {would}{what}")?;
        }
        writeln!(f, "{} there already", self.unchanged)?;
        let renumbered = self.renumbered.iter();
        let pairs = self
            .joined
            .iter()
            .map(|(from, to)| format!("{from} is {to}"));
        line(f, "there under another id", pairs)?;
        let pairs = renumbered.map(|(from, to)| match to {
            Some(to) => format!("{from} is {to}"),
            None => from.to_string(),
        });
        line(f, "under a new id", pairs)?;
        for (ids, what) in [
            (&self.kept_newer, "newer in the target, kept"),
            (&self.copied_again, "changed meanwhile, copied again"),
            (&self.gone, "deleted in the source meanwhile"),
            (
                &self.left_out,
                "left out, since the target seems to have deleted them",
            ),
            (&self.missing, "missing in the target at the end"),
        ] {
            line(f, what, ids)?;
        }
        differences(f, &self.different)?;
        let reasons = self.refused.iter();
        let reasons = reasons.map(|(id, error)| format!("{id}: {}", error.message()));
        line(f, "refused by the target", reasons)?;
        if !self.dry_run {
            writeln!(f, "{} verified", self.verified)?;
        }
        Ok(())
    }
}

/// What [`verify`](super::verify) found. Ids are those of the source unless said otherwise.
///
/// `Display` writes it in a few lines for people.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
#[must_use = "differences are told here: look at `is_complete`"]
pub struct VerifyReport {
    /// Records that the source holds.
    pub read: usize,
    /// Records that the target holds with the same values in all fields, the id aside.
    pub equal: usize,
    /// Logins that the target has under another id: id in the source, id in the target.
    pub other_ids: BTreeMap<TokenId, TokenId>,
    /// Records that the target holds with all their values, and with values where the source has
    /// none.
    pub fuller: BTreeSet<TokenId>,
    /// Records that the target holds with an access token that ends later, and other values.
    pub newer: BTreeSet<TokenId>,
    /// Records that the target holds with other values that are not newer: the names of the
    /// fields.
    pub different: BTreeMap<TokenId, Vec<&'static str>>,
    /// Records that the target does not hold.
    pub missing: BTreeSet<TokenId>,
}

impl VerifyReport {
    /// Returns whether every login of the source is in the target with all its values or newer
    /// ones: nothing is missing or different.
    pub fn is_complete(&self) -> bool {
        self.missing.is_empty() && self.different.is_empty()
    }
}

impl fmt::Display for VerifyReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{} records in the source", self.read)?;
        writeln!(f, "{} equal in the target", self.equal)?;
        let pairs = self.other_ids.iter();
        let pairs = pairs.map(|(from, to)| format!("{from} is {to}"));
        line(f, "there under another id", pairs)?;
        for (ids, what) in [
            (&self.fuller, "with more values in the target"),
            (&self.newer, "newer in the target"),
            (&self.missing, "missing in the target"),
        ] {
            line(f, what, ids)?;
        }
        differences(f, &self.different)
    }
}

/// So many ids are listed; a person who needs more asks the report's fields.
const LISTED: usize = 10;

fn line<T: fmt::Display>(
    f: &mut fmt::Formatter<'_>,
    what: &str,
    items: impl IntoIterator<Item = T, IntoIter: ExactSizeIterator>,
) -> fmt::Result {
    let items = items.into_iter();
    let count = items.len();
    if count == 0 {
        return Ok(());
    }
    let listed: Vec<_> = items.take(LISTED).map(|item| item.to_string()).collect();
    let more = if count > LISTED { ", …" } else { "" };
    writeln!(f, "{count} {what}: {}{more}", listed.join(", "))
}

fn differences(
    f: &mut fmt::Formatter<'_>,
    different: &BTreeMap<TokenId, Vec<&'static str>>,
) -> fmt::Result {
    let items = different.iter();
    let items = items.map(|(id, fields)| format!("{id} ({})", fields.join(", ")));
    line(f, "different in the target", items)
}
