//! Telling: what happens in words, each claim with its outcome, and the verdict.

use std::time::Duration;

use super::claim::Claim;
use crate::error::{Failure, Result};
use crate::printer::Printer;

/// What was told so far.
#[derive(Debug)]
pub(crate) struct Story {
    printer: Printer,
    claims: Vec<Claim>,
}

impl Story {
    pub(crate) fn new(printer: Printer) -> Self {
        Self {
            printer,
            claims: Vec::new(),
        }
    }

    /// Says something about the whole.
    pub(crate) fn say(&mut self, text: &str) -> Result<()> {
        self.printer.line(text)
    }

    /// Begins a part.
    pub(crate) fn part(&mut self, title: &str) -> Result<()> {
        self.printer.heading(title)
    }

    /// Says what happens in this part.
    pub(crate) fn tell(&mut self, text: &str) -> Result<()> {
        self.printer.line(&format!("   {text}"))
    }

    /// Says what was claimed and measured. The story goes on, whatever came out.
    pub(crate) fn check(&mut self, claims: Vec<Claim>) -> Result<()> {
        for claim in claims {
            let line = claim.line();
            if claim.held() {
                self.printer.good(&line)?;
            } else {
                self.printer.bad(&line)?;
            }
            self.claims.push(claim);
        }
        Ok(())
    }

    /// Says how it ended.
    pub(crate) fn summary(&mut self, time: Duration) -> Result<()> {
        let (all, failed, seconds) = (self.claims.len(), self.failed(), time.as_secs_f64());
        self.say("")?;
        self.say(&match failed {
            0 => format!("All {all} statements were checked and are true ({seconds:.1} seconds)."),
            1 => format!("1 of {all} statements is not true: see `NO` above."),
            _ => format!("{failed} of {all} statements are not true: see `NO` above."),
        })
    }

    pub(crate) fn claims(&self) -> &[Claim] {
        &self.claims
    }

    /// Fails if any claim did.
    pub(crate) fn verdict(&self) -> Result<()> {
        match self.failed() {
            0 => Ok(()),
            _ => Err(Failure::said()),
        }
    }

    fn failed(&self) -> usize {
        self.claims.iter().filter(|claim| !claim.held()).count()
    }
}

#[cfg(test)]
mod tests {
    use std::io::{self, Write};
    use std::sync::{Arc, Mutex};

    use super::*;
    use crate::error::Status;

    #[derive(Clone, Default)]
    struct Paper(Arc<Mutex<Vec<u8>>>);

    impl Write for Paper {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn told(claims: Vec<Claim>) -> (Story, String) {
        let paper = Paper::default();
        let mut story = Story::new(Printer::on(paper.clone()));
        story.part("1. A part").unwrap();
        story.check(claims).unwrap();
        story.summary(Duration::from_secs(6)).unwrap();
        let text = String::from_utf8(paper.0.lock().unwrap().clone()).unwrap();
        (story, text)
    }

    #[test]
    fn a_claim_that_failed_is_told_and_makes_the_status_1() {
        let claims = vec![
            Claim::count("logins", 1, 1),
            Claim::count("refreshes", 1, 50),
        ];
        let (story, text) = told(claims);
        assert_eq!(
            text,
            "\n1. A part\n   ok  logins: 1\n   NO  refreshes: expected 1, measured 50\n\
             \n1 of 2 statements is not true: see `NO` above.\n"
        );
        assert_eq!(story.verdict().unwrap_err().status(), Status::NotDone);
    }

    #[test]
    fn what_held_is_told_without_the_expectation() {
        let (story, text) = told(vec![Claim::so("it is new", true)]);
        assert_eq!(
            text,
            "\n1. A part\n   ok  it is new\n\
             \nAll 1 statements were checked and are true (6.0 seconds).\n"
        );
        assert!(story.verdict().is_ok());
    }
}
