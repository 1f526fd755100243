"""What can go wrong with the embedded PostgreSQL."""

from __future__ import annotations

__all__ = ["EmbeddedError"]


class EmbeddedError(Exception):
    """The embedded PostgreSQL cannot be run as asked; the message says why and what to do."""
