//! `zoho demo`: it tells the story, checks it, leaves nothing behind, and fails when it should.

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _};
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::Value;
use tempfile::tempdir;

use crate::support::{stderr, stdout, zoho};

/// The whole output, with the times taken out.
const STORY: &str = include_str!("demo.txt");

/// Puts `N.N` in the place of times, and leaves out the line that depends on how fast this machine
/// is: whether the stored token was still good at the second start.
fn without_times(story: &str) -> String {
    let timeless = |line: &str| {
        let words = line.split(' ').map(|word| {
            let digits = word.trim_start_matches('(');
            let decimal = digits.split_once('.').is_some_and(|(whole, part)| {
                let number = |text: &str| text.parse::<u32>().is_ok();
                number(whole) && number(part)
            });
            if decimal {
                word.replace(digits, "N.N")
            } else {
                word.to_owned()
            }
        });
        words.collect::<Vec<_>>().join(" ")
    };
    let same = story
        .lines()
        .filter(|line| !line.starts_with("   The access token in the file"));
    same.map(|line| timeless(line) + "\n").collect()
}

fn is_empty(folder: &Path) -> bool {
    fs::read_dir(folder).unwrap().next().is_none()
}

#[test]
fn it_tells_the_story_and_leaves_nothing_behind() {
    let folder = tempdir().unwrap();
    let output = zoho(&["demo", "--data-dir", folder.path().to_str().unwrap()])
        .output()
        .unwrap();
    assert_eq!(
        output.status.code(),
        Some(0),
        "{}{}",
        stdout(&output),
        stderr(&output)
    );
    assert_eq!(stderr(&output), "");
    assert_eq!(without_times(stdout(&output)), STORY);
    assert!(STORY.lines().count() <= 45);
    assert!(is_empty(folder.path()));
}

#[test]
fn the_json_holds_what_was_measured_and_the_story_is_on_standard_error() {
    let folder = tempdir().unwrap();
    let args = [
        "demo",
        "--json",
        "--keep",
        "--data-dir",
        folder.path().to_str().unwrap(),
    ];
    let output = zoho(&args).output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert_eq!(stdout(&output).lines().count(), 1);
    let report: Value = serde_json::from_str(stdout(&output)).unwrap();
    for (pointer, expected) in [
        ("/ok", Value::from(true)),
        ("/tasks", 50.into()),
        ("/login/code_exchanges", 1.into()),
        ("/login/records_in_file", 1.into()),
        ("/leads/created", 1.into()),
        ("/expiry/old_token_refused", 1.into()),
        ("/expiry/tasks_served", 50.into()),
        ("/expiry/different_tokens", 1.into()),
        ("/expiry/refreshes", 1.into()),
        ("/restart/code_exchanges", 0.into()),
        ("/end/revocations", 1.into()),
        ("/end/refresh_token_refused", 1.into()),
        ("/end/records_in_file", 0.into()),
    ] {
        assert_eq!(report.pointer(pointer), Some(&expected), "{pointer}");
    }
    let claims = report["claims"].as_array().unwrap();
    assert!(claims.iter().all(|claim| claim["held"] == true));
    let said = stderr(&output)
        .lines()
        .filter(|line| line.starts_with("   ok  "));
    assert_eq!(said.count(), claims.len());

    let file = Path::new(report["file"].as_str().unwrap());
    assert!(file.starts_with(folder.path()));
    assert!(file.is_file(), "`--keep` did not keep it");
    assert!(stderr(&output).contains(file.to_str().unwrap()));

    // A token of the sandbox is `1000.`, 32 hexadecimal digits, a dot and 32 more.
    for text in [stdout(&output), stderr(&output)] {
        let secret = text
            .split(|c: char| !c.is_ascii_alphanumeric())
            .find(|word| word.len() >= 24 && word.bytes().any(|byte| byte.is_ascii_digit()));
        assert_eq!(secret, None);
        assert!(!text.contains("1000."), "{text}");
    }
}

#[test]
fn a_folder_that_cannot_be_used_is_named_with_a_hint() {
    let folder = tempdir().unwrap();
    let file = folder.path().join("file");
    fs::write(&file, "").unwrap();
    for place in [folder.path().join("missing"), file] {
        let place = place.to_str().unwrap();
        let output = zoho(&["demo", "--json", "--data-dir", place])
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(6));
        let text = stderr(&output);
        assert!(
            text.starts_with(&format!("error: cannot make a folder in `{place}`\n")),
            "{text}"
        );
        assert!(text.contains("\nhint: Name a folder"), "{text}");
        assert!(output.stdout.is_empty());
    }
}

#[test]
fn the_second_start_fails_without_the_file_and_asks_for_a_login_without_the_user() {
    let folder = tempdir().unwrap();
    let start = |file: &Path| {
        let args = [
            "demo-second-start",
            "--user",
            "nobody@example.com:1",
            "--file",
        ];
        let urls = [
            "--accounts-url",
            "http://127.0.0.1:9",
            "--api-url",
            "http://127.0.0.1:9",
        ];
        zoho(&args).arg(file).args(urls).output().unwrap()
    };
    let output = start(&folder.path().join("missing/tokens.db"));
    assert_eq!(output.status.code(), Some(6), "{}", stderr(&output));
    let output = start(&folder.path().join("tokens.db"));
    assert_eq!(output.status.code(), Some(3), "{}", stderr(&output));
    let text = stderr(&output);
    assert!(
        text.contains("[login_required]") && text.contains("\nhint: Send the person"),
        "{text}"
    );
    assert!(!text.contains("nobody@"), "{text}");
}

#[test]
fn who_closes_the_pipe_ends_the_demo_in_silence() {
    let folder = tempdir().unwrap();
    let mut child = zoho(&["demo", "--data-dir", folder.path().to_str().unwrap()])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut first = [0];
    let mut pipe = child.stdout.take().unwrap();
    pipe.read_exact(&mut first).unwrap();
    drop(pipe);
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(141));
    assert_eq!(stderr(&output), "");
    assert!(is_empty(folder.path()));
}

#[cfg(unix)]
#[test]
fn an_interrupt_ends_it_and_takes_the_folder_away() {
    let folder = tempdir().unwrap();
    let mut child = zoho(&["demo", "--data-dir", folder.path().to_str().unwrap()])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    assert!(lines.any(|line| line.unwrap().contains("Waiting")));
    assert!(!is_empty(folder.path()));
    let pid = child.id().to_string();
    let sent = Command::new("kill").args(["-INT", &pid]).status().unwrap();
    assert!(sent.success());
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(130));
    assert_eq!(stderr(&output), "");
    assert!(is_empty(folder.path()));
}

#[test]
fn colour_is_an_addition_that_can_be_switched_off() {
    let folder = tempdir().unwrap();
    let missing = folder.path().join("missing");
    let error = |variable: &str| {
        let output = zoho(&["demo", "--data-dir", missing.to_str().unwrap()])
            .env(variable, "1")
            .output()
            .unwrap();
        stderr(&output).to_owned()
    };
    assert!(error("CLICOLOR_FORCE").contains('\u{1b}'));
    assert!(!error("NO_COLOR").contains('\u{1b}'));
}
