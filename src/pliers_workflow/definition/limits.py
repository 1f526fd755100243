"""What a document may be at most, before anything looks at its meaning.

The walk uses no recursion, so that nesting a million deep is a finding like any other.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from decimal import Decimal
from typing import Final

from .findings import FINDINGS_MAX, Findings, pointer, shown

DOCUMENT_BYTES_MAX: Final = 1_000_000
NESTING_MAX: Final = 50
STATES_MAX: Final = 2_000
TRANSITIONS_MAX: Final = 10_000
#: digits of a number, before or behind the point
NUMBER_DIGITS_MAX: Final = 100

_BAD_TEXT: Final = re.compile("[\x00\ud800-\udfff]")


def check_limits(document: object, findings: Findings) -> None:
    """Look at sizes, nesting, texts and numbers of decoded JSON."""
    size = 0
    todo: list[tuple[object, tuple[str | int, ...]]] = [(document, ())]
    too_deep = False
    while todo and len(findings.all) < FINDINGS_MAX:
        value, path = todo.pop()
        if isinstance(value, Mapping | list | tuple):
            if len(path) >= NESTING_MAX:
                if not too_deep:
                    findings.error(
                        "too_deep",
                        pointer(*path),
                        f"Values are nested more than {NESTING_MAX} levels deep.",
                        "Make the structure flatter.",
                    )
                too_deep = True
                continue
            size += 2 + len(value)
            if isinstance(value, Mapping):
                for key, item in value.items():
                    if not isinstance(key, str):
                        findings.error("wrong_type", pointer(*path), "Keys of an object must be texts.")
                        continue
                    size += _text(key, path, "The key", findings) + 3
                    todo.append((item, (*path, key)))
            else:
                todo.extend((item, (*path, index)) for index, item in enumerate(value))
        elif isinstance(value, str):
            size += _text(value, path, "The text", findings) + 2
        elif value is None or isinstance(value, bool):
            size += 4
        elif isinstance(value, int | float | Decimal):
            size += _number(value, path, findings)
        else:
            findings.error("wrong_type", pointer(*path), f"`{type(value).__name__}` is no JSON value.")
        if size > DOCUMENT_BYTES_MAX:
            findings.error(
                "too_large",
                "",
                f"The document is larger than {DOCUMENT_BYTES_MAX:,} bytes.",
                "Split the workflow, or keep texts and tables elsewhere.",
            )
            return


def check_counts(document: object, findings: Findings) -> None:
    """Count states and transitions; the document's shape may still be wrong."""
    machine = document.get("stateMachine") if isinstance(document, Mapping) else None
    if not isinstance(machine, Mapping):
        return
    transitions = machine.get("transitions")
    if isinstance(transitions, list) and len(transitions) > TRANSITIONS_MAX:
        findings.error(
            "too_large",
            "/stateMachine/transitions",
            f"{len(transitions):,} transitions; the most is {TRANSITIONS_MAX:,}.",
            "Split the workflow.",
        )
    states = machine.get("states")
    todo: list[object] = list(states.values()) if isinstance(states, Mapping) else []
    count = 0
    while todo:
        state = todo.pop()
        count += 1
        if isinstance(state, Mapping) and isinstance(state.get("substates"), list):
            todo.extend(state["substates"])
    if count > STATES_MAX:
        findings.error(
            "too_large", "/stateMachine/states", f"{count:,} states; the most is {STATES_MAX:,}.", "Split the workflow."
        )


def _text(text: str, path: tuple[str | int, ...], what: str, findings: Findings) -> int:
    bad = _BAD_TEXT.search(text)
    if bad is None:
        return len(text) if text.isascii() else len(text.encode())
    kind = "a NUL character" if bad.group() == "\x00" else "half of a surrogate pair"
    # The pointer must be storable itself, so it stops above a key like this.
    findings.error("bad_text", pointer(*clean(path)), f"{what} holds {kind}.", "Remove it: databases cannot keep it.")
    return len(text)


def clean(path: tuple[str | int, ...]) -> tuple[str | int, ...]:
    """Cut a path before a key that no text can hold."""
    for position, part in enumerate(path):
        if isinstance(part, str) and _BAD_TEXT.search(part):
            return path[:position]
    return path


def _number(value: int | float | Decimal, path: tuple[str | int, ...], findings: Findings) -> int:
    if isinstance(value, int):
        # 333 bits are 100 decimal digits; the digits of huge integers are never written out, which would be slow.
        if value.bit_length() <= 333:
            return 1 + value.bit_length() // 3
        reason = "has more than 100 digits"
    else:
        number = value if isinstance(value, Decimal) else Decimal(repr(value))
        if not number.is_finite():
            reason = f"is {shown(str(number))}"
        else:
            _, digits, exponent = number.as_tuple()
            if len(digits) <= NUMBER_DIGITS_MAX and isinstance(exponent, int) and abs(exponent) <= NUMBER_DIGITS_MAX:
                return len(digits) + 3
            reason = "has more than 100 digits"
    findings.error(
        "bad_number", pointer(*clean(path)), f"The number {reason}.", "Use a number that can be kept exactly."
    )
    return 4
