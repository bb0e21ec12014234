//! The client against the sandbox, which shares no type with it, and against a stub where the
//! bytes on the wire matter.
#![expect(
    clippy::unwrap_used,
    reason = "a helper of tests that fails, fails the test"
)]

mod failures;
mod login;
mod paging;
mod queries;
mod redaction;
mod refused;
mod requests;
mod returning;
mod support;
mod troubleshooting;
mod wire;
mod writes;

/// A file that is missing above would be compiled by nobody and fail in silence.
#[test]
fn every_file_of_this_folder_is_a_module() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it");
    for entry in std::fs::read_dir(folder).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        let module = name.strip_suffix(".rs").unwrap();
        let line = format!("mod {module};");
        assert!(
            module == "main" || include_str!("main.rs").contains(&line),
            "{name} is not listed in main.rs"
        );
    }
}
