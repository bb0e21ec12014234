"""Drives the sandbox with Zoho's official Python SDK (PyPI: zohocrmsdk8_0), unmodified.

Usage: login_and_leads.py TOKEN_FILE

Reads ZOHO_ACCOUNTS_URL, ZOHO_API_URL, ZOHO_CLIENT_ID, ZOHO_CLIENT_SECRET, ZOHO_REDIRECT_URI
and ZOHO_GRANT_CODE (a code with the scopes ZohoCRM.modules.ALL, ZohoCRM.settings.ALL,
ZohoCRM.users.READ, ZohoCRM.org.READ and ZohoCRM.coql.READ). Logs in, lets the SDK write its
token file, and goes through the calls an application makes. Prints a JSON summary as its last
line; any surprise is an exception and a non-zero exit.
"""

import csv
import json
import os
import sys
import tempfile

from zohocrmsdk.src.com.zoho.api.authenticator.oauth_token import OAuthToken
from zohocrmsdk.src.com.zoho.api.authenticator.store.file_store import FileStore
from zohocrmsdk.src.com.zoho.crm.api import HeaderMap, Initializer, ParameterMap
from zohocrmsdk.src.com.zoho.crm.api.coql import (
    BodyWrapper as CoqlBody,
    CoqlOperations,
    ResponseWrapper as CoqlAnswer,
)
from zohocrmsdk.src.com.zoho.crm.api.dc import DataCenter
from zohocrmsdk.src.com.zoho.crm.api.fields import (
    FieldsOperations,
    GetFieldsParam,
    ResponseWrapper as FieldsAnswer,
)
from zohocrmsdk.src.com.zoho.crm.api.modules import (
    ModulesOperations,
    ResponseWrapper as ModulesAnswer,
)
from zohocrmsdk.src.com.zoho.crm.api.org import OrgOperations, ResponseWrapper as OrgAnswer
from zohocrmsdk.src.com.zoho.crm.api.record import (
    ActionWrapper,
    APIException,
    BodyWrapper,
    DeletedRecordsWrapper,
    DeleteRecordsParam,
    Field,
    GetRecordsParam,
    Record,
    RecordOperations,
    ResponseWrapper,
    SearchRecordsParam,
    SuccessResponse,
)
from zohocrmsdk.src.com.zoho.crm.api.users import (
    GetUsersParam,
    ResponseWrapper as UsersAnswer,
    UsersOperations,
)
from zohocrmsdk.src.com.zoho.crm.api.util.choice import Choice


def expect(condition, text):
    if not condition:
        raise SystemExit("surprise: " + text)


def opened(response, status, wrapper):
    """The object of an answer, which must have this status and type."""
    got = None if response is None else (response.get_status_code(), response.get_object())
    expect(got is not None, "no answer")
    if isinstance(got[1], APIException):
        raise SystemExit("surprise: %s %s" % (got[1].get_code().get_value(), got[1].get_details()))
    expect(got[0] == status, "status %s instead of %s" % (got[0], status))
    expect(isinstance(got[1], wrapper), "a %s instead of a %s" % (type(got[1]), wrapper))
    return got[1]


def successes(response, status, message):
    """The details of every item of a write, all of which must have succeeded."""
    details = []
    for item in opened(response, status, ActionWrapper).get_data():
        expect(isinstance(item, SuccessResponse), "a refused item: %s" % item.__dict__)
        text = item.get_message()
        text = text.get_value() if isinstance(text, Choice) else text
        expect(text == message, "message %r" % text)
        details.append(item.get_details())
    return details


def initialize(token_file):
    environment = DataCenter.Environment(
        os.environ["ZOHO_API_URL"],
        os.environ["ZOHO_ACCOUNTS_URL"] + "/oauth/v2/token",
        os.environ["ZOHO_API_URL"],
    )
    token = OAuthToken(
        client_id=os.environ["ZOHO_CLIENT_ID"],
        client_secret=os.environ["ZOHO_CLIENT_SECRET"],
        grant_token=os.environ["ZOHO_GRANT_CODE"],
        redirect_url=os.environ["ZOHO_REDIRECT_URI"],
    )
    Initializer.initialize(
        environment=environment,
        token=token,
        store=FileStore(file_path=token_file),
        resource_path=tempfile.mkdtemp(prefix="official-python-"),
    )


def main(token_file):
    summary = {}
    initialize(token_file)
    records = RecordOperations("Leads")

    # Users and organisation.
    parameters = ParameterMap()
    parameters.add(GetUsersParam.type, "CurrentUser")
    users = opened(UsersOperations().get_users(parameters), 200, UsersAnswer).get_users()
    expect(len(users) == 1, "one current user")
    organisation = opened(OrgOperations().get_organization(), 200, OrgAnswer).get_org()[0]
    summary["user_name"] = "%s:%s" % (users[0].get_email(), organisation.get_zgid())

    # Metadata.
    modules = opened(ModulesOperations().get_modules(), 200, ModulesAnswer).get_modules()
    names = [module.get_api_name() for module in modules]
    expect("Leads" in names and "Deals" in names, "modules %s" % names)
    parameters = ParameterMap()
    parameters.add(GetFieldsParam.module, "Deals")
    fields = opened(FieldsOperations().get_fields(parameters), 200, FieldsAnswer).get_fields()
    expect(any(field.get_data_type() == "lookup" for field in fields), "no lookup among the fields")
    summary["fields_of_deals"] = len(fields)

    # Lists, page by page.
    seen, page_token = [], None
    while True:
        parameters = ParameterMap()
        parameters.add(GetRecordsParam.fields, "Last_Name,Email,Lead_Status,Created_Time,Owner")
        parameters.add(GetRecordsParam.per_page, 25)
        if page_token:
            parameters.add(GetRecordsParam.page_token, page_token)
        answer = opened(records.get_records(parameters, HeaderMap()), 200, ResponseWrapper)
        seen.extend(record.get_id() for record in answer.get_data())
        page_token = answer.get_info().get_next_page_token()
        if not answer.get_info().get_more_records():
            break
    expect(len(seen) == len(set(seen)) and len(seen) >= 40, "%d leads" % len(seen))
    summary["leads"] = len(seen)

    # A module whose lookups make the SDK fetch the metadata of others.
    parameters = ParameterMap()
    parameters.add(GetRecordsParam.fields, "Deal_Name,Account_Name,Contact_Name,Amount")
    deals = RecordOperations("Deals")
    answer = opened(deals.get_records(parameters, HeaderMap()), 200, ResponseWrapper)
    contact = answer.get_data()[0].get_key_value("Contact_Name")
    expect(isinstance(contact, Record) and contact.get_id() > 0, "the deal's contact is %r" % contact)
    summary["deals"] = len(answer.get_data())

    # Create two leads.
    def lead(last_name, email):
        record = Record()
        record.add_field_value(Field.Leads.last_name(), last_name)
        record.add_field_value(Field.Leads.company(), "Official SDK Ltd")
        record.add_field_value(Field.Leads.email(), email)
        record.add_field_value(Field.Leads.lead_status(), Choice("Contacted"))
        record.add_field_value(Field.Leads.annual_revenue(), 1250.5)
        return record

    request = BodyWrapper()
    request.set_data(
        [lead("Zed", "zed@sdk.example.com"), lead("Zola", "zola@sdk.example.com")]
    )
    request.set_trigger(["workflow"])
    created = [int(d["id"]) for d in successes(records.create_records(request), 201, "record added")]
    expect(len(created) == 2, "two leads made")

    # Update one and several.
    change = Record()
    change.add_field_value(Field.Leads.city(), "Porto")
    request = BodyWrapper()
    request.set_data([change])
    successes(records.update_record(created[0], request), 200, "record updated")
    change = Record()
    change.set_id(created[1])
    change.add_field_value(Field.Leads.city(), "Bergen")
    request = BodyWrapper()
    request.set_data([change])
    successes(records.update_records(request), 200, "record updated")

    # Upsert: an update of one that exists, and a new one.
    request = BodyWrapper()
    request.set_data(
        [lead("Zedd", "zed@sdk.example.com"), lead("Zenith", "zenith@sdk.example.com")]
    )
    request.set_duplicate_check_fields(["Email"])
    items = opened(records.upsert_records(request), 200, ActionWrapper).get_data()
    actions = []
    for item in items:
        action = item.get_action()
        actions.append(action.get_value() if isinstance(action, Choice) else action)
    expect(actions == ["update", "insert"], "upsert did %s" % actions)
    created.append(int(items[1].get_details()["id"]))

    # Get one, search, COQL.
    answer = opened(records.get_record(created[0]), 200, ResponseWrapper)
    record = answer.get_data()[0]
    expect(record.get_key_value("Last_Name") == "Zedd", "the upsert did not arrive")
    expect(record.get_key_value("City") == "Porto", "the update did not arrive")
    parameters = ParameterMap()
    parameters.add(SearchRecordsParam.criteria, "((Last_Name:starts_with:Ze)and(City:equals:Porto))")
    found = opened(records.search_records(parameters, HeaderMap()), 200, ResponseWrapper).get_data()
    expect([record.get_id() for record in found] == [created[0]], "search found something else")
    query = CoqlBody()
    query.set_select_query(
        "select Last_Name, Email from Leads where Company = 'Official SDK Ltd' "
        "order by Last_Name desc limit 2"
    )
    answer = opened(CoqlOperations().get_records(query), 200, CoqlAnswer)
    rows = [row.get_key_value("Last_Name") for row in answer.get_data()]
    expect(rows == ["Zola", "Zenith"], "COQL gave %s" % rows)

    # Delete, and look into the recycle bin.
    parameters = ParameterMap()
    parameters.add(DeleteRecordsParam.ids, ",".join(str(one) for one in created[:2]))
    parameters.add(DeleteRecordsParam.wf_trigger, True)
    successes(records.delete_records(parameters), 200, "record deleted")
    successes(records.delete_record(created[2]), 200, "record deleted")
    gone = opened(records.get_deleted_records(ParameterMap()), 200, DeletedRecordsWrapper)
    gone = {item.get_id() for item in gone.get_data()}
    expect(set(created) <= gone, "the recycle bin lacks records")

    # What the SDK wrote.
    with open(token_file, newline="") as file:
        rows = list(csv.reader(file))
    expect(len(rows) == 2 and len(rows[1]) == 10, "the token file has %d rows" % (len(rows) - 1))
    expect(rows[1][1] == summary["user_name"], "the token file names %s" % rows[1][1])
    expect(rows[1][4].startswith("1000."), "no refresh token in the file")
    expect(rows[1][9] == os.environ["ZOHO_API_URL"], "api_domain is %s" % rows[1][9])
    summary["token_id"] = rows[1][0]
    print(json.dumps(summary))


if __name__ == "__main__":
    if len(sys.argv) != 2:
        raise SystemExit(__doc__)
    main(sys.argv[1])
