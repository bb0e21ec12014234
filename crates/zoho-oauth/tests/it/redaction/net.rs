//! What is printed, and the search in it.

use std::fmt::{Debug, Write as _};
use std::io;
use std::sync::{Arc, Mutex};

use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::fmt::format::FmtSpan;
use tracing_subscriber::util::SubscriberInitExt;
use zoho_oauth::{AccessToken, ClientSecret, Error, GrantToken, OAuthToken, RefreshToken};

use crate::accounts::whole;

/// Everything that was printed, and everything that must not have been.
#[derive(Clone, Default)]
pub(super) struct Net(Arc<Mutex<Caught>>);

#[derive(Default)]
struct Caught {
    printed: Vec<u8>,
    secrets: Vec<String>,
}

impl io::Write for Net {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().printed.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Net {
    /// Catches what this process logs, on all its threads, also by way of the crate `log`.
    pub(super) fn over_the_process() -> Self {
        let net = Self::default();
        let log = net.clone();
        tracing_subscriber::fmt()
            .with_max_level(LevelFilter::TRACE)
            .with_span_events(FmtSpan::FULL)
            .with_ansi(false)
            .with_writer(move || log.clone())
            .finish()
            .init();
        net
    }

    pub(super) fn print(&self, value: impl Debug) {
        let text = format!("{value:?} {value:#?}\n");
        self.0
            .lock()
            .unwrap()
            .printed
            .extend_from_slice(text.as_bytes());
    }

    pub(super) fn error(&self, error: &Error) {
        self.print(format_args!("{}", whole(error)));
        if let Some(token) = error.unsaved_token() {
            self.record(token);
        }
    }

    /// Prints an outcome, and keeps its error, which is what is wanted here.
    pub(super) fn outcome<T: Debug>(&self, outcome: &Result<T, Error>) {
        self.print(outcome);
        if let Err(error) = outcome {
            self.error(error);
        }
    }

    /// Prints an outcome that must be an error of this code.
    #[track_caller]
    pub(super) fn refusal<T: Debug>(&self, code: &str, outcome: &Result<T, Error>) {
        self.outcome(outcome);
        match outcome {
            Ok(_) => panic!("it was not refused with {code}"),
            Err(error) => assert_eq!(error.code().as_str(), code, "{error:?}"),
        }
    }

    pub(super) fn secret(&self, secret: &str) {
        assert!(secret.len() > 5, "too short to be searched for");
        self.0.lock().unwrap().secrets.push(secret.to_owned());
    }

    pub(super) fn record(&self, token: &OAuthToken) {
        self.print(token);
        let secrets = [
            token.access_token.as_ref().map(AccessToken::expose_secret),
            token
                .refresh_token
                .as_ref()
                .map(RefreshToken::expose_secret),
            token.grant_token.as_ref().map(GrantToken::expose_secret),
            token
                .client_secret
                .as_ref()
                .map(ClientSecret::expose_secret),
        ];
        secrets.into_iter().flatten().for_each(|s| self.secret(s));
    }

    /// A copy: whoever panics with the original would stop those who log at the same moment.
    fn caught(&self) -> (String, Vec<String>) {
        let caught = self.0.lock().unwrap();
        let printed = String::from_utf8_lossy(&caught.printed);
        (printed.into_owned(), caught.secrets.clone())
    }

    /// Fails if a secret was printed, and if one of `heard` was not: then something that logs was
    /// not listened to.
    pub(super) fn search(&self, heard: &[&str]) {
        let (printed, secrets) = self.caught();
        for words in ["refreshed"].iter().chain(heard) {
            assert!(printed.contains(words), "`{words}` was not caught");
        }
        assert!(secrets.len() > 50, "{} secrets", secrets.len());
        self.search_for_secrets();
    }

    /// As [`search`](Self::search), where it was no whole life.
    pub(super) fn search_for_secrets(&self) {
        let (printed, secrets) = self.caught();
        for secret in secrets {
            // A part of a secret is too much as well.
            let part = &secret[secret.len() - secret.len().min(12)..];
            for form in [part.to_owned(), numbers(part), hexadecimal(part)] {
                if let Some(at) = printed.find(&form) {
                    let mut from = at.saturating_sub(200);
                    while !printed.is_char_boundary(from) {
                        from -= 1;
                    }
                    panic!("a secret was printed after: {}", &printed[from..at]);
                }
            }
        }
    }
}

/// As `Debug` prints the bytes.
fn numbers(text: &str) -> String {
    let list = format!("{:?}", text.as_bytes());
    list.trim_matches(['[', ']']).to_owned()
}

fn hexadecimal(text: &str) -> String {
    text.bytes().fold(String::new(), |mut digits, byte| {
        write!(digits, "{byte:02x}").unwrap();
        digits
    })
}
