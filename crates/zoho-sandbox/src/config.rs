//! What a sandbox is made of: clients, people, organisations, data centers and rules.
//!
//! Everything here can be written in Rust or read from TOML; unknown keys are errors.

use std::collections::BTreeMap;
use std::fmt;

use serde::Deserialize;

/// An application registered in the (emulated) API console.
#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct Client {
    /// The client ID, as `1000.` and upper-case letters and digits.
    pub id: String,
    /// The client secret that holds in every data center without an entry in [`Client::secrets`].
    pub secret: String,
    /// What the consent page calls the application.
    #[serde(default = "default_client_name")]
    pub name: String,
    /// The redirect URIs that are registered; a request must name one of them exactly.
    #[serde(default)]
    pub redirect_uris: Vec<String>,
    /// Web application or self client.
    #[serde(default)]
    pub kind: ClientKind,
    /// Secrets of single data centers, by location code. Zoho lets them differ.
    #[serde(default)]
    pub secrets: BTreeMap<String, String>,
    /// Location codes where the client is known; empty for all of them (multi-DC switched on).
    #[serde(default)]
    pub centers: Vec<String>,
}

fn default_client_name() -> String {
    "Northlight Student Portal".into()
}

/// The kinds of client the sandbox knows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ClientKind {
    /// A server-based application with redirect URIs.
    #[default]
    Web,
    /// A self client: codes from the API console and client credentials, no page.
    #[serde(rename = "self")]
    SelfClient,
}

impl Client {
    /// A web application with one registered redirect URI.
    pub fn web(
        id: impl Into<String>,
        secret: impl Into<String>,
        redirect_uri: impl Into<String>,
    ) -> Self {
        Self {
            redirect_uris: vec![redirect_uri.into()],
            ..Self::self_client(id, secret).kind(ClientKind::Web)
        }
    }

    /// A self client: no redirect URI.
    pub fn self_client(id: impl Into<String>, secret: impl Into<String>) -> Self {
        Self {
            id: id.into(),
            secret: secret.into(),
            name: default_client_name(),
            redirect_uris: Vec::new(),
            kind: ClientKind::SelfClient,
            secrets: BTreeMap::new(),
            centers: Vec::new(),
        }
    }

    /// Sets what the consent page calls the application.
    #[must_use]
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = name.into();
        self
    }

    /// Registers one more redirect URI.
    #[must_use]
    pub fn redirect_uri(mut self, uri: impl Into<String>) -> Self {
        self.redirect_uris.push(uri.into());
        self
    }

    /// Sets the secret of one data center.
    #[must_use]
    pub fn secret_in(mut self, center: impl Into<String>, secret: impl Into<String>) -> Self {
        self.secrets.insert(center.into(), secret.into());
        self
    }

    fn kind(mut self, kind: ClientKind) -> Self {
        self.kind = kind;
        self
    }

    /// The secret that holds in `center`, or `None` where the client is not known.
    pub(crate) fn secret_at(&self, center: &str) -> Option<&str> {
        let known = self.centers.is_empty() || self.centers.iter().any(|name| name == center);
        known.then(|| self.secrets.get(center).unwrap_or(&self.secret).as_str())
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Client")
            .field("id", &self.id)
            .field("secret", &"[redacted]")
            .field("name", &self.name)
            .field("redirect_uris", &self.redirect_uris)
            .field("kind", &self.kind)
            .field("secrets", &self.secrets.keys().collect::<Vec<_>>())
            .field("centers", &self.centers)
            .finish()
    }
}

/// Somebody who can sign in.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct Person {
    /// The address that identifies the person; compared without case.
    pub email: String,
    /// Given name.
    #[serde(default)]
    pub first_name: String,
    /// Family name.
    #[serde(default)]
    pub last_name: String,
    /// The name of the [`Organisation`] the person belongs to; empty for the first one.
    #[serde(default)]
    pub organisation: String,
    /// Whether the person has the profile `Administrator` rather than `Standard`.
    #[serde(default)]
    pub administrator: bool,
}

impl Person {
    /// A person of the first organisation whose names are taken from the address.
    pub fn new(email: impl Into<String>) -> Self {
        let email = email.into();
        let (first_name, last_name) = names_from(&email);
        Self {
            email,
            first_name,
            last_name,
            organisation: String::new(),
            administrator: false,
        }
    }

    /// Sets the names.
    #[must_use]
    pub fn named(mut self, first: impl Into<String>, last: impl Into<String>) -> Self {
        self.first_name = first.into();
        self.last_name = last.into();
        self
    }

    /// Puts the person into an organisation, by its name.
    #[must_use]
    pub fn of(mut self, organisation: impl Into<String>) -> Self {
        self.organisation = organisation.into();
        self
    }

    /// Makes the person an administrator.
    #[must_use]
    pub fn administrator(mut self) -> Self {
        self.administrator = true;
        self
    }

    /// First and last name with a space between.
    pub fn full_name(&self) -> String {
        format!("{} {}", self.first_name, self.last_name)
            .trim()
            .to_owned()
    }

    /// Fills names that a configuration file left out.
    pub(crate) fn with_names(mut self) -> Self {
        if self.first_name.is_empty() && self.last_name.is_empty() {
            (self.first_name, self.last_name) = names_from(&self.email);
        }
        self
    }
}

fn names_from(email: &str) -> (String, String) {
    let local = email.split('@').next().unwrap_or_default();
    let mut words = local.split(['.', '_', '-', '+']).map(|word| {
        let mut letters = word.chars();
        letters
            .next()
            .map(|first| first.to_uppercase().chain(letters).collect::<String>())
            .unwrap_or_default()
    });
    let first = words.next().unwrap_or_default();
    let rest: Vec<String> = words.collect();
    if rest.is_empty() {
        (String::new(), first)
    } else {
        (first, rest.join(" "))
    }
}

/// A CRM organisation: its people share their records, and nobody else sees them.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct Organisation {
    /// The company's name.
    pub name: String,
    /// The location code of the data center where the organisation lives.
    #[serde(default = "default_center")]
    pub center: String,
    /// Whether the organisation starts with demo records.
    #[serde(default)]
    pub demo_records: bool,
}

fn default_center() -> String {
    "us".into()
}

impl Organisation {
    /// An organisation without records in the data center `center`.
    pub fn new(name: impl Into<String>, center: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            center: center.into(),
            demo_records: false,
        }
    }

    /// Lets the organisation start with demo records.
    #[must_use]
    pub fn with_demo_records(mut self) -> Self {
        self.demo_records = true;
        self
    }
}

/// A data center: an accounts server and an API host with an address of their own.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct DataCenter {
    /// The location code, such as `us` or `eu`.
    pub name: String,
    /// Where to listen, as `HOST:PORT`. Left out: the sandbox's own address for the first
    /// data center, any free port of the same host for the others.
    #[serde(default)]
    pub listen: Option<String>,
}

impl DataCenter {
    /// A data center on a port the sandbox chooses.
    pub fn new(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            listen: None,
        }
    }

    /// Sets where this data center listens, as `HOST:PORT`.
    #[must_use]
    pub fn listen(mut self, address: impl Into<String>) -> Self {
        self.listen = Some(address.into());
        self
    }
}

/// The rules of the accounts server and the CRM, with the real service's figures as defaults.
///
/// Zoho's documents disagree about some of them; each field says which reading is the default.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[non_exhaustive]
pub struct Rules {
    /// Life of an access token in seconds (Zoho Accounts and CRM documentation: one hour).
    pub access_token_life_s: u64,
    /// Life of a grant code from the authorization page in seconds. Zoho Accounts documentation:
    /// two minutes, the default; the CRM's says three, some products' one.
    pub code_life_s: u64,
    /// Life of a grant code from the API console in seconds (three to ten minutes can be chosen
    /// there; three is Zoho's default and ours).
    pub self_client_code_life_s: u64,
    /// The length of the windows of [`Rules::mint_limit`] and [`Rules::code_limit`], in seconds.
    pub window_s: u64,
    /// Access tokens made from one refresh token in one window, then `Access Denied` until it
    /// ends (CRM documentation: token validity, ten in ten minutes). Zero for no limit.
    /// The access token that comes with a code exchange is not counted.
    pub mint_limit: u32,
    /// Live access tokens of one refresh token; one more ends the oldest. The CRM documentation
    /// says 15, the default; Zoho Accounts says 10, other products 30. Zero for no limit.
    pub live_access_tokens: u32,
    /// Refresh tokens of one person with one client; one more deletes the oldest
    /// (CRM documentation: 20). Zero for no limit.
    pub refresh_tokens: u32,
    /// Grant codes of one client in one window, then `access_denied`
    /// (CRM documentation: ten in ten minutes). Zero for no limit.
    pub code_limit: u32,
    /// HTTP status of a throttled token request: public logs show 400, the default; a Zoho forum
    /// post says 200.
    pub throttle_status: u16,
    /// HTTP status of a revocation of an unknown token (Zoho Accounts documentation: 400).
    pub revoke_unknown_status: u16,
    /// HTTP status of `OAUTH_SCOPE_MISMATCH`: mostly 401, the default; one example has 403.
    pub scope_mismatch_status: u16,
    /// Whether presenting a used code also ends the tokens of its first use, as RFC 6749 advises.
    /// Zoho does not say so; the default is no.
    pub revoke_on_code_reuse: bool,
    /// Whether a record with a field the module does not have is refused (the default) or the
    /// field passed over.
    pub refuse_unknown_fields: bool,
    /// Whether every record needs the fields that are mandatory only in a layout (`Company` of a
    /// lead). The default is no: they are asked for where the record names its `Layout`, as
    /// Zoho's documentation of upsert has it.
    pub require_layout_fields: bool,
}

impl Default for Rules {
    fn default() -> Self {
        Self {
            access_token_life_s: 3600,
            code_life_s: 120,
            self_client_code_life_s: 180,
            window_s: 600,
            mint_limit: 10,
            live_access_tokens: 15,
            refresh_tokens: 20,
            code_limit: 10,
            throttle_status: 400,
            revoke_unknown_status: 400,
            scope_mismatch_status: 401,
            revoke_on_code_reuse: false,
            refuse_unknown_fields: true,
            require_layout_fields: false,
        }
    }
}
