"""What a bare FastAPI endpoint costs that makes one such transaction and nothing else.

Started by `benchmarks.over_http` with uvicorn; the statements come in a file named by the environment.
"""

from __future__ import annotations

import json
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from uuid import UUID

import asyncpg
from fastapi import FastAPI
from pydantic import BaseModel

STATEMENTS: list[str] = json.loads(Path(os.environ["BENCH_STATEMENTS"]).read_text())


class NoReset(asyncpg.Connection):  # type: ignore[type-arg]  # not generic at run time
    """As in the engine: no reset query on every release."""

    def get_reset_query(self) -> str:
        return ""


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    async with asyncpg.create_pool(
        os.environ["BENCH_DSN"],
        min_size=16,
        max_size=16,
        connection_class=NoReset,
        max_cacheable_statement_size=1 << 20,
    ) as pool:
        app.state.pool = pool
        yield


app = FastAPI(lifespan=lifespan)


class Transition(BaseModel):
    id: UUID
    comments: str | None = None
    data: dict[str, Any] = {}


@app.post("/transition/{step}")
async def transition(step: int, body: Transition) -> dict[str, Any]:
    """One transition, one transaction, one statement."""
    async with app.state.pool.acquire() as connection:
        done = await connection.fetchval(STATEMENTS[step], body.id)
    return {"id": body.id, "done": done, "revision": step + 1}
