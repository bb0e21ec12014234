//! How a record of the target stands to the one of the source: pure, without a store.

use crate::clock::Timestamp;
use crate::store::table::{check_same_login, merge};
use crate::token::OAuthToken;

/// Whose values are taken where nothing tells which are newer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ties {
    Target,
    Source,
}

/// How the target's record stands to the source's, once [`Comparison::wanted`] is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    /// It holds everything that the source's record holds.
    Agrees,
    /// Its access token ends later, so its values stay.
    Newer,
    /// The values of these fields differ, and nothing tells which are newer: the target's stay.
    Undecided(Vec<&'static str>),
}

/// What is to be done about a login that both stores have.
#[derive(Clone, Debug)]
pub(super) struct Comparison {
    pub(super) standing: Standing,
    /// The target's record as it is to be, if it is not so already.
    pub(super) wanted: Option<OAuthToken>,
    /// The fields in which it is not so already.
    pub(super) stale: Vec<&'static str>,
    /// Whether all fields but the id are equal as they are.
    pub(super) is_equal: bool,
}

/// Compares two records of one login. What the target leaves blank is filled in any case.
///
/// Every login and every refresh brings an access token, so the record whose access token ends
/// later is the one that was touched later. An end that no token can have at `now` says nothing.
pub(super) fn compare(
    source: &OAuthToken,
    target: &OAuthToken,
    ties: Ties,
    now: Timestamp,
) -> Comparison {
    let order = end_of(source, now).cmp(&end_of(target, now));
    let wanted = if order.is_gt() || (order.is_eq() && ties == Ties::Source) {
        merge(target, source)
    } else {
        OAuthToken {
            id: target.id,
            ..merge(source, target)
        }
    };
    let lost = lost(source, &wanted);
    let standing = if lost.is_empty() {
        Standing::Agrees
    } else if order.is_lt() {
        Standing::Newer
    } else {
        Standing::Undecided(lost)
    };
    let stale = differing(&wanted, target);
    Comparison {
        standing,
        wanted: (!stale.is_empty()).then_some(wanted),
        stale,
        is_equal: differing(source, target).is_empty(),
    }
}

/// When the access token ends, if there is one and its end is possible.
fn end_of(token: &OAuthToken, now: Timestamp) -> Option<Timestamp> {
    let end = token.access_token.as_ref().and(token.expiry_time);
    end.filter(|end| *end <= now.after(OAuthToken::LONGEST_AHEAD))
}

/// Returns whether two records are one login beyond doubt: nothing speaks against it, and they
/// have the user name or a token in common.
pub(super) fn is_same_login(source: &OAuthToken, target: &OAuthToken) -> bool {
    fn share<T: PartialEq>(one: Option<&T>, other: Option<&T>) -> bool {
        one.is_some() && one == other
    }
    is_no_contradiction(source, target)
        && (share(source.user_name.as_ref(), target.user_name.as_ref())
            || share(source.refresh_token.as_ref(), target.refresh_token.as_ref())
            || share(source.grant_token.as_ref(), target.grant_token.as_ref())
            || share(source.access_token.as_ref(), target.access_token.as_ref()))
}

/// Returns whether two records do not name two users or two clients.
pub(super) fn is_no_contradiction(source: &OAuthToken, target: &OAuthToken) -> bool {
    check_same_login(target, source).is_ok()
}

/// The fields that differ, but for the id. Blank and missing are the same.
pub(super) fn differing(one: &OAuthToken, other: &OAuthToken) -> Vec<&'static str> {
    fields_where(one, other, |one, other| one != other)
}

/// The fields of `source` whose values `target` does not hold.
pub(super) fn lost(source: &OAuthToken, target: &OAuthToken) -> Vec<&'static str> {
    let mut fields = fields_where(source, target, |source, target| {
        source.is_some() && source != target
    });
    if source.access_token.is_none() && target.access_token.is_some() {
        // The end of nothing: no store keeps it beside another record's access token.
        fields.retain(|field| *field != "expiry_time");
    }
    fields
}

fn fields_where(
    one: &OAuthToken,
    other: &OAuthToken,
    test: impl Fn(Option<&str>, Option<&str>) -> bool,
) -> Vec<&'static str> {
    let values = one.expose_fields().into_iter().zip(other.expose_fields());
    OAuthToken::FIELDS
        .into_iter()
        .zip(values)
        .skip(1)
        .filter(|(_, (one, other))| {
            let filled = |value: &&str| !value.is_empty();
            test(
                one.as_deref().filter(filled),
                other.as_deref().filter(filled),
            )
        })
        .map(|(field, _)| field)
        .collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const NOW: Timestamp = Timestamp::from_millis(300);

    /// `["3", "ann", "c", "", "r1", "a1", "", "100"]`: the first fields in the official order.
    fn token(values: [&str; 8]) -> OAuthToken {
        let [id, user, client, secret, refresh, access, grant, expiry] = values;
        OAuthToken::from_fields(&[
            Some(id),
            Some(user),
            Some(client),
            Some(secret),
            Some(refresh),
            Some(access),
            Some(grant),
            Some(expiry),
            None,
            None,
        ])
        .unwrap()
    }

    #[test]
    fn the_later_access_token_tells_which_record_is_newer() {
        let older = token(["1", "ann", "c", "s", "r1", "a1", "", "100"]);
        let newer = token(["7", "ann", "c", "s", "r2", "a2", "", "200"]);

        let done = compare(&newer, &older, Ties::Target, NOW);
        assert_eq!(done.standing, Standing::Agrees);
        let wanted = done.wanted.unwrap();
        assert_eq!(
            wanted.id, older.id,
            "the target's record stays the target's"
        );
        assert!(differing(&wanted, &newer).is_empty());

        let done = compare(&older, &newer, Ties::Source, NOW);
        assert_eq!(done.standing, Standing::Newer);
        assert!(done.wanted.is_none());
    }

    #[test]
    fn an_end_that_no_token_can_have_makes_no_record_newer() {
        let wrong = (1000_i64 * 3_600_000).to_string();
        let wrong = token(["1", "ann", "c", "s", "r1", "a1", "", &wrong]);
        let newer = token(["7", "ann", "c", "s", "r2", "a2", "", "200"]);
        let done = compare(&wrong, &newer, Ties::Source, NOW);
        assert_eq!(done.standing, Standing::Newer);
        let done = compare(&newer, &wrong, Ties::Target, NOW);
        assert_eq!(done.wanted.unwrap().refresh_token, newer.refresh_token);
    }

    #[test]
    fn a_newer_record_gets_what_it_lacks() {
        let source = token(["1", "ann", "c", "s", "r1", "a1", "", "100"]);
        let target = token(["7", "ann", "c", "", "", "a2", "g", "200"]);
        let done = compare(&source, &target, Ties::Target, NOW);
        assert_eq!(done.standing, Standing::Newer);
        let wanted = done.wanted.unwrap();
        let expected = token(["7", "ann", "c", "s", "r1", "a2", "g", "200"]);
        assert_eq!(wanted, expected);
    }

    #[test]
    fn where_nothing_tells_which_is_newer_the_target_stays_unless_told_otherwise() {
        let source = token(["1", "ann", "c", "s1", "r1", "", "", ""]);
        let target = token(["1", "ann", "c", "s2", "r2", "", "", ""]);
        let done = compare(&source, &target, Ties::Target, NOW);
        let fields = vec!["client_secret", "refresh_token"];
        assert_eq!(done.standing, Standing::Undecided(fields));
        assert!(done.wanted.is_none());

        let done = compare(&source, &target, Ties::Source, NOW);
        assert_eq!(done.standing, Standing::Agrees);
        assert_eq!(done.wanted.unwrap(), source);
    }

    #[test]
    fn blank_and_missing_are_the_same() {
        let mut blank = token(["1", "ann", "", "", "r1", "", "", ""]);
        let missing = blank.clone();
        blank.redirect_url = Some(String::new());
        let done = compare(&blank, &missing, Ties::Source, NOW);
        assert_eq!(done.standing, Standing::Agrees);
        assert!(done.wanted.is_none() && differing(&missing, &blank).is_empty());
    }

    #[test]
    fn one_login_needs_something_in_common_and_nothing_against_it() {
        let ann = token(["1", "ann", "c", "", "r1", "", "", ""]);
        for (other, same) in [
            (["2", "ann", "c", "", "r2", "", "", ""], true),
            (["2", "ann", "", "", "r2", "", "", ""], true),
            (["2", "", "c", "", "r1", "", "", ""], true),
            (["2", "", "c", "", "r2", "", "", ""], false),
            (["2", "ann", "d", "", "r1", "", "", ""], false),
            (["2", "bob", "c", "", "r1", "", "", ""], false),
        ] {
            assert_eq!(is_same_login(&ann, &token(other)), same, "{other:?}");
            assert_eq!(is_same_login(&token(other), &ann), same, "{other:?}");
        }
    }

    fn any_of(values: &'static [&'static str]) -> impl Strategy<Value = &'static str> {
        prop::sample::select(values)
    }

    fn record() -> impl Strategy<Value = OAuthToken> {
        let tokens = &["", "x", "y"];
        (
            any_of(&["", "s", "t"]),
            any_of(tokens),
            any_of(tokens),
            any_of(tokens),
            any_of(&["", "1", "2"]),
        )
            .prop_map(|(secret, refresh, access, grant, expiry)| {
                token(["1", "ann", "c", secret, refresh, access, grant, expiry])
            })
    }

    proptest! {
        /// Once the record is as wanted there is nothing left to do, and nothing was lost.
        #[test]
        fn what_was_done_needs_not_be_done_again(
            source in record(),
            target in record(),
            source_wins in any::<bool>(),
        ) {
            let ties = if source_wins { Ties::Source } else { Ties::Target };
            let first = compare(&source, &target, ties, NOW);
            let stored = match &first.wanted {
                // As every store does it.
                Some(wanted) => merge(&target, wanted),
                None => target.clone(),
            };
            if let Some(wanted) = &first.wanted {
                prop_assert_eq!(&stored, wanted, "a save makes it what is wanted");
            }
            let again = compare(&source, &stored, ties, NOW);
            prop_assert!(again.wanted.is_none(), "{:?}", again);
            prop_assert_eq!(again.standing, first.standing);
            let blank = |field: Option<&str>| field.is_none();
            prop_assert!(
                fields_where(&target, &stored, |target, stored| !blank(target) && blank(stored))
                    .iter()
                    // It went with the access token that it belonged to.
                    .all(|field| *field == "expiry_time"),
            );
        }
    }
}
