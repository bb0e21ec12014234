//! Brings what the tests need from outside the Rust toolchain, once.
//!
//! What is there already is used as it is: a program on `PATH`, or where its variable says. What
//! is missing comes from Debian's packages when we are root on such a system; elsewhere the
//! message names the package. Python packages go into an environment of our own below `target/`.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use crate::environment::{chosen_program, find_program};
use crate::failure::{Failure, Result};
use crate::needs::{Need, NodePackages, Program, PythonPackages, Source};
use crate::process;
use crate::report;

/// How long we wait for somebody else who updates the lists of packages.
const LONGEST_UPDATE_OF_OTHERS: Duration = Duration::from_mins(5);

/// Variables for the tests, each with the path of a program.
pub(crate) type Provided = Vec<(&'static str, PathBuf)>;

/// Brings what `needs` lists and tells where it is.
///
/// `task` is ours that needs it, `root` the workspace, `scratch` the folder that our own environment
/// goes into.
pub(crate) fn provide(
    needs: &[&Need],
    task: &str,
    root: &Path,
    scratch: &Path,
) -> Result<Provided> {
    // Of two runs at the same time one provides, and the other then finds everything there.
    let _alone = alone(scratch)?;
    let missing = missing(needs);
    let hint = |needs: &[&str]| {
        let way = without(task, needs.iter().copied());
        format!("try again when the packages can be had, or go without: {way}")
    };
    let or_without = |failure: Failure, need: &str| failure.with_hint_if_none(|| hint(&[need]));
    let names: Vec<_> = missing.iter().map(|missing| missing.need).collect();
    install(&missing, task, scratch)
        .map_err(|failure| failure.with_hint_if_none(|| hint(&names)))?;
    let mut provided = Provided::new();
    for need in needs {
        match &need.source {
            Source::Programs(programs) => {
                for program in *programs {
                    let path = program.find().ok_or_else(|| program.still_missing())?;
                    provided.extend(program.variable.map(|variable| (variable, path)));
                }
            }
            Source::Python(packages) => {
                let path = packages.provide(root, scratch);
                let path = path.map_err(|failure| or_without(failure, need.name))?;
                provided.push((packages.variable, path));
            }
            Source::Node(packages) => {
                let path = packages.provide(root, scratch);
                let path = path.map_err(|failure| or_without(failure, need.name))?;
                provided.push((packages.variable, path));
            }
        }
    }
    Ok(provided)
}

/// Waits for other runs that provide; none does while the file is open.
fn alone(scratch: &Path) -> Result<File> {
    let path = scratch.join("provision.lock");
    let cannot = |error| Failure::io(format_args!("lock `{}`", path.display()), &error);
    fs::create_dir_all(scratch).map_err(cannot)?;
    let file = File::create(&path).map_err(cannot)?;
    file.lock().map_err(cannot)?;
    Ok(file)
}

impl Program {
    fn find(&self) -> Option<PathBuf> {
        let chosen = self
            .variable
            .and_then(chosen_program)
            .filter(|path| path.is_file());
        chosen
            .or_else(|| self.names.iter().find_map(|name| find_program(name)))
            .or_else(|| find_as_the_tests_do(self.names[0]))
    }

    fn still_missing(&self) -> Failure {
        Failure::new(format!(
            "`{}` is not on PATH although its package `{}` is installed",
            self.names[0], self.debian
        ))
    }
}

/// A Debian package that has to be installed, and the need that asks for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Missing {
    package: &'static str,
    need: &'static str,
}

fn missing(needs: &[&Need]) -> Vec<Missing> {
    let mut missing = Vec::new();
    for need in needs {
        let packages: Vec<&'static str> = match &need.source {
            Source::Programs(programs) => programs
                .iter()
                .filter(|p| p.find().is_none())
                .map(|p| p.debian)
                .collect(),
            Source::Python(packages) if packages.found_on_path().is_some() => Vec::new(),
            Source::Python(_) => missing_for_python(),
            Source::Node(_) => missing_for_node(),
        };
        missing.extend(packages.into_iter().map(|package| Missing {
            package,
            need: need.name,
        }));
    }
    missing
}

/// Debian ships Python's own module for environments in a package of its own.
fn missing_for_python() -> Vec<&'static str> {
    let Some(python) = find_program("python3") else {
        return vec!["python3", "python3-venv"];
    };
    if process::succeeds(Command::new(python).args(["-c", "import venv, ensurepip"])) {
        Vec::new()
    } else {
        vec!["python3-venv"]
    }
}

/// Debian ships npm apart from Node.
fn missing_for_node() -> Vec<&'static str> {
    let programs = [("node", "nodejs"), ("npm", "npm")];
    let missing = programs
        .iter()
        .filter(|(name, _)| find_program(name).is_none());
    missing.map(|(_, package)| *package).collect()
}

fn install(missing: &[Missing], task: &str, scratch: &Path) -> Result<()> {
    if missing.is_empty() {
        return Ok(());
    }
    let mut packages: Vec<_> = missing.iter().map(|missing| missing.package).collect();
    packages.sort_unstable();
    packages.dedup();
    if !(is_root() && find_program("apt-get").is_some()) {
        return Err(cannot_install(missing, &packages, task));
    }
    report::talk(format_args!(
        "installing {} (Debian packages)",
        packages.join(", ")
    ));
    let apt = || {
        let mut command = Command::new("apt-get");
        command
            .env("DEBIAN_FRONTEND", "noninteractive")
            .args(["-o", "DPkg::Lock::Timeout=300"]);
        command
    };
    // An old list may still do: whether it does, the install will tell.
    let updated =
        update(|| process::run_logged(apt().arg("update"), &scratch.join("apt-update.log")));
    let installed = process::run_logged(
        apt()
            .args(["install", "-y", "--no-install-recommends"])
            .args(&packages),
        &scratch.join("apt-install.log"),
    );
    match (installed, updated) {
        (Err(install), Err(update)) if install.exit_status() == 1 => {
            report::failure(&update);
            Err(install)
        }
        (installed, _) => installed,
    }
}

/// Runs `apt-get update`, again while somebody else has the lists: a fresh machine updates them by
/// itself, and apt's own time-out is not for this lock.
fn update(mut run: impl FnMut() -> Result<()>) -> Result<()> {
    let deadline = Instant::now() + LONGEST_UPDATE_OF_OTHERS;
    loop {
        match run() {
            Err(failure) if failure.to_string().contains("lock") && Instant::now() < deadline => {
                thread::sleep(Duration::from_secs(1));
            }
            done => return done,
        }
    }
}

/// How a person goes without `needs`.
pub(crate) fn without<'a>(task: &str, needs: impl Iterator<Item = &'a str>) -> String {
    let mut names: Vec<_> = needs.collect();
    names.dedup();
    format!(
        "`cargo xtask {task} --without {}`",
        names.join(" --without ")
    )
}

fn cannot_install(missing: &[Missing], packages: &[&str], task: &str) -> Failure {
    let wanted: Vec<_> = missing
        .iter()
        .map(|missing| format!("`{}` (for {})", missing.package, missing.need))
        .collect();
    Failure::new(format!(
        "the tests need what these Debian packages hold, and it is not on PATH: {}",
        wanted.join(", ")
    ))
    .with_hint(format!(
        "install it (on Debian: `sudo apt-get install {}`), or go without: {}",
        packages.join(" "),
        without(task, missing.iter().map(|missing| missing.need))
    ))
}

impl PythonPackages {
    fn found_on_path(&self) -> Option<PathBuf> {
        if self.on_path {
            find_program(self.program)
        } else {
            None
        }
    }

    /// The path of the program, after its packages were installed if they were not yet.
    fn provide(&self, root: &Path, scratch: &Path) -> Result<PathBuf> {
        if let Some(program) = self.found_on_path() {
            return Ok(program);
        }
        let list = root.join("xtask/requirements").join(self.requirements);
        let wanted = fs::read_to_string(&list)
            .map_err(|error| Failure::io(format_args!("read `{}`", list.display()), &error))?;
        let home = scratch.join("venv");
        let stamp = home.join(self.requirements);
        let (python, program) = (
            in_environment(&home, "python"),
            in_environment(&home, self.program),
        );
        prepare_environment(&home, &python, scratch)?;
        if fs::read_to_string(&stamp).is_ok_and(|installed| installed == wanted)
            && program.is_file()
        {
            return Ok(program);
        }
        report::talk(format_args!(
            "installing `{}` (Python packages)",
            self.requirements
        ));
        process::run_logged(
            Command::new(python)
                .args([
                    "-m",
                    "pip",
                    "install",
                    "--disable-pip-version-check",
                    "--no-input",
                ])
                .arg("--requirement")
                .arg(&list),
            &scratch.join(format!("pip-{}.log", self.program)),
        )?;
        // Written last: an install that was cut off is done again.
        fs::write(&stamp, wanted)
            .map_err(|error| Failure::io(format_args!("write `{}`", stamp.display()), &error))?;
        Ok(program)
    }
}

impl NodePackages {
    /// The folder of the package, after the packages were installed if they were not yet.
    fn provide(&self, root: &Path, scratch: &Path) -> Result<PathBuf> {
        let lists = root.join("xtask/requirements").join(self.requirements);
        let home = scratch.join(self.requirements);
        let package = home.join("node_modules").join(self.package);
        let read = |path: &Path| {
            fs::read(path)
                .map_err(|error| Failure::io(format_args!("read `{}`", path.display()), &error))
        };
        let write = |path: &Path, content: &[u8]| {
            fs::write(path, content)
                .map_err(|error| Failure::io(format_args!("write `{}`", path.display()), &error))
        };
        let wanted = read(&lists.join("package-lock.json"))?;
        let stamp = home.join("installed");
        if fs::read(&stamp).is_ok_and(|installed| installed == wanted) && package.is_dir() {
            return Ok(package);
        }
        report::talk(format_args!(
            "installing `{}` (npm packages)",
            self.requirements
        ));
        fs::create_dir_all(&home)
            .map_err(|error| Failure::io(format_args!("make `{}`", home.display()), &error))?;
        for list in ["package.json", "package-lock.json"] {
            write(&home.join(list), &read(&lists.join(list))?)?;
        }
        process::run_logged(
            Command::new("npm")
                .args(["ci", "--ignore-scripts", "--no-audit", "--no-fund"])
                .current_dir(&home),
            &scratch.join(format!("npm-{}.log", self.requirements)),
        )?;
        // Written last: an install that was cut off is done again.
        write(&stamp, &wanted)?;
        Ok(package)
    }
}

/// Begins anew with an environment that is of another Python, at another place (its programs name
/// both), or was never finished.
fn prepare_environment(home: &Path, python: &Path, scratch: &Path) -> Result<()> {
    let version = process::answer(Command::new("python3").arg("--version"))?;
    let wanted = [home.as_os_str().as_encoded_bytes(), b"\n", &version].concat();
    let stamp = home.join("made");
    if fs::read(&stamp).is_ok_and(|made| made == wanted)
        && process::succeeds(Command::new(python).args(["-c", "import pip"]))
    {
        return Ok(());
    }
    if home.exists() {
        fs::remove_dir_all(home)
            .map_err(|error| Failure::io(format_args!("remove `{}`", home.display()), &error))?;
    }
    process::run_logged(
        Command::new("python3").args(["-m", "venv"]).arg(home),
        &scratch.join("venv.log"),
    )?;
    fs::write(&stamp, wanted)
        .map_err(|error| Failure::io(format_args!("write `{}`", stamp.display()), &error))
}

fn in_environment(home: &Path, program: &str) -> PathBuf {
    if cfg!(windows) {
        home.join("Scripts").join(program).with_extension("exe")
    } else {
        home.join("bin").join(program)
    }
}

/// Servers are in folders that are not on `PATH`.
#[cfg(unix)]
fn find_as_the_tests_do(name: &str) -> Option<PathBuf> {
    zoho_test_servers::find_program(name)
}

#[cfg(not(unix))]
fn find_as_the_tests_do(_: &str) -> Option<PathBuf> {
    None
}

#[cfg(unix)]
fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

#[cfg(not(unix))]
fn is_root() -> bool {
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_installed_is_named_with_its_package_and_the_way_without() {
        let missing = [
            Missing {
                package: "chromium",
                need: "browser",
            },
            Missing {
                package: "chromium-driver",
                need: "browser",
            },
            Missing {
                package: "python3-venv",
                need: "python",
            },
        ];
        let told = cannot_install(
            &missing,
            &["chromium", "chromium-driver", "python3-venv"],
            "test",
        )
        .to_string();
        assert!(told.contains("`chromium-driver` (for browser)"), "{told}");
        assert!(
            told.contains("apt-get install chromium chromium-driver python3-venv`"),
            "{told}"
        );
        assert!(
            told.ends_with("`cargo xtask test --without browser --without python`"),
            "{told}"
        );
    }

    #[test]
    fn an_environment_that_is_not_whole_or_not_ours_is_made_anew() {
        let scratch = tempfile::tempdir().unwrap();
        let home = scratch.path().join("venv");
        let python = in_environment(&home, "python");
        let prepare = || prepare_environment(&home, &python, scratch.path()).unwrap();
        let mark = home.join("mark");
        let is_kept = || {
            fs::write(&mark, "").unwrap();
            prepare();
            mark.exists()
        };
        // What a run leaves that is killed while Python fills it.
        fs::create_dir_all(home.join("bin")).unwrap();
        assert!(!is_kept());
        assert!(is_kept());
        // Moved here from elsewhere, or of a Python that was updated.
        fs::write(home.join("made"), "/elsewhere\nPython 3.0.0\n").unwrap();
        assert!(!is_kept());
        assert!(is_kept());
    }

    #[test]
    fn one_run_provides_at_a_time() {
        let scratch = tempfile::tempdir().unwrap();
        let first = alone(scratch.path()).unwrap();
        let (sender, got) = std::sync::mpsc::channel();
        let path = scratch.path().to_owned();
        thread::spawn(move || sender.send(alone(&path).is_ok()));
        let early = got.recv_timeout(Duration::from_millis(200));
        assert!(early.is_err(), "two at a time");
        drop(first);
        assert_eq!(got.recv_timeout(Duration::from_secs(20)), Ok(true));
    }

    #[test]
    fn lists_that_somebody_else_updates_are_waited_for() {
        let mut calls = 0;
        let done = update(|| {
            calls += 1;
            match calls {
                1 => Err(Failure::new(
                    "E: Could not get lock /var/lib/apt/lists/lock",
                )),
                _ => Ok(()),
            }
        });
        assert!(done.is_ok() && calls == 2);
        let failed = update(|| Err(Failure::new("E: no network")));
        assert!(failed.is_err());
    }

    #[test]
    fn a_program_is_found_by_the_first_of_its_names_that_is_there() {
        let program = Program {
            names: &["surely-not-there-1", "sh"],
            debian: "dash",
            variable: None,
        };
        assert!(program.find().unwrap().ends_with("sh"));
        let absent = Program {
            names: &["surely-not-there-1"],
            debian: "x",
            variable: None,
        };
        assert_eq!(absent.find(), None);
        let need = Need {
            name: "shell",
            parts: &["tests"],
            words: &[],
            source: Source::Programs(&[Program {
                names: &["surely-not-there-1"],
                debian: "x",
                variable: None,
            }]),
        };
        assert_eq!(
            missing(&[&need]),
            [Missing {
                package: "x",
                need: "shell"
            }]
        );
    }
}
