//! Scopes: their syntax, and whether what was granted covers what an operation needs.

use crate::Error;

/// The groups of `ZohoCRM` that exist (CRM documentation: scopes).
const CRM_GROUPS: &[&str] = &[
    "apis",
    "bulk",
    "change_owner",
    "composite_requests",
    "coql",
    "features",
    "files",
    "mass_convert",
    "mass_delete",
    "mass_update",
    "modules",
    "notifications",
    "org",
    "send_mail",
    "settings",
    "share",
    "signals",
    "templates",
    "users",
    "zia",
];

/// Codes, tokens and open logins keep their scopes. Many more than Zoho has for the CRM.
const MOST_SCOPES: usize = 500;

const OPERATIONS: &[&str] = &["ALL", "READ", "CREATE", "UPDATE", "DELETE", "WRITE"];

/// The scopes of a code or token, as the client wrote them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Scopes(Vec<String>);

impl Scopes {
    /// Reads a list separated by commas (spaces are taken too, as some clients send them). A scope that
    /// is named twice counts once.
    pub(crate) fn parse(list: &str) -> Result<Self, Error> {
        let mut scopes: Vec<String> = Vec::new();
        for scope in list.split([',', ' ']).filter(|scope| !scope.is_empty()) {
            if scopes.iter().any(|known| known == scope) {
                continue;
            }
            if scopes.len() == MOST_SCOPES {
                return Err(Error::InvalidScope(scope.to_owned()));
            }
            scopes.push(scope.to_owned());
        }
        if scopes.is_empty() {
            return Err(Error::InvalidScope(list.to_owned()));
        }
        match scopes.iter().find(|scope| !is_scope(scope)) {
            Some(wrong) => Err(Error::InvalidScope(wrong.clone())),
            None => Ok(Self(scopes)),
        }
    }

    /// Each scope on its own, for the consent page.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(String::as_str)
    }

    /// The list as token answers carry it: separated by spaces.
    pub(crate) fn spaced(&self) -> String {
        self.0.join(" ")
    }

    /// Whether one of the granted scopes allows `operation` on `needed`, for example `READ` on
    /// `ZohoCRM.modules.Leads`. A granted group covers what lies below it.
    pub(crate) fn allow(&self, needed: &str, operation: &str) -> bool {
        let needed = needed.to_ascii_lowercase();
        self.0.iter().any(|scope| {
            let Some((target, granted)) = scope.rsplit_once('.') else {
                return false;
            };
            covers(&target.to_ascii_lowercase(), &needed) && permits(granted, operation)
        })
    }
}

fn covers(target: &str, needed: &str) -> bool {
    needed
        .strip_prefix(target)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
}

fn permits(granted: &str, operation: &str) -> bool {
    match granted.to_ascii_uppercase().as_str() {
        "ALL" => true,
        "WRITE" => operation != "READ",
        other => other == operation,
    }
}

/// `Service.group.OPERATION` or `Service.group.sub.OPERATION`. Groups are checked for the CRM;
/// other Zoho services are taken at their word.
fn is_scope(scope: &str) -> bool {
    let parts: Vec<&str> = scope.split('.').collect();
    let [service, group, .., operation] = parts.as_slice() else {
        return false;
    };
    let words = parts.iter().all(|part| {
        !part.is_empty()
            && part
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-')
    });
    let known_group = !service.eq_ignore_ascii_case("ZohoCRM")
        || CRM_GROUPS.contains(&group.to_ascii_lowercase().as_str());
    let operation_exists = OPERATIONS.contains(&operation.to_ascii_uppercase().as_str());
    (3..=4).contains(&parts.len()) && words && known_group && operation_exists
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn any_list_is_read_or_refused(list in "([A-Za-z._, ]{0,30}|ZohoCRM\\.[a-z.]{0,12}\\.ALL[ ,]?){0,9}") {
            if let Ok(scopes) = Scopes::parse(&list) {
                prop_assert!(scopes.iter().all(is_scope));
            }
        }
    }

    fn scopes(list: &str) -> Scopes {
        Scopes::parse(list).unwrap()
    }

    #[test]
    fn a_list_keeps_each_scope_once_and_has_an_end() {
        let again = "ZohoCRM.modules.ALL,".repeat(8000);
        assert_eq!(scopes(&again).iter().count(), 1);
        let many = |count| {
            let each = (0..count).map(|number| format!("ZohoCRM.modules.m{number}.ALL"));
            Scopes::parse(&each.collect::<Vec<_>>().join(","))
        };
        assert!(many(MOST_SCOPES).is_ok());
        assert!(many(MOST_SCOPES + 1).is_err());
    }

    #[test]
    fn scopes_have_three_or_four_parts_and_a_known_operation() {
        for good in [
            "ZohoCRM.modules.ALL",
            "ZohoCRM.modules.leads.READ",
            "AaaServer.profile.READ",
            "ZohoBooks.invoices.CREATE",
        ] {
            assert!(is_scope(good), "{good}");
        }
        for bad in [
            "ZohoCRM",
            "ZohoCRM.modules",
            "ZohoCRM.modules.leads.x.READ",
            "ZohoCRM.nosuch.READ",
            "ZohoCRM.modules.FROBNICATE",
            "ZohoCRM..READ",
            "ZohoCRM.modules.le<ads.READ",
        ] {
            assert!(!is_scope(bad), "{bad}");
        }
    }

    #[test]
    fn a_group_covers_what_lies_below_it_without_regard_to_case() {
        assert!(scopes("ZohoCRM.modules.ALL").allow("ZohoCRM.modules.Leads", "DELETE"));
        assert!(scopes("ZohoCRM.modules.leads.READ").allow("ZohoCRM.modules.Leads", "READ"));
        assert!(!scopes("ZohoCRM.modules.leads.READ").allow("ZohoCRM.modules.Leads", "CREATE"));
        assert!(!scopes("ZohoCRM.modules.leads.ALL").allow("ZohoCRM.modules.Contacts", "READ"));
        assert!(!scopes("ZohoCRM.modules.Lead.ALL").allow("ZohoCRM.modules.Leads", "READ"));
    }

    #[test]
    fn write_means_create_update_and_delete() {
        let scopes = scopes("ZohoCRM.modules.WRITE");
        for operation in ["CREATE", "UPDATE", "DELETE"] {
            assert!(scopes.allow("ZohoCRM.modules.Leads", operation));
        }
        assert!(!scopes.allow("ZohoCRM.modules.Leads", "READ"));
    }
}
