//! Log in once, then read and write leads. Runs against a sandbox of its own:
//! `cargo run --example quick_start`.

use zoho_sandbox::Sandbox;
use zohocrm::oauth::{Credential, DataCenter, GrantToken, ListStore, OAuthClient};
use zohocrm::{Record, ZohoCrm};

const SCOPES: &str = "ZohoCRM.modules.ALL,ZohoCRM.users.READ,ZohoCRM.org.READ";

#[tokio::main]
#[expect(clippy::print_stdout, reason = "an example speaks")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    // Zoho's place is taken by a sandbox. Against Zoho, `center` is `DataCenter::eu()` or the
    // like, and the grant token comes from the API console or from a login.
    let sandbox = Sandbox::builder().start().await?;
    let center = DataCenter::builder("sandbox", sandbox.accounts_url())
        .api_domain(sandbox.api_url())
        .build()?;
    let client = OAuthClient::new(sandbox.client_id(), sandbox.client_secret())?;
    let code = GrantToken::new(sandbox.grant_code(&sandbox.people()[0], SCOPES))?;

    // From here on it is the code of an application. A `FileStore` or `SqliteStore` in place of
    // the list keeps the login for the next start, which then finds it by the same grant token.
    let crm = ZohoCrm::builder(center, Credential::grant(client, code), ListStore::new())
        .build()
        .await?;
    let leads = crm.records("Leads");

    let lead = Record::new()
        .with("Last_Name", "Quill")
        .with("Company", "Lantern Works")
        .with("Email", "quill@example.com");
    for result in leads.create([lead]).send().await? {
        println!("created {}", result?.id());
    }

    let mut all = leads.list().fields(["Last_Name", "Email"]).stream();
    let mut count = 0;
    while let Some(lead) = all.next().await {
        let lead = lead?;
        count += 1;
        if lead.text("Last_Name").as_deref() == Some("Quill") {
            println!(
                "found {} among them",
                lead.text("Email").unwrap_or_default()
            );
        }
    }
    println!("{count} leads in all");
    Ok(())
}
