"""Making sure that something is there, whether or not it was there before: people, workflows, bindings of forms."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from .api import Api, segment

_USERS = "/api/v1/users"
_BINDINGS = "/api/v1/submission-bindings"


async def ensure_sets(admin: Api, *, roles: Iterable[str] = (), groups: Iterable[str] = ()) -> None:
    """Roles and groups with these keys; their members stay."""
    for kind, keys in (("roles", roles), ("groups", groups)):
        for key in sorted(set(keys)):
            answer = await admin.call("GET", f"/api/v1/{kind}/{segment(key)}")
            if not answer.ok:
                await admin.do("PUT", f"/api/v1/{kind}/{segment(key)}", {"name": key.replace("_", " ").capitalize()})


async def ensure_user(admin: Api, username: str, **fields: Any) -> None:
    """A person with these fields: `name`, `manager`, `roles`, `groups` …"""
    answer = await admin.call("POST", _USERS, {"username": username, **fields})
    if answer.status == 409:
        await admin.do("PATCH", f"{_USERS}/{segment(username)}", {"active": True, **fields})
    elif not answer.ok:
        raise LookupError(f"the user {username} could not be made: {answer.sentence}")


async def user_api(admin: Api, username: str, purpose: str) -> Api:
    """The API as this user sees it, with a new token of theirs."""
    made = await admin.do("POST", "/api/v1/tokens", {"user": username, "name": purpose})
    return admin.as_user(made["secret"])


async def ensure_workflow(admin: Api, document: Mapping[str, Any]) -> None:
    """This content is the active version of its name; a new major version is published where it is not."""
    path = f"/api/v1/workflows/{document['name']}"
    present = await admin.call("GET", path)
    if not present.ok:
        await admin.do("POST", "/api/v1/workflows", document)
    elif present.body["status"] == "active" and _same(present.body["definition"], document):
        return
    elif present.body["status"] != "draft" or not _same(present.body["definition"], document):
        major = int(present.body["version"].split(".")[0]) + 1
        document = {**document, "version": f"{major}.0.0"}
        await admin.do("PUT", path, document, if_match=present.body["revision"])
    else:
        document = present.body["definition"]
    await admin.do("POST", f"{path}/publish", {"version": document["version"]})


async def ensure_binding(admin: Api, form: str, workflow: str, mapping: Mapping[str, str]) -> None:
    """Submitting this form starts this workflow, with these fields of its data (CEL over `submission`)."""
    for binding in await admin.pages(_BINDINGS, formId=form):
        if binding["workflowId"] == workflow and binding["enabled"]:
            return
    body = {"formId": form, "workflowId": workflow, "dataMapping": {"submission": dict(mapping)}}
    await admin.do("POST", _BINDINGS, body)


def _same(there: Mapping[str, Any], document: Mapping[str, Any]) -> bool:
    return {**there, "version": None} == {**document, "version": None}
