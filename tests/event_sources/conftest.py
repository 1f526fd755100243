"""A post office: parcels are workflows, and what is told of them comes out of brokers."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from .office import Office, office_on


@pytest.fixture
async def office(database: str) -> AsyncIterator[Office]:
    """One node at work, with its API."""
    async with office_on(database) as made:
        yield made
