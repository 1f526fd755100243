"""Bearer tokens: secrets, permissions, expiry, revocation, the first one of all."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from hashlib import sha256

import pytest

from pliers_workflow.runtime.access.principal import Principal
from pliers_workflow.runtime.access.tokens import Tokens
from pliers_workflow.runtime.errors import ForbiddenError, InvalidError, NotFoundError

from .conftest import Services, key


class Clock:
    """A clock moved by hand."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


async def test_a_secret_leads_to_its_owner_and_is_not_kept(services: Services) -> None:
    """The principal has the token's permissions, not the owner's others; the database has the hash only."""
    ada = await services.person("ada")
    row, secret = await services.tokens.create(services.admin, "ada", ["operator"], "laptop")
    principal = await services.tokens.authenticate(secret)
    assert principal == Principal("default", ada.user_id, "ada", frozenset({"operator"}), row.id)
    assert secret.startswith("pliers_")
    kept = await services.pool.fetchval("SELECT secret_hash FROM api_tokens")
    assert kept == sha256(secret.encode()).digest()
    dump = await services.pool.fetch("SELECT t::text FROM api_tokens t UNION ALL SELECT record::text FROM audit_log")
    assert not any(secret in line[0] or secret[7:] in line[0] for line in dump)


async def test_wrong_secrets_are_nobody(services: Services) -> None:
    """Whatever text is sent: None, and no error."""
    _, secret = await services.tokens.create(services.admin, "root")
    for wrong in (
        "",
        "pliers_",
        secret[:-1],
        secret + "x",
        secret[:-1] + "\0",
        secret[:-1] + "é",
        "\ud800",
        "Bearer " + secret,
    ):
        assert await services.tokens.authenticate(wrong) is None
    changed = secret[:-1] + ("A" if secret[-1] != "A" else "B")
    assert await services.tokens.authenticate(changed) is None


async def test_no_token_carries_more_than_its_maker(services: Services) -> None:
    """Everybody makes tokens for themselves within their permissions; for others only administrators do."""
    ada = await services.person("ada", "author")
    row, _ = await services.tokens.create(ada, "ada", ["author"])
    assert row.permissions == ("author",)
    with pytest.raises(ForbiddenError) as refused:
        await services.tokens.create(ada, ada.user_id, ["author", "publisher"])
    assert refused.value.details["permissions"] == ["publisher"]
    with pytest.raises(ForbiddenError):
        await services.tokens.create(ada, "root")
    with pytest.raises(InvalidError):
        await services.tokens.create(services.admin, "root", ["god"])
    with pytest.raises(NotFoundError):
        await services.tokens.create(services.admin, "nobody")
    with pytest.raises(InvalidError):
        await services.tokens.create(services.admin, "root", [], "a\0b")
    assert (await services.log()).count("denied") == 2


async def test_expiry(services: Services) -> None:
    """A token works until its hour, not later, whatever is remembered of it; an hour in the past is refused."""
    clock = Clock()
    tokens = Tokens(services.pool, services.audit, cache_seconds=1000, clock=clock)
    _, secret = await tokens.create(services.admin, "root", expires_at=datetime.now(UTC) + timedelta(seconds=100))
    assert await tokens.authenticate(secret) is not None
    await services.pool.execute("UPDATE api_tokens SET expires_at = now() - interval '1 second'")
    clock.now = 99.0 - 5
    assert await tokens.authenticate(secret) is not None  # remembered
    clock.now = 101.0
    assert await tokens.authenticate(secret) is None
    for wrong in (datetime.now(UTC) - timedelta(seconds=1), datetime(2030, 1, 1)):  # noqa: DTZ001
        with pytest.raises(InvalidError):
            await tokens.create(services.admin, "root", expires_at=wrong)


async def test_revoking_is_felt_at_once_here_and_soon_elsewhere(services: Services) -> None:
    """The node that revokes refuses the token at once; another one within the seconds it remembers."""
    clock = Clock()
    elsewhere = Tokens(services.pool, services.audit, cache_seconds=3, clock=clock)
    row, secret = await services.tokens.create(services.admin, "root")
    assert await services.tokens.authenticate(secret) is not None
    assert await elsewhere.authenticate(secret) is not None
    revoked = await services.tokens.revoke(services.admin, row.id)
    assert revoked.revoked_at is not None
    assert await services.tokens.authenticate(secret) is None
    assert await elsewhere.authenticate(secret) is not None
    clock.now = 3.1
    assert await elsewhere.authenticate(secret) is None
    again = await services.tokens.revoke(services.admin, row.id)
    assert again.revoked_at == revoked.revoked_at
    assert (await services.log()).count("token.revoked") == 1


async def test_checks_are_shared_and_bounded(services: Services, monkeypatch: pytest.MonkeyPatch) -> None:
    """A hundred requests with one secret ask the database once; the memory does not grow with wrong secrets."""
    monkeypatch.setattr("pliers_workflow.runtime.access.tokens.CACHE_SIZE", 10)
    _, secret = await services.tokens.create(services.admin, "root")
    checks = 0
    check = services.tokens._check

    async def counted(secret_hash: bytes) -> Principal | None:
        nonlocal checks
        checks += 1
        return await check(secret_hash)

    monkeypatch.setattr(services.tokens, "_check", counted)
    principals = await asyncio.gather(*(services.tokens.authenticate(secret) for _ in range(100)))
    assert len(set(principals)) == 1
    assert checks == 1
    for n in range(30):
        assert await services.tokens.authenticate(f"pliers_{n:043}") is None
    assert len(services.tokens._checked) == 10


async def test_the_inactive_have_no_token(services: Services) -> None:
    """Who is made inactive cannot come in, and gets no new token."""
    await services.person("ada")
    _, secret = await services.tokens.create(services.admin, "ada")
    user = await services.directory.deactivate(services.admin, "ada")
    services.tokens.forget_user("default", user.id)
    assert await services.tokens.authenticate(secret) is None
    with pytest.raises(NotFoundError):
        await services.tokens.create(services.admin, "ada")


async def test_one_sees_and_revokes_ones_own(services: Services, other_admin: Principal) -> None:
    """Others' tokens are not there for those who are no administrators, nor for those of another tenant."""
    ada, bob = await services.person("ada"), await services.person("bob")
    row, _ = await services.tokens.create(ada, "ada", name="mine")
    assert [token.name for token in (await services.tokens.list(ada)).items] == ["mine"]
    assert (await services.tokens.list(bob, user=ada.user_id)).items == ()
    assert (await services.tokens.list(other_admin)).items == ()
    for stranger in (bob, other_admin):
        with pytest.raises(NotFoundError):
            await services.tokens.revoke(stranger, row.id)
    with pytest.raises(NotFoundError):
        await services.tokens.revoke(services.admin, "\0")
    assert (await services.tokens.revoke(ada, row.id)).revoked_at is not None
    assert [token.id for token in (await services.tokens.list(services.admin)).items] == [row.id]


async def test_the_first_token_of_all_is_given_once(services: Services) -> None:
    """Of several nodes that start at once one gets the secret; later starts get none; lost tokens are recoverable."""
    nodes = [Tokens(services.pool, services.audit) for _ in range(5)]
    secrets = [secret for secret in await asyncio.gather(*(node.bootstrap() for node in nodes)) if secret]
    assert len(secrets) == 1
    principal = await services.tokens.authenticate(secrets[0])
    assert principal is not None
    assert (principal.username, principal.permissions) == ("admin", frozenset({"admin"}))
    assert await services.tokens.bootstrap() is None
    assert principal.token_id is not None
    await services.tokens.revoke(principal, principal.token_id)
    second = await services.tokens.bootstrap()
    assert second not in (None, secrets[0])
    theirs = await services.tokens.bootstrap("other")
    assert theirs is not None
    admin = await services.tokens.authenticate(theirs)
    assert admin is not None
    assert admin.tenant_id == "other"
    with pytest.raises(NotFoundError):
        await services.tokens.bootstrap("nowhere")


async def test_a_repeated_request_never_shows_the_secret_again(services: Services) -> None:
    """The same Idempotency-Key, at the same time and later: one token, whose secret is in one answer."""
    answers = await asyncio.gather(
        *(services.tokens.create(services.admin, "root", request=key("k")) for _ in range(3))
    )
    answers.append(await services.tokens.create(services.admin, "root", request=key("k")))
    assert len({row.id for row, _ in answers}) == 1
    assert len([secret for _, secret in answers if secret is not None]) == 1
    assert len((await services.tokens.list(services.admin)).items) == 1
