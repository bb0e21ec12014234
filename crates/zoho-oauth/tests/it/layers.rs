//! The files of `auth` import each other in one direction, as the module's documentation says.

use std::fs;
use std::path::Path;

/// The names of files in the documentation of the module, in their order.
fn documented(module: &str) -> Vec<&str> {
    let list = module.lines().take_while(|line| line.starts_with("//!"));
    let list = list.skip_while(|line| !line.starts_with("//! - `"));
    let names = list.flat_map(|line| line.split('`').skip(1).step_by(2));
    names.collect()
}

/// The files that a file imports from beside it, without those of its tests.
fn imported(text: &str) -> Vec<&str> {
    let code = text.split("#[cfg(test)]").next().unwrap();
    let paths = code.split("super::").skip(1);
    let names = paths.flat_map(|path| match path.strip_prefix('{') {
        Some(list) => list.split('}').next().unwrap().split(", ").collect(),
        None => vec![path],
    });
    let is_part = |c: char| c.is_alphanumeric() || c == '_';
    let names = names.map(|name| name.split(|c| !is_part(c)).next().unwrap());
    names.collect()
}

#[test]
fn each_file_imports_only_files_before_it_in_the_list() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/auth");
    let module = fs::read_to_string(folder.join("mod.rs")).unwrap();
    let order = documented(&module);
    let place = |name: &str| order.iter().position(|known| *known == name);
    let mut files = 0;
    for file in fs::read_dir(&folder).unwrap() {
        let path = file.unwrap().path();
        let name = path.file_stem().unwrap().to_str().unwrap();
        if path.is_dir() || name == "mod" {
            continue;
        }
        let own = place(name).unwrap_or_else(|| panic!("`{name}` is not in the list"));
        let text = fs::read_to_string(&path).unwrap();
        for import in imported(&text) {
            let there = place(import).unwrap_or_else(|| panic!("`{name}` imports `{import}`"));
            assert!(
                there < own,
                "`{name}` imports `{import}`, which comes later"
            );
        }
        files += 1;
    }
    assert_eq!(files, order.len());
}
