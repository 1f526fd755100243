"""The calls of a worker, and what their answers mean: done, not ours any more, refused, or nobody there."""

from __future__ import annotations

from hashlib import sha256
from types import TracebackType
from typing import Any, Final, Self

import httpx
import msgspec

from pliers_workflow import __version__

from .task import Task, read_fetched

#: Seconds to connect, and to answer where nothing waits.
_CONNECT, _ANSWER = 5.0, 15.0
#: Statuses that say nothing about the request: somebody may answer otherwise in a moment.
_AWAY: Final = frozenset({408, 425, 429, 500, 502, 503, 504})

encode: Final = msgspec.json.Encoder(decimal_format="number").encode


class Away(Exception):
    """Nobody answered who could: whether the request took effect is not known. `retry_after`: seconds they asked for."""

    def __init__(self, what: str, retry_after: float | None = None) -> None:
        super().__init__(what)
        self.retry_after = retry_after


class Gone(Exception):
    """The task is not ours any more."""


class Refused(Exception):
    """The server understood and will not."""

    def __init__(self, status: int, code: str, detail: str) -> None:
        super().__init__(f"{status} {code}: {detail}")
        self.status = status
        self.code = code
        self.detail = detail


class TaskApi:
    """One worker's connection to the API."""

    def __init__(
        self, url: str, token: str, *, connections: int, transport: httpx.AsyncBaseTransport | None = None
    ) -> None:
        self._http = httpx.AsyncClient(
            base_url=url.rstrip("/") + "/api/v1/external-tasks",
            headers={
                "Authorization": f"Bearer {token}",
                "Content-Type": "application/json",
                "User-Agent": f"pliers-worker/{__version__}",
            },
            limits=httpx.Limits(max_connections=connections, max_keepalive_connections=connections),
            transport=transport,
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._http.aclose()

    async def fetch(self, topics: list[str], worker_id: str, *, room: int, lease: int, wait: float) -> list[Task]:
        """Take at most `room` tasks, waiting `wait` seconds for one. Raises Away, Refused."""
        body = {"topics": topics, "workerId": worker_id, "maxTasks": room, "leaseSeconds": lease, "waitSeconds": wait}
        answer = await self._send("/fetch", body, timeout=wait + _ANSWER)
        try:
            return [Task(each) for each in read_fetched(answer.content).tasks]
        except msgspec.DecodeError as error:
            raise Away(f"the answer is none of the engine's: {error}") from None

    async def heartbeat(self, task: Task, lease: int) -> None:
        """Prolong the lease. Raises Away, Gone, Refused."""
        await self._send(f"/{task.id}/heartbeat", {"leaseToken": task.lease_token, "leaseSeconds": lease})

    async def give_back(self, task: Task) -> None:
        """Leave the task to others. Raises Away, Gone, Refused."""
        await self._send(f"/{task.id}/give-back", {"leaseToken": task.lease_token})

    async def settle(self, task: Task, what: str, body: dict[str, Any]) -> None:
        """
        Say what came of a task: `complete` or `fail`. Raises Away, Gone, Refused.

        It may be sent again whenever it is not known whether it arrived: it counts once, by a key made of the lease.
        """
        key = sha256(f"{task.lease_token} {what}".encode()).hexdigest()[:40]
        await self._send(f"/{task.id}/{what}", {"leaseToken": task.lease_token, **body}, key=key)

    async def _send(
        self, path: str, body: dict[str, Any], *, key: str | None = None, timeout: float = _ANSWER
    ) -> httpx.Response:
        try:
            answer = await self._http.post(
                path, content=encode(body), headers={"Idempotency-Key": key} if key else None,
                timeout=httpx.Timeout(timeout, connect=_CONNECT),
            )  # fmt: skip
        except (httpx.TransportError, httpx.DecodingError) as error:
            raise Away(f"{type(error).__name__}: {error}") from None
        if answer.is_success:
            return answer
        if answer.status_code in _AWAY:
            raise Away(f"it answered with {answer.status_code}", _seconds(answer.headers.get("retry-after")))
        code, detail = _problem(answer)
        if answer.status_code == 409 and code == "step_gone":
            raise Gone(detail)
        raise Refused(answer.status_code, code, detail)


def _seconds(header: str | None) -> float | None:
    return float(header) if header is not None and header.isdecimal() and len(header) < 6 else None


def _problem(answer: httpx.Response) -> tuple[str, str]:
    try:
        problem = answer.json()
        return str(problem["code"]), str(problem["detail"])
    except (ValueError, KeyError, TypeError):
        return "", answer.text[:200]
