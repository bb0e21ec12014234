//! What is found, and what is deleted.

use crate::conformance::model::Pair;
use crate::conformance::sample::{client, difference, query, set, token};
use crate::conformance::subject::{Subject, ensure};
use crate::conformance::{StoreFactory, Verdict, Violation};
use crate::token::{OAuthToken, TokenId};

const SEARCHED: [&str; 4] = ["user", "refresh", "access", "grant"];

/// What is not there is `None`, `false`, zero or an empty list: in an empty store and in one that
/// holds other records. Never an error, and never some other record.
pub async fn absence_is_an_answer(factory: &StoreFactory) -> Verdict {
    let mut pair = Pair::open(factory).await?;
    let nowhere = TokenId::new(4711).map_err(|error| Violation::error("no such id", &error))?;
    for save in ["", "user=a client=c refresh=r access=x grant=g", "access=y"] {
        if save.is_empty() {
            pair.clear().await?;
        } else {
            pair.save_each(&[save]).await?;
        }
        for field in SEARCHED {
            pair.find(&query(field, "missing")).await?;
            pair.find(&query(field, "missing").with_client(client("c")))
                .await?;
        }
        pair.find_by_id(nowhere).await?;
        pair.delete(nowhere).await?;
    }
    Ok(())
}

/// A record is found by its user name and by each of its tokens, complete.
pub async fn every_criterion_finds_its_record(factory: &StoreFactory) -> Verdict {
    let saves = [
        "user=a1 client=c1 secret=s1 refresh=r1 access=x1 grant=g1 expiry=1 url=u1 domain=d1",
        "user=a2 client=c2 secret=s2 refresh=r2 access=x2 grant=g2 expiry=2 url=u2 domain=d2",
        "user=a3 refresh=r3 access=x3 grant=g3",
        "refresh=r4 access=x4 grant=g4",
    ];
    let pair = Pair::scenario(factory, &saves).await?;
    for (field, letter) in SEARCHED.iter().zip(["a", "r", "x", "g"]) {
        for number in 1..=5 {
            pair.find(&query(field, &format!("{letter}{number}")))
                .await?;
        }
        // The value of another field is not this field's.
        pair.find(&query(field, "c1")).await?;
    }
    for id in &pair.given {
        pair.find_by_id(*id).await?;
    }
    Ok(())
}

/// A query that names a client finds that client's records only, whatever it asks for.
pub async fn a_query_with_a_client_finds_only_its_records(factory: &StoreFactory) -> Verdict {
    let saves = [
        "user=v client=c refresh=v access=v grant=v",
        "user=v client=d refresh=v access=v grant=v",
        "user=v refresh=v access=w grant=v",
    ];
    let pair = Pair::scenario(factory, &saves).await?;
    for field in SEARCHED {
        for name in ["c", "d", "e"] {
            pair.find(&query(field, "v").with_client(client(name)))
                .await?;
        }
    }
    Ok(())
}

/// Of several records that match, the one with the lowest id answers, as a number.
pub async fn the_lowest_id_answers(factory: &StoreFactory) -> Verdict {
    let mut pair = Pair::open(factory).await?;
    for number in 1..=11 {
        pair.save_each(&[&format!(
            "user=v client=c{number} refresh=v grant=v access=v"
        )])
        .await?;
    }
    for index in 0..3 {
        for field in SEARCHED {
            pair.find(&query(field, "v")).await?;
        }
        // The last look is at the ids 10 and 11, and 9 before them.
        for id in pair.given.clone().into_iter().skip(index * 4).take(4) {
            pair.delete(id).await?;
        }
    }
    Ok(())
}

/// A name or token that people and databases take for another one.
pub(super) fn near_misses() -> [(&'static str, &'static str); 26] {
    let ann = "Ann@example.com:70001";
    [
        (ann, "ann@example.com:70001"),
        (ann, "Ann@EXAMPLE.com:70001"),
        (ann, "ANN@EXAMPLE.COM:70001"),
        (ann, "Ann@example.com:70001 "),
        (ann, " Ann@example.com:70001"),
        (ann, "Ann@example.com:70001\t"),
        (ann, "Ann@example.com:70001\n"),
        (ann, "Ann@example.com:7000"),
        (ann, "nn@example.com:70001"),
        (ann, "Ann@example.com:700011"),
        (ann, "Ann@example.com"),
        (ann, "%"),
        (ann, "Ann@example.com:%"),
        (ann, "_nn@example.com:70001"),
        (ann, "*"),
        (ann, "Ann@example?com:70001"),
        (ann, "Ann.example.com:70001"),
        (ann, ".*"),
        // A Cyrillic letter that looks the same, a full-width one, an invisible one.
        (ann, "Ann@ex\u{430}mple.com:70001"),
        (ann, "\u{ff21}nn@example.com:70001"),
        (ann, "An\u{200b}n@example.com:70001"),
        // One letter or two characters, an accent or none, and two letters or one.
        ("S\u{f8}r\u{e9}n", "S\u{f8}re\u{301}n"),
        ("S\u{f8}r\u{e9}n", "Soren"),
        ("Stra\u{df}e", "Strasse"),
        ("\u{130}stanbul", "istanbul"),
        ("007", "7"),
    ]
}

/// A look-up compares exactly: no other case, no look-alike, no space more or less, no wildcard.
pub async fn a_near_miss_finds_nobody(factory: &StoreFactory) -> Verdict {
    let mut pair = Pair::open(factory).await?;
    for (number, &(stored, _)) in near_misses().iter().enumerate() {
        if number == 0 || stored != near_misses()[number - 1].0 {
            let mut record = token("expiry=1");
            for field in SEARCHED.iter().chain(&["client"]) {
                set(&mut record, field, stored);
            }
            pair.save(&record).await?;
        }
    }
    for (stored, near) in near_misses() {
        for field in SEARCHED {
            pair.find(&query(field, stored).with_client(client(stored)))
                .await?;
            pair.find(&query(field, near)).await?;
            pair.find(&query(field, stored).with_client(client(near)))
                .await?;
        }
    }
    Ok(())
}

/// A save compares exactly too: a near miss is another login and gets a record of its own.
pub async fn a_near_miss_is_another_login(factory: &StoreFactory) -> Verdict {
    for field in ["user", "client", "refresh", "grant", "access"] {
        let mut pair = Pair::open(factory).await?;
        for (stored, near) in near_misses() {
            for (number, value) in [stored, near].iter().enumerate() {
                let mut record = token(&format!("expiry={number}"));
                set(&mut record, field, value);
                if field == "client" {
                    set(&mut record, "user", "a");
                }
                if field == "user" || field == "client" {
                    set(&mut record, "refresh", "r");
                }
                pair.save(&record).await?;
            }
        }
    }
    Ok(())
}

/// `delete_token` takes the record with that id and no other, and says whether it was there.
pub async fn delete_takes_one_record(factory: &StoreFactory) -> Verdict {
    let mut pair = Pair::open(factory).await?;
    for number in 1..=11 {
        pair.save_each(&[&format!(
            "user=u{number} refresh=r{number} access=x{number}"
        )])
        .await?;
    }
    let ids = pair.given.clone();
    for id in [ids[0], ids[9], ids[0], ids[4]] {
        pair.delete(id).await?;
        pair.find_by_id(id).await?;
    }
    for number in 1..=11 {
        pair.find(&query("user", &format!("u{number}"))).await?;
        pair.find(&query("refresh", &format!("r{number}"))).await?;
    }
    Ok(())
}

/// `delete_tokens` takes all records, says how many there were, and leaves a store that works.
pub async fn delete_tokens_takes_all_and_counts_them(factory: &StoreFactory) -> Verdict {
    let subject = Subject::open(factory).await?;
    for count in [0, 1, 11, 0] {
        for number in 0..count {
            subject
                .save(&token(&format!("user=u{number} access=x{number}")))
                .await?;
        }
        let deleted = subject.clear().await?;
        ensure!(
            deleted == count,
            "`delete_tokens` took {count} and answered {deleted}"
        );
        subject.holds(&[]).await?;
        subject.finds(&query("user", "u0"), None).await?;
        subject.finds(&query("access", "x0"), None).await?;
    }
    Ok(())
}

/// `get_tokens_page` lists every record once, in the order of their ids as numbers, also where ids
/// are missing: page by page, of whatever size. Nothing comes after the last.
pub async fn pages_list_every_record_once(factory: &StoreFactory) -> Verdict {
    let subject = Subject::open(factory).await?;
    let page = async |after: Option<TokenId>, limit: usize| {
        let page = subject.store.get_tokens_page(after, limit).await;
        page.map_err(|error| Violation::error("`get_tokens_page` failed", &error))
    };
    let nothing = page(None, 10).await?;
    ensure!(nothing.is_empty(), "an empty store has a page of records");
    let mut ids = Vec::new();
    for number in 1..=104 {
        let record = token(&format!("user=u{number} access=x{number}"));
        ids.push(subject.save(&record).await?);
    }
    // Gaps, also around the ids whose texts are longer than those before them.
    for index in (0..104).filter(|index| index % 7 == 3 || [8, 9, 98, 99].contains(index)) {
        subject.delete(ids[index]).await?;
    }
    let mut far = token("user=far access=far");
    far.id = ids
        .last()
        .and_then(|last| TokenId::new(last.get() + 900).ok());
    subject.save(&far).await?;
    let all = subject.all().await?;
    for limit in [1, 2, 10, 33, all.len(), all.len() + 1, usize::MAX] {
        let mut listed = Vec::new();
        loop {
            let after = listed.last().and_then(|last: &OAuthToken| last.id);
            let next = page(after, limit).await?;
            ensure!(
                next.len() <= limit,
                "a page of at most {limit} has {} records",
                next.len()
            );
            let is_last = next.len() < limit;
            listed.extend(next);
            if is_last || listed.len() > all.len() {
                break;
            }
        }
        ensure!(
            listed == all,
            "in pages of {limit}: {}",
            difference(&all, &listed)
        );
    }
    let last = all.last().and_then(|last| last.id);
    // After an id that is stored, one that is not, and the last.
    for (after, limit) in [
        (None, 0),
        (Some(ids[0]), 0),
        (Some(ids[7]), 4),
        (Some(ids[8]), 4),
        (Some(ids[98]), 4),
        (last, 4),
        (Some(TokenId::MAX), 4),
    ] {
        let rest = all.iter().filter(|row| row.id > after);
        let expected: Vec<_> = rest.take(limit).cloned().collect();
        let found = page(after, limit).await?;
        ensure!(
            found == expected,
            "{limit} after {after:?}: {}",
            difference(&expected, &found)
        );
    }
    Ok(())
}
