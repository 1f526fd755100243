"""Named workflow definitions that every test may use; each is a valid document without findings."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec

from pliers_workflow.definition.chart import Chart
from pliers_workflow.definition.compiler import compile_definition
from pliers_workflow.definition.document import WorkflowDefinition
from pliers_workflow.definition.reading import read

_decoder = msgspec.json.Decoder(float_hook=Decimal)
NAMES = tuple(sorted(path.stem for path in Path(__file__).parent.glob("*.json")))


def load(name: str) -> dict[str, Any]:
    """The document, decoded as the engine decodes JSON; a fresh copy each time."""
    document: dict[str, Any] = _decoder.decode(Path(__file__).with_name(f"{name}.json").read_bytes())
    return document


def definition(name: str) -> WorkflowDefinition:
    """The document, read."""
    reading = read(load(name))
    assert reading.definition is not None, reading.findings
    return reading.definition


def chart(name: str) -> Chart:
    """The document, compiled."""
    return compile_definition(definition(name))
