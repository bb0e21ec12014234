//! What the kit found out.

use std::fmt;

use super::{Tier, Verdict};
use crate::error::Error;

/// How a store breaks a rule. The values in its text are made up by the kit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation(String);

impl Violation {
    /// Says what was expected and what happened, without a full stop.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// Says that the store failed where it should not, with the causes as far as they are known.
    pub(super) fn error(what: &str, error: &Error) -> Self {
        let mut text = format!("{what}: {} [{}]", error.message(), error.code().as_str());
        let mut source = std::error::Error::source(error);
        while let Some(cause) = source {
            text.extend([", because: ".into(), cause.to_string()]);
            source = cause.source();
        }
        Self(text)
    }

    /// Adds where it happened, in front.
    #[must_use]
    pub(super) fn at(self, place: impl fmt::Display) -> Self {
        Self(format!("{place}: {}", self.0))
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Violation {}

/// One rule and whether the store keeps it.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Outcome {
    /// The rule.
    pub rule: &'static str,
    /// Whether it is kept, and if not, how it is broken.
    pub verdict: Verdict,
}

/// What [`check`](super::check) found out about a store. `Display` writes a line per rule.
#[derive(Clone, Debug)]
#[must_use = "a report of broken rules is easily dropped: look at `is_conformant`"]
pub struct Report {
    tier: Tier,
    kills: usize,
    outcomes: Vec<Outcome>,
}

impl Report {
    pub(super) const fn new(tier: Tier, kills: usize) -> Self {
        Self {
            tier,
            kills,
            outcomes: Vec::new(),
        }
    }

    pub(super) fn add(&mut self, rule: &'static str, verdict: Verdict) {
        self.outcomes.push(Outcome { rule, verdict });
    }

    /// Returns whether the store keeps all rules of the tier.
    pub fn is_conformant(&self) -> bool {
        self.broken().next().is_none()
    }

    /// Returns the tier.
    pub const fn tier(&self) -> Tier {
        self.tier
    }

    /// Returns what was found, rule by rule.
    pub fn outcomes(&self) -> &[Outcome] {
        &self.outcomes
    }

    /// Returns the names of the broken rules.
    pub fn broken(&self) -> impl Iterator<Item = &'static str> {
        let broken = self.outcomes.iter().filter(|rule| rule.verdict.is_err());
        broken.map(|outcome| outcome.rule)
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for Outcome { rule, verdict } in &self.outcomes {
            match verdict {
                Ok(()) => writeln!(f, "passed  {rule}")?,
                Err(violation) => writeln!(f, "FAILED  {rule}: {violation}")?,
            }
        }
        let (all, broken) = (self.outcomes.len(), self.broken().count());
        write!(
            f,
            "{}: {} of {all} rules kept",
            self.tier.name(),
            all - broken
        )?;
        if self.tier == Tier::Durable {
            write!(f, ", {} kills", self.kills)?;
        }
        Ok(())
    }
}
