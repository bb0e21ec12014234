//! What the program says. Standard output is for the banner or the JSON line, standard error
//! for trouble.
#![expect(clippy::print_stderr, reason = "this module is the program's voice")]

use std::error::Error;
use std::fmt::Write as _;
use std::io::Write as _;

use serde::Serialize;
use zoho_sandbox::Sandbox;

/// The line for programs; the keys in this order.
#[derive(Serialize)]
struct Ready<'a> {
    accounts_url: &'a str,
    api_url: &'a str,
    client_id: &'a str,
    client_secret: &'a str,
    redirect_uri: &'a str,
    control_url: &'a str,
}

/// One line of JSON. The demo client's secret is in it on purpose.
pub(crate) fn json(sandbox: &Sandbox) {
    let ready = Ready {
        accounts_url: sandbox.accounts_url(),
        api_url: sandbox.api_url(),
        client_id: sandbox.client_id(),
        client_secret: sandbox.client_secret(),
        redirect_uri: sandbox.redirect_uri(),
        control_url: sandbox.control_url(),
    };
    let line = serde_json::to_string(&ready).expect("six strings can be written as JSON");
    say(&format!("{line}\n"));
}

/// What a client needs that reads and writes records and asks who its user is.
const SCOPES: &str = "ZohoCRM.modules.ALL,ZohoCRM.users.READ,ZohoCRM.org.READ";

/// What a person needs to go on. The demo client's secret is in it on purpose.
pub(crate) fn banner(sandbox: &Sandbox) {
    let control = sandbox.control_url();
    let several = sandbox.centers().count() > 1;
    let people: Vec<String> = sandbox
        .centers()
        .flat_map(|center| {
            let people = center.people().into_iter();
            people.map(move |email| {
                if several {
                    format!("{email}  ({})", center.name())
                } else {
                    email
                }
            })
        })
        .collect();
    let mut elsewhere = String::new();
    for center in sandbox.centers().skip(1) {
        let label = format!("data center {}", center.name());
        let _ = write!(elsewhere, "\n  {label:<15}  {}", center.accounts_url());
    }
    let mut text = format!(
        "Zoho sandbox: accounts server and CRM, all invented, nothing leaves this machine\n\
         \n  accounts server  {}\
         \n  API              {}{elsewhere}\
         \n  control          {control}\
         \n  client ID        {}\
         \n  client secret    {}\
         \n  redirect URI     {}\
         \n  people           {}\n",
        sandbox.accounts_url(),
        sandbox.api_url(),
        sandbox.client_id(),
        sandbox.client_secret(),
        sandbox.redirect_uri(),
        people.join("\n                   "),
    );
    if let Some(first) = sandbox.people().first() {
        let _ = write!(
            text,
            "\nNext: get a grant code, as from the API console, and exchange it in your application\
             \n  curl {control}/codes \\\
             \n    -d '{{\"email\": \"{first}\", \"scopes\": \"{SCOPES}\"}}'\n",
        );
    }
    text += "\nCtrl-C ends it.\n";
    say(&text);
}

/// Writes to standard output. Whoever closed it does not want to hear more, and the sandbox
/// goes on without.
fn say(text: &str) {
    let mut output = std::io::stdout().lock();
    let _ = output.write_all(text.as_bytes());
    let _ = output.flush();
}

/// A mistake on the command line or in the configuration file.
pub(crate) fn error(text: &str) {
    eprintln!("error: {text}");
}

/// An error with its causes.
pub(crate) fn failure(error: &dyn Error) {
    eprintln!("error: {error}");
    let mut cause = error.source();
    while let Some(error) = cause {
        eprintln!("  because: {error}");
        cause = error.source();
    }
}
