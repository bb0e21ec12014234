//! Putting a sandbox together: [`SandboxBuilder`] and the checks before it starts.

use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use url::Url;

use crate::config::{Client, DataCenter, Organisation, Person, Rules};
use crate::hosts::Hosts;
use crate::recorder::LOG_BYTES;
use crate::sandbox::Sandbox;
use crate::shared::{Center, Shared};
use crate::{Error, demo, server};

/// Builds a [`Sandbox`]. Without further calls: the demo client, people, organisations and
/// records, the data centers `us` and `eu`, and the rules of the real service.
#[derive(Clone, Debug)]
#[must_use = "a builder does nothing until `start` is called"]
pub struct SandboxBuilder {
    listen: String,
    rules: Rules,
    default_client: Client,
    clients: Vec<Client>,
    people: Vec<Person>,
    organisations: Vec<Organisation>,
    centers: Vec<DataCenter>,
    request_log_bytes: usize,
}

impl Default for SandboxBuilder {
    fn default() -> Self {
        Self {
            listen: "127.0.0.1:0".into(),
            rules: Rules::default(),
            default_client: demo::client(),
            clients: Vec::new(),
            people: demo::people(),
            organisations: demo::organisations(),
            centers: vec![DataCenter::new("us"), DataCenter::new("eu")],
            request_log_bytes: LOG_BYTES,
        }
    }
}

impl SandboxBuilder {
    /// Sets where the first data center listens, as `HOST:PORT`. The default is
    /// `127.0.0.1:0`: any free port.
    pub fn listen(mut self, address: impl Into<String>) -> Self {
        self.listen = address.into();
        self
    }

    /// Sets all rules at once.
    pub fn rules(mut self, rules: Rules) -> Self {
        self.rules = rules;
        self
    }

    /// Changes single rules, for example `.rule(|rules| rules.code_limit = 0)`.
    pub fn rule(mut self, change: impl FnOnce(&mut Rules)) -> Self {
        change(&mut self.rules);
        self
    }

    /// Sets the life of access tokens; whole seconds, rounded down. The default is one hour.
    pub fn access_token_life(self, life: Duration) -> Self {
        self.rule(|rules| rules.access_token_life_s = life.as_secs())
    }

    /// Sets the life of grant codes, from the page and from the console; whole seconds.
    pub fn code_life(self, life: Duration) -> Self {
        self.rule(|rules| {
            rules.code_life_s = life.as_secs();
            rules.self_client_code_life_s = life.as_secs();
        })
    }

    /// Sets how many access tokens one refresh token yields in ten minutes; zero for no limit.
    pub fn mint_limit(self, limit: u32) -> Self {
        self.rule(|rules| rules.mint_limit = limit)
    }

    /// Asks every record for the fields that are mandatory only in a layout, such as the company
    /// of a lead: see [`Rules::require_layout_fields`].
    pub fn require_layout_fields(self) -> Self {
        self.rule(|rules| rules.require_layout_fields = true)
    }

    /// Switches off every limit on how much may be issued, for load tests.
    pub fn no_limits(self) -> Self {
        self.rule(|rules| {
            rules.mint_limit = 0;
            rules.live_access_tokens = 0;
            rules.refresh_tokens = 0;
            rules.code_limit = 0;
        })
    }

    /// Replaces the default client, the one of [`Sandbox::client_id`].
    pub fn default_client(mut self, client: Client) -> Self {
        self.default_client = client;
        self
    }

    /// Sets the default client's ID.
    pub fn client_id(mut self, id: impl Into<String>) -> Self {
        self.default_client.id = id.into();
        self
    }

    /// Sets the default client's secret.
    pub fn client_secret(mut self, secret: impl Into<String>) -> Self {
        self.default_client.secret = secret.into();
        self
    }

    /// Sets the default client's only redirect URI.
    pub fn redirect_uri(mut self, uri: impl Into<String>) -> Self {
        self.default_client.redirect_uris = vec![uri.into()];
        self
    }

    /// Registers one more client, beside the default one.
    pub fn client(mut self, client: Client) -> Self {
        self.clients.push(client);
        self
    }

    /// Adds a person, beside the demo people.
    pub fn person(mut self, person: Person) -> Self {
        self.people.push(person.with_names());
        self
    }

    /// Adds an organisation, beside the demo ones.
    pub fn organisation(mut self, organisation: Organisation) -> Self {
        self.organisations.push(organisation);
        self
    }

    /// Adds a data center, or replaces the one of the same name.
    pub fn data_center(mut self, center: DataCenter) -> Self {
        match self
            .centers
            .iter_mut()
            .find(|known| known.name == center.name)
        {
            Some(known) => *known = center,
            None => self.centers.push(center),
        }
        self
    }

    /// Sets how many bytes of memory the log of [`Sandbox::requests`] takes; the oldest requests
    /// go first. The default is 32 MiB; zero is no log.
    pub fn request_log_bytes(mut self, bytes: usize) -> Self {
        self.request_log_bytes = bytes;
        self
    }

    /// Leaves out the demo people and organisations; add your own after this call.
    pub fn without_demo(mut self) -> Self {
        self.people.clear();
        self.organisations.clear();
        self
    }

    /// Starts the sandbox: when this resolves, its data centers accept connections.
    ///
    /// Must run inside a tokio runtime, on which the servers then run.
    ///
    /// # Errors
    /// [`Error::Config`] when the parts do not fit together, [`Error::Listen`] when an address
    /// cannot be had.
    pub async fn start(mut self) -> Result<Sandbox, Error> {
        self.check()?;
        let mut listeners = Vec::new();
        let mut centers = Vec::new();
        for (position, center) in self.centers.iter().enumerate() {
            let address = match &center.listen {
                Some(address) => address.clone(),
                None if position == 0 => self.listen.clone(),
                None => any_port_beside(&self.listen),
            };
            let refused = |source| Error::Listen {
                address: address.clone(),
                source,
            };
            let listener = TcpListener::bind(&address).await.map_err(refused)?;
            let bound = listener.local_addr().map_err(refused)?;
            // The announced host is the one that was asked for: clients compare URLs as text,
            // and `localhost` is not `127.0.0.1` to them.
            let host = address
                .rsplit_once(':')
                .map_or("127.0.0.1", |(host, _)| host);
            let host = match host {
                "0.0.0.0" | "" => "127.0.0.1",
                "[::]" => "[::1]",
                other => other,
            };
            let url = format!("http://{host}:{}", bound.port());
            let hosts = Hosts::new(&url, bound.ip().is_unspecified())
                .ok_or_else(|| config(format!("`{address}` is not a host with a port")))?;
            centers.push(Center {
                name: center.name.clone(),
                url,
                hosts,
            });
            listeners.push(listener);
        }
        let shared = Arc::new(self.into_shared(centers));
        let servers = listeners
            .into_iter()
            .enumerate()
            .map(|(center, listener)| server::serve(listener, Arc::clone(&shared), center))
            .collect();
        Ok(Sandbox::new(shared, servers))
    }

    /// Makes a sandbox that listens nowhere: its first data center is served by
    /// [`Sandbox::router`], which the caller mounts at `base_url`. Requests must name the host of
    /// `base_url`; a proxy in between must pass `Host` on. Other data centers are
    /// dropped, and so are the people who live there.
    ///
    /// # Errors
    /// [`Error::Config`] when the parts do not fit together or `base_url` is not an http URL.
    pub fn mounted_at(mut self, base_url: &str) -> Result<Sandbox, Error> {
        let url = base_url.trim_end_matches('/');
        let hosts = Hosts::new(url, false)
            .ok_or_else(|| config(format!("`{base_url}` is not an http URL")))?;
        self.centers.truncate(1);
        let centers = &self.centers;
        let here = |name: &str| centers.iter().any(|center| center.name == name);
        self.organisations
            .retain(|organisation| here(&organisation.center));
        let organisations = &self.organisations;
        self.people.retain(|person| {
            person.organisation.is_empty()
                || organisations
                    .iter()
                    .any(|organisation| organisation.name == person.organisation)
        });
        self.check()?;
        let center = Center {
            name: self.centers[0].name.clone(),
            url: url.to_owned(),
            hosts,
        };
        Ok(Sandbox::new(
            Arc::new(self.into_shared(vec![center])),
            Vec::new(),
        ))
    }

    fn into_shared(self, centers: Vec<Center>) -> Shared {
        let mut clients = vec![self.default_client];
        clients.extend(self.clients);
        Shared::new(
            self.rules,
            clients,
            self.people,
            self.organisations,
            centers,
            self.request_log_bytes,
        )
    }

    /// Refuses what could not work, naming the entry.
    fn check(&mut self) -> Result<(), Error> {
        if self.centers.is_empty() {
            return Err(config("there is no data center".into()));
        }
        for center in &self.centers {
            let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
            if center.name.is_empty() || !center.name.bytes().all(plain) {
                return Err(config(format!(
                    "data center `{}`: a location code is lower-case letters, such as `eu`",
                    center.name
                )));
            }
        }
        self.check_clients()?;
        self.check_people()?;
        for (name, status) in [
            ("throttle_status", self.rules.throttle_status),
            ("revoke_unknown_status", self.rules.revoke_unknown_status),
            ("scope_mismatch_status", self.rules.scope_mismatch_status),
        ] {
            if !(200..=599).contains(&status) {
                return Err(config(format!("rule `{name}`: {status} is no HTTP status")));
            }
        }
        Ok(())
    }

    fn check_clients(&self) -> Result<(), Error> {
        let mut seen = Vec::new();
        for client in std::iter::once(&self.default_client).chain(&self.clients) {
            let id = &client.id;
            if id.is_empty() || client.secret.is_empty() {
                return Err(config(format!("client `{id}`: id and secret are needed")));
            }
            if seen.contains(&id) {
                return Err(config(format!("client `{id}` is there twice")));
            }
            seen.push(id);
            for uri in &client.redirect_uris {
                let web = Url::parse(uri)
                    .is_ok_and(|url| matches!(url.scheme(), "http" | "https") && url.has_host());
                if !web {
                    return Err(config(format!(
                        "client `{id}`: redirect URI `{uri}` is not an http or https URL"
                    )));
                }
            }
            for center in client.secrets.keys().chain(&client.centers) {
                if !self.centers.iter().any(|known| known.name == *center) {
                    return Err(config(format!(
                        "client `{id}`: there is no data center `{center}`"
                    )));
                }
            }
        }
        Ok(())
    }

    fn check_people(&mut self) -> Result<(), Error> {
        if self.organisations.is_empty() {
            self.organisations.push(Organisation::new(
                "Sandbox Organisation",
                self.centers[0].name.clone(),
            ));
        }
        for (position, organisation) in self.organisations.iter().enumerate() {
            let name = &organisation.name;
            if !self
                .centers
                .iter()
                .any(|center| center.name == organisation.center)
            {
                return Err(config(format!(
                    "organisation `{name}`: there is no data center `{}`",
                    organisation.center
                )));
            }
            if self.organisations[..position]
                .iter()
                .any(|other| other.name == *name)
            {
                return Err(config(format!("organisation `{name}` is there twice")));
            }
        }
        let first = self.organisations[0].name.clone();
        for position in 0..self.people.len() {
            let (before, rest) = self.people.split_at_mut(position);
            let person = &mut rest[0];
            if person.organisation.is_empty() {
                person.organisation.clone_from(&first);
            }
            let email = &person.email;
            if !email.contains('@') {
                return Err(config(format!(
                    "person `{email}`: that is no e-mail address"
                )));
            }
            if before
                .iter()
                .any(|other| other.email.eq_ignore_ascii_case(email))
            {
                return Err(config(format!("person `{email}` is there twice")));
            }
            if !self
                .organisations
                .iter()
                .any(|organisation| organisation.name == person.organisation)
            {
                return Err(config(format!(
                    "person `{email}`: there is no organisation `{}`",
                    person.organisation
                )));
            }
        }
        Ok(())
    }
}

fn config(text: String) -> Error {
    Error::Config(text)
}

/// The same host with port zero.
fn any_port_beside(address: &str) -> String {
    match address.rsplit_once(':') {
        Some((host, _)) => format!("{host}:0"),
        None => "127.0.0.1:0".into(),
    }
}
