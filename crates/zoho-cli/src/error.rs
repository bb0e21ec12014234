//! What ends a command: the one place where an error of a library becomes an exit status, a text
//! and a hint.

use std::error::Error as StdError;
use std::fmt;
use std::io;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use zohocrm::oauth;

/// The result of a command.
pub(crate) type Result<T, E = Failure> = std::result::Result<T, E>;

/// What `zoho --help` tells of [`Status`].
pub(crate) const STATUSES: &str = "\
Exit status:
  0    it was done
  1    it was not, or not all of it
  2    the command line or a setting is wrong
  3    a person must log in (again)
  4    the application's registration or permissions at Zoho do not fit
  5    Zoho asks to wait
  6    the file or the store cannot be used
  7    the network or the server failed
  130  interrupted
  141  nobody reads the output any more";

/// How the program ends. Numbers stay what they are: scripts decide by them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Status {
    NotDone = 1,
    Input = 2,
    Login = 3,
    Registration = 4,
    Wait = 5,
    Store = 6,
    Network = 7,
    /// 128 and the number of SIGINT, as shells have it.
    Interrupted = 130,
    /// 128 and the number of SIGPIPE: what a program that is not told otherwise dies of.
    OutputClosed = 141,
}

impl From<Status> for ExitCode {
    fn from(status: Status) -> Self {
        Self::from(status as u8)
    }
}

impl From<oauth::ErrorKind> for Status {
    fn from(kind: oauth::ErrorKind) -> Self {
        use oauth::ErrorKind as Kind;
        match kind {
            Kind::InvalidInput => Self::Input,
            Kind::LoginRequired => Self::Login,
            Kind::InvalidClient => Self::Registration,
            Kind::RateLimited => Self::Wait,
            Kind::StoreUnavailable | Kind::StoreDamaged | Kind::Conflict => Self::Store,
            Kind::Network => Self::Network,
            // `Protocol`, `Unsupported`, `Internal`, and what later versions add.
            _ => Self::NotDone,
        }
    }
}

impl From<zohocrm::ErrorKind> for Status {
    /// For errors without one of the token side underneath.
    fn from(kind: zohocrm::ErrorKind) -> Self {
        use zohocrm::ErrorKind as Kind;
        match kind {
            Kind::InvalidInput => Self::Input,
            Kind::Token => Self::Login,
            Kind::Permission => Self::Registration,
            Kind::RateLimited => Self::Wait,
            Kind::Network => Self::Network,
            // `NotFound`, `Refused`, `Conflict`, `Protocol`, and what later versions add.
            _ => Self::NotDone,
        }
    }
}

/// Why a command did not do what it was asked for.
pub(crate) struct Failure {
    status: Status,
    /// `None` when there is nothing to say, or it was said already.
    message: Option<String>,
    causes: Vec<String>,
    /// How long to wait before trying again.
    retry_after: Option<Duration>,
    hint: Option<String>,
}

impl fmt::Debug for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.lines()
            .try_for_each(|(label, text)| writeln!(f, "{label}: {text}"))
    }
}

impl Failure {
    /// Something did not happen; `message` says what, without a full stop.
    pub(crate) fn new(message: impl Into<String>) -> Self {
        Self {
            message: Some(message.into()),
            ..Self::silent(Status::NotDone)
        }
    }

    /// What went wrong is on the screen already.
    pub(crate) fn said() -> Self {
        Self::silent(Status::NotDone)
    }

    pub(crate) fn interrupted() -> Self {
        Self::silent(Status::Interrupted)
    }

    /// The output could not be written. Whoever closed a pipe has seen enough and is told nothing.
    pub(crate) fn output(error: &io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::BrokenPipe => Self::silent(Status::OutputClosed),
            _ => Self::new("the output cannot be written").because(error),
        }
    }

    /// A new folder could not be made in `parent`.
    pub(crate) fn new_folder(parent: &Path, error: &io::Error) -> Self {
        Self {
            status: Status::Store,
            ..Self::new(format!("cannot make a folder in `{}`", parent.display()))
        }
        .because(error)
        .hinted("Name a folder that is there and that you may write to.")
    }

    fn silent(status: Status) -> Self {
        Self {
            status,
            message: None,
            causes: Vec::new(),
            retry_after: None,
            hint: None,
        }
    }

    fn because(mut self, cause: &(dyn StdError + 'static)) -> Self {
        self.causes.push(cause.to_string());
        self.causes.extend(oauth::causes(cause));
        self
    }

    pub(crate) fn hinted(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    pub(crate) fn status(&self) -> Status {
        self.status
    }

    /// What a person is told: a label and a text for each line. Nothing where nothing is to be
    /// said.
    pub(crate) fn lines(&self) -> impl Iterator<Item = (&'static str, String)> {
        let error = self.message.iter().map(|text| ("error", text.clone()));
        let causes = self.causes.iter().map(|text| ("  because", text.clone()));
        let wait = self
            .retry_after
            .map(|wait| ("  retry after", oauth::in_words(wait)));
        let hint = self.hint.iter().map(|text| ("hint", text.clone()));
        let said = self.message.is_some();
        let lines = error.chain(causes).chain(wait).chain(hint);
        lines.filter(move |_| said)
    }
}

impl From<oauth::Error> for Failure {
    fn from(error: oauth::Error) -> Self {
        Self {
            status: error.kind().into(),
            causes: oauth::causes(&error),
            retry_after: error.retry_after(),
            ..Self::new(error.to_string())
        }
        .hinted(error.remedy())
    }
}

impl From<zohocrm::Error> for Failure {
    fn from(error: zohocrm::Error) -> Self {
        let status = match error.oauth() {
            Some(cause) => cause.kind().into(),
            None => error.kind().into(),
        };
        Self {
            status,
            causes: oauth::causes(&error),
            retry_after: error.retry_after(),
            ..Self::new(error.to_string())
        }
        .hinted(error.remedy())
    }
}

impl From<zoho_sandbox::Error> for Failure {
    fn from(error: zoho_sandbox::Error) -> Self {
        Self {
            causes: oauth::causes(&error),
            ..Self::new(error.to_string())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_help_lists_every_status() {
        for status in [
            Status::NotDone,
            Status::Input,
            Status::Login,
            Status::Registration,
            Status::Wait,
            Status::Store,
            Status::Network,
            Status::Interrupted,
            Status::OutputClosed,
        ] {
            let number = format!("\n  {} ", status as u8);
            assert!(STATUSES.contains(&number), "{status:?}");
        }
    }

    #[test]
    fn the_remedy_of_a_code_is_the_hint_and_is_said_once() {
        let error = oauth::Error::new(oauth::ErrorCode::StoreFull, "cannot write `t`")
            .caused_by(io::Error::from(io::ErrorKind::StorageFull));
        let failure = Failure::from(error);
        assert_eq!(failure.status(), Status::Store);
        let lines: Vec<_> = failure.lines().collect();
        assert_eq!(
            lines,
            [
                ("error", "cannot write `t` [store_full]".to_owned()),
                ("  because", "no storage space".to_owned()),
                ("hint", oauth::ErrorCode::StoreFull.remedy().to_owned()),
            ]
        );
    }

    #[test]
    fn a_call_without_a_token_ends_as_its_cause_would() {
        let wait = oauth::Timestamp::now().after(Duration::from_mins(10));
        let cause = oauth::Error::new(oauth::ErrorCode::Throttled, "too often").retry_at(wait);
        let failure = Failure::from(zohocrm::Error::from(cause));
        assert_eq!(failure.status(), Status::Wait);
        let text = format!("{failure:?}");
        let message = "error: there is no access token for this user (`throttled`) [no_token]\n  \
            because: too often [throttled]\n  retry after: ";
        assert!(text.starts_with(message), "{text}");
        let hint = format!("hint: {}\n", oauth::ErrorCode::Throttled.remedy());
        assert!(text.ends_with(&hint), "{text}");
    }

    #[test]
    fn a_closed_pipe_is_no_news() {
        let failure = Failure::output(&io::ErrorKind::BrokenPipe.into());
        assert_eq!(failure.status(), Status::OutputClosed);
        assert_eq!(failure.lines().next(), None);
        let full = Failure::output(&io::ErrorKind::StorageFull.into());
        assert!(full.lines().next().is_some());
    }
}
