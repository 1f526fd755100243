"""The commit of batches: the one road on which instances change.

While one batch is being committed the next gathers; nothing waits for a timer. A batch is one read of all its instances
with the database's clock, `interpret` for each command, one writing statement, one commit. Callers are answered after
the commit, never before, refused ones too: a rejection may rest on a command folded before it.

What another node overtook is read and interpreted again, the third time under a lock that waits. A dead connection proves
nothing, because its backend may commit later: from then on, such commands are looked up in the history before they are
interpreted. A batch that fails with a data error is halved until the culprit stands alone; so is one that comes to a
deadlock or a time limit twice, and who alone does so for too long is told to come again. What needs a script, or more
work than a batch allows, leaves its batch, and later commands of its instance wait behind it.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import defaultdict
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final

import asyncpg
import structlog

from pliers_workflow.interpreter.commands import StartInstance
from pliers_workflow.interpreter.facts import Needs
from pliers_workflow.interpreter.interpret import interpret
from pliers_workflow.interpreter.outcome import Outcome, Overrun
from pliers_workflow.interpreter.rejections import Rejection
from pliers_workflow.storage import instances as storage
from pliers_workflow.storage.batch_writes import BatchWrites, save
from pliers_workflow.storage.database import discard_stale_plans
from pliers_workflow.storage.formats import FORMAT, NewerFormat
from pliers_workflow.storage.parts import Unstorable

from ..answers import (
    Accepted,
    Answer,
    EngineError,
    InstanceTooNew,
    KeyReused,
    NotFound,
    OutcomeUnknown,
    Overloaded,
    RequestKey,
    ShuttingDown,
)
from ..failures import CONNECTION_LOST, DATABASE_AWAY, KEY_CONSTRAINT, TRANSIENT, key_was_used, refuse
from .aside import ROUNDS_MAX, Aside, definition_of
from .facts import FactCache
from .fold import Fold
from .history import decode_record, fold_records
from .queue import FURTHER_BATCH_MIN, CommandQueue, Key, Pending
from .recent import RecentInstances

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from pliers_workflow.interpreter.commands import Command
    from pliers_workflow.settings import ExecutionSettings
    from pliers_workflow.storage.instances import KnownKey

    from .solo import SoloInterpreter
    from .sources import Charts, FactLoader, Scripts

_log = structlog.get_logger(__name__)

#: Times a command is overtaken before it is read under a lock that waits.
_OVERTAKEN_MAX: Final = 2
_RECONNECT_DELAY_MIN: Final = 0.05
_RECONNECT_DELAY_MAX: Final = 2.0
#: Seconds that draining may take; longer than any statement.
_DRAIN_TIMEOUT: Final = 20.0
#: Seconds for what is given up then to come to its end.
_CANCEL_TIMEOUT: Final = 2.0

#: Turns of the event loop before a batch is taken. A request over HTTP takes about five from the socket to the queue.
_GATHERING_TURNS: Final = 16

Batch = list[tuple[Key, list[Pending]]]


class Pipeline:
    """See the module. One for each node; used from one event loop."""

    def __init__(
        self,
        pool: asyncpg.Pool[Any],
        *,
        charts: Charts,
        directory: FactLoader,
        scripts: Scripts,
        solo: SoloInterpreter,
        settings: ExecutionSettings,
        committed: Callable[[Sequence[Fold]], None] = lambda _: None,
    ) -> None:
        self._pool = pool
        self._charts = charts
        self._directory = directory
        self._settings = settings
        self._committed = committed
        self._format = FORMAT
        self.facts = FactCache()
        self._recent = RecentInstances()
        self._queue = CommandQueue(settings.batches_in_flight)
        self._key_ttl = timedelta(seconds=settings.idempotency_ttl)
        self._aside = Aside(
            pool,
            self._queue,
            charts=charts,
            directory=directory,
            facts=self.facts,
            scripts=scripts,
            solo=solo,
            key_ttl=self._key_ttl,
            committed=committed,
        )
        self._workers: list[asyncio.Task[None]] = []
        self._closing = False
        #: the batch before had several commands that somebody waited for
        self._crowded = False
        #: counted since the start: batches committed, commands in them, instances overtaken
        self.batches = 0
        self.commands = 0
        self.overtaken = 0

    async def start(self) -> None:
        """Begin to commit."""
        self._workers = [
            asyncio.create_task(self._work(), name=f"pipeline-{number}")
            for number in range(self._settings.batches_in_flight)
        ]

    async def close(self) -> None:
        """
        Take no more commands, and commit those that wait.

        Where the database is away, that ends after a while: callers are told that the outcome of theirs is unknown, or
        that nothing was done.
        """
        if self._closing:
            return
        self._closing = True
        try:
            async with asyncio.timeout(_DRAIN_TIMEOUT):
                while self._queue.length or self._queue.in_flight or self._aside.tasks:
                    self._queue.wake_all()
                    await asyncio.sleep(0.005)
                self._queue.wake_all()
                await asyncio.gather(*self._workers, return_exceptions=True)
        except TimeoutError:
            _log.warning("drain_gave_up", commands=self._queue.length)
            tasks = [*self._workers, *self._aside.tasks]
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks, timeout=_CANCEL_TIMEOUT)
            for pending in self._queue.waiting():
                pending.fail(OutcomeUnknown(pending.command.id) if pending.uncertain else _shutting_down())
        self._workers = []

    def write_format(self, format: int) -> None:
        """From now on machines and records are written in this format: the nodes agreed on it."""
        self._format = format

    @property
    def alive(self) -> bool:
        """Whether it commits: a worker that has ended before its time is a defect, and does not come back."""
        return self._closing or not any(worker.done() for worker in self._workers)

    @property
    def waiting(self) -> int:
        """Commands that are in no batch yet."""
        return self._queue.length

    def overloaded(self) -> float | None:
        """Seconds after which to try again, when no more commands are taken now; else None."""
        if self._queue.length >= self._settings.queue_length_max or self._queue.age() > self._settings.queue_age_max:
            return 1.0
        return None

    def submit(
        self, tenant_id: str, instance_id: str, command: Command, request: RequestKey | None, *, background: bool
    ) -> asyncio.Future[Answer]:
        """Queue a command; its answer comes after its commit. Raises `Overloaded` or `ShuttingDown`."""
        if self._closing:
            raise _shutting_down()
        retry_after = self.overloaded()
        if retry_after is not None:
            raise Overloaded(retry_after)
        pending = Pending(tenant_id, instance_id, command, request, background=background)
        self._queue.put(pending)
        return pending.future

    # -- workers -------------------------------------------------------------------------------------------------------

    async def _work(self) -> None:
        delay = _RECONNECT_DELAY_MIN
        connection: Any = None
        try:
            while True:
                await self._queue.wait()
                await self._gather()
                # another worker may have taken what this one was woken for
                batch = self._queue.take(self._share(), self._settings.fold_max)
                if not batch:
                    if self._closing and not self._aside.tasks and not self._queue.length:
                        return
                    continue
                self._crowded = sum(not pendings[0].background for _, pendings in batch) > 1
                try:
                    if connection is None or connection.is_closed():
                        await self._drop_connection(connection)
                        connection = await self._pool.acquire(timeout=10)
                    await discard_stale_plans(connection)
                    await self._commit_batch(connection, batch)
                    delay = _RECONNECT_DELAY_MIN
                except CONNECTION_LOST as error:
                    _log.warning("connection_lost", error=repr(error), commands=sum(len(p) for _, p in batch))
                    self._retry_lost(batch)
                    await self._drop_connection(connection)
                    connection = None
                    await asyncio.sleep(delay)
                    delay = min(delay * 2, _RECONNECT_DELAY_MAX)
                    self._expire(self._queue.waiting())
                except asyncio.CancelledError:  # draining gave up: the statement may be committed yet
                    for _, pendings in batch:
                        for pending in pendings:
                            if not pending.settled and not pending.queued:
                                pending.fail(OutcomeUnknown(pending.command.id))
                    raise
                except Exception as error:  # a bug: the statement was rolled back, nothing is half-written
                    _log.exception("batch_failed", commands=sum(len(p) for _, p in batch))
                    for _, pendings in batch:
                        for pending in pendings:
                            pending.fail(EngineError(f"the engine failed on this command: {error!r}"))
                finally:
                    self._queue.end(batch)
                    for key, _ in batch:
                        if key not in self._aside.keys:
                            self._queue.release(key)
        finally:
            if connection is not None:
                with contextlib.suppress(Exception):
                    await self._pool.release(connection)

    async def _gather(self) -> None:
        """
        Let what is on its way come along, where callers are many: a batch costs as much as ten more commands in it.

        Requests that arrived together need some turns of the loop to become commands. One caller alone does not wait.
        """
        if self._crowded:
            for _ in range(_GATHERING_TURNS):
                await asyncio.sleep(0)

    def _share(self) -> int:
        """Commands for the next batch: all that wait, or a worker's part where there is enough for several."""
        settings, queue = self._settings, self._queue
        length = queue.length - queue.background_length or queue.background_length
        resting = len(self._workers) - queue.in_flight
        if length >= 2 * FURTHER_BATCH_MIN and resting > 1:
            length = max(FURTHER_BATCH_MIN, -(-length // resting))
        return min(settings.batch_size_max, length)

    async def _drop_connection(self, connection: Any) -> None:
        """Give a connection back that may be dead: its backend is not waited for."""
        if connection is not None:
            with contextlib.suppress(Exception):
                connection.terminate()
            with contextlib.suppress(Exception):
                await self._pool.release(connection)

    def _retry_lost(self, batch: Batch) -> None:
        for key, pendings in batch:
            again = [pending for pending in pendings if not pending.settled and not pending.queued]
            for pending in again:
                pending.uncertain = True
            self._queue.give_back(key, again)

    def _expire(self, commands: Iterable[Pending]) -> None:
        """While the database is away, or somebody holds an instance's row: do not let callers wait for ever."""
        for pending in commands:
            waited = asyncio.get_running_loop().time() - pending.enqueued_at
            if waited > self._settings.default_timeout:
                pending.fail(OutcomeUnknown(pending.command.id) if pending.uncertain else Overloaded(5.0))

    # -- a batch -------------------------------------------------------------------------------------------------------

    async def _commit_batch(self, connection: Any, batch: Batch) -> None:
        fresh = [entry for entry in batch if entry[1][0].attempts < _OVERTAKEN_MAX]
        contested = [entry for entry in batch if entry[1][0].attempts >= _OVERTAKEN_MAX]
        if fresh:
            await self._commit(connection, fresh)
        if contested:
            await self._commit(connection, contested, waiting=True)

    async def _commit(self, connection: Any, batch: Batch, *, waiting: bool = False) -> None:
        """Commit a batch; `waiting` takes the row locks before reading, so that nothing can overtake it."""
        try:
            if waiting:
                async with connection.transaction():
                    await storage.lock(connection, [key for key, _ in batch])
                    folds, overtaken = await self._interpret_and_save(connection, batch)
            else:
                folds, overtaken = await self._interpret_and_save(connection, batch)
        except asyncpg.UniqueViolationError as error:
            if error.constraint_name == KEY_CONSTRAINT:
                self._requeue(batch)  # somebody used the key meanwhile; the next read finds it
            else:
                await self._halve(connection, batch, error)
            return
        except TRANSIENT as error:
            _log.info("batch_again", error=repr(error))
            # The first time it is run again as it is; after that, what is in the way must not be in everybody's.
            if any(pendings[0].attempts for _, pendings in batch):
                await self._halve(connection, batch, error)
            else:
                self._requeue(batch)
            return
        except CONNECTION_LOST as error:
            if not isinstance(
                error, ValueError
            ):  # asyncpg's error for an argument it cannot encode is an InterfaceError
                raise
            await self._halve(connection, batch, error)
            return
        except (asyncpg.PostgresError, Unstorable) as error:
            await self._halve(connection, batch, error)
            return
        self.batches += 1
        for fold in folds:
            if fold in overtaken:
                self.overtaken += 1
                self._recent.forget(fold.key)
                self._requeue([(fold.key, fold.pendings + fold.deferred)])
                continue
            self.commands += len(fold.answers)
            if fold.rows and fold.instance is not None:
                self._recent.keep(fold.key, fold.instance, fold.hash, len(fold.rows[0].record))
            for pending, answer in fold.answers:
                # What was refused now may be committed yet as it was interpreted before, unless the instance moved on.
                if type(answer) is Rejection and not fold.rows and pending.may_be_committed(fold.revision):
                    pending.fail(OutcomeUnknown(pending.command.id))
                else:
                    pending.answer(answer)
            if fold.deferred:
                self._queue.give_back(fold.key, fold.deferred)
                if fold.parked is not None:
                    self._aside.take(fold)
        self._committed(folds)

    async def _interpret_and_save(self, connection: Any, batch: Batch) -> tuple[list[Fold], set[Fold]]:
        folds = await self._interpret(connection, batch)
        writes = BatchWrites(self._key_ttl)
        written = [fold for fold in folds if fold.rows]
        for fold in written:
            fold.write(writes)
        if not written:
            return folds, set()
        for fold in written:
            for pending in fold.pendings:
                pending.sent_at(fold.revision)
        saved = await save(connection, writes)
        if len(saved) == len(written):
            return folds, set()
        return folds, {fold for fold in written if fold.key[1] not in saved}

    def _requeue(self, batch: Batch) -> None:
        for key, pendings in batch:
            again = [pending for pending in pendings if not pending.settled]
            for pending in again:
                pending.attempts += 1
            self._queue.give_back(key, again)

    async def _halve(self, connection: Any, batch: Batch, error: Exception) -> None:
        """The database refuses something in this batch: find out what, and let the rest through."""
        if len(batch) > 1:
            middle = len(batch) // 2
            await self._commit(connection, batch[:middle])
            await self._commit(connection, batch[middle:])
            return
        key, pendings = batch[0]
        if len(pendings) > 1:
            middle = len(pendings) // 2
            first, second = pendings[:middle], pendings[middle:]
            await self._commit(connection, [(key, first)])
            back = [pending for pending in first if pending.queued]
            if back:  # the first half will be run again, and the second must stay behind it
                for _ in back:
                    self._queue.take_first(key)
                self._queue.give_back(key, back + second)
            else:
                await self._commit(connection, [(key, second)])
            return
        if isinstance(error, asyncpg.UniqueViolationError) and await key_was_used(connection, pendings[0], error):
            self._requeue(batch)
        elif isinstance(error, TRANSIENT):
            self._requeue(batch)
            self._expire(self._queue.waiting_for(key))
        else:
            refuse(pendings[0], error)

    # -- interpreting --------------------------------------------------------------------------------------------------

    async def _interpret(self, connection: Any, batch: Batch) -> list[Fold]:
        requests: list[tuple[str, str, str, str]] = []
        asked: list[Pending] = []
        uncertain: list[Pending] = []
        for (tenant_id, _), pendings in batch:
            for pending in pendings:
                request = pending.request
                if request is not None:
                    requests.append((tenant_id, request.principal, request.route, request.key))
                    asked.append(pending)
                if pending.uncertain:
                    uncertain.append(pending)
        keys = [key for key, _ in batch]
        loaded, known = await storage.load(connection, keys, requests, self._recent.of(keys))
        replays: dict[int, Answer] = {}
        for position, used in known.items():
            pending = asked[position]
            try:
                replays[id(pending)] = await self._replay(connection, pending, used)
            except NewerFormat as error:
                pending.fail(InstanceTooNew(str(error)))
        if uncertain:
            await self._find_applied(connection, uncertain, replays)
        folds: list[Fold] = []
        for key, pendings in batch:
            row = loaded.get(key)
            if row is None:
                for pending in pendings:
                    pending.answer(NotFound())
                continue
            if row.unreadable is not None:
                for pending in pendings:
                    pending.fail(InstanceTooNew(str(row.unreadable)))
                continue
            folds.append(Fold(key, pendings, row, self._format))
        await self._load_charts(folds, replays)
        await self._load_actors(connection, folds)
        seen: set[tuple[str, str, str, str]] = set()
        todo = folds
        while todo:
            wanted: defaultdict[str, set[str]] = defaultdict(set)
            again: list[Fold] = []
            for fold in todo:
                needs = self._run(fold, replays, seen)
                if needs:
                    wanted[fold.key[0]].update(needs)
                    again.append(fold)
            for tenant_id, facts in wanted.items():
                await self._load_facts(connection, tenant_id, facts, again)
            todo = again
        return folds

    async def _load_actors(self, connection: Any, folds: list[Fold]) -> None:
        """Nearly every command looks at the person who gives it: these facts are read at once for the whole batch."""
        wanted: defaultdict[str, set[str]] = defaultdict(set)
        for fold in folds:
            view = self.facts.view(fold.key[0], fold.directory_revision)
            for pending in fold.pendings:
                user = pending.command.actor.user
                if user is not None and f"user:{user}" not in view:
                    wanted[fold.key[0]].add(f"user:{user}")
        for tenant_id, keys in wanted.items():
            await self._load_facts(connection, tenant_id, keys, folds)

    async def _load_facts(self, connection: Any, tenant_id: str, keys: set[str], folds: list[Fold]) -> None:
        facts = await self._directory.load_facts(connection, tenant_id, sorted(keys))
        for revision in {fold.directory_revision for fold in folds if fold.key[0] == tenant_id}:
            self.facts.view(tenant_id, revision).update(facts)

    async def _load_charts(self, folds: list[Fold], replays: dict[int, Answer]) -> None:
        for fold in folds:
            definition_id = _definition_id(fold)
            if definition_id is None or self._charts.cached(fold.key[0], definition_id) is not None:
                continue
            try:
                await self._charts.chart(fold.key[0], definition_id)
            except DATABASE_AWAY:
                raise
            except Exception as error:  # a definition that cannot be compiled any more: its own commands' alone
                _log.exception("chart_failed", tenant=fold.key[0], definition=definition_id)
                for pending in fold.pendings:
                    if id(pending) not in replays:
                        pending.fail(EngineError(f"the engine cannot read the definition of this instance: {error!r}"))

    def _run(self, fold: Fold, replays: dict[int, Answer], seen: set[tuple[str, str, str, str]]) -> Sequence[str]:
        """Interpret what can be interpreted; the directory facts that are missing, if any."""
        tenant_id = fold.key[0]
        view = self.facts.view(tenant_id, fold.directory_revision)
        settings = self._settings
        while fold.next < len(fold.pendings):
            pending = fold.pendings[fold.next]
            if pending.settled:
                fold.next += 1
                continue
            replay = replays.get(id(pending))
            if replay is not None:
                fold.answers.append((pending, replay))
                fold.next += 1
                continue
            request = pending.request
            if request is not None:
                mark = (tenant_id, request.principal, request.route, request.key)
                if mark in seen:
                    fold.defer()  # the same key twice in one batch: the second finds the first in its next read
                    return ()
            definition_id = definition_of(fold, pending)
            if definition_id is None:
                fold.answers.append((pending, NotFound()))
                fold.next += 1
                continue
            chart = self._charts.cached(tenant_id, definition_id)
            if chart is None:
                fold.defer()
                return ()
            if chart.weight > settings.chart_weight_max or pending.alone:
                pending.alone = True
                fold.parked = pending
                fold.defer()
                return ()
            facts = view if pending.facts is None else {**view, **pending.facts}
            try:
                result = interpret(
                    chart,
                    fold.instance,
                    pending.command,
                    facts,
                    pending.now or fold.now,
                    budget_steps=settings.budget_steps,
                    refused=pending.refused,
                )
            except Exception as error:  # a bug in the interpreter: this command's alone
                _log.exception("interpreter_failed", command=pending.command.id, instance=pending.instance_id)
                pending.fail(EngineError(f"the engine failed on this command: {error!r}"))
                fold.next += 1
                continue
            if type(result) is Outcome:
                if request is not None:
                    seen.add((tenant_id, request.principal, request.route, request.key))
                fold.accept(pending, result)
                fold.next += 1
            elif type(result) is Rejection:
                fold.answers.append((pending, result))
                fold.next += 1
            elif type(result) is Needs:
                if result.scripts:
                    pending.now = pending.now or fold.now
                    fold.parked = result
                    fold.defer()
                    return ()
                # Counted anew in each batch: a directory that changes all the while is no fault of the command.
                if fold.asking != fold.next:
                    fold.asking, fold.rounds = fold.next, 0
                fold.rounds += 1
                if fold.rounds > ROUNDS_MAX * 2:
                    pending.fail(EngineError(f"the command still asks for {', '.join(result.keys)}"))
                    fold.next += 1
                    continue
                return result.keys
            else:
                assert type(result) is Overrun
                pending.alone = True
                fold.parked = pending
                fold.defer()
                return ()
        return ()

    # -- answers from the history --------------------------------------------------------------------------------------

    async def _replay(self, connection: Any, pending: Pending, known: KnownKey) -> Answer:
        assert pending.request is not None
        if known.body_hash != pending.request.body_hash:
            return KeyReused()
        if known.instance_id is None or known.seq is None:
            return KeyReused()
        return await self._answer_of(connection, pending.tenant_id, known.instance_id, known.seq)

    async def _find_applied(self, connection: Any, uncertain: list[Pending], replays: dict[int, Answer]) -> None:
        found = await storage.applied(connection, [pending.sought for pending in uncertain])
        for pending in uncertain:
            # Where it is not found it stays uncertain: the backend that has it may commit at any time.
            seq = found.get((pending.instance_id, pending.command.id))
            if seq is not None:
                try:
                    replays[id(pending)] = await self._answer_of(
                        connection, pending.tenant_id, pending.instance_id, seq
                    )
                except NewerFormat as error:
                    pending.fail(InstanceTooNew(str(error)))

    async def _answer_of(self, connection: Any, tenant_id: str, instance_id: str, seq: int) -> Answer:
        lines = await storage.history_until(connection, tenant_id, instance_id, seq)
        records = [decode_record(line.record) for line in lines]
        instance = fold_records(records)
        assert instance is not None and lines, "an idempotency record stands for a history row"
        return Accepted(instance, seq, records[-1].events, lines[-1].executed_at, replayed=True)


def _shutting_down() -> ShuttingDown:
    return ShuttingDown("this node is shutting down; repeat the request, another node will take it")


def _definition_id(fold: Fold) -> str | None:
    if fold.base is not None:
        return fold.base.definition_id
    order = fold.pendings[0].command.order if fold.pendings else None
    return order.definition_id if isinstance(order, StartInstance) else None
