//! What the server does for the tokens to survive it.

use redis::Value;

use super::link::Link;
use crate::error::{Error, ErrorCode, Result};

/// What a Redis server keeps when it crashes, by its settings when the store was opened.
///
/// In rising order: what a level keeps, those after it keep too. The levels speak of one server;
/// for the loss of a whole machine see
/// [`wait_replicas`](super::RedisStoreBuilder::wait_replicas).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Persistence {
    /// Nothing: neither snapshots nor an append-only file. A restart loses every login.
    None,
    /// The server does not say, as many managed services do not.
    Unknown,
    /// Snapshots now and then (`save`). A crash loses all writes since the last one.
    SnapshotsOnly,
    /// An append-only file, which the operating system writes when it likes (`appendfsync no`), or
    /// the server does not say how often. A crash of the server alone loses nothing; one of its
    /// machine what was written last, on Linux commonly up to half a minute.
    AppendOnly,
    /// An append-only file, flushed every second (`appendfsync everysec`). A crash of the machine
    /// loses up to two seconds.
    EverySec,
    /// An append-only file, flushed before a write is acknowledged (`appendfsync always`).
    Always,
}

/// What was found out about a server.
pub(super) struct Found {
    pub(super) persistence: Persistence,
    /// `maxmemory-policy`, and whether there is a limit; `None` if the server does not say.
    eviction: Option<(String, bool)>,
}

/// Asks the server, by `CONFIG GET`; where that is forbidden, by `INFO`.
pub(super) async fn ask(link: &Link) -> Found {
    let names = [
        "appendonly",
        "appendfsync",
        "save",
        "maxmemory-policy",
        "maxmemory",
    ];
    let mut values = Vec::new();
    for name in names {
        // One by one, since several at once need version 7.
        let mut command = redis::cmd("CONFIG");
        command.arg("GET").arg(name);
        let answer = link.ask(&command).await.ok();
        values.push(answer.and_then(|value| second(&value)));
    }
    if let [
        Some(append),
        Some(flush),
        Some(save),
        Some(policy),
        Some(limit),
    ] = &values[..]
    {
        return Found {
            persistence: by_settings(append, flush, save),
            eviction: Some((policy.clone(), limit != "0")),
        };
    }
    let mut info = String::new();
    for section in ["persistence", "memory"] {
        let mut command = redis::cmd("INFO");
        command.arg(section);
        match link.ask(&command).await {
            Ok(Value::BulkString(text)) => info += &String::from_utf8_lossy(&text),
            Ok(Value::VerbatimString { text, .. }) => info += &text,
            _ => {}
        }
    }
    by_info(&info)
}

/// The value of the one setting that was asked for.
fn second(value: &Value) -> Option<String> {
    let value = match value {
        Value::Array(pair) => pair.get(1)?,
        Value::Map(pairs) => &pairs.first()?.1,
        _ => return None,
    };
    match value {
        Value::BulkString(text) => Some(String::from_utf8_lossy(text).into_owned()),
        Value::SimpleString(text) => Some(text.clone()),
        _ => None,
    }
}

fn by_settings(append: &str, flush: &str, save: &str) -> Persistence {
    match (append, flush) {
        ("yes", "always") => Persistence::Always,
        ("yes", "everysec") => Persistence::EverySec,
        ("yes", _) => Persistence::AppendOnly,
        _ if save.is_empty() => Persistence::None,
        _ => Persistence::SnapshotsOnly,
    }
}

fn by_info(info: &str) -> Found {
    let value = |name: &str| {
        let mut lines = info.lines();
        lines.find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))
    };
    let persistence = match value("aof_enabled") {
        Some("1") => Persistence::AppendOnly,
        _ => Persistence::Unknown,
    };
    let limited = value("maxmemory") != Some("0");
    Found {
        persistence,
        eviction: value("maxmemory_policy").map(|policy| (policy.to_owned(), limited)),
    }
}

impl Found {
    /// Warns of what endangers tokens, and refuses what is sure to lose them.
    ///
    /// `is_to_stay`: whether tokens are to be kept there, and not only read from there.
    pub(super) fn check(
        &self,
        place: &str,
        required: Option<Persistence>,
        is_to_stay: bool,
    ) -> Result<()> {
        let unsupported = |what: String| Error::new(ErrorCode::Unsupported, what);
        if let Some((policy, is_limited)) = &self.eviction
            && policy.starts_with("allkeys")
        {
            if !is_limited {
                tracing::warn!(
                    %place, policy,
                    "the server will throw tokens away once it has a limit of memory"
                );
            } else if is_to_stay {
                return Err(unsupported(format!(
                    "{place} may throw tokens away (`maxmemory-policy {policy}`): set `noeviction`"
                )));
            } else {
                tracing::warn!(%place, policy, "the server may throw tokens away");
            }
        }
        if let Some(required) = required
            && self.persistence < required
        {
            return Err(unsupported(format!(
                "{place} keeps less than is required: {:?}, not {required:?}",
                self.persistence
            )));
        }
        if !is_to_stay {
            return Ok(());
        }
        match self.persistence {
            Persistence::None => {
                tracing::warn!(%place, "the server keeps nothing when it restarts: logins get lost (set `appendonly yes`)");
            }
            Persistence::SnapshotsOnly => tracing::warn!(
                %place,
                "the server keeps snapshots only: a crash loses the logins since the last one (set `appendonly yes`)"
            ),
            Persistence::Unknown => {
                tracing::info!(%place, "the server does not say what it keeps when it restarts");
            }
            _ => {}
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_have_their_levels() {
        for (append, flush, save, level) in [
            ("yes", "always", "", Persistence::Always),
            ("yes", "everysec", "3600 1", Persistence::EverySec),
            ("yes", "no", "", Persistence::AppendOnly),
            ("no", "always", "3600 1", Persistence::SnapshotsOnly),
            ("no", "everysec", "", Persistence::None),
        ] {
            assert_eq!(by_settings(append, flush, save), level);
        }
    }

    #[test]
    fn a_server_that_forbids_to_ask_says_less() {
        let info = "# Persistence\r\naof_enabled:1\r\n# Memory\r\nmaxmemory:7\r\n\
            maxmemory_policy:allkeys-lru\r\n";
        let found = by_info(info);
        assert_eq!(found.persistence, Persistence::AppendOnly);
        let error = found.check("Redis", None, true).unwrap_err();
        assert_eq!(error.code(), ErrorCode::Unsupported);
        assert!(error.to_string().contains("allkeys-lru"));

        let found = by_info("aof_enabled:0\r\nmaxmemory:0\r\nmaxmemory_policy:allkeys-lru\r\n");
        assert_eq!(found.persistence, Persistence::Unknown);
        assert!(found.check("Redis", None, true).is_ok());
        let required = Some(Persistence::EverySec);
        assert!(found.check("Redis", required, true).is_err());
        assert!(by_info("").check("Redis", None, true).is_ok());
    }
}
