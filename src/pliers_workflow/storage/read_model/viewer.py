"""Who is reading. Every read takes a viewer, and every statement passes `queries/visibility.sql` with it."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from msgspec import Struct

from .. import queries
from ..database import AnyConnection

if TYPE_CHECKING:
    from collections.abc import Iterable

    from asyncpg.pool import Pool

__all__ = ["FILTERS", "ROWS", "VISIBLE_TO", "Reader", "Viewer", "with_filters", "with_rows"]

#: The predicate, for `queries.load(…, visible_to=VISIBLE_TO)`.
VISIBLE_TO: Final[str] = queries.load("visibility").visible_to

#: The place of the number of rows in a list's statement.
ROWS: Final = "<rows>"
#: The place of the filters that are wanted.
FILTERS: Final = "<filters>"
#: Page sizes come in these steps, one more row each, so that few different statements are prepared.
_STEPS: Final = (10, 25, 50, 100, 200, 500)

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


def with_filters(statement: str, filters: Iterable[tuple[str, Any]], parameters: list[Any]) -> str:
    """
    Put filters into a list's statement, each a condition that speaks of its `$value`, and their values behind its parameters.

    >>> parameters = ["default"]
    >>> with_filters("SELECT … WHERE tenant_id = $1<filters>", [("state = $value", "open")], parameters), parameters
    ('SELECT … WHERE tenant_id = $1 AND state = $2', ['default', 'open'])
    """
    conditions = []
    for condition, value in filters:
        if "$value" in condition:
            parameters.append(value)
            condition = condition.replace("$value", f"${len(parameters)}")
        conditions.append(f" AND {condition}")
    return statement.replace(FILTERS, "".join(conditions))


@lru_cache(1000)
def with_rows(statement: str, limit: int) -> str:
    """
    Put the number of rows that a page of `limit` needs into a list's statement: one more at least, to see if any follow.

    >>> with_rows("LIMIT <rows>", 20)
    'LIMIT 26'
    """
    return statement.replace(ROWS, str(1 + next(step for step in _STEPS if step >= limit)))
