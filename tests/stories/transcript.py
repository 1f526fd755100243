"""Reading a story, and the promises its lines make.

    chart   NAME of an example
    person  USERNAME [manager=NAME] [role:KEY] [group:KEY]
    INSTANT WHO VERB [field=value …] ["comment"] -> PROMISE, PROMISE …

A verb is `start`, `edit`, `suspend`, `resume`, `cancel`, one of the four decisions, or a trigger; `clock` only lets time
pass. A promise is a state (or `state NAME`), a status, `in leaf+leaf`, `asks who+who` (or `asks nobody`),
`due INSTANT`, `data field=value`, or `rejected REASON`.
"""

from __future__ import annotations

import json
import shlex
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any, Protocol

from pliers_workflow.interpreter.instance import Status

DECISIONS = ("approve", "reject", "request_changes", "delegate")
ORDERS = ("suspend", "resume", "cancel")


@dataclass(frozen=True)
class Person:
    username: str
    manager: str | None
    roles: tuple[str, ...]
    groups: tuple[str, ...]


@dataclass(frozen=True)
class Line:
    number: int
    text: str
    at: datetime
    who: str
    verb: str
    comment: str | None
    fields: dict[str, Any]
    promises: tuple[str, ...]


@dataclass
class Story:
    name: str
    about: str
    chart: str = ""
    people: list[Person] = field(default_factory=list)
    lines: list[Line] = field(default_factory=list)


@dataclass(frozen=True)
class View:
    """What anybody could see of the instance."""

    state: str
    leaves: tuple[str, ...]
    status: str
    asks: tuple[str, ...]
    due: datetime | None
    data: dict[str, Any]
    revision: int


class Teller(Protocol):
    """Whoever a story is told to: the bare interpreter, or a server."""

    async def people(self, people: list[Person]) -> None: ...
    async def move_to(self, at: datetime) -> None: ...
    async def tell(self, line: Line) -> str | None:
        """Give the order; the reason where it is refused."""

    async def view(self) -> View: ...


def read(path: Path) -> Story:
    rows = path.read_text().splitlines()
    story = Story(path.stem, rows[0].removeprefix("# "))
    for number, row in enumerate(rows, start=1):
        if not row.strip() or row.startswith("#"):
            continue
        word, _, rest = row.partition(" ")
        if word == "chart":
            story.chart = rest.strip()
        elif word == "person":
            username, *facts = rest.split()
            manager = next((fact[8:] for fact in facts if fact.startswith("manager=")), None)
            roles = tuple(fact[5:] for fact in facts if fact.startswith("role:"))
            groups = tuple(fact[6:] for fact in facts if fact.startswith("group:"))
            story.people.append(Person(username, manager, roles, groups))
        else:
            story.lines.append(_line(number, row))
    return story


def _line(number: int, row: str) -> Line:
    order, _, promises = row.partition("->")
    at, who, *words = shlex.split(order)
    # A comment stood in quotation marks; a field has an equals sign.
    verb = words[0] if words else ""
    fields: dict[str, Any] = {}
    comment = None
    for word in words[1:]:
        name, equals, value = word.partition("=")
        if equals and name.isidentifier():
            fields[name] = _value(value)
        else:
            comment = word
    return Line(
        number,
        row,
        _instant(at),
        who,
        verb,
        comment,
        fields,
        tuple(each.strip() for each in promises.split(",") if each.strip()),
    )


def _value(text: str) -> Any:
    try:
        return json.loads(text, parse_float=Decimal)
    except ValueError:
        return text


def _instant(text: str) -> datetime:
    return datetime.fromisoformat(text).astimezone(UTC)


async def tell(story: Story, teller: Teller) -> list[View]:
    """Tell a story line by line and hold every promise; the views after each line."""
    await teller.people(story.people)
    views: list[View] = []
    before: View | None = None
    for line in story.lines:
        await teller.move_to(line.at)
        if line.verb != "start":
            before = await teller.view()
        reason = None if line.who == "clock" else await teller.tell(line)
        view = await teller.view()
        where = f"{story.name}, line {line.number}: {line.text.strip()}"
        expected = next((promise[9:] for promise in line.promises if promise.startswith("rejected ")), None)
        assert reason == expected, f"{where}\n  rejected: {reason}"
        if expected is not None:
            assert before == view, f"{where}\n  refused, and yet something changed: {before} -> {view}"
        for promise in line.promises:
            if not promise.startswith("rejected "):
                _hold(promise, view, where)
        views.append(view)
    return views


def _hold(promise: str, view: View, where: str) -> None:
    word, _, rest = promise.partition(" ")
    if word == "asks":
        expected = () if rest == "nobody" else tuple(sorted(rest.split("+")))
        assert view.asks == expected, f"{where}\n  asks {view.asks}"
    elif word == "in":
        assert set(view.leaves) == set(rest.split("+")), f"{where}\n  in {view.leaves}"
    elif word == "due":
        assert view.due == _instant(rest), f"{where}\n  due {view.due}"
    elif word == "data":
        name, _, value = rest.partition("=")
        assert view.data.get(name) == _value(value), f"{where}\n  data {view.data}"
    elif word in {str(status) for status in Status}:
        assert view.status == word, f"{where}\n  status {view.status}"
    else:
        state = rest if word == "state" else word
        assert view.state == state, f"{where}\n  state {view.state}"
