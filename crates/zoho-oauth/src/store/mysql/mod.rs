//! Tokens in MySQL, MariaDB and clusters of them.
