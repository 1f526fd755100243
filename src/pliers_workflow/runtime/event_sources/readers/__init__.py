"""The ways in which messages come out of a broker: one module for each kind, behind the port `BrokerReader`.

None of them makes streams, queues or topics: those are the operators' of the broker. What belongs to reading alone, a
durable consumer or a consumer group, is made where it is missing. Each gives messages in the broker's order, and those
again that were given and not acknowledged.
"""

from __future__ import annotations

from .port import BrokerError, BrokerMessage, BrokerReader

__all__ = ["BrokerError", "BrokerMessage", "BrokerReader"]
