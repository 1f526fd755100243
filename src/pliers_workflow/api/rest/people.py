"""People as requests name them: `me`, an id or a username."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..problems import ApiError

if TYPE_CHECKING:
    from ..endpoint import Call


async def user_id(call: Call, person: str, *, active: bool = False) -> str:
    """
    The id of a person. Raises ApiError `unknown_user`.

    `active`: somebody who is to do something from now on; else whoever has left is found, too.
    """
    if person == "me" or person in (call.principal.user_id, call.principal.username):
        return call.principal.user_id
    row = await call.engine.directory.get_user(call.principal.tenant_id, person)
    if row is None or (active and not row.active):
        kind = "active user" if active else "user"
        raise ApiError("unknown_user", f"There is no {kind} {person[:100]!r} in the directory; check the spelling.")
    return row.id
