//! AWS Secrets Manager in this process, with the limits that the emulators do without.
//!
//! It counts versions and calls, refuses what is too long, lists late, reads late, throttles, and
//! loses answers when it is told to. Everything as the service documents it; where that is silent, the stricter
//! way.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde_json::{Map, Value, json};
use wiremock::matchers::any;
use wiremock::{Mock, MockServer, Request, Respond, ResponseTemplate};

use aws_sdk_secretsmanager::Client;
use aws_sdk_secretsmanager::config::retry::RetryConfig;
use aws_sdk_secretsmanager::config::{BehaviorVersion, Config, Credentials, Region};
use zoho_oauth::Timestamp;

/// Unlabelled versions are removed beyond this many, but none that is younger than a day, so that
/// more cannot be made.
const MOST_VERSIONS: usize = 100;

#[derive(Clone, Debug)]
pub(crate) struct Secret {
    name: String,
    /// In the order in which they were made.
    pub(crate) versions: Vec<(String, String)>,
    pub(crate) current: String,
    pub(crate) tags: BTreeMap<String, String>,
    kms_key: Option<String>,
    is_doomed: bool,
    made: u64,
    /// When it was made, in seconds since 1970.
    made_at: i64,
}

impl Secret {
    pub(crate) fn value(&self) -> &str {
        let current = self.versions.iter().find(|(id, _)| *id == self.current);
        &current.unwrap().1
    }

    fn stages(&self, version: &str) -> Vec<&'static str> {
        if version == self.current {
            vec!["AWSCURRENT"]
        } else {
            Vec::new()
        }
    }
}

/// What some reads of a secret still show, although it is no longer so.
struct Lag {
    action: String,
    name: String,
    shows: Option<Secret>,
    times: usize,
}

#[derive(Default)]
struct State {
    secrets: BTreeMap<String, Secret>,
    /// What listings show instead of what is there.
    listed: Option<BTreeMap<String, Secret>>,
    made: u64,
    calls: Vec<String>,
    /// How many calls are still to be refused, as what, and which.
    refusals: Vec<(String, &'static str, usize)>,
    /// How many calls are still to be done without an answer, and which.
    lost: Vec<(String, usize)>,
    bodies: Vec<String>,
    has_no_quota: bool,
    /// Whether a refusal quotes what was sent.
    quotes: bool,
    /// What another process will have done just before the next call of this name.
    interjection: Option<(String, Secret)>,
    lags: Vec<Lag>,
}

/// A refusal: the service's code and its text.
type Refused = (&'static str, String);

fn refused<T>(code: &'static str, text: impl Into<String>) -> Result<T, Refused> {
    Err((code, text.into()))
}

const DOOMED: &str =
    "You can't perform this operation on the secret because it was marked for deletion.";

#[derive(Clone)]
pub(crate) struct Stub {
    state: Arc<Mutex<State>>,
    server: Arc<MockServer>,
}

impl std::fmt::Debug for Stub {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Stub")
    }
}

impl Stub {
    pub(crate) async fn start() -> Self {
        let server = MockServer::builder()
            .disable_request_recording()
            .start()
            .await;
        let state = Arc::new(Mutex::new(State::default()));
        let answers = Answers(Arc::clone(&state));
        Mock::given(any())
            .respond_with(answers)
            .mount(&server)
            .await;
        Self {
            state,
            server: Arc::new(server),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn client(&self) -> Client {
        client(&self.url(), "us-east-1")
    }

    pub(crate) fn url(&self) -> String {
        self.server.uri()
    }

    /// The calls since the last time that this was asked, in their order.
    pub(crate) fn calls(&self) -> Vec<String> {
        std::mem::take(&mut self.state().calls)
    }

    pub(crate) fn secret(&self, name: &str) -> Option<Secret> {
        self.state().secrets.get(name).cloned()
    }

    pub(crate) fn names(&self) -> Vec<String> {
        self.state().secrets.keys().cloned().collect()
    }

    /// Every body that was sent, of calls that were answered with yes or no.
    pub(crate) fn bodies(&self) -> Vec<String> {
        self.state().bodies.clone()
    }

    /// From now on a secret may have any number of versions.
    pub(crate) fn lift_quota(&self) {
        self.state().has_no_quota = true;
    }

    /// From now on a refusal that was asked for quotes what it refuses.
    pub(crate) fn quote(&self) {
        self.state().quotes = true;
    }

    /// From now on listings show what is there now.
    pub(crate) fn hold_listings(&self) {
        let mut state = self.state();
        state.listed = Some(state.secrets.clone());
    }

    /// From now on listings show what is there now, but for these.
    pub(crate) fn hold_listings_without(&self, names: &[String]) {
        let mut state = self.state();
        let mut listed = state.secrets.clone();
        listed.retain(|name, _| !names.contains(name));
        state.listed = Some(listed);
    }

    pub(crate) fn release_listings(&self) {
        self.state().listed = None;
    }

    /// The next `times` calls of `action` (of any, if it is empty) are refused.
    pub(crate) fn refuse(&self, action: &str, code: &'static str, times: usize) {
        self.state().refusals.push((action.to_owned(), code, times));
    }

    pub(crate) fn refuse_no_more(&self) {
        self.state().refusals.clear();
    }

    /// The next `times` calls of `action` are done, and answered with an error of the server.
    pub(crate) fn lose_answers(&self, action: &str, times: usize) {
        self.state().lost.push((action.to_owned(), times));
    }

    /// Puts a version in by hand, as the console does.
    pub(crate) fn write(&self, name: &str, version: &str, value: &str) {
        let mut state = self.state();
        let secret = state.secrets.get_mut(name).unwrap();
        secret.versions.push((version.to_owned(), value.to_owned()));
        version.clone_into(&mut secret.current);
    }

    /// Lets a secret be as it was, or not be at all.
    pub(crate) fn put_back(&self, name: &str, secret: Option<Secret>) {
        let mut state = self.state();
        state.secrets.remove(name);
        state
            .secrets
            .extend(secret.map(|secret| (name.to_owned(), secret)));
    }

    /// Just before the next call of `action` the secret will have become this one, but for its tags.
    pub(crate) fn interject(&self, action: &str, secret: Secret) {
        self.state().interjection = Some((action.to_owned(), secret));
    }

    /// The next `times` reads of the secret by `action` still show this, or that it is not there.
    pub(crate) fn lag(&self, action: &str, name: &str, shows: Option<Secret>, times: usize) {
        self.state().lags.push(Lag {
            action: action.to_owned(),
            name: name.to_owned(),
            shows,
            times,
        });
    }

    /// Lets all secrets that are there have been made an hour ago.
    pub(crate) fn make_old(&self) {
        for secret in self.state().secrets.values_mut() {
            secret.made_at = now() - 3600;
        }
    }

    /// Moves the label of the current version back to the first one, by hand.
    pub(crate) fn roll_back(&self, name: &str) {
        let mut state = self.state();
        let secret = state.secrets.get_mut(name).unwrap();
        secret.current = secret.versions[0].0.clone();
    }
}

/// A client for an emulator. Attempts follow each other fast.
pub(crate) fn client(endpoint: &str, region: &'static str) -> Client {
    let http = aws_smithy_http_client::Builder::new().build_http();
    let config = Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .http_client(http)
        .endpoint_url(endpoint)
        .region(Region::new(region))
        .credentials_provider(Credentials::new("test", "test", None, None, "test"))
        .retry_config(
            RetryConfig::standard()
                .with_max_attempts(4)
                .with_initial_backoff(std::time::Duration::from_millis(1)),
        )
        .build();
    Client::from_conf(config)
}

struct Answers(Arc<Mutex<State>>);

impl Respond for Answers {
    fn respond(&self, request: &Request) -> ResponseTemplate {
        let target = request.headers.get("x-amz-target");
        let target = target.and_then(|target| target.to_str().ok());
        let action = target.and_then(|target| target.rsplit('.').next());
        let action = action.unwrap_or_default().to_owned();
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        state.calls.push(action.clone());
        let quotes = state.quotes;
        let given = state
            .refusals
            .iter_mut()
            .find(|(of, _, times)| *times > 0 && (of.is_empty() || *of == action));
        if let Some((_, code, times)) = given {
            *times -= 1;
            let quoted = if quotes {
                String::from_utf8_lossy(&request.body)
            } else {
                "told to".into()
            };
            return error(400, code, &quoted);
        }
        state
            .bodies
            .push(String::from_utf8_lossy(&request.body).into_owned());
        let body: Value = serde_json::from_slice(&request.body).unwrap();
        let is_due = |(of, _): &mut (String, Secret)| *of == action;
        if let Some((_, mut secret)) = state.interjection.take_if(is_due) {
            if let Some(there) = state.secrets.get(&secret.name) {
                secret.tags.clone_from(&there.tags);
            }
            state.secrets.insert(secret.name.clone(), secret);
        }
        let late = state.show_late(&action, &body);
        let answer = state.answer(&action, &body);
        for (name, secret) in late {
            state.secrets.remove(&name);
            state.secrets.extend(secret.map(|secret| (name, secret)));
        }
        let lost = state
            .lost
            .iter_mut()
            .find(|(of, times)| *times > 0 && *of == action);
        if let Some((_, times)) = lost {
            *times -= 1;
            return error(500, "InternalServiceError", "told to");
        }
        match answer {
            Ok(body) => ResponseTemplate::new(200).set_body_json(body),
            Err((code, text)) => error(400, code, &text),
        }
    }
}

fn now() -> i64 {
    Timestamp::now().as_millis() / 1000
}

fn error(status: u16, code: &str, text: &str) -> ResponseTemplate {
    ResponseTemplate::new(status)
        .insert_header("x-amzn-requestid", "00000000-stub")
        .set_body_json(json!({"__type": code, "Message": text}))
}

fn text<'a>(body: &'a Value, key: &str) -> &'a str {
    body[key].as_str().unwrap_or_default()
}

fn tags(body: &Value) -> BTreeMap<String, String> {
    let tags = body["Tags"].as_array().into_iter().flatten();
    tags.map(|tag| (text(tag, "Key").to_owned(), text(tag, "Value").to_owned()))
        .collect()
}

impl State {
    /// Puts what reads show late in the place of what is there, and returns the latter.
    fn show_late(&mut self, action: &str, body: &Value) -> Vec<(String, Option<Secret>)> {
        let names = body["SecretIdList"].as_array().into_iter().flatten();
        let names: Vec<_> = names.chain([&body["SecretId"]]).collect();
        let mut late = Vec::new();
        for lag in &mut self.lags {
            let is_asked = names.iter().any(|name| **name == *lag.name);
            if lag.times == 0 || lag.action != action || !is_asked {
                continue;
            }
            lag.times -= 1;
            late.push((lag.name.clone(), self.secrets.remove(&lag.name)));
            let shown = lag.shows.clone().map(|secret| (lag.name.clone(), secret));
            self.secrets.extend(shown);
        }
        late
    }

    fn answer(&mut self, action: &str, body: &Value) -> Result<Value, Refused> {
        match action {
            "CreateSecret" => self.create(body),
            "PutSecretValue" => self.put(body),
            "GetSecretValue" => self.get(text(body, "SecretId")),
            "BatchGetSecretValue" => self.get_many(body),
            "ListSecretVersionIds" => self.versions(body),
            "ListSecrets" => self.list(body),
            "DescribeSecret" => self.describe(text(body, "SecretId")),
            "TagResource" => self.tag(body),
            "UntagResource" => self.untag(body),
            "DeleteSecret" => self.delete(body),
            _ => refused("UnknownOperationException", action),
        }
    }

    fn there(&mut self, name: &str) -> Result<&mut Secret, Refused> {
        match self.secrets.get_mut(name) {
            None => refused(
                "ResourceNotFoundException",
                "Secrets Manager can't find the specified secret.",
            ),
            Some(secret) if secret.is_doomed => refused("InvalidRequestException", DOOMED),
            Some(secret) => Ok(secret),
        }
    }

    fn create(&mut self, body: &Value) -> Result<Value, Refused> {
        let (name, version, value) = checked(body, "Name")?;
        let tags = tags(body);
        if tags.len() > 50 {
            return refused("InvalidParameterException", "too many tags");
        }
        if let Some(there) = self.secrets.get(&name) {
            if there.is_doomed {
                return refused(
                    "InvalidRequestException",
                    "You can't create this secret because a secret with this name is already \
                     scheduled for deletion.",
                );
            }
            return match there.versions.iter().find(|(id, _)| *id == version) {
                Some((_, same)) if *same == value => Ok(json!({"Name": name})),
                _ => refused("ResourceExistsException", "the secret already exists"),
            };
        }
        self.made += 1;
        let secret = Secret {
            name: name.clone(),
            versions: vec![(version.clone(), value)],
            current: version.clone(),
            tags,
            kms_key: body["KmsKeyId"].as_str().map(str::to_owned),
            is_doomed: false,
            made: self.made,
            made_at: now(),
        };
        self.secrets.insert(name.clone(), secret);
        Ok(json!({"Name": name, "VersionId": version}))
    }

    fn put(&mut self, body: &Value) -> Result<Value, Refused> {
        let (name, version, value) = checked(body, "SecretId")?;
        let has_quota = !self.has_no_quota;
        let secret = self.there(&name)?;
        match secret.versions.iter().find(|(id, _)| *id == version) {
            Some((_, same)) if *same == value => {}
            Some(_) => {
                return refused("ResourceExistsException", "the version already exists");
            }
            None if has_quota && secret.versions.len() >= MOST_VERSIONS => {
                return refused("LimitExceededException", "too many versions");
            }
            None => {
                secret.versions.push((version.clone(), value));
                secret.current.clone_from(&version);
            }
        }
        Ok(json!({"Name": name, "VersionId": version, "VersionStages": secret.stages(&version)}))
    }

    fn get(&mut self, name: &str) -> Result<Value, Refused> {
        let secret = self.there(name)?;
        Ok(json!({
            "Name": name,
            "VersionId": secret.current,
            "SecretString": secret.value(),
            "VersionStages": ["AWSCURRENT"],
            "CreatedDate": secret.made_at,
        }))
    }

    fn versions(&mut self, body: &Value) -> Result<Value, Refused> {
        let secret = self.there(text(body, "SecretId"))?;
        let all = body["IncludeDeprecated"] == json!(true);
        let versions = secret.versions.iter().map(
            |(version, _)| json!({"VersionId": version, "VersionStages": secret.stages(version)}),
        );
        let versions = versions.filter(|version| all || !version["VersionStages"][0].is_null());
        let versions: Vec<_> = versions.collect();
        Ok(json!({"Versions": versions}))
    }

    fn get_many(&mut self, body: &Value) -> Result<Value, Refused> {
        let names = body["SecretIdList"].as_array().unwrap();
        if names.is_empty() || names.len() > 20 {
            return refused("InvalidParameterException", "1 to 20 secrets");
        }
        let (mut values, mut errors) = (Vec::new(), Vec::new());
        for name in names {
            match self.get(name.as_str().unwrap()) {
                Ok(value) => values.push(value),
                Err((code, message)) => {
                    errors.push(json!({"SecretId": name, "ErrorCode": code, "Message": message}));
                }
            }
        }
        Ok(json!({"SecretValues": values, "Errors": errors}))
    }

    fn list(&self, body: &Value) -> Result<Value, Refused> {
        let secrets = self.listed.as_ref().unwrap_or(&self.secrets);
        let mut found: Vec<_> = secrets
            .values()
            .filter(|secret| !secret.is_doomed)
            .collect();
        for filter in body["Filters"].as_array().into_iter().flatten() {
            let values = filter["Values"].as_array().unwrap();
            if values.is_empty() || values.len() > 10 {
                return refused("InvalidParameterException", "1 to 10 values");
            }
            let fits = |text: &str| {
                values
                    .iter()
                    .any(|value| text.starts_with(value.as_str().unwrap()))
            };
            match text(filter, "Key") {
                "name" => found.retain(|secret| fits(&secret.name)),
                "tag-value" => found.retain(|secret| secret.tags.values().any(|tag| fits(tag))),
                _ => return refused("InvalidParameterException", "no such filter here"),
            }
        }
        found.sort_by_key(|secret| secret.made);
        if text(body, "SortOrder") == "desc" {
            found.reverse();
        }
        // The service may answer with an empty page that is not the last.
        let at = match text(body, "NextToken") {
            "" if secrets.len() > 5 => return Ok(json!({"SecretList": [], "NextToken": "0"})),
            "" => 0,
            at => at.parse().unwrap(),
        };
        let most = usize::try_from(body["MaxResults"].as_u64().unwrap_or(100)).unwrap();
        let page = found.iter().skip(at).take(most.min(100));
        let page: Vec<_> = page.map(|secret| entry(secret)).collect();
        let next = (at + page.len() < found.len()).then(|| (at + page.len()).to_string());
        Ok(json!({"SecretList": page, "NextToken": next}))
    }

    fn describe(&self, name: &str) -> Result<Value, Refused> {
        match self.secrets.get(name) {
            Some(secret) => Ok(entry(secret)),
            None => refused("ResourceNotFoundException", "no such secret"),
        }
    }

    fn tag(&mut self, body: &Value) -> Result<Value, Refused> {
        let secret = self.there(text(body, "SecretId"))?;
        secret.tags.append(&mut tags(body));
        if secret.tags.len() > 50 {
            return refused("LimitExceededException", "too many tags");
        }
        Ok(json!({}))
    }

    fn untag(&mut self, body: &Value) -> Result<Value, Refused> {
        let secret = self.there(text(body, "SecretId"))?;
        for key in body["TagKeys"].as_array().unwrap() {
            secret.tags.remove(key.as_str().unwrap());
        }
        Ok(json!({}))
    }

    fn delete(&mut self, body: &Value) -> Result<Value, Refused> {
        let name = text(body, "SecretId").to_owned();
        if body["ForceDeleteWithoutRecovery"] == json!(true) {
            if !body["RecoveryWindowInDays"].is_null() {
                return refused("InvalidParameterException", "one of both");
            }
            // Deleting what is not there is no error then.
            self.secrets.remove(&name);
            return Ok(json!({"Name": name}));
        }
        let days = body["RecoveryWindowInDays"].as_i64().unwrap_or(30);
        if !(7..=30).contains(&days) {
            return refused("InvalidParameterException", "7 to 30 days");
        }
        self.there(&name)?.is_doomed = true;
        Ok(json!({"Name": name}))
    }
}

fn entry(secret: &Secret) -> Value {
    let tags: Vec<_> = secret
        .tags
        .iter()
        .map(|(key, value)| json!({"Key": key, "Value": value}))
        .collect();
    let mut entry = Map::new();
    entry.insert("Name".into(), json!(secret.name));
    entry.insert("Tags".into(), json!(tags));
    entry.insert("CreatedDate".into(), json!(secret.made_at));
    if let Some(key) = &secret.kms_key {
        entry.insert("KmsKeyId".into(), json!(key));
    }
    Value::Object(entry)
}

/// Name, version and value of a write, as long as the service takes them.
fn checked(body: &Value, name: &str) -> Result<(String, String, String), Refused> {
    let (name, version) = (text(body, name), text(body, "ClientRequestToken"));
    let value = text(body, "SecretString");
    let fits = |c: char| c.is_ascii_alphanumeric() || "/_+=.@-".contains(c);
    if name.is_empty() || name.len() > 512 || !name.chars().all(fits) {
        return refused("ValidationException", "the name");
    }
    if !(32..=64).contains(&version.len()) {
        return refused("InvalidParameterException", "the request token");
    }
    if value.is_empty() || value.len() > 65_536 {
        return refused("ValidationException", "the value");
    }
    Ok((name.to_owned(), version.to_owned(), value.to_owned()))
}

/// How often each call was made.
pub(crate) fn counted(calls: &[String]) -> BTreeMap<&str, usize> {
    let mut counts = BTreeMap::new();
    for call in calls {
        *counts.entry(call.as_str()).or_insert(0) += 1;
    }
    counts
}

/// The calls that are not only reading.
pub(crate) fn writes(calls: &[String]) -> BTreeSet<&str> {
    let calls = calls.iter().map(String::as_str);
    calls
        .filter(|call| {
            !["Get", "Batch", "List", "Describe"]
                .iter()
                .any(|read| call.starts_with(read))
        })
        .collect()
}
