//! How many tests ran, read from what the test runners print.

use std::fmt;
use std::ops::AddAssign;

/// Tests of a run, or of several added up.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) passed: u64,
    pub(crate) failed: u64,
    pub(crate) skipped: u64,
}

/// Whose output it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Runner {
    /// Prints a result for each binary: "test result: ok. 3 passed; 0 failed; 1 ignored; …".
    Cargo,
    /// Prints one for the run: "Summary [ 1.2s] 5 tests run: 4 passed (1 slow), 1 failed, …".
    Nextest,
}

impl Counts {
    /// Takes in what `line` says, if it is the runner's result.
    ///
    /// Cargo's results add up; of nextest's the last one is its own, since the output of a failed
    /// test may hold such lines too. `self` has counted this run alone.
    pub(crate) fn read_line(&mut self, runner: Runner, line: &str) {
        let line = without_colours(line);
        let line = line.trim();
        let (pairs, separator) = match runner {
            Runner::Cargo => (
                line.strip_prefix("test result: ")
                    .and_then(|it| it.split_once(". ")),
                ';',
            ),
            Runner::Nextest => (
                line.strip_prefix("Summary [")
                    .and_then(|it| it.split_once(" run: ")),
                ',',
            ),
        };
        let Some((_, pairs)) = pairs else { return };
        if runner == Runner::Nextest {
            *self = Self::default();
        }
        self.add_pairs(pairs, separator);
    }

    fn add_pairs(&mut self, pairs: &str, separator: char) {
        for pair in without_parentheses(pairs).split(separator) {
            let Some((number, word)) = pair.trim().split_once(' ') else {
                continue;
            };
            let Ok(number) = number.parse::<u64>() else {
                continue;
            };
            match word.trim() {
                "passed" => self.passed += number,
                "failed" | "timed out" | "exec failed" => self.failed += number,
                "skipped" | "ignored" => self.skipped += number,
                _ => {}
            }
        }
    }
}

impl AddAssign for Counts {
    fn add_assign(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.skipped += other.skipped;
    }
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} passed, {} failed, {} skipped",
            self.passed, self.failed, self.skipped
        )
    }
}

/// Removes terminal escape sequences of the form `ESC [ … letter`.
fn without_colours(line: &str) -> String {
    let mut plain = String::with_capacity(line.len());
    let mut characters = line.chars();
    while let Some(character) = characters.next() {
        if character == '\u{1b}' {
            characters.find(char::is_ascii_alphabetic);
        } else {
            plain.push(character);
        }
    }
    plain
}

/// Removes what stands in parentheses: nextest puts "(2 slow, 1 flaky)" behind a number.
fn without_parentheses(text: &str) -> String {
    let mut depth = 0_u32;
    text.chars()
        .filter(|character| match character {
            '(' => {
                depth += 1;
                false
            }
            ')' => {
                depth = depth.saturating_sub(1);
                false
            }
            _ => depth == 0,
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(runner: Runner, lines: &[&str]) -> (u64, u64, u64) {
        let mut counts = Counts::default();
        for line in lines {
            counts.read_line(runner, line);
        }
        (counts.passed, counts.failed, counts.skipped)
    }

    #[test]
    fn cargo_test_lines_add_up() {
        let ok = "test result: ok. 3 passed; 0 failed; 1 ignored; 0 measured; 7 filtered out; finished in 0.1s";
        let bad = "test result: FAILED. 2 passed; 4 failed; 0 ignored; 0 measured; 0 filtered out; finished in 1.00s";
        assert_eq!(
            read(Runner::Cargo, &["running 4 tests", ok, bad]),
            (5, 4, 1)
        );
    }

    #[test]
    fn a_nextest_summary_counts_timeouts_as_failures_and_skips_remarks() {
        let line = "     Summary [  83.002s] 12 tests run: 9 passed (1 slow, 2 flaky), 1 failed, 1 timed out, 1 exec failed, 3 skipped";
        assert_eq!(read(Runner::Nextest, &[line]), (9, 3, 3));
        let cut_off = "     Summary [   0.1s] 4/12 tests run: 4 passed, 0 skipped";
        assert_eq!(read(Runner::Nextest, &[cut_off]), (4, 0, 0));
    }

    #[test]
    fn colours_do_not_hide_a_summary() {
        let line = "\u{1b}[32;1m     Summary\u{1b}[0m [   0.013s] \u{1b}[1m1\u{1b}[0m test run: \u{1b}[1m1\u{1b}[0m \u{1b}[32;1mpassed\u{1b}[0m, \u{1b}[1m0\u{1b}[0m \u{1b}[33;1mskipped\u{1b}[0m";
        assert_eq!(read(Runner::Nextest, &[line]), (1, 0, 0));
    }

    #[test]
    fn other_lines_count_nothing() {
        let lines = ["5 passed, 2 failed", "PASS [ 0.1s] a::b", "Summary", ""];
        assert_eq!(read(Runner::Cargo, &lines), (0, 0, 0));
        assert_eq!(read(Runner::Nextest, &lines), (0, 0, 0));
    }

    #[test]
    fn results_in_the_output_of_a_failed_test_do_not_count() {
        let inner = "    Summary [   0.1s] 7 tests run: 6 passed, 1 failed, 3 skipped";
        let outer = "     Summary [   3.1s] 2 tests run: 1 passed, 1 failed, 0 skipped";
        let cargo = "test result: ok. 3 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out";
        assert_eq!(read(Runner::Nextest, &[inner, cargo, outer]), (1, 1, 0));
    }
}
