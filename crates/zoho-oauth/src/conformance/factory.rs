//! Where stores under test live, and how they are opened.

use std::fmt;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use tempfile::TempDir;

use super::{Violation, environment};
use crate::error::Result;
use crate::store::TokenStore;

/// A private, empty place for the tokens of one test: a folder and a name.
///
/// Clones are the same place; the folder is deleted with the last of them. In a child process the
/// place is the one of its parent.
#[derive(Clone, Debug)]
pub struct Place {
    path: PathBuf,
    name: String,
    _folder: Option<Arc<TempDir>>,
}

impl Place {
    pub(super) fn fresh() -> std::result::Result<Self, Violation> {
        let folder = tempfile::Builder::new()
            .prefix("zoho-conformance-")
            .tempdir()
            .map_err(|error| Violation::new(format!("no temporary folder: {error}")))?;
        let unique = fastrand::u64(..);
        Ok(Self {
            path: folder.path().to_owned(),
            name: format!("conformance_{unique:016x}"),
            _folder: Some(Arc::new(folder)),
        })
    }

    /// The place that a parent process made.
    pub(crate) const fn existing(path: PathBuf, name: String) -> Self {
        Self {
            path,
            name,
            _folder: None,
        }
    }

    /// Returns a folder that exists, is empty at first, and belongs to this test alone.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Returns a name that no other place has: lower-case letters, digits and underscores, at most
    /// 30. Good for a schema, a table or the prefix of keys on a server.
    pub fn name(&self) -> &str {
        &self.name
    }
}

/// How long a lease lasts at most, unless the factory says it.
const LONGEST_LEASE: Duration = Duration::from_mins(1);

type Opening = Pin<Box<dyn Future<Output = Result<Arc<dyn TokenStore>>> + Send>>;

/// Opens the stores under test. Cheap to clone.
#[derive(Clone)]
pub struct StoreFactory {
    open: Arc<dyn Fn(Place) -> Opening + Send + Sync>,
    child_test: Option<&'static str>,
    kills: usize,
    lease: Duration,
}

impl StoreFactory {
    /// Takes the function that opens a store at a place. Opening a place again, while the store is
    /// open or after it was dropped, must reach the same tokens if the store is to be durable.
    pub fn new<F, O, S>(open: F) -> Self
    where
        F: Fn(Place) -> O + Send + Sync + 'static,
        O: Future<Output = Result<S>> + Send + 'static,
        S: TokenStore,
    {
        let open = move |place| -> Opening {
            let opening = open(place);
            Box::pin(async move { Ok(Arc::new(opening.await?) as Arc<dyn TokenStore>) })
        };
        Self {
            open: Arc::new(open),
            child_test: None,
            kills: environment::DEFAULT_KILLS,
            lease: LONGEST_LEASE,
        }
    }

    /// Makes child processes run one test of this test binary instead of its `main`.
    ///
    /// The test is the one that `token_store_conformance!(child, open)` makes, in the same module:
    /// `concat!(module_path!(), "::conformance_child")`. The coordinated tier makes one of its own,
    /// `conformance_coordinated_child`; either does all parts.
    #[must_use]
    pub const fn with_child_test(mut self, path: &'static str) -> Self {
        self.child_test = Some(path);
        self
    }

    /// Sets how many rounds of SIGKILL the durable tier runs, for stores that are slow to open:
    /// 1,000 unless it is set. `ZOHO_CONFORMANCE_KILLS` goes before it.
    ///
    /// # Panics
    /// When `kills` is 0: nothing would be tested.
    #[must_use]
    pub const fn with_kills(mut self, kills: usize) -> Self {
        assert!(kills > 0, "the durable tier kills at least once");
        self.kills = kills;
        self
    }

    /// Sets how long a holder's right to a key lasts after the holder died or stood still, for stores
    /// whose guarantee is `Fleet`: a minute unless it is set.
    ///
    /// The coordinated tier waits that long at most. Let `open` make stores whose leases are short,
    /// since five rules wait for the end of one; a second is enough.
    #[must_use]
    pub const fn with_lease(mut self, lease: Duration) -> Self {
        self.lease = lease;
        self
    }

    /// How many rounds of SIGKILL are run.
    pub(super) fn kills(&self) -> usize {
        environment::kills().unwrap_or(self.kills)
    }

    pub(super) const fn lease(&self) -> Duration {
        self.lease
    }

    /// The arguments that make the program of this process run the child's part.
    pub(super) fn child_arguments(&self) -> Vec<&'static str> {
        // The test harness knows the path without the name of the crate.
        let test = self.child_test.map(|path| {
            let within = path.split_once("::").map(|(_, within)| within);
            within.unwrap_or(path)
        });
        test.map_or_else(Vec::new, |test| {
            vec!["--exact", test, "--nocapture", "--test-threads=1"]
        })
    }

    pub(super) async fn open(
        &self,
        place: &Place,
    ) -> std::result::Result<Arc<dyn TokenStore>, Violation> {
        (self.open)(place.clone())
            .await
            .map_err(|error| Violation::error("the store cannot be opened", &error))
    }
}

impl fmt::Debug for StoreFactory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StoreFactory")
            .field("child_test", &self.child_test)
            .field("kills", &self.kills)
            .field("lease", &self.lease)
            .finish_non_exhaustive()
    }
}
