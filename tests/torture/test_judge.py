"""The torture test's judge finds what it is there to find: a judge that is always content proves nothing."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from msgspec.structs import replace

from pliers_workflow.interpreter.instance import Instance, Machine, Status
from torture.caller import Call
from torture.histories import Found
from torture.judge import judge
from torture.model import Deed, Row
from torture.people import Cast
from torture.workflows import KINDS

BEGAN = datetime(2026, 3, 2, 9, tzinfo=UTC)
CAST = Cast({"ada": "u1"}, {})
DATA: dict[str, Any] = {"rounds": 1, "count": 0, "nudges": 0, "pokes": 0, "tick": 0.1, "tock": 0.1, "nudge": 0.05}


def at(seconds: float) -> datetime:
    return BEGAN + timedelta(seconds=seconds)


def poke(seq: int, seconds: float, mark: str, state: str = "tick") -> Row:
    return Row(seq, at(seconds), Deed("fire", "poke", "ada"), mark, f"c{seq}", state, state)


def fired(seq: int, seconds: float, timer: str, trigger: str, before: str, after: str) -> Row:
    return Row(seq, at(seconds), Deed("fire_timer", "", ""), "", f"c{seq}", before, after, timer, trigger)


def history() -> list[Row]:
    """A clock that was poked once, and ran down."""
    return [
        Row(1, at(0), Deed("start", "", "ada", DATA), "k0", "c1", None, "tick"),
        poke(2, 1, "k1"),
        fired(3, 3, "timer/1", "nudge", "tick", "tick"),
        fired(4, 6, "timer/2", "timeout.tick", "tick", "tock"),
        fired(5, 12, "timer/3", "timeout.tock", "tock", "done"),
    ]


def call(key: str, *, seq: int = 0, sent: float = 0.9, status: int = 200, known: int = 1) -> Call:
    """A poke, accepted as row `seq` or refused."""
    answer = {"revision": seq, "currentState": "tick", "status": "waiting"} if status == 200 else {"code": "suspended"}
    return Call(
        1, key, Deed("fire", "poke", "ada"), "POST", "/", {}, known, at(sent), at(sent + 0.2), status, answer, 1
    )


def faults(rows: list[Row], calls: list[Call], **data: Any) -> list[str]:
    """What the judge says of a history, the instance's row being as it should."""
    instance = Instance(
        "i", "d", "torture_clock", "1.0.0", len(rows), Status.COMPLETED, ("done",), "done", "tock",
        {**DATA, "count": 1, "nudges": 1, "pokes": 1, **data}, {}, Machine(), "u1", "u1", BEGAN, at(12),
    )  # fmt: skip
    keys: dict[Any, Any] = {
        ("u1", row.mark): {"seq": row.seq, "command_id": row.command_id} for row in rows if row.mark
    }
    start = replace(call("k0", seq=1, sent=-0.1, known=0), deed=Deed("start", "", "ada"))
    return judge(
        KINDS["clock"], "i", rows, [start, *calls], Found({"i": instance}, {}, {}, {}, [], keys), CAST
    ).faults  # fmt: skip


def test_a_history_as_it_should_be() -> None:
    """Nothing is wrong with what is right."""
    assert faults(history(), [call("k1", seq=2)]) == []


def test_an_accepted_command_that_is_lost() -> None:
    """It was acknowledged, and is not in the history."""
    assert any(
        "k2" in fault and "not in the history" in fault
        for fault in faults(history(), [call("k1", seq=2), call("k2", seq=3)])
    )


def test_a_command_that_counts_twice() -> None:
    """The same call made two rows."""
    rows = history()
    rows[2:2] = [poke(3, 1.1, "k1")]
    rows[3:] = [replace(row, seq=row.seq + 1) for row in rows[3:]]
    assert any("k1 is in the history 2 times" in fault for fault in faults(rows, [call("k1", seq=2)], pokes=2))


def test_a_refused_command_that_took_effect() -> None:
    """Its caller was told no, and it is in the history."""
    assert any("was refused" in fault and "row 2" in fault for fault in faults(history(), [call("k1", status=409)]))


def test_a_call_that_waited_while_its_copy_was_refused() -> None:
    """Sent twice: the copy was refused while the instance was suspended, the first took effect when that was over."""
    rows = [
        history()[0],
        Row(2, at(0.5), Deed("suspend", "", "ada"), "k1", "c2", "tick", "tick"),
        Row(3, at(1.5), Deed("resume", "", "ada"), "k2", "c3", "tick", "tick"),
        poke(4, 1.6, "k3"),
        *(replace(row, seq=row.seq + 2, at=row.at + timedelta(seconds=1)) for row in history()[2:]),
    ]
    twice = replace(call("k3", status=409, sent=0.9), unanswered=1)
    suspended = replace(call("k1", seq=2), deed=Deed("suspend", "", "ada"))
    suspended.answer["status"] = "suspended"
    calls = [suspended, replace(call("k2", seq=3), deed=Deed("resume", "", "ada"))]
    assert faults(rows, [*calls, twice]) == []
    assert any("k3 was refused" in fault for fault in faults(rows, [*calls, replace(twice, unanswered=0)]))


def test_a_call_that_was_refused_because_of_itself() -> None:
    """Sent twice: the first was accepted, and the copy was not recognized."""
    twice = replace(call("k1", status=409), unanswered=1)
    assert any("k1 was refused" in fault for fault in faults(history(), [twice]))


def test_a_refusal_without_reason() -> None:
    """All the while between question and answer it would have been accepted."""
    assert any(
        "nothing was in its way" in fault for fault in faults(history(), [call("k1", seq=2), call("k2", status=409)])
    )


def test_a_refusal_with_a_reason() -> None:
    """The instance came to its end while the call was under way."""
    assert faults(history(), [call("k1", seq=2), call("k2", status=409, sent=11.9)]) == []


def test_a_timer_that_fires_early_twice_or_never() -> None:
    """Each clock fires once, not before its time, and all have fired at the end."""
    early, twice, never = history(), history(), history()[:-1]
    early[3] = replace(early[3], at=at(5.9))
    twice[3] = replace(twice[3], timer="timer/1")
    assert any("before its time" in fault for fault in faults(early, [call("k1", seq=2)]))
    assert any("fires a second time" in fault for fault in faults(twice, [call("k1", seq=2)]))
    assert any("has not come to its end" in fault for fault in faults(never, [call("k1", seq=2)]))


def test_a_lost_update() -> None:
    """Two pokes are in the history, and the data counted one."""
    rows = history()
    rows[2:2] = [poke(3, 1.1, "k2")]
    rows[3:] = [replace(row, seq=row.seq + 1) for row in rows[3:]]
    assert any("'pokes': (1, 2)" in fault for fault in faults(rows, [call("k1", seq=2), call("k2", seq=3)]))


def test_an_answer_that_says_something_else() -> None:
    """The caller was told another revision than the one that its command made."""
    assert any("was answered" in fault for fault in faults(history(), [call("k1", seq=5)]))
