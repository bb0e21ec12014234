//! The settings of a store, and how it gets its client.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use aws_config::retry::RetryConfig;
use aws_config::timeout::TimeoutConfig;
use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_sdk_secretsmanager::{Client, config};
use aws_smithy_http_client::tls::Provider;
use aws_smithy_http_client::tls::rustls_provider::CryptoMode;
use url::Url;

use super::core::Core;
use super::names::{Names, TAG_PREFIX};
use super::pace::Pace;
use super::service::Service;
use super::transport::{self, OnlyEncrypted};
use super::{Deletion, SecretsManagerStore};
use crate::error::{Error, Result};

/// Attempts of one call, the first one included.
const ATTEMPTS: u32 = 5;
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// The service allows 50 tags, and the store sets up to eight itself.
const MOST_TAGS: usize = 40;

/// Settings of a [`SecretsManagerStore`].
#[derive(Clone)]
pub struct SecretsManagerStoreBuilder {
    prefix: String,
    region: Option<String>,
    profile: Option<String>,
    endpoint: Option<String>,
    kms_key: Option<String>,
    tags: Vec<(String, String)>,
    deletion: Deletion,
    timeout: Duration,
    burst: u32,
    every: Duration,
}

impl fmt::Debug for SecretsManagerStoreBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Without the endpoint: a URL may hold a password.
        f.debug_struct("SecretsManagerStoreBuilder")
            .field("prefix", &self.prefix)
            .field("region", &self.region)
            .field("profile", &self.profile)
            .field("deletion", &self.deletion)
            .field("timeout", &self.timeout)
            .finish_non_exhaustive()
    }
}

impl SecretsManagerStoreBuilder {
    pub(super) fn new() -> Self {
        Self {
            prefix: SecretsManagerStore::DEFAULT_PREFIX.to_owned(),
            region: None,
            profile: None,
            endpoint: None,
            kms_key: None,
            tags: Vec::new(),
            deletion: Deletion::AfterDays(7),
            timeout: Duration::from_secs(15),
            burst: 24,
            every: Duration::from_mins(20),
        }
    }

    /// Sets what the names of all secrets begin with: ASCII letters, digits and `/_+=.@-`, at most
    /// 200. Default `zoho-oauth`. Stores with different prefixes know nothing of each other.
    #[must_use]
    pub fn prefix(mut self, prefix: impl Into<String>) -> Self {
        self.prefix = prefix.into();
        self
    }

    /// Sets the AWS region, such as `eu-central-1`. Otherwise the one of the environment or the
    /// profile.
    #[must_use]
    pub fn region(mut self, region: impl Into<String>) -> Self {
        self.region = Some(region.into());
        self
    }

    /// Names the profile in the AWS configuration files of this machine.
    #[must_use]
    pub fn profile(mut self, name: impl Into<String>) -> Self {
        self.profile = Some(name.into());
        self
    }

    /// Sets another address of the service: an interface endpoint of a private network, or an
    /// emulator. Plain http is accepted on this machine only, also where the address is that of
    /// `AWS_ENDPOINT_URL`, `AWS_ENDPOINT_URL_SECRETS_MANAGER` or the profile.
    #[must_use]
    pub fn endpoint(mut self, url: impl Into<String>) -> Self {
        self.endpoint = Some(url.into());
        self
    }

    /// Names the KMS key that new secrets are encrypted with: a key id, an ARN or an alias.
    /// Otherwise the account's own key for the service, `aws/secretsmanager`. Secrets that are there
    /// keep their key.
    #[must_use]
    pub fn kms_key(mut self, key: impl Into<String>) -> Self {
        self.kms_key = Some(key.into());
        self
    }

    /// Adds a tag to every new secret, for the bill or for the policies of the account. At most 40.
    #[must_use]
    pub fn tag(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.tags.push((key.into(), value.into()));
        self
    }

    /// Sets what becomes of the secret of a deleted record: see [`Deletion`]. Default: gone after
    /// seven days.
    #[must_use]
    pub const fn deletion(mut self, deletion: Deletion) -> Self {
        self.deletion = deletion;
        self
    }

    /// Sets how long one call may take, its repetitions included. Default 15 seconds.
    #[must_use]
    pub const fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Sets how often one record may change: `burst` times at once, and then once per interval.
    /// Default 24 and 20 minutes, which stays below the quota of the service for a day. Beyond it
    /// saves fail with `store_throttled`. Inserts, deletes, and saves that change nothing are not
    /// counted.
    ///
    /// Each process counts for itself: set a lower rate if many of them refresh one token. An
    /// interval of zero is no limit, for emulators.
    #[must_use]
    pub const fn versions(mut self, burst: u32, every: Duration) -> Self {
        self.burst = burst;
        self.every = every;
        self
    }

    /// Connects with the credentials that the AWS SDK finds: environment, profile, single sign-on,
    /// the role of a container or a machine. Makes one call, to see whether they are good.
    ///
    /// # Errors
    /// `invalid_input` when a setting cannot be right or no region is known, `insecure_url` for an
    /// endpoint with plain http elsewhere, `store_permission` when there are no credentials or they
    /// are refused, `store_unavailable` when the service does not answer.
    pub async fn connect(self) -> Result<SecretsManagerStore> {
        let client = self.client().await?;
        let store = self.with_client(client)?;
        store.core.service.ledger().await?;
        Ok(store)
    }

    /// Connects if there are secrets with this prefix, or were; `None` if there never was a record.
    /// For programs that only read, and for looking before something is made: connecting makes
    /// nothing in any case, so a misspelt prefix or region would look like an empty store.
    ///
    /// Listings lag behind, but the newest records are read: one that was made just now is seen.
    ///
    /// # Errors
    /// As [`connect`](Self::connect).
    pub async fn connect_existing(self) -> Result<Option<SecretsManagerStore>> {
        let client = self.client().await?;
        let store = self.with_client(client)?;
        let highest = store.core.catch_up().await?;
        Ok((highest > 0).then_some(store))
    }

    /// A client with the credentials that the AWS SDK finds.
    async fn client(&self) -> Result<Client> {
        self.check()?;
        let http = aws_smithy_http_client::Builder::new()
            .tls_provider(Provider::Rustls(CryptoMode::Ring))
            .build_https();
        let timeouts = TimeoutConfig::builder()
            .connect_timeout(CONNECT_TIMEOUT)
            .operation_attempt_timeout(self.timeout / 3)
            .operation_timeout(self.timeout)
            .build();
        let mut loader = aws_config::defaults(BehaviorVersion::latest())
            .http_client(http)
            .retry_config(RetryConfig::standard().with_max_attempts(ATTEMPTS))
            .timeout_config(timeouts);
        if let Some(region) = &self.region {
            loader = loader.region(Region::new(region.clone()));
        }
        if let Some(profile) = &self.profile {
            loader = loader.profile_name(profile);
        }
        if let Some(endpoint) = &self.endpoint {
            loader = loader.endpoint_url(endpoint);
        }
        let config = loader.load().await;
        if config.region().is_none() {
            return Err(Error::invalid_input(
                "no AWS region is set: neither in the builder, nor in `AWS_REGION`, nor in the profile",
            ));
        }
        Ok(client_of(&config))
    }

    /// Takes a client that the application made. Its region, credentials, repetitions and endpoint
    /// count, plain http to another machine included; those set here are ignored. Nothing is called
    /// yet.
    ///
    /// # Errors
    /// `invalid_input` when a setting cannot be right.
    pub fn with_client(self, client: Client) -> Result<SecretsManagerStore> {
        self.check()?;
        let service = Service {
            client,
            names: Names::new(&self.prefix)?,
            kms_key: self.kms_key,
            tags: self.tags,
            deletion: self.deletion,
            timeout: self.timeout,
        };
        Ok(SecretsManagerStore {
            core: Arc::new(Core::new(service, Pace::new(self.burst, self.every))),
        })
    }

    fn check(&self) -> Result<()> {
        Names::new(&self.prefix)?;
        if let Deletion::AfterDays(days) = self.deletion
            && !(7..=30).contains(&days)
        {
            let message = format!("a secret can be recovered for 7 to 30 days, not {days}");
            return Err(Error::invalid_input(message));
        }
        if self.tags.len() > MOST_TAGS {
            let message = format!("a secret can have {MOST_TAGS} tags beside those of the store");
            return Err(Error::invalid_input(message));
        }
        let is_taken = |key: &str| key.starts_with("aws:") || key.starts_with(TAG_PREFIX);
        if self
            .tags
            .iter()
            .any(|(key, _)| key.is_empty() || is_taken(key))
        {
            return Err(Error::invalid_input(format!(
                "the key of a tag is empty, or begins with `aws:` or `{TAG_PREFIX}`"
            )));
        }
        self.endpoint.as_deref().map_or(Ok(()), check_endpoint)
    }
}

/// A client that sends nothing over plain http to another machine, whoever set its endpoint.
fn client_of(config: &SdkConfig) -> Client {
    let config = config::Builder::from(config).interceptor(OnlyEncrypted);
    Client::from_conf(config.build())
}

fn check_endpoint(endpoint: &str) -> Result<()> {
    crate::text::check("endpoint of AWS Secrets Manager", endpoint)?;
    let url = Url::parse(endpoint).ok().filter(Url::has_host);
    let Some(url) = url.filter(|url| matches!(url.scheme(), "http" | "https")) else {
        return Err(Error::invalid_input(
            "the endpoint of AWS Secrets Manager is not an absolute URL",
        ));
    };
    if !url.username().is_empty() || url.password().is_some() {
        return Err(Error::invalid_input(
            "the endpoint of AWS Secrets Manager holds a user or a password, which the service has \
             no use for",
        ));
    }
    if transport::is_readable(&url) {
        return Err(transport::refused());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use aws_sdk_secretsmanager::config::{Credentials, SharedCredentialsProvider};

    use super::*;
    use crate::error::ErrorCode;

    fn code(builder: &SecretsManagerStoreBuilder) -> Option<ErrorCode> {
        builder.check().err().map(|error| error.code())
    }

    #[test]
    fn settings_that_cannot_be_right_are_refused() {
        let builder = SecretsManagerStoreBuilder::new;
        assert_eq!(code(&builder()), None);
        let invalid = Some(ErrorCode::InvalidInput);
        for wrong in [
            builder().prefix("a b"),
            builder().deletion(Deletion::AfterDays(6)),
            builder().deletion(Deletion::AfterDays(31)),
            builder().tag("aws:x", "y"),
            builder().tag("zoho-oauth:user", "y"),
            builder().tag("", "y"),
            builder().endpoint("127.0.0.1:5000"),
            builder().endpoint("ftp://127.0.0.1"),
            builder().endpoint("http://u:s3cret@127.0.0.1:5000"),
        ] {
            assert_eq!(code(&wrong), invalid, "{wrong:?}");
        }
        let many = (0..41).fold(builder(), |builder, n| builder.tag(format!("t{n}"), ""));
        assert_eq!(code(&many), invalid);
        for (endpoint, expected) in [
            (
                "https://vpce-1.secretsmanager.eu-central-1.vpce.amazonaws.com",
                None,
            ),
            ("http://localhost:4566", None),
            ("http://127.0.0.1:5000", None),
            ("http://[::1]:5000", None),
            ("http://localstack:4566", Some(ErrorCode::InsecureUrl)),
            ("http://localhost.example", Some(ErrorCode::InsecureUrl)),
        ] {
            assert_eq!(code(&builder().endpoint(endpoint)), expected, "{endpoint}");
        }
    }

    /// The addresses that the AWS SDK finds by itself, in the environment and in the profile, come
    /// in its own settings.
    #[tokio::test]
    async fn no_address_that_somebody_else_set_makes_secrets_readable() {
        for (endpoint, expected) in [
            // Nobody listens there.
            ("http://localhost:1", ErrorCode::StoreUnavailable),
            ("https://[::1]:1", ErrorCode::StoreUnavailable),
            ("http://localstack.invalid:4566", ErrorCode::InsecureUrl),
            ("http://192.0.2.1:4566", ErrorCode::InsecureUrl),
        ] {
            let http = aws_smithy_http_client::Builder::new().build_http();
            let credentials = Credentials::new("key", "s3cret", None, None, "test");
            let config = SdkConfig::builder()
                .behavior_version(BehaviorVersion::latest())
                .http_client(http)
                .region(Region::new("eu-central-1"))
                .credentials_provider(SharedCredentialsProvider::new(credentials))
                .retry_config(RetryConfig::disabled())
                .endpoint_url(endpoint)
                .build();
            let builder = SecretsManagerStoreBuilder::new().timeout(Duration::from_mins(1));
            let store = builder.with_client(client_of(&config)).unwrap();
            let error = store.core.service.ledger().await.unwrap_err();
            assert_eq!(error.code(), expected, "{endpoint}: {error}");
        }
    }

    #[test]
    fn debug_shows_no_password_in_the_endpoint() {
        let builder = SecretsManagerStoreBuilder::new().endpoint("https://u:s3cret@localhost");
        assert!(!format!("{builder:?}").contains("s3cret"));
    }
}
