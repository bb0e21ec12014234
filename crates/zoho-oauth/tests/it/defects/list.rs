//! `docs/regressions.md` names a test for each of its lines: that test must be there.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

const DEFECTS: usize = 83;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// The file that holds the module `path` (as `a::b::c`), and the modules inside that file.
fn file_of<'a>(source: &Path, modules: &[&'a str]) -> Option<(String, Vec<&'a str>)> {
    for length in (0..=modules.len()).rev() {
        let (outer, inner) = modules.split_at(length);
        let stem: PathBuf = outer.iter().collect();
        let names = match outer {
            [] => vec![source.join("main.rs"), source.join("lib.rs")],
            _ => vec![
                source.join(&stem).with_extension("rs"),
                source.join(&stem).join("mod.rs"),
            ],
        };
        let text = names
            .iter()
            .find_map(|name| std::fs::read_to_string(name).ok());
        if let Some(text) = text {
            return Some((text, inner.to_vec()));
        }
    }
    None
}

/// Whether `text` has a test, or a rule of the conformance kit, of this name.
fn has_test(text: &str, name: &str) -> bool {
    if text.contains(&format!("pub async fn {name}(factory: &StoreFactory)")) {
        return true;
    }
    let lines: Vec<_> = text.lines().map(str::trim).collect();
    let here = |line: &str| {
        let line = line.strip_prefix("async ").unwrap_or(line);
        line.starts_with(&format!("fn {name}("))
    };
    lines.iter().enumerate().any(|(number, line)| {
        let before = lines[..number].iter().rev();
        let mut attributes = before.take_while(|line| line.starts_with("#["));
        here(line)
            && attributes
                .any(|line| line.starts_with("#[test]") || line.starts_with("#[tokio::test"))
    })
}

fn check(path: &str) -> Result<(), String> {
    let parts: Vec<_> = path.split("::").collect();
    let [krate, modules @ .., name] = &parts[..] else {
        return Err(format!("`{path}` is not a path"));
    };
    let folder = root().join("crates").join(krate.replace('_', "-"));
    let (source, modules) = match modules {
        ["it", modules @ ..] => (folder.join("tests/it"), modules),
        _ => (folder.join("src"), modules),
    };
    let (text, inner) =
        file_of(&source, modules).ok_or_else(|| format!("`{path}`: there is no such file"))?;
    if let Some(module) = inner
        .iter()
        .find(|name| !text.contains(&format!("mod {name} {{")))
    {
        return Err(format!("`{path}`: there is no module `{module}`"));
    }
    if !has_test(&text, name) {
        return Err(format!("`{path}`: there is no such test"));
    }
    Ok(())
}

#[test]
fn every_defect_has_a_test_that_is_there() {
    let text = std::fs::read_to_string(root().join("docs/regressions.md")).unwrap();
    let mut seen = BTreeSet::new();
    for line in text.lines() {
        let cells: Vec<_> = line.split('|').map(str::trim).collect();
        let ["", number, elsewhere, here, tests, ""] = &cells[..] else {
            continue;
        };
        let Ok(number) = number.parse::<usize>() else {
            continue;
        };
        assert!(!elsewhere.is_empty() && !here.is_empty(), "{number}");
        assert!(seen.insert(number), "{number} is there twice");
        // Between backticks, that is every second piece.
        let paths: Vec<_> = tests.split('`').skip(1).step_by(2).collect();
        assert!(!paths.is_empty(), "{number} has no test");
        for path in paths {
            if let Err(wrong) = check(path) {
                panic!("defect {number}: {wrong}");
            }
        }
    }
    assert_eq!(seen, (1..=DEFECTS).collect(), "the list has gaps");
}

#[test]
fn a_test_that_is_not_there_is_noticed() {
    let this = "zoho_oauth::it::defects::list::a_test_that_is_not_there_is_noticed";
    check(this).unwrap();
    check("zoho_oauth::auth::decide::tests::a_wait_ends_by_itself").unwrap();
    check("zoho_oauth::conformance::basic::ids::ids_rise_past_9_and_99").unwrap();
    for wrong in [
        "zoho_oauth::it::defects::list::check",
        "zoho_oauth::it::defects::list::no_such_test",
        "zoho_oauth::it::defects::no_such_module::every_defect_has_a_test_that_is_there",
        "zoho_oauth::it::no_such_file::every_defect_has_a_test_that_is_there",
        "no_such_crate::it::defects::list::every_defect_has_a_test_that_is_there",
        "every_defect_has_a_test_that_is_there",
    ] {
        assert!(check(wrong).is_err(), "{wrong}");
    }
}
