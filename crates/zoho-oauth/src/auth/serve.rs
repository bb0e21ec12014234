//! The access token for a caller: from memory, after revalidation, or from a renewal.

use std::panic::{AssertUnwindSafe, resume_unwind};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use futures_util::FutureExt;

use super::access::Access;
use super::cache::CacheEntry;
use super::decide::Purpose;
use super::inner::Inner;
use super::renew;
use super::revalidate::revalidate;
use super::single_flight::Flight;
use crate::clock::Timestamp;
use crate::error::{Error, ErrorCode, Result};

/// Returns a good access token, when the [hot path](CacheEntry::quick) has none.
pub(super) async fn access_token(inner: &Arc<Inner>, entry: &Arc<CacheEntry>) -> Result<Access> {
    let now = Timestamp::now();
    entry.used(now);
    inner.drop_unused(now);
    let in_hand = entry.in_hand();
    let ended = in_hand.as_ref().filter(|issued| issued.has_aged());
    let purpose = ended.map_or(Purpose::Need, |issued| Purpose::Ended(issued.token.clone()));
    if let Some(issued) = in_hand.filter(|issued| issued.is_usable(now)) {
        let issued = if !issued.is_confirmed(now) {
            revalidate(entry, inner).await?
        } else if now < issued.refresh_at {
            // The token's age was checked, so the hot path can have it again.
            let seen = issued.postponed(now, issued.recheck_at, issued.refresh_at);
            Some(entry.replace(Some(&issued), seen).0)
        } else {
            Some(issued)
        };
        if let Some(issued) = issued {
            if Timestamp::now() >= issued.refresh_at {
                join_or_start(inner, entry, &Purpose::Ahead);
            }
            return Ok(Access(issued));
        }
    }
    renewed(inner, entry, &purpose).await
}

/// Waits for a new access token. Starts the renewal if none is under way.
pub(super) async fn renewed(
    inner: &Arc<Inner>,
    entry: &Arc<CacheEntry>,
    purpose: &Purpose,
) -> Result<Access> {
    let mut last = Error::new(ErrorCode::Internal, "the refresh ended without an answer");
    for _ in 0..3 {
        if entry.is_ended() {
            return Err(entry.deleted());
        }
        if let Some(error) = entry.recent_failure(purpose) {
            return Err(error);
        }
        let mut flight = join_or_start(inner, entry, purpose);
        let is_joined = flight.is_joined;
        match flight.outcome().await {
            // The task died before it asked Zoho. Begin again.
            None => {}
            // A refresh ahead of time leaves things as they are when another process is at
            // it. Meanwhile the token may have ended.
            Some(Ok(access)) if is_joined && !access.0.is_usable(Timestamp::now()) => {}
            Some(Ok(access)) => {
                // A refresh that began for a token that has ended brings one that has not.
                let is_new = !is_joined && matches!(purpose, Purpose::Ended(_));
                if is_new || !purpose.rejects(access.token()) {
                    return Ok(access);
                }
                // That refresh began before it was known that this token is of no use.
                last = Error::new(
                    ErrorCode::UnexpectedAnswer,
                    "a new access token is the one that it was to replace",
                );
            }
            Some(Err(error)) => return Err(error),
        }
    }
    Err(last)
}

fn join_or_start(
    inner: &Arc<Inner>,
    entry: &Arc<CacheEntry>,
    purpose: &Purpose,
) -> Flight<Result<Access>> {
    let work = || {
        let (inner, entry, purpose) = (Arc::clone(inner), Arc::clone(entry), purpose.clone());
        async move {
            entry.has_asked.store(false, Ordering::SeqCst);
            let run = AssertUnwindSafe(renew::run(&inner, &entry, &purpose)).catch_unwind();
            let outcome = match run.await {
                Ok(outcome) => outcome,
                // The callers begin again, as after the end of a runtime, unless Zoho was asked.
                Err(panic) if !entry.has_asked.load(Ordering::SeqCst) => resume_unwind(panic),
                Err(_) => Err(Error::new(ErrorCode::Internal, "the refresh panicked")),
            };
            entry.renewal_ended(&purpose, &outcome);
            outcome
        }
    };
    inner
        .renewals
        .join_or_start(entry.serial, work, |_, _| std::future::ready(()))
}
