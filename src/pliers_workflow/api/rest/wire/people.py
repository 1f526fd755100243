"""People, tokens, tenants and the audit log over the wire."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal

from msgspec import UNSET, Meta, UnsetType

from .base import Input, Instant, Json, LongText, PageQuery, Permission, Person, ShortText, View


class MeView(View, frozen=True, kw_only=True):
    """Who you are to the engine."""

    user_id: str
    username: str
    tenant_id: str
    token_id: str | None
    permissions: list[str]
    #: directory keys; what `user.roles` means in expressions
    roles: list[str]
    groups: list[str]


Key = Annotated[str, Meta(min_length=1, max_length=200, pattern=r"^[^\s:/\x00-\x1f\x7f-\x9f]+$")]
Keys = Annotated[tuple[Key, ...], Meta(max_length=1000)]


class UserView(View, frozen=True, kw_only=True):
    """A person of the directory."""

    id: str
    username: str
    name: str | None
    email: str | None
    #: the manager's username
    manager: str | None
    active: bool
    attributes: Json
    roles: list[str]
    groups: list[str]
    revision: int
    created_at: datetime
    updated_at: datetime


class UserInputBody(Input, frozen=True, kw_only=True):
    """A new person."""

    username: Key
    name: ShortText | None = None
    email: ShortText | None = None
    #: the manager's username
    manager: Person | None = None
    attributes: Json = {}
    active: bool = True
    #: keys of roles and groups that exist
    roles: Keys = ()
    groups: Keys = ()


class UserChanges(Input, frozen=True, kw_only=True):
    """What changes of a person; what is left out stays."""

    username: Key | UnsetType = UNSET
    name: ShortText | None | UnsetType = UNSET
    email: ShortText | None | UnsetType = UNSET
    manager: Person | None | UnsetType = UNSET
    attributes: Json | UnsetType = UNSET
    active: bool | UnsetType = UNSET
    roles: Keys | UnsetType = UNSET
    groups: Keys | UnsetType = UNSET


class UsersQuery(PageQuery, frozen=True, kw_only=True):
    """Which people."""

    active: bool | None = None
    role: Annotated[str, Meta(max_length=200)] | None = None
    group: Annotated[str, Meta(max_length=200)] | None = None
    #: usernames that begin with this
    username: Annotated[str, Meta(max_length=200)] | None = None


class SetView(View, frozen=True, kw_only=True):
    """A role or group of the directory."""

    kind: Literal["role", "group"]
    key: str
    name: str | None
    description: str | None
    member_count: int
    created_at: datetime


class SetInput(Input, frozen=True, kw_only=True):
    """What a role or group is called."""

    name: ShortText | None = None
    description: LongText | None = None


class SetsQuery(PageQuery, frozen=True, kw_only=True):
    """Which roles or groups."""

    #: keys that begin with this
    key: Annotated[str, Meta(max_length=200)] | None = None


class MembersInput(Input, frozen=True, kw_only=True):
    """Exactly these people belong to it."""

    users: Annotated[tuple[Person, ...], Meta(max_length=100_000)]


class TokenView(View, frozen=True, kw_only=True):
    """A bearer token; its secret is known to its holder alone."""

    id: str
    user_id: str
    username: str
    name: str
    permissions: list[str]
    created_at: datetime
    expires_at: datetime | None
    revoked_at: datetime | None


class TokenMadeView(TokenView, frozen=True, kw_only=True):
    """A new token with its secret, which is never shown again."""

    #: null where the request was repeated under its Idempotency-Key: the first answer had it, and only its hash is kept
    secret: str | None
    #: true: the secret stood in the first answer. Should that be lost, revoke the token and make another.
    secret_withheld: bool


class TokenInput(Input, frozen=True, kw_only=True):
    """A new token."""

    user: Person
    name: Annotated[str, Meta(max_length=200)] = ""
    permissions: Annotated[tuple[Permission, ...], Meta(max_length=7)] = ()
    expires_at: Instant | None = None


class TokensQuery(PageQuery, frozen=True, kw_only=True):
    """Whose tokens; without `user`, and without the admin permission, your own."""

    user: Person | None = None


class TenantView(View, frozen=True, kw_only=True):
    """A tenant."""

    id: str
    name: str
    #: the hand-moved clock; null: the database's
    virtual_now: datetime | None
    created_at: datetime


class TenantMadeView(TenantView, frozen=True, kw_only=True):
    """A new tenant, with the one-time token of its administrator."""

    #: null where the request was repeated under its Idempotency-Key: the first answer had it, and only its hash is kept
    admin_token: str | None
    #: true: the token stood in the first answer. Should that be lost, `pliers token create --tenant ID` makes another.
    secret_withheld: bool


class TenantInput(Input, frozen=True, kw_only=True):
    """A new tenant. With `virtualNow` its clock stands still and is moved through the API, for tests and replays."""

    id: Annotated[str, Meta(pattern="^[a-z0-9][a-z0-9_-]{0,62}$")]
    name: Annotated[str, Meta(min_length=1, max_length=200)]
    virtual_now: Instant | None = None


class ClockInput(Input, frozen=True, kw_only=True):
    """The new time; it cannot go back."""

    virtual_now: Instant
    #: answer only when all that is due by then has been carried out, or so many seconds have passed
    wait_seconds: Annotated[float, Meta(ge=0, le=60)] | None = None


class ClockView(TenantView, frozen=True, kw_only=True):
    """A tenant whose clock was moved."""

    #: nothing is due any more; null where the request did not ask to wait for that
    settled: bool | None


class AuditEntryView(View, frozen=True, kw_only=True):
    """A row of the audit log."""

    seq: int
    action: str
    subject: str
    details: Json
    executed_at: datetime
    #: user id; null: the engine
    executed_by: str | None
    #: hex
    hash: str


class AuditQuery(PageQuery, frozen=True, kw_only=True):
    """Which rows."""

    action: Annotated[str, Meta(max_length=200)] | None = None
    subject: Annotated[str, Meta(max_length=500)] | None = None


class VerificationView(View, frozen=True, kw_only=True):
    """Whether the audit log's chain of hashes is whole."""

    intact: bool
    #: rows found whole
    rows: int
    #: seq of the first row that does not fit
    broken_at: int | None
    problem: str | None
