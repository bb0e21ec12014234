//! The state that every endpoint of one sandbox works on.

use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::accounts::{PENDING_LIFE_S, Pending};
use crate::clock::Clock;
use crate::config::{Client, Organisation, Person, Rules};
use crate::crm::Crm;
use crate::expiring::Expiring;
use crate::faults::Faults;
use crate::hosts::Hosts;
use crate::ledger::Ledger;
use crate::recorder::Recorder;

/// Maximum number of logins that wait for their forms. Each holds a URL or form of parameters, with a
/// bounded number of scopes.
const PENDING_LIMIT: usize = 2_000;

/// What a sandbox is made of once it is checked, plus what has happened in it.
pub(crate) struct Shared {
    pub(crate) rules: Rules,
    pub(crate) clients: Vec<Client>,
    pub(crate) people: Vec<Person>,
    pub(crate) organisations: Vec<Organisation>,
    pub(crate) centers: Vec<Center>,
    pub(crate) clock: Clock,
    pub(crate) faults: Faults,
    pub(crate) recorder: Recorder,
    ledger: Mutex<Ledger>,
    pending: Mutex<Expiring<Pending>>,
    crm: Mutex<Crm>,
}

/// A data center as it is reached.
#[derive(Clone, Debug)]
pub(crate) struct Center {
    pub(crate) name: String,
    /// `http://host:port`, without a slash at the end.
    pub(crate) url: String,
    /// The hosts that it answers for.
    pub(crate) hosts: Hosts,
}

impl Shared {
    pub(crate) fn new(
        rules: Rules,
        clients: Vec<Client>,
        people: Vec<Person>,
        organisations: Vec<Organisation>,
        centers: Vec<Center>,
        request_log_bytes: usize,
    ) -> Self {
        let crm = Crm::new(&organisations, &people);
        Self {
            rules,
            clients,
            people,
            organisations,
            centers,
            clock: Clock::default(),
            faults: Faults::default(),
            recorder: Recorder::new(request_log_bytes),
            ledger: Mutex::default(),
            pending: Mutex::new(Expiring::new(PENDING_LIMIT, PENDING_LIFE_S)),
            crm: Mutex::new(crm),
        }
    }

    pub(crate) fn ledger(&self) -> MutexGuard<'_, Ledger> {
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn pending(&self) -> MutexGuard<'_, Expiring<Pending>> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn crm(&self) -> MutexGuard<'_, Crm> {
        self.crm.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn client(&self, id: &str) -> Option<&Client> {
        self.clients.iter().find(|client| client.id == id)
    }

    pub(crate) fn person(&self, email: &str) -> Option<&Person> {
        self.people
            .iter()
            .find(|person| person.email.eq_ignore_ascii_case(email))
    }

    /// The position of the person's organisation.
    pub(crate) fn organisation_of(&self, person: &Person) -> usize {
        self.organisations
            .iter()
            .position(|organisation| organisation.name == person.organisation)
            .unwrap_or_default()
    }

    /// The location code of the data center where the person lives.
    pub(crate) fn home_of(&self, person: &Person) -> &str {
        &self.organisations[self.organisation_of(person)].center
    }

    /// The person's Zoho user ID; the same in every sandbox with the same people.
    pub(crate) fn zuid_of(&self, person: &Person) -> u64 {
        let position = self
            .people
            .iter()
            .position(|other| other.email == person.email)
            .unwrap_or_default();
        700_100_001 + position as u64
    }

    pub(crate) fn center(&self, name: &str) -> Option<&Center> {
        self.centers.iter().find(|center| center.name == name)
    }

    /// Forgets every code, token, record change, fault, count and logged request.
    pub(crate) fn reset(&self) {
        *self.ledger() = Ledger::default();
        self.pending().clear();
        *self.crm() = Crm::new(&self.organisations, &self.people);
        self.faults.clear();
        self.recorder.reset();
    }
}
