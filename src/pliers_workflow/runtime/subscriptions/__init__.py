"""Event subscriptions: standing orders to tell somebody else of a tenant's events.

Each active subscription is a reader of the feed (`SubscriptionReader`), so its events are sent in order per instance, at
least once, whichever node dies. What is sent where is `sinks`; how it gets there is an `EventTransport`: webhooks, NATS
JetStream, RabbitMQ, Redis Streams, Kafka. `Subscriptions` keeps them; `SubscriptionServer` gives the feed the readers there
are just now.
"""

from __future__ import annotations

from .rows import SubscriptionInput, SubscriptionRow, SubscriptionStatus
from .service import Subscriptions
from .serving import SubscriptionServer

__all__ = ["SubscriptionInput", "SubscriptionRow", "SubscriptionServer", "SubscriptionStatus", "Subscriptions"]
