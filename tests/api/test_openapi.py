"""The description of the API is valid, whole, and says what is served."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import jsonschema_rs
import msgspec
import pytest

from pliers_workflow.api.application import BASE, ROUTES
from pliers_workflow.api.examples import BODIES, curl
from pliers_workflow.api.openapi import field_comments, openapi_document
from pliers_workflow.api.problems import KINDS
from pliers_workflow.api.reference import reference_markdown
from pliers_workflow.api.reference_page import reference_page
from pliers_workflow.api.rest import wire
from tests.api.world import World

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "api.md"

#: what the specification demands, and what design and plan add
SPECIFIED = """
GET /workflows · POST /workflows · GET /workflows/{id} · PUT /workflows/{id} · DELETE /workflows/{id}
GET /workflows/{id}/versions · GET /workflows/{id}/versions/{v} · POST /workflows/{id}/validate
POST /workflows/{id}/publish · GET /workflows/{id}/instances · POST /workflows/{id}/instances
GET /workflow-instances/{id} · PUT /workflow-instances/{id} · DELETE /workflow-instances/{id}
POST /workflow-instances/{id}/advance · POST /workflow-instances/{id}/suspend · POST /workflow-instances/{id}/resume
GET /workflow-instances/{id}/approvals · POST /workflow-instances/{id}/approve · POST /workflow-instances/{id}/reject
POST /workflow-instances/{id}/delegate · POST /workflow-instances/{id}/request-changes · GET /users/{userId}/approvals
GET /workflow-instances/{id}/history · GET /workflow-instances/{id}/timeline · GET /workflows/health
"""


@pytest.fixture(scope="module")
def document() -> dict[str, Any]:
    """The document as it is sent."""
    decoded: dict[str, Any] = json.loads(json.dumps(openapi_document(ROUTES, base=BASE)))
    return decoded


def references(value: Any) -> Iterator[str]:
    """Every `$ref` in a document."""
    if isinstance(value, dict):
        for name, item in value.items():
            if name == "$ref" and isinstance(item, str):
                yield item
            else:
                yield from references(item)
    elif isinstance(value, list):
        for item in value:
            yield from references(item)


def test_every_endpoint_of_the_specification_is_there(document: dict[str, Any]) -> None:
    """Paths and methods as specified."""
    offered = {f"{method.upper()} {path}" for path, methods in document["paths"].items() for method in methods}
    wanted = {each.replace(" /", f" {BASE}/") for each in re.findall(r"[A-Z]+ /\S+", SPECIFIED)}
    assert wanted <= offered


def test_every_reference_leads_somewhere(document: dict[str, Any]) -> None:
    """A generator can follow all of them."""
    for reference in references(document):
        found: Any = document
        for part in reference.removeprefix("#/").split("/"):
            found = found[part]


def test_every_schema_is_a_json_schema(document: dict[str, Any]) -> None:
    """OpenAPI 3.1 schemas are JSON Schema 2020-12; each component is one, and names are as OpenAPI wants them."""
    components = document["components"]["schemas"]
    for name, schema in components.items():
        assert re.fullmatch(r"[a-zA-Z0-9._-]+", name)
        jsonschema_rs.meta.validate({"$schema": "https://json-schema.org/draft/2020-12/schema", **schema})


def test_operations_are_whole(document: dict[str, Any]) -> None:
    """Each has a unique id, a sentence, its path parameters, a success and, unless it is open, 401."""
    ids = []
    for path, methods in document["paths"].items():
        for operation in methods.values():
            ids.append(operation["operationId"])
            assert operation["summary"] and operation["description"].strip().endswith(".")
            names = {each.get("name") for each in operation.get("parameters", ()) if each.get("in") == "path"}
            assert names == set(re.findall(r"\{(\w+)\}", path))
            assert any(status.startswith("2") for status in operation["responses"])
            assert "401" in operation["responses"]
            for status, response in operation["responses"].items():
                assert response["description"]
                if int(status) >= 400:
                    assert "application/problem+json" in response["content"]
    assert len(ids) == len(set(ids))


def test_statuses_that_are_answered_are_declared(document: dict[str, Any]) -> None:
    """A resolution in the background is 202, something unchanged 304, and 201 only where something is made."""
    paths = document["paths"]
    resolving = paths["/api/v1/incidents/resolve"]["post"]["responses"]
    assert "Location" in resolving["202"]["headers"]
    assert "content" not in paths["/api/v1/workflow-instances/{id}"]["get"]["responses"]["304"]
    assert "304" not in paths["/api/v1/workflows"]["get"]["responses"]
    assert "201" in paths["/api/v1/roles/{key}"]["put"]["responses"]
    assert "201" not in paths["/api/v1/step-limits/{queue}"]["put"]["responses"]


def test_fields_are_described_by_their_comments() -> None:
    """What stands above a field in the source is its description; those of bases are inherited."""
    assert field_comments(wire.StartInput)["externalKey"].startswith("your own key")
    assert field_comments(wire.InboxItemView)["stepId"] == "the stage"


def test_the_reference_page_in_the_repository_is_up_to_date(document: dict[str, Any]) -> None:
    """It is made from the endpoints: `python -m pliers_workflow.api.reference docs/reference/api.md`."""
    assert PAGE.read_text() == reference_markdown(document)


def test_the_reference_names_every_endpoint_and_every_code(document: dict[str, Any]) -> None:
    """Nothing is served that nobody can look up."""
    page = PAGE.read_text()
    for path, methods in document["paths"].items():
        for method in methods:
            assert f"`{method.upper()} {path}`" in page
    for code in KINDS:
        assert f"| `{code}` |" in page


def test_the_page_to_read_has_no_scripts_and_needs_no_network(document: dict[str, Any]) -> None:
    """It is one file with everything in it, for closed networks too."""
    page = reference_page(document)
    assert "<script" not in page
    assert not re.search(r"""(src|href)=["']?https?://""", page)
    for methods in document["paths"].values():
        for operation in methods.values():
            assert f'id="{operation["operationId"]}"' in page


def test_every_endpoint_can_be_tried(document: dict[str, Any]) -> None:
    """Each has a command on the page, and what the command sends is read by the endpoint's own type."""
    page = reference_page(document)
    endpoints = {each.operation_id: each for group in ROUTES for each in group.endpoints}
    assert page.count("<pre>curl") == len(endpoints)
    for name, body in BODIES.items():
        raw = next(iter(endpoints[name].consumes.values()), None)
        msgspec.convert(body, raw or endpoints[name].body_type, strict=True)
    required = {name for name, each in endpoints.items() if each.takes_body and not each.body_optional}
    assert required - BODIES.keys() == {"create_workflow", "update_workflow"}


def test_a_command_says_to_the_shell_what_it_means(document: dict[str, Any]) -> None:
    """What the shell makes of a command's body is the example, quotes in expressions included."""
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            words = shlex.split(curl(path, method, operation))
            if operation["operationId"] in BODIES and "-d" in words:
                assert json.loads(words[words.index("-d") + 1]) == BODIES[operation["operationId"]]


def test_every_kind_of_a_part_is_shown(document: dict[str, Any]) -> None:
    """Where a field may be one of several kinds, the fields of each stand on the page; and what is answered 304."""
    page = reference_page(document)
    for field in "routingKey", "lengthMax", "mechanism", "exclusive":
        assert f"<code>{field}</code>" in page, field
    assert "Answer 304: " in page


class Page(HTMLParser):
    """The places of a page, and where it leads to in itself."""

    def __init__(self) -> None:
        super().__init__()
        self.ids: list[str] = []
        self.targets: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            if name == "id":
                self.ids.append(str(value))
            elif name == "href" and str(value).startswith("#"):
                self.targets.add(str(value)[1:])


async def test_the_page_works_under_its_own_policy(world: World) -> None:
    """The policy allows its style and nothing else, and it has nothing else; each place in the index exists."""
    sent = await world.http.get("/docs")
    assert sent.headers["content-security-policy"].startswith("default-src 'none'; style-src 'unsafe-inline'")
    assert not re.search(r"<(script|img|iframe|link|form|object)|\son[a-z]+=|url\(|@import", sent.text)
    page = Page()
    page.feed(sent.text)
    assert sorted(page.ids) == sorted(set(page.ids))
    assert page.targets - set(page.ids) == set()


async def test_the_description_is_served(world: World) -> None:
    """`/openapi.json`, `/docs`, and a way there from `/`; what lies elsewhere is a problem too."""
    sent = await world.http.get("/openapi.json")
    assert sent.headers["content-type"] == "application/json"
    assert sent.json()["openapi"] == "3.1.0"
    assert (await world.http.get("/docs")).headers["content-type"] == "text/html; charset=utf-8"
    assert (await world.http.get("/")).headers["location"] == "/docs"
    for method, status in (("GET", 404), ("POST", 404)):
        refused = await world.http.request(method, "/nonsense")
        assert refused.status_code == status
        assert refused.headers["content-type"] == "application/problem+json"
    assert (await world.http.post("/docs")).status_code == 405
