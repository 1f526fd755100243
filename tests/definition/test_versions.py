"""Versions: order, ranges, and the lowest number that may follow a change."""

from __future__ import annotations

import pytest

from pliers_workflow.definition import versions
from tests.charts import load

# SemVer 2.0.0 §11, and numbers that sort wrongly as text
ORDER = ["0.9.9", "1.0.0-alpha", "1.0.0-alpha.1", "1.0.0-alpha.beta", "1.0.0-beta", "1.0.0-beta.2", "1.0.0-beta.11",
         "1.0.0-rc.1", "1.0.0", "1.2.0", "1.10.0", "2.0.0"]  # fmt: skip


def test_order() -> None:
    """Precedence is SemVer's: numbers as numbers, a pre-release below its release."""
    for position, version in enumerate(ORDER):
        assert versions.compare(version, version) == 0
        assert all(versions.compare(lower, version) == -1 for lower in ORDER[:position])
        assert all(versions.compare(higher, version) == 1 for higher in ORDER[position + 1 :])


@pytest.mark.parametrize("text", ["1", "1.0", "v1.0.0", "01.0.0", "1.0.0+build", "", "x", "1.0.0-01", "9" * 101])
def test_what_is_no_version(text: str) -> None:
    """A wrong version is refused with a sentence; build metadata, which has no order, too."""
    with pytest.raises(ValueError, match=r"version|metadata"):
        versions.parse(text)


RANGES = [
    # range, inside, outside
    ("^1.2", ["1.2.0", "1.9.9"], ["1.1.9", "2.0.0", "2.0.0-rc.1", "1.3.0-rc.1"]),
    ("^1.2.3", ["1.2.3", "1.10.0"], ["1.2.2", "2.0.0"]),
    ("^0.2.3", ["0.2.3", "0.2.9"], ["0.3.0", "1.0.0", "0.2.2"]),
    ("^0.0.3", ["0.0.3"], ["0.0.4"]),
    ("^0.0", ["0.0.0", "0.0.9"], ["0.1.0"]),
    ("^1", ["1.0.0", "1.99.0"], ["0.9.0", "2.0.0"]),
    ("~1.2.3", ["1.2.3", "1.2.99"], ["1.3.0", "1.2.2"]),
    ("~1.2", ["1.2.0"], ["1.3.0"]),
    ("~1", ["1.0.0", "1.9.0"], ["2.0.0"]),
    ("1.x", ["1.0.0", "1.5.3"], ["2.0.0", "0.9.0"]),
    ("1.2.*", ["1.2.0"], ["1.3.0"]),
    ("1", ["1.0.0", "1.9.0"], ["2.0.0"]),
    ("*", ["0.0.1", "9.0.0"], ["1.0.0-rc.1"]),
    ("x", ["1.0.0"], []),
    (">=1 <2", ["1.0.0", "1.9.9"], ["2.0.0", "0.9.9", "2.0.0-rc.1"]),
    (">=1.2.0 <1.4", ["1.2.0", "1.3.9"], ["1.4.0", "1.4.0-rc.1"]),
    (">1", ["2.0.0"], ["1.0.0", "1.9.9"]),
    ("<=1", ["1.9.9", "0.1.0"], ["2.0.0"]),
    (">1.2.3", ["1.2.4"], ["1.2.3"]),
    ("1.2.3", ["1.2.3"], ["1.2.4", "1.2.3-rc.1"]),
    ("=1.2.3", ["1.2.3"], ["1.2.4"]),
    ("1.0.0 || ^2", ["1.0.0", "2.5.0"], ["1.0.1", "3.0.0"]),
    ("^1.2.3-rc.1", ["1.2.3-rc.1", "1.2.3-rc.2", "1.2.3", "1.5.0"], ["1.3.0-rc.1", "1.2.3-beta"]),
    ("1.0.0-rc.1", ["1.0.0-rc.1"], ["1.0.0"]),
]


@pytest.mark.parametrize(("range", "inside", "outside"), RANGES, ids=[row[0] for row in RANGES])
def test_ranges(range: str, inside: list[str], outside: list[str]) -> None:
    """Ranges mean what npm means by them."""
    assert versions.is_range(range)
    assert [version for version in inside if not versions.matches(range, version)] == []
    assert [version for version in outside if versions.matches(range, version)] == []


@pytest.mark.parametrize("range", ["", "  ", "latest", "^", ">= ", "1.2.3.4", "1 || ", "^1.2 nope", "a" * 300])
def test_what_is_no_range(range: str) -> None:
    """A wrong range is refused with a sentence."""
    assert not versions.is_range(range)
    with pytest.raises(ValueError, match=r"[Rr]ange|alternative"):
        versions.matches(range, "1.0.0")


NEXT = [
    ("1.4.2", "major", "2.0.0"),
    ("1.4.2", "minor", "1.5.0"),
    ("1.4.2", "patch", "1.4.3"),
    ("0.4.2", "major", "0.5.0"),
    ("0.4.2", "patch", "0.4.3"),
    ("1.0.0-rc.1", "major", "1.0.0-rc.2"),
    ("1.0.0-rc", "minor", "1.0.0-rc.1"),
]


@pytest.mark.parametrize(("before", "change", "lowest"), NEXT)
def test_the_lowest_next_version(before: str, change: versions.Change, lowest: str) -> None:
    """A change asks for its own number; below 1.0.0 for one less, and after a pre-release for any higher version."""
    found = versions.next_version(versions.parse(before), change)
    assert str(found) == lowest
    assert found > versions.parse(before)


def test_smallest_allowed() -> None:
    """The documents' difference decides; without one the version may stay."""
    old, new = load("expense_report"), load("expense_report")
    assert versions.smallest_allowed(old, "1.0.0", new) == (None, "1.0.0")
    new["title"] = "Expenses"
    assert versions.smallest_allowed(old, "1.0.0", new) == ("patch", "1.0.1")
    new["stateMachine"]["states"]["archived"] = {}
    assert versions.smallest_allowed(old, "1.0.0", new) == ("minor", "1.1.0")
    del new["stateMachine"]["states"]["approved"]
    assert versions.smallest_allowed(old, "1.0.0", new) == ("major", "2.0.0")


def test_allows() -> None:
    """A pre-release of the lowest allowed version will do; of a lower one not."""
    assert versions.allows("1.1.0", "1.1.0")
    assert versions.allows("1.1.0", "3.0.0")
    assert versions.allows("1.1.0", "1.1.0-beta")
    assert not versions.allows("1.1.0", "1.0.9")
