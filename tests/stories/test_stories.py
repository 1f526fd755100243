"""Every transcript holds on the bare interpreter, and the same again through REST and PostgreSQL."""

from __future__ import annotations

from pathlib import Path

import httpx
import pytest

from pliers_workflow import examples
from pliers_workflow.app import create_app
from pliers_workflow.runtime.engine import open_engine
from pliers_workflow.settings import DatabaseSettings, Settings

from .bare import Bare
from .rest import Rest
from .transcript import read, tell

PATHS = sorted((Path(__file__).parent / "transcripts").glob("*.story"))


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)
async def test_the_story_holds_on_the_bare_interpreter(path: Path) -> None:
    """What the transcript promises after each line is what the interpreter comes to."""
    story = read(path)
    await tell(story, Bare(story.chart))


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)
async def test_the_story_holds_through_rest_and_postgresql(path: Path, database: str) -> None:
    """The same promises hold with tokens, HTTP and the database in between, and both tellings look the same."""
    story = read(path)
    engine = await open_engine(Settings(database=DatabaseSettings(url=database)))
    await engine.start(services=False)
    try:
        transport = httpx.ASGITransport(app=create_app(engine, owns_engine=False))
        async with httpx.AsyncClient(transport=transport, base_url="http://engine") as http:
            told = await tell(story, Rest(engine, http, story.chart))
    finally:
        await engine.close()
    assert told == await tell(story, Bare(story.chart))


def test_every_example_has_a_story() -> None:
    """A definition that ships with the package is told at least once; the replay tells the travel declaration and the trip."""
    told = {read(path).chart for path in PATHS}
    assert told == set(examples.NAMES) - {"travel_declaration", "business_trip"}
