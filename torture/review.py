"""All that stands in the database when everything rests: each instance before its judge, and what shows only in the whole."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterator
from typing import Final

from pliers_workflow.interpreter.commands import ReplaceApprovers
from pliers_workflow.storage.database import connect, open_pool

from . import histories, judge, laws
from .caller import Call
from .outside import Favour, Outside
from .people import Cast
from .verdict import Verdict
from .workflows import KINDS

#: Timers that fire later than that are told of, for whoever wonders; while things are broken they may be.
_LATE: Final = 5.0
_INSTANCE: Final = re.compile(r"/api/v1/workflow-instances/([0-9a-f-]+)")


async def review(verdict: Verdict, dsn: str, made: list[Call], cast: Cast, outside: Outside) -> None:
    """Hold everything against everything."""
    connection = await connect(dsn, purpose="read", statement_timeout=120)
    try:
        found = await histories.read(connection)
    finally:
        await connection.close()
    pool = await open_pool(dsn, min_size=1, max_size=1)
    try:
        verdict.faults += await laws.of_audit(pool)
    finally:
        pool.terminate()
    verdict.faults += laws.of_all(found)
    Review(verdict, found, made, cast, outside.favours).run()


class Review:
    """One seed's instances, and the calls that belong to them."""

    def __init__(
        self, verdict: Verdict, found: histories.Found, made: list[Call], cast: Cast, favours: dict[str, list[Favour]]
    ) -> None:
        self._favours = favours
        self._verdict = verdict
        self._found = found
        self._cast = cast
        #: calls that begin an instance, by what names them in the history; all calls by the instance they are for
        self._starts = {call.name: call for call in made if call.starts}
        self._calls: dict[str, list[Call]] = defaultdict(list)
        #: calls that do not know their instance, by the workflow
        self._loose: dict[int, list[Call]] = defaultdict(list)
        for call in made:
            if named := _INSTANCE.match(call.path):
                self._calls[named[1]].append(call)
            else:
                self._loose[call.workflow].append(call)
        #: how often each mark has begun an instance, and how often it should have, by other instances
        self._begun: Counter[str] = Counter()
        self._children: Counter[str] = Counter()
        self._ends: Counter[str] = Counter()
        self._lateness: list[float] = []

    def run(self) -> None:
        """Judge everything."""
        found, verdict = self._found, self._verdict
        for instance_id in sorted({*found.lines, *found.instances}):
            faults = [*laws.of_instance(found, instance_id), *self._judge(instance_id)]
            if faults:
                verdict.faults += [f"instance {instance_id}: {fault}" for fault in faults]
                verdict.evidence += self._tell(instance_id, faults)
        verdict.faults += self._missing()
        self._lateness.sort()
        verdict.counts |= {
            "instances": len(found.instances),
            "rows": sum(map(len, found.lines.values())),
            "replaced": sum(
                line.decoded.command.order.__class__ is ReplaceApprovers
                for lines in found.lines.values()
                for line in lines
            ),
            "timers_fired": len(self._lateness),
            "timer_lateness_p50": round(self._lateness[len(self._lateness) // 2], 3) if self._lateness else None,
            "timer_lateness_max": round(self._lateness[-1], 3) if self._lateness else None,
            "ends": dict(sorted(self._ends.items())),
        }

    def _judge(self, instance_id: str) -> Iterator[str]:
        lines, instance = self._found.lines.get(instance_id, []), self._found.instances.get(instance_id)
        if instance is None or not lines:
            return  # a law says so
        rows = histories.told(lines, self._cast)
        kind = instance.definition_name.removeprefix("torture_")
        self._begun[rows[0].mark] += 1
        self._ends[f"{kind} {instance.current_state} {instance.status.value}"] += 1
        if start := self._starts.get(rows[0].mark):
            self._calls[instance_id] += self._loose[start.workflow]
        judgement = judge.judge(KINDS[kind], instance_id, rows, self._calls[instance_id], self._found, self._cast)
        yield from judgement.faults
        self._children.update(judgement.children)
        for attempt, what, at in judgement.favours:
            if not any(favour.what == what and favour.at <= at for favour in self._favours.get(attempt, [])):
                yield f"{attempt} is completed, and nobody outside has done {what!r} for it"
        self._lateness += judgement.lateness
        latest = max(judgement.lateness, default=0.0)
        if latest > _LATE:
            times = ", ".join(f"{row.at:%H:%M:%S.%f} {row.trigger}" for row in rows)
            self._verdict.evidence.append(f"late by up to {latest:.1f} s: {instance_id}, its rows at {times}")

    def _missing(self) -> Iterator[str]:
        """What was to begin an instance and has not begun one, or more than one; and what nobody has begun."""
        for mark, call in self._starts.items():
            if call.status and not call.ok:
                yield f"{mark} was to start an instance and was refused: {call.answer!r}"[:1000]
            if call.ok and self._begun[mark] != 1:
                yield f"{mark} was accepted and has started {self._begun[mark]} instances: {call.answer!r}"[:1000]
        for mark, wanted in self._children.items():
            if not wanted == self._begun[mark] == 1:
                yield f"{mark} was started by its parent {wanted} times, and there are {self._begun[mark]} instances"
        for mark in self._begun.keys() - self._starts.keys() - self._children.keys():
            yield f"nobody has started the instance with the mark {mark!r}"
        last = max((line.position for lines in self._found.lines.values() for line in lines), default=0)
        if self._found.horizon < last:
            yield f"the log's horizon is {self._found.horizon}, its last row {last}: readers are not told of all"

    def _tell(self, instance_id: str, faults: list[str]) -> Iterator[str]:
        """All that is known of an instance that is not as it should be."""
        yield f"instance {instance_id}"
        yield from (f"  FAULT {fault}" for fault in faults)
        for line in self._found.lines.get(instance_id, []):
            move = f"{line.from_state} -> {line.to_state}"
            yield f"  row {line.seq} at {line.decoded.at:%H:%M:%S.%f} {move}: {line.record}"
        for call in self._calls[instance_id]:
            answered = f"{call.answered_at:%H:%M:%S.%f}" if call.answered_at else "never"
            yield (
                f"  call {call.key} {call.deed.kind} {call.deed.name} sent {call.sent_at:%H:%M:%S.%f} x{call.sends}, "
                f"revision {call.known_revision} known; answered {answered} {call.status} {str(call.answer)[:400]}"
            )
        yield ""
