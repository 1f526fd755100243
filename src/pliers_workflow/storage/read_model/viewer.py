"""Who is reading. Every read takes a viewer, and every statement passes `queries/visibility.sql` with it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, TypeAlias

from msgspec import Struct

from .. import queries
from ..database import AnyConnection

if TYPE_CHECKING:
    from asyncpg.pool import Pool

__all__ = ["VISIBLE_TO", "Reader", "Viewer"]

#: The predicate, for `queries.load(…, visible_to=VISIBLE_TO)`.
VISIBLE_TO: Final[str] = queries.load("visibility").visible_to

#: Reads are single statements, so a pool serves as well as a connection.
Reader: TypeAlias = "Pool[Any] | AnyConnection"


class Viewer(Struct, frozen=True):
    """Somebody of a tenant with their directory roles and groups; `sees_all` for operators, auditors and the engine."""

    tenant_id: str
    user_id: str
    #: keys of the directory
    roles: tuple[str, ...] = ()
    groups: tuple[str, ...] = ()
    sees_all: bool = False

    @property
    def parameters(self) -> tuple[Any, ...]:
        """The first five parameters of every reading statement."""
        return self.tenant_id, self.user_id, self.roles, self.groups, self.sees_all
