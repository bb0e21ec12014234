// Lets Zoho's official Node SDK (npm: @zohocrm/nodejs-sdk-8.0), unmodified, do what it is told.
//
// Speaks as ../official_python/driver.py does: every line of standard input is a JSON list, a name
// from VERBS and its arguments; every answer is a line of standard output, {"ok": result} or
// {"error": text}. A token is a list of the ten official fields in their official order, null where
// there is none.
//
// Reads ZOHO_SDK, the folder of the SDK, ZOHO_ACCOUNTS_URL, ZOHO_API_URL and ZOHO_RESOURCES, a
// folder for the SDK's metadata.
//
// One defect of the SDK is walked around, since it is not what is tested here: in a process that
// started it before, it cannot start from an id alone. Each start here forgets the one before.

import { createInterface } from "node:readline";
import { join } from "node:path";
import { pathToFileURL } from "node:url";

const load = (path) => import(pathToFileURL(join(process.env.ZOHO_SDK, "lib", path)).href);
const { FileStore } = await load("models/authenticator/store/file_store.js");
const { OAuthToken } = await load("models/authenticator/oauth_token.js");
const { UserSignature } = await load("routes/user_signature.js");
const { Environment } = await load("routes/dc/environment.js");
const { Initializer } = await load("routes/initializer.js");
const { InitializeBuilder } = await load("routes/initialize_builder.js");
const { ParameterMap } = await load("routes/parameter_map.js");
const { HeaderMap } = await load("routes/header_map.js");
const { GetRecordsParam, RecordOperations } = await load(
  "core/com/zoho/crm/api/record/record_operations.js",
);
const { ResponseWrapper } = await load("core/com/zoho/crm/api/record/response_wrapper.js");

let store;

const VERBS = {
  open_file(path) {
    store = new FileStore(path);
  },

  async get_tokens() {
    return (await store.getTokens()).map(fieldsOf);
  },

  // The SDK's stores fill their argument and return it.
  async find_token(fields) {
    const found = await store.findToken(tokenOf(fields));
    return found ? fieldsOf(found) : null;
  },

  // The SDK's stores raise for an unknown id.
  async find_token_by_id(id) {
    return fieldsOf(await store.findTokenById(id));
  },

  async save_token(fields) {
    const token = tokenOf(fields);
    await store.saveToken(token);
    return token.getId();
  },

  async delete_token(id) {
    await store.deleteToken(id);
  },

  // Starts the SDK as an application does; it asks for an access token at once.
  async initialize(fields) {
    const { ZOHO_API_URL: api, ZOHO_ACCOUNTS_URL: accounts } = process.env;
    Initializer.LOCAL.clear();
    const builder = await new InitializeBuilder();
    await builder
      .environment(new Environment(api, `${accounts}/oauth/v2/token`, api))
      .token(tokenOf(fields))
      .store(store)
      .resourcePath(process.env.ZOHO_RESOURCES)
      .initialize();
  },

  // The number of leads on a page.
  async leads() {
    const parameters = new ParameterMap();
    await parameters.add(GetRecordsParam.FIELDS, "Last_Name,Email");
    await parameters.add(GetRecordsParam.PER_PAGE, 5);
    const response = await new RecordOperations("Leads").getRecords(parameters, new HeaderMap());
    const answer = response.getObject();
    if (!(answer instanceof ResponseWrapper)) {
      throw new Error(`status ${response.getStatusCode()} for a list of leads`);
    }
    return answer.getData().length;
  },
};

function tokenOf([id, user, client, secret, refresh, access, grant, expiry, redirect, domain]) {
  const signature = user === null ? null : new UserSignature(user);
  const token = new OAuthToken(client, secret, grant, refresh, redirect, id, access, signature);
  token.setExpiresIn(expiry);
  token.setAPIDomain(domain);
  return token;
}

function fieldsOf(token) {
  const fields = [
    token.getId(),
    token.getUserSignature()?.getName(),
    token.getClientId(),
    token.getClientSecret(),
    token.getRefreshToken(),
    token.getAccessToken(),
    token.getGrantToken(),
    token.getExpiresIn(),
    token.getRedirectURL(),
    token.getAPIDomain(),
  ];
  return fields.map((field) => field ?? null);
}

for await (const line of createInterface({ input: process.stdin })) {
  const [verb, ...given] = JSON.parse(line);
  let answer;
  try {
    answer = { ok: (await VERBS[verb](...given)) ?? null };
  } catch (error) {
    answer = { error: `${error.code ?? error.name} - ${error.message}` };
  }
  process.stdout.write(`${JSON.stringify(answer)}\n`);
}
