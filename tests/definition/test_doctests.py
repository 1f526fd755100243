"""The examples in docstrings are true."""

from __future__ import annotations

import doctest
import importlib
import pkgutil

import pytest

from pliers_workflow import definition

MODULES = [
    info.name
    for info in pkgutil.walk_packages(definition.__path__, "pliers_workflow.definition.")
    if ".expressions" not in info.name.removesuffix(".checks.expressions")
]


@pytest.mark.parametrize("name", MODULES)
def test_examples(name: str) -> None:
    """Every `>>>` of the package gives what it says."""
    assert doctest.testmod(importlib.import_module(name)).failed == 0
