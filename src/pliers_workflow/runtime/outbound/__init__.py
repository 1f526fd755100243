"""Calls to the outside: the one way in which the engine speaks HTTP to somebody else's server.

Whoever writes a definition or registers a webhook chooses an address, and the engine calls it from inside the network that
it runs in. So every connection passes a guard (`guard`): names are resolved here, the addresses they give are judged, and
the connection goes to the very address that was judged, so that a name cannot mean something else a moment later. Private,
loopback and link-local addresses are refused unless the operator has allowed them. Redirects are answers and are not
followed. Time and size of an answer are bounded.

`Outbound.send` is for the engine's own steps and webhooks; `transport.GuardedTransport` lets a plugin's `httpx` client pass
the same guard; `signing` signs webhooks as Standard Webhooks has it.
"""

from .client import Outbound, Received
from .errors import OutboundError

__all__ = ["Outbound", "OutboundError", "Received"]
