"""Problems: one table, and none of the interpreter's reasons is missing in it."""

from __future__ import annotations

from typing import get_args

from pliers_workflow.api.problems import EDGE, KINDS, REASONS, ErrorCode
from pliers_workflow.interpreter.rejections import Reason


def test_every_reason_has_a_status() -> None:
    """A reason without a row would surprise its first caller with a 500."""
    assert set(REASONS) == set(Reason)


def test_codes_mean_one_thing() -> None:
    """A code of the edge is none of the interpreter's."""
    assert not set(EDGE) & {reason.value for reason in Reason}


def test_every_kind_is_a_client_error_with_a_sentence() -> None:
    """Only what is not the caller's fault has a 5xx, and each says what to do."""
    operational = {"overloaded", "shutting_down", "unavailable", "outcome_unknown", "internal_error"}
    for code, kind in KINDS.items():
        assert (500 <= kind.status < 600) if code in operational else (400 <= kind.status < 500), code
        assert kind.error_code in get_args(ErrorCode)
        assert kind.sentence.endswith("."), code
        assert kind.title and len(kind.title) < 60
