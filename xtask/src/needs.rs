//! What the tests need from outside the Rust toolchain, and where it comes from.

/// Something that a part of the test needs.
#[derive(Debug)]
pub(crate) struct Need {
    /// The name that `--without` takes.
    pub(crate) name: &'static str,
    /// The parts of the test that need it.
    pub(crate) parts: &'static [&'static str],
    /// Tests with one of these words in their name cannot do without it. Tests that look for
    /// themselves whether they can run are not named here.
    pub(crate) words: &'static [&'static str],
    pub(crate) source: Source,
}

/// Where a need comes from.
#[derive(Debug)]
pub(crate) enum Source {
    Programs(&'static [Program]),
    Python(PythonPackages),
    Node(NodePackages),
}

/// A program of a Debian package.
#[derive(Debug)]
pub(crate) struct Program {
    /// The names it goes by on other systems too; the first one found is taken.
    pub(crate) names: &'static [&'static str],
    pub(crate) debian: &'static str,
    /// The variable that tells the tests where it is, and us where a person has it.
    pub(crate) variable: Option<&'static str>,
}

/// Packages from PyPI, listed with their versions in `requirements`.
#[derive(Debug)]
pub(crate) struct PythonPackages {
    pub(crate) requirements: &'static str,
    /// What is wanted of the environment: a program in its `bin`.
    pub(crate) program: &'static str,
    /// Whether the program will do as well when it is found on `PATH`.
    pub(crate) on_path: bool,
    pub(crate) variable: &'static str,
}

/// Packages from npm, which `requirements` lists: a folder with `package.json` and its lock file.
#[derive(Debug)]
pub(crate) struct NodePackages {
    pub(crate) requirements: &'static str,
    /// The package that the tests use.
    pub(crate) package: &'static str,
    /// The variable that tells the tests the folder of the package.
    pub(crate) variable: &'static str,
}

/// Where the tests find `chromedriver`.
const CHROMEDRIVER: &str = "ZOHO_TEST_CHROMEDRIVER";
/// Where the tests find a Python that has Zoho's official SDK.
const PYTHON: &str = "ZOHO_TEST_PYTHON";
/// Where the tests find Zoho's official Node SDK.
const NODE_SDK: &str = "ZOHO_TEST_NODE_SDK";
/// Where the dependency check finds cargo-deny.
pub(crate) const CARGO_DENY: &str = "ZOHO_TEST_CARGO_DENY";
/// Where the tests find moto, which answers in AWS's place.
pub(crate) const MOTO_SERVER: &str = "ZOHO_TEST_MOTO_SERVER";

/// The parts that run tests.
const RUN_TESTS: &[&str] = &["doctests", "tests"];

/// Everything that the tests need. The servers among it are started by [`crate::servers`].
pub(crate) const NEEDS: &[Need] = &[
    Need {
        name: "browser",
        parts: &["tests"],
        words: &[],
        source: Source::Programs(&[
            Program {
                names: &[
                    "chromium",
                    "chromium-browser",
                    "google-chrome",
                    "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome",
                ],
                debian: "chromium",
                variable: None,
            },
            Program {
                names: &["chromedriver"],
                debian: "chromium-driver",
                variable: Some(CHROMEDRIVER),
            },
        ]),
    },
    Need {
        name: "python",
        parts: &["tests"],
        words: &[],
        source: Source::Python(PythonPackages {
            requirements: "python.txt",
            program: "python",
            on_path: false,
            variable: PYTHON,
        }),
    },
    Need {
        name: "node",
        parts: &["tests"],
        words: &[],
        source: Source::Node(NodePackages {
            requirements: "node",
            package: "@zohocrm/nodejs-sdk-8.0",
            variable: NODE_SDK,
        }),
    },
    Need {
        name: "deps",
        parts: &["deps"],
        words: &[],
        source: Source::Python(PythonPackages {
            requirements: "deps.txt",
            program: "cargo-deny",
            on_path: true,
            variable: CARGO_DENY,
        }),
    },
    Need {
        name: "mysql",
        parts: RUN_TESTS,
        words: &["mysql", "mariadb", "galera"],
        source: Source::Programs(&[
            server(&["mariadbd"], "mariadb-server"),
            server(&["mariadb-install-db"], "mariadb-server"),
            server(&["mariadb"], "mariadb-client"),
            // Galera's way to copy a node's data.
            server(&["wsrep_sst_rsync"], "mariadb-server"),
            server(&["rsync"], "rsync"),
        ]),
    },
    Need {
        name: "postgres",
        parts: RUN_TESTS,
        words: &["postgres", "pgbouncer"],
        source: Source::Programs(&[
            server(&["initdb"], "postgresql"),
            server(&["pgbouncer"], "pgbouncer"),
        ]),
    },
    Need {
        name: "redis",
        parts: RUN_TESTS,
        words: &["redis"],
        source: Source::Programs(&[
            server(&["redis-server"], "redis-server"),
            server(&["redis-cli"], "redis-tools"),
        ]),
    },
    Need {
        name: "aws",
        parts: RUN_TESTS,
        words: &["aws", "secrets_manager", "moto"],
        source: Source::Python(PythonPackages {
            requirements: "moto.txt",
            program: "moto_server",
            on_path: false,
            variable: MOTO_SERVER,
        }),
    },
];

/// A program that the tests find by themselves, in the folders of servers too.
const fn server(names: &'static [&'static str], debian: &'static str) -> Program {
    Program {
        names,
        debian,
        variable: None,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::test::PARTS;

    #[test]
    fn every_need_belongs_to_a_part_of_the_test() {
        for need in NEEDS {
            assert!(
                need.parts
                    .iter()
                    .all(|name| PARTS.iter().any(|part| part.name == *name)),
                "{}",
                need.name
            );
        }
    }

    /// They share an environment: an install of one must not undo another.
    #[test]
    fn lists_of_python_packages_agree_on_versions() {
        let mut known = BTreeMap::new();
        for list in [
            include_str!("../requirements/python.txt"),
            include_str!("../requirements/moto.txt"),
        ] {
            for (package, version) in list.lines().filter_map(|line| line.split_once("==")) {
                let earlier = known.insert(package, version);
                assert!(
                    earlier.is_none_or(|earlier| earlier == version),
                    "{package}"
                );
            }
        }
        assert!(known.contains_key("requests"), "they share something");
    }
}
