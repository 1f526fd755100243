"""Commands that leave their batch: what waits for a script, or takes more work than a batch allows.

Nobody else waits for them but later commands of the same instance, which stays busy until they are back.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final

import asyncpg
import structlog

from pliers_workflow.interpreter.commands import StartInstance
from pliers_workflow.interpreter.facts import Needs
from pliers_workflow.interpreter.rejections import Reason, Rejection
from pliers_workflow.storage import instances as storage
from pliers_workflow.storage.batch_writes import BatchWrites, save
from pliers_workflow.storage.parts import Unstorable

from ..answers import EngineError, InstanceTooNew, NotFound, OutcomeUnknown, Overloaded
from ..failures import CONNECTION_LOST, TRANSIENT, key_was_used, refuse
from .fold import Fold

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from datetime import timedelta

    from .facts import FactCache
    from .queue import CommandQueue, Key, Pending
    from .solo import SoloInterpreter
    from .sources import Charts, FactLoader, Scripts

_log = structlog.get_logger(__name__)

#: Rounds of asking for facts before a command is given up.
ROUNDS_MAX: Final = 5


class Aside:
    """See the module."""

    def __init__(
        self,
        pool: asyncpg.Pool[Any],
        queue: CommandQueue,
        *,
        charts: Charts,
        directory: FactLoader,
        facts: FactCache,
        scripts: Scripts,
        solo: SoloInterpreter,
        key_ttl: timedelta,
        committed: Callable[[Sequence[Fold]], None],
    ) -> None:
        self._pool = pool
        self._queue = queue
        self._charts = charts
        self._directory = directory
        self._facts = facts
        self._scripts = scripts
        self._solo = solo
        self._key_ttl = key_ttl
        self._committed = committed
        #: at work now
        self.tasks: set[asyncio.Task[None]] = set()
        #: instances whose first command is being worked on here
        self.keys: set[Key] = set()

    def take(self, fold: Fold) -> None:
        """Fetch what the first of the fold's deferred commands needs; its instance stays busy meanwhile."""
        parked = fold.parked
        self.keys.add(fold.key)
        work = self._run_scripts(fold, parked) if isinstance(parked, Needs) else self._run_alone(fold)
        task = asyncio.create_task(work)
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)

    async def _run_scripts(self, fold: Fold, needs: Needs) -> None:
        pending = fold.deferred[0]
        try:
            pending.rounds += 1
            if pending.rounds > ROUNDS_MAX:
                message = f"The command asks for scripts in more than {ROUNDS_MAX} rounds."
                if pending.refuse(Rejection(Reason.BUDGET_EXCEEDED, message)):
                    self._queue.take_first(fold.key)
                return
            answers = await asyncio.gather(*(self._scripts.run(request) for request in needs.scripts))
            facts = dict(pending.facts or {})
            facts.update({request.key: answer for request, answer in zip(needs.scripts, answers, strict=True)})
            pending.facts = facts
        finally:
            self.keys.discard(fold.key)
            self._queue.release(fold.key)

    async def _run_alone(self, fold: Fold) -> None:
        """Interpret one command in a process of its own, with the larger budget, and commit it as a batch of one."""
        key = fold.key
        pending = self._queue.take_first(key)
        try:
            async with self._pool.acquire() as connection:
                await self._commit_alone(connection, key, pending, fold.format)
        except TRANSIENT as error:
            _log.info("command_again", command=pending.command.id, error=repr(error))
            pending.attempts += 1
            if pending.attempts < ROUNDS_MAX:
                self._queue.give_back(key, [pending])
            else:
                pending.fail(OutcomeUnknown(pending.command.id) if pending.uncertain else Overloaded(5.0))
        except CONNECTION_LOST:
            pending.uncertain = True
            self._queue.give_back(key, [pending])
        except asyncio.CancelledError:
            pending.fail(OutcomeUnknown(pending.command.id))
            raise
        except Exception as error:  # as for a batch
            _log.exception("command_failed", command=pending.command.id)
            pending.fail(EngineError(f"the engine failed on this command: {error!r}"))
        finally:
            self.keys.discard(key)
            self._queue.release(key)

    async def _commit_alone(self, connection: Any, key: Key, pending: Pending, format: int) -> None:
        request = pending.request
        requests = [] if request is None else [(key[0], request.principal, request.route, request.key)]
        rounds = overtaken = 0
        while rounds < ROUNDS_MAX * 2 and overtaken < ROUNDS_MAX:
            loaded, known = await storage.load(connection, [key], requests)
            if known or (pending.uncertain and await storage.applied(connection, [pending.sought])):
                self._queue.give_back(key, [pending])  # done meanwhile; the next batch reads what it came to
                return
            unreadable = loaded[key].unreadable
            if unreadable is not None:
                pending.fail(InstanceTooNew(str(unreadable)))
                return
            fold = Fold(key, [pending], loaded[key], format)
            definition_id = definition_of(fold, pending)
            if definition_id is None:
                pending.answer(NotFound())
                return
            chart = await self._charts.chart(key[0], definition_id)
            view = self._facts.view(key[0], fold.directory_revision)
            facts = view if pending.facts is None else {**view, **pending.facts}
            result = await self._solo.interpret(
                key[0], definition_id, chart, fold.instance, pending.command, facts, pending.now or fold.now,
                refused=pending.refused,
            )  # fmt: skip
            pending.now = pending.now or fold.now
            if isinstance(result, Needs):
                if result.keys:
                    view.update(await self._directory.load_facts(connection, key[0], sorted(result.keys)))
                answers = await asyncio.gather(*(self._scripts.run(request) for request in result.scripts))
                pending.facts = dict(pending.facts or {})
                pending.facts.update({r.key: a for r, a in zip(result.scripts, answers, strict=True)})
                rounds += 1
                continue
            if isinstance(result, Rejection):
                if pending.may_be_committed(fold.revision):
                    pending.fail(OutcomeUnknown(pending.command.id))
                elif result.reason is not Reason.BUDGET_EXCEEDED:
                    pending.answer(result)
                elif not pending.refuse(result):
                    self._queue.give_back(key, [pending])
                return
            fold.accept(pending, result)
            writes = BatchWrites(self._key_ttl)
            fold.write(writes)
            pending.sent_at(fold.revision)
            try:
                saved = await save(connection, writes)
            except asyncpg.UniqueViolationError as error:
                if await key_was_used(connection, pending, error):
                    self._queue.give_back(key, [pending])  # used meanwhile; the next read finds it
                else:
                    refuse(pending, error)
                return
            except (asyncpg.DataError, asyncpg.IntegrityConstraintViolationError, Unstorable) as error:
                refuse(pending, error)
                return
            if key[1] in saved:
                pending.answer(fold.answers[0][1])
                self._committed((fold,))
                return
            overtaken += 1
        pending.fail(OutcomeUnknown(pending.command.id) if pending.uncertain else Overloaded(1.0))


def definition_of(fold: Fold, pending: Pending) -> str | None:
    """The definition on which a command is to be interpreted; None where there is no instance and none is started."""
    if fold.instance is not None:
        return fold.instance.definition_id
    order = pending.command.order
    return order.definition_id if isinstance(order, StartInstance) else None
