"""The page on control-flow patterns and the tests that show them say the same."""

from __future__ import annotations

import ast
import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "reference" / "control-flow-patterns.md"


def shown() -> dict[str, set[int]]:
    """By test: the numbers of the patterns that its docstring names."""
    found: dict[str, set[int]] = {}
    for file in sorted((ROOT / "tests" / "patterns").glob("test_*.py")):
        for node in ast.parse(file.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.FunctionDef) and node.name.startswith("test_"):
                named = re.match(r"\s*WCP-(\d+)(?: and (\d+))?", ast.get_docstring(node) or "")
                assert named is not None, f"{node.name} does not say which pattern it shows"
                found.setdefault(node.name, set()).update(int(number) for number in named.groups() if number)
    return found


def test_every_row_has_its_test() -> None:
    """Each pattern of the table is shown by the test it names, and no pattern is shown that the table leaves out."""
    tests = shown()
    told: set[int] = set()
    for numbers, test in re.findall(
        r"^\| ([\d, ]+) \|.*`(test_\w+)` \|$", PAGE.read_text(encoding="utf-8"), re.MULTILINE
    ):
        of_row = {int(number) for number in numbers.split(",")}
        assert of_row <= tests[test], f"{test} does not show {sorted(of_row)}"
        told |= of_row
    assert told == set().union(*tests.values())
    assert len(told) >= 24
