//! Tokens in AWS Secrets Manager.
