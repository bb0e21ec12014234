//! The pages people see. They are plain forms: nothing on them needs JavaScript.

use askama::Template;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};

use super::authorize::{AuthorizeRequest, Problem};
use crate::config::Person;
use crate::server::Context;
use crate::shared::Shared;

#[derive(Template)]
#[template(path = "sign_in.html")]
struct SignInPage<'a> {
    client_name: &'a str,
    request: &'a str,
    people: Vec<PersonOnPage<'a>>,
}

#[derive(Template)]
#[template(path = "consent.html")]
struct ConsentPage<'a> {
    client_name: &'a str,
    redirect_host: String,
    request: &'a str,
    person: PersonOnPage<'a>,
    scopes: Vec<ScopeOnPage<'a>>,
    offline: bool,
}

#[derive(Template)]
#[template(path = "problem.html")]
struct ProblemPage {
    title: &'static str,
    explanation: String,
}

#[derive(Template)]
#[template(path = "home.html")]
struct HomePage<'a> {
    center: &'a str,
    url: &'a str,
    centers: Vec<(&'a str, &'a str)>,
    people: Vec<PersonOnPage<'a>>,
}

struct PersonOnPage<'a> {
    email: &'a str,
    name: String,
    initials: String,
    organisation: &'a str,
    center: &'a str,
}

struct ScopeOnPage<'a> {
    scope: &'a str,
    meaning: String,
}

/// Who signs in?
pub(crate) fn sign_in(shared: &Shared, request: &AuthorizeRequest, name: &str) -> Response {
    let people = shared.people.iter();
    let page = SignInPage {
        client_name: client_name(shared, request),
        request: name,
        people: people.map(|person| on_page(shared, person)).collect(),
    };
    show(StatusCode::OK, &page)
}

/// Does the person agree?
pub(crate) fn consent(
    shared: &Shared,
    request: &AuthorizeRequest,
    person: &Person,
    name: &str,
) -> Response {
    let scopes = request.scopes.iter().map(|scope| ScopeOnPage {
        scope,
        meaning: meaning(scope),
    });
    let page = ConsentPage {
        client_name: client_name(shared, request),
        redirect_host: request.redirect_host(),
        request: name,
        person: on_page(shared, person),
        scopes: scopes.collect(),
        offline: request.offline(),
    };
    show(StatusCode::OK, &page)
}

/// An error that must not be sent to the redirect URI. Zoho shows its own with status 200.
pub(crate) fn problem(problem: Problem) -> Response {
    let page = ProblemPage {
        title: problem.title(),
        explanation: problem.explanation(),
    };
    show(StatusCode::OK, &page)
}

/// What is at the root of a data center: for people who open its address.
pub(crate) async fn home(State(context): State<Context>) -> Response {
    let shared = &context.shared;
    let people = shared.people.iter();
    let centers = shared.centers.iter();
    let page = HomePage {
        center: context.center(),
        url: context.url(),
        centers: centers
            .map(|center| (center.name.as_str(), center.url.as_str()))
            .collect(),
        people: people.map(|person| on_page(shared, person)).collect(),
    };
    show(StatusCode::OK, &page)
}

fn client_name<'a>(shared: &'a Shared, request: &AuthorizeRequest) -> &'a str {
    shared
        .client(&request.client_id)
        .map_or("", |client| client.name.as_str())
}

fn on_page<'a>(shared: &'a Shared, person: &'a Person) -> PersonOnPage<'a> {
    let initial = |name: &str| name.chars().next().map(String::from).unwrap_or_default();
    PersonOnPage {
        email: &person.email,
        name: person.full_name(),
        initials: initial(&person.first_name) + &initial(&person.last_name),
        organisation: &person.organisation,
        center: shared.home_of(person),
    }
}

/// A scope in words, for people: `ZohoCRM.modules.leads.READ` is "Read leads".
fn meaning(scope: &str) -> String {
    let parts: Vec<&str> = scope.split('.').collect();
    let [service, group, rest @ .., operation] = parts.as_slice() else {
        return scope.to_owned();
    };
    let verb = match operation.to_ascii_uppercase().as_str() {
        "ALL" => "Read, create, change and delete",
        "READ" => "Read",
        "CREATE" => "Create",
        "UPDATE" => "Change",
        "DELETE" => "Delete",
        _ => "Create, change and delete",
    };
    let words = |text: &str| text.replace('_', " ").to_lowercase();
    let what = match (group.to_ascii_lowercase().as_str(), rest.first()) {
        ("modules", Some(module)) => format!("{} records", words(module)),
        ("modules", None) => "records of every module".into(),
        ("settings", Some(part)) => format!("settings: {}", words(part)),
        ("settings", None) => "settings".into(),
        ("users", _) => "the users of your organisation".into(),
        ("org", _) => "the profile of your organisation".into(),
        ("coql", _) => "query results".into(),
        ("profile", _) => "your name and address".into(),
        (other, Some(part)) => format!("{} ({})", words(part), words(other)),
        (other, None) => words(other),
    };
    let service = match *service {
        "ZohoCRM" => "Zoho CRM",
        "AaaServer" => "your account",
        other => other,
    };
    format!("{verb} {what} in {service}")
}

fn show(status: StatusCode, page: &impl Template) -> Response {
    match page.render() {
        Ok(html) => {
            let headers = [
                (header::CONTENT_TYPE, "text/html;charset=UTF-8"),
                (header::CACHE_CONTROL, "no-store"),
                (header::X_FRAME_OPTIONS, "DENY"),
                (header::REFERRER_POLICY, "no-referrer"),
                (
                    header::CONTENT_SECURITY_POLICY,
                    "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'; \
                     base-uri 'none'",
                ),
            ];
            (status, headers, html).into_response()
        }
        Err(error) => {
            tracing::error!(%error, "a page cannot be rendered");
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::meaning;

    #[test]
    fn scopes_are_put_into_words() {
        assert_eq!(
            meaning("ZohoCRM.modules.leads.READ"),
            "Read leads records in Zoho CRM"
        );
        assert_eq!(
            meaning("AaaServer.profile.READ"),
            "Read your name and address in your account"
        );
    }
}
