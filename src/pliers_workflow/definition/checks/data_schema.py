"""The data schema, and the fields that the document names outside of expressions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jsonschema_rs

from ..data import (
    DIALECT,
    SCHEMA_COST_MAX,
    Place,
    all_schemas,
    compile_schema,
    data_path,
    knows,
    parse_template,
    resolve,
    shorten,
    subschemas,
)
from ..document import AssignAction, ForeachAction, WorkflowDefinition
from ..findings import Findings, did_you_mean, pointer
from ..step_walking import StepWalk, fields_written
from ..tree import Tree
from ..walking import actions

_REFERENCES = ("$ref", "$dynamicRef", "$recursiveRef")


def check(definition: WorkflowDefinition, walk: StepWalk, findings: Findings) -> bool:
    """See the module. Answers whether the schema can be used."""
    schema = definition.data_schema
    holds = not schema or _check_schema(schema, findings)
    _fields(definition, walk, schema if holds else {}, findings)
    return holds


def _check_schema(schema: Mapping[str, Any], findings: Findings) -> bool:
    before = len(findings.all)
    dialect = schema.get("$schema", DIALECT)
    if not isinstance(dialect, str) or dialect.rstrip("#") != DIALECT:
        findings.error(
            "bad_schema",
            "/dataSchema/$schema",
            "Only JSON Schema 2020-12 is understood.",
            f"Write `{DIALECT}`, or nothing.",
        )
    for error in _META.iter_errors(schema):
        wrong_type = error.instance_path and error.instance_path[-1] == "type"
        findings.error(
            "bad_schema",
            "/dataSchema" + pointer(*error.instance_path),
            "The type is none of JSON Schema's." if wrong_type else shorten(error.message) + ".",
            "Types are `string`, `number`, `integer`, `boolean`, `object`, `array` and `null`." if wrong_type else None,
        )
    if len(findings.all) > before:
        return False
    kind = schema.get("type")
    if kind != "object" and kind != ["object"]:
        findings.error(
            "schema_not_object",
            "/dataSchema/type" if "type" in schema else "/dataSchema",
            "Instance data is an object, so its schema must describe one.",
            'Add `"type": "object"`.',
        )
    if _references(schema, findings):
        _circles(schema, findings)
    if len(findings.all) == before:
        try:
            compile_schema(schema)
        except ValueError as error:
            findings.error("bad_schema", "/dataSchema", f"The schema cannot be used: {error}.")
    return len(findings.all) == before


#: The rules of JSON Schema itself.
_META = jsonschema_rs.Draft202012Validator({"$ref": DIALECT})


def _references(schema: Mapping[str, Any], findings: Findings) -> bool:
    fine = True
    every = list(all_schemas(schema))
    places = {place for place, _ in every}
    for place, found in every:
        if not isinstance(found, Mapping):
            continue
        if place and "$id" in found:
            fine = False
            findings.error(
                "bad_schema",
                pointer("dataSchema", *place, "$id"),
                "A schema inside the schema has an address of its own.",
                "Remove `$id`, and refer to it by `#/…`.",
            )
        for key in _REFERENCES:
            reference = found.get(key)
            if reference is None:
                continue
            at = pointer("dataSchema", *place, key)
            if key != "$ref":
                fine = False
                findings.error("bad_schema", at, f"`{key}` is not understood.", "Use `$ref`.")
            elif not isinstance(reference, str) or not reference.startswith("#"):
                fine = False
                findings.error(
                    "remote_reference",
                    at,
                    "The reference leads out of the document; nothing is fetched from elsewhere.",
                    "Copy what it points to below `$defs`, and refer to it by `#/$defs/…`.",
                )
            elif (target := resolve(schema, reference)) is None or target[0] not in places:
                fine = False
                findings.error(
                    "bad_schema", at, f"No schema is at `{shorten(reference)}`.", "Refer to one by `#` or `#/$defs/…`."
                )
    return fine


def _circles(schema: Mapping[str, Any], findings: Findings) -> None:
    """Follow what applies to one and the same value: it must end, and must not multiply."""
    costs: dict[Place, int] = {}
    #: places on the way down, to see a circle; costs are known on the way up
    open_: set[Place] = set()
    roots: list[tuple[Place, Any]] = list(all_schemas(schema))
    for root in roots:
        stack: list[tuple[Place, Any, bool]] = [(*root, False)]
        while stack:
            place, found, leaving = stack.pop()
            if leaving:
                open_.discard(place)
                costs[place] = min(1 + sum(costs.get(at, 1) for at, _ in _same_value(schema, place, found)), 10**9)
                continue
            if place in costs or not isinstance(found, Mapping):
                continue
            if place in open_:
                findings.error(
                    "endless_reference",
                    pointer("dataSchema", *place),
                    "References lead back here without going deeper into the data, so checking would never end.",
                    "Put a property or a list between them.",
                )
                return
            open_.add(place)
            stack.append((place, found, True))
            stack.extend((at, inner, False) for at, inner in _same_value(schema, place, found))
    if any(cost > SCHEMA_COST_MAX for cost in costs.values()):
        findings.error(
            "too_large",
            "/dataSchema",
            f"More than {SCHEMA_COST_MAX:,} alternatives would be asked about one value.",
            "Use fewer `allOf`, `anyOf`, `oneOf` and references inside each other.",
        )


def _same_value(schema: Mapping[str, Any], place: Place, found: Any) -> list[tuple[Place, Any]]:
    if not isinstance(found, Mapping):
        return []
    inner = [((*place, *way), below) for way, below, in_place in subschemas(found) if in_place]
    reference = found.get("$ref")
    if isinstance(reference, str):
        target = resolve(schema, reference)
        if target is not None:
            inner.append(target)
    return inner


# -- fields ------------------------------------------------------------------------------------------------------------


def _fields(definition: WorkflowDefinition, walk: StepWalk, schema: Mapping[str, Any], findings: Findings) -> None:
    display = definition.display
    if display.title is not None:
        try:
            pieces = parse_template(display.title)
        except ValueError as error:
            findings.error(
                "bad_template",
                "/display/title",
                str(error),
                "Write paths in braces: `{data.amount}`, `{requester.username}`.",
            )
        else:
            for piece in pieces:
                if isinstance(piece, tuple) and piece[0] == "data":
                    _field(piece[1:], "/display/title", schema, findings)
    for index, path in enumerate(display.fields):
        _named(path, f"/display/fields/{index}", schema, findings)
    for position, chain in enumerate(definition.approval_chains):
        for index, stage in enumerate(chain.steps):
            for number, path in enumerate(stage.watched_fields or ()):
                at = f"/approvalChains/{position}/steps/{index}/watchedFields/{number}"
                if data_path(path)[0] == "context":
                    findings.error(
                        "unknown_field",
                        at,
                        f"`{path}` is no field of the data.",
                        "Only the requester's data is watched.",
                    )
                _named(path, at, schema, findings)
    for at, action in actions(definition, Tree(definition.state_machine)):
        if isinstance(action, AssignAction):
            _named(action.field, at + "/field", schema, findings)
        elif isinstance(action, ForeachAction):
            _named(action.item, at + "/item", schema, findings)
            if action.index is not None:
                _named(action.index, at + "/index", schema, findings)
    for placed in {placed.pointer: placed for placed in walk.all}.values():
        for at, path in fields_written(placed):
            _named(path, at, schema, findings)


def _named(path: str, at: str, schema: Mapping[str, Any], findings: Findings) -> None:
    root, names = data_path(path)
    if root == "data":
        _field(names, at, schema, findings)


def _field(names: tuple[str, ...], at: str, schema: Mapping[str, Any], findings: Findings) -> None:
    if schema and names and not knows(schema, names):
        known = schema.get("properties")
        findings.error(
            "unknown_field",
            at,
            f"The data schema knows no field `{'.'.join(names)}`.",
            lambda: did_you_mean(names[0], known) if isinstance(known, Mapping) and names[0] not in known else None,
        )
