//! One file, or folder, for each command.

pub(crate) mod demo;
pub(crate) mod tokens;
