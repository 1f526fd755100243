"""The demo: everything there is, on a bare machine, with people who decide.

It starts PostgreSQL (embedded), brings the schema up to date, starts a server, publishes the examples, makes people, and
pushes submissions through their approvals over the real HTTP API. Then it prints what became of them and leaves the
server running until Ctrl-C. Who decides what is drawn from a seeded generator, so two runs tell the same story.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import signal
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any, Final

from msgspec import Struct
from rich.console import Console
from rich.table import Table

from pliers_workflow import examples
from pliers_workflow.client.api import Api, Unexpected
from pliers_workflow.client.http import HttpClient
from pliers_workflow.client.progress import Meter
from pliers_workflow.client.server import LocalServer, ServerFailed
from pliers_workflow.client.setup import ensure_binding, ensure_sets, ensure_user, ensure_workflow, user_api
from pliers_workflow.installation import admin_token, database

_INSTANCES = "/api/v1/workflow-instances"
#: submissions under way at the same time
_CALLERS = 16


class Person(Struct, frozen=True):
    """Somebody of the demo's company."""

    username: str
    name: str
    manager: str | None = None
    roles: tuple[str, ...] = ()
    groups: tuple[str, ...] = ()


PEOPLE: Final = (
    Person("dora", "Dora Okafor", None, ("director", "department_head")),
    Person("bruno", "Bruno Keller", "dora", ("department_head",)),
    Person("carla", "Carla Moreau", "dora", ("department_head",)),
    Person("fatima", "Fatima Haddad", "dora", ("finance", "controller")),
    Person("gustav", "Gustav Lindqvist", "fatima", ("finance", "controller")),
    Person("helena", "Helena Novak", "fatima", ("controller",)),
    Person("ivo", "Ivo Petrov", "dora", (), ("legal",)),
    Person("jana", "Jana Weiss", "ivo", (), ("legal",)),
    Person("kofi", "Kofi Mensah", "carla", ("purchasing",)),
    Person("ada", "Ada Lindgren", "bruno"),
    Person("ben", "Ben Carter", "bruno"),
    Person("lena", "Lena Schmidt", "carla"),
    Person("milo", "Milo Rossi", "carla"),
    Person("nora", "Nora Dahl", "bruno"),
)
_REQUESTERS: Final = ("ada", "ben", "lena", "milo", "nora")
_PURPOSES: Final = ("train to Vienna", "client dinner", "conference in Lyon", "desk chair", "training course", "taxi")
_SUPPLIERS: Final = ("Nordlicht GmbH", "Atelier Blanc", "Papeterie Duval", "Copperfield Ltd", "Soluna Systems")


def demo(
    *,
    exit_after: bool = False,
    submissions: int = 300,
    port: int = 8080,
    database_url: str = "",
    folder: Path = Path(".pliers"),
) -> int:
    """Run the demo; 0 when all went as it should."""
    try:
        return asyncio.run(_demo(exit_after, submissions, port, database_url, folder.absolute()))
    except (ServerFailed, Unexpected) as error:
        print(f"pliers demo: {error}", file=sys.stderr)
        return 3


async def _demo(exit_after: bool, submissions: int, port: int, database_url: str, folder: Path) -> int:
    """Run it as a task, so that Ctrl-C and SIGTERM end whatever it is doing in good order."""
    console = Console(highlight=False)
    rested: list[bool] = []
    main = asyncio.create_task(_run(console, exit_after, submissions, port, database_url, folder, rested))
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, main.cancel)
    try:
        await main
    except asyncio.CancelledError:
        if not rested:
            console.print("stopped before the end")
            return 130
    console.print(f"stopped; the data stay in {folder}")
    return 0


async def _run(
    console: Console, exit_after: bool, submissions: int, port: int, database_url: str, folder: Path, rested: list[bool]
) -> None:
    from pliers_workflow.storage.migrations import migrate

    folder.mkdir(exist_ok=True, parents=True)
    async with contextlib.AsyncExitStack() as stack:
        console.print(
            "[bold]1[/] PostgreSQL:", "given by its DSN" if database_url else f"embedded, in {folder}/database"
        )
        dsn = await stack.enter_async_context(database(database_url, None if database_url else folder / "database"))
        applied = await migrate(dsn)
        console.print(f"[bold]2[/] schema: {'made by ' + ', '.join(applied) if applied else 'up to date'}")
        server = LocalServer(dsn, folder / "server.log", port=port)
        stack.push_async_callback(server.stop)
        await server.start()
        if port and server.port != port:
            console.print(f"  port {port} is taken; using {server.port}")
        console.print(f"[bold]3[/] server: {server.url}")
        token = await admin_token(dsn, name="demo")
        http = await stack.enter_async_context(HttpClient(server.url, connections=_CALLERS))
        company = Company(Api(http, token))
        await company.settle_in()
        console.print(f"[bold]4[/] {len(PEOPLE)} people; workflows: {', '.join(examples.NAMES)}")
        console.print(f"[bold]5[/] {submissions} submissions on their way through approvals")
        began = time.monotonic()
        with Meter("submissions", submissions) as meter:
            await company.work(submissions, meter)
        _print_summary(console, company, time.monotonic() - began)
        if exit_after:
            return
        await _print_addresses(console, company.admin, server.url, token)
        rested.append(True)
        await asyncio.Event().wait()


async def _print_addresses(console: Console, admin: Api, url: str, token: str) -> None:
    rows = {"API documentation": f"{url}/docs", "admin's token": token}
    for username in ("ada", "bruno", "fatima"):
        made = await admin.do("POST", "/api/v1/tokens", {"user": username, "name": "demo, to look around"})
        rows[f"{username}'s token"] = made["secret"]
    console.print()
    for name, value in rows.items():
        console.print(f"{name:<20}{value}", soft_wrap=True)
    brunos = rows["bruno's token"]
    inbox = f"{url}/api/v1/users/me/approvals"
    console.print(f"\nBruno's inbox: curl -H 'Authorization: Bearer {brunos}' {inbox}", soft_wrap=True)
    console.print("Ctrl-C stops the server and PostgreSQL.")
    sys.stdout.flush()


class Company:
    """People at work: some hand in submissions, others decide."""

    def __init__(self, admin: Api) -> None:
        self.admin = admin
        self.people: dict[str, Api] = {}
        #: (workflow, state) -> how many ended or wait there
        self.ended: Counter[tuple[str, str]] = Counter()
        self.waiting: Counter[tuple[str, str]] = Counter()
        #: accepted commands
        self.transitions = 0
        self.refused = 0

    async def settle_in(self) -> None:
        """People, their tokens, the workflows and the forms that start them."""
        await ensure_sets(
            self.admin,
            roles=(role for person in PEOPLE for role in person.roles),
            groups=(group for person in PEOPLE for group in person.groups),
        )
        for person in PEOPLE:
            await ensure_user(
                self.admin, person.username, name=person.name, manager=person.manager,
                roles=list(person.roles), groups=list(person.groups),
            )  # fmt: skip
        for person in PEOPLE:
            self.people[person.username] = await user_api(self.admin, person.username, "demo")
        for name in examples.NAMES:
            await ensure_workflow(self.admin, examples.load(name))
        fields = ("amount", "currency", "purpose", "cost_center", "notes")
        await ensure_binding(
            self.admin, "expense_report", "expense_report", {name: f"submission.{name}" for name in fields}
        )
        fields = ("supplier", "amount", "currency", "contract", "budget_owner")
        await ensure_binding(
            self.admin, "purchase_order", "purchase_order", {name: f"submission.{name}" for name in fields}
        )

    async def work(self, submissions: int, meter: Meter) -> None:
        """Push submissions through, several at a time."""
        numbers = iter(range(submissions))

        async def desk() -> None:
            for number in numbers:
                await self._one(random.Random(number))
                meter.advance()

        async with asyncio.TaskGroup() as group:
            for _ in range(_CALLERS):
                group.create_task(desk())

    async def _one(self, chance: random.Random) -> None:
        """One submission, from the form to wherever it ends; one in seven is left for somebody to find."""
        workflow = "expense_report" if chance.random() < 0.65 else "purchase_order"
        requester = self.people[chance.choice(_REQUESTERS)]
        answer = await requester.do(
            "POST", "/api/v1/submissions", {"formId": workflow, "data": _form(workflow, chance)}
        )
        self.transitions += 1
        instance: str = [*answer["instances"], *answer["pending"]][0]
        path = f"{_INSTANCES}/{instance}"
        now = await self._advance(requester, path, "submit")
        for _ in range(12):
            if now["status"] in ("completed", "failed", "cancelled"):
                self.ended[workflow, now["currentState"]] += 1
                return
            if chance.random() < 0.05:
                break
            now = await self._move(workflow, path, now, requester, chance)
        self.waiting[workflow, now["currentState"]] += 1

    async def _move(
        self, workflow: str, path: str, now: dict[str, Any], requester: Api, chance: random.Random
    ) -> dict[str, Any]:
        if now["currentState"] == "changes":
            note = {"patch": {"amount": now["instanceData"]["amount"] + 10}}
            await requester.do("PUT", path, note)
            self.transitions += 1
            return await self._advance(requester, path, "submit")
        if now["currentState"] == "ordering":
            body = {"trigger": "order", "data": {"order_number": f"PO-{chance.randrange(10**6):06}"}}
            now = await self.people["kofi"].do("POST", f"{path}/advance", body)
            self.transitions += 1
            return now
        items = (await requester.get(f"{path}/approvals"))["items"]
        if not items:
            return dict(await requester.get(path))
        item = chance.choice(items)
        fate = chance.random()
        what, body = "approve", {"stage": item["stepId"], "comments": "fine by me"}
        if fate < 0.08:
            what, body["comments"] = "reject", "not from this budget"
        elif fate < 0.16 and item["round"] == 1:
            what, body["comments"] = "request-changes", "please check the amount"
        for person in self._asked(item, chance):
            answer = await self.people[person].call("POST", f"{path}/{what}", body)
            if answer.ok:
                self.transitions += 1
                return dict(answer.body)
            self.refused += 1
        return dict(await requester.get(path))

    async def _advance(self, who: Api, path: str, trigger: str) -> dict[str, Any]:
        now = await who.do("POST", f"{path}/advance", {"trigger": trigger})
        self.transitions += 1
        return dict(now)

    @staticmethod
    def _asked(item: dict[str, Any], chance: random.Random) -> list[str]:
        """Who may decide this item; someone who has decided already is refused, and the next one tries."""
        approver = item["approver"]
        if approver["type"] == "user":
            return [approver["username"]]
        kind = "roles" if approver["type"] == "role" else "groups"
        members = [person.username for person in PEOPLE if approver["identifier"] in getattr(person, kind)]
        chance.shuffle(members)
        return members


def _form(workflow: str, chance: random.Random) -> dict[str, Any]:
    """A form as somebody might fill it in."""
    amount = round(10 ** chance.uniform(1.3, 4.3))
    if workflow == "expense_report":
        return {
            "amount": amount,
            "currency": "EUR",
            "purpose": chance.choice(_PURPOSES),
            "cost_center": f"CC-{chance.randrange(100, 999)}",
            "notes": "",
        }
    return {
        "supplier": chance.choice(_SUPPLIERS),
        "amount": amount * 5,
        "currency": "EUR",
        "contract": "payment in 60 days, no liability" if chance.random() < 0.5 else "",
        "budget_owner": chance.choice(("bruno", "carla", "dora")),
    }


def _print_summary(console: Console, company: Company, seconds: float) -> None:
    table = Table(title="What became of them", title_justify="left")
    for column in ("workflow", "state", "", "submissions"):
        table.add_column(column, justify="right" if column == "submissions" else "left")
    for kind, counts in (("ended", company.ended), ("waiting", company.waiting)):
        for (workflow, state), count in sorted(counts.items()):
            table.add_row(workflow, state, kind, str(count))
    console.print(table)
    console.print(
        f"{company.transitions} transitions in {seconds:.1f} s: {company.transitions / seconds:.0f} a second, each committed "
        f"with its history before it was answered; {company.refused} decisions refused (asked somebody else already)"
    )
