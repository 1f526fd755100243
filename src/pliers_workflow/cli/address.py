"""Where a server listens: looked at before the database is touched, and held for nodes that share one address.

Several nodes that accept from one socket share badly: whichever wakes first takes all that waits. 64 connections to four
nodes, opened at once, left the busiest with 2.4 times its share (all of them, at worst); 16 with 3.7 times. With a socket
for each node on the same port (SO_REUSEPORT) Linux draws lots for each connection: 1.3 and 1.6 times, and never a node with
nothing to do in 64. Besides, nothing queues at a node that is not there. Other systems give all connections to one of such
sockets, so there the nodes share one.
"""

from __future__ import annotations

import errno
import socket
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from types import TracebackType
from typing import Any, Final, NamedTuple

from .problems import Problem

#: whether the system spreads connections over sockets on one port
_SPREADS: Final = sys.platform == "linux"


class _Place(NamedTuple):
    """One of the addresses that a name stands for."""

    family: int
    kind: int
    protocol: int
    #: what `bind` takes: address, port, and for IPv6 two numbers more
    name: tuple[Any, ...]

    def on(self, port: int) -> _Place:
        """The same with another port."""
        return self._replace(name=(self.name[0], port, *self.name[2:]))


def check(host: str, port: int) -> None:
    """Refuse an address nobody can listen on. Raises Problem, with what to do."""
    for place in _places(host, port):
        if (probe := _bound(host, place)) is not None:
            probe.close()


def url(name: tuple[Any, ...]) -> str:
    """
    Where a socket of that name is, for people.

    >>> url(("0.0.0.0", 8080)), url(("::1", 8080, 0, 0))
    ('http://127.0.0.1:8080', 'http://[::1]:8080')
    """
    host = "127.0.0.1" if name[0] == "0.0.0.0" else f"[{name[0]}]" if ":" in name[0] else name[0]
    return f"http://{host}:{name[1]}"


class SharedAddress:
    """
    An address for several nodes: ours until it is closed, whichever of them are there.

    Where the system spreads connections, what is kept here is bound and listens to nothing: no connection goes to it.
    """

    def __init__(self, host: str, port: int) -> None:
        """Raises Problem, with what to do, when nobody can listen there."""
        self._host = host
        self._kept: list[socket.socket] = []
        # A socket that may share its port sees another program's less sharply.
        check(host, port)
        for place in _places(host, port):
            # A name may stand for several addresses, as `localhost` does; a port that the system chooses is one for all.
            if (kept := _bound(host, place.on(port), shared=_SPREADS)) is not None:
                self._kept.append(kept)
                port = kept.getsockname()[1]
        if not self._kept:
            raise Problem(f"this machine cannot listen on {host}; name another address with --host", status=3)

    @property
    def url(self) -> str:
        """Where it is, for people."""
        return url(self._kept[0].getsockname())

    @contextmanager
    def sockets(self) -> Iterator[list[socket.socket]]:
        """Bound sockets for one more node; whoever has not taken them over by the end of the block has them no more."""
        with ExitStack() as stack:
            yield [stack.enter_context(self._another(kept)) for kept in self._kept]

    def __enter__(self) -> SharedAddress:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Give the address up; nodes that have their sockets keep them."""
        for kept in self._kept:
            kept.close()

    def _another(self, kept: socket.socket) -> socket.socket:
        if not _SPREADS:
            return kept.dup()
        place = _Place(kept.family, kept.type, kept.proto, kept.getsockname())
        another = _bound(self._host, place, shared=True)
        assert another is not None, "its family is known to this machine"
        return another


def _places(host: str, port: int) -> list[_Place]:
    """All that a name stands for, each once."""
    try:
        found = socket.getaddrinfo(host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except OSError as error:
        raise Problem(
            f"there is no address {host!r} to listen on ({error.strerror}); name another with --host"
        ) from None
    return list(dict.fromkeys(_Place(family, kind, protocol, name) for family, kind, protocol, _, name in found))


def _bound(host: str, place: _Place, *, shared: bool = False) -> socket.socket | None:
    """A socket bound there; None where the machine does not know the family. Raises Problem, with what to do."""
    port = place.name[1]
    with ExitStack() as undo:
        try:
            made = undo.enter_context(socket.socket(place.family, place.kind, place.protocol))
            made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if place.family == socket.AF_INET6:
                # as the server will: IPv4 has a socket of its own
                made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            if shared:
                made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            made.bind(place.name)
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                what = (
                    f"port {port} of {host} is taken by another program; name another with --port, or 0 for a free one"
                )
            elif error.errno == errno.EACCES:
                what = f"port {port} of {host} needs rights that you do not have; name one above 1023 with --port"
            elif error.errno == errno.EADDRNOTAVAIL:
                what = f"{host} is no address of this machine; name one of its own with --host"
            elif error.errno == errno.EAFNOSUPPORT:
                # such as IPv6 where the machine has none; `localhost` has another address
                return None
            else:
                what = f"the server cannot listen on {host}:{port}: {error.strerror}"
            raise Problem(what, status=3) from None
        undo.pop_all()
    return made
