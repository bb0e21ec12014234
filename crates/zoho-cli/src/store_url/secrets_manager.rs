//! `secretsmanager:PREFIX`

use zohocrm::oauth::SecretsManagerStore;
use zohocrm::oauth::store::secrets_manager::SecretsManagerStoreBuilder;

use super::parameters::{Parameters, password_refused};
use super::{Found, Opened, Purpose, wrong};
use crate::error::Result;

const PARAMETERS: [&str; 4] = ["region", "profile", "endpoint", "kms_key"];

pub(super) async fn open(rest: &str, purpose: Purpose) -> Result<Found> {
    let (prefix, query) = match rest.split_once('?') {
        Some((prefix, query)) => (prefix, Some(query)),
        None => (rest, None),
    };
    if prefix.starts_with("//") {
        return Err(wrong(
            "there is no `//` behind `secretsmanager:`, but the prefix",
        ));
    }
    let parameters = Parameters::read("secretsmanager:", query, &PARAMETERS)?;
    let builder = builder(prefix, &parameters)?;
    if purpose == Purpose::Write {
        return Ok(Found::Store(Opened::new(builder.connect().await?)));
    }
    Ok(Found::of(builder.connect_existing().await?, || {
        let prefix = match prefix {
            "" => SecretsManagerStore::DEFAULT_PREFIX,
            prefix => prefix,
        };
        format!("there are no secrets with the prefix `{prefix}` in this account and region")
    }))
}

fn builder(prefix: &str, parameters: &Parameters) -> Result<SecretsManagerStoreBuilder> {
    let mut builder = SecretsManagerStore::builder();
    if !prefix.is_empty() {
        builder = builder.prefix(prefix);
    }
    if let Some(region) = parameters.get("region") {
        builder = builder.region(region);
    }
    if let Some(profile) = parameters.get("profile") {
        builder = builder.profile(profile);
    }
    if let Some(key) = parameters.get("kms_key") {
        builder = builder.kms_key(key);
    }
    if let Some(endpoint) = parameters.get("endpoint") {
        if endpoint.contains('@') {
            return Err(password_refused().hinted(
                "The endpoint is an address alone; credentials come from where the AWS tools have \
                 them.",
            ));
        }
        builder = builder.endpoint(endpoint);
    }
    Ok(builder)
}
