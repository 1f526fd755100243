"""Opens connections to RabbitMQ."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import aio_pika
import aio_pika.exceptions
from yarl import URL

if TYPE_CHECKING:
    from aio_pika.abc import AbstractConnection

    from .addresses import RabbitMqAddress

#: what the client raises; of what was under way when the channel went down it tells by a RuntimeError
FAILURES: Final[tuple[type[Exception], ...]] = (aio_pika.exceptions.AMQPError, RuntimeError, OSError)


async def connect(address: RabbitMqAddress, *, timeout: float, heartbeat: int | None = None) -> AbstractConnection:
    """A connection, which is not made anew by itself; `heartbeat`: seconds between those that the broker is asked for."""
    url = URL(address.url)
    if address.user is not None:
        url = url.with_user(address.user).with_password(address.password)
    if heartbeat is not None:
        url = url.update_query(heartbeat=heartbeat)
    return await aio_pika.connect(url, timeout=timeout, client_properties={"connection_name": "pliers"})
