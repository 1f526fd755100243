"""Steps of type `notification`: telling people something, over channels.

The channel `webhook` hands the message to a service of yours (`notifications.webhook_url`), which knows how people want to
be told: it gets the template, the variables, and everybody who is to be told, as the directory knows them. A recipient
that is an address itself (`https://…`) gets the message there. Messages are signed as Standard Webhooks has it, under one
id for all attempts, so that a receiver can tell a repetition.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from pliers_workflow.interpreter.facts import Members, User
from pliers_workflow.storage import canonical, queries

from ... import tracing
from ...outbound import OutboundError
from ...outbound.signing import webhook_headers
from ..failures import StepFailure
from . import calls

if TYPE_CHECKING:
    import asyncpg

    from pliers_workflow.settings import NotificationSettings

    from ...commit.sources import FactLoader
    from ...outbound import Outbound
    from ..claims import ClaimedStep

_sql: Final = queries.load("steps")

#: People whom one step may tell.
_PEOPLE_MAX: Final = 10_000
_KINDS: Final = ("user", "role", "group")


class NotificationExecutor:
    """See the module."""

    def __init__(
        self, outbound: Outbound, pool: asyncpg.Pool[Any], directory: FactLoader, settings: NotificationSettings
    ) -> None:
        self._outbound = outbound
        self._pool = pool
        self._directory = directory
        self._settings = settings

    def serves(self, queue: str) -> bool:
        """Every node can."""
        return queue == "notification"

    def target(self, step: ClaimedStep) -> str | None:
        """The service that is handed the message, or the first address among the recipients."""
        addresses = [one for one in _recipients(step) if _is_address(one)]
        return calls.host_of(addresses[0] if addresses else self._settings.webhook_url)

    async def run(self, step: ClaimedStep) -> dict[str, Any]:
        """Tell everybody on every channel; who that was."""
        configuration = step.payload.run.get("configuration") or {}
        for channel in configuration.get("channels") or ["webhook"]:
            if channel != "webhook":
                raise StepFailure(
                    "CHANNEL_UNKNOWN", f"There is no channel {channel!r}; there is `webhook`.", retryable=False
                )
        recipients = _recipients(step)
        addresses = list(dict.fromkeys(one for one in recipients if _is_address(one)))
        people = await self._people(step, [one for one in recipients if not _is_address(one)])
        if not people and not addresses:
            raise StepFailure("NO_RECIPIENTS", f"Nobody is behind {', '.join(recipients)[:300]}.", retryable=False)
        body = self._message(step, configuration, people)
        if people:
            if not self._settings.webhook_url:
                raise StepFailure(
                    "CHANNEL_NOT_CONFIGURED",
                    "People are told over `notifications.webhook_url`, which is not set; ask an operator.",
                )
            await self._send(step, self._settings.webhook_url, body)
        for address in addresses:
            await self._send(step, address, body)
        return {"recipients": [person.username for person in people], "addresses": len(addresses)}

    async def close(self) -> None:
        """The connections are the node's."""

    async def _send(self, step: ClaimedStep, url: str, body: bytes) -> None:
        now = datetime.now(UTC)
        headers = {"Content-Type": "application/json", **tracing.headers(step.payload.trace, {})}
        if self._settings.webhook_secret:
            message_id = f"{step.instance_id}:{step.name}"
            headers |= webhook_headers([self._settings.webhook_secret], message_id, int(now.timestamp()), body)
        try:
            received = await self._outbound.send("POST", url, headers=headers, content=body)
        except OutboundError as error:
            raise calls.failed(error) from error
        calls.check_status(received, None, calls.host_of(url) or "The server", now=now)

    async def _people(self, step: ClaimedStep, recipients: Sequence[str]) -> list[User]:
        """Active people behind the recipients, each once, in the order in which they are named."""
        keys: list[str] = []
        for recipient in recipients:
            kind, _, name = recipient.partition(":")
            if recipient == "requester":
                requester = await self._pool.fetchval(_sql.requester, step.tenant_id, step.instance_id)
                if requester is not None:
                    keys.append(f"user:{requester}")
            elif kind == "user":
                keys += [f"username:{name}", f"user:{name}"]
            elif kind in _KINDS:
                keys.append(recipient)
            else:
                raise StepFailure(
                    "RECIPIENT_UNKNOWN",
                    f"{recipient[:100]!r} is no recipient: `requester`, `user:NAME`, `role:KEY`, `group:KEY` or an address.",
                    retryable=False,
                )
        facts = await self._directory.load_facts(self._pool, step.tenant_id, list(dict.fromkeys(keys)))
        ids: dict[str, None] = {}
        for key in keys:
            match facts.get(key):
                case User(id=user_id) | str(user_id):
                    ids[user_id] = None
                case Members(users=users):
                    ids.update(dict.fromkeys(users))
        if len(ids) > _PEOPLE_MAX:
            raise StepFailure("TOO_MANY_RECIPIENTS", f"One step tells at most {_PEOPLE_MAX} people.", retryable=False)
        known = await self._directory.load_facts(self._pool, step.tenant_id, [f"user:{one}" for one in ids])
        people = [known.get(f"user:{one}") for one in ids]
        return [person for person in people if isinstance(person, User) and person.active]

    def _message(self, step: ClaimedStep, configuration: Mapping[str, Any], people: Sequence[User]) -> bytes:
        run = step.payload.run
        told = [
            {"id": one.id, "username": one.username, "name": one.name, "email": one.email, "attributes": one.attributes}
            for one in people
        ]
        return canonical.encode_loose(
            {
                "type": "workflow.notification",
                "timestamp": datetime.now(UTC),
                "data": {
                    "template": configuration.get("template"),
                    "variables": configuration.get("variables") or {},
                    "input": run.get("input") or {},
                    "recipients": told,
                    "tenant": step.tenant_id,
                    "workflow": step.definition,
                    "version": step.payload.version,
                    "instanceId": step.instance_id,
                    "stepId": run.get("stepId"),
                },
            }
        )


def _recipients(step: ClaimedStep) -> list[str]:
    configuration = step.payload.run.get("configuration") or {}
    return [str(one) for one in configuration.get("recipients") or ()]


def _is_address(recipient: str) -> bool:
    return recipient.startswith(("http://", "https://"))
