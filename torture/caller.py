"""Calls that are repeated until they are answered, and the record of every one.

A call keeps its `Idempotency-Key` whatever happens: when the connection breaks, no answer comes, or a node says that it
cannot now, the same call goes to another node. The key is also written into the command itself (as a comment, a reason, a
field), so that every row of a history names the call that made it, whatever the engine's own records say.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime
from random import Random
from typing import Any, Final

import msgspec
from msgspec import Struct

from pliers_workflow.client.http import ConnectionLost, HttpClient, Response

from .model import Deed

#: Statuses that say: not now. 500 is repeated as well, and counts as a fault.
_AGAIN: Final = frozenset({429, 500, 502, 503, 504})
#: Seconds after which an answer is not waited for any longer; less than an engine may take while its database is away.
_ANSWER_WITHIN: Final = 8.0
#: How often a caller hangs up at once, and asks elsewhere: the same command is then under way at two nodes.
_IMPATIENT: Final = 0.08
_HANGS_UP_AFTER: Final = 0.04
#: Seconds after which a call is given up for good, which is a fault.
_PATIENCE: Final = 150.0
_decode = msgspec.json.Decoder().decode


class Call(Struct):
    """One command: what was wanted, and what was answered in the end."""

    #: number of the workflow it belongs to
    workflow: int
    key: str
    deed: Deed
    method: str
    path: str
    body: dict[str, Any]
    #: the highest revision of the instance that had been acknowledged when it was first sent
    known_revision: int
    sent_at: datetime
    answered_at: datetime | None = None
    #: 0 until it is answered
    status: int = 0
    answer: Any = None
    sends: int = 0
    #: what names it in the history; "": its key
    mark: str = ""
    content_type: str = "application/json"
    #: sends that nobody answered; what became of them nobody knows
    unanswered: int = 0

    @property
    def name(self) -> str:
        """What names it in the history."""
        return self.mark or self.key

    @property
    def starts(self) -> bool:
        """It begins an instance."""
        return self.deed.kind in ("start", "submit")

    @property
    def ok(self) -> bool:
        """It was accepted."""
        return 200 <= self.status < 300


class Calls:
    """All nodes, seen by all callers, with the record of what was asked and answered."""

    def __init__(self, urls: Sequence[str]) -> None:
        self._clients = [HttpClient(url, connections=64, timeout=_ANSWER_WITHIN) for url in urls]
        self.made: list[Call] = []
        self.faults: list[str] = []
        #: how calls ended that had to be repeated: by status, or `lost`
        self.repeated: Counter[str] = Counter()

    def close(self) -> None:
        """Close the connections."""
        for client in self._clients:
            client.close()

    async def send(self, call: Call, token: str, chance: Random) -> Call:
        """Send it until it is answered."""
        self.made.append(call)
        response = await self._until_answered(call, call.method, call.path, call.body, token, chance)
        if response is not None:
            call.answered_at = datetime.now(UTC)
            call.status = response.status
            call.answer = _body(response)
        return call

    async def read(self, path: str, token: str, chance: Random) -> Any:
        """Read something from some node; None: there is no such thing, or nobody answered."""
        response = await self._until_answered(None, "GET", path, None, token, chance)
        return _body(response) if response is not None and response.status == 200 else None

    async def change(self, path: str, body: dict[str, Any], token: str, chance: Random) -> None:
        """Change something that no instance's history tells of, until it is changed."""
        response = await self._until_answered(None, "PATCH", path, body, token, chance)
        if response is not None and response.status != 200:
            self.faults.append(f"PATCH {path} was answered {response.status}: {response.body[:500]!r}")

    async def _until_answered(
        self, call: Call | None, method: str, path: str, body: Any, token: str, chance: Random
    ) -> Response | None:
        headers = {"authorization": f"Bearer {token}"}
        if call is not None:
            headers["idempotency-key"] = call.key
            headers["content-type"] = call.content_type
        payload = None if body is None else msgspec.json.encode(body)
        clock = asyncio.get_running_loop().time
        give_up_at = clock() + _PATIENCE
        pause = 0.02
        while clock() < give_up_at:
            if call is not None:
                call.sends += 1
            client = chance.choice(self._clients)
            patience = chance.uniform(0, _HANGS_UP_AFTER) if call is not None and chance.random() < _IMPATIENT else None
            try:
                async with asyncio.timeout(patience):
                    response = await client.request(method, path, body=payload, headers=headers)
            except TimeoutError:
                self.repeated["hung up"] += 1
                if call is not None:
                    call.unanswered += 1
                continue
            except ConnectionLost as error:
                self.repeated["no answer" if "no answer" in str(error) else "connection lost"] += 1
                if call is not None:
                    call.unanswered += 1
            else:
                if response.status not in _AGAIN:
                    return response
                self.repeated[str(response.status)] += 1
                if response.status == 500:
                    self.faults.append(f"{method} {path} was answered 500: {response.body[:500]!r}")
            await asyncio.sleep(pause * chance.uniform(0.5, 1.5))
            pause = min(pause * 1.6, 1.0)
        self.faults.append(f"{method} {path} ({call.key if call else 'read'}) got no answer in {_PATIENCE:g} s")
        return None


def _body(response: Response) -> Any:
    try:
        return _decode(response.body) if response.body else None
    except msgspec.DecodeError:
        return response.body.decode(errors="replace")
