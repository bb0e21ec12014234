//! `docs/troubleshooting.md`, held to the code: an entry for every error code and no other, and
//! every text that it quotes is one that a test has just produced. Shared with the tests of `zohocrm`.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// The entries of the part under `## {part}`: code, then quoted texts and all lines.
fn entries(part: &str) -> BTreeMap<String, (BTreeSet<String>, String)> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/troubleshooting.md");
    let whole = std::fs::read_to_string(path).unwrap();
    let heading = format!("\n## {part}\n");
    let (_, rest) = whole.split_once(&heading).expect("the part is there");
    let part = rest.split("\n## ").next().unwrap_or(rest);
    let mut entries = BTreeMap::new();
    for entry in part.split("\n### ").skip(1) {
        let (title, body) = entry.split_once('\n').unwrap();
        let code = title.trim_matches('`').to_owned();
        let quoted = body.split("```").skip(1).step_by(2);
        let texts = quoted
            .flat_map(|block| block.lines().skip(1))
            .map(str::to_owned)
            .collect();
        let twice = entries.insert(code, (texts, body.to_owned()));
        assert!(twice.is_none(), "`{title}` is there twice");
    }
    entries
}

/// Fails where the part and the code differ. `codes` are all codes of a crate, `produced` the texts
/// that its errors have, each with its code.
pub(crate) fn check(part: &str, codes: &[&str], produced: &BTreeSet<(String, String)>) {
    let entries = entries(part);
    let written: BTreeSet<_> = entries.keys().map(String::as_str).collect();
    let codes: BTreeSet<_> = codes.iter().copied().collect();
    assert_eq!(written, codes, "the entries are not the codes");
    for (code, (_, body)) in &entries {
        for word in ["**Cause.** ", "**Remedy.** "] {
            assert!(body.contains(word), "`{code}` has no {word}");
        }
    }
    let quoted: BTreeSet<_> = entries
        .into_iter()
        .flat_map(|(code, (texts, _))| texts.into_iter().map(move |text| (code.clone(), text)))
        .collect();
    for code in codes {
        let has = |(of, _): &(String, String)| of == code;
        assert!(quoted.iter().any(has), "`{code}` quotes no text");
    }
    let list = |texts: &BTreeSet<&(String, String)>| {
        let lines = texts.iter().map(|(code, text)| format!("{code}: {text}\n"));
        lines.collect::<String>()
    };
    let invented: BTreeSet<_> = quoted.difference(produced).collect();
    assert!(invented.is_empty(), "nobody says:\n{}", list(&invented));
    let missing: BTreeSet<_> = produced.difference(&quoted).collect();
    assert!(missing.is_empty(), "not quoted:\n{}", list(&missing));
}
