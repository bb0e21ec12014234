//! The configuration file.

use std::path::Path;

use serde::Deserialize;
use zoho_sandbox::{Client, DataCenter, Organisation, Person, Rules, SandboxBuilder};

/// The file's tables; unknown keys are errors, here and below.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ConfigFile {
    listen: Option<String>,
    /// Whether the demo people and organisations are there.
    #[serde(default = "yes")]
    demo: bool,
    /// The default client.
    client: Option<Client>,
    request_log_bytes: Option<usize>,
    rules: Option<Rules>,
    #[serde(default)]
    clients: Vec<Client>,
    #[serde(default)]
    organisations: Vec<Organisation>,
    #[serde(default)]
    people: Vec<Person>,
    #[serde(default)]
    data_centers: Vec<DataCenter>,
}

fn yes() -> bool {
    true
}

/// Adds what the file says.
pub(crate) fn apply(path: &Path, mut builder: SandboxBuilder) -> Result<SandboxBuilder, String> {
    let text = std::fs::read_to_string(path)
        .map_err(|error| format!("cannot read `{}`: {error}", path.display()))?;
    let file: ConfigFile = toml::from_str(&text).map_err(|error| {
        // The error would quote the line it is about, and that line may hold a secret.
        let line = error.span().map_or(1, |span| {
            text[..span.start.min(text.len())].matches('\n').count() + 1
        });
        format!("`{}`, line {line}: {}", path.display(), error.message())
    })?;
    if !file.demo {
        builder = builder.without_demo();
    }
    if let Some(address) = file.listen {
        builder = builder.listen(address);
    }
    if let Some(client) = file.client {
        builder = builder.default_client(client);
    }
    if let Some(bytes) = file.request_log_bytes {
        builder = builder.request_log_bytes(bytes);
    }
    if let Some(rules) = file.rules {
        builder = builder.rules(rules);
    }
    builder = file
        .clients
        .into_iter()
        .fold(builder, SandboxBuilder::client);
    builder = file
        .organisations
        .into_iter()
        .fold(builder, SandboxBuilder::organisation);
    builder = file
        .people
        .into_iter()
        .fold(builder, SandboxBuilder::person);
    builder = file
        .data_centers
        .into_iter()
        .fold(builder, SandboxBuilder::data_center);
    Ok(builder)
}
