"""Bearer tokens: made, checked, revoked.

A secret is `pliers_` and 256 random bits; only its sha256 is kept, and a plain hash is enough because nobody guesses such
a secret. Its holder sees it once. What a token may do can never exceed what its maker may do. A check is kept for a few
seconds, so a token revoked on another node, or whose owner was made inactive, may still work that long; revoking on this
node is felt at once.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from hashlib import sha256
from typing import TYPE_CHECKING, Any, Final
from uuid import uuid4

from pliers_workflow.storage import queries
from pliers_workflow.storage.identity import is_uuid
from pliers_workflow.storage.paging import LIMIT_MAX, Page, make_page

from .. import idempotency
from ..errors import ForbiddenError, InvalidError, NotFoundError
from ..paging import uuid_cursor
from ..rows import TokenRow
from ..storable import check_text
from .principal import PERMISSIONS, Principal

if TYPE_CHECKING:
    import asyncpg

    from pliers_workflow.storage.database import AnyConnection as Connection

    from ..answers import RequestKey
    from .audit import Audit

_sql: Final = queries.load("tokens")
_directory_sql: Final = queries.load("directory")

PREFIX: Final = "pliers_"
#: characters of a secret: the prefix and 32 bytes in base64 without padding
SECRET_LENGTH: Final = len(PREFIX) + 43
#: checks kept at once, right and wrong secrets together
CACHE_SIZE: Final = 10_000
#: the user that the first start makes
ADMINISTRATOR: Final = "admin"


class Tokens:
    """Makes, checks and revokes bearer tokens. One instance for each process."""

    def __init__(
        self,
        pool: asyncpg.Pool[Any],
        audit: Audit,
        *,
        cache_seconds: float = 3.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._pool = pool
        self._audit = audit
        self._cache_seconds = cache_seconds
        self._clock = clock
        #: hash of the secret -> until when, and whose it is (None: nobody's)
        self._checked: OrderedDict[bytes, tuple[float, Principal | None]] = OrderedDict()
        self._checking: dict[bytes, asyncio.Task[Principal | None]] = {}
        #: grows with every local revocation, so that a check begun before one is not kept after it
        self._era = 0

    async def create(
        self,
        principal: Principal,
        user: str,
        permissions: Iterable[str] = (),
        name: str = "",
        expires_at: datetime | None = None,
        *,
        request: RequestKey | None = None,
    ) -> tuple[TokenRow, str | None]:
        """
        Make a token for a user (id or username); the row, and the secret, which is never shown again.

        A repeated request is given the token of the first one, without its secret (None): only its hash is kept.
        Everybody may make tokens for themselves, administrators for everybody; never with a permission of more than the
        maker's own. Raises ForbiddenError, InvalidError, NotFoundError for an unknown or inactive user.
        """
        tenant = principal.tenant_id
        wanted = sorted(set(permissions))
        for permission in wanted:
            if permission not in PERMISSIONS:
                raise InvalidError(
                    "unknown_value", f"There is no permission {permission!r}; there are {', '.join(PERMISSIONS)}."
                )
        check_text("A token's name", name, length_max=200, length_min=0)
        check_text("A user", user, length_max=200)
        if expires_at is not None:
            if expires_at.tzinfo is None:
                raise InvalidError("bad_format", "`expiresAt` needs its time zone, such as 2026-03-02T09:00:00Z.")
            if not datetime.now(UTC) < expires_at < datetime(9000, 1, 1, tzinfo=UTC):
                raise InvalidError(
                    "out_of_range", "`expiresAt` must lie in the future; name a later instant, or leave it out."
                )
        if user not in (principal.user_id, principal.username):
            await self._audit.require(principal, "token.create", f"user:{user}", "admin")
        if excess := [permission for permission in wanted if not principal.may(permission)]:
            await self._audit.denied(principal, "token.create", f"user:{user}", tuple(excess))
            raise ForbiddenError(
                "permission_denied",
                f"A token cannot carry more than its maker's own permissions; you lack {', '.join(excess)}.",
                {"permissions": excess},
            )
        secret = new_secret()
        async with self._pool.acquire() as connection, connection.transaction():
            if (made := await idempotency.claim(connection, tenant, request)) is not None:
                row = await connection.fetchrow(_sql.get, tenant, made)
                assert row is not None, "tokens are never deleted"
                return _row(row), None
            user_id = await self._user_id(connection, tenant, user)
            token_id = await self._insert(connection, tenant, secret, user_id, name, wanted, expires_at)
            await idempotency.settle(connection, tenant, request, token_id)
            details = {
                "user": user_id,
                "name": name,
                "permissions": wanted,
                "expires_at": expires_at and expires_at.isoformat(),
            }
            await self._audit.record(
                connection, tenant, "token.created", f"token:{token_id}", details, principal.user_id
            )
            row = await connection.fetchrow(_sql.get, tenant, token_id)
        assert row is not None, "it was made in this very transaction"
        return _row(row), secret

    async def authenticate(self, secret: str) -> Principal | None:
        """Say whose secret this is, or None: unknown, revoked, expired, or of somebody inactive."""
        if len(secret) != SECRET_LENGTH or not secret.startswith(PREFIX) or not secret.isascii():
            return None
        key = sha256(secret.encode()).digest()
        kept = self._checked.get(key)
        if kept is not None and self._clock() < kept[0]:
            self._checked.move_to_end(key)
            return kept[1]
        checking = self._checking.get(key)
        if checking is None:
            # One check for all who come with this secret meanwhile. A task of its own: whoever asked first may be
            # cancelled, and the others still wait for the answer.
            checking = self._checking[key] = asyncio.create_task(self._check(key))
            checking.add_done_callback(lambda task: self._checked_now(key, task))
        return await asyncio.shield(checking)

    async def revoke(self, principal: Principal, token_id: str, *, request: RequestKey | None = None) -> TokenRow:
        """Make a token useless, for ever. One's own, or as an administrator anybody's; twice is the same as once."""
        tenant = principal.tenant_id
        row = await self._pool.fetchrow(_sql.get, tenant, token_id) if is_uuid(token_id) else None
        if row is None or (row["user_id"] != principal.user_id and not principal.may("admin")):
            if row is not None:
                await self._audit.denied(principal, "token.revoke", f"token:{token_id}", ("admin",))
            raise NotFoundError("unknown_token", f"There is no token {token_id} of yours.")
        async with self._pool.acquire() as connection, connection.transaction():
            if (
                await idempotency.claim(connection, tenant, request) is None
                and await connection.fetchval(_sql.revoke, tenant, token_id) is not None
            ):
                details = {"user": row["user_id"], "name": row["name"]}
                await idempotency.settle(connection, tenant, request, token_id)
                await self._audit.record(
                    connection, tenant, "token.revoked", f"token:{token_id}", details, principal.user_id
                )
            row = await connection.fetchrow(_sql.get, tenant, token_id)
        assert row is not None, "tokens are never deleted"
        self._forget(lambda principal: principal.token_id == token_id)
        return _row(row)

    def forget_user(self, tenant_id: str, user_id: str) -> None:
        """Check this user's tokens anew from now on: they have been made inactive, or renamed."""
        self._forget(lambda principal: principal.tenant_id == tenant_id and principal.user_id == user_id)

    async def list(
        self, principal: Principal, *, user: str | None = None, limit: int = 50, cursor: str | None = None
    ) -> Page[TokenRow]:
        """List tokens by id: administrators see all, or one user's (id); everybody else sees their own."""
        limit = max(1, min(limit, LIMIT_MAX))
        after = uuid_cursor(cursor)
        only = user if principal.may("admin", "auditor") else principal.user_id
        if only is not None and not is_uuid(only):
            return Page(())
        rows = await self._pool.fetch(_sql.page, principal.tenant_id, only, after, limit + 1)
        return make_page(rows, limit, _row, lambda row: (row["id"],))

    async def bootstrap(self, tenant_id: str = "default") -> str | None:
        """
        Give the secret of a first administrator's token where nobody has a token that works; None where somebody has.

        Makes the user `admin` where there is none. Of several nodes that start at once, one gets a secret. So a
        tenant whose tokens have all expired or been revoked is never locked out: the next start prints a new one.
        """
        async with self._pool.acquire() as connection, connection.transaction():
            await connection.execute(_sql.lock_bootstrap, tenant_id)
            if await connection.fetchval(_sql.any_live, tenant_id):
                return None
            return await self.first(connection, tenant_id)

    async def first(self, connection: Connection, tenant_id: str) -> str:
        """Make a tenant's user `admin` and a token for them in the caller's transaction; its secret."""
        if await connection.fetchval(_directory_sql.bump, tenant_id) is None:
            raise NotFoundError("unknown_tenant", f"There is no tenant {tenant_id}.")
        await connection.execute(
            _directory_sql.upsert_users, tenant_id, [ADMINISTRATOR], ["Administrator"], [None], ["{}"], [True]
        )
        user_id = await self._user_id(connection, tenant_id, ADMINISTRATOR)
        secret = new_secret()
        token_id = await self._insert(connection, tenant_id, secret, user_id, "first start", ["admin"], None)
        details = {"user": user_id, "name": "first start", "permissions": ["admin"], "expires_at": None}
        await self._audit.record(connection, tenant_id, "token.created", f"token:{token_id}", details, None)
        return secret

    # -- inside --------------------------------------------------------------------------------------------------------

    async def _check(self, key: bytes) -> Principal | None:
        era = self._era
        row = await self._pool.fetchrow(_sql.authenticate, key)
        keep = self._cache_seconds
        principal = None
        if row is not None:
            principal = Principal(
                tenant_id=row["tenant_id"],
                user_id=row["user_id"],
                username=row["username"],
                permissions=frozenset(row["permissions"]),
                token_id=row["token_id"],
            )
            if row["seconds_left"] is not None:
                keep = min(keep, row["seconds_left"])
        if keep > 0 and era == self._era:
            self._checked[key] = (self._clock() + keep, principal)
            self._checked.move_to_end(key)
            while len(self._checked) > CACHE_SIZE:
                self._checked.popitem(last=False)
        return principal

    def _checked_now(self, key: bytes, task: asyncio.Task[Principal | None]) -> None:
        if self._checking.get(key) is task:
            del self._checking[key]
        if not task.cancelled():
            task.exception()  # whoever waits has it; nobody may be left to

    def _forget(self, whose: Callable[[Principal], bool]) -> None:
        self._era += 1
        self._checking.clear()
        for key in [key for key, (_, principal) in self._checked.items() if principal is not None and whose(principal)]:
            del self._checked[key]

    async def _user_id(self, connection: Connection, tenant_id: str, ref: str) -> str:
        rows = await connection.fetch(_directory_sql.ids_of, tenant_id, [ref], [ref.lower()] if is_uuid(ref) else [])
        if not rows:
            raise NotFoundError("unknown_user", f"There is no user {ref}.")
        user_id: str = rows[-1]["id"]
        return user_id

    async def _insert(
        self,
        connection: Connection,
        tenant_id: str,
        secret: str,
        user_id: str,
        name: str,
        permissions: Iterable[str],
        expires_at: datetime | None,
    ) -> str:
        token_id: str | None = await connection.fetchval(
            _sql.create, tenant_id, str(uuid4()), sha256(secret.encode()).digest(), user_id, name, list(permissions), expires_at
        )  # fmt: skip
        if token_id is None:
            raise NotFoundError("unknown_user", "The user is not active; make them active first.")
        return token_id


def new_secret() -> str:
    """Make a secret: 256 bits from the operating system."""
    return PREFIX + secrets.token_urlsafe(32)


def _row(record: asyncpg.Record) -> TokenRow:
    return TokenRow.of(record, permissions=tuple(record["permissions"]))
