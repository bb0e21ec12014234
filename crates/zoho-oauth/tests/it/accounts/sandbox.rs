//! The whole walk against a strict accounts server: login, exchange, refresh, revoke.
