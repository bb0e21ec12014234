//! How many tests ran, read from what the test runners print.

use std::fmt;

/// Tests of a run, or of several added up.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) passed: u64,
    pub(crate) failed: u64,
    pub(crate) skipped: u64,
}

impl Counts {
    /// Adds what `line` says, if it is a runner's closing line.
    ///
    /// `cargo test` prints one for each binary, `cargo nextest` one for the whole run.
    pub(crate) fn add_line(&mut self, line: &str) {
        let line = without_colours(line);
        let line = line.trim();
        if let Some(result) = line.strip_prefix("test result: ") {
            // "ok. 3 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.00s"
            self.add_pairs(result.split_once(". ").map_or("", |(_, pairs)| pairs), ';');
        } else if let Some(summary) = line.strip_prefix("Summary [") {
            // "   1.2s] 5 tests run: 4 passed (1 slow), 1 failed, 2 skipped"
            self.add_pairs(
                summary.split_once(" run: ").map_or("", |(_, pairs)| pairs),
                ',',
            );
        }
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

    fn read(lines: &[&str]) -> (u64, u64, u64) {
        let mut counts = Counts::default();
        lines.iter().for_each(|line| counts.add_line(line));
        (counts.passed, counts.failed, counts.skipped)
    }

    #[test]
    fn cargo_test_lines_add_up() {
        let ok = "test result: ok. 3 passed; 0 failed; 1 ignored; 0 measured; 7 filtered out; finished in 0.1s";
        let bad = "test result: FAILED. 2 passed; 4 failed; 0 ignored; 0 measured; 0 filtered out; finished in 1.00s";
        assert_eq!(read(&["running 4 tests", ok, bad]), (5, 4, 1));
    }

    #[test]
    fn a_nextest_summary_counts_timeouts_as_failures_and_skips_remarks() {
        let line = "     Summary [  83.002s] 12 tests run: 9 passed (1 slow, 2 flaky), 1 failed, 1 timed out, 1 exec failed, 3 skipped";
        assert_eq!(read(&[line]), (9, 3, 3));
        assert_eq!(
            read(&["     Summary [   0.1s] 4/12 tests run: 4 passed, 0 skipped"]),
            (4, 0, 0)
        );
    }

    #[test]
    fn colours_do_not_hide_a_summary() {
        let line = "\u{1b}[32;1m     Summary\u{1b}[0m [   0.013s] \u{1b}[1m1\u{1b}[0m test run: \u{1b}[1m1\u{1b}[0m \u{1b}[32;1mpassed\u{1b}[0m, \u{1b}[1m0\u{1b}[0m \u{1b}[33;1mskipped\u{1b}[0m";
        assert_eq!(read(&[line]), (1, 0, 0));
    }

    #[test]
    fn other_lines_count_nothing() {
        assert_eq!(
            read(&["5 passed, 2 failed", "PASS [ 0.1s] a::b", "Summary", ""]),
            (0, 0, 0)
        );
    }
}
