//! What the demo says of itself, and whether what was measured bears it out. No I/O.

use serde::Serialize;

const YES: &str = "yes";

/// A statement about the run, with what was expected and what was measured.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Claim {
    text: String,
    expected: String,
    measured: String,
    held: bool,
}

impl Claim {
    /// It is as many as expected.
    pub(crate) fn count(text: impl Into<String>, expected: u64, measured: u64) -> Self {
        Self {
            text: text.into(),
            expected: expected.to_string(),
            measured: measured.to_string(),
            held: measured == expected,
        }
    }

    /// There is at least one.
    pub(crate) fn some(text: impl Into<String>, measured: u64) -> Self {
        Self {
            text: text.into(),
            expected: "at least 1".into(),
            measured: measured.to_string(),
            held: measured > 0,
        }
    }

    /// It is so.
    pub(crate) fn so(text: impl Into<String>, measured: bool) -> Self {
        Self {
            text: text.into(),
            expected: YES.into(),
            measured: if measured { YES } else { "no" }.into(),
            held: measured,
        }
    }

    pub(crate) fn held(&self) -> bool {
        self.held
    }

    /// The claim as a line, with the expectation if it was not met.
    pub(crate) fn line(&self) -> String {
        let Self {
            text,
            expected,
            measured,
            held,
        } = self;
        match (held, measured.as_str()) {
            (true, YES) => text.clone(),
            (true, _) => format!("{text}: {measured}"),
            (false, _) => format!("{text}: expected {expected}, measured {measured}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_claim_that_failed_names_both_numbers() {
        let claim = Claim::count("refreshes", 1, 50);
        assert!(!claim.held());
        assert_eq!(claim.line(), "refreshes: expected 1, measured 50");
        assert_eq!(Claim::count("refreshes", 1, 1).line(), "refreshes: 1");
    }

    #[test]
    fn yes_and_no_are_words() {
        assert_eq!(Claim::so("it is new", true).line(), "it is new");
        let claim = Claim::so("it is new", false);
        assert!(!claim.held());
        assert_eq!(claim.line(), "it is new: expected yes, measured no");
    }

    #[test]
    fn none_is_not_some() {
        assert!(Claim::some("leads", 1).held());
        assert!(!Claim::some("leads", 0).held());
    }
}
