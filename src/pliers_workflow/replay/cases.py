"""A log of cases, what is expected of it, and what the table alone says must happen."""

from __future__ import annotations

import gzip
import json
from collections import Counter
from collections.abc import Iterable, Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

from msgspec import Struct

from .travel import Row


class LogError(Exception):
    """A log or an expectation cannot be read; the message says where."""


class Step(Struct, frozen=True):
    """One recorded event: what was done, and in which role (empty: by a system)."""

    act: str
    by: str


class Case(Struct, frozen=True):
    """One recorded case."""

    id: str
    attributes: dict[str, Any]
    steps: tuple[Step, ...]


class Refusal(Struct, frozen=True):
    """The event, counted from 0, that must be refused, and the state in which the case stays."""

    state: str
    index: int


class Expectation(Struct, frozen=True):
    """What is expected of one log, or of one document's events in it."""

    #: the key in the file: `log`, or `log#Document`
    name: str
    #: only this document's events are replayed; None: all
    document: str | None
    cases: int
    replayed: int
    final_states: dict[str, int]
    refused: dict[str, Refusal]


class Expected(Struct, frozen=True):
    """The whole file: the table, where it starts, and the expectations of one log."""

    start: str
    rows: tuple[Row, ...]
    expectations: tuple[Expectation, ...]


class Verdict(Struct, frozen=True):
    """How a case must go by the table: the states after each step, and the refusal, if there is one."""

    states: tuple[str, ...]
    refused: Refusal | None


def log_name(path: Path) -> str:
    """
    The name by which a log is known in the expectations.

    >>> log_name(Path("logs/claims_2026.jsonl.gz"))
    'claims_2026'
    """
    return path.name.removesuffix(".gz").removesuffix(".jsonl").removesuffix(".json")


def read_expected(path: Path, log: str) -> Expected:
    """Read the expectations of one log. Raises `LogError`."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        rows = tuple(Row(*row) for row in content["table"])
        found = []
        for name, entry in content["logs"].items():
            base, _, document = name.partition("#")
            if base == log:
                refused = {case: Refusal(state, index) for case, (state, index) in entry["refused"].items()}
                found.append(
                    Expectation(
                        name, document or None, entry["cases"], entry["replayed"], dict(entry["final_states"]), refused
                    )
                )
        start = content["start"]
    except OSError as error:
        raise LogError(f"{path} cannot be read: {error.strerror}") from None
    except (KeyError, TypeError, ValueError) as error:
        raise LogError(
            f"{path} is not an expectation: it needs start, table and logs as docs/guides/replay.md describes ({type(error).__name__}: {error})"
        ) from None
    if not found:
        names = ", ".join(sorted(content["logs"])) or "none"
        raise LogError(f"{path} expects nothing of a log called {log!r}; it knows {names}")
    return Expected(start, rows, tuple(found))


def read_cases(path: Path, document: str | None = None, limit: int = 0) -> list[Case]:
    """
    Read the cases of a log, only with the events of one document if one is named; cases without any are left out.

    Raises `LogError` with the line.
    """
    cases: list[Case] = []
    for number, content in lines(path):
        try:
            steps = tuple(_steps(content["events"], document))
            if steps:
                cases.append(Case(content["case"], content.get("attrs") or {}, steps))
        except (KeyError, TypeError, ValueError) as error:
            raise LogError(f"{path}, line {number}, is no case: {type(error).__name__}: {error}") from None
        if limit and len(cases) == limit:
            break
    return cases


def lines(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """The lines of a log, decoded, with their numbers from 1. Raises `LogError` where one is not JSON."""
    number = 0
    try:
        for number, line in enumerate(_lines(path), start=1):
            if line.strip():
                yield number, json.loads(line, parse_float=Decimal)
    except ValueError as error:
        raise LogError(f"{path}, line {number}, is no case: {type(error).__name__}: {error}") from None
    except (OSError, EOFError) as error:
        raise LogError(f"{path} cannot be read: {error}") from None


def _lines(path: Path) -> Iterator[str]:
    with path.open("rb") as probe:
        zipped = probe.read(2) == b"\x1f\x8b"
    if zipped:
        with gzip.open(path, "rt", encoding="utf-8") as file:
            yield from file
    else:
        with path.open(encoding="utf-8") as file:
            yield from file


def _steps(events: Iterable[dict[str, Any]], document: str | None) -> Iterator[Step]:
    for event in events:
        if document is None or event.get("doc") == document:
            yield Step(event.get("act") or event["a"], event.get("by") or "")


def walk(rows: Iterable[Row], start: str, steps: Iterable[Step]) -> Verdict:
    """
    How a case goes by the table: until the first step that no row allows.

    >>> rows = [Row("new", "SUBMITTED", "EMPLOYEE", "submitted")]
    >>> walk(rows, "new", [Step("SUBMITTED", "EMPLOYEE"), Step("APPROVED", "EMPLOYEE")])
    Verdict(states=('submitted',), refused=Refusal(state='submitted', index=1))
    """
    table = {(row.state, row.act, row.by): row.to for row in rows}
    states: list[str] = []
    state = start
    for index, step in enumerate(steps):
        after = table.get((state, step.act, step.by))
        if after is None:
            return Verdict(tuple(states), Refusal(state, index))
        states.append(state := after)
    return Verdict(tuple(states), None)


def disagreements(expectation: Expectation, outcomes: dict[str, Verdict]) -> list[str]:
    """What a full replay came to, compared with what was expected of the log as a whole."""
    finals = Counter(outcome.states[-1] for outcome in outcomes.values() if outcome.refused is None and outcome.states)
    refused = {case: outcome.refused for case, outcome in outcomes.items() if outcome.refused is not None}
    found = []
    if len(outcomes) != expectation.cases:
        found.append(f"{expectation.name}: {len(outcomes)} cases, expected {expectation.cases}")
    if sum(finals.values()) != expectation.replayed:
        found.append(f"{expectation.name}: {sum(finals.values())} replayed to the end, expected {expectation.replayed}")
    if dict(finals) != expectation.final_states:
        found.append(f"{expectation.name}: final states {dict(finals)}, expected {expectation.final_states}")
    for case in sorted(refused.keys() | expectation.refused.keys()):
        if refused.get(case) != expectation.refused.get(case):
            found.append(
                f"{expectation.name}: {case}: refused {_told(refused.get(case))}, "
                f"expected {_told(expectation.refused.get(case))}"
            )
    return found


def _told(refusal: Refusal | None) -> str:
    return "nowhere" if refusal is None else f"at event {refusal.index} in state {refusal.state}"
