//! What the kit found out.

use std::fmt;

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

/// What a rule answers: nothing, or how the store breaks it.
pub type Verdict = std::result::Result<(), Violation>;

/// What a rule answers that is about something which a store may leave out.
pub type OptionalVerdict = std::result::Result<Offer, Violation>;

/// Whether a store offers what a rule is about. If it does, the rule is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Offer {
    /// The store offers it, and the rule is kept.
    Kept,
    /// The store does not offer it, so nothing was tried.
    None,
}

impl From<()> for Offer {
    fn from((): ()) -> Self {
        Self::Kept
    }
}

/// How much a store promises, and so how much is asked of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Tier {
    /// The six methods mean what they say. Every store.
    Basic,
    /// What was acknowledged survives the process. Every store that outlives it.
    Durable,
    /// One worker per token among all processes. Every store with
    /// [`coordination`](crate::TokenStore::coordination).
    Coordinated,
}

impl Tier {
    /// Returns the name of the tier, as the macro takes it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Basic => "basic",
            Self::Durable => "durable",
            Self::Coordinated => "coordinated",
        }
    }
}

/// One rule and whether the store keeps it.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Outcome {
    /// The rule.
    pub rule: &'static str,
    /// Whether it is kept, or about something that the store does not offer; if it is broken, how.
    pub verdict: OptionalVerdict,
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

    pub(super) fn add(&mut self, rule: &'static str, verdict: OptionalVerdict) {
        self.outcomes.push(Outcome { rule, verdict });
    }

    /// Returns whether the store keeps all rules of the tier about what it offers.
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

    /// Returns the names of the rules about what the store does not offer.
    pub fn not_offered(&self) -> impl Iterator<Item = &'static str> {
        let outcomes = self.outcomes.iter();
        let tried_nothing = outcomes.filter(|rule| rule.verdict == Ok(Offer::None));
        tried_nothing.map(|outcome| outcome.rule)
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for Outcome { rule, verdict } in &self.outcomes {
            match verdict {
                Ok(Offer::Kept) => writeln!(f, "passed  {rule}")?,
                Ok(Offer::None) => writeln!(f, "absent  {rule}: the store does not offer it")?,
                Err(violation) => writeln!(f, "FAILED  {rule}: {violation}")?,
            }
        }
        if self.tier == Tier::Coordinated {
            writeln!(
                f,
                "not run cells_are_compared_and_swapped: call it yourself if the store has \
                 `LeaseCells` of its own"
            )?;
        }
        let (all, broken) = (self.outcomes.len(), self.broken().count());
        let absent = self.not_offered().count();
        let (name, kept) = (self.tier.name(), all - broken - absent);
        write!(f, "{name}: {kept} of {all} rules kept")?;
        if absent > 0 {
            write!(f, ", {absent} not offered")?;
        }
        if self.tier == Tier::Durable {
            write!(f, ", {} kills", self.kills)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_not_tried_is_said() {
        let mut report = Report::new(Tier::Coordinated, 1000);
        report.add("kept", Ok(Offer::Kept));
        report.add("silent", Ok(Offer::None));
        assert!(report.is_conformant());
        assert_eq!(report.not_offered().collect::<Vec<_>>(), ["silent"]);
        report.add("broken", Err(Violation::new("why")));
        assert!(!report.is_conformant());
        assert_eq!(
            report.to_string(),
            "passed  kept\n\
             absent  silent: the store does not offer it\n\
             FAILED  broken: why\n\
             not run cells_are_compared_and_swapped: call it yourself if the store has \
             `LeaseCells` of its own\n\
             coordinated: 1 of 3 rules kept, 1 not offered"
        );
    }
}
