//! Zoho's data centers: which accounts server and which API belong together.
//!
//! The eight centers that all official SDKs hold are built in (see [`DataCenters::known`]). More
//! can be added at run time: Zoho opens new ones, and a sandbox is one too. A token belongs to one
//! center for life, so the center is looked up from the token's `api_domain`, never from a global.

use std::fmt;
use std::sync::Arc;

use url::{Host, Url};

use crate::error::{Error, ErrorCode, Result};
use crate::text;

/// Which organisation of a data center a token is for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Environment {
    /// The organisation that works.
    #[default]
    Production,
    /// Its copy to try things on.
    Sandbox,
    /// An organisation of Zoho's developer edition.
    Developer,
}

/// One data center: its accounts server and its API domains. Cheap to clone.
#[derive(Clone, PartialEq, Eq)]
pub struct DataCenter(Arc<Inner>);

#[derive(PartialEq, Eq)]
struct Inner {
    name: String,
    accounts_url: String,
    production: Option<String>,
    sandbox: Option<String>,
    developer: Option<String>,
    upload_url: Option<String>,
}

impl DataCenter {
    /// Starts the description of a data center that is not built in.
    ///
    /// `name` is what the callback of a login calls `location`; `accounts_url` is the address of
    /// the accounts server without a path.
    pub fn builder(name: impl Into<String>, accounts_url: impl Into<String>) -> DataCenterBuilder {
        DataCenterBuilder {
            allow_plain_http: false,
            inner: Inner {
                name: name.into(),
                accounts_url: accounts_url.into(),
                production: None,
                sandbox: None,
                developer: None,
                upload_url: None,
            },
        }
    }

    fn official(name: &str, accounts: &str, domain: &str, upload_url: &str) -> Self {
        Self(Arc::new(Inner {
            name: name.into(),
            accounts_url: format!("https://{accounts}"),
            production: Some(format!("https://www.{domain}")),
            sandbox: Some(format!("https://sandbox.{domain}")),
            developer: Some(format!("https://developer.{domain}")),
            upload_url: Some(format!("https://{upload_url}")),
        }))
    }

    /// Returns the short name in lower case, which the login's callback calls `location`: `us`.
    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// Returns the accounts server, without a slash at the end.
    pub fn accounts_url(&self) -> &str {
        &self.0.accounts_url
    }

    /// Whether this is the address of the accounts server: scheme, host and port are compared.
    pub(crate) fn has_accounts_url(&self, url: &str) -> bool {
        same_origin(self.accounts_url(), url)
    }

    /// Whether it is known what its API is called: the description says so, or its accounts server
    /// is one of Zoho's, below whose domains its API is.
    fn names_its_api(&self) -> bool {
        let known = [&self.0.production, &self.0.sandbox, &self.0.developer];
        let accounts = Url::parse(self.accounts_url()).ok();
        let accounts = accounts.as_ref().and_then(Url::host_str);
        known.into_iter().any(Option::is_some) || accounts.and_then(country_of).is_some()
    }

    /// Returns the API domain of an environment, if it is known for this center.
    pub fn api_domain(&self, environment: Environment) -> Option<&str> {
        match environment {
            Environment::Production => self.0.production.as_deref(),
            Environment::Sandbox => self.0.sandbox.as_deref(),
            Environment::Developer => self.0.developer.as_deref(),
        }
    }

    /// Returns the server that takes file uploads, if it is known for this center.
    pub fn upload_url(&self) -> Option<&str> {
        self.0.upload_url.as_deref()
    }

    /// Returns the environment that `domain` belongs to, if it is one of this center's own hosts.
    ///
    /// A host that this center does not name, such as `api.zoho.eu`, is of production, unless it
    /// begins with `sandbox.` or `developer.`. See [`DataCenters::by_api_domain`].
    pub fn environment_of(&self, domain: &str) -> Option<Environment> {
        let environments = [
            Environment::Production,
            Environment::Sandbox,
            Environment::Developer,
        ];
        let named = environments.into_iter().find(|&environment| {
            let known = self.api_domain(environment);
            known.is_some_and(|known| same_origin(known, domain))
        });
        named.or_else(|| {
            let host = self.urls().find_map(|url| host_of_one_owner(url, domain))?;
            Some(match host.split('.').next() {
                Some("sandbox") => Environment::Sandbox,
                Some("developer") => Environment::Developer,
                _ => Environment::Production,
            })
        })
    }

    /// Returns `domain`, with the scheme of this center in front if it has none.
    pub fn with_scheme(&self, domain: &str) -> String {
        like(self.accounts_url(), domain)
    }

    /// All addresses that are known of this center.
    fn urls(&self) -> impl Iterator<Item = &str> {
        let Inner {
            accounts_url,
            production,
            sandbox,
            developer,
            upload_url,
            ..
        } = &*self.0;
        let known = [production, sandbox, developer, upload_url].into_iter();
        let known = known.flatten().map(String::as_str);
        std::iter::once(accounts_url.as_str()).chain(known)
    }
}

/// Zoho's own domains, by country: what is below one of a pair belongs to the same data center as
/// what is below the other. `zoho.ca` is not among them: Zoho's accounts server in Canada is
/// `accounts.zohocloud.ca`.
const DOMAINS_OF_ZOHO: [[&str; 2]; 11] = [
    ["zoho.com", "zohoapis.com"],
    ["zoho.eu", "zohoapis.eu"],
    ["zoho.in", "zohoapis.in"],
    ["zoho.com.au", "zohoapis.com.au"],
    ["zoho.jp", "zohoapis.jp"],
    ["zoho.com.cn", "zohoapis.com.cn"],
    ["zohocloud.ca", "zohoapis.ca"],
    ["zoho.sa", "zohoapis.sa"],
    ["zoho.uk", "zohoapis.uk"],
    ["zoho.ae", "zohoapis.ae"],
    ["zoho.sg", "zohoapis.sg"],
];

/// Returns the host of `domain` if its owner is that of the host of `known`: both are below Zoho's
/// domains of one country, or they are the same but for `www.`. Scheme and port must be the same.
fn host_of_one_owner(known: &str, domain: &str) -> Option<String> {
    let (known, domain) = (Url::parse(known).ok()?, parse_like(known, domain)?);
    let is_alike = known.scheme() == domain.scheme()
        && known.port_or_known_default() == domain.port_or_known_default();
    let (Some(Host::Domain(one)), Some(Host::Domain(other))) = (known.host(), domain.host()) else {
        return None;
    };
    let without_www = |host: &str| host.strip_prefix("www.").unwrap_or(host).to_owned();
    let is_one = without_www(one) == without_www(other)
        || country_of(one).is_some_and(|country| country_of(other) == Some(country));
    (is_alike && is_one).then(|| other.to_owned())
}

/// The place in [`DOMAINS_OF_ZOHO`] of the domain that `host` is, or is below.
fn country_of(host: &str) -> Option<usize> {
    let is_below = |domain: &&str| {
        let rest = host.strip_suffix(*domain);
        rest.is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
    };
    let mut countries = DOMAINS_OF_ZOHO.iter();
    countries.position(|domains| domains.iter().any(is_below))
}

/// Puts the scheme of `known` in front of `domain` if that has none.
fn like(known: &str, domain: &str) -> String {
    match known.split_once("://") {
        Some((scheme, _)) if !domain.contains("://") => format!("{scheme}://{}", domain.trim()),
        _ => domain.to_owned(),
    }
}

fn parse_like(known: &str, domain: &str) -> Option<Url> {
    Url::parse(&like(known, domain)).ok()
}

/// The server that `address` names, for texts that people read: no path, and nothing that could be
/// a password or forge lines of a log.
pub(crate) fn server_of(address: &str) -> String {
    let Some(url) = parse_like("https://", address).filter(Url::has_host) else {
        return "not the address of a server".to_owned();
    };
    let host = url.host_str().unwrap_or_default();
    let mut text: String = host.chars().take(100).collect();
    if text.len() < host.len() {
        text.push('…');
    }
    let port = url.port().map(|port| format!(":{port}"));
    format!("{}://{text}{}", url.scheme(), port.unwrap_or_default())
}

macro_rules! official {
    ($($(#[$doc:meta])* $method:ident = $name:literal, $accounts:literal, $domain:literal, $upload:literal;)*) => {
        impl DataCenter {
            $($(#[$doc])* pub fn $method() -> Self {
                Self::official($name, $accounts, $domain, $upload)
            })*
        }

        impl DataCenters {
            /// Returns the eight centers that Zoho's official SDKs for CRM 8 hold.
            ///
            /// The United Kingdom, the United Arab Emirates and Singapore have accounts servers,
            /// but no document we could open confirms the address of their CRM: add them with
            /// [`add`](Self::add) once you know it.
            pub fn known() -> Self {
                Self { centers: vec![$(DataCenter::$method()),*] }
            }
        }
    };
}

official! {
    /// The United States: `accounts.zoho.com`.
    us = "us", "accounts.zoho.com", "zohoapis.com", "content.zohoapis.com";
    /// Europe: `accounts.zoho.eu`.
    eu = "eu", "accounts.zoho.eu", "zohoapis.eu", "content.zohoapis.eu";
    /// India: `accounts.zoho.in`.
    india = "in", "accounts.zoho.in", "zohoapis.in", "content.zohoapis.in";
    /// Australia: `accounts.zoho.com.au`.
    au = "au", "accounts.zoho.com.au", "zohoapis.com.au", "content.zohoapis.com.au";
    /// Japan: `accounts.zoho.jp`.
    jp = "jp", "accounts.zoho.jp", "zohoapis.jp", "content.zohoapis.jp";
    /// China: `accounts.zoho.com.cn`. Logins of Chinese users must start there.
    cn = "cn", "accounts.zoho.com.cn", "zohoapis.com.cn", "content.zohoapis.com.cn";
    /// Canada: `accounts.zohocloud.ca`.
    ca = "ca", "accounts.zohocloud.ca", "zohoapis.ca", "upload.zohocloud.ca";
    /// Saudi Arabia: `accounts.zoho.sa`.
    sa = "sa", "accounts.zoho.sa", "zohoapis.sa", "files.zoho.sa";
}

impl fmt::Debug for DataCenter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "DataCenter({} at {})", self.name(), self.accounts_url())
    }
}

/// Describes a data center that is not built in. See [`DataCenter::builder`].
pub struct DataCenterBuilder {
    inner: Inner,
    allow_plain_http: bool,
}

impl fmt::Debug for DataCenterBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DataCenterBuilder")
            .field("name", &self.inner.name)
            .field("accounts_url", &self.inner.accounts_url)
            .finish_non_exhaustive()
    }
}

impl DataCenterBuilder {
    /// Sets the API domain of production organisations: what the token answers call `api_domain`.
    #[must_use]
    pub fn api_domain(mut self, url: impl Into<String>) -> Self {
        self.inner.production = Some(url.into());
        self
    }

    /// Sets the API domain of sandbox organisations.
    #[must_use]
    pub fn sandbox_domain(mut self, url: impl Into<String>) -> Self {
        self.inner.sandbox = Some(url.into());
        self
    }

    /// Sets the API domain of developer organisations.
    #[must_use]
    pub fn developer_domain(mut self, url: impl Into<String>) -> Self {
        self.inner.developer = Some(url.into());
        self
    }

    /// Sets the server that takes file uploads.
    #[must_use]
    pub fn upload_url(mut self, url: impl Into<String>) -> Self {
        self.inner.upload_url = Some(url.into());
        self
    }

    /// Allows plain http to other machines. Secrets then cross the network in the open.
    #[must_use]
    pub fn allow_plain_http(mut self) -> Self {
        self.allow_plain_http = true;
        self
    }

    /// Checks the addresses.
    ///
    /// # Errors
    /// `invalid_input` when an address is not an absolute http(s) URL without path, query, fragment
    /// and password; `insecure_url` for plain http to a machine that is not this one.
    pub fn build(mut self) -> Result<DataCenter> {
        if self.inner.name.is_empty() {
            return Err(Error::invalid_input("the name of the data center is empty"));
        }
        text::check("name of the data center", &self.inner.name)?;
        self.inner.name.make_ascii_lowercase();
        let plain = self.allow_plain_http;
        self.inner.accounts_url = checked_url("accounts URL", &self.inner.accounts_url, plain)?;
        for (what, url) in [
            ("API domain", &mut self.inner.production),
            ("sandbox API domain", &mut self.inner.sandbox),
            ("developer API domain", &mut self.inner.developer),
            ("upload URL", &mut self.inner.upload_url),
        ] {
            if let Some(url) = url {
                *url = checked_url(what, url, plain)?;
            }
        }
        Ok(DataCenter(Arc::new(self.inner)))
    }
}

/// The data centers that an application knows.
#[derive(Clone, Debug)]
pub struct DataCenters {
    centers: Vec<DataCenter>,
}

impl Default for DataCenters {
    fn default() -> Self {
        Self::known()
    }
}

impl DataCenters {
    /// Adds a center, in place of one with the same name.
    pub fn add(&mut self, center: DataCenter) {
        self.centers.retain(|known| known.name() != center.name());
        self.centers.push(center);
    }

    /// Returns all centers.
    pub fn iter(&self) -> impl Iterator<Item = &DataCenter> {
        self.centers.iter()
    }

    /// Returns the center with this name (`us`, `eu`, …), in upper or lower case.
    ///
    /// # Errors
    /// `unknown_data_center`.
    pub fn by_name(&self, name: &str) -> Result<&DataCenter> {
        self.centers
            .iter()
            .find(|center| center.name().eq_ignore_ascii_case(name))
            .ok_or_else(|| {
                let known: Vec<_> = self.centers.iter().map(DataCenter::name).collect();
                Error::new(
                    ErrorCode::UnknownDataCenter,
                    format!(
                        "no data center is called `{name}`; known are {}",
                        known.join(", ")
                    ),
                )
            })
    }

    /// Returns the center with this accounts server; of several the one that was added last.
    pub fn by_accounts_url(&self, url: &str) -> Option<&DataCenter> {
        let mut centers = self.centers.iter().rev();
        centers.find(|center| center.has_accounts_url(url))
    }

    /// Returns the center that this API domain, of any environment, belongs to.
    ///
    /// That is the center which names this very address, else one whose own domains the host is
    /// below: `api.zoho.eu` belongs to the center of `www.zohoapis.eu`, since Zoho's documents use
    /// both names. The scheme, `www.` and a slash at the end may be left out. Addresses that are not
    /// Zoho's must be the same but for that. Of several centers the one that was added last counts,
    /// so an application's own goes before a built-in one.
    pub fn by_api_domain(&self, domain: &str) -> Option<&DataCenter> {
        let centers = || self.centers.iter().rev();
        let names = |center: &&DataCenter| {
            let known = [&center.0.production, &center.0.sandbox, &center.0.developer];
            let mut known = known.into_iter().flatten();
            known.any(|known| same_origin(known, domain))
        };
        let owns = |center: &&DataCenter| center.environment_of(domain).is_some();
        centers().find(names).or_else(|| centers().find(owns))
    }

    /// Returns the center that a token with this API domain belongs to.
    ///
    /// A center that does not name any API domain is taken at the word of its accounts server: `own`
    /// or, if that names its API, the only one in this table that does not. A center whose accounts
    /// server is Zoho's own names its API by that.
    ///
    /// This says whose a stored token is. An answer of a center may name its own domains only:
    /// [`Authenticator::session`](crate::Authenticator::session) refuses others.
    ///
    /// # Errors
    /// `unknown_data_center`, naming the server.
    pub fn of_api_domain(&self, domain: &str, own: &DataCenter) -> Result<&DataCenter> {
        let mut silent = self.centers.iter().filter(|center| !center.names_its_api());
        let silent = match (silent.clone().find(|center| *center == own), silent.next()) {
            (Some(own), _) => Some(own),
            (None, only) => only.filter(|_| silent.next().is_none()),
        };
        self.by_api_domain(domain).or(silent).ok_or_else(|| {
            let server = server_of(domain);
            let message = format!("the API domain `{server}` belongs to no known data center");
            Error::new(ErrorCode::UnknownDataCenter, message)
        })
    }
}

/// Returns `url` without a slash at the end, or says what is wrong with it. The address itself is
/// not repeated when it could hold a password.
pub(crate) fn checked_url(what: &str, url: &str, allow_plain_http: bool) -> Result<String> {
    let refused = |why: &str| Err(Error::invalid_input(format!("the {what} {why}")));
    // The parser of URLs would leave such characters out without a word.
    text::check(what, url)?;
    let Ok(parsed) = Url::parse(url) else {
        return refused("is not an absolute URL");
    };
    if !matches!(parsed.scheme(), "http" | "https") || parsed.host().is_none() {
        return refused("is not an http or https URL");
    }
    if !parsed.username().is_empty() || parsed.password().is_some() {
        return refused("holds a user name or password");
    }
    if parsed.query().is_some() || parsed.fragment().is_some() {
        return refused("has a query or a fragment");
    }
    if !matches!(parsed.path(), "" | "/") {
        return refused("has a path: give it without a path");
    }
    if parsed.scheme() == "http" && !allow_plain_http && !is_loopback(&parsed) {
        return Err(Error::new(
            ErrorCode::InsecureUrl,
            format!("the {what} `{parsed}` would send secrets over plain http"),
        ));
    }
    Ok(url.trim_end_matches('/').to_owned())
}

pub(crate) fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Domain(name)) => name == "localhost" || name.ends_with(".localhost"),
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    }
}

/// Whether two URLs name the same scheme, host and port. `other` may leave out its scheme.
pub(crate) fn same_origin(one: &str, other: &str) -> bool {
    match (Url::parse(one), parse_like(one, other)) {
        (Ok(one), Some(other)) => one.origin() == other.origin() && one.origin().is_tuple(),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_the_official_one() {
        let known = DataCenters::known();
        let rows: Vec<_> = known
            .iter()
            .map(|c| {
                (
                    c.name(),
                    c.accounts_url(),
                    c.api_domain(Environment::Sandbox),
                )
            })
            .collect();
        assert_eq!(
            rows,
            [
                (
                    "us",
                    "https://accounts.zoho.com",
                    Some("https://sandbox.zohoapis.com")
                ),
                (
                    "eu",
                    "https://accounts.zoho.eu",
                    Some("https://sandbox.zohoapis.eu")
                ),
                (
                    "in",
                    "https://accounts.zoho.in",
                    Some("https://sandbox.zohoapis.in")
                ),
                (
                    "au",
                    "https://accounts.zoho.com.au",
                    Some("https://sandbox.zohoapis.com.au")
                ),
                (
                    "jp",
                    "https://accounts.zoho.jp",
                    Some("https://sandbox.zohoapis.jp")
                ),
                (
                    "cn",
                    "https://accounts.zoho.com.cn",
                    Some("https://sandbox.zohoapis.com.cn")
                ),
                (
                    "ca",
                    "https://accounts.zohocloud.ca",
                    Some("https://sandbox.zohoapis.ca")
                ),
                (
                    "sa",
                    "https://accounts.zoho.sa",
                    Some("https://sandbox.zohoapis.sa")
                ),
            ]
        );
    }

    #[test]
    fn a_center_is_found_by_each_of_its_addresses() {
        let known = DataCenters::known();
        assert_eq!(known.by_name("EU").unwrap().name(), "eu");
        let by_domain = |domain| known.by_api_domain(domain).map(DataCenter::name);
        assert_eq!(by_domain("https://www.zohoapis.com.cn"), Some("cn"));
        assert_eq!(by_domain("https://developer.zohoapis.eu/"), Some("eu"));
        assert_eq!(by_domain("http://www.zohoapis.eu"), None);
        assert_eq!(by_domain("https://www.zohoapis.eu.evil.example"), None);
        let accounts = |url| known.by_accounts_url(url).map(DataCenter::name);
        assert_eq!(accounts("https://accounts.zoho.in"), Some("in"));
        assert_eq!(accounts("https://accounts.zoho.in@evil.example"), None);
    }

    #[test]
    fn a_host_of_a_centers_own_domains_is_that_center() {
        let mut centers = DataCenters::known();
        let uk = DataCenter::builder("uk", "https://accounts.zoho.uk");
        centers.add(uk.api_domain("https://www.zohoapis.uk").build().unwrap());
        let own = DataCenter::builder("own", "https://accounts.gateway.co.uk");
        let own = own.api_domain("https://gateway.co.uk");
        centers.add(own.build().unwrap());
        let here =
            DataCenter::builder("here", "http://127.0.0.1:1").api_domain("http://127.0.0.1:2");
        centers.add(here.build().unwrap());
        let of = |domain: &str| centers.by_api_domain(domain).map(DataCenter::name);
        for (domain, name) in [
            ("https://api.zoho.com", "us"),
            ("https://api.zoho.eu", "eu"),
            ("https://API.Zoho.EU/", "eu"),
            ("api.zoho.eu", "eu"),
            ("zohoapis.eu", "eu"),
            ("https://zohoapis.com.au", "au"),
            ("https://api.zoho.com.au", "au"),
            ("https://api.zoho.com.cn", "cn"),
            ("https://www.zohoapis.com.cn", "cn"),
            ("https://api.zohocloud.ca", "ca"),
            ("https://api.zoho.sa", "sa"),
            ("https://api.zoho.uk", "uk"),
            ("https://sandbox.zohoapis.uk", "uk"),
            ("https://www.gateway.co.uk", "own"),
            ("gateway.co.uk", "own"),
            ("http://127.0.0.1:2/", "here"),
            ("127.0.0.1:2", "here"),
        ] {
            assert_eq!(of(domain), Some(name), "{domain}");
        }
        for domain in [
            "",
            " ",
            "https://evilzoho.eu",
            "https://zoho.eu.evil.test",
            "https://api.zoho.eu@evil.test",
            "https://evil.test/api.zoho.eu",
            "https://evil.test#api.zoho.eu",
            "https://evil.test?api.zoho.eu",
            "http://api.zoho.eu",
            "https://api.zoho.eu:444",
            "ftp://api.zoho.eu",
            "https://zoho.ca",
            "https://co.uk",
            "https://other.co.uk",
            "https://zoho.mars",
            "http://127.0.0.1:3",
            "https://127.0.0.1:2",
            "http://x.127.0.0.1:2",
            "https://com",
            "https://eu",
        ] {
            assert_eq!(of(domain), None, "{domain}");
        }
    }

    #[test]
    fn an_application_that_adds_a_center_means_it() {
        let mut centers = DataCenters::known();
        let stub = DataCenter::builder("stub", "http://127.0.0.1:1");
        let stub = stub.api_domain("https://www.zohoapis.eu").build().unwrap();
        centers.add(stub);
        for domain in ["https://www.zohoapis.eu", "https://api.zoho.eu"] {
            let center = centers.by_api_domain(domain).unwrap();
            assert_eq!(center.name(), "stub");
            let environment = center.environment_of(domain);
            assert_eq!(environment, Some(Environment::Production));
        }
        let sandbox = DataCenter::eu().environment_of("sandbox.zohoapis.eu/");
        assert_eq!(sandbox, Some(Environment::Sandbox));
    }

    #[test]
    fn addresses_are_given_without_a_path() {
        let builder = || DataCenter::builder("x", "https://accounts.zoho.eu/");
        let path = "https://accounts.zoho.eu/oauth/v2/token";
        for (what, builder) in [
            ("accounts URL", DataCenter::builder("x", path)),
            (
                "accounts URL",
                DataCenter::builder("x", "https://accounts.zoho.eu//"),
            ),
            (
                "API domain",
                builder().api_domain("https://www.zohoapis.eu/crm/v8"),
            ),
            (
                "sandbox",
                builder().sandbox_domain("https://sandbox.zohoapis.eu/crm/v8/"),
            ),
            (
                "developer",
                builder().developer_domain("https://developer.zohoapis.eu/crm"),
            ),
            (
                "upload URL",
                builder().upload_url("https://content.zohoapis.eu/crm/v8/upload"),
            ),
        ] {
            let error = builder.build().unwrap_err();
            assert_eq!(error.code(), ErrorCode::InvalidInput);
            let text = error.to_string();
            assert!(
                text.contains(what) && text.contains("without a path"),
                "{text}"
            );
        }
        let built = builder()
            .api_domain("https://www.zohoapis.eu/")
            .build()
            .unwrap();
        assert_eq!(built.accounts_url(), "https://accounts.zoho.eu");
        let api = built.api_domain(Environment::Production);
        assert_eq!(api, Some("https://www.zohoapis.eu"));
    }

    #[test]
    fn an_unknown_name_lists_the_known_ones() {
        let error = DataCenters::known().by_name("mars").unwrap_err();
        assert_eq!(error.code().as_str(), "unknown_data_center");
        assert!(error.to_string().contains("us, eu, in"));
    }

    #[test]
    fn plain_http_is_for_this_machine_only() {
        let build = |url: &str| DataCenter::builder("x", url).build();
        assert!(build("http://127.0.0.1:8080/").is_ok());
        assert!(build("http://localhost:8080").is_ok());
        assert!(build("http://[::1]:8080").is_ok());
        for (url, code) in [
            ("http://accounts.example", "insecure_url"),
            ("http://localhost.example", "insecure_url"),
            ("ftp://accounts.example", "invalid_input"),
            ("accounts.example", "invalid_input"),
            ("https://user:hunter2@accounts.example", "invalid_input"),
            ("https://accounts.example/?a=b", "invalid_input"),
        ] {
            let error = build(url).unwrap_err();
            assert_eq!(error.code().as_str(), code, "{url}");
            assert!(!error.to_string().contains("hunter2"));
        }
        let allowed = DataCenter::builder("x", "http://accounts.example").allow_plain_http();
        assert!(allowed.build().is_ok());
    }
}
