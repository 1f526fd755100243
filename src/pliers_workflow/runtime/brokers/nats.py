"""Opens connections to NATS."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import nats
import nats.errors

if TYPE_CHECKING:
    from nats.aio.client import Client

    from .addresses import NatsAddress

#: what the client raises
FAILURES: Final[tuple[type[Exception], ...]] = (nats.errors.Error, OSError)


async def connect(address: NatsAddress, *, timeout: float) -> Client:
    """A connection, which is not made anew by itself."""

    async def ignore(_: Exception) -> None:
        """Whatever breaks shows when the connection is used."""

    return await nats.connect(
        list(address.servers),
        name="pliers",
        allow_reconnect=False,
        connect_timeout=max(1, round(timeout)),
        user=address.user,
        password=address.password,
        token=address.token,
        error_cb=ignore,
    )
