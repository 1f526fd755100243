"""The examples in docstrings are true."""

from __future__ import annotations

import doctest
import importlib
import pkgutil

import pytest

from pliers_workflow import definition, interpreter

MODULES = [
    info.name
    for package in (definition, interpreter)
    for info in pkgutil.walk_packages(package.__path__, f"{package.__name__}.")
    if ".expressions" not in info.name.removesuffix(".checks.expressions")
]


@pytest.mark.parametrize("name", MODULES)
def test_examples(name: str) -> None:
    """Every `>>>` of the package gives what it says."""
    assert doctest.testmod(importlib.import_module(name)).failed == 0
