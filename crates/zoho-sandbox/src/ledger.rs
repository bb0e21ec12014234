//! Everything the accounts servers have issued, and the rules for issuing more. No I/O and no
//! clock: every operation is told what time it is.
//!
//! One ledger serves all data centers of a sandbox; each entry knows its own, and is treated as
//! foreign elsewhere.

use std::collections::{HashMap, HashSet, VecDeque};

use crate::clock::after;
use crate::config::Rules;
use crate::random;
use crate::scope::Scopes;

/// Who was granted what: the part that codes and tokens have in common.
#[derive(Clone, Debug)]
pub(crate) struct Grant {
    pub(crate) client_id: String,
    /// Address of the person, in lower case.
    pub(crate) email: String,
    pub(crate) center: String,
    pub(crate) scopes: Scopes,
}

/// How the client proves on exchange that it started the authorization (RFC 7636).
#[derive(Clone, Debug)]
pub(crate) struct Challenge {
    pub(crate) value: String,
    pub(crate) sha256: bool,
}

/// A grant code that has been issued.
#[derive(Clone)]
pub(crate) struct Code {
    pub(crate) grant: Grant,
    /// `None` for a code from the API console.
    pub(crate) redirect_uri: Option<String>,
    pub(crate) challenge: Option<Challenge>,
    pub(crate) with_refresh_token: bool,
    expires_ms: u64,
    used: Option<Issued>,
}

#[derive(Clone)]
pub(crate) struct AccessToken {
    pub(crate) grant: Grant,
    expires_ms: u64,
}

struct RefreshToken {
    grant: Grant,
    live: VecDeque<String>,
    window_start_ms: u64,
    minted: u32,
}

/// What a token request brought.
#[derive(Clone)]
pub(crate) struct Issued {
    pub(crate) access_token: String,
    pub(crate) refresh_token: Option<String>,
    pub(crate) grant: Grant,
}

/// Why the accounts server says no (Zoho Accounts documentation: errors).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    InvalidCode,
    InvalidClient,
    InvalidClientSecret,
    InvalidRedirectUri,
    InvalidScope,
    MissingOrgInfo,
    InvalidSoid,
    AccessDenied,
    Throttled,
}

impl Refusal {
    /// The value of `error` in the answer.
    pub(crate) fn code(self) -> &'static str {
        match self {
            Self::InvalidCode => "invalid_code",
            Self::InvalidClient => "invalid_client",
            Self::InvalidClientSecret => "invalid_client_secret",
            Self::InvalidRedirectUri => "invalid_redirect_uri",
            Self::InvalidScope => "invalid_scope",
            Self::MissingOrgInfo => "missing_org_info",
            Self::InvalidSoid => "invalid_soid",
            Self::AccessDenied => "access_denied",
            Self::Throttled => "Access Denied",
        }
    }
}

#[derive(Default)]
pub(crate) struct Ledger {
    codes: HashMap<String, Code>,
    /// How many codes there are when the ones of no use are dropped next.
    sweep_codes_at: usize,
    /// When each client's recent codes were issued.
    code_times: HashMap<String, VecDeque<u64>>,
    refresh: HashMap<String, RefreshToken>,
    /// Refresh tokens of a client and person, oldest first.
    held: HashMap<(String, String), VecDeque<String>>,
    access: HashMap<String, AccessToken>,
    /// Clients and people with an offline consent that still counts.
    consents: HashSet<(String, String)>,
    issued_since_sweep: u32,
}

/// What a new code is to be.
pub(crate) struct NewCode {
    pub(crate) grant: Grant,
    pub(crate) redirect_uri: Option<String>,
    pub(crate) challenge: Option<Challenge>,
    pub(crate) with_refresh_token: bool,
    pub(crate) life_s: u64,
}

impl Ledger {
    /// Issues a grant code, within the limit of codes per client.
    pub(crate) fn issue_code(
        &mut self,
        rules: &Rules,
        new: NewCode,
        now: u64,
    ) -> Result<String, Refusal> {
        let times = self
            .code_times
            .entry(new.grant.client_id.clone())
            .or_default();
        while times
            .front()
            .is_some_and(|at| after(*at, rules.window_s) <= now)
        {
            times.pop_front();
        }
        if rules.code_limit > 0 && times.len() >= rules.code_limit as usize {
            return Err(Refusal::AccessDenied);
        }
        times.push_back(now);
        // Codes long past their end are of no use even for telling reuse from invention. All are
        // looked at when their number has doubled, so that many codes do not make each one slow.
        if self.codes.len() >= self.sweep_codes_at {
            self.codes
                .retain(|_, code| code.expires_ms.saturating_add(3_600_000) > now);
            self.sweep_codes_at = (2 * self.codes.len()).max(1_000);
        }
        let text = random::token();
        self.codes.insert(
            text.clone(),
            Code {
                grant: new.grant,
                redirect_uri: new.redirect_uri,
                challenge: new.challenge,
                with_refresh_token: new.with_refresh_token,
                expires_ms: after(now, new.life_s),
                used: None,
            },
        );
        Ok(text)
    }

    /// Notes an offline consent; answers whether it is the first that still counts.
    pub(crate) fn note_consent(&mut self, client_id: &str, email: &str) -> bool {
        self.consents
            .insert((client_id.to_owned(), email.to_owned()))
    }

    /// Looks a code up without using it. A code of another data center or client is not this
    /// client's: the documents give `invalid_client` for the wrong center.
    pub(crate) fn code(
        &mut self,
        rules: &Rules,
        text: &str,
        client_id: &str,
        center: &str,
        now: u64,
    ) -> Result<Code, Refusal> {
        let code = self.codes.get(text).cloned().ok_or(Refusal::InvalidCode)?;
        if code.grant.center != center {
            return Err(Refusal::InvalidClient);
        }
        if code.grant.client_id != client_id || code.expires_ms <= now {
            return Err(Refusal::InvalidCode);
        }
        if let Some(first) = &code.used {
            if rules.revoke_on_code_reuse {
                self.access.remove(&first.access_token);
                if let Some(refresh_token) = &first.refresh_token {
                    self.forget_refresh_token(refresh_token);
                }
            }
            return Err(Refusal::InvalidCode);
        }
        Ok(code)
    }

    /// Turns a code that [`Ledger::code`] found good into tokens, and uses it up.
    pub(crate) fn redeem(&mut self, rules: &Rules, text: &str, code: &Code, now: u64) -> Issued {
        let refresh_token = code
            .with_refresh_token
            .then(|| self.new_refresh_token(rules, &code.grant, now));
        let access_token = self.mint(rules, &code.grant, refresh_token.as_deref(), now);
        let issued = Issued {
            access_token,
            refresh_token,
            grant: code.grant.clone(),
        };
        if let Some(stored) = self.codes.get_mut(text) {
            stored.used = Some(issued.clone());
        }
        issued
    }

    /// A finished offline login, without a code.
    pub(crate) fn log_in(&mut self, rules: &Rules, grant: &Grant, now: u64) -> Issued {
        self.note_consent(&grant.client_id, &grant.email);
        let refresh_token = self.new_refresh_token(rules, grant, now);
        Issued {
            access_token: self.mint(rules, grant, Some(&refresh_token), now),
            refresh_token: Some(refresh_token),
            grant: grant.clone(),
        }
    }

    /// Makes an access token from a refresh token. The refresh token stays what it is.
    pub(crate) fn refresh(
        &mut self,
        rules: &Rules,
        text: &str,
        client_id: &str,
        center: &str,
        now: u64,
    ) -> Result<Issued, Refusal> {
        let token = self.refresh.get_mut(text).ok_or(Refusal::InvalidCode)?;
        if token.grant.center != center {
            return Err(Refusal::InvalidClient);
        }
        if token.grant.client_id != client_id {
            return Err(Refusal::InvalidCode);
        }
        if now >= after(token.window_start_ms, rules.window_s) {
            token.window_start_ms = now;
            token.minted = 0;
        }
        if rules.mint_limit > 0 && token.minted >= rules.mint_limit {
            return Err(Refusal::Throttled);
        }
        token.minted += 1;
        let grant = token.grant.clone();
        let access_token = self.mint(rules, &grant, Some(text), now);
        Ok(Issued {
            access_token,
            refresh_token: None,
            grant,
        })
    }

    /// An access token that no refresh token stands behind (client credentials).
    pub(crate) fn mint_alone(&mut self, rules: &Rules, grant: &Grant, now: u64) -> Issued {
        Issued {
            access_token: self.mint(rules, grant, None, now),
            refresh_token: None,
            grant: grant.clone(),
        }
    }

    /// The access token, if it is alive and belongs to `center`.
    pub(crate) fn live_access_token(
        &self,
        text: &str,
        center: &str,
        now: u64,
    ) -> Option<&AccessToken> {
        self.access
            .get(text)
            .filter(|token| token.grant.center == center && token.expires_ms > now)
    }

    /// Ends a refresh token with all its access tokens, or one access token. `false` when the
    /// data center knows neither, or the token is another client's than `client_id`.
    pub(crate) fn revoke(&mut self, text: &str, client_id: Option<&str>, center: &str) -> bool {
        let ours = |grant: &Grant| {
            grant.center == center && client_id.is_none_or(|id| id == grant.client_id)
        };
        if self
            .refresh
            .get(text)
            .is_some_and(|token| ours(&token.grant))
        {
            self.forget_refresh_token(text);
            return true;
        }
        if self
            .access
            .get(text)
            .is_some_and(|token| ours(&token.grant))
        {
            self.access.remove(text);
            return true;
        }
        false
    }

    /// Ends all access tokens, or those of one person; answers how many were ended.
    pub(crate) fn expire_access_tokens(&mut self, email: Option<&str>) -> usize {
        let before = self.access.len();
        self.access
            .retain(|_, token| email.is_some_and(|email| token.grant.email != email));
        before - self.access.len()
    }

    fn new_refresh_token(&mut self, rules: &Rules, grant: &Grant, now: u64) -> String {
        let text = random::token();
        self.refresh.insert(
            text.clone(),
            RefreshToken {
                grant: grant.clone(),
                live: VecDeque::new(),
                window_start_ms: now,
                minted: 0,
            },
        );
        let holder = (grant.client_id.clone(), grant.email.clone());
        let held = self.held.entry(holder).or_default();
        held.push_back(text.clone());
        let oldest = (rules.refresh_tokens > 0 && held.len() > rules.refresh_tokens as usize)
            .then(|| held.front().cloned())
            .flatten();
        if let Some(oldest) = oldest {
            self.forget_refresh_token(&oldest);
        }
        text
    }

    /// Deletes a refresh token and every access token made from it. With the last one goes the
    /// consent, so that the next offline login brings a refresh token again.
    fn forget_refresh_token(&mut self, text: &str) {
        let Some(token) = self.refresh.remove(text) else {
            return;
        };
        for access_token in token.live {
            self.access.remove(&access_token);
        }
        let holder = (token.grant.client_id, token.grant.email);
        if let Some(held) = self.held.get_mut(&holder) {
            held.retain(|other| other != text);
            if held.is_empty() {
                self.held.remove(&holder);
                self.consents.remove(&holder);
            }
        }
    }

    fn mint(
        &mut self,
        rules: &Rules,
        grant: &Grant,
        refresh_token: Option<&str>,
        now: u64,
    ) -> String {
        self.sweep(now);
        let text = random::token();
        if let Some(parent) = refresh_token.and_then(|parent| self.refresh.get_mut(parent)) {
            let access = &self.access;
            parent.live.retain(|token| {
                access
                    .get(token)
                    .is_some_and(|token| token.expires_ms > now)
            });
            parent.live.push_back(text.clone());
            if rules.live_access_tokens > 0
                && parent.live.len() > rules.live_access_tokens as usize
                && let Some(oldest) = parent.live.pop_front()
            {
                self.access.remove(&oldest);
            }
        }
        self.access.insert(
            text.clone(),
            AccessToken {
                grant: grant.clone(),
                expires_ms: after(now, rules.access_token_life_s),
            },
        );
        text
    }

    /// Drops access tokens whose life is over, every thousand new ones.
    fn sweep(&mut self, now: u64) {
        self.issued_since_sweep += 1;
        if self.issued_since_sweep >= 1000 {
            self.issued_since_sweep = 0;
            self.access.retain(|_, token| token.expires_ms > now);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn grant() -> Grant {
        Grant {
            client_id: "1000.C".into(),
            email: "a@example.com".into(),
            center: "us".into(),
            scopes: Scopes::parse("ZohoCRM.modules.ALL").unwrap(),
        }
    }

    fn login(ledger: &mut Ledger, rules: &Rules, now: u64) -> Issued {
        let new = NewCode {
            grant: grant(),
            redirect_uri: None,
            challenge: None,
            with_refresh_token: true,
            life_s: 60,
        };
        let text = ledger.issue_code(rules, new, now).unwrap();
        let code = ledger.code(rules, &text, "1000.C", "us", now).unwrap();
        ledger.redeem(rules, &text, &code, now)
    }

    #[test]
    fn the_sixteenth_access_token_ends_the_oldest() {
        let rules = Rules {
            mint_limit: 0,
            ..Rules::default()
        };
        let mut ledger = Ledger::default();
        let first = login(&mut ledger, &rules, 0);
        let refresh_token = first.refresh_token.unwrap();
        for _ in 0..14 {
            ledger
                .refresh(&rules, &refresh_token, "1000.C", "us", 0)
                .unwrap();
        }
        assert!(
            ledger
                .live_access_token(&first.access_token, "us", 0)
                .is_some()
        );
        ledger
            .refresh(&rules, &refresh_token, "1000.C", "us", 0)
            .unwrap();
        assert!(
            ledger
                .live_access_token(&first.access_token, "us", 0)
                .is_none()
        );
    }

    #[test]
    fn the_twenty_first_refresh_token_deletes_the_oldest_and_its_access_tokens() {
        let rules = Rules {
            code_limit: 0,
            ..Rules::default()
        };
        let mut ledger = Ledger::default();
        let first = login(&mut ledger, &rules, 0);
        for _ in 0..19 {
            login(&mut ledger, &rules, 0);
        }
        assert!(
            ledger
                .live_access_token(&first.access_token, "us", 0)
                .is_some()
        );
        login(&mut ledger, &rules, 0);
        assert!(
            ledger
                .live_access_token(&first.access_token, "us", 0)
                .is_none()
        );
        let refused = ledger.refresh(&rules, &first.refresh_token.unwrap(), "1000.C", "us", 0);
        assert_eq!(refused.err(), Some(Refusal::InvalidCode));
    }

    #[test]
    fn codes_of_no_use_are_dropped_when_there_are_many() {
        let rules = Rules {
            code_limit: 0,
            ..Rules::default()
        };
        let mut ledger = Ledger::default();
        let mut issue = |now| {
            let new = NewCode {
                grant: grant(),
                redirect_uri: None,
                challenge: None,
                with_refresh_token: true,
                life_s: 60,
            };
            ledger.issue_code(&rules, new, now).unwrap();
            ledger.codes.len()
        };
        for _ in 0..1_000 {
            issue(0);
        }
        assert_eq!(issue(3_660_000), 1);
    }

    #[test]
    fn the_mint_window_is_ten_minutes_from_its_first_token() {
        let rules = Rules::default();
        let mut ledger = Ledger::default();
        let refresh_token = login(&mut ledger, &rules, 0).refresh_token.unwrap();
        let mut at = |now| {
            ledger
                .refresh(&rules, &refresh_token, "1000.C", "us", now)
                .map(|_| ())
        };
        for _ in 0..10 {
            at(700_000).unwrap();
        }
        assert_eq!(at(1_299_999), Err(Refusal::Throttled));
        assert_eq!(at(1_300_000), Ok(()));
    }
}
