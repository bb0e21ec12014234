//! One rule, as a tier lists it.

use std::pin::Pin;

use super::factory::StoreFactory;
use super::report::{OptionalVerdict, Violation};

/// One rule of a [`Tier`](super::Tier).
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Rule {
    /// The rule in a few words, also the name of its function and its test.
    pub name: &'static str,
    pub(super) run: fn(&StoreFactory) -> VerdictFuture<'_>,
}

type VerdictFuture<'a> = Pin<Box<dyn Future<Output = OptionalVerdict> + Send + 'a>>;

impl Rule {
    /// Holds the stores that `factory` opens to this rule, if they offer what it is about.
    ///
    /// # Errors
    /// The way in which the rule is broken; a panic of the store counts.
    pub async fn check(self, factory: &StoreFactory) -> OptionalVerdict {
        let factory = factory.clone();
        let run = tokio::spawn(async move { (self.run)(&factory).await });
        run.await
            .unwrap_or_else(|panic| Err(Violation::new(format!("a panic: {panic}"))))
    }
}
