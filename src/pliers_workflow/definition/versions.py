"""Version numbers of definitions: Semantic Versioning 2.0.0 without build metadata, and ranges of them.

Ranges are written as npm writes them: `^1.2`, `~1.2.3`, `1.x`, `>=1 <2`, `1.0.0 || ^2`, or one exact version. A
pre-release is only in a range that names a pre-release of the same version, so that nobody gets one by accident.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any, Final, Literal, TypeAlias

import semver

from .diff import compare as compare_definitions
from .document import WorkflowDefinition

Version: TypeAlias = semver.Version
Change: TypeAlias = Literal["major", "minor", "patch"]

_PARTIAL: Final = re.compile(
    r"[v=]?(?P<major>\d{1,9}|[xX*])(?:\.(?P<minor>\d{1,9}|[xX*])(?:\.(?P<patch>\d{1,9}|[xX*])(?:-(?P<pre>[0-9A-Za-z.-]+))?)?)?"
)
_COMPARATOR: Final = re.compile(r"(\^|~|>=|<=|>|<|=)?\s*([^\s<>=^~|]+)")


def parse(text: str) -> Version:
    """
    Read a version. Raises `ValueError` with a sentence.

    >>> str(parse("1.2.3-rc.1"))
    '1.2.3-rc.1'
    """
    if not isinstance(text, str) or len(text) > 100:
        raise ValueError("A version looks like `1.0.0` or `2.1.0-beta.1`.")
    try:
        version = semver.Version.parse(text)
    except ValueError:
        raise ValueError(f"`{text}` is no semantic version; one looks like `1.0.0` or `2.1.0-beta.1`.") from None
    if version.build is not None:
        raise ValueError(f"`{text}` has build metadata, which says nothing about order; leave `+{version.build}` out.")
    return version


def compare(one: str, other: str) -> int:
    """
    Give -1, 0 or 1 as one version is lower than, equal to or higher than another (SemVer §11).

    >>> compare("1.0.0-alpha", "1.0.0"), compare("1.10.0", "1.9.0")
    (-1, 1)
    """
    return parse(one).compare(parse(other))


def is_range(text: str) -> bool:
    """Whether a text is a range or an exact version."""
    try:
        _range(text)
    except ValueError:
        return False
    return True


def matches(range: str, version: str) -> bool:
    """
    Say whether a version lies in a range. Raises `ValueError` with a sentence for what is no range or no version.

    >>> matches("^1.2", "1.9.0"), matches("^1.2", "2.0.0"), matches("~1.2.3", "1.2.9"), matches("1.x", "1.5.0")
    (True, False, True, True)
    """
    found = parse(version)
    return any(_within(alternative, found) for alternative in _range(range))


#: comparison, version it compares with
_Bound: TypeAlias = tuple[str, Version]
_COMPARE: Final[Mapping[str, Callable[[int], bool]]] = {
    ">=": lambda order: order >= 0,
    "<": lambda order: order < 0,
    ">": lambda order: order > 0,
    "<=": lambda order: order <= 0,
    "=": lambda order: order == 0,
}


def _within(bounds: tuple[_Bound, ...], version: Version) -> bool:
    if not all(_COMPARE[operator](version.compare(bound)) for operator, bound in bounds):
        return False
    if version.prerelease is None:
        return True
    # `2.0.0-0` as an upper bound only keeps pre-releases of 2.0.0 out; nobody wrote it.
    return any(
        bound.prerelease not in (None, "0") and bound.to_tuple()[:3] == version.to_tuple()[:3] for _, bound in bounds
    )


@lru_cache(maxsize=1000)
def _range(text: str) -> tuple[tuple[_Bound, ...], ...]:
    if not isinstance(text, str) or len(text) > 200:
        raise ValueError("A range of versions looks like `^1.2`, `~1.2.3`, `1.x` or `>=1.0.0 <2.0.0`.")
    return tuple(_alternative(part.strip(), text) for part in text.split("||"))


def _alternative(part: str, text: str) -> tuple[_Bound, ...]:
    if part == "":
        if text.strip() == "":
            raise ValueError("The range of versions is empty; write `*` for any version.")
        raise ValueError(f"`{text}` has an empty alternative.")
    position, bounds = 0, []
    while position < len(part):
        match = _COMPARATOR.match(part, position)
        if match is None:
            raise ValueError(f"`{text}` is no range of versions; one looks like `^1.2`, `~1.2.3`, `1.x` or `>=1 <2`.")
        bounds += _bounds(match[1] or "", match[2], text)
        position = match.end()
        while position < len(part) and part[position] == " ":
            position += 1
    return tuple(bounds)


def _bounds(operator: str, partial: str, text: str) -> list[_Bound]:
    match = _PARTIAL.fullmatch(partial)
    if match is None:
        raise ValueError(f"`{text}` is no range of versions: `{partial}` is no version or part of one.")
    numbers = []
    for name in ("major", "minor", "patch"):
        if match[name] is None or match[name] in "xX*":
            break
        numbers.append(int(match[name]))
    lowest = parse(".".join(map(str, [*numbers, 0, 0, 0][:3])) + (f"-{match['pre']}" if match["pre"] else ""))
    whole = len(numbers) == 3
    if not numbers:
        return [] if operator in ("", "=", "^", "~", ">=", "<=") else [("<", parse("0.0.0-0"))]
    if operator == "^":
        # what may change without breaking: all below the first number that is not zero
        place = next((index for index, number in enumerate(numbers) if number), len(numbers) - 1)
        return [(">=", lowest), ("<", _after(numbers, place))]
    if operator == "~":
        return [(">=", lowest), ("<", _after(numbers, min(1, len(numbers) - 1)))]
    if operator in ("", "="):
        return [("=", lowest)] if whole else [(">=", lowest), ("<", _after(numbers, len(numbers) - 1))]
    if whole or operator in (">=", "<"):
        return [(operator, lowest if whole or operator == ">=" else parse(f"{lowest}-0"))]
    above = _after(numbers, len(numbers) - 1)
    return [(">=", parse(str(above).removesuffix("-0")))] if operator == ">" else [("<", above)]


def _after(numbers: list[int], place: int) -> Version:
    """The first version, pre-releases included, past those that share the numbers up to a place."""
    major, minor, patch = [*numbers[:place], numbers[place] + 1, 0, 0, 0][:3]
    return semver.Version(major, minor, patch, prerelease="0")


def smallest_allowed(
    previous: Mapping[str, Any] | WorkflowDefinition, previous_version: str, new: Mapping[str, Any] | WorkflowDefinition
) -> tuple[Change | None, str]:
    """
    Say how much a document has changed, and the lowest version number the new one may have.

    Without a change it is the version before. Below 1.0.0 the second number stands for breaking changes (SemVer §4), and
    after a pre-release any higher version will do. Raises `pydantic.ValidationError` for documents of another shape.
    """
    difference = compare_definitions(_definition(previous), _definition(new))
    before = parse(previous_version)
    if difference.change == "none":
        return None, previous_version
    return difference.change, str(next_version(before, difference.change))


def next_version(before: Version, change: Change) -> Version:
    """
    Give the lowest version that may follow one with such a change.

    >>> str(next_version(parse("1.4.2"), "minor")), str(next_version(parse("0.4.2"), "major"))
    ('1.5.0', '0.5.0')
    """
    if before.prerelease is not None:
        return (
            before.bump_prerelease()
            if before.prerelease[-1].isdigit()
            else before.replace(prerelease=f"{before.prerelease}.1")
        )
    if change == "major":
        return before.bump_major() if before.major else before.bump_minor()
    return before.bump_minor() if change == "minor" else before.bump_patch()


def allows(minimum: str, version: str) -> bool:
    """
    Say whether a version is high enough; a pre-release of the lowest allowed version is.

    >>> allows("2.0.0", "2.0.0-rc.1"), allows("2.0.0", "1.9.9")
    (True, False)
    """
    lowest, found = parse(minimum), parse(version)
    return found >= lowest or (found.prerelease is not None and found.finalize_version() >= lowest)


def _definition(document: Mapping[str, Any] | WorkflowDefinition) -> WorkflowDefinition:
    if isinstance(document, WorkflowDefinition):
        return document
    return WorkflowDefinition.model_validate(document, by_alias=True, by_name=False)
