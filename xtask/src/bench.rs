//! `cargo xtask bench`: runs the benchmarks and sets ours beside what people use today.
//!
//! A benchmark's group is named `<area>/<what>/<size>`; its functions are `ours` and `baseline`,
//! or `baseline:NAME` where there are several. Functions with other names are listed by
//! themselves. Times are medians of one iteration.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use clap::Args;
use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::failure::{Failure, Result};
use crate::process;
use crate::report;
use crate::servers::{self, WITHOUT};
use crate::workspace::Workspace;

#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Print one JSON object per line instead of a table
    #[arg(long)]
    json: bool,

    /// Measure briefly: good for a look, not for a claim
    #[arg(long)]
    quick: bool,

    /// Leave out a server that benchmarks use, and what they measure of it; may be given several
    /// times
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    without: Vec<String>,

    /// Run only the benchmarks whose name contains this (a regular expression)
    filter: Option<String>,
}

/// Runs the benchmarks that `options` asks for; answers whether all of them ran.
pub(crate) fn run(options: &Options) -> Result<bool> {
    let workspace = Workspace::load()?;
    let (servers, _) = servers::provided_and_started(&options.without, "bench", &workspace)?;
    let mut command = process::cargo(&workspace.root);
    command
        .args(["bench", "--all-features"])
        .envs(servers.variables().iter().cloned())
        .env(WITHOUT, options.without.join(","));
    let mut programs = 0;
    for package in workspace.packages() {
        let benches: Vec<_> = package.benches().collect();
        if !benches.is_empty() {
            command.args(["--package", &package.name]);
        }
        // By name: `--benches` would also start the libraries' own test harness.
        for bench in &benches {
            command.args(["--bench", bench]);
        }
        programs += benches.len();
    }
    if programs == 0 {
        return Err(Failure::new("the workspace has no benchmarks"));
    }
    command.arg("--");
    if options.quick {
        command.args([
            "--warm-up-time",
            "0.3",
            "--measurement-time",
            "1",
            "--sample-size",
            "10",
        ]);
    }
    command.args(&options.filter);

    let started = mark_start(&workspace.scratch())?;
    if !process::run_as_talk(&mut command)? {
        return Ok(false);
    }
    let rows = rows(&measurements(
        &workspace.target_directory.join("criterion"),
        started,
    )?);
    if rows.is_empty() {
        return Err(Failure::new("no benchmark ran").with_hint("look at the filter's spelling"));
    }
    if options.json {
        for row in &rows {
            report::result(row.json());
        }
    } else {
        for line in table(&rows) {
            report::result(line);
        }
    }
    Ok(true)
}

/// A moment on the file system's own clock, by which results of earlier runs are told apart.
fn mark_start(scratch: &Path) -> Result<SystemTime> {
    let mark = scratch.join("bench-started");
    fs::create_dir_all(scratch)
        .and_then(|()| fs::write(&mark, ""))
        .and_then(|()| mark.metadata()?.modified())
        .map_err(|error| Failure::io(format_args!("write `{}`", mark.display()), &error))
}

/// One measured function.
#[derive(Debug, PartialEq)]
struct Measurement {
    group: String,
    function: String,
    /// Nanoseconds for one iteration.
    median: f64,
}

/// `benchmark.json`: what was measured.
#[derive(Debug, Deserialize)]
struct Identity {
    group_id: String,
    function_id: Option<String>,
    value_str: Option<String>,
}

/// `estimates.json`: what came out, in nanoseconds.
#[derive(Debug, Deserialize)]
struct Estimates {
    median: Estimate,
}

#[derive(Debug, Deserialize)]
struct Estimate {
    point_estimate: f64,
}

/// Reads every `new/` below `folder` that was written since `started`.
fn measurements(folder: &Path, started: SystemTime) -> Result<Vec<Measurement>> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_path_buf()];
    while let Some(folder) = folders.pop() {
        folders.extend(subfolders(&folder)?);
        let estimates = folder.join("estimates.json");
        let written = estimates
            .metadata()
            .and_then(|metadata| metadata.modified());
        if !folder.ends_with("new")
            || written.is_ok_and(|written| written < started)
            || !estimates.is_file()
        {
            continue;
        }
        let identity: Identity = read_json(&folder.join("benchmark.json"))?;
        let estimates: Estimates = read_json(&estimates)?;
        let group = match identity.value_str {
            Some(value) => format!("{}/{value}", identity.group_id),
            None => identity.group_id,
        };
        let function = identity.function_id.unwrap_or_default();
        found.push(Measurement {
            group,
            function,
            median: estimates.median.point_estimate,
        });
    }
    Ok(found)
}

fn subfolders(folder: &Path) -> Result<Vec<PathBuf>> {
    let cannot = |error| Failure::io(format_args!("read `{}`", folder.display()), &error);
    let mut folders = Vec::new();
    for entry in fs::read_dir(folder).map_err(cannot)? {
        let entry = entry.map_err(cannot)?;
        if entry.file_type().map_err(cannot)?.is_dir() {
            folders.push(entry.path());
        }
    }
    Ok(folders)
}

fn read_json<T: DeserializeOwned>(file: &Path) -> Result<T> {
    let bytes = fs::read(file)
        .map_err(|error| Failure::io(format_args!("read `{}`", file.display()), &error))?;
    serde_json::from_slice(&bytes)
        .map_err(|error| Failure::new(format!("cannot read `{}`: {error}", file.display())))
}

/// A line of the result: ours beside one baseline. Times in nanoseconds.
#[derive(Debug, PartialEq)]
struct Row {
    what: String,
    ours: Option<f64>,
    /// The baseline's name and its time.
    baseline: Option<(String, f64)>,
}

/// Sets each group's `ours` beside its baselines, in the order of the groups' names.
fn rows(measurements: &[Measurement]) -> Vec<Row> {
    let mut ours = BTreeMap::new();
    let mut baselines: BTreeMap<&str, Vec<(String, f64)>> = BTreeMap::new();
    for Measurement {
        group,
        function,
        median,
    } in measurements
    {
        match function.split_once(':') {
            None if function == "ours" => {
                ours.insert(group.clone(), *median);
            }
            None if function == "baseline" => {
                baselines
                    .entry(group)
                    .or_default()
                    .push(("baseline".to_owned(), *median));
            }
            Some(("baseline", name)) => {
                baselines
                    .entry(group)
                    .or_default()
                    .push((name.to_owned(), *median));
            }
            _ => {
                ours.insert(format!("{group}/{function}"), *median);
            }
        }
    }
    let mut rows: Vec<_> = ours
        .iter()
        .filter(|(group, _)| !baselines.contains_key(group.as_str()))
        .map(|(group, median)| Row {
            what: group.clone(),
            ours: Some(*median),
            baseline: None,
        })
        .collect();
    for (group, baselines) in baselines {
        let ours = ours.get(group).copied();
        rows.extend(baselines.into_iter().map(|baseline| Row {
            what: group.to_owned(),
            ours,
            baseline: Some(baseline),
        }));
    }
    rows.sort_by(|a, b| {
        let name = |row: &Row| row.baseline.as_ref().map(|(name, _)| name.clone());
        (&a.what, name(a)).cmp(&(&b.what, name(b)))
    });
    rows
}

impl Row {
    /// Our rate relative to the baseline's: 2.0 is twice as fast, 0.8 is 80 % of its rate.
    fn ratio(&self) -> Option<f64> {
        Some(self.baseline.as_ref()?.1 / self.ours?)
    }

    fn json(&self) -> serde_json::Value {
        let (name, time) = self.baseline.clone().unzip();
        serde_json::json!({
            "bench": self.what,
            "ours_ns": self.ours,
            "baseline": name,
            "baseline_ns": time,
            "ratio": self.ratio(),
        })
    }
}

fn table(rows: &[Row]) -> Vec<String> {
    let header = ["what", "ours", "baseline", "", "ratio"].map(str::to_owned);
    let mut cells = vec![header];
    cells.extend(rows.iter().map(|row| {
        let (name, time) = row.baseline.clone().unzip();
        [
            row.what.clone(),
            row.ours.map_or_else(dash, readable),
            time.map_or_else(dash, readable),
            name.filter(|name| name != "baseline").unwrap_or_default(),
            row.ratio().map_or_else(dash, |ratio| format!("{ratio:.2}")),
        ]
    }));
    let width = |column: usize| {
        cells
            .iter()
            .map(|row| row[column].chars().count())
            .max()
            .unwrap_or(0)
    };
    let (what, ours, time, name, ratio) = (width(0), width(1), width(2), width(3), width(4));
    let mut lines = vec![
        "median times; ratio = our rate relative to the baseline's (2.00: twice as fast, 0.80: 80 % of its rate)"
            .to_owned(),
    ];
    lines.extend(cells.iter().map(|[a, b, c, d, e]| {
        format!("{a:<what$}  {b:>ours$}  {c:>time$}  {d:<name$}  {e:>ratio$}")
    }));
    lines
}

fn dash() -> String {
    "-".to_owned()
}

/// Three or four digits and a unit.
fn readable(nanoseconds: f64) -> String {
    let (value, unit) = match nanoseconds {
        n if n < 1e3 => (n, "ns"),
        n if n < 1e6 => (n / 1e3, "µs"),
        n if n < 1e9 => (n / 1e6, "ms"),
        n => (n / 1e9, "s"),
    };
    let digits = if value < 10.0 {
        2
    } else {
        usize::from(value < 100.0)
    };
    format!("{value:.digits$} {unit}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn measured(group: &str, function: &str, median: f64) -> Measurement {
        Measurement {
            group: group.into(),
            function: function.into(),
            median,
        }
    }

    #[test]
    fn ours_stands_beside_each_of_its_baselines() {
        let table = table(&rows(&[
            measured("file/find/1000", "baseline", 949_000.0),
            measured("file/find/1000", "ours", 1_210.0),
            measured("auth/hot/1", "ours", 36.04),
            measured("auth/hot/1", "baseline:yup", 28.83),
            measured("auth/hot/1", "baseline:map", 53.0),
            measured("file/save/10", "ours", 435_000.0),
            measured("misc/parse/1", "typed", 1_500_000_000.0),
        ]));
        assert_eq!(
            table[1..],
            [
                "what                   ours  baseline        ratio",
                "auth/hot/1          36.0 ns   53.0 ns  map    1.47",
                "auth/hot/1          36.0 ns   28.8 ns  yup    0.80",
                "file/find/1000      1.21 µs    949 µs       784.30",
                "file/save/10         435 µs         -            -",
                "misc/parse/1/typed   1.50 s         -            -",
            ]
        );
    }

    #[test]
    fn json_says_the_same_for_machines() {
        let rows = rows(&[
            measured("a/b/1", "ours", 2.0),
            measured("a/b/1", "baseline:x", 3.0),
        ]);
        let expected = serde_json::json!({"bench": "a/b/1", "ours_ns": 2.0, "baseline": "x", "baseline_ns": 3.0, "ratio": 1.5});
        assert_eq!(rows.iter().map(Row::json).collect::<Vec<_>>(), [expected]);
    }

    #[test]
    fn a_baseline_without_ours_has_no_ratio() {
        let rows = rows(&[measured("a/b/1", "baseline", 3.0)]);
        assert_eq!((rows.len(), rows[0].ours, rows[0].ratio()), (1, None, None));
    }

    #[test]
    fn results_of_earlier_runs_and_comparisons_are_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let write = |place: &str, group: &str| {
            let place = folder.path().join(place);
            fs::create_dir_all(&place).unwrap();
            let identity = format!(
                r#"{{"group_id": "{group}", "function_id": "ours", "value_str": "7", "x": 1}}"#
            );
            fs::write(place.join("benchmark.json"), identity).unwrap();
            let estimates =
                r#"{"mean": {}, "median": {"point_estimate": 12.5, "standard_error": 0.1}}"#;
            fs::write(place.join("estimates.json"), estimates).unwrap();
            place.join("estimates.json")
        };
        let old = write("old/ours/new", "old");
        write("fresh/ours/new", "fresh/find");
        write("fresh/ours/base", "fresh/base");
        fs::create_dir_all(folder.path().join("report")).unwrap();
        let started = mark_start(&folder.path().join("scratch")).unwrap();
        let set = |path: &Path, time| {
            fs::File::options()
                .append(true)
                .open(path)
                .unwrap()
                .set_modified(time)
                .unwrap();
        };
        set(&old, started - std::time::Duration::from_secs(1));
        set(
            &folder.path().join("fresh/ours/new/estimates.json"),
            started,
        );
        let found = measurements(folder.path(), started).unwrap();
        assert_eq!(found, [measured("fresh/find/7", "ours", 12.5)]);
    }
}
