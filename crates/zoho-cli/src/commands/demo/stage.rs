//! What the parts of the demo act on: the sandbox in Zoho's place, the application's registration
//! there, and the file.

use std::path::{Path, PathBuf};
use std::time::Duration;

use tempfile::TempDir;
use zoho_sandbox::{Counts, Sandbox};
use zohocrm::oauth::{AccessToken, Credential, DataCenter, ListStore, OAuthClient, SqliteStore};
use zohocrm::{Records, ZohoCrm};

use crate::error::{Failure, Result};

/// How long an access token lives at the sandbox. Long enough that nothing but the wait of part 3
/// outlasts it, short enough to wait for.
pub(crate) const LIFE: Duration = Duration::from_secs(5);

/// The data center of the sandbox that the demo's person lives in.
pub(crate) const CENTER: &str = "us";

/// What the demo asks the person for: leads, and the name to file the login under.
pub(crate) const SCOPES: [&str; 3] = [
    "ZohoCRM.modules.ALL",
    "ZohoCRM.users.READ",
    "ZohoCRM.org.READ",
];

pub(crate) struct Stage {
    pub(crate) sandbox: Sandbox,
    pub(crate) center: DataCenter,
    pub(crate) client: OAuthClient,
    /// Who logs in.
    pub(crate) email: String,
    folder: TempDir,
}

impl Stage {
    /// Starts the sandbox and makes a folder in `parent`, the system's temporary folder by default.
    pub(crate) async fn set_up(parent: Option<&Path>, keep: bool) -> Result<Self> {
        let parent = parent.map_or_else(std::env::temp_dir, Path::to_owned);
        let folder = tempfile::Builder::new()
            .prefix("zoho-demo-")
            .disable_cleanup(keep)
            .tempdir_in(&parent)
            .map_err(|error| Failure::new_folder(&parent, &error))?;
        let sandbox = Sandbox::builder().access_token_life(LIFE).start().await?;
        let at = sandbox.center(CENTER);
        let center = data_center(at.accounts_url(), at.api_url())?;
        let client =
            OAuthClient::new(at.client_id(), at.client_secret())?.redirect_uri(at.redirect_uri());
        let email = at.people().swap_remove(0);
        Ok(Self {
            sandbox,
            center,
            client,
            email,
            folder,
        })
    }

    /// Where the tokens are.
    pub(crate) fn file(&self) -> PathBuf {
        self.folder.path().join(SqliteStore::DEFAULT_FILE_NAME)
    }

    pub(crate) fn counts(&self) -> Counts {
        self.sandbox.counts()
    }

    /// Makes one call with this very access token, by a client that has nothing else and cannot
    /// get another one. Answers whether Zoho took it.
    pub(crate) async fn try_out(&self, token: &AccessToken) -> Result<bool> {
        let alone = Credential::access(token.clone());
        let crm = ZohoCrm::builder(self.center.clone(), alone, ListStore::new())
            .find_user(false)
            .build()
            .await?;
        Ok(crm.org().get().await.is_ok())
    }
}

/// The sandbox as a data center.
pub(crate) fn data_center(accounts_url: &str, api_url: &str) -> Result<DataCenter> {
    let center = DataCenter::builder(CENTER, accounts_url).api_domain(api_url);
    Ok(center.build()?)
}

/// Reads all leads, and counts them.
pub(crate) async fn count(leads: &Records) -> Result<u64> {
    let mut all = leads.list().fields(["Last_Name", "Company"]).stream();
    let mut count = 0;
    while let Some(lead) = all.next().await {
        lead?;
        count += 1;
    }
    Ok(count)
}
