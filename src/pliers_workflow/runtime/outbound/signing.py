"""Signatures of webhooks, as Standard Webhooks 1.0.0 has them (symmetric, `v1`).

The receiver computes the same and compares: so it knows that the message is ours, whole, and young. During a change of
secrets a message carries a signature of each.

>>> secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
>>> sign(
...     ["whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"], "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, b'{"test": 2432232314}'
... )
'v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE='
"""

from __future__ import annotations

import base64
import binascii
import hmac
import secrets
from collections.abc import Iterable
from hashlib import sha256
from typing import Final

__all__ = ["HEADERS", "decode_secret", "new_secret", "sign", "webhook_headers"]

PREFIX: Final = "whsec_"
#: The headers of a signed message; those that a definition or a subscription names cannot replace them.
HEADERS: Final = ("webhook-id", "webhook-timestamp", "webhook-signature")
#: Bytes of a secret, by the standard.
_BYTES_MIN, _BYTES_MAX = 24, 64


def new_secret() -> str:
    """Make a secret of 256 bits."""
    return PREFIX + base64.b64encode(secrets.token_bytes(32)).decode()


def decode_secret(secret: str) -> bytes:
    """The key in a secret. Raises ValueError, with a sentence for whoever wrote it."""
    try:
        key = base64.b64decode(secret.removeprefix(PREFIX), validate=True)
    except (binascii.Error, ValueError):
        raise ValueError(f"a webhook's secret is `{PREFIX}` and base64") from None
    if not _BYTES_MIN <= len(key) <= _BYTES_MAX:
        raise ValueError(f"a webhook's secret has {_BYTES_MIN} to {_BYTES_MAX} bytes, this one has {len(key)}")
    return key


def sign(keys: Iterable[str], message_id: str, timestamp: int, body: bytes) -> str:
    """The value of `webhook-signature`: one signature for each secret."""
    signed = f"{message_id}.{timestamp}.".encode() + body
    return " ".join("v1," + base64.b64encode(hmac.digest(decode_secret(key), signed, sha256)).decode() for key in keys)


def webhook_headers(keys: Iterable[str], message_id: str, timestamp: int, body: bytes) -> dict[str, str]:
    """The headers of a signed message. `message_id` stays the same when the message is sent again; `timestamp` does not."""
    return {
        "webhook-id": message_id,
        "webhook-timestamp": str(timestamp),
        "webhook-signature": sign(keys, message_id, timestamp, body),
    }
