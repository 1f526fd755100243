"""Run conformance cases of the neutral form: `python -m tests.conformance.run FOLDER`.

FOLDER holds `*.json` cases, or a `tests` folder with them; a `traces.json` beside it (or in it) adds the entry and exit
order. Prints a line for each failure and a summary, and exits with 1 when anything failed.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pliers_workflow.definition.compiler import compile_definition
from pliers_workflow.definition.findings import RUNNABLE
from pliers_workflow.definition.reading import read
from pliers_workflow.interpreter.events import StateEntered, StateExited
from pliers_workflow.interpreter.rejections import Rejection
from pliers_workflow.interpreter.simulation import Simulation
from tests.conformance.adapter import NotSupported, to_document

ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Suite:
    """Cases by name, and what is known of the order in which they enter and exit states."""

    cases: Mapping[str, Mapping[str, Any]]
    traces: Mapping[str, Sequence[Sequence[str]]]


def shared_folder() -> Path:
    """Where the shared cases lie: `PLIERS_SHARED`, else `../shared` beside the project."""
    return Path(os.environ.get("PLIERS_SHARED") or ROOT.parent / "shared") / "scxml"


def load(folder: Path) -> Suite:
    """Read a folder of cases."""
    place = folder / "tests" if (folder / "tests").is_dir() else folder
    cases = {}
    for path in sorted(place.glob("*.json")):
        case = json.loads(path.read_text())
        if isinstance(case, dict) and "statechart" in case:
            cases[case["name"]] = case
    traces = next((each for each in (folder / "traces.json", place.parent / "traces.json") if each.exists()), None)
    return Suite(cases, json.loads(traces.read_text()) if traces else {})


def run_case(case: Mapping[str, Any], trace: Sequence[Sequence[str]] | None = None) -> list[str]:
    """Run a case through the ordinary definition format and interpreter; answers what is wrong, nothing if it passed."""
    try:
        document = to_document(case)
    except NotSupported as error:
        return [f"the adapter does not know: {error}"]
    reading = read(document, only_warn=RUNNABLE)
    if reading.definition is None:
        return [f"finding {each.pointer}: {each.message}" for each in reading.findings if each.severity == "error"]
    simulation = Simulation(compile_definition(reading.definition))
    # Sends without delay are delivered before the command is over: that reading, where the case knows both.
    expected = [case["initialConfiguration"], *(each["nextConfiguration"] for each in case["events"])]
    if "settled" in case:
        expected = [case["settled"]["initialConfiguration"], *case["settled"]["events"]]
    problems: list[str] = []
    seen = 0

    def check(step: str, configuration: Sequence[str], order: Sequence[str] | None) -> None:
        nonlocal seen
        if sorted(simulation.configuration) != sorted(configuration):
            problems.append(f"{step}: expected {sorted(configuration)}, got {sorted(simulation.configuration)}")
        moves = [
            ("+" if isinstance(event, StateEntered) else "-") + event.state
            for event in simulation.events[seen:]
            if isinstance(event, StateEntered | StateExited)
        ]
        seen = len(simulation.events)
        if order is not None and moves != list(order):
            problems.append(f"{step}: expected the order {' '.join(order)}, got {' '.join(moves)}")

    orders: Sequence[Sequence[str] | None] = trace if trace is not None else [None] * (len(case["events"]) + 1)
    started = simulation.start()
    if isinstance(started, Rejection):
        return [f"start: refused, {started.message} {json.dumps(started.details, default=str)}"]
    check("start", expected[0], orders[0])
    for number, given in enumerate(case["events"], 1):
        simulation.advance(given.get("after", 0))
        simulation.fire(given["event"]["name"], given["event"].get("data"))
        check(f"event {number} ({given['event']['name']})", expected[number], orders[number])
    return problems


def main(arguments: Sequence[str]) -> int:
    """Run every case of a folder; the exit code."""
    folder = Path(arguments[0]) if arguments else shared_folder()
    suite = load(folder)
    failed = 0
    for name, case in suite.cases.items():
        try:
            problems = run_case(case, suite.traces.get(name))
        except Exception as error:
            problems = [f"{type(error).__name__}: {error}"]
        if problems:
            failed += 1
            print(f"FAILED {name}: {'; '.join(problems)}")
    traced = sum(name in suite.traces for name in suite.cases)
    print(f"{len(suite.cases) - failed} of {len(suite.cases)} cases passed ({traced} with traces) in {folder}")
    return 1 if failed or not suite.cases else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
