//! The only module that prints: talk goes to stderr, results to stdout.

use std::fmt::Display;
use std::time::Duration;

use crate::counts::Counts;
use crate::failure::Failure;

/// How a part of the test ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    Passed,
    Failed,
    NotRun,
}

/// A line of the summary.
#[derive(Debug)]
pub(crate) struct Line {
    pub(crate) name: &'static str,
    pub(crate) outcome: Outcome,
    pub(crate) took: Duration,
    /// Why it did not run; empty otherwise.
    pub(crate) note: &'static str,
}

#[expect(clippy::print_stderr, reason = "this is the printer")]
pub(crate) fn talk(text: impl Display) {
    eprintln!("{text}");
}

#[expect(clippy::print_stdout, reason = "this is the printer")]
pub(crate) fn result(text: impl Display) {
    println!("{text}");
}

pub(crate) fn failure(failure: &Failure) {
    talk(failure);
}

/// Announces a part.
pub(crate) fn begin(name: &str, what: &str) {
    talk(format_args!("\n==> {name}: {what}"));
}

/// Tells how a part ended.
pub(crate) fn end(line: &Line) {
    talk(format_args!(
        "<== {}: {} in {}",
        line.name,
        word(line.outcome),
        seconds(line.took)
    ));
}

/// Prints the whole run, one line a part, the names of the failed ones, and the closing line.
pub(crate) fn summary(lines: &[Line], counts: Counts) {
    for text in summary_lines(lines, counts) {
        result(text);
    }
}

fn summary_lines(lines: &[Line], counts: Counts) -> Vec<String> {
    let mut text = vec![String::new()];
    for line in lines {
        let last = match line.outcome {
            Outcome::NotRun => line.note.to_owned(),
            Outcome::Passed | Outcome::Failed => format!("{:>9}", seconds(line.took)),
        };
        text.push(format!(
            "{:<10} {:<7} {last}",
            line.name,
            word(line.outcome)
        ));
    }
    let failed: Vec<_> = lines
        .iter()
        .filter(|l| l.outcome == Outcome::Failed)
        .map(|l| l.name)
        .collect();
    if !failed.is_empty() {
        text.push(format!("failed parts: {}", failed.join(", ")));
    }
    text.push(counts.to_string());
    text
}

fn word(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Passed => "ok",
        Outcome::Failed => "FAILED",
        Outcome::NotRun => "NOT RUN",
    }
}

fn seconds(took: Duration) -> String {
    format!("{:.1} s", took.as_secs_f64())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_summary_names_what_failed_and_what_did_not_run_and_ends_with_the_counts() {
        let line = |name, outcome, note| Line {
            name,
            outcome,
            note,
            took: Duration::from_millis(1240),
        };
        let lines = [
            line("format", Outcome::Failed, ""),
            line("lints", Outcome::Passed, ""),
            line("browser", Outcome::NotRun, "--without browser"),
        ];
        let counts = Counts {
            passed: 3,
            failed: 1,
            skipped: 2,
        };
        assert_eq!(
            summary_lines(&lines, counts),
            [
                "",
                "format     FAILED      1.2 s",
                "lints      ok          1.2 s",
                "browser    NOT RUN --without browser",
                "failed parts: format",
                "3 passed, 1 failed, 2 skipped",
            ]
        );
    }
}
