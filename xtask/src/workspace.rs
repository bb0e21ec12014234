//! What cargo knows about this workspace.

use std::path::PathBuf;

use serde::Deserialize;

use crate::environment;
use crate::failure::{Failure, Result};
use crate::process;

/// The parts of `cargo metadata` that the tasks use.
#[derive(Debug, Deserialize)]
pub(crate) struct Workspace {
    #[serde(rename = "workspace_root")]
    pub(crate) root: PathBuf,
    pub(crate) target_directory: PathBuf,
    packages: Vec<Package>,
}

/// A crate of the workspace.
#[derive(Debug, Deserialize)]
pub(crate) struct Package {
    pub(crate) name: String,
    #[serde(default)]
    features: std::collections::BTreeMap<String, Vec<String>>,
    #[serde(default)]
    targets: Vec<Target>,
}

#[derive(Debug, Deserialize)]
struct Target {
    name: String,
    kind: Vec<String>,
}

impl Workspace {
    /// Asks cargo about the workspace that this program belongs to.
    pub(crate) fn load() -> Result<Self> {
        let mut command = process::cargo(&environment::own_folder().unwrap_or_else(|| ".".into()));
        command.args(["metadata", "--no-deps", "--format-version", "1"]);
        let json = process::answer(&mut command)?;
        serde_json::from_slice(&json)
            .map_err(|error| Failure::new(format!("cannot read `cargo metadata`: {error}")))
    }

    /// Our own folder below cargo's target folder: removed with `cargo clean`.
    pub(crate) fn scratch(&self) -> PathBuf {
        self.target_directory.join("xtask")
    }

    pub(crate) fn package(&self, name: &str) -> Result<&Package> {
        self.packages
            .iter()
            .find(|package| package.name == name)
            .ok_or_else(|| Failure::new(format!("the workspace has no crate `{name}`")))
    }

    pub(crate) fn packages(&self) -> &[Package] {
        &self.packages
    }
}

impl Package {
    /// The features to be tried alone, in the order of their names: all but `default` and those
    /// that do no more than ask for one of the same name of another package, where it is tried.
    pub(crate) fn single_features(&self) -> impl Iterator<Item = &str> {
        let is_of_its_own = |name: &str, brings: &[String]| {
            let forwards =
                |brought: &String| brought.split_once('/').is_some_and(|it| it.1 == name);
            name != "default" && !matches!(brings, [one] if forwards(one))
        };
        self.features
            .iter()
            .filter(move |(name, brings)| is_of_its_own(name, brings))
            .map(|(name, _)| name.as_str())
    }

    /// The names of the benchmark programs.
    pub(crate) fn benches(&self) -> impl Iterator<Item = &str> {
        self.targets
            .iter()
            .filter(|target| target.kind.iter().any(|kind| kind == "bench"))
            .map(|target| target.name.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metadata_gives_features_and_benches() {
        let workspace: Workspace = serde_json::from_str(
            r#"{"workspace_root": "/w", "target_directory": "/w/target", "version": 1, "packages": [{
                "name": "a", "features": {"sqlite": ["dep:rusqlite"], "default": ["file"], "file": [],
                "redis": ["b/redis"], "mysql": ["b/mysql", "b/tls"]},
                "targets": [{"name": "a", "kind": ["lib"]}, {"name": "stores", "kind": ["bench"]}]}]}"#,
        )
        .unwrap();
        let package = workspace.package("a").unwrap();
        assert_eq!(
            package.single_features().collect::<Vec<_>>(),
            ["file", "mysql", "sqlite"]
        );
        assert_eq!(package.benches().collect::<Vec<_>>(), ["stores"]);
        assert!(workspace.package("b").is_err());
        assert_eq!(workspace.scratch(), PathBuf::from("/w/target/xtask"));
    }
}
