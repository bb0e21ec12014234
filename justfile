# Short names for what the project is worked on with; none knows more than the command it calls.

# List the recipes.
default:
    @just --list

# Compile everything, quickly.
check:
    cargo check --workspace --all-targets --all-features

# Bring what the tests need, then run everything.
test *ARGS:
    cargo xtask test {{ARGS}}

# Run the tests of one crate, or those whose name contains a word.
t *ARGS:
    cargo nextest run --all-features {{ARGS}}

# Format the sources.
fmt:
    cargo fmt --all

# Lint with warnings as errors.
lint:
    cargo xtask test --only lints

# Build the documentation and open it.
doc:
    cargo doc --workspace --no-deps --all-features --open

# Check licences, banned crates and sources.
deny:
    cargo xtask test --only deps

# Check for known vulnerabilities (needs cargo-deny; fetches the advisory database).
advisories:
    cargo deny check advisories

# Measure, beside what people use today.
bench *ARGS:
    cargo xtask bench {{ARGS}}

# Start the databases that tests share, for tests run by hand.
servers *ARGS:
    cargo xtask servers {{ARGS}}

# Start Zoho's stand-in on this machine.
sandbox *ARGS:
    cargo run --package zoho-sandbox -- {{ARGS}}
