"""Makes clients of Redis."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

if TYPE_CHECKING:
    from .addresses import RedisAddress

#: what the client raises
FAILURES: Final[tuple[type[Exception], ...]] = (RedisError, OSError)


def make_client(address: RedisAddress, *, connect_timeout: float, answer_timeout: float | None) -> Redis:
    """A client; it connects when it is first used. `answer_timeout`: None where our own clock watches the answers."""
    return Redis.from_url(
        address.url,
        username=address.user,
        password=address.password,
        socket_timeout=answer_timeout,
        socket_connect_timeout=connect_timeout,
        client_name="pliers",
        # It tries nothing again by itself: whoever uses it must know what was confirmed.
        retry=Retry(NoBackoff(), 0),
    )
