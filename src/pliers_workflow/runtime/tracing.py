"""Traces: to what larger undertaking a request belongs, kept with what it leads to, and handed on.

A caller says it by the headers of W3C Trace Context (https://www.w3.org/TR/trace-context/). The command keeps it in its
history row; the jobs it owes carry it to whoever serves them, and what comes of those continues it: a step's call, the next
step, a sub-workflow, an event, what a clock begins that it has started. An event from outside names its trace itself, or
belongs to that of the request it came with, whenever it acts.

The engine has no spans of its own that anybody could look up, so it hands on what it was given, unchanged: the caller's span
is the parent of what the engine calls. What is no trace context is passed over, as the standard wants it; it refuses nothing.

Inside a node the trace goes with the task (`current`), so that it need not be named by everybody in between.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Final

import msgspec

from pliers_workflow.interpreter.commands import Trace

_read: Final = msgspec.json.Decoder(Trace).decode
_current: ContextVar[Trace | None] = ContextVar("trace", default=None)

#: Version, trace, parent, flags; a later version may say more (sections 3.2.2 and 4.3).
_PARENT: Final = re.compile(r"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?")
#: Characters that everybody must be able to hand on (section 3.3.1.5).
_STATE_MAX: Final = 512


def current() -> Trace | None:
    """The trace of what this task is doing; None: it belongs to none."""
    return _current.get()


def adopt(trace: Trace | None) -> None:
    """From here on this task works for that trace."""
    _current.set(trace)


@contextmanager
def within(trace: Trace | None) -> Iterator[None]:
    """For as long as the block this task works for that trace."""
    token = _current.set(trace)
    try:
        yield
    finally:
        _current.reset(token)


def read(traceparent: bytes, tracestate: bytes | None = None) -> Trace | None:
    """
    The trace that headers name; None for what is no trace context.

    >>> read(b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", b"vendor=1")
    Trace(parent='00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01', state='vendor=1')
    >>> read(b"cc-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-09-what-comes-later").parent
    '00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01'
    >>> read(b"00-00000000000000000000000000000000-b7ad6b7169203331-01")
    """
    found = _PARENT.fullmatch(traceparent.decode("latin-1").strip())
    if found is None:
        return None
    version, trace, parent, flags, more = found.groups()
    if version == "ff" or not trace.strip("0") or not parent.strip("0") or (version == "00" and more is not None):
        return None
    if version != "00":  # what we hand on is of the version that we know, with the flag that it has
        flags = f"{int(flags, 16) & 1:02x}"
    state = "" if tracestate is None else tracestate.decode("latin-1").strip()
    if len(state) > _STATE_MAX or not (state.isascii() and state.isprintable()):
        state = ""
    return Trace(f"00-{trace}-{parent}-{flags}", state)


def kept(text: str | None) -> Trace | None:
    """The trace that a row keeps as JSON; None: it keeps none."""
    return None if text is None or text == "null" else _read(text)


def headers(trace: Trace | None, given: Mapping[str, str]) -> dict[str, str]:
    """
    The headers that hand a trace on, for a request that has these already; what it says of a trace itself is left alone.

    >>> headers(Trace("00-…"), {"Accept": "*/*"}), headers(Trace("00-…", "a=1"), {"TraceParent": "00-mine"})
    ({'traceparent': '00-…'}, {})
    """
    if trace is None or any(name.lower() == "traceparent" for name in given):
        return {}
    return {"traceparent": trace.parent, **({"tracestate": trace.state} if trace.state else {})}
