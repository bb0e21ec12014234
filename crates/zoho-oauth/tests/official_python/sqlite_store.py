"""A token store on SQLite for Zoho's official Python SDK, as its users write them.

Modelled on what Zoho describes for applications (number 192 of its Kaizen series): a subclass of
the SDK's TokenStore, a database `zohooauth.db`, a table `oauthtoken` with the ten official columns
and text for ids, rows looked up by the rules of the SDK's own database store.

Two defects of that sample are left out, since no file can be shared with them: statements put
together from values, and a look-up without a condition, which returns the first row.
"""

import sqlite3

from zohocrmsdk.src.com.zoho.api.authenticator.oauth_token import OAuthToken
from zohocrmsdk.src.com.zoho.api.authenticator.store.token_store import TokenStore
from zohocrmsdk.src.com.zoho.crm.api.exception.sdk_exception import SDKException
from zohocrmsdk.src.com.zoho.crm.api.user_signature import UserSignature

TABLE = """CREATE TABLE IF NOT EXISTS oauthtoken (
    id varchar(10) NOT NULL, user_name varchar(255), client_id varchar(255),
    client_secret varchar(255), refresh_token varchar(255), access_token varchar(255),
    grant_token varchar(255), expiry_time varchar(20), redirect_url varchar(255),
    api_domain varchar(255), PRIMARY KEY (id))"""

COLUMNS = (
    "id", "user_name", "client_id", "client_secret", "refresh_token",
    "access_token", "grant_token", "expiry_time", "redirect_url", "api_domain",
)

# How the next id is found. "text" is the sample's way: the highest *text*, so that 9 is higher
# than 10, and the id that comes after it may be one that was given before, or be taken.
HIGHEST = {
    "number": "SELECT max(CAST(id AS INTEGER)) FROM oauthtoken",
    "text": "SELECT max(id) FROM oauthtoken",
}


def fields_of(token):
    """The ten fields of a token in their official order."""
    user = token.get_user_signature()
    return [
        token.get_id(), None if user is None else user.get_name(), token.get_client_id(),
        token.get_client_secret(), token.get_refresh_token(), token.get_access_token(),
        token.get_grant_token(), token.get_expires_in(), token.get_redirect_url(),
        token.get_api_domain(),
    ]


class SqliteStore(TokenStore):
    def __init__(self, path, next_id):
        self.highest = HIGHEST[next_id]
        self.connection = sqlite3.connect(path)
        with self.connection:
            self.connection.execute(TABLE)

    def close(self):
        self.connection.close()

    def rows(self, condition="1 = 1", values=()):
        # All rows at once: an open cursor would keep its lock on the database.
        query = "SELECT %s FROM oauthtoken WHERE %s" % (", ".join(COLUMNS), condition)
        return self.connection.execute(query, values).fetchall()

    def condition(self, token):
        """The rules of the SDK's own stores."""
        id, user, client, secret, refresh, access, grant = fields_of(token)[:7]
        if user is not None:
            return "user_name = ?", (user,)
        if access is not None and client is None and secret is None:
            return "access_token = ?", (access,)
        if grant is not None and client is not None and secret is not None:
            return "grant_token = ?", (grant,)
        if refresh is not None and client is not None and secret is not None:
            return "refresh_token = ?", (refresh,)
        return None

    def find_token(self, token):
        condition = self.condition(token)
        rows = self.rows(*condition) if condition else []
        return fill(token, rows[0]) if rows else None

    def find_token_by_id(self, id):
        rows = self.rows("id = ?", (id,))
        if not rows:
            raise SDKException("TOKEN_STORE", "Given Id is invalid")
        return fill(OAuthToken(id=id), rows[0])

    def save_token(self, token):
        condition = ("id = ?", (token.get_id(),)) if token.get_id() else self.condition(token)
        known = self.rows(*condition) if condition else []
        if known:
            fill(token, known[0])
            changes = ", ".join("%s = ?" % column for column in COLUMNS)
            statement = "UPDATE oauthtoken SET %s WHERE id = ?" % changes
            values = fields_of(token) + [known[0][0]]
        else:
            if token.get_id() is None:
                highest = self.connection.execute(self.highest).fetchall()[0][0]
                token.set_id(str(int(highest or 0) + 1))
            statement = "INSERT INTO oauthtoken VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
            values = fields_of(token)
        with self.connection:
            self.connection.execute(statement, values)

    def delete_token(self, id):
        with self.connection:
            self.connection.execute("DELETE FROM oauthtoken WHERE id = ?", (id,))

    def delete_tokens(self):
        with self.connection:
            self.connection.execute("DELETE FROM oauthtoken")

    def get_tokens(self):
        return [fill(OAuthToken(id=row[0]), row) for row in self.rows()]


def fill(token, row):
    """Puts what is stored into the empty fields of a token; empty text is none."""
    id, user, client, secret, refresh, access, grant, expiry, redirect, domain = (
        value or None for value in row
    )
    user = user and UserSignature(user)
    for get, put, value in [
        (token.get_id, token.set_id, id),
        (token.get_user_signature, token.set_user_signature, user),
        (token.get_client_id, token.set_client_id, client),
        (token.get_client_secret, token.set_client_secret, secret),
        (token.get_refresh_token, token.set_refresh_token, refresh),
        (token.get_access_token, token.set_access_token, access),
        (token.get_grant_token, token.set_grant_token, grant),
        (token.get_expires_in, token.set_expires_in, expiry),
        (token.get_redirect_url, token.set_redirect_url, redirect),
        (token.get_api_domain, token.set_api_domain, domain),
    ]:
        if get() is None:
            put(value)
    return token
