//! The sandbox from outside: over HTTP, through its pages, and as a program.
#![expect(
    clippy::unwrap_used,
    reason = "a test that meets something unexpected should fail on the spot, helpers included"
)]

mod accounts;
mod authorize_page;
mod binary;
mod bounds;
mod browser;
mod crm_query;
mod crm_records;
mod faults;
mod hosts;
mod limits;
mod official_python;
mod support;

/// A module that is not listed above would not run.
#[test]
fn every_file_is_listed() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it");
    let listed = include_str!("main.rs");
    for file in std::fs::read_dir(folder).unwrap() {
        let name = file.unwrap().file_name().into_string().unwrap();
        let name = name.trim_end_matches(".rs");
        assert!(
            name == "main" || listed.contains(&format!("mod {name};")),
            "{name} is not listed"
        );
    }
}
