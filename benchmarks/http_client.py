"""The load generator for HTTP: a process of its own, the same for the engine and for the bare endpoint.

`python -m benchmarks.http_client PLAN.json` prints one line of JSON: transitions, seconds, latencies in seconds.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

import uvloop

from pliers_workflow.client.http import HttpClient
from pliers_workflow.storage.identity import new_instance_id

from .workload import DATA


def _bytes(value: Any) -> bytes:
    return json.dumps(value, default=float).encode()


_START = _bytes({"data": DATA})


class Load:
    """Callers that run workflows over HTTP."""

    def __init__(self, plan: dict[str, Any]) -> None:
        self.plan = plan
        self.http = HttpClient(plan["url"], connections=plan["callers"])
        self.latencies: list[float] = []
        self.errors: list[str] = []

    async def _post(self, path: str, token: str, body: bytes, due: float | None) -> bytes:
        headers = {"authorization": f"Bearer {token}", "idempotency-key": uuid4().hex} if token else {}
        began = time.perf_counter() if due is None else due
        response = await self.http.request("POST", path, body=body, headers=headers)
        self.latencies.append(time.perf_counter() - began)
        if response.status >= 300:
            raise SystemExit(f"{path} answered {response.status}: {response.body[:500]!r}")
        return response.body

    async def workflow(self, pace: Any = None) -> None:
        """One workflow; `pace` gives the moment at which each request is due."""
        plan = self.plan
        if plan["kind"] == "bare":
            instance = new_instance_id(datetime.now(UTC))  # as the engine's: they grow with time
            for step in range(4):
                body = _bytes({"id": instance, "data": DATA if step == 0 else {}, "comments": "fine by me"})
                await self._post(f"/transition/{step}", "", body, await pace() if pace else None)
            return
        tokens = plan["tokens"]
        created = await self._post(
            f"/api/v1/workflows/{plan['workflow']}/instances", tokens["ada"], _START, await pace() if pace else None
        )
        path = f"/api/v1/workflow-instances/{json.loads(created)['id']}"
        for suffix, user, body in (
            ("advance", "ada", {"trigger": "submit"}),
            ("approve", "grace", {"comments": "fine by me"}),
            ("approve", "edsger", {}),
        ):
            await self._post(f"{path}/{suffix}", tokens[user], _bytes(body), await pace() if pace else None)

    async def closed(self, seconds: float) -> float:
        """Callers without think time; the seconds it took."""

        async def caller(until: float) -> None:
            while time.perf_counter() < until:
                await self.workflow()

        began = time.perf_counter()
        await asyncio.gather(*(caller(began + seconds) for _ in range(self.plan["callers"])))
        return time.perf_counter() - began

    async def open(self, seconds: float, rate: float) -> float:
        """Requests due at a fixed rate, whether or not the ones before were answered; the seconds it took."""
        began = time.perf_counter()
        count = 0

        async def pace() -> float:
            nonlocal count
            due = began + count / rate
            count += 1
            wait = due - time.perf_counter()
            if wait > 0:
                await asyncio.sleep(wait)
            return due

        async def caller() -> None:
            while time.perf_counter() < began + seconds:
                await self.workflow(pace)

        await asyncio.gather(*(caller() for _ in range(self.plan["callers"])))
        return time.perf_counter() - began


async def main(plan: dict[str, Any]) -> None:
    load = Load(plan)
    await load.closed(1.0)
    load.latencies.clear()
    rate = plan.get("rate")
    seconds = await (load.open(plan["seconds"], rate) if rate else load.closed(plan["seconds"]))
    load.http.close()
    print(json.dumps({"transitions": len(load.latencies), "seconds": seconds, "latencies": load.latencies}))


if __name__ == "__main__":
    uvloop.run(main(json.loads(Path(sys.argv[1]).read_text())))
