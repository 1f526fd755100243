"""A web service that steps call, and that cannot be relied on. It remembers whom it has done a favour.

What it does with a request depends on the seed, what is asked for, and the attempt: mostly it answers; sometimes late, or
with an error, before or after the work was done; it breaks the connection, or says nothing at all; it answers twice on
one connection, so that a caller who reads carelessly takes the second answer for that to the next request.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections import Counter
from datetime import UTC, datetime
from random import Random
from typing import Any, Final

from msgspec import Struct

#: What it does, and how often.
_MOODS: Final = {
    "answers": 50,
    "answers late": 14,
    "fails": 8,
    "is busy": 3,
    "works and fails": 5,
    "breaks": 5,
    "works and breaks": 5,
    "works and is silent": 3,
    "answers twice": 5,
    "refuses": 1,
}
#: seconds of silence; longer than a step waits
_SILENCE: Final = 20.0


class Favour(Struct, frozen=True):
    """Something that was done: for which attempt, and when."""

    at: datetime
    what: str


class Outside:
    """The service, on 127.0.0.1."""

    def __init__(self, seed: str) -> None:
        self._seed = seed
        self._server: asyncio.Server | None = None
        self.port = 0
        #: what was done, by Idempotency-Key; once for each request that came so far
        self.favours: dict[str, list[Favour]] = {}
        self.moods: Counter[str] = Counter()

    @property
    def url(self) -> str:
        """Where it is."""
        return f"http://127.0.0.1:{self.port}"

    async def start(self) -> None:
        """Listen."""
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        """Listen no more."""
        if self._server is not None:
            self._server.close()
            self._server = None

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while await self._answer(reader, writer):
                pass
        except (OSError, EOFError, asyncio.LimitOverrunError, ValueError, KeyError, asyncio.CancelledError):
            pass  # a caller that was killed in the middle; or the end of it all
        finally:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """Answer one request; whether the connection is good for another."""
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in head[1:])}
        body = json.loads(await reader.readexactly(int(headers.get("content-length", 0))))
        key = headers["idempotency-key"]
        what, attempt = head[0].split(" ")[1].strip("/"), key.rpartition(":")[2]
        chance = Random(f"{self._seed}/outside/{body['mark']}/{what}/{attempt}")
        mood = chance.choices(list(_MOODS), list(_MOODS.values()))[0]
        if what == "release" and mood == "refuses":
            mood = "fails"  # what undoes something may fail, but not for good
        self.moods[mood] += 1
        if mood == "answers late":
            await asyncio.sleep(chance.uniform(0.1, 1.5))
        if mood in ("answers", "answers late", "answers twice") or mood.startswith("works"):
            self.favours.setdefault(key, []).append(Favour(datetime.now(UTC), what))
        if mood.endswith("breaks"):
            return False
        if mood.endswith("silent"):
            await asyncio.sleep(_SILENCE)
            return False
        if mood.endswith("fails"):
            self._write(writer, chance.choice((500, 502, 503)), {})
        elif mood == "is busy":
            self._write(writer, 429, {}, "retry-after: 1\r\n")
        elif mood == "refuses":
            self._write(writer, 404, {})
        else:
            for _ in range(2 if mood == "answers twice" else 1):
                self._write(writer, 200, {"ticket": key})
        await writer.drain()
        return True

    @staticmethod
    def _write(writer: asyncio.StreamWriter, status: int, content: Any, headers: str = "") -> None:
        body = json.dumps(content).encode()
        head = f"HTTP/1.1 {status} So\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n{headers}\r\n"
        writer.write(head.encode() + body)
