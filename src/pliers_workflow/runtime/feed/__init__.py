"""The feed: the history as the one log that everybody else reads.

    writers -> workflow_execution_history -> Relay (horizon) -> Log (window) -> Lanes -> Readers
                                                                             -> LiveSubscribers

The history is written by commits that end in any order, so the `Relay` says up to where nothing can appear any more: the
horizon. The `Log` of each node reads rows up to there, once for all. A `Reader` is told of every event, in order within
an instance and at least once, whatever node dies; its lanes are shared out among the nodes, and their cursors kept in the
database. A `LiveSubscriber` watches for as long as it is there. How to write a reader stands in `reader`.
"""

from __future__ import annotations

from .envelope import Envelope, LoggedRow, lane_of
from .feed import Feed
from .live import LiveSubscriber, Missed
from .reader import Reader, Stuck

__all__ = ["Envelope", "Feed", "LiveSubscriber", "LoggedRow", "Missed", "Reader", "Stuck", "lane_of"]
