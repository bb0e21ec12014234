//! A cargo of our own: it knows a workspace and does what a test says.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;

use tempfile::TempDir;

/// A folder with a script that stands in for cargo.
#[derive(Debug)]
pub(crate) struct Stage {
    folder: TempDir,
}

impl Stage {
    /// `script` is what the stand-in does, in shell, when it is not asked for the metadata.
    pub(crate) fn new(script: &str) -> Self {
        let folder = tempfile::tempdir().expect("a folder of our own");
        let root = folder.path();
        let metadata = serde_json::json!({
            "workspace_root": root,
            "target_directory": root.join("target"),
            "packages": [
                {"name": "zoho-oauth", "features": {"default": ["file"], "file": [], "sqlite": []}},
                {"name": "zohocrm"},
                {"name": "zoho-sandbox"},
            ],
        });
        fs::write(root.join("metadata.json"), metadata.to_string()).expect("it can be written");
        let here = root.display().to_string();
        let stage = Self { folder };
        stage.program(
            "cargo",
            &format!("[ \"$1\" = metadata ] && exec cat '{here}/metadata.json'\n{script}"),
        );
        stage
    }

    /// Adds a program to the only folder of `PATH` that is not the system's.
    pub(crate) fn program(&self, name: &str, script: &str) {
        let file = self.folder.path().join(name);
        fs::write(&file, format!("#!/bin/sh\n{script}\n")).expect("it can be written");
        fs::set_permissions(file, fs::Permissions::from_mode(0o755)).expect("the file is ours");
    }

    pub(crate) fn path(&self) -> &Path {
        self.folder.path()
    }

    /// `cargo xtask` with these arguments, by hand: not in continuous integration.
    pub(crate) fn xtask(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_xtask"));
        command
            .args(arguments)
            .env("CARGO", self.path().join("cargo"))
            .env("CARGO_MANIFEST_DIR", self.path())
            .env("PATH", format!("{}:/usr/bin:/bin", self.path().display()))
            .env_remove("CI");
        for name in ["CHROMEDRIVER", "MYSQL", "POSTGRES", "REDIS", "AWS"] {
            command.env_remove(format!("ZOHO_TEST_{name}"));
        }
        command
    }
}
