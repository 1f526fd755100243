"""With what clients of Kafka are made, consumers and producers alike."""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING, Any, Final

from aiokafka.errors import KafkaError

if TYPE_CHECKING:
    from .addresses import KafkaAddress

#: what the client raises
FAILURES: Final[tuple[type[Exception], ...]] = (KafkaError, OSError)


def client_options(address: KafkaAddress) -> dict[str, Any]:
    """Where it connects to, as whom, and how that is kept safe."""
    sasl = address.user is not None
    options: dict[str, Any] = {
        "bootstrap_servers": list(address.servers),
        "client_id": "pliers",
        "security_protocol": f"{'SASL_' if sasl else ''}{'SSL' if address.tls else 'PLAINTEXT'}",
    }
    if address.tls:
        options["ssl_context"] = ssl.create_default_context()
    if sasl:
        options |= {
            "sasl_mechanism": address.mechanism,
            "sasl_plain_username": address.user,
            "sasl_plain_password": address.password or "",
        }
    return options
