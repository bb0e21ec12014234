//! `zoho tokens copy`: it moves tokens, makes nothing where it should not, prints no secret, and
//! does what `docs/moving.md` says.

#[cfg(all(
    unix,
    feature = "mysql",
    feature = "postgres",
    feature = "redis",
    feature = "secrets-manager"
))]
mod servers;

use std::fs;
use std::path::Path;
use std::process::Output;

use rusqlite::Connection;
use serde_json::{Value, json};
use tempfile::tempdir;

use crate::support::{stderr, stdout, zoho};

/// A token file as Zoho's Python SDK writes it.
const FILE: &str = "id,user_name,client_id,client_secret,refresh_token,access_token,grant_token,\
    expiry_time,redirect_uri,api_domain\r\n\
    1,ann@example.com:1,c,secret-s,secret-r1,secret-a1,,1700000000000,,\r\n\
    2,bob@example.com:1,c,secret-s,secret-r2,,,,,\r\n\
    10,kim@example.com:1,c,secret-s,secret-r3,secret-a3,,1700000000000,,\r\n";

/// Writes a file that nobody else may read, so that nothing is to be warned of.
fn write(path: &Path, text: impl AsRef<[u8]>) {
    fs::write(path, text).unwrap();
    #[cfg(unix)]
    set_mode(path, 0o600);
}

#[cfg(unix)]
fn set_mode(path: &Path, mode: u32) {
    let mode = std::os::unix::fs::PermissionsExt::from_mode(mode);
    fs::set_permissions(path, mode).unwrap();
}

fn run(folder: &Path, arguments: &[&str]) -> Output {
    run_with(folder, arguments, &[])
}

/// With these variables in its environment, none of which is printed.
fn run_with(folder: &Path, arguments: &[&str], variables: &[(&str, &str)]) -> Output {
    let mut command = zoho(arguments);
    command.current_dir(folder).envs(variables.iter().copied());
    let output = command.output().unwrap();
    for printed in [stdout(&output), stderr(&output)] {
        assert!(!printed.contains("secret-"), "{printed}");
        assert!(!printed.contains("@example.com"), "{printed}");
    }
    output
}

fn copy(folder: &Path, from: &str, to: &str, more: &[&str]) -> Output {
    let mut arguments = vec!["tokens", "copy", "--from", from, "--to", to];
    arguments.extend(more);
    run(folder, &arguments)
}

#[test]
fn tokens_move_from_a_file_to_a_database_and_back() {
    let folder = tempdir().unwrap();
    let folder = folder.path();
    write(&folder.join("old.txt"), FILE);
    let output = copy(folder, "file:old.txt", "sqlite:new.db", &["--json"]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let report: Value = serde_json::from_str(stdout(&output)).unwrap();
    assert_eq!(
        report,
        json!({
            "complete": true, "confirmed": report["confirmed"], "dry_run": false, "read": 3, "inserted": 3, "updated": 0,
            "unchanged": 0, "verified": 3, "joined": {}, "renumbered": {}, "kept_newer": [],
            "copied_again": [], "gone": [], "left_out": [], "missing": [], "different": {},
            "refused": {}, "unread": 0, "unreadable": [], "target_unreadable": [],
        })
    );
    let output = copy(folder, "sqlite:new.db", "file:back.txt", &[]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert_eq!(stderr(&output), "");
    let there_and_back = fs::read_to_string(folder.join("back.txt")).unwrap();
    let rows = |text: &str| {
        let rows = text.lines().skip(1).map(str::to_owned);
        rows.collect::<Vec<_>>()
    };
    assert_eq!(rows(&there_and_back), rows(FILE));
}

#[test]
fn a_dry_run_makes_no_store() {
    let folder = tempdir().unwrap();
    let folder = folder.path();
    write(&folder.join("old.txt"), FILE);
    let output = copy(folder, "file:old.txt", "sqlite:new.db", &["--dry-run"]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert!(stdout(&output).contains("3 would be inserted\n"));
    assert!(!folder.join("new.db").exists());
    assert_eq!(fs::read_to_string(folder.join("old.txt")).unwrap(), FILE);
}

/// Neither a source nor a dry run changes a database, least of all one of somebody else.
#[test]
fn a_database_that_is_read_stays_as_it_is() {
    let folder = tempdir().unwrap();
    let folder = folder.path();
    write(&folder.join("old.txt"), FILE);
    let orders = Connection::open(folder.join("orders.db")).unwrap();
    let table = "CREATE TABLE orders (number int PRIMARY KEY)";
    orders.execute_batch(table).unwrap();
    orders.close().unwrap();
    let before = fs::read(folder.join("orders.db")).unwrap();
    let output = copy(folder, "sqlite:orders.db", "file:new.txt", &[]);
    assert_eq!(output.status.code(), Some(2), "{}", stdout(&output));
    let said = stderr(&output);
    assert!(
        said.contains("there is no table `oauthtoken` in `orders.db`"),
        "{said}"
    );
    let output = copy(folder, "file:old.txt", "sqlite:orders.db", &["--dry-run"]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert!(stdout(&output).contains("3 would be inserted\n"));
    assert_eq!(fs::read(folder.join("orders.db")).unwrap(), before);
    assert!(!folder.join("new.txt").exists());
}

/// Everything in these folders, with its content.
fn snapshot(folders: &[&Path]) -> Vec<(std::path::PathBuf, Vec<u8>)> {
    let mut all = Vec::new();
    for folder in folders {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let content = if path.is_dir() {
                Vec::new()
            } else {
                fs::read(&path).unwrap()
            };
            all.push((path, content));
        }
    }
    all.sort();
    all
}

/// A source is only read, and a dry run changes nothing anywhere: no side folder, no log.
#[test]
fn nothing_is_left_next_to_a_source_or_by_a_dry_run() {
    let folder = tempdir().unwrap();
    let sources = folder.path().join("sources");
    let targets = folder.path().join("targets");
    for folder in [&sources, &targets] {
        fs::create_dir(folder).unwrap();
        fs::write(folder.join("old.txt"), FILE).unwrap();
        // A database with a write-ahead log, as our stores leave it.
        let name = folder.file_name().unwrap().to_str().unwrap();
        let to = format!("sqlite:{name}/old.db");
        let output = copy(
            folder.parent().unwrap(),
            &format!("file:{name}/old.txt"),
            &to,
            &[],
        );
        assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    }
    let before = snapshot(&[&sources, &targets]);
    assert_eq!(before.len(), 4, "{before:?}");
    let of_sources = snapshot(&[&sources]);
    let from = ["file:sources/old.txt", "sqlite:sources/old.db"];
    for from in from {
        for (kind, name) in [
            ("file", "old.txt"),
            ("sqlite", "old.db"),
            ("file", "new.txt"),
            ("sqlite", "new.db"),
        ] {
            let to = format!("{kind}:targets/{name}");
            let output = copy(folder.path(), from, &to, &["--dry-run"]);
            assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
            assert!(snapshot(&[&sources, &targets]) == before, "{from} {to}");
        }
    }
    for from in from {
        let output = copy(folder.path(), from, "file:targets/new.txt", &[]);
        assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
        assert!(snapshot(&[&sources]) == of_sources, "{from}");
    }
}

/// The file of another user, or on a read-only mount.
#[cfg(target_os = "linux")]
#[test]
fn a_source_that_cannot_be_written_is_copied() {
    let folder = tempdir().unwrap();
    let source = folder.path().join("source");
    fs::create_dir(&source).unwrap();
    fs::write(source.join("old.txt"), FILE).unwrap();
    // Characters that mean something in a URI.
    let database = "sqlite:source/a%20b #1?.db";
    let output = copy(folder.path(), "file:source/old.txt", database, &[]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let zoho = zoho(&[]).get_program().to_owned();
    let script = "mount --bind source source && mount -o remount,bind,ro source && \
        ! touch source/x 2>/dev/null && \
        exec \"$0\" tokens copy --from \"$1\" --to \"$2\"";
    for (from, to) in [
        ("file:source/old.txt", "file:1.txt"),
        (database, "file:2.txt"),
    ] {
        let mut command = std::process::Command::new("unshare");
        command.args(["--map-root-user", "--mount", "sh", "-c", script]);
        command.arg(&zoho).args([from, to]);
        let output = command.current_dir(folder.path()).output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{from}: {}", stderr(&output));
        assert!(
            stdout(&output).contains("3 inserted"),
            "{}",
            stdout(&output)
        );
    }
}

#[test]
fn what_is_not_copied_is_listed_and_the_status_says_so() {
    let folder = tempdir().unwrap();
    let folder = folder.path();
    write(&folder.join("old.txt"), FILE);
    let other = FILE.replace("secret-r2", "secret-other");
    write(&folder.join("new.txt"), other);
    let output = copy(folder, "file:old.txt", "file:new.txt", &[]);
    assert_eq!(output.status.code(), Some(1));
    assert!(stdout(&output).contains("1 different in the target: 2 (refresh_token)\n"));
    assert!(stderr(&output).starts_with("error: not everything"));

    let ties = &["--source-wins-ties"];
    let output = copy(folder, "file:old.txt", "file:new.txt", ties);
    assert_eq!(output.status.code(), Some(0), "{}", stdout(&output));
    assert_eq!(fs::read_to_string(folder.join("new.txt")).unwrap(), FILE);
}

/// What the library warns of is on standard error; standard output is data and stays what it is.
#[cfg(unix)]
#[test]
fn a_token_file_that_others_can_read_is_warned_of() {
    let folder = tempdir().unwrap();
    let folder = folder.path();
    let quiet = {
        write(&folder.join("old.txt"), FILE);
        let output = copy(folder, "file:old.txt", "sqlite:first.db", &["--json"]);
        assert_eq!(stderr(&output), "");
        stdout(&output).to_owned()
    };
    set_mode(&folder.join("old.txt"), 0o644);
    let output = copy(folder, "file:old.txt", "sqlite:second.db", &["--json"]);
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(stdout(&output), quiet);
    let said = stderr(&output);
    assert!(said.starts_with("warning: "), "{said}");
    assert!(
        said.contains("mode 644") && said.contains("chmod 600"),
        "{said}"
    );
    assert_eq!(said.lines().count(), 1, "{said}");
}

/// With `-v` it says what it does, with `-vv` more, and at no level a secret or a name of a person.
#[test]
fn the_flag_v_shows_more_on_standard_error_alone() {
    let folder = tempdir().unwrap();
    let folder = folder.path();
    write(&folder.join("old.txt"), FILE);
    let mut lines = Vec::new();
    for flags in [&[][..], &["-v"], &["-vv"], &["-vvv"], &["--verbose"]] {
        let mut arguments = vec!["tokens", "copy", "--from", "file:old.txt"];
        arguments.extend(["--to", "sqlite:new.db", "--dry-run"]);
        arguments.extend(flags);
        // `run` searches for secrets and names.
        let output = run(folder, &arguments);
        assert_eq!(output.status.code(), Some(0), "{flags:?}");
        assert!(stdout(&output).contains("3 would be inserted\n"));
        let said = stderr(&output);
        assert!(said.lines().all(|line| !line.contains('\u{1b}')), "{said}");
        lines.push(said.lines().count());
        assert_eq!(
            !flags.is_empty(),
            said.contains("info: copied tokens"),
            "{said}"
        );
    }
    assert_eq!(lines[0], 0, "there is nothing to warn of");
    assert!(
        lines.is_sorted_by(|one, next| one <= next || *next == lines[1]),
        "{lines:?}"
    );
}

#[test]
fn a_copy_starts_after_an_id() {
    let folder = tempdir().unwrap();
    let folder = folder.path();
    write(&folder.join("old.txt"), FILE);
    let after = &["--start-after", "2", "--bring-back-deleted"];
    let output = copy(folder, "file:old.txt", "file:new.txt", after);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let copied = fs::read_to_string(folder.join("new.txt")).unwrap();
    assert_eq!(copied.lines().count(), 2, "the header and record 10");
    assert!(copied.contains("\n10,kim@example.com:1,"));
}

#[test]
fn a_store_that_is_mistyped_is_not_made_and_its_text_is_not_repeated() {
    let folder = tempdir().unwrap();
    let folder = folder.path();
    for (from, problem) in [
        ("oracle://user:secret-p@example.com/d", "a store is `file:`"),
        ("sdk_tokens.txt", "a store is `file:`"),
        ("file:", "no path behind `file:`"),
        ("file:typo.txt", "no file `typo.txt`"),
        ("sqlite:typo.db", "no file `typo.db`"),
    ] {
        let output = copy(folder, from, "file:new.txt", &[]);
        assert_eq!(output.status.code(), Some(2), "{from}");
        assert!(stderr(&output).contains(problem), "{}", stderr(&output));
        assert!(stderr(&output).contains("hint: "));
        assert_eq!(fs::read_dir(folder).unwrap().count(), 0, "{from}");
    }
}

/// What `docs/moving.md` says.
const BOOK: &str = include_str!("../../../../docs/moving.md");

/// The commands of the handbook about these stores, each with what it prints: on servers of this
/// kind, or without `://` and `secretsmanager:` in files of this machine.
fn commands_of_the_handbook(server: Option<&str>) -> Vec<(Vec<String>, String)> {
    // A block inside a list is indented.
    let book: String = BOOK
        .lines()
        .map(|line| line.trim_start().to_owned() + "\n")
        .collect();
    let mut commands = Vec::new();
    for block in book.split("```console\n").skip(1) {
        let block = block.split("```").next().unwrap();
        for part in block.split("$ ").skip(1) {
            let (command, expected) = part.split_once('\n').unwrap();
            // A shell takes the quotes away.
            let words = command.split(' ').map(|word| word.replace('\'', ""));
            let words: Vec<_> = words.collect();
            let is_meant = match server {
                Some(server) => command.contains(server),
                None => !command.contains("://") && !command.contains("secretsmanager:"),
            };
            if is_meant {
                commands.push((words, expected.to_owned()));
            }
        }
    }
    commands
}

#[test]
fn the_handbook_says_what_happens() {
    let folder = tempdir().unwrap();
    write(&folder.path().join("sdk_tokens.txt"), FILE);
    let commands = commands_of_the_handbook(None);
    assert_eq!(commands.len(), 3);
    for (words, expected) in commands {
        let words: Vec<_> = words.iter().map(String::as_str).collect();
        assert_eq!(words[0], "zoho");
        let output = run(folder.path(), &words[1..]);
        assert_eq!(output.status.code(), Some(0), "{words:?}");
        assert_eq!(told(&output), expected, "{words:?}");
    }
}

/// What the handbook shows of an output: not what is said of a source that has no second count.
fn told(output: &Output) -> String {
    let lines = stdout(output).lines();
    let lines = lines.filter(|line| !line.starts_with("the source has no second count"));
    lines.map(|line| line.to_owned() + "\n").collect()
}

/// Runs where the program is built without its features.
#[cfg(not(any(
    feature = "mysql",
    feature = "postgres",
    feature = "redis",
    feature = "secrets-manager"
)))]
#[test]
fn a_kind_that_is_left_out_names_its_feature() {
    let folder = tempdir().unwrap();
    for (store, feature) in [
        ("mysql:///", "mysql"),
        ("postgres://u:secret-p@h/d", "postgres"),
        ("postgresql:///", "postgres"),
        ("redis://", "redis"),
        ("rediss://", "redis"),
        ("secretsmanager:p", "secrets-manager"),
    ] {
        let output = copy(folder.path(), store, "file:new.txt", &[]);
        assert_eq!(output.status.code(), Some(1), "{store}");
        let expected = format!("built without the feature `{feature}`");
        assert!(stderr(&output).contains(&expected), "{}", stderr(&output));
        let hint = format!("--features {feature} ");
        assert!(stderr(&output).contains(&hint), "{}", stderr(&output));
    }
}
