"""What the engine needs to reach a message broker, whether it reads there (`event_sources`) or writes (`subscriptions`).

`addresses` says for each kind where a broker is and who we are there, `checks` what is wrong with that, `secrets` keeps apart
what nobody is shown, `failures` says what a client said; one module for each kind opens its client. A new broker, or a new way to prove who we are, begins here.
Client libraries are extras: only the modules of the kinds import them.
"""

from __future__ import annotations

from .addresses import Address, BrokerAddress

__all__ = ["Address", "BrokerAddress"]
