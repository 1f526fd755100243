"""Secrets of what is written to reach somebody: kept apart from the rest of it, in a table of their own, and never shown.

Whoever reads it gets `***` in their place; whoever writes `***` keeps what is there, so what was read can be written back.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, Generic, TypeVar

import msgspec
from msgspec import Struct

#: stands for a secret that is not shown
MASK: Final = "***"

Whole = TypeVar("Whole", bound=Struct)


class Secrets(Generic[Whole]):
    """The secrets of structs of some types, by the names of the fields that hold them: of every broker's, and of `more`."""

    def __init__(self, types: Any, *more: str) -> None:
        self._types = types
        self._names = (*more, "password", "token")

    def split(self, whole: Whole) -> tuple[dict[str, Any], dict[str, Any]]:
        """All without its secrets, and the secrets: what is kept in each of the two tables."""
        rest: dict[str, Any] = msgspec.to_builtins(whole)
        secrets = {name: rest.pop(name) for name in self._names if rest.get(name)}
        return {name: value for name, value in rest.items() if value is not None and name not in self._names}, secrets

    def join(self, kept: Mapping[str, Any], secrets: Mapping[str, Any]) -> Whole:
        """The whole of it again."""
        known = {name: secrets[name] for name in self._names if name in secrets}
        whole: Whole = msgspec.convert({**kept, **known}, self._types)
        return whole

    def masked(self, kept: Mapping[str, Any], secrets: Mapping[str, Any]) -> Whole:
        """The whole as it is shown."""
        return self.join(kept, dict.fromkeys(secrets, MASK))

    def unmasked(self, whole: Whole, secrets: Mapping[str, Any]) -> Whole:
        """One as it was sent, with the secrets that are to be kept put in."""
        changes = {name: secrets.get(name) for name in self._names if getattr(whole, name, None) == MASK}
        return msgspec.structs.replace(whole, **changes) if changes else whole
