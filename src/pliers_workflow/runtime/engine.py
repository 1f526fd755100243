"""The engine of one node: its services and pools put together, and the one way to give an instance a command.

What a node does follows from its role. Every node commits the commands that are given to it, registers, and listens for
wake-ups. Workers (`worker`, `all`) run the services that find work for themselves as well.
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Sequence
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final
from uuid import uuid4

import structlog
from msgspec.structs import replace

from pliers_workflow.interpreter.commands import Actor, Command, StartInstance
from pliers_workflow.interpreter.facts import User
from pliers_workflow.interpreter.rejections import Reason, Rejection
from pliers_workflow.storage import identity
from pliers_workflow.storage.database import open_pool

from . import tracing
from .access.audit import Audit
from .access.tenants import Tenants
from .access.tokens import Tokens
from .admission import Admission, queued
from .answers import Answer, NotFound, RequestKey
from .catalog import Catalog
from .commit.pipeline import Pipeline
from .commit.solo import SoloInterpreter
from .directory import Directory
from .event_sources import EventSources, Rejects, SourceServer
from .event_sources.probe import EventSourcesProbe
from .feed import Feed
from .feed.cloudevents import EventMaker
from .health import Health
from .health.probes import DatabaseProbe, JobsProbe, LeasesProbe, LogProbe, NodeProbe, NodesProbe, StepsProbe
from .inbound.inbox import Inbox
from .inbound.own import OwnEvents
from .inbound.probe import EventsProbe
from .jobs.claims import StepClaims
from .jobs.dead import DeadJobs
from .jobs.departures import Departures
from .jobs.executors import Executors
from .jobs.executors.http import HttpExecutor
from .jobs.executors.notification import NotificationExecutor
from .jobs.executors.plugin import PluginExecutor
from .jobs.executors.script import ScriptExecutor
from .jobs.external import ExternalTasks
from .jobs.incidents import IncidentResolver, Incidents
from .jobs.limits import StepLimits
from .jobs.orders import ChildStarter, OrderDispatcher
from .jobs.payloads import CHILD, DEPARTURE, ORDER, RESOLUTION, STEP
from .jobs.rescuer import LeaseRescuer
from .jobs.timers import TimerDispatcher
from .jobs.worker import StepWorker
from .nodes.database_check import DatabaseCheck
from .nodes.housekeeping import Housekeeping
from .nodes.messenger import Messenger
from .nodes.registrar import NodeRegistrar, new_node_id
from .nodes.services import Service
from .nodes.wakeups import TIMER, TRIGGER, Wakeups, job
from .outbound import Outbound
from .plugins.discovery import Installed, discover
from .plugins.probe import PluginsProbe
from .plugins.registry import PluginRegistry
from .scripts import ScriptSandbox
from .submissions import Submissions
from .submissions.events import SubmissionEvents
from .subscriptions import Subscriptions, SubscriptionServer
from .subscriptions.probe import SubscriptionsProbe

if TYPE_CHECKING:
    import asyncpg

    from pliers_workflow.settings import Settings

    from .access.principal import Principal
    from .commit.fold import Fold
    from .rows import DefinitionRow

_log: Final = structlog.get_logger(__name__)


class Engine:
    """See the module. `open_engine` makes one; `start` begins to work, `close` drains."""

    def __init__(
        self,
        settings: Settings,
        pool: asyncpg.Pool[Any],
        readers: asyncpg.Pool[Any],
        installed: Installed | None = None,
    ) -> None:
        """`installed`: the plugins of this node; None: those that are found on the machine."""
        self.settings = settings
        node_id = new_node_id()
        #: who this node is in leases and health
        self.node = f"{settings.node.name or f'{socket.gethostname()}:{os.getpid()}'}:{node_id[:6]}"
        self.pool = pool
        self.readers = readers
        #: set when this node is told to stop: it takes no new work, and whoever waits for something on it goes elsewhere
        self.draining = asyncio.Event()
        self._drained: asyncio.Task[None] | None = None
        self._limited = settings.execution.max_concurrent_instances > 0
        self.wakeups = Wakeups(due_within=settings.execution.timer_poll, limited=self._limited)
        self.messenger = Messenger(settings, self.wakeups, node_id=node_id)
        self.audit = Audit(pool, record_denied=settings.security.enable_audit_logging)
        installed = discover(settings.plugins) if installed is None else installed
        for broken in installed.broken.values():
            _log.warning("plugin_broken", plugin=broken.id, distribution=broken.distribution, reason=broken.reason)
        self.plugins = PluginRegistry(pool, installed, silent_after=settings.node.silent_after)
        self.catalog = Catalog(
            pool, self.audit, weight_max=settings.cache.max_size, retry_attempts=settings.execution.retry_attempts,
            plugins=self.plugins,
        )  # fmt: skip
        self.directory = Directory(pool, self.audit, somebody_left=lambda: self.wakeups.wake(job(DEPARTURE)))
        self.tokens = Tokens(pool, self.audit, cache_seconds=settings.security.token_cache_ttl)
        self.scripts = ScriptSandbox()
        self._solo = SoloInterpreter(
            self, budget_steps=settings.execution.budget_steps_alone, retry_attempts=settings.execution.retry_attempts
        )
        self.pipeline = Pipeline(
            pool,
            charts=self.catalog,
            directory=self.directory,
            scripts=self.scripts,
            solo=self._solo,
            settings=settings.execution,
            committed=self._committed,
        )
        self.registrar = NodeRegistrar(
            pool,
            settings.node,
            self.messenger,
            self.wakeups,
            node_id=node_id,
            name=self.node,
            write_format=self.pipeline.write_format,
            plugins=self.plugins.told(),
        )
        self.timers = TimerDispatcher(pool, self._execute_background, settings, owner=self.node)
        self.outbound = Outbound(settings.outbound)
        plugin_executor = PluginExecutor(installed, settings)
        self.executors = Executors({
            "http": HttpExecutor(self.outbound),
            "script": ScriptExecutor(self.scripts),
            "notification": NotificationExecutor(self.outbound, readers, self.directory, settings.notifications),
            "plugin": plugin_executor,
        })  # fmt: skip
        self.step_claims = StepClaims(pool, settings)
        self.step_limits = StepLimits(pool, self.audit)
        self.resolver = IncidentResolver(pool, self.execute, settings, owner=self.node)
        self.incidents = Incidents(
            pool, self.audit, self.resolver, owner=self.node, wake=lambda: self.wakeups.wake(job(RESOLUTION))
        )
        self.dead_jobs = DeadJobs(pool, self.audit, wake=lambda kind: self.wakeups.wake(job(kind)))
        self.step_worker = StepWorker(pool, self.execute, self.step_claims, self.executors, settings, owner=self.node)
        self.external_tasks = ExternalTasks(
            pool, self.execute, self.step_claims, settings, draining=self.draining,
            wake=lambda: self.wakeups.wake(job(STEP)),
        )  # fmt: skip
        self.rescuer = LeaseRescuer(pool, self.execute, settings, owner=self.node)
        self.orders = OrderDispatcher(pool, self.execute, settings, owner=self.node)
        self.children = ChildStarter(pool, self.execute, self.catalog, settings, owner=self.node)
        self.departures = Departures(pool, self.execute, settings, owner=self.node)
        self.wakeups.subscribe(TIMER, self.timers.wake)
        self.wakeups.subscribe(job(ORDER), self.orders.wake)
        self.wakeups.subscribe(job(CHILD), self.children.wake)
        self.wakeups.subscribe(job(RESOLUTION), self.resolver.wake)
        self.wakeups.subscribe(job(DEPARTURE), self.departures.wake)
        self.wakeups.subscribe(job(STEP), self.step_claims.wake)
        self.wakeups.subscribe(job(STEP), self.step_worker.wake)
        self.wakeups.subscribe(job(STEP), self.external_tasks.wake)
        self.tenants = Tenants(pool, self.audit, self.tokens, clock_moved=self._anything_due)
        self.inbox = Inbox(
            pool, settings, catalog=self.catalog, directory=self.directory, audit=self.audit, execute=self.execute,
            owner=self.node,
        )  # fmt: skip
        self.wakeups.subscribe(TRIGGER, self.inbox.delayed.wake)
        told = SubmissionEvents(self.inbox, public_url=settings.server.public_url, settings=settings.events)
        self.submissions = Submissions(pool, self.catalog, self.audit, self._start_submission, told)
        self.rejects = Rejects(pool, self.audit, self.inbox, settings)
        self.housekeeping = Housekeeping(
            pool, self.submissions, self.inbox, self.plugins, self.rejects, owner=self.node
        )
        self.admission = Admission(
            pool,
            self._execute_background,
            self.wakeups,
            limit=settings.execution.max_concurrent_instances,
            owner=self.node,
        )
        self.feed = Feed(pool, readers, settings.feed, self.wakeups, owner=self.node)
        self.database = DatabaseCheck(readers)
        limits = settings.monitoring
        self.health = Health(
            readers,
            (
                DatabaseProbe(limits),
                LogProbe(limits),
                JobsProbe(limits),
                StepsProbe(settings.monitoring, self.step_worker, self.external_tasks),
                self.admission,
                NodesProbe(),
                LeasesProbe(),
                NodeProbe(limits, self.node, self.pipeline, self.messenger, self.registrar),
            ),
        )
        self.event_maker = EventMaker(settings.server.public_url)
        self.subscriptions = Subscriptions(pool, self.audit, self.feed, self.outbound, self.wakeups, settings)
        self._subscription_server = SubscriptionServer(
            pool, self.audit, self.event_maker, self.outbound, self.wakeups, settings.subscriptions
        )
        self.feed.lanes.add_source(self._subscription_server.readers)
        self.event_sources = EventSources(pool, self.audit, self.outbound, self.wakeups)
        self._source_server = SourceServer(pool, self.inbox, self.outbound, settings.event_sources)
        self.feed.lanes.add_source(self._source_server.readers)
        self.health.add(EventsProbe(limits))
        self.health.add(EventSourcesProbe(limits))
        self._own_events = OwnEvents(pool, self.inbox, self.inbox.rules, self.event_maker)
        self.feed.lanes.add_source(self._own_events.readers)
        self.health.add(SubscriptionsProbe())
        self.health.add(PluginsProbe(self.plugins, plugin_executor.calls))
        #: what a worker runs, in the order in which it is started
        self.worker_services: list[Service] = [
            self.housekeeping, self.timers, self.orders, self.children, self.resolver, self.departures, self.step_worker, self.rescuer, self.inbox.delayed,
            self.admission, self.feed.relay, self.feed.lanes,
        ]  # fmt: skip

    async def start(self, *, services: bool = True) -> None:
        """
        Begin to work, as the role says.

        `services` False: commands only; no timers, no upkeep, and the other nodes are not told (for tests that move time).
        """
        if services:
            await self.plugins.register()
            await self.registrar.start()
            await self.messenger.start()
            await self.feed.log.start()
        await self.pipeline.start()
        if services and self.settings.node.role != "api":
            for service in self.worker_services:
                await service.start()

    def drain(self) -> None:
        """
        Begin to stop: not ready any more, claiming nothing more; commands are still taken until `close`.

        Services finish what they have begun meanwhile, or give it back. May be called more than once.
        """
        if self._drained is None:
            self.draining.set()
            self._drained = asyncio.create_task(self._drain(), name="drain")

    async def _drain(self) -> None:
        await self.registrar.drain()
        for error in await asyncio.gather(*(each.close() for each in self.worker_services), return_exceptions=True):
            if isinstance(error, Exception):
                _log.error("service_not_closed", exc_info=error)
        self._anything_due()  # whatever was given back is for the other nodes now

    async def close(self) -> None:
        """Stop: drain, commit what waits, leave the other nodes, close the pools."""
        self.drain()
        assert self._drained is not None
        await self._drained
        await self.feed.log.close()
        await self.inbox.close()
        await self.submissions.close()
        await self.pipeline.close()
        await self.registrar.close()
        await self.messenger.close()
        await self.executors.close()
        await self.outbound.close()
        await self.scripts.close()
        self._solo.close()
        await asyncio.gather(self.pool.close(), self.readers.close())

    def abandon(self) -> None:
        """It could not be started: let go of the database at once, and open no more connections to it."""
        self.pool.terminate()
        self.readers.terminate()

    @property
    def alive(self) -> bool:
        """Whether this process can work at all; where it cannot, only a restart helps."""
        return self.pipeline.alive

    async def ready(self) -> str | None:
        """Why this node should be sent no requests now; None: it takes them. Asks the database at most once a second."""
        if self.draining.is_set():
            return "draining"
        return await self.database.problem() or self.registrar.unwritten

    def _committed(self, folds: Sequence[Fold]) -> None:
        """A batch of this node is committed: who waits for what it owes is told. None of these waits for anything."""
        self.step_claims.committed(folds)
        self.wakeups.committed(folds)
        self.inbox.waits.committed(folds)

    def _anything_due(self) -> None:
        """Anything may be due that nobody knows of: a tenant's clock was moved by hand, or a node gave its jobs back."""
        for topic in (TIMER, TRIGGER, job(STEP), job(ORDER), job(CHILD), job(RESOLUTION), job(DEPARTURE)):
            self.wakeups.wake(topic)

    def overloaded(self) -> float | None:
        """Seconds after which to try again, when no more commands are taken now; else None."""
        return self.pipeline.overloaded()

    async def execute(
        self,
        tenant_id: str,
        instance_id: str,
        command: Command,
        *,
        request: RequestKey | None = None,
        background: bool = False,
    ) -> Answer:
        """
        Give an instance a command; the answer comes when it is committed and flushed, or refused.

        A caller that goes away does not take its command with it. Raises `Overloaded`, `ShuttingDown`, and
        `OutcomeUnknown` where the database went away in between.
        """
        if not identity.is_uuid(instance_id):
            return NotFound()
        if self._limited:
            command = queued(command)
        trace = tracing.current()
        if trace is not None:
            command = replace(command, trace=trace)
        # No shield is needed: a caller's cancellation ends this future, and nothing but the answer hangs on it.
        return await self.pipeline.submit(tenant_id, instance_id.lower(), command, request, background=background)

    async def _execute_background(self, tenant_id: str, instance_id: str, command: Command) -> Answer:
        return await self.execute(tenant_id, instance_id, command, background=True)

    async def start_instance(
        self,
        principal: Principal,
        definition: DefinitionRow,
        *,
        data: dict[str, Any],
        context: dict[str, Any] | None = None,
        requester: str | None = None,
        submission_id: str | None = None,
        submission: dict[str, Any] | None = None,
        external_key: str | None = None,
        request: RequestKey | None = None,
        instance_id: str | None = None,
        command_id: str | None = None,
    ) -> Answer:
        """
        Start an instance of a published definition for `requester` (a user id; by default the principal).

        Only operators start for somebody else. With an `instance_id` the start may be repeated: it happens once.
        """
        if requester is not None and requester != principal.user_id and not principal.may("operator"):
            return Rejection(
                Reason.NOT_ALLOWED, Reason.NOT_ALLOWED.message, {"allowed": ["requester", "permission:operator"]}
            )
        instance_id = instance_id or identity.new_instance_id(datetime.now(UTC))
        order = StartInstance(
            instance_id=instance_id,
            definition_id=definition.id,
            data=data,
            context=context or {},
            requester=requester,
            submission_id=submission_id,
            submission=submission or {},
            external_key=external_key,
        )
        command = Command(id=command_id or str(uuid4()), actor=actor(principal), order=order)
        return await self.execute(principal.tenant_id, instance_id, command, request=request)

    async def _start_submission(
        self,
        principal: Principal,
        definition: DefinitionRow,
        *,
        instance_id: str,
        command_id: str,
        data: dict[str, Any],
        context: dict[str, Any],
        requester: str,
        submission_id: str,
        submission: dict[str, Any],
    ) -> Answer:
        """The engine starts what a submission is bound to, in the submitter's name."""
        order = StartInstance(
            instance_id=instance_id,
            definition_id=definition.id,
            data=data,
            context=context,
            requester=requester,
            submission_id=submission_id,
            submission=submission,
        )
        command = Command(id=command_id, actor=actor(principal), order=order)
        return await self.execute(principal.tenant_id, instance_id, command)

    async def person(self, tenant_id: str, user_id: str) -> User | None:
        """A person's record in the directory, as the last batches knew it where they knew it; None: there is none."""
        key = f"user:{user_id}"
        known = self.pipeline.facts.latest(tenant_id)
        if key not in known:
            known = await self.directory.load_facts(self.readers, tenant_id, [key])
        person = known.get(key)
        return person if isinstance(person, User) else None

    async def document(self, tenant_id: str, definition_id: str) -> dict[str, Any]:
        """The document of a definition (for `SoloInterpreter`)."""
        row = await self.catalog.get(tenant_id, definition_id)
        assert row is not None, "an instance's definition exists"
        return row.definition


def actor(principal: Principal) -> Actor:
    """The principal as the interpreter sees it: the person, and what lets them act for others."""
    permissions: Sequence[str] = sorted(principal.permissions & {"operator", "admin"})
    return Actor(user=principal.user_id, permissions=tuple(permissions))


async def open_engine(settings: Settings, installed: Installed | None = None) -> Engine:
    """
    Connect to PostgreSQL and put an engine together; `start` makes it work. The schema must be migrated already.

    `installed`: the plugins of this node; None: those that are found on the machine.

    Raises asyncpg's errors and OSError when the server cannot be reached.
    """
    database = settings.database
    async with AsyncExitStack() as stack:
        execution = settings.execution
        pool = await open_pool(
            database.url, min_size=execution.batches_in_flight + 1, max_size=execution.connections_max, purpose="write",
            statement_timeout=database.query_timeout, connect_timeout=database.connection_timeout,
        )  # fmt: skip
        stack.push_async_callback(pool.close)
        readers = await open_pool(
            database.url, min_size=1, max_size=database.max_connections, purpose="read",
            statement_timeout=database.query_timeout, connect_timeout=database.connection_timeout,
        )  # fmt: skip
        stack.pop_all()
    return Engine(settings, pool, readers, installed)
