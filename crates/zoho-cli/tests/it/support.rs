//! Starting the program.

use std::process::{Command, Output, Stdio};

/// The program, without what the tester's environment would add.
pub(crate) fn zoho(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_zoho"));
    command
        .args(args)
        .env_remove("CLICOLOR_FORCE")
        .env_remove("NO_COLOR")
        .env_remove("AWS_REGION")
        .env_remove("AWS_DEFAULT_REGION")
        .env_remove("AWS_PROFILE")
        .stdin(Stdio::null());
    command
}

pub(crate) fn stdout(output: &Output) -> &str {
    std::str::from_utf8(&output.stdout).unwrap()
}

pub(crate) fn stderr(output: &Output) -> &str {
    std::str::from_utf8(&output.stderr).unwrap()
}
