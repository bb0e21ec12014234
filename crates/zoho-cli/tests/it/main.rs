//! The program as people start it. One binary for all tests of the crate; a module per command.
#![expect(
    clippy::unwrap_used,
    reason = "a helper of tests that fails, fails the test"
)]

mod command_line;
mod demo;
mod support;
mod tokens_copy;

/// A file that is missing above would be compiled by nobody and fail in silence.
#[test]
fn every_file_of_this_folder_is_a_module() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it");
    for entry in std::fs::read_dir(folder).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        let Some(module) = name.strip_suffix(".rs") else {
            continue;
        };
        let line = format!("mod {module};");
        assert!(
            module == "main" || include_str!("main.rs").contains(&line),
            "{name} is not listed in main.rs"
        );
    }
}
