//! What every command shares: help, version, mistakes.

use crate::support::{stderr, stdout, zoho};

#[test]
fn the_version_is_that_of_the_package() {
    let output = zoho(&["--version"]).output().unwrap();
    assert!(output.status.success());
    assert_eq!(
        stdout(&output),
        concat!("zoho ", env!("CARGO_PKG_VERSION"), "\n")
    );
}

#[test]
fn the_help_names_the_commands_and_the_exit_statuses_and_nothing_hidden() {
    let output = zoho(&["--help"]).output().unwrap();
    assert!(output.status.success());
    let help = stdout(&output);
    for text in [
        "demo",
        "tokens",
        "Exit status:",
        "\n  6    the file or the store cannot be used",
    ] {
        assert!(help.contains(text), "{text} is missing:\n{help}");
    }
    assert!(!help.contains("second-start"), "{help}");
}

#[test]
fn without_a_command_the_help_is_shown_and_the_status_is_not_zero() {
    let output = zoho(&[]).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr(&output).contains("Usage: zoho"));
    assert!(output.stdout.is_empty());
}

#[test]
fn a_mistake_on_the_command_line_is_named() {
    let output = zoho(&["demo", "--keeep"]).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr(&output).contains("--keeep"));
}
