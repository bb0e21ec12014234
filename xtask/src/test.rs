//! `cargo xtask test`: the parts of the whole test, in their order.
//!
//! A part that fails does not stop the next: a person sees everything that is wrong at once. The
//! tests come last, so that the run ends with what their runner says.

use std::time::Instant;

use clap::Args;

use crate::counts::{Counts, Runner};
use crate::environment;
use crate::failure::{Failure, Result};
use crate::needs::{CARGO_DENY, NEEDS, Need};
use crate::process;
use crate::provision::{self, Provided};
use crate::report::{self, Line, Outcome};
use crate::servers::{Servers, WITHOUT};
use crate::workspace::Workspace;

#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Leave out a part, or a thing that the tests need; may be given several times
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    without: Vec<String>,

    /// Run this part alone; may be given several times
    #[arg(long, value_name = "PART", value_delimiter = ',')]
    only: Vec<String>,
}

/// A part of the whole test.
#[derive(Debug)]
pub(crate) struct Part {
    pub(crate) name: &'static str,
    what: &'static str,
    run: fn(&mut Run) -> Result<bool>,
}

/// The parts in the order in which they run.
pub(crate) const PARTS: &[Part] = &[
    Part {
        name: "format",
        what: "sources are formatted",
        run: format,
    },
    Part {
        name: "lints",
        what: "clippy, warnings are errors",
        run: lints,
    },
    Part {
        name: "features",
        what: "each feature alone, and none",
        run: features,
    },
    Part {
        name: "docs",
        what: "documentation, warnings are errors",
        run: docs,
    },
    Part {
        name: "deps",
        what: "licences, banned crates and sources of dependencies",
        run: dependencies,
    },
    Part {
        name: "doctests",
        what: "examples in the documentation",
        run: doc_tests,
    },
    Part {
        name: "tests",
        what: "unit, integration and conformance tests",
        run: tests,
    },
];

/// What the parts share.
#[derive(Debug)]
struct Run {
    workspace: Workspace,
    provided: Provided,
    servers: Servers,
    /// What was switched off.
    without: Vec<String>,
    counts: Counts,
}

/// Runs what `options` asks for; answers whether all of it passed.
pub(crate) fn run(options: &Options) -> Result<bool> {
    let plan = Plan::new(options, environment::ci())?;
    let workspace = Workspace::load()?;
    let needs = plan.needs();
    let started = Instant::now();
    let provided = provision::provide(&needs, "test", &workspace.root, &workspace.scratch())?;
    let mut lines = vec![passed("provision", started)];
    let started = Instant::now();
    let servers = Servers::start(&needs, &provided, "test")?;
    if !servers.variables().is_empty() {
        lines.push(passed("servers", started));
    }
    let mut run = Run {
        workspace,
        provided,
        servers,
        without: options.without.clone(),
        counts: Counts::default(),
    };
    for part in PARTS {
        lines.push(if plan.runs(part) {
            one_part(part, &mut run)?
        } else {
            plan.not_run(part.name)
        });
    }
    let needs_left_out = NEEDS
        .iter()
        .filter(|need| !need.parts.contains(&need.name) && plan.leaves_out(need.name));
    lines.extend(needs_left_out.map(|need| plan.not_run(need.name)));
    report::summary(&lines, run.counts);
    Ok(lines.iter().all(|line| line.outcome != Outcome::Failed))
}

fn passed(name: &'static str, started: Instant) -> Line {
    Line {
        name,
        outcome: Outcome::Passed,
        took: started.elapsed(),
        note: "",
    }
}

fn one_part(part: &Part, run: &mut Run) -> Result<Line> {
    report::begin(part.name, part.what);
    let started = Instant::now();
    let outcome = if (part.run)(run)? {
        Outcome::Passed
    } else {
        Outcome::Failed
    };
    let line = Line {
        name: part.name,
        outcome,
        took: started.elapsed(),
        note: "",
    };
    report::end(&line);
    Ok(line)
}

/// Which parts run, and with what.
#[derive(Debug)]
struct Plan<'a> {
    without: Vec<&'a str>,
    only: Vec<&'a str>,
}

impl<'a> Plan<'a> {
    /// Checks the names that a person typed. Continuous integration runs everything or nothing.
    fn new(options: &'a Options, ci: bool) -> Result<Self> {
        let parts = || PARTS.iter().map(|part| part.name);
        let needs = NEEDS
            .iter()
            .map(|need| need.name)
            .filter(|name| !parts().any(|part| part == *name));
        let names: Vec<_> = parts().chain(needs).collect();
        known("--without", &options.without, &names)?;
        known("--only", &options.only, &parts().collect::<Vec<_>>())?;
        if ci && !(options.without.is_empty() && options.only.is_empty()) {
            return Err(Failure::new(
                "`--without` and `--only` are not for continuous integration",
            )
            .with_hint("unset `CI` to try a part of the test by hand"));
        }
        let plan = Self {
            without: options.without.iter().map(String::as_str).collect(),
            only: options.only.iter().map(String::as_str).collect(),
        };
        if !PARTS.iter().any(|part| plan.runs(part)) {
            return Err(Failure::new("nothing is left to run")
                .with_hint("leave a part in that `--without` took out"));
        }
        Ok(plan)
    }

    fn leaves_out(&self, name: &str) -> bool {
        self.without.contains(&name)
    }

    fn runs(&self, part: &Part) -> bool {
        !self.leaves_out(part.name) && (self.only.is_empty() || self.only.contains(&part.name))
    }

    /// What the parts that run need, less what was switched off.
    fn needs(&self) -> Vec<&'static Need> {
        let runs = |name: &str| {
            PARTS
                .iter()
                .any(|part| part.name == name && self.runs(part))
        };
        NEEDS
            .iter()
            .filter(|need| need.parts.iter().any(|part| runs(part)) && !self.leaves_out(need.name))
            .collect()
    }

    fn not_run(&self, name: &'static str) -> Line {
        let note = if self.leaves_out(name) {
            "switched off by --without"
        } else {
            "not asked for by --only"
        };
        Line {
            name,
            outcome: Outcome::NotRun,
            took: std::time::Duration::ZERO,
            note,
        }
    }
}

fn known(option: &str, given: &[String], names: &[&str]) -> Result<()> {
    match given.iter().find(|name| !names.contains(&name.as_str())) {
        None => Ok(()),
        Some(name) => Err(Failure::new(format!("`{option} {name}`: no such part"))
            .with_hint(format!("the parts are {}", names.join(", ")))),
    }
}

impl Run {
    fn cargo(&self, arguments: &[&str]) -> std::process::Command {
        let mut command = process::cargo(&self.workspace.root);
        command.args(arguments);
        command
    }

    /// What tests carry in their names that cannot do without what was switched off.
    fn words_left_out(&self) -> Vec<&'static str> {
        NEEDS
            .iter()
            .filter(|need| self.without.iter().any(|name| name == need.name))
            .flat_map(|need| need.words)
            .copied()
            .collect()
    }

    /// Runs a test runner and counts what it reports.
    fn count(&mut self, runner: Runner, arguments: &[&str]) -> Result<bool> {
        let mut command = self.cargo(arguments);
        command.envs(self.provided.iter().map(|(name, path)| (name, path)));
        command.envs(self.servers.variables().iter().cloned());
        command.env(WITHOUT, self.without.join(","));
        let mut counts = Counts::default();
        let passed = process::run_watched(&mut command, |line| counts.read_line(runner, line))?;
        self.counts += counts;
        Ok(passed)
    }
}

fn format(run: &mut Run) -> Result<bool> {
    process::run_as_talk(&mut run.cargo(&["fmt", "--all", "--check"]))
}

fn lints(run: &mut Run) -> Result<bool> {
    clippy(run, &["--workspace", "--all-targets", "--all-features"])
}

/// Clippy rather than a mere check: code that one feature leaves unused is found as well.
fn features(run: &mut Run) -> Result<bool> {
    let mut passed = true;
    for (package, each) in [
        ("zoho-oauth", true),
        ("zohocrm", true),
        ("zoho-sandbox", false),
    ] {
        let none = ["--package", package, "--lib", "--no-default-features"];
        passed &= clippy(run, &none)?;
        let features: Vec<_> = run
            .workspace
            .package(package)?
            .single_features()
            .filter(|_| each)
            .map(str::to_owned)
            .collect();
        for feature in &features {
            passed &= clippy(run, &[&none[..], &["--features", feature]].concat())?;
        }
    }
    // As everybody builds it first: without the drivers of the servers.
    passed &= clippy(run, &["--package", "zoho-cli", "--bins", "--tests"])?;
    // All features at once are what the lints saw.
    Ok(passed)
}

fn clippy(run: &Run, which: &[&str]) -> Result<bool> {
    let mut command = run.cargo(&["clippy", "--quiet"]);
    command.args(which);
    report::talk(format_args!("    cargo clippy {}", which.join(" ")));
    process::run_as_talk(command.args(["--", "--deny", "warnings"]))
}

fn docs(run: &mut Run) -> Result<bool> {
    let mut command = run.cargo(&[
        "doc",
        "--quiet",
        "--workspace",
        "--no-deps",
        "--all-features",
    ]);
    process::run_as_talk(command.env("RUSTDOCFLAGS", "--deny warnings"))
}

fn dependencies(run: &mut Run) -> Result<bool> {
    let deny = run.provided.iter().find(|(name, _)| *name == CARGO_DENY);
    let (_, deny) = deny.ok_or_else(|| Failure::new("cargo-deny was not provided"))?;
    let mut command = std::process::Command::new(deny);
    command
        .current_dir(&run.workspace.root)
        .args(["check", "licenses", "bans", "sources"]);
    process::run_as_talk(&mut command)
}

fn doc_tests(run: &mut Run) -> Result<bool> {
    run.count(
        Runner::Cargo,
        &[
            "test",
            "--doc",
            "--workspace",
            "--all-features",
            "--no-fail-fast",
        ],
    )
}

/// Without nextest the same tests run, one binary after the other. Benchmarks are left out.
fn tests(run: &mut Run) -> Result<bool> {
    let left_out = run.words_left_out();
    if environment::find_program("cargo-nextest").is_some() {
        // One more than there are cores: many tests wait for a server or for a moment to pass.
        let threads = std::thread::available_parallelism().map_or(1, usize::from) + 1;
        let threads = threads.to_string();
        let mut arguments = vec![
            "nextest",
            "run",
            "--workspace",
            "--all-features",
            "--no-fail-fast",
            "--test-threads",
            &threads,
        ];
        let filter = format!("not test(/{}/)", left_out.join("|"));
        if !left_out.is_empty() {
            arguments.extend(["--filterset", &filter]);
        }
        return run.count(Runner::Nextest, &arguments);
    }
    report::talk("cargo-nextest is not on PATH: the tests run with `cargo test`");
    let which = ["--lib", "--bins", "--tests", "--examples"];
    let mut arguments = vec!["test", "--workspace", "--all-features", "--no-fail-fast"];
    arguments.extend(which);
    arguments.push("--");
    arguments.extend(left_out.iter().flat_map(|word| ["--skip", word]));
    run.count(Runner::Cargo, &arguments)
}

#[cfg(test)]
mod tests_of_the_plan {
    use super::*;

    fn options(without: &[&str], only: &[&str]) -> Options {
        let own = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect();
        Options {
            without: own(without),
            only: own(only),
        }
    }

    fn names(options: &Options) -> (Vec<&'static str>, Vec<&'static str>) {
        let plan = Plan::new(options, false).unwrap();
        let parts = PARTS
            .iter()
            .filter(|part| plan.runs(part))
            .map(|part| part.name)
            .collect();
        (parts, plan.needs().iter().map(|need| need.name).collect())
    }

    #[test]
    fn everything_runs_when_nothing_is_said() {
        let (parts, needs) = names(&options(&[], &[]));
        assert_eq!(
            parts,
            [
                "format", "lints", "features", "docs", "deps", "doctests", "tests"
            ]
        );
        assert_eq!(
            needs,
            [
                "browser", "python", "node", "deps", "mysql", "postgres", "redis", "aws"
            ]
        );
    }

    #[test]
    fn a_part_left_out_does_not_bring_what_it_needs() {
        let (parts, needs) = names(&options(&["deps", "browser", "mysql", "aws"], &[]));
        assert_eq!(
            parts,
            ["format", "lints", "features", "docs", "doctests", "tests"]
        );
        assert_eq!(needs, ["python", "node", "postgres", "redis"]);
        assert_eq!(names(&options(&[], &["format"])), (vec!["format"], vec![]));
        let (_, needs) = names(&options(&["mysql"], &["doctests"]));
        assert_eq!(needs, ["postgres", "redis", "aws"]);
    }

    #[test]
    fn an_unknown_name_is_an_error_that_lists_the_known() {
        let told = Plan::new(&options(&["brwser"], &[]), false)
            .unwrap_err()
            .to_string();
        assert!(told.contains("`--without brwser`: no such part"), "{told}");
        assert!(
            told.ends_with("tests, browser, python, node, mysql, postgres, redis, aws"),
            "{told}"
        );
        assert!(
            Plan::new(&options(&[], &["browser"]), false).is_err(),
            "a need is no part"
        );
    }

    #[test]
    fn a_test_of_nothing_is_an_error_and_not_a_success() {
        let told = Plan::new(&options(&["format"], &["format"]), false)
            .unwrap_err()
            .to_string();
        assert!(told.contains("nothing is left to run"), "{told}");
        let all: Vec<_> = PARTS.iter().map(|part| part.name).collect();
        assert!(Plan::new(&options(&all, &[]), false).is_err());
    }

    #[test]
    fn continuous_integration_leaves_nothing_out() {
        assert!(Plan::new(&options(&["browser"], &[]), true).is_err());
        assert!(Plan::new(&options(&[], &["tests"]), true).is_err());
        assert!(Plan::new(&options(&[], &[]), true).is_ok());
    }
}
