//! What each part of the demo measured, and what it claims about that. No I/O, so that tests can
//! hand in wrong numbers.

use serde::Serialize;

use super::claim::Claim;

/// How many tasks want the token at once.
pub(crate) const TASKS: u64 = 50;

/// Part 1: a person logs in.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Login {
    pub(crate) code_exchanges: u64,
    pub(crate) records_in_file: u64,
    /// The stored record is found by the name that the CRM gave for the person who consented.
    pub(crate) found_by_user_name: bool,
    /// Whether only the owner may open the file; `None` where that is not a matter of mode bits.
    pub(crate) file_is_private: Option<bool>,
}

impl Login {
    pub(crate) fn claims(&self) -> Vec<Claim> {
        let mut claims = vec![
            Claim::count("codes exchanged for tokens", 1, self.code_exchanges),
            Claim::count("logins in the file", 1, self.records_in_file),
            Claim::so(
                "it is found there by the person's name",
                self.found_by_user_name,
            ),
        ];
        if let Some(private) = self.file_is_private {
            let text = "the file is readable by you alone (mode 600)";
            claims.push(Claim::so(text, private));
        }
        claims
    }
}

/// Part 2: reading and writing.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Leads {
    pub(crate) read: u64,
    pub(crate) created: u64,
    pub(crate) new_one_read_back: bool,
    pub(crate) read_afterwards: u64,
}

impl Leads {
    pub(crate) fn claims(&self) -> Vec<Claim> {
        vec![
            Claim::some("leads read", self.read),
            Claim::count("leads created", 1, self.created),
            Claim::so(
                "the new one reads as it was written",
                self.new_one_read_back,
            ),
            Claim::count("leads read again", self.read + 1, self.read_afterwards),
        ]
    }
}

/// Part 3: the access token ends while many want it.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Expiry {
    pub(crate) waited_ms: u64,
    /// How often the CRM refused the old token, which was shown to it once.
    pub(crate) old_token_refused: u64,
    /// Tasks that got a token and read leads with it.
    pub(crate) tasks_served: u64,
    pub(crate) calls_refused: u64,
    pub(crate) different_tokens: u64,
    pub(crate) token_is_new: bool,
    pub(crate) refreshes: u64,
}

impl Expiry {
    pub(crate) fn claims(&self) -> Vec<Claim> {
        vec![
            Claim::count(
                "times Zoho refused the old token",
                1,
                self.old_token_refused,
            ),
            Claim::count(
                "tasks that got a token and read leads",
                TASKS,
                self.tasks_served,
            ),
            Claim::count("calls among them that Zoho refused", 0, self.calls_refused),
            Claim::count("different tokens among the tasks", 1, self.different_tokens),
            Claim::so("it is not the old one", self.token_is_new),
            Claim::count("times Zoho was asked for a new token", 1, self.refreshes),
        ]
    }
}

/// Part 4: another process starts from the file.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Restart {
    /// The leads that there were when the first process ended.
    pub(crate) leads_before: u64,
    pub(crate) leads_read: u64,
    pub(crate) code_exchanges: u64,
    /// None while the stored access token is good. Not claimed: on a slow machine it may end.
    pub(crate) refreshes: u64,
}

impl Restart {
    pub(crate) fn claims(&self) -> Vec<Claim> {
        vec![
            Claim::count(
                "leads read by the second process",
                self.leads_before,
                self.leads_read,
            ),
            Claim::count("codes exchanged for tokens", 0, self.code_exchanges),
        ]
    }
}

/// Part 5: the login ends.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct End {
    /// A call with the access token that is about to be revoked.
    pub(crate) access_token_worked: bool,
    pub(crate) revocations: u64,
    pub(crate) access_token_refused: u64,
    pub(crate) refresh_token_refused: u64,
    pub(crate) records_in_file: u64,
}

impl End {
    pub(crate) fn claims(&self) -> Vec<Claim> {
        vec![
            Claim::so(
                "the access token works until then",
                self.access_token_worked,
            ),
            Claim::count("logins revoked at Zoho", 1, self.revocations),
            Claim::count(
                "times Zoho refused the access token",
                1,
                self.access_token_refused,
            ),
            Claim::count(
                "times Zoho refused the refresh token",
                1,
                self.refresh_token_refused,
            ),
            Claim::count("logins in the file", 0, self.records_in_file),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOGIN: Login = Login {
        code_exchanges: 1,
        records_in_file: 1,
        found_by_user_name: true,
        file_is_private: Some(true),
    };
    const LEADS: Leads = Leads {
        read: 60,
        created: 1,
        new_one_read_back: true,
        read_afterwards: 61,
    };
    const EXPIRY: Expiry = Expiry {
        waited_ms: 4_800,
        old_token_refused: 1,
        tasks_served: 50,
        calls_refused: 0,
        different_tokens: 1,
        token_is_new: true,
        refreshes: 1,
    };
    const RESTART: Restart = Restart {
        leads_before: 61,
        leads_read: 61,
        code_exchanges: 0,
        refreshes: 0,
    };
    const END: End = End {
        access_token_worked: true,
        revocations: 1,
        access_token_refused: 1,
        refresh_token_refused: 1,
        records_in_file: 0,
    };

    fn failed(claims: &[Claim]) -> Vec<String> {
        let failed = claims.iter().filter(|claim| !claim.held());
        failed.map(Claim::line).collect()
    }

    #[test]
    fn a_good_run_bears_out_every_claim() {
        let all = [
            LOGIN.claims(),
            LEADS.claims(),
            EXPIRY.claims(),
            RESTART.claims(),
            END.claims(),
        ];
        assert_eq!(failed(&all.concat()), [""; 0]);
    }

    #[test]
    #[rustfmt::skip]
    fn every_wrong_number_breaks_exactly_its_claim() {
        let wrong = [
            Login { code_exchanges: 2, ..LOGIN }.claims(),
            Login { records_in_file: 0, ..LOGIN }.claims(),
            Login { found_by_user_name: false, ..LOGIN }.claims(),
            Login { file_is_private: Some(false), ..LOGIN }.claims(),
            Leads { created: 0, ..LEADS }.claims(),
            Leads { new_one_read_back: false, ..LEADS }.claims(),
            Leads { read_afterwards: 60, ..LEADS }.claims(),
            Expiry { old_token_refused: 0, ..EXPIRY }.claims(),
            Expiry { tasks_served: 49, ..EXPIRY }.claims(),
            Expiry { calls_refused: 1, ..EXPIRY }.claims(),
            Expiry { different_tokens: 2, ..EXPIRY }.claims(),
            Expiry { token_is_new: false, ..EXPIRY }.claims(),
            Expiry { refreshes: 50, ..EXPIRY }.claims(),
            Expiry { refreshes: 0, ..EXPIRY }.claims(),
            Restart { leads_read: 60, ..RESTART }.claims(),
            Restart { code_exchanges: 1, ..RESTART }.claims(),
            End { access_token_worked: false, ..END }.claims(),
            End { revocations: 0, ..END }.claims(),
            End { access_token_refused: 0, ..END }.claims(),
            End { refresh_token_refused: 0, ..END }.claims(),
            End { records_in_file: 1, ..END }.claims(),
        ];
        for claims in wrong {
            assert_eq!(failed(&claims).len(), 1, "{claims:?}");
        }
        let none = Leads {
            read: 0,
            read_afterwards: 1,
            ..LEADS
        };
        assert_eq!(
            failed(&none.claims()),
            ["leads read: expected at least 1, measured 0"]
        );
    }

    #[test]
    fn the_failed_claim_says_what_was_expected_and_what_was_measured() {
        let claims = Expiry {
            refreshes: 50,
            ..EXPIRY
        }
        .claims();
        assert_eq!(
            failed(&claims),
            ["times Zoho was asked for a new token: expected 1, measured 50"]
        );
    }
}
