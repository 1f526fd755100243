"""The port that the reader of every kind of broker implements, and what it gives."""

from __future__ import annotations

import asyncio
import contextlib
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Mapping, Sequence
from datetime import datetime
from hashlib import sha256
from typing import TYPE_CHECKING, Any, ClassVar, Final

from msgspec import Struct

from ...brokers.checks import check_permitted
from ...brokers.failures import said
from ...outbound.errors import OutboundError

if TYPE_CHECKING:
    from ...brokers import Address
    from ...outbound.guard import Guard

#: headers of one message that are looked at, and characters of each
HEADERS_MAX: Final = 100
HEADER_LENGTH_MAX: Final = 4_000


class BrokerMessage(Struct, frozen=True):
    """One message as a broker gives it."""

    #: the broker's own name for it, the same whenever it comes again; None: the broker has none
    id: str | None
    #: where it was: subject, routing key, stream, topic
    address: str
    body: bytes
    content_type: str | None = None
    #: what the broker's key for it is, where brokers have such
    key: str | None = None
    #: the attributes of an event in the binary form, without their prefix; None: it is not in that form
    attributes: dict[str, str] | None = None
    #: everything else that stands beside the body
    headers: dict[str, str] = {}
    #: what the broker is to be told when it is done
    handle: Any = None

    @property
    def name(self) -> str:
        """What it is known by: the broker's name for it, else what it says."""
        if self.id is not None:
            return self.id
        return "sha256:" + sha256(self.address.encode("utf-8", "replace") + b"\0" + self.body).hexdigest()


class Place(Struct):
    """
    How far a source has been read, by whichever node: kept with the source, so it outlives connections and nodes.

    A source begins once. When somebody takes its consumer or group away, whoever reads next goes on from here: from the
    moment at which it is made anew, what came in between would be lost; from the beginning, what is no longer known for a
    duplicate would act again.
    """

    #: what was taken in last, by the broker's own count, as JSON; None: nobody has read it
    after: Any = None


class BrokerError(Exception):
    """The broker is away, or refuses to be read so; the message says which, and what to do."""


class BrokerReader(ABC):
    """One connection of one source. Used by one task; whatever goes wrong, it is closed and another one made."""

    #: what the client library raises
    failures: ClassVar[tuple[type[Exception], ...]]
    #: seconds that closing a connection may take
    close_timeout: float = 2.0

    def __init__(self, address: Address, guard: Guard, *, batch_size: int, timeout: float) -> None:
        self._address = address
        self._guard = guard
        self.batch_size = batch_size
        self.timeout = timeout
        self.place = Place()

    async def open(self) -> float:
        """
        Connect; seconds to wait before anything is read, so that what was given before comes again first.

        Raises BrokerError.
        """
        async with self._told(self.timeout):
            await check_permitted(self._address, self._guard)
            return await self._open()

    async def read(self, wait: float) -> Sequence[BrokerMessage]:
        """The next messages in their order; none where none has come for `wait` seconds. Raises BrokerError."""
        async with self._told(wait + self.timeout):
            return await self._read(wait)

    async def acknowledge(self, messages: Sequence[BrokerMessage]) -> None:
        """Those are done, and all that were given before them; they come no more. Raises BrokerError."""
        if messages:
            async with self._told(self.timeout):
                await self._acknowledge(messages)

    async def close(self) -> None:
        """Disconnect, whatever its state."""
        with contextlib.suppress(Exception):  # it may be broken; what closing it says is no news
            async with asyncio.timeout(self.close_timeout):
                await self._close()

    @abstractmethod
    async def _open(self) -> float: ...

    @abstractmethod
    async def _read(self, wait: float) -> Sequence[BrokerMessage]: ...

    @abstractmethod
    async def _acknowledge(self, messages: Sequence[BrokerMessage]) -> None: ...

    @abstractmethod
    async def _close(self) -> None: ...

    @contextlib.asynccontextmanager
    async def _told(self, seconds: float) -> AsyncIterator[None]:
        """What goes wrong, told as BrokerError."""
        try:
            async with asyncio.timeout(seconds):
                yield
        except BrokerError:
            raise
        except OutboundError as error:
            raise BrokerError(error.message) from None
        except TimeoutError:
            raise BrokerError("The broker does not answer.") from None
        except self.failures as error:
            raise BrokerError(f"The broker is away, or refused: {said(error)}") from error


def text_of(value: object) -> str:
    """
    A header's value as text, whatever it was and whatever it holds; truth values and instants as CloudEvents writes them.

    >>> text_of(True), text_of(datetime.fromisoformat("2026-03-02T09:00Z")), text_of(b"a")
    ('true', '2026-03-02T09:00:00+00:00', 'a')
    """
    match value:
        case bytes() | bytearray():
            text = value.decode("utf-8", "replace")
        case bool():
            text = "true" if value else "false"
        case datetime():
            text = value.isoformat()
        case _:
            text = str(value)
    return text[: HEADER_LENGTH_MAX + 1]


def parted(headers: Mapping[str, str], *prefixes: str) -> tuple[dict[str, str] | None, dict[str, str]]:
    """
    The attributes of the binary form, by the prefixes that a broker's binding has for them, and all other headers.

    >>> parted({"ce_Id": "1", "ce_specversion": "1.0", "trace": "x"}, "ce_")
    ({'id': '1', 'specversion': '1.0'}, {'trace': 'x'})
    >>> parted({"ce_note": "no event"}, "ce_")
    (None, {'ce_note': 'no event'})
    """
    attributes: dict[str, str] = {}
    others: dict[str, str] = {}
    for name, value in list(headers.items())[:HEADERS_MAX]:
        prefix = next((each for each in prefixes if name.lower().startswith(each.lower())), None)
        if prefix is not None:
            attributes[name[len(prefix) :].lower()] = value
        else:
            others[name] = value
    if "specversion" not in attributes:
        return None, dict(list(headers.items())[:HEADERS_MAX])
    return attributes, others
