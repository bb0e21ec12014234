//! What to do about a token: a pure function of the record, what is remembered, and the time.

use std::time::Duration;

use super::policy::RefreshPolicy;
use crate::clock::Timestamp;
use crate::error::{Error, ErrorCode};
use crate::secret::{AccessToken, Fingerprint, GrantToken, RefreshToken};
use crate::store::Memo;
use crate::token::OAuthToken;

/// The life of an access token that nothing else is known about: Zoho's hour.
pub(crate) const DEFAULT_LIFE: Duration = Duration::from_hours(1);

/// No access token ended before that, in 2001. Moments that were stored as seconds lie before it.
const FIRST_END: Timestamp = Timestamp::from_millis(1_000_000_000_000);

/// Why a caller asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// The token in hand is good, and its time to be refreshed has come.
    Ahead,
    /// There is no good token in hand.
    Need,
    /// The API refused this very token.
    Refused(AccessToken),
    /// This very token has ended by its age in this process, whatever the wall clock says.
    Ended(AccessToken),
}

impl Purpose {
    /// Whether this very token is of no use to the caller.
    pub(crate) fn rejects(&self, token: &AccessToken) -> bool {
        matches!(self, Self::Refused(rejected) | Self::Ended(rejected) if rejected == token)
    }
}

/// What to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Decision {
    /// The stored access token is good.
    Use,
    /// Ask Zoho for a new access token.
    Refresh(RefreshToken),
    /// Nothing was done with the grant token yet: exchange it.
    Exchange(GrantToken),
    /// Zoho must not be asked.
    Stop(Stop),
}

/// Why Zoho must not be asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Stop {
    /// Ask nobody before this moment.
    Wait(Timestamp, ErrorCode),
    /// Only a person can help. With the server's code, where it gave one.
    Login(ErrorCode, Option<String>),
}

impl Stop {
    /// Says so to the caller; `what` is what he asked about.
    pub(crate) fn into_error(self, what: &str) -> Error {
        match self {
            Self::Wait(until, code) => {
                let message = match code {
                    ErrorCode::MintBudget => "the budget of new access tokens is spent",
                    ErrorCode::ServerError => "Zoho's server is in trouble and left alone",
                    _ => "Zoho throttles new access tokens",
                };
                Error::new(code, format!("{message} for {what}")).retry_at(until)
            }
            Self::Login(code, server_code) => {
                let message = format!("no new access token can be made for {what}");
                let error = Error::new(code, message);
                match server_code {
                    Some(server_code) => error.with_server_code(server_code),
                    None => error,
                }
            }
        }
    }
}

/// When the stored access token is to be refreshed, and until when it can be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Schedule {
    pub(crate) refresh_at: Timestamp,
    pub(crate) usable_until: Timestamp,
}

const NEVER: Timestamp = Timestamp::from_millis(i64::MAX);
const LONG_AGO: Timestamp = Timestamp::from_millis(i64::MIN);

impl Schedule {
    /// Works out the schedule of `record`. `life` is how long its access token was issued for, as
    /// far as it is known.
    pub(crate) fn of(
        record: &OAuthToken,
        life: Option<Duration>,
        policy: &RefreshPolicy,
        now: Timestamp,
    ) -> Self {
        let Some(expiry) = believed_end(record, now) else {
            // Without an end, a token that can be replaced counts as ended; one that cannot is
            // all there is, and is used until the API refuses it.
            let at = if record.refresh_token.is_some() {
                LONG_AGO
            } else {
                NEVER
            };
            return Self {
                refresh_at: at,
                usable_until: at,
            };
        };
        let guard = life.map_or(policy.guard, |life| policy.guard.min(life / 10));
        let usable_until = expiry.before(guard);
        let refresh_at = if policy.refresh_ahead && record.refresh_token.is_some() {
            let rest = life.unwrap_or(DEFAULT_LIFE).mul_f64(1.0 - ahead_at(record));
            expiry.before(rest).min(usable_until)
        } else {
            usable_until
        };
        Self {
            refresh_at,
            usable_until,
        }
    }
}

/// Returns when the access token of `record` ends; `None` if that is not known at `now`.
///
/// An end that no token of Zoho can have is as good as none: one that lies too far ahead, or one
/// in another unit.
pub(crate) fn believed_end(record: &OAuthToken, now: Timestamp) -> Option<Timestamp> {
    let is_possible =
        |end: &Timestamp| *end >= FIRST_END && *end <= now.after(OAuthToken::LONGEST_AHEAD);
    record.expiry_time.filter(is_possible)
}

/// Returns the part of its life, from 0.75 to 0.92, after which the token of `record` is refreshed.
///
/// Derived from the id and the expiry, which differ for every token, so that all processes and
/// machines choose the same moment and different users choose different ones.
fn ahead_at(record: &OAuthToken) -> f64 {
    let id = record.id.map_or(0, crate::token::TokenId::get);
    let expiry = record.expiry_time.map_or(0, Timestamp::as_millis);
    let mixed = (id ^ expiry.unsigned_abs().rotate_left(32)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let share = u16::try_from(mixed >> 48).unwrap_or(0);
    0.75 + 0.17 * f64::from(share) / f64::from(u16::MAX)
}

/// Returns how long the access token of `record` was issued for, if `memo` knows when that was.
pub(crate) fn known_life(record: &OAuthToken, memo: &Memo) -> Option<Duration> {
    let issued = *memo.minted_at.last()?;
    let life = record.expiry_time?.since(issued);
    // A record that somebody else refreshed since has an end that does not belong to our mint.
    (!life.is_zero() && life <= DEFAULT_LIFE).then_some(life)
}

/// Decides. `memo` speaks of the record's refresh token (see `Memo::about`); `asked` names whom
/// that would be shown to (see `asked_by`), if anybody can be asked.
pub(crate) fn decide(
    record: &OAuthToken,
    memo: &Memo,
    asked: Option<&Fingerprint>,
    now: Timestamp,
    policy: &RefreshPolicy,
    purpose: &Purpose,
) -> Decision {
    let schedule = Schedule::of(record, known_life(record, memo), policy, now);
    if is_usable(record, schedule, now, purpose) && now < schedule.refresh_at {
        return Decision::Use;
    }
    // From here on a refresh is due; whatever stands against it, a usable token is still usable.
    let or_use = |stop| unless_usable(record, memo, now, policy, purpose, stop);

    let Some(refresh_token) = &record.refresh_token else {
        return match (&record.access_token, &record.grant_token) {
            (None, Some(grant)) => match standing(memo, asked, None, now, policy) {
                Some(stop) => Decision::Stop(stop),
                None => Decision::Exchange(grant.clone()),
            },
            (None, None) => Decision::Stop(Stop::Login(ErrorCode::LoginRequired, None)),
            (Some(_), _) => or_use(Stop::Login(ErrorCode::AccessTokenEnded, None)),
        };
    };
    match standing(memo, asked, budget(record, policy, purpose), now, policy) {
        Some(stop) => or_use(stop),
        None => Decision::Refresh(refresh_token.clone()),
    }
}

/// What `stop` means for who asks: a usable token is still usable.
pub(crate) fn unless_usable(
    record: &OAuthToken,
    memo: &Memo,
    now: Timestamp,
    policy: &RefreshPolicy,
    purpose: &Purpose,
    stop: Stop,
) -> Decision {
    let schedule = Schedule::of(record, known_life(record, memo), policy, now);
    if is_usable(record, schedule, now, purpose) {
        Decision::Use
    } else {
        Decision::Stop(stop)
    }
}

fn is_usable(record: &OAuthToken, schedule: Schedule, now: Timestamp, purpose: &Purpose) -> bool {
    let token = record.access_token.as_ref();
    token.is_some_and(|token| !purpose.rejects(token)) && now < schedule.usable_until
}

/// Whether the API refused the very token that is stored.
fn is_forced(record: &OAuthToken, purpose: &Purpose) -> bool {
    matches!(purpose, Purpose::Refused(token) if record.access_token.as_ref() == Some(token))
}

/// Returns how many access tokens may be made in one window.
pub(crate) fn budget(
    record: &OAuthToken,
    policy: &RefreshPolicy,
    purpose: &Purpose,
) -> Option<usize> {
    let is_forced = is_forced(record, purpose);
    let extra = if is_forced { policy.forced_extra } else { 0 };
    (policy.mint_budget).map(|budget| budget.saturating_add(extra))
}

/// Returns what stands against asking Zoho, by what is remembered about the credential.
pub(crate) fn standing(
    memo: &Memo,
    asked: Option<&Fingerprint>,
    budget: Option<usize>,
    now: Timestamp,
    policy: &RefreshPolicy,
) -> Option<Stop> {
    if let Some(verdict) = memo.verdict_of(asked) {
        let code = Some(verdict.code.clone());
        return Some(Stop::Login(ErrorCode::InvalidCode, code));
    }
    if let Some(until) = memo.wait_until.filter(|&until| until > now) {
        return Some(Stop::Wait(until, ErrorCode::Throttled));
    }
    let free_at = budget.and_then(|most| memo.budget_wait(most, now, policy.counted_for()));
    if let Some(free_at) = free_at {
        return Some(Stop::Wait(free_at, ErrorCode::MintBudget));
    }
    let outage = memo.outage.as_ref().filter(|outage| outage.until > now)?;
    Some(Stop::Wait(outage.until, ErrorCode::ServerError))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Verdict;
    use crate::token::TokenId;

    const HOUR: i64 = 3_600_000;
    const NOW: Timestamp = Timestamp::from_millis(500_000 * HOUR);

    fn record(expires_in_seconds: i64) -> OAuthToken {
        let mut record = OAuthToken::new();
        record.id = TokenId::new(7).ok();
        record.refresh_token = RefreshToken::new("r").ok();
        record.access_token = AccessToken::new("a").ok();
        record.expiry_time = Some(Timestamp::from_millis(
            NOW.as_millis() + expires_in_seconds * 1000,
        ));
        record
    }

    fn refresh() -> Decision {
        Decision::Refresh(RefreshToken::new("r").unwrap())
    }

    fn decide_with(record: &OAuthToken, memo: &Memo, purpose: &Purpose) -> Decision {
        let asked = Fingerprint::of(&["us", "client"]);
        let policy = RefreshPolicy::default();
        decide(record, memo, Some(&asked), NOW, &policy, purpose)
    }

    fn need(record: &OAuthToken, memo: &Memo) -> Decision {
        decide_with(record, memo, &Purpose::Need)
    }

    #[test]
    fn a_fresh_token_is_used_and_an_old_one_refreshed() {
        let memo = Memo::default();
        assert_eq!(need(&record(3600), &memo), Decision::Use);
        assert_eq!(need(&record(1000), &memo), Decision::Use);
        assert_eq!(need(&record(200), &memo), refresh());
        assert_eq!(need(&record(-1), &memo), refresh());
    }

    #[test]
    fn the_moment_ahead_lies_between_75_and_92_percent_and_differs() {
        let mut seen = std::collections::HashSet::new();
        for id in 1..200 {
            for minute in 0..20 {
                let mut record = record(3600 + 60 * minute);
                record.id = TokenId::new(id).ok();
                let part = ahead_at(&record);
                assert!((0.75..=0.92).contains(&part), "{part}");
                seen.insert((part * 1000.0).round().to_string());
            }
        }
        assert!(seen.len() > 100, "only {} moments", seen.len());
    }

    #[test]
    fn without_an_expiry_a_renewable_token_counts_as_ended() {
        let mut record = record(0);
        record.expiry_time = None;
        assert_eq!(need(&record, &Memo::default()), refresh());
        record.refresh_token = None;
        assert_eq!(need(&record, &Memo::default()), Decision::Use);
        let refused = Purpose::Refused(AccessToken::new("a").unwrap());
        assert_eq!(
            decide_with(&record, &Memo::default(), &refused),
            Decision::Stop(Stop::Login(ErrorCode::AccessTokenEnded, None))
        );
    }

    #[test]
    fn an_end_that_no_token_has_is_as_good_as_none() {
        let now = NOW.as_millis();
        let mut record = record(0);
        for (end, is_possible) in [
            (now + HOUR, true),
            (now + HOUR + 300_000, true),
            (now + HOUR + 300_001, false),
            (now + 1000 * HOUR, false),
            (i64::MAX, false),
            (now - 1000 * HOUR, true),
            (now / 1000, false),
            (0, false),
            (-1, false),
            (i64::MIN, false),
        ] {
            record.expiry_time = Some(Timestamp::from_millis(end));
            let believed = believed_end(&record, NOW);
            assert_eq!(believed.is_some(), is_possible, "{end}");
            let mut bare = record.clone();
            bare.refresh_token = None;
            if !is_possible {
                assert_eq!(need(&record, &Memo::default()), refresh(), "{end}");
                assert_eq!(need(&bare, &Memo::default()), Decision::Use, "{end}");
            }
        }
    }

    #[test]
    fn a_token_that_ended_by_its_age_is_replaced_within_the_budget() {
        let ended = Purpose::Ended(AccessToken::new("a").unwrap());
        let mut memo = Memo::default();
        assert_eq!(decide_with(&record(3600), &memo, &ended), refresh());
        memo.minted_at = vec![NOW; 8];
        let stopped = decide_with(&record(3600), &memo, &ended);
        assert!(matches!(
            stopped,
            Decision::Stop(Stop::Wait(_, ErrorCode::MintBudget))
        ));
        let older = Purpose::Ended(AccessToken::new("older").unwrap());
        assert_eq!(decide_with(&record(3600), &memo, &older), Decision::Use);
    }

    #[test]
    fn the_guard_shrinks_with_a_short_life() {
        let mut memo = Memo::default();
        let record = record(4);
        assert_eq!(need(&record, &memo), refresh());
        memo.minted_at = vec![NOW];
        assert_eq!(need(&record, &memo), Decision::Use);
    }

    #[test]
    fn a_refused_token_is_replaced_unless_the_store_has_another() {
        let refused = Purpose::Refused(AccessToken::new("a").unwrap());
        let older = Purpose::Refused(AccessToken::new("older").unwrap());
        let memo = Memo::default();
        assert_eq!(decide_with(&record(3600), &memo, &refused), refresh());
        assert_eq!(decide_with(&record(3600), &memo, &older), Decision::Use);
    }

    #[test]
    fn a_verdict_stops_refreshes_but_not_a_good_token() {
        let mut memo = Memo::default();
        memo.judge(Verdict {
            asked: Some(Fingerprint::of(&["eu", "client"])),
            ..Verdict::new("invalid_code", NOW)
        });
        assert_eq!(need(&record(-1), &memo), refresh(), "others were told");
        memo.judge(Verdict {
            asked: Some(Fingerprint::of(&["us", "client"])),
            ..Verdict::new("invalid_code", NOW)
        });
        assert_eq!(need(&record(60), &memo), Decision::Use);
        let login = Decision::Stop(Stop::Login(
            ErrorCode::InvalidCode,
            Some("invalid_code".into()),
        ));
        assert_eq!(need(&record(-1), &memo), login);
    }

    #[test]
    fn eight_mints_are_ours_and_two_more_for_refused_tokens() {
        let refused = Purpose::Refused(AccessToken::new("a").unwrap());
        let mut memo = Memo::default();
        for minted in 0..11 {
            let wait = minted >= 8;
            let expired = need(&record(-1), &memo);
            assert_eq!(
                matches!(
                    expired,
                    Decision::Stop(Stop::Wait(_, ErrorCode::MintBudget))
                ),
                wait
            );
            let forced = decide_with(&record(-1), &memo, &refused);
            assert_eq!(
                matches!(forced, Decision::Stop(Stop::Wait(..))),
                minted >= 10,
                "{minted}"
            );
            memo.minted_at.push(NOW);
        }
        assert_eq!(need(&record(60), &memo), Decision::Use);
    }

    /// The clocks of the machines that noted the mints may be behind the one that counts them.
    #[test]
    fn a_mint_counts_until_its_window_is_over_by_every_clock() {
        let window = RefreshPolicy::default().window;
        let minted = |seconds| NOW.before(window + Duration::from_secs(seconds));
        let mut memo = Memo {
            minted_at: vec![minted(3); 8],
            ..Memo::default()
        };
        let wait = Stop::Wait(NOW.after(Duration::from_secs(2)), ErrorCode::MintBudget);
        assert_eq!(need(&record(-1), &memo), Decision::Stop(wait));
        memo.minted_at = vec![minted(5); 8];
        assert_eq!(need(&record(-1), &memo), refresh());
    }

    #[test]
    fn a_budget_without_end_has_room_for_more() {
        let policy = RefreshPolicy::default().with_mint_budget(Some(usize::MAX));
        let refused = Purpose::Refused(AccessToken::new("a").unwrap());
        let memo = Memo {
            minted_at: vec![NOW; 20],
            ..Memo::default()
        };
        let forced = decide(&record(3600), &memo, None, NOW, &policy, &refused);
        assert_eq!(forced, refresh());
    }

    #[test]
    fn a_server_in_trouble_is_left_alone_for_a_while() {
        let mut memo = Memo::default();
        memo.note_outage(NOW, Some(Duration::from_mins(1)));
        assert_eq!(need(&record(60), &memo), Decision::Use);
        let until = NOW.after(Duration::from_mins(1));
        let wait = Stop::Wait(until, ErrorCode::ServerError);
        assert_eq!(need(&record(-1), &memo), Decision::Stop(wait));
        memo.note_outage(
            NOW.before(Duration::from_mins(1)),
            Some(Duration::from_mins(1)),
        );
        assert_eq!(need(&record(-1), &memo), refresh());
    }

    #[test]
    fn a_wait_ends_by_itself() {
        let mut memo = Memo {
            wait_until: Some(NOW.after(Duration::from_secs(1))),
            ..Memo::default()
        };
        assert!(matches!(
            need(&record(-1), &memo),
            Decision::Stop(Stop::Wait(_, ErrorCode::Throttled))
        ));
        memo.wait_until = Some(NOW);
        assert_eq!(need(&record(-1), &memo), refresh());
    }

    #[test]
    fn a_record_with_only_a_grant_token_is_exchanged() {
        let mut record = OAuthToken::new();
        record.grant_token = GrantToken::new("g").ok();
        assert_eq!(
            need(&record, &Memo::default()),
            Decision::Exchange(GrantToken::new("g").unwrap())
        );
        record.grant_token = None;
        assert_eq!(
            need(&record, &Memo::default()),
            Decision::Stop(Stop::Login(ErrorCode::LoginRequired, None))
        );
    }
}
