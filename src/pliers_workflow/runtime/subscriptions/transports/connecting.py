"""What the transports of brokers share: one connection, made when it is needed and dropped when it breaks."""

from __future__ import annotations

import asyncio
import contextlib
from abc import ABC, abstractmethod
from typing import ClassVar, Generic, TypeVar

from ...brokers import Address
from ...brokers.checks import check_permitted
from ...brokers.failures import said
from ...outbound.errors import OutboundError
from ...outbound.guard import Guard
from .port import Message, TransportError

Client = TypeVar("Client")


class BrokerTransport(ABC, Generic[Client]):
    """
    A transport with a connection. Whatever goes wrong drops it: the next event makes it anew, when the lane tries again.

    The client libraries' own reconnecting is switched off, because a lane must know what was confirmed and what was not.
    """

    parallel = 32
    #: what the library raises
    failures: ClassVar[tuple[type[Exception], ...]]
    #: seconds that closing a broken connection may take
    close_timeout = 2.0

    def __init__(self, address: Address, guard: Guard, *, timeout: float) -> None:
        self._address = address
        self._guard = guard
        self._timeout = timeout
        self._client: Client | None = None
        self._turn = asyncio.Lock()

    @abstractmethod
    async def _connect(self) -> Client:
        """A connection."""

    @abstractmethod
    async def _disconnect(self, client: Client) -> None:
        """Close it, whatever its state."""

    @abstractmethod
    async def _send(self, client: Client, message: Message) -> None:
        """Send an event and wait until it is confirmed; raises whatever the library does."""

    async def publish(self, message: Message) -> None:
        """Send an event; return when the broker has confirmed it."""
        client: Client | None = None
        try:
            async with asyncio.timeout(self._timeout):
                client = await self._connected()
                await self._send(client, message)
        except TransportError:
            raise
        except OutboundError as error:
            raise TransportError(error.message) from None
        except TimeoutError:
            await self._drop(client)
            raise TransportError(f"The broker did not confirm within {self._timeout:g} s.") from None
        except self.failures as error:
            await self._drop(client)
            raise TransportError(f"The broker did not take it: {said(error)}") from error

    async def close(self) -> None:
        """Disconnect."""
        await self._drop(self._client)

    async def _connected(self) -> Client:
        async with self._turn:
            if self._client is None:
                await check_permitted(self._address, self._guard)
                self._client = await self._connect()
            return self._client

    async def _drop(self, client: Client | None) -> None:
        """Let a connection go, unless it has been replaced already."""
        if client is None or client is not self._client:
            return
        self._client = None
        with contextlib.suppress(Exception):  # it is broken; what closing it says is no news
            async with asyncio.timeout(self.close_timeout):
                await self._disconnect(client)
