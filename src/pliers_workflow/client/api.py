"""The calls that demo and replay make, and how a call is repeated without taking effect twice.

Every mutating call carries an `Idempotency-Key`. When the connection breaks, or the server answers that it is busy or
going down, the same call is sent again with the same key: if it had taken effect after all, the server gives the answer
it would have given. So one call here is one effect there, whatever is killed in between.
"""

from __future__ import annotations

import asyncio
import random
import uuid
from decimal import Decimal
from typing import Any
from urllib.parse import quote, urlencode

import msgspec

from .http import ConnectionLost, HttpClient, Response

_decode = msgspec.json.Decoder(float_hook=Decimal).decode
_encode = msgspec.json.Encoder(decimal_format="number").encode

#: Statuses that say: not now, but nothing has happened.
_AGAIN = frozenset({429, 502, 503, 504})


class Answer(msgspec.Struct, frozen=True):
    """What the server said: the status, the decoded body, and its headers."""

    status: int
    body: Any
    headers: dict[str, str]

    @property
    def ok(self) -> bool:
        """The call took effect, or the thing asked for is here."""
        return 200 <= self.status < 300

    @property
    def sentence(self) -> str:
        """What a problem says to people."""
        if isinstance(self.body, dict):
            for key in ("detail", "title"):
                if self.body.get(key):
                    return f"{self.status}: {self.body[key]}"
        return f"status {self.status}"


class Unexpected(Exception):
    """An answer that the caller had no use for; the message repeats what the server said."""

    def __init__(self, method: str, path: str, answer: Answer) -> None:
        super().__init__(f"{method} {path} was answered {answer.sentence}")
        self.answer = answer


class Api:
    """One server, seen with one token at a time."""

    def __init__(self, http: HttpClient, token: str, *, patience: float = 120.0) -> None:
        self._http = http
        self._token = token
        #: seconds for which a call is repeated while the server is away
        self._patience = patience
        #: calls that had to be sent again
        self.repeated = 0

    def as_user(self, token: str) -> Api:
        """The same server with another token, over the same connections."""
        return Api(self._http, token, patience=self._patience)

    async def call(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        query: dict[str, Any] | None = None,
        if_match: int | None = None,
        key: str | None = None,
    ) -> Answer:
        """
        Make one call and give its answer, whatever that is.

        `key` is the Idempotency-Key; a mutating call without one gets its own. Raises `ConnectionLost` when the server
        stays away for longer than our patience.
        """
        headers = {"authorization": f"Bearer {self._token}"}
        if method != "GET":
            headers["idempotency-key"] = key or str(uuid.uuid4())
        if if_match is not None:
            headers["if-match"] = f'"{if_match}"'
        if query:
            path = f"{path}?{urlencode({name: value for name, value in query.items() if value is not None})}"
        payload = None if body is None else _encode(body)
        clock = asyncio.get_running_loop().time
        give_up_at = clock() + self._patience
        pause = 0.05
        while True:
            try:
                response = await self._http.request(method, path, body=payload, headers=headers)
                if response.status not in _AGAIN or clock() > give_up_at:
                    return _answer(response)
                pause = max(pause, min(_seconds(response.headers.get("retry-after")), 5.0))
            except ConnectionLost:
                if clock() > give_up_at:
                    raise
            self.repeated += 1
            await asyncio.sleep(pause * random.uniform(0.5, 1.0))
            pause = min(pause * 1.7, 2.0)

    async def get(self, path: str, **query: Any) -> Any:
        """The body of a GET that has to succeed."""
        return await self.do("GET", path, query=query)

    async def do(self, method: str, path: str, body: Any = None, **options: Any) -> Any:
        """The body of a call that has to succeed. Raises `Unexpected`."""
        answer = await self.call(method, path, body, **options)
        if not answer.ok:
            raise Unexpected(method, path, answer)
        return answer.body

    async def pages(self, path: str, **query: Any) -> list[Any]:
        """All items of a listing, page by page."""
        items: list[Any] = []
        cursor: str | None = None
        while True:
            page = await self.get(path, **query, cursor=cursor)
            items.extend(page["items"])
            cursor = page.get("nextCursor")
            if not cursor:
                return items


def segment(text: str) -> str:
    """Text as one segment of a path."""
    return quote(text, safe="")


def _answer(response: Response) -> Answer:
    body: Any = None
    if response.body:
        try:
            body = _decode(response.body)
        except msgspec.DecodeError:
            body = response.body.decode(errors="replace")
    return Answer(response.status, body, response.headers)


def _seconds(text: str | None) -> float:
    try:
        return float(text or 0)
    except ValueError:
        return 0.0
