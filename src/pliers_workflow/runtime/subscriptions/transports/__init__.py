"""The ways in which an event leaves the engine: one module for each kind of sink, behind the port `EventTransport`.

None of them makes streams, exchanges or topics: those are the operators' of the broker, with its own ideas of retention
and size. Each confirms: `publish` returns when the other side has taken the message for good, as far as it promises that.
"""

from __future__ import annotations

from .port import EventTransport, Message, TransportError

__all__ = ["EventTransport", "Message", "TransportError"]
