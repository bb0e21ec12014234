//! Everything, in any order.

use fastrand::Rng;

use crate::conformance::environment;
use crate::conformance::model::Pair;
use crate::conformance::sample::{client, query, set, token};
use crate::conformance::{StoreFactory, Verdict};
use crate::token::{OAuthToken, TokenId};

const STEPS: usize = 400;

/// Several hundred random operations answer what the rule book answers, step by step. The seed is
/// in the text of a failure; `ZOHO_CONFORMANCE_SEED` repeats it.
pub async fn random_operations_follow_the_rule_book(factory: &StoreFactory) -> Verdict {
    let seed = environment::seed().unwrap_or_else(|| fastrand::u64(..));
    let mut rng = Rng::with_seed(seed);
    let mut pair = Pair::open(factory).await?;
    for step in 1..=STEPS {
        let done = one_step(&mut pair, &mut rng).await;
        done.map_err(|violation| violation.at(format!("seed {seed}, step {step}")))?;
    }
    Ok(())
}

async fn one_step(pair: &mut Pair, rng: &mut Rng) -> Verdict {
    match rng.u32(0..100) {
        0..65 => {
            let token = some_token(pair, rng);
            pair.save(&token).await
        }
        65..72 => match some_id(pair, rng) {
            Some(id) => pair.delete(id).await,
            None => Ok(()),
        },
        72 => pair.clear().await,
        73..85 => match some_id(pair, rng) {
            Some(id) => pair.find_by_id(id).await,
            None => Ok(()),
        },
        _ => {
            let field = *rng
                .choice(&["user", "refresh", "access", "grant"])
                .unwrap_or(&"user");
            let mut asked = query(field, &value(field, rng));
            if rng.bool() {
                asked = asked.with_client(client(&value("client", rng)));
            }
            pair.find(&asked).await
        }
    }
}

/// One of few values, so that records meet often. One of them is near another, one is nasty.
fn value(field: &str, rng: &mut Rng) -> String {
    let values = ["1", "2", "3", "4", "A", "a", "', \"\n"];
    format!("{field}-{}", values[rng.usize(0..values.len())])
}

fn some_id(pair: &Pair, rng: &mut Rng) -> Option<TokenId> {
    rng.choice(&pair.given).copied()
}

fn some_token(pair: &Pair, rng: &mut Rng) -> OAuthToken {
    let mut record = token("");
    for (field, percent) in [
        ("user", 60),
        ("client", 60),
        ("secret", 40),
        ("refresh", 50),
        ("access", 50),
        ("grant", 30),
        ("url", 20),
        ("domain", 20),
    ] {
        if rng.u32(0..100) < percent {
            set(&mut record, field, &value(field, rng));
        }
    }
    if rng.bool() {
        let expiry = token(&format!("expiry={}", rng.i64(1..5)));
        record.expiry_time = expiry.expiry_time;
    }
    record.id = match rng.u32(0..100) {
        0..35 => some_id(pair, rng),
        // Far above, so that a store which skips numbers has not given it.
        35..38 => {
            let highest = pair.table.highest_id().map_or(0, TokenId::get);
            TokenId::new(highest + 1000).ok()
        }
        _ => None,
    };
    record
}
