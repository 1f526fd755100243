"""Example definitions that come with the package: real processes, small enough to read.

- `expense_report`: a chain of stages that grows with the amount, rounds of changes, timeouts
- `purchase_order`: legal and finance review side by side, then an order
- `business_trip`: permit, trip and costs side by side, with reminders, and the declaration as a sub-workflow
- `travel_declaration`: a university's travel expenses as they really ran; see `pliers replay`
"""

from __future__ import annotations

import json
from decimal import Decimal
from importlib.resources import files
from typing import Any

NAMES = ("business_trip", "expense_report", "purchase_order", "travel_declaration")


def load(name: str) -> dict[str, Any]:
    """The document of an example, as decoded JSON with exact numbers.

    >>> load("expense_report")["name"]
    'expense_report'
    """
    if name not in NAMES:
        raise LookupError(f"there is no example called {name!r}; there are {', '.join(NAMES)}")
    text = files(__name__).joinpath(f"{name}.json").read_text(encoding="utf-8")
    document: dict[str, Any] = json.loads(text, parse_float=Decimal)
    return document
