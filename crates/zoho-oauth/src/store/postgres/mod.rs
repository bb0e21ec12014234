//! Tokens in PostgreSQL.
