"""Examples in docstrings of the outer packages give what they say; those of the pure ones are with their tests."""

from __future__ import annotations

import doctest
import importlib
import pkgutil

import pytest

import pliers_workflow

_WITH_THEIR_TESTS = ("definition", "interpreter", "__main__", "storage.embedded.__main__")
MODULES = [
    info.name
    for info in pkgutil.walk_packages(pliers_workflow.__path__, "pliers_workflow.")
    if not info.name.removeprefix("pliers_workflow.").startswith(_WITH_THEIR_TESTS)
]


@pytest.mark.parametrize("name", MODULES)
def test_examples(name: str) -> None:
    """Every `>>>` of a module gives what it says."""
    assert doctest.testmod(importlib.import_module(name)).failed == 0
