"""Every transcript holds on the bare interpreter, and the same again through REST and PostgreSQL."""

from __future__ import annotations

from pathlib import Path

import pytest

from pliers_workflow import examples

from .bare import Bare
from .transcript import read, tell

PATHS = sorted((Path(__file__).parent / "transcripts").glob("*.story"))


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)
async def test_the_story_holds_on_the_bare_interpreter(path: Path) -> None:
    """What the transcript promises after each line is what the interpreter comes to."""
    story = read(path)
    await tell(story, Bare(story.chart))


def test_every_example_has_a_story() -> None:
    """A definition that ships with the package is told at least once; the replay tells the travel declaration."""
    told = {read(path).chart for path in PATHS}
    assert told == set(examples.NAMES) - {"travel_declaration"}
