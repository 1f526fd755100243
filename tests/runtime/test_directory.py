"""People, roles, groups, and the facts about them."""

from __future__ import annotations

import asyncio
from decimal import Decimal
from uuid import uuid4

import pytest

from pliers_workflow.interpreter.facts import Members, User
from pliers_workflow.runtime.access.principal import Principal
from pliers_workflow.runtime.errors import (
    ConflictError,
    ForbiddenError,
    InvalidError,
    NotFoundError,
    PreconditionFailedError,
)
from pliers_workflow.runtime.rows import UserInput

from .conftest import Services, key


async def test_users_are_unique_by_name_within_a_tenant(services: Services, other_admin: Principal) -> None:
    """Of five who create `ada` at once one wins; the other tenant has an `ada` of its own."""
    results = await asyncio.gather(
        *(services.directory.create_user(services.admin, UserInput(username="ada")) for _ in range(5)),
        return_exceptions=True,
    )
    assert sum(isinstance(result, ConflictError) for result in results) == 4
    theirs = await services.directory.create_user(other_admin, UserInput(username="ada"))
    ours = await services.directory.user_by_name("default", "ada")
    assert ours is not None
    assert ours.id != theirs.id
    assert await services.directory.get_user("default", theirs.id) is None
    assert await services.directory.get_user("other", ours.id) is None


async def test_update_under_if_match(services: Services) -> None:
    """Only what is named changes; a stale revision is refused; the revision grows with every change."""
    user = await services.directory.create_user(
        services.admin, UserInput(username="ada", name="Ada", attributes={"costCenter": "7", "limit": Decimal("10.50")})
    )
    changed = await services.directory.update_user(services.admin, user.id, {"email": "ada@example.org"}, user.revision)
    assert (changed.name, changed.email, changed.attributes) == ("Ada", "ada@example.org", user.attributes)
    assert changed.revision > user.revision
    with pytest.raises(PreconditionFailedError):
        await services.directory.update_user(services.admin, user.id, {"name": "Late"}, user.revision)
    gone = await services.directory.deactivate(services.admin, "ada", changed.revision)
    assert not gone.active
    with pytest.raises(InvalidError):
        await services.directory.update_user(services.admin, "ada", {"shoe_size": 7})
    with pytest.raises(NotFoundError):
        await services.directory.update_user(services.admin, "nobody", {"name": "x"})


async def test_managers(services: Services) -> None:
    """A manager is a user, and never oneself; it is named by username and can be taken away."""
    boss = await services.directory.create_user(services.admin, UserInput(username="boss"))
    ada = await services.directory.create_user(services.admin, UserInput(username="ada", manager="boss"))
    assert (ada.manager, ada.manager_id) == ("boss", boss.id)
    with pytest.raises(InvalidError):
        await services.directory.update_user(services.admin, "ada", {"manager": "ada"})
    with pytest.raises(InvalidError):
        await services.directory.create_user(services.admin, UserInput(username="bob", manager="nobody"))
    assert (await services.directory.update_user(services.admin, "ada", {"manager": None})).manager is None


async def test_roles_groups_and_members(services: Services) -> None:
    """Members are set, added and removed by id or username; members survive a renaming; deleting a role leaves people."""
    admin, directory = services.admin, services.directory
    ada = await directory.create_user(admin, UserInput(username="ada"))
    await directory.create_user(admin, UserInput(username="bob"))
    row, made = await directory.put_set(admin, "role", "manager", name="Managers")
    assert (made, row.member_count) == (True, 0)
    assert (await directory.set_members(admin, "role", "manager", ["bob", ada.id, "ada"])).member_count == 2
    row, made = await directory.put_set(admin, "role", "manager", name="Leaders")
    assert (made, row.name, row.member_count) == (False, "Leaders", 2)
    assert (await directory.remove_member(admin, "role", "manager", "bob")).member_count == 1
    with pytest.raises(NotFoundError):
        await directory.remove_member(admin, "role", "manager", "bob")
    assert (await directory.add_member(admin, "role", "manager", "bob")).member_count == 2
    assert (await directory.add_member(admin, "role", "manager", "bob")).member_count == 2
    assert [user.username for user in (await directory.members("default", "role", "manager")).items] == ["ada", "bob"]
    with pytest.raises(InvalidError, match="no user nobody"):
        await directory.set_members(admin, "role", "manager", ["ada", "nobody"])
    with pytest.raises(NotFoundError):
        await directory.set_members(admin, "group", "manager", [])
    found = await directory.get_user("default", "ada")
    assert found is not None
    assert (found.roles, found.groups) == (("manager",), ())
    await directory.delete_set(admin, "role", "manager")
    found = await directory.get_user("default", "ada")
    assert found is not None
    assert found.roles == ()
    with pytest.raises(NotFoundError):
        await directory.delete_set(admin, "role", "manager")


async def test_a_users_revision_changes_with_all_that_is_shown_of_them(services: Services) -> None:
    """Roles and groups that are deleted, and the manager's name: whoever holds an older revision is not told "not modified"."""
    directory, admin = services.directory, services.admin
    await directory.put_set(admin, "role", "clerk")
    await directory.put_set(admin, "group", "team")
    await directory.create_user(admin, UserInput(username="bob"))
    ada = await directory.create_user(
        admin, UserInput(username="ada", manager="bob", roles=("clerk",), groups=("team",))
    )
    other = await directory.create_user(admin, UserInput(username="eve"))
    await directory.delete_set(admin, "role", "clerk")
    without_role = await directory.get_user("default", "ada")
    await directory.delete_set(admin, "group", "team")
    without_group = await directory.get_user("default", "ada")
    await directory.update_user(admin, "bob", {"username": "robert"})
    renamed = await directory.get_user("default", "ada")
    assert without_role is not None
    assert without_group is not None
    assert renamed is not None
    assert (without_role.roles, without_group.groups, renamed.manager) == ((), (), "robert")
    assert ada.revision < without_role.revision < without_group.revision < renamed.revision
    assert await directory.get_user("default", "eve") == other


async def test_every_change_raises_the_directory_revision(services: Services, other_admin: Principal) -> None:
    """Facts rest on that number, so no change may leave it as it was; a change in one tenant is none in another."""
    admin, directory = services.admin, services.directory
    seen = [await directory.revision("default")]
    elsewhere = await directory.revision("other")

    async def grew() -> bool:
        seen.append(await directory.revision("default"))
        return seen[-1] > seen[-2]

    await directory.create_user(admin, UserInput(username="ada"))
    assert await grew()
    await directory.update_user(admin, "ada", {"name": "Ada"})
    assert await grew()
    await directory.put_set(admin, "group", "board")
    assert await grew()
    await directory.add_member(admin, "group", "board", "ada")
    assert await grew()
    await directory.remove_member(admin, "group", "board", "ada")
    assert await grew()
    await directory.put_users(admin, [UserInput(username="bob")])
    assert await grew()
    await directory.delete_set(admin, "group", "board")
    assert await grew()
    await directory.deactivate(admin, "ada")
    assert await grew()
    with pytest.raises(ConflictError):
        await directory.create_user(admin, UserInput(username="ada"))
    assert not await grew()
    assert await directory.revision("other") == elsewhere


async def test_facts_in_one_statement(services: Services, other_admin: Principal) -> None:
    """Users, usernames, roles and groups at once: unknown and malformed are None, members are the active ones, sorted."""
    admin, directory = services.admin, services.directory
    ids = await directory.put_users(
        admin,
        [
            UserInput(
                username="ada",
                roles=("manager", "approver"),
                groups=("board",),
                manager="bob",
                attributes={"n": Decimal("1.5")},
            ),
            UserInput(username="bob", roles=("manager",)),
            UserInput(username="carl", roles=("manager",), active=False),
        ],
    )
    foreign = await directory.create_user(other_admin, UserInput(username="zoe"))
    keys = [
        f"user:{ids['ada']}", f"user:{ids['ada'].upper()}", f"user:{ids['carl']}", f"user:{foreign.id}", "user:no-uuid",
        "user:", "username:bob", "username:nobody", "username:zoe", "username:a\0b", "role:manager", "role:nothing",
        "group:board", "group:manager", "role:\ud800", "script:abc:def",
    ]  # fmt: skip
    async with services.pool.acquire() as connection:
        facts = await directory.load_facts(connection, "default", keys)
    ada = User(
        id=ids["ada"], username="ada", manager="bob", roles=("approver", "manager"), groups=("board",),
        attributes={"n": Decimal("1.5")},
    )  # fmt: skip
    assert facts.pop(f"user:{ids['ada']}") == ada
    assert facts.pop(f"user:{ids['ada'].upper()}") == ada
    carl = facts.pop(f"user:{ids['carl']}")
    assert isinstance(carl, User)
    assert not carl.active
    assert facts.pop("username:bob") == ids["bob"]
    assert facts.pop("role:manager") == Members(tuple(sorted((ids["ada"], ids["bob"]))))
    assert facts.pop("group:board") == Members((ids["ada"],))
    assert "script:abc:def" not in facts
    assert len(facts) == len(keys) - 7
    assert set(facts.values()) == {None}


async def test_import_is_all_or_nothing_and_brings_up_to_date(services: Services) -> None:
    """A second import changes what it names and keeps ids; memberships not named stay; an error leaves nothing."""
    admin, directory = services.admin, services.directory
    many = [
        UserInput(username=f"user{n}", roles=(f"role{n % 7}",), manager="user0" if n else None) for n in range(2000)
    ]
    ids = await directory.put_users(admin, many)
    assert len(ids) == 2000
    again = await directory.put_users(
        admin, [UserInput(username="user1", name="One"), UserInput(username="user2", roles=("role9",))]
    )
    assert again["user1"] == ids["user1"]
    one, two = await directory.get_user("default", "user1"), await directory.get_user("default", "user2")
    assert one is not None
    assert two is not None
    assert (one.name, one.roles, two.roles) == ("One", ("role1",), ("role9",))
    for wrong in (
        [UserInput(username="new"), UserInput(username="new")],
        [UserInput(username="new", manager="nobody")],
        [UserInput(username="new", manager="new")],
        [UserInput(username="new"), UserInput(username="a b")],
    ):
        with pytest.raises(InvalidError):
            await directory.put_users(admin, wrong)
    assert await directory.get_user("default", "new") is None


async def test_what_cannot_be_kept_is_refused_with_a_sentence(services: Services) -> None:
    """NUL, surrogates, blanks, colons, slashes and sizes: InvalidError, never an error of the database."""
    admin, directory = services.admin, services.directory
    unspeakable = (
        "",
        "a b",
        "a:b",
        "a/b",
        "a\0b",
        "\ud800",
        "x" * 201,
        "a\n",
        "a\u00a0b",
        "a\u2003b",
        ".",
        "..",
        "\x01",
        "\x9b",
    )
    for username in unspeakable:
        with pytest.raises(InvalidError):
            await directory.create_user(admin, UserInput(username=username))
        assert await directory.get_user("default", username) is None
        assert await directory.get_set("default", "role", username) is None
        with pytest.raises(InvalidError):
            await directory.put_set(admin, "group", username)
    for reserved in ("me", str(uuid4()), str(uuid4()).upper()):
        with pytest.raises(InvalidError, match="somebody's id"):
            await directory.create_user(admin, UserInput(username=reserved))
    deep: dict[str, object] = {}
    for _ in range(200):
        deep = {"d": deep}
    for user in (
        UserInput(username="a", name="\0"),
        UserInput(username="a", email="\udfff"),
        UserInput(username="a", attributes={"k\0": 1}),
        UserInput(username="a", attributes={"k": ["\ud800"]}),
        UserInput(username="a", attributes=deep),
        UserInput(username="a", attributes={"n": Decimal("1E+200000")}),
        UserInput(username="a", attributes={"n": Decimal("NaN")}),
        UserInput(username="a", attributes={"t": "x" * 300_000}),
    ):
        with pytest.raises(InvalidError):
            await directory.create_user(admin, user)
    unicode = await directory.create_user(admin, UserInput(username="łukasz", name="Łukasz 🦊"))
    assert (await directory.get_user("default", "łukasz")) == unicode


async def test_pages_of_users(services: Services) -> None:
    """Everybody once, by username; filters hold across pages."""
    await services.directory.put_users(
        services.admin, [UserInput(username=f"u{n}", roles=("r",) if n % 2 else (), active=n != 3) for n in range(9)]
    )
    found, cursor = [], None
    while True:
        page = await services.directory.list_users("default", role="r", active=True, limit=2, cursor=cursor)
        found += [user.username for user in page.items]
        cursor = page.next_cursor
        if cursor is None:
            break
    assert found == ["u1", "u5", "u7"]
    assert len((await services.directory.list_users("default", username_prefix="u", limit=500)).items) == 9


async def test_only_administrators_change_the_directory(services: Services) -> None:
    """Every other permission is not enough, and the attempt is on record."""
    clerk = await services.person("clerk", "author", "publisher", "operator", "auditor")
    with pytest.raises(ForbiddenError):
        await services.directory.create_user(clerk, UserInput(username="x"))
    with pytest.raises(ForbiddenError):
        await services.directory.update_user(clerk, "clerk\0", {"roles": ["manager"]})
    with pytest.raises(ForbiddenError):
        await services.directory.put_set(clerk, "role", "manager")
    assert await services.log() == ["denied"] * 3


async def test_idempotency_of_directory_changes(services: Services) -> None:
    """The same request twice makes one user, and answers with it."""
    user = UserInput(username="ada")
    rows = await asyncio.gather(
        *(services.directory.create_user(services.admin, user, request=key("k")) for _ in range(4))
    )
    assert len({row.id for row in rows}) == 1
    assert await services.log() == ["user.created"]
