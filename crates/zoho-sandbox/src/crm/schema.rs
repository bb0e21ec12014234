//! The modules and their fields: what validation, field metadata and queries all go by.

use std::sync::LazyLock;

/// The type of a field, as `data_type` names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Text,
    TextArea,
    Email,
    Phone,
    Website,
    Integer,
    Currency,
    Boolean,
    Date,
    DateTime,
    Picklist(&'static [&'static str]),
    /// Points to a record of another module.
    Lookup(&'static str),
    /// Points to a user.
    Owner,
}

impl Kind {
    pub(crate) fn data_type(self) -> &'static str {
        match self {
            Self::Text => "text",
            Self::TextArea => "textarea",
            Self::Email => "email",
            Self::Phone => "phone",
            Self::Website => "website",
            Self::Integer => "integer",
            Self::Currency => "currency",
            Self::Boolean => "boolean",
            Self::Date => "date",
            Self::DateTime => "datetime",
            Self::Picklist(_) => "picklist",
            Self::Lookup(_) => "lookup",
            Self::Owner => "ownerlookup",
        }
    }

    pub(crate) fn json_type(self) -> &'static str {
        match self {
            Self::Integer => "integer",
            Self::Currency => "double",
            Self::Boolean => "boolean",
            Self::Lookup(_) | Self::Owner => "jsonobject",
            _ => "string",
        }
    }
}

/// A field of a module.
#[derive(Clone, Copy, Debug)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "they are independent, as they are in the metadata"
)]
pub(crate) struct Field {
    pub(crate) api_name: &'static str,
    pub(crate) label: &'static str,
    pub(crate) kind: Kind,
    /// The most characters, or digits of a number.
    pub(crate) length: usize,
    pub(crate) mandatory: bool,
    /// Mandatory in the layout only.
    pub(crate) layout_mandatory: bool,
    pub(crate) read_only: bool,
    pub(crate) unique: bool,
    pub(crate) custom: bool,
}

impl Field {
    const fn new(api_name: &'static str, label: &'static str, kind: Kind) -> Self {
        let length = match kind {
            Kind::TextArea => 32_000,
            Kind::Email => 100,
            Kind::Phone => 30,
            Kind::Website => 450,
            Kind::Integer => 9,
            Kind::Currency => 16,
            Kind::Boolean => 5,
            Kind::Date => 20,
            _ => 120,
        };
        Self {
            api_name,
            label,
            kind,
            length,
            mandatory: false,
            layout_mandatory: false,
            read_only: false,
            unique: false,
            custom: false,
        }
    }

    const fn at_most(mut self, length: usize) -> Self {
        self.length = length;
        self
    }

    const fn mandatory(mut self) -> Self {
        self.mandatory = true;
        self
    }

    const fn layout_mandatory(mut self) -> Self {
        self.layout_mandatory = true;
        self
    }

    const fn read_only(mut self) -> Self {
        self.read_only = true;
        self
    }

    const fn unique(mut self) -> Self {
        self.unique = true;
        self
    }

    const fn custom(mut self) -> Self {
        self.custom = true;
        self
    }
}

/// A list of records of another module that belong to a record.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RelatedList {
    pub(crate) api_name: &'static str,
    pub(crate) module: &'static str,
    /// The field of `module` that points back.
    pub(crate) through: &'static str,
}

/// A module.
#[derive(Debug)]
pub(crate) struct Module {
    pub(crate) api_name: &'static str,
    pub(crate) singular: &'static str,
    /// The field that names a record where it is pointed to.
    pub(crate) name_field: &'static str,
    /// What upsert goes by when the request does not say.
    pub(crate) duplicate_check: &'static [&'static str],
    pub(crate) related: &'static [RelatedList],
    pub(crate) fields: Vec<Field>,
}

impl Module {
    pub(crate) fn field(&self, api_name: &str) -> Option<&Field> {
        self.fields.iter().find(|field| field.api_name == api_name)
    }
}

/// The module with this API name; Zoho does not mind the case.
pub(crate) fn module(name: &str) -> Option<&'static Module> {
    MODULES
        .iter()
        .find(|module| module.api_name.eq_ignore_ascii_case(name))
}

/// Position of a module, from which its ID derives.
pub(crate) fn position(module: &Module) -> u64 {
    let position = MODULES
        .iter()
        .position(|other| other.api_name == module.api_name);
    position.unwrap_or_default() as u64
}

const LEAD_SOURCES: &[&str] = &[
    "-None-",
    "Advertisement",
    "Open Day",
    "Website",
    "Employee Referral",
    "External Referral",
    "School Visit",
    "Trade Show",
];
const LEAD_STATUSES: &[&str] = &[
    "-None-",
    "Not Contacted",
    "Attempted to Contact",
    "Contacted",
    "Contact in Future",
    "Application Sent",
    "Lost Lead",
    "Not Qualified",
];
const PROGRAMMES: &[&str] = &[
    "-None-",
    "Foundation Year",
    "Applied Mathematics",
    "Marine Biology",
    "Music Performance",
    "Software Craft",
    "Teacher Training",
];
const SALUTATIONS: &[&str] = &["-None-", "Mr.", "Mrs.", "Ms.", "Dr.", "Prof."];
const STAGES: &[&str] = &[
    "Enquiry",
    "Application",
    "Interview",
    "Offer",
    "Enrolled",
    "Closed Lost",
];
const ACCOUNT_TYPES: &[&str] = &[
    "-None-",
    "Partner School",
    "Employer",
    "Sponsor",
    "Supplier",
];
const INDUSTRIES: &[&str] = &[
    "-None-",
    "Education",
    "Technology",
    "Health",
    "Manufacturing",
    "Public Service",
    "Arts",
];

/// The modules, in the order of the tabs.
pub(crate) static MODULES: LazyLock<Vec<Module>> = LazyLock::new(|| {
    vec![
        Module {
            api_name: "Leads",
            singular: "Lead",
            name_field: "Full_Name",
            duplicate_check: &["Email"],
            related: &[],
            fields: with_system(person_fields(
                "Lead",
                &[
                    Field::new("Company", "Company", Kind::Text)
                        .at_most(200)
                        .layout_mandatory(),
                    Field::new("Designation", "Title", Kind::Text).at_most(100),
                    Field::new("Website", "Website", Kind::Website),
                    Field::new("Lead_Source", "Lead Source", Kind::Picklist(LEAD_SOURCES)),
                    Field::new("Lead_Status", "Lead Status", Kind::Picklist(LEAD_STATUSES)),
                    Field::new("Industry", "Industry", Kind::Picklist(INDUSTRIES)),
                    Field::new("Annual_Revenue", "Annual Revenue", Kind::Currency),
                    Field::new("No_of_Employees", "No. of Employees", Kind::Integer),
                    Field::new("Programme", "Programme", Kind::Picklist(PROGRAMMES)).custom(),
                    Field::new("Preferred_Start", "Preferred Start", Kind::Date).custom(),
                    Field::new("Converted__s", "Converted", Kind::Boolean).read_only(),
                ],
            )),
        },
        Module {
            api_name: "Contacts",
            singular: "Contact",
            name_field: "Full_Name",
            duplicate_check: &["Email"],
            related: &[RelatedList {
                api_name: "Deals",
                module: "Deals",
                through: "Contact_Name",
            }],
            fields: with_system(person_fields(
                "Contact",
                &[
                    Field::new("Account_Name", "Account Name", Kind::Lookup("Accounts")),
                    Field::new("Title", "Title", Kind::Text).at_most(100),
                    Field::new("Department", "Department", Kind::Text).at_most(50),
                    Field::new("Date_of_Birth", "Date of Birth", Kind::Date),
                    Field::new("Lead_Source", "Lead Source", Kind::Picklist(LEAD_SOURCES)),
                    Field::new("Student_Number", "Student Number", Kind::Text)
                        .at_most(20)
                        .unique()
                        .custom(),
                    Field::new("Programme", "Programme", Kind::Picklist(PROGRAMMES)).custom(),
                ],
            )),
        },
        Module {
            api_name: "Accounts",
            singular: "Account",
            name_field: "Account_Name",
            duplicate_check: &["Account_Name"],
            related: &[
                RelatedList {
                    api_name: "Contacts",
                    module: "Contacts",
                    through: "Account_Name",
                },
                RelatedList {
                    api_name: "Deals",
                    module: "Deals",
                    through: "Account_Name",
                },
            ],
            fields: with_system(vec![
                Field::new("Account_Name", "Account Name", Kind::Text)
                    .at_most(200)
                    .mandatory(),
                Field::new("Account_Number", "Account Number", Kind::Text).at_most(40),
                Field::new(
                    "Account_Type",
                    "Account Type",
                    Kind::Picklist(ACCOUNT_TYPES),
                ),
                Field::new("Parent_Account", "Parent Account", Kind::Lookup("Accounts")),
                Field::new("Industry", "Industry", Kind::Picklist(INDUSTRIES)),
                Field::new("Phone", "Phone", Kind::Phone),
                Field::new("Website", "Website", Kind::Website),
                Field::new("Employees", "Employees", Kind::Integer),
                Field::new("Annual_Revenue", "Annual Revenue", Kind::Currency),
                Field::new("Billing_City", "Billing City", Kind::Text).at_most(100),
                Field::new("Billing_Country", "Billing Country", Kind::Text).at_most(100),
                Field::new("Description", "Description", Kind::TextArea),
            ]),
        },
        Module {
            api_name: "Deals",
            singular: "Deal",
            name_field: "Deal_Name",
            duplicate_check: &["Deal_Name"],
            related: &[],
            fields: with_system(vec![
                Field::new("Deal_Name", "Deal Name", Kind::Text).mandatory(),
                Field::new("Stage", "Stage", Kind::Picklist(STAGES)).mandatory(),
                Field::new("Account_Name", "Account Name", Kind::Lookup("Accounts")),
                Field::new("Contact_Name", "Contact Name", Kind::Lookup("Contacts")),
                Field::new("Amount", "Amount", Kind::Currency),
                Field::new("Closing_Date", "Closing Date", Kind::Date),
                Field::new("Probability", "Probability (%)", Kind::Integer).at_most(3),
                Field::new("Next_Step", "Next Step", Kind::Text).at_most(100),
                Field::new("Lead_Source", "Lead Source", Kind::Picklist(LEAD_SOURCES)),
                Field::new("Programme", "Programme", Kind::Picklist(PROGRAMMES)).custom(),
                Field::new("Description", "Description", Kind::TextArea),
            ]),
        },
    ]
});

fn person_fields(of: &'static str, more: &[Field]) -> Vec<Field> {
    let mut fields = vec![
        Field::new("Salutation", "Salutation", Kind::Picklist(SALUTATIONS)),
        Field::new("First_Name", "First Name", Kind::Text).at_most(40),
        Field::new("Last_Name", "Last Name", Kind::Text)
            .at_most(80)
            .mandatory(),
        Field::new(
            "Full_Name",
            if of == "Lead" {
                "Lead Name"
            } else {
                "Full Name"
            },
            Kind::Text,
        )
        .read_only(),
        Field::new("Email", "Email", Kind::Email),
        Field::new("Secondary_Email", "Secondary Email", Kind::Email),
        Field::new("Phone", "Phone", Kind::Phone),
        Field::new("Mobile", "Mobile", Kind::Phone),
        Field::new("Email_Opt_Out", "Email Opt Out", Kind::Boolean),
    ];
    let (street, city, country) = if of == "Lead" {
        ("Street", "City", "Country")
    } else {
        ("Mailing_Street", "Mailing_City", "Mailing_Country")
    };
    fields.extend([
        Field::new(street, "Street", Kind::Text).at_most(250),
        Field::new(city, "City", Kind::Text).at_most(100),
        Field::new(country, "Country", Kind::Text).at_most(100),
        Field::new("Description", "Description", Kind::TextArea),
    ]);
    fields.extend_from_slice(more);
    fields
}

/// Adds the fields that every module has.
fn with_system(mut fields: Vec<Field>) -> Vec<Field> {
    fields.extend([
        Field::new("Owner", "Owner", Kind::Owner),
        Field::new("Created_By", "Created By", Kind::Owner).read_only(),
        Field::new("Modified_By", "Modified By", Kind::Owner).read_only(),
        Field::new("Created_Time", "Created Time", Kind::DateTime).read_only(),
        Field::new("Modified_Time", "Modified Time", Kind::DateTime).read_only(),
    ]);
    fields
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lookups_related_lists_and_name_fields_point_to_what_exists() {
        for module in MODULES.iter() {
            assert!(module.field(module.name_field).is_some());
            for field in &module.fields {
                if let Kind::Lookup(target) = field.kind {
                    assert!(super::module(target).is_some(), "{target}");
                }
            }
            for list in module.related {
                let target = super::module(list.module).unwrap();
                assert!(target.field(list.through).is_some(), "{list:?}");
            }
            for field in module.duplicate_check {
                assert!(module.field(field).is_some());
            }
        }
    }
}
