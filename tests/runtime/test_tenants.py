"""Tenants, and clocks that are moved by hand."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime

import pytest

from pliers_workflow.runtime.access.principal import Principal
from pliers_workflow.runtime.errors import ConflictError, ForbiddenError, InvalidError, KeyReusedError

from .conftest import Services, key


async def test_administrators_of_default_make_tenants(services: Services, other_admin: Principal) -> None:
    """Nobody else does; an id is taken once; a wrong id is refused; the tenant comes with its administrator's token."""
    row, secret = await services.tenants.create(services.admin, "acme", "Acme")
    assert (row.id, row.virtual_now) == ("acme", None)
    assert secret is not None
    first = await services.tokens.authenticate(secret)
    assert first is not None
    assert (first.tenant_id, first.username, first.permissions) == ("acme", "admin", {"admin"})
    with pytest.raises(ConflictError):
        await services.tenants.create(None, "acme", "Acme")
    for stranger in (other_admin, await services.person("ada", "operator")):
        with pytest.raises(ForbiddenError):
            await services.tenants.create(stranger, "more", "More")
    for wrong in ("", "Acme", "a b", "-a", "a\0", "x" * 64):
        with pytest.raises(InvalidError):
            await services.tenants.create(services.admin, wrong, "Wrong")
    assert await services.log("acme") == ["tenant.created", "token.created"]
    assert (await services.audit.verify("acme")).intact


async def test_a_repeated_request_makes_one_tenant(services: Services) -> None:
    """At the same time and later: one tenant with one token, whose secret is in one answer."""
    answers = await asyncio.gather(
        *(services.tenants.create(services.admin, "acme", "Acme", request=key("k")) for _ in range(3))
    )
    answers.append(await services.tenants.create(services.admin, "acme", "Acme", request=key("k")))
    assert [row.id for row, _ in answers] == ["acme"] * 4
    assert len([secret for _, secret in answers if secret is not None]) == 1
    assert await services.log("acme") == ["tenant.created", "token.created"]
    with pytest.raises(KeyReusedError):
        await services.tenants.create(services.admin, "acme", "Acme", request=key("k", {"other": "body"}))
    with pytest.raises(ConflictError):
        await services.tenants.create(services.admin, "acme", "Acme", request=key("another"))
    with pytest.raises(ConflictError):  # it made nothing, so it keeps nothing
        await services.tenants.create(services.admin, "acme", "Acme", request=key("another", {"other": "body"}))


async def test_tenants_are_listed_to_those_who_may(services: Services, other_admin: Principal) -> None:
    """Administrators of `default` see all, page by page; everybody else their own."""
    first = await services.tenants.list(services.admin, limit=1)
    second = await services.tenants.list(services.admin, limit=1, cursor=first.next_cursor)
    assert [tenant.id for tenant in (*first.items, *second.items)] == ["default", "other"]
    assert [tenant.id for tenant in (await services.tenants.list(other_admin)).items] == ["other"]
    assert await services.tenants.get("nowhere") is None
    assert await services.tenants.get("\0") is None


async def test_a_virtual_clock_goes_forwards_only(services: Services) -> None:
    """Moved by operators of the tenant itself; a tenant in real time has no clock to move."""
    start = datetime(2026, 3, 2, 9, tzinfo=UTC)
    await services.tenants.create(None, "lab", "Laboratory", virtual_now=start)
    operator = await services.person("op", "operator", tenant="lab")
    later = datetime(2026, 3, 4, 9, tzinfo=UTC)
    assert (await services.tenants.set_clock(operator, later)).virtual_now == later
    asked = key("k", "14:00", operator.user_id)
    afternoon = datetime(2026, 3, 4, 14, tzinfo=UTC)
    evening = datetime(2026, 3, 4, 18, tzinfo=UTC)
    assert (await services.tenants.set_clock(operator, afternoon, request=asked)).virtual_now == afternoon
    await services.tenants.set_clock(operator, evening)
    assert (await services.tenants.set_clock(operator, afternoon, request=asked)).virtual_now == afternoon
    now = await services.tenants.get("lab")
    assert now is not None
    assert now.virtual_now == evening
    with pytest.raises(ConflictError) as refused:
        await services.tenants.set_clock(operator, start)
    assert refused.value.code == "clock_goes_forwards"
    with pytest.raises(InvalidError):
        await services.tenants.set_clock(operator, datetime(2026, 3, 5))  # noqa: DTZ001
    with pytest.raises(ConflictError) as refused:
        await services.tenants.set_clock(services.admin, later)
    assert refused.value.code == "clock_not_virtual"
    with pytest.raises(ForbiddenError):
        await services.tenants.set_clock(await services.person("ada", tenant="lab"), later)
    assert await services.log("lab") == ["tenant.created", "token.created", *["tenant.clock_moved"] * 3, "denied"]
