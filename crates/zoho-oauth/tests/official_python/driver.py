"""Lets Zoho's official Python SDK (PyPI: zohocrmsdk8_0), unmodified, do what it is told.

Every line of standard input is a JSON list: a name from VERBS and its arguments. Every answer is
a line of standard output, {"ok": result} or {"error": text}. A token is a list of the ten
official fields in their official order, null where there is none; numbers are text, as in the SDK.

Reads ZOHO_ACCOUNTS_URL, ZOHO_API_URL and ZOHO_RESOURCES, a folder for the SDK's metadata.

Two defects of the SDK are walked around, since they are not what is tested here:
- Its tokens from get_tokens() and find_token_by_id() lack an attribute and cannot be used to
  authenticate. Here nothing is initialized with one.
- It opens files in the encoding of the locale. Whoever starts this sets UTF-8 (python -X utf8).
"""

import json
import os
import sys

from zohocrmsdk.src.com.zoho.api.authenticator.oauth_token import OAuthToken
from zohocrmsdk.src.com.zoho.api.authenticator.store.db_store import DBStore
from zohocrmsdk.src.com.zoho.api.authenticator.store.file_store import FileStore
from zohocrmsdk.src.com.zoho.crm.api import HeaderMap, Initializer, ParameterMap
from zohocrmsdk.src.com.zoho.crm.api.dc import DataCenter
from zohocrmsdk.src.com.zoho.crm.api.record import (
    GetRecordsParam,
    RecordOperations,
    ResponseWrapper,
)
from zohocrmsdk.src.com.zoho.crm.api.user_signature import UserSignature

from sqlite_store import SqliteStore, fields_of


class Driver:
    store = None

    def open_file(self, path):
        self.store = FileStore(file_path=path)

    def open_sqlite(self, path, next_id):
        self.store = SqliteStore(path, next_id)

    def open_mysql(self, host, port, user, password, database):
        self.store = DBStore(
            host=host,
            port_number=port,
            user_name=user,
            password=password,
            database_name=database,
        )

    def close(self):
        self.store.close()

    def get_tokens(self):
        return [fields_of(token) for token in self.store.get_tokens()]

    def find_token(self, fields):
        """The SDK's stores fill their argument and return it."""
        found = self.store.find_token(token_of(fields))
        return None if found is None else fields_of(found)

    def find_token_by_id(self, id):
        """The SDK's stores raise for an unknown id."""
        return fields_of(self.store.find_token_by_id(id))

    def save_token(self, fields):
        token = token_of(fields)
        self.store.save_token(token)
        return token.get_id()

    def delete_token(self, id):
        self.store.delete_token(id)

    def initialize(self, fields):
        """Starts the SDK as an application does; it asks for an access token at once."""
        environment = DataCenter.Environment(
            os.environ["ZOHO_API_URL"],
            os.environ["ZOHO_ACCOUNTS_URL"] + "/oauth/v2/token",
            os.environ["ZOHO_API_URL"],
        )
        Initializer.initialize(
            environment=environment,
            token=token_of(fields),
            store=self.store,
            resource_path=os.environ["ZOHO_RESOURCES"],
        )

    def leads(self):
        """The number of leads on a page."""
        parameters = ParameterMap()
        parameters.add(GetRecordsParam.fields, "Last_Name,Email")
        parameters.add(GetRecordsParam.per_page, 5)
        response = RecordOperations("Leads").get_records(parameters, HeaderMap())
        answer = response.get_object()
        if not isinstance(answer, ResponseWrapper):
            raise RuntimeError("status %s for a list of leads" % response.get_status_code())
        return len(answer.get_data())


VERBS = [name for name in vars(Driver) if not name.startswith("_") and name != "store"]


def token_of(fields):
    id, user, client, secret, refresh, access, grant, expiry, redirect, domain = fields
    token = OAuthToken(
        id=id,
        user_signature=None if user is None else UserSignature(user),
        client_id=client,
        client_secret=secret,
        refresh_token=refresh,
        access_token=access,
        grant_token=grant,
        redirect_url=redirect,
        api_domain=domain,
    )
    token.set_expires_in(expiry)
    return token


def main():
    # What the SDK might print must not be taken for an answer.
    answers, sys.stdout = sys.stdout, sys.stderr
    driver = Driver()
    for line in sys.stdin:
        verb, *arguments = json.loads(line)
        try:
            assert verb in VERBS, "no such verb"
            answer = {"ok": getattr(driver, verb)(*arguments)}
        except Exception as error:
            # The SDK's own text holds code and message, never a token.
            answer = {"error": "%s in %s: %s" % (type(error).__name__, verb, error)}
        print(json.dumps(answer), file=answers, flush=True)


if __name__ == "__main__":
    main()
