"""The shared SCXML cases: every configuration, and the order of every entry and exit."""

from __future__ import annotations

import pytest

from tests.conformance.run import Suite, load, run_case, shared_folder

FOLDER = shared_folder()
SUITE = load(FOLDER) if FOLDER.is_dir() else Suite({}, {})

pytestmark = pytest.mark.skipif(
    not SUITE.cases, reason=f"no conformance cases in {FOLDER}; PLIERS_SHARED names the folder that holds them"
)


@pytest.mark.parametrize("name", sorted(SUITE.cases))
def test_case(name: str) -> None:
    """The configuration after each event is the expected one, reached by the W3C algorithm's exits and entries."""
    assert run_case(SUITE.cases[name], SUITE.traces.get(name)) == []


def test_no_case_was_lost() -> None:
    """The suite is the hundred cases its README speaks of, each with a trace."""
    assert len(SUITE.cases) >= 100
    assert SUITE.traces.keys() >= SUITE.cases.keys()
