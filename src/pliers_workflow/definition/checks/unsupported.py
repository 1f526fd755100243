"""Keys whose runtime comes with a later release: refused, because a field that validates but never runs is a defect."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..findings import Findings, pointer


def check_unsupported(document: Mapping[str, Any], findings: Findings) -> None:
    """Look for such keys in the document itself, whose shape may be wrong elsewhere. Empty values are harmless."""
    for key, what in (
        ("sla", "Service levels"),
        ("migrations", "Migrations"),
    ):
        _refuse(document.get(key), (key,), what, findings)
    timeouts = document.get("timeoutConfig")
    if isinstance(timeouts, Mapping):
        _refuse(timeouts.get("escalationRules"), ("timeoutConfig", "escalationRules"), "Escalation rules", findings)
    chains = document.get("approvalChains")
    for position, chain in enumerate(chains if isinstance(chains, list | tuple) else ()):
        stages = chain.get("steps") if isinstance(chain, Mapping) else None
        for index, stage in enumerate(stages if isinstance(stages, list | tuple) else ()):
            if isinstance(stage, Mapping):
                place = ("approvalChains", position, "steps", index, "escalation")
                _refuse(stage.get("escalation"), place, "Escalation of stages", findings)
    _look_for_pii(document.get("dataSchema"), ("dataSchema",), findings)


def _refuse(value: object, place: tuple[str | int, ...], what: str, findings: Findings) -> None:
    if value is None or (isinstance(value, list | tuple | Mapping) and not value):
        return
    findings.error("not_supported_yet", pointer(*place), f"{what} come with a later release.", f"Remove `{place[-1]}`.")


def _look_for_pii(schema: object, place: tuple[str | int, ...], findings: Findings) -> None:
    if isinstance(schema, Mapping):
        for key, value in schema.items():
            # A property may well have that name; a mark is where a schema's keyword stands.
            if key == "x-pii" and place[-1] != "properties":
                findings.error(
                    "not_supported_yet",
                    pointer(*place, key),
                    "Sealed fields come with a later release.",
                    "Remove `x-pii`.",
                )
            elif key not in ("const", "enum", "default", "examples"):
                _look_for_pii(value, (*place, key), findings)
    elif isinstance(schema, list | tuple):
        for index, value in enumerate(schema):
            _look_for_pii(value, (*place, index), findings)
