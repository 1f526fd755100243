"""`docs/reference/api.md`, made from the OpenAPI document: `python -m pliers_workflow.api.reference docs/reference/api.md`.

A test makes it anew and compares, so the page in the repository is never out of date.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .problems import KINDS

_BEFORE = """\
# The REST API

This page is made from the endpoints' own declarations (`make` it anew with
`python -m pliers_workflow.api.reference docs/reference/api.md`). A running server shows the same at `/docs`, with all
fields of bodies and answers and a command to try for each endpoint, and gives the machine-readable form at
`/openapi.json`. The rules behind the endpoints stand with their subjects: [directory, definitions' versions, submissions,
tokens](directory-and-submissions.md), [approvals](approvals.md).

{about}
## A first round

```sh
TOKEN=pliers_…                                   # printed at the first start
curl -H "Authorization: Bearer $TOKEN" -H "Content-Type: application/json" \\
     -d @expense_report.json http://127.0.0.1:8080/api/v1/workflows
curl -H "Authorization: Bearer $TOKEN" -X POST http://127.0.0.1:8080/api/v1/workflows/expense_report/publish
curl -H "Authorization: Bearer $TOKEN" -H "Content-Type: application/json" -H "Idempotency-Key: 4711" \\
     -d '{{"data": {{"amount": 120.50, "currency": "EUR", "purpose": "Taxi"}}}}' \\
     http://127.0.0.1:8080/api/v1/workflows/expense_report/instances
curl -H "Authorization: Bearer $TOKEN" -H "Content-Type: application/json" -H 'If-Match: "1"' \\
     -d '{{"trigger": "submit"}}' http://127.0.0.1:8080/api/v1/workflow-instances/ID/advance
```

A refusal says what to do:

```json
{{
  "type": "/api/v1/problems/self_approval_forbidden",
  "title": "Self-approval is forbidden",
  "status": 403,
  "detail": "The requester may not decide on their own request, nor through a delegate.",
  "errorCode": "PERMISSION_DENIED",
  "code": "self_approval_forbidden",
  "instance": "/api/v1/workflow-instances/0190b0a0-0000-7000-8000-000000000001/approve"
}}
```

## Bodies

A body is JSON in UTF-8 with `Content-Type: application/json`, at most 1 MB (setting `server.body_size_max`). Numbers are
exact, with up to 1,000 digits before and after the point; `1e3` is kept as `1000`. Refused are: unknown fields, a key that
stands twice in one object, NUL characters, halves of surrogate pairs, nesting beyond 100 levels. Unknown query parameters
are refused too, so that a misspelled filter never answers everything.

## Common problems

Every endpoint may answer `unauthenticated`, `invalid_token`, `invalid_parameter` and `unavailable`; those that change
something `invalid_header` and `idempotency_key_reused`; those with a body `malformed_json`, `unsupported_media_type`,
`body_too_large`, `invalid_body`, `unstorable_value` and `body_required`; those that give a command to an instance
`overloaded`, `shutting_down`, `outcome_unknown`, and the reasons any command may be refused for (`instance_ended`,
`suspended`, `not_allowed`, `execution_error`, `endless_loop`, `budget_exceeded`). Below they are not repeated. An address
or method that does not exist is `not_found` or `method_not_allowed`, and `internal_error` is a defect of ours: report it.

## Order of refusals

Where several hold, the first is given: address (404), method (405), token (401), form of the ids (404), permission (403),
query (422), headers (400), a full queue (503, before the body is read), body (413, 415, 400, 422), and then what the
interpreter says, in the order of the table of problems below; to those who may not see the instance that is always 404.

What is no HTTP (400), a request line with headers of more than 64 kB together (431), and a request that does not come
(408) never get that far: the answer is a line of text, and the connection is closed. A whole head has to come within 30
seconds; a body has to come, and an answer to be taken, at 500 bytes a second or faster, counted over as many (setting
`server.receive_timeout`). A connection whose answers are left lying is broken off, one on which more than 1 MiB of a body
comes after its answer is closed, and so is a new one on which nothing is said for that time, without a word. Waiting for an
answer, as with `waitSeconds`, has no such limit, and a connection between two requests stays open for 75 seconds.

At most 100 requests of a connection may wait for the answers before theirs; one more closes it, and so does the refusal of
a request with `Expect: 100-continue` whose body was not asked for. A request has one `Host`. Other headers that come several
times are one list, so that of two tokens, keys or tags none is chosen, but both are refused. An offer to go on with another
protocol (`Upgrade`) is passed over: this is HTTP/1.1.
"""


_COMMON = frozenset(
    """unauthenticated invalid_token invalid_parameter unavailable invalid_header idempotency_key_reused malformed_json
    unsupported_media_type body_too_large invalid_body unstorable_value body_required overloaded shutting_down
    outcome_unknown instance_ended suspended not_allowed execution_error endless_loop budget_exceeded""".split()
)


def reference_markdown(document: Mapping[str, Any]) -> str:
    """The whole page."""
    lines = [_BEFORE.format(about=document["info"]["description"].split("\n\n", 1)[1].strip() + "\n")]
    for tag in document["tags"]:
        lines += [f"## {tag['name']}", "", tag["description"], ""]
        for path, methods in document["paths"].items():
            for method, operation in methods.items():
                if tag["name"] in operation["tags"]:
                    lines += _operation(path, method, operation, document)
    lines += ["## Problems", "", "| code | status | errorCode | what to do |", "|---|---|---|---|"]
    lines += [
        f"| `{code}` | {kind.status} | {kind.error_code} | {_cell(kind.sentence)} |" for code, kind in KINDS.items()
    ]
    return "\n".join(lines) + "\n"


def _operation(path: str, method: str, operation: Mapping[str, Any], document: Mapping[str, Any]) -> list[str]:
    lines = [f"### `{method.upper()} {path}`", "", operation["description"], ""]
    parameters = []
    for parameter in operation.get("parameters", ()):
        if "$ref" in parameter:
            parameter = document["components"]["parameters"][parameter["$ref"].rsplit("/", 1)[1]]
        if parameter["in"] == "query":
            parameters.append(
                f"- `{parameter['name']}`: {parameter.get('description') or _values(parameter['schema'])}"
            )
    if parameters:
        lines += ["Query:", "", *parameters, ""]
    body = operation.get("requestBody")
    if body:
        name = _name(next(iter(body["content"].values()))["schema"])
        lines += [f"Body{'' if body['required'] else ' (may be left out)'}: {_fields(name, document)}", ""]
    answers = [
        f"{status} {_fields(_name(content['application/json']['schema']), document, brief=True)}"
        for status, response in operation["responses"].items()
        if status.startswith("2") and (content := response.get("content"))
    ]
    headers = [name for name in ("IdempotencyKey", "IfMatch") if any(
        parameter.get("$ref", "").endswith(f"/{name}") for parameter in operation.get("parameters", ())
    )]  # fmt: skip
    if headers:
        words = {"IdempotencyKey": "`Idempotency-Key`", "IfMatch": "`If-Match`"}
        lines += [f"Takes {' and '.join(words[name] for name in headers)}.", ""]
    lines += [f"Answers {' or '.join(answers)}." if answers else "Answers 204 without content.", ""]
    codes = [
        f"`{code}` ({status})"
        for status, response in operation["responses"].items()
        if status[0] in "45"
        for line in response["description"].splitlines()
        if (code := line[3:].partition("`")[0]) not in _COMMON
    ]
    if codes:
        lines += [f"Problems: {', '.join(codes)}.", ""]
    return lines


def _name(schema: Mapping[str, Any]) -> str:
    for branch in schema.get("anyOf", (schema,)):
        if "$ref" in branch:
            return str(branch["$ref"].rsplit("/", 1)[1])
    return "object"


def _fields(name: str, document: Mapping[str, Any], *, brief: bool = False) -> str:
    schema = document["components"]["schemas"].get(name, {})
    if brief or name.startswith("WorkflowDefinition") or not schema.get("properties"):
        return f"`{name}`"
    required = schema.get("required", ())
    fields = ", ".join(f"`{field}`{'*' if field in required else ''}" for field in schema["properties"])
    return f"`{name}` with {fields}"


def _values(schema: Mapping[str, Any]) -> str:
    if "enum" in schema:
        return ", ".join(f"`{value}`" for value in schema["enum"])
    return str(schema.get("format") or schema.get("type", "text")).replace("string", "text")


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def main() -> None:
    """Write the page to the file named, or to standard output."""
    from .application import BASE, ROUTES
    from .openapi import openapi_document

    page = reference_markdown(openapi_document(ROUTES, base=BASE))
    if len(sys.argv) > 1:
        Path(sys.argv[1]).write_text(page)
    else:
        sys.stdout.write(page)


if __name__ == "__main__":
    main()
