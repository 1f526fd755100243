"""Event sources: brokers whose messages are events.

Each enabled source is a lane like those of the log's readers, so it is read on one node at a time, under a lease with a
fencing token, and taken over when that node dies. `SourceLane` reads: messages become events (`reading`, by the mapping of
`plain` where they are none yet), a batch of them is committed to the inbox under the token, then acknowledged, then carried
out in order; only then the next batch is taken. What is no event is kept as a reject, and acknowledged. So a message is an
event at least once, and as the inbox knows sources and ids, exactly once.

`EventSources` keeps them, `Rejects` what they rejected; `SourceServer` gives the lanes the sources there are just now.
What a source reads where is `kinds`; how messages come out of each kind of broker is `readers`.
"""

from __future__ import annotations

from .rejects import Rejects
from .rows import EventSourceInput, EventSourceRow, RejectRow
from .service import EventSources
from .serving import SourceServer

__all__ = ["EventSourceInput", "EventSourceRow", "EventSources", "RejectRow", "Rejects", "SourceServer"]
