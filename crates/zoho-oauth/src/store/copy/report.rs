//! What a copy tells: on its way, and when it is done. Numbers and ids, no names and no secrets.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use super::count::StoreCount;
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
    /// Records that the target refused, or holds damaged, with its reasons.
    pub refused: BTreeMap<TokenId, Error>,
    /// What the last pass read of the source, and what the source counts in another way.
    pub source: StoreCount,
    /// What was verified in the target, and what the target counts in another way: more where it
    /// has records that the source does not have.
    pub target: StoreCount,
}

impl CopyReport {
    /// Returns whether every login of the source is in the target with all its values or newer
    /// ones: nothing was refused, left out, missing or different, no record is damaged in either
    /// store, and what both stores count contradicts nothing.
    ///
    /// Where the source cannot count ([`is_confirmed`](Self::is_confirmed)), "every login" means
    /// those that it lists.
    pub fn is_complete(&self) -> bool {
        self.refused.is_empty()
            && self.left_out.is_empty()
            && self.missing.is_empty()
            && self.different.is_empty()
            && self.source.is_whole()
            && self.target.is_whole()
    }

    /// Returns whether the source counts its records in another way than by listing them, so that
    /// a record that it does not list would have been noticed.
    pub fn is_confirmed(&self) -> bool {
        self.source.records.is_some()
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
        counted(f, "source", &self.source)?;
        counted(f, "target", &self.target)?;
        unconfirmed(f, &self.source)
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
    /// Records that the target may hold in a record that cannot be read, with its reasons.
    pub unreadable: BTreeMap<TokenId, Error>,
    /// What was read of the source, and what the source counts in another way.
    pub source: StoreCount,
    /// For each record of the target that cannot be read, where it is and what is wrong with it.
    pub target_unreadable: Vec<String>,
}

impl VerifyReport {
    /// Returns whether every login of the source is in the target with all its values or newer
    /// ones: nothing is missing or different, no record is damaged in either store, and the source
    /// was read as a whole. Where the source cannot count
    /// ([`StoreCount::records`]), "every login" means those that it lists.
    pub fn is_complete(&self) -> bool {
        self.missing.is_empty()
            && self.different.is_empty()
            && self.unreadable.is_empty()
            && self.target_unreadable.is_empty()
            && self.source.is_whole()
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
        differences(f, &self.different)?;
        let reasons = self.unreadable.iter();
        let reasons = reasons.map(|(id, error)| format!("{id}: {}", error.message()));
        line(f, "perhaps in the target, which cannot be read", reasons)?;
        damaged(f, "source", &self.source.unreadable)?;
        damaged(f, "target", &self.target_unreadable)?;
        unread(f, "source", &self.source)?;
        unconfirmed(f, &self.source)
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

/// What a store counts, where that is not what was read.
fn counted(f: &mut fmt::Formatter<'_>, side: &str, count: &StoreCount) -> fmt::Result {
    damaged(f, side, &count.unreadable)?;
    unread(f, side, count)
}

fn damaged(f: &mut fmt::Formatter<'_>, side: &str, unreadable: &[String]) -> fmt::Result {
    line(f, &format!("damaged in the {side}"), unreadable)
}

fn unread(f: &mut fmt::Formatter<'_>, side: &str, count: &StoreCount) -> fmt::Result {
    if count.unread == 0 && !count.contradicts {
        return Ok(());
    }
    let records = count.records.unwrap_or_default();
    writeln!(
        f,
        "not complete: the {side} counts {records} records, and {} were read",
        count.read
    )
}

fn unconfirmed(f: &mut fmt::Formatter<'_>, source: &StoreCount) -> fmt::Result {
    match source.records {
        Some(_) => Ok(()),
        None => writeln!(
            f,
            "the source has no second count: a record that it does not list is not noticed"
        ),
    }
}

fn differences(
    f: &mut fmt::Formatter<'_>,
    different: &BTreeMap<TokenId, Vec<&'static str>>,
) -> fmt::Result {
    let items = different.iter();
    let items = items.map(|(id, fields)| format!("{id} ({})", fields.join(", ")));
    line(f, "different in the target", items)
}
