"""Who is asking: the person behind a request, with the engine permissions of the token used."""

from __future__ import annotations

from typing import Final

from msgspec import Struct

#: What a token may carry. Not directory roles: these say who may run the engine, never who may approve.
PERMISSIONS: Final = ("author", "publisher", "operator", "auditor", "events", "worker", "admin")


class Principal(Struct, frozen=True):
    """An authenticated user of one tenant."""

    tenant_id: str
    user_id: str
    username: str
    permissions: frozenset[str] = frozenset()
    token_id: str | None = None

    def may(self, *permissions: str) -> bool:
        """Holds one of these permissions; `admin` holds all."""
        return "admin" in self.permissions or not self.permissions.isdisjoint(permissions)
