//! What a run tells, and its exit status.

use std::process::Output;

use crate::support::Stage;

/// A cargo whose tests answer as both runners do.
const CARGO: &str = r#"
case "$1" in
test)
    echo "arguments=$*"
    echo 'test result: ok. 2 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.00s' ;;
nextest)
    echo "arguments=$*"
    echo "without=$ZOHO_TEST_WITHOUT driver=$ZOHO_TEST_CHROMEDRIVER own=$CARGO_PKG_NAME"
    echo '     Summary [   0.1s] 7 tests run: 6 passed, 1 failed, 3 skipped' >&2
    exit 100 ;;
esac"#;

fn text(output: &Output) -> (String, String) {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (text(&output.stdout), text(&output.stderr))
}

/// The last line has the totals of both runners; a failed part is named and makes the run fail.
#[test]
fn totals_come_last_and_a_failure_shows_in_the_exit_status() {
    let stage = Stage::new(CARGO);
    stage.program("cargo-nextest", "");
    let left_out = "browser,python,node,deps,mysql,postgres,redis,aws";
    let arguments = ["test", "--without", left_out];
    let output = stage
        .xtask(&arguments)
        .env("CARGO_PKG_NAME", "xtask")
        .output()
        .unwrap();
    let (out, _) = text(&output);
    assert_eq!(output.status.code(), Some(1), "{out}");
    assert!(
        out.ends_with("failed parts: tests\n8 passed, 1 failed, 4 skipped\n"),
        "{out}"
    );
    let told = format!("without={left_out} driver= own=\n");
    assert!(out.contains(&told), "{out}");
    for name in left_out.split(',') {
        let line = format!("{name:<10} NOT RUN switched off by --without\n");
        assert!(out.contains(&line), "{out}");
    }
}

/// The tests are told where the programs are that they need.
#[test]
fn a_provided_program_reaches_the_tests() {
    let stage = Stage::new(CARGO);
    for name in ["cargo-nextest", "chromium", "chromedriver"] {
        stage.program(name, "");
    }
    let output = stage
        .xtask(&["test", "--only", "tests", "--without"])
        .arg("python,node,mysql,postgres,redis,aws")
        .output()
        .unwrap();
    let driver = format!(" driver={} ", stage.path().join("chromedriver").display());
    let (out, _) = text(&output);
    assert!(out.contains(&driver), "{out}");
}

/// What is left out takes along the tests that cannot do without it, known by their names.
#[test]
fn tests_of_what_is_left_out_do_not_run() {
    let stage = Stage::new(CARGO);
    let mut run = stage.xtask(&["test", "--only", "tests", "--without"]);
    run.arg("browser,python,node,mysql,postgres,redis");
    let mut run = |without: &str| text(&run.args(["--without", without]).output().unwrap()).0;
    let words = [
        "mysql",
        "mariadb",
        "galera",
        "postgres",
        "pgbouncer",
        "redis",
    ];
    let words = [&words[..], &["aws", "secrets_manager", "moto"]].concat();

    let skipped = format!("--examples -- --skip {}\n", words.join(" --skip "));
    let out = run("aws");
    assert!(out.contains(&skipped), "{out}");

    stage.program("cargo-nextest", "");
    let filter = format!(" --filterset not test(/{}/)\n", words.join("|"));
    let out = run("aws");
    assert!(out.contains(&filter), "{out}");
}

/// Continuous integration cannot leave anything out, nor can a name be mistyped unnoticed.
#[test]
fn a_refused_run_starts_nothing() {
    let stage = Stage::new("echo started >&2");
    let refused = [
        (
            stage
                .xtask(&["test", "--without", "browser"])
                .env("CI", "true")
                .output()
                .unwrap(),
            "CI",
        ),
        (
            stage
                .xtask(&["test", "--without", "brower"])
                .output()
                .unwrap(),
            "brower",
        ),
    ];
    for (output, named) in refused {
        let (_, err) = text(&output);
        assert_eq!(output.status.code(), Some(1), "{err}");
        assert!(err.contains(named) && !err.contains("started"), "{err}");
    }
}
