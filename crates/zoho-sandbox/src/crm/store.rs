//! The CRM's data: organisations with their users and records.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::read::PAGE_TOKEN_LIFE_S;
use super::schema::{Kind, Module};
use crate::clock;
use crate::config::{Organisation, Person};
use crate::demo;
use crate::expiring::Expiring;

/// A record by field API name. System keys and fields that are null may be missing.
pub(crate) type Record = Map<String, Value>;

/// 12 January 2026, 09:15:01 UTC: when the demo records and people were made.
pub(crate) const EPOCH_MS: u64 = 1_768_209_301_000;

/// IDs of an organisation are this many apart from the next one's.
const ID_SPAN: u64 = 1_000_000_000;

/// How many page tokens an organisation has at most.
const PAGE_TOKENS_LIMIT: usize = 1_000;

/// The data of all organisations of a sandbox.
pub(crate) struct Crm {
    organisations: Vec<OrgData>,
}

/// The data of one organisation.
pub(crate) struct OrgData {
    pub(crate) name: String,
    pub(crate) zgid: u64,
    pub(crate) center: String,
    pub(crate) users: Vec<User>,
    /// Records by module API name, then by ID.
    modules: BTreeMap<&'static str, BTreeMap<u64, Record>>,
    pub(crate) deleted: Vec<Deleted>,
    pub(crate) page_tokens: Expiring<PageToken>,
    first_id: u64,
    next_record: u64,
}

/// A user of an organisation.
#[derive(Clone, Debug)]
pub(crate) struct User {
    pub(crate) id: u64,
    pub(crate) zuid: u64,
    pub(crate) email: String,
    pub(crate) first_name: String,
    pub(crate) last_name: String,
    pub(crate) full_name: String,
    pub(crate) administrator: bool,
}

impl User {
    /// The user where a record points to one.
    pub(crate) fn reference(&self) -> Value {
        json!({ "name": self.full_name, "id": self.id.to_string(), "email": self.email })
    }

    /// The user without address, as write answers have it.
    pub(crate) fn short_reference(&self) -> Value {
        json!({ "name": self.full_name, "id": self.id.to_string() })
    }
}

/// What is known of a record that was deleted.
pub(crate) struct Deleted {
    pub(crate) module: &'static str,
    pub(crate) id: u64,
    pub(crate) display_name: String,
    pub(crate) by: Value,
    pub(crate) created_by: Value,
    pub(crate) at_ms: u64,
}

/// Where a list goes on.
pub(crate) struct PageToken {
    /// The user and parameters the token is bound to.
    pub(crate) bound_to: [u8; 32],
    pub(crate) offset: usize,
    pub(crate) page: usize,
    pub(crate) expires_ms: u64,
}

impl Crm {
    pub(crate) fn new(organisations: &[Organisation], people: &[Person]) -> Self {
        let organisations = organisations
            .iter()
            .enumerate()
            .map(|(position, organisation)| OrgData::new(position as u64, organisation, people))
            .collect();
        Self { organisations }
    }

    pub(crate) fn organisation(&mut self, position: usize) -> &mut OrgData {
        &mut self.organisations[position]
    }

    pub(crate) fn organisation_by_zgid(&self, zgid: &str) -> Option<usize> {
        let mut organisations = self.organisations.iter();
        organisations.position(|organisation| organisation.zgid.to_string() == zgid)
    }
}

impl OrgData {
    fn new(position: u64, organisation: &Organisation, people: &[Person]) -> Self {
        let first_id = (5_540_230 + position) * ID_SPAN;
        let users = people
            .iter()
            .enumerate()
            .filter(|(_, person)| person.organisation == organisation.name)
            .map(|(at, person)| User {
                id: first_id + 1001 + at as u64,
                zuid: 700_100_001 + at as u64,
                email: person.email.clone(),
                first_name: person.first_name.clone(),
                last_name: person.last_name.clone(),
                full_name: person.full_name(),
                administrator: person.administrator,
            })
            .collect();
        let mut data = Self {
            name: organisation.name.clone(),
            zgid: 600_123_001 + position,
            center: organisation.center.clone(),
            users,
            modules: BTreeMap::new(),
            deleted: Vec::new(),
            // A day longer than they are good, for the answer that says so.
            page_tokens: Expiring::new(PAGE_TOKENS_LIMIT, 2 * PAGE_TOKEN_LIFE_S),
            first_id,
            next_record: first_id + 100_001,
        };
        if organisation.demo_records && !data.users.is_empty() {
            demo::fill(&mut data, position == 0);
        }
        data
    }

    /// The ID of something that is not a record, made from a small number.
    pub(crate) fn fixed_id(&self, number: u64) -> String {
        (self.first_id + number).to_string()
    }

    pub(crate) fn user(&self, email: &str) -> Option<&User> {
        let mut users = self.users.iter();
        users.find(|user| user.email.eq_ignore_ascii_case(email))
    }

    pub(crate) fn user_by_id(&self, id: u64) -> Option<&User> {
        self.users.iter().find(|user| user.id == id)
    }

    /// The records of a module in the order of their IDs.
    pub(crate) fn records(&self, module: &Module) -> impl DoubleEndedIterator<Item = &Record> {
        self.modules
            .get(module.api_name)
            .into_iter()
            .flat_map(BTreeMap::values)
    }

    pub(crate) fn record(&self, module: &Module, id: u64) -> Option<&Record> {
        self.modules.get(module.api_name)?.get(&id)
    }

    /// Adds a record whose fields have been checked; answers its ID.
    pub(crate) fn insert(
        &mut self,
        module: &Module,
        mut fields: Record,
        user: &User,
        now: u64,
    ) -> u64 {
        let id = self.next_record;
        self.next_record += 1;
        fields.insert("id".into(), id.to_string().into());
        fields.entry("Owner").or_insert_with(|| user.reference());
        fields.insert("Created_By".into(), user.reference());
        fields.insert("Created_Time".into(), clock::iso(now).into());
        for field in &module.fields {
            if field.kind == Kind::Boolean && !fields.contains_key(field.api_name) {
                fields.insert(field.api_name.into(), Value::Bool(false));
            }
        }
        touch(&mut fields, user, now);
        self.modules
            .entry(module.api_name)
            .or_default()
            .insert(id, fields);
        id
    }

    /// Changes fields that have been checked; the record must exist.
    pub(crate) fn update(
        &mut self,
        module: &Module,
        id: u64,
        fields: Record,
        user: &User,
        now: u64,
    ) {
        let records = self.modules.get_mut(module.api_name);
        let Some(record) = records.and_then(|records| records.get_mut(&id)) else {
            return;
        };
        record.extend(fields);
        touch(record, user, now);
    }

    /// Deletes a record into the recycle bin; `false` when it was not there.
    pub(crate) fn delete(&mut self, module: &Module, id: u64, user: &User, now: u64) -> bool {
        let records = self.modules.get_mut(module.api_name);
        let Some(record) = records.and_then(|records| records.remove(&id)) else {
            return false;
        };
        self.deleted.push(Deleted {
            module: module.api_name,
            id,
            display_name: text(&record, module.name_field).to_owned(),
            by: user.short_reference(),
            created_by: record.get("Created_By").cloned().unwrap_or_default(),
            at_ms: now,
        });
        true
    }
}

/// What every write does: who and when, and the name made of names.
fn touch(record: &mut Record, user: &User, now: u64) {
    record.insert("Modified_By".into(), user.reference());
    record.insert("Modified_Time".into(), clock::iso(now).into());
    if record.contains_key("Last_Name") {
        let first = text(record, "First_Name");
        let full = format!("{first} {}", text(record, "Last_Name"));
        record.insert("Full_Name".into(), full.trim().into());
    }
}

/// A text value of a record, empty when it has none.
pub(crate) fn text<'a>(record: &'a Record, field: &str) -> &'a str {
    record
        .get(field)
        .and_then(Value::as_str)
        .unwrap_or_default()
}
