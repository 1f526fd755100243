"""`pliers replay --whole-cases`: trips, permits and declarations made up here, on a clock that is moved over REST."""

from __future__ import annotations

import json
import random
from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from pliers_workflow import examples
from pliers_workflow.replay.cases import Step, walk
from pliers_workflow.replay.travel import Row
from pliers_workflow.replay.trip import permit_rows

from .test_replay import run

TABLE = examples.load("travel_declaration")["metadata"]["table"]
ROWS = [Row(*row) for row in TABLE]
DAY = timedelta(days=1)


def made_up(folder: Path, count: int, *, seed: int) -> tuple[Path, Path, int]:
    """A log of whole trips, what is to be expected of their documents, and how many reminders there must be."""
    chance = random.Random(seed)
    log = folder / "trips.jsonl"
    steps: dict[str, dict[str, list[Step]]] = {"Permit": {}, "Declaration": {}}
    reminders = 0
    with log.open("w") as file:
        for number in range(count):
            begins = datetime(2026, 1, 1, tzinfo=UTC) + chance.randrange(200) * DAY
            ended = begins + chance.randrange(1, 5) * DAY
            events = [(begins, {"a": "Start trip"}), (ended, {"a": "End trip"})]
            for document, rows, at in (
                ("Permit", permit_rows(ROWS, "new"), begins - 5 * DAY),
                (
                    "Declaration",
                    ROWS,
                    ended + timedelta(days=chance.randrange(-20, 100), seconds=chance.randrange(9999)),
                ),
            ):
                if document == "Permit" and chance.random() < 0.2:
                    continue
                done = list(_walked(chance, rows))
                steps[document][str(number)] = done
                for position, step in enumerate(done):
                    event = {
                        "a": f"{document} {step.act} by {step.by}",
                        "doc": document,
                        "act": step.act,
                        "by": step.by,
                    }
                    events.append((at + position * timedelta(hours=7), event))
                if document == "Declaration":
                    reminders += max(0, (at - ended) // (30 * DAY))
            events.sort(key=lambda each: each[0])
            told = [{"t": at.isoformat(), **event} for at, event in events]
            file.write(json.dumps({"case": str(number), "attrs": {"amount": number}, "events": told}) + "\n")
    logs = {f"trips#{document}": _expected(document, cases) for document, cases in steps.items()}
    expected = folder / "expected.json"
    expected.write_text(json.dumps({"start": "new", "table": TABLE, "logs": logs}))
    return log, expected, reminders


def _walked(chance: random.Random, rows: list[Row]) -> list[Step]:
    state, steps = "new", []
    for _ in range(chance.randrange(1, 7)):
        leaving = [row for row in rows if row.state == state and row.by]
        if not leaving:
            break
        row = chance.choice(leaving if chance.random() < 0.93 else [each for each in rows if each.by])
        steps.append(Step(row.act, row.by))
        state = row.to
    return steps


def _expected(document: str, cases: dict[str, list[Step]]) -> dict[str, Any]:
    rows = permit_rows(ROWS, "new") if document == "Permit" else ROWS
    outcomes = {case: walk(rows, "new", steps) for case, steps in cases.items()}
    refused = {case: [one.refused.state, one.refused.index] for case, one in outcomes.items() if one.refused}
    return {
        "cases": len(cases),
        "replayed": len(cases) - len(refused),
        "final_states": Counter(one.states[-1] for one in outcomes.values() if one.refused is None),
        "refused": refused,
    }


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_whole_trips_on_a_virtual_clock(tmp_path: Path, database: str) -> None:
    """Permit and declaration, parent and sub-workflow, each go by the table; the reminders are those of the rule."""
    log, expected, reminders = made_up(tmp_path, 60, seed=11)
    status, summary, told = run(log, "--expected", expected, "--whole-cases", "--database-url", database)
    assert (status, summary["differences"]) == (0, 0), told
    assert summary["reminders"] == summary["reminders_by_the_rule"] == reminders
    assert reminders > 0
    assert all(document["refused"] > 0 for document in summary["documents"].values())


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_difference_in_a_whole_case_is_found(tmp_path: Path, database: str) -> None:
    """An expectation that is wrong about one permit makes the status 1 and names the case."""
    log, expected, _ = made_up(tmp_path, 12, seed=3)
    content = json.loads(expected.read_text())
    permits = content["logs"]["trips#Permit"]
    case = next(iter(permits["refused"]), "0")
    permits["refused"][case] = ["new", 99]
    expected.write_text(json.dumps(content))
    status, summary, told = run(log, "--expected", expected, "--whole-cases", "--database-url", database)
    assert status == 1
    assert summary["differences"] >= 1
    assert case in told
