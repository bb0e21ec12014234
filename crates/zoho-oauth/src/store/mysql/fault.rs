//! What the server's and the driver's refusals mean for the caller.
//!
//! The server's error texts quote values ("Duplicate entry '…'"), and whoever prints an error walks
//! its sources too. So only the error's number and state go on, with a fixed text of ours.

use std::fmt;

use mysql_async::{DriverError, Error as Driver, IoError, ServerError};

use crate::connection;
use crate::error::{Error, ErrorCode};

/// Why a statement did not do what it was to do.
#[derive(Debug)]
pub(super) enum Fault {
    /// Nothing was done, and trying again can help.
    Again(Error),
    /// This node does nothing at the moment; another one may.
    NotHere(Error),
    /// The connection is lost, and whether the statement was carried out is not known.
    Lost(Error),
    /// The table is not what it was when the store looked last.
    Stale(Error),
    /// A row with this key is there already: of the primary key, or of an index of somebody's.
    Duplicate(Error),
    /// Trying again is of no use.
    No(Error),
}

impl Fault {
    pub(super) fn into_error(self) -> Error {
        match self {
            Self::Again(error)
            | Self::NotHere(error)
            | Self::Lost(error)
            | Self::Stale(error)
            | Self::Duplicate(error)
            | Self::No(error) => error,
        }
    }

    /// The fault of a statement inside a transaction that is not being committed yet: when the
    /// connection is lost, the server takes it back.
    pub(super) fn uncommitted(self) -> Self {
        match self {
            Self::Lost(error) => Self::Again(error),
            fault => fault,
        }
    }
}

impl From<Error> for Fault {
    fn from(error: Error) -> Self {
        Self::No(error)
    }
}

/// The server's number for what went wrong, without its text.
#[derive(Debug)]
struct ServerRefusal {
    number: u16,
    state: String,
}

impl fmt::Display for ServerRefusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "MySQL error {} ({})", self.number, self.state)
    }
}

impl std::error::Error for ServerRefusal {}

/// The time that a statement or a connection may take is over.
pub(super) fn timed_out(server: &str) -> Error {
    let message = format!("the database at `{server}` did not answer in time");
    Error::new(ErrorCode::StoreUnavailable, message)
}

/// Turns an error of the driver into what it means; `server` names the node that it came from.
pub(super) fn classify(server: &str, error: Driver) -> Fault {
    match error {
        Driver::Server(refusal) => refused(server, &refusal),
        Driver::Io(IoError::Io(error)) if is_distrust(&error) => {
            let message = format!(
                "the certificate of the database at `{server}` is not trusted: renew it, or name its \
                authority with `MySqlTls::authorities`"
            );
            Fault::No(Error::new(ErrorCode::CertificateRefused, message).caused_by(error))
        }
        Driver::Io(IoError::Io(error)) => {
            let message = format!("the connection to the database at `{server}` failed");
            Fault::Lost(Error::new(ErrorCode::StoreUnavailable, message).caused_by(error))
        }
        Driver::Io(IoError::Tls(error)) => {
            let message = format!("the database at `{server}` cannot be reached over TLS");
            Fault::No(Error::new(ErrorCode::StoreUnavailable, message).caused_by(error))
        }
        Driver::Driver(error) => driver(server, &error),
        // Texts that cannot be vouched for.
        Driver::Other(_) | Driver::Url(_) => {
            let message = format!("the driver cannot speak with the database at `{server}`");
            Fault::Lost(Error::new(ErrorCode::StoreUnavailable, message))
        }
    }
}

/// Whether the server's certificate is what is wrong. It will be so the next time too.
fn is_distrust(error: &std::io::Error) -> bool {
    let cause = error.get_ref().and_then(|cause| cause.downcast_ref());
    cause.is_some_and(|cause| connection::of_tls(cause).is_certificate)
}

fn driver(server: &str, error: &DriverError) -> Fault {
    let unavailable = |what: &str| {
        let message = format!("the database at `{server}` {what}");
        Error::new(ErrorCode::StoreUnavailable, message)
    };
    match error {
        DriverError::PoolDisconnected => Fault::No(unavailable("was disconnected by this process")),
        DriverError::NoClientSslFlagFromServer => Fault::No(unavailable(
            "offers no TLS, which this store asks for: switch TLS on at the server, or, on a network \
            that is safe, open the store `without_tls`",
        )),
        DriverError::UnknownAuthPlugin { .. }
        | DriverError::MysqlOldPasswordDisabled
        | DriverError::CleartextPluginDisabled => Fault::No(Error::new(
            ErrorCode::Unsupported,
            format!("the database at `{server}` asks for a way to log in that is not spoken here"),
        )),
        DriverError::NoKeyFound => Fault::No(Error::invalid_input(
            "the TLS identity holds no private key",
        )),
        DriverError::PacketTooLarge => Fault::No(Error::invalid_input(format!(
            "a value is larger than the database at `{server}` takes in one packet"
        ))),
        _ => Fault::Lost(unavailable("answered what the driver does not understand")),
    }
}

fn refused(server: &str, refusal: &ServerError) -> Fault {
    const RULES: &str = "has a table whose rules refuse a record of ours";
    let number = refusal.code;
    let fault = |code: ErrorCode, what: &str| {
        let message = format!("the database at `{server}` {what}");
        Error::new(code, message).caused_by(ServerRefusal {
            number,
            state: refusal.state.chars().take(5).collect(),
        })
    };
    match number {
        // A deadlock, a conflict with another node of the cluster (with Group Replication only said
        // at the commit), a row that changed meanwhile.
        1213 | 3101 | 1020 => Fault::Again(fault(ErrorCode::StoreLocked, "met a deadlock")),
        1205 => Fault::Again(fault(ErrorCode::StoreLocked, "waited too long for a lock")),
        // Interrupted, over its time, or prepared before the table changed.
        1317 | 1969 | 3024 | 1412 | 1615 => {
            Fault::Again(fault(ErrorCode::StoreUnavailable, "gave up a statement"))
        }
        1040 | 1203 => Fault::Again(fault(
            ErrorCode::StoreUnavailable,
            "has no room for another connection",
        )),
        // A node that is not part of its cluster, or that only reads.
        1047 | 1290 | 1792 | 1836 => Fault::NotHere(fault(
            ErrorCode::StoreUnavailable,
            "takes no statements of this kind at the moment",
        )),
        // Going down, killed, cut off, or unsure of its own commit; a proxy that lost a statement.
        1053
        | 1077
        | 1079
        | 1080
        | 1152
        | 1154..=1161
        | 1180
        | 1184
        | 1189
        | 1190
        | 1243
        | 1927
        | 4031 => Fault::Lost(fault(ErrorCode::StoreUnavailable, "ended the connection")),
        1062 | 1586 => Fault::Duplicate(fault(ErrorCode::StoreForeign, RULES)),
        // A column or an index that is there already: another process widens the table too.
        1060 | 1061 => Fault::Again(fault(
            ErrorCode::StoreLocked,
            "has a column or an index of this name already",
        )),
        // An unknown column or table, or one of another character set.
        1054 | 1146 | 1051 | 1253 | 1267 | 1270 | 1271 => Fault::Stale(fault(
            ErrorCode::StoreForeign,
            "has other tables than it had",
        )),
        1265 | 1406 => Fault::No(fault(
            ErrorCode::ColumnTooNarrow,
            "has a column that is too narrow for a value",
        )),
        1300 | 1366 | 3854 => Fault::No(fault(
            ErrorCode::InvalidInput,
            "has a column whose character set does not know a character of the value",
        )),
        // A column that takes no NULL, has no default or is computed, a rule, a reference, a trigger.
        1048 | 1364 | 1906 | 3105 | 3819 | 4025 | 1451 | 1452 | 1442 | 1644 => {
            Fault::No(fault(ErrorCode::StoreForeign, RULES))
        }
        // A key that is too long for the table's pages, or that another table refers to.
        1071 | 1118 | 1709 | 1832 | 1833 | 3780 => Fault::No(fault(
            ErrorCode::StoreForeign,
            "has a table whose keys leave no room for longer values",
        )),
        3159 => Fault::No(fault(
            ErrorCode::StoreUnavailable,
            "takes no connections without TLS, and this store asks for none: open it with `tls`",
        )),
        // MariaDB says no more than that to an account, or a connection, that needs TLS.
        1045 => Fault::No(fault(
            ErrorCode::StorePermission,
            "does not let this account in: its password is wrong, or the server asks for TLS and \
            this store does not",
        )),
        1044 | 1142 | 1143 | 1227 | 1370 | 1698 | 1862 | 3118 | 4151 => Fault::No(fault(
            ErrorCode::StorePermission,
            "does not let this account in, or not do what is needed",
        )),
        1049 => Fault::No(fault(
            ErrorCode::InvalidInput,
            "has no database of this name",
        )),
        1021 | 1114 => Fault::No(fault(ErrorCode::StoreFull, "has no room left")),
        1034 | 1035 | 1194 | 1195 | 1712 | 1877 => Fault::No(fault(
            ErrorCode::StoreDamaged,
            "says that the table is damaged",
        )),
        1153 => Fault::No(fault(
            ErrorCode::InvalidInput,
            "takes no value as large as this one",
        )),
        // Whatever else took the transaction back.
        _ if refusal.state.starts_with("40") => {
            Fault::Again(fault(ErrorCode::StoreLocked, "took a transaction back"))
        }
        _ => Fault::No(fault(ErrorCode::StoreUnavailable, "refused a statement")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server(code: u16) -> Driver {
        Driver::Server(ServerError {
            code,
            message: "Duplicate entry '1000.secret' for key 'PRIMARY'".into(),
            state: "HY000-and-more".into(),
        })
    }

    #[test]
    fn the_text_of_the_server_is_dropped_and_its_number_kept() {
        for code in [
            1213, 1047, 1053, 1146, 1406, 1366, 1048, 1045, 1049, 1114, 1034, 1153, 9,
        ] {
            let fault = classify("db:3306", server(code));
            let debug = format!("{fault:?}");
            let error = fault.into_error();
            let source = std::error::Error::source(&error).unwrap().to_string();
            assert_eq!(source, format!("MySQL error {code} (HY000)"));
            for text in [debug, error.to_string(), format!("{error:?}")] {
                assert!(!text.contains("secret"), "{text}");
                assert!(text.contains("db:3306"), "{text}");
            }
        }
    }

    #[test]
    fn what_is_worth_another_try_is_told_from_what_is_not() {
        for code in [1213, 1205, 1020, 1317, 1615, 1040, 1061, 3101] {
            assert!(
                matches!(classify("s", server(code)), Fault::Again(_)),
                "{code}"
            );
        }
        let taken_back = Driver::Server(ServerError {
            code: 4711,
            message: String::new(),
            state: "40000".into(),
        });
        assert!(matches!(classify("s", taken_back), Fault::Again(_)));
        for code in [1047, 1290] {
            assert!(
                matches!(classify("s", server(code)), Fault::NotHere(_)),
                "{code}"
            );
        }
        for code in [1053, 1158, 1180, 1243, 1927] {
            assert!(
                matches!(classify("s", server(code)), Fault::Lost(_)),
                "{code}"
            );
        }
        let taken = classify("s", server(1062));
        assert!(
            matches!(&taken, Fault::Duplicate(error) if error.code() == ErrorCode::StoreForeign)
        );
        assert!(matches!(classify("s", server(1267)), Fault::Stale(_)));
        for (code, meaning) in [
            (1406, ErrorCode::ColumnTooNarrow),
            (1366, ErrorCode::InvalidInput),
            (1045, ErrorCode::StorePermission),
            (1114, ErrorCode::StoreFull),
            (1048, ErrorCode::StoreForeign),
            (1071, ErrorCode::StoreForeign),
            (1034, ErrorCode::StoreDamaged),
            (1064, ErrorCode::StoreUnavailable),
        ] {
            let fault = classify("s", server(code));
            assert!(
                matches!(&fault, Fault::No(error) if error.code() == meaning),
                "{fault:?}"
            );
        }
    }

    #[test]
    fn a_packet_that_is_not_understood_is_not_quoted() {
        let payload = b"1000.secret".to_vec();
        let fault = classify(
            "s",
            Driver::Driver(DriverError::UnexpectedPacket { payload }),
        );
        assert!(!format!("{fault:?}").contains("secret"));
        assert!(matches!(fault, Fault::Lost(_)));
    }
}
