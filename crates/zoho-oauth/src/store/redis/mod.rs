//! Tokens in Redis or Valkey.
