"""Ports of this machine for servers of our own that may die and come back to the same port."""

from __future__ import annotations

import random
from typing import Final

#: Below those that systems give to outgoing connections (32768 and up on Linux, 49152 and up by IANA). One of those may be
#: somebody's by the time a server that was killed comes back to its port.
_PORTS: Final = range(20_000, 32_768)
_TRIED: Final = 64


def candidates() -> list[int]:
    """Ports to try in turn, by chance, so that two who choose at the same moment seldom want the same; last 0: any."""
    return [*random.sample(_PORTS, _TRIED), 0]
