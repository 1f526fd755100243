"""A second opinion on steps: who does what from when to when, told as a function of a definition and of fate.

Nothing here reacts. Fate says beforehand, for each place and moment, how long a piece of work takes and what comes of it,
and what an operator does about an incident; so `played` can tell the whole life of a tree of steps at once, outside in:
a sequence is one life after another, a `parallel` several lives beside each other that end where its rules say so. What
would have come later is *cut*. It is written from `docs/reference/steps.md` and knows nothing of the interpreter; times
are milliseconds since the start.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from heapq import heappop, heappush
from math import inf
from random import Random
from typing import Any

#: Done at once.
INSTANT = ("assign", "emit")
#: What another attempt may help.
RETRIED = ("plugin", "external")


class Unclear(Exception):
    """Two things happen at one moment, and what follows from that nobody has promised."""


# -- fate --------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Work:
    """What becomes of one attempt, if it is let go on."""

    takes: int
    code: str | None
    retryable: bool


@dataclass(frozen=True)
class Operator:
    """What somebody does about an incident, and how long after it was raised."""

    after: int
    action: str


@dataclass(frozen=True)
class Fate:
    """Decides by place and moment: the same for whoever asks."""

    seed: int
    failing: float

    def work(self, place: str, at: int) -> Work:
        """What becomes of the attempt that begins there and then."""
        random = Random(f"{self.seed} work {place} {at}")
        code = random.choice(("HTTP_503", "NO")) if random.random() < self.failing else None
        return Work(random.randint(1, 300_000), code, random.random() < 0.8)

    def operator(self, place: str, at: int) -> Operator | None:
        """What is done about the incident that was raised there and then; None: nobody ever comes."""
        random = Random(f"{self.seed} operator {place} {at}")
        action = random.choice(("retry", "retry", "skip", None))
        return None if action is None else Operator(random.randint(1, 300_000), action)


# -- what is told ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Span:
    """One attempt at one place."""

    place: str
    begin: int
    end: float
    how: str
    #: part of that undoing
    undoing: Undoing | None = None


@dataclass(frozen=True)
class Undoing:
    """A sequence is being undone."""

    place: str
    begin: float
    end: float


@dataclass(frozen=True)
class Done:
    """A step with a compensation has completed."""

    place: str
    at: float
    step: dict[str, Any] = field(compare=False, hash=False)
    #: when it had been undone
    until: float = inf


@dataclass(frozen=True)
class Life:
    """What became of a step that began: it completed or failed at `end` (never: infinity), and what was done in it.

    Where it failed, what goes on beside the failure is told as if nobody handled that: whoever does, cuts it.
    """

    end: float
    ok: bool = True
    spans: tuple[Span, ...] = ()
    undoings: tuple[Undoing, ...] = ()
    done: tuple[Done, ...] = ()

    def and_then(self, other: Life) -> Life:
        """The life that goes on as the other one."""
        return replace(beside([self, other]), end=other.end, ok=other.ok)


def beside(lives: list[Life]) -> Life:
    """All that happened in several lives; when and how they end together, the caller says."""
    return Life(
        inf,
        True,
        tuple(span for life in lives for span in life.spans),
        tuple(undoing for life in lives for undoing in life.undoings),
        tuple(done for life in lives for done in life.done),
    )


def cut(life: Life, at: float, *, but_for: tuple[Undoing, ...] = ()) -> Life:
    """What was done by then; the rest is given up, but for what is being undone."""
    spans = []
    for span in life.spans:
        if span.undoing in but_for or span.end < at or (span.end == at and span.how != "given up"):
            spans.append(span)
        elif span.begin < at:
            spans.append(replace(span, end=at, how="given up"))
    undoings = tuple(
        each if each in but_for else replace(each, end=min(at, each.end)) for each in life.undoings if each.begin <= at
    )
    done = []
    for each in life.done:
        if each.at <= at:
            kept = any(each.until <= undoing.end and each.place.startswith(undoing.place) for undoing in but_for)
            done.append(each if kept or each.until <= at else replace(each, until=inf))
    return replace(life, spans=tuple(spans), undoings=undoings, done=tuple(done))


def active(life: Life, at: float) -> tuple[Undoing, ...]:
    """What is being undone at that moment."""
    return tuple(each for each in life.undoings if each.begin <= at < each.end)


def when_undone(life: Life, at: float) -> float:
    """The first moment from then on at which nothing is being undone."""
    while busy := active(life, at):
        at = max(each.end for each in busy)
        if at == inf:
            break
    return at


def given_up(life: Life, at: float) -> Life:
    """It fails by itself: what stands in it is given up at once, but for what is being undone; then the failure counts."""
    busy = active(life, at)
    return replace(cut(life, at, but_for=busy), end=max([at, *[each.end for each in busy]]), ok=False)


# -- the tree ----------------------------------------------------------------------------------------------------------


def milliseconds(minutes: float | None) -> float:
    """How long something may take."""
    return inf if minutes is None else round(minutes * 60_000)


def truth(condition: str | None) -> bool | None:
    """What the generator's conditions come to; None: an error."""
    return {None: True, "data.yes": True, "data.no": False, "data.missing": None}[condition]


@dataclass(frozen=True)
class Player:
    """Tells lives."""

    fate: Fate
    #: from when to when something had failed whose own time was not up yet
    doubts: list[tuple[float, float]] = field(default_factory=list)

    def state(self, steps: list[dict[str, Any]], *, handled: bool) -> tuple[str | None, float, Life]:
        """A state's steps: the state that is entered after them, when, and what was done."""
        life = self.row(steps, 0, "", handled=handled)
        if any(
            undoing.begin < limit and failed < undoing.end for failed, limit in self.doubts for undoing in life.undoings
        ):
            raise Unclear  # where a failure had to wait for an undoing, its time may be up meanwhile
        if life.end == inf:
            return None, inf, life
        if life.ok:
            return "end", life.end, life
        at = when_undone(life, life.end)
        return (None, inf, life) if at == inf else ("problem", at, cut(life, at))

    def row(self, steps: list[dict[str, Any]], at: float, place: str, *, handled: bool) -> Life:
        """One step after the other."""
        life = Life(at)
        for step in steps:
            if not life.ok or life.end == inf:
                break
            life = life.and_then(self.step(step, int(life.end), place, handled=handled))
        return life

    def step(self, step: dict[str, Any], at: float, place: str, *, handled: bool, id: str | None = None) -> Life:
        """A step, again and again while operators say so; `handled`: something around it handles its failure."""
        place = f"{place}/{id or step['id']}"
        passed_over = step.get("continueOnError", False)
        # The condition of a `conditional` chooses, and does not skip it; it is asked before the step begins, and not again.
        wanted = step["type"] == "conditional" or truth(step.get("condition"))
        if wanted is False:
            return Life(at)
        told = Life(at, ok=False)
        if wanted:
            told = self.once(step, int(at), place, handled=handled or passed_over)
        while not told.ok and told.end < inf:
            if passed_over:
                at = when_undone(told, told.end)
                return replace(cut(told, at), end=at, ok=True)
            if handled:
                return told
            operator = self.fate.operator(place, int(told.end))
            if operator is None:
                return replace(told, end=inf, ok=True)
            told = replace(told, end=told.end + operator.after, ok=True)
            if operator.action == "retry":
                told = told.and_then(self.once(step, int(told.end), place, handled=False))
        if "compensation" in step and told.end < inf:
            told = replace(told, done=(*told.done, Done(place, told.end, step)))
        return told

    def once(self, step: dict[str, Any], at: int, place: str, *, handled: bool) -> Life:
        """The same, up to its failure."""
        holder = getattr(self, step["type"], None)
        if holder is None:
            return self.leaf(step, at, place)
        life: Life = holder(step, at, place, handled=handled)
        if step["type"] == "sequential":
            return life
        return self.within(life, at + milliseconds(step.get("timeoutMinutes")))

    def within(self, life: Life, limit: float) -> Life:
        """The same, if it has ended by then."""
        if not life.ok and life.end < limit < inf:
            self.doubts.append((life.end, limit))
        return life if life.end <= limit else given_up(life, limit)

    # -- leaves --------------------------------------------------------------------------------------------------------

    def leaf(self, step: dict[str, Any], at: int, place: str) -> Life:
        """Attempt after attempt, each with its own time."""
        if step["type"] in INSTANT:
            return Life(at)
        limit = milliseconds(step.get("timeoutMinutes"))
        if step["type"] == "wait":
            takes = milliseconds(step["durationMinutes"])
            ok = takes <= limit
            end = at + min(takes, limit)
            return Life(end, ok, (Span(place, at, end, "completed" if ok else "failed"),))
        spans: list[Span] = []
        while True:
            work = self.fate.work(place, at)
            if step["type"] == "receive":
                work = replace(work, code=None)
            code = "TIMEOUT" if limit < work.takes else work.code
            if code not in (None, "TIMEOUT") and step.get("failureHandling") == "continue":
                code = None
            end = int(at + min(work.takes, limit))
            spans.append(Span(place, at, end, "completed" if code is None else "failed"))
            if code is None:
                return Life(end, True, tuple(spans))
            policy = step.get("retryPolicy")
            tries = len(spans)
            retryable = work.retryable or code == "TIMEOUT"
            if policy is None or not retryable or code in policy.get("doNotRetryOn", ()):
                return Life(end, False, tuple(spans))
            if tries >= policy["maxAttempts"]:
                return Life(end, False, tuple(spans))
            at = end + round(policy["initialDelaySeconds"] * 1000 * policy["backoffMultiplier"] ** (tries - 1))

    # -- steps that hold steps -----------------------------------------------------------------------------------------

    def sequential(self, step: dict[str, Any], at: int, place: str, *, handled: bool) -> Life:
        """One after the other; where it is to be rolled back, what had completed is undone, the last one first."""
        passed_over = step.get("continueOnError", False)
        rollback = step.get("rollbackOnFailure", False)
        life = Life(at)
        for each in step["steps"]:
            part = self.step(each, int(life.end), place, handled=handled or passed_over or rollback)
            if not part.ok and passed_over:
                end = when_undone(part, part.end)
                part = replace(cut(part, end), end=end, ok=True)
            life = life.and_then(part)
            if not life.ok or life.end == inf:
                break
        limit = at + milliseconds(step.get("timeoutMinutes"))
        if not rollback:
            return self.within(life, limit)
        failed_at = life.end if life.ok else when_undone(life, life.end)
        if failed_at > limit:
            return self.undone(given_up(life, limit), place)
        return life if life.ok else self.undone(replace(cut(life, failed_at), end=failed_at), place)

    def undone(self, life: Life, place: str) -> Life:
        """What had completed is compensated, then it fails."""
        at = life.end
        if at == inf:
            return life
        there = [each for each in life.done if each.at <= at]
        replaced = [each for each in there if any(each.place.startswith(other.place + "/") for other in there)]
        todo = [each for each in there if each.until > at and each not in replaced]
        if len({each.at for each in todo}) < len(todo):
            raise Unclear
        compensations = Life(at)
        undone: dict[Done, float] = {}
        for done in sorted(todo, key=lambda each: each.at, reverse=True):
            id = done.place.rpartition("/")[2] + "-undo"
            part = self.step(done.step["compensation"], int(compensations.end), place, handled=False, id=id)
            compensations = compensations.and_then(part)
            undone[done] = compensations.end
            if compensations.end == inf:
                break
        undoing = Undoing(place, at, compensations.end)
        spans = tuple(replace(span, undoing=undoing) for span in compensations.spans)
        done = tuple(replace(each, until=undone.get(each, each.until)) for each in life.done)
        return Life(compensations.end, False, life.spans + spans, (*life.undoings, undoing), done)

    def conditional(self, step: dict[str, Any], at: int, place: str, *, handled: bool) -> Life:
        """One of the ways."""
        holds = truth(step["condition"])
        if holds is None and "defaultBranch" not in step:
            return Life(at, ok=False)
        way = step.get({True: "trueBranch", False: "falseBranch", None: "defaultBranch"}[holds]) or {"steps": []}
        return self.row(way["steps"], at, place, handled=handled)

    def for_each(self, step: dict[str, Any], at: int, place: str, *, handled: bool) -> Life:
        """As many elements at once as may be; the next begins when one has ended."""
        passed_over = step.get("continueOnError", False)
        count, free = step["count"], step["maxConcurrency"]
        lives: list[Life] = []
        ends: list[tuple[float, int]] = []
        now: float = at
        while len(lives) < count or ends:
            while len(lives) < count and len(ends) < free:
                number = len(lives)
                life = self.row(step["steps"], now, f"{place}/[{number}]", handled=handled or passed_over)
                if not life.ok and passed_over:
                    end = when_undone(life, life.end)
                    life = replace(cut(life, end), end=end, ok=True)
                lives.append(life)
                heappush(ends, (life.end, number))
            now, number = heappop(ends)
            if now == inf:
                return beside(lives)
            if not lives[number].ok:
                _no_ties(lives, now, number)
                return replace(beside(lives), end=now, ok=False)
        return replace(beside(lives), end=now)

    def branch(self, branch: dict[str, Any], at: int, place: str, *, handled: bool) -> Life:
        """A branch's steps, as long as they may take; an operator may have them begun again."""
        limit = milliseconds(branch.get("timeoutMinutes"))
        told = self.within(self.row(branch["steps"], at, place, handled=handled), at + limit)
        while not told.ok and not handled and told.end < inf:
            operator = self.fate.operator(place, int(told.end))
            if operator is None:
                return replace(told, end=inf, ok=True)
            told = replace(told, end=told.end + operator.after, ok=True)
            if operator.action == "retry":
                life = self.row(branch["steps"], told.end, place, handled=handled)
                told = told.and_then(self.within(life, told.end + limit))
        return told

    def parallel(self, step: dict[str, Any], at: int, place: str, *, handled: bool) -> Life:
        """All branches side by side, until they can be joined, or cannot be any more."""
        strategy = step["failureStrategy"]
        wanted = [each for each in step["branches"] if truth(each.get("condition"))]
        if any(truth(each.get("condition")) is None for each in step["branches"]):
            raise Unclear
        lives: dict[str, Life] = {}
        for branch in wanted:
            life = self.branch(branch, at, f"{place}/{branch['id']}", handled=handled or strategy == "continue")
            if not life.ok and strategy == "continue":
                end = when_undone(life, life.end)
                life = replace(cut(life, end), end=end)
            lives[branch["id"]] = life
        told = beside(list(lives.values()))
        over: dict[str, bool] = {}
        now: float = at
        for id in [None, *sorted(lives, key=lambda id: lives[id].end)]:
            if id is not None:
                now = lives[id].end
                if now == inf:
                    return told
                if sum(life.end == now for life in lives.values()) > 1:
                    raise Unclear
                over[id] = lives[id].ok
                if not lives[id].ok and strategy == "fail_fast":
                    return replace(told, end=now, ok=False)
                if strategy == "wait_all" and not all(over.values()):
                    if len(over) == len(lives):
                        return replace(told, end=now, ok=False)
                    continue
            joined = _joined(step, wanted, over)
            if joined is None:
                continue
            if id is not None:
                _no_ties(list(lives.values()), now, list(lives).index(id))
            if not joined:
                return given_up(told, now)
            end = when_undone(told, now)
            return replace(cut(told, end), end=end)
        return told


def _no_ties(lives: list[Life], at: float, number: int) -> None:
    """Raise `Unclear` where something else happens at the moment that cuts it."""
    for other, life in enumerate(lives):
        if other != number and (
            life.end == at
            or any(at in (span.begin, span.end) for span in life.spans)
            or any(done.at == at for done in life.done)
        ):
            raise Unclear


def _joined(step: dict[str, Any], wanted: list[dict[str, Any]], over: dict[str, bool]) -> bool | None:
    """Whether the branches can be joined now, never, or perhaps later."""
    waiting = len(wanted) - len(over)
    completed = sum(over.values())
    match step["waitStrategy"]:
        case "custom":
            holds = {
                "counts.completed >= 2": completed >= 2,
                "counts.failed > 0": len(over) > completed,
                "counts.running == 0 && counts.completed > 0": waiting == 0 and completed > 0,
            }[step["completionCondition"]]
            return True if holds else None if waiting else False
        case _ if not wanted:
            return True
        case "all":
            return None if waiting else completed > 0
        case "any":
            return True if completed else None if waiting else False
    weights = {each["id"]: each.get("weight", 1) for each in wanted}
    total = sum(weights.values())
    for_it = sum(weights[id] for id, ok in over.items() if ok)
    possible = total - sum(weights[id] for id, ok in over.items() if not ok)
    return True if 2 * for_it > total else None if 2 * possible > total else False


# -- the documents -----------------------------------------------------------------------------------------------------


@dataclass
class Trees:
    """Draws trees of steps that `Player` can tell of."""

    random: Random
    count: int = 0

    def chance(self, share: float) -> bool:
        """Whether something is so."""
        return self.random.random() < share

    def minutes(self) -> float:
        """Some time, that hardly ever is another's."""
        return self.random.randint(1, 400_000) / 60_000

    def row(self, depth: int, most: int = 3, *, undoing: bool = False) -> list[dict[str, Any]]:
        """Steps one after the other."""
        return [self.step(depth, undoing=undoing) for _ in range(self.random.randint(1, most))]

    def step(self, depth: int, *, undoing: bool = False) -> dict[str, Any]:
        """Any step; `undoing`: it is a compensation, or part of one."""
        self.count += 1
        leaves = ("plugin", "external", "plugin", "external", "wait", "receive", "sub_workflow", "assign", "emit")
        holders = ("sequential", "sequential", "sequential", "parallel", "parallel", "for_each", "conditional")
        kind = self.random.choice((*leaves[:: 1 + depth], *holders * depth)) if depth else self.random.choice(leaves)
        step: dict[str, Any] = {"id": f"t{self.count}", "type": kind}
        step |= getattr(self, kind)(max(0, depth - 1), undoing)
        if kind != "conditional" and self.chance(0.1):
            step["condition"] = self.random.choice(("data.yes", "data.no", "data.no", "data.missing"))
        if kind not in INSTANT and self.chance(0.2):
            step["timeoutMinutes"] = self.minutes()
        if self.chance(0.12):
            step["continueOnError"] = True
        if not undoing and kind not in INSTANT and self.chance(0.7):
            step["compensation"] = self.step(self.random.choice((0, 0, 0, 1)), undoing=True)
            del step["compensation"]["id"]
        return step

    def plugin(self, depth: int, undoing: bool) -> dict[str, Any]:
        """One done by a worker."""
        return {"pluginId": "some", "retryPolicy": self.policy()}

    def external(self, depth: int, undoing: bool) -> dict[str, Any]:
        """One done by somebody else's worker."""
        return {"topic": "work", "retryPolicy": self.policy()}

    def policy(self) -> dict[str, Any]:
        """Up to three attempts."""
        return {
            "maxAttempts": self.random.randint(1, 3),
            "doNotRetryOn": ["NO"],
            "initialDelaySeconds": self.random.randint(1, 100_000) / 1000,
            "backoffMultiplier": self.random.choice((1, 2)),
            "jitter": 0,
        }

    def wait(self, depth: int, undoing: bool) -> dict[str, Any]:
        """Time passes."""
        return {"durationMinutes": self.minutes()}

    def receive(self, depth: int, undoing: bool) -> dict[str, Any]:
        """An event is awaited."""
        return {"eventType": "paid", "correlationKey": "'k'"}

    def sub_workflow(self, depth: int, undoing: bool) -> dict[str, Any]:
        """Another workflow."""
        handling = self.random.choice(("fail_parent", "continue", "retry"))
        policy = {"retryPolicy": self.policy()} if handling == "retry" else {}
        return {"workflowId": "other", "failureHandling": handling, **policy}

    def assign(self, depth: int, undoing: bool) -> dict[str, Any]:
        """A field is set."""
        return {"assignments": {"n": "data.n + 1"}}

    def emit(self, depth: int, undoing: bool) -> dict[str, Any]:
        """The world is told."""
        return {"eventType": "something.happened"}

    def sequential(self, depth: int, undoing: bool) -> dict[str, Any]:
        """One after another."""
        return {"steps": self.row(depth, 4, undoing=undoing), "rollbackOnFailure": not undoing and self.chance(0.8)}

    def parallel(self, depth: int, undoing: bool) -> dict[str, Any]:
        """Side by side."""
        wait = self.random.choice(("all", "all", "any", "majority", "custom"))
        branches = []
        for number in range(self.random.randint(1, 3)):
            branch: dict[str, Any] = {"id": f"b{number}", "steps": self.row(depth, 2, undoing=undoing)}
            if wait == "majority":
                branch["weight"] = self.random.randint(1, 3)
            if self.chance(0.15):
                branch["timeoutMinutes"] = self.minutes()
            if self.chance(0.1):
                branch["condition"] = self.random.choice(("data.yes", "data.no"))
            branches.append(branch)
        step = {"branches": branches, "waitStrategy": wait}
        step["failureStrategy"] = self.random.choice(("fail_fast", "wait_all", "continue"))
        if wait == "custom":
            step["completionCondition"] = self.random.choice(
                ("counts.completed >= 2", "counts.failed > 0", "counts.running == 0 && counts.completed > 0")
            )
        return step

    def conditional(self, depth: int, undoing: bool) -> dict[str, Any]:
        """One way or another."""
        step: dict[str, Any] = {"condition": self.random.choice(("data.yes", "data.no", "data.missing"))}
        for way in ("trueBranch", "falseBranch", "defaultBranch"):
            if way == "trueBranch" or self.chance(0.6):
                step[way] = {"steps": self.row(depth, 2, undoing=undoing)}
        return step

    def for_each(self, depth: int, undoing: bool) -> dict[str, Any]:
        """Once for each element; `count` is for us and not for the document."""
        count = self.random.randint(0, 4)
        row = self.row(depth, 2, undoing=undoing)
        return {
            "items": str(list(range(count))),
            "count": count,
            "maxConcurrency": self.random.randint(1, 3),
            "steps": row,
        }


def document(steps: list[dict[str, Any]], *, handled: bool) -> dict[str, Any]:
    """A definition whose first state does these steps; `handled`: a transition waits for their failures."""
    transitions = [{"from": "work", "to": "end"}]
    if handled:
        transitions.append({"from": "work", "to": "problem", "trigger": "error.step"})
    states: dict[str, Any] = {"work": {"properties": {"steps": _plain(steps)}}, "end": {"type": "final"}}
    if handled:
        states["problem"] = {"type": "final"}
    return {
        "name": "timed",
        "version": "1.0.0",
        "title": "Timed",
        "stateMachine": {"states": states, "transitions": transitions, "initialState": "work"},
    }


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(each) for key, each in value.items() if key != "count"}
    return [_plain(each) for each in value] if isinstance(value, list) else value
