//! Invented people and records: Northlight Academy and two schools beside it.
//!
//! Everything is the same in every sandbox, IDs included, so that examples and tests can name
//! it. Addresses are below the domains that are reserved for examples.

use serde_json::{Value, json};

use crate::config::{Client, Organisation, Person};
use crate::crm::{self, EPOCH_MS, OrgData, Record};

const ACADEMY: &str = "Northlight Academy";
const HARBOUR: &str = "Harbour Language School";
const CEDAR: &str = "Cedar Row Music School";

/// The client that is registered unless another one is given.
pub(crate) fn client() -> Client {
    Client::web(
        "1000.NORTHLIGHTSTUDENTPORTAL0DEMO01",
        "5a4d9b0f7c2e41d8a6b3c9e0f1d2a7b4c8e5f60912",
        "http://localhost:8080/oauth/callback",
    )
}

pub(crate) fn organisations() -> Vec<Organisation> {
    vec![
        Organisation::new(ACADEMY, "us").with_demo_records(),
        Organisation::new(CEDAR, "us").with_demo_records(),
        Organisation::new(HARBOUR, "eu").with_demo_records(),
    ]
}

pub(crate) fn people() -> Vec<Person> {
    vec![
        Person::new("mira.holm@example.com")
            .of(ACADEMY)
            .administrator(),
        Person::new("tomas.reyes@example.com").of(ACADEMY),
        Person::new("ada.quill@example.com").of(ACADEMY),
        Person::new("jun.okoye@example.com").of(ACADEMY),
        Person::new("lena.frost@example.net")
            .of(CEDAR)
            .administrator(),
        Person::new("omar.vale@example.net").of(CEDAR),
        Person::new("elise.brandt@example.org")
            .of(HARBOUR)
            .administrator(),
        Person::new("piet.maas@example.org").of(HARBOUR),
    ]
}

const FIRST: &[&str] = &[
    "Ava", "Noel", "Imani", "Tariq", "Sana", "Mateo", "Freya", "Ravi", "Odette", "Kofi", "Linnea",
    "Hugo", "Yara",
];
const LAST: &[&str] = &[
    "Marsh",
    "Okafor",
    "Lindqvist",
    "Castell",
    "Moreau",
    "Tanaka",
    "Whitlock",
    "Anand",
    "Berg",
    "Duarte",
    "Novak",
];
const CITIES: &[(&str, &str)] = &[
    ("Bergen", "Norway"),
    ("Porto", "Portugal"),
    ("Leeds", "United Kingdom"),
    ("Gdansk", "Poland"),
    ("Accra", "Ghana"),
    ("Pune", "India"),
    ("Valparaiso", "Chile"),
];
const SCHOOLS: &[&str] = &[
    "Fjordside Upper School",
    "Saltmarsh College",
    "Beacon Hill Grammar",
    "Quarry Lane School",
    "Lantern Street Sixth Form",
    "Tidewater Institute",
    "Orchard Park High",
    "Granary Wharf Works",
];
const PROGRAMMES: &[&str] = &[
    "Foundation Year",
    "Applied Mathematics",
    "Marine Biology",
    "Music Performance",
    "Software Craft",
    "Teacher Training",
];
const SOURCES: &[&str] = &[
    "Open Day",
    "Website",
    "School Visit",
    "External Referral",
    "Trade Show",
];
const STATUSES: &[&str] = &[
    "Not Contacted",
    "Attempted to Contact",
    "Contacted",
    "Application Sent",
    "Contact in Future",
];
const STAGES: &[&str] = &["Enquiry", "Application", "Interview", "Offer", "Enrolled"];

/// Fills an organisation that has users. The first one gets plenty, the others a handful.
pub(crate) fn fill(data: &mut OrgData, plenty: bool) {
    let (accounts, leads, contacts) = if plenty { (8, 60, 24) } else { (3, 9, 6) };
    let accounts: Vec<u64> = (0..accounts)
        .map(|at| add(data, "Accounts", at, &account(at)))
        .collect();
    for at in 0..leads {
        add(data, "Leads", at, &lead(at));
    }
    for at in 0..contacts {
        let school = accounts[at % accounts.len()].to_string();
        let school = json!({ "id": school, "name": SCHOOLS[at % accounts.len()] });
        let (first, last) = name(at + 7);
        let id = add(data, "Contacts", at, &contact(at, &school));
        let person = json!({ "id": id.to_string(), "name": format!("{first} {last}") });
        add(data, "Deals", at, &deal(at, &school, &person));
    }
}

/// Adds a record in the name of one of the users, an hour and a bit after the one before.
fn add(data: &mut OrgData, module: &str, at: usize, fields: &Value) -> u64 {
    let module = crm::module(module).expect("the demo names modules that exist");
    let user = data.users[at % data.users.len()].clone();
    let fields: Record = fields.as_object().cloned().unwrap_or_default();
    data.insert(module, fields, &user, EPOCH_MS + at as u64 * 3_723_000)
}

/// Names repeat only after the product of both lists.
fn name(at: usize) -> (&'static str, &'static str) {
    (FIRST[at % FIRST.len()], LAST[at % LAST.len()])
}

fn address(at: usize, domain: &str) -> String {
    let (first, last) = name(at);
    format!("{first}.{last}{at}@{domain}").to_lowercase()
}

fn lead(at: usize) -> Value {
    let (first, last) = name(at);
    let (city, country) = CITIES[at % CITIES.len()];
    json!({
        "First_Name": first,
        "Last_Name": last,
        "Email": address(at, "mail.example.net"),
        "Phone": format!("+44 20 7946 {:04}", at),
        "Company": SCHOOLS[at % SCHOOLS.len()],
        "City": city,
        "Country": country,
        "Lead_Source": SOURCES[at % SOURCES.len()],
        "Lead_Status": STATUSES[at % STATUSES.len()],
        "Programme": PROGRAMMES[at % PROGRAMMES.len()],
        "Preferred_Start": format!("2026-{:02}-01", 9 + at % 3),
        "Industry": "Education",
        "Description": format!("Asked about {}.", PROGRAMMES[at % PROGRAMMES.len()]),
    })
}

fn contact(at: usize, school: &Value) -> Value {
    let (first, last) = name(at + 7);
    let (city, country) = CITIES[(at + 2) % CITIES.len()];
    json!({
        "First_Name": first,
        "Last_Name": last,
        "Email": address(at + 7, "students.example.org"),
        "Phone": format!("+44 20 7946 {:04}", 500 + at),
        "Account_Name": school,
        "Title": "Student",
        "Date_of_Birth": format!("{}-{:02}-{:02}", 2004 + at % 4, 1 + at % 12, 1 + at % 28),
        "Mailing_City": city,
        "Mailing_Country": country,
        "Lead_Source": SOURCES[(at + 1) % SOURCES.len()],
        "Student_Number": format!("NL-{:05}", 10_001 + at),
        "Programme": PROGRAMMES[at % PROGRAMMES.len()],
    })
}

fn account(at: usize) -> Value {
    let (city, country) = CITIES[at % CITIES.len()];
    let host = SCHOOLS[at].to_lowercase().replace(' ', "-");
    json!({
        "Account_Name": SCHOOLS[at],
        "Account_Number": format!("A-{:03}", at + 1),
        "Account_Type": if at == 7 { "Employer" } else { "Partner School" },
        "Industry": if at == 7 { "Manufacturing" } else { "Education" },
        "Phone": format!("+44 20 7946 {:04}", 900 + at),
        "Website": format!("https://{host}.example.com"),
        "Employees": 40 + at * 13,
        "Billing_City": city,
        "Billing_Country": country,
    })
}

fn deal(at: usize, school: &Value, person: &Value) -> Value {
    let programme = PROGRAMMES[at % PROGRAMMES.len()];
    json!({
        "Deal_Name": format!("{} 2026: {}", programme, person["name"].as_str().unwrap_or_default()),
        "Stage": STAGES[at % STAGES.len()],
        "Account_Name": school,
        "Contact_Name": person,
        "Amount": 4200 + 150 * at,
        "Closing_Date": format!("2026-{:02}-15", 6 + at % 4),
        "Probability": 10 + 20 * (at % 5),
        "Programme": programme,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_reserved_for_examples_and_unique() {
        let mut seen = std::collections::HashSet::new();
        for at in 0..60 {
            for record in [lead(at), contact(at, &json!({}))] {
                let email = record["Email"].as_str().unwrap().to_owned();
                let domain = email.split('@').nth(1).unwrap();
                assert!(domain.ends_with(".example.net") || domain.ends_with(".example.org"));
                assert!(seen.insert(email));
            }
        }
    }
}
