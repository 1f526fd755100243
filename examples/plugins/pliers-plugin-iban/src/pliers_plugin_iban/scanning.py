"""`iban.scan`: what may take too long or too much runs in a process of its own, which can be killed."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import BaseModel, Field

from pliers_workflow.plugins import Configuration, Context, plugin

from .numbers import compact, fault

_CANDIDATE = re.compile(r"\b[A-Za-z]{2}[0-9]{2}(?: ?[0-9A-Za-z]){11,30}")


class Limits(Configuration):
    """How much to look for."""

    numbers_max: Annotated[int, Field(ge=1, le=1000, description="So many numbers are given at most.")] = 100


class Text(BaseModel):
    """The text to look through."""

    text: str


@plugin("iban.scan", title="Find IBANs in a text", version="1.0.0", timeout=30, isolation="process")
def scan(configuration: Limits, input: Text, context: Context) -> list[str]:
    """Finds bank account numbers in a text: those whose check digits fit, each once, in the order in which they stand."""
    found: dict[str, None] = {}
    for candidate in _CANDIDATE.finditer(input.text):
        number = compact(candidate.group())
        # What follows a number may look like a part of it.
        for end in range(len(number), 14, -1):
            if fault(number[:end]) is None:
                found[number[:end]] = None
                break
        if len(found) >= configuration.numbers_max:
            context.log.info("more numbers than are wanted")
            break
    return list(found)
