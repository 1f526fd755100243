"""Facts: what only the outside knows, asked for by key and kept in the history row.

Keys and the values behind them:

- `user:ID` -> `User` or None (no such user)
- `username:NAME` -> user id or None
- `role:KEY`, `group:KEY` -> `Members` or None (no such role or group)
- `script:CODE_HASH:INPUT_HASH` -> `ScriptAnswer`

A fact that is not there makes `interpret` answer `Needs`; the runtime fetches it and asks again.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, TypeAlias

from msgspec import Struct


class User(Struct, frozen=True, omit_defaults=True):
    """A person of the directory; roles and groups are directory keys, not permissions."""

    id: str
    username: str
    active: bool = True
    name: str | None = None
    email: str | None = None
    #: the manager's username
    manager: str | None = None
    roles: tuple[str, ...] = ()
    groups: tuple[str, ...] = ()
    #: whatever else the directory keeps, for expressions: `user.attributes.costCenter`
    attributes: dict[str, Any] = {}


class Members(Struct, frozen=True):
    """Active users of a role or group, by id, sorted."""

    users: tuple[str, ...]


class ScriptAnswer(Struct, frozen=True, omit_defaults=True):
    """What a script condition came to: a value, or why there is none."""

    value: Any = None
    error: str | None = None
    fetched_at: datetime | None = None


Fact: TypeAlias = User | Members | ScriptAnswer | str | None
Facts: TypeAlias = Mapping[str, Fact]


class ScriptRequest(Struct, frozen=True):
    """A script to be run for a fact."""

    key: str
    source: str
    input: dict[str, Any]
    timeout_ms: int


class Needs(Struct, frozen=True, omit_defaults=True):
    """The interpreter cannot go on without these. Directory keys are cheap; scripts are run outside the batch."""

    keys: tuple[str, ...] = ()
    scripts: tuple[ScriptRequest, ...] = ()
